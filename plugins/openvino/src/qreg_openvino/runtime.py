"""Load and run an OpenVINO model on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qreg.backends.inputs import TensorSpec, check_inputs
from qreg.errors import InputError
from qreg_openvino.container import GRAPH, WEIGHTS, split

if TYPE_CHECKING:
    from torch import Tensor

    from qreg import Runner

DEVICE = "CPU"
PRECISIONS = ("f32", "bf16")


def load(program: bytes, precision: str = "f32", threads: int = 0) -> Runner:
    """Load a model; the runner accepts and returns flat tensors.

    Raises ``InputError`` for bytes that are not an OpenVINO model, and for inputs that do not fit
    the model.
    """
    import torch

    compiled = compiled_model(program, precision, threads)
    request, wanted = compiled.create_infer_request(), list(map(_accepted, compiled.inputs))

    def run(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        check_inputs(wanted, inputs)  # the runtime itself accepts other dtypes and converts them
        results = request.infer([_array(value) for value in inputs])
        # The runtime reuses the memory of its outputs, and may return an input as an output.
        return tuple(torch.tensor(results[output]) for output in compiled.outputs)

    return run


def compiled_model(program: bytes, precision: str = "f32", threads: int = 0) -> Any:
    """Compile a program to an ``openvino.CompiledModel`` for the CPU."""
    import openvino

    hints: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision}
    if threads:
        hints["INFERENCE_NUM_THREADS"] = threads
    files = split(program)
    core = openvino.Core()
    try:
        model = core.read_model(files[GRAPH], files[WEIGHTS])
        return core.compile_model(model, DEVICE, hints)
    except RuntimeError as cause:
        raise InputError(f"OpenVINO rejects the model: {cause}") from cause


def _array(value: Tensor) -> Any:
    return value.detach().contiguous().numpy()


def _accepted(port: Any) -> TensorSpec:
    sizes = (None if size.is_dynamic else size.get_length() for size in port.get_partial_shape())
    return TensorSpec.of(port.get_element_type().get_type_name(), sizes)
