"""Single pixels of any class: read to, and written from, a row of 64-bit numbers."""

from ..toolchain.jit import kernel
from .opcodes import BYTES, LONGS, SHORTS, WORDS

__all__ = ["read_row", "write_row"]


@kernel
def read_row(kind, arena, at, count):
    """``row[i]`` = value `i` of a pixel."""
    row = arena.row
    if kind == BYTES:
        bytes_ = arena.bytes_
        for i in range(count):
            row[i] = bytes_[at + i]
    elif kind == SHORTS:
        shorts = arena.shorts
        for i in range(count):
            row[i] = shorts[at + i]
    elif kind == WORDS:
        words = arena.words
        for i in range(count):
            row[i] = words[at + i]
    elif kind == LONGS:
        longs = arena.longs
        for i in range(count):
            row[i] = longs[at + i]


@kernel
def write_row(kind, arena, at, count):
    """Value `i` of a pixel = ``row[i]``, which fits by its proven range."""
    row = arena.row
    if kind == BYTES:
        bytes_ = arena.bytes_
        for i in range(count):
            bytes_[at + i] = row[i]
    elif kind == SHORTS:
        shorts = arena.shorts
        for i in range(count):
            shorts[at + i] = row[i]
    elif kind == WORDS:
        words = arena.words
        for i in range(count):
            words[at + i] = row[i]
    elif kind == LONGS:
        longs = arena.longs
        for i in range(count):
            longs[at + i] = row[i]
