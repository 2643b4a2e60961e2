"""``XNNPACKQuantizer``: the interface of executorch's class, on qreg's engine.

It is the registry's quantizer for the backend ``xnnpack``, third-party annotators included, with
the class methods of the class it replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn import functional as F
from torchao.quantization.pt2e.quantizer import OperatorConfig, QuantizationConfig

from qreg import Annotator
from qreg.configs.named import made_config, made_configs
from qreg.configs.validation import equivalent, mode_of
from qreg.graph.provenance import module_stack, type_name
from qreg.plugins.operator_names import registered
from qreg.plugins.registry import Registry, installed
from qreg.quantizer.annotation_pass import annotate_with
from qreg.quantizer.registry_quantizer import Config, RegistryQuantizer
from qreg_xnnpack.annotators import shape
from qreg_xnnpack.config import get_symmetric_quantization_config

Operators = list[list[Any]]

CONV = ([nn.Conv1d], [nn.Conv2d], [F.conv1d], [F.conv2d])
TRANSPOSED = (
    [nn.ConvTranspose1d],
    [nn.ConvTranspose2d],
    [F.conv_transpose1d],
    [F.conv_transpose2d],
)
LINEAR = ([nn.Linear], [F.linear])
RELU = ([nn.ReLU], [F.relu])
CLAMP = ([nn.Hardtanh], [F.hardtanh], [nn.ReLU6], [F.relu6])
PAD = ([F.pad],)
BATCH_NORM = ([nn.BatchNorm1d], [nn.BatchNorm2d], [F.batch_norm])


def _chained(*links: Sequence[list[Any]]) -> Operators:
    chains: Operators = [[]]
    for link in links:
        chains = [[*chain, *end] for chain in chains for end in link]
    return chains


# How users of the class write patterns down: as lists of modules and functions.
PATTERNS: dict[str, Operators] = {
    "conv_bn_relu": _chained(CONV, BATCH_NORM, RELU),
    "conv_bn": _chained(CONV, BATCH_NORM),
    "conv_transpose_bn_relu": _chained(TRANSPOSED, BATCH_NORM, RELU),
    "conv_transpose_bn": _chained(TRANSPOSED, BATCH_NORM),
    "conv_relu": _chained(CONV, RELU),
    "conv_clamp": _chained(CONV, CLAMP),
    "conv": _chained(CONV),
    "conv_transpose_relu": _chained(TRANSPOSED, RELU),
    "conv_transpose_clamp": _chained(TRANSPOSED, CLAMP),
    "conv_transpose": _chained(TRANSPOSED),
    "linear_relu": _chained(LINEAR, RELU),
    "linear_clamp": _chained(LINEAR, CLAMP),
    "linear": _chained(LINEAR),
    "add_relu": _chained(([torch.add],), RELU),
    "add": [[torch.add]],
    "sub": [[torch.sub]],
    "mul_relu": _chained(([torch.mul],), RELU),
    "mul": [[torch.mul]],
    "cat": [[torch.cat]],
    "adaptive_avg_pool2d": [[nn.AdaptiveAvgPool2d], [F.adaptive_avg_pool2d]],
    "hardswish": [[nn.Hardswish], [F.hardswish]],
    "sigmoid": [[nn.Sigmoid], [torch.sigmoid]],
    "tanh": [[nn.Tanh], [torch.tanh]],
    "gelu": [[nn.GELU], [F.gelu]],
    "leaky_relu": [[nn.LeakyReLU], [F.leaky_relu]],
    "silu": [[nn.SiLU], [F.silu]],
    "max_pool2d": [[nn.MaxPool2d], [F.max_pool2d]],
    "pad_conv_relu": _chained(PAD, CONV, RELU),
    "pad_conv_clamp": _chained(PAD, CONV, CLAMP),
    "pad_conv": _chained(PAD, CONV),
    "relu": _chained(RELU),
    "clamp": [*_chained(CLAMP), [torch.clamp]],
    "mean": [[torch.mean]],
    "permute": [[torch.permute], [torch.transpose]],
    "view": [[torch.reshape], [nn.Flatten], [torch.flatten]],
    "unsqueeze": [[torch.unsqueeze]],
}


class XNNPACKQuantizer(RegistryQuantizer):
    """A torchao Quantizer for XNNPACK that starts without a config; configs are set by setters.

    >>> quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config())
    """

    def __init__(
        self, config: Config = None, *, registry: Registry | None = None, **options: Any
    ) -> None:
        """``options`` are those of :class:`qreg.RegistryQuantizer`."""
        super().__init__("xnnpack", config, registry=registry, **options)

    @classmethod
    def get_supported_quantization_configs(cls) -> list[QuantizationConfig]:
        """Return the configs of the backend, third-party configs included."""
        return list(made_configs(installed(), "xnnpack").values())

    @classmethod
    def get_supported_operator_for_quantization_config(
        cls, quantization_config: QuantizationConfig | str | None
    ) -> Operators:
        """Return all patterns that a config covers, each once, as lists of modules and functions.

        An operator without a module or function is returned as its ``OpOverload``. The config is a
        name, any config that quantizes alike, or None for the patterns of all configs.
        """
        if isinstance(quantization_config, str):
            quantization_config = made_config(installed(), "xnnpack", quantization_config)
        return _each_once(
            pattern
            for config, operators in cls.get_supported_operators()
            if quantization_config is None or equivalent(config, quantization_config)
            for pattern in operators
        )

    @classmethod
    def get_supported_operators(cls) -> list[OperatorConfig]:
        """Return one entry for each config, with all patterns that it covers."""
        annotators: list[Annotator] = [each.value for each in installed().annotators("xnnpack")]
        return [
            OperatorConfig(config, _patterns(config, annotators))
            for config in cls.get_supported_quantization_configs()
        ]


def _patterns(config: QuantizationConfig, annotators: Sequence[Annotator]) -> Operators:
    covering = (each for each in annotators if mode_of(config) in each.modes)
    return _each_once(pattern for each in covering for pattern in _spelled(each))


def _each_once(patterns: Iterable[list[Any]]) -> Operators:
    return [list(pattern) for pattern in dict.fromkeys(map(tuple, patterns))]


def _spelled(annotator: Annotator) -> Operators:
    if annotator.name in PATTERNS:
        return PATTERNS[annotator.name]
    found = map(registered, annotator.targets)
    return [[operator] for operator in found if operator is not None]


def propagate_annotation(model: GraphModule) -> None:
    """Share the qparams of a quantized input with operators that move or clip values."""
    annotate_with(shape.CARRYING, model, get_symmetric_quantization_config())


def get_module_name_filter(module_name: str) -> Callable[[Node], bool]:
    """Return a filter for the nodes of a module and its submodules, by the module's path."""
    return lambda node: module_name in [path for path, _ in module_stack(node)]


def get_module_type_filter(module_type: type | str) -> Callable[[Node], bool]:
    """Return a filter for the nodes of modules of a class and their submodules."""
    name = type_name(module_type)
    return lambda node: name in [type_ for _, type_ in module_stack(node)]
