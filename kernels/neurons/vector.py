"""The vector code of a stretch of neurons, all steps of a call at once, at 16, 32 or 64 bits.

`span_2` holds every part of a neuron and asks a constant at each whether it is there; `span_1` and `span_0` are the
same code with some and with most of them left out. `_plain_span` is the meaning of all.
"""

from llvmlite import ir
from numba import types

from ..parameters import (
    MULTIPLY,
    RESET_SUBTRACT,
    RESET_ZERO,
    SATURATED,
    SHIFT,
    SUBTRACT,
    SUM_HIGH,
    SUM_LOW,
    UNDERFLOWS,
    V_HIGH,
    V_LOW,
    WRAPPED,
)
from ..toolchain.emit import BYTE, INT64, Emit, emitted, vector
from ..toolchain.tier import tier

__all__ = ["CONSTANTS", "BYTES", "ROWS", "STATES", "lanes_of"]

BYTES = 128  # of a vector of states: two of the widest registers
STATES = ("v", "u", "count", "pending", "refractory")
ROWS = ("current", "out", "u_record", "v_record")  # arrays with a time axis
# The constants of a call, int64. First three times the same, for u, v and acc:
U, V, ACC = 0, 15, 30
(
    KIND,  # of leak, as in `parameters`
    PLACES,  # shift, or 0 and -1 where `FACTOR` has 16 binary places, or the amount to subtract
    FACTOR,
    PRODUCT,  # bits in which x * factor is formed; 16: its upper half only
    ROUNDED,  # 0: toward minus infinity
    UP,  # what the rest must exceed to round up, of x >= 0
    UP_NEGATIVE,  # and of x < 0
    EVEN,  # 1: and by one less where that makes the result even
    REST,  # which bits are the rest
    LEAST,  # 1: a shift moves what is not 0 by 1 at least
    COUNTS,  # 1: a state that becomes 0 is an underflow
    CLAMP,  # FREE, SATURATE, WRAP
    LOW,
    HIGH,
    SPAN,  # HIGH - LOW
) = range(15)
FREE, SATURATE, WRAP = range(3)  # no overflow is possible; both others count them
HAS_U, U_SHIFT, BIASED, RESET, LATE, SIGNED, CAPPED, MOST, COUNTED, HOLDS, HOLD, LEVEL = range(45, 57)
CONSTANTS = 57
# Three levels of code, LEVEL, by the constants that are 0 for sure: the fewer questions, the faster.
ABSENT = ((HAS_U, LATE, HOLDS, ACC + CLAMP, SIGNED, CAPPED, COUNTED, V + CLAMP), (HAS_U, LATE, HOLDS, ACC + CLAMP), ())
# rows of the table (rows, period + lanes) of what differs from channel to channel
FIRE, DROP, NEGATIVE, BIAS = range(4)
_ARGUMENTS = (
    "constants table period current stride u v count pending refractory out u_record v_record keeps_u keeps_v scratch "
    "counters steps driven size in_at state_at out_at begin end until"
)


def lanes_of(bits: int) -> int:
    """How many neurons with states of `bits` are one vector."""
    return 8 * BYTES // bits


def _plain_decay(x, k):
    """`x` one step later by the constants `k` of its state, and whether it underflowed."""
    if k[KIND] == SUBTRACT:
        return x - max(-k[PLACES], min(x, k[PLACES])), False
    wide, places = x, k[PLACES]
    if k[KIND] == MULTIPLY and k[PRODUCT] == 16:
        wide, places = x * (k[FACTOR] - (places << 16)), 16
    elif k[KIND] == MULTIPLY:
        wide = x * k[FACTOR]
    elif k[KIND] != SHIFT:
        return x, False
    y = wide >> places
    y += k[ROUNDED] and (wide & k[REST]) > (k[UP_NEGATIVE] if wide < 0 else k[UP]) - (y & k[EVEN])
    if k[KIND] == SHIFT:
        y = x - (y if y or not k[LEAST] else (x > 0) - (x < 0))
    return y, k[COUNTS] and x != 0 and y == 0


