"""Chains in which each pair of kinds stands next to each other, in as few operators as that takes.

A walk of six steps has five pairs and four triples in it. At least one of a pair is in int8.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Sequence

import torch
from attrs import define
from chains import KINDS, Chain, Step, Unfit, chain, side_by_side
from kinds import IMAGE, ROWS, SEQUENCE, Shape

import qreg
from qreg.plugins.registry import DEFAULT

LENGTH = 6  # of a walk: rounding adds up, and what fails has to be found in it
PARTS = 20  # tests that share the walks of a backend
LARGEST = 4096  # values in a tensor
# What a scope most often leaves in float: some of each kind of operator.
OFTEN = (
    chain(SEQUENCE, "linear", "~conv1d", "linear"),
    chain(SEQUENCE, "linear", "~batch_norm1d", "linear"),
    chain(ROWS, "linear", "~pad", "linear"),
    chain(IMAGE, "conv2d", "~add", "~relu", "conv2d"),
    chain(IMAGE, "conv2d", "~cat", "conv2d"),
    chain(IMAGE, "conv2d", "~max_pool2d", "conv2d"),
    chain(IMAGE, "conv2d", "~sigmoid", "linear"),
)
COARSE = "hardtanh of a narrow range"  # narrower than what int8 tells apart in front of it


@functools.cache
def quantized_kinds(backend: str, config: str = DEFAULT) -> tuple[str, ...]:
    """The kinds that a backend's table quantizes in full, between products."""
    heads = ("linear", "conv2d")
    candidates = [
        Chain(shape, (Step(KINDS[head], False), Step(kind, False), Step(KINDS[head], False)))
        for kind in KINDS.values()
        for shape in (ROWS, SEQUENCE, IMAGE)
        for head in heads
    ]
    chains = [each for each in candidates if each.fits]
    model, batches = side_by_side(chains)
    quantizer = qreg.get_quantizer(backend, config=config)
    qreg.prepare(model, quantizer, batches[0])
    inside: dict[int, list[bool]] = {}
    for each in quantizer.decisions:
        _, number, place = (*each.module.split("."), "", "", "")[:3]
        if place == "1":
            inside.setdefault(int(number), []).append(each.quantized)
    found = {chains[number].steps[1].kind.name for number, each in inside.items() if all(each)}
    return tuple(name for name in KINDS if name in found and name != COARSE)


def surrounded(backend: str) -> list[Chain]:
    """Each kind that a backend quantizes, in float between two products in int8."""
    found = (
        Chain(shape, (Step(KINDS[head], False), Step(KINDS[name], True), Step(KINDS[head], False)))
        for name in quantized_kinds(backend)
        for shape, head in ((SEQUENCE, "linear"), (IMAGE, "conv2d"), (ROWS, "linear"))
    )
    fitting: dict[str, Chain] = {}
    for each in filter(lambda chain: chain.fits, found):
        fitting.setdefault(each.steps[1].kind.name, each)
    return list(fitting.values())


def steps_for(backend: str, config: str = DEFAULT) -> list[Step]:
    """Every kind in float, and in int8 what the backend quantizes."""
    named = quantized_kinds(backend, config)
    return [Step(KINDS[name], False) for name in named] + [Step(k, True) for k in KINDS.values()]


@functools.cache
def swept(backend: str, config: str = DEFAULT) -> tuple[Chain, ...]:
    """The walks over every pair of what a backend quantizes and what stays float in it."""
    return tuple(walks(steps_for(backend, config)))


def walks(steps: Sequence[Step]) -> list[Chain]:
    """Walks with every pair of steps that can follow each other, one of the two in int8."""
    walker = Walker(steps, {(a, b) for a in steps for b in steps if not (a.left and b.left)})
    return list(walker.walks())


@define
class Walker:
    """Takes its ways over the pairs that are open, each once."""

    steps: Sequence[Step]
    open: set[tuple[Step, Step]]

    def walks(self) -> Iterator[Chain]:
        draw = random.Random(0)
        for shape in (IMAGE, SEQUENCE, ROWS):
            for first in self.steps:
                while len(found := self._walk(first, shape, draw)) > 1:
                    yield Chain(shape, tuple(found))

    def _walk(self, first: Step, shape: Shape, draw: random.Random) -> list[Step]:
        reached, walk = following(first, shape), [first]
        while reached is not None and len(walk) < LENGTH:
            onward = [each for each in self.steps if (walk[-1], each) in self.open]
            draw.shuffle(onward)
            fitting = ((each, following(each, reached)) for each in onward)
            step, reached = next((pair for pair in fitting if pair[1]), (None, None))
            if step is not None:
                self.open.discard((walk[-1], step))
                walk.append(step)
        return walk


@functools.cache
def following(step: Step, shape: Shape) -> Shape | None:
    """The shape that a step makes of one, None where it does not fit."""
    try:
        _, value = step.module(torch.rand(shape))
    except Unfit:
        return None
    return tuple(value.shape) if 0 < value.numel() <= LARGEST else None
