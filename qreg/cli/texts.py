"""Batches from the lines of a text, made by a tokenizer of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qreg.backends.packages import TRANSFORMERS, needed
from qreg.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

SAVE = "Save the tokenizer with tokenizer.save_pretrained(folder)."


def read_texts(path: Path, tokenizer: Path, tokens: int) -> Iterator[dict[str, Tensor]]:
    """Yield the inputs of the tokenizer for each line that is not empty, of shape (tokens,).

    Lines are cut and padded to that many tokens. The tokenizer is a local folder; nothing is
    downloaded, and no code in the folder is run.

    Raises ``InputError`` for a tokenizer that cannot be read, and for a text without lines.
    """
    transformers = needed("transformers", TRANSFORMERS, "a text for calibration")
    if not tokenizer.is_dir():
        raise InputError(
            f"--tokenizer {tokenizer}: it is not a folder (expected a tokenizer's). {SAVE}"
        )
    try:
        made = transformers.AutoTokenizer.from_pretrained(
            str(tokenizer), local_files_only=True, trust_remote_code=False
        )
    except Exception as cause:  # files that are missing or damaged fail in many ways
        raise InputError(f"--tokenizer {tokenizer}: it cannot be read: {cause}") from cause
    _check_files(made, tokenizer)
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as cause:
        raise InputError(f"{path} is not a text in UTF-8: {cause}") from cause
    if not lines:
        raise InputError(
            f"{path}: it has no lines of text (expected one for each sample). Add some."
        )
    if made.pad_token is None:
        made.pad_token = made.eos_token  # as decoders are padded, which have no token for it
    options = {"padding": "max_length", "truncation": True, "max_length": tokens}
    for line in lines:
        found = made(line, return_tensors="pt", **options)
        yield {name: value[0] for name, value in found.items()}


def _check_files(tokenizer: Any, folder: Path) -> None:
    """Raise ``InputError`` for a tokenizer without files, which transformers makes from a config.

    Every word is unknown to such a tokenizer.
    """
    names = list(dict.fromkeys(tokenizer.vocab_files_names.values()))
    if names and not any((folder / name).is_file() for name in names):
        raise InputError(
            f"--tokenizer {folder}: it has no tokenizer (expected {' or '.join(names)}). {SAVE}"
        )
