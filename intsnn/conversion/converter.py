"""One walk over a quantised ANN that makes its integer layers.

Each charge of a neuron is a whole multiple of its charge unit ``u = s_w * step_in / 2**r``: weights act as
``k * 2**r`` (the multiplier of the connection), threshold and bias are rounded in the finer unit, and
``V0 = theta >> 1`` makes the spike count round half up. The drive lasts T steps; an input code x stands for
the total ``T * x``. Source: the conversion core in ``docs/semantics.md`` (Li 2022, Hu 2023, Gao 2023).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import ConversionError
from ..formats.fixed import Fixed
from ..layers.joins import Add, Scale
from ..layers.ports import Input, Readout
from ..layers.reshape import Concat
from ..network.quantised import QuantisedNetwork, QuantReLU
from ..network.spiking import Network
from .rule import MOST_SHIFT, NeuronRule, TooFine, neuron
from .units.branches import Ranges, Term, whole_ratios
from .units.charge_units import bits_over, boundaries, channels
from .units.codes import holds_zero, shorter_codes

__all__ = ["JOIN_SHIFT", "Converter"]

JOIN_SHIFT = 10  # resolution of the multipliers that bring branches and readouts to one unit
COARSE = 16  # the least multiplier of a branch that counts, before a join is refined further
MOST_OFFSET = 24  # a layer whose sums are a part in 2**MOST_OFFSET of its bias is that bias
MOST_MULTIPLIER = 30  # bits
SPAN = 16  # binary orders between the coarsest unit of a join or readout and the one that it is settled in


class Converter:
    """One conversion: walks the graph in order and builds integer layers."""

    def __init__(self, quantised: QuantisedNetwork, rule: NeuronRule, limits: dict[str, int]) -> None:
        """`limits`: the most that a unit may be refined, by the name of the layer that it was chosen for."""
        self.graph, self.rule, self.quantised, self.limits = quantised.graph, rule, quantised, limits
        self.shapes = self.graph.shapes
        levels = quantised.levels
        if not any(node.activates and node.quantised for node in self.graph.nodes):
            raise ConversionError("the network has no ReLU, so nothing in it spikes; there is nothing to convert")
        if levels is None:
            raise ConversionError("the activations have different numbers of levels; give all the same bit width")
        self.levels, self.drive = levels, rule.t_drive or levels
        self.nodes: dict[str, Any] = {}
        self.sources: dict[str, list[str]] = {}
        self.units: dict[str, np.ndarray | float] = {}  # real value of one count or unit of charge
        self.names: dict[str, str] = {}  # float node -> integer node that holds its value
        self.joins: dict[str, np.ndarray] = {}  # connection or identity -> rounded real factor of its branch
        self.report: dict[str, dict] = {}
        self.biases: dict[str, np.ndarray] = {}
        self.sums: set[str] = set()  # joins
        self.identities: set[str] = set()  # multipliers of branches that are no connection
        self.alone: set[str] = set()  # connections and joins that were settled by themselves
        self.refined: dict[str, tuple[int, int]] = {}  # refinement of what was settled, and the least that is possible
        self.dead: dict[str, int] = {}
        self.shortened: dict[str, np.ndarray] = {}  # by what the codes of each output channel were divided
        self.ranges = Ranges(self.nodes, self.sources, self.units, self.sums, self.identities, self.drive, self.levels)

    # -- building --------------------------------------------------------------------------------

    def add(self, name: str, layer, *sources: str) -> None:
        self.nodes[name] = layer
        self.sources[name] = list(sources)

    def run(self) -> Network:
        """The integer network, its membranes still as wide as possible; `report` has a row for each layer."""
        graph = self.graph
        for node in graph.nodes:
            self.names[node.name] = node.name
            node.becomes(self, [self.names[name] for name in node.inputs])
        output = graph[graph.output]
        if not output.activates:
            self._readout(output.name)
        return self._build()

    def before(self, name: str) -> list[str]:
        """What was refined of `name` and on the way to it from the neurons or the input before it."""
        found = [name] if name in self.refined else []
        waiting = list(self.sources.get(name) or (self.names[source] for source in self.graph[name].inputs))
        while waiting:
            node = waiting.pop()
            if not (self.nodes[node].takes_input or self.nodes[node].fires):
                found += [node] if node in self.refined else []
                waiting += self.sources[node]
        return found

    # -- what nodes become (`intsnn.network.node.Converting`) --------------------------------------

    def feed(self, name: str, shape: tuple[int, ...]) -> None:
        """Add the input of the network."""
        multiplier, offset, unit = self.quantised.input_scale.integers()
        self.add(name, Input(shape, self.quantised.input_format, multiplier, offset))
        self.units[name] = float(unit) / self.drive

    def join(self, name: str, sources: list[str]) -> None:
        """Add a sum of branches; counts that a linear layer reads stay counts."""
        if self._inner(name) and (brought := self._brought(name, sources)) is not None:
            self.sums.add(name)
            self.add(name, Add(), *brought)
            return
        self.add(name, Add(), *sources)
        self.sums.add(name)
        self.units[name] = np.nan  # decided at the neuron or readout behind it
        if self._alone(name):
            self._settle_add(name)

    def negate(self, name: str, signs: np.ndarray, source: str) -> None:
        """Add channels with other signs."""
        self.nodes[self._identity(name, source)] = Scale(signs)
        self.units[name] = self.units[source]

    def gather(self, name: str, sources: list[str]) -> None:
        """Add branches side by side: counts in one unit, charges each in its own."""
        brought = self._brought(name, sources)
        if brought is None:
            each = [channels(self.units[s], self.graph.shapes[n][0])
                    for s, n in zip(sources, self.graph[name].inputs, strict=True)]  # fmt: skip
            self.units[name] = np.concatenate(each)
        self.add(name, Concat(), *(brought or sources))

    def _brought(self, name: str, sources: list[str]) -> list[str] | None:
        """The branches of `name` in one unit, its own then, where all are counts and whole factors bring them there."""
        found = whole_ratios([self.units[source] for source in sources])
        if found is None or not all(map(self.ranges.is_count, sources)):
            return None
        self.units[name], ratios = found
        brought = list(sources)
        for i, ratio in enumerate(ratios):
            if ratio != 1:
                brought[i] = self._identity(f"{name}_scale_{i}", sources[i])
                self.nodes[brought[i]] = Scale(ratio)
        return brought

    def connect(self, node, source: str) -> None:
        """Add the connection that a node with codes becomes."""
        unit = np.unique(np.asarray(self.units[source]))
        if unit.size != 1 or np.isnan(unit[0]):
            raise ConversionError(
                f"layer {node.name!r}: its inputs are in different units; every input of a linear layer needs the same"
            )
        self.add(node.name, node.connection(self.rule.bias), source)
        if node.bias is not None:
            self.biases[node.name] = node.bias.astype(np.float64)
        self.units[node.name] = node.scale * float(unit[0])
        if self._alone(node.name):  # no neuron, join or readout of its own behind it: settle unit and bias here
            self._settle_alone(node)

    def _inner(self, name: str) -> bool:
        """Whether a linear layer reads `name` before any neuron does: then all channels need one unit."""
        for reader in self.graph.consumers(name):
            if reader.weighted:
                return True
            if not reader.activates and self._inner(reader.name):
                return True
        return False

    def _alone(self, name: str) -> bool:
        """Whether the sums `name` have to get their unit by themselves.

        Else the one neuron, join or readout that reads them, through pools perhaps, decides.
        """
        readers = self.graph.consumers(name)
        if len(readers) + (name == self.graph.output) != 1:
            return True
        if not readers or readers[0].activates or readers[0].joins:
            return False
        (reader,) = readers
        if self.graph[name].joins or not reader.passive or reader.chooses or reader.regroups:
            return True
        return self._alone(reader.name)

    def _settle_alone(self, node) -> None:
        name, bits = node.name, getattr(node.weight_format, "bits", 0)
        charge, one = np.asarray(self.units[name]), self._inner(name)
        offset = float(np.abs(self.biases.get(name, 0)).max())
        low, high = self.ranges.sums(self.nodes[name].weight, self.sources[name][0])
        if (np.maximum(-low, high) * charge).max() < offset / (1 << MOST_OFFSET):  # no more than its bias
            charge, unit = np.zeros(len(charge)), np.full(len(charge), offset / (1 << JOIN_SHIFT))
            least = shift = 0
        else:
            exact = not (one and np.ptp(charge)) and not offset
            least = 2 - bits if isinstance(node.weight_format, Fixed) and bits > 2 else 0
            shift = min(0 if exact else JOIN_SHIFT, self.rule.most_shift, self.limits.get(name, JOIN_SHIFT))
            if shift < 0:
                self._coarsen(name, np.full(len(charge), -shift), one)
                charge = np.asarray(self.units[name])
            unit = (np.full(len(charge), charge.max()) if one else charge) / (1 << max(shift, 0))
        self.alone.add(name)
        self.refined[name] = (shift, least)
        multiplier = np.floor(charge / unit + 0.5)
        self._finish(name, multiplier, unit)
        self.joins[name] = np.where(multiplier == 0, 1.0, multiplier * unit / np.where(charge > 0, charge, 1.0))
        self.units[name] = unit

    def _settle_add(self, name: str) -> None:
        terms = self._terms(name)
        shift = min(JOIN_SHIFT, self.rule.most_shift, self.limits.get(name, JOIN_SHIFT))
        self.alone.add(name)
        self.refined[name] = (shift, -SPAN)
        unit = self._common(terms, shift)
        if self._inner(name) and np.ptp(unit):
            unit = np.full(len(unit), unit.max() if np.ptp(unit) < unit.max() / 2 else np.median(unit))
        self._settle(terms, unit, self._areas(terms))
        self.units[name] = unit

    def _common(self, terms: list[Term], shift: int) -> np.ndarray:
        """Unit (C,) for a sum of branches: the coarsest refined by 2**`shift`; one settled before stays whole in it.

        Below 0 the shift says how much closer to the coarsest unit a much finer one is cut off.
        """
        coarsest = np.max([term.unit for term in terms if not term.settled] or [terms[0].unit], axis=0)
        unit = coarsest / (1 << max(shift, 0))
        settled = [term.unit for term in terms if term.settled]
        if settled:
            finest = np.min(settled, axis=0)
            whole = finest / np.maximum(np.floor(finest / unit + 0.5), 1)
            unit = np.maximum(whole, coarsest / 2.0 ** (MOST_MULTIPLIER + min(shift, 0)))
        return unit

    def _coarsen(self, name: str, bits: np.ndarray, one: bool = False) -> np.ndarray:
        """`shorter_codes` of a connection by `bits` (C,); returns by what units grow (C,)."""
        weight, factor = shorter_codes(self.nodes[name].weight, bits, one)
        self.nodes[name] = replace(self.nodes[name], weight=weight)
        self.units[name] = np.asarray(self.units[name]) * factor
        self.shortened[name] = self.shortened.get(name, 1.0) * factor
        return factor

    def _finish(self, name: str, multiplier: np.ndarray, unit: np.ndarray) -> None:
        """Set multiplier and rounded total bias of a connection whose charge unit is `unit`; where 0, no weights."""
        layer = self.nodes[name]
        bias = None
        if name in self.biases:
            total = np.floor(self.biases[name] / unit + 0.5)
            if np.abs(total).max(initial=0) >= 2.0**62:
                raise ConversionError(f"layer {name!r}: a bias needs more than 62 bits in its charge unit")
            bias = total.astype(np.int64)
        multiplier, weight = multiplier.astype(np.int64), layer.weight
        dead = multiplier == 0
        if dead.any():
            self.dead[name] = int(dead.sum())
            if holds_zero(layer.weight_format):  # else the multiplier says it
                weight = np.where(dead.reshape(-1, *(1,) * (weight.ndim - 1)), 0, weight)
                multiplier = np.where(dead, max(int(multiplier.max()), 1), multiplier)
        one = np.all(multiplier == multiplier[0])
        self.nodes[name] = replace(
            layer, weight=weight, multiplier=np.int64(multiplier[0]) if one else multiplier, bias=bias
        )

    # -- branches --------------------------------------------------------------------------------

    def _terms(self, name: str) -> list[Term]:
        """Branches whose sum is the value of integer node `name`."""
        if name in self.sums and np.isnan(self.units[name]).all():
            terms = []
            for i, source in enumerate(list(self.sources[name])):
                branch = self._terms(source)
                if len(branch) == 1 and not branch[0].scaled:
                    scale = self._identity(f"{name}_scale_{i}", source)
                    self.sources[name][i] = scale
                    branch[0].node = scale
                terms.extend(branch)
            return terms
        size = self._size(name)
        chain = name
        area = 1.0
        while self.nodes[chain].passive and not self.nodes[chain].spikes:
            area *= self.nodes[chain].area
            chain = self.sources[chain][0]
        if self.nodes[chain].weighted and chain not in self.alone:
            return [Term(chain, channels(self.units[chain], size) / area, True)]
        return [Term(name, channels(self.units[name], size), False, chain in self.alone)]

    def _identity(self, name: str, source: str) -> str:
        """Add a multiplier, settled later, for a branch that is no connection."""
        self.add(name, Scale(1), source)
        self.identities.add(name)
        return name

    def _size(self, name: str) -> int:
        return self.graph.shapes[name][0]

    def _settle(self, terms: list[Term], unit: np.ndarray, areas: dict[str, np.ndarray], dead: Any = False) -> None:
        """Give every branch its multiplier onto the common charge unit `unit` (C,), none where a channel is `dead`."""
        for term in terms:
            multiplier = np.where(dead, 0.0, np.floor(term.unit / unit + 0.5))
            if multiplier.max() >= 1 << 31:
                raise ConversionError(
                    f"layer {term.node!r}: its branch needs a multiplier of {multiplier.max():.0f}, over 31 bits"
                )
            multiplier = multiplier.astype(np.int64)
            if term.scaled:
                # the charge of the connection itself, before a pool divides it
                self._finish(term.node, multiplier, unit * areas[term.node])
            else:
                self.nodes[term.node] = Scale(multiplier if np.ptp(multiplier) else int(multiplier[0]))
                if (multiplier == 0).any():
                    self.dead[term.node] = int((multiplier == 0).sum())
            factor = multiplier * unit / term.unit
            self.joins[term.node] = np.where((multiplier == 0) & term.scaled, 1.0, factor)

    def _areas(self, terms: list[Term]) -> dict[str, np.ndarray]:
        return {term.node: channels(self.units[term.node], len(term.unit)) / term.unit for term in terms if term.scaled}

    def fire(self, node: QuantReLU, source: str) -> None:
        """Add the neurons that a node with levels becomes."""
        terms = self._terms(source)
        if len(terms) == 1 and not terms[0].scaled:
            terms[0].node = source = self._identity(f"{node.name}_scale", source)
        dead: np.ndarray | bool = False
        if len(terms) == 1:
            unit, shift, moved, levels, dead = self._charge_unit(terms[0], node)
        else:
            unit, shift = self._join_unit(terms, node)
        theta = self._theta(node, unit)
        reached = list(map(self.ranges.reach, terms))
        self._settle(terms, unit, self._areas(terms), dead)
        if len(terms) > 1:
            moved, levels = self._moved_in_join(terms, reached, node, unit, theta), theta.size * node.levels
        if node.two_sided and not self.rule.signed:
            raise ConversionError(
                f"layer {node.name!r}: its counts have two signs; unsigned neurons have no form of it"
            )
        self.add(node.name, neuron(self.rule, theta, self.levels, node.two_sided), source)
        self.units[node.name] = node.step
        self.refined[node.name] = (shift, 0)
        self.report[node.name] = {
            "shift": shift, "theta_min": int(theta.min()), "theta_max": int(theta.max()),
            "moved_levels": moved, "levels": levels, "branches": len(terms),
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
                message = f"layer {node.name!r}: the threshold {theta.max():.3g} needs more than 31 bits"
            else:
                message = (
                    f"layer {node.name!r}: its threshold is {theta.max():.0f} in the coarsest unit, and membranes of "
                    f"{self.rule.state_bits} bits take one up to {self.rule.largest_threshold}; give more state bits"
                )
            raise TooFine(message, node.name, bits_over(float(theta.max()), self.rule.largest_threshold))
        return theta.astype(np.int64)

    def _join_unit(self, terms: list[Term], node: QuantReLU) -> tuple[np.ndarray, int]:
        """Common unit (C,) of the branches into a neuron, and by how much it refines that of the main one.

        Per channel the main branch is the one of the largest charge units on the whole, or where nothing comes from it
        the coarsest that counts. A branch counts whose largest charge is a part in 2**JOIN_SHIFT of a level.
        """
        counts = []
        for term in terms:
            low, high, _ = self.ranges.reach(term)
            counts.append(np.maximum(abs(low), abs(high)) * term.unit >= node.step / (1 << JOIN_SHIFT))
        pairs = list(zip(terms, counts, strict=True))
        coarsest = np.max([np.where(live, term.unit, 0) for term, live in pairs], axis=0)
        scaled = [i for i, term in enumerate(terms) if term.scaled]
        main = max(scaled, key=lambda i: float(np.median(terms[i].unit)), default=0)
        base = np.maximum(np.where(counts[main], terms[main].unit, coarsest), coarsest / (1 << SPAN))
        base = np.where(coarsest > 0, base, node.step)  # a level that nothing moves: any unit
        largest, most = self.rule.largest_threshold, JOIN_SHIFT + SPAN
        most = most if self.rule.most_shift >= MOST_SHIFT else self.rule.most_shift
        most = min(most, max(self.limits.get(node.name, most), bits_over(float((base / node.step).max()), 1)))
        shift = min(JOIN_SHIFT, most)
        least = np.min([np.where(live & (not term.settled), term.unit / base, 1) for term, live in pairs])
        highest = float((node.step / base).max())
        while least * 2.0**shift < COARSE and shift < most and highest * 2.0 ** (shift + 1) < 1 << 30:
            shift += 1
        fits = np.floor(np.log2(largest / (node.step / base)))
        shifts = np.minimum(shift, fits if self.rule.state_bits is None else np.maximum(fits, 0))
        unit = base / 2.0**shifts
        settled = [np.where(live, term.unit, np.inf) for term, live in pairs if term.settled]
        if settled:
            finest = np.min(settled, axis=0)
            finest = np.where(np.isfinite(finest), finest, unit)
            whole = finest / np.maximum(np.floor(finest / unit + 0.5), 1)
            unit = np.maximum(whole, coarsest / (1 << MOST_MULTIPLIER))
        return unit, int(max(shifts.max(), 0))

    def _moved_in_join(
        self, terms: list[Term], reached: list, node: QuantReLU, unit: np.ndarray, theta: np.ndarray
    ) -> int:
        """Levels of a settled join that rounding threshold and biases moved, factors of branches being as rounded."""
        low, high, lattice = np.zeros(len(unit)), np.zeros(len(unit)), np.zeros(len(unit), np.int64)
        real, total, areas = np.zeros(len(unit)), np.zeros(len(unit), np.int64), self._areas(terms)
        for term, (least, most, step) in zip(terms, reached, strict=True):
            layer = self.nodes[term.node]
            factor = channels(layer.multiplier if term.scaled else layer.scale, len(unit)).astype(np.int64)
            low, high, lattice = low + least * factor, high + most * factor, np.gcd(lattice, step * factor)
            if term.scaled and layer.bias is not None:
                real = real + self.biases[term.node]
                total = total + layer.bias * np.round(areas[term.node]).astype(np.int64)
        known = boundaries(node, unit, real, (low, high, np.maximum(lattice, 1)))
        return known.moved_in_sum(theta, total)

    def _charge_unit(self, term: Term, node: QuantReLU):
        """Least r for which every reachable charge gives the level of the real threshold, or the best.

        Level n begins at charge ``x_n = ((n - 1/2) step - b) / unit``; with integers it begins at
        ``ceil((n theta - (theta >> 1) - B) / 2**r)``. Both rules agree on every whole charge if these agree. Where no r
        is enough, because a boundary lies all but on a whole charge, B is moved to where they do.

        A channel whose level is the same for every reachable charge is dead: its bias alone gives that level. So is
        one whose threshold no width holds and whose charges span less than half a level; that may move one boundary.

        Returns
        -------
        unit (C,), r, number of levels that still move, number of levels, dead channels (C,)
        """
        name, largest = term.node, min(1 << 30, self.rule.largest_threshold)
        size = len(term.unit)
        area = self._areas([term]).get(name, np.ones(size))
        bias = self.biases.get(name, np.zeros(size)) if term.scaled else np.zeros(size)
        known = boundaries(node, term.unit, bias, self.ranges.reach(term))
        if self.rule.state_bits is None:
            known = known.without_slight(node, term.unit, bias, largest)
        if not term.scaled:
            known = replace(known, dead=known.dead & (known.level == 0))  # no bias could give another
        dead, live, coarse = known.dead, np.flatnonzero(~known.dead), node.step / term.unit
        if not live.size:
            coarse = np.ones(size)
        elif coarse[live].max() >= largest:
            bits = np.where(dead, 0, np.maximum(np.ceil(np.log2(coarse / largest) + 1e-9), 0))
            fine = any(self.refined[other][0] > 0 for other in self.before(name))
            if fine or not self._shortens(term, int(bits.max())):
                self._theta(node, np.where(dead, node.step, term.unit))
                message = f"layer {node.name!r}: the threshold {coarse[live].max():.3g} needs more than 30 bits"
                raise TooFine(message, node.name, int(bits.max()))
            term.unit = term.unit * self._coarsen(name, bits)
            return self._charge_unit(term, node)
        most = self.rule.most_shift  # no limit makes a threshold less than one
        most = min(most, max(self.limits.get(node.name, most), bits_over(1, float(coarse[live].min(initial=1)))))
        each = np.clip(np.ceil(np.log2(min(4096.0, largest / 2) / coarse)), 0, most)
        shifts = [
            np.full(size, r)
            for r in range(most + 1)
            if live.size and (coarse[live] * 2.0**r).min() >= 1 and (coarse[live] * 2.0**r).max() < largest
        ] or [each]
        tries = ((fitted, shift) for fitted in (False, True) for shift in shifts)
        best: tuple[np.ndarray, np.ndarray, tuple[int, int], np.ndarray] | None = None
        for fitted, shift in tries:
            unit = known.unit(node, term.unit / 2.0**shift, area, largest)
            theta = self._theta(node, unit)
            whole, moved = known.placed(node, unit, theta, shift, (bias, area), fitted and term.scaled)
            # of as many moved levels, the finest where width is what limits: they move less far
            worth = (moved, 0 if self.rule.membrane_bits is None else -int(shift.max()))
            if best is None or worth < best[2]:
                best = (unit, shift, worth, whole)
            if moved == 0:
                break
        assert best is not None
        unit, shift, (moved, _), whole = best
        if term.scaled and (name in self.biases or whole.any()):
            self.biases[name] = whole * (unit * area)
        return unit, int(shift.max()), moved, known.begins.size, dead

    def _shortens(self, term: Term, bits: int) -> bool:
        fmt = getattr(self.nodes[term.node], "weight_format", None)
        return self.rule.state_bits is None and isinstance(fmt, Fixed) and bits <= fmt.bits - 2

    def _readout(self, name: str) -> None:
        terms = self._terms(name)
        coarsest = float(np.max([term.unit for term in terms]))
        finest = max(float(np.min([term.unit for term in terms])), coarsest / (1 << SPAN))
        same = len(terms) == 1 and not np.ptp(terms[0].unit)
        has_bias = any(term.node in self.biases for term in terms)
        shift = JOIN_SHIFT if not same or has_bias else 0
        unit = np.full(len(terms[0].unit), finest / (1 << shift))
        source = name
        if len(terms) == 1 and not terms[0].scaled:
            terms[0].node = source = self._identity(f"{name}_scale", name)
        self._settle(terms, unit, self._areas(terms))
        self.add("readout", Readout(), source)
        self.report["readout"] = {"shift": shift, "unit": float(unit[0]), "branches": len(terms)}

    # -- finishing -------------------------------------------------------------------------------

    def _build(self) -> Network:
        edges = tuple((source, name) for name, sources in self.sources.items() for source in sources)
        scale = self.quantised.input_scale
        if "readout" in self.report:
            unit = self.report["readout"]["unit"]
        else:  # real value of one spike
            unit = float(np.max(self.units[self.graph.output]))
        metadata = {"method": self.rule.method, "input_scale": str(scale), "readout_unit": unit}
        return Network(self.nodes, edges, t_drive=self.drive, levels=self.levels, metadata=metadata)
