"""The exporter for transformers gives the program of ``qreg.quantize``, in transformers' form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import qreg
from qreg.errors import BundleError, ConfigError
from qreg.verification.metrics import compare

transformers = pytest.importorskip("transformers")
exporters = pytest.importorskip("transformers.exporters")

from qreg.exporters import QregConfig, QregExporter  # noqa: E402


def resnet() -> Any:
    """A small ResNet, with batch norms that change their inputs."""
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    config = transformers.ResNetConfig(**sizes, layer_type="basic", num_labels=3)
    model = transformers.ResNetForImageClassification(config).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    return model


def asked(batches: list[Any], **arguments: Any) -> QregConfig:
    quantizer = exporters.PT2EQuantizer(qreg.get_quantizer("xnnpack"), batches)
    return QregConfig(quantizer=quantizer, arguments=arguments)


@pytest.fixture(scope="module")
def case() -> tuple[Any, list[dict[str, torch.Tensor]], Any]:
    model = resnet()
    batches = [{"pixel_values": torch.randn(1, 3, 16, 16)} for _ in range(4)]
    exported = QregExporter().export(model, dict(batches[0]), asked(batches, min_sqnr=12.0))
    return model, batches, exported


def test_the_program_is_that_of_quantize(case: Any) -> None:
    model, batches, exported = case
    direct = qreg.quantize(model, batches[0], calibration=batches, min_sqnr=12.0)
    assert exported.program.program == direct.program
    assert exported.program.verification.min_sqnr == 12
    assert not any("norm" in each.operator for each in exported.program.decisions)  # folded
    found, wanted = exported(**batches[1]), model(**batches[1])
    assert type(found) is type(wanted)
    assert compare(wanted.logits.detach(), found.logits).sqnr > 20


def test_a_saved_export_is_a_bundle_that_runs_and_verifies(case: Any, tmp_path: Path) -> None:
    model, batches, exported = case
    exported.save_pretrained(tmp_path / "one")
    read = exporters.base.ExportedModel.from_pretrained(tmp_path / "one", trust_remote_code=True)
    found, wanted = read(**batches[1]), exported(**batches[1])
    assert type(found) is type(wanted)
    assert torch.equal(found.logits, wanted.logits)
    (checked,), (before,) = read.program.verify().to_float, exported.program.verification.to_float
    assert checked.sqnr == pytest.approx(before.sqnr, abs=0.01)
    assert read.config.model_type == model.config.model_type
    read.save_pretrained(tmp_path / "other")
    files = [tmp_path / name / "model.qreg" for name in ("one", "other")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_file_of_another_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.qreg").write_text("not an archive", encoding="utf-8")
    with pytest.raises(BundleError, match="not an archive of a bundle"):
        QregExporter.load_program(tmp_path / "model.qreg")


def test_a_quantizer_of_another_library_is_an_error() -> None:
    with pytest.raises(ConfigError, match="NoneType is not one of qreg"):
        QregConfig()
    with pytest.raises(ConfigError, match="str is not one of qreg"):
        QregConfig(quantizer=exporters.PT2EQuantizer("xnnpack"))


@pytest.mark.sweep
@pytest.mark.parametrize("dynamic", [False, True])
def test_the_components_of_a_generative_model_are_quantized_on_their_own_inputs(
    *, dynamic: bool
) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 99, "n_embd": 32, "n_layer": 1, "n_head": 2, "initializer_range": 0.3}
    config = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    ids = [torch.randint(3, 99, (1, 8)) for _ in range(4)]
    batches = [{"input_ids": each, "attention_mask": torch.ones_like(each)} for each in ids]
    model = transformers.GPT2LMHeadModel(config).eval()
    given = replace(asked(batches), dynamic=dynamic)
    exported = QregExporter().export_for_generation(model, dict(batches[0]), given)
    assert list(exported.components) == ["prefill", "decode"]
    for each in exported.components.values():
        assert each.program.verification.to_float[0].sqnr > 20
    if dynamic:
        found = exported.runners["prefill"](
            input_ids=ids[0][:, :5], position_ids=torch.arange(5)[None]
        )
        wanted = model(ids[0][:, :5]).logits
        assert compare(wanted.detach(), found.logits).sqnr > 20
