"""What can one core of this machine do at most? Products, additions and bytes read a second, measured now.

Beside the figures of a workload they say how near it is to the machine, whatever the machine is.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

__all__ = ["READ", "peaks"]

READ = {
    "16 KiB": 1 << 14,
    "256 KiB": 1 << 18,
    "4 MiB": 1 << 22,
    "128 MiB": 1 << 27,
}  # bytes that are read again and again
SECONDS = 0.05  # of a trial
TRIALS = 5


def _best(call, work: float) -> float:
    """Most work a second in some trials of `call`, which does `work` each time; 0 where it cannot be measured."""
    call()
    start = time.perf_counter()
    call()
    calls = max(1, int(SECONDS / max(time.perf_counter() - start, 1e-9)))
    best = float("inf")
    for _ in range(TRIALS):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        best = min(best, (time.perf_counter() - start) / calls)
    return work / best


def _products() -> float:
    """Products of the dot products that the count path makes, weights and data in the first cache."""
    from ...kernels.count import vectors as v
    from ...kernels.toolchain.jit import kernel

    depth, rounds, length = v.FORMS[0], 200, 256
    dots = v.dots_6_64

    @kernel
    def work(arrays, at, rounds):
        for _ in range(rounds):
            dots(arrays, at)

    kind = np.uint8 if depth == 4 else np.int16
    arrays = v.DotArrays(
        np.ones(8 * length, kind), v.pack_tile(np.ones((length, 64), np.int64), depth), np.arange(64, dtype=np.int32),
        np.zeros(8, np.int64), np.zeros(8, np.int32), np.zeros(v.MOST_SUMS, np.int32), np.zeros(8, kind),
    )  # fmt: skip
    at = v.DotLevelPlaces(0, 0, 0, 0, 6, 0, 0, 1, length, 0, 0, 0, 0, 0, 64, 0, 64)
    return _best(lambda: work(arrays, at, rounds), rounds * 6 * 64 * length)


def _additions() -> float:
    """Additions of weights of 8 bits by lists, as the runner makes them, the rows in the first cache."""
    from ...kernels.fused.rows import SPARE, Room, few_of, gather, pack_rows
    from ...kernels.fused.tiles import UNIT
    from ...kernels.toolchain.jit import kernel

    @kernel
    def work(sums, rows, items, count, room, rounds):
        for _ in range(rounds):
            gather(256, sums, 0, rows, 0, items, count, room)

    count, rounds, some = 128, 200, 16
    items = np.concatenate([np.arange(count) % some, np.full(SPARE, some)]).astype(np.uint32) * UNIT
    rows = pack_rows(np.ones((some + 1, 256), np.int8), few_of(127))
    sums, room = np.zeros(256, np.int32), Room((1 << 15) // 127 // 4 * 4, few_of(127))
    return _best(lambda: work(sums, rows, items, count, room, rounds), rounds * count * 256)


def _read(size: int) -> float:
    """Bytes read a second from an array of `size` bytes."""
    from ...kernels.toolchain.jit import kernel

    @kernel
    def work(values, rounds):
        total = np.int64(0)
        for _ in range(rounds):
            for i in range(values.size):
                total += values[i]
        return total

    rounds = max(1, (1 << 22) // size)
    values = np.ones(size // 8, np.int64)
    return _best(lambda: work(values, rounds), rounds * size)


def peaks() -> dict[str, Any]:
    """``products`` and ``additions`` a second of one core, and ``read``: bytes a second by the size that is read."""
    return {
        "products": _products(), "additions": _additions(), "read": {name: _read(size) for name, size in READ.items()}
    }  # fmt: skip
