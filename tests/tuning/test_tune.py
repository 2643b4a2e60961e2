"""The search on the toy backend: what is returned, stored, resumed and refused."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from filelock import FileLock
from torch import Tensor, nn

import qreg
from qreg import Registry, Trial, Tuned
from qreg.errors import (
    EvaluationError,
    InputError,
    TargetMissedError,
    TargetMissedWarning,
    UnknownNameError,
    VerificationError,
)
from qreg.verification.latency import Timing

SCALES = torch.tensor([1e-3, 1.0, 1e3, 30.0])


class Raw(nn.Module):
    """A classifier of raw features: its first layer normalises them, which int8 cannot."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3)
        self.first.weight.data /= SCALES

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


def batches(count: int = 4, seed: int = 1) -> list[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(SCALES * torch.randn(8, 4, generator=generator),) for _ in range(count)]


MODEL = Raw().eval()
HELD_OUT = batches(20, seed=2)
LABELS = torch.cat([MODEL(*each).argmax(1) for each in HELD_OUT])


EVALUATED: list[object] = []


def accuracy(run: Callable[..., Tensor]) -> float:
    EVALUATED.append(run)
    found = torch.cat([run(*each).argmax(1) for each in HELD_OUT])
    return float((found == LABELS).float().mean())


def tune(registry: Registry, **options: Any) -> Tuned:
    given = {
        "calibration": batches(),
        "evaluate": accuracy,
        "backends": ["toy"],
        "progress": False,
        "registry": registry,
    }
    return qreg.tune(MODEL, batches()[0], **{**given, **options})


