"""Where everything of a table of operations lies: what shares memory, and how large buffers have to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from ....kernels.fused.opcodes import Arena, Aside
from ....kernels.toolchain.arrays import zeros

__all__ = ["WIDTH", "Layout", "Wishes", "TableRow", "first_fit", "padded"]

WIDTH = 32  # of a tile, see intsnn.kernels.fused.tiles
BLOCK_BYTES = 5 << 17  # spikes, charges, states and lists of a block of samples
MOST_SAMPLES = 16  # of a block
NOTES = 32  # counters and first overflows of neurons


def padded(n: int) -> int:
    """`n` channels up to whole tiles."""
    return -(-n // WIDTH) * WIDTH


@dataclass
class TableRow:
    """One operation before addresses are known: fields by column, and what it reads and writes."""

    kind: str
    fields: dict[str, int]
    source: str | None = None  # value whose spikes are read
    target: str | None = None
    charge: str | None = None  # charge that is read or written
    values: str | None = None  # charge that is read besides
    wide_charge: str | None = None  # charge of 64 bits that is read or written
    states: int = 0  # membranes and counts that the operation keeps
    membranes: bool = False  # whether it has membranes even if nothing outlives a pass

    @property
    def flat(self) -> bool:
        """Whether samples can take the place of pixels."""
        f = self.fields
        single = f["HEIGHT"] * f["WIDTH_IN"] * f["OUT_HEIGHT"] * f["OUT_WIDTH"] * f["KERNEL_Y"] * f["KERNEL_X"] == 1
        return single and f["TOP"] == f["LEFT"] == 0  # else the only window lies in the padding


@dataclass
class Wishes:
    """Elements of the buffers that operations share, the largest wish of all."""

    flat: int = 1  # items of one window
    inputs: int = 1  # of a constant input of wide codes
    loose: int = 1
    wide: int = WIDTH
    lists: list[tuple[dict, int, int]] = field(default_factory=list)  # fields, repeats, items of a sample at most


class Layout:
    """Addresses in the fields of `steps`, and the buffers they point into.

    Parameters
    ----------
    steps : list of TableRow
    wishes : Wishes
    passes : tuple of int and bool
        Steps of one pass; whether states outlive it.
    source : str
        What comes in: its frames lie among the spikes.
    map_of : callable
        Height, width and padded channels of a value by name.
    tiles : module
        `intsnn.kernels.fused.tiles`.

    Attributes
    ----------
    split : int
        First operation of the tail.
    block : int
        Samples that go through the network together.
    input_slot, input_by : int
        Where the frames of the first sample go, and how far the next one is.
    """

    def __init__(
        self, steps: list[TableRow], wishes: Wishes, passes: tuple[int, bool], source: str,
        map_of: Callable[[str], tuple[int, int, int]], tiles,
    ) -> None:  # fmt: skip
        self.steps, self.wishes, self.tiles = steps, wishes, tiles
        self.chunk, self.kept = passes
        self.split = len(steps)
        while self.split and steps[self.split - 1].flat:
            self.split -= 1
        tail = steps[self.split :]
        for step in tail:
            step.fields["TAIL"] = 1
        self._shared: dict[str, int] = {}
        self._each: dict[str, int] = {}
        self._place_spikes({n for s in tail for n in (s.source, s.target) if n is not None}, source, map_of)
        self._place_charges({n for s in tail for n in (s.charge, s.values) if n is not None}, map_of)
        self._place_wide_charges({s.wide_charge for s in tail if s.wide_charge is not None}, map_of)
        self._place_states()
        lists = max((most for fields, _, most in wishes.lists if fields.get("TAIL")), default=0)
        each = self._each["spikes"] + 4 * (self._each["charge"] + lists) + 6 * self._each["states"]
        each += 8 * self._each["wide_charge"]
        self.block = MOST_SAMPLES
        while self.block > 1 and self.block * each > BLOCK_BYTES:
            self.block //= 2
        self._place_lists()

    def _place_spikes(self, together: set[str], source: str, map_of) -> None:
        """Addresses of spikes: those of `together` for each sample, the others where no two in use overlap."""
        lives = _lives((step.target, step.source) for step in self.steps)
        if source in lives:
            lives[source][0] = -1
        sizes = {node: _lined(self.chunk * int(np.prod(map_of(node)))) for node in lives}
        head = first_fit({n: (a, b, sizes[n]) for n, (a, b) in lives.items() if n not in together})
        shared = max((at + sizes[node] for node, at in head.items()), default=0)
        each = 0
        places: dict[str, tuple[int, int]] = {node: (at, 0) for node, at in head.items()}
        for node in (n for n in lives if n in together):
            places[node] = (shared + each, -1)
            each += sizes[node]
        self._shared["spikes"], self._each["spikes"] = shared, each
        places = {node: (at, each if by < 0 else 0) for node, (at, by) in places.items()}
        for step in self.steps:
            for used, word in ((step.source, "SOURCE"), (step.target, "TARGET")):
                if used is not None:
                    step.fields[word], step.fields[f"{word}_BY"] = places[used]
        self.input_slot, self.input_by = places.get(source, (0, 0))

    def _place_charges(self, together: set[str], map_of) -> None:
        """Addresses of charges; that of a constant input outlives the pass, if states do."""
        lives = _lives((step.charge, step.values) for step in self.steps)
        once = {step.charge for step in self.steps if step.kind == "CURRENT" and step.charge is not None}
        sizes = {}
        for name in lives:
            sizes[name] = _lined(int(np.prod(map_of(name))) * (1 if name in once else self.chunk))
        if self.kept:
            lives |= {name: [-1, len(self.steps)] for name in once}
        own = together | once if self.kept else together
        spans = {name: (begin, end, sizes[name]) for name, (begin, end) in lives.items()}
        head = first_fit({name: wish for name, wish in spans.items() if name not in own})
        tail = first_fit({name: wish for name, wish in spans.items() if name in own})
        shared, each = (max((at + sizes[n] for n, at in part.items()), default=0) for part in (head, tail))
        self._shared["charge"], self._each["charge"] = shared, each
        places = {name: (at, 0) for name, at in head.items()}
        places |= {name: (shared + at, each) for name, at in tail.items()}
        for step in self.steps:
            for read, word in ((step.charge, "EXTRA"), (step.values, "VALUES")):
                if read is not None:
                    step.fields[word], step.fields[f"{word}_BY"] = places[read]

    def _place_wide_charges(self, together: set[str], map_of) -> None:
        """Addresses of charge of 64 bits: a connection writes it, its neurons read it at once."""
        sizes = {
            s.wide_charge: _lined(self.chunk * int(np.prod(map_of(s.wide_charge)))) for s in self.steps if s.wide_charge
        }
        shared = max((size for name, size in sizes.items() if name not in together), default=0)
        each = max((size for name, size in sizes.items() if name in together), default=0)
        self._shared["wide_charge"], self._each["wide_charge"] = shared, each
        for step in self.steps:
            if step.wide_charge is not None:
                own = step.wide_charge in together
                step.fields |= {"EXTRA": shared if own else 0, "EXTRA_BY": each if own else 0}

    def _place_states(self) -> None:
        """Addresses of membranes and counts, for each sample if they are kept; the first ones nobody reads."""
        begin = 2 * WIDTH
        each = shared = 0
        for step in self.steps:
            if self.kept:
                step.fields["STATE"] = begin + each
                each += _lined(step.states)
            elif step.kind == "MAX_POOL" or step.membranes:
                step.fields["STATE"] = begin
                shared = max(shared, step.states)
        for step in self.steps:
            step.fields["STATE_BY"] = each
        self._shared["states"], self._each["states"] = begin + _lined(shared), each

    def _place_lists(self) -> None:
        """Wishes of the rings of lists, and the largest of everything that operations share."""
        items = offsets = 1
        slack = self.tiles.SLACK
        for fields, repeat, most in self.wishes.lists:
            times = self.block if fields.get("TAIL") else 1
            ring = 1 if fields.get("TAIL") else (fields["KERNEL_Y"] - 1) * fields["DILATION_Y"] + 1
            row = self.chunk * fields["WIDTH_IN"] * fields["CHANNELS"] * repeat
            size = min(row, most) * times + slack
            fields |= {"RING": ring, "RING_SIZE": size}
            items = max(items, ring * size + slack)
            offsets = max(offsets, ring * self.chunk * (fields["WIDTH_IN"] * times + 1) + 1)
        pad = 1
        for step in self.steps:
            f = step.fields
            times = 1 if step.kind == "CURRENT" else self.chunk
            times *= self.block if f.get("TAIL") else 1
            pad = max(pad, times * f.get("PADDED_HEIGHT", 0) * f.get("PADDED_WIDTH", 0) * f["CHANNELS"])
            if step.kind == "CURRENT":
                offsets = max(offsets, f["HEIGHT"] * f["WIDTH_IN"] + 1)
        self._list_sizes = {"items": items, "offsets": offsets, "pad": pad}

    def buffers(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """What one thread holds: that of `Arena` and of `Aside`."""
        tiles, block, wishes, steps = self.tiles, self.block, self.wishes, self.steps
        total = {word: self._shared[word] + block * self._each[word] for word in self._each}
        membranes = 2 * WIDTH + block * self._each["states"]
        if any(step.membranes for step in steps):
            membranes = total["states"]
        rows = tiles.DOT_ROWS * (self.chunk + 1)
        high = max(step.fields["KERNEL_Y"] for step in steps)
        wide = membranes if any(step.fields.get("WIDE") for step in steps) else 0
        arena = Arena(
            spikes=zeros(total["spikes"] + tiles.SLACK, np.int8),
            membranes=zeros(membranes + WIDTH, np.int32),
            wide_membranes=zeros(wide + WIDTH, np.int64),
            counts=zeros(total["states"] + WIDTH, np.int16),
            charge=zeros(total["charge"] + WIDTH, np.int32),
            wide_charge=zeros(total["wide_charge"], np.int64),
            lists=zeros(self._list_sizes["items"], np.uint32),
            list_offsets=zeros(self._list_sizes["offsets"], np.int64),
            window=zeros(wishes.flat + 2 * tiles.SLACK, np.uint32),
            addresses=zeros(max(rows, high), np.int64),
            sums=zeros(max(rows * tiles.DOT_WIDTH, self.chunk * 8 * WIDTH, wishes.wide), np.int32),
            padded_spikes=zeros(self._list_sizes["pad"] + tiles.SLACK, tiles.DOT_TYPE),
            notes=zeros(NOTES, np.int64),
        )
        aside = Aside(
            input_indices=zeros(wishes.inputs, np.int32),
            input_values=zeros(wishes.inputs, np.int32),
            no_bias=zeros(wishes.wide, np.int32),
            input_charge=zeros(wishes.loose, np.int32),
            samples=zeros(block, np.int64),
            turn=zeros(1, np.int64),
        )
        return tuple(arena), tuple(aside)


def _lives(used: Iterable[tuple[str | None, ...]]) -> dict[str, list[int]]:
    """First and last use of each name, counted in operations."""
    lives: dict[str, list[int]] = {}
    for i, names in enumerate(used):
        for name in names:
            if name is not None:
                lives.setdefault(name, [i, i])[1] = i
    return lives


def _lined(size: int) -> int:
    """`size` up to whole cache lines of bytes."""
    return -(-size // 64) * 64


def first_fit(wishes: dict[str, tuple[int, int, int]]) -> dict[str, int]:
    """An address for each (first use, last use, size), such that what is in use at the same time does not overlap."""
    placed: dict[str, int] = {}
    for name, (begin, end, size) in sorted(wishes.items(), key=lambda wish: -wish[1][2]):
        taken = sorted(
            (placed[other], placed[other] + wishes[other][2])
            for other in placed
            if wishes[other][0] <= end and begin <= wishes[other][1]
        )
        at = 0
        for low, high in taken:
            if at + size <= low:
                break
            at = max(at, high)
        placed[name] = at
    return placed
