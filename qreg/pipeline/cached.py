"""Lower programs, or take what was lowered from the same program by an earlier run.

A program is kept by the hash of all that it depends on: the graph and its tensors, the backend with
its options, the processor, and the versions and the code that lower it. It is bytes and JSON, and
is verified like one that was just made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import asdict
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from qreg.graph.provenance import origin
from qreg.inputs.fingerprint import hash_of
from qreg.plugins.processor import described
from qreg.plugins.sources import hash_of_code
from qreg.plugins.types.program import Conversion, Lowered, LoweredOperator
from qreg.programs.lowering import Target
from qreg.recipes.versions import versions_for
from qreg.utils.cache import Cache
from qreg.utils.logging import LOG

HOST = "qreg"  # the package whose code a program depends on, too


def lowered(target: Target, program: ExportedProgram, work: Cache | None = None) -> Lowered:
    """Return a lowered program, of the cache if it is there.

    ``work`` is used in place of the cache of the registry. Backends say whether their programs may
    be kept, by ``Backend.reproducible``. Raises as :meth:`Target.lower`.
    """
    cache = _cache(target, work)
    if cache is None:
        return target.lower(program)
    key = _key(target, program)
    found = cache.read(key)
    if found is not None:
        LOG.debug("lowered program %s is taken from the cache", key)
        return _read(*found)
    made = target.lower(program)
    cache.write(key, _described(made), made.program)
    return made


def _cache(target: Target, work: Cache | None) -> Cache | None:
    """Return the cache; None without one, or for a plugin whose code is not known."""
    if not target.backend.reproducible or not target.supplied.source.module:
        return None
    folder = target.registry.switches.cache
    return work or (Cache(Path(folder)) if folder else None)


def _key(target: Target, program: ExportedProgram) -> str:
    parts = [
        target.name,
        json.dumps(dict(target.options), sort_keys=True),
        described(),
        json.dumps(versions_for(target.registry, target.name), sort_keys=True),
        hash_of_code(target.supplied.source.module),
        hash_of_code(HOST),
        [line for each in program.graph_module.modules() for line in _lines(each)],
        str(program.graph_signature),
        str(program.range_constraints),
        dict(sorted(_read_by(program).items())),
    ]
    return hash_of(parts)


def _read_by(program: ExportedProgram) -> dict[str, Any]:
    """Return the tensors that a program reads; a converted one has its weights in float too."""
    tensors = {**program.state_dict, **program.constants}
    read = {node.name for node in program.graph.find_nodes(op="placeholder") if node.users}
    specs = program.graph_signature.input_specs
    return {
        each.target: tensors[each.target]
        for each in specs
        if each.arg.name in read and each.target in tensors
    }


def _lines(module: object) -> Iterator[str]:
    """Yield a line for each node of a graph, with its origin and the layout of its value."""
    if isinstance(module, GraphModule):
        for node in module.graph.nodes:
            yield f"{node.format_node()} {origin(node)} {_layout(node)}"


def _layout(node: Node) -> str:
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else [value]
    return " ".join(map(_spelled, values))


def _spelled(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)} {value.stride()}"
    return str(value)


def _described(made: Lowered) -> dict[str, Any]:
    """Return what is known of a program as JSON, without its bytes."""
    left_out = ("program", "methods")
    return {name: each for name, each in asdict(made).items() if name not in left_out}


def _read(stored: dict[str, Any], program: bytes) -> Lowered:
    operators = stored["operators"]
    return Lowered(
        **{
            **stored,
            "program": program,
            "operators": operators and [LoweredOperator(**each) for each in operators],
            "conversions": [Conversion(**each) for each in stored["conversions"]],
        }
    )
