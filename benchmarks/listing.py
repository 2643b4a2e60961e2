"""What ``qreg list`` costs on top of the libraries that it is made with.

``python benchmarks/listing.py [--distributions N]`` runs it next to N made-up distributions, in
turns with a Python that imports pluggy, importlib.metadata and click alone, and prints the
milliseconds that the fastest tenth of the runs stays below. Trust the difference.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from qreg.utils.tables import print_table

RUNS = 40
COMMANDS = {
    "pluggy, importlib.metadata, click": "import pluggy, importlib.metadata, click",
    "qreg list": "from qreg.cli.main import main; main(['list'])",
}
GOAL = "at most 100 ms more"


def make_up(folder: Path, count: int) -> None:
    """Distributions with entry points of a group that is not qreg's, as most have."""
    for number in range(count):
        info = folder / f"made_up_{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: made-up-{number}\nVersion: 1\n"
        )
        (info / "entry_points.txt").write_text(
            f"[console_scripts]\nmade-up-{number} = nowhere:main\n"
        )


def seconds(code: str, folder: Path) -> float:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    started = time.perf_counter()
    command = [sys.executable, "-c", code]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--distributions", type=int, default=150)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        make_up(Path(name), arguments.distributions)
        rounds = [[seconds(code, Path(name)) for code in COMMANDS.values()] for _ in range(RUNS)]
    limits = [1000 * statistics.quantiles(times, n=10)[0] for times in zip(*rounds, strict=True)]
    print_table(
        [
            {"what": what, "ms": f"{limit:.0f}", "more": f"{limit - limits[0]:.0f}", "goal": goal}
            for what, limit, goal in zip(COMMANDS, limits, ("", GOAL), strict=True)
        ]
    )


if __name__ == "__main__":
    main()
