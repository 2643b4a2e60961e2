"""What a package says of itself, so that it is never run on what it was not compiled for.

Compiled code takes the sizes, types and strides of its inputs for granted, and the instructions of
the CPU that it was compiled on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen

from qreg.errors import InputError, LoweringError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

KEY, CPU = "qreg_signature", "qreg_cpu"


@frozen
class Input:
    """One input: its sizes, None where dynamic, the order of its strides, and if it is changed."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    order: tuple[int, ...]
    changed: bool

    def taken(self, value: Tensor) -> Tensor:
        """A value in the layout that the code expects; a copy if the program changes it."""
        import torch

        laid_out = value.permute(self.order).contiguous().permute(_inverse(self.order))
        return laid_out.clone(memory_format=torch.preserve_format) if self.changed else laid_out


@frozen
class Signature:
    """The inputs of a package, and which of its flat outputs are those of the model."""

    inputs: tuple[Input, ...]
    outputs: tuple[int, ...]


def metadata_of(program: ExportedProgram) -> dict[str, str]:
    """What is written into the package of a program.

    Raises ``LoweringError`` for an input whose elements share memory.
    """
    changed = _changed_inputs(program)
    names = set(program.graph_signature.user_inputs)
    nodes = [
        node for node in program.graph.nodes if node.op == "placeholder" and node.name in names
    ]
    inputs = [_input(node, node.name in changed) for node in nodes if _is_tensor(node)]
    written = asdict(Signature(tuple(inputs), _outputs(program)))
    return {KEY: json.dumps(written), CPU: json.dumps(instructions())}


def _changed_inputs(program: ExportedProgram) -> set[str]:
    """The inputs that a program changes, which only its functional form tells."""
    if not any(map(_writes, program.graph.nodes)):
        return set()
    signature = program.run_decompositions({}).graph_signature
    return set(signature.user_inputs_to_mutate.values())


def _writes(node: Node) -> bool:
    import torch

    is_operator = isinstance(node.target, torch._ops.OpOverload)
    return is_operator and node.target._schema.is_mutable  # type: ignore[union-attr]


def _outputs(program: ExportedProgram) -> tuple[int, ...]:
    """The places of tensors: a package gives None as it is, and numbers as tensors."""
    given = program.graph.output_node().args[0]
    assert isinstance(given, tuple)
    return tuple(place for place, value in enumerate(given) if hasattr(value, "meta"))


def _is_tensor(node: Node) -> bool:
    import torch

    return isinstance(node.meta["val"], torch.Tensor)


def _input(node: Node, changed: bool) -> Input:
    value = node.meta["val"]
    strides = [int(each) for each in map(_hint, value.stride())]
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    if any(stride == 0 and size != 1 for stride, size in zip(strides, shape, strict=True)):
        raise LoweringError(
            f"the example input {node.name!r} is expanded, its elements share memory: export with "
            "a contiguous one"
        )
    order = sorted(range(len(strides)), key=lambda dim: -strides[dim])
    dtype = str(value.dtype).removeprefix("torch.")
    return Input(node.name, dtype, shape, tuple(order), changed)


def _hint(size: Any) -> int:
    return size if isinstance(size, int) else int(size.node.hint)


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def instructions() -> list[str]:
    """What the CPU can do, in torch's words."""
    import torch

    found: Mapping[str, Any] = torch.cpu.get_capabilities()
    return sorted(name for name, value in found.items() if value is True)


def read(metadata: Mapping[str, str]) -> Signature:
    """What a package says it takes and gives.

    Raises ``InputError`` for a package of somebody else's, and for one of another CPU.
    """
    if KEY not in metadata or CPU not in metadata:
        raise InputError(
            "the package was not lowered by qreg: it does not say what inputs it takes, and may "
            "change them. Lower the model again, with backend='x86_inductor'"
        )
    missing = sorted(set(json.loads(metadata[CPU])) - set(instructions()))
    if missing:
        raise InputError(
            f"the package was compiled on a CPU with {', '.join(missing)}, which this one has not: "
            "lower the model on this machine"
        )
    written = json.loads(metadata[KEY])
    return Signature(
        tuple(_parsed(**each) for each in written["inputs"]), tuple(written["outputs"])
    )


def _parsed(shape: list[int | None], order: list[int], **others: Any) -> Input:
    return Input(shape=tuple(shape), order=tuple(order), **others)
