"""How a program of totals is taken apart: what is computed along with what reads it, and how wide every value lies."""

from __future__ import annotations

from typing import cast

import numpy as np

from ....kernels.count.opcodes import BYTES, LONGS, SHORTS, WORDS, CountKind
from ....layers import primitives as P
from ...program import Instruction, Program
from .drafts import ChargeSums
from .windows import fit_bytes

__all__ = ["CountView"]

# Primitives that can be computed along with what reads them.
ALONG = {P.Connect: (P.Level, P.Accumulate, P.Sum), P.Sum: (P.Level,), P.Times: (P.Sum,)}
SIGNED = {16: (-32767, 32767), 32: (-(1 << 31), (1 << 31) - 1)}


def _within(low: int, high: int, bits: int) -> bool:
    return SIGNED[bits][0] <= low and high <= SIGNED[bits][1]


class CountView:
    """Answers about the values of a program.

    Parameters
    ----------
    program : Program
        Of a schedule of totals.
    constant : mapping of input name to bool
    wanted : set of str
        Values that go out or are kept: nothing computes these along the way.
    forms : sequence of int
        Products of a lane that there are, 4 of bytes and 2 of 16 bits.

    Attributes
    ----------
    classes : dict of name to int
        The array of every value.
    """

    def __init__(self, program: Program, constant: dict[str, bool], wanted: set[str], forms: tuple[int, ...]) -> None:
        self.program, self.constant, self._wanted, self._forms = program, constant, wanted, forms
        self._known: dict[str, ChargeSums] = {}
        self.classes = {name: self.class_of(name) for name in program.values}

    def source(self, name: str, at: int = 0) -> str:
        """What the instruction reads; a flattening that only dense layers read is looked through."""
        source = self.program[name].inputs[at]
        return self.program[source].inputs[0] if self.relabels(source) else source

    def relabels(self, name: str) -> bool:
        """Whether it is a flattening of which only connections see the order."""
        primitive = self.program[name].primitive
        if not isinstance(primitive, P.Copy) or len(self.program.values[name].shape) != 1:
            return False
        if len(self.program[name].inputs) != 1:
            return False
        in_order = np.array_equal(
            primitive.places.reshape(-1), np.arange(self.program.size(self.program[name].inputs[0]))
        )
        answers = name in self._wanted
        return in_order and not answers and all(isinstance(r.primitive, P.Connect) for r in self.program.readers(name))

    def joined(self, name: str) -> bool:
        """Whether what reads it computes it along the way."""
        if self.relabels(name):
            return True
        readers = self.program.readers(name)
        if len(readers) != 1 or name in self._wanted:
            return False
        (reader,), primitive = readers, self.program[name].primitive
        along = isinstance(reader.primitive, ALONG.get(type(primitive), ()))
        return along and (not isinstance(primitive, P.Sum) or self.last_of(name) is not None)

    def last_of(self, name: str) -> str | None:
        """Of a sum, the last branch whose sums can be joined by the others' charges in registers."""
        (reader,) = self.program.readers(name)
        if self.classes[name] != WORDS:
            return None
        for branch in reversed(self.program[name].inputs):
            connect = self.program[branch].primitive
            if isinstance(connect, P.Connect) and connect.window.groups == 1 and self.joined(branch):
                alike = self.classes[self.source(branch)] == self.classes[reader.name]
                if alike and self.form(branch) == CountKind.CONNECT:
                    return branch
        return None

    def form(self, name: str) -> CountKind:
        """How a connection runs."""
        connect, sums = cast(P.Connect, self.program[name].primitive), self.sums(name)
        (reading,), groups = self.program[name].inputs, connect.window.groups
        ends = (*connect.weight.reshape(-1)[[connect.weight.argmin(), connect.weight.argmax()]].tolist(), 0)
        small = _within(int(sums.low.min()), int(sums.high.max()), 32) and max(map(abs, ends)) <= SIGNED[16][1]
        if not small or self.classes[self.source(name)] not in (BYTES, SHORTS):
            return CountKind.WIDE
        flat = len(self.program.values[reading].shape) == 1
        each = not flat and groups > 1 and groups == connect.window.channels == len(connect.weight)
        return CountKind.DEPTHWISE if each else CountKind.CONNECT

    def readers(self, name: str) -> list[Instruction]:
        """Instructions that read a value, behind a flattening too."""
        found: list[Instruction] = []
        for reader in self.program.readers(name):
            found += self.program.readers(reader.name) if self.relabels(reader.name) else [reader]
        return found

    def range(self, name: str) -> tuple[int, int]:
        """Ends of a value as it lies here: codes of a constant input count once."""
        primitive = self.program[name].primitive
        if isinstance(primitive, P.Feed) and self.factor(name) != 1:
            return min(0, primitive.input.low), max(0, primitive.input.high)
        low, high = self.program.range(name)
        return int(low.min()), int(high.max())

    def factor(self, name: str) -> int:
        """How often the codes of an input count, where only connections read them."""
        linear = all(isinstance(reader.primitive, P.Connect) for reader in self.readers(name))
        plain = name not in self._wanted
        return self.program.schedule.driven if self.constant[name] and linear and plain else 1

    def class_of(self, name: str) -> int:
        """The array of a value: the narrowest of those that its range and its readers allow."""
        primitive = self.program[name].primitive
        if isinstance(primitive, P.Connect | P.Sum | P.Times):
            return WORDS if self.program.holds(name, 32) else LONGS
        low, high = self.range(name)
        weights = [reader.primitive.weight for reader in self.readers(name) if isinstance(reader.primitive, P.Connect)]
        if 4 in self._forms and low >= 0 and high <= 255 and all(fit_bytes(weight) for weight in weights):
            return BYTES
        return SHORTS if _within(low, high, 16) else LONGS

    def shape(self, name: str) -> tuple[int, int, int]:
        """Height, width and channels of a value."""
        shape = self.program.values[name].shape
        return (shape[1], shape[2], shape[0]) if len(shape) == 3 else (1, 1, shape[0])

    def sums(self, name: str) -> ChargeSums:
        """Weights with factors of at least 0, and the ends of their sums."""
        if name in self._known:
            return self._known[name]
        connect = cast(P.Connect, self.program[name].primitive)
        source, outputs = self.source(name), len(connect.weight)
        factor = self.factor(source) if isinstance(self.program[source].primitive, P.Feed) else 1
        given = np.broadcast_to(np.asarray(connect.multiplier), (outputs,))
        weight = connect.weight.astype(np.int64)
        weight = np.where((given < 0).reshape(-1, 1, 1, 1), -weight, weight)
        low, high = self.range(source)
        flat = weight.reshape(outputs, -1)
        if int(np.abs(flat).max(initial=0)) * flat.shape[1] >= 1 << 62:
            flat = flat.astype(object)
        up, down = (part.sum(axis=1).astype(object) for part in (np.maximum(flat, 0), np.minimum(flat, 0)))
        multiplier = np.array([abs(int(m)) * factor for m in given], object)
        bias = np.zeros(outputs, object) if connect.bias is None else connect.bias.astype(object)
        made = self._known[name] = ChargeSums(weight, multiplier, bias, up * low + down * high, up * high + down * low)
        return made
