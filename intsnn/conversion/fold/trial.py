"""What stands in the way of a conversion? All reasons, layer by layer, without any data."""

from __future__ import annotations

import numpy as np

from ...errors import IntsnnError
from ...formats.arguments import instance
from ...network.floating import FloatNetwork
from ...network.quantised import QuantisedNetwork
from ..quantise import quantise_network
from ..spikes import convert
from .rewrite import fold, refusals

__all__ = ["obstacles"]

SAMPLES = 8  # of a trial conversion


def obstacles(network: FloatNetwork | QuantisedNetwork) -> list[tuple[str, str]]:
    """Every reason why `network` does not become a spiking network: the layer, ``""`` for all of it, and why.

    Where no layer is in the way, a conversion with random samples is tried; what it stops at is the last reason.
    """
    instance(network, "network", FloatNetwork, QuantisedNetwork)
    if isinstance(network, QuantisedNetwork):
        return _stops_at(lambda: convert(network))
    found = refusals(network)
    if not any(node.weighted for node in network.nodes):
        found.append(("", "there is no convolution or dense layer in it, so there is nothing to convert"))
    elif not any(node.activates or node.leaks for node in network.nodes):
        found.append(("", "there is no ReLU in it, so nothing in it spikes; put activations between its layers"))
    return found or _stops_at(lambda: _tried(network))


def _tried(network: FloatNetwork) -> None:
    """One conversion, with samples drawn from a seed."""
    samples = np.random.default_rng(0).integers(0, 256, (SAMPLES, *network.input_shape)).astype(np.uint8)
    convert(quantise_network(fold(network), samples, rounding="nearest").network)


def _stops_at(trial) -> list[tuple[str, str]]:
    try:
        trial()
    except IntsnnError as error:
        return [("", str(error))]
    return []
