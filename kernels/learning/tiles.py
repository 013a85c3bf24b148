"""Register tiles of learning: products of 16-bit integers, two and two, summed in 32 bits, and steps of weights.

Written like `fused/tiles.py`: the plain function beside each tile is its meaning and the tier ``portable``. With
512-bit registers one step of a tile of products is one instruction for 32 of them.
"""

import numpy as np
from llvmlite import ir

from ..numbers import reference as exact
from ..numbers.compiled import absorb
from ..toolchain.emit import INT16, INT32, INT64, Emit, emitted, vector
from ..toolchain.jit import kernel
from ..toolchain.tier import tier

LANES = 16  # sums of one register
VECTORS = 2  # registers beside each other: a tile is 32 sums wide
WIDTH = LANES * VECTORS
ROWS = 12  # rows of a tile: 24 registers of sums, 2 of factors, 1 for the other factor
WORDS = 16  # random words of one tile: two registers
AHEAD = 8  # so many steps of an outer tile errors are asked for before they are read
WIDE, PAIR, SHORT = vector(LANES, INT32), vector(2 * LANES, INT16), vector(WIDTH, INT16)


# -- sums of products ------------------------------------------------------------------------------


def _plain_dot_tile(p, rows, first, weight, at, runs, length, stride, out):
    """``out[r, o] = sum over runs and j of p[rows[first + r] + run * stride + j] * w[run, j, o]``, r < ROWS, o < WIDTH.

    `weight` holds pairs of j side by side: ``(run, j // 2, o, j % 2)`` from element `at` on; `length` is in pairs.
    """
    for r in range(ROWS):
        for o in range(WIDTH):
            total = np.int32(0)
            for run in range(runs):
                for j in range(length):
                    source = rows[first + r] + run * stride + 2 * j
                    pair = at + ((run * length + j) * WIDTH + o) * 2
                    total += np.int32(p[source]) * np.int32(weight[pair])
                    total += np.int32(p[source + 1]) * np.int32(weight[pair + 1])
            out[r * WIDTH + o] = total


def _plain_outer_tile(p, p_at, e, e_at, counts, out):
    """``out[r, o] = sum over three loops of p[.., r] * e[.., o]``, pairs of factors side by side.

    `counts` holds the three counts, then the three strides of `p`, then those of `e`, in elements.
    """
    for r in range(ROWS):
        for o in range(WIDTH):
            total = np.int32(0)
            for i in range(counts[0]):
                for j in range(counts[1]):
                    for k in range(counts[2]):
                        left = p_at + i * counts[3] + j * counts[4] + k * counts[5] + 2 * r
                        right = e_at + i * counts[6] + j * counts[7] + k * counts[8] + 2 * o
                        total += np.int32(p[left]) * np.int32(e[right])
                        total += np.int32(p[left + 1]) * np.int32(e[right + 1])
            out[r * WIDTH + o] = total


class Sums:
    """ROWS x VECTORS registers of 32-bit sums."""

    def __init__(self, emit: Emit) -> None:
        self.emit = emit
        self.cells = [emit.cell(emit.zeros(WIDE)) for _ in range(ROWS * VECTORS)]

    def add(self, left, right) -> None:
        """Add products: `left` has the address of a pair for each row, `right` of VECTORS registers of pairs."""
        emit = self.emit
        vectors = [emit.read(emit.shift(right, v * 2 * LANES), PAIR) for v in range(VECTORS)]
        for row, place in enumerate(left):
            both = emit.builder.bitcast(emit.splat(emit.read(place, INT32), LANES), PAIR)
            for v, other in enumerate(vectors):
                cell = self.cells[row * VECTORS + v]
                emit.put(emit.builder.add(emit.get(cell), self._products(both, other)), cell)

    def _products(self, left, right):
        """Sums of two neighbouring products; LLVM knows this form as one instruction."""
        b, double = self.emit.builder, vector(2 * LANES, INT32)
        product = b.mul(b.sext(left, double), b.sext(right, double))
        even, odd = (
            b.shuffle_vector(
                product, ir.Constant(double, ir.Undefined), self.emit.constant(WIDE, range(parity, 2 * LANES, 2))
            )
            for parity in (0, 1)
        )
        return b.add(even, odd)

    def write(self, pointer) -> None:
        """All sums, row by row."""
        for i, cell in enumerate(self.cells):
            self.emit.write(self.emit.get(cell), self.emit.shift(pointer, i * LANES))


