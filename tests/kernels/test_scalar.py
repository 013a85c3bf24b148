"""Rounding, overflow and random bits: the plain functions against rationals, the compiled ones against the plain."""

import itertools
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from oracle import rounded_value as rounded

from intsnn.kernels.numbers import compiled as scalar
from intsnn.kernels.numbers import reference as exact
from intsnn.kernels.numbers.modes import Overflow, Rounding

DETERMINISTIC = [mode for mode in Rounding if mode != Rounding.STOCHASTIC]
INT64 = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.builds(
        lambda sign, power, off: min(max(sign * 2**power + off, -(2**63)), 2**63 - 1),
        st.sampled_from((-1, 1)),
        st.integers(0, 63),
        st.integers(-2, 2),
    ),
)
WORD = st.integers(0, 2**64 - 1)


def in_range(x: int, lo: int, hi: int, mode: Overflow) -> int:
    """Oracle: overflow by walking."""
    if mode == Overflow.WRAP:
        while x > hi:
            x -= hi - lo + 1
        while x < lo:
            x += hi - lo + 1
    elif mode in (Overflow.SAT, Overflow.SAT_SYM):
        bottom = -hi if mode == Overflow.SAT_SYM and lo < 0 else lo
        x = bottom if x < bottom else hi if x > hi else x
    return x


def test_mode_numbers_are_those_of_the_file_format():
    assert [(m.name, int(m)) for m in Rounding] == [
        ("TRN", 0),
        ("TRN_ZERO", 1),
        ("RND", 2),
        ("RND_CONV", 3),
        ("RND_INF", 4),
        ("RND_ZERO", 5),
        ("RND_MIN_INF", 6),
        ("STOCHASTIC", 7),
    ]
    assert [(m.name, int(m)) for m in Overflow] == [("SAT", 0), ("SAT_SYM", 1), ("WRAP", 2), ("TRAP", 3)]


@pytest.mark.parametrize("mode", DETERMINISTIC, ids=lambda m: m.name)
def test_every_8_bit_value_and_shift_against_rationals(mode):
    for x, k in itertools.product(range(-128, 256), range(11)):
        want = rounded(Fraction(x, 2**k), mode)
        assert exact.round_shift(x, k, mode, 0) == want
        assert scalar.round_shift(x, k, mode, 0) == want


@pytest.mark.parametrize("mode", DETERMINISTIC, ids=lambda m: m.name)
def test_every_small_quotient_against_rationals(mode):
    for x, d in itertools.product(range(-70, 71), range(1, 41)):
        want = rounded(Fraction(x, d), mode)
        assert exact.round_div(x, d, mode, 0) == want
        assert scalar.round_div(x, d, mode, 0) == want


def test_stochastic_has_the_exact_expectation_and_never_moves_exact_values():
    for x, k in itertools.product(range(-40, 41), range(6)):
        results = [exact.round_shift(x, k, Rounding.STOCHASTIC, word) for word in range(2**k)]
        assert sum(results) == x  # the mean over all R is x / 2**k
        assert set(results) <= {x >> k, -(-x >> k)}
        high = [scalar.round_shift(x, k, Rounding.STOCHASTIC, np.uint64(2**64 - 2**k + word)) for word in range(2**k)]
        assert high == results  # only the low k bits count
    for x, d in itertools.product(range(-40, 41), range(1, 23)):
        results = [exact.round_div(x, d, Rounding.STOCHASTIC, word) for word in range(d)]
        assert sum(results) == x
        assert results == [scalar.round_div(x, d, Rounding.STOCHASTIC, np.uint64(word)) for word in range(d)]


@pytest.mark.parametrize("mode", list(Overflow), ids=lambda m: m.name)
def test_every_small_overflow(mode):
    for lo, hi in [(-8, 7), (-7, 7), (0, 15), (0, 0), (-1, 0), (0, 1), (-128, 127), (-3, 9)]:
        for x in range(-600, 601):
            want = in_range(x, lo, hi, mode)
            assert exact.overflow(x, lo, hi, mode) == want
            assert scalar.overflow(x, lo, hi, mode) == want


@given(INT64, st.integers(0, 62), st.sampled_from(Rounding), WORD)
@example(-(2**63), 62, Rounding.RND_CONV, 0)
@example(2**63 - 1, 62, Rounding.STOCHASTIC, 2**64 - 1)
def test_compiled_shift_equals_exact(x, k, mode, word):
    assert scalar.round_shift(np.int64(x), k, int(mode), np.uint64(word)) == exact.round_shift(x, k, mode, word)


@given(INT64, INT64, st.sampled_from(Rounding), WORD)
@example(-(2**63), 3, Rounding.TRN, 0)
@example(-(2**63), 2**63 - 1, Rounding.RND, 0)
def test_compiled_quotient_equals_exact(x, d, mode, word):
    d = min(abs(d) or 1, 2**63 - 1)
    got = scalar.round_div(np.int64(x), np.int64(d), int(mode), np.uint64(word))
    assert got == exact.round_div(x, d, mode, word)


