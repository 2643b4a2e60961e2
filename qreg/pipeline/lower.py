"""Lower a converted program for a backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.export import ExportedProgram

from qreg.errors import ConfigError, InputError
from qreg.inputs.specs import input_specs
from qreg.pipeline.arguments import names_unknown
from qreg.pipeline.prepare import folded_program
from qreg.plugins.registry import DEFAULT, DEFAULT_BACKEND, Registry, installed
from qreg.plugins.types.program import Lowered
from qreg.programs.export import copied, dynamic_shapes_of, exported
from qreg.programs.lowering import Target, target
from qreg.quantizer.registry_quantizer import Config, RegistryQuantizer


def supported_shapes(goal: Target, program: ExportedProgram, example: tuple[Any, ...]) -> Any:
    """Return the dynamic dimensions of a program.

    Raises ``InputError`` if the backend does not support them.
    """
    found = dynamic_shapes_of(program, example)
    if found is not None and not goal.backend.dynamic_shapes:
        raise InputError(
            f"the model has dynamic dimensions, and programs for {goal.name!r} have one size: "
            "export it without dynamic_shapes, at the size that it will run at"
        )
    return found


@names_unknown
def lower(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any = None,
    *,
    backend: str = DEFAULT_BACKEND,
    dynamic_shapes: Any = None,
    options: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> Lowered:
    """Lower a float or converted model for a backend, without quantizing it.

    Constant expressions of a float model are folded, as in ``quantize``.

    Raises ``ExportError`` and ``LoweringError`` with the cause chained, and ``InputError`` for a
    model with dynamic dimensions if the backend does not support them.
    """
    goal = target(registry or installed(), backend, options)
    program, example = exported(model, example_inputs, dynamic_shapes)
    if not goal.backend.dynamic_shapes:
        input_specs(program)
        supported_shapes(goal, program, example)
    folded = folded_program(program, example)
    return goal.lower(copied(folded) if folded is model else folded)


def chosen(
    given: RegistryQuantizer | None,
    backend: str,
    config: Config,
    registry: Registry | None,
) -> RegistryQuantizer:
    if given is None:
        return RegistryQuantizer(backend, config, registry=registry)
    if not isinstance(given, RegistryQuantizer):
        raise ConfigError(
            f"quantizer: {given!r} is not a quantizer of qreg (expected what qreg.get_quantizer "
            "returns). Use qreg.prepare for another torchao quantizer."
        )
    if backend not in (DEFAULT_BACKEND, given.backend):
        raise ConfigError(
            f"quantizer: it is for backend {given.backend!r} (expected {backend!r}). Make it with "
            f"qreg.get_quantizer({backend!r}), or omit backend."
        )
    if config != DEFAULT or registry not in (None, given.registry):
        raise ConfigError(
            "a quantizer has its own config and registry: pass either quantizer, or config and "
            "registry"
        )
    return given
