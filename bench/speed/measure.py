"""How fast is the fused runner against other simulators, in the same process and the same minute?

Every workload gets a process of its own. There the outputs are compared first; then rounds go through all candidates in
turn, each called a few times, and a ratio is formed within each round: what disturbs the machine disturbs both sides of
it. Reported are medians over rounds, and the smallest and largest ratio.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from ...analysis.memory.process import forget_peak, peak_so_far, resident
from ...errors import FormatError, IntsnnError, MismatchError, UnsupportedError
from ...support.version import __version__
from .count import prepare_count
from .peaks import peaks
from .peers import PEERS, Absent, absent, prepare_peer
from .workloads import NAMES, Workload, build

__all__ = ["REAL", "SCALING", "machine", "measure", "run", "selected_peers"]

INT8 = "onnxruntime-int8"  # the peer that the count path is held against
SECONDS = 0.1  # that a candidate is called for in a round
MOST_CALLS = 500
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

# What varies, its name in the table, the workload, and the options of `build` for each point.
SCALING: dict[str, tuple[str, list[tuple[float, dict[str, Any]]]]] = {
    "steps": ("lenet-b64", [(n, {"steps": n, "batch": 8}) for n in (1, 2, 4, 8, 16, 32)]),
    "batch": ("mlp-b256", [(n, {"batch": n}) for n in (1, 4, 16, 64, 256)]),
    "width": ("mlp-b256", [(round(1024 * w), {"width": w, "batch": 16}) for w in (0.125, 0.25, 0.5, 1, 2)]),
    "density": ("mlp-b256", [(d, {"rate": d, "density": d, "batch": 16}) for d in (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)]),
}
SCALING_PEERS = ("torch-step", "torch-folded")

# Trained Keras networks below $INTSNN_DATA/models/keras: file, converter options, calibration and test data.
REAL: dict[str, tuple[str, str | None, str, str]] = {
    "real-mlp": ("mlp_98.15.h5", None, "mnist:train:500", "mnist:test:64"),
    "real-lenet5": ("lenet5_keras_99.14.h5", None, "mnist:train:500", "mnist:test:64"),
    "real-fashion-cnn": ("fashion_cnn.keras", None, "fashion-mnist:train:500", "fashion-mnist:test:64"),
}
REAL_PEERS = ("torch-step", "torch-folded")


def selected_peers(names: Sequence[str] | None) -> list[str]:
    """Peers by name, all by default; `FormatError` for one that is none."""
    for name in names or ():
        if name not in PEERS:
            raise FormatError(f"peers: found {name!r}; choose from {', '.join(PEERS)}")
    return list(names) if names is not None else list(PEERS)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model, flags = platform.processor() or platform.machine(), []
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() in ("flags", "Features"):
                wanted = ("avx2", "avx512bw", "avx512_vnni", "avx_vnni", "asimd", "asimddp")
                flags = [flag for flag in wanted if flag in value.split()]
    except OSError:
        pass
    import importlib.metadata

    from ...kernels.toolchain import tier as cpu

    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "flags": flags,
        "kernels": cpu.reason(),
        "intsnn": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": importlib.metadata.version("numba"),
        "peers": {name: peer.version for name, peer in PEERS.items() if absent(peer) is None},
    }


# ---------------------------------------------------------------------------------------------------------------------
# time and memory
# ---------------------------------------------------------------------------------------------------------------------


def _grown(function: Callable[[], Any]) -> tuple[Any, int | None]:
    """What `function` answers, and by how many bytes resident memory grew at most while it ran."""
    before = resident()
    forgotten = forget_peak()
    result = function()
    peak = peak_so_far()
    return result, None if before is None or peak is None or not forgotten else max(0, peak - before)


def _seconds(call: Callable, inputs: np.ndarray, calls: int) -> float:
    """Median time of some calls."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call(inputs)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def interleave(calls: dict[str, Callable], inputs: np.ndarray, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds of a call of every candidate in every round; every other round goes backwards."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    counts = {name: 1 for name in calls}
    for name, call in calls.items():  # everything is warm, and about how long it takes is known
        call(inputs)
        estimate = _seconds(call, inputs, 1)
        counts[name] = max(1, min(MOST_CALLS, math.ceil(seconds / max(estimate, 1e-9))))
    for number in range(rounds):
        for name in list(calls)[:: 1 if number % 2 == 0 else -1]:
            times[name].append(_seconds(calls[name], inputs, counts[name]))
    return times


