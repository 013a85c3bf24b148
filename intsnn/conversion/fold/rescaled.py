"""What a float network does to its input before anything else: a scale for all of it belongs to the input codes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from ...formats.arguments import instance
from ...network.floating import FloatNetwork
from ...network.quantised import InputScale
from .rewriting import Rewriting

__all__ = ["without_rescaling"]

LARGEST_DENOMINATOR = 1 << 16  # of a factor that a file holds as a float: 1/127.5 is 2/255


def without_rescaling(
    network: FloatNetwork, given: InputScale | None, default: InputScale
) -> tuple[FloatNetwork, InputScale]:
    """`network` without a first layer that scales and shifts all of its input alike, and the scale of input codes.

    Who trained with such a layer gave it raw values: the scale is then that of the layer, on top of what is `given`.
    Without one it is what is `given`, else `default`.
    """
    instance(network, "network", FloatNetwork)
    instance(given, "given", InputScale, none=True)
    instance(default, "default", InputScale)
    draft, found = Rewriting(network), None
    while (first := _rescales(draft)) is not None:
        scale, shift = (_fraction(float(part[0])) for part in draft.nodes[first].scale_shift())
        gain, offset = found or (Fraction(1), Fraction(0))
        found = gain * scale, offset * scale + shift
        draft.drop(first)
    if found is None:
        return network, given or default
    base = given or InputScale(Fraction(1))
    gain, offset = found
    made = replace(base, scale=base.scale * gain, offset=base.offset * gain + offset)
    return draft.build(), made


def _rescales(draft: Rewriting) -> str | None:
    """The only reader of the input, if all that it does is to multiply by one positive number and to add one."""
    (source,) = (node.name for node in draft.nodes.values() if node.takes_input)
    readers = draft.readers(source)
    if len(readers) != 1 or source == draft.output or readers[0] == draft.output or not draft.nodes[readers[0]].scales:
        return None
    scale, shift = draft.nodes[readers[0]].scale_shift()
    alike = not np.ptp(scale) and not np.ptp(shift) and scale[0] > 0
    return readers[0] if alike else None


def _fraction(value: float) -> Fraction:
    """The simplest fraction that a float of 32 bits cannot tell from `value`, or `value` itself."""
    near = Fraction(value).limit_denominator(LARGEST_DENOMINATOR)
    return near if abs(near - Fraction(value)) <= abs(Fraction(value)) / (1 << 22) else Fraction(value)
