"""What a number is: fixed-point formats, the two table formats of weights, and their notations.

A format names a set of integer codes and what each code is worth. It holds no numbers itself.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .errors import FormatError, RangeError
from .kernels.modes import Overflow, Rounding

__all__ = [
    "Bipolar",
    "Fixed",
    "Levels",
    "Notation",
    "Overflow",
    "Rounding",
    "WeightFormat",
    "apot",
    "as_overflow",
    "as_rounding",
    "integer_array",
    "pack",
    "packed_size",
    "parse",
    "unpack",
]

MAX_BITS = 64
MAX_FRAC = 4096  # keeps 2**frac an ordinary number; no format in use comes near

ROUNDING_ALIASES = {
    "floor": Rounding.TRN,
    "toward zero": Rounding.TRN_ZERO,
    "half up": Rounding.RND,
    "half even": Rounding.RND_CONV,
    "half away": Rounding.RND_INF,
    "half toward zero": Rounding.RND_ZERO,
    "half down": Rounding.RND_MIN_INF,
    "stochastic": Rounding.STOCHASTIC,
}
OVERFLOW_ALIASES = {
    "saturate": Overflow.SAT,
    "saturate symmetric": Overflow.SAT_SYM,
    "wrap": Overflow.WRAP,
    "trap": Overflow.TRAP,
}


def _as_mode(kind, aliases: dict, what: str, value):
    """Look `value` up among the ap_fixed names and the plain aliases of an enum."""
    if isinstance(value, kind):
        return value
    if isinstance(value, str):
        plain = " ".join(re.split(r"[\s_-]+", value.strip().lower()))
        if plain in aliases:
            return aliases[plain]
        name = re.sub(r"^(AP|SC|AC)_", "", value.strip().upper())
        if name in kind.__members__:
            return kind[name]
    elif isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) in list(kind):
        return kind(int(value))
    accepted = ", ".join(f"{mode.name} ({alias})" for alias, mode in aliases.items())
    raise FormatError(f"{what} {value!r} is unknown; it must be one of {accepted}")


def as_rounding(value: Rounding | str | int) -> Rounding:
    """Return the rounding mode of a name (``"RND_CONV"``, ``"AP_RND_CONV"``, ``"half even"``), number or mode.

    Raises
    ------
    FormatError
        The name is none of those listed in ``docs/semantics.md``.
    """
    return _as_mode(Rounding, ROUNDING_ALIASES, "rounding mode", value)


def as_overflow(value: Overflow | str | int) -> Overflow:
    """Return the overflow mode of a name (``"SAT"``, ``"AP_SAT"``, ``"saturate"``), number or mode.

    Raises
    ------
    FormatError
        The name is none of those listed in ``docs/semantics.md``.
    """
    return _as_mode(Overflow, OVERFLOW_ALIASES, "overflow mode", value)


def integer_array(codes, what: str = "codes") -> np.ndarray:
    """Return `codes` as an array of integers: an integer dtype, or objects that are all Python ints.

    Booleans count as 0 and 1.

    Raises
    ------
    FormatError
        An element is not an integer.
    """
    array = np.asarray(codes)
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind in "iu":
        return array
    if array.size == 0 and not isinstance(codes, np.ndarray):
        return array.astype(np.int64)  # an empty list
    # NumPy turns a list that mixes int64 and uint64 into float64: look at the list itself
    array = np.asarray(codes, dtype=object) if not isinstance(codes, np.ndarray) else array
    if array.dtype == object and all(isinstance(c, (int, np.integer, np.bool_)) for c in array.flat):
        out = np.empty(array.shape, dtype=object)
        out.ravel()[:] = [int(c) for c in array.flat]
        return out
    raise FormatError(f"{what} are of type {np.asarray(codes).dtype}; codes must be integers")


def _limits(array: np.ndarray) -> tuple[int, int]:
    """Smallest and largest element of a non-empty integer array, as Python ints."""
    return int(array.min()), int(array.max())


def _check_range(array: np.ndarray, lo: int, hi: int, what: str, allowed: str) -> None:
    """Raise RangeError naming the first element outside [lo, hi]."""
    if array.size == 0:
        return
    least, most = _limits(array)
    if lo <= least and most <= hi:
        return
    flat = array.ravel()
    where = next(i for i in range(flat.size) if not lo <= int(flat[i]) <= hi)
    index = tuple(int(i) for i in np.unravel_index(where, array.shape))
    element = f" at index {index if len(index) != 1 else index[0]}" if index else ""
    raise RangeError(f"{what}: {int(flat[where])}{element} is outside {lo}..{hi}, the range of {allowed}")


def _smallest_dtype(lo: int, hi: int) -> np.dtype:
    """Smallest NumPy integer dtype that holds lo..hi; unsigned unless lo is negative."""
    for dtype in (np.uint8, np.uint16, np.uint32, np.uint64) if lo >= 0 else (np.int8, np.int16, np.int32, np.int64):
        info = np.iinfo(dtype)
        if info.min <= lo and hi <= info.max:
            return np.dtype(dtype)
    raise FormatError(f"the range {lo}..{hi} does not fit in 64 bits; narrow the values")


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
        for name in ("bits", "frac"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
                raise FormatError(f"{name} of a fixed-point format is {value!r}; it must be an integer")
            object.__setattr__(self, name, int(value))
        for name in ("signed", "narrow"):
            value = getattr(self, name)
            if not isinstance(value, (bool, np.bool_)):
                raise FormatError(f"{name} of a fixed-point format is {value!r}; it must be True or False")
            object.__setattr__(self, name, bool(value))
        if not 1 <= self.bits <= MAX_BITS:
            raise FormatError(f"a fixed-point format of {self.bits} bits cannot be; 1 to {MAX_BITS} bits are allowed")
        if abs(self.frac) > MAX_FRAC:
            raise FormatError(f"frac {self.frac} is out of range; -{MAX_FRAC} to {MAX_FRAC} are allowed")
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
        least, most = _limits(array)
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
        _check_range(array, self.min, self.max, what, str(self))
        return array.astype(self.dtype)

    def values(self, codes) -> np.ndarray:
        """Return the integers that a kernel multiplies by: the checked codes themselves, in units of `step`."""
        return self.check(codes)

    def codes(self, values) -> np.ndarray:
        """Return the codes of integers in units of `step`: the checked integers themselves."""
        return self.check(values, "values")

    @classmethod
    def parse(cls, text: str, *, sign_counted: bool = False) -> "Fixed":
        """Return the fixed-point format that `text` denotes; see `parse`, which also keeps the modes.

        Raises
        ------
        FormatError
            `text` is no notation of a fixed-point format.
        """
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
        lo, hi = int(lo), int(hi)
        if lo > hi:
            raise FormatError(f"the range {lo}..{hi} is empty; the first bound must not exceed the second")
        signed = lo < 0 if signed is None else signed
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
        integer = self.bits - self.frac  # integer bits, counting the sign bit
        if style == "fxp":
            text = f"fxp-{'s' if self.signed else 'u'}{self.bits}/{self.frac}"
        elif style == "ap_fixed":
            text = f"{'ap_fixed' if self.signed else 'ap_ufixed'}<{self.bits},{integer}>"
        elif style in ("Q", "Q_sign_counted"):
            uncounted = self.signed and style == "Q"
            text = f"{'Q' if self.signed else 'UQ'}{integer - uncounted}.{self.frac}"
        else:
            raise FormatError(f"notation style {style!r} is unknown; use 'fxp', 'ap_fixed', 'Q' or 'Q_sign_counted'")
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
        _check_range(array, 0, 1, "codes", str(self))
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
        table = tuple(int(v) for v in integer_array(list(self.table), "levels").tolist())
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
        _check_range(array, 0, len(self.table) - 1, "codes", str(self))
        table = np.array(self.table, dtype=_smallest_dtype(min(self.min, ~self.max), max(self.max, 0)))
        return table[array.astype(np.intp)]

    def codes(self, values) -> np.ndarray:
        """Return the codes (uint8) of `values`. RangeError on a value that is not in the table."""
        array = integer_array(values, "values")
        _check_range(array, self.min, self.max, "values", str(self))
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
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    where = f" at index {index if len(index) != 1 else index[0]}" if index else ""
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
    if bits not in APOT_MAGNITUDES:
        raise FormatError(f"there is no APoT table of {bits!r} bits; 2 to 5 bits are known")
    return Levels(NAMED_LEVELS[f"apot{bits}"])


@dataclass(frozen=True)
class Notation:
    """What a piece of text says about a format.

    Attributes
    ----------
    text : str
        The text as given.
    format : Fixed, Bipolar or Levels
        The format.
    rounding, overflow : Rounding, Overflow or None
        The modes, where the text states them (``ap_fixed<8,4,AP_RND,AP_SAT>``).
    sign_counted : bool or None
        Whether the integer bits of the text were read as including the sign bit; None where there is none.
    """

    text: str
    format: WeightFormat
    rounding: Rounding | None = None
    overflow: Overflow | None = None
    sign_counted: bool | None = None

    def __str__(self) -> str:
        reading = {True: ", sign bit counted", False: ", sign bit not counted", None: ""}[self.sign_counted]
        modes = "".join(f", {mode.name}" for mode in (self.rounding, self.overflow) if mode is not None)
        return f"{self.text.strip()} read as {self.format}{reading}{modes}"


ACCEPTED = (
    "fxp-s8/3, fxp-u8/3, Q4.3, UQ4.4, ap_fixed<8,5>, ap_fixed<8,5,AP_RND,AP_SAT>, ap_ufixed<8,4>, ap_int<8>, "
    "ap_uint<8>, bipolar, apot4, levels{-1,0,1}"
)
_FXP = re.compile(r"fxp-([su])(\d+)/(-?\d+)", re.IGNORECASE)
_Q = re.compile(r"(U?)Q(-?\d+)\.(-?\d+)", re.IGNORECASE)
_AP = re.compile(r"(ap|sc)_(u?)(fixed|int)\s*<([^<>]*)>", re.IGNORECASE)
_LEVELS = re.compile(r"levels\s*\{([^{}]*)\}", re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?\d{1,20}")


def parse(text: str, *, sign_counted: bool = False) -> Notation:
    """Read a format in any of the accepted notations.

    Parameters
    ----------
    text : str
        ``fxp-s8/3`` or ``fxp-u8/3`` (bits / binary places), ``Q4.3`` or ``UQ4.4`` (integer bits . binary
        places), ``ap_fixed<W,I>`` or ``ap_ufixed<W,I>`` with optional modes (the sign bit is always among the
        I integer bits), ``ap_int<W>``, ``ap_uint<W>``, ``bipolar``, ``apot2`` to ``apot5`` or
        ``levels{-1,0,1}``. A trailing ``narrow`` asks for the symmetric range.
    sign_counted : bool
        How to read ``Qm.n``: False (default, the reading of Texas Instruments) takes m without the sign bit, so
        that ``Q4.3`` has 8 bits; True (the reading of Arm) takes m with it, so that ``Q4.3`` has 7 bits.
        The other notations are not ambiguous and ignore it.

    Returns
    -------
    Notation
        The format, the modes if given, and the reading of the sign bit.

    Raises
    ------
    FormatError
        The text is none of these; the message quotes it and lists what is accepted.
    """
    if not isinstance(text, str):
        raise FormatError(f"a format in text was expected, found {text!r}; accepted are {ACCEPTED}")
    body, narrow = re.subn(r"\s+narrow\s*$", "", text, flags=re.IGNORECASE)
    body = body.strip()
    if len(body) > 4096:
        raise FormatError(f"a format of {len(body)} characters cannot be; accepted are {ACCEPTED}")
    try:
        if match := _FXP.fullmatch(body):
            signed = match[1].lower() == "s"
            return Notation(text, _fixed(match[2], match[3], signed, narrow), sign_counted=True if signed else None)
        if match := _Q.fullmatch(body):
            signed = not match[1]
            bits = _number(match[2]) + _number(match[3]) + (signed and not sign_counted)
            return Notation(
                text, _fixed(bits, match[3], signed, narrow), sign_counted=bool(sign_counted) if signed else None
            )
        if match := _AP.fullmatch(body):
            return _parse_ap(text, match, narrow)
        if not narrow and body.lower() == "bipolar":
            return Notation(text, Bipolar())
        if not narrow and body.lower() in NAMED_LEVELS:
            return Notation(text, Levels(NAMED_LEVELS[body.lower()]))
        if not narrow and (match := _LEVELS.fullmatch(body)):
            return Notation(text, Levels(tuple(_number(part) for part in match[1].split(","))))
    except FormatError as error:
        raise FormatError(f"format {text!r}: {error}") from None
    raise FormatError(f"format {text!r} is not understood; accepted are {ACCEPTED}")


def _number(part: str | int) -> int:
    """An integer of at most 20 digits, from text."""
    if isinstance(part, int):
        return part
    part = part.strip()
    if not _INTEGER.fullmatch(part):
        raise FormatError(f"{part!r} is not an integer; accepted are {ACCEPTED}")
    return int(part)


def _fixed(bits: str | int, frac: str | int, signed: bool, narrow: int) -> Fixed:
    return Fixed(_number(bits), _number(frac), signed, bool(narrow))


def _parse_ap(text: str, match: re.Match, narrow: int) -> Notation:
    """Read the template arguments of ap_fixed, ap_ufixed, ap_int or ap_uint (or their SystemC twins)."""
    signed = not match[2]
    parts = [part.strip() for part in match[4].split(",")]
    whole = match[3].lower() == "int"
    most = 1 if whole else 5
    least = 1 if whole else 2
    if not least <= len(parts) <= most:
        raise FormatError(f"{len(parts)} template arguments found; {least} to {most} are allowed")
    bits = _number(parts[0])
    frac = 0 if whole else bits - _number(parts[1])
    rounding = as_rounding(parts[2]) if len(parts) > 2 else None
    overflow = as_overflow(parts[3]) if len(parts) > 3 else None
    if len(parts) > 4 and _number(parts[4]) != 0:
        raise FormatError(f"{parts[4]} saturated bits on wrap are not supported; leave the fifth argument out")
    return Notation(text, _fixed(bits, frac, signed, narrow), rounding, overflow, True if signed else None)


def packed_size(count: int, bits: int) -> int:
    """Return the number of bytes that `count` codes of `bits` bits take when packed."""
    return (int(count) * int(bits) + 7) // 8


def _packing_parts(weight_format: WeightFormat) -> tuple[int, int, int, bool]:
    """Width, smallest code, largest code and signedness of the codes of a packable format."""
    if isinstance(weight_format, Fixed):
        if weight_format.bits > 8:
            raise FormatError(f"{weight_format} cannot be packed; formats of 1 to 8 bits can")
        return weight_format.bits, weight_format.min, weight_format.max, weight_format.signed
    if isinstance(weight_format, Bipolar):
        return 1, 0, 1, False
    if isinstance(weight_format, Levels):
        return weight_format.bits, 0, len(weight_format.table) - 1, False
    raise FormatError(f"{weight_format!r} is not a weight format; Fixed, Bipolar and Levels are")


def pack(codes, weight_format: WeightFormat) -> np.ndarray:
    """Return `codes` packed densely at the width of their format.

    Parameters
    ----------
    codes : integer array, any shape
        Codes (for `Bipolar` and `Levels`: 0 and up), taken in C order.
    weight_format : Fixed of at most 8 bits, Bipolar or Levels

    Returns
    -------
    (ceil(n * bits / 8),) uint8
        Bit j of code i is bit ``(i * bits + j) % 8`` of byte ``(i * bits + j) // 8``.

    Raises
    ------
    RangeError
        A code is outside the format.
    FormatError
        A format of more than 8 bits.
    """
    from .kernels import packing  # late: whoever only names formats need not wait for the compiler

    bits, lo, hi, _ = _packing_parts(weight_format)
    array = integer_array(codes)
    _check_range(array, lo, hi, "codes", str(weight_format))
    out = np.zeros(packed_size(array.size, bits), dtype=np.uint8)
    fields = (array.ravel().astype(np.int16) & np.int16((1 << bits) - 1)).astype(np.uint8)
    packing.pack(fields, bits, out)
    return out


def unpack(data, weight_format: WeightFormat, shape: int | tuple[int, ...]) -> np.ndarray:
    """Return the codes that `pack` put into `data`.

    Parameters
    ----------
    data : (ceil(n * bits / 8),) uint8
    weight_format : Fixed of at most 8 bits, Bipolar or Levels
    shape : int or tuple of int
        Shape of the codes; n is its product.

    Returns
    -------
    integer array of `shape`
        int8 for a signed format, else uint8.

    Raises
    ------
    RangeError
        A code is outside the format, the length does not fit the shape, or unused bits are set.
    """
    from .kernels import packing  # late, as in `pack`

    bits, lo, hi, signed = _packing_parts(weight_format)
    shape = tuple(int(n) for n in np.atleast_1d(np.asarray(shape, dtype=np.int64)))
    data = np.asarray(data)
    if any(n < 0 for n in shape) or data.ndim != 1 or data.dtype != np.uint8:
        raise FormatError(f"packed codes are a {data.ndim}-d {data.dtype} array for shape {shape}; 1-d uint8 is needed")
    count = 1
    for n in shape:
        count *= n
    if data.size != packed_size(count, bits):
        raise RangeError(
            f"{data.size} bytes of packed codes for shape {shape} at {bits} bits; {packed_size(count, bits)} are needed"
        )
    used = count * bits % 8
    if used and int(data[-1]) >> used:
        raise RangeError(f"the last packed byte is {int(data[-1])}; its bits above bit {used - 1} must be 0")
    out = np.empty(count, dtype=np.int8 if signed else np.uint8)
    packing.unpack(np.ascontiguousarray(data), bits, signed, out)
    _check_range(out, lo, hi, "packed codes", str(weight_format))
    return out.reshape(shape)
