"""Weights are held once: in float by the model, in int8 by the converted one, and in the program.

Counted are the bytes of live tensors. What a process has resident depends on its allocator.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from attrs import define, field
from torch import Tensor, nn

import qreg
from qreg.utils.progress import Stages
from qreg.verification import runner
from qreg_xnnpack import compat

WIDTH, LAYERS = 256, 6
FILE = LAYERS * WIDTH * WIDTH * 4  # bytes of the weights in float32
LEAST = WIDTH * WIDTH  # bytes of what is counted: one weight in int8


def live() -> Counter[str]:
    """Return the bytes of all storages by dtype, as shares of ``FILE``."""
    storages: dict[int, tuple[str, int]] = {}
    for each in gc.get_objects():
        if type(each) in (Tensor, nn.Parameter) and each.device.type == "cpu":
            storage = each.untyped_storage()
            if storage.nbytes() >= LEAST:
                storages[storage.data_ptr()] = str(each.dtype), storage.nbytes()
    found: Counter[str] = Counter()
    for dtype, count in storages.values():
        found[dtype] += count / FILE  # type: ignore[assignment]
    return found


@define
class Held:
    """What is live more than before, after each stage, and at most while the program is judged."""

    before: Counter[str] = field(factory=live)
    after: dict[str, Counter[str]] = field(factory=dict)
    judging: float = 0.0
    delegated: set[int] = field(factory=set)  # addresses of the weights that a delegate is given
    converted: set[int] = field(factory=set)

    def more(self, dtype: str) -> float:
        return live()[dtype] - self.before[dtype]


def addresses(tensors: Any) -> set[int]:
    return {each.data_ptr() for each in tensors if each.dtype == torch.int8}


@pytest.fixture(scope="module")
def held() -> Held:
    """Quantize a chain of linears."""
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS))).eval()
    found = Held()
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, found)
        batches = [(torch.randn(2, WIDTH),) for _ in range(2)]
        config = "int8_dynamic_per_channel"
        result = qreg.quantize(model, batches[0], calibration=batches, config=config)
    found.converted = addresses(result.converted.buffers())
    return found


def watch(patch: pytest.MonkeyPatch, found: Held) -> None:
    from executorch.backends.xnnpack.xnnpack_preprocess import XnnpackBackend

    stage, evaluate = Stages.stage, runner.ByRows.call_function
    preprocess = XnnpackBackend.preprocess

    @contextmanager
    def watched(itself: Any, name: str, *total: Any) -> Iterator[Any]:
        with stage(itself, name, *total) as step:
            yield step
        gc.collect()
        found.after[name] = live() - found.before

    def evaluated(itself: Any, target: Any, *given: Any) -> Any:
        result = evaluate(itself, target, *given)
        if "dequantize_per_channel" in str(target):
            found.judging = max(found.judging, found.more("torch.float32"))
        return result

    def preprocessed(program: Any, *given: Any) -> Any:
        found.delegated |= addresses(program.state_dict.values())
        return preprocess(program, *given)

    patch.setattr(Stages, "stage", watched)
    patch.setattr(runner.ByRows, "call_function", evaluated)
    patch.setattr(XnnpackBackend, "preprocess", staticmethod(preprocessed))


def test_no_stage_holds_the_weights_in_float_again(held: Held) -> None:
    assert {"export", "prepare", "calibrate", "convert", "lower", "verify"} <= held.after.keys()
    assert max(each["torch.float32"] for each in held.after.values()) == 0


def test_the_weights_are_held_once_in_int8(held: Held) -> None:
    assert held.after["calibrate"]["torch.int8"] == 0
    shares = [held.after[stage]["torch.int8"] for stage in ("convert", "lower", "verify")]
    assert shares == pytest.approx([0.25] * 3)


def test_one_layer_at_a_time_is_dequantized_to_judge_the_program(held: Held) -> None:
    assert held.judging == pytest.approx(1 / LAYERS)


def test_a_delegate_is_lowered_with_the_weights_of_the_converted_model(held: Held) -> None:
    assert len(held.delegated) == LAYERS
    assert held.delegated == held.converted


def test_nothing_is_held_when_the_result_is_gone(quantized: Any) -> None:
    result = quantized(nn.Linear(8, 8), (2, 8), config="int8_dynamic_per_channel", progress=False)
    graphs = [weakref.ref(each) for each in (result.converted, result.reference)]
    del result
    gc.collect()
    assert [each() for each in graphs] == [None, None]


def test_a_program_is_described_without_its_weights(quantized: Any) -> None:
    described = compat.program_of(quantized(nn.Linear(WIDTH, WIDTH), (2, WIDTH)).program)
    (payload,) = described.backend_delegate_data
    assert len(bytes(payload.data)) < LEAST
    assert not described.constant_buffer
