"""Training of small models, with the weights kept in a folder if there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn


def trained(
    name: str, model: nn.Module, train: Callable[[nn.Module], None], cache: Path | None
) -> nn.Module:
    """Return the model in evaluation mode, trained or with the weights of ``cache / name``."""
    path = None if cache is None else cache / f"{name}.safetensors"
    if path is not None and path.exists():
        load_model(model, path)
        return model.eval()
    train(model.train())
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(model, str(path))
    return model.eval()


def descend(model: nn.Module, losses: Iterable[Tensor], rate: float, steps: int) -> None:
    """Minimize with AdamW, a loss a step, at a rate that rises for a tenth and falls to zero.

    ``losses`` computes each loss when it is asked for it, with the weights of that step.
    """
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    for _, loss in zip(range(steps), losses, strict=False):
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
