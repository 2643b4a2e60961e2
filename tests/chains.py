"""Operators in a row, each in int8 or left in float, and which of the rows fail in a backend.

Many chains are one model, each with an input and an output. Where such a model does not lower or
load, it is halved until the chain that fails is alone; where numbers are wrong, the output tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from attrs import frozen
from kinds import ANNOTATED, FLOATS, IMAGE, MORE, ROWS, SEQUENCE, Kind, Shape
from torch import Tensor, nn

import qreg
from qreg.plugins.registry import DEFAULT
from qreg.verification.isolation import run_isolated
from qreg.verification.metrics import compare_all

KINDS = {kind.name: kind for kind in (*ANNOTATED, *FLOATS, *MORE)}
CONVERTED_FLOOR, FLOAT_FLOOR = 30.0, 20.0  # dB
PER_STEP = 2.0  # dB less for each step of a chain beyond three
SAMPLES = 4

Run = Callable[[qreg.Result, Sequence[tuple[Any, ...]]], Sequence[Any]]


class Unfit(Exception):
    """A kind does not take the tensor that comes before it."""


@frozen
class Step:
    """A kind, and whether a scope leaves it in float."""

    kind: Kind
    left: bool

    def __str__(self) -> str:
        return f"{self.kind.name} in float" if self.left else self.kind.name

    def module(self, given: Tensor) -> tuple[nn.Module, Tensor]:
        """The step for a tensor, and what it makes of it. Raises ``Unfit``."""
        shape = tuple(given.shape)
        if len(shape) not in self.kind.ranks:
            raise Unfit
        try:
            made = self.kind.make(shape).eval()
            return made, made(given)
        except (RuntimeError, ValueError) as problem:  # too small for the window, say
            raise Unfit from problem


@frozen
class Chain:
    """Operators in a row, from an input of this shape."""

    shape: Shape
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return ", then ".join(map(str, self.steps)) + f" on {list(self.shape)}"

    def module(self) -> nn.Sequential:
        """The chain as a model. Raises ``Unfit`` where a kind does not take what comes before."""
        value, made = torch.rand(self.shape), nn.Sequential()
        for step in self.steps:
            module, value = step.module(value)
            made.append(module)
        return made

    @property
    def fits(self) -> bool:
        try:
            self.module()
        except Unfit:
            return False
        return True

    def parts(self, length: int) -> Iterator[Chain]:
        """The chains of ``length`` steps in a row that are in this one."""
        value, shapes = torch.rand(self.shape), []
        for step in self.steps:
            shapes.append(tuple(value.shape))
            _, value = step.module(value)
        for start in range(len(self.steps) - length + 1):
            yield Chain(shapes[start], self.steps[start : start + length])


class Side(nn.Module):
    """Models side by side: each has an input and an output."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.chains = nn.ModuleList(models)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(chain(x) for chain, x in zip(self.chains, inputs, strict=True))


def chain(shape: Shape, *steps: str) -> Chain:
    """A chain of kinds by name, where "~" before a name leaves it in float."""
    return Chain(shape, tuple(Step(KINDS[each.strip("~")], each[0] == "~") for each in steps))


def between(kind: Kind) -> Chain:
    """A kind in float between two products: conv1d and linear in preference, else conv2d."""
    rank = 3 if 3 in kind.ranks else kind.ranks[0]
    shape, head = {3: (SEQUENCE, "conv1d"), 4: (IMAGE, "conv2d"), 2: (ROWS, "linear")}[rank]
    return chain(shape, head, f"~{kind.name}", "linear")


def run_here(result: qreg.Result, samples: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
    """The outputs of a program for each sample, in this process."""
    return [result.run(*sample) for sample in samples]


def run_apart(result: qreg.Result, samples: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
    """As ``run_here``, in a new process: one that crashes, or damages its memory, is named."""
    return run_isolated(result.target.loader, result.lowered, samples)


def failures(
    chains: Sequence[Chain],
    backend: str,
    config: str = DEFAULT,
    at_once: int = 40,
    run: Run = run_here,
) -> list[str]:
    """The chains that do not lower, load or agree, and how; ``at_once`` of them in a model."""
    batches = (chains[start : start + at_once] for start in range(0, len(chains), at_once))
    return [each for batch in batches for each in _failures(batch, backend, config, run)]


def _failures(chains: Sequence[Chain], backend: str, config: str, run: Run) -> list[str]:
    model, batches = side_by_side(chains)
    try:
        result = _quantized(chains, model, batches, backend, config)
        outputs = run(result, batches)
    except Exception as problem:  # of any library: it has to name its chain
        described = f"{type(problem).__name__}: {problem}"
        return _failing_parts(chains, backend, config, run, described)
    return list(_wrong(chains, model, batches, result, outputs))


def side_by_side(chains: Sequence[Chain]) -> tuple[Side, list[tuple[Tensor, ...]]]:
    """The chains as a model, from a fixed seed, and batches for it."""
    torch.manual_seed(0)
    model = Side([chain.module() for chain in chains]).eval()
    batches = [tuple(torch.randn(chain.shape) + 0.5 for chain in chains) for _ in range(SAMPLES)]
    return model, batches


def _failing_parts(
    chains: Sequence[Chain], backend: str, config: str, run: Run, problem: str
) -> list[str]:
    if len(chains) == 1:
        return [f"{chains[0]}: {problem}"]
    half = len(chains) // 2
    found = [
        each
        for part in (chains[:half], chains[half:])
        for each in _failures(part, backend, config, run)
    ]
    return found or [f"{len(chains)} chains from {chains[0]} on, only together: {problem}"]


def _quantized(
    chains: Sequence[Chain],
    model: nn.Module,
    batches: Sequence[tuple[Tensor, ...]],
    backend: str,
    config: str,
) -> qreg.Result:
    # A batch norm that was folded into what comes before it is no operator to be left in float.
    quantizer = qreg.get_quantizer(backend, config=config, unknown_modules="warn")
    for name, _ in _left(chains):
        quantizer.set_module_name(name, None)
    return qreg.quantize(
        model,
        batches[0],
        calibration=batches,
        quantizer=quantizer,
        allow_float=True,
        verify=False,  # the outputs are compared here, each with its chain's name
        progress=False,
    )


def _left(chains: Sequence[Chain]) -> Iterator[tuple[str, Chain]]:
    """The modules that are left in float, with the chains that they are in."""
    for number, chain in enumerate(chains):
        for place, step in enumerate(chain.steps):
            if step.left:
                yield f"chains.{number}.{place}", chain


def _wrong(
    chains: Sequence[Chain],
    model: nn.Module,
    batches: Sequence[Any],
    result: qreg.Result,
    outputs: Sequence[Any],
) -> Iterator[str]:
    """What is quantized in spite of its scope, and outputs that are far from their models."""
    quantized = {each.module for each in result.decisions if each.status != "float"}
    yield from (
        f"{chain}: {name} is quantized" for name, chain in _left(chains) if name in quantized
    )
    with torch.no_grad():
        to_float = compare_all(outputs, [model(*batch) for batch in batches])
        to_converted = compare_all(outputs, [result.converted(*batch) for batch in batches])
    for chain, near, far in zip(chains, to_converted, to_float, strict=True):
        slack = PER_STEP * max(0, len(chain.steps) - 3)
        if not (near.sqnr >= CONVERTED_FLOOR - slack and far.sqnr >= FLOAT_FLOOR - slack):
            yield f"{chain}: {near.sqnr:.1f} dB to the converted model, {far.sqnr:.1f} to float"
