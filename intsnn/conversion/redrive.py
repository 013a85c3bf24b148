"""The same network, driven for another number of steps.

T_drive says over how many steps input and bias flow; the levels L, and the quantised ANN, do not depend on it.
A converted network is brought to another T_drive without any rounding: what the input reaches directly gets its weights
times the old T_drive, and its thresholds, biases and initial potentials times the new one.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..errors import RangeError, UnsupportedError
from ..formats.arguments import whole
from ..formats.fixed import Fixed
from ..network.spiking import Network, spiking_network

__all__ = ["redriven"]

STATE_BITS = 48


def _root(network: Network, name: str) -> str:
    """What a value is made of, through pools and the like."""
    while network.nodes[name].passive:
        name = network.inputs_of(name)[0]
    return name


def redriven(network: Network, t_drive: int) -> Network:
    """`network` with another T_drive and the same integer ANN, level for level.

    Parameters
    ----------
    network : Network
        Converted: with T_drive and levels, constant input.
    t_drive : int

    Returns
    -------
    Network
        Membranes are as wide as they provably need.

    Raises
    ------
    UnsupportedError
        If the network has no T_drive or levels, or the input reaches anything but neurons behind one connection.
    RangeError
        If the larger integers do not fit.
    """
    spiking_network(network)
    t_drive = whole(t_drive, "t_drive", 1, 1 << 20)
    if network.t_drive is None or network.levels is None:
        raise UnsupportedError("redrive: the network has no T_drive and levels; only a converted network has another")
    common = math.gcd(network.t_drive, t_drive)
    weights, charges = network.t_drive // common, t_drive // common
    nodes = dict(network.nodes)
    for name, layer in network.nodes.items():
        if layer.takes_input or layer.passive or layer.fires:
            continue
        if all(_root(network, source) != network.input_name for source in network.inputs_of(name)):
            continue
        reader = name
        while True:
            readers = [b for a, b in network.edges if a == reader]
            if len(readers) != 1:
                break
            reader = readers[0]
            if not network.nodes[reader].passive or network.nodes[reader].spikes:
                break
        neuron = nodes[reader]
        if not layer.weighted or len(readers) != 1 or not neuron.fires:
            raise UnsupportedError(f"redrive: {name} reads the input and is no connection to neurons alone")
        bias = None if layer.bias is None else layer.bias * charges
        nodes[name] = replace(layer, multiplier=layer.multiplier * weights, bias=bias)
        threshold, start, negative = (x * charges for x in (neuron.threshold, neuron.v_initial, neuron.v_negative))
        if int(np.max(threshold)) >= 1 << 31:
            raise RangeError(f"redrive: a threshold of {reader} would be {int(np.max(threshold))}, beyond 31 bits")
        nodes[reader] = replace(
            neuron, threshold=threshold, v_initial=start, v_negative=negative, v_format=Fixed(STATE_BITS),
            threshold_format=Fixed.for_range(0, int(np.max(threshold))),
        )  # fmt: skip
    for name, layer in nodes.items():
        if layer.weighted and layer.bias_mode == "step" and layer.bias is not None:
            raise UnsupportedError(f"redrive: {name} has a bias in every step, which grows with T_drive; spread it")
    for name, layer in nodes.items():
        if layer.rounds:
            kind = type(layer).__name__
            raise UnsupportedError(
                f"redrive: {name} ({kind}) rounds in every step, so every T_drive gives another network"
            )
    made = replace(network, nodes=nodes, t_drive=t_drive)
    bounds = made.bounds()
    for name in made.neurons:
        nodes[name] = replace(nodes[name], v_format=bounds[name].membrane_format)
    return replace(made, nodes=nodes)
