"""Binning of events: every event in its place, nothing else, whole numbers only."""

import dataclasses
import warnings

import numpy as np
import pytest
from click.testing import CliRunner

from intsnn.cli.main import main
from intsnn.datasets.camera import EVENT
from intsnn.datasets.events import load_events
from intsnn.datasets.framing import frame_set, frame_shape, frames
from intsnn.errors import FormatError, RangeError, ShapeError
from intsnn.files.network_file import save
from intsnn.formats.fixed import Fixed
from intsnn.layers import IF, Affine, Flatten, Input, Readout
from intsnn.network.spiking import Network

SHAPE = (2, 7, 9)


def some(count, seed=0, shape=SHAPE, end=1000):
    rng = np.random.default_rng(seed)
    events = np.empty(count, EVENT)
    events["x"], events["y"] = rng.integers(0, shape[2], count), rng.integers(0, shape[1], count)
    events["p"], events["t"] = rng.integers(0, shape[0], count), np.sort(rng.integers(0, end, count))
    return events


@pytest.mark.parametrize("divide", [1, 2, (3, 4)])
@pytest.mark.parametrize("clip", [1, 3, 255])
@pytest.mark.parametrize("start", [0, 150])
def test_every_event_is_counted_in_its_bin(divide, clip, start):
    events = some(2000)
    rows, columns = (divide, divide) if isinstance(divide, int) else divide
    expected = np.zeros((6, 2, 7 // rows, 9 // columns), np.int64)
    for x, y, t, p in events.tolist():
        step = (t - start) // 100
        if t >= start and step < 6 and y // rows < 7 // rows and x // columns < 9 // columns:
            expected[step, p, y // rows, x // columns] += 1
    found = frames(events, shape=SHAPE, steps=6, bin_us=100, divide=divide, start_us=start, clip=clip)
    assert found.dtype == np.uint8 and expected.max() > (clip if clip < 255 else 0)
    np.testing.assert_array_equal(found, np.minimum(expected, clip))


def test_edges_of_bins():
    events = np.array([(0, 0, 99, 0), (1, 0, 100, 1), (2, 0, 199, 0), (3, 0, 200, 1)], EVENT)
    found = frames(events, shape=(2, 1, 4), steps=2, bin_us=100)
    assert np.argwhere(found).tolist() == [[0, 0, 0, 0], [1, 0, 0, 2], [1, 1, 0, 1]]


def test_no_events_make_empty_frames():
    assert not frames(np.empty(0, EVENT), shape=SHAPE, steps=3, bin_us=10).any()


def test_a_set_is_its_recordings():
    digits = load_events("digits-saccades:test:5")
    whole = frame_set(digits, steps=3, bin_us=105_000)
    assert whole.shape == (5, 3, 2, 34, 34)
    np.testing.assert_array_equal(frame_set(digits, [4, 1], steps=3, bin_us=105_000), whole[[4, 1]])
    assert frame_set(digits, [], steps=3, bin_us=105_000).shape == (0, 3, 2, 34, 34)
    with pytest.raises(RangeError, match="0 to 4 is possible"):
        frame_set(digits, [5], steps=3, bin_us=105_000)


@pytest.mark.parametrize(
    "changes, kind, part",
    [
        ({"steps": 0}, FormatError, "steps: found 0"),
        ({"bin_us": 0}, FormatError, "bin_us: found 0"),
        ({"clip": 256}, FormatError, "clip: found 256; 1 to 255"),
        ({"start_us": 1 << 62}, FormatError, "start_us: found 4611686018427387904"),
        ({"start_us": 0.5}, FormatError, "start_us: found 0.5"),
        ({"steps": 3.0}, FormatError, "steps: found 3.0"),
        ({"steps": 1 << 20, "shape": (2, 200, 100)}, RangeError, "take 41,943,040,000 bytes"),
        ({"bin_us": 10.0}, FormatError, "bin_us: found 10.0"),
        ({"clip": 1.5}, FormatError, "clip: found 1.5"),
        ({"clip": True}, FormatError, "clip: found True"),
        ({"divide": 2.0}, FormatError, "divide: found 2.0"),
        ({"divide": (2, 1.5)}, FormatError, "divide: found 1.5"),
        ({"divide": (1, 1, 1)}, FormatError, "divide: found"),
        ({"shape": (2, 7)}, ShapeError, "shape: found"),
        ({"divide": 0}, FormatError, "divide: found 0"),
        ({"divide": 8}, ShapeError, "leaves no pixel"),
    ],
)
def test_wrong_settings_are_said(changes, kind, part):
    with pytest.raises(kind, match=part):
        frames(some(5), **{"shape": SHAPE, "steps": 2, "bin_us": 10} | changes)


@pytest.mark.parametrize("field, value", [("x", 9), ("y", -1), ("p", 2)])
def test_events_outside_the_sensor_are_refused(field, value):
    events = some(5)
    events[field][2] = value
    with pytest.raises(RangeError, match=f"events.{field}"):
        frames(events, shape=SHAPE, steps=2, bin_us=10)


def test_shapes():
    assert frame_shape((2, 34, 34), 2) == (2, 17, 17) and frame_shape((1, 1, 700), (1, 7)) == (1, 1, 100)


def table(rows, **kinds):
    return np.array(rows, [(name, kinds.get(name, "i8")) for name in "xytp"])


ROWS = [(0, 0, 0, 0), (1, 0, 9, 1), (1, 1, 10, 1), (3, 3, 29, 0), (3, 3, 30, 0)]
SMALL = {"shape": (2, 4, 4), "steps": 3, "bin_us": 10, "clip": 255}


@pytest.mark.parametrize("name", "xytp")
@pytest.mark.parametrize("kind", ["u1", "i1", ">u2", "i4", "u8", "f4", "f8"])
def test_whole_numbers_of_every_type(name, kind):
    assert frames(table(ROWS, **{name: kind}), **SMALL).sum((1, 2, 3)).tolist() == [2, 1, 1]


def test_polarities_as_truth_values_and_places_beyond_16_bits():
    assert frames(table(ROWS, p="?"), **SMALL).sum((1, 2, 3)).tolist() == [2, 1, 1]
    events = table([(299, 298, 60_000, 1)], x="u2", y="u2", t="u2", p="u1")
    found = frames(events, shape=(2, 300, 300), steps=7, bin_us=10_000)
    assert np.argwhere(found).tolist() == [[6, 1, 298, 299]]


@pytest.mark.parametrize(
    "events, error, part",
    [
        (table([(0, 0, 0.1, 0)], t="f8"), FormatError, "events.t: found 0.1; .* are these seconds"),
        (table([(np.nan, 0, 0, 0)], x="f8"), FormatError, "events.x: found nan"),
        (table([(-0.5, 0, 0, 0)], x="f4"), FormatError, "events.x: found -0.5"),
        (table([(0, 0, 0, 0.9)], p="f8"), FormatError, "events.p: found 0.9"),
        (table([(0, 0, 1 << 63, 0)], t="u8"), RangeError, "events.t: found 9223372036854775808"),
        (table([(0, 0, 0, 0)], x="S1"), FormatError, "events.x: found"),
        (np.array(ROWS), ShapeError, "fields x, y, t, p is needed"),
        (table(ROWS)[["x", "y", "p"]], ShapeError, "fields x, y, t, p is needed"),
        (ROWS, ShapeError, "found list"),
    ],
)
def test_what_is_no_event_is_refused(events, error, part):
    with pytest.raises(error, match=part):
        frames(events, **SMALL)


def test_where_frames_begin():
    """At a time of the clock, before 0 too, or at the earliest event, whatever the order and however late it is."""
    for offset in (0, 3, 1_600_000_000_000_000):  # the last: microseconds since 1970
        events = table([(x, y, t + offset, p) for x, y, t, p in reversed(ROWS)])
        assert frames(events, **SMALL, start_us=None).sum((1, 2, 3)).tolist() == [2, 1, 1]
        assert frames(events, **SMALL, start_us=offset).sum((1, 2, 3)).tolist() == [2, 1, 1]
        assert frames(events, **SMALL, start_us=offset - 10).sum((1, 2, 3)).tolist() == [0, 2, 1]
        assert frames(events, **SMALL, start_us=offset + 1).sum((1, 2, 3)).tolist() == [2, 0, 2]
    before = table([(0, 0, -1, 0), (0, 0, 0, 0)])
    assert frames(before, **SMALL).sum((1, 2, 3)).tolist() == [1, 0, 0]
    assert frames(before, **SMALL, start_us=-1).sum((1, 2, 3)).tolist() == [2, 0, 0]


def test_sets_begin_where_recordings_do():
    digits = load_events("digits-saccades:test:4")
    for start in (None, 0, -7_000, 5_000):
        options = {"steps": 5, "bin_us": 31_000, "divide": (3, 2), "start_us": start, "clip": 9}
        found = frame_set(digits, [3, 1], **options)
        np.testing.assert_array_equal(
            found, np.stack([frames(digits.events(i), shape=digits.shape, **options) for i in (3, 1)])
        )


@pytest.mark.parametrize(
    "indices, error, part",
    [
        (np.array([True, False, True]), FormatError, "found a mask; .* np.flatnonzero"),
        ([True], FormatError, "found a mask"),
        ([1.9], RangeError, "found 1.9"),
        ([np.float64(1)], RangeError, "an entry: found 1.0"),
        (["1"], RangeError, "found '1'"),
        ([-1], RangeError, "found -1"),
        (2, FormatError, "a list of numbers"),
        (slice(0, 2), FormatError, "a list of numbers"),
        ("12", FormatError, "a list of numbers"),
        ([[0, 1]], RangeError, "an entry: found a list"),
    ],
)
def test_recordings_are_named_by_their_numbers(indices, error, part):
    with pytest.raises(error, match=part):
        frame_set(load_events("digits-saccades:test:3"), indices, steps=2, bin_us=105_000)


def test_empty_frames_are_said():
    """No event of any recording: a warning that names both times; a recording without events alone is none."""
    digits = load_events("digits-saccades:test:3")
    options = {"steps": 2, "bin_us": 1000}
    with pytest.warns(UserWarning, match="no event of 3 recordings .* from 900000000 to 900002000 us, .* start_us"):
        assert not frame_set(digits, **options, start_us=900_000_000).any()
    with pytest.warns(UserWarning, match="no event falls into a frame: .* from -50 to -20 us"):
        frames(table(ROWS), **SMALL, start_us=-50)
    silent = dataclasses.replace(digits, reader=lambda index: np.empty(0, EVENT), binned=None)
    with pytest.warns(UserWarning, match="the recordings are empty"):
        frame_set(silent, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames(np.empty(0, EVENT), shape=SHAPE, steps=3, bin_us=10)
        frame_set(digits, [], **options)
        frame_set(digits, **options, start_us=None)


def test_the_command_says_that_no_event_was_seen(tmp_path):
    """What is right then comes from no event; settings of the network that cannot be are refused as such."""
    net = {
        name: Network.sequential(
            Input((2, 8, 8), Fixed(1, signed=False)), Flatten(),
            Affine(np.eye(10, 128, dtype=int), weight_format=Fixed(8)), IF(1), Readout("count"), t_drive=4,
            metadata={"events": {"steps": 4, "bin_us": 78_750, "divide": 4, "start_us": start, "clip": 1}},
        )
        for name, start in (("late", 10**15), ("first", None), ("half", 0.5))
    }  # fmt: skip
    results = {}
    for name, network in net.items():
        save(network, tmp_path / f"{name}.h5")
        results[name] = CliRunner().invoke(
            main, ["run", str(tmp_path / f"{name}.h5"), "--data", "digits-saccades:test:6"]
        )
    assert results["late"].exit_code == 0 and "warning: digits-saccades:test:6: no event of 6" in results["late"].output
    assert results["first"].exit_code == 0 and "warning" not in results["first"].output
    assert results["half"].exit_code == 3 and "the entry 'events'" in results["half"].output
    assert len(results["late"].output.split("warning:")) == 2
