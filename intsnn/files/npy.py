"""How is one array in NumPy's own format (``.npy``) read without trusting it?

The header of such a file is the text of a Python dictionary, and what it announces decides how much memory is asked
for. Here it is read by a grammar of its own, nothing is evaluated, and every number in it is compared with the bytes
that are there before an array of that size is made. Versions 1.0 to 3.0 of the format are read, numbers, truth values,
text and records of these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np

from ..errors import ImportRefused

__all__ = ["BUDGET", "Header", "read_array", "read_exactly", "read_header"]

BUDGET = 4 << 30  # bytes of one array
MAX_RANK = 8
MAX_HEADER = 10_000  # characters, as NumPy itself
MAX_DEPTH = 4  # of brackets: the dictionary, a list of fields, one field, its shape
MAX_FIELDS = 64
_MAGIC = b"\x93NUMPY"
_BLOCK = 1 << 20
_SCALAR = re.compile(r"[<>|=]?(\?|b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,5})")
_TOKEN = re.compile(r"""\s*(?:([][{}(),:])|'([^'\\\n]*)'|"([^"\\\n]*)"|(-?[0-9]+)L?|(True|False)\b)\s*""")


@dataclass(frozen=True)
class Header:
    """What a header announces: `shape`, `dtype`, whether the values are in Fortran's order, and `size` in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return math.prod(self.shape) * self.dtype.itemsize


class _Grammar(Exception):
    """Where a text leaves the grammar of a header, or what is wrong with the values in it."""


class _Readable(Protocol):
    """What gives bytes: a binary file, or a compressed one."""

    def read(self, size: int, /) -> bytes: ...


def read_exactly(stream: _Readable, count: int) -> bytearray:
    """Up to `count` bytes, taken in blocks: what is announced and not there takes no memory."""
    found = bytearray()
    while len(found) < count:
        part = stream.read(min(_BLOCK, count - len(found)))
        if not part:
            break
        found += part
    return found


def read_header(stream: BinaryIO, where: str) -> tuple[Header, int]:
    """The header at the start of a stream, and how many bytes it took.

    Parameters
    ----------
    stream : binary file
    where : str
        Names the array in errors.

    Raises
    ------
    ImportRefused
        No header of the format, or one that announces what no array of numbers or text can be.
    """
    start = bytes(read_exactly(stream, 8))
    if len(start) < 8 or start[:6] != _MAGIC:
        raise ImportRefused(f"{where} is no .npy array: it does not start as one", code="npy")
    version = (start[6], start[7])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ImportRefused(
            f"{where} is no .npy array: version {version[0]}.{version[1]} of the format; 1.0, 2.0 and 3.0 are read",
            code="npy",
        )
    wide = 2 if version == (1, 0) else 4
    size = int.from_bytes(read_exactly(stream, wide), "little")
    if size > MAX_HEADER:
        raise ImportRefused(f"{where} has a header of {size} bytes; at most {MAX_HEADER} are read", code="npy")
    raw = bytes(read_exactly(stream, size))
    try:
        text = raw.decode("utf-8" if version == (3, 0) else "latin1")
        if len(raw) < size:
            raise _Grammar("it is cut short")
        values = _parse(text)
    except (_Grammar, UnicodeDecodeError) as error:
        message = "it is no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ImportRefused(f"{where} is no .npy array; its header cannot be read: {message}", code="npy") from None
    try:
        return _header(values), 8 + wide + size
    except _Grammar as error:
        raise ImportRefused(f"{where} {error}", code="npy") from None


def read_array(stream: BinaryIO, size: int, where: str, budget: int = BUDGET) -> np.ndarray:
    """The array in a stream of `size` bytes, header and all.

    Parameters
    ----------
    stream : binary file
    size : int
        Bytes from here to the end; the header has to announce just these.
    where : str
        Names the array in errors.
    budget : int
        Most bytes of the array.

    Returns
    -------
    ndarray
        Writable, in the byte order of the file.

    Raises
    ------
    ImportRefused
        Anything but one array, whole, of numbers, truth values, text or records of these, with at most 8 axes.
    """
    header, taken = read_header(stream, where)
    # of the axes that are not empty too: no axis may promise what no memory holds
    whole = math.prod(max(1, n) for n in header.shape) * header.dtype.itemsize
    if whole > budget:
        raise ImportRefused(
            f"{where} has shape {_shown(header.shape)} of {header.dtype}; at most {budget} bytes are read", code="size"
        )
    if header.size != size - taken:
        raise ImportRefused(
            f"{where} has shape {header.shape} of {header.dtype}, which its size contradicts", code="size"
        )
    content = read_exactly(stream, header.size + 1)
    if len(content) != header.size:
        more = "more" if len(content) > header.size else f"only {len(content)}"
        raise ImportRefused(f"{where} announces {header.size} bytes and holds {more}", code="size")
    array = np.frombuffer(content, header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
    _check_values(array, where)
    return array


def _check_values(array: np.ndarray, where: str) -> None:
    """Bytes that are no values of their type: truth values of 2 and more, text beyond Unicode."""
    if array.dtype.names:
        for name in array.dtype.names:
            _check_values(array[name], f"{where}, field {name!r}")
    elif array.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise ImportRefused(f"{where} has truth values that are neither 0 nor 1", code="npy")
    elif array.dtype.kind == "U" and array.size:
        codes = np.frombuffer(array.tobytes(), f"{array.dtype.byteorder.replace('|', '=')}u4")
        if codes.max() > 0x10FFFF or ((codes >= 0xD800) & (codes < 0xE000)).any():
            raise ImportRefused(f"{where} holds text that is no Unicode", code="npy")


def _shown(shape: tuple[int, ...]) -> str:
    text = str(shape)
    return text if len(text) <= 80 else f"{text[:70]}..."


def _header(values: Any) -> Header:
    if not isinstance(values, dict) or set(values) != {"descr", "fortran_order", "shape"}:
        raise _Grammar("has a header that is no dictionary of descr, fortran_order and shape")
    shape, fortran = values["shape"], values["fortran_order"]
    if not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
        raise _Grammar("has a shape that is no tuple of whole numbers")
    if len(shape) > MAX_RANK:
        raise _Grammar(f"has {len(shape)} axes; at most {MAX_RANK} are read")
    if not all(0 <= n < 1 << 48 for n in shape):
        raise _Grammar(f"has the shape {_shown(shape)}; sizes from 0 to 2^48 are possible")
    if type(fortran) is not bool:
        raise _Grammar("has a header whose fortran_order is neither True nor False")
    return Header(shape, _dtype(values["descr"]), fortran)


def _dtype(descr: Any) -> np.dtype:
    if isinstance(descr, str):
        if re.fullmatch(r"[<>|=]?O[0-9]*", descr):
            raise _Grammar("holds Python objects; only numbers and text are read")
        if not _SCALAR.fullmatch(descr):
            raise _Grammar(f"has the type {descr[:40]!r}; numbers of 8 to 64 bits, truth values and text are read")
        return np.dtype(descr)
    if not isinstance(descr, list) or not 1 <= len(descr) <= MAX_FIELDS:
        raise _Grammar(f"has a type that is neither a text such as '<i4' nor a list of 1 to {MAX_FIELDS} fields")
    fields = []
    for entry in descr:
        if not isinstance(entry, tuple) or len(entry) != 2 or not all(isinstance(part, str) for part in entry):
            raise _Grammar("has fields that are more than a name and a type of numbers or text")
        fields.append((entry[0], _dtype(entry[1])))
    names = [name for name, _ in fields]
    if len(set(names)) < len(names) or "" in names:
        raise _Grammar("has fields without a name of their own")
    return np.dtype(fields)


def _parse(text: str) -> Any:
    """The value that a header writes: dictionaries, lists, tuples, text, whole numbers and truth values."""
    tokens = _tokens(text)
    value = _value(next(tokens), tokens, 0)
    if next(tokens) is not None:
        raise _Grammar("something stands behind its end")
    return value


def _tokens(text: str) -> Iterator[Any]:
    """Signs as one-character lists ``["("]``, values as they are, None for ever at the end."""
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise _Grammar(f"{text[place : place + 20]!r} cannot stand there")
        sign, single, double, number, truth = match.groups()
        if sign is not None:
            yield [sign]
        elif number is not None:
            if len(number) > 20:
                raise _Grammar(f"a number of {len(number)} digits is no size")
            yield int(number)
        else:
            yield truth == "True" if truth is not None else single if single is not None else double
        place = match.end()
    while True:
        yield None


def _value(token: Any, tokens: Iterator[Any], depth: int) -> Any:
    if token is None:
        raise _Grammar("a bracket is not closed")
    if not isinstance(token, list):
        return token
    (sign,) = token
    if sign not in "({[":
        raise _Grammar(f"{sign!r} cannot stand there")
    if depth == MAX_DEPTH:
        raise _Grammar(f"brackets are nested deeper than {MAX_DEPTH}")
    end, comma = [")}]"["({[".index(sign)]], False
    items: list[Any] = []
    keys: list[str] = []
    token = next(tokens)
    while token != end:
        if items and not comma:
            raise _Grammar("a comma is missing")
        item = _value(token, tokens, depth + 1)
        if sign == "{":
            if not isinstance(item, str) or item in keys or next(tokens) != [":"]:
                raise _Grammar("every key has to be a text, once, with ':' behind it")
            keys.append(item)
            item = _value(next(tokens), tokens, depth + 1)
        items.append(item)
        token = next(tokens)
        comma = token == [","]
        if comma:
            token = next(tokens)
    if sign == "{":
        return dict(zip(keys, items, strict=True))
    if sign == "[":
        return items
    return items[0] if len(items) == 1 and not comma else tuple(items)
