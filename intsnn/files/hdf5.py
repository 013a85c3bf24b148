"""How do arrays get in and out of HDF5 files without trusting the file?

Reading: a model file is untrusted input, and libhdf5 itself can crash or hang on crafted bytes. :func:`read_tree`
therefore starts a child process with tight resource limits that walks the file by strict rules (only hard links, no
storage outside the file, plain number and string types, known filters, sizes checked before anything is allocated) and
copies what it finds into a plain length-prefixed stream. The parent parses that stream and nothing else. A crash or a
hang of the child is an :class:`~intsnn.errors.ImportRefused` here.

Writing: :func:`write_tree` and :func:`open_record` write beside the target and rename, so that a killed run leaves the
old file whole.

This file is also the child's program: it is run as a script with nothing but h5py and numpy, and is the only one that
imports h5py.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import importlib.util
import io
import json
import math
import os
import re
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

import numpy as np

if __name__ != "__main__":
    from ..errors import DataNotFoundError, FormatError, ImportRefused, ShapeError

__all__ = ["RecordWriter", "Tree", "open_record", "read_tree", "read_tree_bytes", "storage", "write_tree"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"

MAX_DEPTH = 16
MAX_OBJECTS = 4096
MAX_NAME = 255
MAX_RANK = 8
MAX_ATTRIBUTES = 256  # per object
MAX_ATTRIBUTE = 64 << 10  # bytes of one numeric attribute
MAX_TEXT = 1 << 20  # bytes of the text in one attribute, or of one string of a dataset
MAX_STRINGS = 1 << 16  # strings in one dataset or attribute
MAX_STRING_BYTES = 16 << 20  # text in one dataset
MAX_RATIO = 200  # declared / stored bytes of a compressed dataset ...
SMALL = 64 << 10  # ... which a dataset of this size or less may exceed (all zeros compress 1000:1)
ROWS = 64  # of variable length that are read at a time
FREE_CHUNK = 1 << 20  # a chunk may be this large whatever the dataset is
RECORD_CHUNK = 128 << 10  # bytes of a chunk of records: a short run fills some of one
RECORD_LEVEL = 1  # of deflate
RECORD_ROWS = 1024  # most rows in a chunk of records

_MAX_HEADER = 8 << 20
_MAGIC = b"INTSNNT1"
_TYPES = frozenset(("|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"))
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}


class _Refusal(Exception):
    """A broken rule; becomes ImportRefused in the parent."""

    def __init__(self, code: str, where: str, message: str) -> None:
        super().__init__(message)
        self.code, self.where, self.message = code, where, message


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


# ---------------------------------------------------------------------------------------------------------------------
# reading: the parent
# ---------------------------------------------------------------------------------------------------------------------


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
            for record in _walk(path, rules):
                builder.add(*record)
        except _Refusal as refusal:
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
        [sys.executable, "-I", "-B", os.path.abspath(__file__)],
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


def _parse(stream: io.BufferedIOBase, label: str, builder: _Builder) -> bool:
    """Feed the child's stream to the builder; False where the stream stops before its end record."""

    def exactly(count: int) -> bytes | None:
        parts = []
        while count:
            part = stream.read(min(count, 1 << 20))
            if not part:
                return None
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def bad(message: str) -> ImportRefused:
        return ImportRefused(f"{label}: the reading process sent {message}", code="stream")

    magic = exactly(len(_MAGIC))
    if magic is None:
        return False
    if magic != _MAGIC:
        raise bad("something unknown")
    while True:
        prefix = exactly(4)
        if prefix is None:
            return False
        (size,) = struct.unpack("<I", prefix)
        if size > _MAX_HEADER:
            raise bad(f"a header of {size} bytes")
        text = exactly(size)
        if text is None:
            return False
        try:
            header = json.loads(text)
        except (ValueError, RecursionError):
            raise bad("a header that is no JSON") from None
        if not isinstance(header, dict):
            raise bad("a header that is no object")
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
        value: Any = header.get("value")
        if "shape" in header:
            shape = header["shape"]
            if (
                not isinstance(shape, list)
                or len(shape) > MAX_RANK
                or not all(type(n) is int and n >= 0 for n in shape)
            ):
                raise bad("a shape that is none")
            if "type" in header:
                if not isinstance(header["type"], str) or header["type"] not in _TYPES | {"|b1"}:
                    raise bad("an unknown number type")
                dtype = np.dtype(header["type"])
                builder.charge(path, math.prod(max(1, n) for n in shape) * dtype.itemsize)
                value = np.empty(shape, dtype)
                view = value.reshape(-1).view(np.uint8)  # 0-d too
                filled = 0
                while filled < view.size:
                    count = stream.readinto(view[filled : filled + (1 << 20)])
                    if not count:
                        return False
                    filled += count
                if dtype.kind == "b" and view.size and view.max() > 1:
                    raise bad("truth values that are none")
            else:
                if not _is_strings(value) or len(value) != math.prod(shape):
                    raise bad("strings that do not fit their shape")
                value = _object_array(value, shape)
        elif kind == "dataset" or not (type(value) in (str, int, float) or _is_strings(value)):
            raise bad("a value of no known type")
        builder.add(kind, path, name, value)


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _object_array(strings: list[str], shape: Sequence[int]) -> np.ndarray:
    array = np.empty(len(strings), object)
    array[:] = strings
    return array.reshape(shape)


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


