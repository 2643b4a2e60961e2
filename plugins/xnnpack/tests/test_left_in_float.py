"""What stays in float between two quantized operators: the program loads, and is right.

The delegate takes an operator between a dequantize and a quantize for an int8 one, whatever the
user said; where it needs equal parameters, upstream's program does not load or is silently wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from test_rows import Call
from torch import Tensor, nn
from torch.nn import functional as F

import qreg

LEFT: dict[str, Callable[[Tensor], Tensor]] = {
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "relu": lambda x: F.relu(F.max_pool2d(x, 2)),
    "hardtanh": lambda x: F.hardtanh(F.max_pool2d(x, 2)),
    "clamp": lambda x: F.max_pool2d(x, 2).clamp(min=0.1),
    "permute": lambda x: x.permute(0, 1, 3, 2),
    "transpose": lambda x: x.transpose(2, 3),
    "view": lambda x: x.view(1, 4, 4, 16),
    "flatten": lambda x: x.flatten(2).unsqueeze(-1),
    "slice": lambda x: x[:, :, 1:],
    "hardtanh of a narrow range": lambda x: F.hardtanh(x * 30, 0.01, 0.05),
    "clamp of a narrow range": lambda x: (x * 30).clamp(0.01, 0.05),
    "cat": lambda x: torch.cat([x * 3, x + 1], 2),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, 1),
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "add": lambda x: x + x.flip(0),
    "mul": lambda x: x * 3,
    "interpolate": lambda x: F.interpolate(x, scale_factor=2.0),
    "squeeze": lambda x: x.squeeze(0).unsqueeze(0),
    "pad": lambda x: F.pad(x, (1, 1), value=1.0),
    "clone": lambda x: x.clone(),
}


LEFT_OPERATORS = {
    "interpolate": ("upsample_nearest2d",),
    "clamp of a narrow range": ("hardtanh",),  # a clamp with two bounds becomes a hardtanh
    "squeeze": ("squeeze", "unsqueeze"),
}


def _name(target: object) -> str:
    return str(target).split(".")[1]


@pytest.mark.parametrize("name", LEFT)
def test_the_program_loads_and_agrees(name: str) -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
    module = Call(
        lambda self, x: self.second(LEFT[name](self.first(x))), first=first, second=second
    )
    batches = [(torch.randn(1, 4, 8, 8),) for _ in range(4)]
    quantizer = qreg.get_quantizer("xnnpack")
    operators = LEFT_OPERATORS.get(name, (name.split()[0],))
    quantizer.set_filter_function(lambda node: _name(node.target) not in operators)
    result = qreg.quantize(module, batches[0], calibration=batches, quantizer=quantizer)
    left = [each.status for each in result.decisions if _name(each.operator) in operators]
    assert set(left) == {"float"}
    assert result.counts["annotated"] >= 2
    assert result.verification.to_converted[0].sqnr > 40
