"""What memory does a network take while it learns: by the published formula, and measured?

The formula is that of Schaefer & Joshi (`intsnn.analysis.memory.formulas`), for one sample; measured are the arrays
of a `Learner` that learns with one sample. What exists and is not counted by the formula (master weights beside
forward weights, constants, scratch) is there with width 0.
"""

from __future__ import annotations

import numpy as np

from ..analysis.memory.formulas import Architecture, Item, Sizes, check_convention, count
from ..analysis.memory.report import Report
from .learner import Learner
from .rule import LearningNetwork, Widths

__all__ = ["architecture_of", "memory", "symbols"]

CONVENTION = "schaefer-joshi"
SYMBOLS = {
    "W": "weight", "Q": "synapse", "P": "membrane", "R": "refractory", "S": "readout", "U": "state", "A": "activation",
    "Sig": "sigmoid", "E": "error", "G": "gradient",
}  # fmt: skip


def symbols(widths: Widths) -> dict[str, int]:
    """Widths by the symbols of a formula."""
    return {symbol: getattr(widths, name) for symbol, name in SYMBOLS.items()}


def architecture_of(network: LearningNetwork, name: str = "learner", source: str = "") -> Architecture:
    """Sizes of a network that learns; every layer has a readout of all classes."""
    layers = []
    for index, (here, neurons, pooled) in enumerate(network.geometry()):
        layer = network.layers[index]
        fan_in = getattr(layer, "kernel", 1) ** 2 * here[2]
        inputs = here[0] * here[1] * here[2]
        layers.append(
            Sizes(
                name=f"layer{index + 1}",
                weights=fan_in * neurons[2],
                biases=neurons[2],
                inputs=inputs,
                neurons=neurons[0] * neurons[1] * neurons[2],
                outputs=pooled[0] * pooled[1] * pooled[2],
                classes=network.classes,
                events=inputs if index == 0 else 0,
            )
        )
    return Architecture(name, source, tuple(layers), symbols(network.rule.widths), CONVENTION)


def memory(network: LearningNetwork, convention: str = CONVENTION, name: str = "learner") -> Report:
    """Count by a convention, and measure, what learning with one sample takes.

    Parameters
    ----------
    network : LearningNetwork
    convention : str
        One of `intsnn.analysis.memory.CONVENTIONS`.

    Raises
    ------
    FormatError
        An unknown convention.
    """
    widths = symbols(network.rule.widths)
    counted = count(architecture_of(network, name).layers, widths, check_convention(convention))
    real = _arrays(network)
    found = []
    for item in counted:
        arrays = real.pop((item.layer, item.name), [])
        found.append(
            Item(
                item.layer, item.kind, item.name, item.count, item.width, item.float_width,
                measured_bytes=sum(array.nbytes for array in arrays),
                measured_count=sum(array.size for array in arrays),
            )
        )  # fmt: skip
    for (layer, symbol), arrays in real.items():
        size = sum(array.size for array in arrays)
        if size:
            kind = KIND_OF.get(symbol, "sums")
            found.append(Item(layer, kind, symbol, size, 0, 0, measured_bytes=sum(array.nbytes for array in arrays)))
    order = {f"layer{i + 1}": i for i in range(len(network.layers))}
    return Report(name, convention, tuple(sorted(found, key=lambda item: order[item.layer])), widths)


# of what the published formula leaves out
KIND_OF = {
    "master": "weights", "biases": "biases", "packed": "weights", "constants": "scales", "tables": "scales",
    "spikes": "spikes", "b": "biases", "Gb": "gradients", "Sig": "activations", "G": "gradients",
}  # fmt: skip


def _arrays(network: LearningNetwork) -> dict[tuple[str, str], list]:
    """Every array of a learner with one sample after a learning step, by layer and symbol."""
    learner = Learner(network)
    state = learner.begin(1)
    state.t = network.rule.burn_in  # a step that learns makes all buffers
    learner.learn(state, np.zeros((1, *network.shape), np.uint8), [0])
    found: dict[tuple[str, str], list] = {}
    for index, (weights, k, f) in enumerate(zip(learner.layers, learner.batch_constants, learner.buffers, strict=True)):
        parts = {
            "W": [weights.weight],
            "G": [] if f.gradient is None else [f.gradient],
            "P": [state.p[index]],
            "Q": [state.q[index]],
            "R": [state.r[index]],
            "U": [f.u],
            "S": [k.readout, k.feedback],
            "A": [f.y],
            "E": [f.delta, f.e],
            "b": [weights.bias],
            "Gb": [f.bias_gradient],
            "Sig": [],
            "spikes": [f.spikes],
            "master": [weights.master],
            "biases": [weights.bias_master],
            "packed": [weights.packed],
            "constants": [k.decay_p, k.gain_p, k.decay_q, k.gain_q],
            "tables": [k.table, k.slope],
            "charges": [f.charges],
            "choice": [f.choice],
            "errors at the readout": [f.v],
            "tiles of a dense step": list(f.tiles or ()),
        }
        found |= {(f"layer{index + 1}", symbol): arrays for symbol, arrays in parts.items()}
    return found
