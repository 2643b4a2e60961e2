"""Pins that what native code writes to standard error can be discarded, and only for a time."""

from __future__ import annotations

import os
import sys

import pytest

from qreg.backends.native import silenced


def test_what_is_written_past_python_is_discarded_until_the_end(
    capfd: pytest.CaptureFixture[str],
) -> None:
    os.write(2, b"before\n")
    with silenced():
        os.write(2, b"noise\n")
        sys.stderr.write("noise\n")
    with pytest.raises(ValueError, match="as it is"), silenced():
        raise ValueError("as it is")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"