@pytest.fixture(scope="module")
def tuned(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return tune(registry, work=tmp_path_factory.mktemp("tuned") / "work")


def test_the_layer_that_int8_ruins_is_found_and_stays_in_float(tuned: Tuned) -> None:
    assert tuned.met
    assert tuned.float_metric == 1.0
    first, best = tuned.trials[0], tuned.best
    assert first.metric is not None
    assert first.metric < 0.9
    assert best is not None
    assert [move.name for move in best.variant.moves] == ["first"]
    assert best.variant.moves[0].share > 0.9
    assert tuned.evaluations <= 4
    assert tuned.result is not None
    assert accuracy(tuned.result.run) == tuned.confirmed
    kept = {each.module: each.status for each in tuned.result.decisions}
    assert kept["first"] == "float"
    assert kept["second"] == "annotated"


def test_its_recipe_makes_the_program_again(tuned: Tuned, registry: Registry) -> None:
    assert tuned.store is not None
    assert tuned.result is not None
    recipe = qreg.Recipe.load(tuned.store.folder / "best.toml")
    assert recipe == tuned.recipe
    again = qreg.quantize(MODEL, HELD_OUT[0], recipe=recipe, registry=registry, progress=False)
    assert torch.equal(again.run(*HELD_OUT[1]), tuned.result.run(*HELD_OUT[1]))


def test_what_was_moved_and_why_is_in_words(tuned: Tuned) -> None:
    text = str(tuned)
    assert "met by toy minmax, 1 pattern in float, with 0.99" in text
    assert "aten.linear.default + aten.relu.default of first stays in float" in text
    assert "of the noise of all patterns" in text


def test_json_has_the_trials(tuned: Tuned) -> None:
    found = json.loads(tuned.to_json())
    assert found["met"] is True
    assert found["evaluations"] == tuned.evaluations
    assert [each["metric"] for each in found["trials"]] == [each.metric for each in tuned.trials]
    places = found["best"]["variant"]["moves"][0]["places"]
    assert places[0] == {"module": "first", "operator": "aten.linear.default", "ordinal": 0}


def test_the_page_links_the_reports_of_the_trials(tuned: Tuned, tmp_path: Path) -> None:
    tuned.save_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    links = [each.split('"')[0] for each in page.split('href="')[1:]]
    assert len(links) == len(tuned.trials)
    assert all((tmp_path / each).is_file() for each in links)
    measured = sum(each.metric is not None for each in tuned.trials)
    assert page.count('<circle class="point') == 2 * measured  # for broad and narrow windows


def test_a_search_that_is_repeated_computes_nothing_twice(tuned: Tuned, registry: Registry) -> None:
    assert tuned.store is not None
    calls: list[Trial] = []
    before = {each: each.stat().st_mtime_ns for each in tuned.store.folder.rglob("*.toy")}
    again = tune(registry, work=tuned.store.folder, on_trial=calls.append)
    assert [each.variant for each in calls] == [each.variant for each in tuned.trials]
    assert again.trials == tuned.trials
    assert again.result is not None
    assert tuned.result is not None
    inputs = HELD_OUT[0]
    assert torch.equal(again.result.run(*inputs), tuned.result.run(*inputs))
    stored = {each: each.stat().st_mtime_ns for each in before if each.stem == "program"}
    assert stored == {each: before[each] for each in stored}


def test_a_search_that_goes_on_makes_its_best_program_by_the_recipe(
    tuned: Tuned, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tuned.store is not None
    work, recipes = tmp_path / "work", []
    shutil.copytree(tuned.store.folder, work)

    def quantize(*given: Any, recipe: Any = None, **options: Any) -> Any:
        recipes.append(recipe)
        return qreg.quantize(*given, recipe=recipe, **options)

    monkeypatch.setattr("qreg.tuning.making.quantize", quantize)
    assert tune(registry, work=work).met
    assert recipes == [tuned.recipe]
    for each in work.glob("trials/*/recipe.safetensors"):
        each.write_bytes(b"damaged")
    assert tune(registry, work=work).met
    assert recipes[1:] == [None]


def test_another_limit_uses_the_same_trials(tuned: Tuned, registry: Registry) -> None:
    assert tuned.store is not None
    loose = tune(registry, work=tuned.store.folder, max_drop=0.9)
    assert loose.met
    assert len(loose.trials) == 1
    assert loose.trials[0].digest == tuned.trials[0].digest


def test_an_interrupted_search_goes_on(registry: Registry, tmp_path: Path) -> None:
    calls = itertools.count()

    def stopped(trial: Trial) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(registry, work=tmp_path / "work", on_trial=stopped)
    assert (tmp_path / "work" / "best.toy").is_file()
    EVALUATED.clear()
    found = tune(registry, work=tmp_path / "work")
    assert found.met
    assert len(EVALUATED) == 1  # the confirmation


def test_a_work_folder_of_something_else_is_refused(
    tuned: Tuned, registry: Registry, tmp_path: Path
) -> None:
    assert tuned.store is not None
    folder = tuned.store.folder
    with pytest.raises(InputError, match="a search with another calibration data"):
        tune(registry, work=folder, calibration=batches(3))
    with pytest.raises(InputError, match="a search with another evaluate"):
        tune(registry, work=folder, evaluate=lambda run: 1.0)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="has files that are not of a search, such as 'notes"):
        tune(registry, work=tmp_path)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"
    with FileLock(folder / ".lock"), pytest.raises(InputError, match="another process uses it"):
        tune(registry, work=folder)


def test_inference_mode_does_not_take_the_gradients_away(registry: Registry) -> None:
    with torch.inference_mode():
        found = tune(registry)
    assert found.met
    assert not found.notes


def test_a_folder_in_which_nothing_was_computed_is_used(registry: Registry, tmp_path: Path) -> None:
    def failing(run: Callable[..., Tensor]) -> float:
        raise ValueError("no labels")

    with pytest.raises(EvaluationError, match="no labels"):
        tune(registry, work=tmp_path / "work", evaluate=failing)
    assert tune(registry, work=tmp_path / "work", max_drop=0.9).met
    with pytest.raises(InputError, match="another evaluate"):
        tune(registry, work=tmp_path / "work", evaluate=failing)


@pytest.mark.parametrize(
    ("pattern", "content"),
    [
        ("trials/*/trial.json", "{"),
        ("trials/*/trial.json", "{}"),
        ("trials/*/trial.json", "null"),
        ("float.json", "[]"),
        ("float.json", '{"metric": null}'),
        ("tune.json", "null"),
    ],
)
def test_a_damaged_file_is_named(
    pattern: str, content: str, registry: Registry, tmp_path: Path
) -> None:
    options = {"work": tmp_path / "work", "max_drop": 0.9}
    tune(registry, **options)
    (stored,) = (tmp_path / "work").glob(pattern)
    stored.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=rf"{stored.name} cannot be read"):
        tune(registry, **options)


