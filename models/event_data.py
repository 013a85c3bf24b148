"""Event recordings by name: public sets in the layouts that tonic reads, and streams that our camera makes of images.

=============================  =======================================================================================
``nmnist:train|test``          N-MNIST, ``NMNIST/{Train,Test}/<digit>/<id>.bin``; a part of the files will do
``dvs-gesture[:train|test]``   ``.bs2`` recordings with a list of labels; or tonic's ``DVSGesture`` folder
``poker-dvs[:train|test]``     Event Stream files (``.es``); or tonic's ``POKERDVS`` folder
``shd:train|test``             Spiking Heidelberg Digits, tonic's ``SHD`` folder
``mnist-saccades:train|test``  streams from MNIST; ``digits-saccades`` the same from the embedded digits
=============================  =======================================================================================

Each may end in ``:N``, the first N recordings. Folders are looked for under ``$INTSNN_DATA``. Nothing is ever
downloaded. This is the only module that imports tonic (GPL-3.0, extra ``events``), and only when recordings are read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets
from ..errors import DataNotFoundError, FormatError, ImportRefused, IntsnnError
from .saccades import CAMERA, EVENT, Camera, place, stream, stream_frames

__all__ = ["NAMES", "EventSet", "is_event_data", "load_events"]

VARIABLE = datasets.VARIABLE
MOST_BYTES = 256 << 20  # of one recording
GESTURES = (
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter clockwise",
    "left arm clockwise", "left arm counter clockwise", "arm roll", "air drums", "air guitar", "other gestures",
)  # fmt: skip
SUITS = ("cl", "he", "di", "sp")
SUIT_NAMES = ("club", "heart", "diamond", "spade")
IMAGES = {"mnist-saccades": "mnist", "digits-saccades": "digits"}
PARTS = {"nmnist": "test", "dvs-gesture": "", "poker-dvs": "", "shd": "test"} | dict.fromkeys(IMAGES, "test")
NAMES = tuple(PARTS)
GENERATED_SEED = 0


@dataclass(frozen=True, eq=False)
class EventSet:
    """Recordings of one sensor and what they show.

    Attributes
    ----------
    name : str
        What was loaded, in full.
    shape : (polarities, H, W)
        Of the sensor.
    labels : (N,) int64
    classes : tuple of str
    reader : function
        Recording i as a structured array with the fields x, y, t (microseconds, int64) and p (0 or 1), in time order.
    source : str
        Folder or set that it comes from.
    binned : function or None
        A way to frames that is shorter than through the events (`intsnn.models.event_frames.frame_set`).
    """

    name: str
    shape: tuple[int, int, int]
    labels: np.ndarray
    classes: tuple[str, ...]
    reader: Callable[[int], np.ndarray]
    source: str
    binned: Callable[..., None] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def events(self, index: int) -> np.ndarray:
        """Recording `index`; IndexError outside 0 .. len - 1."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has the recordings 0 to {len(self) - 1}, not {index}")
        return self.reader(index)


def is_event_data(spec: str) -> bool:
    """Whether `spec` begins with one of the `NAMES` of event data."""
    return str(spec).partition(":")[0] in PARTS


def load_events(spec: str, *, camera: Camera = CAMERA) -> EventSet:
    """The recordings that `spec` names: ``NAME[:train|:test][:N]``.

    Parameters
    ----------
    spec : str
    camera : Camera
        For the sets that are generated from images.

    Raises
    ------
    FormatError
        A spec that cannot be read, or more recordings asked for than there are.
    DataNotFoundError
        A folder that is not there, or the extra ``events`` is not installed.
    ImportRefused
        A file that is damaged (also when one of its recordings is read).
    """
    match = re.fullmatch(r"([^:]*)(?::(train|test))?(?::([0-9]+))?", str(spec))
    if match is None or match[1] not in PARTS:
        raise FormatError(f"unknown event data {spec!r}: NAME[:train|:test][:N] with one of {', '.join(NAMES)}")
    name, part, count = match[1], match[2] or PARTS[match[1]], int(match[3]) if match[3] else None
    if count == 0:
        raise FormatError(f"{spec!r} asks for 0 recordings; N is at least 1")
    if name in IMAGES:
        return _generated(name, part, count, camera)
    found = {"nmnist": _nmnist, "dvs-gesture": _gesture, "poker-dvs": _poker, "shd": _shd}[name](part)
    if count is None:
        return found
    if count > len(found):
        raise FormatError(f"{found.name} has {len(found)} recordings, {count} are asked for")
    return EventSet(
        f"{found.name}:{count}", found.shape, found.labels[:count], found.classes, found.reader, found.source
    )


