"""The arguments that several commands accept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from qreg.cli import completion, forms
from qreg.cli.scopes import SCOPES, ScopeOptions
from qreg.jobs import processes
from qreg.plugins.registry import DEFAULT, DEFAULT_BACKEND

Command = TypeVar("Command", bound=Callable[..., Any])


def listed(context: click.Context, option: click.Parameter, text: str | None) -> list[str] | None:
    from qreg.plugins.settings import listed as split

    return None if text is None else split(text)


FILE = click.Path(path_type=Path)
NAMES: Any = {"metavar": "NAME,...", "callback": listed}
BACKEND = click.option(
    "--backend",
    default=DEFAULT_BACKEND,
    show_default=True,
    help="A name from `qreg list`.",
    shell_complete=completion.backends,
)
OPTIONS = click.option(
    "--option",
    "texts",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the backend, as listed by `qreg ops`; may be given several times.",
)
FORMS = (
    "Batches: a file of torch.save, .npz or .safetensors, a folder of images, a text, or "
    "MODULE:BATCHES."
)
MODEL = click.argument("model", metavar="MODEL")
# Of the commands for several backends.
DATA = click.option("--calibration", required=True, metavar="DATA", help=FORMS)
CONFIGS = click.option(
    "--config",
    "configs",
    multiple=True,
    metavar="BACKEND=NAME",
    help="A config for one of the backends; may be given several times.",
)
MAX_BATCHES = click.option(
    "--max-batches", type=click.IntRange(min=1), help="Use at most this many batches."
)
MIN_SQNR = click.option(
    "--min-sqnr",
    type=float,
    metavar="DB",
    help="The minimum SQNR to float of each output and slice; default 10.",
)
STRICT = click.option("--strict", is_flag=True, help="Treat a program far from float as an error.")
ALGORITHMS = click.option(
    "--algorithms",
    **NAMES,
    shell_complete=completion.algorithms,
    help="Names from `qreg ops` to try, or auto: kept where they improve the outputs.",
)
WORKERS = click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Calibrate in this many processes; the qparams are the same for any number.",
)
RECIPE = click.option(
    "--recipe",
    type=FILE,
    help="A recipe to follow, in place of --backend, --config, scopes, --algorithms, --option.",
)
TIMEOUT = click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=processes.TIMEOUT,
    show_default=True,
    help="Seconds after which a process without an answer is ended; 0: none.",
)
TIMEOUT_OF_RUNTIME = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds after which a runtime that does not run the program is ended; default: never.",
)
FORMAT = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")

JOB = (
    MODEL,
    BACKEND,
    click.option(
        "--config",
        default=DEFAULT,
        show_default=True,
        help="A name from `qreg ops`.",
        shell_complete=completion.configs,
    ),
    *SCOPES,
    click.option("--calibration", metavar="DATA", help=FORMS),
    *forms.OPTIONS,
    MAX_BATCHES,
    ALGORITHMS,
    WORKERS,
    TIMEOUT_OF_RUNTIME,
    OPTIONS,
    MIN_SQNR,
    STRICT,
)


class JobOptions(ScopeOptions, forms.DataOptions):
    """The arguments of a command that quantizes a model for one backend."""

    model: str
    backend: str
    config: str
    calibration: str | None
    max_batches: int | None
    algorithms: list[str] | None
    workers: int | None
    timeout: float | None
    texts: tuple[str, ...]
    min_sqnr: float | None
    strict: bool


def job_options(command: Command) -> Command:
    """Add the arguments in :class:`JobOptions` to a command."""
    for option in reversed(JOB):
        command = option(command)
    return command
