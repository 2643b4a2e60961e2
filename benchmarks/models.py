"""The models that the benchmarks measure: from ``transformers``, with random weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers
from torch import Tensor, nn


class FirstOutput(nn.Module):
    """A model of one input that gives the first of its outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs, return_dict=False)[0]


def mobilenet(**options: object) -> nn.Module:
    config = transformers.MobileNetV2Config(**options)
    return FirstOutput(transformers.MobileNetV2ForImageClassification(config)).eval()


def resnet() -> nn.Module:
    config = transformers.ResNetConfig(
        hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic"
    )
    return FirstOutput(transformers.ResNetForImageClassification(config)).eval()


def vit() -> nn.Module:
    config = transformers.ViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768)
    return FirstOutput(transformers.ViTForImageClassification(config)).eval()


def bert() -> nn.Module:
    config = transformers.BertConfig(
        hidden_size=256, num_hidden_layers=6, num_attention_heads=4, intermediate_size=1024
    )
    return FirstOutput(transformers.BertModel(config, add_pooling_layer=False)).eval()


def pixels(size: int = 224) -> Tensor:
    return torch.randn(1, 3, size, size)


def tokens() -> Tensor:
    return torch.randint(0, 30000, (1, 64))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "MobileNetV2": (mobilenet, pixels),
    "ResNet-18": (resnet, pixels),
    "ViT-tiny": (vit, pixels),
    "BERT-small": (bert, tokens),
}
