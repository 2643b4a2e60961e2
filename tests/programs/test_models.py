"""Pins what is said of objects that are passed in place of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import qreg
from qreg import Registry
from qreg.errors import InputError

ROW = torch.randn(2, 4)
NET = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
STATE = NET.state_dict()
SCRIPTED = torch.jit.script(NET)
TRACED = torch.jit.trace(NET, ROW)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("model", "problem", "way"),
    [
        (STATE, "a state dict", "load_state_dict"),
        ({"epoch": 3, "model": STATE}, "a checkpoint, with a state dict under 'model'", "load_st"),
        ({}, "a dict", "load_state_dict"),
        (SCRIPTED, "it is a TorchScript module", "Pass the module that it was scripted"),
        (TRACED, "it is a TorchScript module", "Pass the module that it was scripted"),
        (nn.Sequential(SCRIPTED), "its module '0' is a TorchScript module", "Pass the module"),
        (nn.Linear, "the class Linear", r"Linear\(\.\.\.\)"),
        (torch.relu, "the function", r"in forward\(\)"),
        (NET.forward, "the function Sequential.forward", r"in forward\(\)"),
        ("model.pt2", "the path 'model.pt2'", r"torch\.export\.load\('model.pt2'\)"),
        (Path("model.pt2"), "the path 'model.pt2'", r"torch\.export\.load"),
        (ROW, "a Tensor", "expected a torch.nn.Module"),
        (None, "None", "expected a torch.nn.Module"),
    ],
)
@pytest.mark.parametrize("function", [qreg.quantize, qreg.explain, qreg.lower, qreg.prepare])
def test_an_object_that_is_no_model_is_named_with_the_way_to_one(
    function: Any, model: Any, problem: str, way: str, registry: Registry
) -> None:
    more: dict[str, Any] = {"backend": "toy", "registry": registry}
    if function in (qreg.quantize, qreg.explain):
        more["calibration"] = [ROW]
    given: tuple[Any, ...] = (ROW,)
    if function is qreg.prepare:
        given, more = (qreg.get_quantizer("toy", registry=registry), ROW), {}
    with pytest.raises(InputError, match=f"model: .*{problem}.*{way}") as raised:
        function(model, *given, **more)
    assert len(str(raised.value)) < 400  # no dump of the weights


def test_the_file_at_a_path_is_named(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "weights.pt"
    torch.save(STATE, path)
    with pytest.raises(InputError, match="the path of a file that is a state dict"):
        qreg.lower(str(path), ROW, backend="toy", registry=registry)