# ---------------------------------------------------------------------------------------------------------------------
# one workload, in this process
# ---------------------------------------------------------------------------------------------------------------------


def _real(name: str) -> Workload:
    """A trained network of $INTSNN_DATA in integers of 8 and 4 bits, and test images."""
    from ...conversion.pipeline import convert_float
    from ...conversion.spikes import NeuronRule
    from ...datasets import catalogue as datasets
    from ...engine.simulation import simulate
    from ...models.keras import load as keras
    from .evaluate import EXACT, Evaluation

    file, backend, learn, test = REAL[name]
    root = Path(os.environ.get("INTSNN_DATA", ""))
    network = keras.load(root / "models" / "keras" / file, backend=backend)
    found = convert_float(network, datasets.load(learn), rule=NeuronRule(), weight_bits=8, activation_bits=4)
    integers, inputs = found.conversion.network, datasets.load(test).images
    shape = integers.shapes[integers.input_name]
    inputs = np.ascontiguousarray(inputs).reshape(len(inputs), *shape)
    steps = cast(int, integers.t_drive)  # of every converted network
    layers = simulate(integers, inputs[:8], steps=steps).layers.values()
    peak = max(max(layer.peak_sum, layer.peak_v) for layer in layers)
    precision = "float64" if 8 * peak >= EXACT else "float32"  # other samples reach further than these
    nothing = Evaluation(np.zeros((0, 0), np.int64))
    return Workload(name, integers, inputs, steps, nothing, {"file": file, "steps": steps}, precision)


def _speedup(many: Callable, alone: Callable, inputs: np.ndarray, threads: int, rounds: int, seconds: float) -> dict:
    """Time of one thread by that of `threads`, in rounds of their own."""
    both = {"many": many, "alone": lambda inputs: alone(inputs).outputs}
    times = interleave(both, inputs, rounds, seconds)
    ratios = [one / shared for one, shared in zip(times["alone"], times["many"], strict=True)]
    one, shared = (1e3 * statistics.median(times[name]) for name in ("alone", "many"))
    return {
        "threads": threads, "one_thread_ms": one, "ms": shared, "ratio": statistics.median(ratios),
        "spread": [min(ratios), max(ratios)],
    }  # fmt: skip


