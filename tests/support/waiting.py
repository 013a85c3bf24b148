"""How tests wait for other processes: until something happens, however long it takes on a busy machine.

No test is decided by a clock. `HANGING` only ends a test that would otherwise wait for ever.
"""

import subprocess
import time

import pytest

HANGING = 1800  # seconds


def until(happened, alive=lambda: True):
    """Wait until `happened()` is true, or nothing is `alive()` any more; whether it happened."""
    end = time.monotonic() + HANGING
    while not happened():
        if not alive():
            return bool(happened())  # it may have been the last thing that was done
        if time.monotonic() > end:
            pytest.fail(f"nothing happened within {HANGING} seconds")
        time.sleep(0.01)
    return True


def until_line(process, start=""):
    """Read what `process` prints (text) until a line begins with `start`; all lines so far."""
    said = []
    while line := process.stdout.readline():
        said.append(line)
        if line.startswith(start):
            return said
    pytest.fail(f"ended without a line {start!r}: {''.join(said)}{process.stderr.read() if process.stderr else ''}")


def rest(process):
    """Wait for the end of `process`; what is left of its output.

    Read through the stream itself: `communicate` would miss what an earlier `readline` has read ahead.
    """
    said = process.stdout.read()
    ended(process)
    return said


def ended(process):
    """Wait for the end of `process`; its exit status."""
    try:
        return process.wait(HANGING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
