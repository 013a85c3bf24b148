"""What does a piece of text say about a number: reading formats, rounding and overflow in the notations people use.

How a format writes itself is in :mod:`intsnn.formats.fixed`.
"""

import re
from dataclasses import dataclass

from ..errors import FormatError
from ..kernels.numbers.modes import Overflow, Rounding
from .arguments import flag, shown, whole
from .fixed import NAMED_LEVELS, Bipolar, Fixed, Levels, WeightFormat

__all__ = ["Notation", "as_overflow", "as_rounding", "parse"]

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
    accepted = ", ".join(f"{mode.name} ({alias})" for alias, mode in aliases.items())
    if not isinstance(value, str):
        return kind(whole(value, what, min(kind), max(kind), allowed=f"choose a mode, one of {accepted}"))
    raise FormatError(f"{what}: found {shown(value)}; choose one of {accepted}")


def as_rounding(value: Rounding | str | int, what: str = "rounding") -> Rounding:
    """Return the rounding mode of a name (``"RND_CONV"``, ``"AP_RND_CONV"``, ``"half even"``), number or mode.

    Raises
    ------
    FormatError
        The name is none of those listed in ``docs/semantics.md``.
    """
    return _as_mode(Rounding, ROUNDING_ALIASES, what, value)


def as_overflow(value: Overflow | str | int, what: str = "overflow") -> Overflow:
    """Return the overflow mode of a name (``"SAT"``, ``"AP_SAT"``, ``"saturate"``), number or mode.

    Raises
    ------
    FormatError
        The name is none of those listed in ``docs/semantics.md``.
    """
    return _as_mode(Overflow, OVERFLOW_ALIASES, what, value)


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
        raise FormatError(f"the text of a format: found {shown(text)}; accepted are {ACCEPTED}")
    sign_counted = flag(sign_counted, "sign_counted")
    body, narrow = re.subn(r"\s+narrow\s*$", "", text, flags=re.IGNORECASE)
    body = body.strip()
    if len(body) > 4096:
        raise FormatError(f"the text of a format has {len(body)} characters; accepted are {ACCEPTED}")
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
        raise FormatError(f"the text of a format, {shown(text)}: {error}") from None
    raise FormatError(f"the text of a format, {shown(text)}, is not understood; accepted are {ACCEPTED}")


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
