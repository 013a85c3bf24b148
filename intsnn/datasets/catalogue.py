"""Where data come from: the embedded digits, the public sets under ``$INTSNN_DATA``, and files of the user.

One function, `load`, takes a short text::

    NAME[:train|:test][:N]      digits, mnist:train, cifar10-test1900:test:100
    PATH[:train|:test][:N]      my.npz, my.h5:50

The part is ``test`` unless given (``train`` for what is learned or calibrated with); ``N`` takes the first N. Labels
and pixel codes come back as integers, images as ``(N, C, H, W)``: a pixel of code c stands for the value
c / `Dataset.maximum`.

Nothing is ever downloaded: a set that is missing is an error that says where it was looked for and what it is.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..errors import DataNotFoundError, FormatError, ImportRefused, ShapeError
from ..formats.arguments import choice, path_of, whole
from . import decoders
from .overlap import digests
from .splitmix import shuffled

__all__ = ["NAMES", "Dataset", "full_scale", "load"]

VARIABLE = "INTSNN_DATA"
DIGITS = tuple("0123456789")
DIGITS_TRAIN = 1437  # the rest, 360, is for testing
GARMENTS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
JPEG_SEED = 0  # of the permutation of cifar10-jpeg, see `shuffled`


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images as integer codes, and what they show.

    Attributes
    ----------
    name : str
        What was loaded, in full: ``"digits:test:100"``.
    images : ndarray of uint8 (other integers are possible in files of the user), shape (N, C, H, W) or (N, features)
    labels : ndarray of int64, shape (N,), or (N, H, W) where every pixel has one, or None
    classes : tuple of str
        Name of each label, ``()`` without labels.
    maximum : int
        The code that stands for the value 1: 16 for digits, 255 for bytes.
    source : str
        File or folder that was read.
    lossless : bool
        False where the pixels differ from the original set (JPEG).
    notes : str
        What a reader of a result has to know.
    targets : ndarray of float64, shape (N, K), or None
        Real values to be reached, in place of labels.
    assumed : str
        Where `maximum` was not said but taken from a look at the codes: how. Else ``""``.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None
    classes: tuple[str, ...]
    maximum: int
    source: str
    lossless: bool = True
    notes: str = ""
    targets: np.ndarray | None = None
    assumed: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def digests(self) -> list[bytes]:
        """What each sample is known by (`intsnn.datasets.overlap`): its codes."""
        return digests(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image, ``(C, H, W)``."""
        return self.images.shape[1:]

    @property
    def scale(self) -> Fraction:
        """Value of one code: 1 / `maximum`."""
        return Fraction(1, self.maximum)


@dataclass(frozen=True)
class _Part:
    """One part of a set as its files hold it."""

    images: np.ndarray
    labels: np.ndarray | None
    source: str
    maximum: int = 255
    lossless: bool = True
    notes: str = ""
    targets: np.ndarray | None = None
    assumed: str = ""


