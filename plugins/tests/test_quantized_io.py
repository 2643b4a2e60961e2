"""Programs that take and give integers, in each runtime: bit-equal to those in float."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg.errors import ConfigError

SHAPE = (1, 3, 9, 7)
BACKENDS = ("xnnpack", "onnxruntime", "openvino")


class Net(nn.Module):
    """Odd sizes in layouts that delegates change, with an output between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 7, 3), nn.Conv2d(7, 5, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = torch.relu(self.first(x))
        return {"hidden": hidden, "scores": self.second(hidden)}


def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def made(model: nn.Module, backend: str, shape: tuple[int, ...], **given: Any) -> Any:
    torch.manual_seed(1)
    data = [(torch.randn(shape),) for _ in range(3)]
    return qreg.quantize(
        model, data[0], backend=backend, calibration=data, progress=False, min_sqnr=0.0, **given
    )


def integers(info: Any, shape: tuple[int, ...]) -> Tensor:
    """Values of the whole range of a quantized tensor."""
    torch.manual_seed(2)
    qparams = info.qparams
    dtype = getattr(torch, info.dtype)
    return torch.randint(qparams.quant_min, qparams.quant_max + 1, shape).to(dtype)


def by_hand(info: Any, values: Tensor) -> Tensor:
    if info.qparams is None:
        return values
    assert str(values.dtype) == f"torch.{info.dtype}"
    return (values.float() - info.qparams.zero_point) * torch.tensor(info.qparams.scale)


@functools.cache
def in_integers(backend: str) -> Any:
    """The program of a backend, with all integers that it may have."""
    asked = "int8" if backend == "xnnpack" else {"x": "int8", "hidden": "int8"}
    return made(net(), backend, SHAPE, io=asked)


@pytest.mark.parametrize("backend", BACKENDS)
def test_integers_give_what_their_values_give_in_float(backend: str) -> None:
    result, in_float = in_integers(backend), made(net(), backend, SHAPE)
    (x,), outputs = result.signature.inputs, result.signature.outputs
    given = integers(x, SHAPE)
    got, wanted = result.run(given), in_float.run(by_hand(x, given))
    for info in outputs:
        assert torch.equal(by_hand(info, got[info.name]), wanted[info.name])
    assert outputs[0].qparams is not None
    assert result.counts == in_float.counts
    assert result.verification.to_float == in_float.verification.to_float


def test_onnx_models_have_the_qparams_in_their_metadata() -> None:
    import onnxruntime

    result = in_integers("onnxruntime")
    session = onnxruntime.InferenceSession(result.program, providers=["CPUExecutionProvider"])
    read = session.get_modelmeta().custom_metadata_map["qreg.quantized_io"]
    assert session.get_inputs()[0].type == "tensor(uint8)"
    check(json.loads(read), result, session.get_outputs()[0].name)


def test_openvino_models_have_the_qparams_in_their_runtime_information() -> None:
    import openvino

    from qreg_openvino.container import GRAPH, WEIGHTS, split

    result = in_integers("openvino")
    files = split(result.program)
    model = openvino.Core().read_model(files[GRAPH], files[WEIGHTS])
    read = model.get_rt_info(["qreg", "quantized_io"]).astype(str)
    check(json.loads(read), result, model.outputs[0].get_any_name())


def check(read: dict[str, Any], result: Any, output: str) -> None:
    (x,), (hidden, _) = result.signature.inputs, result.signature.outputs
    for found, info in ((read["inputs"]["x"], x), (read["outputs"][output], hidden)):
        known = found["scale"], found["zero_point"], found["dtype"]
        assert known == (info.qparams.scale, info.qparams.zero_point, info.dtype)


def test_pte_programs_have_the_qparams_in_constant_methods() -> None:
    from executorch.runtime import Runtime

    result = in_integers("xnnpack")
    program = Runtime.get().load_program(result.program)
    (x,), (_, scores) = result.signature.inputs, result.signature.outputs
    for name, info in (("x", x), ("output_1", scores)):
        scale, zero_point = (
            program.load_method(f"{name}_{part}").execute([])[0] for part in ("scale", "zero_point")
        )
        assert (scale, zero_point) == (info.qparams.scale, info.qparams.zero_point)
    interfaces = qreg.Registry().backend("xnnpack").value.interfaces
    assert list(interfaces(result.program)) == ["forward"]


def test_a_backend_whose_programs_take_float_tensors_refuses() -> None:
    with pytest.raises(ConfigError, match="take and give float tensors only"):
        made(nn.Linear(4, 4), "x86_inductor", (1, 4), io="int8")
