"""A report as JSON from which it can be made again.

The JSON for other programs, ``Report.to_json``, has null for numbers that JSON lacks. Here they
are texts: ``"inf"``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from qreg.algorithms.outcome import Outcome
from qreg.analysis.audit import Split
from qreg.analysis.ranges import Range
from qreg.plugins.types.program import Conversion
from qreg.report.report import Report
from qreg.verification.drops import Drop
from qreg.verification.latency import Timing
from qreg.verification.metrics import OutputComparison
from qreg.verification.noise import Slice
from qreg.verification.verify import Verification

NAMES = {
    each.__name__: each
    for each in (
        *(Conversion, Drop, Outcome, OutputComparison, Range, Slice, Split, Timing, Verification),
    )
}


def stored(report: Report) -> str:
    """Return a report as JSON."""
    return json.dumps(attrs.asdict(report, value_serializer=_plain), indent=1)


def restored(text: str) -> Report:
    """Return the report in JSON that :func:`stored` wrote.

    Raises ``ValueError`` with the place of a value that a report does not have.
    """
    found: Report = _made(Report, json.loads(text), "the report")
    return found


def _plain(instance: Any, attribute: Any, value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return dict(value) if isinstance(value, Mapping) else value


def _made(kind: type[Any], data: Any, where: str) -> Any:
    """Return a value of an attrs class, made of a dict of its fields."""
    if not isinstance(data, dict):
        raise ValueError(f"{where} is {data!r} (expected an object)")
    hints = get_type_hints(kind, localns=NAMES)
    fields = {each.name: each for each in attrs.fields(kind)}
    if unknown := data.keys() - fields.keys():
        raise ValueError(f"{where} has the unknown field {min(unknown)!r}")
    given = {
        each.alias: _value(hints[name], data[name], f"{where}: {name}")
        for name, each in fields.items()
        if each.init and each.alias and name in data
    }
    try:
        return kind(**given)
    except TypeError as cause:
        raise ValueError(f"{where}: {cause}") from cause


def _value(hint: Any, data: Any, where: str) -> Any:
    """Return the value of a type hint; the hints are those of the classes in a report."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return None if data is None else _value(_except_none(inner), data, where)
    if origin is tuple and isinstance(data, list):
        kinds = inner[:1] * len(data) if inner[-1] is Ellipsis else inner
        pairs = enumerate(zip(kinds, data, strict=True))
        return tuple(_value(kind, each, f"{where}[{at}]") for at, (kind, each) in pairs)
    if origin is Mapping and isinstance(data, dict):
        return {str(key): _value(inner[1], each, f"{where}[{key}]") for key, each in data.items()}
    if attrs.has(hint):
        return _made(hint, data, where)
    if hint is float and data in ("inf", "-inf", "nan"):
        return float(data)
    if (origin is Literal and data in inner) or _is_plain(hint, data):
        return data
    raise ValueError(f"{where} is {data!r}")


def _except_none(kinds: tuple[Any, ...]) -> Any:
    left = tuple(each for each in kinds if each is not NoneType)
    return left[0] if len(left) == 1 else object


def _is_plain(hint: Any, data: Any) -> bool:
    if hint is object:
        return isinstance(data, (str, int, float, bool))
    if hint is float:
        return isinstance(data, (int, float)) and not isinstance(data, bool)
    return isinstance(hint, type) and type(data) is hint