def measure(
    name: str,
    *,
    peers: Sequence[str],
    rounds: int,
    threads: int = 1,
    seconds: float = SECONDS,
    options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Time one workload in this process.

    Parameters
    ----------
    name : str
        Of `workloads.NAMES` or of `REAL`.
    peers : sequence of str
        Which to compare with; absent ones are listed as absent.
    rounds, threads, seconds
        Rounds over all candidates; threads of each; how long a candidate is called in a round.
    options : dict
        Further arguments of `workloads.build`.

    Returns
    -------
    dict
        ``rows`` as in the JSON of the command, ``absent``, ``unsupported``, and facts about the workload.

    Raises
    ------
    MismatchError
        If our own outputs are not those of `intsnn.bench.speed.evaluate`.
    """
    workload = _real(name) if name in REAL else build(name, **(options or {}))
    own = _Ours(workload, name in REAL, threads)
    ours, grown = _grown(lambda: own(workload.inputs))
    rates = _check(name, workload, ours)
    speedup = None
    if threads > 1 and not own.not_fused:  # before the peers are here: their threads spin for a while after each call
        speedup = _speedup(own, own.alone(), workload.inputs, threads, rounds, seconds)
    others = _Others(workload, peers, threads, ours)
    count: dict[str, Callable] = {}
    if INT8 in others.calls and name not in REAL:
        try:
            count["count"] = prepare_count(workload, threads)
        except UnsupportedError as error:  # leaks have no integer ANN
            others.unsupported["count"] = str(error)
    times = interleave({"intsnn": own, **others.calls, **count}, workload.inputs, rounds, seconds)
    mine = times["intsnn"]
    rows = [{"workload": name, "threads": threads, **others.row(peer, mine, times[peer])} for peer in others.calls]
    if count:
        row = others.row(INT8, times["count"], times[INT8])
        rows.append({"workload": name, "threads": threads, **row, "kind": "count"})
    buffers = own.runner.buffers()
    known = bool(workload.expected.synops)
    found = {
        "workload": name,
        "settings": workload.settings,
        "precision": workload.precision,
        "samples": workload.batch,
        "steps": workload.steps,
        "rows": rows,
        "absent": others.missing,
        "unsupported": others.unsupported,
        "not_fused": own.not_fused,
        "rates": rates,
        "macs_per_step": workload.macs if known else None,
        "synops_per_sample": workload.synops if known else None,
        "synops_per_second": workload.synops * workload.batch / statistics.median(mine) if known else None,
        "ours_ms": 1e3 * statistics.median(mine),
        "products_per_second": workload.macs * workload.batch / statistics.median(times["count"]) if count else None,
        "count_ms": 1e3 * statistics.median(times["count"]) if count else None,
        "ours_ms_spread": [1e3 * min(mine), 1e3 * max(mine)],
        "first_call_s": own.first_seconds,
        "memory": grown,
        "buffers": buffers,
        "buffer_bytes": sum(buffers.values()),
        "weights": sum(layer.weight.size for layer in workload.network.nodes.values() if hasattr(layer, "weight")),
    }
    return found | ({"speedup": speedup} if speedup else {})


class _Ours:
    """Our outputs for some inputs: of the fused runner, or where a real network has no fused form of `simulate`."""

    def __init__(self, workload: Workload, real: bool, threads: int) -> None:
        from ...engine.backends.fused.runner import prepare

        self.workload, self.threads = workload, threads
        few = workload.inputs[: min(2, len(workload.inputs))] if workload.constant else workload.inputs[:, :2]
        start = time.perf_counter()
        self.runner = prepare(workload.network, steps=workload.steps, threads=threads)
        self.not_fused: str | None = None
        try:
            self.runner(few)
        except UnsupportedError as error:
            if not real:
                raise
            self.not_fused = str(error)
        self(few)
        self.first_seconds = time.perf_counter() - start

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        from ...engine.simulation import simulate

        if self.not_fused:
            return simulate(
                self.workload.network, inputs, steps=self.workload.steps, threads=self.threads
            ).outputs  # fmt: skip
        return self.runner(inputs).outputs

    def alone(self) -> Callable:
        """The same runner with one thread."""
        from ...engine.backends.fused.runner import prepare

        return prepare(self.workload.network, steps=self.workload.steps)


def _check(name: str, workload: Workload, ours: np.ndarray) -> dict[str, float]:
    """Rates of the layers, after a look at our outputs.

    Raises
    ------
    MismatchError
        Outputs other than those of the evaluation, or of `simulate` for a real network.
    """
    from ...engine.simulation import simulate

    expected = workload.expected.outputs
    if len(expected) and not np.array_equal(ours[: len(expected)], expected):
        raise MismatchError(f"{name}: outputs of the runner differ from the evaluation in float32")
    if name not in REAL:
        return workload.expected.rates
    result = simulate(workload.network, workload.inputs, steps=workload.steps)
    if not np.array_equal(result.outputs, ours):
        raise MismatchError(f"{name}: outputs of the runner differ from those of simulate")
    neurons = {layer: result.layers[layer] for layer in workload.network.neurons}
    samples_steps = len(workload.inputs) * workload.steps
    return {key: layer.spikes / (layer.neurons * samples_steps) for key, layer in neurons.items()}


class _Others:
    """The peers that can do a workload, with what is known of each before the rounds begin."""

    def __init__(self, workload: Workload, peers: Sequence[str], threads: int, ours: np.ndarray) -> None:
        self.calls: dict[str, Callable] = {}
        self.missing: dict[str, str] = {}
        self.unsupported: dict[str, str] = {}
        self.memory: dict[str, int | None] = {}
        self.equal: dict[str, bool | None] = {}
        for peer in (PEERS[peer] for peer in peers):
            try:
                call = prepare_peer(peer, workload, threads)
                outputs, self.memory[peer.name] = _grown(partial(call, workload.inputs))
            except Absent as error:
                self.missing[peer.name] = str(error)
                continue
            except UnsupportedError as error:
                self.unsupported[peer.name] = str(error)
                continue
            self.equal[peer.name] = None if peer.kind != "snn" else bool(np.array_equal(outputs, ours))
            self.calls[peer.name] = call

    def row(self, name: str, mine: list[float], times: list[float]) -> dict[str, Any]:
        """How long a peer takes, by our times in the same rounds."""
        ratios = [other / own for other, own in zip(times, mine, strict=True)]
        return {
            "peer": name, "kind": PEERS[name].kind, "ratio": statistics.median(ratios),
            "spread": [min(ratios), max(ratios)], "ours_ms": 1e3 * statistics.median(mine),
            "peer_ms": 1e3 * statistics.median(times), "ours_ms_min": 1e3 * min(mine), "peer_ms_min": 1e3 * min(times),
            "equal": self.equal[name], "memory": self.memory[name],
        }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# all of them, each in a process of its own
# ---------------------------------------------------------------------------------------------------------------------


def _in_process(job: dict[str, Any]) -> dict[str, Any]:
    """`measure` in a fresh process with its thread count pinned."""
    root = Path(__file__).resolve().parents[2]
    if (root / "intsnn" / "__init__.py").is_file():  # a source tree
        parent = root
    else:
        parent = root.parent
    path = os.pathsep.join([str(parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    pinned = {variable: str(job["threads"]) for variable in THREAD_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "intsnn.bench.speed.measure", json.dumps(job)],
        capture_output=True,
        text=True,
        env=os.environ | pinned | {"PYTHONPATH": path},
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        lines = done.stderr.strip().splitlines()
        what = lines[-1] if lines else f"ended with status {done.returncode}"
        raise UnsupportedError(f"{job['name']}: the process that measures failed: {what}") from None
    if "error" in answer:
        kind = MismatchError if answer["kind"] == "MismatchError" else UnsupportedError
        raise kind(answer["error"])
    return answer


def run(
    workloads: Sequence[str] | None = None,
    *,
    rounds: int = 9,
    threads: int = 1,
    peers: Sequence[str] | None = None,
    seconds: float = SECONDS,
    scaling: bool = False,
    real: bool = False,
    options: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Time the workloads (all by default) against the peers (all by default), a process for each workload.

    Returns
    -------
    dict
        JSON values: ``rows`` (``workload, threads, peer, kind, ratio, spread, ours_ms, peer_ms, ...``; the ratio is
        that of the peer's time to ours), ``workloads``, ``scaling``, ``absent`` (peer to reason), ``machine``.

    Raises
    ------
    FormatError
        For names that are none and numbers that cannot be.
    MismatchError
        If outputs that have to be equal are not.
    """
    for name in workloads or ():
        if name not in NAMES and name not in REAL:
            raise FormatError(f"workload: found {name!r}; choose from {', '.join([*NAMES, *REAL])}")
    if rounds < 1 or threads < 1 or seconds <= 0:
        raise FormatError("speed: rounds and threads are at least 1, seconds above 0")
    chosen = selected_peers(peers)
    names = list(NAMES if workloads is None else dict.fromkeys(workloads))
    missing: dict[str, str] = {}
    if real:
        if os.environ.get("INTSNN_DATA"):
            names += [name for name in REAL if name not in names]
        else:
            missing["real networks"] = "INTSNN_DATA is not set"
    missing |= {name: reason for name in chosen if (reason := absent(PEERS[name]))}
    common = {"rounds": rounds, "threads": threads, "seconds": seconds}
    jobs: list[tuple[str | None, float | None, dict]] = []
    for name in names:
        some = [p for p in chosen if p in REAL_PEERS] if name in REAL else chosen
        jobs.append((None, None, {"name": name, "peers": some, "options": options or {}, **common}))
    if scaling:
        some = [p for p in chosen if p in SCALING_PEERS]
        for varied, (name, points) in SCALING.items():
            for point, changes in points:
                changed = (options or {}) | changes
                jobs.append((varied, point, {"name": name, "peers": some, "options": changed, **common}))
    rows: list[dict] = []
    facts: list[dict] = []
    curves: list[dict] = []
    for done, (axis, value, job) in enumerate(jobs):
        if progress:
            progress(done, len(jobs))
        found = _in_process(job)
        missing |= found["absent"]
        if axis is None:
            rows += found.pop("rows")
            facts.append(found)
        else:
            curves.append({"axis": axis, "value": value, **found})
    if progress:
        progress(len(jobs), len(jobs))
    wrong = [f"{row['workload']} ({row['peer']})" for row in rows if row["equal"] is False]
    if wrong:
        raise MismatchError(f"outputs differ from ours: {', '.join(wrong)}")
    return {
        "rows": rows, "workloads": facts, "scaling": curves, "absent": missing,
        "machine": machine() | {"peaks": peaks()},
        "settings": {"rounds": rounds, "threads": threads, "seconds": seconds, "peers": chosen},
    }  # fmt: skip


def _main(text: str) -> None:
    """The child: one job in, one line of JSON out."""
    job = json.loads(text)
    try:
        answer = measure(job.pop("name"), **job)
    except IntsnnError as error:
        answer = {"error": str(error), "kind": type(error).__name__}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    _main(sys.argv[1])
