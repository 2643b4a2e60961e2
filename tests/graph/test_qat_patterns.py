"""Few patterns of QAT are exported, and the graphs are those of torchao."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import GraphModule
from torch.nn import functional as F
from torchao.quantization.pt2e import move_exported_model_to_eval, qat_utils
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
from torchao.testing.pt2e._xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)

from qreg.graph.compat import EXPORT, FOLD
from qreg.graph.qat_patterns import folding_where_qat_scaled, fusing_present_convolutions

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
# Their batch norms are in no pattern of QAT, and not folded into a convolution.
MODELS = {
    "batch norm": nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()),
    "convolution": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)),
}
QAT = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))


def prepared(model: nn.Module, *, qat: bool, per_channel: bool = False) -> GraphModule:
    torch.manual_seed(0)
    model = copy.deepcopy(model).train(qat)  # what is prepared for QAT counts on in its statistics
    graph = torch.export.export(model, (IMAGES,)).module(check_guards=False)
    config = get_symmetric_quantization_config(is_qat=qat, is_per_channel=per_channel)
    prepare = prepare_qat_pt2e if qat else prepare_pt2e
    ready = prepare(graph, XNNPACKQuantizer().set_global(config))
    ready(IMAGES)
    return ready


def described(graph_module: GraphModule) -> list[tuple[str, ...]]:
    return [(n.name, n.op, str(n.target), str(n.args)) for n in graph_module.graph.nodes]


@pytest.fixture
def folds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of convolution that torchao looks for; here it finds those in 2d only."""
    found: list[str] = []
    fold = getattr(qat_utils, FOLD)

    def noted(graph_module: GraphModule, conv: Any, *others: Any, **named: Any) -> GraphModule:
        found.append(conv.__name__)
        return fold(graph_module, conv, *others, **named) if conv is F.conv2d else graph_module

    monkeypatch.setattr(qat_utils, FOLD, noted)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_nothing_of_qat_is_looked_for_in_a_model_without_it(name: str, folds: list[str]) -> None:
    wanted = convert_pt2e(prepared(MODELS[name], qat=False))
    assert len(folds) == 4, "torchao looks for each kind, be the model from QAT or not"
    folds.clear()
    with folding_where_qat_scaled():
        found = convert_pt2e(prepared(MODELS[name], qat=False))
    assert folds == []
    assert described(found) == described(wanted)
    assert torch.equal(found(IMAGES), wanted(IMAGES))


def test_a_convolution_of_qat_is_folded_as_torchao_folds_it(folds: list[str]) -> None:
    wanted = convert_pt2e(prepared(QAT, qat=True))
    folds.clear()
    with folding_where_qat_scaled():
        found = convert_pt2e(prepared(QAT, qat=True))
    assert folds == ["conv2d"]
    assert "batch_norm" not in found.code
    assert described(found) == described(wanted)
    assert torch.equal(found(IMAGES), wanted(IMAGES))


TRAINED = {
    "without bias": (nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)),
    "with bias": (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
    "both": (
        *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4)),
    ),
}


@pytest.mark.parametrize("per_channel", [True, False], ids=["per channel", "per tensor"])
@pytest.mark.parametrize("evaluated", [True, False], ids=["in evaluation", "in training"])
@pytest.mark.parametrize("name", TRAINED)
def test_few_patterns_of_qat_are_exported_and_the_graph_is_torchaos(
    name: str,
    evaluated: bool,
    per_channel: bool,
    folds: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exports: list[object] = []

    def noted(*arguments: Any, **options: Any) -> Any:
        exports.append(arguments)
        return export(*arguments, **options)

    export = getattr(qat_utils, EXPORT)
    monkeypatch.setattr(qat_utils, EXPORT, noted)
    model, found = nn.Sequential(*TRAINED[name]), []
    for fuse, fold in (
        (nullcontext, nullcontext),
        (fusing_present_convolutions, folding_where_qat_scaled),
    ):
        exports.clear()
        with fuse():
            ready = prepared(model, qat=True, per_channel=per_channel)
        if evaluated:
            move_exported_model_to_eval(ready)
        with fold():
            found.append(convert_pt2e(ready))
    kinds = 2 if name == "both" else 1
    assert len(exports) == 3 + 2 * kinds, "three to insert scales, a pair to fold each kind"
    assert folds
    assert "batch_norm" not in found[0].code
    assert described(found[1]) == described(found[0])
    assert torch.equal(found[1](IMAGES), found[0](IMAGES))
