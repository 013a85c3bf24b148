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
from types import SimpleNamespace

import pytest
from sweeping import LONGER, LONGER_CELLS, environment, lasting, start, whole

KILLS = int(os.environ.get("INTSNN_KILLS", "2"))

needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The results of a sweep that was left alone, and how long it took."""
    path, began = tmp_path_factory.mktemp("whole") / "r.sqlite", time.monotonic()
    process = start(path, "--jobs", "2", *LONGER)
    lines(process)
    err = end(process)
    assert process.returncode == 0, err
    return SimpleNamespace(path=path, seconds=time.monotonic() - began)


def wait_for_cell(process):
    """Until the command reports a finished cell."""
    while line := process.stdout.readline():
        if line.startswith("["):
            return
    pytest.fail(process.stderr.read())


def lines(process):
    """What the command prints, line by line, in the background."""
    found = queue.Queue()
    threading.Thread(target=lambda: [found.put(line) for line in process.stdout], daemon=True).start()
    return found


def wait_for_cells(process, printed, count, seconds=240.0):
    """Until so many cells are reported, the time is up or the command has ended."""
    deadline = time.monotonic() + seconds
    while count > 0 and time.monotonic() < deadline:
        try:
            count -= printed.get(timeout=0.1).startswith("[")
        except queue.Empty:
            if process.poll() is not None:
                return


def end(process, seconds=300):
    """Wait for the command; what it said on standard error."""
    process.wait(timeout=seconds)
    return process.stderr.read()


@needs_signals
def test_interrupted(uninterrupted, tmp_path):
    """Ctrl-C reaches the whole process group; what is done stays, and the command says how to go on."""
    path = tmp_path / "r.sqlite"
    process = start(path, "--jobs", "2", *LONGER)
    wait_for_cells(process, lines(process), 1)
    os.killpg(process.pid, signal.SIGINT)
    err = end(process)
    assert process.returncode == 130, err
    assert re.fullmatch(
        r"\s*Error: interrupted; \d+ cells are in .*r\.sqlite, and the same command goes on.*\n", err
    ), err
    done = lasting(path)
    assert 0 < len(done) < LONGER_CELLS and whole(path)
    process = start(path, "--jobs", "2", *LONGER, "--json", str(tmp_path / "r.json"))
    lines(process)
    err = end(process)
    assert process.returncode == 0, err
    found = json.loads((tmp_path / "r.json").read_text())
    assert (found["found"], found["computed"]) == (len(done), LONGER_CELLS - len(done))
    assert lasting(path) == lasting(uninterrupted.path) and {key: lasting(path)[key] for key in done} == done


def group_is_empty(group):
    """Whether no process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@needs_signals
def test_killed_at_random_moments(uninterrupted, tmp_path):
    """``kill -9`` of the sweep, again and again: it goes on, ends with the same rows, and leaves no process behind.

    A moment is any between start and end, or soon after any number of cells.
    """
    wanted, chance = lasting(uninterrupted.path), random.Random(time.time_ns())
    groups, hits, sweeps, path = [], [], 0, tmp_path / "r.sqlite"
    while len(hits) < KILLS or path.exists():
        process = start(path, "--jobs", "2", *LONGER)
        groups.append(process.pid)
        printed = lines(process)
        if len(hits) == KILLS:
            process.wait(timeout=300)
        elif chance.random() < 0.3:
            wait_for_cells(process, printed, LONGER_CELLS, chance.uniform(0.3, uninterrupted.seconds))
        else:
            wait_for_cells(process, printed, chance.randrange(1, LONGER_CELLS // 2))
            time.sleep(chance.random())
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(timeout=60)
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
    print(f"{len(hits)} kills in {sweeps} sweeps; of {LONGER_CELLS} cells were done: {hits}")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not all(map(group_is_empty, groups)):
        time.sleep(0.2)
    assert all(map(group_is_empty, groups))


LONG = """
import threading, time
from intsnn.bench.workers import Task, Workers

class Long:
    def __reduce__(self):
        return time.sleep, (600,)

with Workers(jobs=2) as workers:
    threading.Timer(4, print, ["under way"], {"flush": True}).start()
    list(workers.do(Task(0, part, "measure", (), (), Long(), None) for part in range(2)))
"""


@needs_signals
def test_processes_end_with_their_sweep():
    """Also those that are in the middle of something long."""
    process = subprocess.Popen(
        [sys.executable, "-c", LONG], stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    )
    assert process.stdout.readline() == "under way\n"
    assert not group_is_empty(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not group_is_empty(process.pid):
        time.sleep(0.1)
    assert group_is_empty(process.pid)
