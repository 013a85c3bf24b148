"""Sums of weight rows, one for each spike: the vector code of the event-driven half of the fused path.

Each function has a plain twin (`plain_...`), which is its meaning and the tier ``portable``.

Rows lie in one of two forms. Rows of bytes, for weights up to `MOST_NARROW`: 8-bit sums hold `few` rows, at least
`UNROLL`, and one addition serves 64 channels; then they go to 16 bits. Rows of pairs, for larger weights: the low byte
of a 16-bit lane is a weight + 128, the high byte another weight. One addition sums both, one more the high bytes alone;
all modulo 2^16, which is exact as long as the true sums fit. The tier ``portable`` has bytes only.
"""

from typing import NamedTuple

import numpy as np

from ..toolchain.emit import BYTE, INT16, INT32, INT64, Emit, emitted, vector
from ..toolchain.jit import kernel
from ..toolchain.tier import tier
from .tiles import UNIT, WIDTH

__all__ = ["MOST_NARROW", "SPARE", "Room", "few_of", "pack_rows"]

PAIRED = tier() != "portable"
UNROLL = 4  # rows of one turn of the loop over bytes
SPARE = UNROLL - 1  # items behind the last one of a list that have to name the row of zeros
MOST_NARROW = 127 // UNROLL  # largest weight of rows of bytes


def few_of(largest: int) -> int:
    """How many rows of weights up to `largest` 8-bit sums hold, a multiple of `UNROLL`; 0: rows lie in pairs."""
    return 127 // max(1, largest) // UNROLL * UNROLL


def pack_rows(weights: np.ndarray, few: int) -> np.ndarray:
    """Weight rows ``(rows, width)`` int8 of one tile as `gather` reads them, a row of zeros behind the last."""
    rows = np.concatenate([weights, np.zeros((1, weights.shape[1]), np.int8)]).astype(np.int8)
    if few or not PAIRED:
        return rows.reshape(-1)
    half = rows.shape[1] // 2
    low = (rows[:, :half].astype(np.int16) + 128).astype(np.uint8).view(np.int8)
    return np.ascontiguousarray(np.stack([low, rows[:, half:]], axis=2)).reshape(-1)


class Room(NamedTuple):
    """How many rows sums of 16 and of 8 bits hold, multiples of `UNROLL`; few is 0 where rows lie in pairs."""

    safe: int
    few: int


