"""Language models of transformers generate the tokens of their converted models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers.integrations.executorch import TorchExportableModuleForDecoderOnlyLM

import qreg

CACHE = 96
COMMON = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "use_cache": True,
}
GATED = {**COMMON, "intermediate_size": 64, "num_key_value_heads": 2}
CONFIGS = {
    "Llama": lambda: transformers.LlamaConfig(**GATED),
    "SmolLM": lambda: transformers.LlamaConfig(**GATED, tie_word_embeddings=True),
    "Qwen3": lambda: transformers.Qwen3Config(**GATED, head_dim=8),
    "Gemma": lambda: transformers.GemmaConfig(**{**GATED, "num_key_value_heads": 1}, head_dim=8),
    "GPT-2": lambda: transformers.GPT2Config(**COMMON, bos_token_id=0, eos_token_id=0),
    "OPT": lambda: transformers.OPTConfig(**COMMON, ffn_dim=64, word_embed_proj_dim=32),
}
QUICK = ("GPT-2", "dynamic")  # the guide has a Llama


def with_positions(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Gives OPT its positions, which it otherwise computes in a way that does not export."""
    start = kwargs["past_key_values"].get_seq_length()
    positions = start + torch.arange(kwargs["input_ids"].shape[1])
    return args, {**kwargs, "position_ids": positions[None]}


def decoder(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(4)  # more than one token is probable
    model.generation_config.cache_implementation = "static"
    if name == "OPT":
        model.register_forward_pre_hook(with_positions, with_kwargs=True)
    wrapped = TorchExportableModuleForDecoderOnlyLM(model, batch_size=1, max_cache_len=CACHE)
    module: nn.Module = wrapped.model
    return module


def quantized(name: str, length: str) -> qreg.Result:
    count = 3 if length == "dynamic" else 1
    example = {"input_ids": torch.ones(1, count).long(), "cache_position": torch.arange(count)}
    dim = torch.export.Dim("length", max=CACHE - 1)
    shapes = {"input_ids": {1: dim}, "cache_position": {0: dim}} if count > 1 else None
    return qreg.quantize(
        decoder(name),
        example,
        config="int8_dynamic_per_channel",
        dynamic_shapes=shapes,
        progress=False,
    )


@pytest.mark.parametrize(
    ("name", "length"),
    [
        pytest.param(name, length, marks=() if (name, length) == QUICK else pytest.mark.sweep)
        for name in CONFIGS
        for length in ("dynamic", "of one token")
    ],
)
def test_the_program_generates_the_tokens_of_the_converted_model(name: str, length: str) -> None:
    result = quantized(name, length)
    prompt = [3, 1, 4, 1, 5, 9, 2, 6]
    tokens = qreg.generate(result, prompt, max_new_tokens=64)
    assert tokens == qreg.generate(result.converted, prompt, max_new_tokens=64)
    assert result.verification is not None
    assert result.verification.to_converted[0].sqnr > 40
    assert not {"aten.bmm.default", "aten._softmax.default"} & set(result.lowered.outside)
    assert qreg.generate(result.program, prompt, max_new_tokens=64) == tokens
    whole = [*prompt, *tokens[:20]]  # the cache is read as it was written, in one call or in many
    assert qreg.generate(result, whole, max_new_tokens=44) == tokens[20:]
