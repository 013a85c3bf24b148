"""Event recordings by name: public sets in the layouts that are about, and streams that our camera makes of images.

=============================  =======================================================================================
``nmnist:train|test``          N-MNIST, ``NMNIST/{Train,Test}/<digit>/<id>.bin``; a part of the files will do
``dvs-gesture``                ``.bs2`` recordings with a list of labels
``dvs-gesture:train|test``     ``DVSGesture/ibmGesture{Train,Test}/<user>/<class>.npy``
``poker-dvs``                  Event Stream files (``.es``)
``poker-dvs:train|test``       ``POKERDVS/pips_{train,test}/<suit>/<name>.npy``
``shd:train|test``             Spiking Heidelberg Digits, ``SHD/shd_{train,test}.h5``
``mnist-saccades:train|test``  streams from MNIST; ``digits-saccades`` the same from the embedded digits
=============================  =======================================================================================

Each may end in ``:N``, the first N recordings. Folders are looked for under ``$INTSNN_DATA``; the order of recordings
follows from their names alone, and what begins with a dot is none. Nothing is ever downloaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataNotFoundError, FormatError, ImportRefused, RangeError, ShapeError
from ..files.hdf5 import read_tree
from ..formats.arguments import choice, instance, shown, text, whole
from . import catalogue as datasets
from .camera import CAMERA, Camera, place, stream, stream_frames
from .event_files import checked_events, contents, event_stream, event_table, five_bytes, stream_sensor
from .overlap import digests

__all__ = ["NAMES", "EventSet", "is_event_data", "load_events"]

VARIABLE = datasets.VARIABLE
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
HEIDELBERG_BYTES = 4 << 30  # of all spikes of a part


class NoRecording(RangeError, IndexError):
    """A number that no recording of a set has."""


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
        A way to frames that is shorter than through the events (`intsnn.datasets.framing.frame_set`).
    contents : function or None
        What `digests` answers, where that is known without the events.
    """

    name: str
    shape: tuple[int, int, int]
    labels: np.ndarray
    classes: tuple[str, ...]
    reader: Callable[[int], np.ndarray]
    source: str
    binned: Callable[..., None] | None = None
    contents: Callable[[], list[bytes]] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def events(self, index: int) -> np.ndarray:
        """Recording `index`; an IndexError of ours outside 0 .. len - 1, FormatError for what is no integer."""
        index = whole(index, f"{self.name}: index")
        if not 0 <= index < len(self):
            raise NoRecording(f"{self.name}: index: found {shown(index)}; the recordings are 0 to {len(self) - 1}")
        return self.reader(index)

    def digests(self) -> list[bytes]:
        """What each recording is known by (`intsnn.datasets.overlap`): its events, or the image it was made from."""
        return self._known

    @cached_property
    def _known(self) -> list[bytes]:
        if self.contents is not None:
            return self.contents()
        found = []
        for index in range(len(self)):
            events = self.events(index)
            found += digests(np.stack([np.asarray(events[name], np.int64) for name in "xytp"])[None])
        return found


def is_event_data(spec: str) -> bool:
    """Whether `spec` begins with one of the `NAMES` of event data."""
    return text(spec, "spec").partition(":")[0] in PARTS


def load_events(spec: str, part: str = "test", *, camera: Camera = CAMERA) -> EventSet:
    """The recordings that `spec` names: ``NAME[:train|:test][:N]``.

    Parameters
    ----------
    spec : str
    part : {"test", "train"}
        What is taken where `spec` names no part, of a set that has parts.
    camera : Camera
        For the sets that are generated from images.

    Raises
    ------
    FormatError
        A spec that cannot be read, or more recordings asked for than there are.
    DataNotFoundError
        A folder that is not there.
    ImportRefused
        A file that is damaged (also when one of its recordings is read).
    """
    match = re.fullmatch(r"([^:]*)(?::(train|test))?(?::([0-9]{1,18}))?", text(spec, "spec"))
    instance(camera, "camera", Camera)
    choice(part, "part", ("test", "train"))
    if match is None or match[1] not in PARTS:
        raise FormatError(f"unknown event data {spec!r}: NAME[:train|:test][:N] with one of {', '.join(NAMES)}")
    name, given, count = match[1], match[2] or (PARTS[match[1]] and part), int(match[3]) if match[3] else None
    if count == 0:
        raise FormatError(f"{spec!r} asks for 0 recordings; N is at least 1")
    if name in IMAGES:
        return _generated(name, given, count, camera)
    reader = {"nmnist": _nmnist, "dvs-gesture": _gesture, "poker-dvs": _poker, "shd": _shd}[name]
    found = reader(given)
    if not given and found.name == f"{name}:test" != f"{name}:{part}":  # the folder has parts
        found = reader(part)
    if not len(found):
        raise ShapeError(f"{found.name}: there is no recording in {found.source}; at least one is needed")
    if count is None:
        return found
    if count > len(found):
        raise FormatError(f"{found.name} has {len(found)} recordings, {count} are asked for")
    return replace(found, name=f"{found.name}:{count}", labels=found.labels[:count])


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
        contents=lambda: digests(images.images),  # a stream of the same image is the same thing to learn
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


