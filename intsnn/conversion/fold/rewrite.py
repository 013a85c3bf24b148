"""Bring a float network to the form that converts: linear layers, activations, pools, moves and joins.

Every rewrite keeps the function: BatchNorm is folded per channel, a final softmax or sigmoid is dropped (the order of
values, and the sign of a logit, are those before it), an activation behind a max-pool moves before it (both are
monotone), a BatchNorm behind spikes moves behind the max-pool that reads it. Where a value of both signs meets a linear
layer, a max-pool or a concatenation, an activation without limit is put (`intsnn.conversion.fold.two_sided`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...formats.arguments import instance
from ...network.float_moves import FloatSigns
from ...network.floating import FloatNetwork
from .rewriting import Rewriting, clips, is_spikes, scaled_by_itself
from .two_sided import split_leaks, with_two_sides

__all__ = ["fold", "refusals"]


def fold(network: FloatNetwork) -> FloatNetwork:
    """`network` with BatchNorm folded, softmax dropped and activations where neurons are to be.

    Raises
    ------
    UnsupportedError
        For a graph that has no spiking form, naming the layer and why.
    """
    draft = Rewriting(instance(network, "network", FloatNetwork))
    _rewrite(draft)
    return draft.build()


def refusals(network: FloatNetwork) -> list[tuple[str, str]]:
    """Every layer of `network` that has no integer form, and why: what `fold` would stop at, one after the other."""
    draft = Rewriting(instance(network, "network", FloatNetwork), collects=True)
    _rewrite(draft)
    return draft.refused or []


def _rewrite(draft: Rewriting) -> None:
    for name in list(draft.nodes):
        node = draft.nodes[name]
        if node.orders:
            if name != draft.output:
                kind = type(node).__name__.removeprefix("Float").lower()
                draft.refuse(name, f"a {kind} inside the network has no integer form; only at the end")
            draft.drop(name)
    split_leaks(draft)
    for name in list(draft.nodes):
        if draft.nodes[name].scales:
            _raise_pools(draft, name)
    for name in list(draft.nodes):
        if draft.nodes[name].scales:
            _fold_batch_norm(draft, name)
    for name in list(draft.nodes):
        if clips(draft.nodes[name]):
            _raise_activation(draft, name)
    for name in list(draft.nodes):
        if name in draft.nodes and clips(draft.nodes[name]):
            _drop_second_activation(draft, name)
    with_two_sides(draft)
    for node in draft.nodes.values():
        if reason := node.no_integers():
            draft.refuse(node.name, reason)


def _fold_batch_norm(draft: Rewriting, name: str) -> None:
    """Into the linear layer before it, into the dense layers behind it, or a convolution of its own."""
    norm = draft.nodes[name]
    source = draft.nodes[norm.inputs[0]]
    scale, shift = norm.scale_shift()
    if source.weighted and len(draft.readers(source.name)) == 1 and source.name != draft.output:
        weight = source.weight.astype(np.float64) * scale.reshape(-1, *(1,) * (source.weight.ndim - 1))
        bias = shift if source.bias is None else source.bias.astype(np.float64) * scale + shift
        draft.nodes[source.name] = replace(source, weight=weight, bias=bias)
        draft.drop(name)
        return
    readers = [draft.nodes[reader] for reader in draft.readers(name)]
    shape = draft.network.shapes[name]
    if len(shape) == 1 and readers and name != draft.output and all(r.weighted and r.rank == 2 for r in readers):
        for reader in readers:
            weight = reader.weight.astype(np.float64)
            bias = weight @ shift + (0 if reader.bias is None else reader.bias.astype(np.float64))
            draft.nodes[reader.name] = replace(reader, weight=weight * scale, bias=bias)
        draft.drop(name)
        return
    scaled_by_itself(draft, name)


def _raise_pools(draft: Rewriting, name: str) -> None:
    """Move max-pools from behind a BatchNorm of spikes to before it.

    Where it falls, the largest value behind it is the least before it: the channel is negated around the pool.
    """
    norm = draft.nodes[name]
    while is_spikes(draft, norm.inputs[0]):
        readers = draft.readers(name)
        pool = draft.nodes[readers[0]] if len(readers) == 1 and name != draft.output else None
        if pool is None or not pool.chooses:
            return
        falls = norm.scale_shift()[0] < 0
        if falls.any():
            signs = np.where(falls, -1, 1)
            turned = draft.put(FloatSigns(name=f"{name}/signs", inputs=norm.inputs, signs=signs))
            gamma = (norm.gamma * signs).astype(norm.gamma.dtype)
            mean = (norm.mean * signs).astype(norm.mean.dtype)
            norm = draft.nodes[name] = replace(norm, inputs=(turned,), gamma=gamma, mean=mean)
        draft.reroute(draft.readers(pool.name), pool.name, name)
        if draft.output == pool.name:
            draft.output = name
        draft.nodes[pool.name] = replace(pool, inputs=norm.inputs)
        norm = draft.nodes[name] = replace(norm, inputs=(pool.name,))


def _raise_activation(draft: Rewriting, name: str) -> None:
    """Move an activation from behind a max-pool to before it, where the pool feeds nothing else."""
    activation = draft.nodes[name]
    pool = draft.nodes[activation.inputs[0]]
    while pool.chooses and not is_spikes(draft, pool.inputs[0]) and len(draft.readers(pool.name)) == 1:
        below = pool.inputs[0]
        draft.reroute(draft.readers(name), name, pool.name)
        if draft.output == name:
            draft.output = pool.name
        activation = replace(activation, inputs=(below,))
        draft.nodes[name] = activation
        draft.nodes[pool.name] = replace(pool, inputs=(name,))
        pool = draft.nodes[below]


def _drop_second_activation(draft: Rewriting, name: str) -> None:
    """An activation of what lies within its limits already changes nothing."""
    second = draft.nodes[name]
    first = draft.nodes[second.inputs[0]]
    while first.passive:
        first = draft.nodes[first.inputs[0]]
    if not clips(first) or (first.two_sided and not second.two_sided):
        return
    if second.max_value is None or (first.max_value is not None and first.max_value <= second.max_value):
        draft.drop(name)
