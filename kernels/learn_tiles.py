"""Register tiles of learning: products of 16-bit integers, two and two, summed in 32 bits, and steps of weights.

Vector IR that names no processor, like `tiles.py`; with 512-bit registers one step of a tile is one instruction for 32
products. The plain function beside each tile is its meaning and what the tier `portable` compiles.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from . import exact
from .cpu import tier
from .emit import INT32, INT64
from .jit import intrinsic, kernel
from .scalar import _absorb

LANES = 16  # sums of one register
VECTORS = 2  # registers beside each other: a tile is 32 sums wide
WIDTH = LANES * VECTORS
ROWS = 12  # rows of a tile: 24 registers of sums, 2 of factors, 1 for the other factor
WORDS = 16  # random words of one tile: two registers
INT16 = ir.IntType(16)


def _splat(builder, value, lanes):
    """A vector with `value` in every lane."""
    wide = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(wide, ir.Undefined), value, ir.Constant(INT32, 0))
    zeros = ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(wide, ir.Undefined), zeros)


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


class _Sums:
    """ROWS x VECTORS registers of 32-bit sums."""

    def __init__(self, builder):
        self.builder = builder
        self.wide, self.pair = ir.VectorType(INT32, LANES), ir.VectorType(INT16, 2 * LANES)
        self.cells = []
        for _ in range(ROWS * VECTORS):
            cell = cgutils.alloca_once(builder, self.wide)
            builder.store(ir.Constant(self.wide, [0] * LANES), cell)
            self.cells.append(cell)

    def load(self, data, index):
        """VECTORS registers of pairs from element `index` on."""
        found = []
        for v in range(VECTORS):
            place = self.builder.gep(data, [self.builder.add(index, ir.Constant(INT64, v * 2 * LANES))])
            found.append(self.builder.load(self.builder.bitcast(place, self.pair.as_pointer()), align=2))
        return found

    def broadcast(self, place):
        """The pair at `place` in every lane."""
        value = self.builder.load(self.builder.bitcast(place, INT32.as_pointer()), align=2)
        return self.builder.bitcast(_splat(self.builder, value, LANES), self.pair)

    def add(self, row, left, vectors):
        """Add the products of one row."""
        for v, right in enumerate(vectors):
            cell = self.cells[row * VECTORS + v]
            self.builder.store(self.builder.add(self.builder.load(cell), self._products(left, right)), cell)

    def _products(self, left, right):
        """Sums of two neighbouring products; LLVM knows this form as one instruction."""
        builder = self.builder
        double = ir.VectorType(INT32, 2 * LANES)
        product = builder.mul(builder.sext(left, double), builder.sext(right, double))
        halves = []
        for parity in (0, 1):
            mask = ir.Constant(ir.VectorType(INT32, LANES), [2 * i + parity for i in range(LANES)])
            halves.append(builder.shuffle_vector(product, ir.Constant(double, ir.Undefined), mask))
        return builder.add(*halves)

    def store(self, data):
        """All sums, row by row."""
        for i, cell in enumerate(self.cells):
            place = self.builder.gep(data, [ir.Constant(INT64, i * LANES)])
            self.builder.store(self.builder.load(cell), self.builder.bitcast(place, self.wide.as_pointer()), align=4)


def _data(context, builder, kind, value):
    return context.make_array(kind)(context, builder, value).data


def _loop(builder, count):
    return cgutils.for_range(builder, count, intp=INT64)


def _dot_tile(typing_context, p, rows, first, weight, at, runs, length, stride, out):
    kinds = (p, rows, first, weight, at, runs, length, stride, out)

    def codegen(context, builder, signature, arguments):
        def integer(i):
            return context.cast(builder, arguments[i], kinds[i], types.int64)

        sums = _Sums(builder)
        p_data, rows_data = _data(context, builder, p, arguments[0]), _data(context, builder, rows, arguments[1])
        w_data = _data(context, builder, weight, arguments[3])
        first, at, runs, length, stride = (integer(i) for i in (2, 4, 5, 6, 7))
        bases = []
        for r in range(ROWS):
            offset = builder.load(builder.gep(rows_data, [builder.add(first, ir.Constant(INT64, r))]))
            bases.append(builder.gep(p_data, [offset]))
        w_run = builder.mul(length, ir.Constant(INT64, 2 * WIDTH))
        with _loop(builder, runs) as run:
            p_from = builder.mul(run.index, stride)
            w_from = builder.add(at, builder.mul(run.index, w_run))
            with _loop(builder, length) as j:
                vectors = sums.load(w_data, builder.add(w_from, builder.mul(j.index, ir.Constant(INT64, 2 * WIDTH))))
                source = builder.add(p_from, builder.shl(j.index, ir.Constant(INT64, 1)))
                for r in range(ROWS):
                    sums.add(r, sums.broadcast(builder.gep(bases[r], [source])), vectors)
        sums.store(_data(context, builder, out, arguments[8]))
        return context.get_dummy_value()

    return types.void(*kinds), codegen


def _outer_sums(context, builder, kinds, arguments):
    """The registers of an outer tile after its three loops; arguments p, p_at, e, e_at, counts come first."""
    sums = _Sums(builder)
    p_data, e_data = _data(context, builder, kinds[0], arguments[0]), _data(context, builder, kinds[2], arguments[2])
    p_at = context.cast(builder, arguments[1], kinds[1], types.int64)
    e_at = context.cast(builder, arguments[3], kinds[3], types.int64)
    counts_data = _data(context, builder, kinds[4], arguments[4])
    n = [builder.load(builder.gep(counts_data, [ir.Constant(INT64, i)])) for i in range(9)]
    with _loop(builder, n[0]) as i:
        p_i = builder.add(p_at, builder.mul(i.index, n[3]))
        e_i = builder.add(e_at, builder.mul(i.index, n[6]))
        with _loop(builder, n[1]) as j:
            p_j = builder.add(p_i, builder.mul(j.index, n[4]))
            e_j = builder.add(e_i, builder.mul(j.index, n[7]))
            with _loop(builder, n[2]) as k:
                base = builder.gep(p_data, [builder.add(p_j, builder.mul(k.index, n[5]))])
                vectors = sums.load(e_data, builder.add(e_j, builder.mul(k.index, n[8])))
                for r in range(ROWS):
                    sums.add(r, sums.broadcast(builder.gep(base, [ir.Constant(INT64, 2 * r)])), vectors)
    return sums


def _outer_tile(typing_context, p, p_at, e, e_at, counts, out):
    kinds = (p, p_at, e, e_at, counts, out)

    def codegen(context, builder, signature, arguments):
        _outer_sums(context, builder, kinds, arguments).store(_data(context, builder, out, arguments[5]))
        return context.get_dummy_value()

    return types.void(*kinds), codegen


# -- steps of weights ------------------------------------------------------------------------------

# Settings of a step, an array of int32. A gradient becomes ``g * 2**LEFT / 2**RIGHT``, a random number is added, and
# the rest below `PLACES` is cut off. Two generators, see `learn_reference.stochastic_step`.
LEFT, RIGHT, HALF, SOME, PLACES, LANE, WHOLE, STEP_MAX, TOP, W_RIGHT, W_HALF, W_SOME, W_TOP = range(13)
SETTINGS = 13
GROUP = 32  # weights that move together
TALLIES = 2 + LANES  # of clipped weights, of changed weights, and lane by lane the greatest gradient


def _plain_step(inclusive):
    def step_tile(gradient, at, words, lanes_at, s, master, weight, where, tallies, groups):
        """Steps of ``GROUP * groups`` weights: `learn_reference.update`; gradients and sums stay below 2**30.

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


