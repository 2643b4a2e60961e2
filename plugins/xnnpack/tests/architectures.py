"""Architectures from ``transformers``, made small from their configs, with random weights.

Each is a module of tensors only that gives one tensor, and a function that makes a batch for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

Batch = tuple[Tensor, ...]
Architecture = tuple[Callable[[], nn.Module], Callable[[], Batch]]

VOCABULARY = 100
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, hf.pytorch_utils.Conv1D)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)

# Embeddings as large as the hidden states beside them.
EMBEDDINGS: dict[str, Any] = {"initializer_range": 1.0}
TRANSFORMER = {
    **EMBEDDINGS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
TEXT = {**TRANSFORMER, "vocab_size": VOCABULARY, "max_position_embeddings": 64}
VISION = {**TRANSFORMER, "image_size": 32, "patch_size": 8}
EAGER = {"attn_implementation": "eager"}  # the others have torch's fused attention


class FirstOutput(nn.Module):
    """A model that takes tensors by position and gives the first of its outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model(*inputs, return_dict=False)[0]


def pixels() -> Batch:
    return (torch.randn(2, 3, 32, 32),)


def large_pixels() -> Batch:
    return (torch.randn(2, 3, 64, 64),)


def tokens() -> Batch:
    return (torch.randint(3, VOCABULARY, (1, 16)),)


def masked_tokens() -> Batch:
    """Tokens of which the last four are padding."""
    return (*tokens(), (torch.arange(16) < 12).long()[None])


def speech() -> Batch:
    return (torch.randn(1, 1600),)


def spectrogram() -> Batch:
    return (torch.randn(1, 16, 64),)


def scaled(model: nn.Module, batch: Callable[[], Batch]) -> nn.Module:
    """Lets activations keep their size from layer to layer, as those of a trained model do.

    The narrower the layers, the smaller ``transformers``' initialisation leaves what passes through
    them: after a few, the smallest scale of a config (2**-12) would be too coarse.
    """
    for module in model.modules():
        if isinstance(module, WEIGHTED):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    norms = [module for module in model.modules() if isinstance(module, BATCH_NORMS)]
    for norm in norms:
        _let_pass(norm)
        norm.train()
    with torch.no_grad():
        for _ in range(4):
            model(*batch())
    return model.eval()


def _let_pass(norm: Any) -> None:
    """Centres a batch norm's outputs at 2, so that most pass the relu after it.

    Random layers between relus are chaotic when centred at 0: each one takes the mean away and
    keeps the noise, which after 27 layers is all that is left, in int8 on any backend.
    """
    norm.momentum = None  # the statistics of all batches, at the same weight
    norm.reset_running_stats()
    nn.init.ones_(norm.weight)
    nn.init.constant_(norm.bias, 2.0)


def architecture(
    kind: type[Any],
    config: Any,
    batch: Callable[[], Batch],
    attention: str = "eager",
    **options: Any,
) -> Architecture:
    """The module of a ``transformers`` class and config, and its batches."""
    config.num_labels = 10

    def make() -> nn.Module:
        torch.manual_seed(0)
        return scaled(FirstOutput(kind(config, **options)).eval(), batch)

    return make, batch


