"""Streams made from images: compiled equals specification, the same for any order, and what a pixel does."""

import dataclasses

import numpy as np
import pytest

from intsnn.datasets.camera import CAMERA, EVENT, Camera, pixel_table, place, stream, trajectory
from intsnn.datasets.events import load_events
from intsnn.datasets.framing import frame_set, frames
from intsnn.errors import FormatError, ShapeError
from intsnn.kernels.inputs import camera as compiled
from intsnn.kernels.inputs import camera_reference as plain

SMALL = Camera(rows=12, columns=11, corners=((40, 25), (-9, 30), (0, 0)), ticks=7, tick_us=101, noise=700)


def reference(placed, sample, camera, seed, part):
    """Events of the specification for an image without its border."""
    image = placed[1:-1, 1:-1]
    flat = plain.thresholds(seed, camera.rows * camera.columns, camera.threshold, camera.mismatch)
    levels = np.reshape(flat, (camera.rows, camera.columns)).tolist()
    travel = [max(0, *axis) for axis in zip(*camera.corners, strict=True)]
    sizes = (camera.rows, camera.columns)
    corner = [(16 * n - 16 * k - t) // 2 for n, k, t in zip(sizes, image.shape, travel, strict=True)]
    sensor = plain.Sensor(
        pixel_table(camera.intensity).tolist(), levels, trajectory(camera).tolist(), *corner, camera.tick_us,
        camera.jitter, camera.noise, seed,
    )  # fmt: skip
    found = plain.stream(image.tolist(), sensor, part, sample)
    return np.array(sorted(found, key=lambda event: event[2]), EVENT)


@pytest.mark.parametrize("seed", range(12))
def test_compiled_equals_specification(seed):
    rng = np.random.default_rng(seed)
    camera = dataclasses.replace(
        SMALL, intensity=("log", "linear")[seed % 2], threshold=int(rng.integers(3, 40)), mismatch=int(rng.integers(3)),
        jitter=int(rng.integers(0, 60)), noise=int(rng.integers(0, 1025)),
    )  # fmt: skip
    image = rng.integers(0, 256, (1, 1, 5, 6)) * (rng.random((1, 1, 5, 6)) < 0.6)
    placed = place(image, 255, camera)[0]
    found = stream(placed, 3, camera=camera, seed=seed, part=1)
    expected = reference(placed, 3, camera, seed, 1)
    assert len(expected) > 20
    np.testing.assert_array_equal(found, expected)


def test_a_black_image_makes_noise_only():
    placed = place(np.zeros((1, 1, 5, 5), np.uint8), 255, SMALL)[0]
    assert len(stream(placed, 0, camera=dataclasses.replace(SMALL, noise=0))) == 0
    assert len(stream(placed, 0, camera=dataclasses.replace(SMALL, noise=1024))) == 3 * SMALL.ticks


def test_a_still_camera_sees_nothing():
    rng = np.random.default_rng(0)
    placed = place(rng.integers(0, 256, (1, 1, 5, 5)), 255, SMALL)[0]
    assert len(stream(placed, 0, camera=dataclasses.replace(SMALL, corners=((0, 0),), noise=0))) == 0


def test_an_edge_that_passes_is_on_then_off():
    """One bright pixel that moves to the right: what it reaches grows brighter, what it leaves darker."""
    camera = Camera(
        rows=3, columns=9, corners=((0, 64),), ticks=8, tick_us=1000, intensity="linear", threshold=200, mismatch=0,
        jitter=0, noise=0,
    )  # fmt: skip
    events = stream(place(np.full((1, 1, 1, 1), 255), 255, dataclasses.replace(camera, rows=3))[0], 0, camera=camera)
    on, off = events[events["p"] == 1], events[events["p"] == 0]
    assert len(on) and len(off) and (np.diff(events["t"]) >= 0).all()
    assert on["x"].max() > off["x"].min()
    for x in set(off["x"].tolist()) & set(on["x"].tolist()):
        assert on["t"][on["x"] == x].min() < off["t"][off["x"] == x].max()


def test_a_buffer_that_is_too_small_only_counts():
    placed = place(np.full((1, 1, 6, 6), 255), 255, SMALL)
    whole = stream(placed[0], 5, camera=SMALL)
    levels = np.full((12, 11), 9, np.int32)
    sensor = compiled.Sensor(
        pixel_table("log").astype(np.int32), levels, trajectory(SMALL), corner_y=16, corner_x=16, tick=101, jitter=0,
        noise=0, seed=0,
    )  # fmt: skip
    events, few = np.zeros((5000, 4), np.int32), np.zeros((7, 4), np.int32)
    last = np.zeros_like(levels)
    count = compiled.stream(placed[0], sensor, 0, 5, last, events)
    assert compiled.stream(placed[0], sensor, 0, 5, last, few) == count > 7
    np.testing.assert_array_equal(few, events[:7])
    assert len(whole) > 0


def test_streams_depend_on_image_number_part_and_seed_only():
    images = np.random.default_rng(1).integers(0, 256, (1, 1, 8, 8))
    placed = place(images, 255, CAMERA)[0]
    first = stream(placed, 7, seed=1, part=0)
    np.testing.assert_array_equal(first, stream(placed, 7, seed=1, part=0))
    for other in (
        stream(placed, 8, seed=1, part=0),
        stream(placed, 7, seed=2, part=0),
        stream(placed, 7, seed=1, part=1),
    ):
        assert len(other) != len(first) or (other != first).any()


def test_shape_and_size_are_those_of_n_mnist():
    digits = load_events("digits-saccades:test:20")
    assert digits.shape == (2, 34, 34) and len(digits) == 20 and CAMERA.duration_us == 315_000
    for index in range(20):
        events = digits.events(index)
        assert events.dtype == EVENT and 500 < len(events) < 9000
        assert events["t"].min() >= 0 and events["t"].max() < CAMERA.duration_us
        assert 0.35 < events["p"].mean() < 0.65


def test_binned_streams_are_the_frames_of_the_events():
    digits = load_events("digits-saccades:train:40")
    for options in (
        {"steps": 10, "bin_us": 31_500, "divide": 2},
        {"steps": 4, "bin_us": 40_001, "divide": (3, 5), "start_us": 50_000, "clip": 7},
    ):
        found = frame_set(digits, [3, 0, 39, 3], **options)
        expected = [frames(digits.events(i), shape=digits.shape, **options) for i in (3, 0, 39, 3)]
        np.testing.assert_array_equal(found, np.stack(expected))
        assert found.max() > 0


def test_logarithm_is_exact():
    table = pixel_table("log")
    assert table[0] == 128 and table[16] == 160 and table[240] == 256  # 32 log2 of 16, 32, 256
    assert (np.diff(table) >= 0).all()


def test_trajectory_starts_and_ends_at_rest():
    path = trajectory(SMALL)
    assert path.shape == (22, 2)
    assert [tuple(path[7 * k]) for k in range(4)] == [(0, 0), (40, 25), (-9, 30), (0, 0)]
    assert abs(path[1]).max() < abs(path[4] - path[3]).max()


@pytest.mark.parametrize(
    "changes, part",
    [
        ({"intensity": "gamma"}, "choose one of log, linear"),
        ({"threshold": 0}, "Camera.threshold: found 0"),
        ({"mismatch": 28}, "Camera.mismatch: found 28; 0 to 27"),
        ({"corners": ()}, "Camera.corners"),
        ({"noise": 1025}, "Camera.noise"),
    ],
)
def test_wrong_cameras_are_refused(changes, part):
    with pytest.raises(FormatError, match=part):
        Camera(**changes)


def test_wrong_images_are_refused():
    with pytest.raises(ShapeError, match="is needed"):
        place(np.zeros((2, 3, 8, 8)), 255, CAMERA)
    with pytest.raises(ShapeError, match="do not fit a sensor"):
        place(np.zeros((2, 1, 40, 8), np.uint8), 255, CAMERA)
    with pytest.raises(FormatError, match="not within 0 .. 16"):
        place(np.full((1, 1, 8, 8), 17), 16, CAMERA)
