"""Operators that OpenVINO has no conversion for are named, and what is advised instead runs."""

from __future__ import annotations

import pytest
from cases_unsupported import IMAGE, REPLACED, Convolved

import qreg
from qreg.errors import UnsupportedOperatorError

RUN = ("bucketize", "adaptive_max_pool2d", "adaptive_max_pool2d of size 1")


@pytest.mark.parametrize("name", REPLACED)
def test_an_operator_without_a_conversion_is_named_with_what_runs_instead(name: str) -> None:
    original, instead = REPLACED[name]
    options = {"backend": "openvino", "calibration": [IMAGE]}
    if name in RUN:
        assert qreg.lower(Convolved(original).eval(), IMAGE, backend="openvino").program
        return
    with pytest.raises(UnsupportedOperatorError, match="OpenVINO has no conversion for") as raised:
        qreg.quantize(Convolved(original).eval(), IMAGE, **options)
    assert "Replace" in str(raised.value)
    assert "cases_unsupported.py:" in str(raised.value)
    assert "Suspects" not in str(raised.value)
    result = qreg.quantize(Convolved(instead).eval(), IMAGE, **options)
    assert result.verification.to_converted[0].sqnr > 30
