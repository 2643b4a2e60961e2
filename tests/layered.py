"""Layers of all kinds, prepared and calibrated for a backend of int8 or int4, for algorithms."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
import torchao.quantization.pt2e as pt2e
from attrs import frozen
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec

import qreg
from qreg import Annotator, Backend, Registry, SupportedConfig, hookimpl
from qreg.algorithms.changes import write
from qreg.algorithms.collecting import Collecting
from qreg.annotators.annotate import along_axis_1
from qreg.annotators.patterns import operands, weighted
from qreg.configs.factory import Codes
from qreg.configs.groups import groupwise_spec
from qreg.graph.prepared import copied, float_graph
from qreg.observers.observers import HistogramObserver
from qreg.pipeline.calibrate import convert
from qreg.plugins.types.algorithm import Algorithm, Calibration, Candidate, Change
from qreg.plugins.types.backend import ALL_MODES

LAYERS = ("aten.linear.default", *(f"aten.conv{n}d.default" for n in (1, 2, 3)))
TRANSPOSED = ("aten.conv_transpose1d.default", *(f"aten.conv_transpose{n}d.input" for n in (2, 3)))
BACKEND = Backend("kernels", "layers of all kinds", "channel8", "torch", ".k", load=lambda _: None)


def grouped(size: int, bits: int = 4) -> QuantizationConfig:
    """As ``config``, with weights in groups along their rows."""
    plain, most = config(bits, channel=True), 2 ** (bits - 1) - 1
    weight = groupwise_spec(Codes("int8", -most, most), size)
    return dataclasses.replace(plain, weight=weight)


def config(bits: int, *, channel: bool) -> QuantizationConfig:
    """Affine int8 activations by histogram, and weights of some bits, per channel or tensor."""
    activation = QuantizationSpec(
        torch.int8,
        HistogramObserver,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
    )
    most = 2 ** (bits - 1) - 1
    weight = QuantizationSpec(
        torch.int8,
        pt2e.PerChannelMinMaxObserver if channel else pt2e.MinMaxObserver,
        quant_min=-most,
        quant_max=most,
        qscheme=torch.per_channel_symmetric if channel else torch.per_tensor_symmetric,
        ch_axis=0 if channel else None,
    )
    return QuantizationConfig(activation, activation, weight, None, False)


class Plugin:
    """Configs ``channel8``, ``channel4``, ``tensor8``, ``tensor4`` and, for linear, ``group4``."""

    @hookimpl
    def qreg_backends(self) -> Sequence[Backend]:
        return [BACKEND]

    @hookimpl
    def qreg_supported_configs(self, backend: str) -> Sequence[SupportedConfig]:
        return [
            SupportedConfig(f"{kind}{bits}", kind, "static", lambda b=bits, k=kind: CONFIGS[k, b])
            for kind, bits in CONFIGS
        ]

    @hookimpl
    def qreg_annotators(self, backend: str) -> Sequence[Annotator]:
        return [
            Annotator("layer", LAYERS, weighted(), ALL_MODES),
            Annotator("transposed", TRANSPOSED, weighted(), ALL_MODES, annotate=along_axis_1),
            Annotator("add", ["aten.add.Tensor"], operands(0, 1)),
        ]


CONFIGS = {
    (kind, bits): config(bits, channel=kind == "channel")
    for kind in ("channel", "tensor")
    for bits in (8, 4)
}
CONFIGS["group", 4] = grouped(3)
REGISTRY = Registry({"kernels": Plugin()}, entry_points=False)  # type: ignore[dict-item]


@frozen(eq=False)
class Subject:
    """A candidate with its calibration data."""

    candidate: Candidate
    calibration: Calibration

    def changes(self, algorithm: Algorithm) -> list[Change]:
        return list(algorithm.run(self.candidate, self.calibration))

    def changed(self, *changes: Change) -> GraphModule:
        """Return a copy of the prepared model with changes."""
        return write(copied(self.candidate.model), changes, "prepared")


def batches(shape: Sequence[int], count: int = 6, seed: int = 1) -> list[tuple[Tensor]]:
    """Inputs whose channels are correlated and not centred, as activations are."""
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(shape, generator=generator) for _ in range(count)]
    return [((x + x.roll(1, 1) + 0.5 * x.mean(1, keepdim=True) + 0.7).relu(),) for x in made]


def subject(
    model: nn.Module, data: Sequence[tuple[Tensor]], kind: str, *needing: Algorithm, **scopes: Any
) -> Subject:
    """Prepare and calibrate a model, with the statistics that algorithms require."""
    quantizer = qreg.get_quantizer("kernels", kind, registry=REGISTRY)
    for name, chosen in scopes.items():
        quantizer.set_module_name(name, chosen)
    prepared = qreg.prepare(model.eval(), quantizer, data[0])
    statistics = [each for algorithm in needing for each in algorithm.statistics]
    collecting = Collecting(prepared, statistics)
    with torch.no_grad():
        for batch in data:
            collecting.run(*batch)
    assert not collecting.collected.failed
    reference = float_graph(prepared)
    candidate = Candidate(
        model=prepared,
        reference=reference,
        decisions=tuple(quantizer.decisions),
        kept=quantizer.kept_in_float(reference),
        backend=BACKEND,
        modes=quantizer.modes,
    )
    return Subject(candidate, Calibration(list(data), collecting.collected.values))


def integer_weights(model: GraphModule) -> dict[str, Tensor]:
    """Convert a prepared model, and return the integers of its layers by their names."""
    converted = convert(model)
    found: dict[str, Tensor] = {}
    for node in converted.graph.nodes:
        if str(node.target) in {*LAYERS, *TRANSPOSED}:
            weight = node.args[1].args[0]
            found[node.name] = getattr(converted, str(weight.target)).detach()
    return found


KINDS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {}


def _add(name: str, make: Any, *shape: int) -> None:
    torch.manual_seed(len(KINDS))
    KINDS[name] = (nn.Sequential(make()), shape)


_add("linear", lambda: nn.Linear(7, 5), 4, 7)
_add("linear_3d", lambda: nn.Linear(7, 5, bias=False), 4, 3, 7)
_add("conv1d", lambda: nn.Conv1d(4, 6, 3, 2, 1, 2), 2, 4, 12)
_add("conv2d", lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2)), 2, 4, 9, 8)
_add("conv2d_without_bias", lambda: nn.Conv2d(4, 6, 3, bias=False), 2, 4, 7, 7)
_add("conv2d_unbatched", lambda: nn.Conv2d(4, 6, 3, padding=1), 4, 7, 7)
_add("conv3d", lambda: nn.Conv3d(2, 3, (2, 3, 1), (1, 2, 1), (0, 1, 0)), 2, 2, 4, 7, 5)
_add("grouped", lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), 2, 4, 7, 6)
_add("depthwise", lambda: nn.Conv2d(5, 10, 3, 2, 1, groups=5), 2, 5, 9, 9)
_add("transposed1d", lambda: nn.ConvTranspose1d(4, 6, 4, 3, 1, 2), 2, 4, 7)
_add("transposed2d", lambda: nn.ConvTranspose2d(4, 6, 3, (2, 1), 1, (1, 0)), 2, 4, 5, 6)
_add("transposed3d", lambda: nn.ConvTranspose3d(2, 3, (2, 3, 1), (1, 2, 1)), 2, 2, 3, 4, 4)
_add("transposed_groups", lambda: nn.ConvTranspose2d(4, 6, 3, 2, dilation=2, groups=2), 2, 4, 5, 5)
