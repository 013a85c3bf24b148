"""What a number is: fixed-point formats and the two table formats of weights.

A format names a set of integer codes and what each code is worth. It holds no numbers itself.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..errors import FormatError, RangeError
from ..kernels.numbers.modes import Overflow, Rounding
from .arguments import choice, flag, sequence, whole
from .integers import at_index, check_range, integer_array, limits, smallest_dtype

__all__ = [
    "Bipolar",
    "Fixed",
    "Levels",
    "Overflow",
    "Rounding",
    "WeightFormat",
    "apot",
]

MAX_BITS = 64
STYLES = ("fxp", "ap_fixed", "Q", "Q_sign_counted")
MAX_FRAC = 4096  # keeps 2**frac an ordinary number; no format in use comes near


@dataclass(frozen=True)
class Fixed:
    """A fixed-point format: the code c is worth ``c * 2**-frac``.

    Parameters
    ----------
    bits : int
        Width of a code, 1..64, including the sign bit.
    frac : int
        Binary places; negative for steps above 1, and above `bits` for values below the leading place.
    signed : bool
        Two's complement ``-2**(bits-1) .. 2**(bits-1)-1``, or ``0 .. 2**bits-1``.
    narrow : bool
        The symmetric range ``-(2**(bits-1)-1) .. 2**(bits-1)-1`` (signed, 2 bits or more).

    Raises
    ------
    FormatError
        A width, place or combination that cannot be.

    Examples
    --------
    >>> str(Fixed(8, 3)), Fixed(8, 3).min, Fixed(8, 3).max
    ('fxp-s8/3', -128, 127)
    """

    bits: int
    frac: int = 0
    signed: bool = True
    narrow: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", whole(self.bits, "Fixed.bits", 1, MAX_BITS))
        object.__setattr__(self, "frac", whole(self.frac, "Fixed.frac", -MAX_FRAC, MAX_FRAC))
        for name in ("signed", "narrow"):
            object.__setattr__(self, name, flag(getattr(self, name), f"Fixed.{name}"))
        if self.narrow and (not self.signed or self.bits < 2):
            raise FormatError("a narrow format must be signed and have 2 bits or more; leave narrow out")

    @property
    def min(self) -> int:
        """Smallest code."""
        if not self.signed:
            return 0
        return -(1 << (self.bits - 1)) + self.narrow

    @property
    def max(self) -> int:
        """Largest code."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def step(self) -> Fraction:
        """Worth of code 1, exactly."""
        return Fraction(2) ** -self.frac

    @property
    def dtype(self) -> np.dtype:
        """Smallest NumPy integer dtype that holds every code."""
        width = next(w for w in (8, 16, 32, 64) if w >= self.bits)
        return np.dtype(f"{'int' if self.signed else 'uint'}{width}")

    def contains(self, codes) -> bool:
        """Whether every one of `codes` (integers, any shape) lies in the code range."""
        array = integer_array(codes)
        if array.size == 0:
            return True
        least, most = limits(array)
        return self.min <= least and most <= self.max

    def check(self, codes, what: str = "codes") -> np.ndarray:
        """Return `codes` in `dtype`, unchanged in value.

        Raises
        ------
        RangeError
            A code is outside the range; the message names `what`, the element, its value and the range.
        FormatError
            An element is not an integer.
        """
        array = integer_array(codes, what)
        check_range(array, self.min, self.max, what, str(self))
        return array.astype(self.dtype)

    def values(self, codes) -> np.ndarray:
        """Return the integers that a kernel multiplies by: the checked codes themselves, in units of `step`."""
        return self.check(codes)

    def codes(self, values) -> np.ndarray:
        """Return the codes of integers in units of `step`: the checked integers themselves."""
        return self.check(values, "values")

    @classmethod
    def parse(cls, text: str, *, sign_counted: bool = False) -> "Fixed":
        """Return the fixed-point format that `text` denotes; see `notation.parse`, which also keeps the modes.

        Raises
        ------
        FormatError
            `text` is no notation of a fixed-point format.
        """
        from .notation import parse  # late: it stands above, and reads every kind of format

        found = parse(text, sign_counted=sign_counted).format
        if not isinstance(found, cls):
            raise FormatError(f"{text!r} is a weight format; a fixed-point format such as 'fxp-s8/3' is needed here")
        return found

    @classmethod
    def for_range(cls, lo: int, hi: int, frac: int = 0, *, signed: bool | None = None) -> "Fixed":
        """Return the narrowest format whose codes hold lo..hi.

        Parameters
        ----------
        lo, hi : int
            Smallest and largest code to hold.
        frac : int
            Binary places of the result.
        signed : bool or None
            None: signed only if `lo` is negative.

        Raises
        ------
        FormatError
            lo > hi, lo < 0 in an unsigned format, or more than 64 bits are needed.
        """
        lo, hi = whole(lo, "Fixed.for_range: lo"), whole(hi, "Fixed.for_range: hi")
        if lo > hi:
            raise FormatError(f"the range {lo}..{hi} is empty; the first bound must not exceed the second")
        signed = lo < 0 if signed is None else flag(signed, "Fixed.for_range: signed")
        if lo < 0 and not signed:
            raise FormatError(f"the range {lo}..{hi} has negative codes; an unsigned format cannot hold them")
        bits = max((code if code >= 0 else ~code).bit_length() for code in (lo, hi)) + signed
        if bits > MAX_BITS:
            raise FormatError(f"the range {lo}..{hi} needs {bits} bits; a format has at most {MAX_BITS}")
        return cls(max(bits, 1), frac, signed)

    def notation(self, style: str = "fxp") -> str:
        """Return the format in one of the notations that people use.

        Parameters
        ----------
        style : {"fxp", "ap_fixed", "Q", "Q_sign_counted"}
            ``fxp-s8/3`` (8 bits in all, 3 of them binary places), ``ap_fixed<8,5>`` (5 integer bits with the
            sign bit), ``Q4.3`` (4 integer bits without the sign bit), or ``Q5.3`` (with it).

        Raises
        ------
        FormatError
            An unknown style.
        """
        choice(style, "Fixed.notation: style", STYLES)
        integer = self.bits - self.frac  # integer bits, counting the sign bit
        if style == "fxp":
            text = f"fxp-{'s' if self.signed else 'u'}{self.bits}/{self.frac}"
        elif style == "ap_fixed":
            text = f"{'ap_fixed' if self.signed else 'ap_ufixed'}<{self.bits},{integer}>"
        else:
            uncounted = self.signed and style == "Q"
            text = f"{'Q' if self.signed else 'UQ'}{integer - uncounted}.{self.frac}"
        return f"{text} narrow" if self.narrow else text

    def describe(self) -> str:
        """Return one line with every notation, each with what it says about the sign bit, and the range."""
        if self.signed:
            names = (
                f"{self} (sign bit counted in the {self.bits} bits) = "
                f"{self.notation('ap_fixed')} (sign bit counted in the integer bits) = "
                f"{self.notation('Q')} (sign bit not counted) = "
                f"{self.notation('Q_sign_counted')} (if the sign bit is counted)"
            )
        else:
            names = f"{self} = {self.notation('ap_fixed')} = {self.notation('Q')} (no sign bit)"
        step = f"2^{-self.frac}" if self.frac else "1"
        return f"{names}: codes {self.min}..{self.max}, step {step}"

    def __str__(self) -> str:
        return self.notation("fxp")