def _found(folder: Path, pattern: str) -> list[Path]:
    """Files below a folder in the order of their paths, whatever that on the disk; what is hidden is left out."""
    paths = (path.relative_to(folder) for path in folder.glob(pattern))
    visible = (path for path in paths if not any(part.startswith(".") for part in path.parts))
    return [folder / path for path in sorted(visible, key=Path.as_posix)]


def _by_number(paths: list[Path]) -> list[Path]:
    """Paths by the number that is their name, so that the first few are of many classes."""
    return sorted(paths, key=lambda path: path.stem.zfill(9))


def _recordings(
    name: str, shape: tuple[int, int, int], labels: list[int], classes: tuple[str, ...], files: list[Path],
    read: Callable[[Path], np.ndarray], source: Path,
) -> EventSet:  # fmt: skip
    """A set with a file for each recording."""
    return EventSet(name, shape, np.array(labels, np.int64), classes, lambda index: read(files[index]), str(source))


def _nmnist(part: str) -> EventSet:
    folder, shape = part.capitalize(), (2, 34, 34)
    layout = f"NMNIST/{folder}/<digit>/<id>.bin"
    root = _root("nmnist", layout)
    for place_ in (root / "nmnist" / "NMNIST", root / "NMNIST"):
        files = _by_number(_found(place_ / folder, "[0-9]/*.bin"))
        if files:
            break
    else:
        raise _missing(f"nmnist:{part}", layout)
    labels = [int(path.parent.name) for path in files]
    return _recordings(
        f"nmnist:{part}", shape, labels, datasets.DIGITS, files, lambda path: five_bytes(path, shape), place_
    )


def _gesture(part: str) -> EventSet:
    shape = (2, 128, 128)
    layout = "dvs-gesture/<n>.bs2 with INFERRED_LABELS.txt, or DVSGesture/ibmGestureTest/<user>/<class>.npy"
    root = _root("dvs-gesture", layout)
    folder = root / "dvs-gesture"
    files = _by_number(_found(folder, "*.bs2"))
    if files and not part:
        classes = _gesture_labels(folder / "INFERRED_LABELS.txt")
        if any(path.stem not in classes for path in files):
            raise ImportRefused(f"{folder / 'INFERRED_LABELS.txt'} does not name every .bs2 file beside it")
        labels = [classes[path.stem] for path in files]
        return _recordings(
            "dvs-gesture", shape, labels, GESTURES, files, lambda path: five_bytes(path, shape), folder
        )  # fmt: skip
    part = part or "test"
    own = f"DVSGesture/ibmGesture{part.capitalize()}"
    if files:
        layout = f"{own}; the .bs2 files that are there have no parts: they are dvs-gesture"

    def label(path: Path) -> int:
        if not path.stem.isdecimal() or int(path.stem) >= len(GESTURES):
            raise ImportRefused(f"{path}: the name is no class from 0 to {len(GESTURES) - 1}", code="label")
        return int(path.stem)

    return _tables(f"dvs-gesture:{part}", own, "*/*.npy", layout, (root, folder), label, "xypt", 1000, shape, GESTURES)


