"""Exact fixed-point arithmetic on arrays of integer codes.

Every operation states the format of its result, which holds every result that the operand formats
allow; with ``to=`` the exact result is rounded once and brought into range once. Work is done in
int64 where the formats prove that nothing overflows, and in unbounded Python integers elsewhere:
the same codes either way.
"""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from numbers import Rational
from typing import Any

import numpy as np

from ..errors import FormatError, RangeError, ShapeError
from ..kernels.numbers import compiled as scalar
from ..kernels.numbers import reference as exact
from .arguments import array_of, flag, instance, seed_of, shown, whole, whole_or_none
from .fixed import Fixed, Overflow, Rounding
from .integers import at_index, each, limits
from .notation import as_overflow, as_rounding

__all__ = [
    "QuantiseReport",
    "RandomKey",
    "accumulate",
    "add",
    "dequantise",
    "multiply",
    "negate",
    "quantise",
    "rescale",
    "shift_left",
    "shift_right",
    "subtract",
]

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
MAX_SHIFT = 62  # of the compiled shifts
MAX_COUNT = 4096  # of shift_left and shift_right; bounds the size of the integers at work


@dataclass(frozen=True)
class RandomKey:
    """Where in the stream of random bits an operation draws; element i draws ``(..., i, draw)``.

    Parameters
    ----------
    seed, step, layer, sample, draw : int
        The key words of ``docs/semantics.md``, each in 0 .. 2**63 - 1.

    Raises
    ------
    FormatError
        A key word is out of range.
    """

    seed: int = 0
    step: int = 0
    layer: int = 0
    sample: int = 0
    draw: int = 0

    def __post_init__(self) -> None:
        for name in ("seed", "step", "layer", "sample", "draw"):
            object.__setattr__(self, name, seed_of(getattr(self, name), f"RandomKey.{name}"))

    def word(self, element: int, bits: int = 64) -> int:
        """Return at least `bits` random bits: draws `draw`, `draw` + 1, ... of 64 bits, least significant first."""
        element = whole(element, "RandomKey.word: element", 0, INT64_MAX)
        bits = whole(bits, "RandomKey.word: bits", 0, 1 << 20)
        words = range(max(1, -(-bits // 64)))
        outer = (self.seed, self.step, self.layer, self.sample, element)
        return sum(exact.random_word(*outer, self.draw + i) << (64 * i) for i in words)


@dataclass(frozen=True)
class QuantiseReport:
    """What `quantise` did to the values.

    Attributes
    ----------
    count : int
        Number of values.
    clipped : int
        Values whose rounded code lay outside the range, so that overflow changed it.
    zeroed : int
        Values other than zero whose rounded code, before overflow, is zero.
    """

    count: int
    clipped: int
    zeroed: int

    def __str__(self) -> str:
        return f"{self.clipped} of {self.count} values clipped, {self.zeroed} became zero"


@dataclass(frozen=True)
class _Exact:
    """Integers (int64, or Python ints in an object array) proven to lie in lo..hi, in units of 2**-frac."""

    array: np.ndarray
    lo: int
    hi: int
    frac: int


def _fits(lo: int, hi: int) -> bool:
    """Whether int64 holds lo..hi."""
    return lo >= INT64_MIN and hi <= INT64_MAX


def _load(codes, number_format: Fixed, what: str = "codes", name: str = "") -> _Exact:
    """Checked codes as exact integers; `name` is what the parameter of the format is called."""
    instance(number_format, name or f"{what}_format", Fixed, needed="a Fixed format")
    array = number_format.check(codes, what)
    lo, hi = number_format.min, number_format.max
    return _Exact(_hold(array, lo, hi), lo, hi, number_format.frac)


def _hold(array: np.ndarray, *bounds: int) -> np.ndarray:
    """The integers of `array` as int64 if int64 holds all `bounds`, else as Python ints."""
    if _fits(min(bounds), max(bounds)):
        return array.astype(np.int64)
    return each(int, array)


def _scaled_up(x: _Exact, shift: int) -> _Exact:
    """The same values in units finer by 2**shift, shift >= 0."""
    lo, hi = x.lo << shift, x.hi << shift
    array = _hold(x.array, lo, hi, x.lo, x.hi)
    array = each(lambda a: a << shift, array) if array.dtype == object else np.left_shift(array, shift)
    return _Exact(np.asarray(array), lo, hi, x.frac + shift)


def _aligned(a: _Exact, b: _Exact) -> tuple[_Exact, _Exact]:
    """Both operands in the finer of their two units."""
    frac = max(a.frac, b.frac)
    return _scaled_up(a, frac - a.frac), _scaled_up(b, frac - b.frac)


def _as_key(seed: "int | RandomKey") -> RandomKey:
    return seed if isinstance(seed, RandomKey) else RandomKey(seed_of(seed))


def _finish(x: _Exact, to: Fixed | None, rounding, overflow, seed, operation: str) -> tuple[np.ndarray, Fixed]:
    """The exact integers as codes of their own proven format, or rounded and brought into `to`."""
    instance(to, f"{operation}: to", Fixed, none=True, needed="a Fixed format")
    key = _as_key(seed)
    if to is None:
        if rounding is not None or overflow is not None:
            raise FormatError(f"{operation}: rounding and overflow need a format to bring the result to; pass to=")
        try:
            result = Fixed.for_range(x.lo, x.hi, x.frac)
        except FormatError as error:
            raise FormatError(f"{operation}: {error}; pass to= with a format, rounding and overflow") from None
        return x.array.astype(result.dtype), result
    if rounding is None or overflow is None:
        raise FormatError(f"{operation}: bringing the result to {to} needs rounding= and overflow=")
    return _bring(x, to, as_rounding(rounding), as_overflow(overflow), key, operation)[0], to


def _bring(
    x: _Exact, to: Fixed, rounding: Rounding, overflow: Overflow, key: RandomKey, what: str
) -> tuple[np.ndarray, int]:
    """Round once, then overflow once: codes of `to`, and how many of them overflow changed."""
    shift = x.frac - to.frac
    lo, hi = (x.lo, x.hi) if shift >= 0 else (x.lo << -shift, x.hi << -shift)
    if shift <= MAX_SHIFT and -shift <= MAX_SHIFT and _fits(min(lo, x.lo, to.min), max(hi, x.hi, to.max)):
        flat = np.ascontiguousarray(x.array).astype(np.int64).ravel()
        out = np.empty_like(flat)
        state = np.uint64(exact.random_key(key.seed, key.step, key.layer, key.sample))
        changed, first = scalar.rescale(
            flat, shift, int(rounding), to.min, to.max, int(overflow), state, np.int64(key.draw), out
        )
        rounded_first = int(out[first]) if overflow == Overflow.TRAP and first >= 0 else 0
    else:
        out, changed, first, rounded_first = _bring_exact(x, to, shift, rounding, overflow, key)
    if overflow == Overflow.TRAP and first >= 0:
        where = at_index(np.unravel_index(int(first), x.array.shape))
        raise RangeError(
            f"{what}: the rounded result {rounded_first}{where} is outside {to.min}..{to.max}, the range of {to}"
        )
    return out.astype(to.dtype).reshape(x.array.shape), int(changed)


def _bring_exact(x: _Exact, to: Fixed, shift: int, rounding: Rounding, overflow: Overflow, key: RandomKey):
    """`scalar.rescale` in unbounded integers."""
    codes = np.empty(x.array.size, dtype=object)
    changed, first, rounded_first = 0, -1, 0
    for i, value in enumerate(x.array.flat):
        value = int(value)
        if shift > 0:
            word = key.word(i, shift) if rounding == Rounding.STOCHASTIC else 0
            value = exact.round_shift(value, shift, rounding, word)
        else:
            value <<= -shift
        code = exact.overflow(value, to.min, to.max, overflow)
        if code != value or not to.min <= code <= to.max:
            changed += 1
            if first < 0:
                first, rounded_first = i, value
        codes[i] = code
    return codes, changed, first, rounded_first


def rescale(
    codes,
    from_format: Fixed,
    to_format: Fixed,
    rounding: Rounding | str,
    overflow: Overflow | str,
    seed: int | RandomKey = 0,
) -> np.ndarray:
    """Return the codes of `to_format` for the values that `codes` have in `from_format`.

    **Exact**: ``overflow(round_shift(code, from.frac - to.frac, rounding))``; a step to more binary places is an
    exact left shift.

    Parameters
    ----------
    codes : integer array, any shape
    from_format, to_format : Fixed
    rounding, overflow : mode or name
    seed : int or RandomKey
        Used by ``STOCHASTIC`` only.

    Returns
    -------
    integer array of `to_format.dtype`, same shape

    Raises
    ------
    RangeError
        A code is outside `from_format`, or (``TRAP``) a result outside `to_format`.
    FormatError
        Codes that are no integers, or an unknown mode.

    Examples
    --------
    >>> rescale([-5, -3, 3, 5], Fixed(8, 1), Fixed(8, 0), "RND_CONV", "SAT").tolist()
    [-2, -2, 2, 2]
    """
    x = _load(codes, from_format, name="from_format")
    instance(to_format, "to_format", Fixed, needed="a Fixed format")
    return _bring(x, to_format, as_rounding(rounding), as_overflow(overflow), _as_key(seed), "rescale")[0]


def add(
    a, a_format: Fixed, b, b_format: Fixed, *, to: Fixed | None = None, rounding=None, overflow=None, seed=0
) -> tuple[np.ndarray, Fixed]:
    """Return ``a + b`` exactly and its format; with `to`, rounded and brought into it.

    The result has ``frac = max(a.frac, b.frac)`` and the narrowest range that holds the sum of the smallest and
    the sum of the largest codes. Shapes broadcast.

    Parameters
    ----------
    a, b : integer arrays
    a_format, b_format : Fixed
    to : Fixed or None
        None: the exact result format.
    rounding, overflow : mode or name
        Needed with `to`.
    seed : int or RandomKey

    Returns
    -------
    codes, format

    Raises
    ------
    RangeError
        A code is outside its format, or (``TRAP``) a result outside `to`.
    FormatError
        The exact result needs more than 64 bits and no `to` is given, or bad modes.
    ShapeError
        Shapes that do not broadcast.
    """
    x, y = _aligned(_load(a, a_format, "a"), _load(b, b_format, "b"))
    return _finish(_binary("add", x, y, np.add, x.lo + y.lo, x.hi + y.hi, x.frac), to, rounding, overflow, seed, "add")


def subtract(
    a, a_format: Fixed, b, b_format: Fixed, *, to: Fixed | None = None, rounding=None, overflow=None, seed=0
) -> tuple[np.ndarray, Fixed]:
    """Return ``a - b`` exactly and its format; with `to`, rounded and brought into it.

    The result has ``frac = max(a.frac, b.frac)`` and holds ``a.min - b.max .. a.max - b.min``. Parameters, results
    and errors as for `add`.
    """
    x, y = _aligned(_load(a, a_format, "a"), _load(b, b_format, "b"))
    z = _binary("subtract", x, y, np.subtract, x.lo - y.hi, x.hi - y.lo, x.frac)
    return _finish(z, to, rounding, overflow, seed, "subtract")


def multiply(
    a, a_format: Fixed, b, b_format: Fixed, *, to: Fixed | None = None, rounding=None, overflow=None, seed=0
) -> tuple[np.ndarray, Fixed]:
    """Return ``a * b`` exactly and its format; with `to`, rounded and brought into it.

    The result has ``frac = a.frac + b.frac`` and holds the products of the four corners of the code ranges.
    Parameters, results and errors as for `add`.
    """
    x, y = _load(a, a_format, "a"), _load(b, b_format, "b")
    corners = [p * q for p in (x.lo, x.hi) for q in (y.lo, y.hi)]
    z = _binary("multiply", x, y, np.multiply, min(corners), max(corners), x.frac + y.frac)
    return _finish(z, to, rounding, overflow, seed, "multiply")


def _binary(operation: str, x: _Exact, y: _Exact, function, lo: int, hi: int, frac: int) -> _Exact:
    """Apply `function` elementwise where int64 holds operands and result, else on Python ints."""
    bounds = (lo, hi, x.lo, x.hi, y.lo, y.hi)
    p, q = _hold(x.array, *bounds), _hold(y.array, *bounds)
    try:
        array = function(p, q)
    except ValueError:
        raise ShapeError(f"{operation}: shapes {p.shape} and {q.shape} do not broadcast to one shape") from None
    return _Exact(_hold(np.asarray(array), lo, hi), lo, hi, frac)


def negate(
    a, a_format: Fixed, *, to: Fixed | None = None, rounding=None, overflow=None, seed=0
) -> tuple[np.ndarray, Fixed]:
    """Return ``-a`` exactly and its format, which holds ``-a.max .. -a.min``; with `to`, brought into it.

    The negative of the smallest two's-complement code needs one bit more, which the result format has.
    Parameters, results and errors as for `add`.
    """
    x = _load(a, a_format, "a")
    array = -_hold(x.array, x.lo, x.hi, -x.lo, -x.hi)
    return _finish(_Exact(np.asarray(array), -x.hi, -x.lo, x.frac), to, rounding, overflow, seed, "negate")


def shift_left(
    a, a_format: Fixed, k: int, *, to: Fixed | None = None, rounding=None, overflow=None, seed=0
) -> tuple[np.ndarray, Fixed]:
    """Return ``a * 2**k`` exactly and its format; with `to`, rounded and brought into it.

    The binary places stay and the range grows by `k` bits. To move the binary point only, keep the codes and use a
    format of another `frac`. Parameters, results and errors as for `add`; `k` is 0 or more.
    """
    shift = _shift_count(k)
    x = _scaled_up(_load(a, a_format, "a"), shift)
    return _finish(_Exact(x.array, x.lo, x.hi, a_format.frac), to, rounding, overflow, seed, "shift_left")


def shift_right(a, a_format: Fixed, k: int, rounding: Rounding | str, seed: int | RandomKey = 0):
    """Return ``a / 2**k`` rounded to the binary places of `a`, and its format.

    **Exact**: ``round_shift(code, k, rounding)``. The result has the frac and the sign of the operand and the
    narrowest range that holds the rounded bounds (``STOCHASTIC``: floor of the one, ceiling of the other).

    Parameters
    ----------
    a : integer array
    a_format : Fixed
    k : int
        0 or more.
    rounding : mode or name
    seed : int or RandomKey
        Used by ``STOCHASTIC`` only.

    Returns
    -------
    codes, format

    Raises
    ------
    RangeError
        A code is outside its format.
    FormatError
        A negative shift or an unknown mode.
    """
    shift, mode = _shift_count(k), as_rounding(rounding)
    x = _load(a, a_format, "a")
    stochastic = mode == Rounding.STOCHASTIC
    lo = exact.round_shift(x.lo, shift, Rounding.TRN if stochastic else mode)
    hi = -(-x.hi >> shift) if stochastic else exact.round_shift(x.hi, shift, mode)
    result = Fixed.for_range(lo, hi, a_format.frac, signed=a_format.signed)
    # as a change of unit: the same codes read `shift` places finer, brought back to whole steps
    moved = _Exact(x.array, x.lo, x.hi, a_format.frac + shift)
    codes, _ = _bring(moved, result, mode, Overflow.TRAP, _as_key(seed), "shift_right")
    return codes, result


def _shift_count(k: int) -> int:
    """`k` as a checked shift count."""
    return whole(k, "the shift count k", 0, MAX_COUNT)


def accumulate(
    a,
    a_format: Fixed,
    axis: int | None = None,
    *,
    to: Fixed | None = None,
    rounding=None,
    overflow=None,
    seed: int | RandomKey = 0,
) -> tuple[np.ndarray, Fixed]:
    """Return the sum of `a` along an axis exactly, and its format; with `to`, rounded and brought into it.

    The result has the frac of the operand and holds ``n * a.min .. n * a.max`` for n terms: the whole sum is
    exact, and overflow (with `to`) is applied once, to the sum. The sum of no terms is 0.

    Parameters
    ----------
    a : integer array
    a_format : Fixed
    axis : int or None
        None: all elements.
    to, rounding, overflow, seed :
        As for `add`.

    Returns
    -------
    codes, format

    Raises
    ------
    RangeError
        A code is outside its format, or (``TRAP``) a sum outside `to`.
    FormatError
        The exact sum needs more than 64 bits and no `to` is given, or bad modes.
    ShapeError
        There is no such axis.
    """
    x = _load(a, a_format, "a")
    axis = whole_or_none(axis, "axis")
    array = x.array.reshape(-1) if axis is None else x.array
    along = 0 if axis is None else axis
    if not -array.ndim <= along < array.ndim:
        raise ShapeError(f"accumulate: axis {shown(axis)} is not an axis of shape {x.array.shape}")
    n = array.shape[along]
    lo, hi = min(n * x.lo, 0), max(n * x.hi, 0)
    array = _hold(array, lo, hi, x.lo, x.hi)
    total = np.asarray(array.sum(axis=along, dtype=array.dtype))
    return _finish(_Exact(_hold(total, lo, hi), lo, hi, x.frac), to, rounding, overflow, seed, "accumulate")


def quantise(
    real,
    to_format: Fixed,
    rounding: Rounding | str,
    overflow: Overflow | str,
    seed: int | RandomKey = 0,
) -> tuple[np.ndarray, QuantiseReport]:
    """Return the codes nearest to real values by the named rounding, and what was lost.

    **Exact**: ``overflow(round(value * 2**frac))`` with the value taken exactly: a float is the dyadic rational
    that it stores, never a decimal approximation. ``STOCHASTIC`` rounds up with exactly the probability of the
    fraction, for values of any size.

    Parameters
    ----------
    real : array of float16, float32, float64, integers, Fraction or Decimal, any shape
    to_format : Fixed
    rounding, overflow : mode or name
    seed : int or RandomKey
        Used by ``STOCHASTIC`` only.

    Returns
    -------
    codes : integer array of `to_format.dtype`, same shape
    report : QuantiseReport

    Raises
    ------
    RangeError
        NaN or infinity, or (``TRAP``) a result outside `to_format`.
    FormatError
        Values that are no real numbers, or an unknown mode.

    Examples
    --------
    >>> codes, report = quantise([0.1, -0.75, 9.0, 0.001], Fixed(4, 2), "half even", "saturate")
    >>> codes.tolist(), str(report)
    ([0, -3, 7, 0], '1 of 4 values clipped, 2 became zero')
    """
    rounding, overflow, key = as_rounding(rounding), as_overflow(overflow), _as_key(seed)
    instance(to_format, "to_format", Fixed, needed="a Fixed format")
    array = array_of(real, "quantise: real")
    if array.dtype.kind == "f" and array.dtype.itemsize <= 8 and not _has_big_integers(real):
        rounded, nonzero = _round_floats(array.astype(np.float64), to_format, rounding, key)
    else:
        rounded, nonzero = _round_rationals(_objects(real, array), to_format, rounding, key)
    zeroed = int(np.count_nonzero(nonzero & np.asarray(rounded == 0).astype(bool)))
    lo, hi = limits(rounded) if rounded.size else (0, 0)
    x = _Exact(_hold(rounded, lo, hi), lo, hi, to_format.frac)
    codes, clipped = _bring(x, to_format, rounding, overflow, key, "quantise")
    return codes, QuantiseReport(int(array.size), clipped, zeroed)


def _has_big_integers(real) -> bool:
    """Whether `real` is a list in which NumPy may have turned integers into floats."""
    return not isinstance(real, (np.ndarray, np.generic, float)) and any(
        isinstance(v, (int, np.integer)) and abs(int(v)) > 1 << 53 for v in np.asarray(real, dtype=object).flat
    )


def _objects(real, array: np.ndarray) -> np.ndarray:
    """`real` as an array of Python numbers; complex, text and wide floats are refused."""
    if array.dtype.kind in "iub":
        return array.astype(object)
    if array.dtype == object or array.dtype.kind == "f" and not isinstance(real, (np.ndarray, np.generic)):
        return np.asarray(real, dtype=object)
    raise FormatError(
        f"quantise: the real values are of type {array.dtype}; float64 or narrower, integers or Fraction are needed"
    )


def _refuse_non_finite(array: np.ndarray) -> None:
    """Raise RangeError naming the first NaN or infinity."""
    finite = np.isfinite(array)
    if not finite.all():
        index = tuple(np.argwhere(~finite)[0])
        raise RangeError(f"quantise: {float(array[index])}{at_index(index)} is not a finite number; remove it first")


def _round_floats(array: np.ndarray, to: Fixed, rounding: Rounding, key: RandomKey) -> tuple[np.ndarray, np.ndarray]:
    """Round ``array * 2**frac`` to integers: (int64 or Python ints, whether the value is not zero)."""
    _refuse_non_finite(array)
    mantissa, exponent = np.frexp(array)
    whole = np.ldexp(mantissa, 53).astype(np.int64)  # exact: |mantissa| < 1 has at most 53 bits
    places = 53 - exponent.astype(np.int64) - to.frac  # value * 2**frac == whole / 2**places
    # lowest terms: what STOCHASTIC draws depends on the value, not on the width of the mantissa it came in
    zeros = np.frexp((whole & -whole).astype(np.float64))[1] - 1  # trailing zero bits
    spare = np.where(whole == 0, 0, np.minimum(zeros, np.maximum(places, 0)))
    flat, places = (whole >> spare).ravel(), np.where(whole == 0, 0, places - spare).ravel()
    state = np.uint64(exact.random_key(key.seed, key.step, key.layer, key.sample))
    plain = places >= -10  # |whole| < 2**53, so that whole << 10 fits int64
    if rounding == Rounding.STOCHASTIC:
        plain &= places <= MAX_SHIFT  # beyond, the probability needs more random bits than one word has
    # |whole| / 2**62 is below 2**-8 already: the other modes see only the sign of such a rest
    shifts = np.minimum(places, MAX_SHIFT)
    rounded = np.zeros(flat.size, dtype=np.int64)
    scalar.round_each(flat, shifts, plain, int(rounding), state, np.int64(key.draw), rounded)
    if not plain.all():
        rounded = rounded.astype(object)
        for i in np.flatnonzero(~plain):
            x, k = int(flat[i]), int(places[i])
            rounded[i] = exact.round_shift(x, k, rounding, key.word(int(i), k)) if k > 0 else x << -k
    return rounded.reshape(array.shape), whole != 0


def _round_rationals(array: np.ndarray, to: Fixed, rounding: Rounding, key: RandomKey) -> tuple[np.ndarray, np.ndarray]:
    """Round ``array * 2**frac`` to Python ints: (object array, whether the value is not zero)."""
    rounded = np.empty(array.shape, dtype=object)
    nonzero = np.zeros(array.shape, dtype=bool)
    for i, index in enumerate(np.ndindex(array.shape)):
        value: Any = array[index]
        if isinstance(value, np.generic):
            value = value.item()
        if not isinstance(value, (Rational, float, Decimal)):
            raise FormatError(f"quantise: {shown(value)} at index {index} is not real; use float, int or Fraction")
        if isinstance(value, (float, Decimal)):
            value = _fraction(value, index)
        nonzero[index] = value != 0
        scaled = Fraction(value) * Fraction(2) ** to.frac
        bits = scaled.denominator.bit_length() + 64  # 64 bits to spare: the bias of the modulo stays below 2**-64
        word = key.word(i, bits) if rounding == Rounding.STOCHASTIC else 0
        rounded[index] = exact.round_div(scaled.numerator, scaled.denominator, rounding, word)
    return rounded, nonzero


def _fraction(value: float | Decimal, index: tuple[int, ...]) -> Fraction:
    """A finite float or decimal number, exactly."""
    try:
        return Fraction(value)
    except (ValueError, OverflowError):
        raise RangeError(f"quantise: {value} at index {index} is not a finite number; remove it first") from None


def dequantise(codes, number_format: Fixed, *, exactly: bool = False) -> np.ndarray:
    """Return the real values of codes, exactly.

    Parameters
    ----------
    codes : integer array, any shape
    number_format : Fixed
    exactly : bool
        False: float64. True: an object array of `fractions.Fraction`, which holds every value.

    Returns
    -------
    float64 (or Fraction) array, same shape

    Raises
    ------
    RangeError
        A code is outside its format, or a value is not a float64 (more than 53 significant bits).
    FormatError
        Codes that are no integers.

    Examples
    --------
    >>> dequantise([-128, 3], Fixed(8, 3)).tolist()
    [-16.0, 0.375]
    """
    x = _load(codes, number_format, name="number_format")
    if flag(exactly, "exactly"):
        return each(lambda c: int(c) * number_format.step, x.array)
    flat = x.array.ravel()
    with np.errstate(over="ignore", under="ignore"):
        values = np.ldexp(flat.astype(np.float64), -number_format.frac)
    simple = abs(number_format.frac) <= 900 and Fixed(54, narrow=True).contains(flat)
    for i in () if simple else range(flat.size):
        if not np.isfinite(values[i]) or Fraction(float(values[i])) != int(flat[i]) * number_format.step:
            raise RangeError(
                f"dequantise: code {int(flat[i])} at flat index {i} in {number_format} is not a float64 value; "
                "use exactly=True"
            )
    return values.reshape(x.array.shape)
