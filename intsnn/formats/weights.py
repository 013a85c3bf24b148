"""What a weight is where it is no fixed-point number: bipolar, or an entry of a table."""

from dataclasses import dataclass

import numpy as np

from ..errors import FormatError, RangeError
from .arguments import sequence, whole
from .fixed import Fixed
from .integers import at_index, check_range, integer_array, smallest_dtype

__all__ = ["Bipolar", "Levels", "WeightFormat", "apot"]


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
