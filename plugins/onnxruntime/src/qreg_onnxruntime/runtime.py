"""Load and run an ONNX model in ONNX Runtime, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qreg.backends.inputs import TensorSpec, misfit
from qreg.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from qreg import Runner

PROVIDERS = ["CPUExecutionProvider"]
ERRORS_ONLY = 3


def load(program: bytes, threads: int = 0) -> Runner:
    """Load a model; the runner accepts and returns flat tensors.

    Raises ``InputError`` for bytes that are not an ONNX model, for a model that the runtime
    rejects, and for inputs that do not fit the model.
    """
    import torch

    loaded = session(_checked(program), intra_op_num_threads=threads)
    wanted = loaded.get_inputs()
    accepted = [TensorSpec.of(each.type, each.shape) for each in wanted]

    def run(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if len(inputs) != len(wanted):
            raise misfit(f"{len(inputs)} inputs", accepted, inputs)
        feed = {
            each.name: value.detach().numpy() for each, value in zip(wanted, inputs, strict=True)
        }
        try:
            outputs = loaded.run(None, feed)
        except Exception as cause:  # the runtime's errors have no class in common but this
            raise misfit(cause, accepted, inputs) from cause
        return tuple(torch.as_tensor(output) for output in outputs)

    return run


def session(program: bytes, **options: Any) -> Any:
    """Create an ``onnxruntime.InferenceSession``; ``options`` are fields of its options."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = ERRORS_ONLY
    for name, value in options.items():
        setattr(settings, name, value)
    try:
        return onnxruntime.InferenceSession(program, settings, providers=PROVIDERS)
    except Exception as cause:  # the runtime's errors have no class in common but this
        raise InputError(f"ONNX Runtime rejects the model: {cause}") from cause


def _checked(program: bytes) -> bytes:
    """Raise ``InputError`` for bytes that are not an ONNX model; the runtime's error is unclear."""
    import onnx

    try:
        model = onnx.load_model_from_string(program)
    except Exception as cause:  # a DecodeError of protobuf, which ships no types
        raise InputError(
            f"it is not an ONNX model, or cut short: {len(program):,} bytes"
        ) from cause
    if not model.graph.output:
        raise InputError(f"it is not an ONNX model: {len(program):,} bytes without a graph")
    return program
