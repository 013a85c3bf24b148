"""What the recipes of all trainings with torch have in common. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from ...errors import DataNotFoundError, FormatError

__all__ = ["SIGMOID_KINDS", "check_choices", "named"]

SIGMOID_KINDS = ("binary", "ternary", "five", "powers", "3-bit", "4-bit")  # level sets of the differentiable function

AnyRecipe = TypeVar("AnyRecipe")


def named(table: Mapping[str, AnyRecipe], name: str, changes: Mapping[str, object]) -> AnyRecipe:
    """The recipe called `name`, with fields replaced by `changes`.

    Raises
    ------
    DataNotFoundError
        If there is none of that name.
    """
    if name not in table:
        raise DataNotFoundError(f"there is no recipe {name!r}; choose one of {', '.join(table)}")
    return replace(table[name], **changes)  # type: ignore[type-var]


def check_choices(name: str, choices: Iterable[tuple[str, object, tuple]], shown: Callable[[tuple], str] = str) -> None:
    """Refuse a recipe with a field that is none of those possible: (field, what it is, what it can be) of each.

    Raises
    ------
    FormatError
        Which names the first such field, and what it can be as `shown`.
    """
    for field, value, allowed in choices:
        if value not in allowed:
            raise FormatError(f"recipe {name!r}: {field} is {value!r}; choose one of {shown(allowed)}")
