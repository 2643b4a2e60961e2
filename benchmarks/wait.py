"""How long a user waits: for fresh processes, against another checkout, and for ``convert``.

``python benchmarks/wait.py [--before FOLDER] [--rounds N] [--json FILE]`` starts processes in turns
and prints the median of their seconds of processor time, and ratios. Trust the ratios. Needs
qreg-xnnpack. ``benchmarks/lowering.py`` compares the lowering alone with executorch's.

- import torch, imports, ``get_quantizer``, ``qreg quantize``: fresh processes; ``imports`` are
  those of a script of executorch's own path, with an export of one operator; the last one quantizes
  the digits network with random weights, and writes its program
- again: the same with the program of an earlier run in the cache; the others have no cache
- export, explain: in one process, of MobileNetV2, without calibration data
- before: the same from a checkout of another commit, ``git worktree add FOLDER COMMIT``, with
  executorch's table of operators parsed in Python, as without ruamel.yaml.clib
- convert: ``qreg.convert`` and torchao's, of a model that was prepared with executorch's quantizer
  and has a batch norm downstream of a relu; qreg's own quantizers fold or spell it out
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as upstream
from models import MODELS
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

import qreg
from qreg.utils.tables import print_table

HERE = Path(__file__).parents[1]
QUANTIZE = ("-m", "qreg", "quantize", "model.pt2", "--calibration", "data.pt", "-o", "model.pte")
IMPORTS = """
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

torch.export.export(torch.nn.ReLU(), (torch.ones(1),))
"""
PROCESSES = {
    "import torch": ("-c", "import torch"),
    "imports": ("-c", IMPORTS),
    "get_quantizer": ("-c", "import qreg; qreg.get_quantizer('xnnpack')"),
    "qreg quantize": QUANTIZE,
}


def write_digits(folder: Path) -> None:
    """Write the digits network with random weights, and images for its calibration."""
    sys.path.append(str(HERE / "examples" / "digits"))
    from digits import DigitsNet

    torch.manual_seed(0)
    images = [(torch.randn(1, 1, 8, 8),) for _ in range(64)]
    torch.export.save(torch.export.export(DigitsNet().eval(), images[0]), folder / "model.pt2")
    torch.save(images, folder / "data.pt")


def environment(checkout: Path, *first: Path) -> dict[str, str]:
    """Return the environment in which processes import qreg from a checkout."""
    paths = [*first, checkout, checkout / "plugins" / "xnnpack" / "src"]
    return {**os.environ, "QREG_CACHE": "", "PYTHONPATH": os.pathsep.join(map(str, paths))}


def without_parser(folder: Path) -> Path:
    """Write a module that hides the parser of ruamel.yaml.clib, and return its folder."""
    (folder / "_ruamel_yaml.py").write_text("raise ImportError\n")
    return folder


def seconds(arguments: tuple[str, ...], variables: dict[str, str], folder: Path) -> float:
    """Return the processor time of a Python process, with that of processes it started."""
    started = os.times()
    command = [sys.executable, *arguments]
    subprocess.run(command, env=variables, cwd=folder, capture_output=True, check=True)
    ended = os.times()
    used = ended.children_user + ended.children_system
    return used - started.children_user - started.children_system


def fresh(before: Path | None, rounds: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Time each process from each checkout, in turns."""
    write_digits(folder)
    (hidden := folder / "hidden").mkdir()
    sides = {"qreg": environment(HERE)}
    if before is not None:
        sides["before"] = environment(before.resolve(), without_parser(hidden))
    for name, arguments in PROCESSES.items():
        taken = [
            {side: seconds(arguments, each, folder) for side, each in sides.items()}
            for _ in range(rounds)
        ]
        yield row(name, {s: statistics.median(each[s] for each in taken) for s in sides})
    yield again(sides["qreg"], rounds, folder)


def again(variables: dict[str, str], rounds: int, folder: Path) -> dict[str, Any]:
    """Time ``qreg quantize`` with the program in the cache, and anew, in turns."""
    cached = {**variables, "QREG_CACHE": str(folder / "cache")}
    seconds(QUANTIZE, cached, folder)
    taken = [
        [seconds(QUANTIZE, each, folder) for each in (cached, variables)] for _ in range(rounds)
    ]
    known, anew = (statistics.median(column) for column in zip(*taken, strict=True))
    return row("again", {"qreg": known, "without cache": anew})


def explained(rounds: int) -> Iterator[dict[str, Any]]:
    """Time the decisions of a model next to its export alone, in turns."""
    make, batch = MODELS["MobileNetV2"]
    model, inputs = make().eval(), (batch(),)
    ways: dict[str, Callable[[], Any]] = {
        "qreg": lambda: qreg.explain(model, inputs, progress=False),
        "export": lambda: torch.export.export(model, inputs),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds + 1):
        for way, run in ways.items():
            started = time.process_time()
            run()
            taken[way].append(time.process_time() - started)
    found = {way: statistics.median(each[1:]) for way, each in taken.items()}
    yield {**row("explain", found), "qreg / export": found["qreg"] / found["export"]}


def quantizer() -> Any:
    return upstream.XNNPACKQuantizer().set_global(upstream.get_symmetric_quantization_config())


def converted(rounds: int) -> dict[str, Any]:
    """Time both conversions of one calibrated model, in turns."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))
    batch = (torch.randn(1, 3, 16, 16),)
    program = torch.export.export(model.eval(), batch)
    ways: dict[str, Callable[[Any], Any]] = {"qreg": qreg.convert, "torchao": convert_pt2e}
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, convert in ways.items():
            prepared = prepare_pt2e(program.module(), quantizer())
            qreg.calibrate(prepared, [batch], progress=False)
            started = time.process_time()
            convert(prepared)
            taken[way].append(time.process_time() - started)
    return row("convert", {way: statistics.median(each) for way, each in taken.items()})


def row(what: str, found: dict[str, float]) -> dict[str, Any]:
    ratios = {f"{s} / qreg": each / found["qreg"] for s, each in found.items() if s != "qreg"}
    return {"what": what, **found, **ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        rows = [
            *fresh(arguments.before, arguments.rounds, Path(name)),
            *explained(arguments.rounds),
            converted(arguments.rounds),
        ]
    columns = dict.fromkeys(column for each in rows for column in each)
    print_table([{name: _short(each.get(name, "")) for name in columns} for each in rows])
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


def _short(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
