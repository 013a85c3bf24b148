"""Array arithmetic on codes against exact rationals: exhaustive where narrow, by property where wide."""

import itertools
import math
import os
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from oracle import rounded_value as rounded

from intsnn.errors import FormatError, RangeError, ShapeError
from intsnn.formats import arithmetic
from intsnn.formats.arithmetic import (
    RandomKey,
    accumulate,
    add,
    multiply,
    negate,
    rescale,
    shift_left,
    shift_right,
    subtract,
)
from intsnn.formats.fixed import Fixed, Overflow, Rounding
from intsnn.formats.reals import dequantise, quantise
from intsnn.kernels.numbers import reference as exact

DETERMINISTIC = [mode for mode in Rounding if mode != Rounding.STOCHASTIC]
KEY = RandomKey(seed=3, step=1, layer=4, sample=1, draw=5)
NARROW = [
    *(Fixed(bits, signed=signed) for bits in range(1, 7) for signed in (True, False)),
    *(Fixed(bits, narrow=True) for bits in range(2, 7)),
]
FORMATS = st.builds(
    lambda bits, frac, kind: Fixed(bits, frac, kind != "unsigned", kind == "narrow" and bits > 1),
    st.integers(1, 64),
    st.integers(-70, 70),
    st.sampled_from(("signed", "unsigned", "narrow")),
)


SOME = st.integers(1, 5)


def with_codes(formats, count=SOME):
    """(format, codes) with codes near the ends, near zero and near powers of two as often as anywhere."""

    def codes(f):
        anywhere = st.integers(f.min, f.max)
        power = st.builds(
            lambda sign, k, off: min(max(sign * 2**k + off, f.min), f.max),
            st.sampled_from((-1, 1)),
            st.integers(0, 64),
            st.integers(-2, 2),
        )
        one = st.one_of(anywhere, power, st.sampled_from((f.min, f.max)))
        return st.tuples(st.just(f), count.flatmap(lambda n: st.lists(one, min_size=n, max_size=n)))

    return formats.flatmap(codes)


def stochastic(x: int, k: int, key: RandomKey, element: int) -> int:
    """Oracle: the definition for x / 2**k."""
    if k <= 0:
        return x * 2**-k
    words = [exact.random_word(key.seed, key.step, key.layer, key.sample, element, key.draw + i) for i in range(2)]
    return math.floor(Fraction(x + (words[0] + words[1] * 2**64) % 2**k, 2**k))


def in_range(x: int, f: Fixed, mode: Overflow) -> int | None:
    """Oracle: overflow from the meaning of the words; None where TRAP raises."""
    if mode == Overflow.SAT_SYM and f.min < 0:
        return sorted((-f.max, x, f.max))[1]
    if f.min <= x <= f.max:
        return x
    if mode == Overflow.TRAP:
        return None
    if mode == Overflow.WRAP:
        return next(c for c in range(f.min, f.max + 1) if (c - x) % (f.max - f.min + 1) == 0)
    return sorted((f.min, x, f.max))[1]


def real(codes, f: Fixed) -> list[Fraction]:
    flat = codes.ravel().tolist() if isinstance(codes, np.ndarray) else codes  # asarray would go through float64
    return [int(c) * f.step for c in flat]


# ---- rescale ----


