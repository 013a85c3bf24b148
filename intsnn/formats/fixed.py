"""What a number is: fixed-point formats.

A format names a set of integer codes and what each code is worth. It holds no numbers itself.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..errors import FormatError
from ..kernels.numbers.modes import Overflow, Rounding
from .arguments import choice, flag, whole
from .integers import check_range, integer_array, limits
from .reading import about, read

__all__ = [
    "Fixed",
    "Overflow",
    "Rounding",
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
        with about(text):
            found = read(text, sign_counted)
            if found.kind == "fixed":
                return cls(found.bits, found.frac, found.signed, found.narrow)
        raise FormatError(f"{text!r} is a weight format; a fixed-point format such as 'fxp-s8/3' is needed here")

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
