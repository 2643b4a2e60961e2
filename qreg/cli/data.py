"""The batches of a command: files of tensors, images or text, or what code makes."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qreg.cli.code import called, found, is_code, raised
from qreg.cli.forms import DataOptions, check_form, numbers, positive
from qreg.errors import InputError, QregError
from qreg.utils.wording import a_type

if TYPE_CHECKING:
    from torch import Tensor

Sample = Mapping[str, Any] | tuple[Any, ...]


@frozen
class Batches(Iterable[Any]):
    """Batches that are made anew for each pass over them."""

    subject: str
    make: Callable[[], Iterable[Any]]

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self.make()
        except QregError:
            raise
        except Exception as cause:  # raised by a user's code
            raise raised(cause, self.subject) from cause


def data_file(text: str | None) -> Path | None:
    """Return the file or folder that a command names as its data, or None for code."""
    return None if text is None or is_code(text) else Path(text)


def read_data(
    text: str, option: str, given: DataOptions, takes: Container[str] | None = None
) -> Iterable[Any]:
    """Return the batches of that name, after reading the first one.

    ``takes`` are the names of the model's inputs, for a text whose tokenizer makes more than these.

    Raises ``InputError`` for data that cannot be read, and for options that do not belong to it.
    """
    subject = f"{option} {text!r}"
    path = data_file(text)
    if path is not None and not path.exists():
        raise InputError(
            f"{subject}: there is no such file or folder (expected batches, arrays, a text or a "
            "folder of images)"
        )
    batches = _of_code(text, option, given) if path is None else _of_file(path, given, takes)
    if isinstance(batches, list):
        return batches
    again = Batches(subject, batches)
    for _ in again:
        return again
    several = f" of {given['batch_size']} samples" if path is not None else ""
    raise InputError(f"{subject}: it has no batch (expected at least one{several}). Add data.")


def _of_code(text: str, option: str, given: DataOptions) -> Any:
    check_form(given, "batches of code")
    value = found(text, option, "BATCHES")
    subject = f"{option} {text!r}"
    if not isinstance(value, Iterable):
        if not callable(value):
            raise InputError(
                f"{subject}: it is {a_type(value)} (expected batches, or a function that "
                "returns some). Name a list of them, or a DataLoader."
            )
        return partial(_made, value, subject)
    return list(value) if isinstance(value, Iterator) else partial(iter, value)


def _made(function: Callable[[], Any], subject: str) -> Iterable[Any]:
    value = called(function, subject)
    if not isinstance(value, Iterable):
        kind = type(value).__name__
        raise InputError(
            f"{subject}: it returned a {kind} (expected an iterable of batches). "
            "Return a list of them, or a DataLoader."
        )
    return value


def _of_file(path: Path, given: DataOptions, takes: Container[str] | None) -> Any:
    samples = _samples(path, given, takes)
    if samples is None:
        from qreg.programs.files import read_batches

        check_form(given, "a file of torch.save")
        return read_batches(path)
    return lambda: _grouped(samples(), given["batch_size"])


def _samples(
    path: Path, given: DataOptions, takes: Container[str] | None
) -> Callable[[], Iterable[Sample]] | None:
    """Return a function that reads the samples of a file, or None for a file of batches."""
    if path.is_dir():
        return _images(path, given)
    if given["tokenizer"] or path.suffix == ".txt":
        return _texts(path, given, takes)
    if path.suffix not in (".npz", ".safetensors"):
        return None
    check_form(given, "arrays")
    return partial(_rows, _arrays(path), path)


def _images(folder: Path, given: DataOptions) -> Callable[[], Iterable[Sample]]:
    from qreg.cli.images import read_images

    check_form(given, f"a folder of images, {folder}", "--image-size", "--mean", "--std")
    height, width = positive(given["image_size"] or "", "--image-size", (2,))
    mean = numbers(given["mean"] or "", "--mean", (1, 3))
    std = positive(given["std"] or "", "--std", (len(mean),))
    size = int(height), int(width)
    return lambda: ((each,) for each in read_images(folder, size, mean, std))


def _texts(
    path: Path, given: DataOptions, takes: Container[str] | None
) -> Callable[[], Iterable[Sample]]:
    from qreg.cli.texts import read_texts

    check_form(given, f"a text, {path}", "--tokenizer", "--tokens")
    tokenizer, tokens = given["tokenizer"] or Path(), given["tokens"] or 0

    def fitting() -> Iterator[Sample]:
        for each in read_texts(path, tokenizer, tokens):
            yield {name: value for name, value in each.items() if takes is None or name in takes}

    return fitting


def _arrays(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".npz":
        from qreg.programs.npz import read_npz

        return read_npz(path)
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as cause:  # a damaged file fails in many ways
        raise InputError(f"{path} cannot be read as safetensors: {cause}") from cause


def _rows(arrays: Mapping[str, Tensor], path: Path) -> Iterator[Sample]:
    """Yield the samples of arrays, which are stacked along the first dimension."""
    counts = {len(value) if value.dim() else 0 for value in arrays.values()}
    if len(counts) != 1:
        raise InputError(
            f"{path}: its arrays have different numbers of samples (expected one number for the "
            f"first dimension of each; found {', '.join(map(str, sorted(counts)))}). "
            "Stack the samples of each input along the first dimension."
        )
    unnamed = [f"arr_{number}" for number in range(len(arrays))]  # as numpy.savez(file, x, y)
    for row in range(*counts):
        named = {name: value[row] for name, value in arrays.items()}
        yield tuple(map(named.get, unnamed)) if named.keys() == set(unnamed) else named


def _grouped(samples: Iterable[Sample], size: int) -> Iterator[Sample]:
    """Yield batches of so many samples; a rest is dropped, since sizes may be fixed."""
    import torch

    rest = iter(samples)
    while len(group := list(islice(rest, size))) == size:
        first = group[0]
        if isinstance(first, Mapping):
            yield {name: torch.stack([each[name] for each in group]) for name in first}  # type: ignore[call-overload]
        else:
            yield tuple(map(torch.stack, zip(*group, strict=True)))
