"""Makes the branches of a join exactly what integers express.

Where branches meet, each has its own charge unit per channel, and conversion brings them to one by integer multipliers
(`intsnn.convert`). Rounding those would move a level in a thousand. Instead, the scale of each channel of the trained
network is moved a little, by at most about a per cent, until thresholds, multipliers and biases are whole numbers to
begin with; thresholds become odd, so that no charge lies on a boundary. BatchNorm has the parameters for that.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...conversion.spikes import JOIN_SHIFT
from ..training import blueprint as parts
from .bridge import step_of
from .network import Linear, Norm, QuantNetwork, statistics
from .quantisers.activations import Activation

__all__ = ["align"]

LARGEST = (1 << 31) - 1  # of a threshold
MOST_PARTS = 63  # of the ratio of two steps: p / q with an odd q up to this


def align(network: QuantNetwork) -> list[str]:
    """Change the joins of a trained network in place; the names of the activations behind those that were changed.

    A join is taken if its branches are convolutions with a BatchNorm that are fed by spikes, and at most one identity;
    others stay as they are, and their multipliers are rounded in conversion.
    """
    changed = []
    for layer in network.blueprint.layers:
        if isinstance(layer, parts.Relu) and layer.name in network.activations:
            terms = _terms(network, layer.inputs[0])
            if len(terms) > 1 and _align(network, layer.name, terms):
                changed.append(layer.name)
    return changed


def _terms(network: QuantNetwork, name: str) -> list[str]:
    """Names of the layers whose sum is the value of `name`."""
    layer = next((item for item in network.blueprint.layers if item.name == name), None)
    if layer is not None and layer.joins:
        return [term for source in layer.inputs for term in _terms(network, source)]
    return [name]


def _fed_by(network: QuantNetwork, name: str) -> Activation | None:
    """The activation that a layer reads, through max-pools and dropouts."""
    plan = {item.name: item for item in network.blueprint.layers}
    source = plan[name].inputs[0]
    while source in plan and isinstance(plan[source], parts.MaxPool | parts.Dropout):
        source = plan[source].inputs[0]
    return network.activations.get(source)


def _unit(module: Linear, norm: Norm, entering: Activation) -> np.ndarray:
    """Value of one unit of charge of each channel, float64."""
    _, scale, _ = module.quantiser.codes(module.weight)
    return scale.detach().cpu().numpy().astype(np.float64) * np.abs(_factor(norm)) * step_of(entering)


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy().astype(np.float64)


def _factor(norm: Norm) -> np.ndarray:
    return _numbers(norm.weight) / _deviation(norm)


def _deviation(norm: Norm) -> np.ndarray:
    return np.sqrt(_numbers(statistics(norm)[1]) + norm.eps)


def _ratio(value: float) -> tuple[int, int]:
    """p and odd q up to `MOST_PARTS` with p / q nearest to `value`."""
    q = np.arange(1, MOST_PARTS + 1, 2)
    p = np.maximum(np.floor(value * q + 0.5), 1)
    best = int(np.argmin(np.abs(p / q - value)))
    return int(p[best]), int(q[best])


def _align(network: QuantNetwork, name: str, terms: list[str]) -> bool:
    after = network.activations[name]
    linear = [term for term in terms if term in network.linear]
    identities = [term for term in terms if term not in network.linear]
    if not linear or len(identities) > 1 or any(term not in network.activations for term in identities):
        return False
    modules = [network.linear[term] for term in linear]
    entering = [_fed_by(network, term) for term in linear]
    if any(m.norm is None or m.quantiser.bits is None for m in modules) or any(e is None for e in entering):
        return False
    norms = [m.norm for m in modules if m.norm is not None]
    units = [_unit(m, n, e) for m, n, e in zip(modules, norms, entering, strict=True) if e is not None]
    if any((unit <= 0).any() for unit in units):
        return False  # a channel without gamma
    whole = 1
    if identities:
        before = step_of(network.activations[identities[0]])
        over, whole = _ratio(before / step_of(after))
        with torch.no_grad():
            after.scale.mul_(before * whole / over / step_of(after))
    main = int(np.argmax([np.median(unit) for unit in units]))  # as the conversion chooses it
    step, shift = step_of(after), JOIN_SHIFT
    while shift and float((step / units[main]).max()) * (1 << shift) > LARGEST:
        shift -= 1
    ideal = step / units[main] * (1 << shift)
    theta = whole * np.maximum(2 * np.floor(ideal / whole / 2) + 1, 1)  # odd
    unit = step / theta
    for number, (norm, own) in enumerate(zip(norms, units, strict=True)):
        multiplier = np.full(len(unit), 1 << shift) if number == main else np.maximum(np.floor(own / unit + 0.5), 1)
        factor = _factor(norm)
        mean, beta = _numbers(statistics(norm)[0]), _numbers(norm.bias)
        total = np.floor((beta - factor * mean) / unit + 0.5)
        factor = factor * (multiplier * unit / own)
        _put(norm.weight, factor * _deviation(norm))
        _put(norm.bias, total * unit + _factor(norm) * mean)
    return True


def _put(parameter: Tensor, values: np.ndarray) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values))
