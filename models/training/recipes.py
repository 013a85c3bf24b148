"""What recipes and trainings of all families have in common. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from ...errors import DataNotFoundError, FormatError

__all__ = ["SIGMOID_KINDS", "Family", "Progress", "check_choices", "named"]

SIGMOID_KINDS = ("binary", "ternary", "five", "powers", "3-bit", "4-bit")  # level sets of the differentiable function

AnyRecipe = TypeVar("AnyRecipe")


class Progress(Protocol):
    """Where a training is, of whatever family."""

    @property
    def part(self) -> float:
        """Share that is done, 0 to 1."""

    @property
    def stage(self) -> str:
        """What is done now."""

    @property
    def epoch(self) -> int:
        """From 0."""

    @property
    def epochs(self) -> int:
        """Of the stage."""

    @property
    def left(self) -> float | None:
        """Seconds; None until there is an estimate."""

    @property
    def note(self) -> str:
        """What else a line of progress says, such as the loss."""


class Family(Protocol):
    """Trainings of one kind: recipes that need no extra, and what trains them."""

    @property
    def recipes(self) -> Mapping[str, Any]:
        """Name to recipe; each has `data` and `note`, for a list."""

    @property
    def needs_output(self) -> bool:
        """Whether a network file is what comes out; otherwise the checkpoint holds the weights, and steps count."""

    @property
    def from_file(self) -> bool:
        """Whether it trains recipes from TOML files."""

    def run(
        self,
        name: str,
        settings: dict[str, Any],
        progress: Callable[[Progress], None] | None,
        say: Callable[[str], None],
    ) -> dict[str, Any]:
        """Train by a recipe (or TOML file) and measure what was learned.

        Parameters
        ----------
        name : str
        settings : dict
            ``output`` and ``checkpoint`` (paths); ``data``, ``test``, ``seed``, ``epochs``, ``steps``, ``save_every``,
            ``device`` (None: those of the recipe); ``anew`` and ``allow_overlap`` (bool); ``threads`` (int).
        progress : callable or None
            Called during each epoch.
        say : callable
            Called with a line of text after each epoch and with the results.

        Returns
        -------
        dict
            Plain values.

        Raises
        ------
        DataNotFoundError
            An extra that the training needs is not installed.
        """


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
