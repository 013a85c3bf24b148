"""Which trainings are there? Each family with its recipes and what trains them, imported when used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import DataNotFoundError
from .training.recipes import Family, Progress

__all__ = ["FAMILIES"]

Show = Callable[[Progress], None] | None
Say = Callable[[str], None]


@dataclass(frozen=True)
class _Training:
    """A family: modules of its recipes and of its work, by name in this package, and what it needs.

    `extra`: whether the work imports torch, which may be missing.
    """

    modules: tuple[str, str]
    needs_output: bool = False
    from_file: bool = False
    extra: bool = False

    def _module(self, index: int) -> Any:
        return importlib.import_module(f".{self.modules[index]}", __package__)

    @property
    def recipes(self) -> Mapping[str, Any]:
        """Recipes by name."""
        return self._module(0).RECIPES

    def run(self, name: str, settings: dict[str, Any], progress: Show, say: Say) -> dict[str, Any]:
        """Train by the recipe `name`; the report."""
        try:
            work = self._module(1)
        except ImportError as error:
            if not self.extra:
                raise
            needed = f"training needs {error.name}, which is not installed: pip install intsnn[qat]"
            raise DataNotFoundError(needed) from error
        return work.run(name, settings, progress, say)


FAMILIES: tuple[Family, ...] = (
    _Training(("qat.recipes", "qat.work"), needs_output=True, extra=True),
    _Training(("bptt.recipes", "bptt.work"), needs_output=True, extra=True),
    _Training(("learning.decolle_recipes", "learning.decolle_report"), from_file=True),
    _Training(("learning.stdp_recipes", "learning.stdp_report")),
)
