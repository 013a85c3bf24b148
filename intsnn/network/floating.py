"""What does the trained float network compute?

A float network is a graph of frozen nodes in topological order. Importers build it, the converter reads it, and
:func:`forward` runs it with numpy alone, so that an import can be checked against a documented accuracy before anything
is quantised. Everything is channels first at this level: images are ``(C, H, W)``, vectors ``(N,)``, batches first,
convolutions are plain cross-correlations and padding is explicit; what a file meant by "same", "channels last" or a
flipped kernel has been resolved by its importer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, overload

import numpy as np

from ..errors import FormatError, ShapeError, UnsupportedError
from ..formats.arguments import array_of, choice, instance, sequence, shown, text, whole_or_none
from .node import FloatNode

__all__ = ["FloatNetwork", "blocks", "forward"]

# im2col columns of one block of samples: few large products, as threaded BLAS waits long after each on a busy machine
_COLUMN_BYTES = 32 << 20
_MAX_BLOCK = 256


@dataclass(frozen=True, eq=False)
class FloatNetwork:
    """A float network, checked when it is built.

    Parameters
    ----------
    nodes : tuple of FloatNode
        In topological order, with exactly one :class:`FloatInput`.
    output : str
        Name of the node whose value is the result.
    metadata : dict
        Whatever the importer knows: format, versions, hash of the source, report per tensor.

    Attributes
    ----------
    shapes : mapping of str to tuple of int
        Shape of every node's value, without the batch.

    Raises
    ------
    ShapeError
        If names, inputs or shapes do not fit together; the message names the layer.
    """

    nodes: tuple[FloatNode, ...]
    output: str
    metadata: dict[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", sequence(self.nodes, "FloatNetwork.nodes", "layers are needed"))
        text(self.output, "FloatNetwork.output")
        instance(self.metadata, "FloatNetwork.metadata", Mapping)
        for node in self.nodes:
            instance(node, "FloatNetwork.nodes: a layer", FloatNode)
        shapes: dict[str, tuple[int, ...]] = {}
        for node in self.nodes:
            if node.name in shapes:
                raise ShapeError(f"two layers are called {node.name!r}; names have to be unique")
            low, high = node.arity
            if not low <= len(node.inputs) <= high:
                raise ShapeError(f"layer {node.name!r}: {len(node.inputs)} inputs given to a {type(node).__name__}")
            for name in node.inputs:
                if name not in shapes:
                    raise ShapeError(f"layer {node.name!r}: its input {name!r} is not a layer before it")
            shapes[node.name] = node.output_shape([shapes[name] for name in node.inputs])
        inputs = [node for node in self.nodes if node.takes_input]
        if len(inputs) != 1:
            raise UnsupportedError(f"the network has {len(inputs)} inputs; exactly one is taken")
        if self.output not in shapes:
            raise ShapeError(f"the output {self.output!r} is not a layer of the network")
        object.__setattr__(self, "shapes", MappingProxyType(shapes))

    def __getitem__(self, name: str) -> FloatNode:
        """Return the node called ``name``."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    @property
    def input(self) -> FloatNode:
        """The input node."""
        return next(node for node in self.nodes if node.takes_input)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.shapes[self.input.name]

    def consumers(self, name: str) -> tuple[FloatNode, ...]:
        """Return the nodes that read ``name``, in order."""
        choice(name, "name", self.shapes)
        return tuple(node for node in self.nodes if name in node.inputs)


@overload
def forward(
    network: FloatNetwork, x: np.ndarray, *, record: None = None, dtype: Any = ..., batch: int | None = None
) -> np.ndarray: ...


@overload
def forward(
    network: FloatNetwork, x: np.ndarray, *, record: Iterable[str], dtype: Any = ..., batch: int | None = None
) -> dict[str, np.ndarray]: ...


