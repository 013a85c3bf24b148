"""A program of totals as a table of operations with flat constants: what `intsnn.kernels.count.interpreter` interprets.

Every network that has an integer ANN has such a table. Values of a step between layers lie as bytes or 16 bits where
their proven ranges and the weights that meet them allow it, charges in 32 bits; whatever needs more goes the way of 64
bits, which is slower and gives the same integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np

from ....kernels.count.opcodes import (
    BYTES,
    LONGS,
    SHORTS,
    WORDS,
    After,
    CountArena,
    CountConstants,
    CountKind,
    CountOperation,
)
from ....kernels.toolchain.arrays import zeros
from ....layers import primitives as P
from ...program import Program
from .drafts import ChargeSums, OperationDraft
from .places import Slot, SlotLayout
from .pools import ConstantPools, padded_channels
from .scales import find_scales
from .view import CountView
from .windows import WindowReading, border_of, copied_runs, dense_over

__all__ = ["CountTable"]

MOST_ROWS = 8  # of a group of pixels
LARGEST_TABLE = 4096  # L up to which every level is looked at


class CountTable:
    """CountTable of operations and flat constants for one program of totals.

    Parameters
    ----------
    program : Program
        Of a schedule of totals.
    constant : mapping of input name to bool
        Whether an input is the same in every driven step (then its codes go in as they are).
    keep : bool
        Whether the levels of all spiking layers are wanted.

    Attributes
    ----------
    constants : tuple
        What `CountConstants` of ``intsnn.kernels.count.opcodes`` holds, as `run_totals` takes it.
    block : int
        Samples that go through the tail together.
    loads : array int64
        As in `CountInlet`.
    dtypes : dict of class to dtype
        Of the arrays that come in.
    inputs : dict of name to (class, first column, factor)
        How the codes of an input go in, and what they are worth.
    outputs, kept : dict of name to int
        First column of every output, and of every layer that is kept.
    """

    def __init__(self, program: Program, constant: dict[str, bool], keep: bool) -> None:
        from ....kernels.count import interpreter, vectors

        self._interpreter, self._vectors = interpreter, vectors
        self.program, self.network, self.constant = program, program.network, constant
        # without products of bytes nothing is one, and kernels are not compiled for them
        small = np.uint8 if 4 in vectors.FORMS else np.int16
        self.dtypes = {kind: np.dtype(dtype) for kind, dtype in ((BYTES, small), (SHORTS, np.int16), (LONGS, np.int64))}
        self._pools = ConstantPools()
        self._layout, self._steps = SlotLayout(), cast(list[OperationDraft], [])
        self._slots: dict[str, Slot] = {}
        self._pools.longest = max(64, *(math.prod(value.shape[:1]) for value in program.values.values()))
        self.outputs = _columns(self.network, self.network.outputs)
        self.kept = _columns(self.network, self.network.spiking if keep else ())
        self._view = CountView(program, constant, {*self.outputs, *self.kept}, vectors.FORMS)
        self.inputs: dict[str, tuple[int, int, int]] = {}
        for instruction in program.instructions:
            if not self._view.joined(instruction.name):
                lay_out: Any = self._FORMS[type(instruction.primitive)]
                lay_out(self, instruction.name, instruction.primitive)
                self._hand_out(instruction.name)
        self._lay_out()

    # -- operations ------------------------------------------------------------------------------

    def _slot(self, name: str) -> Slot:
        """Where a value lies."""
        if name not in self._slots:
            self._slots[name] = self._layout.add(Slot(self._view.classes[name], *self._view.shape(name)))
        return self._slots[name]

    def _levels(self, level: P.Level, sums: ChargeSums, some: slice, divide: bool) -> dict[str, int]:
        """What makes levels of sums, those of the channels `some` of the layer; `divide`: sums have 64 bits."""
        channels = len(sums.multiplier)
        start, threshold = (
            values if values.ndim == 0 else values[some]
            for values in map(np.asarray, (level.v_initial, level.threshold))
        )
        start = start.astype(object) + sums.bias
        threshold = np.broadcast_to(threshold, (channels,))
        fields = {"BOTTOM_LEVEL": level.bottom, "TOP_LEVEL": level.top, "PADDED": padded_channels(channels)}
        ends = (level.bottom, level.top)
        small = level.top - level.bottom <= LARGEST_TABLE and not divide
        scales = find_scales(sums.multiplier, start, threshold, ends, sums.low, sums.high) if small else None
        if scales is None:
            return fields | {
                "AFTER": After.DIVIDE, "MULTIPLIER": self._pools.channels(sums.multiplier, channels),
                "BIAS": self._pools.channels(start, channels),
                "THRESHOLD": self._pools.channels(threshold, channels, 1),
            }  # fmt: skip
        rows = np.zeros((4, padded_channels(channels)), np.int64)
        rows[:, :channels] = scales.low, scales.high, scales.factor, scales.shift
        offsets = np.zeros(padded_channels(channels), np.int64)
        offsets[:channels] = scales.offset
        # even channels of a vector, then odd ones
        apart = offsets.reshape(-1, self._vectors.STEP // 2, 2).transpose(0, 2, 1)
        numbers = (rows & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
        return fields | {
            "AFTER": After.LEVEL,
            "SCALES": self._pools.put("numbers", numbers),
            "OFFSETS": self._pools.put("big", apart),
        }

    # -- operations ------------------------------------------------------------------------------

    def _add(
        self, kind: CountKind, fields: dict[str, int], source: Slot | None, target: Slot | None, late=None
    ) -> OperationDraft:
        step = OperationDraft(kind, fields, source, target, late)
        self._steps.append(step)
        return step

    def _feed(self, name: str, feed: P.Feed) -> None:
        slot = self._slot(name)
        slot.shared = False
        used = [column + math.prod(self._view.shape(other)) for other, (kind, column, _) in self.inputs.items()
                if kind == slot.kind]  # fmt: skip
        self.inputs[name] = (slot.kind, max(used, default=0), self._view.factor(name))

    def _fire(self, name: str, level: P.Level) -> None:
        (feeding,) = self.program[name].inputs
        target = self._slot(name)
        if self._view.joined(feeding) and isinstance(self.program[feeding].primitive, P.Sum):
            self._join(feeding, level, target)
            return
        if self._view.joined(feeding):
            self._connect(feeding, partial(self._levels, level), target)
            return
        source, channels = self._slot(self._view.source(name)), self._view.shape(name)[2]
        ones, nothing = np.ones(channels, object), np.zeros(channels, object)
        low, high = (np.broadcast_to(part, (channels,)) for part in self.program.range(feeding))
        sums = ChargeSums(ones, ones, nothing, low, high)
        fields = self._levels(level, sums, slice(None), source.kind != WORDS)
        self._add(CountKind.LEVEL, fields | self._map_of(name), source, target)

    def _map_of(self, name: str) -> dict[str, int]:
        height, width, channels = self._view.shape(name)
        return {"OUT_HEIGHT": height, "OUT_WIDTH": width, "CHANNELS": channels}

    def _charge(self, name: str, primitive: P.Primitive) -> None:
        """A sum of branches, or one of them that is wanted for itself."""
        self._branches(name, self.program[name].inputs if isinstance(primitive, P.Sum) else (name,))

    def _branches(self, name: str, branches: Sequence[str], first: bool = True) -> None:
        """Charges of `name`: those of the branches, added up; `first`: nothing lies there yet."""
        target = self._slot(name)
        for at, branch in enumerate(branches):
            found, writes = self.program[branch].primitive, int(first and at == 0)
            along = branch == name or self._view.joined(branch)
            if isinstance(found, P.Connect) and along:
                self._connect(branch, partial(self._charges, writes, target.kind == WORDS), target)
                continue
            scales = isinstance(found, P.Times) and along
            factor = cast(P.Times, found).factor if scales else 1
            source = self._slot(self._view.source(branch) if scales else branch)
            small = target.kind == WORDS and source.kind in (BYTES, SHORTS)
            fields = {
                "FIRST": writes,
                "MULTIPLIER": self._pools.channels(factor, self._view.shape(branch)[2], small=small),
            }
            self._add(CountKind.ADD, fields | self._map_of(name), source, target)

    def _join(self, name: str, level: P.Level, target: Slot) -> None:
        """Levels of a sum of branches: the charges of all but one, and the sums of that one in registers."""
        branches, last = list(self.program[name].inputs), cast(str, self._view.last_of(name))
        branches.remove(last)
        self._branches(name, branches)
        channels = self._view.shape(name)[2]
        low, high = (np.broadcast_to(part, (channels,)) for part in self.program.range(name))
        whole = ChargeSums(np.ones(channels), np.ones(channels, object), np.zeros(channels, object), low, high)

        fields = self._levels(level, whole, slice(None), False)
        if fields["AFTER"] != After.LEVEL:  # all of them to charges, and a division
            self._branches(name, [last], first=False)
            self._add(CountKind.LEVEL, fields | self._map_of(name), self._slot(name), target)
            return
        step = self._connect(last, lambda sums, some, wide: fields | self._affine(sums, small=True), target)
        step.fields["AFTER"], step.joined = After.JOIN, self._slot(name)

    def _charges(self, writes: int, words: bool, sums: ChargeSums, some: slice, wide: bool) -> dict[str, int]:
        """What makes charges of sums, in 32 bits (`words`) or 64."""
        return {"AFTER": After.CHARGE, "FIRST": writes, **self._affine(sums, small=words and not wide)}

    def _answers(self, sums: ChargeSums, some: slice, wide: bool) -> dict[str, int]:
        """What makes outputs of sums."""
        return {"AFTER": After.OUTPUT, **self._affine(sums)}

    def _affine(self, sums: ChargeSums, small: bool = False) -> dict[str, int]:
        """Factors and biases; `small`: modulo 2**32, for charges that fit."""
        channels = len(sums.multiplier)
        return {
            "MULTIPLIER": self._pools.channels(sums.multiplier, channels, small=small),
            "BIAS": self._pools.channels(sums.bias, channels, small=small), "PADDED": padded_channels(channels),
        }  # fmt: skip

    def _pool(self, name: str, reduce: P.Reduce) -> None:
        source, target, w = self._slot(self._view.source(name)), self._slot(name), reduce.window
        fields = self._map_of(name) | {
            "HEIGHT": w.height, "WIDTH": w.width, "KERNEL_Y": w.kernel_height, "KERNEL_X": w.kernel_width,
            "STRIDE_Y": w.stride_y, "STRIDE_X": w.stride_x, "TOP": w.pad_top, "LEFT": w.pad_left,
        }  # fmt: skip
        self._add(CountKind.MOST if reduce.kind == "max" else CountKind.TOTAL, fields, source, target)

    def _copy(self, name: str, copy: P.Copy) -> None:
        target, begin = self._slot(name), 0
        for at in range(len(self.program[name].inputs)):
            reads = self._view.source(name, at)
            size, shape = self.program.size(reads), self.program.values[reads].shape
            wanted = (copy.places >= begin) & (copy.places < begin + size)
            wanted |= (copy.places < 0) & (at == 0)  # zeros are written once
            places = np.where(copy.places < 0, -1, copy.places - begin)
            late = partial(self._runs, places, shape, self._slot(reads), target, wanted)
            if wanted.any():
                self._add(CountKind.COPY, self._map_of(name), self._slot(reads), target, late)
            begin += size

    def _runs(
        self, places: np.ndarray, shape: tuple[int, ...], source: Slot, target: Slot, wanted: np.ndarray, _: dict
    ) -> dict[str, int]:
        """Runs of a copy, once it is known where both lie."""
        runs = copied_runs(places, shape, source, target, wanted)
        self._pools.longest = max(self._pools.longest, int(runs[:, 2].max()))
        return {"RUNS": self._pools.put("big", runs), "RUN_COUNT": len(runs)}

    def _total(self, name: str, _: P.Accumulate) -> None:
        """A readout: its total is what the ANN gives."""
        (feeding,) = self.program[name].inputs
        if not isinstance(self.program[feeding].primitive, P.Connect) or not self._view.joined(feeding):
            self._slots[name] = self._slot(self._view.source(name))
            return
        self._connect(feeding, self._answers, None, self.outputs[name])

    def _hand_out(self, name: str) -> None:
        """What is kept of a value, and what goes out."""
        for columns, kind in ((self.outputs, CountKind.OUTPUT), (self.kept, CountKind.KEEP)):
            if name in columns and name in self._slots:
                fields = self._map_of(name) | {"TARGET": columns[name]}
                self._add(kind, fields, self._slots[name], None)

    # -- connections -----------------------------------------------------------------------------

    def _connect(
        self,
        name: str,
        after: Callable[[ChargeSums, slice, bool], dict[str, int]],
        target: Slot | None,
        column: int = 0,
    ) -> OperationDraft:
        """The connection `name`, group by group, and what becomes of its sums; in the outputs from `column` on."""
        connect, sums = cast(P.Connect, self.program[name].primitive), self._view.sums(name)
        (reading,) = self.program[name].inputs
        seen, w = self._view.source(name), connect.window
        source, (height, width, channels) = self._slot(seen), self._view.shape(name)
        dense = len(self.program.values[reading].shape) == 1
        groups = 1 if dense else w.groups
        weight = dense_over(sums.weight, self.program.values[seen].shape) if dense else sums.weight
        if not dense:
            source.widen(border_of(w))
        kind = self._view.form(name)
        each, narrow = kind == CountKind.DEPTHWISE, kind != CountKind.WIDE
        size = channels if each else channels // groups
        for group in range(0, channels, size):
            some = slice(group, group + size)
            first = 0 if each else group // size * weight.shape[1]
            reading_of = WindowReading(
                weight[some], (w.dilation_y, w.dilation_x), (0, 0) if dense else (w.pad_top, w.pad_left), first
            )
            fields = {
                "CHANNELS": size, "OUT_HEIGHT": height, "OUT_WIDTH": width, "STRIDE_Y": w.stride_y,
                "STRIDE_X": w.stride_x, "TARGET_PIXEL": channels, **after(sums.part(some), some, not narrow),
            }  # fmt: skip
            if target is None:
                fields["TARGET"] = column + group
            put = {CountKind.DEPTHWISE: self._pools.each, CountKind.CONNECT: self._pools.tiles}.get(
                kind, self._pools.wide
            )
            step = self._add(kind, fields, source, target, partial(put, source, reading_of))
            step.target_from = group
        return step

    # -- addresses -------------------------------------------------------------------------------

    def _clears(self) -> None:
        """Borders are cleared before something is written to a map; that of an input nothing else overwrites."""
        steps, begun = [], set()
        for step in self._steps:
            slot = step.target
            if slot is not None and slot.shared and any(slot.border) and id(slot) not in begun:
                top, below, left, right = slot.border
                fields = {
                    "TOP": top, "KERNEL_Y": below, "LEFT": left * slot.channels, "KERNEL_X": right * slot.channels,
                    "HEIGHT": slot.height, "CHANNELS": slot.row,
                }  # fmt: skip
                steps.append(OperationDraft(CountKind.CLEAR, fields, None, slot, None, -slot.origin))
            begun.add(id(slot))
            steps.append(step)
        self._steps = steps

    def _lay_out(self) -> None:
        self._clears()
        steps = self._steps
        for i, step in enumerate(steps):
            if step.late is not None:
                step.fields |= step.late(step.fields)
            for used in step.slots:
                used.first, used.last = (i if used.first < 0 else used.first), i
        split = len(steps)
        while split and steps[split - 1].flat:
            split -= 1
        tail = steps[split:]
        self._sizes = self._layout.place({id(slot) for s in tail for slot in s.slots})
        table = np.zeros((len(steps), len(CountOperation)), np.int64)
        for i, step in enumerate(steps):
            fields = {"TAIL": int(i >= split), **step.fields}
            if i >= split:  # samples lie side by side
                fields |= {"STRIDE_Y": 1, "STRIDE_X": 1}
            for slot, word in ((step.source, "SOURCE"), (step.target, "TARGET"), (step.joined, "JOINED")):
                if slot is not None:
                    begin = slot.at + slot.origin + (step.target_from if word == "TARGET" else 0)
                    fields |= {word: begin, f"{word}_ROW": slot.row, f"{word}_BY": slot.by}
                    if word != "JOINED":
                        fields[f"{word}_CLASS"] = slot.kind
                    whole = step.kind in (CountKind.OUTPUT, CountKind.KEEP)  # maps, of which every pixel is wanted
                    fields[f"{word}_PIXEL"] = slot.by if i >= split and not whole else slot.channels
            if step.target is None and i >= split:
                fields["TARGET_PIXEL"] = 0
            table[i, CountOperation.KIND] = step.kind
            if step.kind == CountKind.CONNECT:
                fields |= self._pixels(fields, step, i >= split)
            for word, value in fields.items():
                table[i, CountOperation[word]] = value
        plain = all(self._interpreter.is_plain_count(row) for row in table)
        self.run_totals = self._interpreter.run_plain_totals if plain else self._interpreter.run_totals
        self.block = self._layout.block
        self.constants = tuple(CountConstants(table, split, self.block, *self._pools.arrays()))
        self.loads = np.zeros((len(self.inputs), 7), np.int64)
        for load, (name, (kind, column, _)) in zip(self.loads, self.inputs.items(), strict=True):
            s = self._slots[name]
            load[:] = kind, column, s.at + s.origin, s.row, s.by, s.height, s.width * s.channels
        del self._steps

    def _pixels(self, fields: dict[str, int], step: OperationDraft, tail: bool) -> dict[str, int]:
        """Where windows, their results and the charges that join them begin, pixel by pixel; of the tail by sample."""
        if tail:
            y, x = np.zeros(self._layout.block, np.int64), np.arange(self._layout.block)
        else:
            y, x = (part.reshape(-1) for part in np.indices((fields["OUT_HEIGHT"], fields["OUT_WIDTH"])))
        rows = [
            y * fields["SOURCE_ROW"] * fields["STRIDE_Y"] + x * fields["SOURCE_PIXEL"] * fields["STRIDE_X"],
            y * fields.get("TARGET_ROW", 0) + x * fields["TARGET_PIXEL"],
            y * fields.get("JOINED_ROW", 0) + x * fields.get("JOINED_PIXEL", 0),
        ]
        if step.target is None and not tail:  # outputs lie one behind the other
            rows[1] = np.arange(len(y)) * fields["TARGET_PIXEL"]
        span = len(y) + MOST_ROWS
        return {
            "PIXELS": self._pools.put("numbers", [np.pad(row, (0, MOST_ROWS), "edge") for row in rows]),
            "SPAN": span,
        }

    def buffers(self) -> tuple[np.ndarray, ...]:
        """What one thread holds: that of `CountArena`."""
        return tuple(
            CountArena(
                bytes_=zeros(self._sizes[BYTES], self.dtypes[BYTES]),
                shorts=zeros(self._sizes[SHORTS], np.int16),
                words=zeros(self._sizes[WORDS], np.int32),
                longs=zeros(self._sizes[LONGS], np.int64),
                sums=zeros(self._pools.widest, np.int32),
                row=zeros(self._pools.longest + 64, np.int64),
                wide=zeros(self._pools.longest + 64, np.int64),
            )
        )

    _FORMS = {
        P.Feed: _feed, P.Connect: _charge, P.Times: _charge, P.Sum: _charge, P.Level: _fire, P.Reduce: _pool,
        P.Copy: _copy, P.Accumulate: _total,
    }  # fmt: skip


def _columns(network, names) -> dict[str, int]:
    """Columns of the values `names`, one after the other."""
    found, at = {}, 0
    for name in names:
        found[name] = at
        at += math.prod(network.shapes[name])
    return found
