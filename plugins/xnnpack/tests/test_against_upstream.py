"""Annotations equal those of executorch's quantizer, edge for edge, but where that is wrong.

Each case names the operators that differ and why: a row of the table of what upstream gets wrong
("row 6"), or a pattern that the delegate runs in int8 and upstream does not annotate ("more").
Any other difference fails, and so does an explanation that no longer applies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from upstream import differing_operators

PER_CHANNEL = {"is_per_channel": True}
PER_TENSOR = {"is_per_channel": False}
DYNAMIC = {"is_per_channel": True, "is_dynamic": True}
QAT = {"is_per_channel": True, "is_qat": True}

MORE = "more: the delegate runs it in int8"
Case = tuple[nn.Module, tuple[Any, ...], dict[str, bool], dict[str, str]]


class Call(nn.Module):
    def __init__(self, function: Callable[..., Any], *modules: nn.Module) -> None:
        super().__init__()
        self.function, self.modules_ = function, nn.ModuleList(modules)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*self.modules_, *inputs)


def image(channels: int = 4) -> Tensor:
    return torch.randn(1, channels, 8, 8)


def conv(*behind: nn.Module, **options: Any) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, **options), *behind)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(x + self.second(self.first(x))))


row, rows = torch.randn(2, 8), torch.randn(1, 5, 8)
ids = torch.randint(0, 9, (1, 5))

CASES: dict[str, Case] = {
    "conv": (conv(), (image(),), PER_CHANNEL, {}),
    "conv per tensor": (conv(), (image(),), PER_TENSOR, {}),
    "conv without bias": (conv(bias=False), (image(),), PER_CHANNEL, {}),
    "conv in groups": (conv(groups=2), (image(),), PER_CHANNEL, {}),
    "conv and relu": (conv(nn.ReLU()), (image(),), PER_CHANNEL, {}),
    "conv and relu in place": (conv(nn.ReLU(inplace=True)), (image(),), PER_CHANNEL, {}),
    "conv in 1d": (nn.Conv1d(4, 4, 3), (torch.randn(1, 4, 9),), PER_CHANNEL, {}),
    "conv, batch norm, relu": (conv(nn.BatchNorm2d(4), nn.ReLU()), (image(),), PER_CHANNEL, {}),
    "conv transposed": (nn.ConvTranspose2d(4, 4, 3), (image(),), PER_CHANNEL, {}),
    "conv transposed and relu": (
        nn.Sequential(nn.ConvTranspose2d(4, 4, 3), nn.ReLU()),
        (image(),),
        PER_CHANNEL,
        {},
    ),
    "conv transposed in groups": (
        nn.ConvTranspose2d(4, 4, 3, groups=2),
        (image(),),
        PER_TENSOR,
        {},
    ),
    "linear": (nn.Linear(8, 4), (row,), PER_CHANNEL, {}),
    "linear without bias": (nn.Linear(8, 4, bias=False), (row,), PER_CHANNEL, {}),
    "linear over tokens": (nn.Linear(8, 4), (rows,), PER_CHANNEL, {}),
    "linear and relu": (nn.Sequential(nn.Linear(8, 4), nn.ReLU()), (row,), PER_CHANNEL, {}),
    "linear used twice": (
        Call(lambda linear, x: linear(linear(x)), nn.Linear(8, 8)),
        (row,),
        PER_CHANNEL,
        {},
    ),
    "add": (Call(torch.add), (row, row.clone()), PER_CHANNEL, {}),
    "add to itself": (Call(lambda x: x + x), (row,), PER_CHANNEL, {}),
    "add of a scalar": (Call(lambda x: x + 1), (row,), PER_CHANNEL, {}),
    "add and relu": (Call(lambda x, y: F.relu(x + y)), (row, row.clone()), PER_CHANNEL, {}),
    "mul": (Call(torch.mul), (row, row.clone()), PER_CHANNEL, {}),
    "cat": (Call(lambda x, y: torch.cat([x, y]) + 1), (row, row.clone()), PER_CHANNEL, {}),
    "cat after operators": (
        Call(lambda x, y: torch.cat([F.relu(x + y), x * y, x.view(2, 8)]) * 2),
        (row, row.clone()),
        PER_CHANNEL,
        {},
    ),
    "global pooling": (conv(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (image(),), PER_CHANNEL, {}),
    "max pooling": (conv(nn.ReLU(), nn.MaxPool2d(2)), (image(),), PER_CHANNEL, {}),
    "mean": (
        Call(lambda c, x: c(x).mean((2, 3), keepdim=True), conv()),
        (image(),),
        PER_CHANNEL,
        {},
    ),
    "moves": (
        Call(lambda x: (x + x).permute(0, 2, 3, 1).transpose(1, 2).reshape(1, -1).view(4, -1)),
        (image(),),
        PER_CHANNEL,
        {},
    ),
    "residual": (Residual(), (image(),), PER_CHANNEL, {}),
    "residual in QAT": (Residual(), (image().repeat(2, 1, 1, 1),), QAT, {}),
    "dynamic linear": (nn.Linear(8, 4), (row,), DYNAMIC, {}),
    "dynamic conv": (conv(), (image(),), DYNAMIC, {}),
    "QAT conv, batch norm": (conv(nn.BatchNorm2d(4)), (image(),), QAT, {}),
    "QAT conv, batch norm, relu": (conv(nn.BatchNorm2d(4), nn.ReLU()), (image(),), QAT, {}),
    "QAT conv in 1d, batch norm": (
        nn.Sequential(nn.Conv1d(4, 4, 3), nn.BatchNorm1d(4)),
        (torch.randn(2, 4, 9),),
        QAT,
        {},
    ),
    "dynamic conv and relu": (
        conv(nn.ReLU()),
        (image(),),
        DYNAMIC,
        {"aten.conv2d.default": "row 6"},
    ),
    "QAT conv transposed, batch norm": (
        nn.Sequential(nn.ConvTranspose2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        (image(),),
        QAT,
        {"aten.conv_transpose2d.input": "row 7"},
    ),
    "cat at the output": (
        Call(lambda x, y: torch.cat([x, y])),
        (row, row.clone()),
        PER_CHANNEL,
        {"aten.cat.default": "nothing computes with what it joins"},
    ),
    "cat of integers": (
        Call(lambda x: torch.cat([x, x + 1])),
        (ids,),
        PER_CHANNEL,
        {"aten.cat.default": "row 9"},
    ),
    "mul and relu": (
        Call(lambda x, y: F.relu(x * y)),
        (row, row.clone()),
        PER_CHANNEL,
        {"aten.mul.Tensor": "row 11", "aten.relu.default": "row 11"},
    ),
    "pooling to 2 x 2": (
        conv(nn.AdaptiveAvgPool2d(2)),
        (image(),),
        PER_CHANNEL,
        {"aten.adaptive_avg_pool2d.default": "row 20"},
    ),
    "mean without keepdim": (
        Call(lambda c, x: c(x).mean((2, 3)), conv()),
        (image(),),
        PER_CHANNEL,
        {"aten.mean.dim": "row 20"},
    ),
    "squeeze": (
        Call(lambda c, x: c(x).squeeze(0), conv()),
        (image(),),
        PER_CHANNEL,
        {},
    ),
    "conv in 3d": (
        nn.Conv3d(4, 4, 3),
        (torch.randn(1, 4, 8, 8, 8),),
        PER_CHANNEL,
        {"aten.conv3d.default": "row 22"},
    ),
    "add in place of a scalar": (
        Call(lambda x: (x * x).add_(1)),
        (row,),
        PER_CHANNEL,
        {"aten.add_.Tensor": "row 23"},
    ),
    "slice": (
        Call(lambda x: (x + x)[:, 1:3]),
        (row,),
        PER_CHANNEL,
        {"aten.slice.Tensor": "row 4"},
    ),
    "sub": (Call(torch.sub), (row, row.clone()), PER_CHANNEL, {"aten.sub.Tensor": MORE}),
    "unsqueeze": (
        Call(lambda x: (x + x).unsqueeze(-1)),
        (row,),
        PER_CHANNEL,
        {"aten.unsqueeze.default": MORE},
    ),
    "conv and relu6": (
        conv(nn.ReLU6()),
        (image(),),
        PER_CHANNEL,
        {"aten.conv2d.default": MORE, "aten.hardtanh.default": MORE},
    ),
    "linear and hardtanh": (
        nn.Sequential(nn.Linear(8, 4), nn.Hardtanh()),
        (row,),
        PER_CHANNEL,
        {"aten.linear.default": MORE, "aten.hardtanh.default": MORE},
    ),
    "dropout": (
        nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 4)),
        (torch.randn(2, 4),),
        PER_CHANNEL,
        {"aten.linear.default": "the second reads the first, not the dropout"},
    ),
    "pad and conv": (
        nn.Sequential(nn.ZeroPad2d(1), conv()),
        (image(),),
        PER_CHANNEL,
        {"aten.pad.default": MORE, "aten.conv2d.default": MORE},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_small_modules_are_annotated_as_upstream_does_or_for_a_reason(case: str) -> None:
    module, inputs, config, explained = CASES[case]
    assert differing_operators(module, inputs, **config) == set(explained)


class FirstOutput(nn.Module):
    """A transformers model as a function from one tensor to one tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs, return_dict=False)[0]


