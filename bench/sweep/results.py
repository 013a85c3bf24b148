"""Where are the results of a sweep? In one SQLite file: a row of JSON for each finished cell, all or nothing.

A row is committed when its cell is done. The file is good at any moment at which the process may die; what was
committed is never computed again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...errors import DataNotFoundError, FormatError, UnsupportedError

__all__ = ["Results", "read_rows"]

APPLICATION, SCHEMA = 0x494E5442, 1  # "INTB" in the header of the file, and the layout of its tables
HEADER = b"SQLite format 3\x00"
TABLE = """
CREATE TABLE cells (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,
    row TEXT NOT NULL
)
"""
WAIT = 30.0  # seconds for another process that has the file locked


class Results:
    """The file of a sweep, open for writing; one process at a time.

    Raises
    ------
    FormatError
        The file is something else, or of another version.
    UnsupportedError
        Another process writes it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        _check_kind(self.path, may_be_missing=True)
        self._lock = _take_lock(self.path)
        try:
            self._connection = _connect(self.path)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
        except BaseException:
            _free_lock(self.path, self._lock)
            raise

    def _prepare(self) -> None:
        connection = self._connection
        try:
            is_new = not connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise FormatError(f"{self.path} is damaged: {error}; restore it from a copy, or start a new file") from None
        if not is_new:
            _check_version(connection, self.path)
        connection.execute("PRAGMA journal_mode = DELETE")  # one file, also while it is written
        connection.execute("PRAGMA synchronous = FULL")
        if is_new:
            with _transaction(connection):
                connection.execute(TABLE)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let others write it."""
        self._connection.close()
        _free_lock(self.path, self._lock)

    def keys(self) -> set[str]:
        """Keys of all finished cells."""
        return {key for (key,) in self._connection.execute("SELECT key FROM cells")}

    def specs(self) -> set[str]:
        """What was asked in all finished cells, whatever source answered."""
        return {spec for (spec,) in self._connection.execute("SELECT DISTINCT spec FROM cells")}

    def add(self, rows: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Commit (spec, row) of finished cells, all of them or none; a key that is there already stays as it is."""
        texts = [(row["key"], spec, json.dumps(row, allow_nan=False)) for spec, row in rows]
        with _written(self.path), _transaction(self._connection):
            self._connection.executemany(
                "INSERT INTO cells (key, spec, row) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING", texts
            )

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """The newest row of everything that was asked, behind its `Cell.spec`, in the order of `read_rows`."""
        return _rows(self._connection)


def read_rows(path: str | os.PathLike[str], *, every: bool = False) -> list[dict[str, Any]]:
    """The rows of a results file, a dict for each cell, in the order in which they were finished.

    Parameters
    ----------
    path : path
    every : bool
        Also rows that a later one (the same cell, computed by another source of intsnn) replaces.

    Raises
    ------
    DataNotFoundError
        There is no such file.
    FormatError
        It is no results file, damaged, or of another version.
    """
    name = os.fspath(path)
    _check_kind(name, may_be_missing=False)
    with contextlib.closing(_connect(name, writing=False)) as connection:
        _check_version(connection, name)
        try:
            return [row for _, row in _rows(connection, every)]
        except (sqlite3.DatabaseError, ValueError) as error:
            raise FormatError(f"{name} is damaged: {error}; restore it from a copy, or start a new file") from None


def _rows(connection: sqlite3.Connection, every: bool = False) -> list[tuple[str, dict[str, Any]]]:
    newest = "" if every else "WHERE sequence IN (SELECT MAX(sequence) FROM cells GROUP BY spec)"
    found = connection.execute(f"SELECT spec, row FROM cells {newest} ORDER BY sequence")
    return [(spec, json.loads(text)) for spec, text in found]


def _connect(path: str, writing: bool = True) -> sqlite3.Connection:
    # a reader writes too if it may: what a process that died left half-way is rolled back
    mode = "rwc" if writing else "rw" if os.access(path, os.W_OK) else "ro"
    uri = f"{Path(path).absolute().as_uri()}?mode={mode}"
    try:
        return sqlite3.connect(uri, uri=True, timeout=WAIT, isolation_level=None)
    except sqlite3.OperationalError as error:
        raise UnsupportedError(f"{path} cannot be opened: {error}; give a file that can be written") from None


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _written(path: str) -> Iterator[None]:
    """What SQLite says when a disk is full, as an OSError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OSError(errno.EIO, str(error), path) from error


def _check_kind(path: str, may_be_missing: bool) -> None:
    """A file that is no SQLite file is never opened as one, let alone written."""
    try:
        with open(path, "rb") as file:
            head = file.read(len(HEADER))
    except FileNotFoundError:
        if may_be_missing:
            return
        raise DataNotFoundError(f"there is no file {path}; intsnn bench --results {path} makes one") from None
    except IsADirectoryError:
        raise FormatError(f"{path} is a folder; the results of a sweep are one file") from None
    if head and head != HEADER:
        raise FormatError(f"{path} holds no results of a sweep (no SQLite file); give another file")
    if not head and not may_be_missing:
        raise FormatError(f"{path} is empty; a file of results is what intsnn bench writes")


def _check_version(connection: sqlite3.Connection, path: str) -> None:
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise FormatError(f"{path} is damaged: {error}; restore it from a copy, or start a new file") from None
    if application != APPLICATION:
        raise FormatError(f"{path} is an SQLite file of something else; give another file")
    if version != SCHEMA:
        raise FormatError(f"{path} has layout {version}; this version of intsnn reads layout {SCHEMA}")


# ---------------------------------------------------------------------------------------------------------------------
# one writer at a time
# ---------------------------------------------------------------------------------------------------------------------


def _take_lock(path: str):
    """A lock beside the file that the system frees whenever and however this process ends."""
    name = f"{path}.lock"
    while True:
        file = open(name, "a")  # noqa: SIM115  open as long as the results are
        try:
            import fcntl
        except ImportError:  # no such locks here: SQLite's own keep the file whole
            return file
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            message = f"{path} is being written by another process; wait for it, or give another file"
            raise UnsupportedError(message) from None
        try:
            if os.path.samestat(os.stat(name), os.fstat(file.fileno())):
                return file
        except FileNotFoundError:
            pass
        file.close()  # who had it before has just removed it


def _free_lock(path: str, file) -> None:
    with contextlib.suppress(OSError):
        os.remove(f"{path}.lock")
    file.close()
