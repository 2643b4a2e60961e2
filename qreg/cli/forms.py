"""How folders become models, and images, text and arrays batches: options, and checks of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import click

from qreg.errors import InputError

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option("--hf", is_flag=True, help="The model is a folder of transformers, for --task."),
    click.option("--task", metavar="NAME", help="What it was trained for, as text-classification."),
    click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Samples in a batch, of images, text and arrays; the rest of a division is dropped.",
    ),
    click.option("--image-size", metavar="HEIGHT,WIDTH", help="The size that images get."),
    click.option("--mean", metavar="NUMBER,...", help="Subtracted from images of 0 to 1."),
    click.option("--std", metavar="NUMBER,...", help="What images are divided by after that."),
    click.option(
        "--tokenizer", type=click.Path(path_type=Path), help="The folder of a text's tokenizer."
    ),
    click.option("--tokens", type=click.IntRange(min=1), help="Tokens in each line of a text."),
)


class DataOptions(TypedDict):
    """The arguments of a command on the forms of its model and data."""

    hf: bool
    task: str | None
    batch_size: int
    image_size: str | None
    mean: str | None
    std: str | None
    tokenizer: Path | None
    tokens: int | None


def data_options(command: Command) -> Command:
    """Add the arguments in :class:`DataOptions` to a command."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def taken(options: dict[str, Any]) -> DataOptions:
    """Take the arguments on the forms of model and data out of a command's, and return them."""
    found: Any = {name: options.pop(name) for name in DataOptions.__annotations__}
    form: DataOptions = found
    return form


def check_form(given: DataOptions, what: str, *needs: str) -> None:
    """Raise ``InputError`` for an option that such data needs and lacks, or has and ignores."""
    named: dict[str, object] = {"--image-size": given["image_size"], "--mean": given["mean"]}
    named |= {"--std": given["std"], "--tokenizer": given["tokenizer"], "--tokens": given["tokens"]}
    missing = [option for option in needs if named[option] is None]
    if missing:
        raise InputError(
            f"{what}: its form is not known (expected {', '.join(needs)}). "
            f"Pass {' and '.join(missing)}."
        )
    for option in named.keys() - set(needs):
        if named[option] is not None:
            raise InputError(f"{option}: it has no effect on {what}. Omit {option}.")


def numbers(text: str, option: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    """Return the numbers in a comma-separated text, of which there must be one of ``counts``."""
    try:
        found = tuple(float(each) for each in text.split(","))
    except ValueError:
        found = ()
    if len(found) not in counts:
        expected = " or ".join(map(str, counts))
        raise InputError(f"{option} {text!r}: expected {expected} numbers, separated by commas")
    return found


def positive(text: str, option: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    """Return the same as :func:`numbers`, of which each must be above 0."""
    found = numbers(text, option, counts)
    if not all(each > 0 for each in found):
        raise InputError(f"{option} {text!r}: expected numbers above 0")
    return found