def test_a_trial_without_its_files_is_made_again(registry: Registry, tmp_path: Path) -> None:
    work = tmp_path / "work"
    tune(registry, work=work, max_drop=0.9)
    for name in ("program.toy", "recipe.safetensors"):
        (removed,) = work.rglob(name)
        removed.unlink()
        assert tune(registry, work=work, max_drop=0.9).met
        assert removed.exists()
    (recipe,) = work.glob("trials/*/recipe.toml")
    recipe.write_text("broken = [", encoding="utf-8")
    assert tune(registry, work=work, max_drop=0.9).met
    assert "broken" not in recipe.read_text(encoding="utf-8")


def test_what_a_killed_process_left_half_written_is_removed(
    registry: Registry, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    tune(registry, work=work, max_drop=0.9)
    (place,) = (work / "trials").iterdir()
    left = [work / ".best.toy.a1b2c3_d", place / ".program.toy.a1b2c3_d"]
    users = [work / ".notes.settings", work / ".lock"]
    for each in (*left, *users):
        each.write_bytes(b"half")
    tune(registry, work=work, max_drop=0.9)
    assert not any(map(Path.exists, left))
    assert all(map(Path.exists, users))


def test_an_evaluate_that_changes_the_folder_does_not_move_the_work(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)

    def evaluate(run: Callable[..., Tensor]) -> float:
        os.chdir(tmp_path / "elsewhere")
        return accuracy(run)

    tune(registry, evaluate=evaluate, work="work", max_drop=0.9)
    assert (tmp_path / "work" / "best.toy").is_file()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_metric_that_says_little_is_said_to(registry: Registry, tmp_path: Path) -> None:
    data = batches()

    def familiar(run: Callable[..., Tensor]) -> float:
        return 1.0 + 0.0 * sum(float(run(*each).sum()) for each in [*data[:3], *HELD_OUT[:2]])

    for _ in range(2):  # the note is kept with the metric
        found = tune(registry, evaluate=familiar, work=tmp_path / "work")
        assert "3 of the 5 inputs that evaluate passes to the model are calibration" in str(found)
    found = tune(registry, evaluate=lambda run: 1.0)
    assert "evaluate did not call the float model" in str(found)
    assert not tune(registry, max_drop=0.9).notes


def test_a_full_disk_is_an_error_that_keeps_what_is_complete(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count()

    def full(descriptor: int) -> None:
        if next(calls) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"cannot be written: .*No space left.* are kept"):
        tune(registry, work=tmp_path / "work")
    monkeypatch.undo()
    kept = [each.parent for each in (tmp_path / "work").rglob("trial.json")]
    assert kept
    assert all((place / "program.toy").stat().st_size > 0 for place in kept)
    assert not list((tmp_path / "work").rglob(".*.toy*"))
    assert tune(registry, work=tmp_path / "work").met


def test_a_limit_out_of_reach_is_a_warning_with_the_best_program(registry: Registry) -> None:
    ceiling = iter([1.0, 0.3, 0.5, 0.4, 0.45])

    def evaluate(run: Callable[..., Tensor]) -> float:
        return next(ceiling, 0.2)

    with pytest.warns(TargetMissedWarning, match="NOT MET: the best program"):
        found = tune(registry, evaluate=evaluate, budget=4)
    assert not found.met
    assert found.best is not None
    assert found.best.metric == 0.5
    assert found.result is not None
    assert found.evaluations == len(found.trials) == 2
    with pytest.raises(TargetMissedError) as caught:
        tune(registry, evaluate=lambda run: next(_low, 0.1), budget=2, missed="error")
    assert isinstance(caught.value.tuned, Tuned)
    assert caught.value.tuned.result is not None


_low: Iterator[float] = iter([1.0])


def test_a_program_that_misses_the_limit_at_second_sight_is_not_met(registry: Registry) -> None:
    values = iter([1.0, 1.0, 0.5])  # float, the plain program, and again
    with pytest.warns(TargetMissedWarning):
        found = tune(registry, evaluate=lambda run: next(values, 0.5))
    assert not found.met
    assert found.noise == 0.5
    assert found.trials[0].refuted == 1.0
    assert found.evaluations == 1 + len(found.trials)
    assert "two evaluations of the same program differ by 0.5" in str(found)


def test_the_best_in_the_folder_is_the_one_that_is_returned(
    registry: Registry, tmp_path: Path
) -> None:
    values = iter([1.0, 0.5, 0.995, 0.3])  # float, plain, with a move, and that one again
    with pytest.warns(TargetMissedWarning):
        found = tune(registry, evaluate=lambda run: next(values), work=tmp_path / "work")
    assert found.best is found.trials[0]
    assert found.result is not None
    assert (tmp_path / "work" / "best.toy").read_bytes() == found.result.program
    found.result.recipe.save(tmp_path / "best.toml")
    for name in ("best.toml", "best.safetensors"):
        assert (tmp_path / "work" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_an_evaluate_that_fails_to_confirm_does_not_lose_the_program(registry: Registry) -> None:
    values = iter([1.0, 1.0])
    with pytest.warns(TargetMissedWarning, match="could not be evaluated again"):
        found = tune(registry, evaluate=lambda run: next(values))
    assert found.result is not None
    assert found.evaluations == 2
    assert "not confirmed, best" in str(found)
    assert "it raised StopIteration" in str(found)


def test_infinity_and_errors_of_evaluate_do_not_change_a_search_that_goes_on(
    registry: Registry, tmp_path: Path
) -> None:
    values: list[float] = [1.0, math.inf]
    options = {"lower_is_better": True, "work": tmp_path / "work"}
    with pytest.warns(TargetMissedWarning):
        tune(registry, evaluate=_popping(values), **options)
    values += [1.0, 1.0, 1.0]  # two trials that raised, and the confirmation of one
    found = tune(registry, evaluate=_popping(values), **options)
    assert [each.metric for each in found.trials] == [math.inf, 1.0, 1.0]
    assert found.met
    assert not values


def _popping(values: list[float]) -> Callable[[Any], float]:
    return lambda run: values.pop(0)


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.count = nn.Linear(4, 4), nn.Buffer(torch.zeros(1))

    def forward(self, x: Tensor, *, scale: Tensor) -> dict[str, Tensor]:
        self.count.add_(1.0)
        return {"y": self.linear(x) * scale + self.count}


def test_keywords_are_passed_and_state_starts_anew_for_each_evaluation(registry: Registry) -> None:
    inputs = {"x": torch.randn(8, 4), "scale": torch.ones(1)}
    seen: list[float] = []

    def evaluate(run: Callable[..., Any]) -> float:
        seen.append(float(run(**inputs)["y"].mean()))
        return 1.0

    found = qreg.tune(
        *(Counts().eval(), inputs),
        calibration=[inputs] * 3,
        evaluate=evaluate,
        backends=["toy"],
        progress=False,
        registry=registry,
    )
    assert found.result is not None
    seen.append(float(found.result.run(inputs)["y"].mean()))
    assert seen == pytest.approx(seen[:1] * 4, abs=0.1)


class Classes(Raw):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).argmax(1)


def test_what_could_not_be_measured_is_said_again_when_a_search_goes_on(
    registry: Registry, tmp_path: Path
) -> None:
    model, data, notes = Classes().eval(), batches(), []
    for values in ([1.0, 0.5], [1.0]):
        with pytest.warns(TargetMissedWarning):
            found = qreg.tune(
                *(model, data[0]),
                calibration=data,
                evaluate=_popping(values),
                backends=["toy"],
                algorithms=(),
                work=tmp_path / "work",
                progress=False,
                registry=registry,
            )
        notes.append(found.notes)
    assert "no floating-point output" in notes[0][-1]
    assert notes[0] == notes[1]


def test_each_backend_is_evaluated_though_the_models_are_alike(
    registry: Registry, toy: Any, tmp_path: Path
) -> None:
    other = evolve(toy.BACKEND, name="other", suffix=".other")
    extension = toy.Extension([other], toy.CONFIGS, toy.ANNOTATORS, toy.lower, extends="other")
    both = Registry({"toy": toy, "other": extension}, entry_points=False)
    values = iter([1.0, 0.8, 0.9, 0.9])
    found = tune(
        both,
        evaluate=lambda run: next(values),
        backends=["toy", "other"],
        algorithms=(),
        budget=2,
        max_drop=0.15,
        work=tmp_path / "work",
    )
    assert [each.metric for each in found.trials] == [0.8, 0.9]
    assert {each.suffix for each in (tmp_path / "work").glob("best.*")} == {
        *(".other", ".toml", ".safetensors"),
    }


def test_the_search_goes_on_behind_a_refutation_within_its_budget(registry: Registry) -> None:
    # float; plain; with one pattern moved, which meets the limit, and again, which does not
    values = iter([1.0, 0.5, 1.0, 0.5])
    with pytest.warns(TargetMissedWarning):
        found = tune(registry, evaluate=lambda run: next(values, 0.5), budget=4)
    assert found.evaluations <= 4
    assert [each.refuted for each in found.trials if each.refuted] == [1.0]


def test_the_float_model_is_evaluated_once_for_a_work_folder(
    tuned: Tuned, registry: Registry
) -> None:
    assert tuned.store is not None
    EVALUATED.clear()
    tune(registry, work=tuned.store.folder)
    assert len(EVALUATED) == 1  # the confirmation


def test_a_model_of_classes_alone_is_tuned_by_the_noise_of_its_operators(
    registry: Registry,
) -> None:
    class Classes(Raw):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).argmax(1)

    def evaluate(run: Callable[..., Tensor]) -> float:
        return float((torch.cat([run(*each) for each in HELD_OUT]) == LABELS).float().mean())

    found = qreg.tune(
        Classes().eval(),
        batches()[0],
        calibration=batches(),
        evaluate=evaluate,
        backends=["toy"],
        progress=False,
        registry=registry,
    )
    assert found.met
    assert found.best is not None
    assert [move.name for move in found.best.variant.moves] == ["first"]


