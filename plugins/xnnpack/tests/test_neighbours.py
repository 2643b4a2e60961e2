"""What stays in float between int8 operators, and beside them: it lowers, loads and is right.

Those that a plain run has are every kind left in float with int8 on both sides, and what is known
to have failed. The sweep has all pairs and some thousand triples.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

import pytest
from chains import (
    ANNOTATED,
    FLOATS,
    IMAGE,
    MORE,
    ROWS,
    SEQUENCE,
    Chain,
    Kind,
    Shape,
    Step,
    failures,
)

from qreg_xnnpack.compat import passes_that_quantize
from qreg_xnnpack.neighbours import ASKED, float_beside_int8

STATIC, DYNAMIC = "int8_static_per_channel", "int8_dynamic_per_channel"
KINDS = {kind.name: kind for kind in (*ANNOTATED, *FLOATS, *MORE)}
AT_ONCE = 12  # chains in one model


def chain(shape: Shape, *steps: str) -> Chain:
    """A chain of kinds by name, where "~" before a name leaves it in float."""
    return Chain(shape, tuple(Step(KINDS[each.strip("~")], each[0] == "~") for each in steps))


def between(kind: Kind) -> Chain:
    """A kind in float between two products: conv1d and linear in preference, else conv2d."""
    rank = 3 if 3 in kind.ranks else kind.ranks[0]
    shape, head = {3: (SEQUENCE, "conv1d"), 4: (IMAGE, "conv2d"), 2: (ROWS, "linear")}[rank]
    return chain(shape, head, f"~{kind.name}", "linear")


KNOWN = (
    chain(SEQUENCE, "~conv1d", "conv1d"),
    chain(SEQUENCE, "linear", "~conv1d"),
    chain(SEQUENCE, "add", "~conv1d", "~relu", "mul"),
    chain(SEQUENCE, "linear", "relu", "~batch_norm1d", "linear"),
    chain(IMAGE, "add itself", "~pad"),
    chain(IMAGE, "conv2d", "~pad", "max_pool2d"),
    chain(IMAGE, "conv2d", "~pad", "~sigmoid"),
    chain(IMAGE, "conv2d", "~pad with ones", "conv2d"),
    chain(SEQUENCE, "conv1d", "~crop", "conv1d"),
    chain(SEQUENCE, "conv1d", "~pad channels", "linear"),
    chain(SEQUENCE, "conv1d", "~replicate", "conv1d"),
    chain(ROWS, "linear", "~pad", "linear"),
    chain(SEQUENCE, "conv1d", "~prelu", "conv1d"),
    chain(SEQUENCE, "conv1d", "~chunk", "conv1d"),
    chain(SEQUENCE, "conv1d", "~unbind", "linear"),
    chain(IMAGE, "conv2d", "~cat of many", "mul"),
    chain(IMAGE, "conv2d", "~interpolate", "conv2d"),
    chain(IMAGE, "conv2d", "~hardtanh of a narrow range", "conv2d"),
    chain(IMAGE, "conv2d", "~clamp from below", "conv2d"),
    chain(SEQUENCE, "conv1d", "~squeeze", "~clone", "conv1d"),
    chain(IMAGE, "conv2d", "~clamp", "~relu", "conv2d"),
    chain(IMAGE, "conv2d", "~hardtanh", "add"),
    chain(IMAGE, "conv2d", "~clamp from below", "~clamp", "conv2d"),
    chain(IMAGE, "pad_conv", "~matmul"),
    chain(IMAGE, "conv2d", "~turned and summed up"),
    chain(IMAGE, "conv2d", "~rms_norm"),
    chain(IMAGE, "max_pool2d", "conv_relu", "~cut and summed up"),
)
BETWEEN = tuple(between(kind) for kind in (*ANNOTATED, *FLOATS))
DYNAMICALLY = (
    chain(SEQUENCE, "linear", "~conv1d", "linear"),
    chain(IMAGE, "conv2d", "~conv2d", "conv2d"),
    chain(IMAGE, "conv2d", "~pad", "conv2d"),
    chain(SEQUENCE, "~conv1d", "~relu", "linear"),
    chain(SEQUENCE, "linear", "~batch_norm1d", "linear"),
    chain(ROWS, "linear", "~pad", "linear"),
    chain(IMAGE, "conv_transpose2d", "~cat", "conv2d"),
    chain(IMAGE, "conv2d", "~slice", "linear"),
)


def models(chains: Sequence[Chain], config: str) -> Iterator[object]:
    """The chains in models of ``AT_ONCE``, each named after its first chain."""
    for start in range(0, len(chains), AT_ONCE):
        part = chains[start : start + AT_ONCE]
        yield pytest.param(part, config, id=f"{config}-{part[0]}")


@pytest.mark.parametrize(
    ("chains", "config"), [*models((*KNOWN, *BETWEEN), STATIC), *models(DYNAMICALLY, DYNAMIC)]
)
def test_what_a_scope_leaves_in_float_runs_beside_int8(
    chains: Sequence[Chain], config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _name_no_suspects(monkeypatch)
    assert failures(chains, config) == []


def swept() -> Iterator[Chain]:
    """All pairs, and triples from a fixed seed, of what can follow each other."""
    steps = [Step(kind, left) for kind in ANNOTATED for left in (False, True)]
    steps += [Step(kind, True) for kind in (*FLOATS, *MORE)]
    draw = random.Random(0)
    pairs = itertools.product((IMAGE, SEQUENCE, ROWS), itertools.product(steps, repeat=2))
    triples = ((draw.choice((IMAGE, SEQUENCE)), draw.choices(steps, k=3)) for _ in range(3000))
    for shape, row in itertools.chain(pairs, triples):
        found = Chain(shape, tuple(row))
        if not all(step.left for step in row) and found.fits:
            yield found


@pytest.mark.sweep
@pytest.mark.parametrize("config", [STATIC, DYNAMIC])
def test_every_pair_and_many_triples_run(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _name_no_suspects(monkeypatch)
    chains = list(swept())
    parts = (chains[start : start + AT_ONCE] for start in range(0, len(chains), AT_ONCE))
    assert [each for part in parts for each in failures(part, config)] == []


def _name_no_suspects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps a failure from being searched for, a dozen lowerings: halving finds the chain."""
    monkeypatch.setattr("qreg.pipeline.name_suspect", lambda error, *about: error)


def test_the_passes_that_quantize_ask_by_the_names_that_are_replaced() -> None:
    asked = [(module, name) for module in passes_that_quantize() for name in ASKED]
    before = [getattr(module, name) for module, name in asked]
    assert all(map(callable, before))
    with float_beside_int8():
        assert all(
            getattr(module, name) is not asks
            for (module, name), asks in zip(asked, before, strict=True)
        )
    assert [getattr(module, name) for module, name in asked] == before