def load(spec: str | os.PathLike[str], part: str = "test") -> Dataset:
    """The data that `spec` names.

    Parameters
    ----------
    spec : str or path
        ``NAME[:train|:test][:N]`` with a name of `NAMES`, or ``PATH[:train|:test][:N]`` of a ``.npz`` or ``.h5`` file.

        The arrays of a file are ``x`` or ``images`` and, if it has labels, ``y`` or ``labels``; for a part that
        is named, and where the plain names are missing, ``x_train``, ``y_train``, ``x_test``, ``y_test``. Images are
        integers, shape (N, C, H, W), (N, H, W) or (N, features); labels are whole numbers, and floats of shape (N,) or
        (N, K) are targets of a regression. Optional are ``maximum`` (a number: the code of value 1; without it
        `full_scale` of the codes in all parts) and ``layout`` (the text ``NCHW`` or ``NHWC``).
    part : {"test", "train"}
        What is taken where `spec` names no part. What is learned or calibrated with is loaded with ``"train"``: of a
        file without parts that is the whole, of one that has ``x_train`` that.

    Returns
    -------
    Dataset

    Raises
    ------
    FormatError
        A spec that cannot be read, or more images asked for than there are.
    DataNotFoundError
        A set or file that is not there.
    ImportRefused, ShapeError
        A file that is damaged, or holds arrays that cannot be images and labels, or no image.

    Examples
    --------
    >>> digits = load("digits:test")
    >>> digits.images.shape, digits.images.dtype.name, digits.maximum
    ((360, 1, 8, 8), 'uint8', 16)
    >>> len(load("digits:train:100"))
    100
    """
    choice(part, "part", ("test", "train"))
    name, given, count = _parse(spec if isinstance(spec, str) else path_of(spec, "spec"))
    if name in _SETS:
        reader, classes = _SETS[name]
        found = reader(given or part, count)
        label = f"{name}:{given or part}"
    elif name.endswith((".npz", ".h5", ".hdf5")):
        found, classes, of = _read_file(Path(name), given, part)
        label = f"{name}:{of}" if of else name
    else:
        raise FormatError(
            f"unknown data set {name!r}: one of {', '.join(NAMES)}, or a path that ends in .npz or .h5, "
            "each with an optional :train or :test and :N"
        )
    images, labels, targets = found.images, found.labels, found.targets
    for what, values in (("labels", labels), ("targets", targets)):
        if values is not None and len(values) != len(images):
            raise ShapeError(f"{found.source}: {len(images)} images and {len(values)} {what}; one for each is needed")
    if not len(images):
        raise ShapeError(f"{label}: there is no image in {found.source}; at least one is needed")
    if count is not None:
        if count > len(images):
            raise FormatError(f"{label} has {len(images)} images, {count} are asked for")
        images, labels = images[:count], None if labels is None else labels[:count]
        targets = None if targets is None else targets[:count]
        label = f"{label}:{count}"
    return Dataset(
        name=label,
        images=np.require(images, images.dtype.newbyteorder("="), ["C", "W"]),
        labels=None if labels is None else np.ascontiguousarray(labels, np.int64),
        classes=classes,
        maximum=found.maximum,
        source=found.source,
        lossless=found.lossless,
        notes=found.notes,
        targets=targets,
        assumed=found.assumed,
    )


def full_scale(low: int, high: int) -> int:
    """The code of value 1 where nobody says it, from the least and the largest code that occur.

    The least ``2^k - 1`` that holds them (255 for bytes of images, 127 for signed bytes), but a power of two up to 64
    that is the largest code stands for itself: 0 .. 16 are sixteenths.

    >>> [full_scale(0, high) for high in (1, 9, 15, 16, 100, 128, 255, 256)]
    [1, 15, 15, 16, 127, 255, 255, 511]
    """
    low, high = whole(low, "low", -(1 << 63), (1 << 64) - 1), whole(high, "high", -(1 << 63), (1 << 64) - 1)
    most = max(high, -low - 1, 1)
    return most if most <= 64 and most & (most - 1) == 0 else (1 << most.bit_length()) - 1


def _parse(spec: str) -> tuple[str, str, int | None]:
    """Split a spec from the right, so that a path may hold colons."""
    name, part, count = spec, "", None
    if match := re.fullmatch(r"(.*):([0-9]+)", name):
        name, count = match[1], int(match[2])
        if count == 0:
            raise FormatError(f"{spec!r} asks for 0 images; N is at least 1")
    if match := re.fullmatch(r"(.*):(train|test)", name):
        name, part = match[1], match[2]
    if not name:
        raise FormatError(f"{spec!r} names no data set; the names are {', '.join(NAMES)}")
    return name, part, count


def _find(name: str, places: tuple[tuple[str, tuple[str, ...]], ...], advice: str) -> tuple[Path, tuple[str, ...]]:
    """The first place under ``$INTSNN_DATA`` that holds all its files (plain or ``.gz``), and those files.

    Each of `places` is a folder and the files that it must hold.
    """
    root = os.environ.get(VARIABLE)
    if not root:
        folder, files = places[0]
        raise DataNotFoundError(
            f"{name} is looked for under the folder that the environment variable {VARIABLE} names, and it is not "
            f"set; set it to a folder that holds {folder}/{files[0]}; {advice}"
        )
    for folder, files in places:
        if all(_existing(Path(root) / folder / file) for file in files):
            return Path(root) / folder, files
    looked = ", ".join(str(Path(root) / folder / files[0]) for folder, files in places)
    raise DataNotFoundError(
        f"{name} is not under {VARIABLE}={root}: looked for {looked} and what goes with it; {advice}"
    )


def _find_file(name: str, file: str, advice: str) -> Path:
    """One file of a set that lives beside CIFAR-10 or in a folder of its own."""
    folder, _ = _find(name, (("cifar10", (file,)), (name, (file,))), advice)
    return folder / file