def test_the_same_program_is_evaluated_once(registry: Registry) -> None:
    again = qreg.Algorithm("idle", "prepared", "changes nothing", run=lambda *_: [])
    with pytest.warns(TargetMissedWarning):
        found = tune(
            registry,
            evaluate=_worse_than_float(),
            calibration=batches(8),
            algorithms=[again],
            budget=3,
        )
    first, second = found.trials[:2]
    assert second.variant.algorithms == ("idle",)
    assert second.digest == first.digest
    assert (first.evaluated, second.evaluated) == (True, False)


def _worse_than_float() -> Callable[[Any], float]:
    calls = itertools.count()
    return lambda run: 1.0 if next(calls) == 0 else 0.5


def test_an_evaluate_that_fails_on_a_program_ends_the_search(registry: Registry) -> None:
    calls = itertools.count()

    def evaluate(run: Callable[..., Tensor]) -> float:
        if next(calls):
            raise RuntimeError("out of labels")
        return 1.0

    wanted = (
        r"no program was evaluated \(expected at least 0.99\): evaluate: it raised .*out of labels"
        r".*Remove the cause, or pass another config"
    )
    with pytest.raises(TargetMissedError, match=wanted):
        tune(registry, evaluate=evaluate)
    with pytest.raises(EvaluationError, match="it returned NaN for the float model"):
        tune(registry, evaluate=lambda run: float("nan"))


