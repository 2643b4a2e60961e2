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
SWEEP = "plugins/xnnpack/tests/test_architectures.py"
ADDMM = "./examples/qreg-addmm"

# What drives the tests: in parallel, with properties, in a browser, against a schema.
TESTING = ("pytest", "pytest-xdist", "hypothesis", "selenium", "jsonschema")
HOST = ("tests", "--ignore=tests/page")  # the page knows no plugin, so it is tested once

# Distributions besides the host, packages that the tests need, and the tests.
COMBINATIONS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "none": ([], [], ["tests"]),
    "xnnpack": (
        [XNNPACK],
        ["scikit-learn", "transformers"],
        [*HOST, "plugins/xnnpack/tests"],
    ),
    "xnnpack+addmm": ([XNNPACK, ADDMM], [], [*HOST, "examples/qreg-addmm/tests"]),
}


@nox.session
@nox.parametrize("plugins", list(COMBINATIONS), ids=list(COMBINATIONS))
def combo(session: nox.Session, plugins: str) -> None:
    """The host's tests, and those of the plugins that are installed with it."""
    distributions, packages, tests = COMBINATIONS[plugins]
    session.install(*CONSTRAINTS, ".", *distributions, *packages, *TESTING)
    session.run("pytest", "-n", "auto", *tests, *session.posargs)


@nox.session(default=False)
def sweep(session: nox.Session) -> None:
    """Every architecture with every config, through the runtime; takes long."""
    session.install(*CONSTRAINTS, ".", XNNPACK, "transformers", *TESTING)
    session.run("pytest", "-m", "sweep or not sweep", SWEEP, *session.posargs)


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
