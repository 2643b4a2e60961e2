"""Check that a prepared model computes the same as the float model.

Folding and the transforms of a backend must not change what a graph computes. Verification cannot
detect such a change: it compares the program with the converted model, which contains the change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from qreg.errors import PreparationError
from qreg.folding.building import COMPUTES
from qreg.graph.mutation import keeping_state
from qreg.graph.provenance import module_path
from qreg.inputs.specs import called, cloned, flat
from qreg.verification.noise import decibels, signal_and_noise

if TYPE_CHECKING:
    from torch.fx.node import Argument


Sample = tuple[Any, ...]  # the arguments of a graph in order

# Folding a batch norm leaves 130 dB and more in float32; a wrong fold leaves 0 to 20. The floor of
# types with less precision is ten units in the last place.
FLOOR = 60.0
# A difference of almost equal numbers is only as exact as the numbers.
CANCELLED = 1e-5
# The share of integers that may differ: comparisons and roundings of numbers near a threshold.
FLIPPED = 0.01


@frozen
class Difference:
    """The first operator whose values differ, by its name in the float graph."""

    operator: str
    module: str
    sqnr: float


def check_agreement(
    float_model: GraphModule, prepared: GraphModule, sample: tuple[Any, ...]
) -> None:
    """Run both models on a sample and compare their outputs.

    ``prepared`` is the prepared graph without its observers, which pass values through. Both models
    draw the same random numbers, and their state is restored. Each model is run once, and once more
    if outputs differ.

    Raises ``PreparationError`` that names the first operator whose values differ by more than
    rounding: an SQNR below 60 dB in float32.
    """
    wanted = _run(partial(called, float_model), float_model, sample)
    got = _run(partial(called, prepared), prepared, sample)
    pairs = list(zip(wanted, got, strict=True))
    if all(_agree(one, other) for one, other in pairs):
        return
    found = _first_difference(float_model, prepared, sample)
    if found is not None:
        raise PreparationError(found.operator, found.module, found.sqnr, FLOOR)


@torch.no_grad()
def _run(call: Callable[[Sample], Any], model: GraphModule, sample: Sample) -> list[Any]:
    """Return copies of the outputs: restoring the state changes an output that is a buffer."""
    with keeping_state(model), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [_copy(value) for value in flat(call(cloned(sample)))]


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _agree(wanted: Any, got: Any, magnitude: float = 0.0) -> bool:
    """Whether two values are equal up to rounding.

    ``magnitude`` is the largest absolute value that the operator reads or returns.
    """
    if not isinstance(wanted, Tensor):
        return bool(wanted == got)
    if wanted.shape != got.shape or wanted.dtype != got.dtype:
        return False
    if not (wanted.is_floating_point() or wanted.is_complex()):
        return torch.equal(wanted, got)
    noise = _noise(wanted, got)[1]
    exact = not noise.numel() or float(noise.max()) <= CANCELLED * magnitude
    return exact or _sqnr(wanted, got) >= _floor(wanted.dtype)


def _floor(dtype: torch.dtype) -> float:
    return min(FLOOR, -20 * math.log10(10 * torch.finfo(dtype).eps))


def _sqnr(wanted: Tensor, got: Tensor) -> float:
    signal, noise = _noise(wanted, got)
    return decibels(float(signal.square().sum()), float(noise.square().sum()))


def _noise(wanted: Tensor, got: Tensor) -> tuple[Tensor, Tensor]:
    if wanted.is_complex():
        wanted, got = torch.view_as_real(wanted), torch.view_as_real(got)
    both = wanted.isnan() & got.isnan()
    return signal_and_noise(wanted.masked_fill(both, 0), got.masked_fill(both, 0))


def _first_difference(
    float_model: GraphModule, prepared: GraphModule, sample: tuple[Any, ...]
) -> Difference | None:
    """Return the first operator that differs; None if only integers differ, flipped by rounding."""
    recorder = _Recorder(float_model)
    _run(lambda given: recorder.run(*given), float_model, sample)
    comparer = _Comparer(prepared, recorder)
    try:
        _run(lambda given: comparer.run(*given), prepared, sample)
    except _Found as found:
        return found.difference
    return None


class _Recorder(Interpreter):
    """Record the output of each operator, and the largest magnitude of its inputs and output."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Tensor] = {}
        self.magnitudes: dict[str, float] = {}
        self.nodes: dict[str, Node] = {}
        self.outputs: Sequence[Any] = ()

    def run_node(self, n: Node) -> Any:
        given = [self.env[each] for each in n.all_input_nodes]
        result = super().run_node(n)
        if n.op == "output":
            self.outputs = [_copy(value) for value in flat(result)]
        elif n.op == "call_function" and isinstance(result, Tensor):
            self.values[n.name] = result.clone()  # a later operator may change it in place
            self.magnitudes[n.name] = max(map(_largest, [*given, result]))
            self.nodes[n.name] = n
        return result


def _largest(value: Any) -> float:
    if not isinstance(value, Tensor) or not value.is_floating_point() or not value.numel():
        return 0.0
    largest = float(value.abs().nan_to_num(0, 0, 0).max())
    return largest


class _Found(Exception):
    """Raised at the first difference; ``difference`` is None if rounding explains it."""

    def __init__(self, difference: Difference | None) -> None:
        self.difference = difference


class _Comparer(Interpreter):
    """Compare the output of each operator with the one recorded under the same name."""

    def __init__(self, module: GraphModule, recorded: _Recorder) -> None:
        super().__init__(module)
        self._recorded = recorded
        self._alike: set[str] = set()

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        name = n.meta.get(COMPUTES, n.name)
        wanted = self._recorded.values.get(name)
        if n.op == "output":
            self._compare_outputs(n.args[0], flat(result))
        elif wanted is not None and isinstance(result, Tensor) and wanted.shape == result.shape:
            self._compare(name, wanted, result)
        return result

    def _compare(self, name: str, wanted: Tensor, got: Tensor) -> None:
        if _agree(wanted, got, self._recorded.magnitudes[name]):
            self._alike.add(name)
            return
        node, sqnr = self._recorded.nodes[name], -math.inf
        if wanted.is_floating_point() or wanted.is_complex():
            sqnr = _sqnr(wanted, got)
        elif float((wanted != got).double().mean()) <= FLIPPED:
            raise _Found(None)
        raise _Found(Difference(name, module_path(node), sqnr))

    def _compare_outputs(self, given: Argument, outputs: Sequence[Any]) -> None:
        """Compare the outputs whose operators have another name than in the float graph."""
        producers = flat(given)
        pairs = zip(producers, self._recorded.outputs, outputs, strict=True)
        for number, (producer, wanted, got) in enumerate(pairs):
            known = isinstance(producer, Node)  # a model may also return numbers and None
            name = producer.meta.get(COMPUTES, producer.name) if known else ""
            if name not in self._alike and not _agree(wanted, got):
                floating = isinstance(wanted, Tensor) and wanted.shape == got.shape
                sqnr = _sqnr(wanted, got) if floating else -math.inf
                raise _Found(Difference(f"output {number}", "", sqnr))