# ---------------------------------------------------------------------------------------------------------------------
# reading: the walk (in the child, or here with trust=True)
# ---------------------------------------------------------------------------------------------------------------------


def _walk(path: str, rules: dict) -> Iterator[tuple[str, str, str | None, Any]]:
    """Yield ``(kind, path, attribute name, value)`` of everything in the file, or raise _Refusal."""
    import h5py
    from h5py import h5f, h5p

    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    access.set_file_locking(False, True)
    try:
        file = h5f.open(os.fsencode(path), h5f.ACC_RDONLY, access)
    except (OSError, RuntimeError, ValueError) as error:
        message = _one_line(error)
        if "truncated" in message:
            raise _Refusal("truncated", "", f"is cut off ({message}); the copy may have failed") from None
        raise _Refusal("unreadable", "", f"the HDF5 library cannot open it ({message})") from None
    try:
        if file.get_create_plist().get_userblock():
            raise _Refusal("user-block", "", "has a user block; save it without")
        yield from _Walk(h5py, rules, os.path.getsize(path), file.get_create_plist().get_sizes()[0]).group(
            h5py.h5g.open(file, b"/"), "", 0
        )
    except _Refusal:
        raise
    except MemoryError:
        raise _Refusal("memory", "", "needs more memory than is allowed") from None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise _Refusal("unreadable", "", f"the HDF5 library cannot read it ({_one_line(error)})") from None
    finally:
        with contextlib.suppress(Exception):
            file.close()


def _one_line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error))[:200]


