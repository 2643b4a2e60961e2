"""A folder of finished work, from which a run that was stopped goes on.

It has the changes of algorithms that make them for one operator after another, and the program. An
entry is kept by the hash of all that it depends on, so that runs of several models share a folder
without locks, and what differs is made anew.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.fx import GraphModule

from qreg.errors import InputError, WorkWarning
from qreg.inputs.fingerprint import Fingerprint, hash_of
from qreg.pipeline.cached import HOST
from qreg.plugins.processor import described
from qreg.plugins.sources import hash_of_code
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.algorithm import Algorithm, Calibration, Candidate, Change, Once
from qreg.programs.lowering import Target
from qreg.recipes.change import read_change, written_change
from qreg.recipes.versions import versions_for
from qreg.utils.cache import Cache
from qreg.utils.files import check_writable

SHARE = 4  # times the float weights, which a folder may have in bytes
LEAST = 2**30  # bytes that it may have in any case


def work_folder(folder: Path, parameters: int) -> Cache:
    """Return the entries of a work folder, for a model with parameters of so many bytes."""
    most = max(LEAST, SHARE * parameters)
    return Cache(folder, most=most, most_of_one=most)


def check_work_folder(given: str | Path) -> Path:
    """Make a work folder, and return its path. Raises ``InputError`` if it cannot be written."""
    try:
        folder = Path(given)
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder / "entry")
    except (OSError, InputError) as cause:
        raise InputError(
            f"work folder {given}: it cannot be written: {cause}. Name another folder"
        ) from cause
    return folder


@frozen(eq=False)
class Work:
    """The entries of a folder, for the runs of a backend with a seed."""

    entries: Cache
    goal: Target
    seed: int

    def once(
        self, supplied: Supplied[Algorithm], candidate: Candidate, data: Fingerprint | None
    ) -> Once:
        """Return the function that an algorithm makes the changes of a candidate with.

        The candidate is hashed when the function is called for the first time. ``data`` is what
        the statistics are of.
        """
        if not supplied.source.module:  # its code is not known
            return Calibration((), {}).once
        common = cache(lambda: self._common(supplied, candidate, data))

        def once(node: str, make: Callable[[], Change]) -> Change:
            key = hash_of([common(), node])
            found = self.entries.read(key)
            if found is not None:
                return read_change(*found)
            made = make()
            self._keep(key, made)
            return made

        return once

    def _keep(self, key: str, made: Change) -> None:
        try:
            self.entries.put(key, *written_change(made))
        except (OSError, InputError) as cause:
            warnings.warn(
                f"work folder {self.entries.folder}: an entry cannot be written: {cause}. The run "
                "goes on; if it is stopped, what is not in the folder is made again.",
                WorkWarning,
                stacklevel=2,
            )

    def _common(
        self, supplied: Supplied[Algorithm], candidate: Candidate, data: Fingerprint | None
    ) -> str:
        """Return the hash of what all changes of an algorithm depend on."""
        registry, algorithm = self.goal.registry, supplied.value
        parts = [
            [described(), json.dumps(versions_for(registry, self.goal.name), sort_keys=True)],
            [hash_of_code(HOST), hash_of_code(supplied.source.module)],
            [algorithm.name, supplied.distribution, supplied.version],
            [str(sorted(algorithm.parameters.items())), self.seed],
            [data and data.sha256, data and data.batches],
            sorted(candidate.kept),
            *_described(candidate.model, candidate.reference),
        ]
        return hash_of(parts)


def _described(*models: GraphModule) -> Iterator[list[Any]]:
    """Yield the graphs, tensors and settings of models; tensors that they share are hashed once."""
    hashes: dict[int, str] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            if id(value) not in hashes:
                hashes[id(value)] = hash_of(value)
            return hashes[id(value)]
        return str(value)

    for model in models:
        for name, module in model.named_modules():
            graph = str(module.graph) if isinstance(module, GraphModule) else ""
            held = {key: plain(value) for key, value in sorted(_held(module))}
            yield [name, type(module).__qualname__, graph, held]


def _held(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of a module, and its attributes that are plain values, by name."""
    kinds = (Tensor, bool, int, float, str, torch.dtype, torch.qscheme)
    held = {**vars(module), **module._parameters, **module._buffers}
    yield from ((key, value) for key, value in held.items() if isinstance(value, kinds))
