"""Which cells of a sweep are compared with which? Rows become points, points become groups, each group has a front.

Rows are read as they come: a field that is absent or no finite number is None here, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

__all__ = [
    "TOLERANCE",
    "Point",
    "Setting",
    "Sweep",
    "drawable",
    "failure_of",
    "families",
    "front",
    "label",
    "number",
    "plain",
    "read_sweep",
    "selected",
    "shortened",
    "subjects",
]

TOLERANCE = 0.5  # points of a per cent that the selected cell may lie below the best one
LONGEST = 300  # characters of a text that a report shows

Row = Mapping[str, Any]


def plain(value: Any, longest: int = LONGEST) -> str:
    """`value` as one line of printable text; what no page can show (controls, lone surrogates) is written out."""
    text = " ".join(str(value).split())
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def number(row: Row, name: str) -> int | float | None:
    """A field that is a finite number, or None."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True)
class Setting:
    """What was asked of a cell; seeds differ within one setting."""

    model: str
    data: str
    method: str
    weight_bits: int | None
    activation_bits: int | None
    t_drive: int | None
    state_bits: int | None
    samples: int | None

    @property
    def order(self) -> tuple:
        """Sorts settings; absent numbers come last."""
        values = (getattr(self, field.name) for field in fields(self))
        return tuple((value is None, value if value is not None else 0) for value in values)

    @property
    def bits(self) -> str:
        """``w4 a3``, with the width of the states where one was asked for."""
        state = "" if self.state_bits is None else f" v{self.state_bits}"
        return f"w{_shown(self.weight_bits)} a{_shown(self.activation_bits)}{state}"


def _shown(value: int | None) -> str:
    return "?" if value is None else str(value)


@dataclass(frozen=True, eq=False)
class Point:
    """All rows of one setting: those that were measured, in the order of their seeds, and those that were not.

    Attributes
    ----------
    setting : Setting
    rows : tuple of rows that were measured (without an accuracy where the data have no labels)
    failed : tuple of rows with an error
    """

    setting: Setting
    rows: tuple[Row, ...]
    failed: tuple[Row, ...]

    def mean(self, name: str) -> float | None:
        """Mean of a field over the seeds that have it."""
        values = self.values(name)
        return sum(values) / len(values) if values else None

    def values(self, name: str) -> list[float]:
        """A field of every measured row that has it."""
        found = (number(row, name) for row in self.rows)
        return [value for value in found if value is not None]

    @property
    def accuracy(self) -> float | None:
        """Per cent, mean over seeds; None where every seed failed, or the data have no labels."""
        return self.mean("accuracy")

    def memory(self, of: str = "measured") -> float | None:
        """Bytes ``"measured"`` or by ``"formula"``; no positive number is None."""
        value = self.mean("measured_bytes") if of == "measured" else self.mean("formula_bits")
        if not value or value < 0:
            return None
        return value if of == "measured" else value / 8


@dataclass(frozen=True)
class Sweep:
    """Everything that a report shows.

    Attributes
    ----------
    rows : tuple of rows, sorted
    points : tuple of Point, sorted
    failed : tuple of rows with an error
    missing : tuple of Setting: combinations of widths that neighbours have and no row is there for
    """

    rows: tuple[Row, ...]
    points: tuple[Point, ...]
    failed: tuple[Row, ...]
    missing: tuple[Setting, ...]


def failure_of(row: Row) -> str | None:
    """Why a row has no result, or None if it has one."""
    error = row.get("error")
    return None if error is None else plain(error, 4000) or "no reason given"


def read_sweep(rows: Iterable[Row]) -> Sweep:
    """Rows in any order as points in a fixed one."""
    found: dict[Setting, list[Row]] = {}
    for row in rows:
        found.setdefault(_setting(row), []).append(row)
    points = []
    for setting in sorted(found, key=lambda setting: setting.order):
        group = sorted(found[setting], key=_seed)
        good = tuple(row for row in group if failure_of(row) is None)
        points.append(Point(setting, good, tuple(row for row in group if failure_of(row) is not None)))
    ordered = [row for point in points for row in sorted((*point.rows, *point.failed), key=_seed)]
    failed = tuple(row for row in ordered if failure_of(row) is not None)
    return Sweep(tuple(ordered), tuple(points), failed, tuple(_missing(points)))


