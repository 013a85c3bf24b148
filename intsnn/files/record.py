"""What is stored of one object: attributes and arrays by name, and the memory that they may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ImportRefused, RangeError, ShapeError

__all__ = ["NONE", "PACKED", "Budget", "Record", "code_of", "refusal"]

NONE = "none"  # an optional field that is not given
PACKED = "_packed"  # ending of the dataset of a packed field


def refusal(label: str, where: str, message: str, code: str = "field") -> ImportRefused:
    """The error for what is wrong at `where` in the file called `label`."""
    spot = f" at {where!r}" if where else ""
    return ImportRefused(f"{label}{spot}: {message}", code=code, where=where)


def code_of(error: Exception) -> str:
    """Short name of the rule that a constructor found broken."""
    codes: dict[type, str] = {RangeError: "range", ShapeError: "shape"}
    return codes.get(type(error), "field")


class Budget:
    """Bytes that the arrays of one file may still take in memory."""

    def __init__(self, size: int) -> None:
        self.size = self.left = int(size)

    def spend(self, record: Record, size: int) -> None:
        """Take `size` bytes, or refuse with code ``budget``."""
        self.left -= size
        if self.left < 0:
            raise record.refuse(
                f"the arrays need more than the budget of {self.size} bytes in memory; give a larger budget", "budget"
            )


@dataclass(eq=False)
class Record:
    """Attributes and arrays of one object of a file, by name.

    Attributes
    ----------
    label, path : str
        The file and the object, for messages.
    attributes : dict
        str, int, float, list of str or small integer arrays.
    arrays : dict of str to numpy.ndarray
    shapes : dict of str to tuple of int
        Attribute ``shape`` of packed arrays.
    """

    label: str = ""
    path: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def refuse(self, message: str, code: str = "field") -> ImportRefused:
        """The error for something wrong in this object."""
        return refusal(self.label, self.path, message, code)

    def has(self, name: str) -> bool:
        """Whether anything is stored for the field `name`."""
        return (
            name in self.attributes
            or name in self.arrays
            or name + PACKED in self.arrays
            or any(key.startswith(name + ".") for key in self.attributes)
        )

    def take(self, name: str) -> Any:
        """The attribute or array called `name`; what is both or neither is refused."""
        if name in self.attributes and name in self.arrays:
            raise self.refuse(f"{name!r} is there as an attribute and as a dataset; keep one")
        for store in (self.attributes, self.arrays):
            if name in store:
                self.used.add(name)
                return store[name]
        raise self.refuse(f"{name!r} is missing")

    def finish(self, known: str) -> None:
        """Refuse whatever was never taken; `known` says what could have been there."""
        left = [name for name in (*self.attributes, *self.arrays) if name not in self.used]
        if left:
            raise self.refuse(f"{left[0]!r} is unknown here; known are {known}")