@given(INT64, INT64, INT64, st.sampled_from(Overflow))
@example(-(2**63), 0, 2**63 - 1, Overflow.WRAP)
@example(2**63 - 1, -(2**63), -1, Overflow.WRAP)
@example(-(2**63), -(2**63), 2**63 - 1, Overflow.SAT_SYM)
def test_compiled_overflow_equals_exact(x, a, b, mode):
    lo, hi = min(a, b), max(a, b)
    if mode == Overflow.SAT_SYM and hi < 0:
        return
    assert scalar.overflow(np.int64(x), np.int64(lo), np.int64(hi), int(mode)) == exact.overflow(x, lo, hi, mode)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=6, max_size=6))
@example([0] * 6)
@example([2**63 - 1] * 6)
def test_compiled_generator_equals_exact(words):
    want = exact.random_word(*words)
    assert 0 <= want < 2**64
    assert int(scalar.random_word(*words)) == want
    assert int(scalar.random_word(*(np.int64(w) for w in words))) == want
    assert int(scalar.random_key(*words[:4])) == exact.random_key(*words[:4])


def test_generator_values_are_frozen():
    """A changed generator changes results that were published with a seed."""
    assert exact.random_word(0, 0, 0, 0, 0, 0) == 0xCBD37AD29B93B094
    assert exact.random_word(1, 2, 3, 4, 5, 6) == 0xBC41F02C18EC2017


def test_generator_depends_on_every_bit_of_every_key_word():
    """Each flipped key bit flips about half of the 64 output bits (10 to 54 allowed; 378 flips, fixed)."""
    base = [11, 22, 33, 44, 55, 66]
    start = exact.random_word(*base)
    for position, bit in itertools.product(range(6), range(63)):
        words = list(base)
        words[position] ^= 1 << bit
        assert 10 <= (start ^ exact.random_word(*words)).bit_count() <= 54


def test_generator_bits_are_balanced_over_neighbouring_keys():
    """Neighbouring keys are what simulations use: 2**16 of them give every output bit 1/2 within 5 sigma."""
    grid = itertools.product(range(2), range(8), range(4), range(8), range(64), range(2))
    words = np.array([exact.random_word(*key) for key in grid], dtype=np.uint64)
    assert len(np.unique(words)) == words.size == 2**16
    for bit in range(64):
        ones = int(((words >> np.uint64(bit)) & np.uint64(1)).sum())
        assert abs(ones - 2**15) <= 5 * 2**7  # sigma = sqrt(2**16) / 2 = 2**7


def test_array_kernel_equals_exact():
    rng = np.random.default_rng(5)
    x = rng.integers(-(2**40), 2**40, 200)
    key = np.uint64(exact.random_key(1, 2, 3, 4))
    for shift, mode, overflow in itertools.product((-3, 0, 7, 39), Rounding, Overflow):
        out = np.empty_like(x)
        changed, first = scalar.rescale(x, shift, int(mode), -128, 127, int(overflow), key, np.int64(5), out)
        want, odd = [], []
        for i, value in enumerate(x.tolist()):
            word = exact.random_word(1, 2, 3, 4, i, 5)
            value = exact.round_shift(value, shift, mode, word) if shift > 0 else value << -shift
            want.append(exact.overflow(value, -128, 127, overflow))
            if want[-1] != value or not -128 <= value <= 127:
                odd.append(i)
        assert out.tolist() == want
        assert (changed, first) == (len(odd), odd[0] if odd else -1)


def test_no_float_in_compiled_signatures():
    functions = [scalar.round_shift, scalar.round_div, scalar.overflow, scalar.random_word, scalar.random_key]
    if not hasattr(functions[0], "nopython_signatures"):
        pytest.skip("the kernels are not compiled here (NUMBA_DISABLE_JIT)")
    scalar.round_shift(np.int64(1), 1, 0, np.uint64(0))
    scalar.round_div(np.int64(1), 1, 0, np.uint64(0))
    scalar.overflow(np.int64(1), 0, 1, 0)
    scalar.random_word(0, 0, 0, 0, 0, 0)
    scalar.random_key(0, 0, 0, 0)
    for function in functions:
        assert function.nopython_signatures
        for overload in function.overloads.values():
            types = re.findall(r" :: (.*)", str(overload.type_annotation))  # text too where it comes from the cache
            assert "int64" in types
            assert not [t for t in types if "float" in t or "complex" in t]


def test_unknown_modes_are_refused():
    with pytest.raises(ValueError, match="9 is unknown"):
        exact.round_div(1, 2, 9)
    with pytest.raises(ValueError, match="9 is unknown"):
        exact.overflow(1, 0, 2, 9)


def test_value_table_of_the_documentation(repository):
    text = (repository / "docs" / "semantics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|((?:[^|\n]+\|){7})[ \t]*$", text, re.MULTILINE)
    values = [Fraction(v) for v in ("-2.5", "-1.5", "-0.75", "-0.5", "0.5", "1.5", "2.5")]
    assert [name for name, _ in rows] == [mode.name for mode in DETERMINISTIC]
    for name, cells in rows:
        shown = [int(cell.strip().replace("\u2212", "-")) for cell in cells.rstrip("|").split("|")]
        mode = Rounding[name]
        assert shown == [rounded(v, mode) for v in values]
        assert shown == [exact.round_div(v.numerator, v.denominator, mode) for v in values]