def _setting(row: Row) -> Setting:
    names = (plain(row[name]) if row.get(name) is not None else "?" for name in ("model", "data", "method"))
    widths = ("weight_bits", "activation_bits", "t_drive", "state_bits", "samples")
    return Setting(*names, *(number(row, name) for name in widths))  # type: ignore[arg-type]


def _seed(row: Row) -> tuple:
    seed = number(row, "seed")
    return (seed is None, seed or 0, str(row.get("created")), str(row.get("key")))


def _missing(points: Sequence[Point]) -> list[Setting]:
    """Combinations of weight width and (activation width, T) that a family's axes span without having them."""
    found = []
    for family in families(points):
        have = {(p.setting.weight_bits, p.setting.activation_bits, p.setting.t_drive) for p in family}
        first = family[0].setting
        for weights in _distinct(family, lambda s: s.weight_bits):
            for activations, drive in _distinct(family, lambda s: (s.activation_bits, s.t_drive)):
                if (weights, activations, drive) not in have:
                    found.append(
                        Setting(
                            first.model, first.data, first.method, weights, activations, drive,
                            first.state_bits, first.samples,
                        )
                    )  # fmt: skip
    return found


def _distinct(points: Sequence[Point], of: Callable[[Setting], Any]) -> list[Any]:
    return list(dict.fromkeys(of(point.setting) for point in points))


def _grouped(points: Iterable[Point], of: Callable[[Setting], tuple]) -> list[list[Point]]:
    groups: dict[tuple, list[Point]] = {}
    for point in points:
        groups.setdefault(of(point.setting), []).append(point)
    return list(groups.values())


def subjects(points: Iterable[Point]) -> list[list[Point]]:
    """Points whose accuracies can be compared: the same model on the same samples."""
    return _grouped(points, lambda s: (s.model, s.data, s.samples))


def families(points: Iterable[Point]) -> list[list[Point]]:
    """Points that differ in nothing but the widths of weights and activations and the driven steps."""
    return _grouped(points, lambda s: (s.model, s.data, s.samples, s.method, s.state_bits))


def shortened(name: str, longest: int) -> str:
    """A name that a plot has room for: its middle is left out."""
    name = name or "?"
    return name if len(name) <= longest else f"{name[: longest // 2 - 1]}…{name[-longest // 2 :]}"


def label(point: Point, points: Sequence[Point], method: bool = False, longest: int = LONGEST) -> str:
    """Name of the group that `point` stands for, with what distinguishes it among `points` and nothing more."""
    setting, parts = point.setting, [shortened(point.setting.model, longest)]
    if setting.data != "?":
        parts.append(shortened(setting.data, longest))
    if method:
        parts.append(shortened(setting.method, longest))
        if len({p.setting.state_bits for p in points}) > 1:
            parts.append("states as needed" if setting.state_bits is None else f"{setting.state_bits}-bit states")
    same = [p for p in points if (p.setting.model, p.setting.data) == (setting.model, setting.data)]
    if len({p.setting.samples for p in same}) > 1:
        parts.append(f"{_shown(setting.samples)} samples")
    return " · ".join(parts)


def drawable(points: Iterable[Point], memory: str = "measured") -> list[Point]:
    """Points that have a place in the plane of memory and accuracy."""
    return [point for point in points if point.accuracy is not None and point.memory(memory) is not None]


def front(points: Iterable[Point], memory: str = "measured") -> list[Point]:
    """Pareto front: points that no other one beats in memory or accuracy without losing in the other, by memory.

    Points that are equal in both are all in it, or none.
    """
    best, last, found = -math.inf, None, []
    places = [((point.memory(memory) or 0, -(point.accuracy or 0)), point) for point in drawable(points, memory)]
    for place, point in sorted(places, key=lambda pair: pair[0]):
        if -place[1] > best or place == last:
            best, last = -place[1], place
            found.append(point)
    return found


def _merit(point: Point) -> tuple[float, float, float]:
    return (point.accuracy or 0, point.mean("agreement") or 0, -(point.memory() or math.inf))


def selected(points: Iterable[Point], tolerance: float = TOLERANCE) -> Point | None:
    """The point of least memory whose accuracy is within `tolerance` of the best; None if none was measured.

    Where memories or accuracies are unknown, the most accurate one, or that which agrees best with the integer ANN.
    """
    measured = [point for point in points if point.rows]
    on_front = front(measured)
    if not on_front:
        return max(measured, key=_merit, default=None)
    best = on_front[-1].accuracy or 0
    return next(point for point in on_front if (point.accuracy or 0) >= best - tolerance)
