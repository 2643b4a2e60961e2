"""Quantization-aware training: batch norm folds, the loss falls, the program runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.nn import functional as F
from torchao.quantization.pt2e import move_exported_model_to_train
from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

import qreg

PATH = Path(__file__).parents[3] / "examples" / "digits" / "digits.py"


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Run:
    """A digits model that was trained for a moment, then fine-tuned with fake quantization."""

    def __init__(self, digits: ModuleType) -> None:
        self.train, self.test, self.train_labels, self.test_labels = digits.digits()
        self.model = digits.train_model(self.train, self.train_labels, epochs=3)
        self.after_training = self.program_accuracy(self.quantized().program)
        self.quantizer = qreg.get_quantizer("xnnpack", "int8_qat_per_channel")
        self.converted, self.losses = self._fine_tuned()

    def quantized(self) -> qreg.Result:
        batches = [(image.unsqueeze(0),) for image in self.train[:64]]
        return qreg.quantize(self.model, batches[0], calibration=batches)

    def _fine_tuned(self) -> tuple[GraphModule, list[float]]:
        batch = {0: torch.export.Dim("batch", min=2)}
        exported = torch.export.export(
            self.model.train(), (self.train[:2],), dynamic_shapes=(batch,)
        )
        prepared = prepare_qat_pt2e(exported.module(), self.quantizer)
        move_exported_model_to_train(prepared)
        optimizer = torch.optim.Adam(prepared.parameters(), 1e-3)
        losses = []
        whole = len(self.train) // 64 * 64  # the loss of the few images left over is noise
        for chosen in torch.randperm(len(self.train))[:whole].split(64):
            loss = F.cross_entropy(prepared(self.train[chosen]), self.train_labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return qreg.convert(prepared), losses

    def _hits(self, scores: list[Tensor]) -> float:
        predicted = torch.stack([score.argmax() for score in scores])
        return float((predicted == self.test_labels).float().mean())

    def program_accuracy(self, program: bytes) -> float:
        run = qreg.plugins.registry.installed().backend("xnnpack").value.load(program)
        return self._hits([run([image.unsqueeze(0)])[0] for image in self.test])


@pytest.fixture(scope="module")
def run(digits: ModuleType) -> Run:
    return Run(digits)


def test_batch_norm_and_relu_are_a_part_of_each_convolution(run: Run) -> None:
    annotators = [decision.annotator for decision in run.quantizer.decisions]
    assert annotators.count("conv_bn_relu") == 9
    assert not [n for n in run.converted.graph.nodes if "batch_norm" in str(n.target)]


def test_training_lowers_the_loss(run: Run) -> None:
    assert sum(run.losses[-5:]) < sum(run.losses[:5])


def test_the_program_is_no_worse_than_after_training_but_for_noise(run: Run) -> None:
    """450 images at 97 %: one standard deviation is 0.8 points, so 2 points are noise."""
    lowered = qreg.lower(run.converted, (run.test[:1],))
    assert (lowered.delegates, lowered.outside) == (1, ())
    assert {part.int8 for part in lowered.operators} == {True}
    assert run.program_accuracy(lowered.program) > run.after_training - 0.02


def test_quantize_refuses_a_qat_config_and_names_the_way(run: Run) -> None:
    with pytest.raises(qreg.errors.ConfigError, match="prepare_qat_pt2e"):
        qreg.quantize(run.model, (run.test[:1],), config="int8_qat_per_channel", calibration=[])
