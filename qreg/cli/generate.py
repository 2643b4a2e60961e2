"""``qreg generate``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from qreg.cli.options import BACKEND, FILE, FORMAT, NAMES, OPTIONS
from qreg.cli.reporting import current_registry, reports_errors


@click.command()
@click.argument("program", type=FILE)
@click.option(
    "--tokens",
    required=True,
    help="The ids of the tokens to continue, such as 1,2,3.",
    **{**NAMES, "metavar": "ID,..."},
)
@click.option(
    "--new", "count", type=int, default=32, show_default=True, help="Generate this many tokens."
)
@click.option("--eos", type=int, help="End after this token.")
@BACKEND
@OPTIONS
@FORMAT
@reports_errors
def generate(
    program: Path,
    tokens: list[str],
    count: int,
    eos: int | None,
    backend: str,
    texts: tuple[str, ...],
    as_json: bool,
) -> None:
    """Continue tokens with PROGRAM, a lowered language model, and print the new ones."""
    from qreg.plugins.options import parsed

    options = parsed(current_registry().backend(backend).value, texts)
    prompt = list(map(_id, tokens))

    import qreg

    found = qreg.generate(
        program,
        prompt,
        max_new_tokens=count,
        eos=eos,
        backend=backend,
        options=options,
        registry=current_registry(),
    )
    click.echo(json.dumps(found) if as_json else ",".join(map(str, found)))


def _id(text: str) -> int:
    from qreg.errors import InputError

    try:
        return int(text)
    except ValueError:
        raise InputError(
            f"--tokens: {text!r} is not the id of a token (expected integers, such as 1,2,3). "
            "Use the tokenizer of the model."
        ) from None
