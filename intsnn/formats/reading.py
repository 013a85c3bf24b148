"""What does the text of a format say, in plain numbers?

Which formats they make is for `Fixed.parse` and `intsnn.formats.notation.parse`.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import FormatError
from .arguments import flag, shown

__all__ = ["Reading", "about", "read"]

LONGEST = 4096  # characters of a text
ACCEPTED = (
    "fxp-s8/3, fxp-u8/3, Q4.3, UQ4.4, ap_fixed<8,5>, ap_fixed<8,5,AP_RND,AP_SAT>, ap_ufixed<8,4>, ap_int<8>, "
    "ap_uint<8>, bipolar, apot4, levels{-1,0,1}"
)
_FXP = re.compile(r"fxp-([su])(\d+)/(-?\d+)", re.IGNORECASE)
_Q = re.compile(r"(U?)Q(-?\d+)\.(-?\d+)", re.IGNORECASE)
_AP = re.compile(r"(ap|sc)_(u?)(fixed|int)\s*<([^<>]*)>", re.IGNORECASE)
_LEVELS = re.compile(r"levels\s*\{([^{}]*)\}", re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?\d{1,20}")
_NAMED = re.compile(r"apot[2-5]", re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """What stands in a text; `kind`: ``"fixed"`` (with modes by name), ``"bipolar"``, ``"named"`` or ``"levels"``."""

    kind: str
    bits: int = 0
    frac: int = 0
    signed: bool = False
    narrow: bool = False
    rounding: str | None = None
    overflow: str | None = None
    sign_counted: bool = True
    name: str = ""
    table: tuple[int, ...] = ()


@contextlib.contextmanager
def about(text) -> Iterator[None]:
    """Errors in it quote the text; what is no text at all is refused."""
    if not isinstance(text, str):
        raise FormatError(f"the text of a format: found {shown(text)}; accepted are {ACCEPTED}")
    if len(text) > LONGEST:
        raise FormatError(f"the text of a format has {len(text)} characters; accepted are {ACCEPTED}")
    try:
        yield
    except FormatError as error:
        raise FormatError(f"the text of a format, {shown(text)}: {error}") from None


def read(text: str, sign_counted: bool) -> Reading:
    """The numbers in `text`; `sign_counted`: whether the m of ``Qm.n`` has the sign bit among it.

    Raises
    ------
    FormatError
        It is in no notation that is known.
    """
    sign_counted = flag(sign_counted, "sign_counted")
    body, narrow = re.subn(r"\s+narrow\s*$", "", text, flags=re.IGNORECASE)
    body = body.strip()
    if match := _FXP.fullmatch(body):
        return Reading("fixed", _number(match[2]), _number(match[3]), match[1].lower() == "s", bool(narrow))
    if match := _Q.fullmatch(body):
        signed = not match[1]
        bits = _number(match[2]) + _number(match[3]) + (signed and not sign_counted)
        return Reading("fixed", bits, _number(match[3]), signed, bool(narrow), sign_counted=sign_counted)
    if match := _AP.fullmatch(body):
        return _read_ap(match, bool(narrow))
    if not narrow:
        if body.lower() == "bipolar":
            return Reading("bipolar")
        if _NAMED.fullmatch(body):
            return Reading("named", name=body.lower())
        if match := _LEVELS.fullmatch(body):
            return Reading("levels", table=tuple(_number(part) for part in match[1].split(",")))
    raise FormatError(f"not understood; accepted are {ACCEPTED}")


def _number(part: str) -> int:
    """An integer of at most 20 digits, from text."""
    part = part.strip()
    if not _INTEGER.fullmatch(part):
        raise FormatError(f"{part!r} is not an integer; accepted are {ACCEPTED}")
    return int(part)


def _read_ap(match: re.Match, narrow: bool) -> Reading:
    """The template arguments of ap_fixed, ap_ufixed, ap_int or ap_uint (or their SystemC twins)."""
    parts = [part.strip() for part in match[4].split(",")]
    whole = match[3].lower() == "int"
    most = 1 if whole else 5
    least = 1 if whole else 2
    if not least <= len(parts) <= most:
        raise FormatError(f"{len(parts)} template arguments found; {least} to {most} are allowed")
    bits = _number(parts[0])
    frac = 0 if whole else bits - _number(parts[1])
    rounding, overflow = (parts[i] if len(parts) > i else None for i in (2, 3))
    if len(parts) > 4 and _number(parts[4]) != 0:
        raise FormatError(f"{parts[4]} saturated bits on wrap are not supported; leave the fifth argument out")
    return Reading("fixed", bits, frac, not match[2], narrow, rounding, overflow)
