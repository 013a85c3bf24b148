"""Formats: ranges, dtypes, weight tables, notations and their refusals."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intsnn.errors import FormatError, RangeError
from intsnn.formats.fixed import Fixed, Overflow, Rounding
from intsnn.formats.notation import as_overflow, as_rounding, parse
from intsnn.formats.weights import Bipolar, Levels, apot

FIXED = st.builds(
    lambda bits, frac, kind: Fixed(bits, frac, kind != "unsigned", kind == "narrow" and bits > 1),
    st.integers(1, 64),
    st.integers(-80, 80),
    st.sampled_from(("signed", "unsigned", "narrow")),
)


def test_ranges():
    assert (Fixed(8).min, Fixed(8).max) == (-128, 127)
    assert (Fixed(8, narrow=True).min, Fixed(8, narrow=True).max) == (-127, 127)
    assert (Fixed(8, signed=False).min, Fixed(8, signed=False).max) == (0, 255)
    assert (Fixed(1).min, Fixed(1).max) == (-1, 0)
    assert (Fixed(1, signed=False).min, Fixed(1, signed=False).max) == (0, 1)
    assert (Fixed(64).min, Fixed(64).max) == (-(2**63), 2**63 - 1)
    assert Fixed(64, signed=False).max == 2**64 - 1
    assert Fixed(8, 3).step == Fraction(1, 8)
    assert Fixed(8, -3).step == 8


@given(FIXED)
def test_dtype_is_the_smallest_that_holds_the_codes(f):
    info = np.iinfo(f.dtype)
    assert info.min <= f.min and f.max <= info.max
    assert (info.min < 0) == f.signed
    if info.bits > 8:
        half = np.iinfo(f"{'int' if f.signed else 'uint'}{info.bits // 2}")
        assert f.max > half.max or f.min < half.min


@given(FIXED)
def test_contains_and_check_at_the_ends(f):
    assert f.contains([f.min, f.max]) and f.contains([]) and f.contains(np.array([], dtype=np.uint8))
    assert not f.contains([f.max + 1]) and not f.contains([0, f.min - 1])
    assert f.check([f.min, f.max]).tolist() == [f.min, f.max]
    assert f.check([f.min, f.max]).dtype == f.dtype
    with pytest.raises(RangeError, match="weights: .* at index 1 is outside"):
        f.check([0, f.max + 1], "weights")


def test_check_names_the_element():
    with pytest.raises(RangeError, match=r"w: 99 at index \(1, 0\) is outside -8\.\.7, the range of fxp-s4/0"):
        Fixed(4).check([[1, 2], [99, 3]], "w")
    with pytest.raises(RangeError, match=r"codes: 99 is outside"):
        Fixed(4).check(99)
    with pytest.raises(FormatError, match="float64; codes must be integers"):
        Fixed(4).check([1.0])
    with pytest.raises(FormatError, match="codes must be integers"):
        Fixed(4).check(["1"])
    assert Fixed(4).check([True, False]).tolist() == [1, 0]
    assert Fixed(64, signed=False).check([2**64 - 1, 0]).tolist() == [2**64 - 1, 0]
    assert Fixed(64, signed=False).check([np.uint64(2**64 - 1), np.int64(1)]).tolist() == [2**64 - 1, 1]
    with pytest.raises(RangeError, match=str(2**80)):
        Fixed(64).check([2**80])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"bits": 0}, "bits: found 0; 1 to 64"),
        ({"bits": 65}, "bits: found 65; 1 to 64"),
        ({"bits": 8.0}, "bits: found 8.0; a whole number"),
        ({"bits": True}, "bits: found True; a whole number"),
        ({"bits": 8, "frac": 1e3}, "frac: found 1000.0; a whole number"),
        ({"bits": 8, "frac": 10**9}, "frac: found 1000000000; -4096 to 4096"),
        ({"bits": 8, "signed": 1}, "True or False"),
        ({"bits": 8, "signed": False, "narrow": True}, "narrow"),
        ({"bits": 1, "narrow": True}, "narrow"),
    ],
)
def test_formats_that_cannot_be(arguments, message):
    with pytest.raises(FormatError, match=message):
        Fixed(**arguments)


@given(st.integers(-(2**63), 2**64 - 1), st.integers(-(2**63), 2**64 - 1))
def test_for_range_is_the_narrowest(a, b):
    lo, hi = min(a, b), max(a, b)
    if lo < 0 and hi >= 2**63:
        with pytest.raises(FormatError, match="needs 65 bits"):
            Fixed.for_range(lo, hi)
        return
    f = Fixed.for_range(lo, hi, 5)
    assert f.frac == 5 and f.signed == (lo < 0) and f.min <= lo and hi <= f.max
    if f.bits > 1:
        less = Fixed(f.bits - 1, 5, f.signed)
        assert lo < less.min or hi > less.max


def test_for_range_corners():
    assert Fixed.for_range(0, 0) == Fixed(1, signed=False)
    assert Fixed.for_range(-1, 0) == Fixed(1)
    assert Fixed.for_range(-128, 127) == Fixed(8)
    assert Fixed.for_range(-128, 128) == Fixed(9)
    assert Fixed.for_range(-129, 0) == Fixed(9)
    assert Fixed.for_range(0, 127, signed=True) == Fixed(8)
    with pytest.raises(FormatError, match="negative"):
        Fixed.for_range(-1, 1, signed=False)
    with pytest.raises(FormatError, match="empty"):
        Fixed.for_range(1, 0)


def test_bipolar():
    f = Bipolar()
    assert (f.bits, f.min, f.max, str(f)) == (1, -1, 1, "bipolar")
    assert f.values([0, 1, 1]).tolist() == [-1, 1, 1] and f.values([0]).dtype == np.int8
    assert f.codes([[-1], [1]]).tolist() == [[0], [1]] and f.codes([1]).dtype == np.uint8
    with pytest.raises(RangeError, match="0 at index 1 is not a level of bipolar"):
        f.codes([1, 0])
    with pytest.raises(RangeError, match=r"outside 0\.\.1"):
        f.values([2])


def test_levels():
    f = Levels((-4, -2, -1, 0, 1, 2, 4))
    assert (f.bits, f.min, f.max) == (3, -4, 4)
    assert f.values(range(7)).tolist() == [-4, -2, -1, 0, 1, 2, 4]
    assert f.codes(f.values([[6, 0], [3, 1]])).tolist() == [[6, 0], [3, 1]]
    assert Levels((0, 300)).values([1]).dtype == np.int16 and Levels((0, 300)).bits == 1
    assert Levels((0, 200)).values([1]).tolist() == [200]
    with pytest.raises(RangeError, match="3 at index 0 is not a level of apot3"):
        f.codes([3])
    with pytest.raises(RangeError, match=r"7 at index 0 is outside 0\.\.6"):
        f.values([7])
    with pytest.raises(RangeError, match=r"-5 at index 0 is outside -4\.\.4"):
        f.codes([-5])
    for table in [(0,), tuple(range(257)), (0, 0), (1, 0), (0, 2**63)]:
        with pytest.raises(FormatError):
            Levels(table)
    with pytest.raises(FormatError):
        Levels((0.5, 1))


@pytest.mark.parametrize(
    "bits, magnitudes",
    [
        (2, [0, 1]),
        (3, [0, 1, 2, 4]),
        (4, [0, 1, 2, 3, 4, 6, 8, 10]),
        (5, [0, 1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32, 33, 36, 48]),
    ],
)
def test_apot_tables(bits, magnitudes):
    f = apot(bits)
    assert f.bits == bits and len(f.table) == 2**bits - 1
    assert sorted({abs(v) for v in f.table}) == magnitudes
    assert [-v for v in reversed(f.table)] == list(f.table)
    assert parse(str(f)).format == f and str(f) == f"apot{bits}"


def test_apot_of_other_widths_is_refused():
    for bits in (1, 6, "4"):
        with pytest.raises(FormatError, match="apot: bits: found"):
            apot(bits)


@pytest.mark.parametrize(
    "text, want, counted",
    [
        ("fxp-s8/3", Fixed(8, 3), True),
        ("fxp-u8/3", Fixed(8, 3, False), None),
        ("fxp-s8/-3", Fixed(8, -3), True),
        ("Q4.3", Fixed(8, 3), False),
        ("q0.15", Fixed(16, 15), False),
        ("Q-2.9", Fixed(8, 9), False),
        ("UQ4.4", Fixed(8, 4, False), None),
        ("ap_fixed<8,4>", Fixed(8, 4), True),
        ("ap_fixed<8, 5>", Fixed(8, 3), True),
        ("ap_fixed<8,-2>", Fixed(8, 10), True),
        ("ap_ufixed<8,4>", Fixed(8, 4, False), None),
        ("ap_int<8>", Fixed(8), True),
        ("ap_uint<3>", Fixed(3, 0, False), None),
        (" fxp-s8/3  narrow ", Fixed(8, 3, narrow=True), True),
        ("bipolar", Bipolar(), None),
        ("levels{-1, 0, 1}", apot(2), None),
        ("levels{-3,0,5}", Levels((-3, 0, 5)), None),
    ],
)
def test_notations(text, want, counted):
    found = parse(text)
    assert found.format == want
    assert found.sign_counted is counted
    assert (found.rounding, found.overflow) == (None, None)


def test_the_sign_bit_of_q_is_said_and_can_be_chosen():
    assert parse("Q4.3").format.bits == 8 and "sign bit not counted" in str(parse("Q4.3"))
    arm = parse("Q4.3", sign_counted=True)
    assert arm.format == Fixed(7, 3) and "sign bit counted" in str(arm)
    assert Fixed.parse("Q4.3", sign_counted=True) == Fixed(7, 3)
    assert parse("UQ4.4", sign_counted=True).format == Fixed(8, 4, False)
    assert Fixed(8, 3).describe() == (
        "fxp-s8/3 (sign bit counted in the 8 bits) = ap_fixed<8,5> (sign bit counted in the integer bits) = "
        "Q4.3 (sign bit not counted) = Q5.3 (if the sign bit is counted): codes -128..127, step 2^-3"
    )
    assert Fixed(8, 0, False).describe() == "fxp-u8/0 = ap_ufixed<8,8> = UQ8.0 (no sign bit): codes 0..255, step 1"


def test_modes_of_ap_fixed():
    found = parse("ap_fixed<8,4,AP_RND,AP_SAT>")
    assert (found.format, found.rounding, found.overflow) == (Fixed(8, 4), Rounding.RND, Overflow.SAT)
    assert str(found) == "ap_fixed<8,4,AP_RND,AP_SAT> read as fxp-s8/4, sign bit counted, RND, SAT"
    assert parse("ap_ufixed<8,4,AP_TRN_ZERO>").rounding == Rounding.TRN_ZERO
    assert parse("sc_fixed<8,4,SC_RND_CONV,SC_WRAP,0>").overflow == Overflow.WRAP


@given(FIXED)
def test_every_notation_reads_back(f):
    assert Fixed.parse(str(f)) == f
    assert Fixed.parse(f.notation("ap_fixed")) == f
    assert Fixed.parse(f.notation("Q")) == f
    assert Fixed.parse(f.notation("Q_sign_counted"), sign_counted=True) == f


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Q4",
        "Q4.",
        "8",
        "fxp-x8/3",
        "fxp-s8",
        "fxp-s8/3.5",
        "fxp-s65/0",
        "fxp-s0/0",
        "fxp-u8/3 narrow",
        "ap_fixed<8>",
        "ap_fixed<8,4",
        "ap_fixed<8,x>",
        "ap_fixed<8,4,FOO>",
        "ap_fixed<8,4,AP_RND,AP_SAT_ZERO>",
        "ap_fixed<8,4,AP_RND,AP_WRAP,2>",
        "ap_fixed<8,4,AP_RND,AP_WRAP,0,0>",
        "ap_int<8,4>",
        "fxp-s" + "9" * 40 + "/0",
        "levels{}",
        "levels{1}",
        "levels{a,b}",
        "levels{1,0}",
        "apot6",
        "bipolar narrow",
        "float32",
        "Q" * 5000,
    ],
)
def test_bad_notations_say_what_was_found(text):
    with pytest.raises(FormatError) as caught:
        parse(text)
    message = str(caught.value)
    assert repr(text) in message or len(text) > 4096
    assert "\n" not in message


def test_a_bad_notation_lists_the_accepted_ones():
    with pytest.raises(FormatError, match=r"fxp-s8/3, .*Q4\.3.*ap_fixed<8,5>"):
        parse("int8")
    with pytest.raises(FormatError, match="found 8"):
        parse(8)
    with pytest.raises(FormatError, match="fixed-point format"):
        Fixed.parse("bipolar")
    with pytest.raises(FormatError, match="style: found 'x'"):
        Fixed(8).notation("x")


def test_mode_names():
    aliases = {
        "floor": Rounding.TRN,
        "toward zero": Rounding.TRN_ZERO,
        "half up": Rounding.RND,
        "half even": Rounding.RND_CONV,
        "half away": Rounding.RND_INF,
        "half toward zero": Rounding.RND_ZERO,
        "half down": Rounding.RND_MIN_INF,
        "stochastic": Rounding.STOCHASTIC,
    }
    for alias, mode in aliases.items():
        for name in (alias, alias.replace(" ", "_"), alias.upper(), mode.name, "AP_" + mode.name, int(mode), mode):
            assert as_rounding(name) is mode
    for alias, mode in {"saturate": 0, "saturate symmetric": 1, "wrap": 2, "trap": 3}.items():
        assert as_overflow(alias) is as_overflow(mode) is as_overflow(Overflow(mode).name) is Overflow(mode)
    for bad in ("round", "", 8, -1, None, 1.0, True):
        with pytest.raises(FormatError, match=r"one of TRN \(floor\)"):
            as_rounding(bad)
    for bad in ("SAT_ZERO", 4, Rounding.TRN.name):
        with pytest.raises(FormatError, match=r"one of SAT \(saturate\)"):
            as_overflow(bad)