@dataclass(frozen=True)
class Bipolar:
    """The one-bit weight format: code 0 is worth -1, code 1 is worth +1."""

    @property
    def bits(self) -> int:
        """Width of a code."""
        return 1

    @property
    def min(self) -> int:
        """Smallest value."""
        return -1

    @property
    def max(self) -> int:
        """Largest value."""
        return 1

    def values(self, codes) -> np.ndarray:
        """Return the integers (int8) of `codes` (0 or 1). RangeError on any other code."""
        array = integer_array(codes)
        check_range(array, 0, 1, "codes", str(self))
        return (2 * array.astype(np.int8) - 1).astype(np.int8)

    def codes(self, values) -> np.ndarray:
        """Return the codes (uint8) of `values` (-1 or +1). RangeError on any other value."""
        array = integer_array(values, "values")
        wrong = (array != 1) & (array != -1)
        if wrong.any():
            _raise_not_a_level(array, wrong, str(self))
        return np.asarray(array == 1).astype(np.uint8)

    def __str__(self) -> str:
        return "bipolar"


@dataclass(frozen=True)
class Levels:
    """A weight format in which a code indexes a table of integers.

    Parameters
    ----------
    table : tuple of int
        2 to 256 int64 integers in strictly rising order; code i is worth ``table[i]``.

    Raises
    ------
    FormatError
        Too few, too many, repeated or unsorted entries.
    """

    table: tuple[int, ...]

    def __post_init__(self) -> None:
        entries = sequence(self.table, "Levels.table", "whole numbers in rising order are needed")
        table = tuple(whole(v, "Levels.table: an entry") for v in entries)
        if not 2 <= len(table) <= 256:
            raise FormatError(f"a level table of {len(table)} entries cannot be; 2 to 256 are allowed")
        if any(a >= b for a, b in zip(table, table[1:], strict=False)):
            raise FormatError(f"the level table {table} is not in strictly rising order; sort it and drop repeats")
        if table[0] < -(1 << 63) or table[-1] >= 1 << 63:
            raise FormatError(f"the levels {table[0]}..{table[-1]} do not fit in int64; narrow them")
        object.__setattr__(self, "table", table)

    @property
    def bits(self) -> int:
        """Width of a code: the least that indexes the whole table."""
        return (len(self.table) - 1).bit_length()

    @property
    def min(self) -> int:
        """Smallest value."""
        return self.table[0]

    @property
    def max(self) -> int:
        """Largest value."""
        return self.table[-1]

    def values(self, codes) -> np.ndarray:
        """Return the integers of `codes` in the smallest signed dtype that holds the table.

        RangeError on a code outside the table.
        """
        array = integer_array(codes)
        check_range(array, 0, len(self.table) - 1, "codes", str(self))
        table = np.array(self.table, dtype=smallest_dtype(min(self.min, ~self.max), max(self.max, 0)))
        return table[array.astype(np.intp)]

    def codes(self, values) -> np.ndarray:
        """Return the codes (uint8) of `values`. RangeError on a value that is not in the table."""
        array = integer_array(values, "values")
        check_range(array, self.min, self.max, "values", str(self))
        array = array.astype(np.int64)
        table = np.array(self.table, dtype=np.int64)
        found = np.searchsorted(table, array)
        wrong = table[found] != array
        if np.any(wrong):
            _raise_not_a_level(array, wrong, str(self))
        return found.astype(np.uint8)

    def __str__(self) -> str:
        for name, table in NAMED_LEVELS.items():
            if self.table == table:
                return name
        return "levels{" + ",".join(str(v) for v in self.table) + "}"


