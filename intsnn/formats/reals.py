"""From real numbers to codes and back, exactly."""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from numbers import Rational
from typing import Any

import numpy as np

from ..errors import FormatError, RangeError
from ..kernels.numbers import compiled as scalar
from ..kernels.numbers import reference as exact
from .arguments import array_of, flag, instance, shown
from .arithmetic import MAX_SHIFT, Exact, RandomKey, as_key, bring, checked_codes, hold
from .fixed import Fixed, Overflow, Rounding
from .integers import at_index, each, limits
from .notation import as_overflow, as_rounding

__all__ = ["QuantiseReport", "dequantise", "quantise"]


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
    rounding, overflow, key = as_rounding(rounding), as_overflow(overflow), as_key(seed)
    instance(to_format, "to_format", Fixed, needed="a Fixed format")
    array = array_of(real, "quantise: real")
    if array.dtype.kind == "f" and array.dtype.itemsize <= 8 and not _has_big_integers(real):
        rounded, nonzero = _round_floats(array.astype(np.float64), to_format, rounding, key)
    else:
        rounded, nonzero = _round_rationals(_objects(real, array), to_format, rounding, key)
    zeroed = int(np.count_nonzero(nonzero & np.asarray(rounded == 0).astype(bool)))
    lo, hi = limits(rounded) if rounded.size else (0, 0)
    x = Exact(hold(rounded, lo, hi), lo, hi, to_format.frac)
    codes, clipped = bring(x, to_format, rounding, overflow, key, "quantise")
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
    x = checked_codes(codes, number_format, name="number_format")
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