def _dot_tile(emit: Emit):
    sums, first = Sums(emit), emit.whole("first")
    bases = []
    for r in range(ROWS):
        offset = emit.read(emit.pointer("rows", emit.sum(first, r)), INT64)
        bases.append(emit.pointer("p", offset))
    length = emit.whole("length")
    with emit.loop(0, emit.whole("runs")) as run:
        p_from = emit.times(run, emit.whole("stride"))
        w_from = emit.sum(emit.whole("at"), emit.times(run, emit.times(length, 2 * WIDTH)))
        with emit.loop(0, length) as j:
            source = emit.sum(p_from, emit.times(j, 2))
            weights = emit.pointer("weight", emit.sum(w_from, emit.times(j, 2 * WIDTH)))
            sums.add([emit.shift(base, source) for base in bases], weights)
    sums.write(emit.pointer("out", emit.number(0)))


def outer_sums(emit: Emit) -> Sums:
    """The registers of an outer tile after its three loops."""
    sums = Sums(emit)
    n = [emit.read(emit.pointer("counts", emit.number(i)), INT64) for i in range(9)]
    p_at, e_at = emit.whole("p_at"), emit.whole("e_at")
    with emit.loop(0, n[0]) as i, emit.loop(0, n[1]) as j:
        p_j = emit.sum(p_at, emit.times(i, n[3]), emit.times(j, n[4]))
        e_j = emit.sum(e_at, emit.times(i, n[6]), emit.times(j, n[7]))
        with emit.loop(0, n[2]) as k:
            base = emit.pointer("p", emit.sum(p_j, emit.times(k, n[5])))
            errors = emit.pointer("e", emit.sum(e_j, emit.times(k, n[8])))
            for v in range(VECTORS):  # of dense layers they come from the second cache
                emit.prefetch(emit.shift(errors, (AHEAD * VECTORS + v) * 2 * LANES))
            sums.add([emit.shift(base, 2 * r) for r in range(ROWS)], errors)
    return sums


def _outer_tile(emit: Emit):
    outer_sums(emit).write(emit.pointer("out", emit.number(0)))


# -- steps of weights ------------------------------------------------------------------------------

# Settings of a step, an array of int32. A gradient becomes ``g * 2**LEFT / 2**RIGHT``, a random number is added, and
# the rest below `PLACES` is cut off. Two generators, see `reference.stochastic_step`.
LEFT, RIGHT, HALF, SOME, PLACES, LANE, WHOLE, STEP_MAX, TOP, W_RIGHT, W_HALF, W_SOME, W_TOP = range(13)
SETTINGS = 13
GROUP = 32  # weights that move together
TALLIES = 2 + LANES  # of clipped weights, of changed weights, and lane by lane the greatest gradient


def _plain_step(inclusive):
    def step_tile(gradient, at, words, lanes_at, s, master, weight, where, tallies, groups):
        """Steps of ``GROUP * groups`` weights: `reference.update`; gradients and sums stay below 2**30.

        Random numbers are lanes of 16 bits of `words`, from number `lanes_at` on. `tallies` counts clipped and changed
        weights and keeps the greatest gradients.
        """
        for k in range(GROUP * groups):
            g = np.int64(gradient[at + k])
            lane = lanes_at + k
            v = np.int64((words[lane >> 2] >> np.uint64(16 * (lane & 3))) & np.uint64(0xFFFF)) >> s[LANE]
            if inclusive:
                value = abs(g) << s[LEFT]
                value = (value + s[HALF] - s[SOME] + ((value >> s[RIGHT]) & s[SOME])) >> s[RIGHT]
                n = (value + (np.int64(1) << s[PLACES]) - ((v + 1) >> 1)) >> s[PLACES]
                n = min(n, (abs(g) >> s[WHOLE]) + 1)
                n = n if g > 0 else -n if g < 0 else np.int64(0)
            else:
                n = (((g << s[LEFT]) >> s[RIGHT]) + v) >> s[PLACES]
            n = min(max(n, -np.int64(s[STEP_MAX])), np.int64(s[STEP_MAX]))
            old = np.int64(master[where + k])
            moved = old - n
            code = min(max(moved, -np.int64(s[TOP])), np.int64(s[TOP]))
            tallies[0] += code != moved
            tallies[1] += code != old
            tallies[2 + k % LANES] = max(np.int64(tallies[2 + k % LANES]), abs(g))
            master[where + k] = code
            value = (code + s[W_HALF] - s[W_SOME] + ((code >> s[W_RIGHT]) & s[W_SOME])) >> s[W_RIGHT]
            weight[where + k] = min(max(value, -np.int64(s[W_TOP])), np.int64(s[W_TOP]))

    return step_tile


