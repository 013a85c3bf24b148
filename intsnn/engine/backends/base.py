"""What is asked of a run, and what a backend is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ...layers.schedule import Schedule
from ..inputs import Source
from ..program import Program
from ..result import Result
from ..state import State

__all__ = ["WANTS", "Backend", "Request"]

WANTS = ("outputs", "reports", "records", "final", "state")


@dataclass(frozen=True, eq=False)
class Request:
    """A run that has been checked.

    Attributes
    ----------
    program : Program
    sources : mapping of input name to Source
    settle, strict : bool
    threads, seed : int
    batch_size : int or None
    wants : set of str
        Of `WANTS`: what the result has to hold.
    record : mapping of layer to quantities
    recorder : callable or None
        Makes what takes the records block by block instead of memory.
    start : State or None
        Where it goes on from.
    progress : callable or None
    """

    program: Program
    sources: Mapping[str, Source]
    settle: bool = False
    strict: bool = False
    threads: int = 1
    seed: int = 0
    batch_size: int | None = None
    wants: frozenset[str] = frozenset({"outputs"})
    record: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recorder: Callable[[Any], Any] | None = None
    start: State | None = None
    progress: Callable[[int, int], None] | None = None

    @property
    def schedule(self) -> Schedule:
        """When it is driven, and how long it lasts."""
        return self.program.schedule

    @property
    def needs(self) -> frozenset[str]:
        """What a backend has to give: what is wanted, states where the run goes on from one, reports if strict."""
        more = {"state": self.start is not None, "reports": self.strict}
        return self.wants | {word for word, is_needed in more.items() if is_needed}

    @property
    def samples(self) -> int:
        """Number of samples."""
        return next(iter(self.sources.values())).samples

    @property
    def frames(self) -> bool:
        """Whether an input comes by steps."""
        return any(not source.constant for source in self.sources.values())

    @property
    def input_steps(self) -> int:
        """Steps of an input with a time axis that are looked at."""
        began = 0 if self.start is None else self.start.step
        driven = self.schedule.driven - began
        return min([driven, *(source.steps for source in self.sources.values() if source.steps is not None)])

    def inputs(self, name: str, start: int, stop: int) -> np.ndarray:
        """What went into some samples: ``(B, *shape)`` constant codes, or ``(B, T, *shape)`` of the driven steps."""
        source = self.sources[name]
        raw = source.raw(start, stop)
        shape = source.layer.shape
        if source.constant:
            return raw.reshape(raw.shape[1], *shape)
        return raw[: self.input_steps].swapaxes(0, 1).reshape(raw.shape[1], -1, *shape)


class Backend(Protocol):
    """A way to run a program: same integers, other speed."""

    @property
    def name(self) -> str:
        """How it is called."""

    @property
    def gives(self) -> frozenset[str]:
        """What of `WANTS` it can give."""

    def refuses(self, program: Program, frames: bool) -> str | None:
        """Why it does not take `program`, or None; `frames`: whether an input comes by steps."""

    def run(self, request: Request) -> Result:
        """Do what is asked."""
