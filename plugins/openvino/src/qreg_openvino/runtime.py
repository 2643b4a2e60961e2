"""Loads and runs an OpenVINO model on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from qreg.errors import InputError
from qreg_openvino.compat import WITHOUT_SNIPPETS
from qreg_openvino.container import GRAPH, WEIGHTS, split

if TYPE_CHECKING:
    from torch import Tensor

    from qreg import Runner

DEVICE = "CPU"
PRECISIONS = ("f32", "bf16")


def load(program: bytes, precision: str = "f32", threads: int = 0) -> Runner:
    """Loads a model; the runner takes and gives flat tensors.

    Raises ``InputError`` for what is no OpenVINO model, and for inputs that are not those of the
    model.
    """
    import torch

    compiled = compiled_model(program, precision, threads)
    request, wanted = compiled.create_infer_request(), compiled.inputs

    def run(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        problem = _problem(wanted, inputs)
        if problem:
            raise InputError(_misfit(problem, wanted, inputs))
        results = request.infer([_array(value) for value in inputs])
        # The runtime reuses the memory of its outputs, and may give an input back as an output.
        return tuple(torch.tensor(results[output]) for output in compiled.outputs)

    return run


def compiled_model(program: bytes, precision: str = "f32", threads: int = 0) -> Any:
    """An ``openvino.CompiledModel`` of a program, for the CPU."""
    import openvino

    hints: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, **WITHOUT_SNIPPETS}
    if threads:
        hints["INFERENCE_NUM_THREADS"] = threads
    files = split(program)
    core = openvino.Core()
    try:
        model = core.read_model(files[GRAPH], files[WEIGHTS])
        return core.compile_model(model, DEVICE, hints)
    except RuntimeError as cause:
        raise InputError(f"OpenVINO refuses the model: {cause}") from cause


def _array(value: Tensor) -> Any:
    return value.detach().contiguous().numpy()


def _problem(wanted: Sequence[Any], given: Sequence[Tensor]) -> str | None:
    """What is wrong with the inputs; the runtime itself takes other types and converts them."""
    if len(given) != len(wanted):
        return f"{len(given)} inputs"
    for number, (port, value) in enumerate(zip(wanted, given, strict=True)):
        if _type(port) != _plain(value.dtype):
            return f"input {number} has another type"
        if not _fits(port.get_partial_shape(), value.shape):
            return f"input {number} has another shape"
    return None


def _fits(wanted: Any, shape: Sequence[int]) -> bool:
    sizes = list(wanted)
    return len(sizes) == len(shape) and all(
        size.min_length <= given and (size.is_dynamic or size.max_length == given)
        for size, given in zip(sizes, shape, strict=True)
    )


def _misfit(problem: str, wanted: Sequence[Any], given: Sequence[Tensor]) -> str:
    takes = ", ".join(_described(_type(p), _sizes(p.get_partial_shape())) for p in wanted)
    got = ", ".join(_tensors(given))
    return f"{problem}; the program takes {takes or 'nothing'}, and got {got or 'nothing'}"


def _tensors(values: Sequence[Tensor]) -> Iterator[str]:
    for value in values:
        yield _described(_plain(value.dtype), list(map(str, value.shape)))


def _sizes(shape: Any) -> list[str]:
    return ["any" if size.is_dynamic else str(size.get_length()) for size in shape]


def _described(dtype: str, sizes: Sequence[str]) -> str:
    return f"{dtype} ({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _type(port: Any) -> str:
    """The type of an input as torch calls it."""
    element: str = port.get_element_type().get_type_name()
    return SPELLED.get(element, element)


def _plain(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


# What OpenVINO calls the types of tensors, as torch calls them.
SPELLED = {
    "f32": "float32",
    "f64": "float64",
    "f16": "float16",
    "bf16": "bfloat16",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "u8": "uint8",
    "boolean": "bool",
}