def _plain_span(constants, table, period, current, stride, u, v, count, pending, refractory, out, u_record, v_record,
                keeps_u, keeps_v, scratch, counters, steps, driven, size, in_at, state_at, out_at, begin, end,
                until):  # fmt: skip
    """Neurons ``begin..end`` of a stretch over all steps; the first one that was not done is returned.

    `in_at`, `state_at` and `out_at` are where the stretch begins in the flat arrays, `stride` and `size` the way from
    one step to the next. A tile of `lanes_of` neurons below `until` in which something overflows is not done.
    """
    k = [int(n) for n in constants]

    def into(value, k, notes):
        if k[CLAMP] == FREE or k[LOW] <= value <= k[HIGH]:
            return value
        notes[SATURATED if k[CLAMP] == SATURATE else WRAPPED] += 1
        return min(max(value, k[LOW]), k[HIGH]) if k[CLAMP] == SATURATE else k[LOW] + ((value - k[LOW]) & k[SPAN])

    def neuron(j, notes):
        at, (fire, drop, negative, bias) = state_at + j, (int(n) for n in table[:, j % period])
        x, charge, net = int(v[at]), int(u[at]) if k[HAS_U] else 0, int(count[at]) if k[COUNTED] else 0
        sent, waits = int(pending[at]) if k[LATE] else 0, int(refractory[at]) if k[HOLDS] else 0
        for t in range(steps):
            a = int(current[in_at + t * stride + j])
            counters[SUM_LOW], counters[SUM_HIGH] = min(counters[SUM_LOW], a), max(counters[SUM_HIGH], a)
            a = into(a, k[ACC:], notes)
            if k[HAS_U]:
                charge, lost = _plain_decay(charge, k[U:])
                notes[UNDERFLOWS] += lost
                a = charge = into(charge + (a << k[U_SHIFT]), k[U:], notes)
            s, held = 0, waits > 0
            waits -= held
            if not held:
                x, lost = _plain_decay(x, k[V:])
                notes[UNDERFLOWS] += lost
                if sent:
                    x = x - sent * drop if k[RESET] == RESET_SUBTRACT else 0 if k[RESET] == RESET_ZERO else x
                x = into(x + a + (bias if k[BIASED] and t < driven else 0), k[V:], notes)
                counters[V_LOW], counters[V_HIGH] = min(counters[V_LOW], x), max(counters[V_HIGH], x)
                if x >= fire:
                    s = int(not k[CAPPED] or net < k[MOST])
                elif k[SIGNED] and x < negative and net > 0:
                    s = -1
                if k[LATE]:
                    sent = s
                elif s:
                    x = x - s * drop if k[RESET] == RESET_SUBTRACT else 0 if k[RESET] == RESET_ZERO else x
                waits = k[HOLD] if k[HOLDS] and s else waits
            net += s
            place = out_at + t * size + j
            out[place] = s
            if keeps_u and k[HAS_U]:
                u_record[place] = charge
            if keeps_v:
                v_record[place] = x
        return x, charge, net, sent, waits

    arrays = ((v, 1), (u, k[HAS_U]), (count, k[COUNTED]), (pending, k[LATE]), (refractory, k[HOLDS]))
    lanes = lanes_of(v.dtype.itemsize * 8)
    for tile in range(begin, end, lanes):
        notes = dict.fromkeys((UNDERFLOWS, SATURATED, WRAPPED), 0)
        found = {j: neuron(j, notes) for j in range(tile, min(tile + lanes, end))}
        if tile < until and notes[SATURATED] + notes[WRAPPED]:
            return tile
        for j, states in found.items():
            for (array, used), state in zip(arrays, states, strict=True):
                if used:
                    array[state_at + j] = state
        for at, number in notes.items():
            counters[at] += number
    return max(begin, end)


