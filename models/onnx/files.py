"""What is in an ONNX file? Its size and fields are checked, then the library parses it; arrays are read when asked for.

Weights beside the file ("external data") are taken from plain files of the same folder alone.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import DataNotFoundError, ImportRefused, UnsupportedError
from ...formats.arguments import shown
from .wire import check_fields, is_onnx

__all__ = ["OPSETS", "ModelFile", "open_model"]

OPSETS = (7, 28)  # of the operators of ONNX: since 7 shapes broadcast as they do today
MAX_RANK = 8
MOST = 1 << 40  # values of an array, empty axes not counted
DOMAINS = ("", "ai.onnx")

# Number of a type -> (name, type of an array, field that holds the numbers where they are not raw)
TYPES: dict[int, tuple[str, Any, str]] = {
    1: ("float", np.dtype("<f4"), "float_data"),
    2: ("uint8", np.dtype("u1"), "int32_data"),
    3: ("int8", np.dtype("i1"), "int32_data"),
    4: ("uint16", np.dtype("<u2"), "int32_data"),
    5: ("int16", np.dtype("<i2"), "int32_data"),
    6: ("int32", np.dtype("<i4"), "int32_data"),
    7: ("int64", np.dtype("<i8"), "int64_data"),
    9: ("bool", np.dtype("?"), "int32_data"),
    10: ("float16", np.dtype("<f2"), "int32_data"),
    11: ("double", np.dtype("<f8"), "double_data"),
    12: ("uint32", np.dtype("<u4"), "uint64_data"),
    13: ("uint64", np.dtype("<u8"), "uint64_data"),
    16: ("bfloat16", None, "int32_data"),
    21: ("uint4", None, "int32_data"),
    22: ("int4", None, "int32_data"),
}


def open_model(path: str, *, trust: bool, budget: int) -> ModelFile:
    """The model in a file.

    Raises
    ------
    DataNotFoundError
        There is no such file.
    ImportRefused
        It is none of ONNX, too large or damaged.
    UnsupportedError
        The library is missing, or the model needs what is not taken (functions, training, another opset).
    """
    data = _bytes_of(path, budget)
    if not is_onnx(data):
        what = "a Git LFS pointer; fetch the file itself" if data.startswith(b"version https://git-lfs") else ""
        raise ImportRefused(f"{path}: is {what or 'no ONNX model'}", code="lfs-pointer" if what else "not-onnx")
    if not trust:
        check_fields(data, path, budget)
    try:
        import onnx
    except ImportError:
        raise UnsupportedError(f"{path}: to read ONNX the package onnx is needed; pip install 'intsnn[onnx]'") from None
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:  # the classes of errors differ between versions of protobuf
        text = " ".join(str(error).split())[:100]
        raise ImportRefused(f"{path}: protobuf cannot read it ({text})", code="damaged") from None
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    for what, found in (("functions", model.functions), ("training", model.training_info)):
        if len(found):
            raise UnsupportedError(f"{path}: holds {what} of its own; export a plain inference graph, with all inlined")
    version = next((opsets[domain] for domain in DOMAINS if domain in opsets), 0)
    if not OPSETS[0] <= version <= OPSETS[1]:
        raise UnsupportedError(f"{path}: has opset {version}; export it with opset {OPSETS[0]} to {OPSETS[1]}")
    return ModelFile(path, model, version, opsets, hashlib.sha256(data).hexdigest(), budget)


def _bytes_of(path: str, budget: int) -> bytes:
    """The content of a regular file of at most `budget` bytes."""
    try:
        info = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise DataNotFoundError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise ImportRefused(f"{path}: cannot be looked at ({error})", code="unreadable") from None
    if not stat.S_ISREG(info.st_mode):
        raise ImportRefused(f"{path}: is no regular file; an ONNX model is needed", code="not-regular")
    if info.st_size == 0:
        raise ImportRefused(f"{path}: is empty (0 bytes); the copy or download may have failed", code="empty")
    if info.st_size > budget:
        raise ImportRefused(
            f"{path}: has {info.st_size} bytes, more than the budget of {budget}; give a larger budget",
            code="too-large",
        )
    try:
        with open(path, "rb") as file:
            return file.read(budget)
    except OSError as error:
        raise ImportRefused(f"{path}: cannot be read ({error})", code="unreadable") from None


@dataclass(eq=False)
class ModelFile:
    """A parsed model, with what arrays may still take.

    Attributes
    ----------
    label : str
    model : onnx.ModelProto
    opset : int
        Of the operators of ONNX itself.
    opsets : mapping of str to int
        Of every domain.
    sha256 : str
    left : int
        Bytes that arrays may take from here on.
    beside : dict of str to str
        Digests of the files beside it that were read.
    """

    label: str
    model: Any
    opset: int
    opsets: Mapping[str, int]
    sha256: str
    left: int
    beside: dict[str, str] = field(default_factory=dict)

    def array(self, tensor: Any, what: str) -> np.ndarray:
        """The array in a TensorProto, `what` in messages; float16 and bfloat16 become float32, int4 becomes int8.

        Raises `ImportRefused` where sizes do not agree or the budget is spent, `UnsupportedError` for other types.
        """
        shape = tuple(tensor.dims)
        if len(shape) > MAX_RANK or any(n < 0 for n in shape) or math.prod(max(n, 1) for n in shape) > MOST:
            raise self._bad(what, f"has the shape {shape[:MAX_RANK]}; up to {MAX_RANK} sizes from 0, of up to 2**40 "
                            "values, are possible")  # fmt: skip
        if tensor.data_type not in TYPES:
            names = ", ".join(name for name, _, _ in TYPES.values())
            raise UnsupportedError(f"{self.label}: {what} has the type {tensor.data_type}; numbers are read ({names})")
        name, dtype, held = TYPES[tensor.data_type]
        count = math.prod(shape)
        self.charge(4 * count if dtype is None else count * dtype.itemsize, what)
        stored = {"uint4": -(-count // 2), "int4": -(-count // 2), "bfloat16": 2 * count}.get(name)
        stored = count * dtype.itemsize if stored is None else stored
        if tensor.data_location == 1:
            raw = self._external(tensor, what, stored)
        elif tensor.HasField("raw_data"):
            raw = tensor.raw_data
        else:
            return self._listed(getattr(tensor, held), name, dtype, shape, what)
        if len(raw) != stored:
            raise self._bad(what, f"has {len(raw)} bytes; {name} of shape {shape} takes {stored}")
        if dtype is None:
            return _unpacked(np.frombuffer(raw, np.uint8 if "int4" in name else "<u2"), name, count).reshape(shape)
        found = np.frombuffer(raw, dtype).reshape(shape)
        return found.astype(np.float32) if name == "float16" else found

    def charge(self, size: int, what: str) -> None:
        """Take bytes from those that are left; `ImportRefused` where there are too few."""
        self.left -= size
        if self.left < 0:
            raise ImportRefused(
                f"{self.label}: {what} takes {size} bytes, more than is left of the budget; give a larger budget",
                code="too-large",
                where=what,
            )

    def _listed(self, values: Any, name: str, dtype: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
        """The array in a list of numbers."""
        count = math.prod(shape)
        packs = "int4" in name
        needed = -(-count // 2) if packs else count
        if len(values) != needed:
            raise self._bad(what, f"has {len(values)} numbers; {name} of shape {shape} takes {needed}")
        if dtype is not None and _held_wide(name):
            return np.fromiter(values, dtype, count).reshape(shape)
        wide = np.fromiter(values, np.int64, needed)
        if dtype is None:
            return _unpacked(wide.astype(np.uint8 if packs else np.uint16), name, count).reshape(shape)
        if name == "float16":
            return wide.astype(np.uint16).view(np.float16).astype(np.float32).reshape(shape)
        return wide.astype(dtype).reshape(shape)

    def _external(self, tensor: Any, what: str, stored: int) -> bytes:
        """The bytes of an array in a file of the same folder."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name = entries.get("location", "")
        if not isinstance(name, str) or name in ("", ".", "..") or any(c in name for c in "/\\\0:") or len(name) > 255:
            raise self._bad(what, f"lies in {shown(name)}; only a file of the same folder is read", "external")
        try:
            offset, size = (int(entries.get(key, default)) for key, default in (("offset", 0), ("length", stored)))
        except ValueError:
            offset = size = -1
        path = os.path.join(os.path.dirname(self.label), name)
        try:
            info = os.lstat(path)
            if not stat.S_ISREG(info.st_mode):
                raise self._bad(what, f"lies in {shown(name)}, which is no regular file", "external")
            if offset < 0 or size != stored or offset + size > info.st_size:
                raise self._bad(
                    what,
                    f"is said to be {size} bytes from {offset} of {shown(name)}, which has {info.st_size}; "
                    f"{stored} bytes are needed",
                    "external",
                )
            with open(path, "rb") as file:
                if name not in self.beside:
                    self.beside[name] = hashlib.file_digest(file, "sha256").hexdigest()
                file.seek(offset)
                return file.read(size)
        except FileNotFoundError:
            raise DataNotFoundError(
                f"{self.label}: {what} lies in {shown(name)}, which is not beside it; put it there, or save the model "
                "in one file"
            ) from None
        except (OSError, UnicodeError) as error:
            raise self._bad(what, f"lies in {shown(name)}, which cannot be read ({error})", "external") from None

    def _bad(self, what: str, message: str, code: str = "weights") -> ImportRefused:
        return ImportRefused(f"{self.label}: {what} {message}", code=code, where=what)


def _held_wide(name: str) -> bool:
    """Whether numbers of a type stand in their list as they are: floats in a list of floats."""
    return name in ("float", "double", "int64", "uint64")


def _unpacked(words: np.ndarray, name: str, count: int) -> np.ndarray:
    """Values of types that numpy does not have: two of 4 bits in a byte, the first below; the upper half of a float."""
    if name == "bfloat16":
        return (words.astype(np.uint32) << 16).view(np.float32)
    nibbles = np.stack([words & 15, words >> 4], axis=1).reshape(-1)[:count]
    return nibbles if name == "uint4" else ((nibbles ^ 8).astype(np.int8) - 8)
