"""One operation of a table before addresses are known, and the sums that a connection makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ....kernels.count.opcodes import CountKind
from .places import Slot

__all__ = ["OperationDraft", "ChargeSums"]


@dataclass
class OperationDraft:
    """One operation before addresses are known; `late` adds what depends on borders."""

    kind: CountKind
    fields: dict[str, int]
    source: Slot | None = None
    target: Slot | None = None
    late: Callable[[dict[str, int]], dict[str, int]] | None = None
    target_from: int = 0  # elements behind the first one of the target
    joined: Slot | None = None  # charges that join the sums

    @property
    def slots(self) -> list[Slot]:
        """All that it reads and writes."""
        return [slot for slot in (self.source, self.target, self.joined) if slot is not None]

    @property
    def flat(self) -> bool:
        """Whether samples can take the place of pixels."""
        if self.kind in (CountKind.OUTPUT, CountKind.KEEP):
            return True
        if self.kind in (CountKind.DEPTHWISE, CountKind.MOST, CountKind.TOTAL, CountKind.CLEAR):
            return False
        if self.kind in (CountKind.LEVEL, CountKind.ADD):
            return all(slot.height * slot.width == 1 for slot in self.slots)
        return self.fields["OUT_HEIGHT"] * self.fields["OUT_WIDTH"] == 1


@dataclass(frozen=True, eq=False)
class ChargeSums:
    """Sums of weights ``(O, I / groups, kh, kw)`` that go with factors of at least 0; numbers are Python integers."""

    weight: np.ndarray
    multiplier: np.ndarray
    bias: np.ndarray  # of the whole drive
    low: np.ndarray  # ends of the sums before the factor
    high: np.ndarray

    def part(self, some: slice) -> ChargeSums:
        """Those of a group of outputs."""
        return ChargeSums(*(values[some] for values in (self.weight, self.multiplier, self.bias, self.low, self.high)))
