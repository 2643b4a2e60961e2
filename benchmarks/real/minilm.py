"""MiniLM with its trained weights, whose residual stream has outlier channels, on sentences."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from real.subject import Subject, cosines

EXAMPLE = Path(__file__).parents[2] / "examples" / "minilm" / "minilm.py"


def subject() -> Subject:
    """Return the sentence encoder of the example of that name, with its 64 and 32 sentences."""
    example = _example()
    batches = example.calibration(), example.evaluation()
    made = Subject("minilm", example.model(), *batches, (), is_transformer=True)
    return made.judged_by(*cosines(made.float_outputs()))


@cache
def _example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("minilm_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
