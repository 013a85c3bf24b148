"""Exact fixed-point arithmetic on arrays of integer codes.

Every operation states the format of its result, which holds every result that the operand formats
allow; with ``to=`` the exact result is rounded once and brought into range once. Work is done in
int64 where the formats prove that nothing overflows, and in unbounded Python integers elsewhere:
the same codes either way.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import FormatError, RangeError, ShapeError
from ..kernels.numbers import compiled as scalar
from ..kernels.numbers import reference as exact
from .arguments import instance, seed_of, shown, whole, whole_or_none
from .fixed import Fixed, Overflow, Rounding
from .integers import at_index, each
from .notation import as_overflow, as_rounding

__all__ = [
    "RandomKey",
    "accumulate",
    "add",
    "multiply",
    "negate",
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
class Exact:
    """Integers (int64, or Python ints in an object array) proven to lie in lo..hi, in units of 2**-frac."""

    array: np.ndarray
    lo: int
    hi: int
    frac: int


def _fits(lo: int, hi: int) -> bool:
    """Whether int64 holds lo..hi."""
    return lo >= INT64_MIN and hi <= INT64_MAX


def checked_codes(codes, number_format: Fixed, what: str = "codes", name: str = "") -> Exact:
    """Checked codes as exact integers; `name` is what the parameter of the format is called."""
    instance(number_format, name or f"{what}_format", Fixed, needed="a Fixed format")
    array = number_format.check(codes, what)
    lo, hi = number_format.min, number_format.max
    return Exact(hold(array, lo, hi), lo, hi, number_format.frac)


def hold(array: np.ndarray, *bounds: int) -> np.ndarray:
    """The integers of `array` as int64 if int64 holds all `bounds`, else as Python ints."""
    if _fits(min(bounds), max(bounds)):
        return array.astype(np.int64)
    return each(int, array)


def _scaled_up(x: Exact, shift: int) -> Exact:
    """The same values in units finer by 2**shift, shift >= 0."""
    lo, hi = x.lo << shift, x.hi << shift
    array = hold(x.array, lo, hi, x.lo, x.hi)
    array = each(lambda a: a << shift, array) if array.dtype == object else np.left_shift(array, shift)
    return Exact(np.asarray(array), lo, hi, x.frac + shift)


def _aligned(a: Exact, b: Exact) -> tuple[Exact, Exact]:
    """Both operands in the finer of their two units."""
    frac = max(a.frac, b.frac)
    return _scaled_up(a, frac - a.frac), _scaled_up(b, frac - b.frac)


def as_key(seed: "int | RandomKey") -> RandomKey:
    return seed if isinstance(seed, RandomKey) else RandomKey(seed_of(seed))


def _finish(x: Exact, to: Fixed | None, rounding, overflow, seed, operation: str) -> tuple[np.ndarray, Fixed]:
    """The exact integers as codes of their own proven format, or rounded and brought into `to`."""
    instance(to, f"{operation}: to", Fixed, none=True, needed="a Fixed format")
    key = as_key(seed)
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
    return bring(x, to, as_rounding(rounding), as_overflow(overflow), key, operation)[0], to


def bring(
    x: Exact, to: Fixed, rounding: Rounding, overflow: Overflow, key: RandomKey, what: str
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


def _bring_exact(x: Exact, to: Fixed, shift: int, rounding: Rounding, overflow: Overflow, key: RandomKey):
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
    x = checked_codes(codes, from_format, name="from_format")
    instance(to_format, "to_format", Fixed, needed="a Fixed format")
    return bring(x, to_format, as_rounding(rounding), as_overflow(overflow), as_key(seed), "rescale")[0]


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
    x, y = _aligned(checked_codes(a, a_format, "a"), checked_codes(b, b_format, "b"))
    return _finish(_binary("add", x, y, np.add, x.lo + y.lo, x.hi + y.hi, x.frac), to, rounding, overflow, seed, "add")


def subtract(
    a, a_format: Fixed, b, b_format: Fixed, *, to: Fixed | None = None, rounding=None, overflow=None, seed=0
) -> tuple[np.ndarray, Fixed]:
    """Return ``a - b`` exactly and its format; with `to`, rounded and brought into it.

    The result has ``frac = max(a.frac, b.frac)`` and holds ``a.min - b.max .. a.max - b.min``. Parameters, results
    and errors as for `add`.
    """
    x, y = _aligned(checked_codes(a, a_format, "a"), checked_codes(b, b_format, "b"))
    z = _binary("subtract", x, y, np.subtract, x.lo - y.hi, x.hi - y.lo, x.frac)
    return _finish(z, to, rounding, overflow, seed, "subtract")


def multiply(
    a, a_format: Fixed, b, b_format: Fixed, *, to: Fixed | None = None, rounding=None, overflow=None, seed=0
) -> tuple[np.ndarray, Fixed]:
    """Return ``a * b`` exactly and its format; with `to`, rounded and brought into it.

    The result has ``frac = a.frac + b.frac`` and holds the products of the four corners of the code ranges.
    Parameters, results and errors as for `add`.
    """
    x, y = checked_codes(a, a_format, "a"), checked_codes(b, b_format, "b")
    corners = [p * q for p in (x.lo, x.hi) for q in (y.lo, y.hi)]
    z = _binary("multiply", x, y, np.multiply, min(corners), max(corners), x.frac + y.frac)
    return _finish(z, to, rounding, overflow, seed, "multiply")


def _binary(operation: str, x: Exact, y: Exact, function, lo: int, hi: int, frac: int) -> Exact:
    """Apply `function` elementwise where int64 holds operands and result, else on Python ints."""
    bounds = (lo, hi, x.lo, x.hi, y.lo, y.hi)
    p, q = hold(x.array, *bounds), hold(y.array, *bounds)
    try:
        array = function(p, q)
    except ValueError:
        raise ShapeError(f"{operation}: shapes {p.shape} and {q.shape} do not broadcast to one shape") from None
    return Exact(hold(np.asarray(array), lo, hi), lo, hi, frac)


def negate(
    a, a_format: Fixed, *, to: Fixed | None = None, rounding=None, overflow=None, seed=0
) -> tuple[np.ndarray, Fixed]:
    """Return ``-a`` exactly and its format, which holds ``-a.max .. -a.min``; with `to`, brought into it.

    The negative of the smallest two's-complement code needs one bit more, which the result format has.
    Parameters, results and errors as for `add`.
    """
    x = checked_codes(a, a_format, "a")
    array = -hold(x.array, x.lo, x.hi, -x.lo, -x.hi)
    return _finish(Exact(np.asarray(array), -x.hi, -x.lo, x.frac), to, rounding, overflow, seed, "negate")


def shift_left(
    a, a_format: Fixed, k: int, *, to: Fixed | None = None, rounding=None, overflow=None, seed=0
) -> tuple[np.ndarray, Fixed]:
    """Return ``a * 2**k`` exactly and its format; with `to`, rounded and brought into it.

    The binary places stay and the range grows by `k` bits. To move the binary point only, keep the codes and use a
    format of another `frac`. Parameters, results and errors as for `add`; `k` is 0 or more.
    """
    shift = _shift_count(k)
    x = _scaled_up(checked_codes(a, a_format, "a"), shift)
    return _finish(Exact(x.array, x.lo, x.hi, a_format.frac), to, rounding, overflow, seed, "shift_left")


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
    x = checked_codes(a, a_format, "a")
    stochastic = mode == Rounding.STOCHASTIC
    lo = exact.round_shift(x.lo, shift, Rounding.TRN if stochastic else mode)
    hi = -(-x.hi >> shift) if stochastic else exact.round_shift(x.hi, shift, mode)
    result = Fixed.for_range(lo, hi, a_format.frac, signed=a_format.signed)
    # as a change of unit: the same codes read `shift` places finer, brought back to whole steps
    moved = Exact(x.array, x.lo, x.hi, a_format.frac + shift)
    codes, _ = bring(moved, result, mode, Overflow.TRAP, as_key(seed), "shift_right")
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
    x = checked_codes(a, a_format, "a")
    axis = whole_or_none(axis, "axis")
    array = x.array.reshape(-1) if axis is None else x.array
    along = 0 if axis is None else axis
    if not -array.ndim <= along < array.ndim:
        raise ShapeError(f"accumulate: axis {shown(axis)} is not an axis of shape {x.array.shape}")
    n = array.shape[along]
    lo, hi = min(n * x.lo, 0), max(n * x.hi, 0)
    array = hold(array, lo, hi, x.lo, x.hi)
    total = np.asarray(array.sum(axis=along, dtype=array.dtype))
    return _finish(Exact(hold(total, lo, hi), lo, hi, x.frac), to, rounding, overflow, seed, "accumulate")
