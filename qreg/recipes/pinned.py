"""Read the quantization parameters of observers, and set them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qreg.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import GraphModule


@frozen(eq=False)
class QParams:
    """The scale and zero point of an observer, of shape (1,), (channels,) or (rows, groups).

    ``low`` and ``high`` are the range that was observed, in units of the tensor; None for an
    observer without one.
    """

    scale: Tensor
    zero_point: Tensor
    low: Tensor | None = None
    high: Tensor | None = None

    def __call__(self, **_: Any) -> tuple[Tensor, Tensor]:
        """Return copies of scale and zero point, as ``calculate_qparams`` of an observer does."""
        return self.scale.clone(), self.zero_point.clone()


def pin(prepared: GraphModule) -> dict[str, QParams]:
    """Compute the quantization parameters of each observer once, and make it return these.

    Returns them by the name of the observer. Observers that compute them for each input, or
    have none, are left out.
    """
    found = {}
    for name, observer in _observers(prepared):
        scale, zero_point = observer.calculate_qparams()
        ends = [_range(observer, each) for each in ("min_val", "max_val")]
        found[name] = QParams(scale.detach(), zero_point.detach(), *ends)
    for name, observer in _observers(prepared):
        observer.calculate_qparams = found[name]
    return found


def pin_as_recorded(prepared: GraphModule, recorded: Mapping[str, QParams]) -> None:
    """Make each observer return recorded quantization parameters.

    Raises ``RecipeError`` if the observers are not those that were recorded.
    """
    observers = dict(_observers(prepared))
    if differing := sorted(observers.keys() ^ recorded.keys()):
        raise RecipeError(
            f"the model is not prepared as the recipe's was: its observers differ, first at "
            f"{differing[0]!r}. Use the versions that the recipe was made with; or remove the "
            "table [record] of the recipe, and pass calibration data."
        )
    for name, observer in observers.items():
        values = recorded[name]
        observer.calculate_qparams = values
        if values.low is not None and hasattr(observer, "min_val"):
            observer.min_val, observer.max_val = values.low, values.high


def _observers(prepared: GraphModule) -> Iterator[tuple[str, Any]]:
    """Yield each observer with quantization parameters, once, by its name."""
    from torchao.quantization.pt2e.observer import (
        NoopObserver,
        PlaceholderObserver,
        RecordingObserver,
        ReuseInputObserver,
    )

    from qreg.graph.prepared import OBSERVERS

    without = (NoopObserver, PlaceholderObserver, RecordingObserver, ReuseInputObserver)
    for name, module in prepared.named_modules():
        known = isinstance(module, OBSERVERS) and not isinstance(module, without)
        if known and not getattr(module, "is_dynamic", False):
            yield name, module


def _range(observer: Any, end: str) -> Tensor | None:
    value = getattr(observer, end, None)
    return None if value is None else value.detach().clone()
