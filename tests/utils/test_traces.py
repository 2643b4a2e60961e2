"""Pins which line of an error is that of its author."""

from __future__ import annotations

import json
from collections.abc import Callable
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


def test_python_alone_has_no_author() -> None:
    error = raised_by(json.loads, "no json")
    assert own_line(error) is None
    assert place(error) == ""


def test_a_message_is_not_followed_by_many_values() -> None:
    assert short(ValueError("it is wrong", object(), [1, 2])) == "ValueError('it is wrong')"
    assert short(KeyError("x")) == "KeyError('x')"
    assert short(OSError(2, "missing")) == "FileNotFoundError(2, 'missing')"
