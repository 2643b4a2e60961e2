"""What stays in float between int8 operators, and beside them: it lowers, loads and is right.

Those that a plain run has are known to have failed. The sweep has every kind left in float with
int8 on both sides, all pairs, and some four thousand triples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from chains import Chain, between, chain, failures, run_apart
from kinds import ANNOTATED, FLOATS, IMAGE, ROWS, SEQUENCE
from walks import PARTS, swept

from qreg_xnnpack.compat import passes_that_quantize
from qreg_xnnpack.neighbours import ASKED, float_beside_int8

STATIC, DYNAMIC = "int8_static_per_channel", "int8_dynamic_per_channel"
AT_ONCE = 27  # chains in one model

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
    ("chains", "config"), [*models(KNOWN, STATIC), *models(DYNAMICALLY, DYNAMIC)]
)
def test_what_a_scope_leaves_in_float_runs_beside_int8(
    chains: Sequence[Chain], config: str
) -> None:
    assert failures(chains, "xnnpack", config) == []


@pytest.mark.sweep
@pytest.mark.parametrize(("chains", "config"), [*models(BETWEEN, STATIC)])
def test_every_kind_runs_in_float_between_int8(chains: Sequence[Chain], config: str) -> None:
    assert failures(chains, "xnnpack", config) == []


@pytest.mark.sweep
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("config", [STATIC, DYNAMIC])
def test_every_pair_and_many_triples_run(config: str, part: int) -> None:
    walks = swept("xnnpack", config)[part::PARTS]
    assert failures(walks, "xnnpack", config, run=run_apart) == []


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
