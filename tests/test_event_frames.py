"""Binning of events: every event in its place, nothing else, whole numbers only."""

import numpy as np
import pytest

from intsnn.errors import FormatError, RangeError, ShapeError
from intsnn.models.event_data import load_events
from intsnn.models.event_frames import frame_set, frame_shape, frames
from intsnn.models.saccades import EVENT

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
        ({"start_us": -1}, FormatError, "start_us: found -1"),
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
