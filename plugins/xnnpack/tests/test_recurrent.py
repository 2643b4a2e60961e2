"""Matrix products of recurrent layers run in int8; the state stays right for 100 steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg import get_quantizer
from qreg.plugins.registry import installed
from qreg.report.cautions import cautions
from qreg.report.page import render
from qreg.verification.metrics import compare

STATIC, DYNAMIC = "int8_static_per_channel", "int8_dynamic_per_channel"
FLOOR, FLOAT = 30.0, 100.0  # dB of int8 and of float programs to torch's layers
STEPS = 100

Run = Callable[[Sequence[Tensor]], Sequence[Tensor]]


class Streaming(nn.Module):
    """A layer whose state is an input and an output."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, *state: Tensor) -> Any:
        return self.layer(x, state[0] if len(state) == 1 else state)


class Speech(nn.Module):
    """Nearly all of the work is in the recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(40, 128, batch_first=True), nn.Linear(128, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0][:, -1])  # type: ignore[no-any-return]


def flat(result: Any) -> list[Tensor]:
    return list(torch.utils._pytree.tree_leaves(result))


def loaded(program: bytes) -> Run:
    load = installed().backend("xnnpack").value.load
    assert load is not None
    return load(program)


def quantized(model: nn.Module, batches: Sequence[tuple[Tensor, ...]], config: str) -> qreg.Result:
    data = batches if config == STATIC else None
    return qreg.quantize(model.eval(), batches[0], calibration=data, config=config, progress=False)


CASES: dict[str, tuple[nn.Module, tuple[tuple[int, ...], ...], list[str]]] = {
    "gru in both directions": (
        nn.GRU(8, 16, bidirectional=True, batch_first=True),
        ((2, 3, 8),),
        ["gru_input_l0", "gru_hidden_l0", "gru_input_l0_reverse", "gru_hidden_l0_reverse"],
    ),
    "gru without biases": (nn.GRU(8, 16, bias=False), ((3, 8),), ["gru_input", "gru_hidden"]),
    "lstm of two layers with projections": (
        Streaming(nn.LSTM(8, 16, num_layers=2, proj_size=6)),
        ((3, 2, 8), (2, 2, 6), (2, 2, 16)),
        [
            *("lstm_input_l0", "lstm_hidden_l0", "lstm_projection_l0"),
            *("lstm_input_l1", "lstm_hidden_l1", "lstm_projection_l1"),
        ],
    ),
    "rnn with tanh": (
        nn.RNN(8, 16, batch_first=True),
        ((2, 3, 8),),
        ["rnn_tanh_input", "rnn_tanh_hidden"],
    ),
    "rnn with relu": (
        Streaming(nn.RNN(8, 16, nonlinearity="relu")),
        ((3, 2, 8), (1, 2, 16)),
        ["rnn_relu_input", "rnn_relu_hidden"],
    ),
    "lstm cell": (
        Streaming(nn.LSTMCell(8, 16)),
        ((2, 8), (2, 16), (2, 16)),
        ["lstm_cell_input", "lstm_cell_hidden"],
    ),
    "rnn cell": (
        Streaming(nn.RNNCell(8, 16)),
        ((2, 8), (2, 16)),
        ["rnn_tanh_cell_input", "rnn_tanh_cell_hidden"],
    ),
}


@pytest.mark.parametrize("config", [STATIC, pytest.param(DYNAMIC, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES)
def test_matrix_products_run_in_int8_and_nothing_else_does(case: str, config: str) -> None:
    model, shapes, products = CASES[case]
    torch.manual_seed(0)
    batches = [tuple(torch.randn(shape) for shape in shapes) for _ in range(8)]
    result = quantized(model, batches, config)
    assert result.audit is not None
    assert result.audit.defects == ()
    placements = result.audit.placements
    assert [name for name, found in placements.items() if found.place == "int8"] == products
    assert result.report.int8_share == 1.0
    with torch.no_grad():
        wanted = flat(model(*batches[1]))
    got = loaded(result.program)(batches[1])
    assert min(compare(one, other).sqnr for one, other in zip(wanted, got, strict=True)) > FLOOR


@pytest.fixture(scope="module")
def speech() -> dict[str, qreg.Result]:
    torch.manual_seed(0)
    model, batches = Speech(), [(torch.randn(1, 4, 40),) for _ in range(8)]
    return {config: quantized(model, batches, config) for config in (STATIC, DYNAMIC)}


@pytest.mark.parametrize("config", [STATIC, DYNAMIC])
def test_the_report_has_a_row_for_each_product_and_one_for_the_gates(
    speech: dict[str, qreg.Result], config: str
) -> None:
    report = speech[config].report
    macs = {each.name: each.macs for each in report.operators if each.module == "gru"}
    # The state is zero ahead of the first step, which needs no product.
    assert macs == {"gru_input": 4 * 384 * 40, "gru_hidden": 3 * 384 * 128, "gru": 0}
    (gates,) = (each for each in report.operators if each.name == "gru")
    assert (gates.operator, gates.place) == ("aten.gru.input", "float")
    assert "gates and state stay in float" in gates.reason
    assert report.int8_share == 1.0
    assert cautions(report) == []


@pytest.mark.parametrize("config", [STATIC, DYNAMIC])
def test_all_steps_share_one_weight_in_the_program(
    speech: dict[str, qreg.Result], config: str
) -> None:
    weights = 384 * (40 + 128) + 128 * 12  # bytes in int8
    described = 40_000  # operators, scales and biases
    assert weights < len(speech[config].program) < weights + described


def test_all_steps_share_one_weight_in_the_float_program() -> None:
    model = Speech().eval()
    parameters = 4 * sum(each.numel() for each in model.parameters())
    assert len(qreg.lower(model, torch.randn(1, 8, 40)).program) < parameters + 40_000


@pytest.mark.parametrize(
    ("setting", "scope"),
    [
        ("set_module_name", "gru"),
        ("set_module_type", nn.GRU),
        ("set_operator_type", "aten.gru"),
        ("set_operator_type", torch.ops.aten.gru.input),
    ],
)
def test_a_scope_keeps_the_whole_layer_in_float(setting: str, scope: Any) -> None:
    quantizer = getattr(get_quantizer("xnnpack"), setting)(scope, None)
    report = qreg.explain(Speech().eval(), torch.randn(1, 8, 40), quantizer=quantizer)
    status = {each.name: each.status for each in report.operators}
    layer = dict.fromkeys(("gru_input", "gru_hidden", "gru"), "float")
    assert {name: status[name] for name in layer} == layer
    assert status["linear"] == "annotated"


def test_a_layer_may_be_dynamic_in_a_static_model_and_a_filter_selects_products() -> None:
    torch.manual_seed(0)
    batches = [(torch.randn(1, 8, 40),) for _ in range(4)]
    quantizer = get_quantizer("xnnpack", STATIC).set_module_name("gru", DYNAMIC)
    quantizer.set_filter_function(lambda node: node.name != "gru_input")
    result = qreg.quantize(
        Speech().eval(), batches[0], calibration=batches, quantizer=quantizer, progress=False
    )
    configs = {each.node: each.config for each in result.decisions}
    assert (configs["gru_input"], configs["gru_hidden"]) == (None, DYNAMIC)
    assert configs["linear"] == STATIC
    assert result.audit is not None
    assert result.audit.defects == ()
    assert result.audit.placements["gru_hidden"].place == "int8"
    assert result.verification is not None
    assert min(each.sqnr for each in result.verification.to_float) > FLOOR


def test_a_page_of_50_steps_is_as_long_as_one_of_two_steps() -> None:
    def rows(steps: int) -> list[str]:
        layer = nn.LSTM(8, 16, num_layers=2).eval()
        report = qreg.explain(layer, torch.randn(steps, 1, 8), progress=False)
        assert "lstm_hidden_l1" in render(report)
        return [each.name for each in report.operators]

    assert rows(50) == rows(2)


def states_of(layer: nn.Module, sequence: Tensor, *state: Tensor) -> list[tuple[Tensor, ...]]:
    """The inputs of each step: one element of the sequence, and the state of the float model."""
    found = []
    model = Streaming(layer)
    for x in sequence.split(1):
        found.append((x, *state))
        with torch.no_grad():
            _, *state = flat(model(x, *state))  # type: ignore[assignment]
    return found


def streamed(program: bytes, first: tuple[Tensor, ...], sequence: Tensor) -> Tensor:
    """The outputs of all steps, each with the state that the program returned for the last."""
    run, state, outputs = loaded(program), list(first[1:]), []
    for x in sequence.split(1):
        output, *state = (each.clone() for each in run([x, *state]))
        outputs.append(output)
    return torch.cat(outputs)


@pytest.mark.parametrize("config", [STATIC, DYNAMIC])
@pytest.mark.parametrize(
    ("layer", "states"), [(nn.GRU(8, 32), 1), (nn.LSTM(8, 32, num_layers=2), 2)]
)
def test_the_state_stays_right_over_100_calls_of_one_step(
    layer: nn.RNNBase, states: int, config: str
) -> None:
    torch.manual_seed(0)
    data, sequence = torch.randn(STEPS, 1, 8), torch.randn(STEPS, 1, 8)
    steps = states_of(layer.eval(), data, *[torch.zeros(layer.num_layers, 1, 32)] * states)
    result = quantized(Streaming(layer), steps[1:] + steps[:1], config)
    with torch.no_grad():
        wanted = layer(sequence)[0]
    got = streamed(result.program, steps[0], sequence)
    assert compare(wanted, got).sqnr > FLOOR
    assert compare(wanted[-10:], got[-10:]).sqnr > FLOOR


def test_the_state_stays_right_over_one_call_of_many_steps() -> None:
    torch.manual_seed(0)
    # Fewer than 100 steps, and the layer with the fewest operators for each: lowering takes long.
    layer, batches = nn.RNN(8, 32).eval(), [(torch.randn(24, 1, 8),) for _ in range(4)]
    result = quantized(layer, batches, STATIC)
    with torch.no_grad():
        wanted = layer(batches[1][0])[0]
    got = loaded(result.program)(batches[1])[0]
    assert compare(wanted, got).sqnr > FLOOR
    assert compare(wanted[-10:], got[-10:]).sqnr > FLOOR


@pytest.mark.parametrize(
    "layer", [pytest.param(nn.GRU(8, 32), marks=pytest.mark.slow), nn.LSTM(8, 32)]
)
def test_a_converted_layer_of_100_steps_is_near_float(layer: nn.RNNBase) -> None:
    torch.manual_seed(0)
    batches = [(torch.randn(STEPS, 1, 8),) for _ in range(4)]
    program = torch.export.export(layer.eval(), batches[0])
    prepared = qreg.prepare(program, get_quantizer("xnnpack", STATIC))
    qreg.calibrate(prepared, batches, progress=False)
    with torch.no_grad():
        wanted, got = layer(batches[1][0])[0], qreg.convert(prepared)(*batches[1])[0]
    assert compare(wanted, got).sqnr > FLOOR
    assert compare(wanted[-10:], got[-10:]).sqnr > FLOOR


def test_a_float_program_streams_what_torch_computes() -> None:
    torch.manual_seed(0)
    layer, sequence = nn.GRU(8, 32).eval(), torch.randn(STEPS, 1, 8)
    first = (sequence[:1], torch.zeros(1, 1, 32))
    program = qreg.lower(Streaming(layer), first).program
    with torch.no_grad():
        wanted = layer(sequence)[0]
    assert compare(wanted, streamed(program, first, sequence)).sqnr > FLOAT


class Remembering(nn.Module):
    """A layer of one step whose state is a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 16)
        self.register_buffer("state", torch.zeros(1, 1, 16))

    def forward(self, x: Tensor) -> Tensor:
        output, state = self.gru(x, self.state)
        self.state.copy_(state)
        return output  # type: ignore[no-any-return]


