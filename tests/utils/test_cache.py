"""A cache returns what was written or nothing, within its size, whoever shares the folder."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qreg.utils.cache import Cache

MANY = """
import sys
from pathlib import Path
from qreg.utils.cache import Cache
cache = Cache(Path(sys.argv[1]), most=40_000)
for number in range(150):
    key = str(number % 7)
    found = cache.read(key)
    assert found is None or found == ({"key": key}, key.encode() * 9_000), found
    cache.write(key, {"key": key}, key.encode() * 9_000)
"""


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_an_entry_is_what_was_written(cache: Cache) -> None:
    assert cache.read("key") is None
    cache.write("key", {"name": "a\nb", "numbers": [1, None]}, b"\n\x00\n")
    assert cache.read("key") == ({"name": "a\nb", "numbers": [1, None]}, b"\n\x00\n")
    assert cache.read("another") is None


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "of something else"])
def test_a_damaged_entry_is_removed_with_a_warning(
    cache: Cache, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write("key", {"name": "x"}, b"content")
    path = cache.folder / "key"
    data = path.read_bytes()
    changed = {
        "cut": data[:-1],
        "empty": b"",
        "changed": data.replace(b"content", b"Content"),
        "of something else": b"\xff\x00" * 100,
    }
    path.write_bytes(changed[damage])
    with caplog.at_level(logging.WARNING, "qreg"):
        assert cache.read("key") is None
    assert f"{path} is removed and made again" in caplog.text
    assert not path.exists()


def test_an_entry_whose_time_cannot_be_set_is_read(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is of another user, or another process removes it while it is read."""
    cache.write("key", {}, b"content")

    def refused(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(os, "utime", refused)
    assert cache.read("key") == ({}, b"content")
    assert (cache.folder / "key").exists()
    assert caplog.text == ""


def test_what_was_not_used_for_longest_is_removed(cache: Cache) -> None:
    small = Cache(cache.folder, most=1000)
    for age, key in enumerate("abc"):
        small.write(key, {}, bytes(200))
        os.utime(small.folder / key, (1000 + age, 1000 + age))
    assert small.read("a") is not None  # used now
    small.write("d", {}, bytes(300))
    assert [each for each in "abcd" if small.read(each)] == ["a", "c", "d"]


def test_a_content_that_is_too_large_is_not_kept(cache: Cache) -> None:
    small = Cache(cache.folder, most_of_one=10)
    small.write("key", {}, bytes(11))
    assert small.read("key") is None


def test_a_folder_that_cannot_be_written_costs_the_cache_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "cache")
    cache.write("key", {}, b"content")
    assert cache.read("key") is None


def test_processes_share_a_folder(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", MANY, str(tmp_path)]
    running = [subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    written = [each.communicate()[1] for each in running]
    assert written == ["", ""]
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) < 60_000
