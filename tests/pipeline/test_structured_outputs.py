"""Pins that a program returns what its model returns: the types, the nesting, and all values."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import qreg
from qreg import Registry

Detection = namedtuple("Detection", ["boxes", "scores"])


@dataclasses.dataclass
class Found:
    scores: Tensor
    hidden: tuple[Tensor, ...] | None = None


torch.export.register_dataclass(Found)

OUTPUTS: dict[str, Callable[[Tensor, Tensor, Tensor], Any]] = {
    "C8": lambda x, y, z: {"scores": z, "aux": None, "pair": (y, z + y), "same": z},
    "a dict": lambda x, y, z: {"second": z, "first": y},
    "an ordered dict": lambda x, y, z: OrderedDict(second=z, first=y),
    "None first": lambda x, y, z: (None, z),
    "None among Nones": lambda x, y, z: [None, (None, {"none": None, "z": z})],
    "numbers and names": lambda x, y, z: (z, 3, "name", 0.5, True),
    "the same twice": lambda x, y, z: (z, z),
    "the same in two places": lambda x, y, z: {"last": z, "all": [y, z]},
    "an input": lambda x, y, z: {"z": z, "x": x},
    "a list of one": lambda x, y, z: [z],
    "a tuple of one": lambda x, y, z: (z,),
    "a namedtuple": lambda x, y, z: Detection(y, z),
    "a namedtuple in a dict": lambda x, y, z: {"found": Detection(z, None)},
    "a dataclass": lambda x, y, z: Found(z),
    "a dataclass in a list": lambda x, y, z: [Found(z, (y, y))],
    "an integer tensor": lambda x, y, z: (z, z.argmax(1)),
}


class Net(nn.Module):
    def __init__(self, returned: Callable[[Tensor, Tensor, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.returned = returned

    def forward(self, x: Tensor) -> Any:
        y = self.first(x).relu()
        return self.returned(x, y, self.second(y))


def data() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(4, 8) for _ in range(4)]


def check(got: Any, wanted: Any) -> None:
    """The same types in the same places; tensors within 0.1, all else equal."""
    leaves, structure = pytree.tree_flatten(got)
    expected, of_model = pytree.tree_flatten(wanted)
    assert structure == of_model
    assert type(got) is type(wanted)
    for one, other in zip(leaves, expected, strict=True):
        if isinstance(other, Tensor):
            assert one.dtype == other.dtype
            if other.is_floating_point():
                torch.testing.assert_close(one, other.detach(), rtol=0, atol=0.1)
        else:
            assert one == other
            assert type(one) is type(other)


@pytest.mark.parametrize("returned", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_a_program_returns_what_its_model_returns(
    returned: Callable[[Tensor, Tensor, Tensor], Any], registry: Registry
) -> None:
    model = Net(returned)
    result = qreg.quantize(model, data()[0], backend="toy", calibration=data(), registry=registry)
    for x in data():
        check(result.run(x), model(x))
        check(result.converted(x), model(x))


@pytest.mark.parametrize("name", ["C8", "a dataclass", "a namedtuple", "numbers and names"])
def test_the_rest_of_the_pipeline_takes_such_models(name: str, registry: Registry) -> None:
    model, options = Net(OUTPUTS[name]), {"backend": "toy", "registry": registry}
    report = qreg.explain(
        model, data()[0], calibration=data(), timing=True, numerics=True, **options
    )
    assert report.timing is not None
    program = torch.export.export(model.eval(), (data()[0],))
    before = str(program.graph)
    lowered = qreg.lower(program, **options)
    assert str(program.graph) == before
    found = qreg.verify(lowered.program, program, data(), **options)
    assert min(each.sqnr for each in found.to_float) > 100


def test_outputs_are_in_their_places_for_dynamic_sizes(registry: Registry) -> None:
    model = Net(lambda x, y, z: {"size": x.shape[0], "z": z, "twice": 2 * z.shape[0], "width": 8})
    result = qreg.quantize(
        model,
        data()[0],
        backend="toy",
        calibration=data(),
        dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=64)},),
        registry=registry,
    )
    for count in (2, 4, 17):
        x = torch.cat(data())[:count] if count < 17 else torch.cat([*data(), data()[0][:1]])
        check(result.run(x), model(x))
