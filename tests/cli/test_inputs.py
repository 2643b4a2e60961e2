"""Pins the forms of inputs on the command line: keywords, labels, and types that it cannot know."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import batches, failed, succeeded
from quantizing import Net
from torch import Tensor, nn
from torch.utils import _pytree as pytree

LABEL = torch.ones(8, dtype=torch.int64)
Scored = namedtuple("Scored", ["scores", "aux"])
pytree._register_namedtuple(Scored, serialized_type_name="a_model.Scored")


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor, *, mask: Tensor, bias: Tensor) -> Any:
        return Scored(self.net(x) * mask - bias, None)


def masked() -> list[dict[str, Tensor]]:
    torch.manual_seed(1)
    names = ("x", "mask", "bias")
    return [{name: torch.randn(8, 4) for name in names} for _ in range(3)]


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of keywords, with a type of outputs that is unknown here."""
    first, *_ = masked()
    program = torch.export.export(Masked().eval(), (first.pop("x"),), first)
    torch.export.save(program, tmp_path / "named.pt2")
    monkeypatch.delitem(pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE, "a_model.Scored")
    pytree.treespec_loads.cache_clear()
    return tmp_path / "named.pt2"


FORMS = {
    "by name": lambda batch: batch,
    "in another order": lambda batch: dict(reversed(batch.items())),
    "pairs": lambda batch: ((batch["x"],), {"bias": batch["bias"], "mask": batch["mask"]}),
}


@pytest.mark.usefixtures("_in_this_process")
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_program_of_keywords_is_quantized_and_verified(
    form: Any, named: Path, tmp_path: Path
) -> None:
    data, output = tmp_path / "data.pt", tmp_path / "named.toy"
    torch.save([form(batch) for batch in masked()], data)
    printed = succeeded("quantize", named, "--backend", "toy", "--calibration", data, "-o", output)
    assert "ran 3 inputs" in printed
    verified = succeeded(
        "verify", output, "--reference", named, "--inputs", data, "--backend", "toy", "--floor", 25
    )
    assert "ran 3 inputs" in verified
    (x, mask, bias) = masked()[0].values()
    (got,) = torch.export.load(output).module()(x, mask, bias)
    wanted = Masked()(x, mask=mask, bias=bias).scores
    assert (got - wanted).square().sum() / wanted.square().sum() < 1e-3


@pytest.mark.parametrize("command", ["quantize", "explain", "compare"])
def test_labels_are_named_with_the_line_that_saves_the_inputs_alone(
    command: str, model: Path, tmp_path: Path
) -> None:
    data = tmp_path / "labelled.pt"
    torch.save([(x, LABEL) for (x,) in batches()], data)
    backend = "--backends" if command == "compare" else "--backend"
    message = failed(command, model, backend, "toy", "--calibration", data)
    assert message.strip().endswith(
        "calibration batch 0: has 2 inputs (expected 1: x). Remove item 1, which the model was "
        "not exported with, such as labels: save the inputs alone, "
        "torch.save([batch[0] for batch in batches], FILE)."
    )


@pytest.mark.usefixtures("_in_this_process")
def test_labels_of_inputs_to_verify_with_are_named(model: Path, data: Path, tmp_path: Path) -> None:
    output, labelled = tmp_path / "net.toy", tmp_path / "labelled.pt"
    torch.save([{"x": x, "label": LABEL} for (x,) in batches()], labelled)
    succeeded("quantize", model, "--backend", "toy", "--calibration", data, "-o", output)
    message = failed(
        "verify", output, "--reference", model, "--inputs", labelled, "--backend", "toy"
    )
    assert 'torch.save([{"x": batch["x"]} for batch in batches], FILE)' in message
