"""The sessions that prove qreg: ``nox`` runs them all, ``nox -s "combo(xnnpack)"`` one.

A combination is a real environment with real, non-editable installs of the distributions it names.
"""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = True

CONSTRAINTS = ("-c", "constraints.txt")
SOURCES = ("qreg", "plugins", "examples", "tests", "benchmarks", "noxfile.py")

XNNPACK = "./plugins/xnnpack"
ADDMM = "./examples/qreg-addmm"

# Distributions besides the host, packages that the tests need, and the tests.
COMBINATIONS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "none": ([], [], ["tests"]),
    "xnnpack": ([XNNPACK], ["scikit-learn", "transformers"], ["tests", "plugins/xnnpack/tests"]),
    "xnnpack+addmm": ([XNNPACK, ADDMM], [], ["tests", "examples/qreg-addmm/tests"]),
}


@nox.session
@nox.parametrize("plugins", list(COMBINATIONS), ids=list(COMBINATIONS))
def combo(session: nox.Session, plugins: str) -> None:
    """The host's tests, and those of the plugins that are installed with it."""
    distributions, packages, tests = COMBINATIONS[plugins]
    session.install(*CONSTRAINTS, ".", *distributions, *packages, "pytest", "hypothesis")
    session.run("pytest", *tests, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and that what listing touches imports torch in functions only."""
    session.install(*CONSTRAINTS, "ruff")
    session.run("ruff", "check", *SOURCES)
    session.run("ruff", "format", "--check", *SOURCES)


@nox.session
def types(session: nox.Session) -> None:
    """Strict types for the host and the stock plugin."""
    session.install(*CONSTRAINTS, ".", "mypy")
    session.run("mypy")
    session.run("mypy", "-p", "qreg_xnnpack", env={"MYPYPATH": "plugins/xnnpack/src"})
