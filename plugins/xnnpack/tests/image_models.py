"""Image models of ``timm`` and ``torchvision``, at small inputs, with random weights.

Each is a module that gives one tensor, and a function that makes a batch for it. Depths are reduced
where a model takes them as options. Weights and the statistics of batch norms are those of
``architectures.scaled``. Layer scales let through half of what their blocks compute: at the 1e-6
that they begin with, they would hide the blocks. Embeddings are as large as patches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import before_torchvision as before_torchvision
import timm
import torch
import torchvision
from architectures import BATCH_NORMS, Architecture, Batch, scaled
from torch import Tensor, nn
from torchvision.models import detection, segmentation

import qreg
from qreg.verification.metrics import compare

COMBINATIONS = {
    "xnnpack static": {"backend": "xnnpack"},
    "xnnpack dynamic": {"backend": "xnnpack", "config": "int8_dynamic_per_channel"},
    "onnxruntime static": {"backend": "onnxruntime"},
    "openvino static": {"backend": "openvino"},
}
EMBEDDINGS = ("cls_token", "dist_token", "pos_embed")
LAYER_SCALES = ("gamma", "layer_scale", "layer_scale_1", "layer_scale_2")


class Flat(nn.Module):
    """A model that gives the tensors of its outputs as one, for each image."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        first, *others = [each.flatten(1) for each in _tensors(self.model(images))]
        return torch.cat([first, *others], dim=1) if others else first


class Detector(nn.Module):
    """The backbone and the heads of a detector; what it does with their boxes is no network."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Any:
        return self.head(list(self.backbone(images).values()))


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [tensor for part in parts for tensor in _tensors(part)]


def pixels(size: int) -> Batch:
    return (torch.randn(2, 3, size, size),)


def image_model(make: Callable[[], nn.Module], size: int) -> Architecture:
    batch = partial(pixels, size)

    def made() -> nn.Module:
        torch.manual_seed(0)
        model = make()
        for name, parameter in model.named_parameters():
            kind = name.rpartition(".")[2]
            if kind in LAYER_SCALES:
                nn.init.constant_(parameter, 0.5)
            if kind in EMBEDDINGS:
                nn.init.normal_(parameter)
        model = scaled(Flat(model).eval(), batch)
        if not any(isinstance(each, BATCH_NORMS) for each in model.modules()):
            _double(model)
        return model

    return made, batch


def _double(model: nn.Module) -> None:
    """Double the power that convolutions give, of which the relu after each takes half."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data *= 2**0.5


def of_timm(name: str, size: int = 64, **options: Any) -> Architecture:
    return image_model(partial(timm.create_model, name, num_classes=10, **options), size)


def of_torchvision(name: str, size: int = 64, **options: Any) -> Architecture:
    make = partial(torchvision.models.get_model, name, weights=None, num_classes=10, **options)
    return image_model(make, size)


def segmenter(name: str, size: int = 64) -> Architecture:
    make = partial(getattr(segmentation, name), weights=None, weights_backbone=None, num_classes=5)
    return image_model(make, size)


def mobileone() -> nn.Module:
    """The form for inference, in which the branches of a block are one convolution."""
    return timm.utils.reparameterize_model(timm.create_model("mobileone_s0", num_classes=10))


def ssdlite() -> nn.Module:
    whole = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    return Detector(whole.backbone, whole.head)


def faster_rcnn() -> nn.Module:
    """Its region proposals; the boxes are cut out of the features by an operator of its own."""
    whole = detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    return Detector(whole.backbone, whole.rpn.head)


