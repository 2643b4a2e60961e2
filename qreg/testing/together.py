"""Samples side by side in one model: a program for many of them takes half the time."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from torch import Tensor
from torch.nn import Module, ModuleList
from torch.utils import _pytree as pytree

from qreg.errors import UnknownNameError
from qreg.plugins.types.backend import SupportedConfig
from qreg.testing.running import Outcome, outcome
from qreg.testing.subject import Sample, Subject

AT_ONCE = 10  # samples in one program


class SideBySide(Module):
    """The modules of samples as one, which takes the tensors of all of them."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        super().__init__()
        self.samples = ModuleList(copy.deepcopy(each.module) for each in samples)
        self.structures = [pytree.tree_structure(each.inputs) for each in samples]

    def forward(self, *tensors: Tensor) -> list[Any]:
        left = iter(tensors)
        return [
            module(*pytree.tree_unflatten(list(islice(left, structure.num_leaves)), structure))
            for module, structure in zip(self.samples, self.structures, strict=True)
        ]


def shared_outcome(subject: Subject, sample: Sample, config: SupportedConfig) -> Outcome | None:
    """Return the outcome of a sample in a program for it and for samples of other annotators.

    Return None if there is no such program: it is not known then which of the samples fails.
    """
    samples = _samples(subject, config.name)
    if sample not in samples:
        return None
    start = samples.index(sample) // AT_ONCE * AT_ONCE
    found = _outcomes(subject, samples[start : start + AT_ONCE], config.name)
    return found.get(sample)


@functools.cache
def _samples(subject: Subject, config: str) -> tuple[Sample, ...]:
    """Return the samples of all annotators that are tested with a config, and only have tensors."""
    found = (each for name in subject.annotators for each in _tested_with(subject, name, config))
    return tuple(dict.fromkeys(filter(_has_tensors_of_fixed_sizes, found)))


def _tested_with(subject: Subject, annotator: str, config: str) -> list[Sample]:
    try:
        return [each for each, chosen in subject.cases(annotator) if chosen.name == config]
    except UnknownNameError:  # a config of one of its samples: the tests of that annotator fail
        return []


def _has_tensors_of_fixed_sizes(sample: Sample) -> bool:
    leaves = pytree.tree_leaves(sample.inputs)
    return sample.dynamic_shapes is None and all(isinstance(each, Tensor) for each in leaves)


@functools.cache
def _outcomes(subject: Subject, samples: tuple[Sample, ...], config: str) -> dict[Sample, Outcome]:
    if len(samples) == 1:
        return {}
    together = Sample(
        SideBySide(samples), tuple(pytree.tree_leaves([each.inputs for each in samples]))
    )
    supplied = subject.registry.config(subject.backend, config)
    try:
        found = outcome(subject.registry, subject.backend, together, supplied)
    except Exception:  # of any library
        return {}
    split = list(_split(found, len(samples)))
    whole = sum(len(each.decisions) for each in split) == len(found.decisions)
    return dict(zip(samples, split, strict=True)) if whole else {}


def _split(found: Outcome, count: int) -> Iterator[Outcome]:
    """Yield the outcomes of the samples: their decisions, and the audit of the whole program."""
    for number in range(count):
        inside = f"samples.{number}."
        decisions = [each for each in found.decisions if f"{each.module}.".startswith(inside)]
        yield Outcome(decisions, found.audit)
