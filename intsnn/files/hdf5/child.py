"""How is an untrusted HDF5 file walked? By strict rules, in a process of its own.

Only hard links, no storage outside the file, plain number and string types, known filters, and sizes checked before
anything is allocated. What is found is copied into a plain length-prefixed stream, which `intsnn.files.hdf5.read`
parses.

This file is the program of that process, too: it is run as a script with nothing but h5py and numpy, so it imports
nothing of ours.
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.util
import json
import math
import os
import re
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

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
MAGIC = b"INTSNNT1"
TYPES = frozenset(("|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"))
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}


class Refusal(Exception):
    """A broken rule; becomes ImportRefused in the parent."""

    def __init__(self, code: str, where: str, message: str) -> None:
        super().__init__(message)
        self.code, self.where, self.message = code, where, message


def object_array(strings: list[str], shape: Sequence[int]) -> np.ndarray:
    array = np.empty(len(strings), object)
    array[:] = strings
    return array.reshape(shape)


def walk(path: str, rules: dict) -> Iterator[tuple[str, str, str | None, Any]]:
    """Yield ``(kind, path, attribute name, value)`` of everything in the file, or raise Refusal."""
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
            raise Refusal("truncated", "", f"is cut off ({message}); the copy may have failed") from None
        raise Refusal("unreadable", "", f"the HDF5 library cannot open it ({message})") from None
    try:
        if file.get_create_plist().get_userblock():
            raise Refusal("user-block", "", "has a user block; save it without")
        yield from _Walk(h5py, rules, os.path.getsize(path), file.get_create_plist().get_sizes()[0]).group(
            h5py.h5g.open(file, b"/"), "", 0
        )
    except Refusal:
        raise
    except MemoryError:
        raise Refusal("memory", "", "needs more memory than is allowed") from None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise Refusal("unreadable", "", f"the HDF5 library cannot read it ({_one_line(error)})") from None
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
            raise Refusal("count", path, f"the file has more than {MAX_OBJECTS} objects")
        self.objects += len(names)
        for raw in names:
            name = self.name(raw, path)
            child = f"{path}/{name}" if path else name
            if child in self.skip:
                continue
            kind = group.links.get_info(raw).type
            if kind != h5py.h5l.TYPE_HARD:
                if kind == h5py.h5l.TYPE_EXTERNAL:
                    raise Refusal("external-link", child, "is a link into another file; copy the data into this one")
                if kind == h5py.h5l.TYPE_SOFT:
                    raise Refusal("soft-link", child, "is a soft link; only objects stored in place are read")
                raise Refusal("link-type", child, f"is a link of unknown type {kind}")
            thing = h5py.h5o.open(group, raw)
            if isinstance(thing, h5py.h5g.GroupID):
                if depth + 1 > MAX_DEPTH:
                    raise Refusal("depth", child, f"groups are nested deeper than {MAX_DEPTH}")
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
                raise Refusal("object-type", child, "is neither a group nor a dataset")

    def name(self, raw: bytes, path: str) -> str:
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Refusal("name", path, f"holds the name {raw[:40]!r}, which is no UTF-8") from None
        if not name or len(raw) > MAX_NAME or "/" in name or name in (".", "..") or "\0" in name:
            raise Refusal("name", path, f"holds an object called {name[:40]!r}, which is no valid name")
        return name

    def once(self, thing: Any, path: str) -> None:
        address = self.h5py.h5o.get_info(thing).addr
        if address in self.seen:
            raise Refusal("shared-object", path, "is linked twice, or contains itself; each object is read once")
        self.seen.add(address)

    def dataset(self, dataset: Any, path: str) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Its values; of a ragged one the values of all rows and their lengths."""
        h5py = self.h5py
        plist = dataset.get_create_plist()
        layout = plist.get_layout()
        if layout == h5py.h5d.VIRTUAL:
            raise Refusal("virtual-dataset", path, "is a virtual dataset, whose data lie elsewhere; copy the data in")
        if layout not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
            raise Refusal("layout", path, f"has the unknown storage layout {layout}")
        if plist.get_external_count():
            raise Refusal("external-storage", path, "has its data in another file; copy the data into this one")
        shape = self.shape(dataset.get_space(), path)
        kind, dtype, itemsize = self.type(dataset.get_type(), path)
        declared = math.prod(shape) * itemsize
        if kind in ("fixed", "vlen") and (math.prod(shape) > MAX_STRINGS or declared > MAX_STRING_BYTES):
            raise Refusal("text", path, f"holds more text than {MAX_STRINGS} strings or {MAX_STRING_BYTES} bytes")
        if declared > self.left:
            raise Refusal(
                "budget", path, f"declares {declared} bytes, {self.left} of the budget are left; give a larger budget"
            )
        self.left -= declared
        filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        for code in filters:
            if code not in FILTERS:
                raise Refusal("filter", path, f"uses filter {code}; only deflate, lzf, shuffle, fletcher32 are read")
        if len(set(filters)) < len(filters) or {1, 32000} <= set(filters):
            raise Refusal("filter", path, "is compressed more than once")
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
        return object_array(self.texts(array, path, MAX_STRING_BYTES), shape)

    def rows(self, dataset: Any, path: str, shape: tuple[int, ...], dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Rows of variable length, a few at a time: what a crafted heap repeats is charged before more is made."""
        h5s = self.h5py.h5s
        if len(shape) != 1:
            raise Refusal("rank", path, f"has rows of variable length in {len(shape)} dimensions; one is read")
        parts, lengths = [np.empty(0, dtype)], np.zeros(shape, np.int64)
        for start in range(0, shape[0], ROWS):
            count = min(ROWS, shape[0] - start)
            block, space = np.empty(count, dataset.dtype), dataset.get_space()
            space.select_hyperslab((start,), (count,))
            dataset.read(h5s.create_simple((count,)), space, block)
            for i, row in enumerate(block):
                self.left -= row.nbytes
                if self.left < 0:
                    raise Refusal("budget", path, "has rows beyond the budget; give a larger budget")
                lengths[start + i] = row.size
                parts.append(row.astype(dtype, copy=False))
        return np.concatenate(parts), lengths

    def storage(self, dataset, path, plist, layout, declared, itemsize, filtered) -> None:
        """Refuse data that are not really there: fill values, sparse chunks, compression bombs."""
        stored = dataset.get_storage_size()
        self.stored_left -= stored
        if self.stored_left < 0:
            raise Refusal("size-mismatch", path, "the datasets claim more stored bytes than the file has")
        if layout == self.h5py.h5d.CHUNKED:
            chunk = math.prod(plist.get_chunk()) * itemsize
            if chunk > max(4 * declared, FREE_CHUNK):
                raise Refusal("chunk", path, f"has chunks of {chunk} bytes for {declared} bytes of data")
        if not declared:
            return
        if filtered:
            if declared > self.ratio * stored and (declared > SMALL or not stored):
                raise Refusal(
                    "ratio",
                    path,
                    f"{declared} bytes are stored in {stored}, more than {self.ratio}:1; save it without compression",
                )
        elif stored != declared and (layout != self.h5py.h5d.CHUNKED or stored < declared):
            raise Refusal("size-mismatch", path, f"declares {declared} bytes but {stored} are stored")

    def shape(self, space: Any, path: str) -> tuple[int, ...]:
        kind = space.get_simple_extent_type()
        if kind == self.h5py.h5s.SCALAR:
            return ()
        if kind != self.h5py.h5s.SIMPLE:
            raise Refusal("dataspace", path, "has no data at all (a null dataspace)")
        if space.get_simple_extent_ndims() > MAX_RANK:
            raise Refusal("rank", path, f"has more than {MAX_RANK} dimensions")
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
                if little.str in TYPES and h5t.py_create(dtype).equal(tid):
                    return "number", little, little.itemsize
            raise Refusal("type", path, "has numbers of an unusual layout; 8 to 64 bit integers and floats are read")
        if kind == h5t.STRING:
            if tid.is_variable_str():
                return "vlen", tid.dtype, 8 + self.address_size  # length, heap address, index
            if tid.get_size() > MAX_STRING_BYTES:
                raise Refusal("text", path, f"has strings of {tid.get_size()} bytes")
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
        raise Refusal("type", path, f"has {names.get(kind, 'unknown')} values; only numbers and text are read")

    def texts(self, array: np.ndarray, path: str, limit: int) -> list[str]:
        total, result = 0, []
        for item in array.reshape(-1).tolist():
            raw = item.encode("utf-8", "surrogateescape") if isinstance(item, str) else bytes(item or b"")
            total += len(raw)
            if len(raw) > MAX_TEXT or total > limit:
                raise Refusal("text", path, f"holds text of more than {MAX_TEXT} bytes, or {limit} in total")
            try:
                result.append(raw.decode("utf-8"))
            except UnicodeDecodeError:
                raise Refusal("text", path, f"holds text that is no UTF-8: {raw[:40]!r}") from None
        return result

    def attributes_of(self, thing: Any, path: str) -> Iterator[tuple]:
        h5a = self.h5py.h5a
        count = h5a.get_num_attrs(thing)
        if count > MAX_ATTRIBUTES:
            raise Refusal("count", path, f"has {count} attributes; at most {MAX_ATTRIBUTES} are read")
        for index in range(count):
            attribute = h5a.open(thing, index=index)
            name = self.name(attribute.name.replace(b"/", b"_"), path)
            if self.wanted is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.wanted):
                yield "attribute", path, name, self.attribute(attribute, path, name)

    def attribute(self, attribute: Any, path: str, name: str) -> Any:
        # size and type come first: reading an attribute is where libhdf5 hangs on damaged files
        try:
            kind, dtype, itemsize = self.type(attribute.get_type(), path)
        except Refusal as refusal:
            raise Refusal(refusal.code, path, f"attribute {name!r} {refusal.message}") from None
        space = attribute.get_space()
        if space.get_simple_extent_type() == self.h5py.h5s.NULL:
            return np.empty(0, dtype) if kind == "number" else ""
        shape = self.shape(space, path)
        declared = math.prod(shape) * itemsize
        limit = MAX_ATTRIBUTE if kind == "number" else MAX_TEXT
        if declared > limit or math.prod(shape) > MAX_STRINGS:
            raise Refusal("attribute-size", path, f"attribute {name!r} has {declared} bytes; at most {limit} are read")
        if declared and attribute.get_storage_size() != declared:
            raise Refusal("size-mismatch", path, f"attribute {name!r} is stored in another size than it declares")
        array = np.empty(shape, np.int8 if kind == "bool" else dtype)
        if array.size:
            attribute.read(array, self.h5py.h5t.py_create(dtype, logical=kind == "bool"))
        if kind == "bool":
            array = (array != 0).astype(np.int8)
        if kind in ("number", "bool"):
            return array if shape else array.item()
        if len(shape) > 1:
            raise Refusal("rank", path, f"attribute {name!r} is text in {len(shape)} dimensions; at most one is read")
        try:
            texts = self.texts(array, path, MAX_TEXT)
        except Refusal as refusal:
            code = "attribute-size" if "more than" in refusal.message else refusal.code
            raise Refusal(code, path, f"attribute {name!r} {refusal.message}") from None
        return texts if shape else texts[0]


def _child() -> None:
    job = json.loads(sys.stdin.buffer.read())
    _limit(job)
    if job["library"] and importlib.util.find_spec("h5py") is None:
        sys.path.append(job["library"])
    out = sys.stdout.buffer

    def send(header: dict) -> None:
        text = json.dumps(header).encode()
        out.write(struct.pack("<I", len(text)) + text)

    out.write(MAGIC)
    try:
        for kind, path, name, value in walk(job["path"], job):
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
    except Refusal as refusal:
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


if __name__ == "__main__":
    _child()
