"""What can go wrong: one small taxonomy, every kind also the fitting builtin.

A message says what was found, what is allowed and what to change.
"""

from .kernels.errors import IntsnnError, TierError

__all__ = [
    "ConversionError",
    "DataNotFoundError",
    "FormatError",
    "ImportRefused",
    "IntsnnError",
    "MismatchError",
    "RangeError",
    "ShapeError",
    "TierError",
    "UnsupportedError",
]


class FormatError(IntsnnError, ValueError):
    """A number format, mode or parameter that cannot be."""


class ShapeError(IntsnnError, ValueError):
    """Shapes of layers, weights or inputs that do not fit together."""


class RangeError(IntsnnError, OverflowError):
    """A value outside the declared range of its format, or an overflow in strict mode."""


class ConversionError(IntsnnError, ValueError):
    """A network that cannot be converted as asked."""


class UnsupportedError(IntsnnError, NotImplementedError):
    """Something that intsnn knows of and does not take; the message names it and says why."""


class DataNotFoundError(IntsnnError, FileNotFoundError):
    """A data set or file that is not where it is looked for."""


class MismatchError(IntsnnError, AssertionError):
    """Two execution paths that must agree do not."""


class ImportRefused(IntsnnError, ValueError):
    """An untrusted file that breaks a rule of the bounded reader.

    Attributes
    ----------
    code : str
        Short stable name of the rule, e.g. ``"external-link"``.
    where : str
        Path of the object inside the file, ``""`` for the file itself.
    """

    def __init__(self, message: str, *, code: str = "refused", where: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.where = where
