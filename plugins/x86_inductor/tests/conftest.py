"""What the tests of the x86 Inductor plugin share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qreg.plugins.registry import DEFAULT

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.fx import GraphModule

    import qreg

# A package takes six seconds to compile. Reduced ranges change the values of a config alone; one
# config of them, and the host's tests of processors, are in the default run.
SLOW = {
    f"test_the_config_quantizes_its_sample[{each}_reduced]" for each in ("int8_dynamic", "int8_qat")
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave further packages of the kit to the slow tests."""
    for item in items:
        if item.name in SLOW and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.slow)


Quantize = Callable[..., "qreg.Result"]


def batches_of(shapes: Sequence[tuple[int, ...]], count: int = 2) -> list[tuple[Tensor, ...]]:
    import torch

    torch.manual_seed(0)
    return [tuple(torch.randn(shape) for shape in shapes) for _ in range(count)]


@pytest.fixture(scope="session")
def quantized() -> Quantize:
    """Quantizes a module on random inputs of the given shapes, from a fixed seed."""
    import qreg

    def quantize(module: nn.Module, *shapes: tuple[int, ...], **options: Any) -> qreg.Result:
        batches = batches_of(shapes)
        settings: dict[str, Any] = {"calibration": batches, "progress": False, **options}
        return qreg.quantize(module.eval(), batches[0], backend="x86_inductor", **settings)

    return quantize


@pytest.fixture
def converted() -> Callable[..., GraphModule]:
    """The converted model of a module, which compile() takes."""
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

    import qreg

    def convert(module: nn.Module, *shapes: tuple[int, ...], config: str = DEFAULT) -> GraphModule:
        batches = batches_of(shapes)
        with torch.no_grad():
            graph = torch.export.export(module.eval(), batches[0]).module(check_guards=False)
        prepared = prepare_pt2e(graph, qreg.get_quantizer("x86_inductor", config))
        for batch in batches:
            prepared(*batch)
        return qreg.convert(prepared)

    return convert


@pytest.fixture
def stays_right() -> Callable[..., None]:
    """Calls a function again and again: outputs stay those of a model, inputs stay as they are."""
    import torch
    from torch.utils import _pytree as pytree

    def check(run: Callable[..., Any], model: nn.Module, inputs: Sequence[Tensor]) -> None:
        constants = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.no_grad():
            wanted = pytree.tree_leaves(model(*[value.clone() for value in inputs]))
        given = [value.clone() for value in inputs]
        for call in range(4):
            outputs = pytree.tree_leaves(run(*given))
            for output, reference in zip(outputs, wanted, strict=True):
                torch.testing.assert_close(output, reference, atol=2e-5, rtol=1e-4, msg=str(call))
            assert all(map(torch.equal, given, inputs)), f"call {call} changed an input"
        for name, value in model.state_dict().items():
            assert torch.equal(value, constants[name]), f"{name} was changed"

    return check
