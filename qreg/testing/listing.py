"""List plugins in a fresh interpreter, and report where that imports torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

HEAVY = ("torch", "torchao", "executorch")

# Print the place of the first heavy import, or the traceback if listing fails for another reason.
PROBE = f"""
import sys, traceback

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            frames = [f for f in traceback.extract_stack()[:-1] if "importlib" not in f.filename]
            print(f"{{frames[-1].filename}}:{{frames[-1].lineno}}: {{frames[-1].line}}")
            sys.stdout.flush()
            sys.exit(0)

sys.meta_path.insert(0, Finder())
import os
import qreg
try:
    qreg.Registry(load=sys.argv[1:], disable=(), strict=False, trace=False).examine()
except SystemExit:
    os._exit(0)
"""


def heavy_import(plugins: Sequence[str]) -> str | None:
    """Return the file, line and text of the first import of torch during listing, or None."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROBE, *plugins],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout.strip() or None
