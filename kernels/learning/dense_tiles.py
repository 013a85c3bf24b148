"""Register tiles of dense layers that learn: sums of a batch that become new weights where they were made.

Like `tiles.py`: the plain function beside each tile is its meaning and the tier ``portable``. Errors lie in
`ORDER`: the lower and upper halves of a register of random bits then fit the two registers of a row as they are.
"""

import numpy as np
from llvmlite import ir

from ..numbers.compiled import absorb
from ..toolchain.emit import BYTE, INT16, INT32, INT64, Emit, emitted, vector
from ..toolchain.jit import kernel
from ..toolchain.tier import tier
from .tiles import (
    GROUP,
    LANES,
    ROWS,
    SHORT,
    VECTORS,
    WIDE,
    WIDTH,
    Step,
    Sums,
    outer_sums,
    outer_tile,
    random_vector,
    step_tile,
)

ORDER = (*range(0, WIDTH, 2), *range(1, WIDTH, 2))  # columns of a tile
WORDS = GROUP // 4  # random words of a row
COARSE = tier() == "vnni"  # whether sums of bytes cost half of the others
BYTES = 4  # products that go to one lane


def _plain_extremes_tile(p, p_at, e, e_at, counts, low, high):
    """``low[o]`` and ``high[o]`` take in the sums of column o of an `outer_tile`."""
    sums = np.empty(ROWS * WIDTH, np.int32)
    outer_tile(p, p_at, e, e_at, counts, sums)
    for i in range(ROWS * WIDTH):
        low[i % WIDTH] = min(low[i % WIDTH], sums[i])
        high[i % WIDTH] = max(high[i % WIDTH], sums[i])


def _plain_coarse_tile(p, p_at, e, e_at, count, low, high):
    """`_plain_extremes_tile` of bytes, `BYTES` samples side by side: ``p`` of 0 .. 255, ``e`` of -128 .. 127."""
    for r in range(ROWS):
        for o in range(WIDTH):
            total = np.int32(0)
            for k in range(count):
                for j in range(BYTES):
                    left, right = p_at + (k * ROWS + r) * BYTES + j, e_at + (k * WIDTH + o) * BYTES + j
                    total += np.int32(p[left]) * np.int32(e[right])
            low[o] = min(low[o], total)
            high[o] = max(high[o], total)


def _plain_outer_step_tile(p, p_at, e, e_at, counts, key, first, s, master, weight, where, stride, tallies):
    """`outer_tile`, and a step of the weights by its sums at once: row r at ``where + r * stride``.

    Sum o of a row is that of its weight ``ORDER[o]``; weight i has the 16 random bits i % 4 of word
    ``first + (r * stride + i) // 4``. In the settings `LEFT` is 0 and `PLACES` 16; no change is beyond `STEP_MAX`.
    """
    sums = np.empty(ROWS * WIDTH, np.int32)
    outer_tile(p, p_at, e, e_at, counts, sums)
    step_rows(sums, ROWS, key, first, s, master, weight, where, stride, tallies)


