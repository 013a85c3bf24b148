"""Event streams made from images: a camera that looks at a picture and makes three short movements.

N-MNIST was recorded in this way (Orchard et al. 2015): the sensor was turned along a triangle before a screen that
showed the digits of MNIST. Here a pixel is a small integer model of a DVS pixel: it reports an event each time that
what it sees has moved by its threshold since its last event. Every stream follows from (image, its number, its part,
seed) alone.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ..errors import FormatError, ShapeError
from ..formats.arguments import array_of, choice, instance, seed_of, sequence, shown, whole, wholes
from ..formats.integers import for_kernel, whole_array
from ..layers.base import pair

__all__ = ["CAMERA", "EVENT", "Camera", "pixel_table", "place", "stream", "stream_frames", "trajectory"]

EVENT = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.int8)])
UNIT = 16  # positions are in 1/16 pixel
INTENSITIES = ("log", "linear")
CHUNK = 256
FIRST_GUESS = 1 << 14  # events of a stream


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Sensor, pixel and movement.

    Attributes
    ----------
    rows, columns : int
        Of the sensor.
    corners : tuple of (dy, dx)
        Where the image is after each movement, in 1/16 pixel from where it was at the start.
    ticks : int
        Of each movement; the speed rises from zero and falls to zero again.
    tick_us : int
        Length of a tick in microseconds.
    intensity : {"log", "linear"}
        What a pixel compares: the logarithm of the code in 1/32 octave, or the code.
    threshold, mismatch : int
        In units of what is compared; each pixel of a sensor has its own of ``threshold - mismatch .. threshold +
        mismatch``, which the seed decides.
    jitter : int
        Every stream starts moved by up to so many 1/16 pixels.
    noise : int
        In how many of 1,024 ticks there is an event from nowhere.

    Raises
    ------
    FormatError
        For a value that cannot be.
    """

    rows: int = 34
    columns: int = 34
    corners: tuple[tuple[int, int], ...] = ((112, 56), (0, 112), (0, 0))
    ticks: int = 30
    tick_us: int = 3500
    intensity: str = "log"
    threshold: int = 28
    mismatch: int = 4
    jitter: int = 8
    noise: int = 128

    def __post_init__(self) -> None:
        choice(self.intensity, "Camera.intensity", INTENSITIES)
        object.__setattr__(self, "threshold", whole(self.threshold, "Camera.threshold", 1, 1 << 16))
        for name, low, high in (
            ("rows", 1, 1024), ("columns", 1, 1024), ("ticks", 1, 4096), ("tick_us", 1, 1 << 20),
            ("mismatch", 0, self.threshold - 1), ("jitter", 0, 1 << 12), ("noise", 0, 1024),
        ):  # fmt: skip
            object.__setattr__(self, name, whole(getattr(self, name), f"Camera.{name}", low, high))
        needed = f"pairs of at most {1 << 12} each are possible"
        corners = tuple(
            wholes(c, "Camera.corners", -(1 << 12), 1 << 12, needed=needed)
            for c in sequence(self.corners, "Camera.corners", needed)
        )
        if not corners or len(corners) > 64 or any(len(c) != 2 for c in corners):
            raise FormatError(f"Camera.corners: found {shown(self.corners)}; {needed}")
        object.__setattr__(self, "corners", corners)

    @property
    def duration_us(self) -> int:
        """Length of a stream."""
        return len(self.corners) * self.ticks * self.tick_us


CAMERA = Camera()


def pixel_table(intensity: str) -> np.ndarray:
    """What a pixel that sees the code 0 .. 255 compares, (256,) int64.

    ``"log"``: ``floor(32 log2(code + 16))``, from the bit length of a power, so that it is exact.
    """
    choice(intensity, "intensity", INTENSITIES)
    if intensity == "linear":
        return np.arange(256, dtype=np.int64)
    return np.array([((code + 16) ** 32).bit_length() - 1 for code in range(256)], np.int64)


