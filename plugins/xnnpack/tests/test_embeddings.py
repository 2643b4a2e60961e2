"""Embeddings in 8, 4 and 2 bits: values against a lookup by hand, bytes, and what is rejected."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg.configs.factory import Codes
from qreg.configs.weights import weight_config
from qreg.errors import PrecisionWarning
from qreg_xnnpack.embeddings import pack

ROWS, COLUMNS = 500, 64
torch.manual_seed(0)
IDS = torch.randint(1, ROWS, (2, 5))
CONFIGS: dict[int, Any] = {
    8: "int8_weight_per_channel",
    4: "int4_weight_per_channel",
    2: weight_config(Codes("int8", -2, 1)),
}
REACH = {8: 127.0, 4: 7.5, 2: 1.5}  # the largest magnitude of a row, in steps


class Lookups(nn.Module):
    """Two lookups in one table, one of them with int32 ids and a padding row."""

    def __init__(self, columns: int = COLUMNS) -> None:
        super().__init__()
        self.table = nn.Embedding(ROWS, columns)
        self.padded = nn.Embedding(ROWS, columns, padding_idx=0)

    def forward(self, ids: Tensor, short: Tensor) -> tuple[Tensor, Tensor]:
        return self.table(ids), self.padded(short)


class Tied(nn.Module):
    """A table that is the head too."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(ROWS, COLUMNS), nn.Linear(COLUMNS, ROWS, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids))


def quantize(model: nn.Module, *inputs: Tensor, **options: Any) -> qreg.Result:
    return qreg.quantize(model.eval(), inputs, progress=False, **options)


def rounded(table: Tensor, bits: int) -> Tensor:
    """Quantize and dequantize each row by its largest magnitude."""
    step = table.abs().amax(1, keepdim=True) / REACH[bits]
    low, high = (-127, 127) if bits == 8 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (table * (1 / step.clamp(min=2**-23))).round().clamp(low, high) * step


def rounded_from_minus_8(table: Tensor) -> Tensor:
    """Quantize and dequantize each row in 4 bits, so that its largest magnitude is -8."""
    step = table.gather(1, table.abs().argmax(1, keepdim=True)) / -8
    return (table * (1 / step)).round().clamp(-8, 7) * step


def sqnr(found: Tensor, wanted: Tensor) -> float:
    noise = (found - wanted).square().mean()
    return float(10 * torch.log10(wanted.square().mean() / noise))


@pytest.fixture(scope="module", params=[8, 4, 2])
def lookups(request: pytest.FixtureRequest) -> tuple[int, Lookups, qreg.Result]:
    torch.manual_seed(0)
    model, bits = Lookups(), request.param
    return bits, model, quantize(model, IDS, IDS.int(), config=CONFIGS[bits], min_sqnr=5)


def test_the_program_looks_up_what_a_lookup_by_hand_does(
    lookups: tuple[int, Lookups, qreg.Result],
) -> None:
    bits, model, result = lookups
    ids = torch.tensor([[0, ROWS - 1, 1, 2, 3], [4, 4, 5, 0, 7]])
    found, padded = result.run(ids, ids.int())
    torch.testing.assert_close(found, rounded(model.table.weight.detach(), bits)[ids])
    torch.testing.assert_close(padded, rounded(model.padded.weight.detach(), bits)[ids])
    assert padded[0, 0].abs().max() == 0
    for mine, converted in zip((found, padded), result.converted(ids, ids.int()), strict=True):
        torch.testing.assert_close(mine, converted)


def test_a_bit_less_costs_six_decibels(lookups: tuple[int, Lookups, qreg.Result]) -> None:
    # Uniform noise within a step: rows of 64 normal values reach about 2.4 standard deviations.
    bits, model, result = lookups
    found = result.run(IDS, IDS.int())[0]
    step = 2.4 / REACH[bits]
    expected = -10 * torch.log10(torch.tensor(step**2 / 12)).item()
    assert sqnr(found, model.table.weight.detach()[IDS]) == pytest.approx(expected, abs=2)


def test_a_table_occupies_its_bits_and_a_scale_for_each_row(
    lookups: tuple[int, Lookups, qreg.Result],
) -> None:
    bits, _, result = lookups
    table = ROWS * COLUMNS * bits // 8 + ROWS * 4
    assert 2 * table <= len(result.program) < 2 * table + 4096


def test_the_report_has_the_bits_of_the_table(
    lookups: tuple[int, Lookups, qreg.Result],
) -> None:
    bits, _, result = lookups
    row, _ = result.report.operators
    name = {8: "embedding_byte", 4: "embedding_4bit", 2: "embedding_2bit"}[bits]
    assert (row.place, row.types) == ("int8", f"int{bits}, int64 -> float32")
    assert name in str(row.lowered_as)
    assert not result.audit.defects


