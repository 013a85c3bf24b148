"""Recordings by name: every layout from files made here, broken files, and the real ones where they are."""

from pathlib import Path

import numpy as np
import pytest

from intsnn.datasets import event_files
from intsnn.datasets.camera import EVENT
from intsnn.datasets.events import NAMES, is_event_data, load_events
from intsnn.errors import DataNotFoundError, FormatError, ImportRefused

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


def test_a_row_of_240_is_an_overflow(root):
    """A row of 240 is no event: it says that 2**13 microseconds passed."""
    write(root / "NMNIST/Test/0/1.bin", five_bytes([(1, 1, 5, 1), (0, 240, 0, 0), (2, 2, 6, 0)]))
    assert load_events("nmnist:test").events(0)["t"].tolist() == [5, 6 + 8192]


@pytest.mark.parametrize(
    "content, part",
    [(five_bytes(ROWS) + b"1", "16 bytes; 5 for each event"), (five_bytes([(34, 0, 1, 1)]), "x from 34 to 34")],
)
def test_damaged_recordings_are_refused(root, content, part):
    write(root / "NMNIST/Test/0/1.bin", content)
    with pytest.raises(ImportRefused, match=part):
        load_events("nmnist:test").events(0)


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
    monkeypatch.setattr(event_files, "MOST_BYTES", 10)
    write(root / "NMNIST/Test/0/1.bin", five_bytes(ROWS))
    with pytest.raises(ImportRefused, match="15 bytes; a recording has at most 10"):
        load_events("nmnist").events(0)


def test_gestures_from_a_list_of_labels(root):
    write(root / "dvs-gesture/10.bs2", five_bytes([(127, 127, 9, 1)]))
    write(root / "dvs-gesture/2.bs2", five_bytes([(5, 6, 9, 0)]))
    labels = root / "dvs-gesture/INFERRED_LABELS.txt"
    write(labels, b"# file class name\n2 3 x\n10 11 y\n")
    with pytest.raises(DataNotFoundError, match="ibmGestureTrain; the .bs2 files that are there .* are dvs-gesture$"):
        load_events("dvs-gesture:train")
    found = load_events("dvs-gesture")
    assert found.labels.tolist() == [2, 10] and found.shape == (2, 128, 128) and len(found.classes) == 11
    assert found.events(1).tolist() == [(127, 127, 9, 1)]
    for text, part in ((b"2 3\n", "does not name every"), (b"2 12\n10 1\n", "class from 1 to 11"), (b"2\n", "class")):
        write(labels, text)
        with pytest.raises(ImportRefused, match=part):
            load_events("dvs-gesture")


def test_gestures_from_tables(root):
    rows = np.array([[1, 2, 1, 3], [127, 0, 0, 5]], np.int64)  # x, y, p, t in ms
    file = root / "DVSGesture/ibmGestureTest/user05_led/4.npy"
    write(file)
    np.save(file, rows)
    found = load_events("dvs-gesture:test")
    assert found.labels.tolist() == [4] and found.events(0).tolist() == [(1, 2, 3000, 1), (127, 0, 5000, 0)]
    with pytest.raises(DataNotFoundError, match="dvs-gesture:train"):  # and nothing is downloaded
        load_events("dvs-gesture:train")


def test_poker_from_tables(root):
    file = root / "POKERDVS/pips_train/di/a.npy"
    write(file)
    np.save(file, np.array([[7, 1, 2, 1], [3, 34, 0, 0]], np.int64))  # t, x, y, p
    found = load_events("poker-dvs:train")
    assert found.labels.tolist() == [2] and found.events(0).tolist() == [(34, 0, 3, 0), (1, 2, 7, 1)]


HEAD = b"Event Stream" + bytes((2, 0, 0, 1, 30, 0, 32, 0))


def test_poker_from_an_event_stream(root):
    body = bytes((5 << 1 | 1, 19, 0, 15, 0, 0xFF, 0xFE, 3 << 1, 29, 0, 0, 0))
    write(root / "poker-dvs/trhe12.es", HEAD + body)
    with pytest.raises(DataNotFoundError, match="pips_test; the .es files that are there .* are poker-dvs$"):
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


def test_heidelberg_digits(root):
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
    with pytest.raises(ImportRefused, match="recording 1 has events with x from 700 to 700; the sensor has 0 to 699"):
        found.events(1)
    with pytest.raises(DataNotFoundError, match="shd:train"):
        load_events("shd:train")
    write(root / "SHD/shd_test.h5", b"no file of that kind")
    with pytest.raises(ImportRefused, match="not an HDF5 file"):
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


def test_digits_become_streams():
    found = load_events("digits-saccades:train:30")
    assert found.name == "digits-saccades:train:30" and len(found) == 30
    from intsnn.datasets.catalogue import load

    np.testing.assert_array_equal(found.labels, load("digits:train:30").labels)
    assert len(load_events("digits-saccades")) == 360


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


