"""How do arrays get out of an HDF5 file without trusting it?

A model file is untrusted input, and libhdf5 itself can crash or hang on crafted bytes. :func:`read_tree` therefore
starts a child process with tight resource limits that walks the file (`intsnn.files.hdf5.child`) and parses what that
sends, and nothing else. A crash or a hang of the child is an :class:`~intsnn.errors.ImportRefused` here.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import math
import os
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from ...errors import DataNotFoundError, ImportRefused
from . import child as walker
from .child import MAGIC, MAX_DEPTH, MAX_NAME, MAX_RANK, MAX_RATIO, TYPES, Refusal, object_array, walk

__all__ = ["Tree", "read_tree", "read_tree_bytes"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_HEADER = 8 << 20


@dataclass(frozen=True, eq=False)
class Tree:
    """What a file holds, as plain arrays and attributes.

    Paths have no leading slash; the root is ``""``.

    Attributes
    ----------
    datasets : mapping of str to numpy.ndarray
        Numbers and truth values, little endian, read only; text as object arrays of str.
    attributes : mapping of str to mapping of str to (str, int, float, list of str or numpy.ndarray)
        By path of the object, then by name.
    groups : tuple of str
        Every group, the root first.
    sha256 : str
        Of the whole file.
    """

    datasets: Mapping[str, np.ndarray] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    groups: tuple[str, ...] = ("",)
    sha256: str = ""

    def attribute(self, path: str, name: str, default: Any = None) -> Any:
        """Return attribute ``name`` of the object at ``path``, or ``default``."""
        return self.attributes.get(path, {}).get(name, default)

    def below(self, group: str) -> dict[str, np.ndarray]:
        """Return the datasets under ``group`` by their path below it."""
        prefix = f"{group}/" if group else ""
        return {path[len(prefix) :]: array for path, array in self.datasets.items() if path.startswith(prefix)}


def read_tree(
    path: str | os.PathLike[str],
    *,
    trust: bool = False,
    budget: int = 1 << 30,
    timeout: float = 60.0,
    skip: Sequence[str] = (),
    attributes: Sequence[str] | None = None,
    ragged: Sequence[str] = (),
    label: str | None = None,
    ratio: int = MAX_RATIO,
) -> Tree:
    """Read every array and attribute of an HDF5 file, by strict rules and with bounded memory.

    Parameters
    ----------
    path : path-like
    trust : bool
        Walk the file by the same rules, but in this process: quicker, and only for files of known origin.
    budget : int
        Most bytes that all arrays together may take, and about the most that the file may have.
    timeout : float
        Seconds of wall clock and of processor time for the child process.
    skip : sequence of str
        Paths that are not looked at, ``optimizer_weights`` say.
    attributes : sequence of str, optional
        Names (with ``*``) of the attributes that are read; others are not touched. Default: all, and each must be text
        or numbers.
    ragged : sequence of str
        Paths of datasets ``(N,)`` whose elements are rows of numbers of variable length. Each is read as two arrays:
        the values of all rows, one after the other, and ``PATH:lengths``, how many each row has.
    label : str, optional
        What messages call the file; default its path.
    ratio : int
        Most bytes of a dataset for each byte in the file; deflate makes no more than 1032 of one.

    Returns
    -------
    Tree

    Raises
    ------
    DataNotFoundError
        If there is no such file.
    ImportRefused
        If the file breaks a rule; ``code`` names the rule and ``where`` the object. Codes of the file itself:
        ``directory, not-regular, empty, lfs-pointer, zip, not-hdf5, user-block, truncated, unreadable, too-large,
        crash, timeout, memory, stream``; of its objects: ``external-link, soft-link, link-type, name, depth, count,
        shared-object, object-type, external-storage, virtual-dataset, layout, dataspace, rank, type, text, filter,
        chunk, size-mismatch, ratio, budget, attribute-size, not-finite``.

    Notes
    -----
    The rules follow the published advisories on model files in HDF5 (external links and storage, virtual data sets,
    shape, fill and compression bombs, filter plugins).
    """
    path = os.fspath(path)
    label = label or path
    _check_file(path, label, budget)
    digest = _sha256(path)
    rules = {
        "budget": int(budget), "ratio": int(ratio), "skip": list(skip), "ragged": list(ragged),
        "attributes": None if attributes is None else list(attributes),
    }  # fmt: skip
    builder = _Builder(label, int(budget))
    if trust:
        try:
            for record in walk(path, rules):
                builder.add(*record)
        except Refusal as refusal:
            raise _refused(label, refusal.code, refusal.where, refusal.message) from None
    else:
        _read_child(path, label, rules, timeout, builder)
    return builder.tree(digest)


def read_tree_bytes(data: bytes, *, label: str = "HDF5 data", **options: Any) -> Tree:
    """Read HDF5 data that lies in memory, a member of a zip say; options and errors are those of :func:`read_tree`."""
    with tempfile.TemporaryDirectory(prefix="intsnn-") as folder:
        path = os.path.join(folder, "data.h5")
        with open(path, "wb") as file:
            file.write(data)
        return read_tree(path, label=label, **options)


def _refused(label: str, code: str, where: str, message: str) -> ImportRefused:
    spot = f" at {_shown(where)}" if where else ""
    return ImportRefused(f"{label}{spot}: {message}", code=code, where=where)


def _shown(text: str) -> str:
    text = repr(text)
    return text if len(text) <= 120 else text[:100] + "...'"


def _check_file(path: str, label: str, budget: int) -> None:
    """Say what the file is when it is not HDF5, without ever blocking on a device or a pipe."""
    try:
        info = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise DataNotFoundError(f"there is no file {label}") from None
    except (OSError, ValueError) as error:
        raise ImportRefused(f"{label}: cannot be looked at ({error})", code="unreadable") from None
    if stat.S_ISDIR(info.st_mode):
        raise ImportRefused(f"{label}: is a folder; an HDF5 file is needed", code="directory")
    if not stat.S_ISREG(info.st_mode):
        raise ImportRefused(f"{label}: is a pipe, a socket or a device; a regular file is needed", code="not-regular")
    if info.st_size == 0:
        raise ImportRefused(f"{label}: is empty (0 bytes); the copy or download may have failed", code="empty")
    if info.st_size > budget + (budget >> 2) + (64 << 20):
        raise ImportRefused(
            f"{label}: has {info.st_size} bytes, too many for the budget of {budget}; give a larger budget",
            code="too-large",
        )
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            if head.startswith(SIGNATURE):
                return
            # the format allows the signature after a user block of 512, 1024, ... bytes
            offset = 512
            while offset < info.st_size:
                file.seek(offset)
                if file.read(8) == SIGNATURE:
                    raise ImportRefused(
                        f"{label}: HDF5 starts after {offset} bytes of something else (a user block); save it without",
                        code="user-block",
                    )
                offset *= 2
    except OSError as error:
        raise ImportRefused(f"{label}: cannot be read ({error})", code="unreadable") from None
    if head.startswith(b"version https://git-lfs"):
        raise ImportRefused(
            f"{label}: is a git-lfs pointer, not the file itself; run 'git lfs pull' where it comes from",
            code="lfs-pointer",
        )
    if head.startswith(b"PK\x03\x04"):
        raise ImportRefused(f"{label}: is a zip archive, not HDF5; a Keras zip is called .keras", code="zip")
    if SIGNATURE.startswith(head[:8]):
        raise ImportRefused(f"{label}: is an HDF5 file cut off after {info.st_size} bytes", code="truncated")
    raise ImportRefused(f"{label}: is not an HDF5 file (it starts with {head[:8]!r})", code="not-hdf5")


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_child(path: str, label: str, rules: dict, timeout: float, builder: _Builder) -> None:
    found = importlib.util.find_spec("h5py")
    job = {
        **rules,
        "path": os.path.abspath(path),
        "cpu": max(1, math.ceil(timeout)),
        "memory": rules["budget"] + os.path.getsize(path) + (1 << 30),
        # -I hides user and PYTHONPATH installations: the child may look where the parent found h5py
        "library": os.path.dirname(os.path.dirname(found.origin)) if found and found.origin else "",
    }
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {
        "HDF5_PLUGIN_PRELOAD": "::",  # no filter plugins
        "HDF5_USE_FILE_LOCKING": "FALSE",
        "OPENBLAS_NUM_THREADS": "1",  # threads would each reserve address space, which is limited
        "OMP_NUM_THREADS": "1",
    }
    child = subprocess.Popen(
        [sys.executable, "-I", "-B", os.path.abspath(walker.__file__)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=os.path.abspath(os.sep),
    )
    to_child, from_child = cast(io.BufferedIOBase, child.stdin), cast(io.BufferedIOBase, child.stdout)
    late = threading.Event()

    def stop() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(timeout, stop)
    timer.daemon = True
    timer.start()
    try:
        with contextlib.suppress(BrokenPipeError):
            to_child.write(json.dumps(job).encode())
            to_child.close()
        finished = _parse(from_child, label, builder)
    finally:
        timer.cancel()
        child.kill()
        from_child.close()
        with contextlib.suppress(OSError):
            to_child.close()
        status = child.wait()
    if finished:
        return
    xcpu = -int(getattr(signal, "SIGXCPU", 0))
    if late.is_set() or (xcpu and status == xcpu):
        raise ImportRefused(
            f"{label}: reading took longer than {timeout:g} s and was stopped; the file is damaged or crafted",
            code="timeout",
        )
    raise ImportRefused(
        f"{label}: the HDF5 library crashed on it (the reading process ended with status {status}); "
        "the file is damaged or crafted",
        code="crash",
    )


class _Stopped(Exception):
    """The stream of the child ends before its end record."""


def _parse(stream: io.BufferedIOBase, label: str, builder: _Builder) -> bool:
    """Feed the child's stream to the builder; False where the stream stops before its end record."""

    def bad(message: str) -> ImportRefused:
        return ImportRefused(f"{label}: the reading process sent {message}", code="stream")

    try:
        if _exactly(stream, len(MAGIC)) != MAGIC:
            raise bad("something unknown")
        while True:
            header = _header(stream, bad)
            kind, path = header.get("kind"), header.get("path", "")
            if not isinstance(path, str) or len(path) > (MAX_NAME + 1) * MAX_DEPTH:
                raise bad("a path that is none")
            if kind == "end":
                return True
            if kind == "refused":
                raise _refused(label, str(header.get("code")), path, str(header.get("message"))[:2000])
            if kind == "group":
                builder.add("group", path, None, None)
                continue
            name = header.get("name")
            if kind not in ("attribute", "dataset") or (kind == "attribute" and not isinstance(name, str)):
                raise bad("a record of no known kind")
            builder.add(kind, path, name, _value(stream, header, path, builder, bad))
    except _Stopped:
        return False


