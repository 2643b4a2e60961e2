"""The site is whole: every page is in the menu, every name in the reference, no link is dead.

Whether it builds without a warning is what ``nox -s docs`` looks at.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from qreg.cli import main as cli
from qreg.plugins import hookspecs

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\[\]]+\]\(([^()\s]+)\)")


def relative(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def public_names(stub: Path) -> list[str]:
    """What ``__all__`` of a stub has."""
    for statement in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(statement.value)]
    raise AssertionError(f"{stub} has no __all__")


def documented() -> set[str]:
    """The names that the pages of the reference take from the docstrings."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    return set(re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE))


def hooks() -> list[str]:
    return [name for name in vars(hookspecs) if name.startswith("qreg_")]


def links(page: Path) -> Iterator[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return (link for link in LINK.findall(text) if "://" not in link)


def anchors(page: Path) -> set[str]:
    """The anchors that mkdocs gives the headings of a page, as GitHub does."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    kept = (re.sub(r"[^\w\s-]", "", each).strip() for each in re.findall(r"^#+ (.*)$", text, re.M))
    named = {re.sub(r"[-\s]+", "-", each.lower()) for each in kept}
    return named | set(re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE))


def test_the_menu_has_every_page_once_and_no_other() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r"^ +- .*: (\S+\.md)$", menu.partition("\n\n")[0], re.MULTILINE)
    assert sorted(listed) == sorted(map(relative, PAGES))


@pytest.mark.parametrize("stub", ["qreg", "plugins/xnnpack/src/qreg_xnnpack"])
def test_every_public_name_is_in_the_reference(stub: str) -> None:
    package = Path(stub).name
    names = {f"{package}.{name}" for name in public_names(ROOT / stub / "__init__.pyi")}
    assert names <= documented()


def test_the_modules_for_plugins_are_in_the_reference() -> None:
    modules = {"annotators.annotate", "annotators.builders", "annotators.families"}
    modules |= {
        "patterns",
        "annotators.rules",
        "configs.factory",
        "errors",
        "graph.nodes",
        "graph.operators",
    }
    modules |= {"graph.rewrites", "observers.observers", "testing"}
    assert {f"qreg.{module}" for module in modules} <= documented()


def test_every_hook_is_on_the_page_of_the_hooks_and_in_the_guide() -> None:
    page = (DOCS / "hooks.md").read_text(encoding="utf-8")
    assert re.findall(r"^::: qreg\.plugins\.hookspecs\.(\w+)$", page, re.MULTILINE) == hooks()
    assert re.findall(r"^\| \[`(\w+)`\]", page, re.MULTILINE) == hooks()
    guide = (DOCS / "plugins.md").read_text(encoding="utf-8")
    assert not [hook for hook in hooks() if not re.search(rf"\b{hook}\b", guide)]


def test_every_command_and_option_is_on_the_page_of_the_command_line() -> None:
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    commands = cli.main.commands.values()
    words = {f"qreg {command.name}" for command in commands}
    options = [each for command in (cli.main, *commands) for each in command.params]
    words |= {name for each in options if isinstance(each, click.Option) for name in each.opts}
    words -= {"--version"}
    assert not [word for word in sorted(words) if not re.search(rf"`{word}\b", page)]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or target.suffix != ".md" or anchor in anchors(target), link


def test_nothing_on_the_site_comes_from_the_network() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in settings
    for file in (ROOT / "mkdocs.yml", *(DOCS / "assets").iterdir()):
        assert "//" not in re.sub(r"/\*.*?\*/", "", file.read_text(encoding="utf-8"), flags=re.S)
