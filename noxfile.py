"""The sessions that prove qreg: ``nox`` runs them all, ``nox -s "combo(xnnpack)"`` one.

A combination is a real environment with real, non-editable installs of the distributions it names.
What these need from elsewhere, torch above all, is the same for many: it is installed once into a
base, which the environments see behind what they have of their own.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "no"

CONSTRAINTS = ("-c", "constraints.txt")
SOURCES = ("qreg", "plugins", "examples", "tests", "benchmarks", "docs/mkdocs", "noxfile.py")
DOCS = ("mkdocs", "mkdocs-material", "mkdocstrings", "mkdocstrings-python", "griffelib", "ruff")

XNNPACK = "./plugins/xnnpack"
EXAMPLES = [f"./examples/qreg-{name}" for name in ("addmm", "int4", "upstream")]
BROKEN = ["./examples/qreg-broken"]
CONFLICT = ["./examples/qreg-conflict-a", "./examples/qreg-conflict-b"]
SWEEP = "plugins/xnnpack/tests/test_architectures.py"

HOST = ("tests", "--ignore=tests/page")  # the page knows no plugin, so it is tested once
# What the distributions and their tests need from elsewhere: the host alone, and with the plugin.
NEEDS = {
    "host": (
        *("torch", "torchao", "attrs", "click", "jinja2", "lazy-loader", "packaging", "pluggy"),
        *("rich", "typing-extensions"),
        # in parallel, with properties, in a browser, against a schema, of built distributions
        *("pytest", "pytest-xdist", "hypothesis", "selenium", "jsonschema", "hatchling"),
    ),
    "xnnpack": ("executorch", "scikit-learn", "transformers"),
}
# Run where only what is installed can be imported.
COMPLETE = """
import importlib.resources, sys
folder = importlib.resources.files(sys.argv[1])
assert "site-packages" in str(folder), folder
assert (folder / "py.typed").is_file(), f"{sys.argv[1]} has no py.typed"
"""
OLDEST = ("pluggy==1.5.0", "attrs==23.1.0")

# Distributions besides the host, and the tests.
COMBINATIONS: dict[str, tuple[list[str], list[str]]] = {
    "none": ([], ["tests"]),
    "oldest": ([], [*HOST]),
    "xnnpack": ([XNNPACK], [*HOST, "plugins/xnnpack/tests"]),
    "xnnpack+addmm": ([XNNPACK, EXAMPLES[0]], [*HOST, "examples/qreg-addmm/tests"]),
    "xnnpack+examples": ([XNNPACK, *EXAMPLES], [*HOST, *(f"{each}/tests" for each in EXAMPLES)]),
    "xnnpack+broken": ([XNNPACK, *BROKEN], [*HOST, f"{BROKEN[0]}/tests"]),
    "xnnpack+conflict": ([XNNPACK, *CONFLICT], [*HOST, f"{CONFLICT[0]}/tests"]),
}


@nox.session
@nox.parametrize("plugins", list(COMBINATIONS), ids=list(COMBINATIONS))
def combo(session: nox.Session, plugins: str) -> None:
    """The host's tests, and those of the plugins that are installed with it."""
    distributions, tests = COMBINATIONS[plugins]
    install(session, *distributions)
    if plugins == "oldest":
        session.install(*OLDEST)
    session.run("pytest", "-n", "auto", *tests, *session.posargs)


@nox.session(default=False)
def sweep(session: nox.Session) -> None:
    """Every architecture with every config, through the runtime; takes long."""
    install(session, XNNPACK)
    session.run("pytest", "-m", "sweep or not sweep", SWEEP, *session.posargs)


def install(session: nox.Session, *distributions: str, host: tuple[str, ...] = (".",)) -> None:
    """The host and these distributions, on what they need from the base."""
    # pytest's command would look into the checkout if it were run as a module of the base.
    # setuptools, which a plugin without a [build-system] is built with, comes with every venv.
    session.install(*CONSTRAINTS, "--no-deps", "pytest", "setuptools", *host, *distributions)
    layers = ["host", "xnnpack"] if distributions else ["host"]
    see(Path(session.virtualenv.location), base(session, *layers))


def base(session: nox.Session, *layers: str) -> list[Path]:
    """The folders of packages of some layers, each installed unless it is there from before."""
    found: list[Path] = []
    for layer in layers:
        place = Path(session.cache_dir) / f"base-{layer}"
        wanted = f"{Path('constraints.txt').read_text(encoding='utf-8')}{NEEDS[layer]}"
        done = place / "installed.txt"
        if not done.exists() or done.read_text(encoding="utf-8") != wanted:
            session.run_install("python3", "-m", "venv", "--clear", str(place), external=True)
            see(place, found)
            pip = str(place / "bin" / "pip")
            session.run_install(pip, "install", *CONSTRAINTS, *NEEDS[layer], external=True)
            done.write_text(wanted, encoding="utf-8")
        found.append(site_packages(place))
    return found


def see(environment: Path, folders: list[Path]) -> None:
    """Lets an environment find what is in other folders, behind what it has itself."""
    lines = "\n".join(map(str, folders))
    (site_packages(environment) / "base.pth").write_text(lines, encoding="utf-8")


def site_packages(environment: Path) -> Path:
    (found,) = environment.resolve().glob("lib/python*/site-packages")
    return found


@nox.session
def release(session: nox.Session) -> None:
    """What would be published: it builds, is complete, and passes the tests by itself."""
    session.install(*CONSTRAINTS, "build", "twine")
    dist = Path(session.create_tmp()).resolve()
    for source in (".", XNNPACK):
        session.run("python", "-m", "build", "--outdir", str(dist), source, silent=True)
    session.run("twine", "check", "--strict", *map(str, dist.iterdir()))
    install(session, *map(str, dist.glob("*.whl")), host=())
    with session.chdir(dist):  # away from the checkout
        for package in ("qreg", "qreg_xnnpack"):
            session.run("python", "-c", COMPLETE, package)
    session.run("pytest", "-n", "auto", *HOST, "plugins/xnnpack/tests/test_cli.py")


@nox.session
def docs(session: nox.Session) -> None:
    """The site, with warnings as errors; the sources are read, nothing is imported."""
    session.install(*CONSTRAINTS, *DOCS)
    place = session.posargs or ["--site-dir", session.create_tmp()]
    session.run("mkdocs", "build", "--strict", *place, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and that what listing touches imports torch in functions only."""
    session.install(*CONSTRAINTS, "ruff")
    session.run("ruff", "check", *SOURCES)
    session.run("ruff", "format", "--check", *SOURCES)


@nox.session
def types(session: nox.Session) -> None:
    """Strict types for the host and the stock plugin."""
    install(session)
    session.install(*CONSTRAINTS, "mypy")
    session.run("python", "-m", "mypy")
    session.run(
        "python", "-m", "mypy", "-p", "qreg_xnnpack", env={"MYPYPATH": "plugins/xnnpack/src"}
    )
