"""Rounding, overflow, random bits and bit packing in plain Python integers: the specification.

Nothing here is bounded, compiled or clever. `compiled.py` and `packing.py` hold the compiled twins,
which must give the same integers wherever they are defined.
"""

from .modes import Overflow, Rounding

__all__ = ["overflow", "pack_bits", "random_key", "random_word", "round_div", "round_shift", "unpack_bits"]

MASK64 = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd: keeps the all-zero key away from the fixed point 0 of `mix`
MIX_1 = (
    0xBF58476D1CE4E5B9  # the two multipliers of the splitmix64 finaliser (Steele, Lea & Flood 2014; Stafford's mix 13)
)
MIX_2 = 0x94D049BB133111EB


def round_shift(x: int, k: int, mode: int, word: int = 0) -> int:
    """Return ``x / 2**k`` rounded to an integer by `mode`.

    Parameters
    ----------
    x : int
        Any integer.
    k : int
        Shift count, 0 or more.
    mode : Rounding
        How to round.
    word : int
        Random bits, used by ``STOCHASTIC`` only: R is the low `k` bits of `word` and the result
        ``(x + R) >> k``. A `k` above 64 needs a word of `k` bits.

    Twin: `scalar.round_shift` (int64, k in 0..62).
    """
    return round_div(x, 1 << k, mode, word)


def round_div(x: int, d: int, mode: int, word: int = 0) -> int:
    """Return ``x / d`` rounded to an integer by `mode`.

    Parameters
    ----------
    x : int
        Any integer.
    d : int
        Divisor, 1 or more.
    mode : Rounding
        How to round.
    word : int
        Random bits, used by ``STOCHASTIC`` only: ``R = word mod d`` and the result
        ``floor((x + R) / d)``. Exact multiples of `d` never move.

    Twin: `scalar.round_div` (int64).
    """
    if mode == Rounding.STOCHASTIC:
        return (x + word % d) // d
    floor = x // d
    twice = 2 * (x - floor * d)  # twice the remainder: a tie is twice == d
    if twice == 0 or mode == Rounding.TRN:
        return floor
    if mode == Rounding.TRN_ZERO:
        return floor + (x < 0)
    if twice != d:
        return floor + (twice > d)
    if mode == Rounding.RND:
        return floor + 1
    if mode == Rounding.RND_CONV:
        return floor + (floor & 1)
    if mode == Rounding.RND_INF:
        return floor + (x > 0)
    if mode == Rounding.RND_ZERO:
        return floor + (x < 0)
    if mode == Rounding.RND_MIN_INF:
        return floor
    raise ValueError(f"rounding mode {mode!r} is unknown; the modes are 0 to 7")


def overflow(x: int, lo: int, hi: int, mode: int) -> int:
    """Return `x` brought into the code range [`lo`, `hi`] by `mode`.

    ``SAT`` clips to [lo, hi]; ``SAT_SYM`` clips to [-hi, hi] if lo < 0, else to [lo, hi]; ``WRAP``
    adds the multiple of ``hi - lo + 1`` that lands in [lo, hi]; ``TRAP`` returns `x` unchanged and
    leaves it to the caller to raise. Twin: `scalar.overflow` (int64).
    """
    if mode == Overflow.SAT:
        return min(max(x, lo), hi)
    if mode == Overflow.SAT_SYM:
        return min(max(x, -hi if lo < 0 else lo), hi)
    if mode == Overflow.WRAP:
        return lo + (x - lo) % (hi - lo + 1)
    if mode == Overflow.TRAP:
        return x
    raise ValueError(f"overflow mode {mode!r} is unknown; the modes are 0 to 3")


def mix(z: int) -> int:
    """Bijective finaliser of splitmix64 on 64-bit words."""
    z = ((z ^ (z >> 30)) * MIX_1) & MASK64
    z = ((z ^ (z >> 27)) * MIX_2) & MASK64
    return z ^ (z >> 31)


def absorb(state: int, word: int) -> int:
    """Fold one key word into the state of the generator."""
    return mix(((state ^ (word & MASK64)) + GOLDEN) & MASK64)


def random_key(seed: int, step: int, layer: int, sample: int) -> int:
    """Return the state after the four outer key words; `random_word` goes on from here."""
    return absorb(absorb(absorb(absorb(0, seed), step), layer), sample)


def random_word(seed: int, step: int, layer: int, sample: int, element: int, draw: int) -> int:
    """Return 64 random bits that depend on the six key words (each in 0 .. 2**63 - 1) and nothing else.

    The state starts at 0; for each key word w in the order given,
    ``state = mix((state ^ w) + 0x9E3779B97F4A7C15)`` modulo 2**64. Twin: `scalar.random_word`.
    """
    return absorb(absorb(random_key(seed, step, layer, sample), element), draw)


def pack_bits(codes: list[int], bits: int) -> bytes:
    """Return the low `bits` bits (1..32) of every code, densely, in little-endian bit order.

    Bit j of code i is bit ``(i * bits + j) % 8`` of byte ``(i * bits + j) // 8``; the unused high
    bits of the last byte are 0. Twin: `packing.pack`.
    """
    stream = 0
    for i, code in enumerate(codes):
        stream |= (code & ((1 << bits) - 1)) << (i * bits)
    return stream.to_bytes((len(codes) * bits + 7) // 8, "little")


def unpack_bits(data: bytes, bits: int, count: int, signed: bool) -> list[int]:
    """Return `count` codes of `bits` bits from `data`; the inverse of `pack_bits`.

    With `signed`, the top bit of a code counts as ``-2**(bits - 1)``. Twin: `packing.unpack`.
    """
    stream = int.from_bytes(data, "little")
    codes = [(stream >> (i * bits)) & ((1 << bits) - 1) for i in range(count)]
    return [code - (1 << bits) if signed and code >> (bits - 1) else code for code in codes]
