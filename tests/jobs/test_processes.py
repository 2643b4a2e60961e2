"""New processes have the parent's environment, and do not import torch again."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from qreg.jobs.processes import new_processes

FORKED = "forkserver" if sys.platform == "linux" else "spawn"


def method() -> str:
    return new_processes().get_start_method()


def value_in_new_process(name: str) -> str | None:
    with ProcessPoolExecutor(1, mp_context=new_processes()) as pool:
        return pool.submit(os.getenv, name).result()


def test_a_changed_variable_arrives_in_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert method() == FORKED
    assert value_in_new_process("QREG_OF_A_TEST") is None
    monkeypatch.setenv("QREG_OF_A_TEST", "1")
    assert method() == "spawn"
    assert value_in_new_process("QREG_OF_A_TEST") == "1"
    monkeypatch.undo()
    assert method() == FORKED


@pytest.mark.skipif(FORKED == "spawn", reason="processes are forked on Linux only")
def test_a_forked_process_has_torch_already() -> None:
    with ProcessPoolExecutor(1, mp_context=new_processes()) as pool:
        assert pool.submit(eval, "'torch' in __import__('sys').modules").result()


@pytest.mark.skipif(FORKED == "spawn", reason="sockets have another limit elsewhere")
def test_no_server_is_started_where_its_socket_has_too_long_a_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        longest = Path(short) / ("q" * (75 - len(short) - 1))
        longer = Path(short) / ("q" * (76 - len(short) - 1))
        monkeypatch.setattr(tempfile, "tempdir", str(longest))
        assert method() == "forkserver"
        listen(longest)
        monkeypatch.setattr(tempfile, "tempdir", str(longer))
        assert method() == "spawn"
        with pytest.raises(OSError, match="path too long"):
            listen(longer)


def listen(folder: Path) -> None:
    """Make a socket where multiprocessing makes that of its server."""
    path = folder / "pymp-12345678" / "listener-12345678"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
