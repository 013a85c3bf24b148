"""The vector code of the fused path: dot products, lists, pools; sums of weight rows are in `rows.py`.

Each function has a plain twin (`plain_...`), which is its meaning and the tier ``portable``. The others are written
as vectors (`toolchain/tier.py` says which tier runs and tests it first). Arrays are flat; ``..._at`` is where a
function begins.

Weights of `dots` lie as ``(K / depth, channels, depth)``: `depth` products go to one lane.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from ..toolchain.emit import BYTE, INT16, INT32, INT64, Emit, emitted, vector
from ..toolchain.jit import kernel
from ..toolchain.tier import tier

WIDTH = 32  # channels are padded to a multiple
UNIT = 32  # bytes of the narrowest weight row: lists count them
LANES = 16  # neurons of one vector instruction
DOT_WIDTH = 64  # channels of a tile of dot products; the last one may be WIDTH
DOT_ROWS = 12  # rows of a group of dot products are a multiple
SLACK = 64  # elements that may be read or written behind the end of a list
TIER = tier()
PAIRED = TIER != "portable"
DOT_DEPTH = 4 if TIER == "vnni" else 2
DOT_TYPE = np.int8 if TIER == "vnni" else np.int16


# -- dot products ----------------------------------------------------------------------------------


def pack_dots(weights: np.ndarray) -> np.ndarray:
    """Weights ``(K, channels)`` of one tile as `dots` reads them; K a multiple of `DOT_DEPTH`."""
    k, channels = weights.shape
    return np.ascontiguousarray(
        weights.reshape(k // DOT_DEPTH, DOT_DEPTH, channels).transpose(0, 2, 1), DOT_TYPE
    ).reshape(-1)


class DotPlaces(NamedTuple):
    """Where a group of dot products begins in its arrays, and what a row is."""

    sums: int
    stride: int  # of the sums, from row to row
    where: int
    weights: int
    runs: int  # a row of data is so many runs
    run_stride: int  # so far apart
    run_length: int
    initial: int


def plain_dots(rows, width, sums, data, where, weights, initial, at):
    """``sums[at.sums + m * stride + o]`` = initial of channel o + product of data row m with the weights, m < rows.

    A row is `runs` runs of `run_length` elements, `run_stride` apart, from ``data[where[at.where + m]]`` on. Bytes
    of tier ``vnni`` count 0..255.
    """
    for m in range(rows):
        for o in range(width):
            total = np.int64(initial[at.initial + o])
            for run in range(at.runs):
                for k in range(at.run_length):
                    x = np.int64(data[where[at.where + m] + run * at.run_stride + k])
                    x = x & 255 if DOT_DEPTH == 4 else x
                    at_weight = (run * at.run_length + k) // DOT_DEPTH * width + o
                    total += x * weights[at.weights + at_weight * DOT_DEPTH + k % DOT_DEPTH]
            sums[at.sums + m * at.stride + o] = total


def _portable_dots(rows, width, sums, data, where, weights, initial, at):
    """`plain_dots` with the channels innermost, zeros skipped."""
    for m in range(rows):
        line = sums[at.sums + m * at.stride : at.sums + m * at.stride + width]
        line[:] = initial[at.initial : at.initial + width]
        for run in range(at.runs):
            base = where[at.where + m] + run * at.run_stride
            for k in range(at.run_length):
                x = np.int32(data[base + k])
                if x != 0:
                    begin = at.weights + (run * at.run_length + k) // DOT_DEPTH * width * DOT_DEPTH + k % DOT_DEPTH
                    tile = weights[begin : begin + (width - 1) * DOT_DEPTH + 1 : DOT_DEPTH]
                    for o in range(width):
                        line[o] += x * np.int32(tile[o])


def _dots_body(rows, width):
    """`rows` times `width` sums: 24 registers of 512 bits, or 12 of 256 at a time."""
    lanes = 16 if TIER in ("avx512", "vnni") else 8
    products = {"vnni": "avx512.vpdpbusd.512", "avx512": "avx512.pmaddw.d.512", "avx2": "avx2.pmadd.wd"}
    product = f"llvm.x86.{products.get(TIER)}"
    vectors = min(width // lanes, 24 // rows if lanes == 16 else 2)
    element = BYTE if DOT_DEPTH == 4 else INT16
    kind, small = vector(lanes, INT32), vector(lanes * DOT_DEPTH, element)

    def dots(e: Emit):
        b = e.builder
        at, stride, run_length = e.whole("at.sums"), e.whole("at.stride"), e.whole("at.run_length")
        where = e.pointer("where", e.whole("at.where"))
        first, initial = e.whole("at.weights"), e.whole("at.initial")
        starts = [e.pointer("data", e.read(e.shift(where, m), INT64)) for m in range(rows)]
        steps = b.lshr(run_length, e.number(DOT_DEPTH.bit_length() - 1))
        for column in range(0, width, vectors * lanes):
            cells = []
            for n in range(vectors):
                value = e.read(e.pointer("initial", e.sum(initial, column + n * lanes)), kind)
                cells.append([e.cell(value) for _ in range(rows)])
            with e.loop(0, e.whole("at.runs")) as run:
                shift = b.mul(run, e.whole("at.run_stride"))
                here = [e.shift(start, shift) for start in starts]
                begin = e.sum(first, e.times(b.mul(run, run_length), width), column * DOT_DEPTH)
                tile = e.pointer("weights", begin)
                with e.loop(0, steps) as k:
                    block = e.shift(tile, e.times(k, width * DOT_DEPTH))
                    step = e.times(k, DOT_DEPTH)
                    weights = [e.read(e.shift(block, n * lanes * DOT_DEPTH), small) for n in range(vectors)]
                    for m in range(rows):
                        word = b.load(b.bitcast(e.shift(here[m], step), INT32.as_pointer()), align=1)
                        x = b.bitcast(e.splat(word, lanes), small)
                        for n in range(vectors):
                            old = e.get(cells[n][m])
                            if DOT_DEPTH == 4:
                                new = e.call(product, kind, old, x, weights[n])
                            else:
                                new = b.add(old, e.call(product, kind, x, weights[n]))
                            e.put(new, cells[n][m])
            for m in range(rows):
                for n in range(vectors):
                    place = e.pointer("sums", e.sum(at, e.times(stride, m), column + n * lanes))
                    e.write(e.get(cells[n][m]), place)

    return dots


# -- lists -----------------------------------------------------------------------------------------


def plain_list(spikes, at, channels, first, negated, items, total):
    """Append the rows of the non-zero bytes among `channels` (a multiple of 32), times `UNIT`; the new length.

    Byte k names row ``first + k``, a negative one the row `negated` further on; a value of n stands there n times.
    Up to `SLACK` items behind may be overwritten.
    """
    for block in range(0, channels, LANES):
        level = 0
        more = True
        while more:
            more = False
            for k in range(block, block + LANES):
                value = np.int64(spikes[at + k])
                if abs(value) > level:
                    items[total] = (first + k + (negated if value < 0 else 0)) * UNIT
                    total += 1
                    more |= abs(value) > level + 1
            level += 1
    return total


_LIST = "spikes at channels first negated items total"


def _list(e: Emit):
    b, kind = e.builder, vector(LANES, INT32)
    total = e.cell(e.whole("total"))
    start = e.pointer("spikes", e.whole("at"))
    base = b.add(
        e.splat(b.trunc(e.times(e.whole("first"), UNIT), INT32), LANES),
        e.constant(kind, [UNIT * k for k in range(LANES)]),
    )
    away = e.splat(b.trunc(e.times(e.whole("negated"), UNIT), INT32), LANES)
    level = e.cell(e.zeros(INT32))

    def append(mask, item):
        packed = e.call("llvm.x86.avx512.mask.compress.v16i32", kind, item, e.zeros(kind), mask)
        e.write(packed, e.pointer("items", e.get(total)))
        bits = b.zext(b.bitcast(mask, INT16), INT64)
        e.put(b.add(e.get(total), e.call("llvm.ctpop.i64", INT64, bits)), total)

    def any_of(mask):
        return b.icmp_unsigned("!=", b.bitcast(mask, ir.IntType(mask.type.count)), ir.IntType(mask.type.count)(0))

    with e.loop(0, e.whole("channels"), 2 * LANES) as k:
        here = b.add(base, e.splat(b.trunc(e.times(k, UNIT), INT32), LANES))
        items = (here, b.add(here, e.constant(kind, LANES * UNIT)))
        bytes_ = e.read(e.shift(start, k), vector(2 * LANES, BYTE))
        above = b.icmp_unsigned(">", bytes_, e.constant(bytes_.type, 1))
        with b.if_else(any_of(above), likely=False) as (many, few):
            with few:
                set_ = b.icmp_signed("!=", bytes_, e.zeros(bytes_.type))
                for half, item in enumerate(items):
                    lanes = e.constant(vector(LANES, INT32), range(half * LANES, (half + 1) * LANES))
                    append(b.shuffle_vector(set_, set_, lanes), item)
            with many:  # negative ones, or several of one row
                for half, item in enumerate(items):
                    x = b.sext(e.read(e.shift(start, e.sum(k, half * LANES)), vector(LANES, BYTE)), kind)
                    below = b.icmp_signed("<", x, e.zeros(kind))
                    item = b.add(item, b.select(below, away, e.zeros(kind)))
                    size = b.select(below, b.sub(e.zeros(kind), x), x)
                    e.put(e.zeros(INT32), level)
                    again, done = b.append_basic_block("again"), b.append_basic_block("listed")
                    b.branch(again)
                    b.position_at_end(again)
                    append(b.icmp_signed(">", size, e.splat(e.get(level), LANES)), item)
                    e.put(b.add(e.get(level), ir.Constant(INT32, 1)), level)
                    further = b.icmp_signed(">", size, e.splat(e.get(level), LANES))
                    b.cbranch(any_of(further), again, done)
                    b.position_at_end(done)
    return e.get(total)


def plain_collect(items, total, source, begin, end, shift):
    """Append ``source[begin:end] + shift`` to a list; the new length. Up to `SLACK` items behind may be overwritten."""
    for i in range(begin, end):
        items[total + i - begin] = np.uint32(np.int64(source[i]) + shift)
    return total + end - begin


_COLLECT = "items total source begin end shift"


def _collect(e: Emit):
    b, kind = e.builder, vector(LANES, INT32)
    begin, end, total = e.whole("begin"), e.whole("end"), e.whole("total")
    shift = e.splat(b.trunc(e.whole("shift"), INT32), LANES)
    size = b.sub(end, begin)
    with e.loop(0, size, LANES) as i:
        x = e.read(e.pointer("source", b.add(begin, i)), kind)
        e.write(b.add(x, shift), e.pointer("items", b.add(total, i)))
    return b.add(total, size)


def plain_count(spikes, at, size):
    """Number of bytes that are not zero among `size` (a multiple of 32)."""
    total = 0
    for k in range(size):
        total += spikes[at + k] != 0
    return total


def _count(e: Emit):
    b, kind = e.builder, vector(32, BYTE)
    total = e.cell(e.number(0))
    start = e.pointer("spikes", e.whole("at"))
    with e.loop(0, e.whole("size"), 32) as k:
        mask = b.icmp_signed("!=", e.read(e.shift(start, k), kind), e.zeros(kind))
        bits = b.zext(b.bitcast(mask, INT32), INT64)
        e.put(b.add(e.get(total), e.call("llvm.ctpop.i64", INT64, bits)), total)
    return e.get(total)


def plain_weigh(spikes, at, size):
    """Sum of the sizes of `size` bytes (a multiple of 32): how many items their list would have."""
    total = 0
    for k in range(size):
        total += abs(np.int64(spikes[at + k]))
    return total


def _weigh(e: Emit):
    b, kind, sums = e.builder, vector(32, BYTE), vector(4, INT64)
    cell = e.cell(e.zeros(sums))
    start = e.pointer("spikes", e.whole("at"))
    with e.loop(0, e.whole("size"), 32) as k:
        x = e.read(e.shift(start, k), kind)
        x = b.select(b.icmp_signed("<", x, e.zeros(kind)), b.sub(e.zeros(kind), x), x)
        e.put(b.add(e.get(cell), e.call("llvm.x86.avx2.psad.bw", sums, x, e.zeros(kind))), cell)
    return e.call("llvm.vector.reduce.add.v4i64", INT64, e.get(cell))


# -- pools -----------------------------------------------------------------------------------------


class Pixels(NamedTuple):
    """A window of a map: `ny` rows, `row` apart, of `nx` pixels, `pixel` apart."""

    at: int
    ny: int
    nx: int
    row: int
    pixel: int
    channels: int


def plain_window_sum(spikes, to, window):
    """``spikes[to + c]`` = sum of a window of bytes."""
    for c in range(window.channels):
        total = 0
        for y in range(window.ny):
            for x in range(window.nx):
                total += spikes[window.at + y * window.row + x * window.pixel + c]
        spikes[to + c] = total


def plain_window_max(counts, best_at, spikes, to, window):
    """Maximum of a window of counts to ``counts[best_at + c]``, what it gained to ``spikes[to + c]``; 0 if empty."""
    for c in range(window.channels):
        best = np.int64(counts[window.at + c]) if window.ny * window.nx > 0 else 0
        for y in range(window.ny):
            for x in range(window.nx):
                best = max(best, np.int64(counts[window.at + y * window.row + x * window.pixel + c]))
        spikes[to + c] = best - np.int64(counts[best_at + c])
        counts[best_at + c] = best


def plain_window_weigh(sums, to, spikes, weights, first, weight_row, window):
    """``sums[to + c]`` = sum over a window of bytes times their weights, which fits 16 bits.

    The weights of a pixel are those of its channels, from `first` on; those of a row lie `weight_row` apart.
    """
    for c in range(window.channels):
        total = np.int32(0)
        for y in range(window.ny):
            for x in range(window.nx):
                value = np.int32(spikes[window.at + y * window.row + x * window.pixel + c])
                total += value * np.int32(weights[first + y * weight_row + x * window.channels + c])
        sums[to + c] = total


def _portable_window_weigh(sums, to, spikes, weights, first, weight_row, window):
    """`plain_window_weigh` with the channels innermost."""
    line = sums[to : to + window.channels]
    line[:] = 0
    for y in range(window.ny):
        for x in range(window.nx):
            at, row = window.at + y * window.row + x * window.pixel, first + y * weight_row + x * window.channels
            values, factors = spikes[at : at + window.channels], weights[row : row + window.channels]
            for c in range(window.channels):
                line[c] += np.int32(values[c]) * np.int32(factors[c])


def _window(e: Emit, name, element, begin, merge, finish):
    """Merge the pixels of a window, `WIDTH` channels at a time; ``finish(channel, merged)`` writes them."""
    b, kind = e.builder, vector(WIDTH, element)
    with e.loop(0, e.whole("window.channels"), WIDTH) as c:
        start = e.pointer(name, b.add(e.whole("window.at"), c))
        cell = e.cell(begin(start, kind))
        with e.loop(0, e.whole("window.ny")) as y:
            line = e.shift(start, b.mul(y, e.whole("window.row")))
            with e.loop(0, e.whole("window.nx")) as x:
                e.put(merge(e.get(cell), e.read(e.shift(line, b.mul(x, e.whole("window.pixel"))), kind)), cell)
        finish(c, e.get(cell))


def _window_sum(e: Emit):
    b = e.builder

    def finish(c, total):
        e.write(total, e.pointer("spikes", b.add(e.whole("to"), c)))

    _window(e, "spikes", BYTE, lambda start, kind: e.zeros(kind), b.add, finish)


def _window_max(e: Emit):
    b = e.builder
    some = b.icmp_signed(">", b.mul(e.whole("window.ny"), e.whole("window.nx")), e.number(0))

    def begin(start, kind):
        return b.select(some, e.read(start, kind), e.zeros(kind))

    def larger(old, new):
        return b.select(b.icmp_signed(">", new, old), new, old)

    def finish(c, best):
        place = e.pointer("counts", b.add(e.whole("best_at"), c))
        gain = b.sub(best, e.read(place, best.type))
        e.write(b.trunc(gain, vector(WIDTH, BYTE)), e.pointer("spikes", b.add(e.whole("to"), c)))
        e.write(best, place)

    _window(e, "counts", INT16, begin, larger, finish)


def _window_weigh(e: Emit):
    b, wide = e.builder, vector(WIDTH, INT16)

    def widened(pointer):
        return b.sext(e.read(pointer, vector(WIDTH, BYTE)), wide)

    with e.loop(0, e.whole("window.channels"), WIDTH) as c:
        start = e.pointer("spikes", b.add(e.whole("window.at"), c))
        factors = e.pointer("weights", b.add(e.whole("first"), c))
        cell = e.cell(e.zeros(wide))
        with e.loop(0, e.whole("window.ny")) as y:
            line = e.shift(start, b.mul(y, e.whole("window.row")))
            row = e.shift(factors, b.mul(y, e.whole("weight_row")))
            with e.loop(0, e.whole("window.nx")) as x:
                value = widened(e.shift(line, b.mul(x, e.whole("window.pixel"))))
                factor = widened(e.shift(row, b.mul(x, e.whole("window.channels"))))
                e.put(b.add(e.get(cell), b.mul(value, factor)), cell)
        e.write(b.sext(e.get(cell), vector(WIDTH, INT32)), e.pointer("sums", b.add(e.whole("to"), c)))


# -- what runs -------------------------------------------------------------------------------------

DOT_GROUP = {64: 6, 32: 6 if TIER == "avx2" else 12}  # rows of one call, by the width of the tile

if TIER == "portable":
    _dots = kernel(_portable_dots)

    @kernel
    def dots_64(sums, data, where, weights, initial, at):
        _dots(6, 64, sums, data, where, weights, initial, at)

    @kernel
    def dots_32(sums, data, where, weights, initial, at):
        _dots(12, 32, sums, data, where, weights, initial, at)

    list_bytes, collect, count_nonzero = kernel(plain_list), kernel(plain_collect), kernel(plain_count)
    weigh = kernel(plain_weigh)
    window_sum, window_max = kernel(plain_window_sum), kernel(plain_window_max)
    window_weigh = kernel(_portable_window_weigh)
else:
    _DOTS = "sums data where weights initial at"
    dots_64, dots_32 = (emitted(_DOTS, _dots_body(DOT_GROUP[width], width)) for width in (64, 32))
    collect = emitted(_COLLECT, _collect, types.int64)
    count_nonzero = emitted("spikes at size", _count, types.int64)
    weigh = emitted("spikes at size", _weigh, types.int64)
    window_sum = emitted("spikes to window", _window_sum)
    window_max = emitted("counts best_at spikes to window", _window_max)
    window_weigh = emitted("sums to spikes weights first weight_row window", _window_weigh)
    list_bytes = kernel(plain_list) if TIER == "avx2" else emitted(_LIST, _list, types.int64)
