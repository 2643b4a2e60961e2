"""The arguments of an exported model, and the forms in which a batch may give them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import field, frozen
from torch.utils import _pytree as pytree

from qreg.errors import InputError
from qreg.graph.compat import signature_of
from qreg.inputs.arrays import as_tensor, is_array
from qreg.inputs.leftovers import Part, part_of_dict, part_of_tuple
from qreg.inputs.specs import InputSpec, arguments, graph_input_specs, input_specs
from qreg.utils.wording import counted

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule
    from torch.utils._pytree import TreeSpec


class MisfitError(InputError):
    """A batch that does not have the arguments of the model, or has more: then ``part`` fits."""

    def __init__(self, problem: str, part: Part | None = None) -> None:
        self.problem, self.part = problem, part
        super().__init__(problem)


def is_pair(values: Sequence[Any]) -> bool:
    """Whether values have the form ``(args, kwargs)``, that of ``ExportedProgram``'s examples."""
    return (
        len(values) == 2
        and isinstance(values[0], (tuple, list))
        and isinstance(values[1], Mapping)
        and all(isinstance(name, str) for name in values[1])
    )


def flat_structure(count: int) -> TreeSpec:
    """Return the structure of ``count`` positional arguments, each of which is a tensor."""
    return pytree.tree_structure(((0,) * count, {}))


