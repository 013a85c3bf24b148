"""How much memory does a whole process take that runs a network?

A child process loads the network, runs one sample (which compiles or loads the kernels), and then all of them. What is
read is its resident memory: everything in it counts, Python, NumPy, the compiler and compiled code too. That is why the
figure before the run stands beside the peak.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from ...errors import IntsnnError, UnsupportedError
from ...files.network_file import load, save
from ...network.spiking import Network

__all__ = ["forget_peak", "lifelong_peak", "peak_memory", "peak_so_far", "resident"]

STATUS, CLEAR = "/proc/self/status", "/proc/self/clear_refs"
RESET_PEAK = "5"  # see proc(5)


def peak_memory(
    network,
    inputs,
    *,
    steps: int | None = None,
    settle: bool = False,
    threads: int = 1,
    time_axis: int | None = None,
    timeout: float | None = None,
) -> dict[str, Any]:
    """Run `network` on `inputs` in a process of its own and say how much memory that took.

    Parameters
    ----------
    network, inputs, steps, settle, threads, time_axis
        As in `intsnn.simulate`.
    timeout : float, optional
        Seconds; no limit if not given.

    Returns
    -------
    dict
        ``how`` (what was read), ``imported_bytes`` (Python with intsnn, before anything is loaded), ``ready_bytes``
        (network and inputs loaded, kernels compiled, one sample run), ``peak_bytes`` (most that the process took during
        the run), ``run_bytes`` (peak less ready, at least 0), ``samples``, ``threads``. Where the system does not tell,
        ``imported_bytes``, ``ready_bytes`` and ``run_bytes`` are None and the peak is that of the child's whole life.

    Raises
    ------
    UnsupportedError
        The system tells nothing about the memory of a process.
    IntsnnError
        The child failed or took too long.
    """
    options = {"steps": steps, "settle": settle, "threads": threads, "time_axis": time_axis}
    with tempfile.TemporaryDirectory(prefix="intsnn-") as folder:
        save(network, os.path.join(folder, "network.h5"))
        with open(os.path.join(folder, "inputs"), "wb") as file:  # our own, read by our own child
            pickle.dump((inputs, options), file)
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import _child; _child({folder!r})"
        root = os.fspath(Path(__file__).resolve().parents[3])
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        try:
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout,
                env={**os.environ, "PYTHONPATH": paths},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise IntsnnError(f"peak memory: the run took longer than {timeout:g} s; give fewer samples") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise IntsnnError(f"peak memory: the process that runs the network failed: {last}")
    found = json.loads(done.stdout)
    if found["peak_bytes"] is None:
        raise UnsupportedError(f"peak memory: {sys.platform} tells nothing about the memory of a process")
    return found


def resident() -> int | None:
    """Bytes of this process that lie in memory; None where the system does not tell."""
    return _status("VmRSS")


def forget_peak() -> bool:
    """Make the peak so far forgotten; whether the system can."""
    try:
        with open(CLEAR, "w", encoding="ascii") as file:
            file.write(RESET_PEAK)
    except OSError:
        return False
    return True


def peak_so_far() -> int | None:
    """Most bytes that lay in memory since `forget_peak`; None where the system does not tell."""
    return _status("VmHWM")


def _status(name: str) -> int | None:
    """A line of /proc/self/status in bytes, or None."""
    try:
        with open(STATUS, encoding="ascii") as file:
            for line in file:
                if line.startswith(name + ":"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def lifelong_peak() -> int | None:
    """Peak by `resource`, which on Linux may be that of the parent before the child was started."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _child(folder: str) -> None:
    from ...engine.inputs import Source
    from ...engine.simulation import simulate

    imported = _status("VmRSS")
    network = cast(Network, load(os.path.join(folder, "network.h5"), trust=True))
    with open(os.path.join(folder, "inputs"), "rb") as file:
        inputs, options = pickle.load(file)
    source = Source(network.nodes[network.input_name], inputs, options["time_axis"])
    if source.samples:
        first = source.raw(0, 1)
        first = first.reshape(*first.shape[:2], *source.layer.shape)
        simulate(network, first[0] if source.constant else first, **{**options, "time_axis": None})
    ready = resident()
    resets = forget_peak()
    simulate(network, inputs, **options)
    peak = peak_so_far() if resets else None
    found: dict[str, Any] = {"samples": source.samples, "threads": options["threads"]}
    if imported is None or ready is None or peak is None:
        names = ("imported_bytes", "ready_bytes", "run_bytes")
        found |= {"how": "ru_maxrss of a process of its own", "peak_bytes": lifelong_peak(), **dict.fromkeys(names)}
    else:
        found |= {
            "how": "VmHWM of a process of its own", "imported_bytes": imported, "ready_bytes": ready,
            "peak_bytes": peak, "run_bytes": max(0, peak - ready),
        }  # fmt: skip
    print(json.dumps(found))
