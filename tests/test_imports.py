"""Pins what an import costs: naming and listing plugins never imports torch."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import qreg

TOY = Path(__file__).with_name("toy.py")
ROOT = Path(__file__).parents[1]

SHOW = "import sys; print(*({'torch', 'torchao', 'executorch'} & set(sys.modules)), 'end', sep=',')"


def heavy_imports(code: str, *folders: Path) -> str:
    """What of torch and its kin a fresh interpreter has imported after ``code``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\n{SHOW}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.splitlines()[-1].removesuffix("end")


def test_the_probe_sees_torch() -> None:
    assert heavy_imports("import torch") == "torch,"


@pytest.mark.parametrize(
    "module",
    [
        *("qreg", "qreg.cli.main", "qreg.errors", "qreg.annotators.rules"),
        *("qreg.backends.limits", "qreg.backends.inputs", "qreg.backends.program_graph"),
    ],
)
def test_importing_is_light(module: str) -> None:
    assert heavy_imports(f"import {module}") == ""


def test_making_a_registry_and_listing_its_plugins_is_light() -> None:
    assert heavy_imports("import qreg; qreg.Registry().backends()") == ""


@pytest.mark.parametrize("command", [["list"], ["ops", "toy"], ["ops", "toy", "--json"]])
def test_the_commands_that_list_are_light(
    command: list[str], distribution: Callable[..., Path]
) -> None:
    folder = distribution("qreg-toy", TOY.read_text(encoding="utf-8"))
    code = f"from qreg.cli.main import main; main({command!r}, standalone_mode=False)"
    assert heavy_imports(code, folder) == ""


@pytest.mark.parametrize("name", qreg.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(qreg, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="get_quantiser"):
        _ = qreg.get_quantiser


def imported(tree: ast.AST) -> Iterator[str]:
    """What code imports at run time; ``if TYPE_CHECKING:`` is left to the type checker."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield child.module or ""
        yield from imported(child)


def declared(project: Path) -> set[str]:
    """The distributions that a project depends on, as modules are spelt."""
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[$(.*?)^\]$", text, re.DOTALL | re.MULTILINE)
    assert listed is not None
    modules = {name.replace("-", "_") for name in re.findall(r'^ +"([\w-]+)', listed[1], re.M)}
    return {"qreg" if name == "qreg_core" else name for name in modules}


def roots(folder: Path) -> set[str]:
    """What the modules in a folder import, besides Python's own modules."""
    sources = [path.read_text(encoding="utf-8") for path in folder.rglob("*.py")]
    assert sources
    names = {name.split(".")[0] for text in sources for name in imported(ast.parse(text))}
    return names - set(sys.stdlib_module_names)


def test_the_host_declares_what_it_imports_and_nothing_else() -> None:
    extra = {"transformers"}  # of an extra, for one module
    assert roots(ROOT / "qreg") - {"qreg"} == declared(ROOT) | extra


def test_one_module_imports_transformers_and_no_other_imports_it() -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "qreg").rglob("*.py")}
    names = {path: {*imported(ast.parse(text))} for path, text in sources.items()}
    importing = [path for path in names if any(each[:12] == "transformers" for each in names[path])]
    assert importing == [ROOT / "qreg/exporters.py"]
    assert not any("qreg.exporters" in each for each in names.values())


@pytest.mark.parametrize("name", ["arm", "onnxruntime", "openvino", "x86_inductor", "xnnpack"])
def test_a_backend_declares_what_it_imports(name: str) -> None:
    project = ROOT / "plugins" / name
    with_others = {"arm": {"tosa"}, "xnnpack": {"transformers"}}  # which a model of it comes with
    coming_with_others = {"torch", "torchao"} | with_others.get(name, set())
    own = {f"qreg_{name}"}
    assert roots(project / "src") - own - coming_with_others <= declared(project)
