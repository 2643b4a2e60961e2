"""``qreg tune``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import define, field

from qreg.cli import completion
from qreg.cli.code import imported
from qreg.cli.data import data_file
from qreg.cli.forms import data_options, taken
from qreg.cli.inputs import read_inputs
from qreg.cli.job import asked, check_outputs
from qreg.cli.models import beside, model_file
from qreg.cli.options import CONFIGS, DATA, FILE, FORMAT, MAX_BATCHES, MODEL, NAMES
from qreg.cli.pairs import pair
from qreg.cli.remedies import as_options
from qreg.cli.reporting import INTERRUPTED, current_registry, judging, reports_errors
from qreg.cli.scopes import KEPT
from qreg.plugins.registry import DEFAULT_BACKEND, Registry

if TYPE_CHECKING:
    from qreg.tuning import Trial, Tuned


@click.command()
@MODEL
@DATA
@data_options
@click.option(
    "--evaluate",
    "name",
    required=True,
    metavar="MODULE:FUNCTION",
    help="A function of the model that returns a number; imported from here or from packages.",
)
@click.option(
    "--max-drop", type=float, help="The largest loss against float; default 0.01, relative."
)
@click.option("--target", type=float, help="The metric to reach, instead of --max-drop.")
@click.option("--absolute", is_flag=True, help="--max-drop is in the units of the metric.")
@click.option("--lower-is-better", is_flag=True, help="For a metric such as perplexity.")
@click.option(
    "--backends",
    default=DEFAULT_BACKEND,
    show_default=True,
    help="The backends to search.",
    shell_complete=completion.backends,
    **NAMES,
)
@CONFIGS
@click.option(
    "--algorithms",
    default="auto",
    show_default=True,
    help="Names from `qreg ops` to try, auto, or none.",
    shell_complete=completion.algorithms,
    **NAMES,
)
@click.option(
    "--minimize",
    type=click.Choice(["latency", "size"]),
    default="latency",
    show_default=True,
    help="What decides between programs that meet the limit.",
)
@click.option(
    "--budget",
    type=click.IntRange(min=2),
    default=8,
    show_default=True,
    help="Evaluations of programs for each backend.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Processes that make trials; 0: one for each core.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds after which a trial is ended, and a failed row; default: never.",
)
@KEPT
@MAX_BATCHES
@click.option(
    "--work",
    type=FILE,
    help="A folder for the trials, from which a search goes on; default: MODEL with .tune.",
)
@click.option(
    "-o",
    "--output",
    type=FILE,
    help="Where to write the best program; it gets the suffix of its backend.",
)
@click.option("--strict", is_flag=True, help="Treat a limit that is not met as an error.")
@FORMAT
@click.option("--html", type=FILE, help="Also write a page with the trials to this file.")
@reports_errors
def tune(
    model: str,
    calibration: str,
    name: str,
    configs: tuple[str, ...],
    algorithms: list[str],
    absolute: bool,
    workers: int,
    kept: tuple[str, ...],
    work: Path | None,
    output: Path | None,
    strict: bool,
    as_json: bool,
    html: Path | None,
    **options: Any,
) -> None:
    """Search for a program of MODEL whose metric is within a limit of the float model's.

    Each trial is printed when it ends. A search that is stopped goes on from its work folder, which
    also has the best program so far. The exit code is 1 if no program was evaluated, and with
    --strict if the limit is not met.
    """
    work = work or beside(model, ".tune")
    registry = current_registry()
    evaluate = imported(name, "--evaluate")
    outputs = [each for each in (html, output) if each]
    check_outputs(outputs, model_file(model), data_file(calibration))
    if output:
        _check_suffix(output, registry, options["backends"])

    import qreg
    from qreg.tuning.text import print_tuned
    from qreg.utils.tables import console

    inputs = read_inputs(model, calibration, "--calibration", taken(options))
    shown = _Shown(as_json)
    try:
        with judging(strict=False):
            found = qreg.tune(
                inputs.model,
                inputs.example,
                calibration=inputs.required,
                evaluate=evaluate,
                configs=dict(map(pair, configs)),
                algorithms=() if algorithms == ["none"] else asked(algorithms),
                relative=not absolute,
                workers=workers or None,
                keep_in_float=kept,
                work=work,
                missed="error" if strict or registry.switches.strict else "warn",
                on_trial=shown.add,
                registry=registry,
                **options,
            )
    except KeyboardInterrupt as interrupt:
        click.echo(f"{interrupt or 'stopped'}; {shown.kept} in {work}", err=True)
        raise SystemExit(INTERRUPTED) from interrupt
    except qreg.errors.TargetMissedError as error:
        if isinstance(error.tuned, qreg.Tuned):
            _write(error.tuned, html, None)
            if as_json:
                click.echo(error.tuned.to_json())
        raise
    _write(found, html, output)
    if as_json:
        click.echo(found.to_json())
    else:
        print_tuned(found, console())


@define
class _Shown:
    """Prints each trial, on standard error if the output is JSON."""

    as_json: bool
    count: int = field(default=0, init=False)

    @property
    def kept(self) -> str:
        """How many trials an interrupt did not cost."""
        return "1 trial is" if self.count == 1 else f"{self.count} trials are"

    def add(self, trial: Trial) -> None:
        """Print a trial in a line, the first one below a heading."""
        from qreg.tuning.text import HEADING, line

        if not self.count:
            click.echo(HEADING, err=self.as_json)
        self.count += 1
        click.echo(as_options(line(trial, self.count)), err=self.as_json)


def _check_suffix(output: Path, registry: Registry, backends: Sequence[str]) -> None:
    """Raise ``InputError`` for a suffix that no program of the backends has."""
    from qreg.errors import InputError

    known = dict.fromkeys(registry.backend(each).value.suffix for each in backends)
    if output.suffix not in known:
        raise InputError(
            f"{output} is not a name for a program of {', '.join(backends)} (expected a name that "
            f"ends with {' or '.join(known)}). Name another output"
        )


def _write(found: Tuned, html: Path | None, output: Path | None) -> None:
    if html:
        found.save_html(html)
    if output and found.result is not None:
        output = output.with_suffix(found.result.target.backend.suffix)
        found.result.save(output)
        click.echo(f"wrote {output} ({len(found.result.program)} bytes)", err=True)
