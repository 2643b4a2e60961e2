"""Load and run a ``.pte`` in the ExecuTorch runtime, whose errors are bare numbers.

A file that is not a program may even crash the process, so its header is checked first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from qreg.backends.inputs import TensorSpec, misfit
from qreg.errors import InputError
from qreg_xnnpack.compat import missing_kernels, planned_memory, set_threads, start_threads

if TYPE_CHECKING:
    from torch import Tensor

    from qreg import Runner

# As in executorch 1.4.1, ``exir/_serialize/_program.py``: the flatbuffer's identifier, then a
# header with the sizes of the flatbuffer and of the segments behind it, 8 bytes each.
IDENTIFIER, EXTENDED = slice(4, 8), slice(8, 12)
FLATBUFFER_SIZE, SEGMENTS_START, SEGMENTS_SIZE = slice(16, 24), slice(24, 32), slice(32, 40)
HEADERS = 40
ONLY = "forward"  # the method of a program with one, as executorch calls it
OPERATOR_MISSING = "0x:14"  # of executorch 1.4.1, runtime/core/error.h
# Kernels of executorch that the runtime has only once a module of executorch is imported.
KERNELS = {b"llama::": "executorch.extension.llm.custom_ops.custom_ops"}


def load(program: bytes, threads: int = 0) -> Runner:
    """Load the method ``forward`` of a program, or its only one.

    The runner accepts and returns flat tensors. Raises as :func:`load_methods`, and ``InputError``
    for a program with several other methods.
    """
    with _explained(program):
        loaded = _loaded(program, threads)
        names = sorted(loaded.method_names)
        if ONLY not in names and len(names) > 1:
            raise InputError(f"its methods are {', '.join(names)} (expected one method)")
        return _runner(loaded, ONLY if ONLY in names else names[0])


def load_methods(program: bytes, threads: int = 0) -> dict[str, Runner]:
    """Load the methods of a program by name; executorch 1.4.1 gives them one memory.

    All are loaded ahead of the first call, since loading initializes the buffers. ``threads``
    applies to all programs of the process (0: the runtime decides).

    Raises ``InputError`` for bytes that are not an ExecuTorch program or are cut short, and for a
    program that needs more memory than available or calls operators without a kernel. Raises the
    runtime's error for a program that the runtime rejects.
    """
    with _explained(program):
        loaded = _loaded(program, threads)
        return {name: _runner(loaded, name) for name in sorted(loaded.method_names)}


def _loaded(program: bytes, threads: int) -> Any:
    from executorch.runtime import Runtime

    check_header(program)
    _register_kernels(program)
    start_threads()
    if threads:
        set_threads(threads)
    return Runtime.get().load_program(program)


def _register_kernels(program: bytes) -> None:
    """Import the modules of executorch with the kernels that a program calls.

    Where a build of executorch does not have them, loading says which operators it lacks.
    """
    end = int.from_bytes(program[FLATBUFFER_SIZE], "little") if _is_extended(program) else None
    for namespace, module in KERNELS.items():
        if program.find(namespace, 0, end) >= 0:
            with suppress(ImportError):
                import_module(module)


@contextmanager
def _explained(program: bytes) -> Iterator[None]:
    """Replace errors of the runtime about memory and kernels, which are numbers."""
    try:
        yield
    except MemoryError as cause:
        raise InputError(
            f"the program needs {planned_memory(program):,} bytes for its activations, more than "
            "this machine has available"
        ) from cause
    except RuntimeError as cause:
        if OPERATOR_MISSING not in str(cause):
            raise
        missing = ", ".join(missing_kernels(program))
        raise InputError(
            f"the program calls {missing}, for which this runtime has no kernel. Write the model "
            "without it, link a kernel for it, or lower for x86_inductor, which falls back on "
            "torch's own kernels"
        ) from cause


def _runner(loaded: Any, name: str) -> Runner:
    method = loaded.load_method(name)

    def run(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        try:
            outputs = method.execute(list(inputs))
        except RuntimeError as cause:
            raise misfit(cause, _accepted(loaded.metadata(name)), inputs) from cause
        # The outputs lie in the memory of the runtime, which the next call overwrites; numbers and
        # None are not among what is compared.
        return tuple(output.clone() for output in outputs if hasattr(output, "clone"))

    return run


def check_header(program: bytes) -> None:
    """Raise ``InputError`` for bytes that are not a complete ExecuTorch program."""
    if program[IDENTIFIER] != b"ET12":
        raise InputError("it is not an ExecuTorch program (expected ET12 at byte 4)")
    if len(program) < HEADERS:
        raise InputError(f"it is cut short: {len(program)} bytes are less than its header")
    if not _is_extended(program):
        return  # an older program, without segments
    flatbuffer, start, size = (
        int.from_bytes(program[place], "little")
        for place in (FLATBUFFER_SIZE, SEGMENTS_START, SEGMENTS_SIZE)
    )
    whole = max(flatbuffer, start + size)
    if len(program) < whole:
        raise InputError(f"it is cut short: {len(program):,} of {whole:,} bytes are there")


def _is_extended(program: bytes) -> bool:
    return program[EXTENDED] == b"eh00"


def _accepted(metadata: Any) -> Iterator[TensorSpec]:
    from executorch.exir.scalar_type import ScalarType

    for position in range(metadata.num_inputs()):
        info = metadata.input_tensor_meta(position)
        yield TensorSpec.of(ScalarType(info.dtype()).name, info.sizes())
