"""A recurrent layer stays whole and in float, with the reason, and the program is right."""

from __future__ import annotations

import pytest
from recurrent import LAYERS, check_kept_whole
from torch import nn


@pytest.mark.parametrize("layer", LAYERS)
def test_the_layer_is_one_float_operator_and_the_linear_after_it_runs_in_int8(
    layer: nn.RNNBase,
) -> None:
    check_kept_whole(layer, "x86_inductor", "a copy of weight_hh for each step")
