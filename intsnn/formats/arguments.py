"""Is an argument what its parameter takes? One place that checks numbers, flags, names, texts and kinds of objects.

A whole number is an `int`, a NumPy integer or a 0-d array of one; never a bool, a float (not even 2.0) or an enum. What
is accepted comes back as the plain Python value. Names of rounding and overflow modes are read by
`intsnn.formats.notation`.
"""

from __future__ import annotations

import enum
import math
import os
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from ..errors import FormatError, IntsnnError, ShapeError

__all__ = [
    "SEEDS", "STEPS", "array_of", "choice", "flag", "function_or_none", "instance", "mapping", "path_of", "rational",
    "real", "seed_of", "sequence", "shown", "text", "whole", "whole_or_none", "wholes",
]  # fmt: skip

SEEDS = (1 << 63) - 1  # largest seed: what the compiled kernels take as a word
STEPS = (1 << 31) - 1  # most steps of any run
LONGEST = 60  # characters of a value in a message


def shown(value) -> str:
    """A value of any kind in a few words on one line."""
    if value is None or isinstance(value, bool | np.bool_):
        return str(value)
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if not isinstance(value, np.timedelta64) and isinstance(value, int | np.integer):
        bits = int(value).bit_length()
        return str(int(value)) if bits <= 128 else f"an integer of {bits} bits"
    if isinstance(value, float | np.floating | complex | np.complexfloating | Fraction):
        return str(value)[:LONGEST]
    if isinstance(value, str | bytes):
        return repr(value[:LONGEST]) + ("..." if len(value) > LONGEST else "")
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}" if value.ndim else f"a {value.dtype} of no axes"
    if isinstance(value, list | tuple | set | dict):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"a {type(value).__name__}"


def _edge(number: int) -> str:
    """A bound as people write it."""
    for offset, words in ((0, ""), (1, " - 1"), (-1, " + 1")):
        size = abs(number + offset)
        if size >= 1 << 16 and size & (size - 1) == 0:
            return f"{'-' if number < 0 else ''}2**{size.bit_length() - 1}{words}"
    return str(number)


def _range(low: int | None, high: int | None) -> str:
    if low is not None and high is not None:
        return f"{_edge(low)} to {_edge(high)} is possible"
    if low is not None:
        return f"at least {_edge(low)} is needed"
    return "a whole number is needed" if high is None else f"at most {_edge(high)} is possible"


def whole(
    value,
    what: str,
    low: int | None = None,
    high: int | None = None,
    *,
    error: type[IntsnnError] = FormatError,
    allowed: str = "",
) -> int:
    """`value` as an int within `low` .. `high`.

    Parameters
    ----------
    what : str
        Name of the parameter, for the message.
    error : class
        What is raised.
    allowed : str
        Words for what is right, instead of the range.
    """
    found = value
    if type(found) is not int:
        if isinstance(found, np.ndarray) and found.ndim == 0 and found.dtype.kind in "iu":
            found = found[()]
        if isinstance(found, bool | enum.Enum | np.timedelta64) or not isinstance(found, int | np.integer):
            raise error(f"{what}: found {shown(value)}; {_kind(allowed or _range(low, high))}")
        found = int(found)
    if (low is not None and found < low) or (high is not None and found > high):
        raise error(f"{what}: found {shown(found)}; {allowed or _range(low, high)}")
    return found


def _kind(allowed: str) -> str:
    return allowed if "whole number" in allowed else f"a whole number is needed, {allowed}"


def whole_or_none(
    value,
    what: str,
    low: int | None = None,
    high: int | None = None,
    *,
    error: type[IntsnnError] = FormatError,
) -> int | None:
    """As `whole`; None stays None."""
    return None if value is None else whole(value, what, low, high, error=error, allowed=f"None or {_range(low, high)}")


def seed_of(value, what: str = "seed") -> int:
    """A seed, 0 .. 2**63 - 1: the same on every path."""
    return whole(value, what, 0, SEEDS)


def flag(value, what: str) -> bool:
    """`value` as a bool; 0 and 1 are numbers, not flags."""
    if not isinstance(value, bool | np.bool_):
        raise FormatError(f"{what}: found {shown(value)}; True or False is needed")
    return bool(value)


