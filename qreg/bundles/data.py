"""The inputs that a program was verified with, and what the models return for them, as tensors."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import instance_of

from qreg.verification.metrics import Outputs

PARTS = ("inputs", "of_float", "of_converted")


@frozen
class Check:
    """How a program is verified, as in :func:`qreg.verification.verify.verify`.

    The first of the ``samples`` is run ``repeats`` more times.
    """

    samples: int = field(validator=instance_of(int))
    repeats: int = field(validator=instance_of(int))
    floor: float = field(validator=instance_of((int, float)))
    min_sqnr: float = field(validator=instance_of((int, float)))


@frozen
class Data:
    """Flat tensors of each sample: its inputs, and the outputs of both models for it."""

    inputs: Outputs
    of_float: Outputs
    of_converted: Outputs

    def written(self) -> bytes:
        """Return the bytes of a .safetensors file."""
        from safetensors.torch import save

        tensors = {
            f"{part}/{sample}/{at}": value.detach().cpu().contiguous().clone()
            for part in PARTS
            for sample, values in enumerate(getattr(self, part))
            for at, value in enumerate(values)
        }
        return bytes(save(tensors))


def read_data(content: bytes, samples: int, inputs: int, outputs: int) -> Data:
    """Return the data of a number of samples, each with a number of inputs and outputs.

    Raises ``ValueError`` for a file that does not hold them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(content)
        inside = [
            [[tensors[f"{part}/{sample}/{at}"] for at in range(count)] for sample in range(samples)]
            for part, count in zip(PARTS, (inputs, outputs, outputs), strict=True)
        ]
    except (SafetensorError, KeyError) as cause:
        raise ValueError(f"{cause!r}") from cause
    return Data(*inside)