# -- what is stored is looked at before it becomes events -----------------------------------------------------------


def gesture(root, rows, kind=np.float64, name="0.npy"):
    file = root / "DVSGesture/ibmGestureTest/user24_led" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, np.array(rows, kind))
    return load_events("dvs-gesture:test")


@pytest.mark.parametrize(
    "row, kind, part",
    [
        ((5, 6, -1, 1), np.int16, "p from -1 to 0"),
        ((5, 6, 2, 1), np.float64, "p from 0.0 to 2.0"),
        ((5, 6, 255, 1), np.uint8, "p from 0 to 255"),
        ((5, 6, 0.5, 1), np.float64, "p of event 1 is 0.5; it is a whole number"),
        ((65536 + 5, 6, 1, 1), np.int32, "x from 5 to 65541"),
        ((5, 131072, 1, 1), np.int64, "y from 6 to 131072"),
        ((5.9, 6, 1, 1), np.float32, "x of event 1 is 5.9"),
        ((-0.9, 6, 1, 1), np.float64, "x of event 1 is -0.9"),
        ((np.nan, 6, 1, 1), np.float64, "x of event 1 is nan"),
        ((5, np.inf, 1, 1), np.float64, "y of event 1 is inf"),
        ((5, 6, 1, np.nan), np.float64, "t of event 1 is nan"),
        ((5, 6, 1, -np.inf), np.float64, "t of event 1 is -inf"),
        ((5, 6, 1, -2), np.int8, "before the time 0"),
        ((5, 6, 1, 1e17), np.float64, "beyond 2\\*\\*62"),
        ((5, 6, 1, (1 << 62) // 1000 + 1), np.uint64, "beyond 2\\*\\*62"),
    ],
)
def test_values_that_are_none_of_the_sensor_are_refused(root, row, kind, part):
    with pytest.raises(ImportRefused, match=part):
        gesture(root, [(5, 6, 0, 0), row], kind).events(0)


@pytest.mark.parametrize(
    "kind, times",
    [
        (np.int16, [30_000, 32_000]),
        (np.uint16, [60, 120, 65_535]),
        (np.int32, [1000, 3_000_000]),
        (np.uint64, [1, 1_700_000_000_000]),
        (">i4", [7, 9]),
        (np.float64, [1.5, 17_000.001, 1_700_000_000_000]),
        (np.float32, [0.1 * k for k in range(1, 80)]),
    ],
)
def test_times_keep_their_size_in_every_type(root, kind, times):
    """Milliseconds of any type of number, also absolute ones."""
    found = gesture(root, [(1, 2, 1, t) for t in times], kind).events(0)
    assert found["t"].tolist() == [round(t * 1000) for t in times]


def test_times_with_a_fraction_are_cut_to_whole_microseconds(root):
    h5py = pytest.importorskip("h5py")
    (root / "SHD").mkdir()

    def shd(times, kind, units=3, unit_kind="uint16"):
        with h5py.File(root / "SHD/shd_test.h5", "w") as file:
            for name, values, own in (("times", times, kind), ("units", np.full(len(times), units), unit_kind)):
                rows = file.create_dataset(f"spikes/{name}", (1,), h5py.vlen_dtype(np.dtype(own)))
                rows[0] = np.array(values, own)
            file["labels"], file["extra/keys"] = np.array([0]), np.array([b"zero"])
        return load_events("shd:test").events(0)["t"].tolist()

    values = [0.05, 0.0655, 0.07, 0.5, 1.17]
    assert shd(values, "float16") == [int(float(np.float16(v)) * 1e6) for v in values]
    values = [0.007 * k for k in range(1, 200)]  # as float32 many lie just below
    assert shd(values, "float32") == [7000 * k for k in range(1, 200)]
    for wrong, part in (
        (lambda: shd([-0.001, 0.5], "float32"), "before the time 0"),
        (lambda: shd([0.1], "float32", -1, "int16"), "x from -1 to -1"),
        (lambda: shd([0.1], "float32", 1.7, "float32"), "x of event 0 is 1.7"),
        (lambda: shd([0.1, np.nan], "float32"), "NaN or infinity"),
    ):
        with pytest.raises(ImportRefused, match=part):
            wrong()


def test_tables_of_another_form_are_refused(root):
    for rows, part in (([1, 2, 3, 4], "shape \\(4,\\)"), ([[1, 2, 3]], "shape \\(1, 3\\)")):
        with pytest.raises(ImportRefused, match=part):
            gesture(root, rows).events(0)
    assert gesture(root, np.zeros((0, 4))).events(0).tolist() == []
    file = root / "DVSGesture/ibmGestureTest/user24_led/0.npy"
    np.save(file, np.array([{"x": 1}], object), allow_pickle=True)
    with pytest.raises(ImportRefused, match="Python objects"):
        load_events("dvs-gesture:test").events(0)
    file.rename(file.with_name("11.npy"))
    with pytest.raises(ImportRefused, match="no class from 0 to 10"):
        load_events("dvs-gesture:test")


def test_order_is_that_of_the_paths_and_hidden_files_are_none(root, monkeypatch):
    for user, number in (("user2", 3), ("user10", 3), ("user10", 1), (".cache", 4)):
        file = root / f"DVSGesture/ibmGestureTest/{user}/{number}.npy"
        write(file)
        np.save(file, np.array([[number, len(user), 0, 0]]))
    write(root / "DVSGesture/ibmGestureTest/user2/._3.npy")
    listed = Path.glob
    for order in (sorted, lambda paths: sorted(paths, reverse=True)):  # whatever the disk says
        monkeypatch.setattr(Path, "glob", lambda self, pattern, order=order: order(listed(self, pattern)))
        found = load_events("dvs-gesture:test")
        assert found.labels.tolist() == [1, 3, 3]  # user10/1, user10/3, user2/3
    assert [len("user10"), len("user10"), len("user2")] == [int(found.events(i)["y"][0]) for i in range(3)]
    for name, layout in (("nmnist:test", "NMNIST/Test/3/1.bin"), ("dvs-gesture", "dvs-gesture/1.bs2")):
        write(root / layout, five_bytes([(1, 1, 5, 1)]))
        write((root / layout).with_name("._" + layout.rsplit("/")[-1]), b"\0\5\x16\7\0" * 33)
        write(root / "dvs-gesture/INFERRED_LABELS.txt", b"1 1\n")
        assert len(load_events(name)) == 1
    write(root / "poker-dvs/._trcl0.es")
    with pytest.raises(DataNotFoundError):
        load_events("poker-dvs")


@pytest.mark.parametrize(
    "content, part",
    [
        (b"<html><head><title>404 Not Found</title></head></html>\n", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n", "git lfs pull"),
        (b"label,file\n3,00001.bin\n4,0002.bin", "is text that begins with"),
    ],
)
def test_text_in_place_of_a_recording(root, content, part):
    for path, name in (
        ("NMNIST/Test/3/1.bin", "nmnist:test"), ("dvs-gesture/1.bs2", "dvs-gesture"),
        ("DVSGesture/ibmGestureTest/user24_led/0.npy", "dvs-gesture:test"), ("poker-dvs/trcl0.es", "poker-dvs"),
    ):  # fmt: skip
        write(root / path, content)
        write(root / "dvs-gesture/INFERRED_LABELS.txt", b"1 1\n")
        with pytest.raises(ImportRefused, match=part):
            load_events(name).events(0)


def clocked(root, times):
    """Events of these readings of the clock, x by their order in the file."""
    write(root / "dvs-gesture/1.bs2", five_bytes([(i, i, t % (1 << 23), 1) for i, t in enumerate(times)]))
    write(root / "dvs-gesture/INFERRED_LABELS.txt", b"1 3\n")
    found = load_events("dvs-gesture").events(0)
    return list(zip(found["x"].tolist(), found["t"].tolist(), strict=True))


@pytest.mark.parametrize(
    "times",
    [
        [0, 3_000_000, 6_000_000, 8_000_000, 9_000_000, 11_000_000],
        [0, 8_000_000, 9_000_000],
        [5, 8_388_607, 8_388_608, 16_000_000, 16_777_215, 16_777_216, 25_000_000],
        [50, 40, 60, 40],  # late ones
        [8_388_600, 8_388_610, 8_388_605, 8_388_620, 8_388_590, 8_388_630],  # late ones across the turn
        [0, 8_388_607, 8_388_500],  # a pause before the first turn, and a late one
        [1_000_000, 4_194_304 + 1_000_000, 1_000_001],  # the largest fall that is a late one
    ],
)
def test_a_clock_that_begins_again(root, times):
    assert clocked(root, times) == sorted(enumerate(times), key=lambda event: event[1])


def test_a_fall_of_more_than_half_the_clock_is_a_turn(root):
    assert clocked(root, [4_194_305 + 7, 7]) == [(0, 4_194_312), (1, (1 << 23) + 7)]
    assert clocked(root, [4_194_304 + 7, 7]) == [(1, 7), (0, 4_194_311)]


def test_a_hundred_thousand_overflows(root):
    """Each moves all later events: the sum is made once."""
    count = 100_000
    write(root / "NMNIST/Test/0/1.bin", five_bytes([(0, 240, 0, 0)]) * count + five_bytes([(1, 1, 7, 1)]))
    assert load_events("nmnist:test").events(0)["t"].tolist() == [7 + count * 8192]


@pytest.mark.parametrize("index", [1.0, True, "0", None])
def test_a_number_of_a_recording_is_an_integer(index):
    with pytest.raises(FormatError, match="index: found"):
        load_events("digits-saccades:test:3").events(index)
