"""Calibrate a prepared model in several processes, each of which runs a shard of the data.

A first pass finds the lowest and highest value of every activation. For histograms, a second pass
counts the values in bins of the range of all data. So the observers, and the qparams that they
compute, are the same for any number of shards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from attrs import Factory, field, frozen
from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from qreg.errors import InputError
from qreg.graph.marking import marked
from qreg.graph.mutation import attribute_of, written_buffers
from qreg.graph.prepared import is_prepared, observers
from qreg.graph.provenance import module_path
from qreg.inputs.specs import flat
from qreg.jobs.packing import packed_program, unpacked
from qreg.jobs.running import run
from qreg.observers import merging
from qreg.observers.observation import Observation
from qreg.pipeline.calibrate import nan_error
from qreg.pipeline.storage import Storage
from qreg.programs.export import dynamic_shapes_of, export
from qreg.programs.observing import Observed, Shard, observed

Batch = tuple[Any, ...]

REMEDY = "Omit workers to calibrate in one process."


def check_shards(prepared: GraphModule) -> None:
    """Raise ``InputError`` for a prepared model that cannot be calibrated in shards."""
    if state := sorted(written_buffers(prepared.graph)):
        raise InputError(
            f"workers: the model writes to its buffer {state[0]!r}, so each batch depends on those "
            f"before it (expected a model without state). {REMEDY}"
        )
    for path, body in prepared.named_children():
        if isinstance(body, GraphModule) and is_prepared(body):
            raise InputError(
                f"workers: {path!r}, the body of a loop or branch, has observers (expected none). "
                f"{REMEDY}"
            )
    for node, observer in _activations(prepared).items():
        if reason := merging.why_not(observer):
            (source,) = node.all_input_nodes
            path = module_path(source)
            raise InputError(
                f"workers: the {type(observer).__name__} of {source}"
                f"{f' in module {path!r}' if path else ''} cannot be calibrated in shards: "
                f"{reason} (expected minimum and maximum, or a histogram). Choose another config, "
                "or omit workers."
            )


@frozen
class Sharded:
    """A prepared model, the exported model with an example that it was made from, and the data.

    The example has the structure of a batch. The data is split into ``shards`` parts, by default
    one for each of the ``workers``, which are processes.
    """

    prepared: GraphModule
    program: ExportedProgram
    example: Batch
    data: Storage
    workers: int
    shards: int = field(default=Factory(lambda self: self.workers, takes_self=True))

    @property
    def passes(self) -> int:
        """The number of passes over the data."""
        found = _activations(self.prepared).values()
        return 2 if any(map(merging.is_histogram, found)) else 1 if found else 0

    def calibrate(self, each: Callable[[], None]) -> None:
        """Set the state of all observers; call ``each`` after each batch of each pass.

        Raises ``CalibrationError`` with the operator for an activation that is NaN.
        """
        _observe_constants(self.prepared)
        calls = _activations(self.prepared)
        known = list(dict.fromkeys(calls.values()))  # an observer may be called in several places
        if not known:
            return
        program = self._program({node: known.index(observer) for node, observer in calls.items()})
        ranges = [merging.range_of(observer) for observer in known]
        for observer, values in zip(known, self._pass(program, ranges, each), strict=True):
            if values is not None:
                merging.set_range(observer, values)
        if not any(map(merging.is_histogram, known)):
            return
        counts = [merging.counts_of(observer) for observer in known]
        for observer, values in zip(known, self._pass(program, counts, each), strict=True):
            if values is not None:
                merging.set_counts(observer, values)

    def _pass(
        self, program: bytes, wanted: Sequence[Observation | None], each: Callable[[], None]
    ) -> list[Any]:
        """Return what all shards together observed at each mark, None if nothing."""
        shards = self.data.split(self.shards)
        jobs = [Shard(program, wanted, files) for files in shards]
        values: list[Sequence[Any]] = []
        for number, result in run(observed, jobs, workers=self.workers):
            self._check(shards[number], result)
            values.append(unpacked(result.values))
            for _ in shards[number]:
                each()
        found = zip(wanted, zip(*values, strict=True), strict=True)
        return [each and each.merged(of_shards) for each, of_shards in found]

    def _program(self, numbers: Mapping[Node, int]) -> bytes:
        inputs = tuple(flat(self.example))
        shapes = dynamic_shapes_of(self.program, inputs)
        return packed_program(export(marked(self.prepared, numbers), inputs, shapes))

    def _check(self, files: Sequence[Any], result: Observed) -> None:
        if result.nan is not None:
            file = files[result.nan]
            leaves = unpacked(file.read_bytes())
            batch = pytree.tree_unflatten(leaves, pytree.tree_structure(self.example))
            raise nan_error(self.prepared, batch, self.data.number(file))


def _activations(prepared: GraphModule) -> dict[Node, nn.Module]:
    """Return the calls of observers that need calibration data."""
    calls = observers(prepared)
    varying = {observer for node, observer in calls.items() if not _is_constant(node)}
    return {
        node: observer
        for node, observer in calls.items()
        if observer in varying and not merging.is_passive(observer)
    }


def _observe_constants(prepared: GraphModule) -> None:
    """Call the observers of constants, such as weights, once."""
    calls, varying = observers(prepared), set(_activations(prepared).values())
    with torch.no_grad():
        for node, observer in calls.items():
            if _is_constant(node) and observer not in varying:
                observer(attribute_of(node.all_input_nodes[0]))


def _is_constant(call: Node) -> bool:
    return call.all_input_nodes[0].op == "get_attr"
