"""Kernels are compiled once for all processes, and whoever asks is told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from waiting import ended, rest, until_line

from intsnn.kernels.toolchain import cache, once

pytestmark = pytest.mark.skipif(once.fcntl is None, reason="this system has no locks")

# Divides with a kernel that calls another; prints what it compiled and of what it was told.
CHILD = """
import json, sys
import numpy as np
from numba.core.dispatcher import _FunctionCompiler
from intsnn.kernels.toolchain import once

def core(self, *arguments, core=_FunctionCompiler._compile_core):
    compiled.append(f"{self.py_func.__module__}.{self.py_func.__qualname__}")
    return core(self, *arguments)

_FunctionCompiler._compile_core = core

def sleep(seconds, sleep=once.time.sleep):
    print("waits", flush=True)
    sleep(seconds)

once.time.sleep = sleep
told, compiled = [], []
with once.listening(lambda name, ready: told.append([name, ready])):
    from intsnn.kernels.layers import compiled as linear
    out = np.zeros((1, 1, 1), np.int32)
    linear.divide(np.full((1, 1, 1), 7, np.int32), 2, 0, np.ones(1, np.uint8), out)
    assert out[0, 0, 0] == 3
print(json.dumps([compiled, told]))
"""
OUTER, INNER = "intsnn.kernels.layers.compiled.divide", "intsnn.kernels.numbers.compiled.round_div"
TOLD = [[OUTER, False], [INNER, False], [INNER, True], [OUTER, True]]  # and of what they call


@pytest.fixture
def begin(tmp_path):
    """``begin()``: a process that needs a kernel, all with one cache, which is empty at first."""
    started = []

    def begin(before=""):
        variables = {
            "INTSNN_CACHE": str(tmp_path), "INTSNN_KERNELS": "portable", "NUMBA_DISABLE_JIT": "0",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }  # fmt: skip
        command = [sys.executable, "-c", before + CHILD]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, text=True, env=os.environ | variables, **pipes))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        ended(process)
        process.stdin.close()
        process.stdout.close()


def said_by(process):
    """What the process compiled, and of what it was told."""
    return json.loads(rest(process).splitlines()[-1])


def folder_in(path, monkeypatch):
    """The folder of the tier portable in the cache at `path`."""
    monkeypatch.setenv("INTSNN_CACHE", str(path))
    return cache.folder("portable")


def test_one_compiles_and_the_next_finds_it(begin):
    compiled, told = said_by(begin())
    assert compiled[:2] == [OUTER, INNER] and [event for event in told if event in TOLD] == TOLD
    assert said_by(begin()) == [[], []]


@pytest.mark.parametrize(
    "name, compiled, told", [(OUTER, [], TOLD[::3]), (INNER, [OUTER], TOLD)], ids=["outer", "inner"]
)
def test_who_waits_takes_it_from_the_cache(begin, tmp_path, monkeypatch, name, compiled, told):
    """While a process waits for the one that compiles a kernel, that one ends: nothing is compiled twice.

    What is compiled itself finds a kernel that it calls and that came from the cache.
    """
    kept = folder_in(tmp_path, monkeypatch)
    with once.locked(kept, name):
        waiting = begin()
        until_line(waiting, "waits")
        # stands for the process that has the lock
        assert name in said_by(begin("from intsnn.kernels.toolchain import once; once.fcntl = None\n"))[0]
        if name == INNER:
            for path in Path(kept).rglob("*divide*.nb?"):
                path.unlink()
    assert said_by(waiting) == [compiled, told]


def test_a_lock_ends_with_its_process(begin, tmp_path, monkeypatch):
    """Killed while it holds the lock: the next one compiles."""
    folder = folder_in(tmp_path, monkeypatch)
    holding = (
        f"import sys\nfrom intsnn.kernels.toolchain import once\nwith once.locked({folder!r}, {OUTER!r}):\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    holder = begin(holding)
    until_line(holder, "held")
    waiting = begin()
    until_line(waiting, "waits")
    holder.kill()
    assert OUTER in said_by(waiting)[0]


def test_a_lock_held_for_ever_is_waited_for_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(once, "PATIENCE", 0)
    with once.locked(str(tmp_path), "x"), once.locked(str(tmp_path), "x"):
        pass


def test_without_a_folder_there_is_no_lock(tmp_path):
    with once.locked(None, "x"), once.locked(None, "x"), once.locked(str(tmp_path / "missing"), "x"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(bool(os.environ.get("NUMBA_DISABLE_JIT")), reason="the compiler is switched off")
def test_code_that_cannot_be_kept_runs(monkeypatch):
    """A full disk."""
    import numba

    made = numba.njit(lambda x: x + 1)
    monkeypatch.setattr(made._cache, "save_overload", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    once.compile_once(made, None)
    assert made(np.int8(2)) == 3


def test_listeners_hear_what_is_inside_what():
    told = []
    with once.listening(lambda *event: told.append(event)):
        with once.working("outer"), once.working("inner"):
            pass
        with pytest.raises(KeyError), once.working("broken"):
            raise KeyError
    with once.working("unheard"):
        pass
    assert told == [
        ("outer", False), ("inner", False), ("inner", True), ("outer", True), ("broken", False), ("broken", True),
    ]  # fmt: skip


@pytest.mark.parametrize("name", cache.SETTINGS)
def test_settings_that_change_code_have_a_folder_of_their_own(name, tmp_path, monkeypatch):
    """Numba itself would take code without checks for code with them."""
    config = pytest.importorskip("numba").config
    monkeypatch.setattr(config, name, 0)
    off = folder_in(tmp_path, monkeypatch)
    monkeypatch.setattr(config, name, None)
    assert cache.folder("portable") == off
    monkeypatch.setattr(config, name, 1)
    assert cache.folder("portable") != off
