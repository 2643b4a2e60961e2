"""Feeds batches through a prepared model, so that its observers see what flows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torchao.quantization.pt2e import ObserverBase
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

from qreg.errors import CalibrationError

if TYPE_CHECKING:
    from torch.fx import GraphModule


def calibrate(
    prepared: GraphModule,
    batches: Iterable[tuple[Any, ...]],
    each: Callable[[], None] = lambda: None,
) -> int:
    """Runs every batch through the prepared model and returns how many there were.

    ``each`` is called after every batch. Raises ``CalibrationError`` if there is no batch.
    """
    count = 0
    with torch.no_grad():
        for batch in batches:
            prepared(*batch)
            count += 1
            each()
    if not count:
        raise CalibrationError("the calibration data has no batch; give it at least one")
    return count


def convert(prepared: GraphModule) -> GraphModule:
    """``convert_pt2e`` for a model that was calibrated, and an error for one that was not.

    torchao's own gives an uncalibrated observer the scale 1 with a warning, and a model that
    computes nothing of use. Raises ``CalibrationError`` that names the observer.
    """
    _check_observers(prepared)
    converted: GraphModule = convert_pt2e(prepared)
    return converted


def _check_observers(prepared: GraphModule) -> None:
    for node in prepared.graph.nodes:
        if node.op == "call_module" and _is_blind(prepared.get_submodule(node.target)):
            source = node.args[0]
            raise CalibrationError(
                f"the observer of {source} saw no value: no batch ran this part of the model. "
                "Add batches that do, or keep it in float with set_module_name(..., None)."
            )


def _is_blind(module: torch.nn.Module) -> bool:
    if not isinstance(module, ObserverBase) or not hasattr(module, "min_val"):
        return False  # a placeholder, as dynamic configs use it, observes nothing
    lowest = module.min_val
    return bool(lowest.numel() == 0 or torch.isinf(lowest).all())
