"""How fast is a learning step, against the same quantised step in torch float32?

The dense step is: outer product of traces and errors over a batch, normalisation by a power of two, random rounding,
new master and forward weights, clipped. torch does it twice: as one writes it, and with every operation in place. Both
give exactly our integers when they are handed our random numbers; timed, each side draws its own. Candidates are called
in turn, and ratios are formed within a round.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import MismatchError
from ...kernels.learning.parameters import COUNTERS, DRAW_WEIGHT
from ...learning.constants import layer_constants
from ...learning.learner import Conv, Dense, Learner, LearningNetwork, Rule
from ...support.pipes import say

__all__ = ["dense", "gesture_network", "main", "network"]

SIZE, BATCH = 1024, 64


def gesture_network(rule: Rule | None = None) -> LearningNetwork:
    """The network of Schaefer & Joshi (2020) for DVS Gesture."""
    layers = (Conv(64, 7, 2, pool=2), Conv(128, 7, 2), Conv(128, 7, 2, pool=2))
    return LearningNetwork((2, 32, 32), layers, 11, rule or Rule.corrected())


class _Ours:
    """Kernels and arrays of one dense layer."""

    def __init__(self, size: int, batch: int) -> None:
        from ...kernels.learning import compiled as learn
        from ...kernels.learning import dense as learn_dense
        from ...kernels.learning import sums as learn_connect
        from ...kernels.toolchain.arrays import zeros

        self.learn, self.connect, self.dense = learn, learn_connect, learn_dense
        rng = np.random.default_rng(0)
        constants = layer_constants(LearningNetwork((size,), (Dense(size),), 10, Rule.corrected()), 0, 0)
        self.c, self.window = constants.parameters, constants.window
        self.p = rng.integers(0, 2000, (batch, size)).astype(np.int16)
        self.e = rng.integers(-self.c.error_max, self.c.error_max + 1, (batch, size)).astype(np.int8)
        self.master = zeros((size, size), np.int16)
        self.master[:] = rng.integers(-511, 512, (size, size))
        self.weight = zeros((size, size), np.int8)
        self.gradient = np.zeros((1, 1, size, size), np.int32)
        self.scratch = learn_dense.scratch(batch, size, size)
        self.counters = np.zeros(COUNTERS, np.int64)
        self.exponent = int(np.abs(self.p.T.astype(np.int64) @ self.e).max())
        self.exponent = int(learn.exponent(self.exponent))

    def own(self) -> None:
        """The gradient is normalised by its own exponent: two passes over tiles, no gradient is stored."""
        self.dense.lay_out(self.p, self.e, self.scratch)
        coarsely = self.dense.coarse(self.e, self.c, self.scratch)
        peak = self.dense.dense_peak(self.scratch, self.c, coarsely, 0, 1)
        self._step(int(self.learn.exponent(peak)), peak)

    def previous(self) -> None:
        """By the exponent of the step before: one pass."""
        self.dense.lay_out(self.p, self.e, self.scratch)
        self._step(self.exponent)

    def _step(self, shift: int, peak: int = -1) -> None:
        self.dense.dense_step(
            self.scratch, shift, peak, self.c, 1, DRAW_WEIGHT, 0, 1, self.master, self.weight, self.counters
        )  # fmt: skip

    def stored(self) -> None:
        """Through a gradient in memory, as convolutions do."""
        self.gradient[:] = 0
        self.connect.accumulate(self.p, self.e, self.window, BATCH, 0, 1, self.gradient)
        shift = int(self.learn.exponent(self.learn.largest(self.gradient)))
        self.learn.update(
            self.master.reshape(-1), self.gradient.reshape(-1), shift, self.c, 1, DRAW_WEIGHT, self.weight.reshape(-1),
            self.counters,
        )  # fmt: skip


class _Torch:
    """The same step on float32 tensors; integers below 2**24 are exact."""

    def __init__(self, ours: _Ours, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.torch = torch
        self.p, self.e = torch.tensor(ours.p.astype(np.float32)), torch.tensor(ours.e.astype(np.float32))
        self.master = torch.tensor(ours.master.astype(np.float32))
        self.weight, self.buffer = torch.empty_like(self.master), torch.empty_like(self.master)
        self.noise: Any = None  # random numbers 0 .. 65535, None: drawn

    def matmul(self) -> None:
        """The outer product alone."""
        self.torch.matmul(self.p.t(), self.e)

    def plain(self) -> None:
        """As one writes it."""
        torch = self.torch
        gradient = self.p.t() @ self.e
        shift = torch.round(torch.log2(gradient.abs().max()))
        noise = torch.floor(torch.rand(gradient.shape) * 65536) if self.noise is None else self.noise
        n = torch.floor((torch.floor(gradient * 2.0 ** (16 - shift)) + noise) / 65536)
        self.master = torch.clamp(self.master - n, -511, 511)
        self.weight = torch.clamp(torch.round(self.master / 4), -127, 127)

    def in_place(self) -> None:
        """With every operation in place, and the largest value in two reductions."""
        torch = self.torch
        torch.matmul(self.p.t(), self.e, out=self.buffer)
        shift = round(math.log2(max(float(self.buffer.max()), -float(self.buffer.min()))))
        noise = self.weight.random_(0, 65536) if self.noise is None else self.noise
        self.buffer.mul_(2.0 ** (16 - shift)).floor_().add_(noise).mul_(1 / 65536).floor_()
        self.master.sub_(self.buffer).clamp_(-511, 511)
        torch.mul(self.master, 0.25, out=self.weight).round_().clamp_(-127, 127)


def _check(ours: _Ours, other: _Torch) -> None:
    """All ways give the same weights from the same random numbers."""
    size = ours.master.shape[0]
    words = np.empty(size * size // 4, np.uint64)
    ours.learn.random_words(ours.c.seed, 1, ours.c.layer, DRAW_WEIGHT, 0, words)
    noise = words.astype("<u8").view("<u2").reshape(size, size).astype(np.float32)
    start = ours.master.copy()
    expected: list[np.ndarray] = []
    for owner, name in ((ours, "stored"), (ours, "own"), (ours, "previous"), (other, "plain"), (other, "in_place")):
        ours.master[:] = start
        other.master, other.noise = other.torch.tensor(start.astype(np.float32)), other.torch.tensor(noise)
        getattr(owner, name)()
        found = [np.asarray(x).astype(np.int64) for x in (owner.master, owner.weight)]
        expected = expected or found
        if not all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True)):
            raise MismatchError(f"the learning step {type(owner).__name__}.{name} gives other weights")
    other.noise = None


def _rounds(candidates: dict[str, Callable[[], None]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds of a call of each candidate in every round."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for call in candidates.values():
        call()
    for number in range(rounds):
        names = list(candidates)
        for name in names if number % 2 == 0 else reversed(names):
            call, best, spent = candidates[name], math.inf, 0.0
            while spent < seconds:
                begin = time.perf_counter()
                call()
                took = time.perf_counter() - begin
                best, spent = min(best, took), spent + took
            times[name].append(best)
    return times


def dense(rounds: int = 9, seconds: float = 0.1, size: int = SIZE, batch: int = BATCH) -> dict[str, Any]:
    """The learning step of a dense layer, one thread.

    Returns
    -------
    dict
        ``times`` (milliseconds: median and least over rounds) by way, and ``ratios`` of torch to ours, formed
        within rounds: median, least, greatest.
    """
    ours = _Ours(size, batch)
    other = _Torch(ours, 1)
    _check(ours, other)
    candidates = {
        "ours, exponent of the step before": ours.previous,
        "ours, own exponent": ours.own,
        "ours, gradient stored": ours.stored,
        "torch": other.plain,
        "torch, in place": other.in_place,
        "torch, outer product alone": other.matmul,
    }
    times = _rounds(candidates, rounds, seconds)
    ratios = {}
    for mine in list(candidates)[:3]:
        for theirs in list(candidates)[3:]:
            each = [b / a for a, b in zip(times[mine], times[theirs], strict=True)]
            ratios[f"{theirs} / {mine}"] = (statistics.median(each), min(each), max(each))
    return {
        "size": size, "batch": batch, "rounds": rounds,
        "times": {name: (1e3 * statistics.median(x), 1e3 * min(x)) for name, x in times.items()},
        "ratios": ratios,
    }  # fmt: skip


def network(batch: int = 8, steps: int = 30, threads: int = 1, density: float = 0.02, rule: Rule | None = None) -> dict:
    """Learning steps of the published network per second, on random events of the given density.

    Times the steps after the burn-in; the forward pass alone is timed beside them.
    """
    rule = rule or Rule.corrected(burn_in=0)
    learner = Learner(gesture_network(rule), seed=0, threads=threads)
    rng, labels = np.random.default_rng(0), np.arange(batch) % 11
    frames = (rng.random((16, batch, 2, 32, 32)) < density).astype(np.uint8)
    state, watched = learner.begin(batch), learner.begin(batch)
    for frame in frames[:6]:
        learner.learn(state, frame, labels)
        learner.watch(watched, frame)
    learning, watching = [], []
    for t in range(steps):
        begin = time.perf_counter()
        learner.learn(state, frames[t % 16], labels)
        middle = time.perf_counter()
        learner.watch(watched, frames[t % 16])
        learning.append(middle - begin)
        watching.append(time.perf_counter() - middle)
    active = [float(np.mean(p != 0)) for p in state.p]
    return {
        "batch": batch, "threads": threads, "steps_per_second": 1 / statistics.median(learning),
        "best_steps_per_second": 1 / min(learning), "forward_steps_per_second": 1 / statistics.median(watching),
        "active_traces": active,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Print times and ratios; ``--json FILE`` keeps them."""
    parser = argparse.ArgumentParser(prog="python -m intsnn.bench.learning.speed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each candidate in a round")
    parser.add_argument("--steps", type=int, default=30, help="timed steps of the published network; 0: none")
    parser.add_argument("--batch", type=int, default=8, help="of the published network")
    parser.add_argument("--threads", type=int, default=1, help="of the published network")
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args(arguments)
    found: dict[str, Any] = {"dense": dense(given.rounds, given.seconds)}
    say(f"dense {SIZE}x{SIZE}, batch {BATCH}, one thread, {given.rounds} rounds; milliseconds: median, least")
    for name, (median, least) in found["dense"]["times"].items():
        say(f"  {name:<40} {median:9.3f} {least:9.3f}")
    say("ratios within a round: median (least .. greatest)")
    for name, (median, least, most) in found["dense"]["ratios"].items():
        say(f"  {name:<75} {median:6.2f} ({least:.2f} .. {most:.2f})")
    if given.steps:
        found["network"] = network(given.batch, given.steps, given.threads)
        for name, value in found["network"].items():
            say(f"  {name}: {value}")
    if given.json:
        from ...support.atomic import replacing

        with replacing(given.json) as temporary, open(temporary, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=2)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
