"""``qreg generate``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qreg.cli.options import BACKEND, FILE, FORMAT, NAMES, OPTIONS
from qreg.cli.reporting import current_registry, reports_errors

if TYPE_CHECKING:
    from qreg.generation.generated import Generated


@click.command()
@click.argument("program", type=FILE)
@click.option(
    "--tokens",
    "texts_of_tokens",
    required=True,
    help="The ids of the tokens to continue, such as 1,2,3.",
    **{**NAMES, "metavar": "ID,..."},
)
@click.option(
    "--new", "count", type=int, default=32, show_default=True, help="Generate this many tokens."
)
@click.option("--eos", type=int, help="End after this token.")
@click.option("--timing", is_flag=True, help="Also print the tokens per second.")
@BACKEND
@OPTIONS
@FORMAT
@reports_errors
def generate(
    program: Path,
    texts_of_tokens: list[str],
    count: int,
    eos: int | None,
    timing: bool,
    backend: str,
    texts: tuple[str, ...],
    as_json: bool,
) -> None:
    """Continue tokens with PROGRAM, a lowered language model, and print the new ones."""
    from qreg.plugins.options import parsed

    options = parsed(current_registry().backend(backend).value, texts)
    prompt = list(map(_id, texts_of_tokens))

    import qreg

    given: dict[str, Any] = {"backend": backend, "options": options, "registry": current_registry()}
    if timing:
        found = qreg.time_generation(program, prompt, max_new_tokens=count, eos=eos, **given)
        _print_timed(found, as_json)
        return
    tokens = qreg.generate(program, prompt, max_new_tokens=count, eos=eos, **given)
    click.echo(json.dumps(tokens) if as_json else _listed(tokens))


def _print_timed(found: Generated, as_json: bool) -> None:
    speeds = {"prefill": found.prefill, "decode": found.decode}
    if as_json:
        click.echo(json.dumps({"tokens": found.tokens, "tokens_per_second": speeds}))
        return
    click.echo(_listed(found.tokens))
    click.echo(str(found), err=True)


def _listed(tokens: Iterable[int]) -> str:
    return ",".join(map(str, tokens))


def _id(text: str) -> int:
    from qreg.errors import InputError

    try:
        return int(text)
    except ValueError:
        raise InputError(
            f"--tokens: {text!r} is not the id of a token (expected integers, such as 1,2,3). "
            "Use the tokenizer of the model."
        ) from None
