"""Choose a config for each weight, so that all weights fit a size and cost the outputs least."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from qreg.configs.groups import group_size_of
from qreg.errors import InputError
from qreg.tuning.values import Place

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationSpec

SCALE = 32  # bits of the scale of a channel or a tensor


@frozen
class Weight:
    """A weight of a model, and what each config of its operators costs.

    ``places`` are the operators that read it, ``elements`` its size. ``bits`` has the size of its
    values and scales in bits, and ``noises`` the power of the noise at the outputs relative to the
    signal, by config.
    """

    places: tuple[Place, ...]
    elements: int
    bits: Mapping[str, int]
    noises: Mapping[str, float]

    @property
    def configs(self) -> list[str]:
        """The configs in which both the size and the noise are known."""
        return [name for name in self.bits if name in self.noises]


def check_bits(bits: object) -> None:
    """Raise ``InputError`` for what is not a positive, finite number."""
    is_number = isinstance(bits, (int, float)) and not isinstance(bits, bool)
    if not is_number or not 0 < bits < math.inf:  # type: ignore[operator]
        raise InputError(
            f"bits: it is {bits!r} (expected a positive number of bits per weight, such as 4.5)"
        )


def stored_bits(spec: QuantizationSpec, shape: Sequence[int], group_scale: int) -> int:
    """Return the bits that a weight of a shape takes in a program, with its scales.

    The scale of a group takes ``group_scale`` bits, and others 32.
    """
    elements = math.prod(shape)
    codes = int(spec.quant_max - spec.quant_min).bit_length() * elements
    group = group_size_of(spec)
    if group is not None:
        return codes + group_scale * (elements // group)
    channels = 1 if spec.ch_axis is None else shape[spec.ch_axis]
    return codes + SCALE * (channels if "per_channel" in str(spec.qscheme) else 1)


def allocated(weights: Sequence[Weight], bits: float) -> list[str]:
    """Return the config of each weight that makes the sum of the noises least.

    The weights have at most ``bits`` per element on average. This is a multiple-choice knapsack,
    solved exactly as a mixed-integer linear program with ``scipy.optimize.milp``.

    Raises ``InputError`` if not even the smallest configs are that small.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    elements = sum(each.elements for each in weights)
    _check_reachable(weights, bits, elements)
    pairs = [(number, name) for number, each in enumerate(weights) for name in each.configs]
    sizes = [weights[number].bits[name] / elements for number, name in pairs]
    noises = [weights[number].noises[name] for number, name in pairs]
    loudest, largest = max(noises) or 1.0, max(sizes)
    one_each = [[int(row == number) for number, _ in pairs] for row in range(len(weights))]
    found = milp(
        # Weights that cost nothing in any config get the smallest.
        [
            noise / loudest + 1e-9 * size / largest
            for noise, size in zip(noises, sizes, strict=True)
        ],
        integrality=[1] * len(pairs),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint([sizes], ub=bits)],
    )
    return [name for (_, name), share in zip(pairs, found.x, strict=True) if share > 0.5]


def average_bits(weights: Sequence[Weight], configs: Sequence[str]) -> float:
    """Return the bits per element of weights that have these configs."""
    pairs = zip(weights, configs, strict=True)
    return sum(each.bits[name] for each, name in pairs) / sum(each.elements for each in weights)


def _check_reachable(weights: Sequence[Weight], bits: float, elements: int) -> None:
    least = sum(min(each.bits[name] for name in each.configs) for each in weights) / elements
    if bits < least:
        raise InputError(
            f"bits: no configs have {bits:g} bits per weight on average (expected at least "
            f"{math.ceil(100 * least) / 100:g}). Add a config with fewer bits to configs."
        )
