"""Tests of the configs and the backends that a plugin supplies."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from unittest import SkipTest

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.nn import Module

import qreg
from qreg.configs.validation import check, equivalent, mode_of
from qreg.errors import ConfigError, QregError, VerificationError
from qreg.plugins.registry import Registry
from qreg.plugins.types.backend import Backend, Mode, Runner
from qreg.plugins.types.program import Lowered
from qreg.programs.copying import module_of
from qreg.programs.export import export
from qreg.programs.lowering import target
from qreg.testing.odd import odd_models
from qreg.testing.running import check_runs_here, outcome
from qreg.testing.subject import Sample
from qreg.testing.suite import Suite
from qreg.verification.metrics import Outputs, compare_all, is_far
from qreg.verification.runner import check_alike, outputs_of, repeats_for, run_program

MODES: tuple[Mode, ...] = ("static", "dynamic", "qat", "weight")
EXACT = 60.0  # dB; a float program computes the same as the module, up to rounding


class ConfigTests(Suite):
    """Each test is run for each config."""

    def test_the_config_is_what_it_says(self, config: str) -> None:
        supplied = self.subject().configs[config]
        value = supplied.factory()
        try:
            check(value)
        except ConfigError as error:
            raise AssertionError(
                f"the factory of {config!r} returns an invalid config: {error}"
            ) from None
        assert mode_of(value) == supplied.mode, (
            f"{config!r} declares the mode {supplied.mode!r}, but its factory returns a config "
            f"that is {mode_of(value)}. is_qat and is_dynamic of the input "
            "activation determine the mode"
        )

    def test_the_config_is_made_alike_each_time(self, config: str) -> None:
        factory = self.subject().configs[config].factory
        assert equivalent(factory(), factory()), (
            f"two calls of the factory of {config!r} return different configs, so that "
            "equal scopes would differ. Make the config from constants"
        )

    def test_the_config_quantizes_its_sample(self, config: str) -> None:
        subject = self.subject()
        check_runs_here(subject.registry, subject.backend)
        for sample in self._samples(config):
            try:
                check(subject.configs[config].factory())
            except ConfigError as error:
                raise SkipTest("see test_the_config_is_what_it_says") from error
            try:
                found = outcome(subject.registry, subject.backend, sample, subject.configs[config])
            except QregError as error:
                raise AssertionError(
                    f"the sample of {config!r} cannot be quantized and lowered: {error} Use a "
                    "sample that the config is for"
                ) from error
            defects = found.audit.defects if found.audit else ()
            assert not defects, (
                f"with the config {config!r} the program runs "
                f"{', '.join(each.node for each in defects)} in float, though decided for int8. "
                "The backend does not support this config there: correct it, or reject it with a "
                "rule"
            )

    def _samples(self, name: str) -> Iterator[Sample]:
        if not self.subject().samples_of(name):
            raise SkipTest("it has no sample: see test_everything_has_a_sample")
        yield from self.subject().samples_of(name)


class BackendTests(Suite):
    """Each test is run for each backend."""

    def test_its_default_config_is_there(self, supplied_backend: str) -> None:
        default = self.subject().backends[supplied_backend].default_config
        known = list(self.subject().registry.configs(supplied_backend))
        assert default in known, (
            f"default_config is {default!r}, and the configs of {supplied_backend!r} are "
            f"{', '.join(known) or 'none'}: name one of these, or yield it from "
            "qreg_supported_configs"
        )

    def test_its_transforms_change_no_result(self, supplied_backend: str) -> None:
        backend = self.subject().backends[supplied_backend]
        for what, program in self._programs(supplied_backend):
            assert program.example_inputs is not None
            inputs = [program.example_inputs[0]]
            before = outputs_of(module_of(program), inputs)
            for mode in MODES:
                after = outputs_of(_transformed(backend, program, mode, what), inputs)
                assert _same(before, after), (
                    f"{what} returns other values after the transforms of {supplied_backend!r} in "
                    f"{mode} mode. A transform may change how a graph computes, not what"
                )

    def _programs(self, backend: str) -> Iterator[tuple[str, ExportedProgram]]:
        yield from odd_models().items()
        for sample in self.subject().samples_of(backend):
            yield "the sample", export(copy.deepcopy(sample.module), sample.inputs)

    def test_it_lowers_and_runs(self, supplied_backend: str) -> None:
        registry = self.subject().registry
        check_runs_here(registry, supplied_backend)
        for sample in self.subject().samples_of(supplied_backend):
            module = copy.deepcopy(sample.module).eval()
            lowered = _lowered(registry, supplied_backend, module, sample)
            load = target(registry, supplied_backend).load
            if load is not None:
                _check_runs(load, lowered, module, sample)


def _transformed(backend: Backend, program: ExportedProgram, mode: Mode, what: str) -> GraphModule:
    graph_module = module_of(program)
    for transform in backend.transforms:
        try:
            graph_module = transform(graph_module, frozenset({mode}))
        except Exception as cause:  # raised by a plugin
            raise AssertionError(
                f"a transform of {backend.name!r} raised {cause!r} on {what} in {mode} mode. It "
                "must ignore graphs that it is not for"
            ) from cause
    return graph_module


def _same(one: Outputs, other: Outputs) -> bool:
    pairs = zip(one[0], other[0], strict=True)
    return all((a is None and b is None) or _close(a, b) for a, b in pairs)


def _close(one: Tensor, other: Tensor) -> bool:
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and torch.allclose(one, other, atol=1e-5, equal_nan=True)


def _lowered(registry: Registry, backend: str, module: Module, sample: Sample) -> Lowered:
    try:
        return qreg.lower(
            module,
            sample.inputs,
            backend=backend,
            dynamic_shapes=sample.dynamic_shapes,
            registry=registry,
        )
    except QregError as error:
        raise AssertionError(
            f"the float sample of {backend!r} does not lower: {error} qreg_lower must also accept "
            "a program without quantized operators, and return a Lowered for its backend"
        ) from error


def _check_runs(
    load: Callable[[bytes], Runner], lowered: Lowered, module: Module, sample: Sample
) -> None:
    try:
        graph = module_of(export(copy.deepcopy(module), sample.inputs))
        outputs = run_program(load, lowered, [sample.inputs], repeats_for(graph))
        wanted = outputs_of(module, [sample.inputs])
        check_alike(outputs, wanted)
    except VerificationError as error:
        raise AssertionError(
            f"the float sample lowers and then fails: {error} `load` must accept the bytes of the "
            "program and return a function from flat input tensors to a tuple of flat output "
            "tensors"
        ) from error
    for number, each in enumerate(compare_all(outputs, wanted)):
        assert not is_far(each, EXACT), (
            f"output {number} of the float sample is {each.sqnr:.1f} dB from that of the "
            "module: a program without quantized operators must agree with it, except for rounding"
        )
