"""Flat arrays of constants that grow while a table of operations is laid out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...kernels.toolchain.arrays import zeros

__all__ = ["FlatArrays"]

LINE = 64  # bytes of a cache line
SLACK = 256  # elements behind an array that vectors may read


class FlatArrays:
    """Arrays by name, of given types, to which others are appended one behind the other."""

    def __init__(self, kinds: Mapping[str, type]) -> None:
        self._kinds = {name: np.dtype(kind) for name, kind in kinds.items()}
        self._parts: dict[str, list[np.ndarray]] = {name: [] for name in kinds}
        self._used = dict.fromkeys(kinds, 0)

    def put(self, name: str, values) -> int:
        """Append to the array `name`, from a cache line on; where it begins."""
        kind, array = self._kinds[name], np.asarray(values).reshape(-1)
        at, line = self._used[name], LINE // kind.itemsize
        full = np.zeros(-(-array.size // line) * line, kind)
        full[: array.size] = array
        self._parts[name].append(full)
        self._used[name] += full.size
        return at

    def arrays(self) -> list[np.ndarray]:
        """All of them in order, with room behind each for what vectors read too far; nothing can be added then."""
        found = []
        for name, kind in self._kinds.items():
            parts = self._parts.pop(name)
            whole = zeros(sum(part.size for part in parts) + SLACK, kind)
            if parts:
                whole[:-SLACK] = np.concatenate(parts)
            found.append(whole)
        return found
