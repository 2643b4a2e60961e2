"""The main job on real input: the README's digits example, on this backend."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from loading import module_of

SCRIPT = Path(__file__).parents[3] / "examples" / "digits" / "digits.py"


@pytest.fixture(scope="module")
def report() -> dict:
    """What the script prints; that of XNNPACK is run in a new process, as users do."""
    arguments = [str(SCRIPT), "--backend", "onnxruntime", "--json"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as written:
        patch.setattr(sys, "argv", arguments)
        module_of(SCRIPT, "onnxruntime_digits").main()
    return json.loads(written.getvalue())


def test_it_is_within_a_point_of_float_on_held_out_images(report: dict) -> None:
    programs = report["programs"]
    assert programs["float"]["accuracy"] > 97
    assert abs(programs["float"]["accuracy"] - programs["int8"]["accuracy"]) <= 1


def test_the_program_is_less_than_half_the_size(report: dict) -> None:
    assert report["programs"]["int8"]["bytes"] < report["programs"]["float"]["bytes"] / 2


def test_every_operator_of_the_network_is_quantized(report: dict) -> None:
    assert {status for _, status in report["decisions"]} == {"annotated", "shared"}