def plain_pairs(width, sums, at, rows, first, items, count, _room):
    """``sums[at + o]`` = sum over `count` list items of the weight of channel o < width, from rows in pairs.

    An item is a row number times `UNIT`; `SPARE` items behind the last one name the row of zeros. The 16-bit sums are
    widened every `safe` items.
    """
    half = width // 2
    for o in range(width):
        sums[at + o] = 0
    for i in range(count):
        row = first + np.int64(items[i]) * (width // UNIT)
        for o in range(half):
            sums[at + o] += (np.int64(rows[row + 2 * o]) & 255) - 128
            sums[at + half + o] += rows[row + 2 * o + 1]


def plain_bytes(width, sums, at, rows, first, items, count, _room):
    """`plain_pairs` from rows of bytes; their sums are widened every `few` items."""
    line = sums[at : at + width]
    line[:] = 0
    for i in range(count):
        begin = first + np.int64(items[i]) * (width // UNIT)
        row = rows[begin : begin + width]
        for o in range(width):
            line[o] += row[o]


def _store(e: Emit, begin, found) -> None:
    """Write 16-bit vectors `found`, pairs of channel and value, to the sums, or add them unless `begin` is 0."""
    b, at = e.builder, e.whole("at")

    def places():
        for o, value in found:
            wide = vector(value.type.count, INT32)
            yield b.sext(value, wide), e.pointer("sums", e.sum(at, o)), wide

    with b.if_else(b.icmp_signed("==", begin, e.number(0))) as (fresh, more):
        with fresh:
            for value, place, _ in places():
                e.write(value, place)
        with more:
            for value, place, wide in places():
                e.write(b.add(value, e.read(place, wide)), place)


def _turns(e: Emit, unroll: int):
    """Turns of the loop over the list; and at least one, for the sums are written even of no item."""
    b = e.builder
    turns = b.ashr(e.sum(e.whole("count"), unroll - 1), e.number(unroll.bit_length() - 1))
    return turns, b.select(b.icmp_signed(">", turns, e.number(0)), turns, e.number(1))


def _until(e: Emit, begin, many, most):
    """The smaller one of ``begin + many`` and `most`."""
    b, end = e.builder, e.sum(begin, many)
    return b.select(b.icmp_signed("<", end, most), end, most)


def _row(e: Emit, place, k: int, start, width: int):
    """Pointer to the row that item `k` of the list at `place` names."""
    item = e.builder.zext(e.read(e.shift(place, k), INT32), INT64)
    return e.shift(start, e.times(item, width // UNIT))


def _pairs_body(width: int):
    lanes = min(32, width // 2)
    vectors = width // 2 // lanes

    def pairs(e: Emit):
        b, kind = e.builder, vector(lanes, INT16)
        start = e.pointer("rows", e.whole("first"))
        (turns, some), safe = _turns(e, 2), b.ashr(e.whole("room.safe"), e.number(1))
        both, high = ([e.cell(e.zeros(kind)) for _ in range(vectors)] for _ in range(2))
        with e.loop(0, some, safe) as begin:
            end = _until(e, begin, safe, turns)
            for cell in both + high:
                e.put(e.zeros(kind), cell)
            with e.loop(begin, end) as i:
                place = e.pointer("items", e.times(i, 2))
                for k in range(2):
                    row = _row(e, place, k, start, width)
                    for v in range(vectors):
                        x = e.read(e.shift(row, v * lanes * 2), kind)
                        e.put(b.add(e.get(both[v]), x), both[v])
                        e.put(b.add(e.get(high[v]), b.ashr(x, e.constant(kind, 8))), high[v])
            offset = e.splat(b.trunc(b.shl(b.sub(end, begin), e.number(8)), INT16), lanes)  # 2 rows a turn, 128 a row
            found = []
            for v in range(vectors):
                top = e.get(high[v])
                low = b.sub(b.sub(e.get(both[v]), b.shl(top, e.constant(kind, 8))), offset)
                found += [(v * lanes, low), (width // 2 + v * lanes, top)]
            _store(e, begin, found)

    return pairs


def _bytes_body(width: int):
    lanes = min(64, width)
    vectors = width // lanes
    shift = UNROLL.bit_length() - 1

    def bytes_(e: Emit):
        b, kind, half = e.builder, vector(lanes, BYTE), vector(lanes, INT16)
        start = e.pointer("rows", e.whole("first"))
        turns, some = _turns(e, UNROLL)
        safe, few = (b.ashr(e.whole(f"room.{name}"), e.number(shift)) for name in ("safe", "few"))
        narrow = [e.cell(e.zeros(kind)) for _ in range(vectors)]
        wider = [e.cell(e.zeros(half)) for _ in range(vectors)]
        with e.loop(0, some, safe) as begin:
            end = _until(e, begin, safe, turns)
            for cell in wider:
                e.put(e.zeros(half), cell)
            with e.loop(begin, end, few) as from_:
                for cell in narrow:
                    e.put(e.zeros(kind), cell)
                with e.loop(from_, _until(e, from_, few, end)) as i:
                    place = e.pointer("items", e.times(i, UNROLL))
                    for k in range(UNROLL):
                        row = _row(e, place, k, start, width)
                        for v in range(vectors):
                            e.put(b.add(e.get(narrow[v]), e.read(e.shift(row, v * lanes), kind)), narrow[v])
                for v in range(vectors):
                    e.put(b.add(e.get(wider[v]), b.sext(e.get(narrow[v]), half)), wider[v])
            _store(e, begin, [(v * lanes, e.get(wider[v])) for v in range(vectors)])

    return bytes_


# -- what runs: the number is that of channels, in units of WIDTH ----------------------------------

_NAMES = "sums at rows first items count room"

if PAIRED:
    pairs_1, pairs_2, pairs_4, pairs_8 = (emitted(_NAMES, _pairs_body(n * WIDTH)) for n in (1, 2, 4, 8))
    bytes_1, bytes_2, bytes_4, bytes_8 = (emitted(_NAMES, _bytes_body(n * WIDTH)) for n in (1, 2, 4, 8))
else:
    _bytes = kernel(plain_bytes)

    @kernel
    def bytes_1(sums, at, rows, first, items, count, room):
        _bytes(WIDTH, sums, at, rows, first, items, count, room)

    @kernel
    def bytes_2(sums, at, rows, first, items, count, room):
        _bytes(2 * WIDTH, sums, at, rows, first, items, count, room)

    @kernel
    def bytes_4(sums, at, rows, first, items, count, room):
        _bytes(4 * WIDTH, sums, at, rows, first, items, count, room)

    @kernel
    def bytes_8(sums, at, rows, first, items, count, room):
        _bytes(8 * WIDTH, sums, at, rows, first, items, count, room)

    pairs_1, pairs_2, pairs_4, pairs_8 = bytes_1, bytes_2, bytes_4, bytes_8


@kernel(inline="always")
def gather(width, sums, at, rows, first, items, count, room):
    """``sums[at + o]`` = sum over the `count` items of a list of the weight of channel o < `width`."""
    if room.few:
        if width == 8 * WIDTH:
            bytes_8(sums, at, rows, first, items, count, room)
        elif width == 4 * WIDTH:
            bytes_4(sums, at, rows, first, items, count, room)
        elif width == 2 * WIDTH:
            bytes_2(sums, at, rows, first, items, count, room)
        else:
            bytes_1(sums, at, rows, first, items, count, room)
    elif width == 8 * WIDTH:
        pairs_8(sums, at, rows, first, items, count, room)
    elif width == 4 * WIDTH:
        pairs_4(sums, at, rows, first, items, count, room)
    elif width == 2 * WIDTH:
        pairs_2(sums, at, rows, first, items, count, room)
    else:
        pairs_1(sums, at, rows, first, items, count, room)
