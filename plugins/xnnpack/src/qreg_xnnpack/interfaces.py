"""Read from a ``.pte`` what its methods take and return, and the caches that they write to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qreg import Interface, Port
from qreg.backends.inputs import dtype_name
from qreg.errors import InputError
from qreg_xnnpack.compat import program_of
from qreg_xnnpack.runtime import check_header

STATIC = 0  # as in executorch 1.4.1, TensorShapeDynamism.STATIC
WRITES = ("aten::index_put", "aten::index_put_")


def interfaces(program: bytes) -> dict[str, Interface]:
    """Return the interface of each method of a program by name.

    Raises ``InputError`` for bytes that are not an ExecuTorch program, or are damaged.
    """
    check_header(program)
    try:
        plans = program_of(program).execution_plan
    except Exception as cause:  # raised by the parser
        raise InputError(f"it is damaged: {cause}") from cause
    return {plan.name: _interface(plan) for plan in plans if _computes(plan)}


def _computes(plan: Any) -> bool:
    """Whether a method is more than a constant, such as the scale of an input."""
    return any(part.instructions for part in plan.chains)


def _interface(plan: Any) -> Interface:
    inputs, outputs = _ports(plan, "input", plan.inputs), _ports(plan, "output", plan.outputs)
    return Interface(inputs, outputs, dict(_caches(plan)))


def _ports(plan: Any, name: str, places: list[int]) -> tuple[Port, ...]:
    """Return the tensors among some values of a method."""
    values = [plan.values[place].val for place in places]
    return tuple(
        Port(
            f"{name} {number}",
            dtype_name(value.scalar_type.name),
            tuple(value.sizes),
            value.shape_dynamism != STATIC,
        )
        for number, value in enumerate(values)
        if hasattr(value, "sizes")
    )


def _caches(plan: Any) -> Iterator[tuple[str, int]]:
    """Yield each buffer that is written at positions, by address or name, with their number.

    A buffer has its value before any instruction computes it.
    """
    computed = set(plan.inputs)
    for instruction in (each.instr_args for chain in plan.chains for each in chain.instructions):
        args: list[int] = getattr(instruction, "args", [])
        if hasattr(instruction, "op_index"):
            if plan.operators[instruction.op_index].name in WRITES and args[0] not in computed:
                yield _address(plan, args[0]), _written_size(plan, *args[:2])
            computed.update(each for each in args[-1:] if each != args[0])
        else:
            computed.update(each for each in args if not _is_stored(plan, each))


def _address(plan: Any, place: int) -> str:
    value = plan.values[place].val
    memory = value.allocation_info
    if memory is None:  # the application allocates it, and finds it by its name
        return str(value.extra_tensor_info.fully_qualified_name)
    offset = memory.memory_offset_low + (memory.memory_offset_high << 32)
    return f"memory {memory.memory_id} at {offset}"


def _written_size(plan: Any, target: int, indices: int) -> int:
    """Return the size of the first dimension that the positions are of."""
    places = enumerate(plan.values[indices].val.items)
    dim = next(dim for dim, place in places if place >= 0)
    return int(plan.values[target].val.sizes[dim])


def _is_stored(plan: Any, place: int) -> bool:
    """Whether a value has its content in the program."""
    return getattr(plan.values[place].val, "data_buffer_idx", 0) > 0
