"""The signature of a package, which prevents runs on inputs or CPUs that it was not compiled for.

Compiled code assumes the sizes, dtypes and strides of its inputs, and the instruction set of the
CPU that it was compiled on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen

from qreg.backends.inputs import TensorSpec
from qreg.errors import InputError, LoweringError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

KEY, CPU = "qreg_signature", "qreg_cpu"


@frozen
class Input:
    """One input: its sizes (None: dynamic), the order of its strides, and whether it is mutated."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    order: tuple[int, ...]
    changed: bool

    def taken(self, value: Tensor) -> Tensor:
        """Return a value in the layout that the code expects; a copy if the program mutates it."""
        import torch

        laid_out = value.permute(self.order).contiguous().permute(_inverse(self.order))
        return laid_out.clone(memory_format=torch.preserve_format) if self.changed else laid_out


@frozen
class Signature:
    """The inputs of a package, and the positions of the model's outputs in its flat outputs."""

    inputs: tuple[Input, ...]
    outputs: tuple[int, ...]


def metadata_of(program: ExportedProgram) -> dict[str, str]:
    """Return the metadata of the package of a program.

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
    """Return the names of the inputs that a program mutates.

    Only the signature of the functional program lists mutated inputs.
    """
    if not any(map(_writes, program.graph.nodes)):
        return set()
    signature = program.run_decompositions({}).graph_signature
    return set(signature.user_inputs_to_mutate.values())


def _writes(node: Node) -> bool:
    import torch

    is_operator = isinstance(node.target, torch._ops.OpOverload)
    return is_operator and node.target._schema.is_mutable  # type: ignore[union-attr]


def _outputs(program: ExportedProgram) -> tuple[int, ...]:
    """Return the positions of tensors: a package returns None as None, and numbers as tensors."""
    given = program.graph.output_node().args[0]
    assert isinstance(given, tuple)
    return tuple(place for place, value in enumerate(given) if hasattr(value, "meta"))


def _is_tensor(node: Node) -> bool:
    import torch

    return isinstance(node.meta["val"], torch.Tensor)


def _input(node: Node, changed: bool) -> Input:
    value = node.meta["val"]
    strides = [int(each) for each in map(_hint, value.stride())]
    spec = TensorSpec.of_tensor(value)
    if any(stride == 0 and size != 1 for stride, size in zip(strides, spec.shape, strict=True)):
        raise LoweringError(
            f"example input {node.name!r}: its elements share memory (expected a tensor that is "
            "not expanded). Export the model with a contiguous input"
        )
    order = sorted(range(len(strides)), key=lambda dim: -strides[dim])
    return Input(node.name, spec.dtype, spec.shape, tuple(order), changed)


def _hint(size: Any) -> int:
    return size if isinstance(size, int) else int(size.node.hint)


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def instructions() -> list[str]:
    """Return the names of the CPU's capabilities, as torch reports them."""
    import torch

    found: Mapping[str, Any] = torch.cpu.get_capabilities()
    return sorted(name for name, value in found.items() if value is True)


def read(metadata: Mapping[str, str]) -> Signature:
    """Return the signature that a package's metadata contains.

    Raises ``InputError`` for a package that qreg did not lower, and for a package compiled on a CPU
    with instructions that this CPU does not support.
    """
    if KEY not in metadata or CPU not in metadata:
        raise InputError(
            "the package was not lowered by qreg: it has no signature of its inputs, and may "
            "overwrite them. Lower the model again, with backend='x86_inductor'"
        )
    missing = sorted(set(json.loads(metadata[CPU])) - set(instructions()))
    if missing:
        raise InputError(
            f"the package was compiled on a CPU with {', '.join(missing)}, which this CPU does not "
            "support. Lower the model on this machine"
        )
    written = json.loads(metadata[KEY])
    return Signature(
        tuple(_parsed(**each) for each in written["inputs"]), tuple(written["outputs"])
    )


def _parsed(shape: list[int | None], order: list[int], **others: Any) -> Input:
    return Input(shape=tuple(shape), order=tuple(order), **others)
