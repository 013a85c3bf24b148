"""How recordings of events are stored: 5 bytes an event, Event Stream files, tables of NumPy.

Every file is untrusted. Values are looked at as they are stored and become events only when all of them are whole
numbers of this sensor: nothing is cast, wrapped or cut to fit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataNotFoundError, ImportRefused, IntsnnError
from .camera import EVENT
from .decoders import read_npy

__all__ = ["checked_events", "contents", "event_stream", "event_table", "five_bytes", "stream_sensor"]

MOST_BYTES = 256 << 20  # of one recording
LATEST = 1 << 62  # microseconds
MARKER = 240  # a row that no sensor of this format has: an overflow of the clock
MARKED = 1 << 13  # microseconds that it stands for
CLOCK = 1 << 23  # microseconds after which the clock of 5 bytes begins again
LATE = 1 << 16  # microseconds that an event may be behind one from after the turn of the clock
TEXT = frozenset(range(32, 127)) | frozenset(b"\t\r\n")


def contents(path: Path) -> bytes:
    """The whole of a file that is not too large.

    Raises
    ------
    DataNotFoundError
        It cannot be read.
    ImportRefused
        It is too large, or text: a web page or a pointer of git-lfs in place of a recording.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ImportRefused(f"{path} has {size:,} bytes; a recording has at most {MOST_BYTES:,}", code="size")
        content = path.read_bytes()
    except OSError as error:
        if isinstance(error, IntsnnError):
            raise
        raise DataNotFoundError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(content) >= 20 and TEXT.issuperset(content):
        raise ImportRefused(f"{path} is {_kind_of_text(content)}, no recording", code="text")
    return content


def _kind_of_text(content: bytes) -> str:
    start = content[:200].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer (run 'git lfs pull' where it comes from)"
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page (the download has failed)"
    return f"text that begins with {content[:20]!r}"


def checked_events(
    found: dict[str, np.ndarray], shape: tuple[int, int, int], where: object, unit_us: int = 1
) -> np.ndarray:
    """Events as `EVENT`, in the order of time (those of one time in the order of the file).

    Parameters
    ----------
    found : dict
        ``x, y, p, t``: arrays ``(N,)`` of numbers as they are stored.
    shape : (polarities, H, W)
        Of the sensor.
    where : object
        Names the recording in errors.
    unit_us : int
        Microseconds of a unit of t. Times with a fraction are cut to whole microseconds after 0.06 was added: by so
        much a float32 may lie below what it stands for, in seconds up to 2.

    Raises
    ------
    ImportRefused
        A coordinate or polarity that is no whole number of the sensor, a time that is negative, not finite or beyond
        2**62 microseconds.
    """
    whole = {name: _whole(found[name], name, where) for name in ("x", "y", "p")}
    for name, top in (("x", shape[2]), ("y", shape[1]), ("p", shape[0])):
        values = whole[name]
        if values.size and (values.min() < 0 or values.max() >= top):
            raise ImportRefused(
                f"{where} has events with {name} from {values.min()} to {values.max()}; the sensor has 0 to {top - 1}",
                code="range",
            )
    time = _microseconds(found["t"], unit_us, where)
    events = np.empty(len(time), EVENT)
    events["t"] = time
    for name, values in whole.items():
        events[name] = values
    if time.size and (np.diff(time) < 0).any():
        events = events[np.argsort(time, kind="stable")]
    return events


def _whole(values: np.ndarray, name: str, where: object) -> np.ndarray:
    """Whole numbers of any kind of number."""
    if values.dtype.kind == "f":
        wrong = ~np.isfinite(values) | (np.floor(values) != values)
        if wrong.any():
            at = int(wrong.argmax())
            raise ImportRefused(f"{where}: {name} of event {at} is {values[at]}; it is a whole number", code="range")
    elif values.dtype.kind not in "biu":
        raise ImportRefused(f"{where}: {name} is of type {values.dtype}; whole numbers are needed", code="type")
    return values


def _microseconds(values: np.ndarray, unit_us: int, where: object) -> np.ndarray:
    """Times in units of `unit_us` as int64 microseconds."""
    if values.dtype.kind not in "iuf":
        raise ImportRefused(f"{where}: t is of type {values.dtype}; numbers are needed", code="type")
    if not values.size:
        return np.zeros(0, np.int64)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        at = int((~np.isfinite(values)).argmax())
        raise ImportRefused(f"{where}: t of event {at} is {values[at]}; it is a time", code="range")
    least, most = values.min().item(), values.max().item()
    if least < 0:
        raise ImportRefused(f"{where} has events before the time 0 (t from {least} on)", code="range")
    if most * unit_us >= LATEST:
        raise ImportRefused(f"{where} has events at t = {most}, beyond 2**62 microseconds", code="range")
    if values.dtype.kind == "f":
        return np.floor(values.astype(np.float64) * unit_us + 0.06).astype(np.int64)
    return values.astype(np.int64) * unit_us


