"""Every operator of torch that is defined by others and computes floats of one tensor.

The list comes from torch itself: the composites, and the table of the core decompositions. What
else an operator asks for is filled in by name and type; where torch rejects that, the next rank is
tried, and where the result is not finite, the next domain.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from qreg.graph.composites import KEPT
from qreg.plugins.operator_names import listed, registered

SHAPES = ((1, 4, 8, 8), (4, 8), (2, 4, 8), (2, 2, 2, 4, 8))
DOMAINS = {
    "any": lambda x: x,
    "inside (0, 1)": lambda x: x.sigmoid() * 0.8 + 0.1,
    "above 1": lambda x: x.sigmoid() + 1.1,
}
# Kernels of other libraries and layouts, which trust their arguments: a wrong one ends the process.
INTERNAL = (
    "backward",
    "fbgemm",
    "quantize",
    "sparse",
    "cudnn",
    "miopen",
    "mkldnn",
    "nested",
    "empty",
)
INTERNAL += ("_test_", "autocast", "packed", "to_fp16", "weight_norm")
# By name, or by name and type: for a tensor of shape (..., 4, 8).
FILLED: dict[str, Any] = {
    "dim": 1,
    "dim0": 0,
    "dim1": 1,
    "axis": 1,
    "axis0": 0,
    "axis1": 1,
    "dimension": 1,
    "source": 0,
    "destination": 1,
    "start": 0,
    "end": 1.5,
    "length": 2,
    "index": 1,
    "indices": 2,
    "sections": 2,
    "chunks": 2,
    "split_size": 2,
    "size": 2,
    "step": 2,
    "k": 2,
    "N": 4,
    "n": 2,
    "kernel_size": 2,
    "stride": 2,
    "padding": 1,
    "dilation": 1,
    "output_size": 4,
    "upscale_factor": 2,
    "downscale_factor": 2,
    "groups": 2,
    "num_groups": 2,
    "repeats": 2,
    "diagonal": 0,
    "eps": 1e-5,
    "reduction": 1,
    "dtype": torch.float32,
    "training": False,
    "train": False,
    "momentum": 0.1,
    "p": 2.0,
    "q": 0.25,
    "equation": "...->...",
    "threshold": 0.1,
    "value": 0.25,
    "min_val": -0.5,
    "max_val": 0.5,
    "exponent": 2,
    "n_fft": 4,
}
LISTS: dict[str, Any] = {
    "shifts": [1],
    "split_sizes": [2],
    "sizes": [2, 2],
    "repeats": [1, 2],
    "dims": [1, 2],
    "pad": [1, 2],
    "indices": [1],
    "source": [0],
    "destination": [1],
    "axes": [1],
    "tensor_indices_or_sections": [1],
}
GIVEN = ("min", "scale_factors")  # without them torch rejects the call, or computes only half of it
PER_CHANNEL = ("weight", "bias", "running_mean", "running_var")


@frozen
class Case:
    """An operator with its arguments, the shape of its input and the domain of its values."""

    target: Any
    shape: tuple[int, ...]
    domain: str
    rest: tuple[Any, ...]
    named: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.target)

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """What the operator makes of a float tensor of the shape, but for other dtypes."""
        found = self.target(DOMAINS[self.domain](x), *self.rest, **self.named)
        tensors = (each for each in pytree.tree_leaves(found) if isinstance(each, Tensor))
        return tuple(each for each in tensors if each.dtype == torch.float32)


class Layers(nn.Module):
    """Each case after a separate layer, times 1.5: the cases of one shape read one input."""

    def __init__(self, cases: Sequence[Case]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cases = cases
        self.shapes = sorted({case.shape for case in cases})
        self.layers = nn.ModuleList(layer(case.shape) for case in cases)

    def forward(self, *inputs: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        given = dict(zip(self.shapes, inputs, strict=True))
        pairs = zip(self.cases, self.layers, strict=True)
        found = ((case(each(given[case.shape]))) for case, each in pairs)
        return tuple(tuple(output * 1.5 for output in outputs) for outputs in found)

    def inputs(self, seed: int) -> tuple[Tensor, ...]:
        torch.manual_seed(seed)
        return tuple(torch.randn(shape) for shape in self.shapes)


def layer(shape: Sequence[int]) -> nn.Module:
    return nn.Conv2d(4, 4, 3, padding=1) if len(shape) == 4 else nn.Linear(8, 8)


@functools.cache
def cases() -> tuple[Case, ...]:
    """Every operator that torch defines by others, and that its rules can call."""
    found = map(case_of, sorted(defined_by_others(), key=str))
    return tuple(each for each in found if each is not None)


def defined_by_others() -> Iterator[Any]:
    table = torch.export.default_decompositions()
    for name in listed():
        target: Any = registered(name)
        if target is None:
            continue
        copies = name.rpartition(".")[0].endswith("_copy")
        if not (copies or target._can_decompose() or target in table):
            continue
        schema = target._schema
        random = torch.Tag.nondeterministic_seeded in target.tags
        out = any(argument.is_out for argument in schema.arguments)
        if not (random or out or schema.is_mutable or any(word in name for word in INTERNAL)):
            yield target


def case_of(target: Any) -> Case | None:
    schema = target._schema
    if not schema.arguments or not any("Tensor" in str(each.type) for each in schema.returns):
        return None
    for shape in SHAPES:
        try:
            rest, named = filled(schema.arguments, shape)
        except LookupError:
            return None
        for domain in DOMAINS:
            case = Case(target, shape, domain, rest, named)
            if computes(case):
                return case
    return None


def filled(arguments: Sequence[Any], shape: tuple[int, ...]) -> tuple[tuple[Any, ...], dict]:
    """What an operator takes beside its first tensor; raises ``LookupError`` without a rule."""
    if str(arguments[0].type) != "Tensor":
        raise LookupError(arguments[0])
    needed = [each for each in arguments[1:] if not each.has_default_value() or each.name in GIVEN]
    rest = tuple(value_for(each, shape) for each in needed if not each.kwarg_only)
    return rest, {each.name: value_for(each, shape) for each in needed if each.kwarg_only}


def value_for(argument: Any, shape: tuple[int, ...]) -> Any:
    name, kind = argument.name, str(argument.type)
    if kind.startswith("Optional") and name in GIVEN:
        return 0.1 if name == "min" else [2.0] * spatial(shape)
    if kind == "Optional[Tensor]" and name in PER_CHANNEL:
        return torch.linspace(0.5, 1.5, shape[1])
    if kind.startswith("Optional"):
        return None
    if kind == "Tensor" and name in ("mask", "condition"):
        return torch.arange(shape[-1]) % 2 == 0
    if kind == "Tensor" and name in ("index", "indices"):
        return torch.zeros(shape, dtype=torch.long)
    if kind == "Tensor":
        return torch.linspace(0.5, 1.5, torch.Size(shape).numel()).reshape(shape)
    if kind == "number":
        return FILLED.get(name, 0.5)
    if kind == "float":
        return float(FILLED.get(name, 0.5))
    if kind == "bool":
        return bool(FILLED.get(name, False))
    if kind == "List[int]" and name in ("size", "shape", "normalized_shape", "input_sizes"):
        return list(shape)
    if kind == "List[int]" and name in LISTS:
        return LISTS[name]
    if kind == "List[int]":
        return [FILLED[name]] * (1 if name in ("dim", "axis") else spatial(shape))
    if kind in ("int", "str", "Optional[int]"):
        return FILLED[name] if name != "end" else 2
    raise LookupError(argument)


def spatial(shape: Sequence[int]) -> int:
    return max(1, len(shape) - 2)


def computes(case: Case) -> bool:
    """Whether torch takes the arguments, and gives finite tensors that depend on the input."""
    torch.manual_seed(0)
    x = torch.randn(case.shape)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            outputs, others = case(x), case(x * 0.5)
    except (RuntimeError, TypeError, IndexError, ValueError, NotImplementedError):
        return False
    finite = all(0 < each.numel() < 10_000 and bool(each.isfinite().all()) for each in outputs)
    return bool(outputs) and finite and not all(map(torch.equal, outputs, others))


def is_kept(case: Case) -> bool:
    return case.name.rpartition(".")[0] in KEPT


def flat(outputs: Any) -> list[Tensor]:
    return pytree.tree_leaves(outputs)