def _step_rows(sums, rows, key, first, s, master, weight, where, stride, tallies):
    """Steps of some rows of a tile, as in `outer_step_tile`."""
    row = np.empty(WIDTH, np.int32)
    words = np.empty(WORDS, np.uint64)
    for r in range(rows):
        for o in range(WIDTH):
            row[o % LANES * VECTORS + o // LANES] = sums[r * WIDTH + o]
        for i in range(WORDS):
            words[i] = absorb(key, first + r * (stride // 4) + i)
        step_tile(row, 0, words, 0, s, master, weight, where + r * stride, tallies, 1)


def _plain_pair_vector(first, first_at, second, second_at, out, to):
    """LANES numbers of 16 bits and as many others, side by side: the first one in the lower half."""
    low, half = np.int32(0xFFFF), np.int32(16)
    for i in range(LANES):
        out[to + i] = (np.int32(first[first_at + i]) & low) | (np.int32(second[second_at + i]) << half)


def _plain_pair_block(first, first_at, second, second_at, out, to):
    """WIDTH numbers and as many others, side by side, in `ORDER`."""
    low, half = np.int32(0xFFFF), np.int32(16)
    for i in range(WIDTH):
        o = ORDER[i]
        out[to + i] = (np.int32(first[first_at + o]) & low) | (np.int32(second[second_at + o]) << half)


def _plain_quad_vector(first, first_at, second, second_at, shift, out, to):
    """ROWS pairs and as many others, without their lowest `shift` bits, as four bytes side by side."""
    byte = np.int32(255)
    right, left = np.int32(shift), np.int32(16 + shift)
    for i in range(ROWS):
        a, b = first[first_at + i], second[second_at + i]
        low = ((a >> right) & byte) | (((a >> left) & byte) << np.int32(8))
        out[to + i] = low | (((b >> right) & byte) << np.int32(16)) | (((b >> left) & byte) << np.int32(24))


def _plain_quad_block(first, first_at, second, second_at, out, to):
    """WIDTH pairs and as many others as four bytes side by side."""
    byte = np.int32(255)
    for i in range(WIDTH):
        a, b = first[first_at + i], second[second_at + i]
        low = (a & byte) | (((a >> np.int32(16)) & byte) << np.int32(8))
        out[to + i] = low | ((b & byte) << np.int32(16)) | (((b >> np.int32(16)) & byte) << np.int32(24))


def _take_in(emit: Emit, sums: Sums):
    """Arrays `low` and `high` take in the sums, column by column."""
    for v in range(VECTORS):
        column = sums.cells[v::VECTORS]
        for name, way in (("low", "<"), ("high", ">")):
            place = emit.pointer(name, emit.number(v * LANES))
            found = emit.read(place, WIDE)
            for cell in column:
                value = emit.get(cell)
                found = emit.builder.select(emit.builder.icmp_signed(way, value, found), value, found)
            emit.write(found, place)


def _extremes_tile(emit: Emit):
    _take_in(emit, outer_sums(emit))


def _coarse_tile(emit: Emit):
    sums, quads = Sums(emit), vector(LANES * BYTES, BYTE)
    p, e = emit.pointer("p", emit.whole("p_at")), emit.pointer("e", emit.whole("e_at"))
    with emit.loop(0, emit.whole("count")) as k:
        left, right = emit.shift(p, emit.times(k, ROWS * BYTES)), emit.shift(e, emit.times(k, WIDTH * BYTES))
        errors = [emit.read(emit.shift(right, v * LANES * BYTES), quads) for v in range(VECTORS)]
        for r in range(ROWS):
            word = emit.read(emit.shift(left, r * BYTES), INT32)
            inputs = emit.builder.bitcast(emit.splat(word, LANES), quads)
            for v in range(VECTORS):
                cell = sums.cells[r * VECTORS + v]
                emit.put(emit.call("llvm.x86.avx512.vpdpbusd.512", WIDE, emit.get(cell), inputs, errors[v]), cell)
    _take_in(emit, sums)


def _side_by_side(emit: Emit, low, high):
    """Lower halves of `low`, and those of `high` in the upper halves."""
    b = emit.builder
    return b.or_(b.and_(low, emit.constant(low.type, 0xFFFF)), b.shl(high, emit.constant(high.type, 16)))


def _pair_vector(emit: Emit):
    rows = []
    for name in ("first", "second"):
        row = emit.read(emit.pointer(name, emit.whole(f"{name}_at")), vector(LANES, INT16))
        rows.append(emit.builder.zext(row, WIDE))
    emit.write(_side_by_side(emit, *rows), emit.pointer("out", emit.whole("to")))


def _pair_block(emit: Emit):
    b, halves = emit.builder, []
    for name in ("first", "second"):
        row = emit.read(emit.pointer(name, emit.whole(f"{name}_at")), vector(WIDTH, emit.element(name)))
        halves.append(b.bitcast(row if row.type.element.width == 16 else b.sext(row, SHORT), WIDE))
    place, half = emit.pointer("out", emit.whole("to")), emit.constant(WIDE, 16)
    emit.write(_side_by_side(emit, *halves), place)
    upper = b.and_(halves[1], emit.constant(WIDE, -(1 << 16)))
    emit.write(b.or_(b.lshr(halves[0], half), upper), emit.shift(place, LANES))


def _four(emit: Emit, lanes: int, at: int, shift):
    """Four bytes out of two pairs, `lanes` times from number `at` on."""
    b, kind = emit.builder, vector(lanes, INT32)
    found = emit.zeros(kind)
    for i, name in enumerate(("first", "second")):
        pairs = emit.read(emit.pointer(name, emit.sum(emit.whole(f"{name}_at"), at)), kind)
        pairs = b.lshr(pairs, emit.splat(shift, lanes)) if shift is not None else pairs
        low = b.and_(pairs, emit.constant(kind, 255))
        high = b.and_(b.lshr(pairs, emit.constant(kind, 8)), emit.constant(kind, 255 << 8))
        found = b.or_(found, b.shl(b.or_(low, high), emit.constant(kind, 16 * i)))
    emit.write(found, emit.pointer("out", emit.sum(emit.whole("to"), at)))


def _quad_vector(emit: Emit):
    shift = emit.builder.trunc(emit.whole("shift"), INT32)
    for at in range(0, ROWS, 4):
        _four(emit, 4, at, shift)


def _quad_block(emit: Emit):
    for v in range(VECTORS):
        _four(emit, LANES, v * LANES, None)


def _outer_step_tile(known: bool):
    """Every change is within `STEP_MAX`; with `known` sizes of gradients are not asked for."""

    def outer_step_tile(emit: Emit):
        b, kind = emit.builder, ir.ArrayType(vector(WORDS, INT64), ROWS)
        words = emit.cell(ir.Constant(kind, ir.Undefined))
        where, stride, first = (emit.whole(name) for name in ("where", "stride", "first"))
        sums = outer_sums(emit)
        step, apart = Step(emit, False), b.lshr(stride, emit.number(2))
        with emit.loop(0, ROWS) as r:  # all of them first: each is one long chain of instructions
            index = emit.sum(first, b.mul(apart, r))
            emit.put(random_vector(emit, emit.values["key"], index, WORDS), b.gep(words, [emit.number(0), r]))
        low, half = emit.constant(WIDE, 0xFFFF), emit.constant(WIDE, 16)
        odd = emit.constant(vector(WIDTH, INT32), [i + WIDTH * (i % 2) for i in range(WIDTH)])
        for r in range(ROWS):
            random = b.bitcast(emit.get(b.gep(words, [emit.number(0), emit.number(r)])), WIDE)
            found = []
            for v, bits in enumerate((b.and_(random, low), b.lshr(random, half))):
                g = emit.get(sums.cells[r * VECTORS + v])
                if not known:
                    step.watch(g)
                found.append(b.add(b.ashr(g, step.right), bits))
            # the upper halves are the changes
            even = b.bitcast(b.ashr(found[0], half), SHORT)
            n = b.shuffle_vector(even, b.bitcast(found[1], SHORT), odd)
            place = emit.sum(where, emit.times(stride, r))
            step.move(n, place, within=True)
            for name in ("master", "weight"):  # the rows of the tile after the next one
                emit.prefetch(emit.pointer(name, emit.sum(place, 2 * WIDTH)), write=True)
        step.finish()

    return outer_step_tile


step_rows = kernel(_step_rows)
if tier() == "portable":
    pair_vector, pair_block = kernel(_plain_pair_vector), kernel(_plain_pair_block)
    quad_vector, quad_block = kernel(_plain_quad_vector), kernel(_plain_quad_block)
    extremes_tile, outer_step_tile = kernel(_plain_extremes_tile), kernel(_plain_outer_step_tile)
    outer_step_tile_known = outer_step_tile
else:
    BESIDE = "first first_at second second_at out to"
    pair_vector, pair_block = emitted(BESIDE, _pair_vector), emitted(BESIDE, _pair_block)
    quad_vector = emitted("first first_at second second_at shift out to", _quad_vector)
    quad_block = emitted(BESIDE, _quad_block)
    OUTER = "p p_at e e_at counts key first settings master weight where stride tallies"
    extremes_tile = emitted("p p_at e e_at counts low high", _extremes_tile)
    outer_step_tile = emitted(OUTER, _outer_step_tile(False))
    outer_step_tile_known = emitted(OUTER, _outer_step_tile(True))
coarse_tile = emitted("p p_at e e_at count low high", _coarse_tile) if COARSE else kernel(_plain_coarse_tile)