@pytest.mark.parametrize("bits", [8, 4])
def test_groups_have_separate_scales(bits: int) -> None:
    torch.manual_seed(0)
    model = Lookups()
    result = quantize(model, IDS, IDS.int(), config=f"int{bits}_weight_groupwise")
    table = model.table.weight.detach()
    parts = table.reshape(-1, 32)
    groups = (rounded(parts, 8) if bits == 8 else rounded_from_minus_8(parts)).reshape(table.shape)
    found, _ = result.run(IDS, IDS.int())
    torch.testing.assert_close(found, groups[IDS])
    torch.testing.assert_close(found, result.converted(IDS, IDS.int())[0])
    stored = ROWS * COLUMNS * bits // 8 + ROWS * COLUMNS // 32 * 4
    assert 2 * stored <= len(result.program) < 2 * stored + 4096
    by_row = rounded(table, bits)[IDS]
    assert sqnr(found, table[IDS]) > sqnr(by_row, table[IDS])


@pytest.mark.parametrize("config", ["int8_weight_per_channel", "int4_weight_per_channel"])
def test_a_tied_head_is_quantized_apart_from_the_table(config: str) -> None:
    torch.manual_seed(0)
    quantizer = qreg.get_quantizer("xnnpack", "int8_dynamic_per_channel")
    quantizer.set_module_type(nn.Embedding, config)
    model = Tied()
    result = quantize(model, IDS, quantizer=quantizer)
    assert [each.config for each in result.decisions] == [config, "int8_dynamic_per_channel"]
    hidden = rounded(model.table.weight.detach(), 8 if "int8" in config else 4)[IDS]
    wanted = hidden @ rounded(model.head.weight.detach(), 8).T
    assert sqnr(result.run(IDS), wanted) > 30


def test_weights_alone_need_no_calibration_and_leave_the_rest_in_float() -> None:
    model = nn.Sequential(nn.Embedding(ROWS, COLUMNS), nn.Linear(COLUMNS, 8))
    result = quantize(model, IDS, config="int8_weight_per_channel")
    assert [each.quantized for each in result.decisions] == [True, False]
    assert "does not quantize activations" in result.decisions[1].reason
    assert result.verification.to_float[0].sqnr > 40


def reason(table: nn.Module, config: Any) -> str:
    """Return why a table stays in float."""
    quantizer = qreg.get_quantizer("xnnpack", config, allow_float=True)
    explanation = qreg.explain(table, (IDS,), quantizer=quantizer, progress=False)
    row = explanation.operators[-1]
    assert row.operator == "aten.embedding.default"
    return str(row.reason)


def test_other_configs_leave_a_table_in_float_with_the_reason() -> None:
    given = reason(nn.Embedding(ROWS, COLUMNS), "int8_dynamic_per_channel")
    assert given == "embedding is quantized in weight mode, int8_dynamic_per_channel is dynamic"


@pytest.mark.parametrize(
    ("columns", "config", "why"),
    [
        (7, CONFIGS[4], "rows of 7 values in 4 bits: ExecuTorch requires rows of whole bytes"),
        (6, CONFIGS[2], "rows of 6 values in 2 bits: ExecuTorch requires rows of whole bytes"),
        (8, weight_config(per_channel=False), "a table with one scale"),
        (40, "int4_weight_groupwise", "its 40 columns are not a multiple of the group size 32"),
    ],
)
def test_what_the_operator_does_not_support_is_a_reason(
    columns: int, config: Any, why: str
) -> None:
    assert reason(nn.Embedding(ROWS, columns), config).startswith(why)


def test_a_table_in_half_precision_is_quantized_from_float32() -> None:
    with pytest.warns(PrecisionWarning, match="the model is in float16"):
        assert reason(nn.Embedding(ROWS, 8).half(), CONFIGS[8]).startswith(CONFIGS[8])


def test_a_table_that_the_model_renormalizes_stays_in_float() -> None:
    assert "which the model changes" in reason(nn.Embedding(ROWS, 8, max_norm=1.0), CONFIGS[8])


def test_values_are_packed_as_executorch_unpacks_them() -> None:
    import executorch.exir.passes._quant_patterns_and_replacements  # noqa: F401

    lookups = torch.ops.quantized_decomposed
    for bits, lookup in ((4, lookups.embedding_4bit), (2, lookups.embedding_2bit)):
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        values = torch.randint(low, high + 1, (6, 16), dtype=torch.int8)
        table = lookup.default(pack(values, bits), torch.ones(6), None, low, high, torch.arange(6))
        assert table.tolist() == values.float().tolist()