def _existing(path: Path) -> Path | None:
    """The file, or else the same with ``.gz``, or else None."""
    for candidate in (path, path.with_name(path.name + ".gz")):
        if candidate.is_file():
            return candidate
    return None


def _digits(part: str, count: int | None) -> _Part:
    path = Path(__file__).parent / "data" / "digits.npz"
    arrays = decoders.read_npz(path, ("x", "y"))
    chosen = slice(0, DIGITS_TRAIN) if part == "train" else slice(DIGITS_TRAIN, None)
    note = "UCI handwritten digits, CC BY 4.0; pixel codes 0..16; the split follows the file and is not random"
    return _Part(arrays["x"][chosen], arrays["y"][chosen], str(path), maximum=16, notes=note)


def _segments(name: str, train: int, test: int) -> Callable[[str, int | None], _Part]:
    """Reader of pictures that are made from the digits of another set, with a class for every pixel."""

    def read(part: str, count: int | None) -> _Part:
        from .segments import compose

        most, seed = (train, 1) if part == "train" else (test, 2)
        if count is not None and count > most:
            raise FormatError(f"{name}-segments:{part} has {most} images, {count} are asked for")
        reader, _ = _SETS[name]
        single = reader(part, None)
        labels = np.asarray(single.labels, np.int64)
        images, classes = compose(single.images, labels, single.maximum, count or most, seed)
        note = f"made by intsnn from {name}:{part}: several digits and fragments in a picture, a class for each pixel"
        return _Part(images, classes, single.source, single.maximum, single.lossless, note)

    return read


def _idx(name: str, folders: tuple[str, ...], advice: str) -> Callable[[str, int | None], _Part]:
    """Reader of a set in the four files of MNIST."""

    def read(part: str, count: int | None) -> _Part:
        stem = "train" if part == "train" else "t10k"
        files = (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
        folder, _ = _find(name, tuple((folder, files) for folder in folders), advice)
        images, labels = (
            decoders.read_idx(_existing(folder / file) or folder / file, axes)
            for file, axes in zip(files, (3, 1), strict=True)
        )
        if images.shape[1:] != (28, 28):
            raise ImportRefused(f"{folder / files[0]} has images of {images.shape[1:]}, not 28x28", code="size")
        if labels.size and labels.max() > 9:
            raise ImportRefused(f"{folder / files[1]} has the label {labels.max()}, 0..9 are expected", code="label")
        return _Part(images[:, None], labels, str(folder))

    return read


def _cifar10(part: str, count: int | None) -> _Part:
    stems = tuple(f"data_batch_{i}" for i in range(1, 6)) if part == "train" else ("test_batch",)
    binary, python = tuple(f"{stem}.bin" for stem in stems), stems
    folder, files = _find(
        "cifar10",
        tuple(
            (place, files)
            for version, files in (("cifar-10-batches-bin", binary), ("cifar-10-batches-py", python))
            for place in (f"cifar10/{version}", version, "cifar10")
        ),
        "get the canonical CIFAR-10 archive, binary or python version, and unpack it there "
        "(torchvision.datasets.CIFAR10(root, download=True) does so)",
    )
    read = decoders.read_cifar_binary if files == binary else decoders.read_cifar_pickle
    batches = [read(folder / file) for file in files]
    return _Part(np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches]), str(folder))


def _cifar10_part(part: str, count: int | None) -> _Part:
    file = "cifar10_train4000.npz" if part == "train" else "cifar10_test1900.npz"
    advice = (
        "it holds lossless CIFAR-10 images: x uint8 [N, 3, 32, 32] and y [N]; any such part of the canonical set "
        "can take its place"
    )
    path = _find_file("cifar10-test1900", file, advice)
    arrays = decoders.read_npz(path, ("x", "y"))
    _check_images(arrays, path, (3, 32, 32))
    return _Part(arrays["x"], arrays["y"], str(path), notes="a part of CIFAR-10, pixels as published")


