"""What is one layer of a Keras configuration? Its options by their names of every age, checked when they are read.

The configuration comes from a file: every value is checked before it is used. Knows no arrays and no nodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import ImportRefused, UnsupportedError

__all__ = ["FIRST", "LAST", "MAX_LAYERS", "MAX_SIDE", "Layer", "Ref", "short"]

MAX_LAYERS = 4096
MAX_SIDE = 1 << 16
FIRST, LAST = "channels_first", "channels_last"


@dataclass(frozen=True)
class Ref:
    """A tensor among the arguments of a call: the output of a layer's call, by the name of the call."""

    name: str


@dataclass(frozen=True)
class Layer:
    """One call of a layer, with checked access to its options under their old and new names.

    Attributes
    ----------
    name : str
        Unique in the network: models around it first (``base/conv``), a second call with its number (``conv:2``).
    path : tuple of str
        Names of the models around it and its own, under which its arrays are; all calls of a layer have the same.
    inbound : tuple of str
        Names of the calls that it reads.
    arguments, options : tuple, mapping
        Of the call: tensors (`Ref`), and constants as the file has them.
    operator : bool
        Whether the file says that it is a function of tensors, not a layer.
    fault : Exception or None
        Why it cannot be read, whatever its kind.
    complaint : str
        Why this call of it cannot be read, if it is a layer.
    """

    name: str
    kind: str
    config: dict
    inbound: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    arguments: tuple = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    operator: bool = False
    fault: Exception | None = None
    complaint: str = ""

    def __str__(self) -> str:
        return f"layer {self.name!r} ({self.kind})"

    def bad(self, message: str) -> ImportRefused:
        return ImportRefused(f"{self}: {message}", code="config", where=self.name)

    def unsupported(self, message: str) -> UnsupportedError:
        return UnsupportedError(f"{self}: {message}")

    def get(self, *keys: str, default: Any = None) -> Any:
        for key in keys:
            if self.config.get(key) is not None:
                return self.config[key]
        return default

    def integer(self, *keys: str, default: Any = None, low: int = 1, high: int = 1 << 24) -> int:
        value = self.get(*keys, default=default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise self.bad(f"{keys[0]} is {short(value)}; an integer in {low}..{high} is needed")
        return value

    def pair(self, *keys: str, default: Any = None, low: int = 1, high: int = MAX_SIDE) -> tuple[int, int]:
        value = self.get(*keys, default=default)
        if type(value) is int:
            value = [value, value]
        if (
            not isinstance(value, list | tuple)
            or len(value) != 2
            or not all(type(n) is int and low <= n <= high for n in value)
        ):
            raise self.bad(f"{keys[0]} is {short(value)}; two integers in {low}..{high} are needed")
        return tuple(value)

    @property
    def rank(self) -> int:
        """Axes of its windows: 1 for the layers of signals, else 2."""
        return 1 if "1D" in self.kind else 2

    def plane(self, *keys: str, default: Any = None, low: int = 1, high: int = MAX_SIDE) -> tuple[int, int]:
        """Rows and columns of a size; the one row of a signal counts as 1."""
        if self.rank == 2:
            return self.pair(*keys, default=default, low=low, high=high)
        value = self.get(*keys, default=default)
        if isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
        if type(value) is not int or not low <= value <= high:
            raise self.bad(f"{keys[0]} is {short(value)}; an integer in {low}..{high} is needed")
        return 1, value

    def number(self, *keys: str, default: Any = None) -> float:
        value = self.get(*keys, default=default)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self.bad(f"{keys[0]} is {short(value)}; a finite number is needed")
        return float(value)

    def flag(self, *keys: str, default: bool = True) -> bool:
        value = self.get(*keys, default=default)
        if type(value) is int and value in (0, 1):  # Keras writes what it was given
            value = bool(value)
        if type(value) is not bool:
            raise self.bad(f"{keys[0]} is {short(value)}; true or false is needed")
        return value

    def padding(self) -> str:
        value = self.get("padding", "border_mode", default="valid")
        causal = value == "causal" and self.rank == 1 and "Conv" in self.kind
        if value not in ("valid", "same") and not causal:
            raise self.unsupported(f"padding {short(value)}; 'valid' and 'same' are taken")
        return value

    def data_format(self) -> str | None:
        value = self.get("data_format", "dim_ordering")
        if value in (None, "default"):
            return None
        result = {"th": FIRST, "tf": LAST, FIRST: FIRST, LAST: LAST}.get(value if isinstance(value, str) else "")
        if result is None:
            raise self.bad(f"data_format is {short(value)}; 'channels_last' or 'channels_first' is needed")
        return result

    def activation(self) -> str:
        value = self.get("activation", default="linear")
        if isinstance(value, dict):  # Keras 3 spells functions out
            value = value.get("config") if isinstance(value.get("config"), str) else value.get("class_name")
        if not isinstance(value, str):
            raise self.bad(f"activation is {short(value)}")
        return value

    @property
    def keras1(self) -> bool:
        return any(key in self.config for key in ("nb_filter", "nb_row", "dim_ordering", "border_mode", "output_dim"))


def short(value: Any) -> str:
    """Return a value from a file for a message, at most 60 characters of it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
