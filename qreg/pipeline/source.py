"""The model and the calibration data of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attrs import frozen
from torch.export import ExportedProgram
from torch.fx import GraphModule

from qreg.inputs.batches import Transform, capped, check_batches, checked, length, transformed
from qreg.inputs.signature import Signature

Batch = tuple[Any, ...]


@frozen
class Source:
    """An exported float model, with its example inputs and its dynamic dimensions.

    ``example`` are positional arguments of ``model``, its graph, which has a separate copy of its
    state.
    """

    program: ExportedProgram
    example: Batch
    shapes: Any
    signature: Signature
    model: GraphModule


@frozen
class Data:
    """The calibration data: at most ``most`` batches, each as ``transform`` returns it.

    None: the example inputs. Raises ``InputError`` if ``most`` is not a number of batches, or
    ``transform`` not a function.
    """

    calibration: Iterable[Any] | None
    most: int | None
    transform: Transform | None = None

    def __attrs_post_init__(self) -> None:
        if self.calibration is not None:
            check_batches(self.calibration)
            self._read(())

    def _read(self, batches: Iterable[Any]) -> Iterable[Any]:
        return transformed(capped(batches, self.most), self.transform)

    @property
    def readable_again(self) -> bool:
        """Whether the batches can be read more than once, unlike those of a generator."""
        return not isinstance(self.calibration, Iterator)

    @property
    def steps(self) -> int | None:
        """The number of batches, or None if it is not known."""
        return None if self.calibration is None else length(self.calibration, self.most) or None

    def batches(self, source: Source) -> Iterable[Batch]:
        """Return the batches, checked one at a time; weights only need the example inputs."""
        if self.calibration is None:
            return [source.example]
        return checked(self._read(self.calibration), source.signature)
