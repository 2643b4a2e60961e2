"""A recurrent layer stays whole and in float, with the reason, and the program is right."""

import pytest
from recurrent import check_kept_whole


@pytest.mark.slow
def test_a_layer_is_one_float_operator_and_the_linear_after_it_runs_in_int8() -> None:
    check_kept_whole("x86_inductor", "a copy of weight_hh for each step")
