"""What a calibration found, so that the same program can be made without the data.

The model is identified by its constants and, after its preparation, by its operators. Values of
observers and changes of algorithms are addressed by the names of nodes and submodules, which the
preparation of the same model gives again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, TypeAlias

from attrs import evolve, field, frozen

from qreg.errors import RecipeError
from qreg.graph.nodes import computes_tensors
from qreg.graph.provenance import module_path
from qreg.inputs.fingerprint import Fingerprint, hash_of
from qreg.plugins.types.algorithm import Change, Stage
from qreg.recipes.pinned import QParams

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

Operator: TypeAlias = tuple[str, str, str]  # node, operator, module path


@frozen(eq=False)
class Step:
    """The changes of an algorithm that was kept."""

    algorithm: str
    stage: Stage
    distribution: str
    version: str
    changes: tuple[Change, ...] = field(repr=False)

    def without_ranges(self) -> Step:
        """Return what is not in the quantization parameters of the prepared model already."""
        left = [evolve(each, range=None) for each in self.changes]
        kept = [each for each in left if each.constants or each.scale is not None or each.in_float]
        return evolve(self, changes=tuple(kept))


@frozen(eq=False)
class Record:
    """The model that a program was made from, and all values that quantization gave it.

    ``constants`` are the SHA-256 of the parameters and buffers by name, ``operators`` those of the
    annotated graph in its order. ``steps`` are the kept algorithms, those that change the float
    model first. ``qparams`` are the quantization parameters by the name of the observer. ``data``
    identifies the calibration data; None if there was none.
    """

    constants: Mapping[str, str] = field(repr=False)
    operators: Sequence[Operator] = field(repr=False)
    steps: Sequence[Step]
    qparams: Mapping[str, QParams] = field(repr=False)
    data: Fingerprint | None = None

    def check_constants(self, program: ExportedProgram) -> None:
        """Raise ``RecipeError`` with the first parameter or buffer that differs, if any."""
        found = hashes(program)
        for name in dict.fromkeys((*self.constants, *found)):
            if name not in found:
                raise _differs(f"it lacks the constant {name!r}")
            if name not in self.constants:
                raise _differs(f"its constant {name!r} is not in the recipe's model")
            if found[name] != self.constants[name]:
                raise _differs(f"its constant {name!r} has other values, or another shape or dtype")

    def check_operators(self, reference: GraphModule) -> None:
        """Raise ``RecipeError`` with the first operator that differs, if any."""
        pairs = zip_longest(self.operators, operators(reference))
        for number, (expected, found) in enumerate(pairs):
            if expected != found:
                wanted = _described(expected)
                raise _differs(f"its operator {number} is {_described(found)} (expected {wanted})")


def operators(graph: GraphModule) -> tuple[Operator, ...]:
    """Return the operators of a graph and of the bodies in it, in order."""
    return tuple(
        (f"{name}.{node.name}" if name else node.name, str(node.target), module_path(node))
        for name, each in graph.named_modules()
        if hasattr(each, "graph")
        for node in filter(computes_tensors, each.graph.nodes)
    )


def hashes(program: ExportedProgram) -> dict[str, str]:
    """Return the SHA-256 of each parameter, buffer and tensor constant of a program, by name."""
    import torch

    tensors = {**program.state_dict, **program.constants}
    return {
        name: hash_of(each)
        for name, each in sorted(tensors.items())
        if isinstance(each, torch.Tensor)
    }


def _described(operator: Operator | None) -> str:
    if operator is None:
        return "missing"
    node, target, module = operator
    return f"{node!r} ({target}{f' in module {module!r}' if module else ''})"


def _differs(problem: str) -> RecipeError:
    return RecipeError(
        f"the model is not the one of the recipe: {problem}. Pass that model; or remove the table "
        "[record] of the recipe, and pass calibration data."
    )
