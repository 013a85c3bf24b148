"""Samples by several threads: each takes some at a time from a queue."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["share"]

Held = TypeVar("Held")


def share(work: Callable[[Held, int, int], None], held: Sequence[Held], samples: int, grain: int) -> None:
    """``work(buffers, start, stop)`` of all samples, a thread for each of `held`; a slow core gets fewer of them.

    Raises what the first of them raised.
    """
    spans = itertools.count(0, grain)
    failures: list[BaseException] = []

    def loop(buffers: Held) -> None:
        try:
            while not failures:
                start = next(spans)
                if start >= samples:
                    return
                work(buffers, start, min(start + grain, samples))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=loop, args=(buffers,)) for buffers in held[1:]]
    for thread in threads:
        thread.start()
    loop(held[0])
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
