"""Models of transformers are quantized as they are, on what their tokenizer or processor returns.

Decoders return a cache by default, and tokenizers return inputs that some models do not have.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import qreg
from qreg.plugins.registry import installed
from qreg.verification.metrics import compare_all

transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 64, "initializer_range": 0.5}


def distilbert() -> Any:
    config = transformers.DistilBertConfig(
        vocab_size=99, dim=32, n_layers=1, n_heads=2, hidden_dim=64
    )
    return transformers.DistilBertModel(config)


def vit() -> Any:
    config = transformers.ViTConfig(**SIZES, image_size=16, patch_size=8)
    return transformers.ViTForImageClassification(config)


def gpt2() -> Any:
    config = transformers.GPT2Config(
        vocab_size=99, n_embd=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def tokenized() -> dict[str, torch.Tensor]:
    """What a tokenizer of BERT returns."""
    ids = torch.randint(3, 99, (1, 8))
    return {
        "input_ids": ids,
        "token_type_ids": torch.zeros_like(ids),
        "attention_mask": (torch.arange(8) < 6).long()[None],
    }


def processed() -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(1, 3, 16, 16)}


def plain() -> dict[str, torch.Tensor]:
    return {name: tokenized()[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize(
    ("backend", "make", "batch"),
    [
        ("onnxruntime", vit, processed),
        ("onnxruntime", gpt2, plain),
        ("openvino", distilbert, tokenized),
        ("openvino", vit, processed),
    ],
)
def test_a_model_is_quantized_on_a_dict_of_its_tokenizer(
    backend: str, make: Any, batch: Any
) -> None:
    if backend not in installed().backends():
        pytest.skip(f"{backend} is not installed")
    torch.manual_seed(0)
    model, batches = make().eval(), [batch() for _ in range(4)]
    result = qreg.quantize(model, batches[0], calibration=batches, backend=backend, progress=False)
    with torch.no_grad():
        expected = model(**batches[1])
    found = result.run(batches[1])
    assert type(found) is type(expected)
    # A decoder's cache is a type that torch.export knows once an exporter of transformers ran.
    caches = {"cache", "past_key_values"}  # transformers 5.24 and earlier
    names = set(expected) - caches
    assert set(found) - caches == names
    for name in names:
        assert compare_all([[found[name]]], [[expected[name]]])[0].sqnr > 15
    assert result.decided["annotated"]
