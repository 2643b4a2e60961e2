"""The configs of parts of a model: options, and the quantizer with their scopes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import click

from qreg.cli.pairs import pair

if TYPE_CHECKING:
    from qreg.quantizer.registry_quantizer import RegistryQuantizer

KEPT = click.option(
    "--float",
    "kept",
    multiple=True,
    metavar="NAME",
    help="Keep a module (by path) or an operator (by name) in float; may be given several times.",
)
SCOPES = (
    KEPT,
    click.option(
        "--float-type",
        "types",
        multiple=True,
        metavar="CLASS",
        help="Keep the modules of a class in float, such as Linear; may be repeated.",
    ),
    click.option(
        "--float-operator",
        "operators",
        multiple=True,
        metavar="NAME",
        help="Keep an operator in float, such as aten.add.Tensor; may be repeated.",
    ),
    click.option(
        "--config-for",
        "scopes",
        multiple=True,
        metavar="MODULE=CONFIG",
        help="A config for a module (by path) and its submodules; may be repeated.",
    ),
)


class ScopeOptions(TypedDict):
    """The configs of parts of a model, as a command accepts them."""

    kept: tuple[str, ...]
    types: tuple[str, ...]
    operators: tuple[str, ...]
    scopes: tuple[str, ...]


def scoped(quantizer: RegistryQuantizer, given: ScopeOptions) -> RegistryQuantizer:
    """Set the scopes of a command's options on a quantizer, and return it.

    Raises ``InputError`` for a module with two configs, and what the setters raise.
    """
    from qreg.errors import InputError
    from qreg.quantizer.registry_quantizer import keep_in_float

    keep_in_float(quantizer, given["kept"])
    for name in given["types"]:
        quantizer.set_module_type(_class(name), None)
    for name in given["operators"]:
        quantizer.set_operator_type(name, None)
    for module, config in (pair(each, "--config-for", "MODULE") for each in given["scopes"]):
        if module in quantizer.scopes.names:
            raise InputError(
                f"--config-for {module}={config}: the module has another config (expected one). "
                "Omit one of its options."
            )
        quantizer.set_module_name(module, config)
    return quantizer


def _class(name: str) -> type | str:
    """Return a class of ``torch.nn``, with or without that prefix, or the name of another class."""
    from torch import nn

    found = getattr(nn, name.removeprefix("torch.nn."), None)
    return found if isinstance(found, type) else name
