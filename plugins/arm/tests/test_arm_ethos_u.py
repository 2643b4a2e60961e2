"""Programs for Ethos-U are compiled by vela, read back, and never said to have run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from qreg.errors import InputError
from qreg_arm.targets import ETHOS_U

ROW = (3, 16)
NPUS = [target.name for target in ETHOS_U]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))


@pytest.mark.parametrize("backend", NPUS)
def test_it_compiles_and_is_not_said_to_have_run(backend: str, quantized: Any, capfd: Any) -> None:
    result = quantized(net(), ROW, backend=backend)
    assert capfd.readouterr() == ("", "")
    assert result.program[4:8] == b"ET12"
    assert b"EthosUBackend" in result.program
    assert result.verification is None
    assert "not run here" in str(result.report)
    assert "verified" not in str(result.report)
    assert {each.place for each in result.audit.placements.values()} == {"int8"}
    assert [name.rsplit(".")[1] for name in result.lowered.outside] == [
        "quantize_per_tensor",
        "dequantize_per_tensor",
    ]


def test_what_the_npu_lacks_is_listed(quantized: Any, call: Any) -> None:
    module = call(lambda m, x: torch.sort(m.linear(x)).values, linear=nn.Linear(16, 8))
    result = quantized(module, ROW, backend="ethos_u55")
    assert "aten.sort.default" in " ".join(result.lowered.outside)
    places = {each.node: each.place for each in result.audit.placements.values()}
    assert (places["linear"], places["sort"]) == ("int8", "outside")


def test_the_size_of_the_npu_is_an_option(quantized: Any) -> None:
    small = quantized(net(), ROW, backend="ethos_u55", options={"macs": 32})
    large = quantized(net(), ROW, backend="ethos_u55", options={"macs": 256})
    assert small.program != large.program


def test_a_size_that_there_is_none_of_is_refused(quantized: Any) -> None:
    with pytest.raises(InputError, match=r"macs is 100 \(expected 32 or 64 or 128 or 256\)"):
        quantized(net(), ROW, backend="ethos_u55", options={"macs": 100})
