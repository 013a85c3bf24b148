"""Arrays in NumPy's format from strangers: the array that was written, or a sentence before memory is taken."""

import gzip
import io
import struct
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from waiting import HANGING

from intsnn.datasets.decoders import read_idx, read_npy, read_npz
from intsnn.errors import ImportRefused, IntsnnError
from intsnn.files.npy import read_array


def npy(header, body=b"", version=(1, 0)):
    """A file with any text as its header."""
    text = header if isinstance(header, bytes) else header.encode()
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + body


def described(descr="'<i8'", shape="(2,)", fortran="False", body=bytes(16)):
    return npy(f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n", body)


def zipped(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def read(content):
    return read_array(io.BytesIO(content), len(content), "it")


HOSTILE = {
    "negative sizes": described(shape="(-1, -2)"),
    "a negative size": described(shape="(-2,)"),
    "text of no characters": described("'|S0'", f"({1 << 40},)", body=b""),
    "nothing, often": described("'|V0'", f"({1 << 40},)", body=b""),
    "overflow beside nothing": described(shape=f"(0, {1 << 60}, {1 << 60})", body=b""),
    "overflow around nothing": described(shape=f"({1 << 47}, 0, {1 << 47})", body=b""),
    "overflow to nothing": described(shape=f"({1 << 32}, {1 << 32})", body=b""),
    "rank 40": described(shape=f"({'1, ' * 40})", body=bytes(8)),
    "rank 200": described(shape=f"({'1, ' * 200})", body=bytes(8)),
    "rank 9": described(shape=f"({'1, ' * 9})", body=bytes(8)),
    "a truth value for a size": described(shape="(True,)", body=bytes(8)),
    "a size of 400 digits": described(shape=f"(1{'0' * 400}, 0)", body=b""),
    "a number for a shape": described(shape="2"),
    "a list for a shape": described(shape="[2]"),
    "a text for an order": described(fortran="'False'"),
    "a number for an order": described(fortran="0"),
    "an array in a field": described(f"[('a', '<i8', ({1 << 20},))]", "(0,)", body=b""),
    "fields in fields": described("[('a', [('b', [('c', '<i8')])])]"),
    "a field twice": described("[('a', '<i4'), ('a', '<i4')]"),
    "no fields": described("[]", f"({1 << 40},)", body=b""),
    "objects": described("'|O'", "(1,)", body=b"\x80\x04N."),
    "dates": described("'<M8[s]'"),
    "complex numbers": described("'<c16'", "(1,)"),
    "long floats": described("'<f16'", "(1,)"),
    "a power": described(shape="(2**1,)"),
    "a call": npy("__import__('os').abort()"),
    "open brackets": npy("(" * 8999),
    "deep brackets": npy("[" * 4000 + "]" * 4000),
    "many signs": npy("{'shape': (" + "-" * 8000 + "1,)}"),
    "an open text": npy("{'descr': '<i8"),
    "a key twice": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (2,), 'shape': (1,)}", bytes(16)),
    "another key": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (2,), 'more': 1}", bytes(16)),
    "something behind": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (2,)} 1", bytes(16)),
    "a long header": npy(b" " * 20000),
    "a header longer than the file": b"\x93NUMPY\x02\x00" + struct.pack("<I", 9000) + b"{",
    "an enormous header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFFFFFF) + b"{",
    "no UTF-8": npy(b"{'descr': '\xff'}", version=(3, 0)),
    "version 4": npy("{'descr': '<i8', 'fortran_order': False, 'shape': (2,)}", bytes(16), (4, 0)),
    "too few bytes": described(body=bytes(15)),
    "too many bytes": described(body=bytes(17)),
    "a truth value of 2": described("'|b1'", "(1,)", body=b"\x02"),
    "text beyond Unicode": described("'<U1'", "(1,)", body=b"\xff" * 4),
    "a terabyte": described(shape=f"({1 << 37},)", body=b""),
    "nothing": b"",
    "a signature": b"\x93NUMPY",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_refused_by_a_sentence(content, tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    packed = zipped(tmp_path / "a.npz", x=content)
    for reader, name in ((lambda: read_npy(path), "a.npy"), (lambda: read_npz(packed, ("x",)), "a.npz: x")):
        with pytest.raises(ImportRefused) as caught:
            reader()
        assert name in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400


NUMBERS = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness="?"),
    arrays.unsigned_integer_dtypes(endianness="?"),
    arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    st.integers(1, 5).map(lambda n: np.dtype(f"U{n}")),
    st.integers(1, 5).map(lambda n: np.dtype(f"S{n}")),
)
RECORDS = st.lists(NUMBERS, min_size=1, max_size=4).map(
    lambda kinds: np.dtype([(f"f{i}", k) for i, k in enumerate(kinds)])
)


@settings(max_examples=150)
@given(st.data())
def test_what_numpy_writes_comes_back(data):
    kind = data.draw(st.one_of(NUMBERS, RECORDS))
    shape = data.draw(arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
    size = int(np.prod(shape)) * kind.itemsize
    plain = kind.names is None and kind.kind in "iuf"
    raw = data.draw(st.binary(min_size=size, max_size=size)) if plain else bytes(size)
    array = np.frombuffer(bytearray(raw), kind).reshape(shape) if size else np.zeros(shape, kind)
    if data.draw(st.booleans()):
        array = np.asfortranarray(array)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, data.draw(st.sampled_from([(1, 0), (2, 0), (3, 0)])))
    found = read(stream.getvalue())
    assert found.dtype == array.dtype and found.shape == array.shape and found.flags.writeable
    assert found.tobytes() == array.tobytes()


