"""The vector code of the count path: dot products with the level of each sum, levels of charges, windows.

Each function has a plain twin (`plain_...`), which is its meaning and the tier ``portable``. The others are written as
vectors (`toolchain/tier.py` says which tier runs and tests it first). Arrays are flat; ``..._at`` is where a function
begins.

The level ``clip(floor((V0 + Q) / theta), bottom, L)`` of a sum S is ``(u * factor + offset) >> (32 + shift)`` with
``u = min(max(S, low), high) - low``: per channel five numbers, found and proven for every S by
`intsnn.engine.backends.count.scales`. Where `bottom` is below 0 so may the line be: the shift keeps the sign.

Weights of dot products lie as ``(K / depth, columns, depth)``: `depth` products go to one lane.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir

from ..toolchain.emit import INT16, INT32, INT64, Emit, emitted, vector
from ..toolchain.jit import kernel, variant
from ..toolchain.tier import tier

__all__ = [
    "FORMS", "ROWS_32", "ROWS_64", "DotArrays", "DotLevelPlaces", "LevelPlaces", "ScalePlaces",
    "TapPlaces", "depthwise", "depthwise_levels", "dots_1_32", "dots_1_64", "dots_4_64", "dots_6_64",
    "dots_8_32", "level_row", "pack_tile", "plain_depthwise", "plain_depthwise_levels", "plain_level_dots",
    "plain_level_row", "plain_scale_row", "scale_row",
]  # fmt: skip

TIER = tier()
FORMS = (4, 2) if TIER == "vnni" else (2,)  # products of a lane: bytes by bytes, or 16 bits by 16 bits
ROWS_64, ROWS_32 = (6, 4, 1), (8, 1)  # rows of a call, by the width of the tile
STEP = 16 if TIER in ("avx512", "vnni", "portable") else 8  # lanes of a register of 32-bit numbers
HALF = STEP // 2
MOST_SUMS = 6 * 64  # of a call


def pack_tile(weights: np.ndarray, depth: int) -> np.ndarray:
    """Weights ``(K, columns)`` of one tile as `dots` reads them; K a multiple of `depth`."""
    k, columns = weights.shape
    kind = np.int8 if depth == 4 else np.int16
    return np.ascontiguousarray(weights.reshape(k // depth, depth, columns).transpose(0, 2, 1), kind).reshape(-1)


class LevelPlaces(NamedTuple):
    """Where the scales of a row of channels begin."""

    scales: int  # low, high, factor, shift: int32 (4, padded)
    offsets: int  # int64 (padded,), in groups: even channels, then odd ones
    padded: int


class DotArrays(NamedTuple):
    """What dot products read and write; `data` of bytes makes four products of a lane, of 16 bits two."""

    data: np.ndarray
    weights: np.ndarray
    numbers: np.ndarray  # int32: places of pixels, scales, factors and biases
    big: np.ndarray  # int64: offsets of runs and of levels
    charges: np.ndarray  # int32
    sums: np.ndarray  # int32
    out: np.ndarray


class DotLevelPlaces(NamedTuple):
    """Where a group of dot products begins in its arrays, and what a row is.

    Row m begins ``numbers[pixels + m]`` elements behind `data`; its levels and the charges that join it lie
    ``numbers[pixels + span + m]`` behind `out` and ``numbers[pixels + 2 * span + m]`` behind `charges`.
    """

    data: int
    out: int
    charges: int
    pixels: int
    span: int

    weights: int
    runs: int  # where the offsets of the runs begin
    run_count: int
    run_length: int  # elements, a multiple of the products of a lane
    fires: int  # 0: sums go out, 1: levels of them, 2: levels of multiplier * sum + bias + charge
    multiplier: int  # int32, among the numbers
    bias: int
    scales: int
    offsets: int
    padded: int
    column: int  # first channel of the tile
    channels: int  # all of them


def plain_level(sum_, numbers, big, at, c):
    """Level of one sum of channel `c`; offsets of even channels of a vector lie before those of odd ones."""
    low, high = np.int64(numbers[at.scales + c]), np.int64(numbers[at.scales + at.padded + c])
    factor = np.int64(np.uint32(numbers[at.scales + 2 * at.padded + c]))
    shift = np.int64(32 + numbers[at.scales + 3 * at.padded + c])
    within = c % STEP
    where = c - within + within // 2 + (HALF if within % 2 else 0)
    u = min(max(np.int64(sum_), low), high) - low
    return (u * factor + np.int64(big[at.offsets + where])) >> shift


_level_of_one = kernel(plain_level)


def plain_level_dots(rows, width, arrays, at):
    """Product of data row m with the weights, m < rows: to ``sums[m * width + o]``, or its level to `out`.

    A row is `run_count` runs of `run_length` elements, which begin ``big[at.runs + r]`` behind its place.
    """
    depth = 4 // arrays.data.itemsize
    for m in range(rows):
        start = at.data + arrays.numbers[at.pixels + m]
        to, joined = arrays.numbers[at.pixels + at.span + m], arrays.numbers[at.pixels + 2 * at.span + m]
        line = arrays.sums[m * width : (m + 1) * width]
        line[:] = 0
        for run in range(at.run_count):
            base = start + arrays.big[at.runs + run]
            for k in range(at.run_length):
                x = np.int32(arrays.data[base + k])
                if x != 0:
                    begin = at.weights + (run * at.run_length + k) // depth * width * depth + k % depth
                    tile = arrays.weights[begin : begin + (width - 1) * depth + 1 : depth]
                    for o in range(width):
                        line[o] += x * np.int32(tile[o])
        if at.fires:
            for o in range(min(width, at.channels - at.column)):
                c, total = at.column + o, np.int64(line[o])
                if at.fires == 2:
                    total = total * np.int64(arrays.numbers[at.multiplier + c]) + np.int64(arrays.numbers[at.bias + c])
                    total += np.int64(arrays.charges[at.charges + joined + c])
                arrays.out[at.out + to + c] = _level_of_one(total, arrays.numbers, arrays.big, at, c)


def plain_level_row(charges, begin, numbers, big, out, to, channels, at):
    """Levels of a row of charges: ``out[to + c]`` of ``charges[begin + c]``."""
    for c in range(channels):
        out[to + c] = _level_of_one(charges[begin + c], numbers, big, at, c)


class TapPlaces(NamedTuple):
    """A window of channels by themselves."""

    begin: int  # first channel of the data at the first tap
    runs: int  # where the offsets of the taps begin
    taps: int
    weights: int  # (taps, padded)
    padded: int
    channels: int
    pixels: int  # of a row, with levels; their data and results `step` and `to_step` apart
    step: int
    to: int
    to_step: int
    scales: int
    offsets: int


def plain_depthwise_levels(data, big, weights, numbers, out, at):
    """Levels of `plain_depthwise` of a row of pixels; `big` holds the offsets of the taps, too."""
    level = LevelPlaces(at.scales, at.offsets, at.padded)
    for p in range(at.pixels):
        for c in range(at.channels):
            total = np.int32(0)
            for tap in range(at.taps):
                x = np.int32(data[at.begin + p * at.step + big[at.runs + tap] + c])
                total += np.int32(x * np.int32(weights[at.weights + tap * at.padded + c]))
            out[at.to + p * at.to_step + c] = _level_of_one(total, numbers, big, level, c)


def plain_depthwise(data, runs, weights, sums, at):
    """``sums[c]`` = sum over the taps of ``data[begin + runs[tap] + c] * weights[tap, c]``."""
    for c in range(at.channels):
        total = np.int32(0)
        for tap in range(at.taps):
            x = np.int32(data[at.begin + runs[at.runs + tap] + c])
            total += np.int32(x * np.int32(weights[at.weights + tap * at.padded + c]))
        sums[c] = total


class ScalePlaces(NamedTuple):
    """A pixel of values, and its charges."""

    source: int
    factor: int
    to: int
    channels: int
    keep: int  # 1: what is there stays and is added to


def plain_scale_row(values, numbers, charges, at):
    """``charges[to + c] (+)= values[source + c] * numbers[factor + c]``, modulo 2**32."""
    for c in range(at.channels):
        a = np.int32(np.int32(values[at.source + c]) * numbers[at.factor + c])
        charges[at.to + c] = np.int32(charges[at.to + c] + a) if at.keep else a


# -- levels as vectors -----------------------------------------------------------------------------


class _Scales:
    """The numbers of `STEP` channels from `c` on, in registers."""

    def __init__(self, e: Emit, c, prefix: str = "") -> None:
        b, whole, double = e.builder, vector(STEP, INT32), vector(HALF, INT64)
        self.e, self.double = e, double
        start, padded = e.pointer(f"{prefix}numbers", b.add(e.whole("at.scales"), c)), e.whole("at.padded")
        parts = [e.read(e.shift(start, e.times(padded, k)), whole) for k in range(4)]
        self.low, self.high, factor, self.shift = parts
        self.thirty_two = e.constant(double, 32)
        pairs = b.bitcast(factor, double)
        self.even, self.odd = b.and_(pairs, e.constant(double, 0xFFFFFFFF)), b.lshr(pairs, self.thirty_two)
        offsets = e.pointer(f"{prefix}big", b.add(e.whole("at.offsets"), c))
        self.even_offset, self.odd_offset = e.read(offsets, double), e.read(e.shift(offsets, HALF), double)

    def level(self, x, element: ir.IntType):
        """Levels of `STEP` sums, as integers of `element`."""
        e, b, double = self.e, self.e.builder, self.double
        x = b.select(b.icmp_signed(">", x, self.low), x, self.low)
        x = b.select(b.icmp_signed("<", x, self.high), x, self.high)
        pairs = b.bitcast(b.sub(x, self.low), double)
        even = b.mul(b.and_(pairs, e.constant(double, 0xFFFFFFFF)), self.even)
        odd = b.mul(b.lshr(pairs, self.thirty_two), self.odd)
        even = b.lshr(b.add(even, self.even_offset), self.thirty_two)
        odd = b.and_(b.add(odd, self.odd_offset), e.constant(double, -1 << 32))
        found = b.ashr(b.bitcast(b.or_(even, odd), x.type), self.shift)
        return b.trunc(found, vector(STEP, element)) if element.width < 32 else found


def _store(e: Emit, value, pointer, left) -> None:
    """Store the first `left` (int64) lanes of a vector, all if there are more."""
    b, kind = e.builder, value.type
    with b.if_else(b.icmp_signed(">=", left, e.number(kind.count)), likely=True) as (all_, some):
        with all_:
            e.write(value, pointer)
        with some:
            cell = e.cell(value)
            lanes = b.bitcast(cell, kind.element.as_pointer())
            with e.loop(0, left) as i:
                e.write(e.read(e.shift(lanes, i), kind.element), e.shift(pointer, i))


def _level_row(e: Emit):
    b = e.builder
    channels = e.whole("channels")
    charges, out = e.pointer("charges", e.whole("begin")), e.pointer("out", e.whole("to"))
    with e.loop(0, channels, STEP) as c:
        scales = _Scales(e, c)
        found = scales.level(e.read(e.shift(charges, c), vector(STEP, INT32)), e.element("out"))
        _store(e, found, e.shift(out, c), b.sub(channels, c))


# -- dot products ----------------------------------------------------------------------------------


def _dots_body(rows: int, width: int):
    """`rows` times `width` sums: up to 24 registers of 512 bits, or 12 of 256 at a time."""
    products = {
        (4, "vnni"): "avx512.vpdpbusd.512", (2, "vnni"): "avx512.vpdpwssd.512", (2, "avx512"): "avx512.pmaddw.d.512",
        (2, "avx2"): "avx2.pmadd.wd",
    }  # fmt: skip
    fit = (24 if STEP == 16 else 12) // rows
    vectors = min(width // STEP, 1 << (fit.bit_length() - 1))  # a power of 2: whole rounds
    kind = vector(STEP, INT32)

    def dots(e: Emit):
        b, depth = e.builder, 32 // e.element("arrays.data").width
        product, small = f"llvm.x86.{products[depth, TIER]}", vector(STEP * depth, e.element("arrays.weights"))
        length, runs = e.whole("at.run_length"), e.pointer("arrays.big", e.whole("at.runs"))
        starts = _places(e, rows, 0, "data")
        steps = b.lshr(length, e.number(depth.bit_length() - 1))
        for column in range(0, width, vectors * STEP):
            cells = [[e.cell(e.zeros(kind)) for _ in range(rows)] for _ in range(vectors)]
            with e.loop(0, e.whole("at.run_count")) as run:
                offset = e.read(e.shift(runs, run), INT64)
                here = [e.shift(start, offset) for start in starts]
                begin = e.sum(e.whole("at.weights"), e.times(b.mul(run, length), width), column * depth)
                tile = e.pointer("arrays.weights", begin)
                with e.loop(0, steps) as k:
                    block, step = e.shift(tile, e.times(k, width * depth)), e.times(k, depth)
                    weights = [e.read(e.shift(block, n * STEP * depth), small) for n in range(vectors)]
                    for m in range(rows):
                        word = b.load(b.bitcast(e.shift(here[m], step), INT32.as_pointer()), align=1)
                        x = b.bitcast(e.splat(word, STEP), small)
                        for n in range(vectors):
                            old = e.get(cells[n][m])
                            if TIER == "vnni":
                                new = e.call(product, kind, old, x, weights[n])
                            else:
                                new = b.add(old, e.call(product, kind, x, weights[n]))
                            e.put(new, cells[n][m])
            with b.if_else(b.icmp_signed("!=", e.whole("at.fires"), e.number(0)), likely=True) as (fires, sums):
                with fires:
                    with b.if_then(b.icmp_signed("==", e.whole("at.fires"), e.number(2))):
                        _join(e, cells, column)
                    _levels(e, cells, column)
                with sums:
                    for m in range(rows):
                        for n in range(vectors):
                            at = e.number(m * width + column + n * STEP)
                            e.write(e.get(cells[n][m]), e.pointer("arrays.sums", at))

    dots.__name__ = f"dots_{rows}_{width}"
    return dots


def _join(e: Emit, cells: list[list], column: int) -> None:
    """Sums become charges, and those of the other branches are added."""
    b, kind = e.builder, vector(STEP, INT32)
    charges = _places(e, len(cells[0]), 2, "charges")
    for n, column_of_cells in enumerate(cells):
        c = e.sum(e.whole("at.column"), column + n * STEP)
        multiplier = e.read(e.pointer("arrays.numbers", b.add(e.whole("at.multiplier"), c)), kind)
        bias = e.read(e.pointer("arrays.numbers", b.add(e.whole("at.bias"), c)), kind)
        for m, cell in enumerate(column_of_cells):
            charge = e.read(e.shift(charges[m], c), kind)
            e.put(b.add(b.add(b.mul(e.get(cell), multiplier), bias), charge), cell)


def _places(e: Emit, rows: int, which: int, name: str) -> list:
    """Where the rows of a group begin in the array `name`."""
    b = e.builder
    pixels = b.add(e.whole("at.pixels"), e.times(e.whole("at.span"), which))
    table, base = e.pointer("arrays.numbers", pixels), e.pointer(f"arrays.{name}", e.whole(f"at.{name}"))
    return [e.shift(base, b.sext(e.read(e.shift(table, m), INT32), INT64)) for m in range(rows)]


def _levels(e: Emit, cells: list[list], column: int) -> None:
    """Levels of sums that are still in registers, ``cells[vector][row]``."""
    b, targets = e.builder, _places(e, len(cells[0]), 1, "out")
    for n, column_of_cells in enumerate(cells):
        c = e.sum(e.whole("at.column"), column + n * STEP)
        left = b.sub(e.whole("at.channels"), c)
        with b.if_then(b.icmp_signed(">", left, e.number(0)), likely=True):
            scales = _Scales(e, c, "arrays.")
            for m, cell in enumerate(column_of_cells):
                found = scales.level(e.get(cell), e.element("arrays.out"))
                _store(e, found, e.shift(targets[m], c), left)


def _taps(e: Emit, here, c, big: str):
    """Sums of `STEP` channels from `c` on over the taps of a window at `here`: products of 16 by 16 bits."""
    b, kind, pairs = e.builder, vector(STEP, INT32), vector(2 * STEP, INT16)
    element = e.element("data")
    product = {"avx2": "avx2.pmadd.wd"}.get(TIER, "avx512.pmaddw.d.512")
    runs, weights = e.pointer(big, e.whole("at.runs")), e.pointer("weights", e.whole("at.weights"))
    total = e.cell(e.zeros(kind))
    with e.loop(0, e.whole("at.taps")) as tap:
        x = e.read(e.shift(here, e.read(e.shift(runs, tap), INT64)), vector(STEP, element))
        x = b.zext(x, kind) if element.width == 8 else b.and_(b.sext(x, kind), e.constant(kind, 0xFFFF))
        row = e.shift(weights, b.add(b.mul(tap, e.whole("at.padded")), c))
        w = b.zext(e.read(row, vector(STEP, INT16)), kind)
        found = e.call(f"llvm.x86.{product}", kind, b.bitcast(x, pairs), b.bitcast(w, pairs))
        e.put(b.add(e.get(total), found), total)
    return e.get(total)


def _depthwise(e: Emit):
    start, sums = e.pointer("data", e.whole("at.begin")), e.pointer("sums", e.number(0))
    with e.loop(0, e.whole("at.channels"), STEP) as c:
        e.write(_taps(e, e.shift(start, c), c, "runs"), e.shift(sums, c))


def _depthwise_levels(e: Emit):
    """`STEP` channels of a row of pixels after the other: their scales stay in registers."""
    b = e.builder
    start, out = e.pointer("data", e.whole("at.begin")), e.pointer("out", e.whole("at.to"))
    with e.loop(0, e.whole("at.channels"), STEP) as c:
        scales, left = _Scales(e, c), b.sub(e.whole("at.channels"), c)
        with e.loop(0, e.whole("at.pixels")) as p:
            here = e.shift(e.shift(start, b.mul(p, e.whole("at.step"))), c)
            levels = scales.level(_taps(e, here, c, "big"), e.element("out"))
            _store(e, levels, e.shift(e.shift(out, b.mul(p, e.whole("at.to_step"))), c), left)


def _scale_row(e: Emit):
    b, kind = e.builder, vector(STEP, INT32)
    element = e.element("values")
    values, factors = e.pointer("values", e.whole("at.source")), e.pointer("numbers", e.whole("at.factor"))
    charges, keep = e.pointer("charges", e.whole("at.to")), b.icmp_signed("!=", e.whole("at.keep"), e.number(0))
    with e.loop(0, e.whole("at.channels"), STEP) as c:
        x = e.read(e.shift(values, c), vector(STEP, element))
        x = b.zext(x, kind) if element.width == 8 else b.sext(x, kind)
        found = b.mul(x, e.read(e.shift(factors, c), kind))
        old = b.select(keep, e.read(e.shift(charges, c), kind), e.zeros(kind))
        _store(e, b.add(old, found), e.shift(charges, c), b.sub(e.whole("at.channels"), c))


# -- what runs -------------------------------------------------------------------------------------

_rows, _width = 1, 32  # of a call, others in each form


def _dots_of_form(arrays, at):
    _dots(_rows, _width, arrays, at)


if TIER == "portable":
    _dots = kernel(plain_level_dots)
    depthwise, level_row = kernel(plain_depthwise), kernel(plain_level_row)
    depthwise_levels, scale_row = kernel(plain_depthwise_levels), kernel(plain_scale_row)

    dots_6_64, dots_4_64, dots_1_64 = (
        variant(_dots_of_form, f"dots_{rows}_64", _rows=rows, _width=64) for rows in ROWS_64
    )
    dots_8_32, dots_1_32 = (variant(_dots_of_form, f"dots_{rows}_32", _rows=rows, _width=32) for rows in ROWS_32)
else:
    dots_6_64, dots_4_64, dots_1_64 = (emitted("arrays at", _dots_body(rows, 64)) for rows in ROWS_64)
    dots_8_32, dots_1_32 = (emitted("arrays at", _dots_body(rows, 32)) for rows in ROWS_32)
    level_row = emitted("charges begin numbers big out to channels at", _level_row)
    depthwise = emitted("data runs weights sums at", _depthwise)
    depthwise_levels = emitted("data big weights numbers out at", _depthwise_levels)
    scale_row = emitted("values numbers charges at", _scale_row)
