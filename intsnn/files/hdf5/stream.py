"""How are arrays written that grow while a run goes on?"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import FormatError, ShapeError
from ...support import atomic
from .write import chunks_of, writable, write_attributes

__all__ = ["RecordWriter", "open_record"]

RECORD_CHUNK = 128 << 10  # bytes of a chunk of records: a short run fills some of one
RECORD_LEVEL = 1  # of deflate
RECORD_ROWS = 1024  # most rows in a chunk of records


class RecordWriter:
    """Arrays that grow along axis 0 (and axis 1) while a run goes on; see :func:`open_record`.

    Use it as a context manager: the file appears under its name when the block ends well and not at all when it raises.
    """

    def __init__(self, path, fields, attributes=None, rows: int = RECORD_ROWS) -> None:
        import h5py

        for name, (shape, dtype) in fields.items():
            writable(name, np.empty(0, dtype))
            if any(int(n) != n or n < 1 for n in (shape[1:] if shape[:1] == (None,) else shape)):
                raise ShapeError(f"record {name!r}: the shape of a sample is {tuple(shape)}; every side has to be >= 1")
        self._path = os.fspath(path)
        self._temporary: str | None = None
        self._file = None
        self._temporary = atomic.temporary_beside(path)
        try:
            self._file = h5py.File(self._temporary, "w")
            self._datasets = {}
            for name, (shape, dtype) in fields.items():
                free = shape[:1] == (None,)
                sides = tuple(int(n) for n in (shape[1:] if free else shape))
                dtype = np.dtype(dtype)
                grown = (RECORD_ROWS, max(1, min(rows, RECORD_ROWS)), *sides) if free else (RECORD_ROWS, *sides)
                self._datasets[name] = self._file.create_dataset(
                    name, shape=(0, 0, *sides) if free else (0, *sides), dtype=dtype,
                    maxshape=(None, None, *sides) if free else (None, *sides),
                    chunks=chunks_of(grown, dtype.itemsize, RECORD_CHUNK),
                    compression="gzip", compression_opts=RECORD_LEVEL, shuffle=dtype.itemsize > 1,
                )  # fmt: skip
            write_attributes(self._file, attributes or {})
        except BaseException:
            self.abort()
            raise

    def append(self, name: str, block: np.ndarray, hold: bool = False) -> None:
        """Append ``block`` ``(n, *shape)`` to the array ``name``.

        Where axis 1 is free too, what is shorter than the rest is filled there with its last values (`hold`) or 0.

        Raises
        ------
        ShapeError
            If the block does not fit the record.
        FormatError
            If its type cannot be stored without loss, or a value is not finite.
        """
        if self._file is None:
            raise FormatError(f"the record {self._path} is closed")
        if name not in self._datasets:
            raise ShapeError(f"the record has no array {name!r}; it has {', '.join(self._datasets)}")
        dataset = self._datasets[name]
        block = writable(name, block)
        free = dataset.ndim > 1 and dataset.maxshape[1] is None
        if block.ndim != dataset.ndim or block.shape[1 + free :] != dataset.shape[1 + free :]:
            raise ShapeError(f"record {name!r}: a block is {block.shape}, samples are {dataset.shape[1:]}")
        if not np.can_cast(block.dtype, dataset.dtype, "safe"):
            raise FormatError(f"record {name!r}: a block of {block.dtype} does not fit {dataset.dtype} without loss")
        if len(block):
            start = dataset.shape[0]
            if free:
                block = self._as_long(dataset, block, hold)
            dataset.resize(start + len(block), axis=0)
            dataset[start:] = block

    @staticmethod
    def _as_long(dataset, block: np.ndarray, hold: bool) -> np.ndarray:
        """`block` along axis 1 as long as the dataset, which is made longer first where it is the shorter one."""
        old, new = dataset.shape[1], block.shape[1]
        if new > old:
            dataset.resize(new, axis=1)
            for first in range(0, len(dataset) if hold and old else 0, dataset.chunks[0]):
                last = dataset[first : first + dataset.chunks[0], old - 1 : old]
                dataset[first : first + len(last), old:] = np.repeat(last, new - old, axis=1)
        elif new < old:
            last = block[:, -1:] if hold and new else np.zeros((len(block), 1, *block.shape[2:]), block.dtype)
            block = np.concatenate([block, np.repeat(last, old - new, axis=1)], axis=1)
        return block

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._file is None or self._temporary is None:
            return
        try:
            self._file.close()
            self._file = None
            atomic.publish(self._temporary, self._path)
            self._temporary = None
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Throw away what was written."""
        with contextlib.suppress(Exception):
            if self._file is not None:
                self._file.close()
        self._file = None
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
            self._temporary = None

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def open_record(
    path: str | os.PathLike[str],
    fields: Mapping[str, tuple[Sequence[int | None], np.dtype | type | str]],
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
    rows: int = RECORD_ROWS,
) -> RecordWriter:
    """Open a file of arrays that grow sample by sample, for records that do not fit in memory.

    Parameters
    ----------
    path : path-like
    fields : mapping of str to (shape, dtype)
        Shape of one sample and type, by path of the dataset; axis 0 (samples) is added. A shape that begins with None
        grows along that axis, too.
    attributes : mapping, optional
        As in :func:`write_tree`.
    rows : int
        How long such an axis is likely to become.

    Returns
    -------
    RecordWriter

    Raises
    ------
    ShapeError, FormatError
        If a field cannot be stored.

    Notes
    -----
    Data are deflated in chunks. Sparse spikes compress so well that :func:`read_tree` wants a larger `ratio` for them.
    """
    return RecordWriter(path, fields, attributes, rows)
