"""Which arrays does a stored state dict hold? HDF5 with dotted or nested names, and safetensors.

Both come from strangers. The header of a safetensors file is checked here, every size and offset against the file,
before the library opens it. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import DataNotFoundError, ImportRefused, UnsupportedError
from ...files.hdf5 import read_tree
from .advice import pickle_refusal, torch_archive

__all__ = ["StateDict", "read_state"]

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
MAX_HEADER = 8 << 20
MAX_ARRAYS = 1 << 16
MAX_AXES = 8
BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4,
    "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
COUNTER = "num_batches_tracked"  # of BatchNorm, and no part of what it computes


@dataclass(frozen=True)
class StateDict:
    """Arrays by their dotted names, in float32 or float64."""

    format: str
    sha256: str
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def read_state(path: str, *, trust: bool, budget: int) -> StateDict:
    """The state dict in a file, told apart by content.

    Raises
    ------
    DataNotFoundError
        If there is no such file.
    ImportRefused
        Codes of :func:`intsnn.files.hdf5.read_tree`, and ``header, json, name, type, size-mismatch, budget, zip``.
    UnsupportedError
        For arrays that are no floats of 16 to 64 bits, and without the library for safetensors.
    """
    if not os.path.exists(path):
        raise DataNotFoundError(f"there is no file {path}")
    if not os.path.isfile(path):
        raise ImportRefused(f"{path}: is not a regular file; HDF5 or safetensors is needed", code="not-regular")
    if refusal := pickle_refusal(path):
        raise refusal
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(ZIP):
        raise torch_archive(path)
    if head.startswith(HDF5) or head[8:9] != b"{":  # whatever else it is, the reader of HDF5 says
        return _from_hdf5(path, trust, budget)
    return _from_safetensors(path, budget)


def _refused(label: str, message: str, code: str, where: str = "") -> ImportRefused:
    spot = f" at {where[:80]!r}" if where else ""
    return ImportRefused(f"{label}{spot}: {message}", code=code, where=where)


def _floats(label: str, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise UnsupportedError(
            f"{label}: the array {name[:80]!r} is of {array.dtype}; floats of 16, 32 or 64 bits are taken (save the "
            "network before it is quantised)"
        )
    return array.astype(np.float32) if array.dtype.itemsize == 2 else array


# -- HDF5 -------------------------------------------------------------------------------------------------------------


def _from_hdf5(path: str, trust: bool, budget: int) -> StateDict:
    tree = read_tree(path, trust=trust, budget=budget, attributes=())
    arrays: dict[str, np.ndarray] = {}
    for place, array in tree.datasets.items():
        name = place.replace("/", ".")
        if name in arrays:
            raise _refused(path, f"two arrays are called {name[:80]!r}, one dotted and one in groups", "name", place)
        if name.rpartition(".")[2] != COUNTER:
            arrays[name] = _floats(path, name, array)
    return StateDict("pytorch state dict in HDF5", tree.sha256, arrays)


# -- safetensors ------------------------------------------------------------------------------------------------------


def _from_safetensors(path: str, budget: int) -> StateDict:
    described = _described(path, budget)
    wanted = [name for name in described if name.rpartition(".")[2] != COUNTER]
    for name in wanted:
        if described[name] not in ("F16", "F32", "F64"):
            raise UnsupportedError(
                f"{path}: the array {name[:80]!r} is of type {described[name]}; F16, F32 or F64 is taken (save it as "
                "float32)"
            )
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise UnsupportedError(
            f"{path}: to read safetensors files the library has to be installed (pip install 'intsnn[safetensors]')"
        ) from None
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: _floats(path, name, file.get_tensor(name)) for name in wanted}
    except SafetensorError as error:
        raise _refused(path, f"the library does not read it ({str(error)[:200]})", "header") from None
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return StateDict("pytorch state dict in safetensors", digest, arrays)


def _described(path: str, budget: int) -> dict[str, str]:
    """The type of each array, by the header, which has to describe the bytes of the file exactly."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise _refused(path, f"its header has {length} bytes; 2 to {min(MAX_HEADER, size - 8)} fit", "header")
        header = _json(path, file.read(length))
    header.pop("__metadata__", None)  # about the file, not the arrays
    if not 1 <= len(header) <= MAX_ARRAYS:
        raise _refused(path, f"it describes {len(header)} arrays; 1 to {MAX_ARRAYS} are read", "header")
    if size - 8 - length > budget:
        raise _refused(path, f"its arrays take {size - 8 - length} bytes; the budget is {budget}", "budget")
    spans = sorted((*_span(path, name, entry), name) for name, entry in header.items())
    end = 0
    for start, stop, name in spans:
        if start != end:
            raise _refused(path, f"its bytes begin at {start}, those before end at {end}", "size-mismatch", name)
        end = stop
    if end != size - 8 - length:
        raise _refused(path, f"its arrays take {end} bytes, the file has {size - 8 - length}", "size-mismatch")
    return {name: entry["dtype"] for name, entry in header.items()}


def _json(path: str, data: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("a name is there twice")
        return dict(pairs)

    try:
        header = json.loads(data.decode(), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"its header is no JSON to be read ({str(error)[:100]})", "json") from None
    if not isinstance(header, dict):
        raise _refused(path, "its header is no JSON object", "json")
    return header


def _span(path: str, name: str, entry: Any) -> tuple[int, int]:
    """First and last byte of an array, which have to fit its type and shape."""

    def whole(values: Any, most: int) -> bool:
        return isinstance(values, list) and len(values) <= most and all(type(n) is int and n >= 0 for n in values)

    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _refused(path, "is described by something else than dtype, shape and data_offsets", "header", name)
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in BYTES:
        raise _refused(path, f"has the type {str(kind)[:40]!r}; one of {', '.join(BYTES)} is needed", "type", name)
    if not whole(shape, MAX_AXES) or not whole(offsets, 2) or len(offsets) != 2:
        raise _refused(path, f"its shape or its offsets are no whole numbers (at most {MAX_AXES} axes)", "header", name)
    if offsets[1] - offsets[0] != math.prod(shape) * BYTES[kind]:
        needed = f"{str(tuple(shape))[:80]} of {kind}"
        raise _refused(path, f"has {offsets[1] - offsets[0]} bytes, not those of {needed}", "size-mismatch", name)
    return offsets[0], offsets[1]
