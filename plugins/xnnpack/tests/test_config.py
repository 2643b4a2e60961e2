"""The symmetric config is the one that users of executorch's quantizer know."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as upstream

from qreg.plugins.registry import installed
from qreg_xnnpack import get_symmetric_quantization_config


def comparable(spec: Any) -> Any:
    """A spec with what its observer factory makes, since factories compare by identity.

    qreg's own observers count as those of torchao that they stand in for.
    """
    if spec is None:
        return None
    factory = spec.observer_or_fake_quant_ctr
    observer = factory.p.keywords.get("observer")
    inner = getattr(getattr(observer, "p", None), "func", observer)
    fields = (spec.dtype, spec.quant_min, spec.quant_max, spec.qscheme, spec.ch_axis)
    made = factory.p.func
    torchaos = made if made.__module__.startswith("torchao") else made.__base__
    return (*fields, spec.is_dynamic, torchaos, factory.p.keywords["eps"], inner)


@pytest.mark.parametrize(
    ("is_per_channel", "is_qat", "is_dynamic"), list(itertools.product([False, True], repeat=3))
)
def test_specs_equal_those_of_the_quantizer_users_know(
    is_per_channel: bool, is_qat: bool, is_dynamic: bool
) -> None:
    arguments = (is_per_channel, is_qat, is_dynamic, -100, 99, -50, 60)
    ours = get_symmetric_quantization_config(*arguments)
    theirs = upstream.get_symmetric_quantization_config(*arguments)
    assert ours.is_qat == theirs.is_qat
    for role in ("input_activation", "output_activation", "weight", "bias"):
        assert comparable(getattr(ours, role)) == comparable(getattr(theirs, role)), role


def test_the_same_arguments_give_the_same_object() -> None:
    assert get_symmetric_quantization_config(True) is get_symmetric_quantization_config(True)
    assert get_symmetric_quantization_config(True) is not get_symmetric_quantization_config()


def test_a_smaller_eps_keeps_the_codes_of_small_weights() -> None:
    weights = (torch.rand(64, 64) * 2 - 1) * 1e-4

    def codes(eps: float) -> int:
        spec = get_symmetric_quantization_config(eps=eps).weight
        observer = spec.observer_or_fake_quant_ctr(dtype=torch.int8, qscheme=spec.qscheme)
        observer(weights)
        scale, _ = observer.calculate_qparams()
        return int((weights / scale).round().unique().numel())

    assert codes(eps=2**-12) < 10
    assert codes(eps=2**-24) > 200


@pytest.mark.parametrize("name", installed().configs("xnnpack"))
def test_a_named_config_has_the_mode_it_states(name: str) -> None:
    from qreg.configs.validation import mode_of

    config = installed().config("xnnpack", name)
    assert mode_of(config.factory()) == config.mode