def test_every_rescale_among_formats_up_to_6_bits():
    """Every code of 17 formats to 17 formats, all moves of the point by -2..7 places, every mode."""
    moves = range(-2, 8)
    all_codes = range(-32, 64)
    tables = {
        (move, mode): {c: rounded(c * Fraction(2) ** -move, mode) for c in all_codes}
        for move, mode in itertools.product(moves, DETERMINISTIC)
    }
    overflows = {
        (to, mode): {x: in_range(x, to, mode) for x in range(-128, 256)}
        for to, mode in itertools.product(NARROW, Overflow)
    }
    sparse = 1 if not os.environ.get("NUMBA_DISABLE_JIT") else 37  # interpreted kernels take a sample
    plan = list(itertools.product(NARROW, NARROW, moves, DETERMINISTIC, Overflow))[::sparse]
    for source, to, move, rounding, overflow in plan:
        start = Fixed(source.bits, move, source.signed, source.narrow)
        codes = np.arange(start.min, start.max + 1, dtype=start.dtype)
        want = [overflows[to, overflow][tables[move, rounding][c]] for c in range(start.min, start.max + 1)]
        if None in want:
            with pytest.raises(RangeError, match=f"at index {want.index(None)} is outside"):
                rescale(codes, start, to, rounding, overflow)
            keep = [i for i, w in enumerate(want) if w is not None]
            codes, want = codes[keep], [want[i] for i in keep]
        got = rescale(codes, start, to, rounding, overflow)
        assert got.dtype == to.dtype
        assert got.tolist() == want, (start, to, rounding, overflow)


@pytest.mark.parametrize("overflow", [Overflow.SAT, Overflow.WRAP], ids=lambda m: m.name)
def test_every_small_stochastic_rescale(overflow):
    for bits, move, signed in itertools.product(range(1, 7), range(8), (True, False)):
        start, to = Fixed(bits, move, signed), Fixed(4)
        codes = np.arange(start.min, start.max + 1)
        want = [in_range(stochastic(int(c), move, KEY, i), to, overflow) for i, c in enumerate(codes)]
        assert rescale(codes, start, to, "stochastic", overflow, KEY).tolist() == want


@given(with_codes(FORMATS), FORMATS, st.sampled_from(DETERMINISTIC), st.sampled_from(Overflow))
@example((Fixed(64), [-(2**63), 2**63 - 1]), Fixed(64, -1), Rounding.RND_INF, Overflow.SAT)
@example((Fixed(64, 0, False), [2**64 - 1]), Fixed(64), Rounding.TRN, Overflow.WRAP)
@example((Fixed(64, 62), [-(2**63), 2**63 - 1]), Fixed(3), Rounding.RND, Overflow.SAT)
@example((Fixed(64, 63), [-(2**63), 2**63 - 1]), Fixed(3), Rounding.RND_CONV, Overflow.SAT)
@example((Fixed(2, -62), [-2, 1]), Fixed(64), Rounding.RND, Overflow.WRAP)
@example((Fixed(1, -63), [-1, 0]), Fixed(64), Rounding.RND, Overflow.SAT)
def test_rescale_of_any_formats(source, to, rounding, overflow):
    start, codes = source
    exactly = [rounded(v / to.step, rounding) for v in real(codes, start)]
    span = to.max - to.min + 1
    want = []
    for x in exactly:
        if overflow == Overflow.WRAP:
            want.append((x - to.min) % span + to.min)
        elif overflow == Overflow.SAT_SYM and to.signed:
            want.append(max(-to.max, min(to.max, x)))
        else:
            want.append(max(to.min, min(to.max, x)))
    if overflow == Overflow.TRAP and want != exactly:
        bad = next(i for i, x in enumerate(exactly) if want[i] != x)
        with pytest.raises(RangeError, match=f"result {exactly[bad]} at index {bad} is outside {to.min}"):
            rescale(codes, start, to, rounding, overflow)
        return
    got = rescale(codes, start, to, rounding, overflow)
    assert got.tolist() == want and got.dtype == to.dtype


@given(with_codes(FORMATS), st.integers(0, 100), st.integers(0, 2**63 - 1))
def test_stochastic_rescale_of_any_formats(source, move, seed):
    start, codes = source
    to = Fixed(64, start.frac - move)
    key = RandomKey(seed)
    want = [max(to.min, min(to.max, stochastic(c, move, key, i))) for i, c in enumerate(codes)]
    assert rescale(codes, start, to, Rounding.STOCHASTIC, Overflow.SAT, seed).tolist() == want