class _Walk:
    def __init__(self, h5py: Any, rules: dict, file_size: int, address_size: int) -> None:
        self.h5py = h5py
        self.address_size = address_size
        self.left = rules["budget"]
        self.skip = frozenset(rules["skip"])
        self.wanted = rules["attributes"]
        self.ratio = rules["ratio"]
        self.ragged = frozenset(rules["ragged"])
        self.stored_left = file_size
        self.objects = 0
        self.seen: set[int] = set()

    def group(self, group: Any, path: str, depth: int) -> Iterator[tuple]:
        h5py = self.h5py
        self.once(group, path)
        yield "group", path, None, None
        yield from self.attributes_of(group, path)
        names: list[bytes] = []

        def collect(name: bytes) -> bool | None:
            names.append(name)
            return True if self.objects + len(names) > MAX_OBJECTS else None  # True ends the iteration

        group.links.iterate(collect)
        if self.objects + len(names) > MAX_OBJECTS:
            raise _Refusal("count", path, f"the file has more than {MAX_OBJECTS} objects")
        self.objects += len(names)
        for raw in names:
            name = self.name(raw, path)
            child = f"{path}/{name}" if path else name
            if child in self.skip:
                continue
            kind = group.links.get_info(raw).type
            if kind != h5py.h5l.TYPE_HARD:
                if kind == h5py.h5l.TYPE_EXTERNAL:
                    raise _Refusal("external-link", child, "is a link into another file; copy the data into this one")
                if kind == h5py.h5l.TYPE_SOFT:
                    raise _Refusal("soft-link", child, "is a soft link; only objects stored in place are read")
                raise _Refusal("link-type", child, f"is a link of unknown type {kind}")
            thing = h5py.h5o.open(group, raw)
            if isinstance(thing, h5py.h5g.GroupID):
                if depth + 1 > MAX_DEPTH:
                    raise _Refusal("depth", child, f"groups are nested deeper than {MAX_DEPTH}")
                yield from self.group(thing, child, depth + 1)
            elif isinstance(thing, h5py.h5d.DatasetID):
                self.once(thing, child)
                found = self.dataset(thing, child)
                if isinstance(found, tuple):
                    yield "dataset", f"{child}:lengths", None, found[1]
                    found = found[0]
                yield "dataset", child, None, found
                yield from self.attributes_of(thing, child)
            else:
                raise _Refusal("object-type", child, "is neither a group nor a dataset")

    def name(self, raw: bytes, path: str) -> str:
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise _Refusal("name", path, f"holds the name {raw[:40]!r}, which is no UTF-8") from None
        if not name or len(raw) > MAX_NAME or "/" in name or name in (".", "..") or "\0" in name:
            raise _Refusal("name", path, f"holds an object called {name[:40]!r}, which is no valid name")
        return name

    def once(self, thing: Any, path: str) -> None:
        address = self.h5py.h5o.get_info(thing).addr
        if address in self.seen:
            raise _Refusal("shared-object", path, "is linked twice, or contains itself; each object is read once")
        self.seen.add(address)

    def dataset(self, dataset: Any, path: str) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Its values; of a ragged one the values of all rows and their lengths."""
        h5py = self.h5py
        plist = dataset.get_create_plist()
        layout = plist.get_layout()
        if layout == h5py.h5d.VIRTUAL:
            raise _Refusal("virtual-dataset", path, "is a virtual dataset, whose data lie elsewhere; copy the data in")
        if layout not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
            raise _Refusal("layout", path, f"has the unknown storage layout {layout}")
        if plist.get_external_count():
            raise _Refusal("external-storage", path, "has its data in another file; copy the data into this one")
        shape = self.shape(dataset.get_space(), path)
        kind, dtype, itemsize = self.type(dataset.get_type(), path)
        declared = math.prod(shape) * itemsize
        if kind in ("fixed", "vlen") and (math.prod(shape) > MAX_STRINGS or declared > MAX_STRING_BYTES):
            raise _Refusal("text", path, f"holds more text than {MAX_STRINGS} strings or {MAX_STRING_BYTES} bytes")
        if declared > self.left:
            raise _Refusal(
                "budget", path, f"declares {declared} bytes, {self.left} of the budget are left; give a larger budget"
            )
        self.left -= declared
        filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        for code in filters:
            if code not in _FILTERS:
                raise _Refusal("filter", path, f"uses filter {code}; only deflate, lzf, shuffle, fletcher32 are read")
        if len(set(filters)) < len(filters) or {1, 32000} <= set(filters):
            raise _Refusal("filter", path, "is compressed more than once")
        self.storage(dataset, path, plist, layout, declared, itemsize, bool(filters))
        if kind == "ragged":
            return self.rows(dataset, path, shape, dtype)
        array = np.empty(shape, np.int8 if kind == "bool" else dtype)
        if array.size:
            dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, array, h5py.h5t.py_create(dtype, logical=kind == "bool"))
        if kind == "number":
            return array
        if kind == "bool":
            return array.astype(bool)
        return _object_array(self.texts(array, path, MAX_STRING_BYTES), shape)

    def rows(self, dataset: Any, path: str, shape: tuple[int, ...], dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Rows of variable length, a few at a time: what a crafted heap repeats is charged before more is made."""
        h5s = self.h5py.h5s
        if len(shape) != 1:
            raise _Refusal("rank", path, f"has rows of variable length in {len(shape)} dimensions; one is read")
        parts, lengths = [np.empty(0, dtype)], np.zeros(shape, np.int64)
        for start in range(0, shape[0], ROWS):
            count = min(ROWS, shape[0] - start)
            block, space = np.empty(count, dataset.dtype), dataset.get_space()
            space.select_hyperslab((start,), (count,))
            dataset.read(h5s.create_simple((count,)), space, block)
            for i, row in enumerate(block):
                self.left -= row.nbytes
                if self.left < 0:
                    raise _Refusal("budget", path, "has rows beyond the budget; give a larger budget")
                lengths[start + i] = row.size
                parts.append(row.astype(dtype, copy=False))
        return np.concatenate(parts), lengths

    def storage(self, dataset, path, plist, layout, declared, itemsize, filtered) -> None:
        """Refuse data that are not really there: fill values, sparse chunks, compression bombs."""
        stored = dataset.get_storage_size()
        self.stored_left -= stored
        if self.stored_left < 0:
            raise _Refusal("size-mismatch", path, "the datasets claim more stored bytes than the file has")
        if layout == self.h5py.h5d.CHUNKED:
            chunk = math.prod(plist.get_chunk()) * itemsize
            if chunk > max(4 * declared, FREE_CHUNK):
                raise _Refusal("chunk", path, f"has chunks of {chunk} bytes for {declared} bytes of data")
        if not declared:
            return
        if filtered:
            if declared > self.ratio * stored and (declared > SMALL or not stored):
                raise _Refusal(
                    "ratio",
                    path,
                    f"{declared} bytes are stored in {stored}, more than {self.ratio}:1; save it without compression",
                )
        elif stored != declared and (layout != self.h5py.h5d.CHUNKED or stored < declared):
            raise _Refusal("size-mismatch", path, f"declares {declared} bytes but {stored} are stored")

    def shape(self, space: Any, path: str) -> tuple[int, ...]:
        kind = space.get_simple_extent_type()
        if kind == self.h5py.h5s.SCALAR:
            return ()
        if kind != self.h5py.h5s.SIMPLE:
            raise _Refusal("dataspace", path, "has no data at all (a null dataspace)")
        if space.get_simple_extent_ndims() > MAX_RANK:
            raise _Refusal("rank", path, f"has more than {MAX_RANK} dimensions")
        return tuple(int(n) for n in space.get_simple_extent_dims())

    def type(self, tid: Any, path: str) -> tuple[str, np.dtype, int]:
        """Kind (number, bool, fixed or vlen text, ragged) and numpy type of a value, and its bytes in the file."""
        h5t = self.h5py.h5t
        kind = tid.get_class()
        if kind in (h5t.INTEGER, h5t.FLOAT):
            with contextlib.suppress(TypeError, ValueError):
                dtype = tid.dtype
                little = dtype.newbyteorder("<")
                # equality leaves out odd precisions, padding and bit offsets
                if little.str in _TYPES and h5t.py_create(dtype).equal(tid):
                    return "number", little, little.itemsize
            raise _Refusal("type", path, "has numbers of an unusual layout; 8 to 64 bit integers and floats are read")
        if kind == h5t.STRING:
            if tid.is_variable_str():
                return "vlen", tid.dtype, 8 + self.address_size  # length, heap address, index
            if tid.get_size() > MAX_STRING_BYTES:
                raise _Refusal("text", path, f"has strings of {tid.get_size()} bytes")
            return "fixed", tid.dtype, tid.get_size()
        if kind == h5t.VLEN and path in self.ragged:
            inner, dtype, _ = self.type(tid.get_super(), path)
            if inner == "number":
                return "ragged", dtype, 8 + self.address_size
        if kind == h5t.ENUM and tid.get_size() == 1 and h5t.py_create(np.dtype(bool), logical=True).equal(tid):
            return "bool", np.dtype(bool), 1
        names = {
            h5t.COMPOUND: "compound",
            h5t.REFERENCE: "reference",
            h5t.OPAQUE: "opaque",
            h5t.VLEN: "variable-length",
            h5t.ENUM: "enumeration",
            h5t.ARRAY: "array",
            h5t.BITFIELD: "bit field",
        }
        raise _Refusal("type", path, f"has {names.get(kind, 'unknown')} values; only numbers and text are read")

    def texts(self, array: np.ndarray, path: str, limit: int) -> list[str]:
        total, result = 0, []
        for item in array.reshape(-1).tolist():
            raw = item.encode("utf-8", "surrogateescape") if isinstance(item, str) else bytes(item or b"")
            total += len(raw)
            if len(raw) > MAX_TEXT or total > limit:
                raise _Refusal("text", path, f"holds text of more than {MAX_TEXT} bytes, or {limit} in total")
            try:
                result.append(raw.decode("utf-8"))
            except UnicodeDecodeError:
                raise _Refusal("text", path, f"holds text that is no UTF-8: {raw[:40]!r}") from None
        return result

    def attributes_of(self, thing: Any, path: str) -> Iterator[tuple]:
        h5a = self.h5py.h5a
        count = h5a.get_num_attrs(thing)
        if count > MAX_ATTRIBUTES:
            raise _Refusal("count", path, f"has {count} attributes; at most {MAX_ATTRIBUTES} are read")
        for index in range(count):
            attribute = h5a.open(thing, index=index)
            name = self.name(attribute.name.replace(b"/", b"_"), path)
            if self.wanted is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.wanted):
                yield "attribute", path, name, self.attribute(attribute, path, name)

    def attribute(self, attribute: Any, path: str, name: str) -> Any:
        # size and type come first: reading an attribute is where libhdf5 hangs on damaged files
        try:
            kind, dtype, itemsize = self.type(attribute.get_type(), path)
        except _Refusal as refusal:
            raise _Refusal(refusal.code, path, f"attribute {name!r} {refusal.message}") from None
        space = attribute.get_space()
        if space.get_simple_extent_type() == self.h5py.h5s.NULL:
            return np.empty(0, dtype) if kind == "number" else ""
        shape = self.shape(space, path)
        declared = math.prod(shape) * itemsize
        limit = MAX_ATTRIBUTE if kind == "number" else MAX_TEXT
        if declared > limit or math.prod(shape) > MAX_STRINGS:
            raise _Refusal("attribute-size", path, f"attribute {name!r} has {declared} bytes; at most {limit} are read")
        if declared and attribute.get_storage_size() != declared:
            raise _Refusal("size-mismatch", path, f"attribute {name!r} is stored in another size than it declares")
        array = np.empty(shape, np.int8 if kind == "bool" else dtype)
        if array.size:
            attribute.read(array, self.h5py.h5t.py_create(dtype, logical=kind == "bool"))
        if kind == "bool":
            array = (array != 0).astype(np.int8)
        if kind in ("number", "bool"):
            return array if shape else array.item()
        if len(shape) > 1:
            raise _Refusal("rank", path, f"attribute {name!r} is text in {len(shape)} dimensions; at most one is read")
        try:
            texts = self.texts(array, path, MAX_TEXT)
        except _Refusal as refusal:
            code = "attribute-size" if "more than" in refusal.message else refusal.code
            raise _Refusal(code, path, f"attribute {name!r} {refusal.message}") from None
        return texts if shape else texts[0]


