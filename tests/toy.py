"""A backend that runs in torch itself, so that qreg can be tested without any other runtime.

It is a plugin like any other: given in process, or installed by the tests that need a distribution.
"""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, evolve

from qreg import Annotator, Backend, Lowered, LoweredOperator, Registry, SupportedConfig, hookimpl
from qreg.annotators.annotate import shared_with_producer
from qreg.annotators.patterns import fused, operands, weighted
from qreg.graph.provenance import origin
from qreg.plugins.types.backend import ALL_MODES, Mode

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

    from qreg.plugins.types.backend import Runner

LINEAR, RELU, ADD = "aten.linear.default", "aten.relu.default", "aten.add.Tensor"


@functools.cache
def int8(observer: str, weight_observer: str = "MinMaxObserver", mode: Mode = "static") -> Any:
    """An int8 config: affine activations, symmetric weights, each per tensor."""
    import torch
    import torchao.quantization.pt2e as pt2e
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec

    activation = QuantizationSpec(
        torch.int8,
        getattr(pt2e, observer),
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
        is_dynamic=mode == "dynamic",
    )
    weight = QuantizationSpec(
        torch.int8,
        getattr(pt2e, weight_observer),
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_tensor_symmetric,
    )
    output = None if mode == "dynamic" else activation
    return QuantizationConfig(activation, output, weight, None, mode == "qat")


def int8_of_its_own() -> Any:
    """A config that is unequal to every other, because its observer was made by a separate call."""
    import torchao.quantization.pt2e as pt2e

    config = int8("MinMaxObserver")
    observer = pt2e.MinMaxObserver.with_args(eps=2**-20)
    weight = dataclasses.replace(config.weight, observer_or_fake_quant_ctr=observer)
    return dataclasses.replace(config, weight=weight)


def load(program: bytes) -> Runner:
    import torch

    from qreg.graph.lazy_recompile import recompiled_when_used

    with recompiled_when_used():
        module = torch.export.load(io.BytesIO(program)).module()

    def run(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            outputs = module(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    return run


def lower(program: ExportedProgram) -> Lowered:
    import torch

    buffer = io.BytesIO()
    operators = list(lowered_operators(program))
    torch.export.save(program, buffer)
    return Lowered(buffer.getvalue(), delegates=1, operators=operators)


KERNELS = frozenset({LINEAR, RELU, ADD, "aten.tanh.default"})  # that compute on int8


def lowered_operators(program: ExportedProgram) -> Iterator[LoweredOperator]:
    """What has an int8 kernel runs in it if it reads a quantized tensor, or is fused."""
    int8: set[Node] = set()
    for node in program.graph.nodes:
        if origin(node):
            reads = any("dequant" in str(n.target) or n in int8 for n in node.all_input_nodes)
            if reads and str(node.target) in KERNELS:
                int8.add(node)
            name, dtype = f"toy {node.target}", "int8" if node in int8 else "float32"
            yield LoweredOperator(origin(node), name, node in int8, 0, [dtype], [dtype])


BACKEND = Backend(
    name="toy",
    summary="int8 in torch itself",
    default_config="minmax",
    runtime="torch",
    suffix=".toy",
    load=load,
    quantized_io=True,
)

MOVING = "FusedMovingAvgObsFakeQuantize"
CONFIGS = (
    SupportedConfig("minmax", "observed range", "static", lambda: int8("MinMaxObserver")),
    SupportedConfig("histogram", "histogram", "static", lambda: int8("HistogramObserver")),
    SupportedConfig(
        "dynamic",
        "range of each input",
        "dynamic",
        lambda: int8("PlaceholderObserver", mode="dynamic"),
    ),
    SupportedConfig("qat", "moving average", "qat", lambda: int8(MOVING, MOVING, mode="qat")),
)

ANNOTATORS = (
    Annotator("linear_relu", [LINEAR], fused(weighted(), [RELU]), ALL_MODES),
    Annotator("linear", [LINEAR], weighted(), ALL_MODES),
    Annotator("add", [ADD], operands(0, 1)),
    Annotator("relu", [RELU], operands(0), annotate=shared_with_producer),
)


@hookimpl
def qreg_backends() -> Iterable[Backend]:
    return [BACKEND]


@hookimpl
def qreg_supported_configs(backend: str) -> Iterable[SupportedConfig]:
    return CONFIGS if backend == "toy" else ()


@hookimpl
def qreg_annotators(backend: str) -> Iterable[Annotator]:
    return ANNOTATORS if backend == "toy" else ()


@hookimpl
def qreg_lower(backend: str, program: ExportedProgram) -> Lowered | None:
    return lower(program) if backend == "toy" else None


@define(eq=False)
class Extension:
    """A plugin made of values, for the tests that need one more."""

    backends: Sequence[Backend] = ()
    configs: Sequence[SupportedConfig] = ()
    annotators: Sequence[Annotator] = ()
    lowering: Callable[[ExportedProgram], object] | None = None
    extends: str = "toy"

    @hookimpl
    def qreg_backends(self) -> Iterable[Backend]:
        return self.backends

    @hookimpl
    def qreg_supported_configs(self, backend: str) -> Iterable[SupportedConfig]:
        return self.configs if backend == self.extends else ()

    @hookimpl
    def qreg_annotators(self, backend: str) -> Iterable[Annotator]:
        return self.annotators if backend == self.extends else ()

    @hookimpl
    def qreg_lower(self, backend: str, program: ExportedProgram) -> object:
        if self.lowering is None or backend != self.extends:
            return None
        return self.lowering(program)


def variant(
    name: str,
    lowering: Callable[[ExportedProgram], object] = lower,
    others: Mapping[str, object] | None = None,
    **fields: Any,
) -> Any:
    """A registry of this backend, under a name and with some fields changed, and other plugins."""
    backend = evolve(BACKEND, name=name, **fields)
    plugin = Extension([backend], CONFIGS, ANNOTATORS, lowering, extends=name)
    return Registry({name: plugin, **(others or {})}, entry_points=False)
