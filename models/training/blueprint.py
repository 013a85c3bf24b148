"""What is a network before it has weights: its layers, their sizes and how they are joined.

A blueprint says nothing about widths of numbers; training adds those (`intsnn.models.qat`). Shapes are checked when it
is built, so that a network of another width or for another input size fails here or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, cast

from ...errors import FormatError, ShapeError
from ...layers.base import positions

__all__ = [
    "Add", "AvgPool", "Blueprint", "Conv", "ConvTranspose", "Dense", "Dropout", "Flatten", "Layer", "MaxPool", "Relu",
    "Upsample",
]  # fmt: skip

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer: its name, and the names of those that it reads (``"input"`` is the input).

    Attributes
    ----------
    weighted, joins, passive : bool
        Whether it has weights; whether it adds up branches; whether its values are those of its only input, moved,
        averaged, chosen or dropped.
    """

    name: str
    inputs: tuple[str, ...]

    weighted: ClassVar[bool] = False
    joins: ClassVar[bool] = False
    passive: ClassVar[bool] = False

    def shape(self, shapes: list[Shape]) -> Shape:
        """Shape of the output for those of the inputs, without the batch."""
        return shapes[0]

    def weight_shape(self, inputs: int) -> Shape:
        """Shape of its weights for so many input channels, outputs first; layers without weights have none."""
        raise FormatError(f"layer {self.name!r}: a {type(self).__name__} has no weights")


