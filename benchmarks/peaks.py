"""Peak memory of quantizing small models statically, by stage, next to executorch's own path.

``python benchmarks/peaks.py [--models NAME ...]`` quantizes each model per channel in fresh
processes, with 4 batches, and prints the peak resident memory of each stage in MiB, what the
imports need included. qreg's row includes the run of the models and the verification, which
executorch's own path does not have. Linux only, as ``benchmarks/memory.py``.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import warnings
from contextlib import contextmanager
from typing import Any

import torch
from memory import Measured
from models import MODELS

from qreg.utils.tables import print_table

MAKERS, BATCHES = ("executorch", "qreg"), 4


def ours(name: str, measured: Measured) -> None:
    with measured.stage("import"):
        import qreg
        from qreg.utils.progress import Stages

        qreg.get_quantizer("xnnpack")
    stage = Stages.stage

    @contextmanager
    def watched(itself: Any, name: str, *total: Any) -> Any:
        with measured.stage(name), stage(itself, name, *total) as step:
            yield step

    Stages.stage = watched  # type: ignore[method-assign, assignment]
    model, data = made(name)
    batches = [(each,) for each in data]
    qreg.quantize(model, batches[0], calibration=batches, progress=False)


def theirs(name: str, measured: Measured) -> None:
    with measured.stage("import"):
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from executorch.exir import to_edge_transform_and_lower
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    model, data = made(name)
    with measured.stage("export"):
        program = torch.export.export(model, (data[0],))
    with measured.stage("prepare"):
        config = get_symmetric_quantization_config(is_per_channel=True)
        prepared = prepare_pt2e(program.module(), XNNPACKQuantizer().set_global(config))
    with measured.stage("calibrate"), torch.no_grad():
        for each in data:
            prepared(each)
    with measured.stage("convert"):
        converted = convert_pt2e(prepared)
    with measured.stage("lower"):
        program = torch.export.export(converted, (data[0],))
        edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        edge.to_executorch()


def made(name: str) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    make, batch = MODELS[name]
    torch.manual_seed(0)
    return make().eval(), [batch() for _ in range(BATCHES)]


def measure(maker: str, name: str) -> dict[str, int]:
    """Quantize in this process, and return its peaks."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    measured = Measured()
    {"qreg": ours, "executorch": theirs}[maker](name, measured)
    return measured.peaks


def row(maker: str, name: str) -> dict[str, str]:
    command = [sys.executable, __file__, "--measure", maker, name]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    peaks = json.loads(printed.splitlines()[-1])
    peaks["whole"] = max(peaks.values())
    return {"model": name, "maker": maker, **{k: f"{v / 2**20:.0f}" for k, v in peaks.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["ViT-tiny"], choices=list(MODELS))
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        sys.stdout.write(json.dumps(measure(*options.measure)) + "\n")
        return
    rows = [row(maker, name) for name in options.models for maker in MAKERS]
    columns = dict.fromkeys(column for each in rows for column in each)
    print_table([{column: each.get(column, "") for column in columns} for each in rows])


if __name__ == "__main__":
    main()
