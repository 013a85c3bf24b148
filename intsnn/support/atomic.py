"""How is a file written whole or not at all? Beside its target, then renamed: a killed run leaves the old file."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator

from ..errors import DataNotFoundError, FormatError

__all__ = ["publish", "replacing", "temporary_beside"]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """Give a temporary name beside ``path``; rename it there on success, remove it on any error."""
    temporary = temporary_beside(path)
    try:
        yield temporary
        publish(temporary, os.fspath(path))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def temporary_beside(path: str | os.PathLike[str]) -> str:
    folder, name = os.path.split(os.path.abspath(os.fspath(path)))
    if not os.path.isdir(folder):
        raise DataNotFoundError(f"there is no folder {folder} to write {name} in")
    if os.path.isdir(os.path.join(folder, name)):
        raise FormatError(f"{os.fspath(path)} is a folder; give the name of a file to write")
    number, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
    os.close(number)
    return temporary


def publish(temporary: str, path: str) -> None:
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        mode = 0o666 & ~mask
    _sync(temporary, os.O_RDWR)  # Windows brings to disk only what may be written
    os.chmod(temporary, mode)  # mkstemp makes files for the owner only
    os.replace(temporary, path)
    with contextlib.suppress(OSError):  # folders cannot be synced everywhere
        _sync(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)


def _sync(path: str, mode: int) -> None:
    number = os.open(path, mode)
    try:
        os.fsync(number)
    finally:
        os.close(number)
