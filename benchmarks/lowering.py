"""How long lowering to XNNPACK takes: with shortcuts, without them, and by executorch alone.

``python benchmarks/lowering.py [--json FILE] [--models NAME ...]`` lowers one converted model three
ways in turns, in one process, and prints seconds of processor time and ratios. Trust the ratios.
Needs qreg-xnnpack and transformers.

- shortcuts: ``qreg.lower``, the audit included
- without: the same without the shortcuts through torch and the passes; the program is compared
- executorch: ``to_edge_transform_and_lower`` and ``to_executorch``
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from models import MODELS
from torch import nn
from torch.export import ExportedProgram

import qreg
import qreg_xnnpack.lowering
from qreg.programs import lowering
from qreg.utils.tables import print_table

ROUNDS = 3
PATCHES, SHORTCUTS = qreg_xnnpack.lowering.PATCHES, qreg_xnnpack.lowering.SHORTCUTS
WITHOUT = [each for each in PATCHES if each not in SHORTCUTS]


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()


def converted(model: nn.Module, batch: torch.Tensor) -> ExportedProgram:
    """The program of a model in int8."""
    result = qreg.quantize(model, (batch,), calibration=[(batch,)], verify=False, progress=False)
    return torch.export.export(result.converted, (batch,))


def with_shortcuts(program: ExportedProgram) -> bytes:
    return qreg.lower(program).program


def without_shortcuts(program: ExportedProgram) -> bytes:
    with (
        mock.patch.object(lowering, "shortcuts", contextlib.nullcontext),
        mock.patch.object(qreg_xnnpack.lowering, "PATCHES", WITHOUT),
    ):
        return qreg.lower(program).program


def by_executorch(program: ExportedProgram) -> bytes:
    partitioner = [XnnpackPartitioner()]
    edge = to_edge_transform_and_lower(copy.deepcopy(program), partitioner=partitioner)
    return bytes(edge.to_executorch().buffer)


WAYS: dict[str, Callable[[ExportedProgram], bytes]] = {
    "shortcuts": with_shortcuts,
    "without": without_shortcuts,
    "executorch": by_executorch,
}


def seconds(program: ExportedProgram) -> dict[str, float]:
    """The median of the rounds for each way."""
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    programs: dict[str, bytes] = {}
    for _ in range(ROUNDS):
        for name, lower in WAYS.items():
            started = time.process_time()
            programs[name] = lower(program)
            taken[name].append(time.process_time() - started)
    assert programs["shortcuts"] == programs["without"]
    return {name: sorted(each)[ROUNDS // 2] for name, each in taken.items()}


def rows(names: list[str]) -> Iterator[dict[str, Any]]:
    models = {"conv, linear": (small, lambda: torch.randn(1, 3, 8, 8)), **MODELS}
    for name in names or models:
        make, batch = models[name]
        torch.manual_seed(0)
        found = seconds(converted(make(), batch()))
        ratios = {
            f"{each} / shortcuts": round(found[each] / found["shortcuts"], 2)
            for each in ("without", "executorch")
        }
        yield {"model": name, **{each: round(s, 2) for each, s in found.items()}, **ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    parser.add_argument("--models", nargs="*", default=[], help="the models, by default all")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    found = list(rows(arguments.models))
    print_table(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
