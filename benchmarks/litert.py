"""Quantize a model with LiteRT's own tools, and run it on request, for ``benchmarks/engines.py``.

``python benchmarks/litert.py FOLDER int8|float`` reads ``model.pt2`` and ``data.pt``, a list of
tuples of tensors, from the folder. It converts the model with litert-torch, quantizes it with
ai-edge-quantizer's recipe for static int8, per channel, and answers each line on its input with the
milliseconds of one run. Needs an environment with litert-torch, without qreg.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import litert_torch
import numpy
import torch
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
from serving import serve

SIGNATURE = "serving_default"
THREADS = 1


def converted(folder: Path) -> Any:
    """Return the float model, with inputs and outputs in the layout of the PyTorch model."""
    program = torch.export.load(folder / "model.pt2")
    batches = torch.load(folder / "data.pt", weights_only=True)
    return litert_torch.convert(program.module(check_guards=False), batches[0]), batches


def quantized(model: Any, batches: list[Any]) -> bytes:
    """Return the model in int8, calibrated with the batches."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        model.export(str(path))
        work = quantizer.Quantizer(str(path), recipe.static_wi8_ai8())
        taken = Program(path.read_bytes()).taken
        named = [{f"args_{n}": each for n, each in enumerate(taken(batch))} for batch in batches]
        return bytes(work.quantize(work.calibrate({SIGNATURE: named})).quantized_model)


def of_type(value: Any, detail: dict[str, Any]) -> Any:
    """Return an array in the type of an input, quantized with the input's qparams."""
    kind, (scale, zero) = detail["dtype"], detail["quantization"]
    if not scale:
        return value.astype(kind)
    limits = numpy.iinfo(kind)
    return (value / scale + zero).round().clip(limits.min, limits.max).astype(kind)


class Program:
    """A model in LiteRT's interpreter, which uses XNNPACK."""

    def __init__(self, content: bytes) -> None:
        self._interpreter = Interpreter(model_content=content, num_threads=THREADS)
        self._interpreter.allocate_tensors()
        self._inputs = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()

    def taken(self, batch: tuple[torch.Tensor, ...]) -> list[Any]:
        """Return the arrays that the program takes for a batch."""
        pairs = zip(batch, self._inputs, strict=True)
        return [of_type(value.numpy(), detail) for value, detail in pairs]

    def run(self, arrays: list[Any]) -> torch.Tensor:
        """Run the program. Return its output in float."""
        for detail, array in zip(self._inputs, arrays, strict=True):
            self._interpreter.set_tensor(detail["index"], array)
        self._interpreter.invoke()
        found = self._interpreter.get_tensor(self._output["index"])
        scale, zero = self._output["quantization"]
        return torch.from_numpy((found.astype("float32") - zero) * scale if scale else found)


def main() -> None:
    folder, side = Path(sys.argv[1]), sys.argv[2]
    model, batches = converted(folder)
    if side == "int8":
        content = quantized(model, batches)
    else:
        model.export(str(folder / "float.tflite"))
        content = (folder / "float.tflite").read_bytes()
    program = Program(content)
    ready = [program.taken(batch) for batch in batches]
    outputs = [program.run(each) for each in ready]
    serve(partial(program.run, ready[0]), outputs, folder, len(content))


if __name__ == "__main__":
    main()
