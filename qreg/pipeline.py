"""The whole way: from a float module to a program that has been loaded and run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from attrs import field, frozen
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

from qreg.calibration import convert, feed, is_prepared
from qreg.errors import CalibrationError, ConfigError, InputError
from qreg.exporting import dynamic_shapes_of, export
from qreg.files import write_atomically
from qreg.inputs import arguments, capped, check_batch, checked, input_specs, length
from qreg.model import Backend, Decision, Lowered
from qreg.progress import Stages
from qreg.quantizer import Config, RegistryQuantizer
from qreg.registry import DEFAULT, Registry, installed
from qreg.verify import DYNAMIC_FLOOR, FLOOR, Verification, verify

SAMPLES = 4


@frozen
class Result:
    """A quantized program, and how it came about.

    ``program`` is in the format of the backend, ``converted`` the module that ``convert_pt2e``
    gave and that was lowered. ``verification`` is None if the program was not run here: because
    it was not asked for, or because the backend only compiles. ``seconds`` has the time of each
    stage.
    """

    backend: str
    lowered: Lowered
    decisions: Sequence[Decision] = field(repr=False)
    verification: Verification | None
    converted: GraphModule = field(repr=False)
    seconds: Mapping[str, float] = field(repr=False)

    @property
    def program(self) -> bytes:
        return self.lowered.program

    @property
    def counts(self) -> Counter[str]:
        """How many operators are ``annotated``, ``shared`` and ``float``."""
        return Counter(decision.status for decision in self.decisions)

    def save(self, path: str | Path) -> None:
        """Writes the program to a file, in full or not at all.

        Raises ``InputError`` if the path cannot be written.
        """
        write_atomically(Path(path), self.program)


def quantize(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any = None,
    *,
    backend: str = "xnnpack",
    calibration: Iterable[Any] | None = None,
    max_batches: int | None = None,
    config: Config = DEFAULT,
    quantizer: RegistryQuantizer | None = None,
    dynamic_shapes: Any = None,
    allow_float: bool = False,
    verify: bool = True,
    progress: bool | None = None,
    registry: Registry | None = None,
) -> Result:
    """Quantizes a float model for a backend, lowers it, and runs the program.

    ``example_inputs`` is a tuple of tensors, as for ``torch.export.export``; a lone tensor is the
    only input, and a program that was exported with example inputs needs none. ``calibration`` is
    any iterable of batches of the same form, or of dicts of inputs by name: a list, a generator, a
    ``DataLoader``; a config with static activations needs one. At most ``max_batches`` are taken
    from it, and only a few of them kept, to verify the program with. ``config`` is a
    name, a ``QuantizationConfig``, or None; instead of ``backend`` and ``config``, ``quantizer``
    takes one that was made by ``get_quantizer`` and given its scopes. ``dynamic_shapes`` is as
    for ``torch.export.export``. ``allow_float`` lets a model pass in which nothing is quantized.
    ``progress`` None shows a progress bar on a terminal, and elsewhere a line for each stage.

    Raises a :class:`~qreg.errors.QregError` that names the remedy: before any work for an unknown
    backend or config, a missing package, or missing calibration data; at its stage for a model
    that does not export, a batch that does not fit, a model in which nothing would be quantized,
    and a program that does not lower, load or run.
    """
    quantizer = _quantizer(quantizer, backend, config, registry)
    quantizer.registry.check_installed(quantizer.backend)
    _check_modes(quantizer, calibration)
    steps = length(calibration or (), max_batches)
    batches = None if calibration is None else capped(calibration, max_batches)
    target: Backend = quantizer.registry.backend(quantizer.backend).value
    with Stages(progress) as stages:
        with stages.stage("export"):
            program, example = _exported(model, example_inputs, dynamic_shapes)
            float_model = program.module(check_guards=False)
        with stages.stage("prepare"), _allowing_float(quantizer, allow_float):
            prepared = prepare_pt2e(program.module(check_guards=False), quantizer)
        # Without activations to observe, one input is enough for the observers of the weights.
        kept = _Kept(checked([example] if batches is None else batches, input_specs(program)))
        with stages.stage("calibrate", steps or None) as each:
            feed(prepared, kept, each)
        with stages.stage("convert"):
            converted = convert(prepared)
        with stages.stage("lower"):
            shapes = dynamic_shapes_of(program, example)
            lowered = quantizer.registry.lower(
                quantizer.backend, export(converted, example, shapes)
            )
        verification = None
        if verify and target.load is not None:
            with stages.stage("verify"):
                verification = _verify(
                    target, lowered, kept.samples, float_model, converted, _floor(quantizer)
                )
    return Result(
        quantizer.backend,
        lowered,
        tuple(quantizer.decisions),
        verification,
        converted,
        stages.seconds,
    )


def lower(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any = None,
    *,
    backend: str = "xnnpack",
    dynamic_shapes: Any = None,
    registry: Registry | None = None,
) -> Lowered:
    """Lowers a model for a backend as it is, float or converted.

    Raises ``ExportError`` and ``LoweringError`` with the cause chained.
    """
    registry = registry or installed()
    registry.check_installed(backend)
    program, _ = _exported(model, example_inputs, dynamic_shapes)
    return registry.lower(backend, program)


def _quantizer(
    given: RegistryQuantizer | None,
    backend: str,
    config: Config,
    registry: Registry | None,
) -> RegistryQuantizer:
    if given is None:
        return RegistryQuantizer(backend, config, registry=registry)
    if config != DEFAULT or registry not in (None, given.registry):
        raise ConfigError("a quantizer brings its own config and registry: give one or the other")
    return given


@contextmanager
def _allowing_float(quantizer: RegistryQuantizer, allow: bool) -> Iterator[None]:
    before = quantizer.allow_float
    quantizer.allow_float = before or allow
    try:
        yield
    finally:
        quantizer.allow_float = before


def _check_modes(quantizer: RegistryQuantizer, calibration: Iterable[Any] | None) -> None:
    if "qat" in quantizer.modes:
        raise ConfigError(
            "a QAT config needs training, which quantize() does not do: give the quantizer of "
            "get_quantizer() to prepare_qat_pt2e, train, convert, and pass the result to lower()"
        )
    if "static" in quantizer.modes and calibration is None:
        raise CalibrationError(
            "a config with static activations needs calibration data: pass calibration=[(x,), "
            "...], a tuple of input tensors for each batch, or choose a dynamic config"
        )


def _exported(
    model: torch.nn.Module | ExportedProgram, example_inputs: Any, dynamic_shapes: Any
) -> tuple[ExportedProgram, tuple[Any, ...]]:
    if isinstance(model, ExportedProgram):
        return model, _example_of(model, example_inputs)
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"{model!r} is no torch.nn.Module and no ExportedProgram")
    if is_prepared(model):
        raise InputError("the model has observers in it: convert it first, with qreg.convert")
    if example_inputs is None:
        raise InputError("example_inputs is missing: pass a tuple of tensors to export with")
    example = arguments(example_inputs)
    return export(model, example, dynamic_shapes), example


def _example_of(program: ExportedProgram, example_inputs: Any) -> tuple[Any, ...]:
    if example_inputs is not None:
        example = arguments(example_inputs)
        check_batch(0, example, input_specs(program))
        return example
    if program.example_inputs is None:
        raise InputError("the program was saved without example inputs: pass example_inputs")
    example, keywords = program.example_inputs
    if keywords:
        raise InputError(
            f"the program takes keyword inputs ({', '.join(keywords)}): export it with positional "
            "inputs only"
        )
    return tuple(example)


class _Kept(Iterable[tuple[Any, ...]]):
    """Batches passed through once; the first few stay, to verify the program with."""

    def __init__(self, batches: Iterable[tuple[Any, ...]]) -> None:
        self._batches = batches
        self.samples: list[tuple[Any, ...]] = []

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for batch in self._batches:
            if len(self.samples) < SAMPLES:
                self.samples.append(batch)
            yield batch


def _floor(quantizer: RegistryQuantizer) -> float:
    return DYNAMIC_FLOOR if "dynamic" in quantizer.modes else FLOOR


def _verify(
    target: Backend,
    lowered: Lowered,
    samples: Sequence[tuple[Any, ...]],
    float_model: torch.nn.Module,
    converted: torch.nn.Module,
    floor: float,
) -> Verification:
    assert target.load is not None
    return verify(
        target.load,
        lowered,
        samples,
        runtime=target.runtime,
        floor=floor,
        float_model=float_model,
        converted=converted,
    )