class _Code:
    """Instructions on vectors of states. The parts in `absent` are known not to be there."""

    def __init__(self, e: Emit, absent) -> None:
        self.e, self.b, self.absent = e, e.builder, absent
        self.width = e.element("v").width
        self.lanes = lanes_of(self.width)
        self.kind = vector(self.lanes, e.element("v"))
        self.zero = e.zeros(self.kind)
        self.flags: dict = {}

    def single(self, at: int):
        """Constant number `at`, int64."""
        return self.e.read(self.e.pointer("constants", self.e.number(at)), INT64)

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

    def round_up(self, x, rest, floor, where: int):
        """-1 in the lanes in which `floor` has to become one more, else 0."""

        def found():
            limit = self.b.select(
                self.compare("<", x, self.e.zeros(x.type)),
                self.constant(where + UP_NEGATIVE, x.type),
                self.constant(where + UP, x.type),
            )
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
            self.do(
                self.is_(where + COUNTS),
                lambda: lost(self.b.and_(self.compare("!=", x, self.zero), self.compare("==", y, self.zero))),
            )
            return y

        return self.when(self.is_(where + KIND), x, changed)

    def by_shift(self, x, where: int):
        b = self.b
        floor = b.ashr(x, self.constant(where + PLACES))
        change = b.sub(floor, self.round_up(x, lambda: b.and_(x, self.constant(where + REST)), floor, where))

        def at_least_one():
            sign = b.or_(b.ashr(x, self.e.constant(self.kind, self.width - 1)), self.e.constant(self.kind, 1))
            stays = b.and_(self.compare("==", change, self.zero), self.compare("!=", x, self.zero))
            return b.select(stays, sign, change)

        return b.sub(x, self.when(self.is_(where + LEAST), change, at_least_one))

    def by_multiply(self, x, where: int):
        def product_of(bits: int):
            wide = vector(self.lanes, ir.IntType(bits))
            factor = self.resize(self.constant(where + FACTOR), bits)  # a sign extension: half the work at 64 bits
            product = self.b.mul(self.resize(x, bits), factor)
            floor = self.b.ashr(product, self.constant(where + PLACES, wide))
            up = self.round_up(product, lambda: self.b.and_(product, self.constant(where + REST, wide)), floor, where)
            return self.resize(self.b.sub(floor, up), self.width)

        def upper_half():
            b, factor, wide = self.b, self.constant(where + FACTOR), vector(self.lanes, ir.IntType(32))
            product = b.mul(b.sext(x, wide), b.sext(factor, wide))
            floor = b.trunc(b.ashr(product, self.e.constant(wide, 16)), self.kind)
            floor = b.add(floor, b.and_(x, self.constant(where + PLACES)))
            return b.sub(floor, self.round_up(x, lambda: b.mul(x, factor), floor, where))

        if self.width == 64:
            return product_of(64)
        if self.width == 32:
            return self.either(self.is_(where + PRODUCT, 64), lambda: product_of(64), lambda: product_of(32))
        return self.either(self.is_(where + PRODUCT, 16), upper_half, lambda: product_of(32))

    def by_subtract(self, x, where: int):
        amount = self.constant(where + PLACES)
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


def _body(absent):
    def span(e: Emit):
        return _emit(e, _Code(e, absent))

    return span


