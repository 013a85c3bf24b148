"""The code of ``vector.py`` as it is printed: `span_2` holds every part of a neuron, the others leave some out."""

from numba import types

from ..parameters import (
    RESET_SUBTRACT,
    RESET_ZERO,
    SATURATED,
    SUM_HIGH,
    SUM_LOW,
    UNDERFLOWS,
    V_HIGH,
    V_LOW,
    WRAPPED,
)
from ..toolchain.emit import BYTE, INT64, Emit, emitted, vector
from ..toolchain.tier import tier
from .lanes import Code
from .vector import (
    ABSENT,
    ACC,
    ARGUMENTS,
    BIAS,
    BIASED,
    CAPPED,
    COUNTED,
    DROP,
    FEWEST,
    FIRE,
    HAS_U,
    HOLD,
    HOLDS,
    LATE,
    MOST,
    NEGATIVE,
    RESET,
    ROWS,
    SIGNED,
    STATES,
    U_SHIFT,
    U,
    V,
)


class Span:
    """The instructions of a stretch: whole tiles, then a short one whose numbers are copied to `scratch` and back.

    `scratch` has room for ``(len(STATES) + len(ROWS) * steps) * lanes`` int64.
    """

    def __init__(self, e: Emit, code: Code) -> None:
        self.e, self.b, self.code = e, code.b, code
        self.kind, self.zero, self.many = code.kind, code.zero, code.lanes
        code.channels = self.channels
        self.sum_kind = vector(self.many, e.element("current"))
        ends = (
            (V_LOW, self.kind, 1), (V_HIGH, self.kind, -1), (SUM_LOW, self.sum_kind, 1), (SUM_HIGH, self.sum_kind, -1)
        )  # fmt: skip
        self.peaks = {
            at: e.cell(e.constant(k, sign * ((1 << (k.element.width - 1)) - 1) - (sign < 0))) for at, k, sign in ends
        }
        self.totals = {at: e.cell(e.number(0)) for at in (UNDERFLOWS, SATURATED, WRAPPED)}
        self.counts = {at: e.cell(e.number(0)) for at in self.totals}  # of the tile at hand
        self.is_ = {at: code.is_(at) for at in (HAS_U, BIASED, LATE, SIGNED, CAPPED, COUNTED, HOLDS)}
        self.subtracts, self.zeroes = code.is_(RESET, RESET_SUBTRACT), code.is_(RESET, RESET_ZERO)
        self.keeps = {name: self.b.icmp_signed("!=", e.whole(f"at.keeps_{name}"), e.number(0)) for name in ("u", "v")}
        has_u = self.is_[HAS_U]
        self.keeps["u"] = False if has_u is False else self.b.and_(self.keeps["u"], has_u)
        self.there = {
            "u": has_u, "count": self.is_[COUNTED], "pending": self.is_[LATE], "refractory": self.is_[HOLDS]
        }  # fmt: skip
        self.kinds = {
            name: vector(self.many, e.element(ARGUMENTS[name])) for name in STATES if self.there.get(name) is not False
        }
        self.cells = {name: e.cell(e.zeros(wide)) for name, wide in self.kinds.items()}
        begin, self.end, self.steps, self.size = (e.whole(f"at.{name}") for name in ("begin", "end", "steps", "size"))
        # where the short tile begins
        self.whole = self.b.sub(self.end, self.b.and_(self.b.sub(self.end, begin), e.number(self.many - 1)))
        self.at_neuron, self.at_channel = e.cell(begin), e.cell(self.b.srem(begin, e.whole("settings.period")))
        self.origin = {"current": "at.current", **dict.fromkeys(STATES, "at.state")}
        self.bases = {name: e.cell(e.pointer(ARGUMENTS[name], self.origin_of(name))) for name in (*self.kinds, *ROWS)}
        self.limit, self.width, self.stride_in, self.stride_out = (
            e.cell(x) for x in (self.whole, e.number(self.many), e.whole("at.stride"), self.size)
        )  # of whole tiles, then of the short one

    def origin_of(self, name: str):
        """Where the stretch begins in an array."""
        return self.e.whole(self.origin.get(name, "at.out"))

    def spare(self, name: str):
        """Where the short tile of an array lies."""
        e, many = self.e, self.many
        room = e.times(e.times(self.steps, many), ROWS.index(name)) if name in ROWS else e.number(0)
        at = e.sum(room, len(STATES) * many) if name in ROWS else e.number(STATES.index(name) * many)
        return self.b.bitcast(e.pointer("scratch", at), e.element(ARGUMENTS[name]).as_pointer())

    def move(self, name: str, back: bool) -> None:
        """The short tile of an array to its spare place, or back."""
        e, whole = self.e, self.whole
        here, at = self.spare(name), self.origin_of(name)
        stride = e.whole("at.stride") if name == "current" else self.size
        steps = e.number(1) if name in STATES else self.steps
        with e.loop(0, steps) as t, e.loop(whole, self.end) as k:
            real = e.pointer(ARGUMENTS[name], e.sum(at, e.times(t, stride), k))
            copy = e.shift(here, self.b.sub(e.sum(e.times(t, self.many), k), whole))
            source, target = (copy, real) if back else (real, copy)
            e.write(e.read(source, e.element(ARGUMENTS[name])), target)

    def if_there(self, name: str, action) -> None:
        """``action()`` if neurons have that state."""
        if name in self.there:
            self.code.do(self.there[name], action)
        else:
            action()

    def move_states(self, back: bool) -> None:
        for name in self.kinds:
            self.if_there(name, lambda name=name: self.move(name, back))

    def count(self, at: int, mask) -> None:
        """Count the lanes of `mask`."""
        self.e.put(self.b.add(self.e.get(self.counts[at]), self.code.number_of(mask)), self.counts[at])

    def note(self, mask):
        """What `Code.into` calls: it counts the lanes that are in `mask` too."""
        return lambda at, lanes: self.count(at, self.b.and_(mask, lanes))

    def extend(self, low: int, high: int, x, mask) -> None:
        """Take `x` into the least and the largest value of the lanes in `mask`."""
        for at, choose in ((low, self.code.least), (high, self.code.most)):
            seen = self.e.get(self.peaks[at])
            self.e.put(self.b.select(mask, choose(seen, x), seen), self.peaks[at])

    def channels(self, name: int):
        """A row of the table for the channels of this tile."""
        e = self.e
        row = e.sum(e.whole("settings.period"), self.many)
        return e.read(e.pointer("settings.table", e.sum(e.times(row, name), e.get(self.at_channel))), self.kind)

    def charge(self, t, j, places, valid):
        """What step t adds to v: the current, through u where there is one."""
        e, b, code = self.e, self.b, self.code
        a = e.read(e.shift(places["current"], e.sum(e.times(t, e.get(self.stride_in)), j)), self.sum_kind)
        self.extend(SUM_LOW, SUM_HIGH, a, valid)
        a = code.resize(code.into(a, lambda: a, ACC, self.note(valid)), code.width)

        def through_u():
            x = code.decay(e.get(self.cells["u"]), U, lambda lanes: self.count(UNDERFLOWS, b.and_(valid, lanes)))
            x = code.added(x, b.shl(a, code.constant(U_SHIFT)), U, self.note(valid))
            e.put(x, self.cells["u"])
            return x

        return code.when(self.is_[HAS_U], a, through_u)

    def ready(self, valid):
        """Lanes that are not held: -1, and as a mask."""
        e, b = self.e, self.b
        ready = b.sext(valid, self.kind)

        def waiting():
            waits = e.get(self.cells["refractory"])
            held = b.sext(self.code.compare(">", waits, self.zero), self.kind)
            e.put(b.add(waits, held), self.cells["refractory"])
            return b.and_(ready, b.not_(held))

        found = self.code.when(self.is_[HOLDS], ready, waiting)
        return found, valid if self.is_[HOLDS] is False else self.code.compare("!=", found, self.zero)

    def sent(self):
        """Spikes of the step before, whose reset is still to come."""
        return self.code.when(
            self.is_[LATE], self.zero, lambda: self.code.resize(self.e.get(self.cells["pending"]), self.code.width)
        )

    def membrane(self, t, a, before, sent, awake):
        """v in front of the comparison, in range."""
        e, b, code, zero = self.e, self.b, self.code, self.zero
        x = code.decay(before, V, lambda lanes: self.count(UNDERFLOWS, b.and_(awake, lanes)))

        def biased():
            flows = e.splat(b.sext(b.icmp_signed("<", t, e.whole("at.driven")), self.kind.element), self.many)
            return b.add(a, b.and_(self.channels(BIAS), flows))

        charge = code.when(self.is_[BIASED], a, biased)
        if sent is not None:

            def reset_late(a=charge):
                a = b.sub(a, b.select(code.compare(">", sent, zero), self.channels(DROP), zero))
                return b.add(a, b.select(code.compare("<", sent, zero), self.channels(DROP), zero))

            charge = code.when(b.and_(self.is_[LATE], self.subtracts), charge, reset_late)
            x = code.when(
                b.and_(self.is_[LATE], self.zeroes),
                x,
                lambda x=x: b.select(code.compare("!=", sent, zero), zero, x),
            )
        x = code.added(x, charge, V, self.note(awake))
        self.extend(V_LOW, V_HIGH, x, awake)
        return x

    def spikes(self, x, ready):
        """1, 0 or -1 in each lane."""
        b, code, zero = self.b, self.code, self.zero
        s = b.zext(code.compare(">=", x, self.channels(FIRE)), self.kind)
        net = zero
        if self.is_[COUNTED] is not False:
            net = code.when(self.is_[COUNTED], zero, lambda: code.resize(self.e.get(self.cells["count"]), code.width))
        s = code.when(
            self.is_[CAPPED], s, lambda s=s: b.and_(s, b.sext(code.compare("<", net, code.constant(MOST)), self.kind))
        )

        def taken_back(s=s):
            down = b.and_(code.compare("<", x, self.channels(NEGATIVE)), code.compare(">", net, code.constant(FEWEST)))
            return b.or_(s, b.sext(down, self.kind))

        s = code.when(self.is_[SIGNED], s, taken_back)
        return code.when(self.is_[HOLDS], s, lambda s=s: b.and_(s, ready))

    def reset(self, x, s, ready, before):
        """v after the spikes `s`; where neurons are held it stays as `before`."""
        b, code, zero = self.b, self.code, self.zero

        def subtracted():
            after = b.sub(x, b.select(code.compare(">", s, zero), self.channels(DROP), zero))
            return code.when(
                self.is_[SIGNED],
                after,
                lambda: b.add(after, b.select(code.compare("<", s, zero), self.channels(DROP), zero)),
            )

        at_once = None if self.is_[LATE] is False else b.not_(self.is_[LATE])
        now = [flag if at_once is None else b.and_(at_once, flag) for flag in (self.subtracts, self.zeroes)]
        y = code.when(now[0], x, subtracted)
        y = code.when(now[1], y, lambda y=y: b.select(code.compare("!=", s, zero), zero, y))
        return code.when(self.is_[HOLDS], y, lambda y=y: b.select(code.compare("!=", ready, zero), y, before))

    def keep(self, s, ready, sent) -> None:
        """What the next step has to know of the spikes `s`."""
        e, b, code, cells = self.e, self.b, self.code, self.cells

        def counted():
            e.put(b.add(e.get(cells["count"]), code.resize(s, self.kinds["count"].element.width)), cells["count"])

        def kept_back():
            keeps = b.select(code.compare("!=", ready, self.zero), s, sent)
            e.put(code.resize(keeps, self.kinds["pending"].element.width), cells["pending"])

        def hold():
            waits = e.get(cells["refractory"])
            e.put(b.select(code.compare("!=", s, self.zero), code.constant(HOLD), waits), cells["refractory"])

        code.do(self.is_[COUNTED], counted)
        code.do(self.is_[LATE], kept_back)
        code.do(self.is_[HOLDS], hold)

    def step(self, t, j, places, valid) -> None:
        """Step t of the tile that begins at neuron j."""
        e, b = self.e, self.b
        a = self.charge(t, j, places, valid)
        ready, awake = self.ready(valid)
        before = e.get(self.cells["v"])
        sent = None if self.is_[LATE] is False else self.sent()
        x = self.membrane(t, a, before, sent, awake)
        s = self.spikes(x, ready)
        e.put(self.reset(x, s, ready, before), self.cells["v"])
        self.keep(s, ready, sent)
        index = e.sum(e.times(t, e.get(self.stride_out)), j)
        e.write(b.trunc(s, vector(self.many, BYTE)), e.shift(places["out"], index))
        for name, flag in self.keeps.items():
            record = e.shift(places[f"{name}_record"], index)
            self.code.do(flag, lambda name=name, record=record: e.write(e.get(self.cells[name]), record))

    def tile(self, j, places, valid, commit, done) -> None:
        """All steps of the tile that begins at neuron j; it ends there unless an overflow is to be told about."""
        e, b = self.e, self.b
        for name, cell in self.cells.items():

            def load(name=name, cell=cell):
                e.put(e.read(e.shift(places[name], j), self.kinds[name]), cell)

            self.if_there(name, load)
        for cell in self.counts.values():
            e.put(e.number(0), cell)
        with e.loop(0, self.steps) as t:
            self.step(t, j, places, valid)
        overflows = b.add(e.get(self.counts[SATURATED]), e.get(self.counts[WRAPPED]))
        watched = b.icmp_signed("<", j, e.whole("at.until"))
        b.cbranch(b.and_(watched, b.icmp_signed("!=", overflows, e.number(0))), done, commit)
        b.position_at_end(commit)
        for name, cell in self.cells.items():

            def store(name=name, cell=cell):
                e.write(e.get(cell), e.shift(places[name], j))

            self.if_there(name, store)
        for at, cell in self.totals.items():
            e.put(b.add(e.get(cell), e.get(self.counts[at])), cell)
        e.put(e.sum(j, self.many), self.at_neuron)
        channel = e.sum(e.get(self.at_channel), self.many)
        beyond = b.sub(channel, e.whole("settings.period"))
        e.put(b.select(b.icmp_signed("<", beyond, e.number(0)), channel, beyond), self.at_channel)

    def give_back(self) -> None:
        """States, spikes and records of the short tile to where they belong."""
        self.move_states(True)
        self.move("out", True)
        for name, flag in self.keeps.items():
            self.code.do(flag, lambda name=name: self.move(f"{name}_record", True))

    def take_short(self) -> None:
        """The next tile is the short one, at its spare places."""
        e = self.e
        self.move_states(False)
        self.move("current", False)
        for name, base in self.bases.items():
            e.put(e.shift(self.spare(name), self.b.neg(self.whole)), base)
        row = e.number(self.many)
        width = self.b.sub(self.end, self.whole)
        for cell, value in (
            (self.limit, self.end), (self.width, width), (self.stride_in, row), (self.stride_out, row)
        ):  # fmt: skip
            e.put(value, cell)

    def finish(self):
        """Counters are written; the number of the first neuron that was not done."""
        e, b = self.e, self.b
        stopped = e.get(self.at_neuron)
        stopped = b.select(b.icmp_signed("<", stopped, self.end), stopped, self.end)  # a short tile ends beyond
        for at, cell in self.totals.items():
            place = e.pointer("counters", e.number(at))
            e.write(b.add(e.read(place, INT64), e.get(cell)), place)
        for at, order, name in (
            (V_LOW, "<", "smin"), (V_HIGH, ">", "smax"), (SUM_LOW, "<", "smin"), (SUM_HIGH, ">", "smax")
        ):  # fmt: skip
            place = e.pointer("counters", e.number(at))
            seen, found = e.read(place, INT64), self.code.reduced(self.peaks[at], name)
            e.write(b.select(b.icmp_signed(order, found, seen), found, seen), place)
        return stopped

    def write(self):
        """All of it: a turn of whole tiles, and one of the short tile if there is one."""
        e, b = self.e, self.b
        names = ("turn", "head", "body", "commit", "after", "short", "done")
        turn, head, body, commit, after, short, done = (b.append_basic_block(f"span.{name}") for name in names)
        b.branch(turn)
        b.position_at_end(turn)
        lanes = e.constant(vector(self.many, BYTE), range(self.many))
        valid = b.icmp_unsigned("<", lanes, e.splat(b.trunc(e.get(self.width), BYTE), self.many))
        places = {name: e.get(base) for name, base in self.bases.items()}
        b.branch(head)
        b.position_at_end(head)
        j = e.get(self.at_neuron)
        b.cbranch(b.icmp_signed("<", j, e.get(self.limit)), body, after)
        b.position_at_end(body)
        self.tile(j, places, valid, commit, done)
        b.branch(head)
        b.position_at_end(after)
        first_turn = b.icmp_signed("==", e.get(self.width), e.number(self.many))
        with b.if_then(b.not_(first_turn)):
            self.give_back()
        b.cbranch(b.and_(first_turn, b.icmp_signed("<", self.whole, self.end)), short, done)
        b.position_at_end(short)
        self.take_short()
        b.branch(turn)
        b.position_at_end(done)
        return self.finish()


def _body(absent):
    def span(e: Emit):
        return Span(e, Code(e, absent)).write()

    return span


_NAMES = "settings current state out records scratch counters at"

if tier() != "portable":
    span_0, span_1, span_2 = (emitted(_NAMES, _body(absent), types.int64) for absent in ABSENT)