# -- generated -----------------------------------------------------------------------------------------------------


def _generated(name: str, part: str, count: int | None, camera: Camera) -> EventSet:
    spec = f"{IMAGES[name]}:{part}" + (f":{count}" if count else "")
    images = datasets.load(spec)
    placed = place(images.images, images.maximum, camera)
    number = ("train", "test").index(part)
    common: dict[str, Any] = {"camera": camera, "seed": GENERATED_SEED, "part": number}

    def binned(indices: np.ndarray, out: np.ndarray, **options: Any) -> None:
        stream_frames(placed[indices], indices, out, **options, **common)

    return EventSet(
        name=images.name.replace(IMAGES[name], name, 1),
        shape=(2, camera.rows, camera.columns),
        labels=np.asarray(images.labels),
        classes=images.classes,
        reader=lambda index: stream(placed[index], index, **common),
        source=f"made from {images.source}",
        binned=binned,
    )


# -- folders -------------------------------------------------------------------------------------------------------


def _root(name: str, layout: str) -> Path:
    root = os.environ.get(VARIABLE)
    if not root:
        raise DataNotFoundError(
            f"{name} is looked for under the folder that the environment variable {VARIABLE} names, and it is not set; "
            f"set it to a folder that holds {layout}"
        )
    return Path(root)


def _missing(name: str, layout: str) -> DataNotFoundError:
    return DataNotFoundError(f"{name} is not under {VARIABLE}={os.environ.get(VARIABLE)}: looked for {layout}")


