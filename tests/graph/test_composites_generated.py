"""Every composite of torch that one float tensor is enough for computes the same, spelled out."""

from __future__ import annotations

import pytest
import torch
from cases_operators import Case, Layers, cases

from qreg import Registry
from qreg.graph.composites import remaining
from qreg.quantizer.registry_quantizer import RegistryQuantizer

# ``torch.export`` fails: how they compute depends on values.
NOT_EXPORTED = {"aten.corrcoef.default", "aten.cov.default"}
PARTS = 9


def chosen_for(part: int) -> list[Case]:
    return [case for case in cases() if case.name not in NOT_EXPORTED][part::PARTS]


def test_most_of_what_torch_defines_by_other_operators_is_tried() -> None:
    names = {case.name for case in cases()}
    assert len(names) > 300
    assert names >= {"aten.narrow.default", "aten.slice_copy.Tensor", "aten.clip.default"}


@pytest.mark.parametrize("part", range(PARTS))
def test_composites_are_spelled_out_and_compute_the_same(part: int, registry: Registry) -> None:
    chosen = chosen_for(part)
    module = Layers(chosen).eval()
    inputs = module.inputs(seed=1)
    graph = torch.export.export(module, inputs).module(check_guards=False)
    with torch.no_grad():
        wanted = module(*inputs)

    transformed = RegistryQuantizer("toy", registry=registry).transform_for_annotation(graph)

    transformed.graph.lint()
    assert remaining(transformed, ()) == []
    with torch.no_grad():
        found = transformed(*inputs)
    for case, one, other in zip(chosen, wanted, found, strict=True):
        torch.testing.assert_close(
            other,
            one,
            rtol=1e-4,
            atol=1e-5,
            equal_nan=True,  # the logarithm of a negative determinant
            msg=lambda text, case=case: f"{case.name}: {text}",
        )