WeightFormat = Fixed | Bipolar | Levels


def _raise_not_a_level(array: np.ndarray, wrong: np.ndarray, allowed: str) -> None:
    """Raise RangeError naming the first element that is no level."""
    index = tuple(np.argwhere(wrong)[0])
    where = at_index(index)
    raise RangeError(f"values: {int(array[index])}{where} is not a level of {allowed}; project the values first")


# Magnitudes of the additive-powers-of-two tables (Li, Dong & Wang, ICLR 2020, as used by Fast-SNN), by width.
APOT_MAGNITUDES = {
    2: (0, 1),
    3: (0, 1, 2, 4),
    4: (0, 1, 2, 3, 4, 6, 8, 10),
    5: (0, 1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32, 33, 36, 48),
}
NAMED_LEVELS = {
    f"apot{bits}": tuple(-m for m in reversed(magnitudes[1:])) + magnitudes
    for bits, magnitudes in APOT_MAGNITUDES.items()
}


def apot(bits: int) -> Levels:
    """Return the additive-powers-of-two weight format of 2 to 5 bits.

    The real levels are the integers divided by the largest of them (1, 4, 10, 48).

    Raises
    ------
    FormatError
        There is no such table.

    Examples
    --------
    >>> apot(3).table
    (-4, -2, -1, 0, 1, 2, 4)
    """
    bits = whole(bits, "apot: bits", min(APOT_MAGNITUDES), max(APOT_MAGNITUDES))
    return Levels(NAMED_LEVELS[f"apot{bits}"])
