"""How are accuracy, bytes and steps laid out along an axis?

High accuracies lie close together where they matter most, so the axis is logarithmic in the error (100 - accuracy) as
soon as errors differ by more than a factor; ticks say the accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["accuracy_axis", "byte_axis", "bytes_text", "count_axis", "error_floor", "integer", "short", "time_axis"]

FACTOR = 4.0  # of largest to least error, from which the axis is logarithmic
ERRORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 90)
TOP = 0.8  # of the least error: where the axis ends, and what is beyond is drawn
LEAST = 0.01  # least error that an axis tells apart, in points of a per cent
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))
STEPS = (1, 2, 5)


def bytes_text(value: float) -> str:
    """``15.8 kB``, in powers of 1000."""
    for size, unit in UNITS:
        if value >= size or size == 1:
            scaled = value / size
            digits = 0 if size == 1 or scaled >= 99.95 else 1
            return f"{scaled:.{digits}f}".removesuffix(".0") + f" {unit}"
    raise AssertionError  # the last unit takes everything


def short(value: float) -> str:
    """``1.2 M``: a count that needs no more than two or three digits."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            scaled = value / size
            return f"{scaled:.{0 if abs(scaled) >= 99.5 else 1}f}".removesuffix(".0") + unit
    return f"{value:.4g}"


def integer(value: float) -> str:
    """``-1,204`` with a real minus sign."""
    return f"{int(value):,}".replace("-", "\N{MINUS SIGN}")


def error_floor(samples: int | None) -> float:
    """The error that stands for none at all on a logarithmic axis: half a sample of those that were tried."""
    return max(LEAST, 50.0 / samples) if samples else LEAST


def accuracy_axis(axes: Any, axis: str, values: Iterable[float], samples: int | None) -> None:
    """Scale, limits and ticks of ``"x"`` or ``"y"`` for accuracies in per cent."""
    floor = error_floor(samples)
    values = list(values)
    errors = [max(floor, 100 - value) for value in values]
    least, largest = min(errors, default=1.0), max(errors, default=100.0)
    set_scale, set_limits = getattr(axes, f"set_{axis}scale"), getattr(axes, f"set_{axis}lim")
    target = getattr(axes, f"{axis}axis")
    if largest / least < FACTOR:
        low, high = min(values, default=0.0), max(values, default=100.0)
        room = max(0.05, 0.08 * (high - low))
        set_limits(low - room, min(100.4, high + room))
        return
    set_scale("function", functions=(lambda a: _place(a, floor), _accuracy))
    room = (largest / least) ** 0.06
    set_limits(max(0.0, 100 - largest * room), 100 - (least / room if least > floor else floor * TOP))
    _log_ticks(target, least, largest, floor)


def _place(accuracy: Any, floor: float) -> Any:
    import numpy as np

    return -np.log10(np.maximum(100 - np.asarray(accuracy, float), floor * TOP))


def _accuracy(place: Any) -> Any:
    import numpy as np

    return 100 - 10.0 ** -np.asarray(place, float)


def _log_ticks(axis: Any, least: float, largest: float, floor: float) -> None:
    room = (largest / least) ** 0.07
    inside = [error for error in ERRORS if least / room <= error <= largest * room]
    while len(inside) > 9:
        inside = inside[::2]
    if len(inside) < 3:
        steps = _round_steps(100 - largest, 100 - least, 5)
        axis.set_ticks(steps, labels=[f"{step:.10g}" for step in steps])
        return
    ticks = [(100 - error, f"{100 - error:.10g}") for error in inside]
    if least <= floor and inside[0] > floor * 1.5:
        ticks.insert(0, (100 - floor, "100"))
    axis.set_ticks([at for at, _ in ticks], labels=[text for _, text in ticks])


def _round_steps(low: float, high: float, wanted: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between `low` and `high`."""
    if high <= low:
        return [low]
    rough = (high - low) / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = next(n * power for n in (*STEPS, 10) if n * power >= rough)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def byte_axis(axes: Any, values: Iterable[float]) -> None:
    """A logarithmic x-axis for bytes, with ticks at 1, 2 and 5 where decades are few."""
    values = list(values)
    low, high = min(values), max(values)
    room = max(1.12, (high / low) ** 0.06)
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for steps in (STEPS, (1,)):
        ticks = [n * 10.0**power for power in range(first, last + 1) for n in steps]
        ticks = [tick for tick in ticks if low / room <= tick <= high * room]
        if len(ticks) <= 6:
            break
    if len(ticks) < 2:
        ticks = _round_steps(low / room, high * room, 4)
    axes.set_xticks(ticks, labels=[bytes_text(tick) for tick in ticks])
    axes.minorticks_off()


def time_axis(axes: Any, steps: int) -> None:
    """An x-axis for steps 1 to `steps`, logarithmic where there are more than a few."""
    axes.set_xlim(0.93 if steps > 4 else 0.9, steps * 1.08)
    if steps <= 4:
        axes.set_xticks(range(1, steps + 1))
        return
    axes.set_xscale("log", base=2)
    ticks = [1 << power for power in range(steps.bit_length())]
    axes.set_xticks(ticks, labels=[f"{tick:,}" for tick in ticks])
    axes.minorticks_off()


def count_axis(axes: Any, values: Sequence[int]) -> None:
    """An x-axis for values of T, ticks at them where there is room; logarithmic where they span more than 4 times."""
    distinct = sorted(set(values))
    if distinct[0] > 0 and distinct[-1] / distinct[0] > 4:
        axes.set_xscale("log", base=2)
    ticks: list[int] = []
    for value in reversed(distinct):  # the largest always; others where there is room
        if not ticks or value <= 0.72 * ticks[-1]:
            ticks.append(value)
    axes.set_xticks(ticks, labels=[f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
