"""Pins which line of an error is that of its author."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from loading import module_of

from qreg.utils.traces import own_line, place, short

SOURCE = """
import json

def decoded():
    return json.loads("no json")
"""

HOOK = """
from importlib.machinery import SourceFileLoader

class Loader(SourceFileLoader):
    def exec_module(self, module):
        super().exec_module(module)
"""


@pytest.fixture
def module(tmp_path: Path) -> ModuleType:
    (tmp_path / "mine.py").write_text(SOURCE, encoding="utf-8")
    return module_of(tmp_path / "mine.py", "mine_of_traces")


def raised_by(function: Callable[..., object], *arguments: object) -> Exception:
    """The error of a function, without the frame of this one: the host's are skipped too."""
    with pytest.raises(ValueError, match="Expecting value") as caught:
        function(*arguments)
    assert caught.tb.tb_next is not None
    return caught.value.with_traceback(caught.tb.tb_next)


def test_the_last_line_of_its_own_folder_counts(module: ModuleType, tmp_path: Path) -> None:
    error = raised_by(module.decoded)
    assert own_line(error) == f"{tmp_path / 'mine.py'}:5"
    assert place(error) == f", at {tmp_path / 'mine.py'}:5"


def test_an_import_hook_is_not_the_author_of_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As type checkers and instrumentation have them, in files of their own."""
    (tmp_path / "hook.py").write_text(HOOK, encoding="utf-8")
    (tmp_path / "wrong.py").write_text("\nvalue = 1 / 0\n", encoding="utf-8")
    hook = module_of(tmp_path / "hook.py", "hook_of_traces").Loader
    path = str(tmp_path / "wrong.py")
    spec = spec_from_file_location("wrong_of_traces", path, loader=hook("wrong_of_traces", path))
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ZeroDivisionError) as caught:
        spec.loader.exec_module(module_from_spec(spec))
    assert caught.tb.tb_next is not None
    assert own_line(caught.value.with_traceback(caught.tb.tb_next)) == f"{path}:2"


def test_python_alone_has_no_author() -> None:
    error = raised_by(json.loads, "no json")
    assert own_line(error) is None
    assert place(error) == ""


def test_a_message_is_not_followed_by_many_values() -> None:
    assert short(ValueError("it is wrong", object(), [1, 2])) == "ValueError('it is wrong')"
    assert short(KeyError("x")) == "KeyError('x')"
    assert short(OSError(2, "missing")) == "FileNotFoundError(2, 'missing')"
