"""How the files of public data sets are decoded: IDX, CIFAR-10 batches, ``.npy`` and ``.npz``.

Every file is untrusted input: magic numbers and sizes are checked before anything is allocated, a compressed
file may only hold what its own header announces, and a pickle is read without running anything in it.
"""

import gzip
import io
import math
import pickle
import pickletools
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..errors import ImportRefused, UnsupportedError
from ..files.npy import BUDGET, read_array, read_exactly

__all__ = ["decode_jpeg", "read_cifar_binary", "read_cifar_pickle", "read_idx", "read_npy", "read_npz"]

_DEFLATE = 1032  # no deflate stream expands more than this
_CIFAR_PIXELS = 3 * 32 * 32


def read_idx(path: Path, axes: int) -> np.ndarray:
    """An IDX file of unsigned bytes, plain or gzip, as MNIST is published.

    Parameters
    ----------
    path : Path
    axes : int
        Number of axes that the file must have: 3 for images, 1 for labels.

    Returns
    -------
    ndarray of uint8

    Raises
    ------
    ImportRefused
        Wrong magic number, or a size that differs from the one in the header.
    """
    packed = path.stat().st_size
    with open(path, "rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = gzip.GzipFile(fileobj=raw) if zipped else raw
        try:
            header = stream.read(4 + 4 * axes)
            if len(header) < 4 + 4 * axes or header[:4] != bytes((0, 0, 8, axes)):
                raise ImportRefused(
                    f"{path} does not start as an IDX file of unsigned bytes with {axes} axes: "
                    f"{header[:4].hex()} instead of 000008{axes:02x}",
                    code="magic",
                )
            shape = tuple(int(n) for n in np.frombuffer(header, ">u4", axes, 4))
            size = math.prod(shape)
            # of the axes that are not empty too: (0, 2^32, 2^32) is no array
            whole = math.prod(max(1, n) for n in shape)
            if whole > BUDGET or size > (packed * _DEFLATE if zipped else packed):
                raise ImportRefused(f"{path} announces {shape} bytes in a file of {packed}", code="size")
            content = read_exactly(stream, size + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ImportRefused(f"{path} is damaged: {error}", code="damaged") from None
    if len(content) != size:
        more = "more" if len(content) > size else f"only {len(content)}"
        raise ImportRefused(f"{path} announces {size} bytes of shape {shape} and holds {more}", code="size")
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_cifar_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One binary CIFAR-10 batch: records of one label byte and 3,072 pixel bytes (R, G, B planes).

    Parameters
    ----------
    path : Path

    Returns
    -------
    images : ndarray of uint8, shape (N, 3, 32, 32)
    labels : ndarray of int64, shape (N,)

    Raises
    ------
    ImportRefused
        The size is no multiple of 3,073, or a label exceeds 9.
    """
    size = path.stat().st_size
    if not 0 < size <= BUDGET or size % (1 + _CIFAR_PIXELS):
        raise ImportRefused(f"{path} has {size} bytes, not a multiple of {1 + _CIFAR_PIXELS}", code="size")
    content = np.fromfile(path, np.uint8)
    if content.size != size:
        raise ImportRefused(f"{path} changed while it was read", code="size")
    records = content.reshape(-1, 1 + _CIFAR_PIXELS)
    return records[:, 1:].reshape(-1, 3, 32, 32), _cifar_labels(records[:, 0], path)


def _cifar_labels(labels: np.ndarray, path: Path) -> np.ndarray:
    if labels.min() < 0 or labels.max() > 9:
        raise ImportRefused(f"{path} has a label outside 0..9", code="label")
    return labels.astype(np.int64)


class _Array:
    """Stands in for numpy.ndarray while a pickle is read: keeps the state, builds nothing."""

    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Dtype:
    """Stands in for numpy.dtype."""

    def __init__(self, code: object = None, *flags: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        pass


def _encode(text: str, encoding: str) -> bytes:
    """Stands in for _codecs.encode, by which Python 3 writes bytes in old protocols."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("unexpected text encoding")
    return text.encode("latin1")


_STANDINS = {
    ("numpy.core.multiarray", "_reconstruct"): lambda *arguments: _Array(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *arguments: _Array(),
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}
_OPCODES = frozenset(
    "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 STRING BINSTRING "
    "SHORT_BINSTRING BINBYTES SHORT_BINBYTES UNICODE BINUNICODE SHORT_BINUNICODE EMPTY_LIST APPEND APPENDS LIST "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET "
    "LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD".split()
)


_MOST_TUPLES = 1000  # in a batch: a tuple in a tuple in a tuple, and so on, would break the stack where it is a key


class _Reader(pickle.Unpickler):
    """Knows five names, all of them stand-ins defined above."""

    def find_class(self, module: str, name: str) -> object:
        try:
            return _STANDINS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"names {module}.{name}, which no CIFAR-10 batch needs") from None


def read_cifar_pickle(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One python CIFAR-10 batch, without running anything that the pickle names.

    Only plain containers, numbers, text and one uint8 array are understood; every other name is refused.

    Parameters
    ----------
    path : Path

    Returns
    -------
    images : ndarray of uint8, shape (N, 3, 32, 32)
    labels : ndarray of int64, shape (N,)

    Raises
    ------
    ImportRefused
        Anything but a dictionary with ``data`` uint8 (N, 3072) and ``labels``, N numbers 0..9.
    """
    if path.stat().st_size > BUDGET:
        raise ImportRefused(f"{path} is larger than any CIFAR-10 batch", code="size")
    content = path.read_bytes()
    tuples = 0
    try:
        for opcode, argument, _ in pickletools.genops(content):
            tuples += opcode.name.startswith("TUPLE")
            if tuples > _MOST_TUPLES:
                raise pickle.UnpicklingError("holds more tuples than a batch needs")
            if opcode.name not in _OPCODES:
                raise pickle.UnpicklingError(f"holds the pickle opcode {opcode.name}")
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(content):
                raise pickle.UnpicklingError("holds an absurd memo index")
        batch = _Reader(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a crafted pickle can raise nearly anything
        raise ImportRefused(f"{path} is no python CIFAR-10 batch: {error}", code="pickle") from None
    if isinstance(batch, dict):
        batch = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
        data, labels = batch.get("data"), batch.get("labels")
        if isinstance(data, _Array) and isinstance(labels, list) and labels:
            # what an array pickles: version, shape, dtype, Fortran order, bytes
            state = data.state if isinstance(data.state, tuple) and len(data.state) == 5 else (None,) * 5
            _, shape, dtype, fortran, pixels = state
            if (
                shape == (len(labels), _CIFAR_PIXELS)
                and isinstance(dtype, _Dtype)
                and dtype.code in (b"u1", "u1")
                and isinstance(pixels, bytes)
                and len(pixels) == len(labels) * _CIFAR_PIXELS
                and all(type(label) is int and 0 <= label <= 9 for label in labels)
            ):
                images = np.frombuffer(pixels, np.uint8).reshape(shape, order="F" if fortran else "C")
                return np.ascontiguousarray(images).reshape(-1, 3, 32, 32), np.array(labels, np.int64)
    raise ImportRefused(
        f"{path} is no python CIFAR-10 batch: a dictionary with data uint8 (N, {_CIFAR_PIXELS}) and labels 0..9 "
        "is expected",
        code="pickle",
    )


def read_npy(path: Path, budget: int = BUDGET) -> np.ndarray:
    """The array in a ``.npy`` file.

    Parameters
    ----------
    path : Path
    budget : int
        Most bytes of the array.

    Returns
    -------
    ndarray
        Numbers, truth values, text or records of these; in the byte order of the file.

    Raises
    ------
    ImportRefused
        Anything else, or a header that the size of the file contradicts.
    """
    size = path.stat().st_size
    with open(path, "rb") as stream:
        return read_array(stream, size, str(path), budget)


def read_npz(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Those of the named arrays that an ``.npz`` file holds; the others are left unread.

    Parameters
    ----------
    path : Path
    names : tuple of str

    Returns
    -------
    dict of ndarray

    Raises
    ------
    ImportRefused
        No zip archive, an array that is there twice, is encrypted or holds Python objects, or one whose header, stored
        size and file size disagree.
    """
    found = {}
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members: dict[str, list[zipfile.ZipInfo]] = {}
            for info in archive.infolist():
                members.setdefault(info.filename, []).append(info)
            for name in names:
                here = members.get(f"{name}.npy", [])
                if len(here) > 1:
                    raise ImportRefused(f"{path} holds {name} {len(here)} times; which one counts?", code="zip")
                if here:
                    found[name] = _read_member(archive, here[0], f"{path}: {name}", size)
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError, OverflowError,
        struct.error,
    ) as error:  # fmt: skip
        if isinstance(error, ImportRefused | FileNotFoundError | PermissionError | IsADirectoryError):
            raise
        raise ImportRefused(f"{path} is no sound .npz file: {error}", code="damaged") from None
    return found


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str, size: int) -> np.ndarray:
    """One array of an archive of `size` bytes, its sizes compared before its memory is taken."""
    if info.flag_bits & 1:
        raise ImportRefused(f"{where} is encrypted; store it without a password", code="zip")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ImportRefused(f"{where} is packed by method {info.compress_type}; stored or deflated is read", code="zip")
    growth = 1 if info.compress_type == zipfile.ZIP_STORED else _DEFLATE
    if info.compress_size > size or info.file_size > growth * info.compress_size:
        raise ImportRefused(f"{where} announces {info.file_size} bytes from {info.compress_size}", code="size")
    with archive.open(info) as stream:
        return read_array(stream, info.file_size, where)  # type: ignore[arg-type]  # it reads, that is enough


def decode_jpeg(content: bytes, where: str) -> np.ndarray:
    """One 32x32 JPEG as RGB planes.

    Parameters
    ----------
    content : bytes
    where : str
        Names the image in an error.

    Returns
    -------
    ndarray of uint8, shape (3, 32, 32)

    Raises
    ------
    UnsupportedError
        Pillow (the extra ``images``) is not installed.
    ImportRefused
        The picture is damaged or of another size.
    """
    try:
        from PIL import Image
    except ImportError:
        raise UnsupportedError("JPEG images need the extra `images`: pip install 'intsnn[images]'") from None
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
            if picture.size != (32, 32):
                raise ImportRefused(f"{where} is {picture.size[0]}x{picture.size[1]} pixels, not 32x32", code="size")
            return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, ImportRefused):
            raise
        raise ImportRefused(f"{where} is no sound JPEG: {error}", code="damaged") from None
