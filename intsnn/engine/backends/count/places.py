"""Where do the values of a program lie: in which array, with which border, and which of them share memory?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ....kernels.count.opcodes import BYTES, LONGS, SHORTS, WORDS

__all__ = ["SlotLayout", "Slot"]

SIZES = {BYTES: 1, SHORTS: 2, WORDS: 4, LONGS: 8}
LINE = 64  # elements that slots begin at a multiple of
SLACK = 4096  # elements behind an array that vectors may read
BLOCK_BYTES = 1 << 19  # values of a block of samples
MOST_SAMPLES = 64  # of a block


@dataclass(eq=False)
class Slot:
    """A value ``(H, W, C)``: its array, and a border around it (top, bottom, left, right)."""

    kind: int
    height: int
    width: int
    channels: int
    border: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    at: int = 0
    by: int = 0  # from sample to sample of a block; 0: all lie at one place
    first: int = -1  # operation that uses it first, and last
    last: int = -1
    shared: bool = True  # whether others may lie there before and after

    def widen(self, border: Iterable[int]) -> None:
        """Let windows reach so far."""
        self.border = [max(pair) for pair in zip(self.border, border, strict=True)]

    @property
    def row(self) -> int:
        """Elements of a row, with its border."""
        return (self.border[2] + self.width + self.border[3]) * self.channels

    @property
    def size(self) -> int:
        """Elements of the whole."""
        return (self.border[0] + self.height + self.border[1]) * self.row

    @property
    def origin(self) -> int:
        """First element of the map, from where the slot begins."""
        return self.border[0] * self.row + self.border[2] * self.channels


class SlotLayout:
    """All slots, with their addresses once `place` was called.

    Attributes
    ----------
    block : int
        Samples that lie side by side.
    """

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self.block = 1

    def add(self, slot: Slot) -> Slot:
        """One more."""
        self.slots.append(slot)
        return slot

    def place(self, together: set[int]) -> dict[int, int]:
        """Give addresses, to slots whose ids are `together` one for each sample; how large the arrays have to be."""
        groups = {kind: [s for s in self.slots if s.kind == kind] for kind in SIZES}
        each = {kind: sum(_lined(s.size) for s in slots if id(s) in together) for kind, slots in groups.items()}
        held = sum(each[kind] * size for kind, size in SIZES.items())
        self.block = MOST_SAMPLES
        while self.block > 1 and self.block * held > BLOCK_BYTES:
            self.block //= 2
        sizes = {}
        for kind, slots in groups.items():
            at = 0
            for slot in slots:
                if id(slot) in together:
                    slot.at, slot.by = at, each[kind]
                    at += _lined(slot.size)
            begin = self.block * each[kind]
            sizes[kind] = begin + _first_fit([s for s in slots if id(s) not in together], begin) + SLACK
        return sizes


def _lined(size: int) -> int:
    return -(-size // LINE) * LINE


def _first_fit(slots: list[Slot], begin: int) -> int:
    """Addresses from `begin` on such that what is in use at the same time does not overlap; the size of all."""
    placed: list[Slot] = []
    end = 0
    for slot in sorted(slots, key=lambda s: -s.size):
        first, last = (slot.first, slot.last) if slot.shared else (-1, 1 << 60)
        taken = sorted(
            (other.at, other.at + _lined(other.size))
            for other in placed
            if not other.shared or (other.first <= last and first <= other.last)
        )
        at = begin
        for low, high in taken:
            if at + _lined(slot.size) <= low:
                break
            at = max(at, high)
        slot.at = at
        placed.append(slot)
        end = max(end, at + _lined(slot.size) - begin)
    return end
