"""Image models of timm and torchvision run in int8 on the backends, and stay close to float.

``python benchmarks/images.py`` measures what is asserted here; the session images of nox runs it.
"""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("image_models", reason="timm is in the session images of nox alone")

from image_models import COMBINATIONS, IMAGE_MODELS, measured, with_rounded_weights

from qreg.plugins.registry import installed

pytestmark = pytest.mark.sweep

# Of the multiply-accumulates. In dynamic mode, depthwise convolutions stay in float; everywhere,
# products of two activations do.
SHARES = {"xnnpack dynamic": 0.8, "openvino static": 0.91}
LEAST = 0.95
SQNR = 15  # in dB, to float
# Rounding the weights of some random models costs them more than that, as it does with any
# quantizer to 8 bits that changes no bias: InceptionV3 has 11.3 dB, EfficientFormer 3.3.
BESIDE_WEIGHTS = 1  # in dB: what the rest may cost then


@pytest.mark.parametrize(
    ("name", "combination"), list(itertools.product(IMAGE_MODELS, COMBINATIONS))
)
def test_most_of_the_work_is_int8_and_the_program_is_close_to_float(
    name: str, combination: str
) -> None:
    backend = COMBINATIONS[combination]["backend"]
    if backend not in installed().backends():
        pytest.skip(f"{backend} is not installed")
    share, sqnr = measured(name, combination)
    assert share >= SHARES.get(combination, LEAST)
    assert sqnr >= SQNR or sqnr >= with_rounded_weights(name) - BESIDE_WEIGHTS