def _cifar10_jpeg(part: str, count: int | None) -> _Part:
    file = f"cifar10_jpeg_{part}.npz"
    advice = (
        "it holds CIFAR-10 stored as JPEG files: jpeg uint8 (all files end to end), offsets int64 [N + 1], labels [N]"
    )
    path = _find_file("cifar10-jpeg", file, advice)
    arrays = decoders.read_npz(path, ("jpeg", "offsets", "labels"))
    if len(arrays) != 3 or any(a.ndim != 1 or a.dtype.kind not in "iu" for a in arrays.values()):
        raise ImportRefused(f"{path} needs three whole-number arrays jpeg, offsets and labels, one axis each")
    content, offsets, labels = arrays["jpeg"], arrays["offsets"].astype(np.int64), arrays["labels"].astype(np.int64)
    if content.dtype != np.uint8 or len(offsets) != len(labels) + 1 or not len(labels):
        raise ImportRefused(f"{path}: jpeg must be uint8, and there must be one more of offsets than of labels")
    if offsets[0] < 0 or offsets[-1] > len(content) or (np.diff(offsets) <= 0).any():
        raise ImportRefused(f"{path}: offsets must rise within the {len(content)} bytes of jpeg")
    if labels.min() < 0 or labels.max() > 9:
        raise ImportRefused(f"{path} has a label outside 0..9")
    if count is not None and count > len(labels):  # before any picture is decoded
        raise FormatError(f"cifar10-jpeg:{part} has {len(labels)} images, {count} are asked for")
    order = shuffled(len(labels), JPEG_SEED)[:count]
    images = np.empty((len(order), 3, 32, 32), np.uint8)
    for place, index in enumerate(order):
        picture = content[offsets[index] : offsets[index + 1]].tobytes()
        images[place] = decoders.decode_jpeg(picture, f"{path}, image {index}")
    note = (
        "CIFAR-10 after lossy JPEG: compare networks on these images only, never with published CIFAR-10 "
        f"accuracies; sorted by class at the source, here in the fixed order shuffled({len(labels)}, {JPEG_SEED})"
    )
    return _Part(images, labels[order], str(path), lossless=False, notes=note)


def _check_images(arrays: dict[str, np.ndarray], path: Path, shape: tuple[int, ...]) -> None:
    """Arrays x and y as one of the named sets must have them."""
    x, y = arrays.get("x"), arrays.get("y")
    if x is None or y is None or x.dtype != np.uint8 or x.shape[1:] != shape or y.ndim != 1 or y.dtype.kind not in "iu":
        raise ImportRefused(
            f"{path} must hold x uint8 of shape (N, {', '.join(map(str, shape))}) and whole numbers y (N)"
        )
    if y.size and (y.min() < 0 or y.max() > 9):
        raise ImportRefused(f"{path} has a label outside 0..9")


def _read_file(path: Path, part: str, other: str) -> tuple[_Part, tuple[str, ...], str]:
    """Named arrays of a file of the user: a `part`, or ``""`` for the plain ones, else those of the part `other`.

    The last value says which part it is, ``""`` for plain arrays.
    """
    if not path.is_file():
        raise DataNotFoundError(
            f"there is no file {path}; give the path of a .npz or .h5 file, or one of {', '.join(NAMES)}"
        )
    plain = ("", ("x", "images"), ("y", "labels"))
    split = (part or other, (f"x_{part or other}",), (f"y_{part or other}",))
    pixels = ("x", "images", "x_train", "x_test")
    wanted = {*pixels, *plain[2], *split[2], "maximum", "layout"}
    if path.suffix == ".npz":
        arrays = decoders.read_npz(path, tuple(sorted(wanted)))
    else:
        from ..files.hdf5 import read_tree

        tree = read_tree(path, budget=decoders.BUDGET)
        arrays = {name.strip("/"): value for name, value in tree.datasets.items() if name.strip("/") in wanted}
    groups = (split,) if part else (split, plain) if other == "train" else (plain, split)
    there = [group for group in groups if any(name in arrays for name in group[1])]
    if not there:
        asked = " or ".join(name for group in groups for name in group[1])
        raise FormatError(f"{path} has no array {asked}")
    of, images, labels = there[0]
    x = next(arrays[name] for name in images if name in arrays)
    y = next((arrays[name] for name in labels if name in arrays), None)
    maximum, assumed = _maximum(arrays.get("maximum"), [x, *(arrays[n] for n in pixels if n in arrays)], path)
    x = _planes(x, _text(arrays.get("layout"), path), path)
    if y is None:
        return _Part(x, None, str(path), maximum, assumed=assumed), (), of
    if y.dtype.kind == "f":
        return _Part(x, None, str(path), maximum, targets=_targets(y, path), assumed=assumed), (), of
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]  # as Keras stores CIFAR-10
    if y.ndim != 1 or y.dtype.kind not in "iub" or (y.size and y.min() < 0):
        raise ShapeError(
            f"{path}: labels are {y.dtype} of shape {y.shape}; whole numbers from 0 of shape (N,) are needed"
        )
    if y.size and int(y.max()) >= 1 << 20:
        raise ShapeError(f"{path}: the label {int(y.max())} cannot be a class; classes are numbered from 0")
    classes = tuple(str(i) for i in range(int(y.max()) + 1)) if y.size else ()
    return _Part(x, y, str(path), maximum, assumed=assumed), classes, of