def _both(toy: Any, configs: Any = None, **fields: Any) -> Registry:
    """The toy backend, and one that is like it but for what is passed."""
    backend = evolve(toy.BACKEND, name="frail", suffix=".frail", **fields)
    given = [backend], configs or toy.CONFIGS, toy.ANNOTATORS, toy.lower
    frail = toy.Extension(*given, extends="frail")
    return Registry({"toy": toy, "frail": frail}, entry_points=False)


def test_a_runtime_that_fails_while_it_is_timed_is_a_failed_trial(toy: Any) -> None:
    calls = itertools.count()

    def load(program: bytes) -> Callable[[Any], Any]:
        run = toy.load(program)

        def frail(inputs: Any) -> Any:
            if next(calls) > len(HELD_OUT) + 8:  # after the verification and the metric
                raise RuntimeError("out of handles")
            return run(inputs)

        return frail

    found = tune(_both(toy, load=load), backends=["frail", "toy"], max_drop=0.9)
    first, second = found.trials
    assert first.failure is not None
    assert "out of handles" in first.failure
    assert first.metric is None
    assert found.best is second


def test_patterns_that_cannot_be_ranked_do_not_end_the_search_of_other_backends(toy: Any) -> None:
    def broken() -> object:
        raise RuntimeError("no observer")

    configs = [
        evolve(each, factory=broken) if each.mode == "dynamic" else each for each in toy.CONFIGS
    ]
    found = tune(_both(toy, configs), backends=["frail", "toy"])
    assert found.met
    assert found.best is not None
    assert found.best.variant.backend == "toy"
    (note,) = found.notes
    assert note.startswith("the patterns of frail minmax were not ranked: plugin 'frail'")