@frozen
class Signature:
    """The arguments of a model, and the flat tensors that they consist of.

    ``structure`` is the structure of ``(args, kwargs)``. ``names`` are the names of the arguments,
    positional ones first. By default each tensor is a positional argument.
    """

    specs: Sequence[InputSpec]
    structure: TreeSpec = field(repr=False)
    names: Sequence[str] = field()

    @structure.default
    def _flat(self) -> TreeSpec:
        return flat_structure(len(self.specs))

    @names.default
    def _names(self) -> Sequence[str]:
        return [spec.name for spec in self.specs]

    @classmethod
    def of_program(cls, program: ExportedProgram) -> Signature:
        """Return the signature of a program. Raises ``InputError`` unless inputs are tensors."""
        entry = program.module_call_graph[0].signature
        if entry is None:
            return cls(input_specs(program))
        return cls._of(input_specs(program), entry.in_spec, entry.forward_arg_names)

    @classmethod
    def of_graph(cls, model: GraphModule) -> Signature:
        """Return the signature of the module of a program, or of what was made from one."""
        info = signature_of(model)
        if info is None:
            return cls(graph_input_specs(model.graph))
        return cls._of(graph_input_specs(model.graph), info.in_spec, info.orig_args)

    @classmethod
    def _of(
        cls, specs: Sequence[InputSpec], structure: TreeSpec, names: Sequence[str] | None
    ) -> Signature:
        known = list(names or ())[-sum(each.num_children for each in structure.children()) :]
        signature = cls(specs, structure, known)
        return signature if len(known) == len(signature._arguments) else cls(specs, structure)

    @property
    def _arguments(self) -> list[TreeSpec]:
        return [each for part in self.structure.children() for each in part.children()]

    @property
    def _positional(self) -> int:
        return self.structure.child(0).num_children

    def positional(self, leaves: Sequence[Any]) -> tuple[Any, ...]:
        """Return flat values as the arguments of the graph, which takes keywords in order too."""
        args, keywords = pytree.tree_unflatten(leaves, self.structure)
        return (*args, *keywords.values())

    def leaves(self, batch: Any) -> list[Any]:
        """Return the values of a batch in the order of ``specs``.

        A batch is a dict of the arguments by name, a pair ``(args, kwargs)``, a tuple or list of
        the arguments, or a lone argument. A tuple that fits as the arguments is not a pair. One
        keyword argument may follow the positional ones in a tuple, since its place is certain.
        Arguments that are None are skipped: a program has no inputs for them.

        Raises ``MisfitError`` for names and numbers of values that the model does not have.
        """
        if isinstance(batch, Mapping):
            return self._by_name(_without_none(batch))
        given = _given(batch)
        found = self._matched(given)
        if found is None and is_pair(given):
            return self._by_name(_without_none(given[1]), _given(given[0]))
        if found is None:
            found = self._in_order(given)
        if found is None:
            part = part_of_tuple(given, self._takes)
            raise MisfitError(self._miscounted(given, part is None), part)
        if len(given) > self._positional + 1:
            problem = f"gives keywords by position (expected a dict: {', '.join(self.names)})"
            raise MisfitError(problem)
        return found

    def _by_name(self, named: dict[str, Any], unnamed: Sequence[Any] = ()) -> list[Any]:
        found = self._arranged(named, unnamed)
        if found is None:
            names = [*(f"argument {n}" for n in range(len(unnamed))), *map(str, named)]
            problem = f"has the inputs {', '.join(names)} (expected {', '.join(self.names)})"
            part = None if unnamed else part_of_dict(named, self.names, self._takes)
            raise MisfitError(problem, part)
        return found

    def _arranged(self, named: dict[str, Any], unnamed: Sequence[Any]) -> list[Any] | None:
        """Return leaves of arguments by name, of the one argument that is a dict, or by name."""
        given = {**dict(zip(self._unnamed(named), unnamed, strict=False)), **named}
        if set(given) == set(self.names) and len(given) == len(unnamed) + len(named):
            values = [given[name] for name in self.names]
            return self._matched(values) or self._in_order(values)
        flat = {spec.name for spec in self.specs}
        if not unnamed and set(named) == flat:
            return [named[spec.name] for spec in self.specs]
        return None if unnamed else self._matched([named])

    def _unnamed(self, named: Collection[str]) -> list[str]:
        """Return the names of values without one: positional arguments, and a keyword left over."""
        positional, keywords = self.names[: self._positional], self.names[self._positional :]
        left = [name for name in keywords if name not in named]
        return [*positional, *(left if len(left) == 1 else ())]

    def _takes(self, batch: Any) -> bool:
        """Whether a batch has the arguments of the model, of any shape."""
        try:
            pairs = zip(self.specs, map(as_tensor, self.leaves(batch)), strict=True)
        except MisfitError:
            return False
        return all(isinstance(v, torch.Tensor) and v.dtype == spec.dtype for spec, v in pairs)

    def _miscounted(self, given: Sequence[Any], unknown: bool) -> str:
        count = len(pytree.tree_leaves(given))
        names = [spec.name for spec in self.specs]
        surplus = unknown and count > len(names)
        remove = ". Remove values that are not inputs, such as labels" if surplus else ""
        if count != len(names):
            had = counted(count, "input")
            return f"has {had} (expected {len(names)}: {', '.join(names)}){remove}"
        nested = ", ".join(map(str, self.positional(names)))
        return f"is not nested like the inputs of the model (expected {nested})"

    def _matched(self, values: Sequence[Any]) -> list[Any] | None:
        """Return the leaves of values that have exactly the structure of the arguments."""
        if len(values) != len(self._arguments):
            return None
        pairs = zip(self._arguments, values, strict=True)
        try:
            found = [leaf for spec, value in pairs for leaf in spec.flatten_up_to(value)]
        except ValueError:  # raised for another structure
            return None
        return found if all(map(_is_value, found)) else None

    def _in_order(self, values: Sequence[Any]) -> list[Any] | None:
        """Return leaves in the order given, unless a dict makes the order uncertain."""
        leaves = pytree.tree_leaves(values)
        nested = pytree.tree_leaves(values, is_leaf=lambda each: isinstance(each, Mapping))
        certain = len(leaves) == len(self.specs) and not any(isinstance(n, Mapping) for n in nested)
        return leaves if certain else None


def _given(batch: Any) -> tuple[Any, ...]:
    values = arguments(batch)
    return values if len(values) < 2 else tuple(each for each in values if each is not None)


def _without_none(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if value is not None}


def _is_value(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) or is_array(leaf)
