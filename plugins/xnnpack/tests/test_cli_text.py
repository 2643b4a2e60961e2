"""Pins that a text with a tokenizer calibrates a model, as transformers reads both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qreg.cli.data import read_data
from qreg.cli.forms import DataOptions
from qreg.cli.inputs import read_inputs
from qreg.errors import InputError

TEXT = "a red fox\n\nthe fox is red and the hen is not\n"


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.fc = nn.Embedding(16, 8), nn.Linear(8, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.fc(self.embedding(input_ids) * attention_mask.unsqueeze(-1))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of whole words, which pads with 0 and makes ids of types too."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "a", "red", "fox", "the", "is", "and", "hen", "not"]
    vocabulary = {word: number for number, word in enumerate(words)}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("tokenizer")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def read(text: Path, **given: Any) -> list[Any]:
    plain: Any = dict.fromkeys(DataOptions.__annotations__) | {"batch_size": 1}
    takes = {"input_ids", "attention_mask"}
    return list(read_data(str(text), "--calibration", plain | given, takes))


def test_lines_are_samples_of_one_length(tokenizer: Path, text: Path) -> None:
    (batch,) = read(text, tokenizer=tokenizer, tokens=5, batch_size=2)
    assert batch["input_ids"].tolist() == [[2, 3, 4, 0, 0], [5, 4, 6, 3, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert set(batch) == {"input_ids", "attention_mask"}


def test_a_batch_has_the_inputs_of_the_model_alone(
    tokenizer: Path, text: Path, tmp_path: Path
) -> None:
    given: Any = dict.fromkeys(DataOptions.__annotations__) | {"batch_size": 1}
    given |= {"tokenizer": tokenizer, "tokens": 5}
    example = tuple(read(text, tokenizer=tokenizer, tokens=5)[0].values())
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(Encoder().eval(), example), path)
    inputs = read_inputs(str(path), str(text), "--calibration", given)
    batches = list(inputs.required)
    assert [set(each) for each in batches] == [{"input_ids", "attention_mask"}] * 2
    with torch.no_grad():
        assert inputs.model.module()(*batches[1].values()).shape == (1, 5, 4)  # type: ignore[union-attr,operator]


def test_a_folder_without_a_tokenizer_is_named(text: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--tokenizer .*: it cannot be read: "):
        read(text, tokenizer=tmp_path, tokens=5)
    with pytest.raises(InputError, match=r"--tokenizer .*: it is not a folder"):
        read(text, tokenizer=tmp_path / "missing", tokens=5)


def test_a_text_without_lines_is_named(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n", encoding="utf-8")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"empty\.txt: it has no lines of text"):
        read(tmp_path / "empty.txt", tokenizer=tokenizer, tokens=5)
    with pytest.raises(InputError, match=r"bytes\.txt is not a text in UTF-8"):
        read(tmp_path / "bytes.txt", tokenizer=tokenizer, tokens=5)