def test_stochastic_beyond_64_places_uses_more_words():
    """-1 / 2**70 stays at -1 unless R is 2**70 - 1: with one word alone it would never leave -1 and 1 never leave 0."""
    start, to = Fixed(2, 70), Fixed(8)
    codes = [-1] * 50 + [1] * 50
    want = []
    for i, c in enumerate(codes):
        low, high = (exact.random_word(7, 0, 0, 0, i, draw) for draw in (0, 1))
        want.append((c + (low + (high << 64)) % 2**70) >> 70)
    assert rescale(codes, start, to, "STOCHASTIC", "SAT", 7).tolist() == want
    assert want[:50] == [0] * 50  # not -1: the probability of -1 is 2**-70


def test_stochastic_elements_do_not_depend_on_each_other():
    codes = np.random.default_rng(0).integers(-128, 128, (20, 30))
    whole = rescale(codes, Fixed(8, 5), Fixed(8), "STOCHASTIC", "SAT", KEY)
    assert np.array_equal(rescale(codes[:3], Fixed(8, 5), Fixed(8), "STOCHASTIC", "SAT", KEY), whole[:3])
    assert np.array_equal(rescale(codes.T.copy().T, Fixed(8, 5), Fixed(8), "STOCHASTIC", "SAT", KEY), whole)
    other = [rescale(codes, Fixed(8, 5), Fixed(8), "STOCHASTIC", "SAT", RandomKey(**{n: 9})) for n in vars(KEY)]
    assert len({o.tobytes() for o in other}) == 5


# ---- add, subtract, multiply, negate, shifts, accumulate ----


def check_exact(got, result: Fixed, want: list[Fraction], lo: Fraction, hi: Fraction):
    """The codes are worth exactly `want`, and `result` is the narrowest format for lo..hi."""
    assert real(got, result) == want
    check_format(got, result, lo, hi)


def check_format(got, result: Fixed, lo: Fraction, hi: Fraction):
    """`result` is the narrowest format for lo..hi."""
    assert got.dtype == result.dtype
    assert result.min * result.step <= lo and hi <= result.max * result.step
    assert result.signed == (lo < 0)
    if result.bits > 1:
        less = Fixed(result.bits - 1, result.frac, result.signed)
        assert lo < less.min * less.step or hi > less.max * less.step


def test_every_operand_pair_up_to_6_bits():
    operations = [(add, Fraction.__add__), (subtract, Fraction.__sub__), (multiply, Fraction.__mul__)]
    codes = range(-32, 64)
    worths = {frac: {c: c * Fraction(2) ** -frac for c in range(-4096, 4097)} for frac in range(-2, 6)}
    for (function, meaning), (fa, fb) in itertools.product(operations, [(0, 0), (2, -1), (1, 3)]):
        table = [[meaning(a * Fraction(2) ** -fa, b * Fraction(2) ** -fb) for b in codes] for a in codes]
        for f, g in itertools.product(NARROW, NARROW):
            a_format = Fixed(f.bits, fa, f.signed, f.narrow)
            b_format = Fixed(g.bits, fb, g.signed, g.narrow)
            a = np.arange(f.min, f.max + 1)[:, None]
            b = np.arange(g.min, g.max + 1)
            got, result = function(a, a_format, b, b_format)
            want = [row[g.min + 32 : g.max + 33] for row in table[f.min + 32 : f.max + 33]]
            lo, hi = min(map(min, want)), max(map(max, want))
            worth = worths[result.frac]  # of the code as a rational
            assert [[worth[c] for c in row] for row in got.tolist()] == want, (function, a_format, b_format)
            check_format(got, result, lo, hi)


