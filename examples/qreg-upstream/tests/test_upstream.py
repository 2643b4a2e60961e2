"""The wrapped quantizer annotates what it would alone, within qreg's scopes, and is audited."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
    XNNPACKQuantizer,
    get_symmetric_quantization_config,
)
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

import qreg
from qreg import Registry
from qreg.graph.compat import annotation_of
from qreg.testing import PluginConformance, Sample


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x) + x)


BATCHES = [(torch.randn(4, 16),) for _ in range(4)]


def annotated(quantizer: Any) -> set[str]:
    graph: GraphModule = torch.export.export(Net().eval(), BATCHES[0]).module(check_guards=False)
    quantizer.annotate(quantizer.transform_for_annotation(graph))
    return {node.name for node in graph.graph.nodes if annotation_of(node)}


def test_it_annotates_what_the_wrapped_quantizer_does() -> None:
    alone = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    wanted = annotated(alone)
    assert {"linear", "relu", "linear_1", "add", "linear_2"} <= wanted
    assert annotated(qreg.get_quantizer("xnnpack-upstream")) == wanted


def test_scopes_are_kept() -> None:
    quantizer = qreg.get_quantizer("xnnpack-upstream").set_module_name("head", None)
    assert "linear_2" not in annotated(quantizer)
    decisions = {each.node: each for each in quantizer.decisions}
    assert decisions["linear_2"].reason == "name 'head' keeps it in float"
    assert decisions["linear"].annotator == "XNNPACKQuantizer"
    assert decisions["linear"].distribution == "qreg-upstream"


def test_the_program_runs_and_is_audited() -> None:
    result = qreg.quantize(
        Net().eval(), BATCHES[0], backend="xnnpack-upstream", calibration=BATCHES, progress=False
    )
    assert result.verification is not None
    assert result.verification.to_converted[0].sqnr > 35
    assert result.audit is not None
    assert result.audit.defects == ()
    assert result.lowered.delegates == 1


def test_an_annotator_of_another_distribution_goes_first() -> None:
    class Third:
        @qreg.hookimpl
        def qreg_annotators(self, backend: str) -> Any:
            if backend == "xnnpack-upstream":
                yield qreg.Annotator("mine", ["aten.add.Tensor"], qreg.patterns.operands(0, 1))

    quantizer = qreg.get_quantizer("xnnpack-upstream", registry=Registry({"third": Third()}))
    annotated(quantizer)
    by = {each.node: each.annotator for each in quantizer.decisions}
    assert (by["add"], by["linear"]) == ("mine", "XNNPACKQuantizer")


SAMPLE = Sample(Net().eval(), BATCHES[0])


class TestUpstream(PluginConformance):
    plugin = "upstream"
    backend = "xnnpack-upstream"
    samples: ClassVar = {"xnnpack-upstream": SAMPLE, "static_per_channel": SAMPLE}


@pytest.mark.parametrize("batches", [1, 4])
def test_the_converted_model_is_that_of_the_wrapped_quantizer(batches: int) -> None:
    config = get_symmetric_quantization_config(is_per_channel=True)
    outputs = []
    for quantizer in (
        XNNPACKQuantizer().set_global(config),
        qreg.get_quantizer("xnnpack-upstream", config),
    ):
        exported = torch.export.export(Net().eval(), BATCHES[0]).module(check_guards=False)
        prepared = prepare_pt2e(exported, quantizer)
        for batch in BATCHES[:batches]:
            prepared(*batch)
        outputs.append(qreg.convert(prepared)(*BATCHES[0]))
    assert torch.equal(*outputs)
