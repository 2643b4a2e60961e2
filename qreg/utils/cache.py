"""A folder of bytes by key, of bounded size, that processes share without locks.

An entry is one file: the SHA-256 of the rest, a description as JSON, and the content. It is moved
to its name when it is complete, so that a reader sees all of it or nothing. Two processes that make
the same entry write the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from qreg.errors import InputError
from qreg.utils.files import write_atomically
from qreg.utils.logging import LOG

MOST = 2 * 2**30  # bytes of all entries
MOST_OF_ONE = MOST // 8


@frozen
class Cache:
    """A cache in a folder, which is made when the first entry is written.

    Files that were not used for longest are removed beyond ``most`` bytes. ``write`` does not keep
    a content of more than ``most_of_one`` bytes, and logs what the file system cannot do for
    debugging.
    """

    folder: Path
    most: int = MOST
    most_of_one: int = MOST_OF_ONE

    def read(self, key: str) -> tuple[Any, bytes] | None:
        """Return the description and the content of an entry, or None if there is none.

        A damaged entry is removed, with a warning in the log.
        """
        path = self.folder / key
        try:
            with path.open("rb") as file:
                digest, described, content = file.readline(), file.readline(), file.read()
            if digest.strip().decode(errors="replace") != _digest(described, content):
                raise ValueError("it is not what was written")
            found = json.loads(described), content
            with contextlib.suppress(OSError):  # of another user, or another process has removed it
                os.utime(path)  # the entry was used now
            return found
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as cause:
            LOG.warning("cache: %s is removed and made again: %s", path, cause)
            with contextlib.suppress(OSError):
                path.unlink()
            return None

    def write(self, key: str, description: Any, content: bytes) -> None:
        """Keep an entry if it is not too large and the file system can."""
        if len(content) > self.most_of_one:
            return
        try:
            self.put(key, description, content)
        except (OSError, InputError) as cause:
            LOG.debug("cache: %s is not kept: %s", key, cause)

    def put(self, key: str, description: Any, content: bytes) -> None:
        """Keep an entry, and remove others that are too many.

        Raises ``OSError`` or ``InputError`` if the file system cannot.
        """
        described = json.dumps(description).encode() + b"\n"
        data = b"\n".join([_digest(described, content).encode(), described + content])
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(self.folder / key, data)
        self._trim()

    def _trim(self) -> None:
        """Remove the files that were used first until the others fit."""
        size = 0
        for path, used in sorted(self._files(), key=lambda each: -each[1].st_mtime_ns):
            size += used.st_size
            if size > self.most:
                with contextlib.suppress(OSError):  # another process has removed it
                    path.unlink()

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                yield path, path.stat()


def _digest(described: bytes, content: bytes) -> str:
    made = hashlib.sha256(described)
    made.update(content)
    return made.hexdigest()