def _windows(layer: Layer, size: Shape, kernel: int, stride: int, padding: int) -> Shape:
    if len(size) != 3:
        raise ShapeError(f"layer {layer.name!r}: it needs images (C, H, W), its input is {size}")
    found = tuple(positions(n + 2 * padding, kernel, stride) for n in size[1:])
    if min(found) < 1:
        raise ShapeError(
            f"layer {layer.name!r}: a window of {kernel} does not fit {size[1]}x{size[2]}; use a larger input"
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Conv(Layer):
    """Square convolution to `outputs` channels; `norm`: a BatchNorm follows (and there is no bias)."""

    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    norm: bool = True

    weighted = True

    def shape(self, shapes):
        if self.outputs < 1 or shapes[0][0] % self.groups or self.outputs % self.groups:
            raise ShapeError(
                f"layer {self.name!r}: {shapes[0][0]} to {self.outputs} channels in {self.groups} groups cannot be"
            )
        return (self.outputs, *_windows(self, shapes[0], self.kernel, self.stride, self.padding))

    def weight_shape(self, inputs):
        return (self.outputs, inputs // self.groups, self.kernel, self.kernel)


@dataclass(frozen=True, kw_only=True)
class ConvTranspose(Layer):
    """Square transposed convolution to `outputs` channels, ``stride * (n - 1) + kernel - 2 * padding`` large.

    `norm`: a BatchNorm follows (and there is no bias).
    """

    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    norm: bool = True

    weighted = True

    def shape(self, shapes):
        if len(shapes[0]) != 3 or not 0 <= self.padding < self.kernel or min(self.outputs, self.stride) < 1:
            raise ShapeError(
                f"layer {self.name!r}: {shapes[0]} to {self.outputs} channels by a kernel of {self.kernel}, stride "
                f"{self.stride}, padding {self.padding} cannot be; images, and a padding below the kernel, are needed"
            )
        sizes = tuple(self.stride * (n - 1) + self.kernel - 2 * self.padding for n in shapes[0][1:])
        if min(sizes) < 1:
            raise ShapeError(f"layer {self.name!r}: nothing is left of {shapes[0]} behind a padding of {self.padding}")
        return (self.outputs, *sizes)

    def weight_shape(self, inputs):  # outputs first, unlike torch: quantisers know channels by axis 0
        return (self.outputs, inputs, self.kernel, self.kernel)


@dataclass(frozen=True, kw_only=True)
class Upsample(Layer):
    """Every value repeated `factor` times in both directions."""

    factor: int = 2

    passive = True

    def shape(self, shapes):
        if len(shapes[0]) != 3 or self.factor < 1:
            raise ShapeError(f"layer {self.name!r}: it enlarges images by 1 or more, found {shapes[0]}, {self.factor}")
        return (shapes[0][0], *(self.factor * n for n in shapes[0][1:]))


@dataclass(frozen=True, kw_only=True)
class Dense(Layer):
    """Dense layer; `norm`: a BatchNorm follows (and there is no bias)."""

    outputs: int
    norm: bool = True

    weighted = True

    def shape(self, shapes):
        if len(shapes[0]) != 1 or self.outputs < 1:
            raise ShapeError(f"layer {self.name!r}: it needs a vector and an output, found {shapes[0]}, {self.outputs}")
        return (self.outputs,)

    def weight_shape(self, inputs):
        return (self.outputs, inputs)


@dataclass(frozen=True, kw_only=True)
class Relu(Layer):
    """The nonlinearity: a ReLU of so many levels in an ANN, a spiking neuron in an SNN."""


@dataclass(frozen=True, kw_only=True)
class MaxPool(Layer):
    """Largest of each window."""

    kernel: int
    stride: int
    padding: int = 0

    passive = True

    def shape(self, shapes):
        return (shapes[0][0], *_windows(self, shapes[0], self.kernel, self.stride, self.padding))


@dataclass(frozen=True, kw_only=True)
class AvgPool(Layer):
    """Mean of each window; `kernel` 0: of the whole image."""

    kernel: int = 0
    stride: int = 1

    passive = True

    def shape(self, shapes):
        if self.kernel:
            return (shapes[0][0], *_windows(self, shapes[0], self.kernel, self.stride, 0))
        return (shapes[0][0], 1, 1)


@dataclass(frozen=True, kw_only=True)
class Flatten(Layer):
    """``(C, H, W)`` to a vector, in that order."""

    passive = True

    def shape(self, shapes):
        size = 1
        for n in shapes[0]:
            size *= n
        return (size,)


@dataclass(frozen=True, kw_only=True)
class Dropout(Layer):
    """Zeroes values with probability `rate` in training; nothing is left of it afterwards."""

    rate: float

    passive = True

    def shape(self, shapes):
        if not 0 <= self.rate < 1:
            raise FormatError(f"layer {self.name!r}: found a dropout of {self.rate}; 0 to below 1 is possible")
        return shapes[0]


@dataclass(frozen=True, kw_only=True)
class Add(Layer):
    """Sum of two or more inputs of one shape."""

    joins = True

    def shape(self, shapes):
        if len(shapes) < 2 or len(set(shapes)) != 1:
            raise ShapeError(f"layer {self.name!r}: it adds inputs of one shape, found {shapes}")
        return shapes[0]


@dataclass(frozen=True)
class Blueprint:
    """A network without weights; `layers` in an order in which every layer reads earlier ones.

    Attributes
    ----------
    name : str
    input_shape : tuple of int
        ``(C, H, W)`` or ``(N,)``.
    layers : tuple of Layer
        The last is the output.
    shapes : dict of str to tuple of int
        Of every layer and of ``"input"``.

    Raises
    ------
    ShapeError, FormatError
        Sizes that do not fit, names that are not there, naming the layer.
    """

    name: str
    input_shape: Shape
    layers: tuple[Layer, ...]
    shapes: dict[str, Shape] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        shapes: dict[str, Shape] = {"input": tuple(self.input_shape)}
        if not self.layers:
            raise FormatError(f"blueprint {self.name!r}: it has no layers")
        for layer in self.layers:
            if layer.name in shapes:
                raise FormatError(f"blueprint {self.name!r}: two layers are called {layer.name!r}")
            missing = [name for name in layer.inputs if name not in shapes]
            if missing or not layer.inputs:
                raise FormatError(f"layer {layer.name!r}: it reads {missing or 'nothing'}, not an earlier layer")
            shapes[layer.name] = layer.shape([shapes[name] for name in layer.inputs])
        object.__setattr__(self, "shapes", shapes)

    @property
    def output(self) -> str:
        """Name of the last layer."""
        return self.layers[-1].name

    @property
    def weighted(self) -> tuple[Conv | ConvTranspose | Dense, ...]:
        """Layers with weights, in their order."""
        return cast(tuple[Conv | ConvTranspose | Dense, ...], tuple(layer for layer in self.layers if layer.weighted))

    def weights(self) -> dict[str, int]:
        """Number of weights of each layer that has some (no biases, no BatchNorm)."""
        inputs = {layer.name: self.shapes[layer.inputs[0]][0] for layer in self.weighted}
        return {layer.name: math.prod(layer.weight_shape(inputs[layer.name])) for layer in self.weighted}

    def readers(self, name: str) -> tuple[Layer, ...]:
        """Layers that read `name`."""
        return tuple(layer for layer in self.layers if name in layer.inputs)


class Chain:
    """Builds a blueprint layer by layer: each reads the one before unless told otherwise."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.last = "input"

    def add(self, kind: type[Layer], name: str, inputs: Iterable[str] | None = None, **options) -> str:
        """Append a layer and return its name."""
        self.layers.append(kind(name=name, inputs=tuple(inputs) if inputs else (self.last,), **options))
        self.last = name
        return name