def real(value, what: str, low: float = -math.inf, high: float = math.inf, allowed: str = "") -> float:
    """`value` as a finite float within `low` .. `high`: a float or a whole number."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    bad = isinstance(value, bool | enum.Enum | np.timedelta64)
    bad = bad or not isinstance(value, int | float | np.integer | np.floating | Fraction)
    try:
        found = math.nan if bad else float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found) or not low <= found <= high:
        raise FormatError(f"{what}: found {shown(value)}; {allowed or f'a number from {low:g} to {high:g} is needed'}")
    return found


def rational(value, what: str, most: int = LONGEST) -> Fraction:
    """`value` as an exact rational: a whole number, a Fraction or a text of `most` characters; a float as it prints."""
    if isinstance(value, np.floating):
        value = float(value)
    if not isinstance(value, np.timedelta64) and isinstance(value, np.integer):
        value = int(value)
    try:
        if isinstance(value, bool | enum.Enum) or not isinstance(value, int | float | str | Fraction):
            raise TypeError
        if isinstance(value, str) and (len(value) > most or re.search(r"[eE][-+]?[0-9_]{4}", value)):
            raise ValueError  # a power of ten that would fill the memory
        return Fraction(str(value)) if isinstance(value, float) else Fraction(value)
    except (TypeError, ValueError, ZeroDivisionError):
        raise FormatError(f"{what}: found {shown(value)}; give an integer, a Fraction or a decimal text") from None


def text(value, what: str, most: int = 4096) -> str:
    """`value` as a string of at most `most` characters."""
    if not isinstance(value, str) or isinstance(value, enum.Enum) or len(value) > most:
        raise FormatError(f"{what}: found {shown(value)}; a text is needed")
    return str(value)


def choice(value, what: str, options: Iterable[str]) -> str:
    """`value` as one of the names `options`."""
    names = tuple(options)
    if not isinstance(value, str) or value not in names:
        raise FormatError(f"{what}: found {shown(value)}; choose one of {', '.join(names)}")
    return str(value)


def instance(value, what: str, *kinds: type, needed: str = "", none: bool = False) -> Any:
    """`value`, which has to be one of the classes `kinds`; with `none`, or None."""
    if isinstance(value, kinds) or (none and value is None):
        return value
    names = " or ".join(kind.__name__ for kind in kinds)
    raise FormatError(f"{what}: found {shown(value)}; {'None or ' if none else ''}{needed or f'a {names}'} is needed")


def function_or_none(value, what: str):
    """`value`, which has to be callable, or None."""
    if value is not None and not callable(value):
        raise FormatError(f"{what}: found {shown(value)}; a function or None is needed")
    return value


def mapping(value, what: str) -> Mapping[str, Any]:
    """`value`, which has to be a mapping with texts as keys."""
    if not isinstance(value, Mapping):
        raise FormatError(f"{what}: found {shown(value)}; a mapping of names to values is needed")
    for name in value:
        text(name, f"a name in {what}")
    return value


def path_of(value, what: str = "path") -> str:
    """`value` as the text of a path: a string or a path object, no bytes."""
    if isinstance(value, str | os.PathLike) and not isinstance(value, enum.Enum):
        found = os.fspath(value)
        if isinstance(found, str) and found and "\0" not in found:
            return found
    raise FormatError(f"{what}: found {shown(value)}; the path of a file is needed")


def sequence(value, what: str, needed: str = "a sequence is needed") -> tuple:
    """The items of a list, tuple, one-dimensional array or other iterable (names of a mapping); never of a text."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return tuple(value)
    if not isinstance(value, str | bytes | bytearray | np.ndarray | type) and isinstance(value, Iterable):
        return tuple(value)
    raise FormatError(f"{what}: found {shown(value)}; {needed}")


def wholes(
    value,
    what: str,
    low: int | None = None,
    high: int | None = None,
    *,
    error: type[IntsnnError] = FormatError,
    needed: str = "whole numbers are needed",
) -> tuple[int, ...]:
    """A list, tuple or one-dimensional array of whole numbers within `low` .. `high`, as a tuple."""
    if not isinstance(value, list | tuple) and not (isinstance(value, np.ndarray) and value.ndim == 1):
        raise error(f"{what}: found {shown(value)}; {needed}")
    return tuple(whole(item, f"{what}: an entry", low, high, error=error) for item in value)


def array_of(value, what: str) -> np.ndarray:
    """`value` as an array of any kind.

    Raises
    ------
    ShapeError
        Rows of different lengths, or something that cannot be an array.
    """
    try:
        found = np.asarray(value)
    except Exception:  # whatever an object of any class answers
        raise ShapeError(f"{what}: found {shown(value)}, which is no array (rows of one length are needed)") from None
    if isinstance(value, enum.Enum) or found.dtype.kind in "mM":
        raise FormatError(f"{what}: found {shown(value)}; numbers are needed")
    return found
