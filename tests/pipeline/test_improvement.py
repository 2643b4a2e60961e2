"""Pins what becomes of algorithms: what is kept, what is undone, and who is blamed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from quantizing import Net, TwoLinears, batches, quantize
from torch import Tensor

import qreg
from qreg import Algorithm, Calibration, Candidate, Change, Registry, Statistic
from qreg.algorithms import stock
from qreg.errors import (
    AlgorithmError,
    AlgorithmWarning,
    CalibrationError,
    InputError,
    OrderError,
    PluginError,
    QualityWarning,
    UnknownNameError,
)
from qreg.graph.prepared import observers
from qreg.pipeline import calibration, improvement, score
from qreg.pipeline.selection import selected
from qreg.utils import memory

BIAS = 2


def linear_bias(candidate: Candidate) -> Tensor:
    """The bias of the first linear."""
    (node,) = (n for n in candidate.model.graph.nodes if n.name == "linear")
    return candidate.model.get_parameter(node.args[BIAS].target).detach()


def shifting(by: float) -> Callable[[Candidate, Calibration], list[Change]]:
    def run(candidate: Candidate, calibration: Calibration) -> list[Change]:
        return [Change("linear", constants={BIAS: linear_bias(candidate) + by})]

    return run


def algorithm(run: Any, name: str = "mine", stage: Any = "prepared", **fields: Any) -> Algorithm:
    return Algorithm(name, stage, "for a test", run, **fields)


def twin(toy: ModuleType, *algorithms: Algorithm, strict: bool = False) -> Registry:
    """A registry of the toy backend, and of a plugin that supplies algorithms."""

    class Plugin:
        @qreg.hookimpl
        def qreg_algorithms(self) -> Iterable[Algorithm]:
            return algorithms

    return Registry({"toy": toy, "mine": Plugin()}, entry_points=False, strict=strict)


def test_without_algorithms_none_is_tried(registry: Registry) -> None:
    assert quantize(registry).algorithms == ()


def test_a_change_that_harms_is_undone(registry: Registry) -> None:
    plain = quantize(registry)
    result = quantize(registry, algorithms=[algorithm(shifting(1.0))])
    (found,) = result.algorithms
    assert not found.kept
    assert found.after < found.before
    assert found.operators == ("linear",)
    assert torch.equal(result.run(batches()[0]), plain.run(batches()[0]))


def better(candidate: Candidate, calibration: Calibration) -> list[Change]:
    """Ranges without the outlier of ``wide_batches``."""
    ends = {"x": (-3.0, 3.0), "relu": (0.0, 3.0), "add": (-4.0, 6.0)}
    return [Change(k, range=(torch.tensor(a), torch.tensor(b))) for k, (a, b) in ends.items()]


def wide_batches() -> list[Tensor]:
    """Batches of which one has an outlier, which takes the scales from all others."""
    wide = [batch.clone() for batch in batches(8)]
    wide[0][0, 0] = 300.0
    return wide


@pytest.mark.parametrize("trusted", [(), ("other",), ("mine",)])
def test_a_gain_that_is_uncertain_is_kept_where_the_algorithm_is_trusted(
    registry: Registry, trusted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "_is_significant", lambda gains: False)
    asked = evolve(selected(registry, [algorithm(better)]), trusted=trusted)
    result = quantize(registry, calibration=wide_batches(), algorithms=asked)
    (found,) = result.algorithms
    assert found.uncertain
    assert found.after > found.before + 10
    assert found.kept == ("mine" in trusted)
    assert "uncertain" in found.reason


def test_what_harms_is_not_kept_although_it_is_trusted(registry: Registry) -> None:
    asked = evolve(selected(registry, [algorithm(shifting(1.0))]), trusted=("mine",))
    (found,) = quantize(registry, algorithms=asked).algorithms
    assert not found.kept
    assert not found.uncertain


def test_a_change_that_helps_is_kept(registry: Registry) -> None:
    wide = wide_batches()
    result = quantize(registry, calibration=wide, algorithms=[algorithm(better)])
    (found,) = result.algorithms
    assert found.kept
    assert found.after > found.before + 10
    plain = quantize(registry, calibration=wide)
    test = torch.randn(64, 4, generator=torch.Generator().manual_seed(2)).split(8)
    wanted = [Net()(x) for x in test]

    def noise(program: qreg.Result) -> float:
        pairs = zip(test, wanted, strict=True)
        return float(sum((program.run(x) - y).square().sum() for x, y in pairs))

    assert noise(result) < 0.1 * noise(plain)
    assert "mine improve the outputs" in str(result.report)


def test_what_every_algorithm_gets(registry: Registry) -> None:
    """Batches that are held back are neither samples nor in statistics."""
    given = batches(6)
    seen: list[Any] = []

    def run(candidate: Candidate, calibration: Calibration) -> list[Change]:
        seen.append((candidate, calibration))
        return []

    def total(value: Any, node: Any, inputs: Sequence[Tensor], output: Tensor) -> Any:
        return (0.0 if value is None else value) + output.sum() if node.name == "linear" else None

    tried = algorithm(run, statistics=[Statistic("total", total)])
    result = quantize(registry, calibration=given, algorithms=[tried])
    ((candidate, calibration),) = seen
    fitting = [given[number] for number in (0, 2, 3, 4)]
    assert [x for (x,) in calibration.samples] == fitting
    wanted = sum(Net().fc(x).sum() for x in fitting)
    torch.testing.assert_close(calibration.statistics["total"]["linear"], wanted)
    assert set(calibration.statistics["total"]) == {"linear"}
    assert (candidate.modes, candidate.backend.name) == ({"static"}, "toy")
    assert [each.node for each in candidate.decisions] == ["linear", "relu", "add"]
    assert result.algorithms[0].reason == "it found nothing to change"


def test_algorithms_share_the_pass_over_the_data(registry: Registry) -> None:
    calls: list[str] = []

    def update(value: Any, node: Any, inputs: Sequence[Tensor], output: Tensor) -> Any:
        calls.append(node.name)
        return output.mean()

    shared = Statistic("shared", update)
    tried = [algorithm(lambda *_: [], name, statistics=[shared]) for name in ("one", "two")]
    quantize(registry, calibration=batches(4), algorithms=tried)
    assert sorted(calls) == sorted(["linear", "relu", "add"] * 3)  # one of four is held back


@pytest.mark.parametrize("own", [True, False])
def test_only_algorithms_of_the_library_share_the_weights(toy: ModuleType, own: bool) -> None:
    model, shared = Net(), []

    def run(candidate: Candidate, calibration: Calibration) -> list[Change]:
        bias = linear_bias(candidate)
        shared.append(bias.data_ptr() == model.fc.bias.data_ptr())
        return []

    tried = evolve(stock.bias_correction(), run=run) if own else algorithm(run)
    quantize(Registry({"toy": toy}), model, algorithms=[tried])
    assert shared == [own]


def test_changes_of_a_large_model_are_in_files(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = algorithm(shifting(1e-7))
    plain = quantize(registry, algorithms=[tried, stock.gptq()])
    monkeypatch.setattr(memory, "LARGE", 1)
    monkeypatch.setattr(memory, "PAGED", 1)
    filed: list[bool] = []

    def seen(change: Change) -> Change:
        made = in_files(change)
        filed.extend(
            value.untyped_storage().filename is not None for value in made.constants.values()
        )
        return made

    in_files = improvement._in_files
    monkeypatch.setattr(improvement, "_in_files", seen)
    result = quantize(registry, algorithms=[tried, stock.gptq()])
    assert filed
    assert all(filed) == hasattr(ctypes.CDLL(None), "madvise")
    assert [each.after for each in result.algorithms] == [each.after for each in plain.algorithms]
    assert torch.equal(result.run(batches()[0]), plain.run(batches()[0]))


def raising(*_: Any) -> list[Change]:
    raise RuntimeError("broken")


def in_place(candidate: Candidate, calibration: Calibration) -> list[Change]:
    linear_bias(candidate).add_(1.0)
    return []


def in_an_observer(candidate: Candidate, calibration: Calibration) -> list[Change]:
    for observer in observers(candidate.model).values():
        observer.min_val = observer.min_val * 2
    return []


def in_the_graph(candidate: Candidate, calibration: Calibration) -> list[Change]:
    graph = candidate.reference.graph
    with graph.inserting_before(next(iter(graph.nodes))):
        graph.get_attr("fc.bias")
    return []


def unlike(value: Any) -> Callable[..., list[Any]]:
    return lambda *_: [value]


FAULTS = {
    "raises": (raising, "it raised RuntimeError('broken')"),
    "in place": (in_place, "it modifies 'fc.bias'"),
    "in an observer": (in_an_observer, "it modifies 'activation_post_process_0."),
    "in the graph": (in_the_graph, "it modifies 'reference.graph'"),
    "no change": (unlike(3), "it returned 3 (expected a Change)"),
    "unknown node": (
        unlike(Change("conv", constants={1: torch.ones(1)})),
        "'conv', which is not an operator",
    ),
    "shape": (unlike(Change("linear", constants={2: torch.ones(9)})), "has shape (9,)"),
    "dtype": (unlike(Change("linear", constants={2: torch.ones(4).double()})), "float64"),
    "no constant": (unlike(Change("linear", constants={0: torch.ones(4)})), "is not a constant"),
    "stage": (unlike(Change("linear", scale=torch.ones(4))), "the stage 'prepared' forbids"),
    "range": (
        unlike(Change("relu", range=(torch.tensor(2.0), torch.tensor(1.0)))),
        "is not a range",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_plugin_is_undone_and_named(fault: str, toy: ModuleType) -> None:
    run, problem = FAULTS[fault]
    with pytest.warns(AlgorithmWarning, match="algorithm 'mine' of 'in-process'"):
        result = quantize(twin(toy, algorithm(run)), algorithms="auto")
    (found,) = result.algorithms
    assert not found.kept
    assert problem in found.reason
    plain = quantize(twin(toy))
    assert torch.equal(result.run(batches()[0]), plain.run(batches()[0]))


@pytest.mark.parametrize("fault", ["raises", "shape"])
def test_a_fault_is_an_error_if_strict_or_named(fault: str, toy: ModuleType) -> None:
    tried = algorithm(FAULTS[fault][0])
    with pytest.raises(AlgorithmError, match="algorithm 'mine'"):
        quantize(twin(toy, tried, strict=True), algorithms="auto")
    with pytest.raises(AlgorithmError, match="algorithm 'mine'"):
        quantize(twin(toy, tried), algorithms=["mine"])


def test_a_float_change_of_the_outputs_is_undone(toy: ModuleType) -> None:
    tried = algorithm(shifting(1.0), stage="float")
    with pytest.warns(AlgorithmWarning, match="differ from the float model"):
        result = quantize(twin(toy, tried), algorithms="auto")
    assert not result.algorithms[0].kept


def test_scopes_in_float_are_left_alone(toy: ModuleType) -> None:
    registry = twin(toy, algorithm(shifting(1.0)))
    quantizer = qreg.get_quantizer("toy", registry=registry).set_module_name("first", None)
    with pytest.warns(AlgorithmWarning, match="'linear', which is kept in float by request"):
        result = quantize(
            registry, TwoLinears(), torch.zeros(8, 4), quantizer=quantizer, algorithms="auto"
        )
    assert not result.algorithms[0].kept


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_statistic_that_is_not_finite_is_no_basis(toy: ModuleType, value: float) -> None:
    strange = Statistic("strange", lambda *_: torch.tensor(value))
    with pytest.warns(AlgorithmWarning, match="a statistic of 'linear' is not finite"):
        quantize(twin(toy, algorithm(shifting(0.0), statistics=[strange])), algorithms="auto")


def test_a_statistic_that_raises_costs_only_those_that_need_it(toy: ModuleType) -> None:
    broken = algorithm(lambda *_: [], "broken", statistics=[Statistic("bad", raising)])
    works = algorithm(lambda *_: [], "works")
    with pytest.warns(AlgorithmWarning, match="its statistic 'bad' raised"):
        result = quantize(twin(toy, broken, works), algorithms="auto")
    assert [each.reason[:10] for each in result.algorithms] == ["it failed ", "it found n"]


def test_one_batch_is_too_few(toy: ModuleType) -> None:
    registry = twin(toy, algorithm(shifting(0.0)))
    (found,) = quantize(registry, calibration=batches(1), algorithms="auto").algorithms
    assert "1 batch is too few" in found.reason
    with pytest.raises(CalibrationError, match="expected at least 2"):
        quantize(registry, calibration=batches(1), algorithms=["mine"])


def test_a_generator_is_read_once(toy: ModuleType) -> None:
    registry = twin(toy, algorithm(lambda *_: [], "late"), algorithm(raising, "early", "float"))
    result = quantize(registry, calibration=iter(batches()), algorithms="auto")
    reasons = {each.algorithm: each.reason for each in result.algorithms}
    assert "Pass a list or a DataLoader" in reasons["early"]
    assert reasons["late"] == "it found nothing to change"


class State(torch.nn.Module):
    """Two linears, of whose outputs the next call reads the mean."""

    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.register_buffer("last", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x + self.last))
        self.last.copy_(y.mean(0))
        return y


def test_a_model_with_state_is_left_alone_by_what_runs_it(toy: ModuleType) -> None:
    registry = twin(toy, algorithm(raising))
    (found,) = quantize(registry, State(), algorithms="auto").algorithms
    assert found.reason.startswith("the model writes to its buffer 'last'")


def test_weights_of_a_model_with_state_are_rounded_by_what_its_calls_read(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "budget", lambda _: 1)  # in parts, without state
    seen: list[Tensor] = []

    def run(candidate: Candidate, given: Calibration) -> list[Change]:
        seen.extend(given.statistics["moments"][name][0] for name in ("linear", "linear_1"))
        return list(stock.gptq().run(candidate, given))

    model, tried = State(), evolve(stock.gptq(), run=run, make=None)
    (found,) = quantize(registry, model, calibration=batches(6), algorithms=[tried]).algorithms
    assert (found.operators, found.after is None) == (("linear", "linear_1"), False)
    assert model.last.eq(0).all()
    wanted = [torch.zeros(4, 4), torch.zeros(4, 4)]
    for number, x in enumerate(batches(6)):
        read = [x + model.last, model.first(x + model.last)]
        if number != 1 and number != 5:  # which are held back
            wanted = [one + each.T @ each for one, each in zip(wanted, read, strict=True)]
        model(x)
    torch.testing.assert_close(seen, wanted)


def test_one_that_does_not_apply_gives_its_reason(toy: ModuleType) -> None:
    registry = twin(toy, algorithm(raising, applies=lambda candidate: "there is no convolution"))
    (found,) = quantize(registry, algorithms="auto").algorithms
    assert (found.reason, found.before) == ("there is no convolution", None)
    with pytest.raises(AlgorithmError, match="there is no convolution"):
        quantize(registry, algorithms=["mine"])


def test_one_whose_condition_raises_is_left_out(toy: ModuleType) -> None:
    registry = twin(toy, algorithm(lambda *_: [], applies=raising))
    with pytest.warns(AlgorithmWarning, match="it raised RuntimeError"):
        (found,) = quantize(registry, algorithms="auto").algorithms
    assert found.reason.startswith("it failed: it raised RuntimeError")
    with pytest.raises(PluginError, match="'mine'"):
        quantize(registry, algorithms=["mine"])


@pytest.mark.parametrize("first_names_it", [True, False])
def test_a_kept_algorithm_excludes_its_rivals_of_every_stage(
    toy: ModuleType, first_names_it: bool
) -> None:
    def narrower(candidate: Candidate, calibration: Calibration) -> list[Change]:
        ends = {"x": (-3.0, 3.0), "relu": (0.0, 3.0), "add": (-4.0, 6.0)}
        return [Change(k, range=(torch.tensor(a), torch.tensor(b))) for k, (a, b) in ends.items()]

    one = algorithm(narrower, "one", conflicts=["two"] if first_names_it else [])
    two = algorithm(raising, "two", "converted", conflicts=[] if first_names_it else ["one"])
    wide = [batch.clone() for batch in batches(8)]
    wide[0][0, 0] = 300.0
    outcomes = quantize(twin(toy, one, two), calibration=wide, algorithms="auto").algorithms
    assert outcomes[0].kept
    assert outcomes[1].reason == "one, with which it is not combined, was kept"


def ranges_of(**ends: tuple[float, float]) -> Callable[..., list[Change]]:
    return lambda *_: [
        Change(name, range=(torch.tensor(low), torch.tensor(high)))
        for name, (low, high) in ends.items()
    ]


def test_the_reference_stays_float_when_changes_are_kept(toy: ModuleType) -> None:
    """Means and errors are compared with the user's model, not with rounded weights."""
    seen: list[Candidate] = []

    def better(candidate: Candidate, calibration: Calibration) -> list[Change]:
        narrower = ranges_of(x=(-3.0, 3.0), relu=(0.0, 3.0), add=(-4.0, 6.0))
        return [*narrower(), *shifting(1e-3)(candidate, calibration)]

    def late(candidate: Candidate, calibration: Calibration) -> list[Change]:
        seen.append(candidate)
        return []

    wide = [batch.clone() for batch in batches(8)]
    wide[0][0, 0] = 300.0
    registry = twin(toy, algorithm(better, "better"), algorithm(late, "late"))
    outcomes = quantize(registry, calibration=wide, algorithms="auto").algorithms
    assert outcomes[0].kept
    (candidate,) = seen
    torch.testing.assert_close(linear_bias(candidate), Net().fc.bias + 1e-3)
    torch.testing.assert_close(candidate.reference(wide[1]), Net()(wide[1]))


