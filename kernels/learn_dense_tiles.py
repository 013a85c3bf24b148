"""Register tiles of dense layers that learn: sums of a batch that become new weights where they were made.

Like `learn_tiles.py`: the plain function beside each tile is its meaning and the tier ``portable``. Errors lie in
`ORDER`: the lower and upper halves of a register of random bits then fit the two registers of a row as they are.
"""

import numpy as np
from llvmlite import ir

from .cpu import tier
from .emit import BYTE, INT32, INT64, Emit, emitted, vector
from .jit import kernel
from .learn_tiles import (
    GROUP,
    LANES,
    RIGHT,
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
from .scalar import _absorb

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
    ``first + (r * stride + i) // 4``. In the settings `LEFT` is 0 and `PLACES` 16.
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
            words[i] = _absorb(key, first + r * (stride // 4) + i)
        step_tile(row, 0, words, 0, s, master, weight, where + r * stride, tallies, 1)


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


def _outer_step_tile(known: bool):
    """With `known` every change is within `STEP_MAX` and sizes of gradients are not asked for."""

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
                found.append(b.add(b.ashr(g, step.s[RIGHT]), bits))
            # the upper halves are the changes
            even = b.bitcast(b.ashr(found[0], half), SHORT)
            n = b.shuffle_vector(even, b.bitcast(found[1], SHORT), odd)
            step.move(n, emit.sum(where, emit.times(stride, r)), within=known)
        step.finish()

    return outer_step_tile


step_rows = kernel(_step_rows)
if tier() == "portable":
    extremes_tile, outer_step_tile = kernel(_plain_extremes_tile), kernel(_plain_outer_step_tile)
    outer_step_tile_known = outer_step_tile
else:
    OUTER = "p p_at e e_at counts key first settings master weight where stride tallies"
    extremes_tile = emitted("p p_at e e_at counts low high", _extremes_tile)
    outer_step_tile = emitted(OUTER, _outer_step_tile(False))
    outer_step_tile_known = emitted(OUTER, _outer_step_tile(True))
coarse_tile = emitted("p p_at e e_at count low high", _coarse_tile) if COARSE else kernel(_plain_coarse_tile)
