"""Instructions on vectors of neuron states: the words that ``printed.py`` is written in."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from ..parameters import (
    MULTIPLY,
    SATURATED,
    SHIFT,
    WRAPPED,
)
from ..toolchain.emit import INT64, Emit, vector
from .vector import (
    ABOVE,
    ABOVE_NEGATIVE,
    CLAMP,
    COUNTS,
    EVEN,
    HIGH,
    KIND,
    LEAKS,
    LEAST,
    LOW,
    MASK,
    NUMBER,
    PLACES,
    PRODUCT,
    REST,
    ROUNDED,
    SATURATE,
    SPAN,
    UP,
    UP_NEGATIVE,
    lanes_of,
)

__all__ = ["Code"]


class Code:
    """Instructions on vectors of states. The parts in `absent` are known not to be there.

    ``channels(row)`` is a row of the table for the channels at hand.
    """

    def __init__(self, e: Emit, absent) -> None:
        self.e, self.b, self.absent = e, e.builder, absent
        self.channels: Callable[[int], Any]
        self.width = e.element("state.v").width
        self.lanes = lanes_of(self.width)
        self.kind = vector(self.lanes, e.element("state.v"))
        self.zero = e.zeros(self.kind)
        self.flags: dict = {}

    def single(self, at: int):
        """Constant number `at`, int64."""
        return self.e.read(self.e.pointer("settings.constants", self.e.number(at)), INT64)

    def constant(self, at: int, kind=None):
        """Constant number `at` in every lane."""
        kind, value = kind or self.kind, self.single(at)
        return self.e.splat(value if kind.element.width == 64 else self.b.trunc(value, kind.element), self.lanes)

    def is_(self, at: int, value: int | None = None):
        """Whether constant `at` is `value` (None: is not 0); a flag for `when`, or False."""
        if at in self.absent:
            return False
        if value is None:
            return self.b.icmp_signed("!=", self.single(at), self.e.number(0))
        return self.b.icmp_signed("==", self.single(at), self.e.number(value))

    def when(self, flag, x, change):
        """``change()`` if `flag` else `x`."""
        if flag is False:
            return x
        cell = self.e.cell(x)
        with self.b.if_then(flag):
            self.e.put(change(), cell)
        return self.e.get(cell)

    def either(self, flag, one, other, kind=None):
        """``one()`` if `flag` else ``other()``, vectors of one kind (None: of v)."""
        cell = self.e.cell(self.e.zeros(kind or self.kind))
        with self.b.if_else(flag) as (yes, no):
            with yes:
                self.e.put(one(), cell)
            with no:
                self.e.put(other(), cell)
        return self.e.get(cell)

    def do(self, flag, action) -> None:
        """``action()`` if `flag`."""
        if flag is not False:
            with self.b.if_then(flag):
                action()

    def resize(self, x, bits: int):
        """`x` at another width; what is cut off is known to be a copy of the sign."""
        kind = vector(self.lanes, ir.IntType(bits))
        found = x.type.element.width
        return x if found == bits else self.b.sext(x, kind) if found < bits else self.b.trunc(x, kind)

    def compare(self, order: str, a, b):
        return self.b.icmp_signed(order, a, b)

    def least(self, a, b):
        return self.b.select(self.compare("<", a, b), a, b)

    def most(self, a, b):
        return self.b.select(self.compare(">", a, b), a, b)

    def number_of(self, mask):
        """How many lanes of `mask` are set, int64."""
        bits = self.b.bitcast(mask, ir.IntType(self.lanes))
        return self.e.call("llvm.ctpop.i64", INT64, self.b.zext(bits, INT64) if self.lanes < 64 else bits)

    def round_up(self, x, rest, floor, where: int, limits=None):
        """-1 in the lanes in which `floor` has to become one more, else 0.

        ``limits()`` are what the rest must exceed, of x >= 0 and of x < 0; None: those of a product.
        """

        def found():
            if limits is None:
                above, above_negative = (self.constant(where + at, x.type) for at in (UP, UP_NEGATIVE))
            else:
                above, above_negative = limits()
            limit = self.b.select(self.compare("<", x, self.e.zeros(x.type)), above_negative, above)
            limit = self.b.sub(limit, self.b.and_(floor, self.constant(where + EVEN, x.type)))
            return self.b.sext(self.b.icmp_unsigned(">", rest(), limit), x.type)

        return self.when(self.is_(where + ROUNDED), self.e.zeros(x.type), found)

    def decay(self, x, where: int, lost):
        """`x` one step later; ``lost(mask)`` is called for the lanes in which it underflowed."""

        def changed():
            y = self.either(
                self.is_(where + KIND, SHIFT),
                lambda: self.by_shift(x, where),
                lambda: self.either(
                    self.is_(where + KIND, MULTIPLY),
                    lambda: self.by_multiply(x, where),
                    lambda: self.by_subtract(x, where),
                ),
            )

            def count():
                gone = self.b.and_(self.compare("!=", x, self.zero), self.compare("==", y, self.zero))
                some = self.is_(where + COUNTS, 2)
                moves = self.either(some, lambda: self.leak(where, NUMBER), lambda: x)
                lost(self.b.and_(gone, self.compare("!=", moves, self.zero)))

            self.do(self.is_(where + COUNTS), count)
            return y

        return self.when(self.is_(where + KIND), x, changed)

    def leak(self, where: int, row: int):
        """A number of the leak of the state at `where`, of the channels at hand."""
        return self.channels(LEAKS[where] + row)

    def by_shift(self, x, where: int):
        b = self.b
        floor = b.ashr(x, self.leak(where, NUMBER))

        def rest():
            return b.and_(x, self.leak(where, MASK))

        def limits():
            return self.leak(where, ABOVE), self.leak(where, ABOVE_NEGATIVE)

        change = b.sub(floor, self.round_up(x, rest, floor, where, limits))

        def at_least_one():
            sign = b.or_(b.ashr(x, self.e.constant(self.kind, self.width - 1)), self.e.constant(self.kind, 1))
            stays = b.and_(self.compare("==", change, self.zero), self.compare("!=", x, self.zero))
            return b.select(stays, sign, change)

        return b.sub(x, self.when(self.is_(where + LEAST), change, at_least_one))

    def by_multiply(self, x, where: int):
        def product_of(bits: int):
            wide = vector(self.lanes, ir.IntType(bits))
            factor = self.resize(self.leak(where, NUMBER), bits)  # a sign extension: half the work at 64 bits
            product = self.b.mul(self.resize(x, bits), factor)
            floor = self.b.ashr(product, self.constant(where + PLACES, wide))
            up = self.round_up(product, lambda: self.b.and_(product, self.constant(where + REST, wide)), floor, where)
            return self.resize(self.b.sub(floor, up), self.width)

        def upper_half():
            b, factor, wide = self.b, self.leak(where, NUMBER), vector(self.lanes, ir.IntType(32))
            product = b.mul(b.sext(x, wide), b.sext(factor, wide))
            floor = b.trunc(b.ashr(product, self.e.constant(wide, 16)), self.kind)
            floor = b.add(floor, b.and_(x, self.leak(where, MASK)))
            return b.sub(floor, self.round_up(x, lambda: b.mul(x, factor), floor, where))

        if self.width == 64:
            return product_of(64)
        if self.width == 32:
            return self.either(self.is_(where + PRODUCT, 64), lambda: product_of(64), lambda: product_of(32))
        return self.either(self.is_(where + PRODUCT, 16), upper_half, lambda: product_of(32))

    def by_subtract(self, x, where: int):
        amount = self.leak(where, NUMBER)
        return self.b.sub(x, self.most(self.least(x, amount), self.b.sub(self.zero, amount)))

    def into(self, exact, near, where: int, overflowed):
        """`exact` (modular) and `near` (its nearest representable) as one value in range.

        ``overflowed(which counter, lanes)`` is called.
        """
        b, kind = self.b, exact.type

        def saturated():
            y = self.most(self.least(near(), self.constant(where + HIGH, kind)), self.constant(where + LOW, kind))
            overflowed(SATURATED, self.compare("!=", y, exact))
            return y

        def wrapped():
            low = self.constant(where + LOW, kind)
            y = b.add(low, b.and_(b.sub(exact, low), self.constant(where + SPAN, kind)))
            overflowed(WRAPPED, self.compare("!=", y, near()))
            return y

        def clamped():
            return self.either(self.is_(where + CLAMP, SATURATE), saturated, wrapped, kind)

        return self.when(self.is_(where + CLAMP), exact, clamped)

    def added(self, x, change, where: int, overflowed):
        """``x + change`` brought into range."""
        exact = self.b.add(x, change)

        def near():
            return self.e.call(f"llvm.sadd.sat.v{self.lanes}i16", self.kind, x, change) if self.width == 16 else exact

        return self.into(exact, near, where, overflowed)

    def reduced(self, cell, name: str):
        """Least (``smin``) or largest (``smax``) lane of a variable, int64."""
        x = self.e.get(cell)
        value = self.e.call(f"llvm.vector.reduce.{name}.v{self.lanes}i{x.type.element.width}", x.type.element, x)
        return value if x.type.element.width == 64 else self.b.sext(value, INT64)
