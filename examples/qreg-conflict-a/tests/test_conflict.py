"""Both examples installed: the conflicts are said with both names, and the rest works."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qreg
from qreg.errors import ConflictError
from qreg.plugins.manager import PluginWarning

SAYS = "'qreg-conflict-b' 0.1.0 is broken.*'contested', a name that 'qreg-conflict-a' yielded"


def test_a_backend_that_two_claim_names_both() -> None:
    registry = qreg.Registry()
    with pytest.raises(ConflictError, match="'qreg-conflict-a' and 'qreg-conflict-b'"):
        registry.backend("contested")
    assert "xnnpack" in registry.backends()


def test_an_annotator_that_two_claim_is_the_first_ones() -> None:
    registry = qreg.Registry()
    with pytest.warns(PluginWarning, match=SAYS):
        supplied = {each.value.name: each for each in registry.annotators("xnnpack")}
    assert supplied["contested"].distribution == "qreg-conflict-a"
    assert "linear" in supplied


def test_a_model_is_quantized_next_to_them() -> None:
    x = torch.randn(2, 8)
    with pytest.warns(PluginWarning, match="'contested'"):
        result = qreg.quantize(nn.Linear(8, 4), x, calibration=[x], registry=qreg.Registry())
    assert result.decided == {"annotated": 1}


def test_without_one_of_them_the_other_has_the_names() -> None:
    registry = qreg.Registry(disable=["conflict_a"])
    registry.examine()  # a warning would be an error here
    assert registry.backend("contested").distribution == "qreg-conflict-b"