def _exactly(stream: io.BufferedIOBase, count: int) -> bytes:
    parts = []
    while count:
        part = stream.read(min(count, 1 << 20))
        if not part:
            raise _Stopped
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _header(stream: io.BufferedIOBase, bad: Callable[[str], ImportRefused]) -> dict:
    """What one record says of itself."""
    (size,) = struct.unpack("<I", _exactly(stream, 4))
    if size > MAX_HEADER:
        raise bad(f"a header of {size} bytes")
    try:
        header = json.loads(_exactly(stream, size))
    except (ValueError, RecursionError):
        raise bad("a header that is no JSON") from None
    if not isinstance(header, dict):
        raise bad("a header that is no object")
    return header


def _value(
    stream: io.BufferedIOBase, header: dict, path: str, builder: _Builder, bad: Callable[[str], ImportRefused]
) -> Any:
    """The value of an attribute or a dataset; the bytes of an array follow its header."""
    value: Any = header.get("value")
    if "shape" not in header:
        if header["kind"] == "dataset" or not (type(value) in (str, int, float) or _is_strings(value)):
            raise bad("a value of no known type")
        return value
    shape = header["shape"]
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(type(n) is int and n >= 0 for n in shape):
        raise bad("a shape that is none")
    if "type" in header:
        if not isinstance(header["type"], str) or header["type"] not in TYPES | {"|b1"}:
            raise bad("an unknown number type")
        dtype = np.dtype(header["type"])
        builder.charge(path, math.prod(max(1, n) for n in shape) * dtype.itemsize)
        return _array(stream, shape, dtype, bad)
    if not _is_strings(value) or len(value) != math.prod(shape):
        raise bad("strings that do not fit their shape")
    return object_array(value, shape)


