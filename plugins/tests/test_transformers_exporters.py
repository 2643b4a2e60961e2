"""The exporters of transformers accept quantizers of qreg; their programs are close to float."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
import torch

import qreg
from qreg.plugins.registry import installed
from qreg.verification.metrics import compare

transformers = pytest.importorskip("transformers")
exporters = pytest.importorskip("transformers.exporters")

CASES = [("Dynamo", "xnnpack"), ("Executorch", "xnnpack")]
CASES += [("Onnx", "onnxruntime"), ("Onnx", "openvino"), ("OpenVINO", "openvino")]


def model() -> Any:
    config = transformers.BertConfig(
        vocab_size=99,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.3,
    )
    return transformers.BertForSequenceClassification(config).eval()


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 99, (1, 8))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.sweep
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_exporter_of_qreg_gives_the_program_of_quantize(backend: str) -> None:
    if backend not in installed().backends():
        pytest.skip(f"{backend} is not installed")
    from qreg.exporters import QregConfig, QregExporter

    torch.manual_seed(0)
    float_model, batches = model(), [batch() for _ in range(4)]
    wrapped = exporters.PT2EQuantizer(qreg.get_quantizer(backend), batches)
    exported = QregExporter().export(float_model, dict(batches[0]), QregConfig(quantizer=wrapped))
    direct = qreg.quantize(float_model, batches[0], calibration=batches, backend=backend)
    assert exported.program.program == direct.program
    assert torch.equal(exported(**batches[1]).logits, direct.run(batches[1]).logits)


@pytest.mark.sweep
@pytest.mark.parametrize(("form", "backend"), CASES)
def test_an_exporter_quantizes_with_the_quantizer_of_a_backend(form: str, backend: str) -> None:
    if backend not in installed().backends():
        pytest.skip(f"{backend} is not installed")
    if form == "OpenVINO" and version("openvino") < "2026":
        pytest.skip("transformers needs openvino 2026")
    torch.manual_seed(0)
    exporter = getattr(exporters, f"{form}Exporter")()
    float_model, batches = model(), [batch() for _ in range(4)]
    quantizer = qreg.get_quantizer(backend)
    wrapped = exporters.PT2EQuantizer(quantizer, calibration_dataset=batches)
    config = exporter.config_class(quantizer=wrapped)
    exported = exporter.export(float_model, batches[0], config=config)
    statuses = {each.operator: each.status for each in quantizer.decisions}
    assert statuses["aten.linear.default"] == "annotated"
    with torch.no_grad():
        wanted = float_model(**batches[1]).logits
    found = compare(wanted, exported(**batches[1]).logits)
    assert 15 < found.sqnr < 80  # it is neither far from float, nor float itself
