"""One small sweep over the digits that several tests run, interrupt and kill; and what its results come to."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from intsnn.bench.sweep.cells import Cells
from intsnn.bench.sweep.grid import Grid, ModelSpec
from intsnn.bench.sweep.results import Results, read_rows
from intsnn.bench.sweep.sweep import sweep
from intsnn.bench.sweep.workers import Workers
from intsnn.models import digits

ROOT = Path(__file__).resolve().parents[2]
TIMES = ("seconds", "peak_rss_bytes", "created")  # of a row: no part of the result
SOURCE = str(digits.network_file())
OPTIONS = ("--samples", "24", "--verify", "2", "--reference", "0", "--weights", "2,4", "--activations", "2,3,4")
CELLS = 18


def environment():
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def lasting(path):
    """Rows without what may differ from run to run, by key."""
    return {row["key"]: {name: row[name] for name in row if name not in TIMES} for row in read_rows(path)}


def whole(path):
    """Whether SQLite finds nothing wrong with the file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def start(path, *options, before=""):
    """The command in a process group of its own; `before` is Python source that runs ahead of it, in its process."""
    program = f"import sys\n{before}\nfrom intsnn.cli.main import main\nmain(sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-c", program, "bench", "--model", SOURCE, "--data", "digits", "--trust", *OPTIONS,
         "--results", str(path), *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True,
    )  # fmt: skip


def group_is_empty(group):
    """Whether no process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def grid():
    return Grid(
        models=(ModelSpec(SOURCE),),
        data=("digits",),
        samples=24,
        verify=2,
        reference=0,
        weights=(2, 4),
        activations=(2, 3, 4),
    )


def left_alone(path):
    """The same sweep in this process, from beginning to end."""
    with Results(path) as results, Workers() as here:
        summary = sweep(Cells(grid(), trust=True), results, here)
    assert summary.computed == CELLS and not summary.undone
    return path
