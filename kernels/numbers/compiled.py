"""The compiled twins of `reference.py`: rounding, overflow and random bits on 64-bit integers.

Every function is total on its stated domain: no intermediate result leaves 64 bits, except for
the arithmetic modulo 2**64 of the generator and of WRAP, which is done on uint64 on purpose. All
operands are cast to int64 or uint64 first, since Numba turns a mixture of the two into float64.
"""

import numpy as np

from ..toolchain.jit import kernel, settings
from . import reference as exact

__all__ = ["overflow", "random_key", "random_word", "rescale", "round_div", "round_each", "round_shift"]

# Numba folds these in as plain integers of the given type.
TRN, TRN_ZERO, RND, RND_CONV, RND_INF, RND_ZERO, RND_MIN_INF, STOCHASTIC = range(8)
SAT, SAT_SYM, WRAP, TRAP = range(4)
GOLDEN = np.uint64(exact.GOLDEN)
MIX_1 = np.uint64(exact.MIX_1)
MIX_2 = np.uint64(exact.MIX_2)
S27, S30, S31 = np.uint64(27), np.uint64(30), np.uint64(31)
ONE = np.uint64(1)

if settings.DISABLE_JIT:  # NumPy reports modular uint64 arithmetic as overflow: go through Python integers

    def _add(a, b):
        return np.uint64((int(a) + int(b)) & exact.MASK64)

    def _subtract(a, b):
        return np.uint64((int(a) - int(b)) & exact.MASK64)

    def _multiply(a, b):
        return np.uint64((int(a) * int(b)) & exact.MASK64)

    def _unsigned(x):
        return np.uint64(int(x) & exact.MASK64)

    def _signed(x):
        return np.uint64(x).view(np.int64)

else:

    @kernel
    def _add(a, b):
        """(a + b) mod 2**64."""
        return np.uint64(a) + np.uint64(b)

    @kernel
    def _subtract(a, b):
        """(a - b) mod 2**64."""
        return np.uint64(a) - np.uint64(b)

    @kernel
    def _multiply(a, b):
        """(a * b) mod 2**64."""
        return np.uint64(a) * np.uint64(b)

    @kernel
    def _unsigned(x):
        """The same 64 bits as uint64."""
        return np.uint64(x)

    @kernel
    def _signed(x):
        """The same 64 bits as int64."""
        return np.int64(x)


@kernel
def _step_up(floor, below, above, negative, mode):
    """0 or 1: what rounding adds to `floor` when the rest is above 0.

    `below` is the distance down to `floor`, `above` the distance up to ``floor + 1``.
    """
    if mode == TRN:
        return np.int64(0)
    if mode == TRN_ZERO:
        return np.int64(negative)
    if below != above:
        return np.int64(below > above)
    if mode == RND:
        return np.int64(1)
    if mode == RND_CONV:
        return floor & np.int64(1)
    if mode == RND_INF:
        return np.int64(not negative)
    if mode == RND_ZERO:
        return np.int64(negative)
    return np.int64(0)  # RND_MIN_INF


@kernel
def round_shift(x, k, mode, word):
    """Return ``x / 2**k`` rounded by `mode`.

    Requires: any int64 `x`; `k` in 0..62; `mode` a Rounding; `word` 64 random bits (uint64, or a
    non-negative int64), used by STOCHASTIC only. Returns int64. Twin: `exact.round_shift`.
    """
    x = np.int64(x)
    k = np.int64(k)
    floor = x >> k
    size = np.int64(1) << k
    rest = x & (size - np.int64(1))
    if rest == 0:
        return floor
    if mode == STOCHASTIC:
        return floor + ((rest + (_signed(word) & (size - np.int64(1)))) >> k)  # both below 2**62
    return floor + _step_up(floor, rest, size - rest, x < 0, mode)


@kernel
def round_div(x, d, mode, word):
    """Return ``x / d`` rounded by `mode`.

    Requires: any int64 `x`; int64 `d` > 0; `mode` a Rounding; `word` 64 random bits (uint64, or a
    non-negative int64), used by STOCHASTIC only. Returns int64. Twin: `exact.round_div`.
    """
    x = np.int64(x)
    d = np.int64(d)
    floor = x // d  # d > 0: the one quotient that leaves int64, INT64_MIN / -1, cannot occur
    rest = x % d  # floor * d may leave int64
    if rest == 0:
        return floor
    if mode == STOCHASTIC:
        return floor + np.int64(_signed(_unsigned(word) % _unsigned(d)) >= d - rest)
    return floor + _step_up(floor, rest, d - rest, x < 0, mode)


