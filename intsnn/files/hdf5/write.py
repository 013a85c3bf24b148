"""How do arrays get into an HDF5 file? Whole, or not at all."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import FormatError
from ...support.atomic import replacing
from .child import MAX_ATTRIBUTE, MAX_RATIO, MAX_TEXT, SMALL, TYPES

__all__ = ["storage", "write_tree"]


def write_tree(
    path: str | os.PathLike[str],
    datasets: Mapping[str, np.ndarray],
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write arrays and attributes to an HDF5 file, all or nothing.

    The file appears under its name only when it is complete and on disk; whatever was there before stays until then.
    Large integer arrays are compressed where that gains something and :func:`read_tree` accepts it.

    Parameters
    ----------
    path : path-like
    datasets : mapping of str to numpy.ndarray
        Integers of 8 to 64 bits, or finite float16/32/64, by path; groups are made as needed.
    attributes : mapping of str to mapping of str to (str, bool, int, float, list of str or numpy.ndarray)
        By path of a dataset or group (``""`` the root; groups are made as needed), then by name.

    Raises
    ------
    FormatError
        If a value is of another type, too large for an attribute, or not finite.
    """
    arrays = {name: writable(name, value) for name, value in datasets.items()}
    import h5py

    # made in memory first: libhdf5 crashes where a disk is full, a plain write raises
    with h5py.File("image", "w", driver="core", backing_store=False) as file:
        for name, array in arrays.items():
            _write_dataset(file, name, array)
        write_attributes(file, attributes or {})
        file.flush()
        image = file.id.get_file_image()
    with replacing(path) as temporary, open(temporary, "wb") as out:
        out.write(image)


def storage(path: str | os.PathLike[str]) -> tuple[dict[str, tuple[int, int]], int]:
    """Bytes of the datasets and attributes of a file that this process wrote.

    Never for a file from elsewhere: it is opened here, without the rules of :func:`read_tree`.

    Returns
    -------
    dict of str to (int, int)
        By path of a dataset: bytes of the array, and bytes that they take in the file (after compression).
    int
        Bytes of the values of all attributes together; text as UTF-8.
    """
    import h5py

    datasets: dict[str, tuple[int, int]] = {}
    attributes = 0
    with h5py.File(path, "r") as file:
        paths = [""]
        file.visit(paths.append)
        for name in paths:
            thing = file[name] if name else file
            if isinstance(thing, h5py.Dataset):
                datasets[name] = (thing.nbytes, thing.id.get_storage_size())
            for value in thing.attrs.values():
                array = np.asarray(value)
                texts = array.reshape(-1).tolist() if array.dtype.kind in "OU" else None
                attributes += array.nbytes if texts is None else sum(len(str(text).encode()) for text in texts)
    return datasets, attributes


def writable(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.newbyteorder("<").str not in TYPES:
        raise FormatError(f"dataset {name!r} has type {array.dtype}; integers and floats up to 64 bits are written")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise FormatError(f"dataset {name!r} holds NaN or infinity; every value has to be finite")
    return array


def _write_dataset(file: Any, name: str, array: np.ndarray) -> None:
    if array.dtype.kind in "iu" and array.nbytes >= 4096 and _compressible(array):
        chunks = chunks_of(array.shape, array.itemsize)
        dataset = file.create_dataset(
            name, data=array, chunks=chunks, compression="gzip", compression_opts=4, shuffle=array.itemsize > 1
        )
        if array.nbytes <= MAX_RATIO * dataset.id.get_storage_size() or array.nbytes <= SMALL:
            return
        del file[name]  # so regular that the reader would take it for a compression bomb
    file.create_dataset(name, data=array)


def _compressible(array: np.ndarray) -> bool:
    sample = array.reshape(-1)[: (256 << 10) // array.itemsize].tobytes()
    return len(zlib.compress(sample, 1)) < 0.9 * len(sample)


def chunks_of(shape: tuple[int, ...], itemsize: int, limit: int = 1 << 20) -> tuple[int, ...]:
    """Chunks of whole rows: the leading axes are cut until a chunk has at most ``limit`` bytes."""
    chunks = [max(1, n) for n in shape]
    for axis in range(len(chunks)):
        inner = math.prod(chunks[axis + 1 :]) * itemsize
        chunks[axis] = max(1, min(chunks[axis], limit // inner))
        if inner <= limit:
            break
    return tuple(chunks)


def write_attributes(file: Any, attributes: Mapping[str, Mapping[str, Any]]) -> None:
    for path, values in attributes.items():
        thing = file if path == "" else file[path] if path in file else file.create_group(path)
        for name, value in values.items():
            where = f"attribute {name!r} of {path or '/'!r}"
            if isinstance(value, str | bool | int | float | np.integer | np.floating):
                if isinstance(value, str) and (len(value.encode()) > MAX_TEXT or "\0" in value):
                    raise FormatError(
                        f"{where} has more than {MAX_TEXT} bytes of text, or a NUL; store it as a dataset"
                    )
                thing.attrs[name] = int(value) if isinstance(value, bool) else _writable_scalar(where, value)
            elif isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
                import h5py

                if sum(len(item.encode()) for item in value) > MAX_TEXT or 16 * len(value) > MAX_ATTRIBUTE - 1024:
                    raise FormatError(f"{where} has too much text for an attribute; store it as a dataset")
                thing.attrs.create(name, list(value), shape=(len(value),), dtype=h5py.string_dtype())
            else:
                array = writable(where, value)
                if array.nbytes > MAX_ATTRIBUTE - 1024:
                    raise FormatError(f"{where} has {array.nbytes} bytes; store it as a dataset")
                thing.attrs[name] = array


def _writable_scalar(where: str, value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        raise FormatError(f"{where} is {value}, which does not fit 64 bits")
    if not math.isfinite(value):
        raise FormatError(f"{where} is {value}; it has to be finite")
    return value