class Step:
    """The vector form of `_plain_step`: changes in 32 bits, weights in 16; settings and tallies stay in registers."""

    def __init__(self, emit: Emit, inclusive: bool) -> None:
        self.emit, self.inclusive = emit, inclusive
        scalars = [emit.read(emit.pointer("settings", emit.number(i)), INT32) for i in range(SETTINGS)]
        self.s = [emit.splat(value, LANES) for value in scalars]
        self.t = [emit.splat(emit.builder.trunc(value, INT16), GROUP) for value in scalars]
        self.w_odd = emit.builder.shl(self.t[W_SOME], self.t[W_RIGHT])
        self.right, self.w_right = emit.opaque(self.s[RIGHT]), emit.opaque(self.t[W_RIGHT])
        self.tallies = emit.pointer("tallies", emit.number(0))
        self.counts = [emit.cell(emit.read(emit.shift(self.tallies, i), INT32)) for i in range(2)]
        self.peak = emit.cell(emit.read(emit.shift(self.tallies, 2), WIDE))

    def _least(self, left, right):
        return self.emit.builder.select(self.emit.builder.icmp_signed("<", left, right), left, right)

    def _greatest(self, left, right):
        return self.emit.builder.select(self.emit.builder.icmp_signed(">", left, right), left, right)

    def _within(self, value, low, high):
        return self._least(self._greatest(value, low), high)

    def _nearest(self, value, places, half, some):
        """``value / 2**places``, a tie to even."""
        b = self.emit.builder
        tie = b.and_(b.ashr(value, places), some)
        return b.ashr(b.add(b.add(value, b.sub(half, some)), tie), places)

    def watch(self, g):
        """Take note of the sizes of gradients; which are negative, and the sizes."""
        b, zero = self.emit.builder, self.emit.zeros(WIDE)
        negative = b.icmp_signed("<", g, zero)
        size = b.select(negative, b.sub(zero, g), g)
        self.emit.put(self._greatest(self.emit.get(self.peak), size), self.peak)
        return negative, size

    def change(self, g, lanes):
        """Steps of 16 weights within 16 bits."""
        emit, b, s = self.emit, self.emit.builder, self.s
        zero, one, most = (emit.constant(WIDE, value) for value in (0, 1, 0x7FFF))
        negative, size = self.watch(g)
        v = b.lshr(b.zext(lanes, WIDE), s[LANE])
        if self.inclusive:
            value = self._nearest(b.shl(size, s[LEFT]), s[RIGHT], s[HALF], s[SOME])
            value = b.sub(b.add(value, b.shl(one, s[PLACES])), b.lshr(b.add(v, one), one))
            n = self._least(b.ashr(value, s[PLACES]), b.add(b.ashr(size, s[WHOLE]), one))
            n = b.select(b.icmp_signed("==", g, zero), zero, n)
            n = b.select(negative, b.sub(zero, n), n)
        else:
            value = b.ashr(b.shl(g, s[LEFT]), s[RIGHT])
            n = b.ashr(b.add(value, v), s[PLACES])
        return self._within(n, b.sub(zero, most), most)

    def move(self, n, where, within: bool = False) -> None:
        """Move 32 weights from `where` on by `n`, numbers of 16 bits, known to be `within` `STEP_MAX` or not."""
        emit, b, t = self.emit, self.emit.builder, self.t
        zero = emit.zeros(SHORT)
        n = n if within else self._within(n, b.sub(zero, t[STEP_MAX]), t[STEP_MAX])
        place = emit.pointer("master", where)
        old = emit.read(place, SHORT)
        moved = b.sub(old, n)
        code = self._within(moved, b.sub(zero, t[TOP]), t[TOP])
        for cell, other in zip(self.counts, (moved, old), strict=True):
            bits = b.bitcast(b.icmp_signed("!=", code, other), INT32)
            emit.put(b.add(emit.get(cell), b.ctpop(bits)), cell)
        emit.write(code, place)
        odd = b.icmp_signed("!=", b.and_(code, self.w_odd), zero)
        up = b.select(odd, t[W_HALF], b.sub(t[W_HALF], t[W_SOME]))  # a tie goes to the even number
        value = b.ashr(b.add(code, up), self.w_right)
        value = self._within(value, b.sub(zero, t[W_TOP]), t[W_TOP])
        element = emit.element("weight")
        emit.write(
            b.trunc(value, vector(GROUP, element)) if element.width < 16 else value, emit.pointer("weight", where)
        )

    def finish(self) -> None:
        """Write the tallies back."""
        for i, cell in enumerate(self.counts):
            self.emit.write(self.emit.get(cell), self.emit.shift(self.tallies, i))
        self.emit.write(self.emit.get(self.peak), self.emit.shift(self.tallies, 2))

    def lanes(self, at):
        """16 random numbers of 16 bits, from number `at` on; of a 64-bit word the lowest lane comes first in memory."""
        emit = self.emit
        base = emit.builder.bitcast(emit.pointer("words", emit.number(0)), INT16.as_pointer())
        return emit.read(emit.shift(base, at), vector(LANES, INT16))