# -- 5 bytes an event ----------------------------------------------------------------------------------------------


def five_bytes(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """A recording in the form of N-MNIST: for each event a byte of x, one of y, one bit of p and 23 of t.

    A row of 240 is no event: it says that 2**13 microseconds passed. Where there is none, the clock begins again after
    2**23 microseconds: a time that falls by more than half of that has passed its end. One that falls by less is late
    and goes to its place, also across the turn (by up to 2**16 microseconds).

    Raises
    ------
    DataNotFoundError, ImportRefused
        As `contents` and `checked_events`; bytes that are no whole number of events.
    """
    content = contents(path)
    if len(content) % 5:
        raise ImportRefused(f"{path} has {len(content)} bytes; 5 for each event are needed", code="size")
    rows = np.frombuffer(content, np.uint8).reshape(-1, 5).astype(np.int64)
    markers = rows[:, 1] == MARKER
    passed = (np.cumsum(markers) * MARKED)[~markers]
    rows = rows[~markers]
    time = (rows[:, 2] & 127) << 16 | rows[:, 3] << 8 | rows[:, 4]
    return checked_events(
        {"x": rows[:, 0], "y": rows[:, 1], "p": rows[:, 2] >> 7, "t": time + _turns(time) * CLOCK + passed}, shape, path
    )


def _turns(time: np.ndarray) -> np.ndarray:
    """How often the clock of each event has begun again."""
    change = np.diff(time, prepend=time[:1])
    found = np.zeros(len(time), np.int64)
    turns = 0
    for at in np.flatnonzero((change < -(CLOCK >> 1)) | (change > CLOCK - LATE)).tolist():
        step = 1 if change[at] < 0 else -1 if turns else 0  # before the first turn a long pause is what it seems
        turns += step
        found[at] = step
    return np.cumsum(found)


# -- Event Stream --------------------------------------------------------------------------------------------------


def stream_sensor(content: bytes, path: Path) -> tuple[int, int, int]:
    """Sensor of an Event Stream file of version 2 with DVS events.

    Raises
    ------
    ImportRefused
        A file of another kind.
    """
    if len(content) < 20 or content[:12] != b"Event Stream":
        raise ImportRefused(f"{path} does not begin as an Event Stream file", code="magic")
    if content[12] != 2 or content[15] != 1:
        raise ImportRefused(
            f"{path} is an Event Stream of version {content[12]}, type {content[15]}; version 2, type 1 is read"
        )
    width, height = (int.from_bytes(content[place : place + 2], "little") for place in (16, 18))
    if not (0 < width <= 4096 and 0 < height <= 4096):
        raise ImportRefused(f"{path} is of a sensor of {height}x{width} pixels; 1 to 4096 are possible")
    return 2, height, width


def event_stream(path: Path) -> np.ndarray:
    """Events of an Event Stream file: a byte of time (7 bits) and polarity, then x and y in 2 bytes each.

    0xff lets 127 microseconds pass, 0xfe is a reset. Rows count from below there, from above here.

    Raises
    ------
    DataNotFoundError, ImportRefused
        As `contents` and `checked_events`; a file that ends within an event.
    """
    content = contents(path)
    shape = stream_sensor(content, path)
    rows, time, i = [], 0, 20
    while i < len(content):
        head = content[i]
        i += 1
        if head >= 0xFE:
            time += 127 if head == 0xFF else 0
            continue
        if i + 4 > len(content):
            raise ImportRefused(f"{path} ends within an event", code="size")
        time += head >> 1
        x, y = content[i] | content[i + 1] << 8, content[i + 2] | content[i + 3] << 8
        rows.append((x, shape[1] - 1 - y, time, head & 1))
        i += 4
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    return checked_events(dict(zip("xytp", columns, strict=True)), shape, path)


# -- tables --------------------------------------------------------------------------------------------------------


def event_table(path: Path, columns: str, unit_us: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Events of a ``.npy`` file: numbers ``(N, 4)``, of any type, whose columns are named by `columns` (``"xypt"``).

    Raises
    ------
    DataNotFoundError, ImportRefused
        As `contents` and `checked_events`; anything else than such a table.
    """
    contents(path)  # what is no recording at all is said first
    table = read_npy(path, MOST_BYTES)
    if table.ndim != 2 or table.shape[1] != 4 or table.dtype.kind not in "iuf":
        raise ImportRefused(
            f"{path} holds {table.dtype} of shape {table.shape}; numbers (N, 4) with the columns {', '.join(columns)} "
            "are needed",
            code="shape",
        )
    return checked_events(dict(zip(columns, table.T, strict=True)), shape, path, unit_us)
