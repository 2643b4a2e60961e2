"""Sensitivity: the noise at the outputs of a model if one pattern alone is quantized.

To measure it takes one run of the model for each pattern. This module estimates it to first order,
for all patterns at once. Let ``d`` be the error that a pattern alone adds to its output, and ``J``
the Jacobian of the model's outputs with respect to that output. The noise is ``J d``. For a vector
``v`` of random signs, ``E[(v . J d)**2] = |J d|**2`` (Hutchinson, A stochastic estimator of the
trace of the influence matrix, 1990), and ``v J`` is a gradient: one backward pass has it for every
pattern.

Patterns in the body of a loop or branch are left out. Where no gradient passes, as through
``argmax`` or a conversion to integers, no error does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import Tensor
from torch.autograd.graph import GradientEdge, allow_mutation_on_saved_tensors, get_gradient_edge
from torch.fx import GraphModule

from qreg.analysis.projections import Power, powers
from qreg.analysis.twins import Fresh, Pattern, Seen, Twins
from qreg.errors import InputError
from qreg.graph.mutation import Mutations
from qreg.inputs.specs import cloned, flat
from qreg.verification.noise import decibels

if TYPE_CHECKING:
    from qreg.plugins.types.decision import Decision

Batch = tuple[Any, ...]

PROJECTIONS = 8  # backward passes for each sample
SEED = 0


@frozen
class PatternNoise:
    """The SQNR of the outputs in dB if a pattern alone is quantized.

    Infinite for a pattern that adds no error to its output. None if its noise is not known: no
    gradient reaches it, or a gradient is not finite.
    """

    pattern: Pattern
    sqnr: float | None


def sensitivity(
    reference: GraphModule,
    converted: GraphModule,
    decisions: Sequence[Decision],
    samples: Sequence[Batch],
    *,
    projections: int = PROJECTIONS,
) -> list[PatternNoise]:
    """Return the noise of each quantized pattern, in the order of the decisions.

    Each sample takes two forward passes and ``projections`` backward passes. The activations of one
    sample are held at once. With several outputs, their noise powers are divided by their signal
    powers and averaged. Raises ``InputError`` for a model without a floating-point output, and for
    one with an operator that has no gradient.
    """
    patterns = dict.fromkeys(each.pattern or (each.node,) for each in decisions if each.quantized)
    run = partial(Twins, reference, converted, decisions)
    known = noise_ratios(reference, run, samples, projections=projections)
    return [PatternNoise(each, known.get(each)) for each in patterns]


def noise_ratios(
    reference: GraphModule,
    make: Callable[[Seen], Fresh],
    samples: Sequence[Batch],
    *,
    projections: int = PROJECTIONS,
) -> dict[Pattern, float]:
    """Return the SQNR of the outputs in dB for each error alone that a run adds to the float graph.

    ``make`` returns what runs the float graph, and calls its argument with each error. Errors of
    unknown noise are left out. Raises as :func:`sensitivity`.
    """
    signals = _signals(reference, samples)
    projected = _Projected(reference, make, signals, projections)
    try:
        found = powers(projected.samples(samples))
    except RuntimeError as cause:  # of an operator without a formula
        problem = str(cause).splitlines()[0]
        raise InputError(f"the model has no gradient: {problem}") from cause
    outputs = sum(1 for signal in signals if signal)
    known = {
        key: decibels(outputs, power)
        for key, power in found.items()
        if power and math.isfinite(power)
    }
    return {**dict.fromkeys(projected.silent, math.inf), **known}


def _signals(reference: GraphModule, samples: Sequence[Batch]) -> list[float]:
    """Return the sum of squares of each floating-point output over all samples."""
    signals: dict[int, float] = defaultdict(float)
    fresh = Fresh(reference)
    with torch.no_grad():
        for sample in samples:
            outputs = _floating(fresh.run(*cloned(sample)))
            for number, output in enumerate(outputs):
                finite = output.double().nan_to_num(0.0, 0.0, 0.0)
                signals[number] += float(finite.square().sum())
    if not any(signals.values()):
        raise InputError("the model has no floating-point output (expected one that is not zero)")
    return list(signals.values())


class _Projected:
    """The errors of patterns at the outputs, projected on signs, one sample after another.

    ``silent`` are the patterns that add no error to their outputs.
    """

    def __init__(
        self,
        reference: GraphModule,
        make: Callable[[Seen], Fresh],
        signals: Sequence[float],
        count: int,
    ) -> None:
        self._twins = make(self._seen)
        self._signals, self._count = signals, count
        writes = Mutations.of(reference.graph).writers
        self._mutating: Callable[[], AbstractContextManager[Any]] = (
            allow_mutation_on_saved_tensors if writes else nullcontext
        )
        self._generator = torch.Generator().manual_seed(SEED)
        self._edges: list[GradientEdge] = []
        self._errors: list[tuple[Pattern, Tensor]] = []
        self._loud: dict[Pattern, bool] = {}

    @property
    def silent(self) -> list[Pattern]:
        return [pattern for pattern, loud in self._loud.items() if not loud]

    def samples(self, samples: Sequence[Batch]) -> Iterator[list[Mapping[Pattern, Power]]]:
        """Yield the projections of each sample, one mapping for each vector of signs."""
        for sample in samples:
            with torch.enable_grad(), self._mutating():
                yield self._of_sample(sample)

    def _of_sample(self, sample: Batch) -> list[Mapping[Pattern, Power]]:
        self._edges, self._errors = [], []
        outputs = _floating(self._twins.run(*_with_gradients(sample)))
        pairs = [
            (output, signal)
            for output, signal in zip(outputs, self._signals, strict=True)
            if signal and output.requires_grad
        ]
        if not pairs or not self._edges:
            return []
        first = [_random_signs(output, self._generator) for output, _ in pairs]
        found: list[Mapping[Pattern, Power]] = []
        for number in range(self._count):
            gradients = torch.autograd.grad(
                [output for output, _ in pairs],
                self._edges,
                [
                    _orthogonal(signs, number) / math.sqrt(signal)
                    for signs, (_, signal) in zip(first, pairs, strict=True)
                ],
                retain_graph=number + 1 < self._count,
                allow_unused=True,
            )
            found.append(self._projections(gradients))
        return found

    def _projections(self, gradients: Sequence[Tensor | None]) -> dict[Pattern, Power]:
        found: dict[Pattern, Power] = {}
        for (pattern, error), gradient in zip(self._errors, gradients, strict=True):
            if gradient is not None:
                power = Power.of(gradient.double() * error)
                found[pattern] = found[pattern] + power if pattern in found else power
        return found

    def _seen(self, pattern: Pattern, output: Any, error: Any) -> Any:
        """Keep the error of an output, and the place in the backward pass of its gradient."""
        if isinstance(output, (list, tuple)):
            pairs = zip(output, error, strict=True)
            return type(output)(self._seen(pattern, *pair) for pair in pairs)
        if error is None:
            return output
        self._loud[pattern] = self._loud.get(pattern, False) or bool(error.any())
        if not output.requires_grad:  # there is nothing with a gradient upstream, only integers
            output = output.detach().requires_grad_().clone()
        self._edges.append(get_gradient_edge(output))
        self._errors.append((pattern, error.double()))
        return output


def _random_signs(output: Tensor, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, output.shape, generator=generator) * 2 - 1
    return signs.to(output.dtype)


def _orthogonal(signs: Tensor, number: int) -> Tensor:
    """Multiply signs by a row of Sylvester's Hadamard matrix, as far as they are long enough.

    The vectors for two numbers are orthogonal. Two vectors are exact for an output of two elements.
    """
    index = torch.arange(signs.numel()) & number
    parity = sum((index >> bit) & 1 for bit in range(number.bit_length())) % 2
    return signs * (1 - 2 * torch.as_tensor(parity)).expand(signs.numel()).reshape(signs.shape)


def _floating(outputs: Any) -> list[Tensor]:
    return [each for each in flat(outputs) if isinstance(each, Tensor) and each.is_floating_point()]


def _with_gradients(sample: Batch) -> list[Any]:
    """Return copies of the tensors of a sample; those in floating point have a gradient."""
    return [
        each.detach().requires_grad_().clone()
        if isinstance(each, Tensor) and each.is_floating_point()
        else each
        for each in cloned(sample)
    ]
