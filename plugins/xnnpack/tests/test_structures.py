"""Pins that a program runs on inputs by name, and returns the structure of its model's outputs."""

from __future__ import annotations

from typing import Any

import torch
from structures import FLOOR, Structured, batches, check
from torch import Tensor, nn
from transformers import BatchEncoding, BertConfig, BertModel
from transformers.modeling_outputs import ModelOutput

import qreg
from qreg.verification.metrics import compare_all

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def test_a_program_takes_and_returns_what_its_model_does() -> None:
    check("xnnpack")


def test_an_encoder_of_transformers_runs_on_what_its_tokenizer_returns() -> None:
    torch.manual_seed(0)
    model = BertModel(BertConfig(**SMALL, intermediate_size=64, vocab_size=99)).eval()
    data = [
        BatchEncoding(
            {
                "attention_mask": torch.ones(1, 8, dtype=torch.int64),
                "input_ids": torch.randint(0, 99, (1, 8)),
            }
        )
        for _ in range(4)
    ]
    labelled = [{"inputs": each, "label": 1} for each in data]
    result = qreg.quantize(
        model, data[0], calibration=labelled, transform=lambda each: each["inputs"]
    )
    got, wanted = result.run(data[1]), model(**data[1])
    assert isinstance(got, ModelOutput)
    assert type(got) is type(wanted)
    assert list(got) == list(wanted)
    for name in wanted:
        assert compare_all([[got[name]]], [[wanted[name].detach()]])[0].sqnr > FLOOR


def test_training_and_lowering_go_by_name() -> None:
    torch.manual_seed(0)
    model, data = Structured(), batches()
    quantizer = qreg.get_quantizer("xnnpack", "int8_qat_per_channel")
    prepared = qreg.prepare(model, quantizer, data[0])
    optimizer = torch.optim.SGD(prepared.parameters(), lr=1e-4)
    for batch in data:
        optimizer.zero_grad()
        loss: Tensor = prepared(**batch)["scores"].square().mean()
        loss.backward()
        optimizer.step()
    converted = qreg.convert(prepared)
    lowered = qreg.lower(converted, data[0])
    reference = torch.export.export(converted, (), _in_order(data[0]))
    found = qreg.verify(lowered.program, reference, data)
    assert min(each.sqnr for each in found.to_float) > 35


def _in_order(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: batch[name] for name in ("x", "left", "right")}


def test_a_model_with_channels_last_runs_on_contiguous_images_too() -> None:
    torch.manual_seed(0)
    last = torch.channels_last
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, 2)).eval()
    data = [(torch.randn(1, 3, 6, 8).to(memory_format=last),) for _ in range(4)]
    result = qreg.quantize(model.to(memory_format=last), data[0], calibration=data)
    for image in (data[1][0], data[1][0].contiguous()):
        found = compare_all([[result.run(image)]], [[model(image).detach()]])
        assert found[0].sqnr > FLOOR
