"""The changes of algorithms as tensors and plain values, and back.

Values that are not needed are left out, and weights on the grid of an observer are integers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from qreg.recipes.grids import Grid, on_a_grid

if TYPE_CHECKING:
    from torch import Tensor

    from qreg.recipes.pinned import QParams
    from qreg.recipes.record import Step

Place: TypeAlias = tuple[int, int, int]  # step, change, position of the constant
Key: TypeAlias = tuple[str, str, int]  # stage of the graph, node, position

NAMES = ("algorithm", "stage", "distribution", "version")


def written_steps(
    steps: Sequence[Step], tensors: dict[str, Tensor], qparams: Mapping[str, QParams]
) -> list[dict[str, Any]]:
    """Return steps without their tensors, which are added to ``tensors``."""
    left_out = _overwritten(steps)
    return [_step(each, number, tensors, qparams, left_out) for number, each in enumerate(steps)]


def _step(
    step: Step,
    number: int,
    tensors: dict[str, Tensor],
    qparams: Mapping[str, QParams],
    left_out: Collection[Place],
) -> dict[str, Any]:
    """Return a step without its tensors, which are added to ``tensors``."""
    changes = []
    for at, each in enumerate(step.changes):
        place, grids = f"steps/{number}/{at}", {}
        for position, value in each.constants.items():
            if (number, at, position) in left_out:
                continue
            stored = value
            if found := on_a_grid(each.node, value, qparams):
                grid, stored = found
                grids[str(position)] = [grid.observer, grid.axis]
            tensors[f"{place}/constants/{position}"] = stored
        if each.scale is not None:
            tensors[f"{place}/scale"] = each.scale
        changes.append(
            {
                "node": each.node,
                "constants": list(each.constants),
                "grids": grids,
                "scale": each.scale is not None,
                "in_float": each.in_float,
                **({"readers": list(each.readers)} if each.readers else {}),
            }
        )
    return {**{name: getattr(step, name) for name in NAMES}, "changes": changes}


def _overwritten(steps: Sequence[Step]) -> set[Place]:
    """Return the places of constants that a later change of the same graph replaces.

    Their values do not matter, but that they were replaced does: it names the constants.
    """
    found: set[Place] = set()
    last: set[Key] = set()
    for number, step in reversed([*enumerate(steps)]):
        for at, change in reversed([*enumerate(step.changes)]):
            for position in change.constants:
                key = _key(step.stage, change.node, position)
                if key in last:
                    found.add((number, at, position))
                last.add(key)
    return found


def _key(stage: str, node: str, position: int) -> Key:
    from qreg.plugins.types.algorithm import REWRITES

    return "float" if stage in REWRITES else stage, node, position


def read_steps(
    steps: Sequence[Mapping[str, Any]],
    tensors: Mapping[str, Tensor],
    qparams: Mapping[str, QParams],
) -> tuple[Step, ...]:
    """Return the steps; an overwritten constant has the value that is written last."""
    from qreg.plugins.types.algorithm import STAGES, Change
    from qreg.recipes.record import Step

    last: dict[Key, Tensor] = {}

    def constant(stage: str, change: Mapping[str, Any], place: str, position: int) -> Tensor:
        key, name = _key(stage, change["node"], position), f"{place}/constants/{position}"
        if name not in tensors:
            return last[key]
        grid = change["grids"].get(str(position))
        last[key] = Grid(*grid).values(tensors[name], qparams) if grid else tensors[name]
        return last[key]

    found = []
    for number, step in reversed([*enumerate(steps)]):
        if step["stage"] not in STAGES:
            raise ValueError(f"stage {step['stage']!r}")
        changes = []
        for at, each in reversed([*enumerate(step["changes"])]):
            place = f"steps/{number}/{at}"
            constants = {
                position: constant(step["stage"], each, place, position)
                for position in each["constants"]
            }
            scale = tensors[f"{place}/scale"] if each["scale"] else None
            changes.append(
                Change(
                    each["node"],
                    constants,
                    scale=scale,
                    in_float=each["in_float"],
                    readers=each.get("readers", ()),
                )
            )
        names = {name: step[name] for name in NAMES}
        found.append(Step(**names, changes=tuple(reversed(changes))))
    return tuple(reversed(found))