def test_every_unary_operation_up_to_6_bits():
    for f, frac in itertools.product(NARROW, (-2, 0, 3)):
        f = Fixed(f.bits, frac, f.signed, f.narrow)
        codes = np.arange(f.min, f.max + 1)
        values = real(codes, f)
        got, result = negate(codes, f)
        check_exact(got, result, [-v for v in values], -values[-1], -values[0])
        for k in range(8):
            got, result = shift_left(codes, f, k)
            assert result.frac == frac
            check_exact(got, result, [v * 2**k for v in values], values[0] * 2**k, values[-1] * 2**k)
            for mode in DETERMINISTIC:
                got, result = shift_right(codes, f, k, mode)
                want = [rounded(Fraction(int(c), 2**k), mode) for c in codes]
                assert got.tolist() == want and got.dtype == result.dtype
                assert (result.frac, result.signed) == (frac, f.signed)
                assert result.bits == 1 or not Fixed(result.bits - 1, frac, f.signed).contains(want)
            got, result = shift_right(codes, f, k, "stochastic", KEY)
            want = [stochastic(int(c), k, KEY, i) for i, c in enumerate(codes)]
            assert got.tolist() == want
            assert result.contains([f.min >> k, -(-f.max >> k)])


@given(with_codes(FORMATS, st.just(3)), with_codes(FORMATS, st.just(3)))
@example((Fixed(64), [-(2**63)] * 3), (Fixed(64, 0, False), [2**64 - 1] * 3))
@example((Fixed(63), [-(2**62)] * 3), (Fixed(1), [-1] * 3))
@example((Fixed(32), [-(2**31)] * 3), (Fixed(32), [-(2**31)] * 3))
@example((Fixed(8, 55), [-128] * 3), (Fixed(8), [127] * 3))
def test_binary_operations_of_any_formats(left, right):
    (f, a), (g, b) = left, right
    x, y = real(a, f), real(b, g)
    ends = [(f.min * f.step, f.max * f.step), (g.min * g.step, g.max * g.step)]
    for function, meaning in [
        (add, Fraction.__add__),
        (subtract, Fraction.__sub__),
        (multiply, Fraction.__mul__),
    ]:
        want = [meaning(p, q) for p, q in zip(x, y, strict=True)]
        corners = [meaning(p, q) for p in ends[0] for q in ends[1]]
        try:
            got, result = function(a, f, b, g)
        except FormatError as error:
            unit = Fraction(2) ** -(f.frac + g.frac if function is multiply else max(f.frac, g.frac))
            lo, hi = min(corners) / unit, max(corners) / unit
            assert lo < -(2**63) or hi >= 2**63
            assert hi >= 2**64 or lo < 0
            assert "pass to=" in str(error)
        else:
            check_exact(got, result, want, min(corners), max(corners))
        to = Fixed(16, 4)
        got, result = function(a, f, b, g, to=to, rounding="half even", overflow="saturate")
        assert result == to
        assert got.tolist() == [max(-32768, min(32767, rounded(v * 16, Rounding.RND_CONV))) for v in want]


@given(with_codes(FORMATS), st.integers(0, 80), st.sampled_from(DETERMINISTIC))
def test_unary_operations_of_any_formats(source, k, mode):
    f, codes = source
    values = real(codes, f)
    got, result = shift_right(codes, f, k, mode)
    assert real(got, result) == [rounded(v / f.step / 2**k, mode) * f.step for v in values]
    for function, factor in [(negate, -1), (lambda *a, **b: shift_left(*a, k, **b), 2**k)]:
        got, result = function(codes, f, to=Fixed(64, f.frac), rounding="TRN", overflow="WRAP")
        assert [(v * factor / f.step - c) % 2**64 for v, c in zip(values, got.tolist(), strict=True)] == [0] * len(
            codes
        )
        ends = sorted((f.min * f.step * factor, f.max * f.step * factor))
        try:
            got, result = function(codes, f)
        except FormatError:
            assert ends[0] / f.step < -(2**63) or ends[1] / f.step >= 2**63
        else:
            check_exact(got, result, [v * factor for v in values], *ends)