def _bytes(path: Path) -> bytes:
    """The whole of a file that is not too large."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ImportRefused(f"{path} has {path.stat().st_size:,} bytes; a recording has at most {MOST_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        if isinstance(error, IntsnnError):
            raise
        raise DataNotFoundError(f"{path} cannot be read: {error.strerror or error}") from error


def _tonic(module: str) -> Any:
    """A module of tonic."""
    import importlib

    try:
        import tonic  # noqa: F401
    except ImportError as error:
        raise DataNotFoundError(
            f"event recordings are read with {error.name}, which is not installed: pip install intsnn[events]"
        ) from error
    return importlib.import_module(f"tonic.{module}")


def _checked(found: Any, shape: tuple[int, int, int], where: object) -> np.ndarray:
    """Events of any reader as `EVENT`, in order of time; refused where they are not of this sensor."""
    ends = {}
    for name, top in (("x", shape[2]), ("y", shape[1]), ("p", shape[0])):
        values = found[name].astype(np.int64)
        ends[name] = values
        if values.size and (values.min() < 0 or values.max() >= top):
            raise ImportRefused(
                f"{where} has events with {name} from {values.min()} to {values.max()}; the sensor has 0 to {top - 1}",
                code="range",
            )
    time = found["t"].astype(np.int64)
    if time.size and time.min() < 0:
        raise ImportRefused(f"{where} has events before the time 0", code="range")
    events = np.empty(len(time), EVENT)
    events["t"] = time
    for name, values in ends.items():
        events[name] = values
    if time.size and (np.diff(time) < 0).any():
        events = events[np.argsort(time, kind="stable")]
    return events


def _five_bytes(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """A recording in the form of N-MNIST: 5 bytes an event."""
    content = _bytes(path)
    if len(content) % 5:
        raise ImportRefused(f"{path} has {len(content)} bytes; 5 for each event are needed", code="size")
    kind = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.int64)])
    return _checked(_tonic("io").read_mnist_file(BytesIO(content), kind, is_stream=True), shape, path)


def _nmnist(part: str) -> EventSet:
    folder, shape = part.capitalize(), (2, 34, 34)
    layout = f"NMNIST/{folder}/<digit>/<id>.bin"
    root = _root("nmnist", layout)
    for place_ in (root / "nmnist" / "NMNIST", root / "NMNIST"):
        files = sorted((place_ / folder).glob("[0-9]/*.bin"), key=lambda path: (path.stem.zfill(9), path.parent.name))
        if files:
            break
    else:
        raise _missing(f"nmnist:{part}", layout)
    labels = np.array([int(path.parent.name) for path in files], np.int64)
    return EventSet(
        f"nmnist:{part}", shape, labels, datasets.DIGITS, lambda index: _five_bytes(files[index], shape), str(place_)
    )


def _gesture(part: str) -> EventSet:
    shape, layout = (2, 128, 128), "dvs-gesture/<n>.bs2 with INFERRED_LABELS.txt, or tonic's DVSGesture folder"
    root = _root("dvs-gesture", layout)
    folder = root / "dvs-gesture"
    files = sorted(folder.glob("*.bs2"), key=lambda path: path.stem.zfill(9))
    if files and not part:
        classes = _gesture_labels(folder / "INFERRED_LABELS.txt")
        if any(path.stem not in classes for path in files):
            raise ImportRefused(f"{folder / 'INFERRED_LABELS.txt'} does not name every .bs2 file beside it")
        labels = np.array([classes[path.stem] for path in files], np.int64)
        return EventSet(
            "dvs-gesture", shape, labels, GESTURES, lambda index: _five_bytes(files[index], shape), str(folder)
        )
    if files:
        layout = "tonic's DVSGesture folder; the .bs2 files that are there have no parts: they are dvs-gesture"
    part = part or "test"
    return _by_tonic("dvs-gesture", "DVSGesture", part, shape, GESTURES, "*.npy", layout, (root, folder))


def _gesture_labels(path: Path) -> dict[str, int]:
    """Lines "name class-from-1 ...": the label of each file by its name without the ending."""
    found = {}
    for line in _bytes(path).decode("utf-8", "replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 2 or not words[1].isdecimal() or not 1 <= int(words[1]) <= len(GESTURES):
            raise ImportRefused(f"{path}: the line {line[:40]!r} is no file and class from 1 to {len(GESTURES)}")
        found[words[0]] = int(words[1]) - 1
    return found


def _poker(part: str) -> EventSet:
    layout = "poker-dvs/<name>.es, or tonic's POKERDVS folder"
    root = _root("poker-dvs", layout)
    folder = root / "poker-dvs"
    files = sorted(path for path in folder.glob("*.es") if _suit(path) is not None)
    if files and not part:
        shapes = {_stream_header(_bytes(path)[:20], path) for path in files}
        if len(shapes) > 1:
            raise ImportRefused(f"{folder}: the recordings are of sensors of {len(shapes)} sizes; one is possible")
        shape = shapes.pop()
        labels = np.array([_suit(path) for path in files], np.int64)
        return EventSet("poker-dvs", shape, labels, SUIT_NAMES, lambda index: _event_stream(files[index]), str(folder))
    if files:
        layout = "tonic's POKERDVS folder; the .es files that are there have no parts: they are poker-dvs"
    part, shape = part or "test", (2, 35, 35)
    return _by_tonic("poker-dvs", "POKERDVS", part, shape, SUIT_NAMES, "*.npy", layout, (root, folder))


def _suit(path: Path) -> int | None:
    """Class of a symbol by the name of its file: ``trcl0`` is a club for training."""
    match = re.fullmatch(r"(?:tr|te)?(cl|he|di|sp)[0-9]*", path.stem)
    return SUITS.index(match[1]) if match else None


def _stream_header(content: bytes, path: Path) -> tuple[int, int, int]:
    """Sensor of an Event Stream file of version 2 with DVS events."""
    if len(content) < 20 or content[:12] != b"Event Stream":
        raise ImportRefused(f"{path} does not begin as an Event Stream file", code="magic")
    if content[12] != 2 or content[15] != 1:
        raise ImportRefused(
            f"{path} is an Event Stream of version {content[12]}, type {content[15]}; version 2, type 1 is read"
        )
    width, height = (int.from_bytes(content[place_ : place_ + 2], "little") for place_ in (16, 18))
    if not (0 < width <= 4096 and 0 < height <= 4096):
        raise ImportRefused(f"{path} is of a sensor of {height}x{width} pixels; 1 to 4096 are possible")
    return 2, height, width


def _event_stream(path: Path) -> np.ndarray:
    """Events of an Event Stream file: a byte of time (7 bits) and polarity, then x and y in 2 bytes each.

    0xff lets 127 microseconds pass, 0xfe is a reset. Rows count from below there, from above here.
    """
    content = _bytes(path)
    shape = _stream_header(content, path)
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
    kind = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.int64)])
    return _checked(np.array(rows, kind), shape, path)


# -- tonic's own data sets -----------------------------------------------------------------------------------------


def _by_tonic(
    name: str, kind: str, part: str, shape: tuple[int, int, int], classes: tuple[str, ...] | None, pattern: str,
    layout: str, places: tuple[Path, ...],
) -> EventSet:  # fmt: skip
    """A data set of tonic, from the first of `places` that has its folder with files; it never downloads."""
    place_ = next((found for found in places if any((found / kind).rglob(pattern))), None)
    if place_ is None:
        raise _missing(f"{name}:{part}", layout)

    def refuse(self: Any) -> None:
        raise _missing(f"{name}:{part}", f"the files of that part in {place_ / kind}")

    def present(self: Any) -> bool:
        found = Path(self.location_on_system, getattr(self, "data_filename", self.folder_name))
        return found.is_file() if found.suffix == ".h5" else any(found.rglob(pattern))

    base = getattr(_tonic("datasets"), kind)
    own = type(kind, (base,), {"download": refuse, "_copy_and_extract_local_data": refuse, "_check_exists": present})
    try:
        found = own(str(place_), train=part == "train")
        labels = np.array(found.targets if len(found.targets) else _hdf5_labels(found), np.int64)
        if classes is None:
            classes = tuple(item.decode("utf-8", "replace") for item in found.classes)
    except IntsnnError:
        raise
    except Exception as error:
        raise ImportRefused(f"{place_ / kind}: tonic cannot read it ({type(error).__name__}: {error})") from error
    if labels.ndim != 1 or (labels.size and not 0 <= labels.min() <= labels.max() < len(classes)):
        raise ImportRefused(f"{place_ / kind} has labels outside 0 .. {len(classes) - 1}", code="label")

    def read(index: int) -> np.ndarray:
        where = f"{place_ / kind}, {part} recording {index}"
        try:
            events = found[index][0]
        except Exception as error:
            raise ImportRefused(f"{where}: tonic cannot read it ({type(error).__name__}: {error})") from error
        if "y" not in events.dtype.names:  # a cochlea: channels are columns, and there is one polarity
            flat = np.zeros(len(events), EVENT)
            flat["t"] = events["t"]
            if len(events) and not 0 <= events["x"].min() <= events["x"].max() < shape[2]:
                raise ImportRefused(f"{where} has channels outside 0 .. {shape[2] - 1}", code="range")
            flat["x"] = events["x"]
            events = flat
        return _checked(events, shape, where)

    return EventSet(f"{name}:{part}", shape, labels, classes, read, str(place_ / kind))


def _hdf5_labels(found: Any) -> list[int]:
    """Labels of a data set whose class keeps them in its file only."""
    return [int(found[index][1]) for index in range(len(found))]


def _shd(part: str) -> EventSet:
    layout = "tonic's SHD folder with shd_train.h5 and shd_test.h5"
    root = _root("shd", layout)
    return _by_tonic("shd", "SHD", part, (1, 1, 700), None, "*.h5", layout, (root, root / "shd"))
