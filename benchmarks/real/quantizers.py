"""The quantizers that a benchmark of accuracy compares, each on one model.

Two are not qreg's. Whatever they raise is a result: the message is kept in ``Found.failure``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import evolve, field, frozen

import qreg
from qreg import Result
from qreg.algorithms.outcome import Outcome
from qreg.errors import QregError
from qreg.verification.latency import side_by_side
from real.subject import Batch, Outputs, Subject, sqnr

BLOCKS = 7
NNCF = Path(__file__).with_name("run_nncf.py")


@frozen
class Found:
    """What a quantizer's outputs are worth, how it was made, or why there are none.

    ``sqnr`` is in dB to the float outputs, ``int8`` the share of the multiply-accumulates in int8,
    ``seconds`` the time to quantize, without running the held-out inputs, and ``tried`` the
    outcomes of qreg's algorithms.
    """

    metrics: dict[str, float] = field(factory=dict)
    sqnr: float | None = None
    int8: float | None = None
    seconds: float | None = None
    failure: str = ""
    tried: Sequence[Outcome] = ()
    result: Result | None = field(default=None, repr=False)


def judged(subject: Subject, outputs: Outputs, **facts: Any) -> Found:
    """Return the metrics of outputs and their distance from the float model's."""
    metrics = {each.name: each.measure(outputs) for each in subject.metrics}
    return Found(metrics, sqnr(subject.float_outputs(), outputs), **facts)


def in_float(subject: Subject) -> Found:
    """Return the metrics of the float model."""
    outputs = subject.float_outputs()
    return Found({each.name: each.measure(outputs) for each in subject.metrics})


def by_qreg(subject: Subject, backend: str, algorithms: Any = ()) -> Found:
    """Return what qreg's program gives in the backend's runtime, with its default config."""
    started = time.perf_counter()
    try:
        result = qreg.quantize(
            subject.model,
            subject.example,
            backend=backend,
            calibration=subject.calibration,
            algorithms=algorithms,
            verify=False,
            progress=False,
        )
    except QregError as error:
        return Found(failure=str(error))
    seconds = time.perf_counter() - started
    found = judged(subject, subject.outputs(result.run), seconds=seconds)
    int8, tried = result.report.int8_share, result.algorithms
    return evolve(found, int8=int8, tried=tried, result=result)


def by_executorch(subject: Subject) -> Found:
    """Return what the model gives that XNNPACKQuantizer and torchao's PT2E functions make."""
    started = time.perf_counter()
    try:
        converted = _converted(subject)
        seconds = time.perf_counter() - started
        return judged(subject, subject.outputs(converted), seconds=seconds)
    except Exception as error:  # raised by a third party
        return Found(failure=f"{type(error).__name__}: {error}")


def _converted(subject: Subject) -> torch.fx.GraphModule:
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as upstream
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    config = upstream.get_symmetric_quantization_config(is_per_channel=True)
    quantizer = upstream.XNNPACKQuantizer().set_global(config)
    exported = torch.export.export(subject.model, subject.example).module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = prepare_pt2e(exported, quantizer)
        with torch.no_grad():
            for batch in subject.calibration:
                prepared(*batch)
        return convert_pt2e(prepared)


def by_nncf(subject: Subject, python: str) -> Found:
    """Return what NNCF's post-training quantization gives on OpenVINO.

    ``python`` is the interpreter of an environment with nncf and openvino. It receives the model
    and the data in files, and returns the outputs in a file; nothing is unpickled.
    """
    import openvino

    with tempfile.TemporaryDirectory() as place, torch.no_grad():
        folder = Path(place)
        exported = torch.export.export(subject.model, subject.example)
        model = openvino.convert_model(exported)
        openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
        _write(folder / "calibration.npz", subject.calibration)
        _write(folder / "held_out.npz", subject.held_out)
        facts = {"transformer": subject.is_transformer, "samples": len(subject.calibration)}
        (folder / "facts.json").write_text(json.dumps(facts))
        done = subprocess.run([python, str(NNCF), place], capture_output=True, text=True)
        if done.returncode:
            return Found(failure=done.stderr.strip().splitlines()[-1])
        with np.load(folder / "outputs.npz", allow_pickle=False) as arrays:
            outputs = [torch.from_numpy(arrays[str(each)]) for each in range(len(arrays))]
        seconds = json.loads((folder / "done.json").read_text())["seconds"]
    return judged(subject, outputs, seconds=seconds)


def _write(path: Path, batches: Sequence[Batch]) -> None:
    """Write batches of arguments, each tensor named by the numbers of its batch and its place."""
    arrays = {
        f"{number}.{place}": tensor.numpy()
        for number, batch in enumerate(batches)
        for place, tensor in enumerate(batch)
    }
    np.savez(path, **arrays)


def latency_ratio(one: Result, other: Result) -> float:
    """Return the latency of a program divided by that of another; they run in turns.

    It is the median of ``BLOCKS`` ratios, of which other work on the machine spoils some, and 1
    for two programs that are the same.
    """
    if one.program == other.program:
        return 1.0
    load, programs = one.target.loader, [one.program, other.program]
    blocks = [side_by_side(load, programs, one.samples[0]) for _ in range(BLOCKS)]
    return statistics.median(first / second for first, second in blocks)
