"""Weights are held once: as floats in the model, in int8 in the converted one and the program."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import held as memory
import pytest
from held import LAYERS, LEAST, WIDTH, Held
from torch import nn
from torch.fx import GraphModule

from qreg.jobs.processes import new_processes
from qreg_xnnpack import compat


@pytest.fixture(scope="module")
def held() -> Held:
    """What a new process holds: this one has the garbage and the caches of other tests."""
    with ProcessPoolExecutor(1, mp_context=new_processes()) as pool:
        return pool.submit(memory.measured).result()


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


def test_a_lowering_holds_no_graph_afterwards(quantized: Any) -> None:
    net = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU())
    counts = []
    for _ in range(3):
        quantized(net, (1, 2, 4, 4), progress=False)
        gc.collect()
        counts.append(sum(isinstance(each, GraphModule) for each in gc.get_objects()))
    assert counts[2] == counts[1]  # the first keeps what it needs for others


def test_a_program_is_described_without_its_weights(quantized: Any) -> None:
    described = compat.program_of(quantized(nn.Linear(WIDTH, WIDTH), (2, WIDTH)).program)
    (payload,) = described.backend_delegate_data
    assert len(bytes(payload.data)) < LEAST
    assert not described.constant_buffer
