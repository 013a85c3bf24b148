"""What is swept? Models and data as they are read, with digests of all that their results follow from."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...conversion.fold import fold, without_rescaling
from ...conversion.quantise import Calibration
from ...datasets import catalogue as datasets
from ...datasets.catalogue import Dataset
from ...errors import FormatError
from ...network.floating import FloatNetwork
from ...network.quantised import InputScale, QuantisedNetwork
from ...network.spiking import Network
from .grid import AS_IS, RECIPE, Grid, ModelSpec, digest

if TYPE_CHECKING:
    from ...models.qat.recipes import Recipe

__all__ = ["Model", "data_digest", "file_digest", "read_data", "read_model", "training_part"]

WEIGHTS, ACTIVATIONS = 8, 4  # bits, where neither the grid nor the model says any


@dataclass(eq=False)
class Model:
    """A model as it was read; folded once, calibrated once for each choice of samples."""

    source: ModelSpec
    network: Network | QuantisedNetwork | FloatNetwork | Recipe
    sha256: str
    calibrations: dict[tuple, Calibration] = field(default_factory=dict)
    accuracies: dict[tuple, float] = field(default_factory=dict)

    @cached_property
    def plain(self) -> FloatNetwork:
        """The float network without a first layer that scales its input: `input_scale` says that."""
        return without_rescaling(self.network, None, InputScale())[0]  # type: ignore[arg-type]

    @cached_property
    def folded(self) -> FloatNetwork:
        """The same without BatchNorms."""
        return fold(self.plain)

    def input_scale(self, text: str | None, data: Dataset) -> InputScale:
        """What the codes of `data` are worth, by `text` where it says."""
        given = InputScale.parse(text) if text else None
        return without_rescaling(self.network, given, InputScale(data.scale))[1]  # type: ignore[arg-type]

    @property
    def recipe(self) -> Recipe | None:
        """How it is trained, if that is what the sweep does with it."""
        return self.network if self.source.file.startswith(RECIPE) else None  # type: ignore[return-value]

    def widths(self, grid: Grid) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Bits of weights and activations to go through: what the grid asks for, or what the model has."""
        if self.recipe is not None:
            last = self.recipe.stages[-1]
            return grid.weights or (last.weight_bits or 0,), grid.activations or (last.activation_bits or 0,)
        if isinstance(self.network, FloatNetwork):
            return grid.weights or (WEIGHTS,), grid.activations or (ACTIVATIONS,)
        network = cast("Network | QuantisedNetwork", self.network)
        layers: list[Any]
        if isinstance(network, QuantisedNetwork):
            layers = [node for node in network.graph.nodes if hasattr(node, "weight_format")]
        else:
            layers = [node for node in network.nodes.values() if node.weighted]
        levels = network.levels
        bits = max((layer.weight_format.bits for layer in layers), default=0)
        return (bits,), (levels.bit_length() if levels else 0,)

    def methods(self, grid: Grid) -> tuple[str, ...]:
        """A spiking network is run as it is."""
        return (AS_IS,) if isinstance(self.network, Network) else grid.methods

    def seeds(self, grid: Grid) -> tuple[int, ...]:
        """What is quantised already has nothing to choose."""
        return (0,) if isinstance(self.network, Network | QuantisedNetwork) else grid.seeds


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_digest(data: Dataset) -> str:
    """SHA-256 of images, labels and the code of value 1."""
    found = hashlib.sha256()
    for array in (data.images, data.labels):
        if array is None:
            found.update(b"none")
        else:
            found.update(f"{array.dtype.newbyteorder('<').str} {array.shape}\n".encode())
            found.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    found.update(f"{data.maximum}".encode())
    return found.hexdigest()


def read_model(source: ModelSpec, trust: bool) -> Model:
    """The network of a file or of the zoo, or a recipe.

    Raises
    ------
    DataNotFoundError, ImportRefused, UnsupportedError
        It is not there, or cannot be read.
    FormatError
        A recipe that ends in a float network.
    """
    if source.file.startswith(RECIPE):
        return _recipe(source)
    from ...models.readers import load
    from ...models.zoo.catalogue import find

    path = str(find(source.file))
    network = load(path, architecture=source.architecture, backend=source.backend, trust=trust)
    parts = [file_digest(path), source.backend or ""]
    beside = os.path.splitext(path)[0] + ".json"  # where the reader looks for the layers of bare weights
    architecture = source.architecture or (beside if os.path.isfile(beside) else None)
    if isinstance(network, FloatNetwork) and architecture:
        parts.append(file_digest(architecture))
    joined = parts[0] if not any(parts[1:]) else hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return Model(source, network, joined)


def _recipe(source: ModelSpec) -> Model:
    from ...models.qat.recipes import recipe

    found = recipe(source.file.removeprefix(RECIPE))
    if found.stages[-1].weight_bits is None or found.stages[-1].activation_bits is None:
        raise FormatError(f"recipe {found.name!r} ends in a float network; a sweep needs one that quantises")
    return Model(source, found, digest(asdict(found) | {"note": ""}))


def read_data(spec: str, count: int | None) -> Dataset:
    """The data of `spec`, cut to `count` samples."""
    data = datasets.load(spec)
    if count is None or count == len(data):
        return data
    if count > len(data):
        raise FormatError(f"samples: {count} are asked for, and {data.name} has {len(data)}")
    labels, targets = (None if values is None else values[:count] for values in (data.labels, data.targets))
    name = f"{data.name}:{count}"
    return dataclasses.replace(data, name=name, images=data.images[:count], labels=labels, targets=targets)


def training_part(spec: str) -> str:
    """``mnist:test:100`` to ``mnist:train``; a file has to name its part, or the model its calibration data."""
    name = spec.split(":")[0]
    if name not in datasets.NAMES:
        raise FormatError(f"{spec} names no set that comes in two parts; say with what to calibrate (calibrate)")
    return f"{name}:train"