def forward(
    network: FloatNetwork,
    x: np.ndarray,
    *,
    record: Iterable[str] | None = None,
    dtype: np.dtype | type = np.float32,
    batch: int | None = None,
) -> np.ndarray | dict[str, np.ndarray]:
    """Run a float network.

    Parameters
    ----------
    network : FloatNetwork
    x : numpy.ndarray
        ``(N, *shape)``, already scaled as the network was trained. Another shape of as many values a sample,
        ``(N, 1, 28, 28)`` for ``(784,)`` say, is reshaped in C order.
    record : iterable of str, optional
        Names of nodes whose values are wanted instead of the output.
    dtype : numpy dtype
        Arithmetic, float32 or float64.
    batch : int, optional
        Samples at a time; chosen to bound memory by default.

    Returns
    -------
    numpy.ndarray or dict of str to numpy.ndarray
        The output ``(N, classes)``, or the recorded values by name, each with the batch first.

    Raises
    ------
    ShapeError
        If the data do not fit the input, or a recorded name does not exist.
    """
    instance(network, "network", FloatNetwork)
    names = (network.output,) if record is None else sequence(record, "record", "names of layers are needed")
    dtype = _float_type(dtype)
    names = tuple(text(name, "record: a name") for name in names)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for values in blocks(network, x, record=names, dtype=dtype, batch=batch):
        for name, value in values.items():
            parts[name].append(value)
    result = {
        name: np.concatenate(part) if part else np.empty((0, *network.shapes[name]), dtype)
        for name, part in parts.items()
    }
    return result[network.output] if record is None else result


def blocks(
    network: FloatNetwork,
    x: np.ndarray,
    *,
    record: Iterable[str] | None = None,
    dtype: np.dtype | type = np.float32,
    batch: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Run a float network and yield the recorded values block by block, for statistics in bounded memory.

    Parameters and errors are those of :func:`forward`.

    Yields
    ------
    dict of str to numpy.ndarray
        Values of consecutive samples by name, each with the batch first.
    """
    instance(network, "network", FloatNetwork)
    names = (network.output,) if record is None else sequence(record, "record", "names of layers are needed")
    dtype = _float_type(dtype)
    for name in names:
        if not isinstance(name, str) or name not in network.shapes:
            known = ", ".join(network.shapes)
            raise ShapeError(f"record: {shown(name)} is not a layer of the network; it has {known}")
    x = array_of(x, "x")
    if x.dtype.kind not in "biuf":
        raise FormatError(f"x: found {shown(x)}; numbers are needed")
    shape = network.input_shape
    if x.ndim < 1 or int(np.prod(x.shape[1:], dtype=object)) != int(np.prod(shape, dtype=object)):
        raise ShapeError(f"the data x are {x.shape}, the network takes (N, {', '.join(map(str, shape))})")
    batch = whole_or_none(batch, "batch", 1, error=ShapeError)
    if batch is None:
        batch = block_size(network, np.dtype(dtype).itemsize)
    last_use = {name: node for node in network.nodes for name in node.inputs}
    for start in range(0, x.shape[0], batch):
        chunk = np.asarray(x[start : start + batch], dtype=dtype)
        values: dict[str, np.ndarray] = {}
        kept: dict[str, np.ndarray] = {}
        for node in network.nodes:
            values[node.name] = node.apply([values[name] for name in node.inputs] or [chunk])
            if node.name in names:
                kept[node.name] = values[node.name]
            for name in node.inputs:
                if last_use[name] is node:
                    values.pop(name, None)
        yield {name: kept[name] for name in names}


def _float_type(dtype) -> np.dtype:
    try:
        found = np.dtype(dtype) if isinstance(dtype, str | type | np.dtype) else None
    except TypeError:
        found = None
    if found is None or found not in (np.dtype(np.float32), np.dtype(np.float64)):  # a dtype equals None
        raise FormatError(f"dtype: found {shown(dtype)}; float32 or float64 is needed")
    return found


def block_size(network: FloatNetwork, itemsize: int) -> int:
    """Samples that are computed together, so that memory stays bounded."""
    widest = 1
    for node in network.nodes:
        widest = max(widest, node.cells(network.shapes[node.name]))
    return max(1, min(_MAX_BLOCK, _COLUMN_BYTES // (widest * itemsize)))
