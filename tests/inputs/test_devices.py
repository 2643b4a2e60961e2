"""Pins what is said of models and inputs that are not on the CPU, before anything is exported."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import qreg
from qreg import Registry
from qreg.errors import InputError
from qreg.inputs.batches import checked
from qreg.inputs.devices import check_devices
from qreg.inputs.signature import Signature

ROW = torch.randn(2, 4)


def partly_meta() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2, device="meta"))


@pytest.mark.parametrize("function", [qreg.quantize, qreg.explain, qreg.lower])
@pytest.mark.parametrize(
    ("model", "example", "problem"),
    [
        (partly_meta(), ROW, r"model: '1.weight' is on the meta device.*to_empty.*its weights"),
        (nn.Linear(4, 2, device="meta"), ROW.to("meta"), r"model: 'weight' is on the meta device"),
        (nn.BatchNorm1d(4, affine=False).to("meta"), ROW, r"model: 'running_mean' is on the meta"),
        (nn.Linear(4, 2), ROW.to("meta"), r"example_inputs: input 0 is on the meta device.*CPU"),
    ],
)
def test_the_meta_device_is_refused_with_its_tensor(
    function: Any, model: nn.Module, example: Any, problem: str, registry: Registry
) -> None:
    more = {} if function is qreg.lower else {"calibration": [ROW]}
    with pytest.raises(InputError, match=problem):
        function(model, example, backend="toy", registry=registry, **more)


def test_a_batch_on_the_meta_device_is_named() -> None:
    signature = Signature.of_program(torch.export.export(nn.Linear(4, 2), (ROW,)))
    with pytest.raises(InputError, match="batch 1: input 'input': is on the meta device"):
        list(checked([ROW, ROW.to("meta")], signature))


class OnGpu(Tensor):
    """A tensor on a device that this machine need not have."""

    device = property(lambda self: torch.device("cuda:0"))


def test_another_device_has_the_call_that_moves_the_model() -> None:
    model, row = nn.Linear(4, 2), ROW.as_subclass(OnGpu)
    model.register_buffer("table", row)
    with pytest.raises(InputError, match=r"'table' is on device cuda:0 .*with model\.cpu\(\)"):
        check_devices(model, ROW)
    with pytest.raises(InputError, match=r"input 0 is on device cuda:0 .*with \.cpu\(\)"):
        check_devices(nn.Linear(4, 2), row)


def test_a_program_is_moved_by_a_pass_of_torch() -> None:
    program = torch.export.export(nn.Linear(4, 2), (ROW,))
    program.state_dict["weight"] = nn.Parameter(torch.zeros(2, 4).as_subclass(OnGpu))
    with pytest.raises(InputError, match=r"move_to_device_pass\(program, 'cpu'\)"):
        check_devices(program, None)


def test_fake_tensors_hold_no_values() -> None:
    with FakeTensorMode():
        model = nn.Linear(4, 2)
    with pytest.raises(InputError, match="'weight' is a fake tensor, which holds no values"):
        check_devices(model, ROW)
