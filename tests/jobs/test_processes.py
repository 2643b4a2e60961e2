"""New processes have the parent's environment, and do not import torch again."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor

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