def _step_tile(inclusive):
    def step_tile(emit: Emit):
        at, lanes_at, where = (emit.whole(name) for name in ("at", "lanes_at", "where"))
        step, element = Step(emit, inclusive), emit.element("gradient")
        with emit.loop(0, emit.whole("groups")) as i:
            first = emit.times(i, GROUP)
            changes = []
            for v in range(GROUP // LANES):
                shift = emit.sum(first, v * LANES)
                g = emit.read(emit.pointer("gradient", emit.sum(at, shift)), vector(LANES, element))
                g = emit.builder.trunc(g, WIDE) if element.width > 32 else g
                changes.append(step.change(g, step.lanes(emit.sum(lanes_at, shift))))
            both = emit.builder.shuffle_vector(*changes, emit.constant(vector(GROUP, INT32), range(GROUP)))
            step.move(emit.builder.trunc(both, SHORT), emit.sum(where, first))
        step.finish()

    return step_tile


# -- random words ----------------------------------------------------------------------------------


def _plain_words_tile(key, first, words, at):
    """``words[at + i] = absorb(key, first + i)`` of `numbers/compiled.py`, i < WORDS."""
    for i in range(WORDS):
        words[at + i] = absorb(key, first + i)


def random_vector(emit: Emit, key, index, lanes: int):
    """The words of `lanes` indices from `index` on."""
    b, wide = emit.builder, vector(lanes, INT64)
    index = b.add(emit.splat(index, lanes), emit.constant(wide, range(lanes)))
    z = b.add(b.xor(emit.splat(key, lanes), index), emit.constant(wide, exact.GOLDEN))
    for shift, factor in ((30, exact.MIX_1), (27, exact.MIX_2)):
        z = b.mul(b.xor(z, b.lshr(z, emit.constant(wide, shift))), emit.constant(wide, factor))
    return b.xor(z, b.lshr(z, emit.constant(wide, 31)))


def _words_tile(emit: Emit):
    emit.write(
        random_vector(emit, emit.values["key"], emit.whole("first"), WORDS), emit.pointer("words", emit.whole("at"))
    )


if tier() == "portable":
    dot_tile, outer_tile = kernel(_plain_dot_tile), kernel(_plain_outer_tile)
    step_tile, step_tile_inclusive = kernel(_plain_step(False)), kernel(_plain_step(True))
    words_tile = kernel(_plain_words_tile)
else:
    STEP = "gradient at words lanes_at settings master weight where tallies groups"
    dot_tile = emitted("p rows first weight at runs length stride out", _dot_tile)
    outer_tile = emitted("p p_at e e_at counts out", _outer_tile)
    step_tile, step_tile_inclusive = emitted(STEP, _step_tile(False)), emitted(STEP, _step_tile(True))
    words_tile = emitted("key first words at", _words_tile)
