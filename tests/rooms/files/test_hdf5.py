"""The bounded reader takes what is plain, refuses everything else with its code, and survives what it reads."""

import io
import json
import os
import random
import stat
import struct
import subprocess
import sys
import textwrap

import h5py
import hostile
import numpy as np
import pytest
from counting import bytes_taken
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from waiting import HANGING

from intsnn.errors import DataNotFoundError, FormatError, ImportRefused, ShapeError
from intsnn.files.hdf5 import Tree, open_record, read, read_tree, read_tree_bytes, write_tree
from intsnn.files.hdf5 import child as walker

NUMBERS = ["i1", "u1", "<i2", ">i2", "<u2", "<i4", ">i4", "<u4", "<i8", "<u8", "<f2", "<f4", ">f4", "<f8", ">f8"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A file with everything that is taken."""
    path = tmp_path_factory.mktemp("plain") / "plain.h5"
    rng = np.random.default_rng(7)
    with h5py.File(path, "w") as file:
        for kind in NUMBERS:
            file[f"numbers/{kind}"] = rng.integers(0, 100, (3, 5)).astype(kind)
        big = rng.integers(0, 50, (300, 200)).astype(np.int16)
        for name, options in {
            "gzip": {"compression": "gzip"},
            "lzf": {"compression": "lzf"},
            "shuffled": {"compression": "gzip", "shuffle": True, "fletcher32": True},
            "chunked": {"chunks": (7, 9)},
        }.items():
            file.create_dataset(f"stored/{name}", data=big, **options)
        file.create_dataset("stored/small zeros", data=np.zeros(4096, np.float32), compression="gzip")
        file.create_dataset("scalar", data=np.float32(1.5))
        file.create_dataset("truth", data=np.array([True, False]))
        file.create_dataset("one truth", data=np.True_)
        file.create_dataset("nothing", data=np.zeros((0, 3)))
        file.create_dataset("text/fixed", data=np.array([b"a", b"\xc3\xa9"]))
        file.create_dataset("text/variable", data=[["one", "two"], ["", "four"]], dtype=h5py.string_dtype())
        file.create_dataset("text/scalar", data="alone")
        file.create_group("empty group")
        file.attrs["text"] = "variable é"
        file.attrs["fixed"] = np.bytes_(b"fixed")
        file.attrs["names"] = np.array([b"a", b"bb"])
        file.attrs["more names"] = ["c", "dd"]
        file.attrs["one name"] = ["e"]
        file.attrs["no names"] = np.zeros(0)
        file.attrs["integer"] = -7
        file.attrs["large"] = np.uint64(2**64 - 1)
        file.attrs["number"] = 0.1
        file.attrs["truth"] = True
        file["scalar"].attrs["array"] = np.arange(4, dtype=np.int16)
        file["scalar"].attrs["void"] = h5py.Empty("f4")
    return path


@pytest.mark.parametrize("trust", [False, True])
def test_everything_plain_is_taken(plain, trust):
    tree = read_tree(plain, trust=trust)
    assert isinstance(tree, Tree)
    with h5py.File(plain) as file:
        for kind in NUMBERS:
            found = tree.datasets[f"numbers/{kind}"]
            np.testing.assert_array_equal(found, file[f"numbers/{kind}"][()])
            assert found.dtype == np.dtype(kind).newbyteorder("<")
            assert not found.flags.writeable
        for name in ("gzip", "lzf", "shuffled", "chunked"):
            np.testing.assert_array_equal(tree.datasets[f"stored/{name}"], file[f"stored/{name}"][()])
    assert (tree.datasets["stored/small zeros"] == 0).all()
    assert tree.datasets["scalar"].shape == ()
    assert tree.datasets["scalar"] == 1.5
    assert tree.datasets["truth"].tolist() == [True, False]
    assert tree.datasets["one truth"].tolist() is True
    assert tree.datasets["nothing"].shape == (0, 3)
    assert tree.datasets["text/fixed"].tolist() == ["a", "é"]
    assert tree.datasets["text/variable"].tolist() == [["one", "two"], ["", "four"]]
    assert tree.datasets["text/scalar"].tolist() == "alone"
    assert set(tree.groups) == {"", "numbers", "stored", "text", "empty group"}
    assert tree.groups[0] == ""
    root = dict(tree.attributes[""])
    assert root.pop("no names").size == 0
    assert root == {
        "text": "variable é",
        "fixed": "fixed",
        "names": ["a", "bb"],
        "more names": ["c", "dd"],
        "one name": ["e"],
        "integer": -7,
        "large": 2**64 - 1,
        "number": 0.1,
        "truth": 1,
    }
    assert tree.attribute("scalar", "array").tolist() == [0, 1, 2, 3]
    assert tree.attribute("scalar", "void").size == 0
    assert tree.attribute("scalar", "absent", 5) == 5
    assert set(tree.below("text")) == {"fixed", "variable", "scalar"}
    assert len(tree.sha256) == 64
    assert set(read_tree_bytes(plain.read_bytes(), trust=trust).datasets) == set(tree.datasets)


@pytest.mark.parametrize("case", hostile.TREES, ids=lambda case: case.name)
@pytest.mark.parametrize("trust", [False, True], ids=["child", "trust"])
def test_hostile(case, trust, tmp_path):
    path = case.make(tmp_path)
    error = ImportRefused if isinstance(case.expected, str) else case.expected
    with bytes_taken() as taken, pytest.raises(error) as caught:
        read_tree(path, trust=trust, **case.options)
    assert taken.most < 48 << 20  # bombs are larger
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    if error is ImportRefused:
        assert caught.value.code == case.expected


def test_there_are_enough_hostile_files():
    names = [case.name for case in hostile.TREES + hostile.NETWORKS]
    assert len(names) >= 40
    assert len(set(names)) == len(names)


def test_what_is_not_asked_for_is_not_touched(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["a/x"] = np.arange(3)
        file["a"].attrs["kept"] = 1
        file["a"].attrs["code"] = np.void(b"code")
        file["a/other"] = h5py.ExternalLink("nowhere.h5", "/x")
        file["skipped"] = np.array([np.nan])
    tree = read_tree(path, skip=["skipped", "a/other"], attributes=["ke*"])
    assert set(tree.datasets) == {"a/x"}
    assert dict(tree.attributes["a"]) == {"kept": 1}
    with pytest.raises(ImportRefused, match="opaque"):
        read_tree(path, skip=["skipped", "a/other"])


def test_memory_of_the_parent_stays_small(tmp_path):
    names = ("sparse_file_of_a_terabyte", "numeric_attribute_of_eight_megabytes")
    for case in (case for case in hostile.TREES if "bomb" in case.name or case.name in names):
        path = case.make(tmp_path)
        with bytes_taken() as taken, pytest.raises(ImportRefused):
            read_tree(path)
        assert taken.most < 4 << 20, case.name


# --- a child that misbehaves


def child(tmp_path, monkeypatch, program):
    script = tmp_path / "child.py"
    script.write_text("import os, sys, time, struct, json, signal\n" + textwrap.dedent(program))
    monkeypatch.setattr(walker, "__file__", str(script))


def record(header, payload=b""):
    text = json.dumps(header).encode()
    return struct.pack("<I", len(text)) + text + payload


@pytest.mark.parametrize(
    ("program", "code", "limit"),
    [
        ("os.abort()", "crash", HANGING),
        ("os.kill(os.getpid(), 11)", "crash", HANGING),
        ("sys.stdout.buffer.write(b'INTSNNT1')", "crash", HANGING),
        ("sys.stdout.write('hello world'); sys.stdout.flush()", "stream", HANGING),
        # a limit that has to strike may be short: what these never do, they do not do on a busy machine either
        ("sys.stdin.close(); time.sleep(10**6)", "timeout", 0.5),
        ("while True: pass", "timeout", 0.5),
        ("while sys.stdout.buffer.write(b'INTSNNT1' + bytes(4)): pass", "stream", HANGING),
        # seen at once, while it sleeps
        ("sys.stdout.buffer.write(b'INTSNNT1' + b'\\xff' * 4); sys.stdout.flush(); time.sleep(10**6)", "stream",
         HANGING),
    ],
)  # fmt: skip
def test_a_child_that_crashes_hangs_or_lies(program, code, limit, plain, tmp_path, monkeypatch):
    child(tmp_path, monkeypatch, program)
    with pytest.raises(ImportRefused) as caught:
        read_tree(plain, timeout=limit)
    assert caught.value.code == code


@pytest.mark.skipif(not hasattr(os, "fork"), reason="resource limits are a matter of POSIX")
def test_the_child_is_limited(plain):
    program = "import json, sys; sys.argv = ['x']; exec(open({!r}).read().split('if __name__ == \"__main__\":')[0])"
    program = program.format(walker.__file__) + textwrap.dedent(
        """
        import resource
        _limit({"memory": 1 << 30, "cpu": 3})
        assert resource.getrlimit(resource.RLIMIT_FSIZE) == (0, 0)
        assert resource.getrlimit(resource.RLIMIT_CPU) == (3, 3)
        try:
            bytearray(2 << 30)
        except MemoryError:
            print("limited")
        """
    )
    program = "__name__ = '__main__'\n" + program
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=HANGING)
    assert done.stdout.strip() == "limited", done.stderr


def parse(data, budget=1 << 20):
    builder = read._Builder("stream", budget)
    return read._parse(io.BytesIO(data), "stream", builder), builder


def test_the_stream_parser_takes_only_whole_records():
    good = (
        b"INTSNNT1"
        + record({"kind": "group", "path": ""})
        + record({"kind": "attribute", "path": "", "name": "a", "value": ["x"]})
        + record({"kind": "dataset", "path": "x", "shape": [2, 3], "type": "<i2"}, bytes(range(12)))
        + record({"kind": "dataset", "path": "t", "shape": [2], "value": ["a", "b"]})
        + record({"kind": "end"})
    )
    done, builder = parse(good)
    assert done
    assert builder.datasets["x"].tolist() == [[256, 770, 1284], [1798, 2312, 2826]]
    for cut in range(len(good)):
        assert parse(good[:cut])[0] is False
    rng = random.Random(11)
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            parse(bytes(data))
        except ImportRefused as error:
            assert error.code


@pytest.mark.parametrize(
    "header",
    [
        {"kind": "dataset", "path": "x", "shape": [1 << 40], "type": "<f8"},
        {"kind": "dataset", "path": "x", "shape": [-1], "type": "<f8"},
        {"kind": "dataset", "path": "x", "shape": [1.5], "type": "<f8"},
        {"kind": "dataset", "path": "x", "shape": [True], "type": "<f8"},
        {"kind": "dataset", "path": "x", "shape": [1] * 40, "type": "<f8"},
        {"kind": "dataset", "path": "x", "shape": [1], "type": "O"},
        {"kind": "dataset", "path": "x", "shape": [1], "type": ["<f8"]},
        {"kind": "dataset", "path": "x", "value": 3},
        {"kind": "dataset", "path": "x", "shape": [2], "value": ["a"]},
        {"kind": "dataset", "path": 3, "shape": [1], "type": "|i1"},
        {"kind": "attribute", "path": "x", "value": 3},
        {"kind": "attribute", "path": "x", "name": "a", "value": {"a": 1}},
        {"kind": "attribute", "path": "x", "name": "a", "value": [1, 2]},
        {"kind": "attribute", "path": "x", "name": "a"},
        {"kind": "other", "path": "x"},
        [1, 2],
        "text",
    ],
)
def test_the_stream_parser_refuses(header):
    with pytest.raises(ImportRefused) as caught:
        parse(b"INTSNNT1" + record(header) + bytes(64))
    assert caught.value.code in ("stream", "budget")


def test_mutated_files_are_read_or_refused(plain, tmp_path):
    """Bytes changed at random: an answer or ImportRefused, never another error and never a hang."""
    small = tmp_path / "small.h5"
    with h5py.File(small, "w") as file:
        file["a/x"] = np.arange(12, dtype=np.float32)
        file.create_dataset("z", data=np.arange(600, dtype=np.int16), compression="gzip")
        file.attrs["layer_names"] = ["a", "b"]
        file["a"].attrs["n"] = 3
    seeds = [small.read_bytes(), plain.read_bytes()]
    rng = random.Random(20)
    answers = set()
    for trial in range(24):
        data = bytearray(seeds[trial % 2])
        for _ in range(rng.choice((1, 4, 30))):
            data[rng.randrange(min(len(data), 8192))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
        target = tmp_path / "mutated.h5"
        target.write_bytes(data)
        try:
            read_tree(target)
            answers.add("read")
        except ImportRefused as error:
            answers.add(error.code)
    assert "read" in answers
    assert len(answers) > 2


# --- writing


@settings(max_examples=40)
@given(
    array=hnp.arrays(
        st.one_of(hnp.integer_dtypes(endianness="="), hnp.unsigned_integer_dtypes(endianness="=")),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
    ),
    number=st.floats(allow_nan=False, allow_infinity=False),
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50),
    names=st.lists(st.text("abc:/é", max_size=5), min_size=0, max_size=5),
)
def test_round_trip(tmp_path_factory, array, number, text, names):
    path = tmp_path_factory.mktemp("trip") / "x.h5"
    attributes = {
        "": {"number": number, "text": text, "names": names, "flag": True},
        "g": {"n": 3},
        "g/x": {"a": array},
    }
    write_tree(path, {"g/x": array}, attributes)
    tree = read_tree(path, trust=True)
    np.testing.assert_array_equal(tree.datasets["g/x"], array)
    assert tree.datasets["g/x"].dtype == array.dtype
    root = tree.attributes[""]
    assert (root["number"], root["text"], list(root["names"]), root["flag"]) == (number, text, names, 1)
    assert tree.attribute("g", "n") == 3
    np.testing.assert_array_equal(tree.attribute("g/x", "a"), array)


def test_large_arrays_come_back_through_the_child(tmp_path):
    rng = np.random.default_rng(1)
    arrays = {
        "noise": rng.integers(-128, 128, (1 << 18,)).astype(np.int8),
        "narrow": rng.integers(0, 4, (64, 32, 33, 33)).astype(np.int16),
        "zeros": np.zeros((1000, 1000), np.int32),
        "floats": rng.normal(size=(512, 512)),
        "tall": rng.integers(0, 3, (3, 1 << 20)).astype(np.uint8),
    }
    path = tmp_path / "x.h5"
    write_tree(path, arrays)
    tree = read_tree(path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(tree.datasets[name], array)
    assert path.stat().st_size < sum(array.nbytes for array in arrays.values()) * 0.85
    again = tmp_path / "y.h5"
    write_tree(again, arrays)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("datasets", "attributes"),
    [
        ({"x": np.array([np.nan])}, {}),
        ({"x": np.array(["text"])}, {}),
        ({"x": np.array([object()])}, {}),
        ({"x": np.array([1j])}, {}),
        ({}, {"": {"a": float("inf")}}),
        ({}, {"": {"a": None}}),
        ({}, {"": {"a": {"b": 1}}}),
        ({}, {"": {"a": 1 << 70}}),
        ({}, {"": {"a": "x" * (2 << 20)}}),
        ({}, {"": {"a": np.zeros(1 << 16)}}),
        ({}, {"": {"a": ["x"] * 10_000}}),
    ],
)
def test_what_cannot_be_written_leaves_the_old_file(datasets, attributes, tmp_path):
    path = tmp_path / "x.h5"
    write_tree(path, {"old": np.arange(3)})
    before = path.read_bytes()
    with pytest.raises(FormatError):
        write_tree(path, {"new": np.arange(3), **datasets}, attributes)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.h5"]


def test_no_folder_to_write_in(tmp_path):
    with pytest.raises(DataNotFoundError):
        write_tree(tmp_path / "no" / "x.h5", {})
    with pytest.raises(FormatError):
        write_tree(tmp_path, {})


@pytest.mark.skipif(os.name != "posix", reason="file modes are a matter of POSIX")
def test_modes(tmp_path):
    path = tmp_path / "x.h5"
    old = os.umask(0o027)
    try:
        write_tree(path, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o600)
        write_tree(path, {"x": np.arange(2)})
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_what_is_brought_to_disk_is_open_for_writing(tmp_path, monkeypatch):
    """Windows refuses anything else; a file that was read-only before stays so."""
    fcntl = pytest.importorskip("fcntl")
    modes = []
    monkeypatch.setattr(os, "fsync", lambda n: modes.append((stat.S_ISREG(os.fstat(n).st_mode), fcntl.fcntl(n, 3) & 3)))
    path = tmp_path / "a.h5"
    write_tree(path, {"x": np.arange(3)})
    path.chmod(0o444)
    write_tree(path, {"x": np.arange(4)})
    assert [mode for regular, mode in modes if regular] == [os.O_RDWR, os.O_RDWR]
    assert stat.S_IMODE(path.stat().st_mode) == 0o444 and read_tree(path).datasets["x"].size == 4


def test_a_system_without_resource_limits_reads_all_the_same(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert walker._limit({"memory": 1, "cpu": 1}) is None


KILLED = """
import os, sys
import numpy as np
from intsnn.files import hdf5
from intsnn.support import atomic
path = sys.argv[1]
if sys.argv[2] == "tree":
    atomic._sync = lambda *_: os._exit(9)
    hdf5.write_tree(path, {"x": np.arange(100_000)})
elif sys.argv[2] == "publish":
    os.replace = lambda *_: os._exit(9)
    hdf5.write_tree(path, {"x": np.arange(100_000)})
else:
    with hdf5.open_record(path, {"x": ((10,), "i2")}) as record:
        record.append("x", np.zeros((1000, 10), np.int16))
        os._exit(9)
"""


@pytest.mark.parametrize("moment", ["tree", "publish", "record"])
def test_a_run_killed_while_writing_leaves_the_old_file_whole(moment, tmp_path):
    path = tmp_path / "x.h5"
    write_tree(path, {"old": np.arange(5)})
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), moment], timeout=HANGING)
    assert done.returncode == 9
    assert path.read_bytes() == before
    assert len(os.listdir(tmp_path)) == 2  # the old file and what the killed run had begun
    write_tree(path, {"new": np.arange(3)})
    assert list(read_tree(path).datasets) == ["new"]


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "x.h5"
    write_tree(path, {"g/x": np.arange(300, dtype=np.int16)}, {"": {"format": "test", "version": 1}})
    data = path.read_bytes()
    cut = tmp_path / "cut.h5"
    for size in range(0, len(data), 61):
        cut.write_bytes(data[:size])
        with pytest.raises(ImportRefused) as caught:
            read_tree(cut, trust=True)
        assert caught.value.code in ("empty", "truncated", "unreadable")


# --- records


def test_record(tmp_path):
    path = tmp_path / "r.h5"
    rng = np.random.default_rng(2)
    spikes = rng.integers(0, 2, (50, 4, 3)).astype(np.uint8)
    state = rng.integers(-500, 500, (50, 12)).astype(np.int32)
    with open_record(path, {"l1/spikes": ((4, 3), "u1"), "l1/v": ((12,), np.int32)}, {"": {"steps": 4}}) as record:
        for start in (0, 7, 20):
            stop = {0: 7, 7: 20, 20: 50}[start]
            record.append("l1/spikes", spikes[start:stop])
            record.append("l1/v", state[start:stop].astype(np.int16))
        record.append("l1/v", state[:0])
        assert not path.exists()
    tree = read_tree(path)
    np.testing.assert_array_equal(tree.datasets["l1/spikes"], spikes)
    np.testing.assert_array_equal(tree.datasets["l1/v"], state)
    assert tree.attribute("", "steps") == 4
    assert os.listdir(tmp_path) == ["r.h5"]


def test_a_record_that_fails_leaves_nothing(tmp_path):
    path = tmp_path / "r.h5"
    with pytest.raises(ShapeError), open_record(path, {"x": ((3,), "i2")}) as record:
        record.append("x", np.zeros((2, 4), np.int16))
    with pytest.raises(ShapeError), open_record(path, {"x": ((3,), "i2")}) as record:
        record.append("y", np.zeros((2, 3), np.int16))
    with pytest.raises(FormatError), open_record(path, {"x": ((3,), "i2")}) as record:
        record.append("x", np.zeros((2, 3), np.int32))
    with pytest.raises(FormatError):
        open_record(path, {"x": ((3,), "O")})
    with pytest.raises(ShapeError):
        open_record(path, {"x": ((0,), "i2")})
    assert os.listdir(tmp_path) == []
    record = open_record(path, {"x": ((3,), "i2")})
    record.close()
    record.close()
    assert read_tree(path).datasets["x"].shape == (0, 3)
    with pytest.raises(FormatError, match="closed"):
        record.append("x", np.zeros((2, 3), np.int16))


def test_rows_of_variable_length(tmp_path):
    """Only where they are asked for: all values one after the other, and how many each row has."""
    rows = [np.arange(n, dtype=np.float16) for n in (3, 0, 5, *range(130))]
    path = tmp_path / "rows.h5"
    with h5py.File(path, "w") as file:
        times = file.create_dataset("a/rows", (len(rows),), h5py.vlen_dtype(np.dtype("f2")), compression="gzip")
        for i, row in enumerate(rows):
            times[i] = row
        file.create_dataset("none", (0,), h5py.vlen_dtype(np.dtype("i4")))
        square = file.create_dataset("square", (2, 2), h5py.vlen_dtype(np.dtype("i4")))
        square[0, 0] = square[0, 1] = square[1, 0] = square[1, 1] = np.arange(3)
        file.create_dataset("text", data=["a"], dtype=h5py.string_dtype())
    for trust in (False, True):
        found = read_tree(path, ragged=("a/rows", "none", "text"), skip=("square",), trust=trust).datasets
        assert found["a/rows"].dtype == np.float16 and found["a/rows"].tolist() == np.concatenate(rows).tolist()
        assert found["a/rows:lengths"].tolist() == [len(row) for row in rows]
        assert found["none"].dtype == np.int32 and found["none"].size == found["none:lengths"].size == 0
        assert found["text"].tolist() == ["a"] and "text:lengths" not in found
    for options, code in (
        ({"skip": ("square", "none")}, "type"),
        ({"ragged": ("a/rows", "none", "square")}, "rank"),
        ({"ragged": ("a/rows", "none"), "skip": ("square",), "budget": 10_000}, "budget"),
    ):
        with pytest.raises(ImportRefused) as error:
            read_tree(path, **options)
        assert error.value.code == code
