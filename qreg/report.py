"""Rows and tables: what is installed, what a backend covers, what became of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from qreg.pipeline import Result
    from qreg.registry import Registry
    from qreg.verify import OutputComparison, Verification

Row = Mapping[str, Any]

PROSE = frozenset({"summary", "pattern", "why", "broken"})
WIDE = 160  # where nobody is looking at a terminal, nothing needs folding


def plugin_rows(registry: Registry) -> list[Row]:
    """One row for each plugin: its distribution, its backends, and what is wrong with it."""
    backends = registry.backends().values()
    return [
        {
            "plugin": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "backends": [b.value.name for b in backends if b.plugin == plugin.name],
            "summary": "; ".join(b.value.summary for b in backends if b.plugin == plugin.name),
            "broken": plugin.error.problem if plugin.error else "",
        }
        for plugin in registry.plugins
    ]


def config_rows(registry: Registry, backend: str) -> list[Row]:
    """One row for each config of a backend: its mode, what it means, and its supplier.

    Raises ``UnknownNameError`` for a backend that nothing supplies.
    """
    default = registry.backend(backend).value.default_config
    return [
        {
            "config": name,
            "mode": supplied.value.mode,
            "default": "yes" if name == default else "",
            "summary": supplied.value.summary,
            "distribution": supplied.distribution,
        }
        for name, supplied in registry.configs(backend).items()
    ]


def pattern_rows(registry: Registry, backend: str) -> list[Row]:
    """One row for each annotator, in the order they are asked: its pattern and its supplier.

    An annotator covers the configs of its modes.
    """
    return [
        {
            "annotator": supplied.value.name,
            "modes": " ".join(sorted(supplied.value.modes)),
            "operators": list(supplied.value.targets),
            "pattern": supplied.value.summary,
            "distribution": supplied.distribution,
        }
        for supplied in registry.annotators(backend)
    ]


def print_table(rows: Sequence[Row]) -> None:
    """Prints rows with the keys as columns; columns that are empty throughout are left out."""
    table = Table(box=None, header_style="bold")
    columns = [key for key in rows[0] if any(row[key] for row in rows)]
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column not in PROSE)
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    console().print(table)


def console() -> Console:
    """Where people read: as wide as their terminal, and wide in a file or pipe."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDE)


def _cell(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def print_result(result: Result) -> None:
    """Prints what became of each operator, counted, and how the program compares."""
    print_table(decision_rows(result))
    console().print(f"delegates: {result.lowered.delegates}, operators outside: {outside(result)}")
    console().print(comparison(result.verification))


def decision_rows(result: Result) -> list[Row]:
    """The Decisions, counted by what was decided and why."""
    counted = Counter((d.operator, d.status, d.annotator or "", d.reason) for d in result.decisions)
    return [
        {"count": count, "operator": operator, "status": status, "annotator": by, "why": why}
        for (operator, status, by, why), count in counted.items()
    ]


def outside(result: Result) -> str:
    """The operators that the backend left to the runtime's own kernels, counted."""
    counted = Counter(result.lowered.outside).most_common()
    return ", ".join(f"{count} x {name}" for name, count in counted) or "none"


def comparison(verification: Verification | None) -> str:
    """How the program's outputs compare with the float and the converted model."""
    if verification is None:
        return "not verified"
    pairs = zip(verification.to_float, verification.to_converted, strict=True)
    outputs = (
        f"output {number}: SQNR to float {_decibels(to_float)}, "
        f"to converted {_decibels(to_converted)}"
        for number, (to_float, to_converted) in enumerate(pairs)
    )
    ran = f"loaded in {verification.runtime}, ran {verification.samples} inputs"
    return "\n".join([ran, *outputs])


def _decibels(found: OutputComparison) -> str:
    return f"{found.sqnr:.1f} dB"
