"""Recordings by name: every layout from files made here, broken files, and the real ones where they are."""

import importlib.util
import sys

import numpy as np
import pytest

from intsnn.errors import DataNotFoundError, FormatError, ImportRefused
from intsnn.models import event_data
from intsnn.models.event_data import NAMES, is_event_data, load_events
from intsnn.models.saccades import EVENT

needs_tonic = pytest.mark.skipif(
    importlib.util.find_spec("tonic") is None, reason="tonic is not installed: pip install intsnn[events]"
)
ROWS = [(3, 5, 70_000, 1), (33, 0, 70_001, 0), (1, 2, 300_000, 1)]


def five_bytes(rows):
    return b"".join(bytes((x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255)) for x, y, t, p in rows)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("INTSNN_DATA", str(tmp_path))
    return tmp_path


def write(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@needs_tonic
def test_n_mnist_from_a_part_of_its_folder(root):
    for digit, number in ((7, 2), (1, 10), (4, 1)):
        write(root / f"nmnist/NMNIST/Train/{digit}/{number:05}.bin", five_bytes(ROWS[: digit % 3 + 1]))
    found = load_events("nmnist:train")
    assert found.labels.tolist() == [4, 7, 1] and len(found) == 3  # by number, not by class
    assert found.shape == (2, 34, 34) and found.classes == tuple("0123456789")
    assert found.events(0).tolist() == [(x, y, t, p) for x, y, t, p in ROWS[:2]]
    assert found.events(0).dtype == EVENT
    assert load_events("nmnist:train:2").labels.tolist() == [4, 7]
    with pytest.raises(FormatError, match="has 3 recordings, 4 are asked for"):
        load_events("nmnist:train:4")
    with pytest.raises(DataNotFoundError, match="NMNIST/Test"):
        load_events("nmnist:test")
    with pytest.raises(IndexError):
        found.events(3)


@needs_tonic
def test_time_overflows_are_tonics(root):
    """A row of 240 is no event: it says that 2**13 microseconds passed."""
    write(root / "NMNIST/Test/0/1.bin", five_bytes([(1, 1, 5, 1), (0, 240, 0, 0), (2, 2, 6, 0)]))
    assert load_events("nmnist:test").events(0)["t"].tolist() == [5, 6 + 8192]


@needs_tonic
@pytest.mark.parametrize(
    "content, part",
    [(five_bytes(ROWS) + b"1", "16 bytes; 5 for each event"), (five_bytes([(34, 0, 1, 1)]), "x from 34 to 34")],
)
def test_damaged_recordings_are_refused(root, content, part):
    write(root / "NMNIST/Test/0/1.bin", content)
    with pytest.raises(ImportRefused, match=part):
        load_events("nmnist:test").events(0)


@needs_tonic
def test_an_empty_recording_has_no_events(root):
    write(root / "NMNIST/Test/0/1.bin")
    assert len(load_events("nmnist").events(0)) == 0


def test_a_file_that_went_away_is_said(root):
    write(root / "NMNIST/Test/0/1.bin")
    found = load_events("nmnist")
    (root / "NMNIST/Test/0/1.bin").unlink()
    with pytest.raises(DataNotFoundError, match="cannot be read"):
        found.events(0)


def test_too_large_a_file_is_refused(root, monkeypatch):
    monkeypatch.setattr(event_data, "MOST_BYTES", 10)
    write(root / "NMNIST/Test/0/1.bin", five_bytes(ROWS))
    with pytest.raises(ImportRefused, match="15 bytes; a recording has at most 10"):
        load_events("nmnist").events(0)


@needs_tonic
def test_gestures_from_a_list_of_labels(root):
    write(root / "dvs-gesture/10.bs2", five_bytes([(127, 127, 9, 1)]))
    write(root / "dvs-gesture/2.bs2", five_bytes([(5, 6, 9, 0)]))
    labels = root / "dvs-gesture/INFERRED_LABELS.txt"
    write(labels, b"# file class name\n2 3 x\n10 11 y\n")
    with pytest.raises(DataNotFoundError, match="DVSGesture folder; the .bs2 files that are there .* are dvs-gesture$"):
        load_events("dvs-gesture:train")
    found = load_events("dvs-gesture")
    assert found.labels.tolist() == [2, 10] and found.shape == (2, 128, 128) and len(found.classes) == 11
    assert found.events(1).tolist() == [(127, 127, 9, 1)]
    for text, part in ((b"2 3\n", "does not name every"), (b"2 12\n10 1\n", "class from 1 to 11"), (b"2\n", "class")):
        write(labels, text)
        with pytest.raises(ImportRefused, match=part):
            load_events("dvs-gesture")


@needs_tonic
def test_gestures_from_tonics_folder(root):
    rows = np.array([[1, 2, 1, 3], [127, 0, 0, 5]], np.int64)  # x, y, p, t in ms
    file = root / "DVSGesture/ibmGestureTest/user05_led/4.npy"
    write(file)
    np.save(file, rows)
    found = load_events("dvs-gesture:test")
    assert found.labels.tolist() == [4] and found.events(0).tolist() == [(1, 2, 3000, 1), (127, 0, 5000, 0)]
    with pytest.raises(DataNotFoundError, match="dvs-gesture:train"):  # and nothing is downloaded
        load_events("dvs-gesture:train")
    np.save(file, rows[:, :2])
    with pytest.raises(ImportRefused, match="tonic cannot read it"):
        load_events("dvs-gesture:test").events(0)


@needs_tonic
def test_poker_from_tonics_folder(root):
    file = root / "POKERDVS/pips_train/di/a.npy"
    write(file)
    np.save(file, np.array([[7, 1, 2, 1], [3, 34, 0, 0]], np.int64))  # t, x, y, p
    found = load_events("poker-dvs:train")
    assert found.labels.tolist() == [2] and found.events(0).tolist() == [(34, 0, 3, 0), (1, 2, 7, 1)]


HEAD = b"Event Stream" + bytes((2, 0, 0, 1, 30, 0, 32, 0))


def test_poker_from_an_event_stream(root):
    body = bytes((5 << 1 | 1, 19, 0, 15, 0, 0xFF, 0xFE, 3 << 1, 29, 0, 0, 0))
    write(root / "poker-dvs/trhe12.es", HEAD + body)
    with pytest.raises(DataNotFoundError, match="POKERDVS folder; the .es files that are there .* are poker-dvs$"):
        load_events("poker-dvs:test")
    found = load_events("poker-dvs")
    assert found.shape == (2, 32, 30) and found.labels.tolist() == [1]
    assert found.events(0).tolist() == [(19, 16, 5, 1), (29, 31, 5 + 127 + 3, 0)]


@pytest.mark.parametrize(
    "content, part",
    [
        (b"Event", "does not begin as"),
        (HEAD[:12] + bytes((1, 0, 0, 1, 9, 0, 9, 0)), "version 1, type 1; version 2, type 1 is read"),
        (HEAD[:16] + bytes(4), "sensor of 0x0"),
        (HEAD + bytes((0, 1, 0, 1)), "ends within an event"),
        (HEAD + bytes((0, 30, 0, 0, 0)), "x from 30 to 30"),
        (HEAD + bytes((0, 0, 0, 32, 0)), "y from -1 to -1"),
    ],
)
def test_damaged_event_streams_are_refused(root, content, part):
    write(root / "poker-dvs/trcl0.es", content)
    with pytest.raises(ImportRefused, match=part):
        load_events("poker-dvs").events(0)


@needs_tonic
def test_heidelberg_digits_from_tonics_file(root):
    h5py = pytest.importorskip("h5py")
    (root / "SHD").mkdir()
    with h5py.File(root / "SHD/shd_test.h5", "w") as file:
        group = file.create_group("spikes")
        times = group.create_dataset("times", (2,), h5py.vlen_dtype(np.dtype("float32")))
        units = group.create_dataset("units", (2,), h5py.vlen_dtype(np.dtype("int16")))
        times[0], units[0] = np.array([0.25, 0.5], np.float32), np.array([699, 3], np.int16)
        times[1], units[1] = np.array([0.125], np.float32), np.array([700], np.int16)
        file["labels"] = np.array([1, 0])
        file["extra/keys"] = np.array([b"zero", b"eins"])
        file["extra/speaker"] = np.array([0, 1])
    found = load_events("shd:test")
    assert found.shape == (1, 1, 700) and found.labels.tolist() == [1, 0] and found.classes == ("zero", "eins")
    assert found.events(0).tolist() == [(699, 0, 250_000, 0), (3, 0, 500_000, 0)]
    with pytest.raises(ImportRefused, match="channels outside 0 .. 699"):
        found.events(1)
    with pytest.raises(DataNotFoundError, match="shd:train"):
        load_events("shd:train")
    write(root / "SHD/shd_test.h5", b"no file of that kind")
    with pytest.raises(ImportRefused, match="tonic cannot read it"):
        load_events("shd:test")


def test_names_and_specs(monkeypatch):
    assert all(is_event_data(f"{name}:test") for name in NAMES) and not is_event_data("mnist:test")
    for spec in ("none", "nmnist:validation", "nmnist:test:5:6", ""):
        with pytest.raises(FormatError, match="unknown event data"):
            load_events(spec)
    with pytest.raises(FormatError, match="0 recordings"):
        load_events("digits-saccades:test:0")
    monkeypatch.delenv("INTSNN_DATA", raising=False)
    for name in ("nmnist", "dvs-gesture", "poker-dvs", "shd"):
        with pytest.raises(DataNotFoundError, match="INTSNN_DATA names, and it is not set"):
            load_events(name)


def test_without_tonic_it_says_what_to_install(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic", None)
    write(root / "NMNIST/Test/0/1.bin", five_bytes(ROWS))
    with pytest.raises(DataNotFoundError, match=r"pip install intsnn\[events\]"):
        load_events("nmnist").events(0)


def test_digits_become_streams():
    found = load_events("digits-saccades:train:30")
    assert found.name == "digits-saccades:train:30" and len(found) == 30
    from intsnn.datasets import load

    np.testing.assert_array_equal(found.labels, load("digits:train:30").labels)
    assert len(load_events("digits-saccades")) == 360


@needs_tonic
def test_real_recordings(data_root):
    """What is known of the real files: how many there are, and that their events are of the sensor and in order."""
    train, test = load_events("nmnist:train"), load_events("nmnist:test")
    assert (len(train), len(test)) == (1000, 100)
    for index in (0, 17, 999):
        events = train.events(index)
        assert 1000 < len(events) < 10_000 and (np.diff(events["t"]) >= 0).all() and events["t"].max() < 330_000
    gestures = load_events("dvs-gesture")
    assert sorted(gestures.labels.tolist()) == list(range(10)) and len(gestures.events(3)) > 1000
    poker = load_events("poker-dvs").events(0)
    assert len(poker) == 2628 and (np.diff(poker["t"]) >= 0).all()


def test_streams_from_mnist(data_root):
    found = load_events("mnist-saccades:test:8")
    sizes = [len(found.events(index)) for index in range(8)]
    assert found.labels.tolist() == [7, 2, 1, 0, 4, 1, 4, 9] and min(sizes) > 1500 and max(sizes) < 8000