WORDS = [
    *"{}()[]:, 012'\"\\\né", "'descr'", "'shape'", "'fortran_order'", "'<i8'", "'|u1'", "'|S0'", "True", "False",
    "None", "-1", "99999999999", "lambda", "**",
]  # fmt: skip
SHAPES = st.lists(
    st.one_of(st.integers(-2, 3), st.sampled_from([True, 1 << 31, 1 << 40, 1 << 62, 10**30])), max_size=10
)
DESCRS = st.one_of(
    st.sampled_from(
        ["<i8", "|u1", ">f4", "|S0", "<U0", "|V0", "|V8", "O", "<M8[s]", "?", "|b1", "<i3", "S99999999999", ""]
    ),
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["<i8", "|u1", "|V0"])), max_size=3),
    st.text(max_size=6),
)
HEADERS = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=40).map("".join),
    st.builds(lambda d, f, s: repr({"descr": d, "fortran_order": f, "shape": tuple(s)}),
              DESCRS, st.sampled_from([True, False, 0, None]), SHAPES),
)  # fmt: skip


@settings(max_examples=300)
@given(HEADERS, st.binary(max_size=64), st.sampled_from([(1, 0), (2, 0), (3, 0), (0, 9)]), st.booleans())
def test_any_header_is_read_or_refused(header, body, version, cut):
    content = npy(header, body, version)
    content = content[: len(content) // 2] if cut else content
    try:
        found = read(content)
    except IntsnnError as error:
        assert "\n" not in str(error)
        return
    assert found.nbytes <= len(content)
    assert np.array_equal(found, np.lib.format.read_array(io.BytesIO(content))) or found.dtype.kind == "f"


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_archives_are_read_or_refused(tmp_path_factory, changes):
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.arange(40), y=np.zeros(3, np.uint8))
    content = bytearray(stream.getvalue())
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path_factory.mktemp("z") / "a.npz"
    path.write_bytes(content)
    try:
        found = read_npz(path, ("x", "y"))
    except IntsnnError as error:
        assert "\n" not in str(error)
    else:
        assert all(array.size <= 40 for array in found.values())


def test_archives_that_play_tricks(tmp_path):
    good = described()
    path = tmp_path / "a.npz"
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as archive:
        for _ in range(2):
            archive.writestr("x.npy", good)
    with pytest.raises(ImportRefused, match="holds x 2 times"):
        read_npz(path, ("x",))
    assert read_npz(path, ("y",)) == {}

    raw = bytearray(zipped(path, x=good).read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(ImportRefused, match="encrypted"):
        read_npz(path, ("x",))

    for offset in (20, 24):  # compressed and whole size, as the list at the end has them
        raw = bytearray(zipped(path, x=good).read_bytes())
        raw[raw.index(b"PK\x01\x02") + offset : raw.index(b"PK\x01\x02") + offset + 4] = b"\xf0\xff\xff\xff"
        path.write_bytes(raw)
        with pytest.raises(ImportRefused):
            read_npz(path, ("x",))


def test_idx_files_that_lie(tmp_path):
    path = tmp_path / "a"
    for shape in ((0, 0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 1, 1), (2, 2, 3), (2, 2, 1)):
        content = bytes((0, 0, 8, 3)) + struct.pack(">3I", *shape) + bytes(8)
        for data in (content, gzip.compress(content)):
            path.write_bytes(data)
            with pytest.raises(ImportRefused):
                read_idx(path, 3)
    content = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2, 2, 2) + bytes(range(8))
    for data in (content, gzip.compress(content)):
        path.write_bytes(data)
        found = read_idx(path, 3)
        assert found.tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]] and found.flags.writeable


LIMITED = """
    import resource, struct, sys, zipfile, gzip
    from pathlib import Path
    from intsnn.datasets.decoders import read_idx, read_npy, read_npz
    from intsnn.errors import IntsnnError

    folder = Path(sys.argv[1])
    size = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20),) * 2)
    count = 0
    for path in sorted(folder.iterdir()):
        try:
            if path.suffix == ".npy":
                read_npy(path)
            elif path.suffix == ".npz":
                read_npz(path, ("x",))
            else:
                read_idx(path, 3)
        except IntsnnError:
            count += 1
    print(count)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
def test_nothing_is_allocated_for_what_is_not_there(tmp_path):
    for i, content in enumerate(HOSTILE.values()):
        (tmp_path / f"{i}.npy").write_bytes(content)
        zipped(tmp_path / f"{i}.npz", x=content)
    # a file of 2 MB that announces what no more than 2 GB could unfold to, and holds 16 bytes
    head = bytes((0, 0, 8, 3)) + struct.pack(">3I", 1000, 1000, 2000)
    (tmp_path / "a.gz").write_bytes(gzip.compress(head + bytes(16)) + bytes(2 << 20))
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(tmp_path)], capture_output=True, text=True, timeout=HANGING
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout) == 2 * len(HOSTILE) + 1
