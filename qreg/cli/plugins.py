"""``qreg list``, ``qreg ops`` and ``qreg new-plugin``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qreg.cli import completion
from qreg.cli.options import FORMAT
from qreg.cli.reporting import current_registry, reports_errors
from qreg.identity import HOST

if TYPE_CHECKING:
    from qreg.scaffold import Kind


@click.command("list")
@FORMAT
@reports_errors
def list_(as_json: bool) -> None:
    """List the installed backends and plugins."""
    from qreg.plugins.catalog import plugin_rows
    from qreg.utils.tables import print_table

    registry = current_registry()
    rows = plugin_rows(registry)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not registry.backends():
        click.echo(
            "No backend is installed. Each is a separate distribution, for example:\n"
            "  pip install qreg-xnnpack"
        )
    print_table(rows)


@click.command()
@click.argument("backend", shell_complete=completion.backends)
@FORMAT
@reports_errors
def ops(backend: str, as_json: bool) -> None:
    """List the configs of BACKEND and the operator patterns that each config covers."""
    from qreg.plugins.catalog import algorithm_rows, config_rows, option_rows, pattern_rows
    from qreg.utils.tables import print_table

    configs = config_rows(current_registry(), backend)
    patterns = pattern_rows(current_registry(), backend)
    options = option_rows(current_registry(), backend)
    algorithms = algorithm_rows(current_registry())
    if as_json:
        listed = {"configs": configs, "patterns": patterns, "options": options}
        listed["algorithms"] = algorithms
        click.echo(json.dumps(listed, indent=2))
        return
    print_table(configs)
    for rows in (patterns, options, algorithms):
        if rows:
            click.echo()
            print_table([{key: row[key] for key in row if key != "configs"} for row in rows])


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["annotator", "config", "backend", "algorithm"]),
    default="annotator",
    show_default=True,
    help="What the plugin supplies.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=".",
    show_default=True,
    help="The folder to create the project in.",
)
@reports_errors
def new_plugin(name: str, kind: Kind, output: Path) -> None:
    """Write the project qreg-NAME: a working plugin, with passing tests."""
    from qreg.scaffold import new_plugin as write

    project = write(name, kind, output)
    click.echo(f"wrote {project}")
    click.echo(f"next: pip install -e {project} '{HOST}[testing]' && pytest {project}")
