"""Structures of nested inputs and outputs as plain values, without the types of a model's code.

A leaf is ``"*"``, and a branch is a dict of its kind with its children: ``{"tuple": ["*", "*"]}``,
``{"list": ["*"]}`` or ``{"dict": [["logits", "*"]]}``. Other types with named children, such as
those of transformers, are dicts, and all others tuples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from torch.utils._pytree import TreeSpec

LEAF = "*"
SEQUENCES = {"tuple": tuple, "list": list}


def plain_structure(spec: TreeSpec) -> Any:
    """Return a structure as plain values, which JSON can hold."""
    if spec.is_leaf():
        return LEAF
    children = [plain_structure(each) for each in spec.children()]
    keys = _keys(spec)
    if keys is not None:
        return {"dict": [list(pair) for pair in zip(keys, children, strict=True)]}
    return {"list" if spec.type is list else "tuple": children}


def _keys(spec: TreeSpec) -> list[str | int] | None:
    """Return the keys of a dict, or the names of the children of another type, if it has any."""
    keys = spec.context[1] if _is_default_dict(spec.context) else spec.context
    plain = isinstance(keys, list) and all(isinstance(each, (str, int)) for each in keys)
    return keys if plain and len(keys) == spec.num_children and spec.type is not list else None


def _is_default_dict(context: Any) -> bool:
    return isinstance(context, list) and len(context) == 2 and isinstance(context[1], list)


def nested(structure: Any, leaves: Sequence[Any]) -> Any:
    """Return leaves in a plain structure. Raises ``ValueError`` for another structure or number."""
    values = iter(leaves)
    found = _filled(structure, values)
    if next(values, None) is not None:
        raise ValueError(f"{len(leaves)} values are more than the structure has")
    return found


def _filled(structure: Any, values: Iterator[Any]) -> Any:
    if structure == LEAF:
        try:
            return next(values)
        except StopIteration:
            raise ValueError("the structure has more leaves than there are values") from None
    if not isinstance(structure, dict) or len(structure) != 1:
        raise ValueError(f"{structure!r} is not a structure")
    ((kind, children),) = structure.items()
    if kind == "dict":
        return {key: _filled(child, values) for key, child in children}
    if kind not in SEQUENCES:
        raise ValueError(f"{kind!r} is not a kind of structure")
    return SEQUENCES[kind](_filled(each, values) for each in children)


def names(structure: Any) -> list[str]:
    """Return a name for each leaf: its keys and positions from the outside, joined by dots."""
    return [".".join(path) for path in _paths(structure)]


def _paths(structure: Any) -> Iterator[tuple[str, ...]]:
    if structure == LEAF:
        yield ()
        return
    ((kind, children),) = structure.items()
    for key, child in children if kind == "dict" else enumerate(children):
        for path in _paths(child):
            yield (str(key), *path)


def spec_of(structure: Any) -> TreeSpec:
    """Return a plain structure as torch has it. Raises ``ValueError`` for another."""
    return pytree.tree_structure(nested(structure, [0] * len(names(structure))))