def test_a_gain_that_others_hid_is_found_together_with_them(toy: ModuleType) -> None:
    """The noise of the sum is not seen ahead of that of what it adds."""
    tried = [
        algorithm(ranges_of(add=(-4.0, 6.0)), "hidden"),
        algorithm(ranges_of(x=(-3.0, 3.0), relu=(0.0, 3.0)), "others"),
    ]
    wide = [batch.clone() for batch in batches(8)]
    wide[0][0, 0] = 300.0
    alone = quantize(twin(toy, *tried[:1]), calibration=wide, algorithms="auto").algorithms
    hidden, others = quantize(twin(toy, *tried), calibration=wide, algorithms="auto").algorithms
    assert not alone[0].kept
    assert hidden.kept
    assert others.kept
    assert hidden.before == others.after
    assert hidden.operators == ("add",)


def test_what_stays_in_float_is_chosen_last_and_the_rest_run_again(toy: ModuleType) -> None:
    runs: list[str] = []

    def narrower(*given: Any) -> list[Change]:
        runs.append("prepared")
        return ranges_of(x=(-3.0, 3.0), relu=(0.0, 3.0))(*given)

    def in_float(*_: Any) -> list[Change]:
        runs.append("precision")
        return [Change("add", in_float="its sums are wide")]

    tried = [algorithm(in_float, "two", "precision"), algorithm(narrower, "one")]
    wide = [batch.clone() for batch in batches(8)]
    wide[0][0, 0] = 300.0
    result = quantize(twin(toy, *tried), calibration=wide, algorithms="auto")
    assert [each.kept for each in result.algorithms] == [True, True]
    assert runs == ["prepared", "precision", "prepared"]
    assert {each.node: each.reason for each in result.decisions}["add"] == "its sums are wide"


