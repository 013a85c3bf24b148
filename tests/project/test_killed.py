"""A sweep that is interrupted or killed goes on where it stopped and ends with the rows of one that was left alone.

``INTSNN_KILLS=20`` kills it that often instead of a few times.
"""

import json
import os
import queue
import random
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from sweeping import CELLS, environment, group_is_empty, lasting, left_alone, start, whole
from waiting import ended, until, until_line

KILLS = int(os.environ.get("INTSNN_KILLS", "2"))

needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The results of a sweep that was left alone, in this process."""
    return left_alone(tmp_path_factory.mktemp("whole") / "r.sqlite")


def lines(process):
    """What the command prints, line by line, in the background."""
    found = queue.Queue()
    threading.Thread(target=lambda: [found.put(line) for line in process.stdout], daemon=True).start()
    return found


def wait_for_cells(process, printed, count):
    """Until so many cells are reported, or the command has ended."""

    def reported():
        nonlocal count
        while count > 0 and not printed.empty():
            count -= printed.get().startswith("[")
        return count <= 0

    until(reported, lambda: process.poll() is None)


def end(process):
    """Wait for the command; what it said on standard error."""
    ended(process)
    return process.stderr.read()


CTRL_C = """
import os, signal
from intsnn.bench.sweep.results import Results
exact = Results.add

def add(*arguments):
    exact(*arguments)
    os.killpg(0, signal.SIGINT)

Results.add = add
"""


@needs_signals
def test_interrupted(uninterrupted, tmp_path):
    """Ctrl-C reaches the whole process group, behind the first cells; these stay, and the command says how to go on."""
    path = tmp_path / "r.sqlite"
    process = start(path, "--jobs", "2", before=CTRL_C)
    lines(process)
    err = end(process)
    assert process.returncode == 130, err
    assert re.fullmatch(
        r"\s*Error: interrupted; \d+ cells are in .*r\.sqlite, and the same command goes on.*\n", err
    ), err
    done = lasting(path)
    assert 0 < len(done) < CELLS and whole(path)
    process = start(path, "--jobs", "2", "--json", str(tmp_path / "r.json"))
    lines(process)
    err = end(process)
    assert process.returncode == 0, err
    found = json.loads((tmp_path / "r.json").read_text())
    assert (found["found"], found["computed"]) == (len(done), CELLS - len(done))
    assert lasting(path) == lasting(uninterrupted) and {key: lasting(path)[key] for key in done} == done


@needs_signals
def test_killed_at_random_moments(uninterrupted, tmp_path):
    """``kill -9`` of the sweep, again and again: it goes on, ends with the same rows, and leaves no process behind.

    A moment is soon after any number of cells; which one it really is does not matter.
    """
    wanted, chance = lasting(uninterrupted), random.Random(5)
    groups, hits, sweeps, path = [], [], 0, tmp_path / "r.sqlite"
    while len(hits) < KILLS or path.exists():
        process = start(path, "--jobs", "2")
        groups.append(process.pid)
        printed = lines(process)
        if len(hits) == KILLS:
            ended(process)
        else:
            wait_for_cells(process, printed, chance.choice((0, *range(1, CELLS // 2))))
            time.sleep(chance.random())
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            ended(process)
            rows = {}
            if path.exists() and path.stat().st_size:
                assert whole(path)
                rows = lasting(path)
            assert rows == {key: wanted[key] for key in rows}
            hits.append(len(rows))
            continue
        assert process.returncode == 0, process.stderr.read()
        assert lasting(path) == wanted and whole(path)
        path.unlink()
        sweeps += 1
    print(f"{len(hits)} kills in {sweeps} sweeps; of {CELLS} cells were done: {hits}")
    until(lambda: all(map(group_is_empty, groups)))


LONG = """
from intsnn.bench.sweep.workers import Task, Workers

class Long:
    def __reduce__(self):
        return exec, ("import time; print('under way', flush=True); time.sleep(3600)",)

with Workers(jobs=2) as workers:
    list(workers.do(Task(0, part, "measure", (), (), Long(), None) for part in range(2)))
"""


@needs_signals
def test_processes_end_with_their_sweep():
    """Also those that are in the middle of something long."""
    process = subprocess.Popen(
        [sys.executable, "-c", LONG], stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    )
    until_line(process, "under way")
    assert not group_is_empty(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    ended(process)
    until(lambda: group_is_empty(process.pid))
