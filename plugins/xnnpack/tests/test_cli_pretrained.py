"""Pins which folders of transformers are models, and what is wrong with the others.

The page on models of transformers quantizes one: ``test_docs.py`` runs it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from qreg.cli.forms import DataOptions
from qreg.cli.inputs import read_inputs
from qreg.cli.models import beside
from qreg.errors import InputError

TASK = "text-classification"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a tokenizer."""
    folder = tmp_path_factory.mktemp("saved") / "bert-v1.5"
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / saved.name))


def read(folder: Path, task: str | None = TASK, data: Path | None = None, **given: Any) -> Any:
    form: Any = dict.fromkeys(DataOptions.__annotations__)
    form |= {"batch_size": 1, "hf": True, "task": task} | given
    return read_inputs(str(folder), str(data) if data else None, "--calibration", form)


@pytest.fixture
def batches(tmp_path: Path) -> Path:
    path = tmp_path / "batches.pt"
    torch.save([{"input_ids": torch.tensor([[3, 5, 7]])}], path)
    return path


def test_a_model_computes_what_it_did_when_it_was_saved(folder: Path, batches: Path) -> None:
    model: Any = read(folder, data=batches).model
    wanted = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    ids = torch.tensor([[3, 5, 7]])
    with torch.no_grad():
        assert torch.equal(model(ids).logits, wanted(ids).logits)
    assert not model.training


def test_a_program_has_the_name_of_the_folder(folder: Path) -> None:
    assert beside(str(folder), ".pte") == folder.parent / "bert-v1.5.pte"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (None, r"--hf: the task is missing \(expected one of .*text-classification"),
        ("text-clasification", r"there is no such task .* Did you mean 'text-classification'"),
        ("fill-mask", r"--task fill-mask: the weights in .* lack cls\.predictions\.bias, .* more"),
        ("image-classification", r"cannot be read for --task image-classification: Unrecognized"),
    ],
)
def test_a_task_that_does_not_fit_is_named(folder: Path, task: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(folder, task)


def test_a_task_alone_needs_the_folder(folder: Path) -> None:
    with pytest.raises(InputError, match=r"--task: it is only for a folder .* Pass --hf\."):
        read(folder, hf=False)


def test_weights_that_are_pickled_are_not_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin, are pickled.*expected safetensors"):
        read(folder)


def test_a_folder_without_a_whole_model_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is not a folder"):
        read(tmp_path / "missing")
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="it has an adapter"):
        read(folder)
    (folder / "adapter_config.json").unlink()
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match=f"cannot be read for --task {TASK}: "):
        read(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"it has no weights .*Save the model with"):
        read(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"it has no config\.json"):
        read(folder)


def test_code_in_the_folder_is_not_run(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "of-a-stranger", "auto_map": {"AutoConfig": "code.Config"}}
    config["auto_map"] |= {"AutoModelForSequenceClassification": "code.Model"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "code.py").write_text("raise SystemExit('it was run')", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        read(folder)


def test_a_folder_without_a_tokenizer_needs_another(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "lines.txt"
    text.write_text("a red fox\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"--tokenizer .*: it has no tokenizer \(expected "):
        read(folder, data=text, tokens=5)
