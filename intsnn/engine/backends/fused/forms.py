"""In which form the values of a program lie on the fused path, and which kernel a connection or a neuron takes.

``"bytes"``: small integers of every step, as spikes are. ``"codes"``: what comes in, where it is constant, too large
for bytes, or one of several. ``"values"``: int32 of every step; they are written when something reads them so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np

from ....formats.fixed import Overflow
from ....layers import primitives as P
from ....layers.base import fits
from ...program import Instruction, Program

__all__ = ["Forms", "connection", "covers", "is_plain"]

MOST_LISTED = 16  # in size, of the values of frames and of pooled spikes: they are listed that often


def connection(program: Program, name: str) -> P.Connect:
    """The primitive of a connection."""
    return cast(P.Connect, program[name].primitive)


def covers(connect: P.Connect) -> bool:
    """Whether a convolution is one window over its whole input: then it is a dense layer."""
    w = connect.window
    return (
        (w.kernel_height, w.kernel_width) == (w.height, w.width)
        and (w.out_height, w.out_width) == (1, 1)
        and (w.pad_top, w.pad_left) == (0, 0)
        and (w.dilation_y, w.dilation_x) == (1, 1)
        and w.groups == 1
    )


def _largest_row(weight: np.ndarray) -> int:
    """The largest sum of the sizes of all weights of an output."""
    rows = np.abs(weight.astype(np.int64)).reshape(len(weight), -1)
    safe = int(rows.max()) * rows.shape[1] < 1 << 62
    return int((rows if safe else rows.astype(object)).sum(axis=1).max())


def is_plain(instruction: Instruction) -> bool:
    """Whether neurons integrate and fire once a step, in a membrane that provably never overflows."""
    layer, bound = cast(P.Fire, instruction.primitive).neuron, instruction.output.bound
    if (
        bound.v_low is None
        or bound.v_high is None
        or layer.leaks
        or layer.max_spikes_per_step != 1
        or layer.compare != ">="
        or np.any(layer.bias)
        or layer.acc_format is not None
    ):
        return False
    symmetric = layer.v_overflow == Overflow.SAT_SYM and layer.v_format.signed
    lowest = -layer.v_format.max if symmetric else layer.v_format.min
    return lowest <= int(bound.v_low.min()) and int(bound.v_high.max()) <= layer.v_format.max


def _small(bound, most: int) -> bool:
    return -most <= int(bound.low.min()) and int(bound.high.max()) <= most


class Forms:
    """The forms of all values of `program`; `frames`: whether the input comes by steps."""

    def __init__(self, program: Program, frames: bool) -> None:
        self.program = program
        self._alone = len(program.network.inputs) == 1
        self.stationary = self._alone and not frames
        self._forms: dict[str, str] = {}
        self._roots: dict[str, str] = {}
        self._rows: dict[str, int] = {}  # `_largest_row` of connections
        small: dict[type[P.Primitive], Callable[[Instruction], str]] = {
            P.Feed: self._form_of_input, P.Fire: lambda instruction: "bytes", P.Reduce: self._form_of_pool,
            P.Copy: self._form_of_copy,
        }  # fmt: skip
        for instruction in program.instructions:
            form = small.get(type(instruction.primitive))
            self._forms[instruction.name] = form(instruction) if form else "values"

    def __getitem__(self, name: str) -> str:
        return self._forms[name]

    def root(self, name: str) -> str:
        """The value that `name` only puts in a row, else `name` itself."""
        return self._roots.get(name, name)

    def _form_of_input(self, instruction: Instruction) -> str:
        listed = self._alone and not self.stationary and _small(instruction.output.bound, MOST_LISTED)
        return "bytes" if listed else "codes"

    def _form_of_copy(self, instruction: Instruction) -> str:
        if self._in_a_row(instruction):
            (source,) = instruction.inputs
            self._roots[instruction.name] = self.root(source)
            return self._forms[source]
        return "bytes" if all(self._forms[source] == "bytes" for source in instruction.inputs) else "values"

    def _form_of_pool(self, instruction: Instruction) -> str:
        bound, pool = instruction.output.bound, cast(P.Reduce, instruction.primitive)
        if self._forms[instruction.inputs[0]] != "bytes":
            return "values"
        if pool.kind == "max":
            return "bytes" if _small(bound, 127) and fits(bound.total_low, bound.total_high, 16) else "values"
        readers = self.program.readers(instruction.name)
        listed = any(isinstance(reader.primitive, P.Connect | P.Reduce | P.Copy) for reader in readers)
        return "bytes" if listed and _small(bound, MOST_LISTED) else "values"

    def _in_a_row(self, copy: Instruction) -> bool:
        """Whether it keeps the order of a map, and only connections read it: they read the map."""
        if len(copy.inputs) != 1:
            return False
        places = cast(P.Copy, copy.primitive).places
        readers = self.program.readers(copy.name)
        in_order = places.ndim == 1 and np.array_equal(places, np.arange(self.program.size(copy.inputs[0])))
        return in_order and bool(readers) and all(isinstance(reader.primitive, P.Connect) for reader in readers)

    def source(self, name: str) -> str:
        """What a connection reads, through a flattening."""
        return self.root(self.program[name].inputs[0])

    def sources(self, name: str) -> list[str]:
        """What a copy reads; the order of a flattening matters only to connections."""
        return [self.root(source) for source in self.program[name].inputs]

    def reach(self, name: str, bound) -> int:
        """The largest sum of weights times inputs within `bound`, in size, before the multiplier of a connection."""
        if name not in self._rows:
            self._rows[name] = _largest_row(connection(self.program, name).weight)
        return self._rows[name] * max(-int(bound.low.min()), int(bound.high.max()))

    def is_wide(self, name: str) -> bool:
        """Whether the sums of a connection, as they are read, need more than 32 bits."""
        readers = self.program.readers(name)
        multiplied = all(isinstance(reader.primitive, P.Fire) and is_plain(reader) for reader in readers)  # by neurons
        bound = self.program.values[self.program[name].inputs[0]].bound
        return self.reach(name, bound) >= 1 << 31 or not (multiplied or self.program.holds(name, 32))

    def kernel(self, name: str) -> str:
        """How the sums of a connection are made.

        ``"lists"`` of bytes, ``"codes"`` that never change, ``"planes"`` (each channel for itself, in 16
        bits), or ``"general"``.
        """
        connect, source = connection(self.program, name), self.source(name)
        bound, window = self.program.values[source].bound, connect.window
        form = self._forms[source]
        if self.is_wide(name):
            return "general"
        narrow = int(np.abs(connect.weight).max()) <= 127
        if narrow and window.groups == 1 and window.dilation_x == 1:
            if form == "bytes" and _small(bound, MOST_LISTED):
                return "lists"
            if form == "codes" and self.stationary:
                return "codes"
        by_itself = window.groups == window.channels == window.out_channels > 1
        small = narrow and self.reach(name, bound) < 1 << 15
        return "planes" if form == "bytes" and by_itself and small else "general"