@given(with_codes(FORMATS, st.integers(0, 40)))
@example((Fixed(64), [2**63 - 1] * 9))
@example((Fixed(64), []))
def test_accumulate_any_format(source):
    f, codes = source
    total = sum(real(codes, f), Fraction(0))
    n = len(codes)
    try:
        got, result = accumulate(codes, f)
    except FormatError as error:
        assert n * f.min < -(2**63) or n * f.max >= 2**63
        assert "pass to=" in str(error)
    else:
        check_exact(got, result, [total], n * f.min * f.step, n * f.max * f.step)
    got, _ = accumulate(codes, f, to=Fixed(8, f.frac), rounding="TRN", overflow="SAT")
    assert int(got) == max(-128, min(127, total / f.step))


def test_accumulate_along_axes():
    codes = np.random.default_rng(2).integers(-128, 128, (3, 4, 5)).astype(np.int8)
    for axis in (0, 1, 2, -1):
        got, result = accumulate(codes, Fixed(8, 2), axis)
        assert np.array_equal(got, codes.astype(object).sum(axis=axis))
        n = codes.shape[axis]
        assert result == Fixed.for_range(-128 * n, 127 * n, 2)
    got, result = accumulate(codes, Fixed(8))
    assert got.shape == () and int(got) == sum(int(c) for c in codes.flat)
    with pytest.raises(ShapeError, match="axis 3"):
        accumulate(codes, Fixed(8), 3)


def test_shapes_broadcast_or_are_refused():
    got, _ = multiply(np.ones((3, 1), int), Fixed(8), np.ones((1, 4), int), Fixed(8))
    assert got.shape == (3, 4)
    assert add(3, Fixed(8), 4, Fixed(8))[0] == 7
    with pytest.raises(ShapeError, match=r"\(2,\) and \(3,\)"):
        add([1, 2], Fixed(8), [1, 2, 3], Fixed(8))


def test_operands_are_left_alone():
    a = np.array([-128, 127], dtype=np.int8)
    for function in (add, subtract, multiply):
        function(a, Fixed(8), a, Fixed(8, 3))
    negate(a, Fixed(8))
    shift_left(a, Fixed(8), 3)
    rescale(a, Fixed(8, 3), Fixed(4), "RND", "SAT")
    assert a.tolist() == [-128, 127] and a.dtype == np.int8


def test_trap_names_element_value_and_range():
    with pytest.raises(
        RangeError, match=r"multiply: the rounded result 10000 at index \(1, 0\) is outside -128\.\.127"
    ):
        multiply([[1], [100]], Fixed(8), 100, Fixed(8), to=Fixed(8), rounding="TRN", overflow="TRAP")
    with pytest.raises(RangeError, match=r"rescale: the rounded result 8 at index 1 is outside -8\.\.7, .* fxp-s4/0"):
        rescale([7, 15], Fixed(8, 1), Fixed(4), "RND", "TRAP")
    with pytest.raises(RangeError, match=r"quantise: the rounded result 13 is outside -8\.\.7"):
        quantise(12.5, Fixed(4), "RND", "TRAP")
    with pytest.raises(RangeError, match=f"quantise: the rounded result {2**200} at index 1"):
        quantise([0.0, 2.0**200], Fixed(4), "RND", "TRAP")
    assert rescale([7, 14], Fixed(8, 1), Fixed(4), "RND", "TRAP").tolist() == [4, 7]


def test_bad_arguments_are_refused():
    with pytest.raises(RangeError, match=r"b: 200 at index 0 is outside -128\.\.127"):
        add([1], Fixed(8), [200], Fixed(8))
    with pytest.raises(FormatError, match="pass to="):
        add([1], Fixed(8), [1], Fixed(8), rounding="TRN")
    with pytest.raises(FormatError, match="needs rounding= and overflow="):
        add([1], Fixed(8), [1], Fixed(8), to=Fixed(4))
    with pytest.raises(FormatError, match="a Fixed format is needed"):
        add([1], 8, [1], Fixed(8))
    with pytest.raises(FormatError, match="a Fixed format is needed"):
        rescale([1], Fixed(8), "fxp-s4/0", "TRN", "SAT")
    with pytest.raises(FormatError, match="a Fixed format is needed"):
        quantise([1], None, "TRN", "SAT")
    with pytest.raises(FormatError, match="must be integers"):
        rescale([1.0], Fixed(8), Fixed(4), "TRN", "SAT")
    for k in (-1, 1.0, True, 10**9):
        with pytest.raises(FormatError, match="shift count"):
            shift_left([1], Fixed(8), k)
    for seed in (-1, 2**63, 1.5, True):
        with pytest.raises(FormatError, match="seed: found"):
            rescale([1], Fixed(8), Fixed(4), "STOCHASTIC", "SAT", seed)


