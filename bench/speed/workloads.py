"""Which networks are timed? Random weights from a seed, thresholds that give the wanted spike rates.

Every network but ``lif-b64`` is plain integrate-and-fire (soft reset, ``>=``, no bias), so that float simulators
compute the very same function. ``lif-b64`` leaks by channel as snnTorch's `Leaky` does (``>``, reset a step later),
membranes rounded down to whole numbers. Pools are sum-pools: a spike simulator's maximum over the spikes of one step
is not the maximum of counts that `MaxPool2d` means, while sums mean the same to everybody. With ``pool="max"`` the
peers keep counts as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import FormatError
from ...formats.fixed import Fixed
from ...layers.base import output_shape
from ...layers.connections import Affine, Conv2d
from ...layers.joins import Add, Scale
from ...layers.neurons import Decay, Neuron
from ...layers.pooling import MaxPool2d, SumPool2d
from ...layers.ports import Input, Readout
from ...layers.presets import IF, LIF
from ...layers.reshape import Flatten
from ...network.spiking import Network
from .evaluate import SHARE_PLACES, Evaluation, apply, as_frames, evaluate, fire, kept_share, threshold_for

__all__ = ["NAMES", "Workload", "build"]

RATE = 0.10  # wanted spikes per neuron and step in every layer
LEAST_CHANNELS = 4
CALIBRATION_SAMPLES = 4
POOLS = {"sum": SumPool2d, "max": MaxPool2d}


@dataclass(eq=False)
class Workload:
    """A network with the inputs that it is timed on.

    Attributes
    ----------
    name : str
    network : Network
    inputs : array
        Constant codes ``(B, C, H, W)`` uint8, or frames ``(T, B, N)`` of 0 and 1.
    steps : int
    expected : Evaluation
        Outputs, spike rates and synaptic operations of the first `expected_samples` inputs (`.evaluate`).
    settings : dict
        What `build` was asked for.
    precision : str
        In which float SNN peers have to compute so that they are exact: ``"float32"`` or ``"float64"``.
    """

    name: str
    network: Network
    inputs: np.ndarray
    steps: int
    expected: Evaluation
    settings: dict[str, Any] = field(default_factory=dict)
    precision: str = "float32"

    @property
    def constant(self) -> bool:
        """Whether every step sees the same codes."""
        return self.inputs.ndim == len(self.network.shapes[self.network.input_name]) + 1

    @property
    def batch(self) -> int:
        """Samples of one call."""
        return self.inputs.shape[0 if self.constant else 1]

    @property
    def expected_samples(self) -> int:
        """How many of the inputs `expected` is about."""
        return len(self.expected.outputs)

    @property
    def synops(self) -> float:
        """Synaptic operations a sample: additions that spikes cause (the products of a constant input not counted)."""
        return sum(self.expected.synops.values())

    @property
    def macs(self) -> int:
        """Products a sample and step, were every layer computed densely."""
        return sum(self.expected.macs.values())


class _Draft:
    """A network that grows layer by layer, the calibration inputs running along."""

    def __init__(self, shape, fmt: Fixed, inputs: np.ndarray, steps: int, rng, top: int, rate: float, pool) -> None:
        self.steps, self.rng, self.top, self.rate, self.pooling = steps, rng, top, rate, pool
        self.nodes: dict[str, Any] = {"input": Input(shape, fmt)}
        self.edges: list[tuple[str, str]] = []
        self.values = {"input": as_frames(inputs, shape)}
        self.shapes: dict[str, tuple[int, ...]] = {"input": tuple(shape)}
        self.last = "input"

    def put(self, layer, *sources: str, name: str | None = None) -> str:
        """Add a layer behind `sources` (the last one by default); its name."""
        sources = sources or (self.last,)
        name = name or f"{type(layer).__name__.lower()}_{len(self.nodes)}"
        self.shapes[name] = output_shape(name, layer, [self.shapes[source] for source in sources])
        self.values[name] = apply(layer, [self.values[source] for source in sources], self.shapes[name], name)
        self._link(name, layer, sources)
        return name

    def _link(self, name: str, layer, sources) -> None:
        self.nodes[name] = layer
        self.edges += [(source, name) for source in sources]
        self.last = name

    def weights(self, *shape: int) -> np.ndarray:
        return self.rng.integers(-self.top, self.top + 1, shape, dtype=np.int8)

    def format(self) -> Fixed:
        return Fixed(int(self.top).bit_length() + 1)

    def conv(self, channels: int, kernel: int = 3, stride: int = 1, source: str | None = None, groups: int = 1) -> str:
        source = source or self.last
        weight = self.weights(channels, self.shapes[source][0] // groups, kernel, kernel)
        layer = Conv2d(weight, weight_format=self.format(), stride=stride, padding=kernel // 2, groups=groups)
        return self.put(layer, source)

    def dense(self, outputs: int) -> str:
        if len(self.shapes[self.last]) == 3:
            self.put(Flatten())
        return self.put(Affine(self.weights(outputs, self.shapes[self.last][0]), weight_format=self.format()))

    def fire(self) -> str:
        """A neuron with the threshold that gives the wanted rate."""
        threshold = threshold_for(self.values[self.last], self.steps, self.rate)
        return self._neuron(f"if_{len(self.nodes)}", IF(threshold), threshold)

    def leak(self) -> str:
        """The same of a neuron that keeps 12 to 15 sixteenths of its membrane, drawn for each channel."""
        kept = self.rng.integers(12, 16, self.shapes[self.last][0])
        share = kept / np.float32(2**SHARE_PLACES)
        threshold = threshold_for(self.values[self.last], self.steps, self.rate, share)
        decay = Decay.by_multiply(kept, SHARE_PLACES)
        layer = LIF(threshold, decay, compare=">", reset_delay=1, v_format=Fixed(24))
        return self._neuron(f"lif_{len(self.nodes)}", layer, threshold)

    def _neuron(self, name: str, layer: Neuron, threshold: int) -> str:
        self.shapes[name] = self.shapes[self.last]
        self.values[name] = fire(self.values[self.last], threshold, self.steps, kept_share(layer, name))
        self._link(name, layer, (self.last,))
        return name

    def conv_fire(self, channels: int, **options) -> str:
        self.conv(channels, **options)
        return self.fire()

    def pool(self, size: int = 2) -> str:
        return self.put(self.pooling(size))

    def finish(self, outputs: int) -> Network:
        self.dense(outputs)
        return self.answer()

    def answer(self) -> Network:
        """The network, whose outputs are the totals of what comes last."""
        self.nodes["output"] = Readout()
        self.edges.append((self.last, "output"))
        return Network(self.nodes, tuple(self.edges))


def _mlp(draft: _Draft, wide: Callable[[int], int]) -> Network:
    for _ in range(2):
        draft.dense(wide(1024))
        draft.fire()
    return draft.finish(10)


def _lif(draft: _Draft, wide: Callable[[int], int]) -> Network:
    for outputs in (wide(1024), wide(1024), 10):
        draft.dense(outputs)
        draft.leak()
    return draft.answer()


def _lenet(draft: _Draft, wide: Callable[[int], int]) -> Network:
    for channels in (32, 64):
        draft.conv_fire(wide(channels))
        draft.pool()
    draft.dense(wide(128))
    draft.fire()
    return draft.finish(10)


def _vgg(draft: _Draft, wide: Callable[[int], int]) -> Network:
    for channels in (64, 128, 256):
        draft.conv_fire(wide(channels))
        draft.conv_fire(wide(channels))
        draft.pool()
    draft.dense(wide(512))
    draft.fire()
    return draft.finish(10)


def _vgg16(draft: _Draft, wide: Callable[[int], int]) -> Network:
    for channels, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            draft.conv_fire(wide(channels))
        draft.pool()
    for _ in range(2):
        draft.dense(wide(4096))
        draft.fire()
    return draft.finish(1000)


def _resnet18(draft: _Draft, wide: Callable[[int], int]) -> Network:
    """CIFAR form: no pool behind the stem; a 1x1 convolution of stride 2 where a stage begins, else the spikes."""
    draft.conv_fire(wide(64))
    for stage, channels in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            before = draft.last
            draft.conv_fire(wide(channels), stride=stride)
            branch = draft.conv(wide(channels))
            if stride == 2:
                skip = draft.conv(wide(channels), kernel=1, stride=2, source=before)
            else:
                amplitude = max(1, int(draft.values[branch].std()))  # what is skipped counts as much as the sums
                skip = draft.put(Scale(amplitude), before)
            draft.put(Add(), branch, skip)
            draft.fire()
    draft.put(SumPool2d(draft.shapes[draft.last][1]))  # the global average
    return draft.finish(10)


MOBILE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


def _mobilenet(draft: _Draft, wide: Callable[[int], int]) -> Network:
    """MobileNet v1 with a quarter of the channels: 3x3 of each channel by itself, then 1x1 over all of them."""
    draft.conv_fire(wide(8), stride=2)
    for channels, stride in MOBILE:
        own = draft.shapes[draft.last][0]
        draft.conv_fire(own, stride=stride, groups=own)
        draft.conv_fire(wide(channels // 4), kernel=1)
    draft.put(SumPool2d(draft.shapes[draft.last][1]))  # the global average
    return draft.finish(2)


@dataclass(frozen=True)
class _Recipe:
    make: Callable[[_Draft, Callable[[int], int]], Network]
    shape: tuple[int, ...]
    steps: int
    batch: int
    top: int = 127  # largest weight

    @property
    def constant(self) -> bool:
        return len(self.shape) == 3


_RECIPES = {
    "mlp-b1": _Recipe(_mlp, (784,), 8, 1),
    "mlp-b256": _Recipe(_mlp, (784,), 8, 256),
    "lif-b64": _Recipe(_lif, (784,), 25, 64, 31),
    "lenet-b64": _Recipe(_lenet, (1, 28, 28), 8, 64),
    "vgg-b32-int8": _Recipe(_vgg, (3, 32, 32), 4, 32),
    "vgg-b32-int4": _Recipe(_vgg, (3, 32, 32), 4, 32, 7),
    "resnet18-b8": _Recipe(_resnet18, (3, 32, 32), 3, 8),
    "mobilenet-b8": _Recipe(_mobilenet, (3, 96, 96), 4, 8),
    "vgg16-224-b1": _Recipe(_vgg16, (3, 224, 224), 3, 1),
}
NAMES = tuple(_RECIPES)


def build(
    name: str,
    *,
    seed: int = 0,
    batch: int | None = None,
    steps: int | None = None,
    width: float = 1.0,
    size: int | None = None,
    rate: float = RATE,
    density: float = 0.15,
    pool: str = "sum",
) -> Workload:
    """A workload by its name.

    Parameters
    ----------
    seed : int
        Of weights and inputs.
    batch, steps : int or None
        Other than those of the workload.
    width : float
        Factor on the channels of all hidden layers.
    size : int or None
        Other height and width of the images.
    rate : float
        Wanted spikes per neuron and step of every layer.
    density : float
        Share of ones in the input of the MLPs.
    pool : str
        ``"sum"`` or ``"max"`` (of counts).

    Raises
    ------
    FormatError
        For a name that is none, or numbers that cannot be.
    """
    if name not in _RECIPES:
        raise FormatError(f"workload: found {name!r}; choose one of {', '.join(NAMES)}")
    recipe = _RECIPES[name]
    batch, steps = recipe.batch if batch is None else batch, recipe.steps if steps is None else steps
    if pool not in POOLS:
        raise FormatError(f"{name}: found the pool {pool!r}; choose one of {', '.join(POOLS)}")
    if batch < 1 or steps < 1 or width <= 0 or not 0 < rate < 1 or not 0 < density <= 1:
        raise FormatError(f"{name}: batch and steps are at least 1, width above 0, rate and density between 0 and 1")
    rng = np.random.default_rng(seed)
    shape = (recipe.shape[0], size, size) if size and recipe.constant else recipe.shape

    def draw(samples: int) -> np.ndarray:
        if recipe.constant:
            return rng.integers(0, 256, (samples, *shape), dtype=np.uint8)
        return (rng.random((steps, samples, *shape)) < density).astype(np.uint8)

    inputs = draw(batch)
    samples = min(batch, CALIBRATION_SAMPLES)
    used = (lambda x, n: x[:n]) if recipe.constant else (lambda x, n: x[:, :n])
    calibration = draw(CALIBRATION_SAMPLES) if batch == 1 and not recipe.constant else used(inputs, samples)
    fmt = Fixed(8 if recipe.constant else 1, signed=False)
    draft = _Draft(shape, fmt, calibration, steps, rng, recipe.top, rate, POOLS[pool])
    network = recipe.make(draft, lambda channels: max(LEAST_CHANNELS, round(channels * width)))
    expected = evaluate(network, used(inputs, samples), steps)
    settings: dict[str, Any] = {"seed": seed, "batch": batch, "steps": steps, "width": width, "rate": rate}
    settings |= {"size": shape[-1], "pool": pool} if recipe.constant else {"density": density}
    return Workload(name, network, inputs, steps, expected, settings)
