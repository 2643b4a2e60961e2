"""Lower a converted program for a backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch.export import ExportedProgram

from qreg.errors import ConfigError, InputError
from qreg.inputs.specs import input_specs
from qreg.pipeline.arguments import public_function
from qreg.pipeline.prepare import folded_program
from qreg.plugins.registry import DEFAULT, DEFAULT_BACKEND, Registry, installed
from qreg.plugins.types.program import Lowered
from qreg.programs.copying import copied
from qreg.programs.export import dynamic_shapes_of, exported
from qreg.programs.lowering import Target, target
from qreg.programs.methods import check_names, names_read
from qreg.programs.models import check_model
from qreg.quantizer.registry_quantizer import Config, RegistryQuantizer

Lowerable: TypeAlias = torch.nn.Module | ExportedProgram


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


@public_function
def lower(
    model: Lowerable | Mapping[str, Lowerable],
    example_inputs: Any = None,
    *,
    backend: str = DEFAULT_BACKEND,
    dynamic_shapes: Any = None,
    options: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> Lowered:
    """Lower a float or converted model for a backend, without quantizing it.

    Constant expressions of a float model are folded, as in ``quantize``.

    Args:
        model: a module to export, or an ``ExportedProgram``; or a dict of them by name, which
            become the methods of one program. Methods share the buffers of one name that they
            write to.
        example_inputs: as for :func:`qreg.quantize`; for methods, a dict by their names.
        backend: the name of the backend.
        dynamic_shapes: as for ``torch.export.export``; for methods, a dict by their names.
        options: the options of the backend by name; ``qreg ops`` lists them.
        registry: the registry to use instead of that of the installed plugins.

    Returns:
        The program, with its operators, or with ``methods``.

    Raises:
        ExportError, LoweringError: with the cause chained.
        InputError: the model has dynamic dimensions, or there are several methods, which the
            backend does not support; or methods do not agree on the state that they share.
    """
    goal = target(registry or installed(), backend, options)
    if not isinstance(model, Mapping):
        export = exported(model, example_inputs, dynamic_shapes)
        return goal.lower(_folded(model, *export, goal))
    if not (model and all(isinstance(each, Lowerable) for each in model.values())):
        check_model(model)  # a state dict, or another dict, which is an error
    check_names(model)
    for name in model:
        goal.of_method(name)
    inputs, shapes = (each or {} for each in (example_inputs, dynamic_shapes))
    exports = {name: exported(m, inputs.get(name), shapes.get(name)) for name, m in model.items()}
    reads = {name: names_read(program) for name, (program, _) in exports.items()}
    folded = {name: _folded(model[name], *export, goal) for name, export in exports.items()}
    return goal.lower_methods(folded, reads)


def _folded(
    model: Lowerable, program: ExportedProgram, example: tuple[Any, ...], goal: Target
) -> ExportedProgram:
    """Return a program that can be rewritten, with its constants folded."""
    if not goal.backend.dynamic_shapes:
        input_specs(program)
        supported_shapes(goal, program, example)
    folded = folded_program(program, example)
    return copied(folded) if folded is model else folded


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
