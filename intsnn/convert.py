"""From a quantised ANN to an integer spiking network.

All charges of a neuron are whole multiples of its charge unit ``u = s_w * step_in / 2**r``: weights act as
``k * 2**r`` (the multiplier of the connection), threshold and bias are rounded in the finer unit, and
``V0 = theta >> 1`` makes the spike count round half up. The drive lasts T steps; an input code x stands for
the total ``T * x``. Source: the conversion core in ``docs/semantics.md`` (Li 2022, Hu 2023, Gao 2023).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from .errors import ConversionError, FormatError, UnsupportedError
from .floatnet import (
    FloatAdd,
    FloatAffine,
    FloatAvgPool2d,
    FloatConv2d,
    FloatFlatten,
    FloatInput,
    FloatMaxPool2d,
    FloatNetwork,
    FloatNode,
    FloatReLU,
    FloatUpsample2d,
)
from .formats import Fixed
from .layers import Add, Affine, Conv2d, Flatten, Input, MaxPool2d, Readout, Scale, SumPool2d, Upsample2d
from .network import Network
from .neurons import IF, QFFS, CaLIF, Neuron, SignedIF
from .quantised import QuantAffine, QuantConv2d, QuantisedNetwork, QuantReLU

__all__ = ["METHODS", "Conversion", "Rule", "convert"]

METHODS = ("fast-snn", "qffs", "ca-lif")
MOST_SHIFT = 12  # finest charge unit: 2**-12 of the coarse one
JOIN_SHIFT = 10  # resolution of the multipliers that bring branches and readouts to one unit


@dataclass(frozen=True)
class Rule:
    """How the neurons of a converted network behave.

    `method`: which published neuron; the defaults are the exact ones of all three (strict ``v < 0`` with a positive
    net count, cap L). `cap=False`, `v_negative` (in thresholds, -1 to 0) and `signed=False` give the published or
    reconstructed variants. `bias`: ``"spread"`` evenly over the drive, ``"once"`` at its start. `t_drive`: default L.
    `odd_thresholds`: no exact ties between half-up and half-even. `most_shift`: largest r. `state_bits`: width of all
    membranes, which then saturate; by default each has the width in which it provably never does.
    """

    method: str = "fast-snn"
    cap: bool = True
    v_negative: float = 0.0
    signed: bool = True
    bias: str = "spread"
    t_drive: int | None = None
    odd_thresholds: bool = False
    most_shift: int = MOST_SHIFT
    state_bits: int | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise FormatError(f"method: found {self.method!r}; choose one of {', '.join(METHODS)}")
        if self.bias not in ("spread", "once"):
            raise FormatError(f"bias: found {self.bias!r}; choose spread or once")
        if not -1 <= self.v_negative <= 0:
            raise FormatError(f"v_negative: found {self.v_negative} thresholds; -1 to 0 is possible")
        if not 0 <= self.most_shift <= 16:
            raise FormatError(f"most_shift: found {self.most_shift}; 0 to 16 is possible")
        if self.state_bits is not None and not 3 <= self.state_bits <= 48:
            raise FormatError(f"state_bits: found {self.state_bits}; 3 to 48 bits are possible")

    @property
    def largest_threshold(self) -> int:
        """A membrane has to reach its threshold with room to pass it: two thresholds fit `state_bits`."""
        return (1 << 31) - 1 if self.state_bits is None else min(1 << 31, 1 << (self.state_bits - 2)) - 1


@dataclass(frozen=True, eq=False)
class Conversion:
    """Result of `convert`.

    Attributes
    ----------
    network : Network
    joined : FloatNetwork
        The quantised ANN with the multipliers of joins and readouts rounded, thresholds and biases not yet.
    layers : dict of name to dict
        Per neuron layer: ``shift`` r, least and largest ``theta``, ``moved_levels`` (levels that rounding theta and
        bias moved, of ``levels`` boundaries; 0 is proven equality of this layer), ``membrane_bits``.
    """

    network: Network
    joined: FloatNetwork
    layers: dict[str, dict] = field(default_factory=dict)


@dataclass(eq=False)
class _Term:
    """One branch into a neuron or readout: where its multiplier goes and the value of one unit of charge."""

    node: str  # connection that carries the multiplier, or the Scale to insert before
    unit: np.ndarray  # (C,) real value of one unit of charge before the multiplier
    scaled: bool  # True: `node` is a connection; False: an identity that needs a Scale


def _channels(values, size: int) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(np.asarray(values, np.float64), (size,)))


def _nearest_bias(near, edges, starts, low, high, size: int, area) -> np.ndarray:
    """Biases (C,) closest to `near` with which every level begins at its charge, `near` itself where there is none.

    Parameters
    ----------
    near : (C,) float64
        Whole numbers; the neuron gets `area` times as much.
    edges : (C, L) int64
        Charge, in fine units and without bias, that reaches each level.
    starts : (C, L) float64
        Whole charge, in steps of `size` fine units, at which each level has to begin; `low` and `high` (C, 1) are the
        ends of what can be reached: a level at one of them only must not begin on the other side.
    """
    least = np.where(starts < high, edges - starts * size, -np.inf).max(axis=1)
    most = np.where(starts > low, edges - (starts - 1) * size, np.inf).min(axis=1) - 1
    first, last = np.ceil(least / area), np.floor(most / area)
    return np.where(first <= last, np.clip(near, first, last), near)


class _Converter:
    """One conversion: walks the graph in order and builds integer layers."""

    def __init__(self, quantised: QuantisedNetwork, rule: Rule) -> None:
        self.graph, self.rule, self.quantised = quantised.graph, rule, quantised
        levels = quantised.levels
        if levels is None:
            raise ConversionError(
                "the activations have different numbers of levels, or there are none; give all the same bit width"
            )
        self.levels, self.drive = levels, rule.t_drive or levels
        self.nodes: dict[str, Any] = {}
        self.sources: dict[str, list[str]] = {}
        self.units: dict[str, np.ndarray | float] = {}  # real value of one count or unit of charge
        self.names: dict[str, str] = {}  # float node -> integer node that holds its value
        self.joins: dict[str, np.ndarray] = {}  # connection or identity -> rounded real factor of its branch
        self.report: dict[str, dict] = {}
        self.biases: dict[str, np.ndarray] = {}

    # -- building --------------------------------------------------------------------------------

    def add(self, name: str, layer, *sources: str) -> None:
        self.nodes[name] = layer
        self.sources[name] = list(sources)

    def run(self) -> Conversion:
        graph = self.graph
        for node in graph.nodes:
            self._node(node)
        output = graph[graph.output]
        if not isinstance(output, QuantReLU):
            self._readout(output.name)
        network = self._build()
        network = self._fit_membranes(network)
        return Conversion(network, self._joined(), self.report)

    def _node(self, node) -> None:
        sources = [self.names[name] for name in node.inputs]
        self.names[node.name] = node.name
        if isinstance(node, FloatInput):
            multiplier, offset, unit = self.quantised.input_scale.integers()
            self.add(node.name, Input(node.shape, self.quantised.input_format, multiplier, offset))
            self.units[node.name] = float(unit) / self.drive
        elif isinstance(node, QuantConv2d | QuantAffine):
            self._connection(node, sources[0])
        elif isinstance(node, QuantReLU):
            self._neuron(node, sources[0])
        elif isinstance(node, FloatMaxPool2d):
            self.add(node.name, MaxPool2d(node.kernel, node.stride, node.padding), sources[0])
            self.units[node.name] = self.units[sources[0]]
        elif isinstance(node, FloatAvgPool2d):
            self.add(node.name, SumPool2d(node.kernel, node.stride, node.padding), sources[0])
            self.units[node.name] = np.asarray(self.units[sources[0]]) / (node.kernel[0] * node.kernel[1])
        elif isinstance(node, FloatUpsample2d):
            self.add(node.name, Upsample2d(node.factor, node.mode), sources[0])
            self.units[node.name] = self.units[sources[0]]
        elif isinstance(node, FloatFlatten):
            shape = self.graph.shapes[node.inputs[0]]
            units = np.asarray(self.units[sources[0]])
            if units.ndim and len(shape) == 3:
                units = np.repeat(units, int(np.prod(shape[1:])))
            self.add(node.name, Flatten(), sources[0])
            self.units[node.name] = units
        elif isinstance(node, FloatAdd):
            self.add(node.name, Add(), *sources)
            self.units[node.name] = np.nan  # decided at the neuron or readout behind it
        elif isinstance(node, FloatConv2d | FloatAffine | FloatReLU):
            raise ConversionError(
                f"layer {node.name!r} ({type(node).__name__}) is not quantised; quantise the network first"
            )
        else:
            raise UnsupportedError(f"layer {node.name!r}: a {type(node).__name__} has no integer form; fold it first")

    def _connection(self, node, source: str) -> None:
        unit = np.unique(np.asarray(self.units[source]))
        if unit.size != 1 or np.isnan(unit[0]):
            raise ConversionError(
                f"layer {node.name!r}: its inputs are in different units; a linear layer, or an Add, that feeds it "
                "without a ReLU in between needs one weight scale per tensor"
            )
        outputs = node.codes.shape[0]
        common = {"weight": node.codes, "weight_format": node.weight_format, "bias_mode": self.rule.bias}
        if isinstance(node, QuantAffine):
            self.add(node.name, Affine(**common), source)
        else:
            layer = Conv2d(
                **common, stride=node.stride, padding=node.padding, dilation=node.dilation, groups=node.groups
            )
            self.add(node.name, layer, source)
        charge = node.scale * float(unit[0])
        if node.bias is not None:
            self.biases[node.name] = node.bias.astype(np.float64)
        if self._inner(node.name):  # no neuron behind it: settle unit and bias here
            if np.unique(node.scale).size != 1:
                raise ConversionError(
                    f"layer {node.name!r}: a linear layer without a ReLU behind it needs one scale for all channels"
                )
            shift = JOIN_SHIFT if node.bias is not None and np.any(node.bias) else 0
            charge = charge / (1 << shift)
            self._finish(node.name, np.full(outputs, 1 << shift), charge)
        self.units[node.name] = charge

    def _inner(self, name: str) -> bool:
        """Whether a linear layer reads `name` before any neuron does."""
        for reader in self.graph.consumers(name):
            if isinstance(reader, QuantConv2d | QuantAffine):
                return True
            if not isinstance(reader, QuantReLU) and self._inner(reader.name):
                return True
        return False

    def _finish(self, name: str, multiplier: np.ndarray, unit: np.ndarray) -> None:
        """Set multiplier and rounded total bias of a connection whose charge unit is `unit`."""
        layer = self.nodes[name]
        bias = None
        if name in self.biases:
            total = np.floor(self.biases[name] / unit + 0.5)
            if np.abs(total).max(initial=0) >= 2.0**62:
                raise ConversionError(f"layer {name!r}: a bias needs more than 62 bits in its charge unit")
            bias = total.astype(np.int64)
        one = np.all(multiplier == multiplier[0])
        self.nodes[name] = replace(layer, multiplier=np.int64(multiplier[0]) if one else multiplier, bias=bias)

    # -- branches --------------------------------------------------------------------------------

    def _terms(self, name: str, reader: str) -> list[_Term]:
        """Branches whose sum is the value of integer node `name`, read by `reader`."""
        layer = self.nodes[name]
        if isinstance(layer, Add):
            terms = []
            for i, source in enumerate(list(self.sources[name])):
                branch = self._terms(source, name)
                if len(branch) == 1 and not branch[0].scaled:
                    scale = f"{name}_scale_{i}"
                    self.add(scale, Scale(1), source)
                    self.sources[name][i] = scale
                    branch[0].node = scale
                terms.extend(branch)
            return terms
        size = self._size(name)
        chain = name
        while isinstance(self.nodes[chain], SumPool2d | Upsample2d | Flatten):
            chain = self.sources[chain][0]
        inner = self.nodes[chain]
        if isinstance(inner, Affine | Conv2d) and not self._inner(chain):
            area = 1.0
            for link in self._links(name, chain):
                if isinstance(self.nodes[link], SumPool2d):
                    kernel = self.nodes[link].kernel_size
                    area *= kernel[0] * kernel[1]
            if any(isinstance(self.nodes[link], Flatten) for link in self._links(name, chain)):
                raise UnsupportedError(
                    f"layer {reader!r}: a Flatten between {chain!r} and its neuron is not taken; put the ReLU before it"
                )
            return [_Term(chain, _channels(self.units[chain], size) / area, True)]
        if isinstance(inner, Add):
            raise UnsupportedError(f"layer {reader!r}: a pool or Flatten between an Add and its neuron is not taken")
        return [_Term(name, _channels(self.units[name], size), False)]

    def _links(self, name: str, chain: str) -> list[str]:
        found = []
        while name != chain:
            found.append(name)
            name = self.sources[name][0]
        return found

    def _size(self, name: str) -> int:
        return self.graph.shapes[name][0]

    def _settle(self, terms: list[_Term], unit: np.ndarray, areas: dict[str, np.ndarray]) -> None:
        """Give every branch its multiplier onto the common charge unit `unit` (C,)."""
        for term in terms:
            multiplier = np.maximum(np.floor(term.unit / unit + 0.5), 1).astype(np.int64)
            if multiplier.max() >= 1 << 31:
                raise ConversionError(
                    f"layer {term.node!r}: its branch needs a multiplier of {multiplier.max()}, over 31 bits"
                )
            if term.scaled:
                # the charge of the connection itself, before a pool divides it
                self._finish(term.node, multiplier, unit * areas[term.node])
            else:
                self.nodes[term.node] = Scale(multiplier if np.ptp(multiplier) else int(multiplier[0]))
            self.joins[term.node] = multiplier * unit / term.unit

    def _areas(self, terms: list[_Term]) -> dict[str, np.ndarray]:
        return {
            term.node: _channels(self.units[term.node], len(term.unit)) / term.unit for term in terms if term.scaled
        }

    def _neuron(self, node: QuantReLU, source: str) -> None:
        terms = self._terms(source, node.name)
        if len(terms) == 1 and not terms[0].scaled:
            scale = f"{node.name}_scale"
            self.add(scale, Scale(1), source)
            terms[0].node, source = scale, scale
        areas = self._areas(terms)
        bias = sum((self.biases[t.node] for t in terms if t.node in self.biases), np.zeros(len(terms[0].unit)))
        if len(terms) == 1:
            area = areas.get(terms[0].node, np.ones(1))
            unit, shift, moved, boundaries, own_bias = self._charge_unit(terms[0], node, bias, area)
            if own_bias is not None:
                self.biases[terms[0].node] = own_bias * (unit * area)
        else:
            main = max((t for t in terms if t.scaled), key=lambda t: float(np.median(t.unit)), default=terms[0])
            shift, moved, boundaries = min(JOIN_SHIFT, self.rule.most_shift), None, None
            while shift and float((node.step / main.unit).max()) * (1 << shift) > self.rule.largest_threshold:
                shift -= 1
            unit = main.unit / (1 << shift)
        theta = self._theta(node, unit)
        self._settle(terms, unit, areas)
        self.add(node.name, self._make_neuron(theta), source)
        self.units[node.name] = node.step
        self.report[node.name] = {
            "shift": shift, "theta_min": int(theta.min()), "theta_max": int(theta.max()),
            "moved_levels": moved, "levels": boundaries, "branches": len(terms),
        }  # fmt: skip

    def _theta(self, node: QuantReLU, unit: np.ndarray) -> np.ndarray:
        theta = np.floor(node.step / unit + 0.5)
        if self.rule.odd_thresholds:
            theta = np.floor(node.step / unit / 2) * 2 + 1
        if theta.min() < 1:
            raise ConversionError(
                f"layer {node.name!r}: the threshold of channel {int(theta.argmin())} is {node.step / unit.max():.3g} "
                "charge units, under 1; its weights are too coarse for this activation step (give more weight bits)"
            )
        if theta.max() > self.rule.largest_threshold:
            if self.rule.state_bits is None:
                raise ConversionError(f"layer {node.name!r}: the threshold {theta.max():.3g} needs more than 31 bits")
            raise ConversionError(
                f"layer {node.name!r}: its threshold is {theta.max():.0f} in the coarsest unit, and membranes of "
                f"{self.rule.state_bits} bits take one up to {self.rule.largest_threshold}; give more state bits"
            )
        return theta.astype(np.int64)

    def _charge_unit(self, term: _Term, node: QuantReLU, bias: np.ndarray, area: np.ndarray):
        """Least r for which every reachable charge gives the level of the real threshold, or the best.

        Level n begins at charge ``x_n = ((n - 1/2) step - b) / unit``; with integers it begins at
        ``ceil((n theta - (theta >> 1) - B) / 2**r)``. Both rules agree on every whole charge if these agree. Where no r
        is enough, because a boundary lies all but on a whole charge, B is moved to where they do.

        Returns
        -------
        unit, r, number of levels that still move, number of levels, and B (C,) where it is not the rounded bias
        """
        low, high, lattice = self._reach(term)
        n = np.arange(1, node.levels + 1)
        real = np.ceil(((n - 0.5) * node.step - bias[:, None]) / term.unit[:, None] / lattice)
        low, high = np.ceil(low / lattice)[:, None], np.floor(high / lattice)[:, None] + 1
        real = np.clip(real, low, high)
        best: tuple[np.ndarray, int, int, np.ndarray | None] | None = None
        for own, shift in itertools.product((False, True), range(self.rule.most_shift + 1)):
            unit = term.unit / (1 << shift)
            ideal = node.step / unit
            if ideal.min() < 1:
                continue  # still too coarse
            if ideal.max() >= min(2.0**30, self.rule.largest_threshold):
                continue  # finer does not fit the threshold
            theta = self._theta(node, unit)
            edge = n * theta[:, None] - (theta[:, None] >> 1)
            whole, times, size = np.floor(bias / (unit * area) + 0.5), np.round(area), lattice << shift
            if own and term.scaled:
                whole = _nearest_bias(whole, edge, real, low, high, size, times)
            total = (whole * times).astype(np.int64)  # a pool adds it up
            moved = int((np.clip(-((total[:, None] - edge) // size), low, high) != real).sum())
            if best is None or moved < best[2]:
                best = (unit, shift, moved, whole if own else None)
            if moved == 0:
                break
        if best is None:
            if float((node.step / term.unit).max()) >= self.rule.largest_threshold:
                self._theta(node, term.unit)  # raises: even the coarsest unit is too fine
            self._theta(node, term.unit / (1 << self.rule.most_shift))  # raises, naming the channel
            raise ConversionError(
                f"layer {node.name!r}: thresholds of its channels lie too far apart for one charge unit"
            )
        unit, shift, moved, own_bias = best
        return unit, shift, moved, real.size, own_bias

    def _reach(self, term: _Term) -> tuple[np.ndarray, np.ndarray, int]:
        """Range and lattice of the charge of a branch in coarse units, from counts in [0, L] and input codes."""
        size = len(term.unit)
        if not term.scaled:
            return np.zeros(size), np.full(size, float(self.levels * 2**20)), 1
        layer = self.nodes[term.node]
        source, lattice = self.sources[term.node][0], 1
        root, spread = source, 1
        while not isinstance(self.nodes[root], Input | Neuron):
            if not isinstance(self.nodes[root], MaxPool2d | Flatten | SumPool2d | Upsample2d):
                return np.full(size, -(2.0**52)), np.full(size, 2.0**52), 1
            if isinstance(self.nodes[root], SumPool2d):
                spread *= int(np.prod(self.nodes[root].kernel_size))
            root = self.sources[root][0]
        if isinstance(self.nodes[root], Input):
            lattice = self.drive
            low, high = (
                min(self.nodes[root].low, 0) * lattice * spread,
                max(self.nodes[root].high, 0) * lattice * spread,
            )
        else:
            low, high = 0, self.levels * spread
        weight = layer.weight.reshape(size, -1).astype(np.float64)
        positive, negative = np.maximum(weight, 0).sum(axis=1), np.minimum(weight, 0).sum(axis=1)
        pooled = float(np.round(_channels(self.units[term.node], size) / term.unit)[0])  # a pool behind it adds up sums
        return (positive * low + negative * high) * pooled, (positive * high + negative * low) * pooled, lattice

    def _make_neuron(self, theta: np.ndarray) -> Neuron:
        rule = self.rule
        cap = self.levels if rule.cap else None
        threshold = theta if np.ptp(theta) else int(theta[0])
        widths = {
            "v_format": Fixed(48),
            "threshold_format": Fixed.for_range(0, int(theta.max())),
            "bias_format": Fixed(1),
        }
        if not rule.signed:
            start = np.asarray(threshold) >> 1
            return IF(threshold, v_initial=start, max_count=cap, **widths)
        each = np.ceil(rule.v_negative * np.asarray(threshold, np.float64)).astype(np.int64)
        negative = each if np.any(each) else 0
        if rule.method == "qffs":
            return QFFS(threshold, cap, v_negative=negative, **widths)
        make = CaLIF if rule.method == "ca-lif" else SignedIF
        return make(threshold, cap, negative, **widths)

    def _readout(self, name: str) -> None:
        terms = self._terms(name, name)
        finest = np.min([term.unit for term in terms])
        coarsest = np.max([term.unit for term in terms])
        same = len(terms) == 1 and not np.ptp(terms[0].unit)
        has_bias = any(term.node in self.biases for term in terms)
        shift = JOIN_SHIFT if not same or has_bias else 0
        unit = np.full(len(terms[0].unit), (coarsest if coarsest / finest > 1 << 16 else finest) / (1 << shift))
        source = name
        if len(terms) == 1 and not terms[0].scaled:
            source = f"{name}_scale"
            self.add(source, Scale(1), name)
            terms[0].node = source
        self._settle(terms, unit, self._areas(terms))
        self.add("readout", Readout(), source)
        self.report["readout"] = {"shift": shift, "unit": float(unit[0]), "branches": len(terms)}

    # -- finishing -------------------------------------------------------------------------------

    def _build(self) -> Network:
        edges = tuple((source, name) for name, sources in self.sources.items() for source in sources)
        scale = self.quantised.input_scale
        metadata = {
            "method": self.rule.method,
            "input_scale": str(scale),
            "readout_unit": self.report.get("readout", {}).get("unit"),
        }
        return Network(self.nodes, edges, t_drive=self.drive, levels=self.levels, metadata=metadata)

    def _fit_membranes(self, network: Network) -> Network:
        """Give every membrane the narrowest format that provably never overflows, or the width that was asked for."""
        bounds = network.bounds()
        nodes = dict(network.nodes)
        for name in network.neurons:
            needed = cast(Fixed, bounds[name].membrane_format)  # all neurons have one
            found = needed if self.rule.state_bits is None else Fixed(self.rule.state_bits)
            if found.bits > 48:
                raise ConversionError(
                    f"layer {name!r}: its membrane can need {found.bits} bits; at most 48 are possible"
                )
            nodes[name] = replace(nodes[name], v_format=found)
            self.report[name]["membrane_bits"] = found.bits
        return replace(network, nodes=nodes)

    def _joined(self) -> FloatNetwork:
        """The quantised ANN with the rounded factors of its branches."""
        nodes: list[FloatNode] = []
        for node in self.graph.nodes:
            if isinstance(node, FloatAdd):
                inputs = []
                for i, name in enumerate(node.inputs):
                    factor = self.joins.get(f"{node.name}_scale_{i}")
                    if factor is not None and len(self.graph.shapes[name]) == 3:
                        extra = f"{node.name}_scale_{i}"
                        nodes.append(
                            FloatConv2d(
                                name=extra, inputs=(name,), weight=factor.reshape(-1, 1, 1, 1), groups=len(factor)
                            )
                        )
                        name = extra
                    inputs.append(name)
                node = replace(node, inputs=tuple(inputs))
            elif isinstance(node, QuantConv2d | QuantAffine) and node.name in self.joins:
                node = replace(node, scale=node.scale * self.joins[node.name], weight=None)
            nodes.append(node)
        return FloatNetwork(tuple(nodes), self.graph.output, self.graph.metadata)


def convert(quantised: QuantisedNetwork, rule: Rule | None = None) -> Conversion:
    """Convert a quantised ANN to an integer spiking network. Exact but for what `Conversion.layers` reports.

    Raises
    ------
    ConversionError
        A threshold under 1, units that do not meet, widths that do not suffice; the layer is named.
    UnsupportedError
        Layers that have no integer form.
    """
    return _Converter(quantised, rule or Rule()).run()