def test_a_backend_that_only_compiles_is_not_run_here(toy: Any) -> None:
    backend = evolve(toy.BACKEND, name="mute", load=None, suffix=".mute")
    mute = toy.Extension([backend], toy.CONFIGS, toy.ANNOTATORS, toy.lower, extends="mute")
    registry = Registry({"toy": toy, "mute": mute}, entry_points=False)
    found = tune(registry, backends=["mute", "toy"])
    assert found.met
    assert found.best is not None
    assert found.best.variant.backend == "toy"
    assert "not run here: backend 'mute' only compiles" in str(found)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"minimize": "speed"}, InputError, "minimize: it is 'speed'"),
        ({"work": __file__}, InputError, "test_tune.py is a file"),
        ({"on_trial": 3}, InputError, "on_trial: it is 3"),
        ({"budget": 1}, InputError, "budget: it is 1"),
        ({"missed": "ignore"}, InputError, "missed: it is 'ignore'"),
        ({"calibration": []}, qreg.errors.CalibrationError, "no batch"),
        ({"evaluate": 0.9}, InputError, "evaluate: it is 0.9"),
        ({"backends": ["tay"]}, UnknownNameError, "Did you mean 'toy'"),
        ({"target": 2.0}, InputError, "which the float model misses"),
        ({"algorithms": ["gtpq"]}, UnknownNameError, "gtpq"),
        ({"keep_in_float": "first"}, InputError, "keep_in_float: 'first' is one string"),
        ({"keep_in_float": ["frist"]}, qreg.errors.UnknownModuleError, "Near: first"),
        ({"evaluate": lambda run: math.inf}, EvaluationError, "it returned inf"),
        ({"max_dorp": 0.1}, qreg.errors.UnknownArgumentError, "Did you mean 'max_drop'"),
    ],
)
def test_bad_input_is_an_error_ahead_of_the_search(
    registry: Registry, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tune(registry, **options)


def programs_of(work: Path) -> list[Path]:
    return list(work.glob("trials/*/program.toy"))


def test_the_best_is_a_link_to_the_program_of_its_trial(registry: Registry, tmp_path: Path) -> None:
    tune(registry, work=tmp_path / "work")
    best = tmp_path / "work" / "best.toy"
    assert len([each for each in programs_of(tmp_path / "work") if each.samefile(best)]) == 1
    assert not list((tmp_path / "work").glob(".best*"))


def test_a_trial_whose_program_was_changed_is_made_again(
    registry: Registry, tmp_path: Path
) -> None:
    before = tune(registry, work=tmp_path / "work")
    best = tmp_path / "work" / "best.toy"
    assert before.result is not None
    best.write_bytes(b"XXXX")
    after = tune(registry, work=tmp_path / "work")
    assert after.met
    assert after.result is not None
    assert best.read_bytes() != b"XXXX"
    assert any(each.samefile(best) for each in programs_of(tmp_path / "work"))


def test_where_there_are_no_links_the_best_is_a_copy(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: Path, name: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)
    tune(registry, work=tmp_path / "work")
    best = tmp_path / "work" / "best.toy"
    programs = programs_of(tmp_path / "work")
    assert best.read_bytes() in [each.read_bytes() for each in programs]
    assert not any(each.samefile(best) for each in programs)
    assert not list((tmp_path / "work").glob(".best*"))


def test_the_best_program_is_timed_next_to_the_float_model(
    tuned: Tuned, registry: Registry
) -> None:
    assert tuned.timing is not None
    assert tuned.timing.milliseconds > 0
    assert tuned.as_dict()["timing"]["float_milliseconds"] == tuned.timing.float_milliseconds
    assert tune(registry, minimize="size").timing is None


@pytest.mark.parametrize(
    ("timing", "line"),
    [
        (Timing(2.0, 1.0, 50), "latency 1.000 ms, 2.0 times faster than float"),
        (
            Timing(1.0, 1.2, 50),
            "the best program takes 1.200 ms, 20 % slower than float in the same runtime: "
            "quantizing this model saves no time there",
        ),
    ],
)
def test_the_text_says_whether_int8_saves_time(tuned: Tuned, timing: Timing, line: str) -> None:
    lines = str(evolve(tuned, timing=timing)).splitlines()
    assert line in lines
    assert len([each for each in lines if "ms, " in each]) == 1


def test_a_float_model_that_cannot_be_timed_is_a_note(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise VerificationError("the float program does not run")

    monkeypatch.setattr("qreg.pipeline.result.in_turns", fails)
    found = tune(registry)
    assert found.result is not None
    assert found.timing is None
    assert any("the float program does not run" in note for note in found.notes)
