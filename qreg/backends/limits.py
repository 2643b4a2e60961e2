"""Check, when a config is chosen, that the integer kernels of a runtime support it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from qreg.plugins.types.fields import strings

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
AFFINE = ("torch.per_tensor_affine", "None")
LABELS = {
    "input_activation": "input activations",
    "output_activation": "output activations",
    "weight": "weights",
}


@frozen
class ConfigLimits:
    """The configs that a runtime computes in integers; an instance is ``Backend.refuses``.

    ``runtime`` is the name of the runtime in messages. ``activations`` are the dtypes that
    activations may have, without ``torch.``, and ``dynamic`` those of activations whose ranges are
    computed at run time; if it is empty, only static activations are accepted. ``whole_range``
    requires all values of the dtype of activations. ``symmetric_dynamic`` is whether dynamic
    activations may be symmetric, and ``dynamic_scheme`` the scheme that weights must have with
    dynamic activations. Weights are int8, of the quantization scheme ``scheme``
    if one is given, and with at least ``weight_span`` between the ends of their range. ``groups``
    is whether parts of a row of a weight may have separate scales. ``required`` are the specs that
    a config must have, and ``unchecked`` those that are not checked. A spec for the bias must be
    float, since runtimes quantize the bias with the scales of input and weight.
    """

    runtime: str
    activations: tuple[str, ...] = field(default=("int8",), converter=strings)
    dynamic: tuple[str, ...] = field(default=(), converter=strings)
    whole_range: bool = False
    scheme: str | None = None
    dynamic_scheme: str | None = None
    symmetric_dynamic: bool = False
    weight_span: int = 0
    groups: bool = False
    required: tuple[str, ...] = field(default=(), converter=strings)
    unchecked: tuple[str, ...] = field(default=(), converter=strings)

    def __call__(self, config: QuantizationConfig) -> str | None:
        """Return the first reason why the runtime would not compute in integers, or None."""
        return next(self._problems(config), None)

    def _problems(self, config: QuantizationConfig) -> Iterator[str]:
        from qreg.configs.validation import is_float

        for role, label in LABELS.items():
            spec = getattr(config, role)
            if spec is None and role in self.required:
                yield f"its {label} are not quantized, which {self.runtime} requires"
            if spec is not None and role not in self.unchecked:
                check = self._of_weight if role == "weight" else self._of_activation
                yield from (f"its {label} are {problem}" for problem in check(spec))
        yield from self._of_both(config.input_activation, config.weight)
        if "bias" not in self.unchecked and not is_float(config.bias):
            yield f"its bias is quantized (expected None, since {self.runtime} quantizes it itself)"

    def _of_activation(self, spec: Any) -> Iterator[str]:
        dtype, ends = _dtype(spec), _ends(spec)
        dynamic = bool(getattr(spec, "is_dynamic", False))
        accepted = self.dynamic if dynamic else self.activations
        if not accepted:
            yield f"dynamic (expected static ones for {self.runtime})"
        elif dtype not in accepted:
            yield f"torch.{dtype} (expected {self._listed(accepted)})"
        elif dynamic and not self.symmetric_dynamic and not _is_affine(spec):
            yield f"dynamic and of {spec.qscheme} (expected {self._listed(['per_tensor_affine'])})"
        elif self.whole_range and ends not in (RANGES[dtype], (None, None)):
            yield f"in {list(ends)} (expected {list(RANGES[dtype])} for {self.runtime})"

    def _of_both(self, activation: Any, weight: Any) -> Iterator[str]:
        wanted = self.dynamic_scheme
        if not getattr(activation, "is_dynamic", False) or weight is None or wanted is None:
            return
        if str(weight.qscheme) != f"torch.{wanted}":
            with_dynamic = f"{self._listed([wanted])} with dynamic activations"
            yield f"its weights are of {weight.qscheme} (expected {with_dynamic})"

    def _of_weight(self, spec: Any) -> Iterator[str]:
        from qreg.configs.groups import group_size_of

        low, high = _ends(spec)
        if not self.groups and group_size_of(spec) is not None:
            yield f"in groups (expected a scale per channel or tensor for {self.runtime})"
        if _dtype(spec) != "int8":
            yield f"torch.{_dtype(spec)} (expected {self._listed(['int8'])})"
        elif self.scheme is not None and str(spec.qscheme) != f"torch.{self.scheme}":
            yield f"of {spec.qscheme} (expected {self._listed([self.scheme])})"
        elif low is not None and high is not None and high - low < self.weight_span:
            yield f"in {[low, high]} (expected {self.weight_span + 1} values for {self.runtime})"

    def _listed(self, names: Any) -> str:
        return f"{' or '.join(f'torch.{name}' for name in names)} for {self.runtime}"


def _dtype(spec: Any) -> str:
    return str(getattr(spec, "dtype", None)).removeprefix("torch.")


def _is_affine(spec: Any) -> bool:
    return str(getattr(spec, "qscheme", None)) in AFFINE


def _ends(spec: Any) -> tuple[Any, Any]:
    return getattr(spec, "quant_min", None), getattr(spec, "quant_max", None)
