"""What kind of a config one is: when ranges are computed, and how many bits values have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from qreg.configs.named import made_config
from qreg.plugins.types.backend import Mode

if TYPE_CHECKING:
    from qreg.plugins.registry import Registry

FLOAT_BITS = 32


@frozen
class Kind:
    """The mode of a config, and the bits of its activations and of its weights.

    Weights of 7 bits, for processors whose products overflow with 8, count as 8.
    """

    mode: Mode
    activations: int
    weights: int

    @classmethod
    def of(cls, registry: Registry, backend: str, name: str) -> Kind:
        """Return the kind of a config of a backend."""
        made = made_config(registry, backend, name)
        mode = registry.config(backend, name).mode
        return cls(mode, _stored_bits(made.input_activation), _weight_bits(made.weight))

    def is_finer(self, other: Kind) -> bool:
        """Whether a config of this kind loses less than one of the other, and can replace it.

        It has more bits, or computes the range of each activation, and nothing less. Weights alone
        are quantized in its place only where they are in the other, too.
        """
        if self.mode == "qat" or (self.mode == "weight" and other.mode != "weight"):
            return False
        more = (self.activations - other.activations, self.weights - other.weights)
        if other.mode == "dynamic" and self.mode == "static" and not more[0]:
            return False
        computes = self.mode == "dynamic" and other.mode == "static"
        return min(more) >= 0 and (max(more) > 0 or computes)


def _stored_bits(spec: Any) -> int:
    return FLOAT_BITS if spec is None else int(spec.dtype.itemsize) * 8


def _weight_bits(spec: Any) -> int:
    """Return 4 for codes of at most 4 bits, which are stored two in a byte."""
    if spec is None or spec.quant_min is None:
        return _stored_bits(spec)
    return 4 if int(spec.quant_max - spec.quant_min).bit_length() <= 4 else _stored_bits(spec)
