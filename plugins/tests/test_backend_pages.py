"""The page of each backend says what the backend says of itself, and its code runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qreg.plugins.registry import installed

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "backends").glob("*.md"))
HERE = [page for page in PAGES if page.stem in installed().backends()]
SLOW = {"x86_inductor"}  # compiles packages, as the own tests of the plugin do


def named(page: Path) -> set[str]:
    """What stands in code marks in the first column of the tables of a page."""
    rows = re.findall(r"^\| ([^|]*) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    return set(re.findall(r"`([^`]+)`", " ".join(rows)))


@pytest.mark.parametrize("page", HERE, ids=lambda page: page.stem)
def test_the_page_lists_every_config_and_every_option(page: Path) -> None:
    backend = installed().backend(page.stem).value
    supplier = installed().backend(page.stem).plugin
    listed = installed().configs(page.stem).items()
    configs = {name for name, supplied in listed if supplied.plugin == supplier}
    options = {option.name for option in backend.options}
    assert configs | options <= named(page)


@pytest.mark.parametrize(
    "page",
    [pytest.param(each, marks=pytest.mark.slow if each.stem in SLOW else ()) for each in HERE],
    ids=lambda page: page.stem,
)
def test_the_code_on_the_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    namespace: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(page), "exec"), namespace)


def test_every_stock_backend_has_a_page_and_a_row_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for sources in (ROOT / "plugins").glob("*/src"):
        name = sources.parent.name
        assert (ROOT / "docs" / "backends" / f"{name}.md").is_file(), name
        assert f"(docs/backends/{name}.md)" in readme, name
