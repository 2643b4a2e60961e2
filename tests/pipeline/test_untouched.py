"""Whatever fails in the middle, the caller's model, program and inputs stay as they were."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NoReturn

import pytest
import torch
from attrs import define
from torch import Tensor, nn
from torch.export import ExportedProgram
from toy import Extension

import qreg
from qreg import Registry, get_quantizer
from qreg.errors import QregError

Step = Callable[["Given", Registry], object]


class Model(nn.Module):
    """State that is written to, a norm, a frozen parameter, a part in training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.second = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.seen = nn.Buffer(torch.ones(4))
        self.unused = nn.Dropout()
        self.second.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(1)
        x.relu_()
        return self.second(self.norm(self.first(x)) + self.seen)


@define
class Given:
    """What a caller has: a model, a program of it, and batches."""

    model: nn.Module
    program: ExportedProgram
    batches: list[Tensor]

    def state(self) -> dict[str, Any]:
        """Copies of everything that a step could change."""
        tensors = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        return {
            "values": {name: each.detach().clone() for name, each in tensors.items()},
            "identities": {name: id(each) for name, each in tensors.items()},
            "gradients": {name: (each.requires_grad, each.grad) for name, each in tensors.items()},
            "training": {name: each.training for name, each in self.model.named_modules()},
            "hooks": [len(each._forward_hooks) for each in self.model.modules()],
            "graph": str(self.program.graph),
            "signature": str(self.program.graph_signature),
            "program": {k: v.detach().clone() for k, v in self.program.state_dict.items()},
            "batches": [batch.clone() for batch in self.batches],
        }

    def failing(self) -> Iterator[Tensor]:
        """Two batches, and then an error of the caller's."""
        yield from self.batches[:2]
        raise ZeroDivisionError("the data ends here")


def given() -> Given:
    model = Model().eval()
    model.unused.train()
    torch.manual_seed(1)
    batches = [torch.randn(6, 4) for _ in range(3)]
    return Given(model, torch.export.export(copy.deepcopy(model), (batches[0].clone(),)), batches)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)


def quantize(given: Given, registry: Registry, batches: Any, source: Any = None) -> object:
    return qreg.quantize(
        source or given.model,
        (given.batches[0],),
        calibration=batches,
        backend="toy",
        registry=registry,
        progress=False,
    )


def explain(given: Given, registry: Registry, batches: Any, **options: Any) -> object:
    return qreg.explain(
        given.model,
        (given.batches[0],),
        calibration=batches,
        backend="toy",
        registry=registry,
        progress=False,
        **options,
    )


def calibrate(given: Given, registry: Registry) -> object:
    quantizer = get_quantizer("toy", registry=registry)
    prepared = qreg.prepare(given.model, quantizer, (given.batches[0],))
    qreg.calibrate(prepared, given.batches[:1], progress=False)
    qreg.convert(prepared)
    return qreg.calibrate(prepared, given.failing(), progress=False)


def prepare(given: Given, registry: Registry) -> object:
    quantizer = get_quantizer("toy", registry=registry).set_module_name("nowhere", None)
    return qreg.prepare(given.model, quantizer, (given.batches[0],))


def compare(given: Given, registry: Registry) -> object:
    return qreg.compare(
        given.model,
        (given.batches[0],),
        calibration=given.failing(),
        backends=["toy"],
        registry=registry,
        progress=False,
    )


IN_THE_DATA: dict[str, Step] = {
    "quantize": lambda given, toy: quantize(given, toy, given.failing()),
    "quantize a program": lambda given, toy: quantize(given, toy, given.failing(), given.program),
    "explain": lambda given, toy: explain(given, toy, given.failing()),
    "explain with numerics": lambda given, toy: explain(given, toy, given.failing(), numerics=True),
    "prepare": prepare,
    "calibrate after convert": calibrate,
    "compare": compare,
    "verify": lambda given, toy: qreg.verify(
        b"no program", given.program, given.failing(), backend="toy", registry=toy
    ),
    "verify a damaged program": lambda given, toy: qreg.verify(
        b"no program", given.program, given.batches, backend="toy", registry=toy
    ),
}
IN_THE_LOWERING: dict[str, Step] = {
    "quantize": lambda given, toy: quantize(given, toy, given.batches),
    "quantize a program": lambda given, toy: quantize(given, toy, given.batches, given.program),
    "lower": lambda given, toy: qreg.lower(
        given.model, (given.batches[0],), backend="toy", registry=toy
    ),
    "lower a program": lambda given, toy: qreg.lower(given.program, backend="toy", registry=toy),
}


def check_untouched(step: Step, registry: Registry) -> None:
    caller = given()
    before = caller.state()
    with pytest.raises((QregError, ZeroDivisionError)):
        step(caller, registry)
    after = caller.state()
    assert [part for part in before if not same(before[part], after[part])] == []


@pytest.mark.parametrize("name", IN_THE_DATA)
def test_an_error_in_the_data_leaves_everything_as_it_was(name: str, registry: Registry) -> None:
    check_untouched(IN_THE_DATA[name], registry)


@pytest.mark.parametrize("name", IN_THE_LOWERING)
def test_an_error_in_the_lowering_leaves_everything_as_it_was(name: str, toy: ModuleType) -> None:
    def broken(program: ExportedProgram) -> NoReturn:
        raise RuntimeError("no kernel")

    values = Extension([toy.BACKEND], toy.CONFIGS, toy.ANNOTATORS, broken)
    check_untouched(IN_THE_LOWERING[name], Registry({"toy": values}, entry_points=False))
