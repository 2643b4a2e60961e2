"""Language models of transformers generate the tokens of their converted models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers.integrations.executorch import TorchExportableModuleForDecoderOnlyLM

import qreg
from qreg.errors import InputError, InstallationError, PrecisionWarning
from qreg.pipeline.precision import to_float32
from qreg_xnnpack import use_custom_attention
from qreg_xnnpack.plugin import XNNPACK

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


def decoder(
    name: str, dtype: torch.dtype = torch.float32, *, widen: bool = False, layers: int = 2
) -> Any:
    torch.manual_seed(0)
    config = CONFIGS[name]()
    config.num_hidden_layers = layers
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(4)  # more than one token is probable
    model.to(dtype)
    if widen:
        model.float()
    model.generation_config.cache_implementation = "static"
    if name == "OPT":
        model.register_forward_pre_hook(with_positions, with_kwargs=True)
    wrapped = TorchExportableModuleForDecoderOnlyLM(model, batch_size=1, max_cache_len=CACHE)
    return wrapped.model


def test_a_decoder_in_half_precision_is_converted_with_its_cache() -> None:
    """The reference is converted ahead of its wrapping, which makes the cache."""
    half, single = decoder("Llama", torch.bfloat16), decoder("Llama", torch.bfloat16, widen=True)
    with pytest.warns(PrecisionWarning):
        converted = to_float32(half, (), None, [XNNPACK]).model
    for start in (0, 3):  # the second call reads the cache
        call = {"input_ids": torch.tensor([[3, 1, 4]]), "cache_position": start + torch.arange(3)}
        with torch.no_grad():
            assert converted(**call).equal(single(**call))
    assert half.static_cache.layers[0].keys.dtype == torch.bfloat16


def quantized(model: Any, length: str) -> qreg.Result:
    count = 3 if length == "dynamic" else 1
    example = {"input_ids": torch.ones(1, count).long(), "cache_position": torch.arange(count)}
    dim = torch.export.Dim("length", max=CACHE - 1)
    shapes = {"input_ids": {1: dim}, "cache_position": {0: dim}} if count > 1 else None
    return qreg.quantize(
        model,
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
    result = quantized(decoder(name), length)
    prompt = [3, 1, 4, 1, 5, 9, 2, 6]
    tokens = qreg.generate(result, prompt, max_new_tokens=64)
    assert tokens == qreg.generate(result.converted, prompt, max_new_tokens=64)
    assert result.verification is not None
    assert result.verification.to_converted[0].sqnr > 40
    assert not {"aten.bmm.default", "aten._softmax.default"} & set(result.lowered.outside)
    assert qreg.generate(result.program, prompt, max_new_tokens=64) == tokens
    whole = [*prompt, *tokens[:20]]  # the cache is read as it was written, in one call or in many
    assert qreg.generate(result, whole, max_new_tokens=44) == tokens[20:]


def custom(name: str, layers: int = 2) -> Any:
    found = decoder(name, layers=layers)
    use_custom_attention(found.model)
    return found


@pytest.mark.parametrize("name", ["Llama", "Qwen3", "Gemma", "GPT-2"])
def test_custom_attention_computes_the_same(name: str) -> None:
    models = decoder(name), custom(name)
    for start in (0, 3):
        call = {"input_ids": torch.tensor([[3, 1, 4]]), "cache_position": start + torch.arange(3)}
        with torch.no_grad():
            torch.testing.assert_close(*(model(**call) for model in models))


def test_a_program_with_custom_attention_runs_in_another_process(tmp_path: Path) -> None:
    result = quantized(custom("Llama", layers=1), "dynamic")
    assert result.lowered.outside.count("llama.custom_sdpa.default") == 1
    prompt = [3, 1, 4, 1, 5]
    tokens = qreg.generate(result, prompt, max_new_tokens=8)
    assert tokens == qreg.generate(result.converted, prompt, max_new_tokens=8)
    result.save(tmp_path / "decoder.pte")
    command = ["generate", str(tmp_path / "decoder.pte"), "--tokens", "3,1,4,1,5", "--new", "8"]
    printed = subprocess.run(
        [sys.executable, "-m", "qreg", *command], capture_output=True, text=True, check=True
    ).stdout
    assert printed.split() == [",".join(map(str, tokens))]


def test_attention_without_transformers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InstallationError, match=r"use_custom_attention: .* pip install 'transf"):
        use_custom_attention(None)


def test_attention_that_the_operator_does_not_know_is_an_error() -> None:
    tokens = torch.tensor([[1, 2, 3]])
    with pytest.raises(InputError, match=r"TorchExportable.* cannot be chosen"):
        use_custom_attention(decoder("Llama"))
    bloom = transformers.BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=4)
    with pytest.raises(InputError, match="BloomForCausalLM cannot be chosen"):
        use_custom_attention(transformers.BloomForCausalLM(bloom))
    windowed = transformers.MistralForCausalLM(
        transformers.MistralConfig(**GATED, sliding_window=32)
    )
    use_custom_attention(windowed)
    with pytest.raises(InputError, match="depends on sliding_window"):
        windowed(tokens)
    llama = transformers.LlamaForCausalLM(CONFIGS["Llama"]())
    use_custom_attention(llama)
    with pytest.raises(InputError, match=r"attention_mask: .* accepts none"):
        llama(tokens, attention_mask=torch.tensor([[0, 1, 1]]))
    with pytest.raises(InputError, match="the positions of one text"):
        llama(tokens.expand(2, 3), position_ids=torch.arange(6).reshape(2, 3))