class _Step:
    """The vector form of `_plain_step`: changes in 32 bits, weights in 16; settings and tallies stay in registers."""

    def __init__(self, context, builder, inclusive, kinds, values):
        """`kinds`, `values`: settings, master (int16), weight, tallies."""
        self.builder, self.inclusive = builder, inclusive
        self.wide, self.short = ir.VectorType(INT32, LANES), ir.VectorType(INT16, GROUP)
        self.weight_bits = kinds[2].dtype.bitwidth
        settings, self.master, self.weight, self.tallies = (
            _data(context, builder, kind, value) for kind, value in zip(kinds, values, strict=True)
        )
        scalars = [builder.load(builder.gep(settings, [ir.Constant(INT64, i)])) for i in range(SETTINGS)]
        self.s = [_splat(builder, value, LANES) for value in scalars]
        self.t = [_splat(builder, builder.trunc(value, INT16), GROUP) for value in scalars]
        self.counts = []
        for i in range(2):
            cell = cgutils.alloca_once(builder, INT32)
            builder.store(builder.load(builder.gep(self.tallies, [ir.Constant(INT64, i)])), cell)
            self.counts.append(cell)
        self.peak = cgutils.alloca_once(builder, self.wide)
        builder.store(builder.load(self._peaks(), align=4), self.peak)

    def _peaks(self):
        place = self.builder.gep(self.tallies, [ir.Constant(INT64, 2)])
        return self.builder.bitcast(place, self.wide.as_pointer())

    def _least(self, left, right):
        return self.builder.select(self.builder.icmp_signed("<", left, right), left, right)

    def _greatest(self, left, right):
        return self.builder.select(self.builder.icmp_signed(">", left, right), left, right)

    def _nearest(self, value, places, half, some):
        """``value / 2**places``, a tie to even."""
        b = self.builder
        tie = b.and_(b.ashr(value, places), some)
        return b.ashr(b.add(b.add(value, b.sub(half, some)), tie), places)

    def change(self, g, lanes, shifted=True):
        """Steps of 16 weights within 16 bits; without `shifted` the setting `LEFT` is known to be 0."""
        b, s = self.builder, self.s
        zero, one = (ir.Constant(self.wide, [value] * LANES) for value in (0, 1))
        negative = b.icmp_signed("<", g, zero)
        size = b.select(negative, b.sub(zero, g), g)
        b.store(self._greatest(b.load(self.peak), size), self.peak)
        v = b.lshr(b.zext(lanes, self.wide), s[LANE])
        if self.inclusive:
            value = self._nearest(b.shl(size, s[LEFT]), s[RIGHT], s[HALF], s[SOME])
            value = b.sub(b.add(value, b.shl(one, s[PLACES])), b.lshr(b.add(v, one), one))
            n = self._least(b.ashr(value, s[PLACES]), b.add(b.ashr(size, s[WHOLE]), one))
            n = b.select(b.icmp_signed("==", g, zero), zero, n)
            n = b.select(negative, b.sub(zero, n), n)
        else:
            value = b.ashr(b.shl(g, s[LEFT]) if shifted else g, s[RIGHT])
            n = b.ashr(b.add(value, v), s[PLACES])
        most = ir.Constant(self.wide, [0x7FFF] * LANES)
        return self._least(self._greatest(n, b.sub(zero, most)), most)

    def move(self, changes, where):
        """Move 32 weights from `where` on by two registers of changes."""
        b, t = self.builder, self.t
        zero = ir.Constant(self.short, [0] * GROUP)
        mask = ir.Constant(ir.VectorType(INT32, GROUP), list(range(GROUP)))
        n = b.trunc(b.shuffle_vector(*changes, mask), self.short)
        n = self._least(self._greatest(n, b.sub(zero, t[STEP_MAX])), t[STEP_MAX])
        place = b.bitcast(b.gep(self.master, [where]), self.short.as_pointer())
        old = b.load(place, align=2)
        moved = b.sub(old, n)
        code = self._least(self._greatest(moved, b.sub(zero, t[TOP])), t[TOP])
        for cell, other in zip(self.counts, (moved, old), strict=True):
            bits = b.bitcast(b.icmp_signed("!=", code, other), INT32)
            b.store(b.add(b.load(cell), b.ctpop(bits)), cell)
        b.store(code, place, align=2)
        value = self._nearest(code, t[W_RIGHT], t[W_HALF], t[W_SOME])
        value = self._least(self._greatest(value, b.sub(zero, t[W_TOP])), t[W_TOP])
        kind = ir.VectorType(ir.IntType(self.weight_bits), GROUP)
        if self.weight_bits < 16:
            value = b.trunc(value, kind)
        place = b.bitcast(b.gep(self.weight, [where]), kind.as_pointer())
        b.store(value, place, align=self.weight_bits // 8)

    def finish(self):
        """Write the tallies back."""
        for i, cell in enumerate(self.counts):
            place = self.builder.gep(self.tallies, [ir.Constant(INT64, i)])
            self.builder.store(self.builder.load(cell), place)
        self.builder.store(self.builder.load(self.peak), self._peaks(), align=4)


def _lanes(builder, data, at):
    """16 random numbers of 16 bits; `data` points to 64-bit words, the lowest lane first in memory."""
    place = builder.gep(builder.bitcast(data, INT16.as_pointer()), [at])
    return builder.load(builder.bitcast(place, ir.VectorType(INT16, LANES).as_pointer()), align=2)


def _step_tile(inclusive):
    def step_tile(typing_context, gradient, at, words, lanes_at, settings, master, weight, where, tallies, groups):
        kinds = (gradient, at, words, lanes_at, settings, master, weight, where, tallies, groups)

        def codegen(context, builder, signature, arguments):
            at, lanes_at, where, groups = (
                context.cast(builder, arguments[i], kinds[i], types.int64) for i in (1, 3, 7, 9)
            )
            step = _Step(
                context, builder, inclusive, (settings, master, weight, tallies), [arguments[i] for i in (4, 5, 6, 8)]
            )
            bits = gradient.dtype.bitwidth
            wide = ir.VectorType(ir.IntType(bits), LANES)
            data = _data(context, builder, gradient, arguments[0])
            words_data = _data(context, builder, words, arguments[2])
            with _loop(builder, groups) as loop:
                first = builder.mul(loop.index, ir.Constant(INT64, GROUP))
                changes = []
                for v in range(GROUP // LANES):
                    shift = builder.add(first, ir.Constant(INT64, v * LANES))
                    place = builder.bitcast(builder.gep(data, [builder.add(at, shift)]), wide.as_pointer())
                    g = builder.load(place, align=bits // 8)
                    if bits > 32:
                        g = builder.trunc(g, step.wide)
                    changes.append(step.change(g, _lanes(builder, words_data, builder.add(lanes_at, shift))))
                step.move(changes, builder.add(where, first))
            step.finish()
            return context.get_dummy_value()

        return types.void(*kinds), codegen

    return step_tile


def _plain_outer_step_tile(p, p_at, e, e_at, counts, rows, words, lanes_at, s, master, weight, where, stride, tallies):
    """`outer_tile`, and a step of the weights by its sums at once: row r at ``where + r * stride``, r < `rows`.

    The random number of sum (r, o) is lane ``lanes_at + r * stride + o``; the setting `LEFT` is 0.
    """
    sums = np.empty(ROWS * WIDTH, np.int32)
    outer_tile(p, p_at, e, e_at, counts, sums)
    for r in range(rows):
        at = r * stride
        step_tile(sums, r * WIDTH, words, lanes_at + at, s, master, weight, where + at, tallies, 1)


def _outer_step_tile(typing_context, p, p_at, e, e_at, counts, rows, words, lanes_at, settings, master, weight, where,
                     stride, tallies):  # fmt: skip
    kinds = (p, p_at, e, e_at, counts, rows, words, lanes_at, settings, master, weight, where, stride, tallies)

    def codegen(context, builder, signature, arguments):
        rows, lanes_at, where, stride = (
            context.cast(builder, arguments[i], kinds[i], types.int64) for i in (5, 7, 11, 12)
        )
        sums = _outer_sums(context, builder, kinds, arguments)
        step = _Step(
            context, builder, False, (settings, master, weight, tallies), [arguments[i] for i in (8, 9, 10, 13)]
        )
        data = _data(context, builder, words, arguments[6])
        for r in range(ROWS):
            with builder.if_then(builder.icmp_signed("<", ir.Constant(INT64, r), rows), likely=True):
                at = builder.mul(stride, ir.Constant(INT64, r))
                changes = []
                for v in range(VECTORS):
                    lanes_of = builder.add(builder.add(lanes_at, at), ir.Constant(INT64, v * LANES))
                    g = builder.load(sums.cells[r * VECTORS + v])
                    changes.append(step.change(g, _lanes(builder, data, lanes_of), shifted=False))
                step.move(changes, builder.add(where, at))
        step.finish()
        return context.get_dummy_value()

    return types.void(*kinds), codegen


# -- random words ----------------------------------------------------------------------------------


def _plain_words_tile(key, first, words, at):
    """``words[at + i] = _absorb(key, first + i)`` of `scalar.py`, i < WORDS."""
    for i in range(WORDS):
        words[at + i] = _absorb(key, first + i)


def _words_tile(typing_context, key, first, words, at):
    kinds = (key, first, words, at)

    def codegen(context, builder, signature, arguments):
        first, at = (context.cast(builder, arguments[i], kinds[i], types.int64) for i in (1, 3))
        wide = ir.VectorType(INT64, WORDS)

        def every(value):
            return ir.Constant(wide, [value] * WORDS)

        index = builder.add(_splat(builder, first, WORDS), ir.Constant(wide, list(range(WORDS))))
        z = builder.add(builder.xor(_splat(builder, arguments[0], WORDS), index), every(exact.GOLDEN))
        z = builder.mul(builder.xor(z, builder.lshr(z, every(30))), every(exact.MIX_1))
        z = builder.mul(builder.xor(z, builder.lshr(z, every(27))), every(exact.MIX_2))
        z = builder.xor(z, builder.lshr(z, every(31)))
        place = builder.gep(_data(context, builder, words, arguments[2]), [at])
        builder.store(z, builder.bitcast(place, wide.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(*kinds), codegen


if tier() == "portable":
    dot_tile, outer_tile = kernel(_plain_dot_tile), kernel(_plain_outer_tile)
    step_tile, step_tile_inclusive = kernel(_plain_step(False)), kernel(_plain_step(True))
    outer_step_tile, words_tile = kernel(_plain_outer_step_tile), kernel(_plain_words_tile)
else:
    dot_tile, outer_tile = intrinsic(_dot_tile), intrinsic(_outer_tile)
    step_tile, step_tile_inclusive = intrinsic(_step_tile(False)), intrinsic(_step_tile(True))
    outer_step_tile, words_tile = intrinsic(_outer_step_tile), intrinsic(_words_tile)