def _targets(y: np.ndarray, path: Path) -> np.ndarray:
    """Real targets as (N, K) float64."""
    if y.ndim not in (1, 2) or not np.isfinite(y).all():
        raise ShapeError(f"{path}: targets are {y.dtype} of shape {y.shape}; finite (N,) or (N, K) are needed")
    return np.ascontiguousarray(y.reshape(len(y), -1) if y.size else y.reshape(len(y), 0), np.float64)


def _maximum(given: np.ndarray | None, images: list[np.ndarray], path: Path) -> tuple[int, str]:
    """The code of value 1: what the file says, else by a look at the `images`, those that are asked for first and
    those of all parts; and what was assumed."""
    if images[0].dtype.kind not in "iu":
        raise FormatError(
            f"{path}: images are {images[0].dtype}, and intsnn takes integer codes; store, for example, round(x * 255) "
            "as uint8"
        )
    if given is None:
        integers = [x for x in images if x.dtype.kind in "iu" and x.size]
        low, high = min((int(x.min()) for x in integers), default=0), max((int(x.max()) for x in integers), default=0)
        found = full_scale(low, high)
        return found, f"the codes in {path.name} are {low} to {high}, and no `maximum` says which stands for 1"
    if given.size != 1 or given.dtype.kind not in "iu" or int(given.reshape(-1)[0]) < 1:
        raise FormatError(f"{path}: `maximum` must be one whole number from 1")
    return int(given.reshape(-1)[0]), ""


def _text(given: np.ndarray | None, path: Path) -> str:
    """The text of `layout`, or ''."""
    if given is None:
        return ""
    value = np.asarray(given).reshape(-1)[0] if np.asarray(given).size == 1 else None
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    if text not in ("NCHW", "NHWC"):
        raise FormatError(f"{path}: `layout` is {text[:20]!r}; it can be NCHW or NHWC")
    return text


def _planes(x: np.ndarray, layout: str, path: Path) -> np.ndarray:
    """Images as (N, C, H, W), or (N, features) as they are."""
    if x.ndim == 2:
        return x
    if x.ndim == 3:
        return x[:, None]
    if x.ndim != 4:
        raise ShapeError(f"{path}: images have shape {x.shape}; (N, C, H, W), (N, H, W) or (N, features) is needed")
    if layout == "NHWC":
        return x.transpose(0, 3, 1, 2)
    if not layout and x.shape[3] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        raise ShapeError(
            f"{path}: images of shape {x.shape} look channels-last; add an array `layout` with the text NHWC, and they "
            "are turned, or with the text NCHW, and they are taken as (N, C, H, W)"
        )
    return x


_FOUR_FILES = "get the four canonical files train-/t10k-images-idx3-ubyte.gz and train-/t10k-labels-idx1-ubyte.gz"
_SETS: dict[str, tuple[Callable[[str, int | None], _Part], tuple[str, ...]]] = {
    "digits": (_digits, DIGITS),
    "mnist": (
        _idx(
            "mnist",
            ("mnist", "MNIST/raw", "mnist/MNIST/raw"),
            f"{_FOUR_FILES} of MNIST (torchvision.datasets.MNIST(root, download=True) does so)",
        ),
        DIGITS,
    ),
    "fashion-mnist": (
        _idx(
            "fashion-mnist",
            ("fashion-mnist", "FashionMNIST/raw", "fashion-mnist/FashionMNIST/raw"),
            f"{_FOUR_FILES} of Fashion-MNIST (torchvision.datasets.FashionMNIST(root, download=True) does so)",
        ),
        GARMENTS,
    ),
    "cifar10": (_cifar10, OBJECTS),
    "cifar10-test1900": (_cifar10_part, OBJECTS),
    "cifar10-jpeg": (_cifar10_jpeg, OBJECTS),
    "digits-segments": (_segments("digits", 4000, 500), (*DIGITS, "background")),
    "mnist-segments": (_segments("mnist", 20000, 2000), (*DIGITS, "background")),
}
NAMES = tuple(_SETS)