IMAGE_MODELS: dict[str, Architecture] = {
    # convolutions
    "ResNet": of_timm("resnet18", layers=(1, 1, 1, 1)),
    "ResNet of bottlenecks": of_timm("resnet26d", layers=(1, 1, 1, 1)),
    "RegNetX": of_timm("regnetx_002"),
    "RegNetY": of_timm("regnety_002"),
    "SqueezeNet": of_torchvision("squeezenet1_1"),
    "DenseNet": of_timm("densenet121", block_config=(2, 2, 2, 2)),
    "GoogLeNet": of_torchvision("googlenet", aux_logits=False, init_weights=False),
    "InceptionV3": of_timm("inception_v3", 75),
    "ShuffleNetV2": of_torchvision("shufflenet_v2_x0_5"),
    "MobileNetV2": of_timm("mobilenetv2_050"),
    "MobileNetV3": of_timm("mobilenetv3_small_100"),
    "MobileNetV4": of_timm("mobilenetv4_conv_small"),
    "MNASNet": of_torchvision("mnasnet0_5"),
    "EfficientNet": of_timm("efficientnet_b0"),
    "EfficientNet-Lite": of_timm("efficientnet_lite0"),
    "EfficientNet of torchvision": of_torchvision("efficientnet_b0"),
    "GhostNet": of_timm("ghostnet_050"),
    "LCNet": of_timm("lcnet_050"),
    "RepVGG": of_timm("repvgg_a0", 32),
    "MobileOne": image_model(mobileone, 64),
    "NFNet": of_timm("test_nfnet"),
    "ConvNeXt": of_timm("convnext_atto", depths=(1, 1, 2, 1)),
    "StarNet": of_timm("starnet_s1", depths=(1, 1, 2, 1)),
    # convolutions and attention
    "MobileViT": of_timm("mobilevit_xxs"),
    "MobileViTV2": of_timm("mobilevitv2_050"),
    "EdgeNeXt": of_timm("edgenext_xx_small", depths=(1, 1, 2, 1)),
    "FastViT": of_timm("fastvit_t8", layers=(1, 1, 1, 1)),
    "RepViT": of_timm("repvit_m0_9"),
    "EfficientViT": of_timm("efficientvit_b0", depths=(1, 1, 1, 1)),
    "EfficientFormer": of_timm("efficientformer_l1", 224, depths=(1, 1, 1, 2)),
    "EfficientFormerV2": of_timm("efficientformerv2_s0", 224),
    "PoolFormer": of_timm("poolformer_s12"),
    "CoAtNet": of_timm("test_coatnet", img_size=64),
    "MaxViT": of_timm("test_maxvit", img_size=64),
    "LeViT": of_timm("levit_128s", 224),
    # attention
    "ViT": of_timm("vit_tiny_patch16_224", img_size=64, depth=2),
    "DeiT": of_timm("deit_tiny_distilled_patch16_224", img_size=64, depth=2),
    "Swin": of_timm("swin_tiny_patch4_window7_224", 56, img_size=56, depths=(1, 1, 2, 1)),
    "PVTV2": of_timm("pvt_v2_b0", depths=(1, 1, 1, 1)),
    "MLP-Mixer": of_timm("mixer_s32_224", img_size=64),
    # dense outputs
    "DeepLabV3": segmenter("deeplabv3_mobilenet_v3_large"),
    "FCN": segmenter("fcn_resnet50"),
    "LR-ASPP": segmenter("lraspp_mobilenet_v3_large"),
    "SSDLite": image_model(ssdlite, 96),
    "Faster R-CNN": image_model(faster_rcnn, 64),
}


def measured(name: str, combination: str) -> tuple[float, float]:
    """The share of multiply-accumulates that run in int8, and the SQNR to float in dB."""
    options: dict[str, Any] = COMBINATIONS[combination]
    make, batch = IMAGE_MODELS[name]
    model, batches = make(), [batch() for _ in range(4)]
    result = qreg.quantize(model, batches[0], calibration=batches, progress=False, **options)
    with torch.no_grad():
        expected = torch.cat([model(*each).flatten() for each in batches])
    found = torch.cat([result.run(*each).flatten() for each in batches])
    return result.report.int8_share or 0.0, compare(expected, found).sqnr


def with_rounded_weights(name: str) -> float:
    """The SQNR to float in dB if each channel of the weights is rounded to 8 bits, and no more."""
    make, batch = IMAGE_MODELS[name]
    model, batches = make(), [batch() for _ in range(4)]
    with torch.no_grad():
        expected = torch.cat([model(*each).flatten() for each in batches])
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                weight = module.weight
                scale = weight.abs().amax(tuple(range(1, weight.dim())), keepdim=True) / 127
                weight.copy_((weight / scale).round() * scale)
        found = torch.cat([model(*each).flatten() for each in batches])
    return compare(expected, found).sqnr
