"""Events to frames, in integers: bins of time, polarities as channels, pixels joined by division, counts clipped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FormatError, RangeError, ShapeError

if TYPE_CHECKING:
    from .event_data import EventSet

__all__ = ["frame_set", "frames", "frame_shape"]

LARGEST = 255  # a frame holds bytes


def _pair(divide: int | tuple[int, int]) -> tuple[int, int]:
    pair = (divide, divide) if isinstance(divide, int | np.integer) else tuple(divide)
    if len(pair) != 2 or min(pair) < 1:
        raise FormatError(f"divide: found {divide!r}; a positive integer, or one for the rows and one for the columns")
    return int(pair[0]), int(pair[1])


def frame_shape(shape: tuple[int, int, int], divide: int | tuple[int, int] = 1) -> tuple[int, int, int]:
    """Shape of a frame of a sensor of `shape` (polarities, H, W): ``(polarities, H // divide, W // divide)``.

    Raises
    ------
    ShapeError
        If nothing is left.
    """
    rows, columns = _pair(divide)
    found = (shape[0], shape[1] // rows, shape[2] // columns)
    if min(found) < 1:
        raise ShapeError(f"divide: a sensor of {shape[1]}x{shape[2]} over {rows}x{columns} leaves no pixel")
    return found


def _check(steps: int, bin_us: int, start_us: int, clip: int) -> None:
    for name, value, low, high in (
        ("steps", steps, 1, 1 << 20), ("bin_us", bin_us, 1, 1 << 40), ("start_us", start_us, 0, 1 << 40),
        ("clip", clip, 1, LARGEST),
    ):  # fmt: skip
        if not low <= value <= high:
            raise FormatError(f"{name}: found {value}; {low} to {high} is possible")


def frames(
    events: np.ndarray,
    *,
    shape: tuple[int, int, int],
    steps: int,
    bin_us: int,
    divide: int | tuple[int, int] = 1,
    start_us: int = 0,
    clip: int = 1,
) -> np.ndarray:
    """Count the events of one recording in bins of time and space.

    Parameters
    ----------
    events : structured array with the fields x, y, t (microseconds), p
    shape : (polarities, H, W)
        Of the sensor.
    steps, bin_us, start_us : int
        Step k holds the events with ``start_us + k bin_us <= t < start_us + (k + 1) bin_us``; those before and after
        are left out.
    divide : int or (int, int)
        The pixel (y, x) goes to (y // divide, x // divide); pixels of a last, incomplete group are left out.
    clip : int
        Largest count, 1 to 255.

    Returns
    -------
    (steps, polarities, H // divide, W // divide) uint8

    Raises
    ------
    FormatError, ShapeError
        For a value that cannot be.
    RangeError
        If an event lies outside the sensor.
    """
    _check(steps, bin_us, start_us, clip)
    rows, columns = _pair(divide)
    channels, height, width = frame_shape(shape, divide)
    for name, top in (("x", shape[2]), ("y", shape[1]), ("p", shape[0])):
        values = events[name]
        if values.size and (values.min() < 0 or values.max() >= top):
            raise RangeError(f"events.{name}: found {values.min()} to {values.max()}; the sensor has 0 to {top - 1}")
    step = (events["t"].astype(np.int64) - start_us) // bin_us
    y, x = events["y"].astype(np.int64) // rows, events["x"].astype(np.int64) // columns
    inside = (step >= 0) & (step < steps) & (y < height) & (x < width)
    place = ((step * channels + events["p"]) * height + y) * width + x
    counts = np.bincount(place[inside], minlength=steps * channels * height * width)
    return np.minimum(counts, clip).astype(np.uint8).reshape(steps, channels, height, width)


def frame_set(
    events: EventSet,
    indices: Iterable[int] | None = None,
    *,
    steps: int,
    bin_us: int,
    divide: int | tuple[int, int] = 1,
    start_us: int = 0,
    clip: int = 1,
) -> np.ndarray:
    """`frames` of many recordings of a set; generated streams are binned as they are made.

    Parameters
    ----------
    events : EventSet
    indices : iterable of int, optional
        Which, in this order; default all.
    steps, bin_us, divide, start_us, clip
        As for `frames`.

    Returns
    -------
    (N, steps, polarities, H // divide, W // divide) uint8
    """
    _check(steps, bin_us, start_us, clip)
    chosen = np.arange(len(events)) if indices is None else np.fromiter(indices, np.int64)
    if chosen.size and (chosen.min() < 0 or chosen.max() >= len(events)):
        raise RangeError(
            f"{events.name}: found the indices {chosen.min()} to {chosen.max()}; 0 to {len(events) - 1} is possible"
        )
    out = np.empty((len(chosen), steps, *frame_shape(events.shape, divide)), np.uint8)
    if events.binned is not None:
        events.binned(chosen, out, bin_us=bin_us, divide=_pair(divide), start_us=start_us, clip=clip)
        return out
    for row, index in zip(out, chosen, strict=True):
        row[:] = frames(
            events.events(int(index)), shape=events.shape, steps=steps, bin_us=bin_us, divide=divide,
            start_us=start_us, clip=clip,
        )  # fmt: skip
    return out
