"""Which arrays of a file belong to which layer? By name, by position, or by class and counter."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .architecture import Entry
from .files import Array, Source

__all__ = ["Shelf", "snake"]


def snake(name: str) -> str:
    """Name that Keras saves a layer of a class under."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


class Shelf:
    """The arrays of every layer of a model, and which of them were taken.

    Attributes
    ----------
    used : set of str
        Paths of arrays in the file.
    """

    def __init__(self, source: Source, listed: Sequence[Entry]) -> None:
        self.source = source
        self.used: set[str] = set()
        self._groups: dict[tuple[str, ...], str] = {}
        if source.naming == "class":
            self._count(listed, "")
        elif source.naming == "index":
            first = listed[0].kind == "InputLayer" and len(source.weights) == len(listed) - 1
            for k, entry in enumerate(listed):
                self._groups[entry.layer.path] = f"#{k - first}"

    def _count(self, listed: Sequence[Entry], above: str) -> None:
        """Saved groups of the layers of one model: by the names they carry, else by class and counter."""
        children = {}
        for key, name in self.source.names.items():
            parent, _, own = key.rpartition("/")
            if parent == above:
                children[own] = name
        told = {name: own for own, name in children.items() if name is not None}
        named = bool(children) and len(told) == len(children)
        counts: dict[str, int] = {}
        for entry in listed:
            base = snake(entry.kind)
            if not entry.layer.operator or entry.kind == "TFOpLambda":  # functions of Keras 3 are no layers to it
                counts[base] = counts.get(base, -1) + 1
            number = counts.get(base, 0)
            own = f"{base}_{number}" if number else base
            if named:
                own = told.get(entry.layer.path[-1], "")
            group = f"{above}/{own}" if above else own
            wrapped = entry.kind != entry.layer.kind
            self._groups[entry.layer.path] = f"{group}/layer" if wrapped else group
            if entry.model is not None:
                self._count(list(entry.model.entries.values()), group)

    def arrays(self, path: tuple[str, ...]) -> list[Array]:
        """Arrays of the layer of that path, in the order of the file."""
        if self.source.naming != "name":
            return self.source.weights.get(self._groups.get(path, ""), [])
        arrays = self.source.weights.get(path[0], [])
        if len(path) == 1:
            return arrays
        for first in range(len(path)):  # as many of the names as the file has; the last has to be there
            owner = "/".join(path[first:])
            found = [array for array in arrays if f"/{array.owner}".endswith(f"/{owner}")]
            if found:
                return found
        return []

    def take(self, path: tuple[str, ...]) -> list[Array]:
        """The same, marked as used; bookkeeping of wrappers around the layer counts as used with them."""
        arrays = self.arrays(path)
        beside = self._groups.get(path, "").removesuffix("/layer")
        self.used.update(array.path for array in (*arrays, *self.source.weights.get(beside, [])))
        return arrays

    def left(self) -> str:
        """The first group with numbers that nothing took, or nothing."""
        for group, arrays in self.source.weights.items():
            if any(array.real and array.path not in self.used for array in arrays):
                return group
        return ""
