"""Events to frames, in integers: bins of time, polarities as channels, pixels joined by division, counts clipped.

Training and running begin where `start_us` says: at a time of the recording's own clock, or, for None, at its first
event.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FormatError, RangeError, ShapeError
from ..formats.arguments import flag, sequence, shown, whole, whole_or_none

if TYPE_CHECKING:
    from .events import EventSet

__all__ = ["check_binning", "frame_set", "frame_shape", "frames", "warn_if_empty"]

LARGEST = 255  # a frame holds bytes
LATEST = 1 << 61  # microseconds either way
MOST_BYTES = 16 << 30  # of all frames together
FIELDS = "xytp"


def _pair(divide: int | tuple[int, int]) -> tuple[int, int]:
    words = "a positive integer, or one for the rows and one for the columns"
    if isinstance(divide, list | tuple):
        if len(divide) != 2:
            raise FormatError(f"divide: found {shown(divide)}; {words}")
        rows, columns = divide
    else:
        rows = columns = divide
    return whole(rows, "divide", 1, allowed=words), whole(columns, "divide", 1, allowed=words)


def frame_shape(shape: tuple[int, int, int], divide: int | tuple[int, int] = 1) -> tuple[int, int, int]:
    """Shape of a frame of a sensor of `shape` (polarities, H, W): ``(polarities, H // divide, W // divide)``.

    Raises
    ------
    FormatError, ShapeError
        For what is no size, or if nothing is left.
    """
    rows, columns = _pair(divide)
    if not isinstance(shape, list | tuple) or len(shape) != 3:
        raise ShapeError(f"shape: found {shown(shape)}; (polarities, H, W) of a sensor is needed")
    channels, height, width = (whole(n, "shape", 1, error=ShapeError) for n in shape)
    found = (channels, height // rows, width // columns)
    if min(found) < 1:
        raise ShapeError(f"divide: a sensor of {height}x{width} over {rows}x{columns} leaves no pixel")
    return found


def check_binning(steps, bin_us, start_us, clip) -> None:
    """Refuse settings of `frames` that cannot be.

    Raises
    ------
    FormatError
        What is no whole number, or outside its range.
    """
    whole(steps, "steps", 1, 1 << 20)
    whole(bin_us, "bin_us", 1, 1 << 40)
    whole_or_none(start_us, "start_us", -LATEST, LATEST)
    whole(clip, "clip", 1, LARGEST)


def _columns(events: np.ndarray, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """The fields of events as int64, looked at as they are."""
    names = getattr(getattr(events, "dtype", None), "names", None) or ()
    if not isinstance(events, np.ndarray) or events.ndim != 1 or any(name not in names for name in FIELDS):
        found = f"{events.dtype} of shape {events.shape}" if isinstance(events, np.ndarray) else type(events).__name__
        raise ShapeError(f"events: found {found}; a structured array (N,) with the fields x, y, t, p is needed")
    columns = {}
    ends = {"x": (0, shape[2] - 1), "y": (0, shape[1] - 1), "p": (0, shape[0] - 1), "t": (-LATEST, LATEST)}
    for name, (low, high) in ends.items():
        values = events[name]
        if values.dtype.kind not in "biuf":
            raise FormatError(f"events.{name}: found {values.dtype}; whole numbers are needed")
        if values.dtype.kind == "f":
            wrong = ~np.isfinite(values) | (np.floor(values) != values)
            if wrong.any():
                hint = " of microseconds; are these seconds?" if name == "t" else ""
                raise FormatError(f"events.{name}: found {values[wrong][0]}; whole numbers are needed{hint}")
        if values.size and (values.min() < low or values.max() > high):
            words = f"the sensor has {low} to {high}" if name != "t" else "2**61 microseconds either way are possible"
            raise RangeError(f"events.{name}: found {values.min()} to {values.max()}; {words}")
        columns[name] = values.astype(np.int64)
    return columns


def frames(
    events: np.ndarray,
    *,
    shape: tuple[int, int, int],
    steps: int,
    bin_us: int,
    divide: int | tuple[int, int] = 1,
    start_us: int | None = 0,
    clip: int = 1,
    warn: bool = True,
) -> np.ndarray:
    """Count the events of one recording in bins of time and space.

    Parameters
    ----------
    events : structured array with the fields x, y, t (microseconds), p
        Whole numbers of any type; in any order.
    shape : (polarities, H, W)
        Of the sensor.
    steps, bin_us : int
        Step k holds the events with ``start_us + k bin_us <= t < start_us + (k + 1) bin_us``; those before and after
        are left out.
    divide : int or (int, int)
        The pixel (y, x) goes to (y // divide, x // divide); pixels of a last, incomplete group are left out.
    start_us : int or None
        A time of the clock of the events, also a negative one; None: that of the earliest event.
    clip : int
        Largest count, 1 to 255.
    warn : bool
        Warn if there are events and none of them falls into a frame.

    Returns
    -------
    (steps, polarities, H // divide, W // divide) uint8

    Raises
    ------
    FormatError, ShapeError
        For a value that cannot be.
    RangeError
        If an event lies outside the sensor, or the frames take more memory than 16 GiB.
    """
    check_binning(steps, bin_us, start_us, clip)
    channels, height, width = frame_shape(shape, divide)
    out = _empty((int(steps), channels, height, width))
    columns = _columns(events, shape)
    _count(columns, out, int(bin_us), _pair(divide), start_us, int(clip))
    if flag(warn, "warn") and events.size and not out.any():
        warnings.warn(f"no event falls into a frame: {_spans(columns['t'], steps, bin_us, start_us)}", stacklevel=2)
    return out


def _empty(shape: tuple[int, ...]) -> np.ndarray:
    size = 1
    for n in shape:
        size *= n
    if size > MOST_BYTES:
        raise RangeError(f"frames of shape {shape} take {size:,} bytes; at most {MOST_BYTES:,} are made at a time")
    return np.zeros(shape, np.uint8)


def _count(
    columns: dict[str, np.ndarray],
    out: np.ndarray,
    bin_us: int,
    divide: tuple[int, int],
    start_us: int | None,
    clip: int,
) -> None:
    """Events into frames ``(steps, polarities, rows, columns)`` of zeros."""
    time = columns["t"]
    if not time.size:
        return
    steps, channels, height, width = out.shape
    step = (time - (int(time.min()) if start_us is None else int(start_us))) // bin_us
    y, x = columns["y"] // divide[0], columns["x"] // divide[1]
    inside = (step >= 0) & (step < steps) & (y < height) & (x < width)
    place = ((step * channels + columns["p"]) * height + y) * width + x
    cells, counts = np.unique(place[inside], return_counts=True)
    out.reshape(-1)[cells] = np.minimum(counts, clip)


def frame_set(
    events: EventSet,
    indices: Iterable[int] | None = None,
    *,
    steps: int,
    bin_us: int,
    divide: int | tuple[int, int] = 1,
    start_us: int | None = 0,
    clip: int = 1,
) -> np.ndarray:
    """`frames` of many recordings of a set; generated streams are binned as they are made.

    Warns if no event of any of them falls into a frame.

    Parameters
    ----------
    events : EventSet
    indices : iterable of int, optional
        Which, in this order; default all. Numbers, not a mask.
    steps, bin_us, divide, start_us, clip
        As for `frames`.

    Returns
    -------
    (N, steps, polarities, H // divide, W // divide) uint8

    Raises
    ------
    FormatError, ShapeError, RangeError
        As `frames`; indices that are no integers or name no recording.
    """
    if not hasattr(events, "reader"):
        raise FormatError(f"events: found {shown(events)}; the recordings of `load_events` are needed")
    check_binning(steps, bin_us, start_us, clip)
    chosen = _indices(events, indices)
    out = _empty((len(chosen), int(steps), *frame_shape(events.shape, divide)))
    if events.binned is not None and start_us is not None:
        events.binned(
            chosen, out, bin_us=int(bin_us), divide=_pair(divide), start_us=int(start_us), clip=int(clip)
        )  # fmt: skip
    else:
        for row, index in zip(out, chosen.tolist(), strict=True):
            _count(_columns(events.events(index), events.shape), row, int(bin_us), _pair(divide), start_us, int(clip))
    warn_if_empty(events, chosen, out, int(steps), int(bin_us), start_us)
    return out


def _indices(events: EventSet, indices: Iterable[int] | None) -> np.ndarray:
    if indices is None:
        return np.arange(len(events))
    given = sequence(indices, f"{events.name}: indices", "a list of numbers of recordings is needed")
    if any(isinstance(index, bool | np.bool_) for index in given):
        raise FormatError(
            f"{events.name}: indices: found a mask; give the numbers of the recordings, np.flatnonzero(mask)"
        )
    return np.array(
        [whole(index, f"{events.name}: indices: an entry", 0, len(events) - 1, error=RangeError) for index in given],
        int,
    )


def warn_if_empty(
    events: EventSet, chosen: np.ndarray, found: np.ndarray, steps: int, bin_us: int, start_us: int | None
) -> None:
    """Warn if frames of recordings hold no event at all, with what could be the reason.

    Parameters
    ----------
    events : EventSet
    chosen : (N,) int
        Which recordings they are made of.
    found : array of frames
    steps, bin_us, start_us
        As for `frames`.
    """
    if not len(chosen) or found.any():
        return
    text = f"{events.name}: no event of {len(chosen):,} recordings falls into a frame"
    for index in chosen[:100].tolist():
        time = events.events(index)["t"]
        if time.size:
            text += f": recording {index}: {_spans(time, steps, bin_us, start_us)}"
            break
    else:
        text += ": the recordings are empty"
    warnings.warn(text, stacklevel=3)


def _spans(time: np.ndarray, steps: int, bin_us: int, start_us: int | None) -> str:
    """From when to when frames and events last."""
    begin = int(time.min()) if start_us is None else int(start_us)
    return (
        f"frames last from {begin} to {begin + steps * bin_us} us, its events from {time.min()} to {time.max()} us; "
        "start_us says where frames begin, None at the first event"
    )
