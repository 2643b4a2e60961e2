"""Configs by value as plain tables, and back.

An observer is named, and looked up in a fixed list: a recipe cannot name any other class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qreg.errors import ConfigError, RecipeError, UnknownNameError
from qreg.recipes.values import check_table

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

ROLES = ("input_activation", "output_activation", "weight", "bias")
OURS = (
    "HistogramObserver",
    "ConstantMinMaxObserver",
    "ConstantPerChannelMinMaxObserver",
    "ConstantPerGroupMinMaxObserver",
    "FusedMovingAvgObsFakeQuantize",
)
TORCHAOS = (
    "HistogramObserver",
    "MinMaxObserver",
    "MovingAverageMinMaxObserver",
    "MovingAveragePerChannelMinMaxObserver",
    "PerChannelMinMaxObserver",
    "PlaceholderObserver",
    "FakeQuantize",
    "FusedMovingAvgObsFakeQuantize",
)
CONFIG = {"is_qat": bool, **dict.fromkeys(ROLES, dict)}
SPEC = {
    "dtype": str,
    "quant_min": int,
    "quant_max": int,
    "qscheme": str,
    "ch_axis": int,
    "is_dynamic": bool,
}
OBSERVER = {"observer": str, "arguments": dict}


def config_table(config: QuantizationConfig) -> dict[str, Any]:
    """Return a config as plain values.

    Raises ``ConfigError`` for a spec or an observer that cannot be named.
    """
    table: dict[str, Any] = {"is_qat": config.is_qat}
    for role in ROLES:
        spec = getattr(config, role)
        if spec is not None:
            table[role] = _spec_table(role, spec)
    return table


def _spec_table(role: str, spec: Any) -> dict[str, Any]:
    from torchao.quantization.pt2e.quantizer import QuantizationSpec

    from qreg.graph.compat import made_by

    if not isinstance(spec, QuantizationSpec):
        raise _unnamed(f"its {role} is a {type(spec).__name__}")
    made, arguments = made_by(spec.observer_or_fake_quant_ctr)
    values = {
        "dtype": str(spec.dtype).removeprefix("torch."),
        "quant_min": spec.quant_min,
        "quant_max": spec.quant_max,
        "qscheme": None if spec.qscheme is None else str(spec.qscheme).removeprefix("torch."),
        "ch_axis": spec.ch_axis,
        "is_dynamic": spec.is_dynamic,
        **_observer_table(role, made, arguments),
    }
    return {name: each for name, each in values.items() if each is not None}


def _observer_table(role: str, made: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    from qreg.graph.compat import made_by

    names = {each: name for name, each in _observers().items()}
    if made not in names:
        raise _unnamed(f"the observer of its {role} is {getattr(made, '__name__', made)}")
    plain: dict[str, Any] = {}
    for name, value in arguments.items():
        if isinstance(value, (bool, int, float, str)):
            plain[name] = value
        elif name == "observer":
            plain[name] = _observer_table(role, *made_by(value))
        else:
            raise _unnamed(f"the observer of its {role} has the argument {name}={value!r}")
    return {"observer": names[made], **({"arguments": plain} if plain else {})}


def _unnamed(problem: str) -> ConfigError:
    return ConfigError(
        f"the config of the recipe cannot be written: {problem}. Give it a name with a plugin, "
        "qreg_supported_configs, and pass the name."
    )


def config_of(table: Mapping[str, Any], name: str) -> QuantizationConfig:
    """Return the config that a table of a recipe describes; ``name`` is its name there.

    Raises ``RecipeError`` for a missing or invalid value, ``UnknownNameError`` for an unknown key
    or observer, and ``ConfigError`` for a config that is not valid.
    """
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg.configs.validation import check

    where = f"[configs.{name}]"
    check_table(table, CONFIG, where)
    specs = [
        _spec(table[role], f"[configs.{name}.{role}]") if role in table else None for role in ROLES
    ]
    return check(QuantizationConfig(*specs, bool(table.get("is_qat", False))))


def _spec(table: Any, where: str) -> Any:
    import torch
    from torchao.quantization.pt2e.quantizer import QuantizationSpec

    check_table(table, {**SPEC, **OBSERVER}, where)
    made = _made(table, where)
    dtype = _of_torch(torch.dtype, "dtype", table, where)
    qscheme = _of_torch(torch.qscheme, "qscheme", table, where) if "qscheme" in table else None
    given = {name: table[name] for name in SPEC if name in table}
    given |= {"dtype": dtype, "qscheme": qscheme}
    if str(qscheme).startswith("torch.per_channel") and "ch_axis" not in table:
        raise RecipeError(f"{where}: qscheme is {table['qscheme']!r} and ch_axis is not given")
    try:
        made.with_args(**given)()  # torchao would make it in the middle of prepare
        return QuantizationSpec(observer_or_fake_quant_ctr=made, **given)
    except (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError) as cause:
        why = " ".join(str(cause).split())
        raise RecipeError(f"{where}: it is not a spec: {why}") from cause


def _of_torch(kind: type, key: str, table: Mapping[str, Any], where: str) -> Any:
    """Return the value of a kind that torch has under the name in a table."""
    import torch

    known = {name: each for name, each in vars(torch).items() if isinstance(each, kind)}
    name = str(table.get(key, ""))
    if name not in known:
        raise UnknownNameError(f"{key} in {where}", name, known, "Correct the recipe.")
    return known[name]


def _made(table: Mapping[str, Any], where: str) -> Any:
    known = _observers()
    name = table.get("observer")
    if name not in known:
        raise UnknownNameError(f"observer in {where}", str(name), known, "Correct the recipe.")
    arguments = dict(table.get("arguments", {}))
    for key, value in arguments.items():
        if key == "observer":
            check_table(value, OBSERVER, f"{where}: argument observer")
            arguments[key] = _made(value, where)
        else:
            _check_argument(key, value, where)
    return known[name].with_args(**arguments) if arguments else known[name]


def _check_argument(key: str, value: object, where: str) -> None:
    if not isinstance(value, (bool, int, float, str)):
        raise RecipeError(f"{where}: argument {key} is {value!r} (expected a plain value)")
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{where}: argument {key} is {value} (expected a finite number)")
    if key == "eps" and not (isinstance(value, (int, float)) and value > 0):
        raise RecipeError(f"{where}: argument eps is {value!r} (expected a number above 0)")


def _observers() -> dict[str, Any]:
    """Return the observers that a recipe can name."""
    import torchao.quantization.pt2e as torchaos

    from qreg.observers import groups, observers

    ours = {**vars(observers), **vars(groups)}
    return {
        **{f"torchao.{name}": getattr(torchaos, name) for name in TORCHAOS},
        **{f"qreg.{name}": ours[name] for name in OURS},
    }