def _emit(e: Emit, code: _Code):
    """The last tile may be short: its numbers are copied to `scratch` and back.

    `scratch` has room for ``(len(STATES) + len(ROWS) * steps) * lanes`` int64.
    """
    b, kind, zero, many = code.b, code.kind, code.zero, code.lanes
    sum_kind = vector(many, e.element("current"))
    ends = ((V_LOW, kind, 1), (V_HIGH, kind, -1), (SUM_LOW, sum_kind, 1), (SUM_HIGH, sum_kind, -1))
    peaks = {at: e.cell(e.constant(k, sign * ((1 << (k.element.width - 1)) - 1) - (sign < 0))) for at, k, sign in ends}
    totals = {at: e.cell(e.number(0)) for at in (UNDERFLOWS, SATURATED, WRAPPED)}
    counts = {at: e.cell(e.number(0)) for at in totals}  # of the tile at hand
    is_ = {at: code.is_(at) for at in (HAS_U, BIASED, LATE, SIGNED, CAPPED, COUNTED, HOLDS)}
    subtracts, zeroes = code.is_(RESET, RESET_SUBTRACT), code.is_(RESET, RESET_ZERO)
    keeps = {name: b.icmp_signed("!=", e.whole(f"keeps_{name}"), e.number(0)) for name in ("u", "v")}
    keeps["u"] = False if is_[HAS_U] is False else b.and_(keeps["u"], is_[HAS_U])
    there = {"u": is_[HAS_U], "count": is_[COUNTED], "pending": is_[LATE], "refractory": is_[HOLDS]}
    kinds = {name: vector(many, e.element(name)) for name in STATES if there.get(name) is not False}
    cells = {name: e.cell(e.zeros(wide)) for name, wide in kinds.items()}
    begin, end, steps, size = (e.whole(name) for name in ("begin", "end", "steps", "size"))
    whole = b.sub(end, b.and_(b.sub(end, begin), e.number(many - 1)))  # where the short tile begins
    at_neuron, at_channel = e.cell(begin), e.cell(b.srem(begin, e.whole("period")))
    origin = {"current": "in_at", **dict.fromkeys(STATES, "state_at")}
    bases = {name: e.cell(e.pointer(name, e.whole(origin.get(name, "out_at")))) for name in (*kinds, *ROWS)}
    limit, width, stride_in, stride_out = (
        e.cell(x) for x in (whole, e.number(many), e.whole("stride"), size)
    )  # of whole tiles, then of the short one
    names = ("turn", "head", "body", "commit", "after", "short", "done")
    turn, head, body, commit, after, short, done = (b.append_basic_block(f"span.{name}") for name in names)

    def spare(name: str):
        """Where the short tile of an array lies."""
        room = e.times(e.times(steps, many), ROWS.index(name)) if name in ROWS else e.number(0)
        at = e.sum(room, len(STATES) * many) if name in ROWS else e.number(STATES.index(name) * many)
        return b.bitcast(e.pointer("scratch", at), e.element(name).as_pointer())

    def move(name: str, back: bool) -> None:
        """The short tile of an array to its spare place, or back."""
        here, at = spare(name), e.whole(origin.get(name, "out_at"))
        stride = e.whole("stride") if name == "current" else size
        with e.loop(0, e.number(1) if name in STATES else steps) as t, e.loop(whole, end) as k:
            real = e.pointer(name, e.sum(at, e.times(t, stride), k))
            copy = e.shift(here, b.sub(e.sum(e.times(t, many), k), whole))
            source, target = (copy, real) if back else (real, copy)
            e.write(e.read(source, e.element(name)), target)

    def move_states(back: bool) -> None:
        for name in kinds:
            flag = there.get(name)
            if flag is None:
                move(name, back)
            else:
                code.do(flag, lambda name=name: move(name, back))

    def count(at: int, mask) -> None:
        e.put(b.add(e.get(counts[at]), code.number_of(mask)), counts[at])

    def extend(low: int, high: int, x, mask) -> None:
        for at, choose in ((low, code.least), (high, code.most)):
            seen = e.get(peaks[at])
            e.put(b.select(mask, choose(seen, x), seen), peaks[at])

    def channels(name: int):
        """A row of the table for the channels of this tile."""
        row = e.sum(e.whole("period"), many)
        return e.read(e.pointer("table", e.sum(e.times(row, name), e.get(at_channel))), kind)

    b.branch(turn)
    b.position_at_end(turn)
    lanes = e.constant(vector(many, BYTE), range(many))
    valid = b.icmp_unsigned("<", lanes, e.splat(b.trunc(e.get(width), BYTE), many))
    places = {name: e.get(base) for name, base in bases.items()}
    way_in, way_out = e.get(stride_in), e.get(stride_out)
    b.branch(head)
    b.position_at_end(head)
    j = e.get(at_neuron)
    b.cbranch(b.icmp_signed("<", j, e.get(limit)), body, after)
    b.position_at_end(body)

    def step(t) -> None:
        def note(mask):
            return lambda at, lanes: count(at, b.and_(mask, lanes))

        a = e.read(e.shift(places["current"], e.sum(e.times(t, way_in), j)), sum_kind)
        extend(SUM_LOW, SUM_HIGH, a, valid)
        a = code.resize(code.into(a, lambda a=a: a, ACC, note(valid)), code.width)

        def through_u(a=a):
            x = code.decay(e.get(cells["u"]), U, lambda lanes: count(UNDERFLOWS, b.and_(valid, lanes)))
            x = code.added(x, b.shl(a, code.constant(U_SHIFT)), U, note(valid))
            e.put(x, cells["u"])
            return x

        a = code.when(is_[HAS_U], a, through_u)
        ready = b.sext(valid, kind)

        def waiting(ready=ready):
            waits = e.get(cells["refractory"])
            held = b.sext(code.compare(">", waits, zero), kind)
            e.put(b.add(waits, held), cells["refractory"])
            return b.and_(ready, b.not_(held))

        ready = code.when(is_[HOLDS], ready, waiting)
        awake = valid if is_[HOLDS] is False else code.compare("!=", ready, zero)
        before = e.get(cells["v"])
        x = code.decay(before, V, lambda lanes: count(UNDERFLOWS, b.and_(awake, lanes)))

        def biased(a=a):
            flows = e.splat(b.sext(b.icmp_signed("<", t, e.whole("driven")), kind.element), many)
            return b.add(a, b.and_(channels(BIAS), flows))

        a = code.when(is_[BIASED], a, biased)
        if is_[LATE] is not False:
            sent = code.when(is_[LATE], zero, lambda: code.resize(e.get(cells["pending"]), code.width))

            def reset_late(a=a):
                a = b.sub(a, b.select(code.compare(">", sent, zero), channels(DROP), zero))
                return b.add(a, b.select(code.compare("<", sent, zero), channels(DROP), zero))

            a = code.when(b.and_(is_[LATE], subtracts), a, reset_late)
            x = code.when(b.and_(is_[LATE], zeroes), x, lambda x=x: b.select(code.compare("!=", sent, zero), zero, x))
        x = code.added(x, a, V, note(awake))
        extend(V_LOW, V_HIGH, x, awake)
        s = b.zext(code.compare(">=", x, channels(FIRE)), kind)
        net = zero
        if is_[COUNTED] is not False:
            net = code.when(is_[COUNTED], zero, lambda: code.resize(e.get(cells["count"]), code.width))
        s = code.when(is_[CAPPED], s, lambda s=s: b.and_(s, b.sext(code.compare("<", net, code.constant(MOST)), kind)))

        def taken_back(x=x, s=s):
            down = b.and_(code.compare("<", x, channels(NEGATIVE)), code.compare(">", net, zero))
            return b.or_(s, b.sext(down, kind))

        s = code.when(is_[SIGNED], s, taken_back)
        s = code.when(is_[HOLDS], s, lambda s=s: b.and_(s, ready))

        def subtracted(x=x):
            x = b.sub(x, b.select(code.compare(">", s, zero), channels(DROP), zero))
            return code.when(
                is_[SIGNED], x, lambda x=x: b.add(x, b.select(code.compare("<", s, zero), channels(DROP), zero))
            )

        at_once = None if is_[LATE] is False else b.not_(is_[LATE])
        now = [flag if at_once is None else b.and_(at_once, flag) for flag in (subtracts, zeroes)]
        x = code.when(now[0], x, subtracted)
        x = code.when(now[1], x, lambda x=x: b.select(code.compare("!=", s, zero), zero, x))
        x = code.when(is_[HOLDS], x, lambda x=x: b.select(code.compare("!=", ready, zero), x, before))
        e.put(x, cells["v"])

        def counted():
            e.put(b.add(e.get(cells["count"]), code.resize(s, kinds["count"].element.width)), cells["count"])

        def kept_back():
            keeps = b.select(code.compare("!=", ready, zero), s, sent)
            e.put(code.resize(keeps, kinds["pending"].element.width), cells["pending"])

        def hold():
            waits = e.get(cells["refractory"])
            e.put(b.select(code.compare("!=", s, zero), code.constant(HOLD), waits), cells["refractory"])

        code.do(is_[COUNTED], counted)
        code.do(is_[LATE], kept_back)
        code.do(is_[HOLDS], hold)
        index = e.sum(e.times(t, way_out), j)
        e.write(b.trunc(s, vector(many, BYTE)), e.shift(places["out"], index))
        for name, flag in keeps.items():
            code.do(flag, lambda name=name: e.write(e.get(cells[name]), e.shift(places[f"{name}_record"], index)))

    for name, cell in cells.items():

        def load(name=name, cell=cell):
            e.put(e.read(e.shift(places[name], j), kinds[name]), cell)

        load() if name == "v" else code.do(there[name], load)
    for cell in counts.values():
        e.put(e.number(0), cell)
    with e.loop(0, steps) as t:
        step(t)
    overflows = b.add(e.get(counts[SATURATED]), e.get(counts[WRAPPED]))
    watched = b.icmp_signed("<", j, e.whole("until"))
    b.cbranch(b.and_(watched, b.icmp_signed("!=", overflows, e.number(0))), done, commit)
    b.position_at_end(commit)
    for name, cell in cells.items():

        def store(name=name, cell=cell):
            e.write(e.get(cell), e.shift(places[name], j))

        store() if name == "v" else code.do(there[name], store)
    for at, cell in totals.items():
        e.put(b.add(e.get(cell), e.get(counts[at])), cell)
    e.put(e.sum(j, many), at_neuron)
    channel = e.sum(e.get(at_channel), many)
    beyond = b.sub(channel, e.whole("period"))
    e.put(b.select(b.icmp_signed("<", beyond, e.number(0)), channel, beyond), at_channel)
    b.branch(head)
    b.position_at_end(after)
    first_turn = b.icmp_signed("==", e.get(width), e.number(many))
    with b.if_then(b.not_(first_turn)):
        move_states(True)
        move("out", True)
        for name, flag in keeps.items():
            code.do(flag, lambda name=name: move(f"{name}_record", True))
    b.cbranch(b.and_(first_turn, b.icmp_signed("<", whole, end)), short, done)
    b.position_at_end(short)
    move_states(False)
    move("current", False)
    for name, base in bases.items():
        e.put(e.shift(spare(name), b.neg(whole)), base)
    row = e.number(many)
    for cell, value in ((limit, end), (width, b.sub(end, whole)), (stride_in, row), (stride_out, row)):
        e.put(value, cell)
    b.branch(turn)
    b.position_at_end(done)
    stopped = e.get(at_neuron)
    stopped = b.select(b.icmp_signed("<", stopped, end), stopped, end)  # a short tile ends beyond
    for at, cell in totals.items():
        place = e.pointer("counters", e.number(at))
        e.write(b.add(e.read(place, INT64), e.get(cell)), place)
    for at, order, name in (
        (V_LOW, "<", "smin"), (V_HIGH, ">", "smax"), (SUM_LOW, "<", "smin"), (SUM_HIGH, ">", "smax")
    ):  # fmt: skip
        place = e.pointer("counters", e.number(at))
        seen, found = e.read(place, INT64), code.reduced(peaks[at], name)
        e.write(b.select(b.icmp_signed(order, found, seen), found, seen), place)
    return stopped


if tier() != "portable":
    span_0, span_1, span_2 = (emitted(_ARGUMENTS, _body(absent), types.int64) for absent in ABSENT)
