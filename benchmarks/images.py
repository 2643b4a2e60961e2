"""How much of image models runs in int8, and how close to float they stay, on three backends.

``python benchmarks/images.py [--models NAME ...] [--json FILE]`` prints the table of
``docs/models.md``. The models are those of ``nox -s sweep``: of timm and torchvision, small, with
random weights. With ``--json`` rows are written to a file as they are measured, and a run goes on
where the last one ended. Needs qreg-xnnpack, qreg-onnxruntime, qreg-openvino, timm, torchvision
and transformers.

- int8: the share of the counted multiply-accumulates that run in int8
- SQNR: of the program's outputs to those of the float model, on the calibration data
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "plugins" / "xnnpack" / "tests"))

from image_models import COMBINATIONS, IMAGE_MODELS, measured

HEADER = ("architecture", *COMBINATIONS)


def rows(names: list[str], known: list[dict[str, Any]], file: Path | None) -> list[dict[str, Any]]:
    """Return the known rows with those of the models and combinations that are missing."""
    done = {(row["model"], row["combination"]) for row in known}
    found = list(known)
    for model in names:
        for combination in COMBINATIONS:
            if (model, combination) in done:
                continue
            share, sqnr = measured(model, combination)
            row = {"model": model, "combination": combination, "int8": share, "sqnr": sqnr}
            found.append(row)
            if file:
                file.write_text(json.dumps(found, indent=2))
    return found


def table(names: list[str], found: list[dict[str, Any]]) -> str:
    """Return the rows as a table in Markdown, one line for each model."""
    cells = {
        (row["model"], row["combination"]): f"{row['int8']:.0%}, {row['sqnr']:.0f} dB"
        for row in found
    }
    lines = [HEADER, ("---",) * len(HEADER)]
    lines += [(name, *(cells[name, each] for each in COMBINATIONS)) for name in names]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(IMAGE_MODELS), choices=IMAGE_MODELS)
    parser.add_argument("--json", type=Path, help="read the rows of this file, and add to them")
    arguments = parser.parse_args()
    file = arguments.json
    known = json.loads(file.read_text()) if file and file.exists() else []
    sys.stdout.write(f"{table(arguments.models, rows(arguments.models, known, file))}\n")


if __name__ == "__main__":
    main()
