"""What ``intsnn train`` says and keeps of every training with torch: recipe, provenance, a line for each epoch."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, TypeVar

import torch

from .checkpoints import digests_of

__all__ = ["epoch_line", "facts", "provenance", "seeded", "without_seconds"]

AnyRecipe = TypeVar("AnyRecipe")


def seeded(chosen: AnyRecipe, settings: dict[str, Any]) -> AnyRecipe:
    """The recipe with the seed of the settings, if they have one."""
    return chosen if settings["seed"] is None else replace(chosen, seed=settings["seed"])  # type: ignore[type-var]


def facts(name: str, chosen: Any, data: Any, test: Any, *fields: str) -> dict[str, Any]:
    """What was trained on what, by name and by digest; `fields` of the recipe are added."""
    found = {"recipe": name, "data": data.name, "test": test.name, "seed": chosen.seed}
    return found | digests_of(data, test) | {field: getattr(chosen, field) for field in fields}


def provenance(source: str, chosen: Any, data: Any, threads: int, **more: Any) -> dict[str, Any]:
    """Where a file comes from: the command `source`, all that decides the result, and the version of torch."""
    return {
        "source": source, "settings": asdict(chosen), **more, "data": data.name, "torch": str(torch.__version__),
        "threads": threads,
    }  # fmt: skip


def without_seconds(history: list[dict]) -> list[dict]:
    """A history without what differs from run to run."""
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in history]


def epoch_line(entry: dict, epochs: int, left: str = "") -> str:
    """A line for an epoch of a stage of `epochs`; `left` stands behind its seconds."""
    line = f"{entry['name']:>8}  epoch {entry['epoch']}/{epochs}  loss {entry['loss']:.4f}"
    line += f"  {entry['seconds']:.0f} s{left}"
    return line + (f"  test {entry['accuracy']:.2f} %" if entry["accuracy"] is not None else "")
