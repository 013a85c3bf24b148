"""From a quantised ANN to an integer spiking network, with membranes of the width that is wanted.

Units are refined until no level moves. Where that makes a threshold or a membrane wider than is possible or wanted, the
walk is made again with less refinement, step by step, until all fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import ConversionError
from ..formats.arguments import instance
from ..formats.fixed import Fixed
from ..layers.base import Bound
from ..layers.neurons import Neuron
from ..network.floating import FloatNetwork
from ..network.quantised import QuantisedNetwork
from ..network.spiking import Network
from .converter import JOIN_SHIFT, Converter
from .rule import METHODS, NeuronRule, Rule, TooFine
from .units.joins import with_factors

__all__ = ["JOIN_SHIFT", "METHODS", "Conversion", "NeuronRule", "Rule", "convert"]

WIDEST = 48  # bits of a membrane


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
        bias moved, of ``levels`` boundaries; 0 is proven equality of this layer, where ``branches`` join with that of
        `joined`), ``membrane_bits``, and ``needed_bits``: what `membrane_bits` of the rule has to be for it at least.
    dead : dict of name to int
        Per connection, the output channels that cannot move a level behind it; their weights became zero.
    coarsened : dict of name to int
        Per connection, by how many bits its codes had to become shorter so that thresholds fit 31 bits.
    """

    network: Network
    joined: FloatNetwork
    layers: dict[str, dict] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    coarsened: dict[str, int] = field(default_factory=dict)


def convert(quantised: QuantisedNetwork, rule: NeuronRule | None = None) -> Conversion:
    """Convert a quantised ANN to an integer spiking network. Exact but for what `Conversion.layers` reports.

    Raises
    ------
    ConversionError
        A threshold under 1, units that do not meet, widths that do not suffice; the layer is named, and for
        `membrane_bits` the least that would suffice.
    UnsupportedError
        Layers that have no integer form.
    """
    needed = "a QuantisedNetwork (`quantise_network` makes one of a float network, and the command `convert`)"
    instance(quantised, "quantised", QuantisedNetwork, needed=needed)
    instance(rule, "rule", NeuronRule, none=True)
    rule = rule or NeuronRule()
    limits: dict[str, int] = {}
    while True:
        converter = Converter(quantised, rule, limits)
        try:
            network = converter.run()
            bounds = network.bounds()
            if rule.state_bits is None:
                _check_widest(network, bounds)
        except TooFine as error:
            if not _lower(converter, error.layer, error.bits):
                raise ConversionError(str(error)) from None  # the private kind says nothing to a caller
            continue
        needs = _needs(network, bounds)
        most = rule.membrane_bits
        wide = {name: bits - most for name, bits in needs.items() if most is not None and bits > most}
        if not wide:
            return _conversion(converter, network, bounds, needs)
        if not _relieved(converter, wide):
            raise _too_narrow(converter, rule)


def _conversion(
    converter: Converter, network: Network, bounds: Mapping[str, Bound], needs: Mapping[str, int]
) -> Conversion:
    """With membranes of the narrowest format that provably never overflows, or of the width that was asked for."""
    nodes, asked = dict(network.nodes), converter.rule.state_bits or converter.rule.membrane_bits
    for name in network.neurons:
        narrowest = bounds[name].membrane_format
        assert narrowest is not None  # all neurons have one
        found = narrowest if asked is None else Fixed(asked)
        nodes[name] = replace(nodes[name], v_format=found)
        converter.report[name] |= {"membrane_bits": found.bits, "needed_bits": needs[name]}
    shortened = {name: int(np.ceil(np.log2(found.max()) - 0.1)) for name, found in converter.shortened.items()}
    joined = with_factors(converter.graph, converter.nodes, converter.joins, converter.shortened)
    return Conversion(replace(network, nodes=nodes), joined, converter.report, converter.dead, shortened)


# -- widths ------------------------------------------------------------------------------------------------------------


def _check_widest(network: Network, bounds: Mapping[str, Bound]) -> None:
    for name in network.neurons:
        bits = getattr(bounds[name].membrane_format, "bits", 0)
        if bits > WIDEST:
            message = f"layer {name!r}: its membrane can need {bits} bits; at most {WIDEST} are possible"
            raise TooFine(message, name, bits - WIDEST)


def _needed(layer: Neuron, own: Bound, flow: Bound) -> int:
    """Signed bits that hold whatever a neuron layer computes: membrane, threshold, and all that one step adds to it."""
    theta = int(np.max(layer.threshold))
    low, high = min(0, int(flow.low.min())), max(0, int(flow.high.max()))
    if layer.reset_delay:  # the reset of the step before comes with the sum
        low, high = low - theta, high + (theta if layer.signed else 0)
    ends = [low, high, theta]
    if own.v_low is not None and own.v_high is not None:
        ends += [int(own.v_low.min()), int(own.v_high.max())]
    return max((end if end >= 0 else ~end).bit_length() for end in ends) + 1


def _needs(network: Network, bounds: Mapping[str, Bound]) -> dict[str, int]:
    """`_needed` of every neuron layer."""
    return {
        name: _needed(network.nodes[name], bounds[name], bounds[network.inputs_of(name)[0]]) for name in network.neurons
    }


def _relieved(converter: Converter, wide: Mapping[str, int]) -> bool:
    """Lower the refinement of all layers that are too `wide`; False if nothing is left for one of them.

    The last bit is taken by itself, so that none is taken too many.
    """
    lowered: set[str] = set()
    for name, bits in wide.items():
        if lowered.isdisjoint(converter.before(name)):  # else what they share was lowered: look again first
            found = _lower(converter, name, max(1, bits - 1), floor=0)
            if not found:
                return False
            lowered |= found
    return True


def _lower(converter: Converter, layer: str, bits: int, floor: int = -WIDEST) -> set[str]:
    """Lower the limits of what was refined for `layer`, the finest first, by up to `bits` in all, none below `floor`.

    Returns which were lowered: none if nothing is left. What is finer than its limit already cannot be coarser.
    """
    refined, limits = converter.refined, converter.limits
    now = {name: refined[name][0] for name in converter.before(layer)}
    now = {name: shift for name, shift in now.items() if shift <= limits.get(name, shift)}
    lowered = set()
    for _ in range(bits):
        left = [name for name, shift in now.items() if shift > max(refined[name][1], floor)]
        if not left:
            break
        name = max(left, key=lambda name: now[name])
        now[name] -= 1
        limits[name] = now[name]
        lowered.add(name)
    return lowered


def _too_narrow(converter: Converter, rule: NeuronRule) -> ConversionError:
    """Names the layer that needs most where no unit is refined, and how much."""
    coarsest = {name: min(shift, 0) for name, (shift, _) in converter.refined.items()}
    network = Converter(converter.quantised, rule, coarsest).run()
    needs = _needs(network, network.bounds())
    name = max(needs, key=lambda name: needs[name])
    return ConversionError(
        f"layer {name!r}: even in its coarsest charge unit its membrane can need {needs[name]} bits; membrane_bits is "
        f"{rule.membrane_bits}; give at least {needs[name]}, or fewer weight bits, activation bits or driven steps"
    )
