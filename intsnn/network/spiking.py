"""A network: layers by name and the edges between them, checked when it is built.

Shapes, formats and the widths of all sums are settled here, so that a run cannot fail half-way.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from ..errors import FormatError, ShapeError
from ..formats.arguments import STEPS, instance, mapping, sequence, shown, text, whole_or_none
from ..layers.base import MOST_ELEMENTS, Bound, Layer, output_shape
from ..layers.schedule import Schedule
from .bounds import analyse
from .schedule import settling_steps

__all__ = ["Network"]

PAIRS = "pairs (source, target) of names are needed"


def _edge(pair) -> tuple[str, str]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise FormatError(f"Network.edges: found {shown(pair)}; {PAIRS}")
    return text(pair[0], "Network.edges: a name"), text(pair[1], "Network.edges: a name")


def spiking_network(value, what: str = "network") -> Network:
    """`value`, which has to be a `Network`: what `simulate` and its like run."""
    needed = "an integer spiking Network (`convert` makes one of a quantised network)"
    return instance(value, what, Network, needed=needed)


class _Derived:
    """What a network settles about itself when it is built."""

    order: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    _inputs: dict[str, tuple[str, ...]]
    lowered: dict[Any, Any]  # what backends were made from, by schedule; kept by `intsnn.engine.program.lower` alone


@dataclass(frozen=True, eq=False)
class Network(_Derived):
    """A directed graph of layers: one `Input` or more, and one output or more (nodes that feed nothing).

    Parameters
    ----------
    nodes : mapping of name to layer
    edges : sequence of (source, target)
    t_drive : int or None
        For how many steps input and bias flow in a converted network; None: for as long as it runs.
    levels : int or None
        Activation levels L = 2**b - 1 of a converted network (bounds the settling time).
    metadata : mapping
        Plain facts that travel with the network (source, settings); JSON values only.

    Raises
    ------
    ShapeError, FormatError, RangeError
        If names, edges, shapes or widths do not fit, naming the layer.
    """

    nodes: Mapping[str, Any]
    edges: tuple[tuple[str, str], ...]
    t_drive: int | None = None
    levels: int | None = None
    metadata: Mapping = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", MappingProxyType(dict(mapping(self.nodes, "Network.nodes"))))
        object.__setattr__(self, "edges", tuple(map(_edge, sequence(self.edges, "Network.edges", PAIRS))))
        for name in ("t_drive", "levels"):
            object.__setattr__(self, name, whole_or_none(getattr(self, name), f"Network.{name}", 1, 1 << 20))
        instance(self.metadata, "Network.metadata", Mapping)
        self._check_edges()
        object.__setattr__(self, "order", self._sort())
        object.__setattr__(self, "shapes", self._infer_shapes())
        self._check_channels()
        self._check_widths()
        object.__setattr__(self, "lowered", {})

    @classmethod
    def sequential(cls, *layers, **options) -> Network:
        """A chain of layers, named by their kind and position (``conv2d_1``); pairs (name, layer) keep their name."""
        nodes: dict[str, object] = {}
        for i, layer in enumerate(layers):
            if not isinstance(layer, tuple):
                layer = (f"{type(layer).__name__.lower()}_{i}", layer)
            if len(layer) != 2:
                raise FormatError(
                    f"Network.sequential: layers: found {shown(layer)}; a layer or (name, layer) is needed"
                )
            name, layer = text(layer[0], "Network.sequential: the name of one of the layers"), layer[1]
            if name in nodes:
                raise ShapeError(f"Network: two layers are called {name!r}; give each its own name")
            nodes[name] = layer
        names = list(nodes)
        return cls(nodes, tuple(zip(names[:-1], names[1:], strict=True)), **options)

    # -- graph ---------------------------------------------------------------------------------

    def inputs_of(self, name: str) -> tuple[str, ...]:
        """Names of the nodes that feed `name`, in the order of the edges."""
        if not isinstance(name, str) or name not in self._inputs:
            raise FormatError(f"Network: name: found {shown(name)}; choose one of {', '.join(self.nodes)}")
        return self._inputs[name]

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of all inputs, in the order of the nodes."""
        return tuple(name for name, layer in self.nodes.items() if layer.takes_input)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the nodes that feed nothing, in the order of the nodes."""
        sources = {a for a, _ in self.edges}
        return tuple(name for name in self.nodes if name not in sources)

    @property
    def input_name(self) -> str:
        """Name of the `Input`; of several, the first."""
        return self.inputs[0]

    @property
    def output_name(self) -> str:
        """Name of the node that feeds nothing; of several, the first: decisions are made by that."""
        return self.outputs[0]

    @property
    def neurons(self) -> tuple[str, ...]:
        """Names of the spiking layers in the order of computation (max-pools are not among them)."""
        return tuple(name for name in self.order if self.nodes[name].fires)

    @property
    def spiking(self) -> tuple[str, ...]:
        """Names of all layers with counts: neurons and max-pools."""
        return tuple(name for name in self.order if self.nodes[name].spikes)

    @property
    def recurrent(self) -> bool:
        """Whether any edge leads back (through a connection with a delay)."""
        position = {name: i for i, name in enumerate(self.order)}
        return any(position[a] >= position[b] for a, b in self.edges)

    @property
    def settling_bound(self) -> int | None:
        """Most steps that a settling run adds after the drive; None where that depends on the run."""
        reach = self.levels or self.t_drive
        return None if reach is None else settling_steps(self, reach)

    def bounds(self, steps: int | None = None, driven: int | None = None) -> dict[str, Bound]:
        """Proven ranges of every sum and membrane (`intsnn.network.bounds`); by default for a settled run."""
        steps = whole_or_none(steps, "steps", 1, STEPS)
        driven = whole_or_none(driven, "driven", 1, STEPS)
        driven = driven if driven is not None else (self.t_drive or steps or 1)
        steps = steps if steps is not None else driven + (self.settling_bound or 0)
        return analyse(self, Schedule(driven, driven, steps, self.t_drive or driven, self.levels))

    def _check_edges(self) -> None:
        for name, layer in self.nodes.items():
            if not isinstance(layer, Layer):
                raise FormatError(f"Network: {name!r} is a {type(layer).__name__}, which is no layer")
        inputs: dict[str, list[str]] = {name: [] for name in self.nodes}
        for a, b in self.edges:
            for end in (a, b):
                if end not in self.nodes:
                    raise ShapeError(f"Network: edge ({a!r}, {b!r}) names {end!r}, which is no layer")
            inputs[b].append(a)
        object.__setattr__(self, "_inputs", {name: tuple(sources) for name, sources in inputs.items()})
        if not any(layer.takes_input for layer in self.nodes.values()):
            raise ShapeError("Network: found no Input layer; at least one is needed")
        if len({a for a, _ in self.edges}) == len(self.nodes):
            raise ShapeError("Network: every layer feeds another; at least one output is needed")
        for name, layer in self.nodes.items():
            kind, found, most = type(layer).__name__, inputs[name], layer.arity[1]
            if layer.takes_input and found:
                raise ShapeError(f"Network: the Input {name!r} is fed by {found}; it must be a source")
            if not layer.takes_input and not found:
                raise ShapeError(f"Network: nothing feeds {name!r} ({kind}); the edges lead to other layers")
            if most is not None and len(found) > most:
                raise ShapeError(f"Network: {name!r} ({kind}) is fed by {found}; join them with Add")

    def _sort(self) -> tuple[str, ...]:
        """Order of computation: every edge leads forward unless its target has a delay."""
        position = {name: i for i, name in enumerate(self.nodes)}
        missing = {name: set(sources) for name, sources in self._inputs.items()}
        readers: dict[str, list[str]] = {name: [] for name in self.nodes}
        for a, b in self.edges:
            readers[a].append(b)
        ready = [position[name] for name in self.nodes if not missing[name]]
        names = list(self.nodes)
        order: list[str] = []
        done: set[str] = set()
        while len(order) < len(names):
            if not ready:  # a loop: a connection with a delay may go before its source, and only then does
                free = [n for n in names if n not in done and self.nodes[n].delay]
                if not free:
                    cycle = [n for n in names if n not in done]
                    raise ShapeError(f"Network: {cycle} form a loop without delay; set delay=1 on a connection in it")
                ready = [position[free[0]]]
            name = names[heapq.heappop(ready)]
            order.append(name)
            done.add(name)
            for reader in readers[name]:
                missing[reader].discard(name)
                if not missing[reader] and reader not in done and position[reader] not in ready:
                    heapq.heappush(ready, position[reader])
        index = {name: i for i, name in enumerate(order)}
        for a, b in self.edges:
            if index[a] >= index[b] and not self.nodes[a].fires:
                raise ShapeError(f"Network: the edge back from {a!r} to {b!r} must start at a Neuron, not at {a!r}")
        return tuple(order)

    def _infer_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for _ in range(len(self.nodes)):  # recurrent edges need a second look
            for name in self.order:
                layer = self.nodes[name]
                known = [shapes[s] for s in self._inputs[name] if s in shapes]
                if name in shapes:
                    continue
                alone = None
                if len(known) < len(self._inputs[name]):
                    alone = layer.shape_in_a_loop(known)
                if alone is not None:
                    shapes[name] = alone
                elif known or layer.takes_input:
                    shapes[name] = output_shape(name, layer, known)
        for name, shape in shapes.items():
            if math.prod(shape) >= MOST_ELEMENTS:
                raise ShapeError(f"{name}: its shape would be {shape}; below 2**31 elements are possible")
        missing = [name for name in self.nodes if name not in shapes]
        if missing:
            raise ShapeError(f"Network: the shapes of {missing} cannot be inferred; the loop needs an Affine or an Add")
        for name, layer in self.nodes.items():
            found = output_shape(name, layer, [shapes[s] for s in self._inputs[name]])
            if found != shapes[name]:
                raise ShapeError(f"{name}: its shape would be {shapes[name]} and {found} at once")
        return shapes

    def _check_channels(self) -> None:
        for name, layer in self.nodes.items():
            layer.check_channels(name, self.shapes[name])

    def _check_widths(self) -> None:
        bounds = self.bounds()
        for name in self.order:
            self.nodes[name].check_widths(name, [bounds[source] for source in self._inputs[name]], bounds[name])

    def describe(self, name: str) -> str:
        """One line about a layer: kind, shape."""
        self.inputs_of(name)
        return f"{name}: {type(self.nodes[name]).__name__} {self.shapes[name]}"
