"""The results file: what is committed stays, whatever happens to the process, and no other file is touched."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import HANGING, ended, rest, until_line

from intsnn.bench.sweep.results import Results, read_rows
from intsnn.errors import DataNotFoundError, FormatError, UnsupportedError

ROOT = Path(__file__).resolve().parents[3]


def entry(number, source="a", **values):
    """(spec, row) of a cell."""
    return f"spec{number}", {"key": f"key{number}{source}", "number": number, "source": source, **values}


def whole(path):
    """Whether SQLite finds nothing wrong with the file."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


def python(code, *arguments):
    """Start Python source in a process of its own, the source tree first; its errors are part of its output."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


def test_rows_come_back_as_they_were(tmp_path):
    path = tmp_path / "r.sqlite"
    values = {"half": 0.1, "nothing": None, "list": [1, 2.5], "layers": [{"name": "ü\n"}], "big": 1 << 70}
    with Results(path) as results:
        assert results.keys() == set() and results.rows() == []
        results.add([entry(1, **values), entry(2)])
        results.add([entry(3)])
        assert results.keys() == {"key1a", "key2a", "key3a"} and results.specs() == {"spec1", "spec2", "spec3"}
        assert read_rows(path) == [entry(1, **values)[1], entry(2)[1], entry(3)[1]]  # also while it is written
    assert read_rows(path) == [entry(1, **values)[1], entry(2)[1], entry(3)[1]]
    assert whole(path) and sorted(os.listdir(tmp_path)) == ["r.sqlite"]


def test_a_key_stays_and_a_newer_source_replaces(tmp_path):
    path = tmp_path / "r.sqlite"
    with Results(path) as results:
        results.add([entry(1), entry(2)])
        results.add([entry(1, value="other")])
        assert [row.get("value") for row in read_rows(path)] == [None, None]
        results.add([entry(1, "b")])
        assert [spec for spec, _ in results.rows()] == ["spec2", "spec1"]
    assert [row["key"] for row in read_rows(path)] == ["key2a", "key1b"]
    assert [row["key"] for row in read_rows(path, every=True)] == ["key1a", "key2a", "key1b"]


def test_all_rows_of_a_commit_or_none(tmp_path):
    path = tmp_path / "r.sqlite"
    with Results(path) as results:
        results.add([entry(1)])
        with pytest.raises(ValueError):
            results.add([entry(2), entry(3, value=float("nan"))])
        with pytest.raises(sqlite3.IntegrityError):
            results.add([entry(4), (None, {"key": "key5"})])
        assert results.keys() == {"key1a"}


def test_one_writer_at_a_time(tmp_path):
    path = tmp_path / "r.sqlite"
    with Results(path) as results:
        with pytest.raises(UnsupportedError, match="another process"):
            Results(path)
        results.add([entry(1)])
    with Results(path) as results:
        assert results.keys() == {"key1a"}


HOLDER = """
import sys, time
from intsnn.bench.sweep.results import Results
results = Results(sys.argv[1])
results.add([("spec", {"key": "key"})])
print("held", flush=True)
time.sleep(3600)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_dead_writer_holds_nothing(tmp_path):
    path = tmp_path / "r.sqlite"
    with python(HOLDER, path) as holder:
        try:
            until_line(holder, "held")
            with pytest.raises(UnsupportedError, match="another process"):
                Results(path)
            assert [row["key"] for row in read_rows(path)] == ["key"]
        finally:
            holder.kill()
        ended(holder)
    with Results(path) as results:
        assert results.keys() == {"key"}


WRITER = """
import sys
from intsnn.bench.sweep.results import Results
with Results(sys.argv[1]) as results:
    number = len(results.keys())
    while True:
        rows = [(f"spec{n}", {"key": f"key{n}", "text": "x" * 3000}) for n in range(number, number + 3)]
        results.add(rows)
        number += 3
        print(number, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_while_it_commits(tmp_path):
    """A writer that does nothing but commit is killed again and again: what it committed is there, in threes."""
    path, chance = tmp_path / "r.sqlite", random.Random(4)
    for _ in range(8):
        with python(WRITER, path) as writer:
            try:
                printed = until_line(writer)
                time.sleep(chance.random() * 0.05)  # any moment will do
            finally:
                writer.kill()
            printed += rest(writer).splitlines()
        said = int(printed[-1])
        if chance.random() < 0.5:  # a reader may be the first to find it
            assert len(read_rows(path)) >= said
        assert whole(path)
        with Results(path) as results:
            keys = results.keys()
            assert (
                keys == {f"key{n}" for n in range(len(keys))} and len(keys) % 3 == 0 and said <= len(keys) <= said + 3
            )


FULL = """
import resource, sys
from intsnn.bench.sweep.results import Results
with Results(sys.argv[1]) as results:
    results.add([("spec0", {"key": "key0"})])
    resource.setrlimit(resource.RLIMIT_FSIZE, (32768, 32768))
    try:
        results.add([("spec1", {"key": "key1", "text": "x" * 200000})])
    except OSError as error:
        print(type(error).__name__, error.filename == sys.argv[1])
    results.add([("spec2", {"key": "key2"})])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no limit on the size of files")
def test_a_full_disk(tmp_path):
    path = tmp_path / "r.sqlite"
    out, _ = python(FULL, path).communicate(timeout=HANGING)
    assert out == "OSError True\n"
    assert whole(path) and [row["key"] for row in read_rows(path)] == ["key0", "key2"]


def other_database(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE people (name TEXT)")
    connection.close()


def other_version(path):
    Results(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def truncated(path):
    with Results(path) as results:
        results.add([entry(n, text="x" * 5000) for n in range(20)])
    os.truncate(path, 40_000)


def scrambled(path):
    with Results(path) as results:
        results.add([entry(n, text="x" * 5000) for n in range(20)])
    content = bytearray(path.read_bytes())
    content[4096:12288] = random.Random(1).randbytes(8192)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "make, word",
    [
        (lambda path: path.write_text("model,accuracy\n"), "no SQLite file"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)), "no SQLite file"),
        (lambda path: path.mkdir(), "folder"),
        (other_database, "something else"),
        (other_version, "layout 99"),
    ],
    ids=["text", "hdf5", "folder", "other database", "other version"],
)
def test_other_files_are_refused_and_left_alone(make, word, tmp_path):
    path = tmp_path / "r.sqlite"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(FormatError, match=word):
        read_rows(path)
    with pytest.raises(FormatError, match=word):
        Results(path)
    assert before is None or path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["r.sqlite"]


@pytest.mark.parametrize("make", [truncated, scrambled])
def test_damaged_files(make, tmp_path):
    path = tmp_path / "r.sqlite"
    make(path)
    with pytest.raises(FormatError, match="damaged"):
        read_rows(path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(DataNotFoundError, match="no file"):
        read_rows(tmp_path / "r.sqlite")
    assert os.listdir(tmp_path) == []
    (tmp_path / "empty").touch()
    with pytest.raises(FormatError, match="empty"):
        read_rows(tmp_path / "empty")
    with Results(tmp_path / "empty") as results:
        assert results.keys() == set()
    with pytest.raises(OSError):
        Results(tmp_path / "no" / "r.sqlite")