def test_the_order_is_that_of_the_stages_and_of_wishes(toy: ModuleType) -> None:
    def nothing(*_: Any) -> list[Change]:
        return []

    tried = [
        algorithm(nothing, "last", "converted"),
        algorithm(nothing, "second", after=["first"]),
        algorithm(nothing, "first"),
        algorithm(nothing, "float", "float"),
        algorithm(nothing, "manual", automatic=False),
    ]
    registry = twin(toy, *tried)
    outcomes = quantize(registry, algorithms="auto").algorithms
    assert [each.algorithm for each in outcomes] == ["float", "first", "second", "last"]
    named = quantize(registry, algorithms=["second", "manual", "float"]).algorithms
    assert [each.algorithm for each in named] == ["float", "second", "manual"]


def test_a_cycle_is_an_error(toy: ModuleType) -> None:
    one = algorithm(raising, "one", after=["two"])
    with pytest.raises(OrderError, match="the order of algorithms has a cycle: one -> two -> one"):
        twin(toy, one, algorithm(raising, "two", after=["one"])).algorithms()


def test_algorithms_that_conflict_are_not_combined(toy: ModuleType) -> None:
    one, two = algorithm(raising, "one"), algorithm(raising, "two", conflicts=["one"])
    with pytest.raises(AlgorithmError, match=r"'two'.*not combined with 'one'"):
        quantize(twin(toy, one, two), algorithms=["one", "two"])


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (["mien"], UnknownNameError, "Did you mean 'mine'"),
        ("mine", InputError, r"Pass \['mine'\]"),
        ([3], InputError, "3 is not a name or an Algorithm"),
        (["mine", "mine"], InputError, "is there 2 times"),
        (None, InputError, "expected"),
    ],
)
def test_what_is_not_an_algorithm_is_rejected_first(
    toy: ModuleType, asked: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        quantize(twin(toy, algorithm(raising)), calibration=[None], algorithms=asked)


def test_auto_without_algorithms_is_an_error(registry: Registry) -> None:
    with pytest.raises(InputError, match="stands for none"):
        quantize(registry, algorithms="auto")


def test_qat_has_none(registry: Registry) -> None:
    with pytest.raises(qreg.errors.ConfigError, match="QAT"):
        quantize(registry, config="qat", algorithms=[stock.bias_correction()])


@pytest.mark.parametrize("tried", [False, True])
def test_a_poor_program_is_told_of_algorithms_unless_they_were_tried(
    registry: Registry, tried: bool
) -> None:
    wide = [300 * batches(1)[0], *batches(3)]
    with pytest.warns(QualityWarning) as caught:
        quantize(
            registry,
            calibration=wide,
            algorithms=[algorithm(lambda *_: [])] if tried else [],
            min_sqnr=60.0,
        )
    (message,) = [str(each.message) for each in caught if each.category is QualityWarning]
    assert ('Pass algorithms="auto" to try' in message) is not tried
