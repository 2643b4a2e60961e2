"""Integers at the border of a delegate: it reads and writes inside the tensors that it is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg.errors import LoweringError
from qreg_xnnpack.compat import graph_of, program_of
from qreg_xnnpack.quantized_io import check_quantized_io

GUARD = 64


class Applied(nn.Module):
    """A function of two layers and an input."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Any:
        return self.function(x, *self.layers)


CASES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (Applied(lambda x, a: a(x), nn.Linear(7, 3)), (5, 7)),
    "depthwise": (Applied(lambda x, a: a(x), nn.Conv2d(5, 5, 3, groups=5)), (3, 5, 7, 3)),
    "moved after": (Applied(lambda x, a: a(x).transpose(1, 2), nn.Linear(5, 3)), (1, 7, 5)),
    "pooled": (
        Applied(lambda x, a: nn.functional.max_pool2d(a(x), 2), nn.Conv2d(3, 5, 2)),
        (1, 3, 8, 6),
    ),
    "joined": (
        Applied(lambda x, a, b: b(torch.cat([a(x), a(x)], 1)), nn.Linear(3, 3), nn.Linear(6, 1)),
        (1, 3),
    ),
    "flat": (
        Applied(lambda x, a, b: b(a(x).flatten(1)), nn.Conv2d(1, 3, 3), nn.Linear(27, 1)),
        (1, 1, 5, 5),
    ),
}


def made(model: nn.Module, shape: tuple[int, ...], **given: Any) -> Any:
    torch.manual_seed(1)
    data = [(torch.randn(shape),) for _ in range(2)]
    return qreg.quantize(
        model.eval(), data[0], calibration=data, progress=False, verify=False, **given
    )


@pytest.mark.parametrize("name", CASES)
def test_a_program_reads_and_writes_inside_its_tensors(name: str) -> None:
    model, shape = CASES[name]
    result, in_float = made(model, shape, io="int8"), made(model, shape)
    (x,), (output,) = result.signature.inputs, result.signature.outputs
    assert x.qparams is not None
    assert output.qparams is not None
    buffer = torch.randint(-128, 128, (2 * GUARD + math.prod(shape),), dtype=torch.int8)
    before = buffer.clone()
    inside = buffer[GUARD:-GUARD].view(shape)
    wanted = in_float.run(x.qparams.dequantized(inside))
    run = result.target.loader(result.program)
    for _ in range(3):
        (got,) = run([inside])
        assert torch.equal(output.qparams.dequantized(got), wanted)
        assert torch.equal(buffer, before)


@pytest.mark.parametrize(("field", "value"), [("datatype", "xnn_datatype_fp32"), ("dims", [5, 8])])
def test_a_delegate_with_another_type_or_size_of_a_tensor_is_refused(
    field: str, value: object
) -> None:
    result = made(*CASES["linear"], io="int8")
    program = program_of(result.program)
    plan, payload = program.execution_plan[0], program.backend_delegate_data[0].data
    graph = graph_of(bytes(payload))
    check_quantized_io(plan, [graph])
    (tensor,) = (
        each["xvalue_union"]["tensor_value"]
        for each in graph["xvalues"]
        if each["xvalue_union"].get("tensor_value", {}).get("external_id") == 0
    )
    tensor[field] = value
    with pytest.raises(LoweringError, match=r"a tensor of CHAR \[5, 7\] is .* past its end"):
        check_quantized_io(plan, [graph])
