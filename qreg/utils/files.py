"""Atomic writing of files."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from qreg.errors import InputError

TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")  # a name, and what mkstemp adds


def check_writable(path: Path) -> None:
    """Raise ``InputError`` if ``path`` cannot be written, by trying in its folder."""
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder (expected the name of a file to write)")
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as cause:
        raise _unwritable(path, cause) from cause
    if path.exists() and not os.access(path, os.W_OK):
        raise InputError(f"{path} cannot be written: it is read-only")


def check_folder_writable(folder: Path) -> None:
    """Raise ``InputError`` if a folder cannot be made or replaced, by trying in its parent."""
    try:
        with tempfile.TemporaryDirectory(dir=folder.resolve().parent, prefix=f".{folder.name}."):
            pass
    except OSError as cause:
        raise _unwritable(folder, cause) from cause


def _unwritable(path: Path, cause: OSError) -> InputError:
    """Return the error for a path, without the name of the temporary file next to it."""
    if not path.parent.exists():
        why = f"there is no folder {path.parent}. Create it, or name another one"
    else:
        why = cause.strerror or str(cause)
    return InputError(f"{path} cannot be written: {why}")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file in full or not at all; an old file is kept until the new one is complete."""
    write_all_atomically({path: data})


def write_all_atomically(
    contents: Mapping[Path, bytes], copies: Mapping[Path, Path] | None = None
) -> None:
    """Write files, each in full; old files are kept until all new ones are complete.

    ``copies`` maps further files to those that they are copies of: hard links to them, where the
    file system has such.
    """
    with contextlib.ExitStack() as stack:
        complete = [stack.enter_context(_complete(path, data)) for path, data in contents.items()]
        for path, source in (copies or {}).items():
            complete.append(stack.enter_context(_copied(path, source)))
        for name, path in complete:
            os.replace(name, path)


@contextlib.contextmanager
def _copied(path: Path, source: Path) -> Iterator[tuple[str, Path]]:
    """Link a temporary file next to ``path`` to a source, and yield as :func:`_complete` does."""
    check_writable(path)
    path = path.resolve()
    name = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        os.link(source, name)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        with _complete(path, source.read_bytes()) as made:
            yield made
        return
    try:
        yield str(name), path
    finally:
        name.unlink(missing_ok=True)


@contextlib.contextmanager
def _complete(path: Path, data: bytes) -> Iterator[tuple[str, Path]]:
    """Write a temporary file next to ``path``, and yield its name and the path to move it to."""
    check_writable(path)
    path = path.resolve()  # the target of a link, not the link
    mode = path.stat().st_mode if path.exists() else 0o644  # mkstemp makes it its owner's alone
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, mode)
        yield name, path
    finally:
        with contextlib.suppress(FileNotFoundError):  # it was moved to its path
            os.unlink(name)


def unfinished(folder: Path) -> list[Path]:
    """Return the temporary files of processes that ended while they wrote to a folder."""
    return [each for each in folder.glob(".*") if TEMPORARY.fullmatch(each.name)]


def write_folder_atomically(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write a folder with these files in full or not at all; a present folder is replaced.

    Raises ``InputError`` for a folder that cannot be written.
    """
    folder = folder.resolve()
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
            new, old = Path(work, "new"), Path(work, "old")
            new.mkdir()
            for name, data in contents.items():
                write_atomically(new / name, data)
            if folder.exists():
                os.replace(folder, old)
            try:
                os.replace(new, folder)
            except OSError:
                if old.exists():
                    os.replace(old, folder)
                raise
    except OSError as cause:
        raise _unwritable(folder, cause) from cause
