"""The command ``qreg`` and its subcommands."""

from __future__ import annotations

import logging

import click

from qreg.cli.bundle import bundle
from qreg.cli.compare import compare
from qreg.cli.explain import explain
from qreg.cli.generate import generate
from qreg.cli.log import logged
from qreg.cli.options import NAMES
from qreg.cli.plugins import list_, new_plugin, ops
from qreg.cli.quantize import quantize
from qreg.cli.reporting import reports_errors
from qreg.cli.tune import tune
from qreg.cli.verify import verify
from qreg.identity import HOST, check_own
from qreg.plugins.registry import Registry


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=HOST)
@click.option("--load-plugins", help="Load these plugins only.", **NAMES)
@click.option("--disable-plugins", help="Skip these plugins.", **NAMES)
@click.option(
    "--strict",
    is_flag=True,
    default=None,
    help="Treat a broken plugin, or a program far from float, as an error.",
)
@click.option(
    "--trace",
    is_flag=True,
    default=None,
    help="Print each call of a hook, and the traceback of each error.",
)
@click.option("--no-cache", is_flag=True, help="Lower anew what an earlier run has lowered.")
@click.option("-v", "--verbose", is_flag=True, help="Print what other libraries report, too.")
@click.option("-q", "--quiet", is_flag=True, help="Print results and errors alone.")
@click.pass_context
@reports_errors
def main(
    context: click.Context,
    load_plugins: list[str] | None,
    disable_plugins: list[str] | None,
    strict: bool | None,
    trace: bool | None,
    no_cache: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    """Quantize PyTorch models for any installed backend."""
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    context.with_resource(logged(level))
    check_own()
    context.obj = Registry(
        load=load_plugins,
        disable=disable_plugins,
        strict=strict,
        trace=trace,
        cache="" if no_cache else None,
    )


COMMANDS = (list_, ops, quantize, explain, verify, bundle, compare, tune, generate, new_plugin)
for command in COMMANDS:
    main.add_command(command)
