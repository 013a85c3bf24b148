"""Is it an ONNX file, and is it whole? The fields of its messages are walked before any library reads them.

ONNX is one protobuf message: fields of a number, a kind (a varint, 4 or 8 bytes, or a length and as many bytes) and a
value. Numbers of fields are those of the published schema, ``onnx.proto``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...errors import ImportRefused
from ...formats.arguments import path_of

__all__ = ["check_fields", "is_onnx"]

MAX_FIELDS = 1 << 19  # each costs the library memory, whatever its length
MAX_DEPTH = 24  # messages in messages
HEAD = 1 << 16  # bytes that tell ONNX from other files

VARINT, EIGHT, LENGTH, FOUR = 0, 1, 2, 5

# Message -> field -> the message it holds. What is not listed is not looked into.
MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "flat", 14: "flat", 20: "training", 25: "function", 26: "flat"},
    "graph": {
        1: "node", 5: "tensor", 11: "named", 12: "named", 13: "named", 14: "annotation", 15: "sparse", 16: "flat",
    },
    "node": {5: "attribute", 9: "flat"},
    "annotation": {2: "flat"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 14: "type", 15: "type", 22: "sparse", 23: "sparse",
    },
    "tensor": {3: "flat", 13: "flat", 16: "flat"},
    "sparse": {1: "tensor", 2: "tensor"},
    "named": {2: "type", 4: "flat"},
    "type": {1: "array", 4: "list", 5: "map", 8: "array", 9: "list"},
    "array": {2: "shape"},
    "shape": {1: "flat"},
    "list": {1: "type"},
    "map": {2: "type"},
    "function": {7: "node", 9: "flat", 11: "attribute", 12: "named", 14: "flat"},
    "training": {1: "graph", 2: "graph", 3: "flat", 4: "flat"},
    "flat": {},
}  # fmt: skip
# Numbers in a row: each byte of them may become eight in memory.
PACKED = {("tensor", 5), ("tensor", 7), ("tensor", 11), ("attribute", 8)}
# Field of a model -> its kind; what comes before the graph tells the format.
MODEL = {1: VARINT, 2: LENGTH, 3: LENGTH, 4: LENGTH, 5: VARINT, 6: LENGTH, 7: LENGTH, 8: LENGTH}
MODEL |= {14: LENGTH, 20: LENGTH, 25: LENGTH, 26: LENGTH}
GRAPH = {1, 2, 5, 10, 11, 12, 13, 14, 15, 16}


class _Cut(Exception):
    """The bytes end inside a field."""


class _Bad(Exception):
    """The bytes are no fields."""


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number at a place, and the place behind it."""
    value = 0
    for count in range(10):
        if at >= end:
            raise _Cut
        byte = data[at]
        at += 1
        value |= (byte & 127) << (7 * count)
        if byte < 128:
            return value, at
    raise _Bad


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """``(number, kind, start, stop)`` of the fields between two places; of a varint `start` is its value."""
    while at < end:
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise _Bad
        if kind == VARINT:
            value, at = _varint(data, at, end)
            yield number, kind, value, at
            continue
        if kind == LENGTH:
            size, at = _varint(data, at, end)
        elif kind in (EIGHT, FOUR):
            size = 8 if kind == EIGHT else 4
        else:
            raise _Bad
        yield number, kind, at, at + size
        at += size
        if at > end:
            raise _Cut


def check_fields(data: bytes, label: str, budget: int) -> None:
    """Refuse bytes that are no whole ONNX model, or one of so many parts that reading it would fill the memory.

    Raises
    ------
    ImportRefused
        ``code`` is ``truncated``, ``damaged``, ``depth``, ``count`` or ``too-large``.
    """
    left, count = budget, 0
    todo = [("model", 0, len(data), 0)]
    while todo:
        message, start, end, depth = todo.pop()
        if depth > MAX_DEPTH:
            raise ImportRefused(f"{label}: messages are nested deeper than {MAX_DEPTH}", code="depth")
        inner = MESSAGES[message]
        try:
            for number, kind, at, stop in _fields(data, start, end):
                count += 1
                if count > MAX_FIELDS:
                    raise ImportRefused(f"{label}: has more than {MAX_FIELDS} fields", code="count")
                if kind != LENGTH:
                    continue
                if stop > end:
                    raise _Cut
                left -= (stop - at) * (8 if (message, number) in PACKED else 1) if number not in inner else 0
                if left < 0:
                    raise ImportRefused(
                        f"{label}: its numbers take more than the budget of {budget} bytes; give a larger budget",
                        code="too-large",
                    )
                if number in inner:
                    todo.append((inner[number], at, stop, depth + 1))
        except _Cut:
            if message == "model":
                raise ImportRefused(
                    f"{label}: is cut off after {len(data)} bytes; the copy or download may have failed",
                    code="truncated",
                ) from None
            raise ImportRefused(f"{label}: is damaged: a {message} ends inside a field", code="damaged") from None
        except _Bad:
            raise ImportRefused(
                f"{label}: is damaged: a {message} holds something that is no protobuf field", code="damaged"
            ) from None


def is_onnx(data_or_path: bytes | str | os.PathLike[str]) -> bool:
    """Whether bytes, or the file of that name, begin as an ONNX model does.

    No more than the first 64 KiB are looked at, and no library is needed; a model that is cut off is recognised, too.
    What is no readable file is no ONNX file.
    """
    if isinstance(data_or_path, bytes | bytearray | memoryview):
        return _begins(bytes(data_or_path[:HEAD]))
    path = path_of(data_or_path, "data_or_path")
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            return _begins(file.read(HEAD))
    except OSError:
        return False


def _begins(head: bytes) -> bool:
    """Whether the fields of a model stand there, up to its graph and into it."""
    seen = set()
    try:
        for number, kind, at, stop in _fields(head, 0, len(head)):
            if MODEL.get(number) != kind or (number == 1 and not 1 <= at <= 999):
                return False
            seen.add(number)
            if number == 7:
                return 1 in seen and _graph(head[at : min(stop, len(head))])
    except _Bad:
        return False
    except _Cut:  # a text longer than what was looked at, or a model that ends early
        return 1 in seen and bool(seen & {2, 6, 8})
    return {1, 8} <= seen


def _graph(head: bytes) -> bool:
    try:
        number, kind, _, _ = next(_fields(head, 0, len(head)))
    except StopIteration:
        return True
    except (_Bad, _Cut):
        return False
    return number in GRAPH and kind == LENGTH