def _array(
    stream: io.BufferedIOBase, shape: list[int], dtype: np.dtype, bad: Callable[[str], ImportRefused]
) -> np.ndarray:
    """An array from its bytes."""
    value = np.empty(shape, dtype)
    view: Any = value.reshape(-1).view(np.uint8)  # 0-d too
    filled = 0
    while filled < view.size:
        count = stream.readinto(view[filled : filled + (1 << 20)])
        if not count:
            raise _Stopped
        filled += count
    if dtype.kind == "b" and view.size and view.max() > 1:
        raise bad("truth values that are none")
    return value


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


class _Builder:
    """Collects records into a Tree and checks what does not need the file."""

    def __init__(self, label: str, budget: int) -> None:
        self.label, self.left = label, budget
        self.datasets: dict[str, np.ndarray] = {}
        self.attributes: dict[str, dict[Any, Any]] = {}
        self.groups: dict[str, None] = {}

    def charge(self, path: str, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise _refused(self.label, "budget", path, "the arrays need more bytes than the budget; give a larger one")

    def add(self, kind: str, path: str, name: str | None, value: Any) -> None:
        if isinstance(value, np.ndarray):
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                what = f"attribute {name!r} holds" if name else "holds"
                raise _refused(self.label, "not-finite", path, f"{what} NaN or infinity; every value has to be finite")
            value.flags.writeable = False
        elif isinstance(value, float) and not math.isfinite(value):
            raise _refused(self.label, "not-finite", path, f"attribute {name!r} is {value}; it has to be finite")
        if kind == "attribute":
            self.attributes.setdefault(path, {})[name] = value
        elif path in self.datasets or path in self.groups:
            raise _refused(self.label, "stream", path, "comes twice")
        elif kind == "group":
            self.groups[path] = None
        else:
            self.datasets[path] = value

    def tree(self, digest: str) -> Tree:
        attributes = {path: MappingProxyType(values) for path, values in self.attributes.items()}
        return Tree(MappingProxyType(self.datasets), MappingProxyType(attributes), tuple(self.groups), digest)