ARCHITECTURES: dict[str, Architecture] = {
    "MobileNetV1": architecture(
        hf.MobileNetV1ForImageClassification,
        hf.MobileNetV1Config(image_size=64, depth_multiplier=0.25, min_depth=8),
        large_pixels,
    ),
    "MobileNetV2": architecture(
        hf.MobileNetV2ForImageClassification,
        hf.MobileNetV2Config(image_size=64, depth_multiplier=0.25),
        large_pixels,
    ),
    "ResNet of basic blocks": architecture(
        hf.ResNetForImageClassification,
        hf.ResNetConfig(
            embedding_size=16, hidden_sizes=[16, 32], depths=[2, 2], layer_type="basic"
        ),
        pixels,
    ),
    "ResNet of bottlenecks": architecture(
        hf.ResNetForImageClassification,
        hf.ResNetConfig(embedding_size=16, hidden_sizes=[32, 64], depths=[1, 2]),
        pixels,
    ),
    "RegNet": architecture(
        hf.RegNetForImageClassification,
        hf.RegNetConfig(
            embedding_size=16, hidden_sizes=[16, 32], depths=[1, 2], groups_width=8, layer_type="y"
        ),
        pixels,
    ),
    "ConvNext": architecture(
        hf.ConvNextForImageClassification,
        hf.ConvNextConfig(
            hidden_sizes=[16, 32], depths=[1, 2], num_stages=2, layer_scale_init_value=0.5
        ),
        pixels,
    ),
    "ConvNextV2": architecture(
        hf.ConvNextV2ForImageClassification,
        hf.ConvNextV2Config(hidden_sizes=[16, 32], depths=[1, 2], num_stages=2),
        pixels,
    ),
    "EfficientNet": architecture(
        hf.EfficientNetForImageClassification,
        hf.EfficientNetConfig(
            image_size=64, width_coefficient=0.25, depth_coefficient=0.25, hidden_dim=320
        ),
        large_pixels,
    ),
    "PoolFormer": architecture(
        hf.PoolFormerForImageClassification,
        hf.PoolFormerConfig(
            hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], layer_scale_init_value=0.5
        ),
        large_pixels,
    ),
    "MobileViT": architecture(
        hf.MobileViTForImageClassification,
        hf.MobileViTConfig(
            image_size=64, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 24, 32, 64]
        ),
        large_pixels,
    ),
    "ViT": architecture(hf.ViTForImageClassification, hf.ViTConfig(**VISION), pixels),
    "DeiT": architecture(hf.DeiTModel, hf.DeiTConfig(**VISION, **EAGER), pixels),
    "DINOv2": architecture(hf.Dinov2Model, hf.Dinov2Config(**VISION, layerscale_value=0.5), pixels),
    "BEiT": architecture(hf.BeitModel, hf.BeitConfig(**VISION, **EAGER), pixels),
    "Swin": architecture(
        hf.SwinForImageClassification,
        hf.SwinConfig(image_size=32, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4),
        pixels,
    ),
    "Segformer": architecture(
        hf.SegformerForSemanticSegmentation,
        hf.SegformerConfig(
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 3, 4],
            decoder_hidden_size=32,
        ),
        large_pixels,
    ),
    "PVT": architecture(
        hf.PvtModel,
        hf.PvtConfig(
            **EMBEDDINGS,
            image_size=64,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 2, 3, 4],
        ),
        large_pixels,
    ),
    "CLIP's image side": architecture(
        hf.CLIPVisionModel, hf.CLIPVisionConfig(**VISION, projection_dim=32), pixels
    ),
    "CLIP's text side": architecture(
        hf.CLIPTextModel, hf.CLIPTextConfig(**TEXT, projection_dim=32, eos_token_id=2), tokens
    ),
    "BERT": architecture(
        hf.BertModel, hf.BertConfig(**TEXT), masked_tokens, add_pooling_layer=False
    ),
    "DistilBERT": architecture(
        hf.DistilBertModel,
        hf.DistilBertConfig(
            **EAGER, vocab_size=VOCABULARY, dim=32, n_layers=2, n_heads=4, hidden_dim=64
        ),
        masked_tokens,
    ),
    "RoBERTa": architecture(
        hf.RobertaForSequenceClassification, hf.RobertaConfig(**TEXT, **EAGER), tokens
    ),
    "Electra": architecture(hf.ElectraModel, hf.ElectraConfig(**TEXT, embedding_size=16), tokens),
    "ALBERT": architecture(
        hf.AlbertModel, hf.AlbertConfig(**TEXT, embedding_size=16), tokens, add_pooling_layer=False
    ),
    "MobileBERT": architecture(
        hf.MobileBertModel,
        hf.MobileBertConfig(**TEXT, embedding_size=16, intra_bottleneck_size=16),
        tokens,
        add_pooling_layer=False,
    ),
    "SqueezeBERT": architecture(
        hf.SqueezeBertModel, hf.SqueezeBertConfig(**TEXT, embedding_size=32), tokens
    ),
    "MPNet": architecture(
        hf.MPNetModel, hf.MPNetConfig(**TEXT, **EAGER), tokens, add_pooling_layer=False
    ),
    "DeBERTaV2": architecture(
        hf.DebertaV2Model,
        hf.DebertaV2Config(**TEXT, relative_attention=True, pos_att_type=["p2c", "c2p"]),
        tokens,
    ),
    "T5's encoder": architecture(
        hf.T5EncoderModel,
        hf.T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4),
        tokens,
    ),
    "GPT-2": architecture(
        hf.GPT2LMHeadModel,
        hf.GPT2Config(
            **EAGER,
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=64,
            use_cache=False,
        ),
        tokens,
    ),
    "OPT": architecture(
        hf.OPTForCausalLM,
        hf.OPTConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            word_embed_proj_dim=32,
            use_cache=False,
        ),
        tokens,
    ),
    "Llama": architecture(
        hf.LlamaForCausalLM,
        hf.LlamaConfig(**TEXT, num_key_value_heads=2, use_cache=False),
        tokens,
    ),
    "GPT-NeoX": architecture(
        hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig(**TEXT, **EAGER, use_cache=False), tokens
    ),
    "Wav2Vec2": architecture(
        hf.Wav2Vec2Model,
        hf.Wav2Vec2Config(
            **TRANSFORMER,
            conv_dim=[16, 16, 16],
            conv_stride=[5, 4, 2],
            conv_kernel=[10, 8, 4],
            num_feat_extract_layers=3,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
        ),
        speech,
    ),
    "HuBERT": architecture(
        hf.HubertModel,
        hf.HubertConfig(
            **TRANSFORMER,
            **EAGER,
            conv_dim=[16, 16, 16],
            conv_stride=[5, 4, 2],
            conv_kernel=[10, 8, 4],
            num_feat_extract_layers=3,
            num_conv_pos_embeddings=15,
            num_conv_pos_embedding_groups=4,
            feat_extract_norm="layer",
        ),
        speech,
    ),
    "Whisper's encoder": architecture(
        hf.models.whisper.modeling_whisper.WhisperEncoder,
        hf.WhisperConfig(
            vocab_size=VOCABULARY,
            num_mel_bins=16,
            d_model=32,
            encoder_layers=2,
            encoder_attention_heads=4,
            encoder_ffn_dim=64,
            max_source_positions=32,
        ),
        spectrogram,
    ),
    "AST": architecture(
        hf.ASTModel,
        hf.ASTConfig(**TRANSFORMER, **EAGER, patch_size=8, num_mel_bins=16, max_length=64),
        lambda: (torch.randn(1, 64, 16),),
    ),
}