# ---------------------------------------------------------------------------------------------------------------------
# reading: the child
# ---------------------------------------------------------------------------------------------------------------------


def _child() -> None:
    job = json.loads(sys.stdin.buffer.read())
    _limit(job)
    if job["library"] and importlib.util.find_spec("h5py") is None:
        sys.path.append(job["library"])
    out = sys.stdout.buffer

    def send(header: dict) -> None:
        text = json.dumps(header).encode()
        out.write(struct.pack("<I", len(text)) + text)

    out.write(_MAGIC)
    try:
        for kind, path, name, value in _walk(job["path"], job):
            header: dict[str, Any] = {"kind": kind, "path": path}
            if name is not None:
                header["name"] = name
            if isinstance(value, np.ndarray):
                header["shape"] = list(value.shape)
                if value.dtype == object:
                    header["value"] = value.reshape(-1).tolist()
                    send(header)
                else:
                    header["type"] = value.dtype.str
                    send(header)
                    out.write(value.reshape(-1).view(np.uint8).data)
            else:
                if value is not None:
                    header["value"] = value
                send(header)
        send({"kind": "end"})
    except _Refusal as refusal:
        send({"kind": "refused", "code": refusal.code, "path": refusal.where, "message": refusal.message})
    except MemoryError:
        send({"kind": "refused", "code": "memory", "message": "needs more memory than is allowed"})
    out.flush()
    os._exit(0)  # nothing of libhdf5 runs after this


