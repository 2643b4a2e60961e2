"""Functions as bytes: what cannot be pickled, or imported elsewhere, is named."""

from __future__ import annotations

import threading

import pytest

from qreg.errors import InputError
from qreg.jobs.packing import packed_function, unpacked_function


def test_a_function_travels_with_what_it_refers_to() -> None:
    factor = 3

    def scaled(x: int) -> int:
        return factor * x

    assert unpacked_function(packed_function(scaled, "evaluate"), "evaluate")(2) == 6


def test_what_cannot_be_pickled_is_an_error() -> None:
    lock = threading.Lock()
    with pytest.raises(InputError, match=r"evaluate: it cannot be sent .*lock.*workers=1"):
        packed_function(lambda run: lock.locked(), "evaluate")


def test_what_a_worker_cannot_import_is_an_error() -> None:
    data = packed_function(threading.get_ident, "evaluate").replace(b"_thread", b"_tread9")
    with pytest.raises(InputError, match=r"cannot import .*No module named '_tread9'"):
        unpacked_function(data, "evaluate")
