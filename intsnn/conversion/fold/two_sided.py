"""Where do values of both signs need neurons of their own? Activations of two sides are put there.

Between a ReLU and the next linear layer nothing is negative, and neurons count up from 0. A linear bottleneck, the sum
of a residual stream, a BatchNorm or a plain convolution in front of a max-pool have both signs: their values become
levels from -L to L, which a neuron whose net count may fall below 0 has exactly (``docs/semantics.md``).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...network.float_activations import FloatHardTanh
from ...network.float_moves import FloatConcat, FloatSelect
from ...network.float_nodes import FloatReLU
from .rewriting import Rewriting, clips, is_counts, scaled_by_itself

__all__ = ["split_leaks", "with_two_sides"]


def with_two_sides(draft: Rewriting) -> None:
    """Put an activation without limit behind every value of both signs that needs levels."""
    for name in list(draft.nodes):
        node = draft.nodes[name]
        if node.chooses and not is_counts(draft, node.inputs[0]):
            _put_levels(draft, node.inputs[0], [name])
        elif node.gathers:
            for source in dict.fromkeys(node.inputs):
                if not _has_levels(draft, source):
                    _put_levels(draft, source, [name])
        elif node.weighted and not (_by_itself(node) and node.weight.shape[2:] == (1, 1)):
            for source in _sums_before(draft, node.inputs[0]):
                kept = [reader for reader in draft.readers(source) if not draft.nodes[reader].activates]
                _put_levels(draft, source, kept)


def _has_levels(draft: Rewriting, name: str) -> bool:
    """Whether a branch can stand beside others: counts, and not codes of the input, which have another unit."""
    node = draft.nodes[name]
    if node.takes_input:
        return False
    return node.activates or (is_counts(draft, name) and all(_has_levels(draft, source) for source in node.inputs))


def _put_levels(draft: Rewriting, source: str, readers: list[str]) -> None:
    """Let `readers` read `source` through an activation without limit: one for all."""
    put = next((reader for reader in draft.readers(source) if _without_limit(draft.nodes[reader])), None)
    if put is None:
        origin = draft.nodes[source].source
        put = draft.put(FloatHardTanh(name=f"{source}/levels", inputs=(source,), source=origin, limit=None))
    draft.reroute([reader for reader in readers if reader != put], source, put)


def _without_limit(node) -> bool:
    """Whether it only gives levels to values of both signs."""
    return clips(node) and node.two_sided and node.max_value is None


def _sums_before(draft: Rewriting, name: str) -> list[str]:
    """The sums of products that a linear layer reads at `name`, through pools and the like, and cannot take as charges.

    What convolutions of each channel by itself made of counts goes on as charge: its sums stay small, and no level is
    lost. Any other value of both signs has to become levels first. (A factor for each channel takes any charge.)
    """
    node = draft.nodes[name]
    if node.joins:
        return [] if is_counts(draft, name) else [name]
    if node.passive or node.gathers or node.negates:
        return [found for source in node.inputs for found in _sums_before(draft, source)]
    if not node.weighted or (_by_itself(node) and not _sums_before(draft, node.inputs[0])):
        return []
    return [name]


def _by_itself(node) -> bool:
    """Whether a linear layer does not mix channels."""
    return node.rank == 4 and node.groups == node.weight.shape[0] and node.weight.shape[1] == 1


# -- LeakyReLU -------------------------------------------------------------------------------------


def split_leaks(draft: Rewriting) -> None:
    """Write every LeakyReLU as two activations: ``(1 - a) * relu(x) + a * levels(x)``, for x of both signs.

    Both are monotone, so that each goes through max-pools by itself, and every layer that only moves, pools or adds up
    does the same to both. The next linear layer has their weights side by side.

    Raises `UnsupportedError` where something else than a linear layer needs their sum.
    """
    for name in list(draft.nodes):
        node = draft.nodes[name]
        if node.leaks:
            _split(draft, name)


def _refused(draft: Rewriting, name: str, reason: str) -> None:
    """Note why a LeakyReLU has no integer form; from here on it is a ReLU."""
    draft.refuse(name, reason)
    node = draft.nodes[name]
    draft.nodes[name] = FloatReLU(name=name, inputs=node.inputs, source=node.source)


def _split(draft: Rewriting, name: str) -> None:
    leaky = draft.nodes[name]
    along = [name]
    for step in along:  # everything between it and the linear layers
        if step == draft.output:
            return _refused(draft, name, "a LeakyReLU at the end has no integer form; leave it out")
        for reader in draft.readers(step):
            node = draft.nodes[reader]
            if node.scales and len(draft.network.shapes[reader]) == 3:
                scaled_by_itself(draft, reader)
                node = draft.nodes[reader]
            if node.passive and reader not in along:
                along.append(reader)
            elif not node.weighted and not node.passive:
                kind = type(node).__name__.removeprefix("Float")
                reason = (
                    f"a LeakyReLU that {reader!r} ({kind}) reads has no integer form; it has one in front of linear "
                    "layers, with pools between them perhaps; use ReLU"
                )
                return _refused(draft, name, reason)
    linear = list(dict.fromkeys(r for step in along for r in draft.readers(step) if draft.nodes[r].weighted))
    signed = draft.put(FloatHardTanh(name=f"{name}/levels", inputs=leaky.inputs, source=leaky.source, limit=None))
    twins = {name: signed}
    for step in along[1:]:
        node = draft.nodes[step]
        twins[step] = draft.put(replace(node, name=f"{step}/levels", inputs=tuple(twins[i] for i in node.inputs)))
    draft.nodes[name] = FloatReLU(name=name, inputs=leaky.inputs, source=leaky.source)
    for reader in linear:
        node = draft.nodes[reader]
        step = node.inputs[0]
        both = draft.put(FloatConcat(name=f"{reader}/sides", inputs=(step, twins[step])))
        if node.rank == 4 and node.groups > 1:  # of each group those of one side, then those of the other
            channels, per_group = node.weight.shape[1] * node.groups, node.weight.shape[1]
            shape = draft.network.shapes[step]
            order = np.arange(2 * channels).reshape(2, node.groups, per_group).transpose(1, 0, 2).reshape(-1)
            places = np.arange(2 * int(np.prod(shape))).reshape(2 * channels, *shape[1:])[order]
            both = draft.put(FloatSelect(name=f"{reader}/groups", inputs=(both,), places=places))
        weight = node.weight.astype(np.float64)
        weight = np.concatenate([(1 - leaky.slope) * weight, leaky.slope * weight], axis=1)
        draft.nodes[reader] = replace(node, inputs=(both,), weight=weight)