@kernel
def overflow(x, lo, hi, mode):
    """Return `x` brought into [`lo`, `hi`] by `mode`.

    Requires: int64 lo <= hi; with SAT_SYM and lo < 0, hi >= 0; `mode` an Overflow. TRAP returns
    `x` unchanged. Returns int64. Twin: `exact.overflow`.
    """
    x = np.int64(x)
    lo = np.int64(lo)
    hi = np.int64(hi)
    if mode == SAT_SYM and lo < 0:
        lo = -hi
    if lo <= x <= hi or mode == TRAP:
        return x
    if mode != WRAP:
        return lo if x < lo else hi
    span = _add(_subtract(_unsigned(hi), _unsigned(lo)), ONE)  # below 2**64: x would be inside the full range
    if x >= lo:
        return _signed(_add(_unsigned(lo), _subtract(_unsigned(x), _unsigned(lo)) % span))
    rest = _subtract(_unsigned(lo), _unsigned(x)) % span
    if rest == 0:
        return lo
    return _signed(_add(_unsigned(lo), _subtract(span, rest)))


@kernel
def absorb(state, word):
    """Fold one key word into the state of the generator (uint64)."""
    z = _add(state ^ _unsigned(word), GOLDEN)
    z = _multiply(z ^ (z >> S30), MIX_1)
    z = _multiply(z ^ (z >> S27), MIX_2)
    return z ^ (z >> S31)


@kernel
def random_key(seed, step, layer, sample):
    """Return the state (uint64) after the four outer key words; `random_word` goes on from here."""
    return absorb(absorb(absorb(absorb(np.uint64(0), seed), step), layer), sample)


@kernel
def random_word(seed, step, layer, sample, element, draw):
    """Return 64 random bits (uint64) that depend on the six key words and nothing else.

    Requires: every key word an integer in 0 .. 2**63 - 1. Twin: `exact.random_word`.
    """
    return absorb(absorb(random_key(seed, step, layer, sample), element), draw)


@kernel
def rescale(x, shift, rounding, lo, hi, mode, key, draw, out):
    """Shift, round and bring into range every element of `x`; how many overflow changed, and where first.

    Parameters
    ----------
    x : (n,) int64
    shift : int
        ``out = x / 2**shift``; a negative shift is a left shift, proven by the caller to fit int64.
        -62 .. 62.
    rounding, mode : int
        Rounding and Overflow.
    lo, hi : int64
        Code range.
    key : uint64
        `random_key(...)`; element i draws ``random_word(..., i, draw)``.
    draw : int
    out : (n,) int64
        Receives the codes.

    Returns
    -------
    changed, first : int64
        Number of elements that overflow changed (TRAP: that lie outside), index of the first or -1.
    """
    changed = np.int64(0)
    first = np.int64(-1)
    word = np.uint64(0)
    for i in range(x.size):
        value = x[i]
        if shift > 0:
            if rounding == STOCHASTIC:
                word = absorb(absorb(key, i), draw)
            value = round_shift(value, shift, rounding, word)
        elif shift < 0:
            value = value << np.int64(-shift)
        code = overflow(value, lo, hi, mode)
        if code != value or code < lo or code > hi:
            changed += 1
            if first < 0:
                first = np.int64(i)
        out[i] = code
    return changed, first


@kernel
def round_each(x, places, chosen, rounding, key, draw, out):
    """Write ``x / 2**places`` rounded, with a shift of its own for every element, where `chosen`.

    Parameters
    ----------
    x : (n,) int64
    places : (n,) int64
        -62 .. 62 where `chosen`; a negative one is a left shift, proven by the caller to fit int64.
    chosen : (n,) bool
        The other elements of `out` stay as they are.
    rounding : int
        Rounding.
    key : uint64
        `random_key(...)`; element i draws ``random_word(..., i, draw)``.
    draw : int
    out : (n,) int64
        Receives the rounded integers.
    """
    word = np.uint64(0)
    for i in range(x.size):
        if not chosen[i]:
            continue
        if places[i] > 0:
            if rounding == STOCHASTIC:
                word = absorb(absorb(key, i), draw)
            out[i] = round_shift(x[i], places[i], rounding, word)
        else:
            out[i] = x[i] << -places[i]