def trajectory(camera: Camera) -> np.ndarray:
    """Position (dy, dx) at the start and after each tick, in 1/16 pixel: ``3 s^2 - 2 s^3`` of each movement, floored.

    Returns
    -------
    (movements * ticks + 1, 2) int64
    """
    instance(camera, "camera", Camera)
    n, here = camera.ticks, (0, 0)
    found: list[tuple[int, ...]] = [here]
    for corner in camera.corners:
        for i in range(1, n + 1):
            part = 3 * i * i * n - 2 * i**3
            found.append(tuple(a + (b - a) * part // n**3 for a, b in zip(here, corner, strict=True)))
        here = corner
    return np.array(found, np.int64)


def place(images: np.ndarray, maximum: int, camera: Camera) -> np.ndarray:
    """Images as the sensor is shown them: codes 0 .. 255, enlarged by a whole factor, with a black border.

    Parameters
    ----------
    images : (N, 1, h, w) integers 0 .. maximum

    Returns
    -------
    (N, H + 2, W + 2) uint8

    Raises
    ------
    ShapeError
        If the images are not grey, or larger than the sensor.
    """
    instance(camera, "camera", Camera)
    images, maximum = array_of(images, "saccades: images"), whole(maximum, "saccades: maximum", 1, 1 << 31)
    if images.ndim != 4 or images.shape[1] != 1:
        raise ShapeError(f"saccades: found images of shape {images.shape}; (N, 1, h, w) is needed")
    if images.dtype.kind not in "biu":
        raise FormatError(f"saccades: images: found {shown(images)}; integers are needed")
    if images.size and (images.min() < 0 or images.max() > maximum):
        raise FormatError(f"saccades: the codes of the images are not within 0 .. {maximum}, the maximum")
    if not images.size:
        raise ShapeError(f"saccades: found images of shape {images.shape}; at least one pixel is needed")
    factor = min(camera.rows // images.shape[2], camera.columns // images.shape[3])
    if factor < 1:
        raise ShapeError(
            f"saccades: images of {images.shape[2:]} do not fit a sensor of {camera.rows}x{camera.columns}"
        )
    factor = max(1, factor - 1) if factor > 2 else factor  # leaves room for the movement
    codes = (images[:, 0].astype(np.int64) * 255 // maximum).astype(np.uint8)
    codes = codes.repeat(factor, axis=1).repeat(factor, axis=2)
    return np.pad(codes, ((0, 0), (1, 1), (1, 1)))


class _Scene:
    """What all streams of a camera share: its table, path, thresholds and the corner of the image."""

    def __init__(self, camera: Camera, seed: int, shape: tuple[int, int]) -> None:
        from ..kernels.inputs import camera as saccades  # compiled code is loaded when first needed

        self.kernels, self.camera = saccades, camera
        self.table, self.path = pixel_table(camera.intensity).astype(np.int32), trajectory(camera)
        levels = np.empty(camera.rows * camera.columns, np.int32)
        saccades.thresholds(seed, camera.threshold, camera.mismatch, levels)
        self.levels = levels.reshape(camera.rows, camera.columns)
        travel = [max(0, *axis) for axis in zip(*camera.corners, strict=True)]
        sensor = (camera.rows, camera.columns)
        corner = [(n * UNIT - (k - 2) * UNIT - t) // 2 for n, k, t in zip(sensor, shape, travel, strict=True)]
        self.sensor = saccades.Sensor(
            self.table, self.levels, self.path, corner[0], corner[1], camera.tick_us, camera.jitter, camera.noise, seed
        )  # fmt: skip
        self.last = np.empty_like(self.levels)
        self.buffer = np.empty((FIRST_GUESS, 4), np.int32)

    def grow(self, needed: int) -> bool:
        """Make the buffer larger if `needed` events do not fit; whether it was."""
        if needed <= len(self.buffer):
            return False
        self.buffer = np.empty((2 * needed, 4), np.int32)
        return True


def _placed(placed, axes: int) -> np.ndarray:
    """Images as the kernels read them: bytes in C order with a black border, which bounds where they look."""
    found = array_of(placed, "saccades: placed")
    if found.dtype != np.uint8 or found.ndim != axes or min(found.shape[-2:]) < 3 or max(found.shape[-2:]) > 1 << 12:
        raise ShapeError(f"saccades: placed: found {shown(found)}; uint8 images of `place`, {axes} axes, are needed")
    if found[..., (0, -1), :].any() or found[..., (0, -1)].any():
        raise FormatError("saccades: placed: found an image without a black border; take images of `place`")
    return for_kernel(found)


def _keys(camera: Camera, sample: int, seed: int, part: int) -> tuple[int, int, int]:
    instance(camera, "camera", Camera)
    return seed_of(sample, "sample"), seed_of(seed), seed_of(part, "part")


@functools.lru_cache(maxsize=8)
def _scene(camera: Camera, seed: int, shape: tuple[int, int]) -> _Scene:
    return _Scene(camera, seed, shape)


def stream(placed: np.ndarray, sample: int, *, camera: Camera = CAMERA, seed: int = 0, part: int = 0) -> np.ndarray:
    """Events of one image.

    Parameters
    ----------
    placed : (h, w) uint8
        One image of `place`.
    sample, part : int
        Number of the image, and of the part of the set that it belongs to.

    Returns
    -------
    structured array of `EVENT`, in the order of time
        x, y: pixels; t: microseconds from 0; p: 1 where it became brighter.
    """
    placed = _placed(placed, 2)
    sample, seed, part = _keys(camera, sample, seed, part)
    scene = _scene(camera, seed, placed.shape)
    while True:
        count = scene.kernels.stream(placed, scene.sensor, part, sample, scene.last, scene.buffer)
        if not scene.grow(count):
            break
    found = scene.buffer[:count]
    found = found[np.argsort(found[:, 2], kind="stable")]
    events = np.empty(count, EVENT)
    for axis, name in enumerate("xytp"):
        events[name] = found[:, axis]
    return events


def stream_frames(
    placed: np.ndarray, samples: np.ndarray, out: np.ndarray, *, bin_us: int, divide: tuple[int, int], clip: int,
    start_us: int = 0, camera: Camera = CAMERA, seed: int = 0, part: int = 0,
) -> None:  # fmt: skip
    """Frames of many images without their events in between: what `event_frames.frames` makes of each `stream`.

    Parameters
    ----------
    placed : (N, h, w) uint8
    samples : (N,) int64
    out : (N, steps, 2, rows, columns) uint8
    """
    placed = _placed(placed, 3)
    _, seed, part = _keys(camera, 0, seed, part)
    samples = whole_array(samples, "saccades: samples")
    if samples.shape != placed.shape[:1] or (samples.size and samples.min() < 0):
        raise ShapeError(f"saccades: samples: found {shown(samples)}; a number from 0 for each image is needed")
    bin_us, clip = whole(bin_us, "bin_us", 1, 1 << 40), whole(clip, "clip", 1, 255)
    start_us = whole(start_us, "start_us", -(1 << 61), 1 << 61)
    divide = pair(divide, "divide")
    size = (camera.rows // divide[0], camera.columns // divide[1])
    fits = isinstance(out, np.ndarray) and out.dtype == np.uint8 and out.ndim == 5 and out.shape[0] == len(placed)
    if not fits or out.shape[2] != 2 or out.shape[3:] != size or not out.flags.c_contiguous or not out.flags.writeable:
        raise ShapeError(f"saccades: out: found {shown(out)}; uint8 (N, steps, 2, {size[0]}, {size[1]}) is needed")
    numbers = for_kernel(samples)  # `integers` gives a read-only array
    scene = _scene(camera, seed, placed.shape[1:])
    bins = scene.kernels.Bins(start_us, bin_us, *divide, clip)
    for begin in range(0, len(placed), CHUNK):
        chosen = slice(begin, begin + CHUNK)
        while True:
            most = scene.kernels.frames(
                placed[chosen], numbers[chosen], scene.sensor, part, bins, scene.last, scene.buffer, out[chosen]
            )
            if not scene.grow(most):
                break
