"""Whatever fails in the middle, the caller's model, program, inputs and quantizer stay the same."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, NoReturn

import pytest
import torch
from attrs import define
from torch import Tensor, nn
from torch._higher_order_ops import scan
from torch.export import ExportedProgram
from toy import Extension

import qreg
from qreg import Registry, RegistryQuantizer, get_quantizer
from qreg.errors import CalibrationError, NothingQuantizedError, QregError

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


class Loop(nn.Module):
    """A linear layer in the body of a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = scan(lambda carry, row: (carry + 1, self.linear(row)), torch.zeros(4), x)[1]
        return rows


def test_a_body_in_a_program_stays_float(registry: Registry) -> None:
    x = torch.randn(3, 2, 4)
    program = torch.export.export(Loop().eval(), (x,))
    (body,) = [each for each in program.graph_module.modules() if _calls_linear(each)]
    before, expected = str(body), program.module()(x)
    prepared = qreg.prepare(program, get_quantizer("toy", registry=registry))
    qreg.calibrate(prepared, [x], progress=False)
    qreg.convert(prepared)
    assert str(body) == before
    assert torch.equal(program.module()(x), expected)


def _calls_linear(module: nn.Module) -> bool:
    targets = [node.target for node in module.graph.nodes] if hasattr(module, "graph") else []
    return torch.ops.aten.linear.default in targets


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).sigmoid())


X = torch.ones(2, 4)


def held(quantizer: RegistryQuantizer) -> dict[str, Any]:
    """Everything that a quantizer holds, with copies of what could be changed in place."""
    values = vars(quantizer)
    scopes = values["_scopes"]
    return {
        "identities": {name: id(each) for name, each in values.items()},
        "choices": list(map(id, scopes.choices())),
        "looked up": dict(scopes._by_place),
        "decisions": list(quantizer.decisions),
        "values": (quantizer.allow_float, values["_bodies_left"], len(values["_nested"])),
    }


def annotated_before(registry: Registry) -> RegistryQuantizer:
    """A quantizer with scopes, and with the decisions of a run."""
    quantizer = get_quantizer("toy", registry=registry).set_module_name("first", "histogram")
    qreg.prepare(Net().eval(), quantizer, X)
    return quantizer


@pytest.mark.parametrize("calibration", [None, [X]], ids=["decisions", "program"])
def test_explain_leaves_the_quantizer_as_it_was(
    calibration: list[Tensor] | None, registry: Registry
) -> None:
    quantizer = annotated_before(registry)
    before = held(quantizer)
    report = qreg.explain(
        Net().eval(), X, quantizer=quantizer, calibration=calibration, progress=False
    )
    assert report.counts == {"int8": 2, "float": 1}
    assert held(quantizer) == before


@pytest.mark.parametrize("allow_float", [False, True])
def test_an_error_leaves_the_quantizer_as_it_was(allow_float: bool, registry: Registry) -> None:
    quantizer = annotated_before(registry)
    before = held(quantizer)
    batches = iter([X, torch.ones(2, 5)])
    with pytest.raises(CalibrationError, match="calibration batch 1"):
        qreg.quantize(
            Net().eval(),
            X,
            quantizer=quantizer,
            calibration=batches,
            allow_float=allow_float,
            progress=False,
        )
    assert held(quantizer) == before


def test_what_one_thread_allows_another_does_not_get(registry: Registry) -> None:
    """The second run begins and ends while the first, of the same quantizer, annotates."""
    begun, ended = threading.Event(), threading.Event()

    def waits(node: torch.fx.Node) -> bool:
        begun.set()
        return ended.wait(60)

    quantizer = get_quantizer("toy", registry=registry).set_filter_function(waits)
    before = held(quantizer)
    first = torch.export.export(nn.Linear(4, 4).eval(), (X,))
    second = torch.export.export(nn.Sigmoid().eval(), (X,))
    with ThreadPoolExecutor() as threads:
        report = threads.submit(qreg.explain, first, quantizer=quantizer, progress=False)
        try:
            assert begun.wait(60)
            with pytest.raises(NothingQuantizedError, match="sigmoid"):
                qreg.quantize(second, quantizer=quantizer, calibration=[X], progress=False)
        finally:
            ended.set()
    assert [each.name for each in report.result().operators] == ["linear"]
    assert held(quantizer) == before