def _gesture_labels(path: Path) -> dict[str, int]:
    """Lines "name class-from-1 ...": the label of each file by its name without the ending."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise DataNotFoundError(f"{path} cannot be read: {error.strerror or error}") from error
    found = {}
    for line in lines:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 2 or not words[1].isdecimal() or not 1 <= int(words[1]) <= len(GESTURES):
            raise ImportRefused(f"{path}: the line {line[:40]!r} is no file and class from 1 to {len(GESTURES)}")
        found[words[0]] = int(words[1]) - 1
    return found


def _poker(part: str) -> EventSet:
    layout = "poker-dvs/<name>.es, or POKERDVS/pips_test/<suit>/<name>.npy"
    root = _root("poker-dvs", layout)
    folder = root / "poker-dvs"
    files = [path for path in _found(folder, "*.es") if _suit(path) is not None]
    if files and not part:
        shapes = {stream_sensor(contents(path)[:20], path) for path in files}
        if len(shapes) > 1:
            raise ImportRefused(f"{folder}: the recordings are of sensors of {len(shapes)} sizes; one is possible")
        labels = [_suit(path) or 0 for path in files]
        return _recordings("poker-dvs", shapes.pop(), labels, SUIT_NAMES, files, event_stream, folder)
    part = part or "test"
    own = f"POKERDVS/pips_{part}"
    if files:
        layout = f"{own}; the .es files that are there have no parts: they are poker-dvs"

    def label(path: Path) -> int:
        if path.parent.name not in SUITS:
            raise ImportRefused(f"{path}: its folder is none of {', '.join(SUITS)}", code="label")
        return SUITS.index(path.parent.name)

    return _tables(
        f"poker-dvs:{part}", own, "[cdhs][eilp]/*.npy", layout, (root, folder), label, "txyp", 1, (2, 35, 35),
        SUIT_NAMES,
    )  # fmt: skip


def _suit(path: Path) -> int | None:
    """Class of a symbol by the name of its file: ``trcl0`` is a club for training."""
    match = re.fullmatch(r"(?:tr|te)?(cl|he|di|sp)[0-9]*", path.stem)
    return SUITS.index(match[1]) if match else None


def _tables(
    name: str, folder: str, pattern: str, layout: str, places: tuple[Path, ...], label: Callable[[Path], int],
    columns: str, unit_us: int, shape: tuple[int, int, int], classes: tuple[str, ...],
) -> EventSet:  # fmt: skip
    """Recordings as tables of NumPy, from the first of `places` that has the folder with files."""
    for place_ in places:
        files = _found(place_ / folder, pattern)
        if files:
            break
    else:
        raise _missing(name, layout)
    labels = [label(path) for path in files]
    return _recordings(
        name, shape, labels, classes, files, lambda path: event_table(path, columns, unit_us, shape), place_ / folder
    )


def _shd(part: str) -> EventSet:
    layout, shape = f"SHD/shd_{part}.h5", (1, 1, 700)
    root = _root("shd", layout)
    path = next((path for path in (root / layout, root / "shd" / layout) if path.is_file()), None)
    if path is None:
        raise _missing(f"shd:{part}", layout)
    rows = ("spikes/times", "spikes/units")
    tree = read_tree(path, budget=HEIDELBERG_BYTES, timeout=600, ragged=rows)
    needed = (*rows, *(f"{name}:lengths" for name in rows), "labels", "extra/keys")
    for name in needed:
        if name not in tree.datasets:
            raise ImportRefused(
                f"{path} has no {name.partition(':')[0]} as the Heidelberg digits have it", code="field"
            )
    times, units, lengths, others, labels, keys = (tree.datasets[name] for name in needed)
    classes = tuple(str(key) for key in keys.reshape(-1))
    if not np.array_equal(lengths, others) or labels.shape != lengths.shape:
        raise ImportRefused(
            f"{path} has rows of times, of units and labels that do not belong together: {len(lengths)}, {len(others)} "
            f"and {labels.shape}",
            code="shape",
        )
    if labels.dtype.kind not in "iu" or (labels.size and not 0 <= labels.min() <= labels.max() < len(classes)):
        raise ImportRefused(f"{path} has labels outside 0 .. {len(classes) - 1}", code="label")
    ends = np.cumsum(lengths)

    def read(index: int) -> np.ndarray:
        own = slice(ends[index] - lengths[index], ends[index])
        nothing = np.zeros(lengths[index], np.uint8)  # channels are columns, and there is one polarity
        found = {"x": units[own], "y": nothing, "p": nothing, "t": times[own]}
        return checked_events(found, shape, f"{path}, recording {index}", 1_000_000)

    return EventSet(f"shd:{part}", shape, labels.astype(np.int64), classes, read, str(path.parent))
