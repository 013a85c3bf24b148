"""Is what came in a quantised network? Then all its weights have codes, and all its activations levels."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from ....errors import IntsnnError, UnsupportedError
from ....formats.fixed import Fixed
from ....network.floating import FloatNetwork
from ....network.quantised import InputScale, QuantisedNetwork, with_codes
from ..builder import Assembly, Codes
from ..tidy import Draft

__all__ = ["is_quantised", "quantised_network"]

TIES = (
    "quantisers of the file round halves to even, levels here round them up: a value that lies exactly between two "
    "levels may be one level higher"
)


def is_quantised(b: Assembly, draft: Draft) -> bool:
    """Whether values are quantised, or weights and there are no activations; weights alone are taken as floats."""
    active = [node for node in draft.nodes.values() if node.activates]
    if b.input_coding is not None or any(node.quantised for node in active):
        return True
    if b.coded and active:
        b.note("weights are codes in the file, activations are not: the real values of the weights are taken")
    return bool(b.coded) and not active


def quantised_network(b: Assembly, draft: Draft, metadata: dict[str, Any]) -> QuantisedNetwork:
    """The quantised network of a draft.

    Raises `UnsupportedError` where a weight has no codes or an activation no levels, naming the node.
    """
    label = b.file.label
    b.note(TIES)
    for name in list(draft.nodes):
        if draft.nodes[name].scales:
            _fold(b, draft, name)
    _drop_end(b, draft)
    for name in list(draft.nodes):
        node = draft.nodes[name]
        if node.activates and not node.quantised:
            _drop_relu(draft, name, label)
    for name in list(draft.nodes):
        if draft.nodes[name].quantised and draft.nodes[name].activates:
            _before_pools(draft, name)
    for name, node in draft.nodes.items():
        if node.weighted:
            draft.nodes[name] = _coded(b, node)
        elif not (node.takes_input or node.quantised or node.passive or node.joins or node.gathers):
            raise UnsupportedError(
                f"{label}: layer {name!r} ({node.source}): has no form in a quantised network; it is taken where a "
                "quantised layer before it can take it in"
            )
    coding = b.input_coding
    if coding is None:
        b.note("the file does not quantise its input; codes of 0 .. 255 that are worth 1/255 each are taken for it")
        return QuantisedNetwork(FloatNetwork(draft.sorted(), draft.output, metadata))
    scale = Fraction(coding.scale)
    bits = (coding.high - coding.low).bit_length()
    return QuantisedNetwork(
        FloatNetwork(draft.sorted(), draft.output, metadata),
        InputScale(scale, -scale * coding.zero),
        Fixed(bits, signed=coding.low < 0),
    )


def _fold(b: Assembly, draft: Draft, name: str) -> None:
    """A scale and shift per channel becomes part of the scales and the bias of the layer before it."""
    norm = draft.nodes[name]
    source = draft.nodes[norm.inputs[0]]
    codes = b.coded.get(source.name)
    if codes is None or not source.weighted or draft.only_reader(source.name) != name:
        return
    scale, shift = norm.scale_shift()
    turn = scale.reshape(-1, *(1,) * (codes.values.ndim - 1))
    values = np.where(turn == 0, 0, np.sign(turn).astype(np.int64) * codes.values)
    if isinstance(codes.form, Fixed) and (values.min() < codes.form.min or values.max() > codes.form.max):
        raise UnsupportedError(
            f"{b.file.label}: layer {name!r} ({norm.source}): its scale is negative in a channel with the code "
            f"{codes.form.min}, which has no opposite of {codes.form.bits} bits; quantise the weights to a narrow range"
        )
    if not isinstance(codes.form, Fixed) and (turn == 0).any():
        raise UnsupportedError(
            f"{b.file.label}: layer {name!r} ({norm.source}): its scale is 0 in a channel; bipolar weights cannot be 0"
        )
    b.coded[source.name] = Codes(values, codes.scale * np.where(turn == 0, 1, np.abs(turn)), codes.form)
    bias = shift if source.bias is None else source.bias.astype(np.float64) * scale + shift
    draft.nodes[source.name] = replace(source, bias=bias)
    draft.bypass(name)


def _drop_end(b: Assembly, draft: Draft) -> None:
    """A softmax or sigmoid at the end, which changes no order, goes."""
    while draft.nodes[draft.output].orders:
        b.note(
            f"layer {draft.output!r}: a softmax or sigmoid at the end is left out; the order of the outputs is the same"
        )
        draft.bypass(draft.output)


def _drop_relu(draft: Draft, name: str, label: str) -> None:
    """A ReLU whose values all go to levels is part of them."""
    relu = draft.nodes[name]
    goals, todo = [], list(draft.readers[name])
    fits = name != draft.output and not relu.two_sided
    while todo and fits:
        reader = draft.nodes[todo.pop()]
        if reader.activates and reader.quantised:
            goals.append(reader)
        else:
            fits = (reader.moves_only or reader.chooses) and reader.name != draft.output
            todo += draft.readers[reader.name]
    if not fits:
        raise UnsupportedError(
            f"{label}: layer {name!r} ({relu.source}): no quantiser of unsigned levels follows this activation"
        )
    for goal in goals:
        if relu.max_value is not None:
            most = math.floor(relu.max_value / goal.step + 0.5)
            draft.nodes[goal.name] = replace(goal, levels=max(1, min(goal.levels, most)))
    draft.bypass(name)


def _before_pools(draft: Draft, name: str) -> None:
    """Levels of the largest value are the largest of the levels: they are put before pools, where neurons are."""
    while True:
        fires = draft.nodes[name]
        pool = draft.nodes[fires.inputs[0]]
        if not pool.chooses or draft.only_reader(pool.name) != name:
            return
        draft.swap(pool.name, name)


def _coded(b: Assembly, node: Any) -> Any:
    where = f"{b.file.label}: layer {node.name!r} ({node.source})"
    codes = b.coded.get(node.name)
    if codes is None:
        raise UnsupportedError(
            f"{where}: its weights are not quantised, or not to signed codes with the zero point 0; quantise all layers"
        )
    rows = codes.scale.reshape(codes.scale.shape[0], -1)
    if (rows != rows[:, :1]).any():
        raise UnsupportedError(f"{where}: its scales differ within an output channel; one per output channel is taken")
    try:
        return with_codes(node, np.asarray(codes.values, np.int64), np.ascontiguousarray(rows[:, 0]), codes.form)
    except IntsnnError as error:
        raise UnsupportedError(f"{where}: {error}") from None