# ---- quantise and dequantise ----

FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.builds(lambda c, k: math.ldexp(c, k), st.integers(-600, 600), st.integers(-12, 3)),
    st.builds(math.ldexp, st.sampled_from((-1.0, 1.0, 1.5, -0.5)), st.integers(-1074, 1000)),
)


@given(
    st.lists(FLOATS, max_size=6),
    FORMATS,
    st.sampled_from(DETERMINISTIC),
    st.sampled_from((Overflow.SAT, Overflow.WRAP)),
)
@example([5e-324, -5e-324, 1.7976931348623157e308, -0.0], Fixed(8, 3), Rounding.TRN, Overflow.SAT)
@example([2.0**53, -(2.0**63), 2.0**63, 2.0**64], Fixed(64, 0), Rounding.TRN, Overflow.WRAP)
@example([1 - 2.0**-53, -1 + 2.0**-53], Fixed(64, 63), Rounding.RND, Overflow.SAT)
@example([0.5, 1.5, -0.5, 2.0**-9], Fixed(8, 0), Rounding.RND_CONV, Overflow.SAT)
def test_quantise_floats_exactly(values, f, rounding, overflow):
    exactly = [rounded(Fraction(v) / f.step, rounding) for v in values]
    if overflow == Overflow.SAT:
        want = [max(f.min, min(f.max, x)) for x in exactly]
    else:
        want = [(x - f.min) % (f.max - f.min + 1) + f.min for x in exactly]
    got, report = quantise(np.array(values, dtype=np.float64), f, rounding, overflow)
    assert got.tolist() == want and got.dtype == f.dtype
    assert report.count == len(values)
    assert report.clipped == sum(x != w for x, w in zip(exactly, want, strict=True))
    assert report.zeroed == sum(x == 0 and v != 0 for x, v in zip(exactly, values, strict=True))
    assert quantise([Fraction(v) for v in values], f, rounding, overflow)[0].tolist() == want