def without_dropouts(model: nn.Module) -> nn.Module:
    """qreg takes dropouts out of the graph, so the edges around them would have other names."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, nn.Identity())
    return model


PIXELS = torch.randn(1, 3, 64, 64)
TOKENS = torch.randint(0, 99, (1, 16))
SMALL_TEXT = {"vocab_size": 99}
DYNAMIC_EXPLAINED = {
    "ResNet": {"aten.conv2d.default": "row 6"},
    "MobileNetV2": {"aten.conv2d.default": "after a pad, which the delegate fuses: cannot run"},
}
FOLDED = "one of its inputs is computed ahead of time: the graph has a constant there"
NORMED = {"aten.add.Tensor": "a norm and no int8 operator reads it"}
PADDED_CLAMPED = {
    "aten.pad.default": MORE,
    "aten.conv2d.default": MORE,
    "aten.hardtanh.default": MORE,
}

ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], Tensor, dict[str, str]]] = {
    "MobileNetV2": (
        lambda: transformers.MobileNetV2Model(transformers.MobileNetV2Config(image_size=64)),
        PIXELS,
        PADDED_CLAMPED,
    ),
    "ResNet": (
        lambda: transformers.ResNetModel(
            transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[2, 2])
        ),
        PIXELS,
        {},
    ),
    "ViT": (
        lambda: transformers.ViTModel(
            transformers.ViTConfig(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
                image_size=64,
            ),
            add_pooling_layer=False,
        ),
        PIXELS,
        {"aten.cat.default": FOLDED, "aten.gelu.default": MORE, **NORMED},
    ),
    "BERT": (
        lambda: transformers.BertModel(
            transformers.BertConfig(
                **SMALL_TEXT,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
            ),
            add_pooling_layer=False,
        ),
        TOKENS,
        {"aten.add.Tensor": FOLDED, "aten.gelu.default": MORE},
    ),
    "DistilBERT": (
        lambda: transformers.DistilBertModel(
            transformers.DistilBertConfig(
                **SMALL_TEXT, dim=32, n_layers=2, n_heads=2, hidden_dim=64
            )
        ),
        TOKENS,
        {"aten.add.Tensor": FOLDED, "aten.gelu.default": MORE},
    ),
    "ConvNeXt": (
        lambda: transformers.ConvNextModel(
            transformers.ConvNextConfig(
                hidden_sizes=[16, 32], depths=[1, 1], num_stages=2, image_size=64
            )
        ),
        PIXELS,
        {"aten.gelu.default": MORE, **NORMED, "aten.permute.default": "it reads such a sum"},
    ),
    "MobileViT": (
        lambda: transformers.MobileViTModel(
            transformers.MobileViTConfig(
                image_size=64,
                hidden_sizes=[16, 24, 32],
                neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32],
                num_attention_heads=2,
            )
        ),
        PIXELS,
        {"aten.silu.default": MORE, **NORMED},
    ),
}


@pytest.mark.parametrize("config", [PER_CHANNEL, DYNAMIC], ids=["static", "dynamic"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_are_annotated_as_upstream_does_or_for_a_reason(
    name: str, config: dict[str, bool]
) -> None:
    make, inputs, explained = ARCHITECTURES[name]
    torch.manual_seed(0)
    expected = DYNAMIC_EXPLAINED.get(name, {}) if "is_dynamic" in config else explained
    model = without_dropouts(FirstOutput(make()))
    assert differing_operators(model, (inputs,), **config) == set(expected)
