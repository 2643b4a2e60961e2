"""Real weights: a sentence encoder keeps its meaning in the runtime of each backend."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from torch import Tensor

from qreg.plugins.registry import installed

SCRIPT = Path(__file__).parents[2] / "examples" / "minilm" / "minilm.py"
LEAST = {"dynamic": 0.99, "static, recipe": 0.98}  # the mean cosine to the float embeddings
SENTENCES = {"dynamic": 4, "static, recipe": 32}  # dynamic ranges need no calibration
# The backend that takes longest to lower, and the second of two with one kind of arithmetic.
SLOW = {("xnnpack", "dynamic"), ("onnxruntime", "static, recipe")}
CASES = [
    pytest.param(backend, variant, marks=pytest.mark.slow if (backend, variant) in SLOW else ())
    for backend in ("xnnpack", "onnxruntime", "openvino")
    for variant in LEAST
    if backend in installed().backends()
]


@pytest.fixture(scope="module")
def minilm() -> ModuleType:
    spec = importlib.util.spec_from_file_location("minilm", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["minilm"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def encoder(minilm: ModuleType) -> object:
    return minilm.model()


@pytest.fixture(scope="module")
def wanted(minilm: ModuleType, encoder: object) -> Tensor:
    return minilm.float_embeddings(encoder, minilm.evaluation())


@pytest.mark.parametrize(("backend", "name"), CASES)
def test_the_embeddings_of_new_sentences_stay_close_to_float(
    backend: str, name: str, minilm: ModuleType, encoder: object, wanted: Tensor
) -> None:
    known = {variant.name: variant for variant in minilm.variants(backend)}
    if name not in known:
        assert name == "dynamic"
        assert all(c.value.mode != "dynamic" for c in installed().configs(backend).values())
        return
    result = known[name].quantized(encoder, backend, SENTENCES[name])
    got = minilm.embeddings(result.target.loader(result.program), minilm.evaluation())
    found = minilm.cosines(wanted, got)
    assert found.mean() >= LEAST[name]
    assert minilm.rank_agreement(wanted, got) > 0.95
    assert result.report.counts["int8"] > 0