@given(st.lists(FLOATS, min_size=1, max_size=4), FORMATS, st.integers(0, 2**63 - 1))
@example([1e-300, -1e-300, 0.3, -0.3], Fixed(8, 0), 0)
@example([2.0**-70], Fixed(8, 0), 5)
def test_stochastic_quantise_by_its_definition(values, f, seed):
    want = []
    for i, value in enumerate(values):
        v = Fraction(value) / f.step
        k = v.denominator.bit_length() - 1
        words = [exact.random_word(seed, 0, 0, 0, i, draw) for draw in range(k // 64 + 1)]
        r = sum(w << (64 * n) for n, w in enumerate(words)) % 2**k
        want.append(max(f.min, min(f.max, math.floor(v + Fraction(r, 2**k)))))
    got, _ = quantise(np.array(values), f, "stochastic", "saturate", seed)
    assert got.tolist() == want
    assert quantise([Fraction(v) for v in values], f, "stochastic", "saturate", seed)[0].tolist() == want


def test_quantise_takes_every_kind_of_real_number():
    f = Fixed(8, 2)
    want = [2, -6, 127]
    for values in (
        np.array([0.5, -1.5, 1e5], dtype=np.float32),
        np.array([0.5, -1.5, 60000], dtype=np.float16),
        [0.5, -1.5, 1e300],
        [Fraction(1, 2), Fraction(-3, 2), 10**30],
        [Decimal("0.5"), Decimal("-1.5"), Decimal("1e9")],
        (0.5, Fraction(-3, 2), 2**100),
    ):
        codes, report = quantise(values, f, "RND_CONV", "SAT")
        assert codes.tolist() == want and report.clipped == 1
    assert quantise(np.array([1, -2], dtype=np.int8), f, "TRN", "SAT")[0].tolist() == [4, -8]
    assert quantise(np.array([2**64 - 1], dtype=np.uint64), Fixed(64, signed=False), "TRN", "SAT")[0] == 2**64 - 1
    assert quantise([True, False], f, "TRN", "SAT")[0].tolist() == [4, 0]
    # a third has no float: the rational is rounded, not its nearest float
    assert quantise([Fraction(1, 3)], Fixed(64, 62), "TRN", "SAT")[0] == 2**62 // 3
    # a list that NumPy would turn into floats keeps its integers
    assert quantise([2**62 + 1, 0.5], Fixed(64), "TRN", "SAT")[0].tolist() == [2**62 + 1, 0]
    codes, report = quantise(np.zeros((0, 3)), f, "TRN", "SAT")
    assert codes.shape == (0, 3) and report.count == 0
    codes, report = quantise([[0.1, 0.2], [0.0, 40.0]], f, "half even", "saturate")
    assert codes.tolist() == [[0, 1], [0, 127]]
    assert str(report) == "1 of 4 values clipped, 1 became zero"


def test_quantise_refuses_what_is_no_real_number():
    f = Fixed(8)
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(RangeError, match=r"at index \(0, 1\) is not a finite number"):
            quantise(np.array([[1.0, bad]]), f, "TRN", "SAT")
        with pytest.raises(RangeError, match="not a finite number"):
            quantise([Fraction(1, 3), bad], f, "TRN", "SAT")
    with pytest.raises(RangeError, match="not a finite number"):
        quantise([Decimal("NaN")], f, "TRN", "SAT")
    for bad in ([1j], ["1"], [None], np.array([b"1"])):
        with pytest.raises(FormatError):
            quantise(bad, f, "TRN", "SAT")


@given(with_codes(FORMATS))
@example((Fixed(64), [2**63 - 1]))
@example((Fixed(64, 0, False), [0, 2**63 + 1]))
@example((Fixed(8, 1080), [1, -128]))
@example((Fixed(8, 1074), [1, -128]))
@example((Fixed(8, -1020), [1, 8]))
def test_dequantise_is_exact_or_an_error(source):
    f, codes = source
    exactly = real(codes, f)
    assert list(dequantise(codes, f, exactly=True)) == exactly
    fits = True
    for v in exactly:
        try:
            fits &= Fraction(float(v)) == v
        except OverflowError:
            fits = False
    if not fits:
        with pytest.raises(RangeError, match="exactly=True"):
            dequantise(codes, f)
        return
    values = dequantise(codes, f)
    assert values.dtype == np.float64 and [Fraction(v) for v in values] == exactly
    assert quantise(values, f, "TRN", "TRAP")[0].tolist() == codes


def test_fast_and_exact_paths_agree(monkeypatch):
    """Force every operation onto unbounded integers and compare with the int64 path."""
    rng = np.random.default_rng(3)
    a, b = rng.integers(-128, 128, 300), rng.integers(-128, 128, 300)
    f, g, to = Fixed(8, 3), Fixed(8, 5), Fixed(6, 1)

    def run():
        out = []
        for rounding, overflow in itertools.product(Rounding, (Overflow.SAT, Overflow.SAT_SYM, Overflow.WRAP)):
            modes = {"to": to, "rounding": rounding, "overflow": overflow, "seed": KEY}
            out += [function(a, f, b, g, **modes)[0].tobytes() for function in (add, subtract, multiply)]
            out += [negate(a, f, **modes)[0].tobytes(), accumulate(a, f, **modes)[0].tobytes()]
            out += [shift_left(a, f, 2, **modes)[0].tobytes(), rescale(a, f, to, rounding, overflow, KEY).tobytes()]
            out.append(shift_right(a, f, 2, rounding, KEY)[0].tobytes())
        return out

    fast = run()
    monkeypatch.setattr(arithmetic, "_fits", lambda lo, hi: False)
    assert run() == fast


# ---- a second opinion ----


def test_casts_agree_with_apytypes():
    ap = pytest.importorskip("apytypes", reason="apytypes is not installed: no second opinion on casts")
    rounding = {
        Rounding.TRN: ap.QuantizationMode.TRN,
        Rounding.TRN_ZERO: ap.QuantizationMode.TRN_ZERO,
        Rounding.RND: ap.QuantizationMode.RND,
        Rounding.RND_CONV: ap.QuantizationMode.RND_CONV,
        Rounding.RND_INF: ap.QuantizationMode.RND_INF,
        Rounding.RND_ZERO: ap.QuantizationMode.RND_ZERO,
        Rounding.RND_MIN_INF: ap.QuantizationMode.RND_MIN_INF,
    }
    overflow = {Overflow.SAT: ap.OverflowMode.SAT, Overflow.WRAP: ap.OverflowMode.WRAP}
    rng = np.random.default_rng(11)
    small = [np.arange(-128, 128), Fixed(8, 5)]
    wide = [np.concatenate([rng.integers(-(2**47), 2**47, 500), [-(2**47), 2**47 - 1, 0, -1]]), Fixed(48, 30)]
    targets = [Fixed(b, frac) for b, frac in [(4, 1), (8, 0), (8, 4), (12, 9), (6, -1), (20, 10), (33, 3)]]
    for (codes, start), to in itertools.product((small, wide), targets):
        given_codes = ap.APyFixedArray([int(c) for c in codes], bits=start.bits, int_bits=start.bits - start.frac)
        for mode, over in itertools.product(rounding, overflow):
            cast = given_codes.cast(
                bits=to.bits, frac_bits=to.frac, quantization=rounding[mode], overflow=overflow[over]
            )
            theirs = [c - (c >> (to.bits - 1) << to.bits) for c in cast.to_bits(numpy=False)]
            assert rescale(codes, start, to, mode, over).tolist() == theirs, (start, to, mode, over)


def test_products_and_sums_agree_with_apytypes():
    ap = pytest.importorskip("apytypes", reason="apytypes is not installed: no second opinion on products")
    for f, g in [(Fixed(8, 3), Fixed(6, 5)), (Fixed(5), Fixed(9, 2))]:
        a, b = (np.arange(h.min, h.max + 1) for h in (f, g))
        a, b = (m.ravel() for m in np.meshgrid(a, b))
        x, y = (
            ap.APyFixedArray([int(c) for c in codes], bits=h.bits, int_bits=h.bits - h.frac)
            for codes, h in ((a, f), (b, g))
        )
        for mine, theirs in [
            (add(a, f, b, g), x + y),
            (subtract(a, f, b, g), x - y),
            (multiply(a, f, b, g), x * y),
        ]:
            codes = [c - (c >> (theirs.bits - 1) << theirs.bits) for c in theirs.to_bits(numpy=False)]
            assert mine[1].frac == theirs.frac_bits and mine[1].bits <= theirs.bits
            assert mine[0].tolist() == codes


def test_stochastic_mean_is_the_value():
    """40,000 elements of each fraction j/8: the mean is within 5 sigma (a fixed seed, so a fixed outcome)."""
    n = 40_000
    for j in range(8):
        got = rescale(np.full(n, j), Fixed(8, 3), Fixed(8), "STOCHASTIC", "TRAP", 1).astype(np.int64).sum()
        p = Fraction(j, 8)
        assert abs(int(got) - p * n) ** 2 <= 25 * n * p * (1 - p)