def test_a_state_in_a_buffer_is_kept_from_call_to_call() -> None:
    torch.manual_seed(0)
    model, steps = Remembering(), list(torch.randn(20, 1, 1, 8))
    result = quantized(model, [(each,) for each in steps], STATIC)
    assert {d.node for d in result.decisions if d.quantized} == {"gru_input", "gru_hidden"}
    run = loaded(result.program)
    with torch.no_grad():
        wanted = torch.cat([model(step) for step in steps])
    got = torch.cat([run([step])[0].clone() for step in steps])
    assert compare(wanted, got).sqnr > FLOOR


def test_a_layer_trained_with_qat_runs_in_one_delegate() -> None:
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    torch.manual_seed(0)
    x = torch.randn(3, 2, 8)
    quantizer = get_quantizer("xnnpack", "int8_qat_per_channel")
    prepared = prepare_qat_pt2e(torch.export.export(nn.GRU(8, 16), (x,)).module(), quantizer)
    optimizer = torch.optim.SGD(prepared.parameters(), 0.1)
    losses = []
    for _ in range(5):
        loss = (prepared(x)[0] - 0.5).square().mean()
        losses.append(float(loss))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    move_exported_model_to_eval(prepared)
    converted = qreg.convert(prepared)
    lowered = qreg.lower(converted, (x,))
    assert (lowered.delegates, lowered.outside) == (1, ())
    with torch.no_grad():
        wanted = converted(x)[0]
    found = compare(wanted, loaded(lowered.program)([x])[0]).sqnr
    assert math.isinf(found) or found > FLOOR