def _limit(job: dict) -> None:
    try:
        import resource
    except ImportError:  # not on Windows: the limits of wall clock and of every size in the file remain
        return
    limits = {"AS": job["memory"], "CPU": job["cpu"], "NOFILE": 64, "FSIZE": 0, "CORE": 0}
    for name, value in limits.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):
            number = getattr(resource, f"RLIMIT_{name}")
            hard = resource.getrlimit(number)[1]
            if hard != resource.RLIM_INFINITY:
                value = min(value, hard)
            resource.setrlimit(number, (value, value))


# ---------------------------------------------------------------------------------------------------------------------
# writing
# ---------------------------------------------------------------------------------------------------------------------


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
    arrays = {name: _writable(name, value) for name, value in datasets.items()}
    import h5py

    # made in memory first: libhdf5 crashes where a disk is full, a plain write raises
    with h5py.File("image", "w", driver="core", backing_store=False) as file:
        for name, array in arrays.items():
            _write_dataset(file, name, array)
        _write_attributes(file, attributes or {})
        file.flush()
        image = file.id.get_file_image()
    with _replacing(path) as temporary, open(temporary, "wb") as out:
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


def _writable(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.newbyteorder("<").str not in _TYPES:
        raise FormatError(f"dataset {name!r} has type {array.dtype}; integers and floats up to 64 bits are written")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise FormatError(f"dataset {name!r} holds NaN or infinity; every value has to be finite")
    return array


def _write_dataset(file: Any, name: str, array: np.ndarray) -> None:
    if array.dtype.kind in "iu" and array.nbytes >= 4096 and _compressible(array):
        chunks = _chunks(array.shape, array.itemsize)
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


def _chunks(shape: tuple[int, ...], itemsize: int, limit: int = 1 << 20) -> tuple[int, ...]:
    """Chunks of whole rows: the leading axes are cut until a chunk has at most ``limit`` bytes."""
    chunks = [max(1, n) for n in shape]
    for axis in range(len(chunks)):
        inner = math.prod(chunks[axis + 1 :]) * itemsize
        chunks[axis] = max(1, min(chunks[axis], limit // inner))
        if inner <= limit:
            break
    return tuple(chunks)


def _write_attributes(file: Any, attributes: Mapping[str, Mapping[str, Any]]) -> None:
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
                array = _writable(where, value)
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


@contextlib.contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """Give a temporary name beside ``path``; rename it there on success, remove it on any error."""
    temporary = _temporary(path)
    try:
        yield temporary
        _publish(temporary, os.fspath(path))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _temporary(path: str | os.PathLike[str]) -> str:
    folder, name = os.path.split(os.path.abspath(os.fspath(path)))
    if not os.path.isdir(folder):
        raise DataNotFoundError(f"there is no folder {folder} to write {name} in")
    if os.path.isdir(os.path.join(folder, name)):
        raise FormatError(f"{os.fspath(path)} is a folder; give the name of a file to write")
    number, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
    os.close(number)
    return temporary


def _publish(temporary: str, path: str) -> None:
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        mode = 0o666 & ~mask
    _sync(temporary, os.O_RDWR)  # Windows brings to disk only what may be written
    os.chmod(temporary, mode)  # mkstemp makes files for the owner only
    os.replace(temporary, path)
    with contextlib.suppress(OSError):  # folders cannot be synced everywhere
        _sync(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)


def _sync(path: str, mode: int) -> None:
    number = os.open(path, mode)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class RecordWriter:
    """Arrays that grow along axis 0 (and axis 1) while a run goes on; see :func:`open_record`.

    Use it as a context manager: the file appears under its name when the block ends well and not at all when it raises.
    """

    def __init__(self, path, fields, attributes=None, rows: int = RECORD_ROWS) -> None:
        import h5py

        for name, (shape, dtype) in fields.items():
            _writable(name, np.empty(0, dtype))
            if any(int(n) != n or n < 1 for n in (shape[1:] if shape[:1] == (None,) else shape)):
                raise ShapeError(f"record {name!r}: the shape of a sample is {tuple(shape)}; every side has to be >= 1")
        self._path = os.fspath(path)
        self._temporary: str | None = None
        self._file = None
        self._temporary = _temporary(path)
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
                    chunks=_chunks(grown, dtype.itemsize, RECORD_CHUNK),
                    compression="gzip", compression_opts=RECORD_LEVEL, shuffle=dtype.itemsize > 1,
                )  # fmt: skip
            _write_attributes(self._file, attributes or {})
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
        block = _writable(name, block)
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
            _publish(self._temporary, self._path)
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


if __name__ == "__main__":
    _child()
