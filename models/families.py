"""Which trainings are there? Each family with its recipes and what trains them, imported when used."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..errors import DataNotFoundError
from .training.recipes import Family, Progress

__all__ = ["FAMILIES"]

Show = Callable[[Progress], None] | None
Say = Callable[[str], None]


@contextlib.contextmanager
def _extra() -> Iterator[None]:
    """What is imported here may be missing."""
    try:
        yield
    except ImportError as error:
        name = error.name
        raise DataNotFoundError(f"training needs {name}, which is not installed: pip install intsnn[qat]") from error


class _Quantised:
    """Networks with quantised weights and activations, trained with torch."""

    needs_output, from_file = True, False

    @property
    def recipes(self) -> Mapping[str, Any]:
        from .qat.recipes import RECIPES

        return RECIPES

    def run(self, name: str, settings: dict[str, Any], progress: Show, say: Say) -> dict[str, Any]:
        with _extra():
            from .qat.work import run
        return run(name, settings, progress, say)


class _ThroughTime:
    """Spiking networks for event data, trained through time with torch."""

    needs_output, from_file = True, False

    @property
    def recipes(self) -> Mapping[str, Any]:
        from .bptt.recipes import RECIPES

        return RECIPES

    def run(self, name: str, settings: dict[str, Any], progress: Show, say: Say) -> dict[str, Any]:
        with _extra():
            from .bptt.work import run
        return run(name, settings, progress, say)


class _Decolle:
    """Networks that learn with integers, layer by layer; recipes from TOML files too."""

    needs_output, from_file = False, True

    @property
    def recipes(self) -> Mapping[str, Any]:
        from .learning.decolle_recipes import RECIPES

        return RECIPES

    def run(self, name: str, settings: dict[str, Any], progress: Show, say: Say) -> dict[str, Any]:
        from .learning.decolle_report import run

        return run(name, settings, progress, say)


class _Pairs:
    """A layer that learns by the times of spikes, without labels."""

    needs_output, from_file = False, False

    @property
    def recipes(self) -> Mapping[str, Any]:
        from .learning.stdp_recipes import RECIPES

        return RECIPES

    def run(self, name: str, settings: dict[str, Any], progress: Show, say: Say) -> dict[str, Any]:
        from .learning.stdp_report import run

        return run(name, settings, progress, say)


FAMILIES: tuple[Family, ...] = (_Quantised(), _ThroughTime(), _Decolle(), _Pairs())
