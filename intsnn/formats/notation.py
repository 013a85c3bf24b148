"""What does a piece of text say about a number: reading formats, rounding and overflow in the notations people use.

How a format writes itself is in :mod:`intsnn.formats.fixed`.
"""

import re
from dataclasses import dataclass

from ..errors import FormatError
from ..kernels.numbers.modes import Overflow, Rounding
from .arguments import shown, whole
from .fixed import Fixed
from .reading import about, read
from .weights import NAMED_LEVELS, Bipolar, Levels, WeightFormat

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
    with about(text):
        found = read(text, sign_counted)
        counted = found.sign_counted if found.signed else None
        if found.kind == "bipolar":
            return Notation(text, Bipolar())
        if found.kind == "named":
            return Notation(text, Levels(NAMED_LEVELS[found.name]))
        if found.kind == "levels":
            return Notation(text, Levels(found.table))
        number_format = Fixed(found.bits, found.frac, found.signed, found.narrow)
        rounding = None if found.rounding is None else as_rounding(found.rounding)
        overflow = None if found.overflow is None else as_overflow(found.overflow)
        return Notation(text, number_format, rounding, overflow, counted)
