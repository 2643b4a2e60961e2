"""Peak memory and time of quantizing a Llama with random weights, by stage, next to executorch's.

``python benchmarks/memory.py [--layers 24] [--width 1024] [--config NAME ...]
[--algorithms NAME ...] [--json FILE]`` writes the model to a .safetensors file, quantizes it in
fresh processes, from the file to a saved ``.pte``, and prints for each stage the peak resident
memory as a multiple of the file, and the seconds of processor time. A model of 24 layers of 1,024
has 374 million parameters. With several ``--layers 2,4,8`` the seconds per layer show whether a
stage is linear.

- qreg: ``qreg.quantize`` with 4 batches of 32 tokens, the verification included
- executorch: ``quantize_``, export, the partitioner, and nothing is verified

Peaks include 0.4 GB of imports, and are those of the kernel (``VmHWM``), so Linux only. The calls
of ``Stages.stage`` are qreg's stages; a peak outside of them is in the row "between".
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from qreg.utils.tables import print_table

TOKENS, BATCHES, VOCABULARY = 32, 4, 32000
CONFIGS = ("int8_dynamic_per_channel", "int4_dynamic_groupwise")
MAKERS = ("qreg", "executorch")


class Logits(nn.Module):
    """A language model without a cache."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(input_ids=tokens, use_cache=False, return_dict=False)[0]  # type: ignore[no-any-return]


def write_model(layers: int, width: int, folder: Path) -> int:
    """Write a Llama, and return the bytes of its file."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=128,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="1TB")
    return (folder / "model.safetensors").stat().st_size


class Measured:
    """The peak of resident memory in bytes, and the seconds of processor time, of each stage."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self._names = ["between"]

    def _note(self) -> None:
        peak = int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) * 1024
        name = self._names[-1]
        self.peaks[name] = max(peak, self.peaks.get(name, 0))
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is resident now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._note()
        self._names.append(name)
        started = time.process_time()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0) + time.process_time() - started
            self._note()
            self._names.pop()


def batches() -> list[tuple[Tensor]]:
    return [(torch.randint(0, VOCABULARY, (1, TOKENS)),) for _ in range(BATCHES)]


def loaded(folder: Path) -> nn.Module:
    model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return Logits(model).eval()


def ours(folder: Path, config: str, measured: Measured, *algorithms: str) -> None:
    with measured.stage("import"):
        import qreg
        from qreg.utils.progress import Stages

        stage = Stages.stage
    with measured.stage("load"):
        model = loaded(folder)

    @contextmanager
    def watched(itself: Any, name: str, *total: Any) -> Iterator[Any]:
        with measured.stage(name), stage(itself, name, *total) as step:
            yield step

    Stages.stage = watched  # type: ignore[method-assign, assignment]
    first, *_ = data = batches()
    result = qreg.quantize(
        model, first, calibration=data, config=config, algorithms=algorithms, progress=False
    )
    with measured.stage("save"):
        result.save(folder / "qreg.pte")


def theirs(folder: Path, config: str, measured: Measured, *_: str) -> None:
    with measured.stage("import"):
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
        from torchao.quantization.granularity import PerAxis, PerGroup
        from torchao.utils import unwrap_tensor_subclass
    with measured.stage("load"):
        model = loaded(folder)
    with measured.stage("quantize_"):
        in_groups = "int4" in config
        kinds = (torch.int4, PerGroup(32)) if in_groups else (torch.int8, PerAxis(0))
        settings = dict(zip(("weight_dtype", "weight_granularity"), kinds, strict=True))
        quantize_(model, Int8DynamicActivationIntxWeightConfig(**settings))
        model = unwrap_tensor_subclass(model)
    with measured.stage("export"), torch.no_grad():
        program = torch.export.export(model, batches()[0], strict=True)
    with measured.stage("lower"):
        edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        executable = edge.to_executorch()
    with measured.stage("save"), (folder / "executorch.pte").open("wb") as file:
        executable.write_to_file(file)


def measure(maker: str, config: str, folder: Path, *algorithms: str) -> dict[str, Any]:
    """Quantize in this process, and return its peaks and seconds."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    measured = Measured()
    {"qreg": ours, "executorch": theirs}[maker](folder, config, measured, *algorithms)
    program = (folder / f"{maker}.pte").stat().st_size
    return {"peaks": measured.peaks, "seconds": measured.seconds, "program": program}


def in_a_fresh_process(
    maker: str, config: str, folder: Path, algorithms: Sequence[str]
) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", maker, config, str(folder), *algorithms]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def row(found: dict[str, Any]) -> dict[str, str]:
    """Return a row with the peak of each stage as a multiple of the file, and with the seconds."""
    size, layers = found["bytes"], found["layers"]
    peaks = {**found["peaks"], "whole": max(found["peaks"].values())}
    seconds = {**found["seconds"], "whole": sum(found["seconds"].values())}
    return {
        "maker": found["maker"],
        "config": found["config"],
        "layers": str(layers),
        "program": f"{found['program'] / size:.2f}",
        **{stage: f"{peak / size:.2f}" for stage, peak in peaks.items()},
        **{f"{stage}, s/layer": f"{each / layers:.2f}" for stage, each in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", default="24")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--config", nargs="+", default=CONFIGS)
    parser.add_argument("--makers", nargs="+", default=MAKERS, choices=MAKERS)
    parser.add_argument("--json", type=Path, help="write the measurements to this file too")
    parser.add_argument("--algorithms", nargs="+", default=(), help="for qreg to try")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        maker, config, folder, *algorithms = given.measure
        sys.stdout.write(json.dumps(measure(maker, config, Path(folder), *algorithms)))
        return
    kept = []
    for layers in map(int, given.layers.split(",")):
        with tempfile.TemporaryDirectory() as name:
            size = write_model(layers, given.width, Path(name))
            for config in given.config:
                for maker in given.makers:
                    found = in_a_fresh_process(maker, config, Path(name), given.algorithms)
                    known = {"layers": layers, "config": config, "maker": maker, "bytes": size}
                    kept.append({**known, **found})
    for maker in given.makers:
        print_table([row(each) for each in kept if each["maker"] == maker])
    if given.json:
        given.json.write_text(json.dumps(kept, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
