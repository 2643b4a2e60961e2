"""Folded models through the runtime: close to float, in int8, and without a defect."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from cases_folding import NORMS, Call, Together, parameter, standardized, with_statistics
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

import qreg

PLACES = (
    "a convolution that others read",
    "one convolution and two norms",
    "one convolution with a norm and without",
    "a linear that others read",
    "spectral norm",
    "grouped transposed conv2d",
    "transposed conv1d",
    "linear and norm without affine",
    "one bias and two linears",
    "a norm after relu",
    "a linear over three dimensions",
)


def quantized(cases: Sequence[tuple[nn.Module, Sequence[tuple[int, ...]]]]) -> qreg.Result:
    """The modules in one program, calibrated on random inputs of their shapes."""
    modules, shapes = zip(*cases, strict=True)
    together = Together(modules, [len(each) for each in shapes]).eval()
    torch.manual_seed(0)
    flat = [shape for each in shapes for shape in each]
    batches = [tuple(torch.randn(shape) for shape in flat) for _ in range(4)]
    return qreg.quantize(together, batches[0], calibration=batches, progress=False)


def worst(result: qreg.Result) -> float:
    assert result.verification is not None
    return min(each.sqnr for each in result.verification.to_float)


def test_norms_in_every_place_run_close_to_float() -> None:
    cases = [NORMS[name] for name in PLACES]
    result = quantized([(with_statistics(make()), shapes) for make, shapes, _ in cases])
    assert worst(result) >= 30
    assert result.audit is not None
    assert not result.audit.defects


def test_a_norm_of_each_batch_stays_in_float_with_the_reason() -> None:
    module = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, track_running_stats=False))
    result = quantized([(module, [(2, 4, 7, 7)])])
    assert [each.status for each in result.decisions] == ["annotated", "float"]
    assert "statistics of each batch" in result.decisions[1].reason
    assert worst(result) >= 30


def test_projections_of_attention_run_in_int8() -> None:
    """Cross attention, also with keys and values of another width, and a decoder layer."""
    torch.manual_seed(0)
    apart = nn.MultiheadAttention(16, 2, kdim=8, vdim=12, batch_first=True)
    result = quantized(
        [
            (
                Call(lambda m, q, k, v: m.a(q, k, v)[0], a=apart),
                [(2, 3, 16), (2, 5, 8), (2, 5, 12)],
            ),
            (
                nn.TransformerDecoderLayer(16, 2, 32, batch_first=True),
                [(2, 3, 16), (2, 5, 16)],
            ),
        ]
    )
    assert result.audit is not None
    assert not result.audit.defects
    linears = [each for each in result.decisions if each.operator == "aten.linear.default"]
    assert len(linears) == 11
    assert {each.status for each in linears} == {"annotated"}
    assert {result.audit.placements[each.node].place for each in linears} == {"int8"}
    assert worst(result) >= 30


def test_computed_weights_run_in_int8() -> None:
    torch.manual_seed(0)
    low_rank = Call(
        lambda m, x: F.linear(x, m.w + m.up @ m.down, m.b * 2),
        w=parameter(6, 8),
        up=parameter(6, 2),
        down=parameter(2, 8),
        b=parameter(6),
    )
    result = quantized(
        [
            (weight_norm(nn.Conv1d(4, 6, 3)), [(2, 4, 9)]),
            (
                Call(lambda m, x: F.conv2d(x, standardized(m.w)), w=parameter(4, 4, 3, 3)),
                [(1, 4, 8, 8)],
            ),
            (low_rank, [(3, 8)]),
        ]
    )
    assert [each.status for each in result.decisions] == ["annotated"] * 3
    assert result.audit is not None
    assert not result.audit.defects
    assert worst(result) >= 30


def test_the_float_program_of_a_model_has_its_weights_folded() -> None:
    x = torch.randn(1, 8)
    plain, normed = nn.Linear(8, 64), weight_norm(nn.Linear(8, 64))
    sizes = [len(qreg.lower(each.eval(), (x,)).program) for each in (plain, normed)]
    assert sizes[0] == sizes[1]
