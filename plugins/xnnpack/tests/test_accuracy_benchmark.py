"""The benchmark of accuracy: its numbers against NumPy and the runtime, and its models."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as upstream
from executorch.runtime import Runtime
from safetensors.numpy import load_file
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

PAUSES: dict[bytes, float] = {}
BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The models of the benchmark, of which those are imported that need no other packages."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import real.planted
    import real.quantizers
    import real.recogniser
    import real.training

    return real


def held_out() -> tuple[Any, Any]:
    """The last 143 rows of the data in the order that the benchmark shuffles them into."""
    data = load_breast_cancer()
    torch.manual_seed(0)
    order = torch.randperm(len(data.target)).numpy()
    return data.data[order][-143:].astype(np.float32), data.target[order][-143:]


def worth(logits: Any, wanted: Any, labels: Any) -> tuple[float, float]:
    """Accuracy, and the ratio of signal to noise in dB, in NumPy."""
    noise = np.square(wanted.astype(float) - logits).sum()
    ratio = 10 * math.log10(np.square(wanted.astype(float)).sum() / noise)
    return float((logits.argmax(1) == labels).mean()), ratio


def test_the_table_has_the_numbers_of_numpy_and_of_the_runtime(
    real: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import accuracy

    # The program of the row, to run it again.
    programs: list[bytes] = []

    def kept(*arguments: Any) -> Any:
        found = real.quantizers.by_qreg(*arguments)
        programs.append(found.result.program)
        return found

    monkeypatch.setattr(accuracy, "by_qreg", kept)
    monkeypatch.setattr(accuracy.logging, "disable", lambda level: None)
    output = tmp_path / "rows.json"
    options = ["--models", "mlp", "--cache", str(tmp_path), "--json", str(output)]
    monkeypatch.setattr(sys, "argv", ["accuracy.py", *options])
    accuracy.main()

    features, labels = held_out()
    weights = load_file(tmp_path / "mlp.safetensors")
    wanted = features
    for layer in (0, 2, 4):
        wanted = wanted @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]
        wanted = np.maximum(wanted, 0) if layer < 4 else wanted
    method = Runtime.get().load_program(programs[0]).load_method("forward")
    batches = torch.from_numpy(features).split(13)
    logits = np.concatenate([method.execute([batch])[0].numpy() for batch in batches])

    (row,) = json.loads(output.read_text())
    in_float = float((wanted.argmax(1) == labels).mean())
    assert row["float"]["metrics"]["accuracy"] == pytest.approx(in_float)
    assert in_float > 0.95
    accuracy_of_program, ratio = worth(logits, wanted, labels)
    assert row["qreg"]["metrics"]["accuracy"] == pytest.approx(accuracy_of_program)
    assert row["qreg"]["sqnr"] == pytest.approx(ratio, abs=0.01)
    assert row["qreg"]["int8"] == 1
    first, second = capsys.readouterr().out.splitlines()[1:3]
    assert first.split()[:3] == ["mlp", "xnnpack", "accuracy"]
    assert f"{accuracy_of_program:.3f}" in first.split()
    assert f"{ratio:.1f}" in second.split()


def test_executorchs_column_is_its_own_flow(real: ModuleType) -> None:
    subject = real.ZOO["mlp"]()
    found = real.quantizers.by_executorch(subject)
    config = upstream.get_symmetric_quantization_config(is_per_channel=True)
    quantizer = upstream.XNNPACKQuantizer().set_global(config)
    exported = torch.export.export(subject.model, subject.example).module()
    prepared = prepare_pt2e(exported, quantizer)
    with torch.no_grad():
        for batch in subject.calibration:
            prepared(*batch)
        converted = convert_pt2e(prepared)
        features, labels = held_out()
        batches = torch.from_numpy(features).split(13)
        logits, wanted = (
            torch.cat([model(batch) for batch in batches]).numpy()
            for model in (converted, subject.model)
        )
    right, ratio = worth(logits, wanted, labels)
    assert found.metrics == {"accuracy": pytest.approx(right)}
    assert found.sqnr == pytest.approx(ratio, abs=0.01)


def test_what_a_third_party_raises_is_in_the_row(real: ModuleType) -> None:
    import accuracy

    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x  # does not export

    batches = [(torch.ones(1),)]
    subject = real.Subject("branches", Branches(), batches, batches, ())
    found = real.quantizers.by_executorch(subject)
    row = accuracy.Row("branches", "xnnpack", {"executorch": found})
    assert row.cells()["executorch"] == ["fails"]
    (failure,) = accuracy.failures([row])
    assert failure["quantizer"] == "executorch"
    assert "data-dependent" in failure["why"]


def test_the_latency_of_a_program_is_compared_with_a_slower_one(
    real: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Program:
        def __init__(self, name: bytes, milliseconds: float) -> None:
            self.program, self.samples, self.target = name, [(torch.ones(1),)], self
            PAUSES[name] = milliseconds / 1000

        def loader(self, program: bytes) -> Callable[..., Any]:
            return lambda inputs: time.sleep(PAUSES[program])

    monkeypatch.setattr(real.quantizers, "BLOCKS", 3)
    slow, fast = Program(b"slow", 3), Program(b"fast", 1)
    assert real.quantizers.latency_ratio(slow, fast) > 1.5
    assert real.quantizers.latency_ratio(slow, Program(b"slow", 3)) == 1


def test_planted_channels_leave_the_float_outputs_and_cost_the_quantized_ones(
    real: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PROBED": 22, "CALIBRATION": 2, "HELD_OUT": 11, "VIT_LAYERS": 2}.items():
        monkeypatch.setattr(real.planted, name, value)
    chance = torch.Generator().manual_seed(0)
    pictures = [255 * torch.rand(3, 100, 100, generator=chance) for _ in range(11)]
    monkeypatch.setattr(real.planted, "photos", lambda: pictures)
    plain, planted = real.ZOO["vit"](), real.ZOO["planted_vit"]()
    outputs = plain.float_outputs()
    assert real.sqnr(outputs, planted.float_outputs()) > 80
    # One scale for all channels of a norm's output, as static int8 has it.
    lost = []
    for subject in (plain, planted):
        model = subject.model.model
        norm = model.vit.layers[0].layernorm_before
        found: list[Tensor] = []
        hook = norm.register_forward_hook(lambda module, given, out, f=found: f.append(out))
        subject.float_outputs()
        hook.remove()
        values = torch.cat(found)
        scale = values.abs().max() / 127
        rounded = (values / scale).round() * scale
        reader = model.vit.layers[0].attention.q_proj.weight.detach()
        lost.append(real.sqnr([values @ reader.T], [rounded @ reader.T]))
    assert lost[0] - lost[1] > 20


def test_metrics_agree_with_calculations_by_hand(real: ModuleType) -> None:
    one, other = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[4.0, 3.0], [0.0, 1.0]])
    assert real.sqnr([one], [other]) == pytest.approx(10 * math.log10(26 / 2))
    mean, least = real.subject.cosines([one])
    assert mean.measure([other]) == pytest.approx((24 / 25 + 1) / 2)
    assert least.measure([other]) == pytest.approx(24 / 25)
    assert real.subject.agreement([one]).measure([other]) == 0.5
    assert real.subject.accuracy(torch.tensor([0, 1])).measure([other]) == 1.0


WORDS = ["", "a", "line", "lines", "nile", "a sentence", "sentences"]


@pytest.mark.parametrize("one", WORDS)
def test_edits_are_counted_like_their_definition(one: str, real: ModuleType) -> None:
    @cache
    def distance(first: str, second: str) -> int:
        if not first or not second:
            return len(first) + len(second)
        replaced = distance(first[1:], second[1:]) + (first[0] != second[0])
        return min(replaced, 1 + distance(first[1:], second), 1 + distance(first, second[1:]))

    for other in WORDS:
        assert real.recogniser._distance(one, other) == distance(one, other)


def test_repeated_letters_count_once_unless_a_blank_is_between(real: ModuleType) -> None:
    places = torch.tensor([1, 1, 0, 1, 2, 2, 0, 0, 3])
    shares = nn.functional.one_hot(places).float()
    assert real.recogniser._read(shares, ["", "l", "i", " "]) == "lli "


def test_trained_weights_are_kept_and_read_again(real: ModuleType, tmp_path: Path) -> None:
    trained: Callable[..., nn.Module] = real.training.trained

    def train(model: nn.Module) -> None:
        model.weight.data.fill_(3)

    def never(model: nn.Module) -> None:
        raise AssertionError("trained again")

    trained("layer", nn.Linear(2, 2), train, tmp_path / "cache")
    again = trained("layer", nn.Linear(2, 2), never, tmp_path / "cache")
    assert again.weight.eq(3).all()
    assert not again.training
