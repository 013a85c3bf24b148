"""By which published formula is memory counted, and what does it count?

A convention turns sizes (`Sizes`: how many weights, inputs, neurons a layer has) and widths (bits of each quantity)
into `Item` rows. Nothing here knows a network or measures anything; the formulas with their sources are in
``docs/memory.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ...errors import FormatError
from ...formats.arguments import choice, mapping, shown, whole

__all__ = [
    "BASE_WIDTHS",
    "CONVENTIONS",
    "KINDS",
    "Architecture",
    "Item",
    "Sizes",
    "count",
    "float_share",
    "resolve_widths",
    "saving_ratio",
]

KINDS = (
    "weights", "biases", "thresholds", "leaks", "initial values", "scales", "membranes", "currents", "traces",
    "counts", "spikes", "event buffers", "inputs", "activations", "sums", "readouts", "errors", "gradients",
)  # fmt: skip
FLOAT_BITS = 32
MOST_BITS = 32  # of a width that is asked for
# Schaefer & Joshi (2020): weights, current trace, membrane trace, refractory state, readout weights, membrane, readout
# activations, sigmoid, errors, gradients
BASE_WIDTHS: Mapping[str, int] = MappingProxyType(
    {"W": 8, "Q": 10, "P": 12, "R": 2, "S": 6, "U": 6, "A": 6, "Sig": 6, "E": 6, "G": 10}
)


@dataclass(frozen=True)
class Item:
    """One array, or what a formula counts as one.

    Attributes
    ----------
    layer, kind, name : str
        `kind` is one of `KINDS`; `name` is the symbol of the publication or the field of the layer.
    count : int
        Numbers in it.
    width : int
        Bits of each by the convention; 0: the convention does not count it.
    float_width : int
        Bits of each in the floating-point network that the convention compares with; 0: not counted there.
    measured_bytes : int or None
        What really exists; None: nothing was measured.
    loaded_bytes : int or None
        The array of the loaded network (64 bits a number), of stored parameters only.
    measured_count : int or None
        Numbers in the array that was measured, where that is not `count`.
    """

    layer: str
    kind: str
    name: str
    count: int
    width: int
    float_width: int = FLOAT_BITS
    measured_bytes: int | None = None
    loaded_bytes: int | None = None
    measured_count: int | None = None

    @property
    def formula_bits(self) -> int:
        """`count` times `width`."""
        return self.count * self.width

    @property
    def fp32_bits(self) -> int:
        """The same in floating point."""
        return self.count * self.float_width


@dataclass(frozen=True)
class Sizes:
    """How many numbers one connection and the neurons behind it have.

    Attributes
    ----------
    name : str
    weights, biases, inputs : int
    neurons : int
        Before a pool behind them.
    outputs : int
        Behind that pool.
    published_outputs : int or None
        `outputs` as printed, where the print differs.
    classes : int
        Outputs of the readout of this layer; 0: it has none.
    events : int
        Elements of the input that arrive from outside.
    widths : mapping of symbol to int
        Of this layer alone, before all others.
    state_name : str
        Name of the layer that holds the neurons, if it is not `name`.
    """

    name: str
    weights: int
    inputs: int
    neurons: int
    outputs: int
    biases: int = 0
    published_outputs: int | None = None
    classes: int = 0
    events: int = 0
    widths: Mapping[str, int] = field(default_factory=dict)
    state_name: str = ""


@dataclass(frozen=True)
class Architecture:
    """A network by its sizes alone.

    Attributes
    ----------
    name, source : str
        `source`: where it was published.
    layers : tuple of Sizes
    widths : mapping of symbol to int
        Default widths; a symbol that is missing has no array (width 0).
    convention : str
        The one that belongs to it.
    """

    name: str
    source: str
    layers: tuple[Sizes, ...]
    widths: Mapping[str, int]
    convention: str


# ---------------------------------------------------------------------------------------------------------------------
# the conventions
# ---------------------------------------------------------------------------------------------------------------------

Widths = Mapping[str, int]


def _schaefer_joshi(layer: Sizes, w: Widths, outputs: int, neurons: int) -> Iterator[Item]:
    """``n_w (W + G) + n_in (P + Q) + n_o (R + U) + 2 K n_o S + K A + (K + n_o) E`` for K classes."""
    classes, name, state = layer.classes, layer.name, layer.state_name or layer.name
    yield Item(name, "weights", "W", layer.weights, w["W"])
    yield Item(name, "gradients", "G", layer.weights, w["G"])
    yield Item(name, "traces", "P", layer.inputs, w["P"])
    yield Item(name, "traces", "Q", layer.inputs, w["Q"])
    yield Item(state, "traces", "R", neurons, w["R"])
    yield Item(state, "membranes", "U", neurons, w["U"])
    yield Item(name, "readouts", "S", 2 * classes * outputs, w["S"])
    yield Item(name, "readouts", "A", classes, w["A"])
    yield Item(name, "errors", "E", classes + neurons, w["E"])


def _as_published(layer: Sizes, w: Widths) -> Iterator[Item]:
    outputs = layer.outputs if layer.published_outputs is None else layer.published_outputs
    return _schaefer_joshi(layer, w, outputs, outputs)


def _corrected(layer: Sizes, w: Widths) -> Iterator[Item]:
    return _schaefer_joshi(layer, w, layer.outputs, layer.outputs)


def _prepool(layer: Sizes, w: Widths) -> Iterator[Item]:
    return _schaefer_joshi(layer, w, layer.outputs, layer.neurons)


def _binary_weight(layer: Sizes, w: Widths) -> Iterator[Item]:
    """Quantised weights at their width, every other parameter as a 32-bit float; no states."""
    yield Item(layer.name, "weights", "W", layer.weights, w["W"])
    yield Item(layer.name, "biases", "b", layer.biases, FLOAT_BITS)


def _declared(layer: Sizes, w: Widths) -> Iterator[Item]:
    """Everything that has to be kept from one step to the next, at its declared width; arrays as large as they are."""
    name, state = layer.name, layer.state_name or layer.name
    yield from _prepool(layer, w)
    yield Item(name, "biases", "b", layer.biases, w["W"])
    yield Item(name, "gradients", "Gb", layer.biases, w["G"])
    yield Item(state, "activations", "Sig", layer.outputs, w["Sig"])
    if w["U"]:  # a spike is one bit in floating point, too
        yield Item(state, "spikes", "spikes", layer.outputs, 1, 1)
        yield Item(name, "event buffers", "input events", layer.events, 1, 1)


CONVENTIONS: Mapping[str, Callable[[Sizes, Widths], Iterator[Item]]] = MappingProxyType(
    {
        "declared": _declared,
        "schaefer-joshi": _as_published,
        "schaefer-joshi-corrected": _corrected,
        "schaefer-joshi-prepool": _prepool,
        "binary-weight": _binary_weight,
    }
)


def check_convention(name: str) -> str:
    """`name` if there is such a convention."""
    return choice(name, "convention", CONVENTIONS)


def resolve_widths(given: Mapping[str, int] | None, defaults: Mapping[str, int]) -> dict[str, int]:
    """Widths of all symbols: those `given`, else the `defaults`, else 0 (no such array).

    Raises
    ------
    FormatError
        An unknown symbol, or a width that is not 0 to 32 bits.
    """
    widths = {symbol: defaults.get(symbol, 0) for symbol in BASE_WIDTHS}
    for symbol, bits in mapping({} if given is None else given, "widths").items():
        if symbol not in widths:
            raise FormatError(f"width: found {shown(symbol)}; known are {', '.join(widths)}")
        words = f"0 to {MOST_BITS} bits are possible"
        widths[symbol] = whole(bits, f"width {symbol}", 0, MOST_BITS, allowed=words)
    return widths


def count(layers: Sequence[Sizes], widths: Mapping[str, int], convention: str) -> list[Item]:
    """Rows of a convention for all `layers`; `widths` as from `resolve_widths`, before them those of a layer."""
    rule = CONVENTIONS[check_convention(convention)]
    items = []
    for layer in layers:
        items += [item for item in rule(layer, {**widths, **layer.widths}) if item.count and item.width]
    return items


# ---------------------------------------------------------------------------------------------------------------------
# binary weights
# ---------------------------------------------------------------------------------------------------------------------


def saving_ratio(share: float, bits: int = 1) -> float:
    """FP32 size over quantised size where a `share` (0 to 1) of the parameters stays in FP32, the rest has `bits`."""
    if not 0 <= share <= 1:
        raise FormatError(f"share: found {share!r}; 0 to 1 is possible")
    return FLOAT_BITS / (FLOAT_BITS * share + bits * (1 - share))


def float_share(ratio: float, bits: int = 1) -> float:
    """Which share of the parameters in FP32 gives this `ratio`: the inverse of `saving_ratio`."""
    if not 1 <= ratio <= FLOAT_BITS / bits:
        raise FormatError(f"ratio: found {ratio!r}; 1 to {FLOAT_BITS / bits:g} is possible with {bits} bits")
    return (FLOAT_BITS / ratio - bits) / (FLOAT_BITS - bits)
