"""How much memory does a network take: by formula, and measured?

`memory` puts two columns beside each other, item by item (layer, kind, name): the *formula* of a convention in bits
(`intsnn.analysis.memory.formulas`) and what is *measured* in bytes (`intsnn.analysis.memory.measured`). `formula`
does the first alone, for an architecture without weights; `allocated` measures it with random numbers. `cell` gives
one dict of a network's totals, for tables and sweeps::

    cell(network, result) == {
        "formula_bits": int, "measured_bytes": int, "weight_formula_bits": int, "weight_measured_bytes": int,
        "layers": {name: {"memory": {kind: {"formula_bits": int, "measured_bytes": int}},
                          # of neurons and readouts only; observed values are None without a `result`
                          "v_bits": int, "bound_bits": int, "peak_bits": int | None,
                          "sum_bound_bits": int, "sum_peak_bits": int | None,
                          "v_min": int | None, "v_max": int | None}},
    }

`v_bits` is the declared width of the membrane, `bound_bits` the proven one (what it can need), `peak_bits` the one that
was needed in the run of `result` (what `simulate` answered); `sum_...` the same of the synaptic sum of one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...engine.result import Result
from ...errors import FormatError
from ...formats.arguments import choice, flag, instance, mapping, seed_of
from ...formats.fixed import Fixed
from ...layers.base import Layer
from ...network.spiking import Network, spiking_network
from .formulas import Architecture, Item, Sizes, check_convention, count, resolve_widths
from .measured import FileBytes, allocate, file_bytes, network_items, run_bytes, with_run

__all__ = ["Accumulator", "Report", "accumulators", "allocated", "cell", "formula", "memory"]

# what a symbol of a published formula is called in a network
FIELDS = {"W": ("weights", "weight"), "b": ("biases", "bias"), "U": ("membranes", "v"), "R": ("traces", "refractory")}


@dataclass(frozen=True)
class Accumulator:
    """Signed widths of the accumulators of one neuron layer or readout, in bits.

    Attributes
    ----------
    layer : str
    v_bits : int
        Declared for the membrane; of a readout the proven width.
    bound_bits : int
        The membrane, or the running sum of a readout, never needs more; where nothing is proven (a leak, reset to zero)
        `v_bits`, which the format enforces.
    proven : bool
        Whether `bound_bits` is proven.
    sum_bound_bits : int
        No synaptic sum of one step needs more.
    peak_bits, sum_peak_bits, v_min, v_max : int or None
        Observed in a run.
    """

    layer: str
    v_bits: int
    bound_bits: int
    proven: bool
    sum_bound_bits: int
    peak_bits: int | None = None
    sum_peak_bits: int | None = None
    v_min: int | None = None
    v_max: int | None = None


@dataclass(frozen=True)
class Report:
    """Outcome of `memory` and `formula`.

    Attributes
    ----------
    title, convention : str
    items : tuple of Item
        Items of width 0 exist but are not counted by the convention.
    widths : dict of str to int
        Of the symbols of a published formula.
    accumulators : tuple of Accumulator
    prepared_bytes : int or None
        Weights and constants as a run keeps them, beside its buffers.
    file : FileBytes or None
        Where the bytes of the saved network are.
    """

    title: str
    convention: str
    items: tuple[Item, ...]
    widths: Mapping[str, int] = field(default_factory=dict)
    accumulators: tuple[Accumulator, ...] = ()
    prepared_bytes: int | None = None
    file: FileBytes | None = None

    @property
    def bits(self) -> int:
        """Bits by formula."""
        return sum(item.formula_bits for item in self.items)

    @property
    def bits_fp32(self) -> int:
        """The same arrays in floating point."""
        return sum(item.fp32_bits for item in self.items)

    @property
    def saving(self) -> float:
        """Per cent of the floating-point bits that are saved."""
        return 100 * (1 - self.bits / self.bits_fp32) if self.bits_fp32 else 0.0

    @property
    def ratio(self) -> float:
        """Floating-point bits over bits."""
        return self.bits_fp32 / self.bits if self.bits else 0.0

    @property
    def measured_bytes(self) -> int | None:
        """Bytes of all measured arrays; None where nothing was measured."""
        return _measured(self.items)

    @property
    def counted_bytes(self) -> int | None:
        """Measured bytes of the arrays that the convention counts; the rest of `measured_bytes` are its extras."""
        return _measured(item for item in self.items if item.width)

    @property
    def loaded_bytes(self) -> int | None:
        """Bytes of the parameters in the loaded network (64 bits a number)."""
        found = [item.loaded_bytes for item in self.items if item.loaded_bytes is not None]
        return sum(found) if found else None

    def totals(self, by: str) -> dict[str, dict[str, int | None]]:
        """``bits, bits_fp32, measured_bytes`` by ``"layer"``, ``"kind"`` or ``"name"`` of the items."""
        choice(by, "by", ("layer", "kind", "name"))
        groups: dict[str, list[Item]] = {}
        for item in self.items:
            groups.setdefault(getattr(item, by), []).append(item)
        return {
            key: {
                "bits": sum(item.formula_bits for item in items),
                "bits_fp32": sum(item.fp32_bits for item in items),
                "measured_bytes": _measured(items),
            }
            for key, items in groups.items()
        }

    def by_layer(self) -> dict[str, dict[str, dict[str, int]]]:
        """``formula_bits`` and ``measured_bytes`` by layer and kind."""
        found: dict[str, dict[str, dict[str, int]]] = {}
        for item in self.items:
            entry = found.setdefault(item.layer, {}).setdefault(item.kind, {"formula_bits": 0, "measured_bytes": 0})
            entry["formula_bits"] += item.formula_bits
            entry["measured_bytes"] += item.measured_bytes or 0
        return found

    def as_json(self) -> dict[str, Any]:
        """Plain values: the totals, ``items`` and what else was found."""
        values: dict[str, Any] = {
            "title": self.title,
            "convention": self.convention,
            "widths": dict(self.widths),
            "bits": self.bits,
            "bits_fp32": self.bits_fp32,
            "saving": self.saving,
            "ratio": self.ratio,
            "measured_bytes": self.measured_bytes,
            "counted_bytes": self.counted_bytes,
            "loaded_bytes": self.loaded_bytes,
            "layers": self.totals("layer"),
            "kinds": self.totals("kind"),
            "items": [
                {
                    "layer": item.layer, "kind": item.kind, "name": item.name, "count": item.count,
                    "width": item.width, "formula_bits": item.formula_bits, "fp32_bits": item.fp32_bits,
                    "measured_bytes": item.measured_bytes, "loaded_bytes": item.loaded_bytes,
                    "measured_count": item.measured_count,
                }
                for item in self.items
            ],
        }  # fmt: skip
        if self.accumulators:
            values["accumulators"] = [vars(entry).copy() for entry in self.accumulators]
        if self.prepared_bytes is not None:
            values["prepared_bytes"] = self.prepared_bytes
        if self.file is not None:
            values["file"] = vars(self.file).copy()
        return values


def _measured(items: Iterable[Item]) -> int | None:
    found = [item.measured_bytes for item in items if item.measured_bytes is not None]
    return sum(found) if found else None


# ---------------------------------------------------------------------------------------------------------------------
# architectures
# ---------------------------------------------------------------------------------------------------------------------


def formula(
    architecture: Architecture, widths: Mapping[str, int] | None = None, convention: str | None = None
) -> Report:
    """What a convention counts for an architecture without weights.

    Parameters
    ----------
    architecture : Architecture
        Such as `intsnn.models.published.architecture` gives by name.
    widths : mapping of symbol to int
        Other widths than those of the architecture, in bits; 0 leaves the array out.
    convention : str, optional
        One of `intsnn.analysis.memory.CONVENTIONS`; by default the one that belongs to the architecture.

    Raises
    ------
    FormatError
        For an unknown convention or symbol, or a width that is not 0 to 32.
    """
    instance(architecture, "architecture", Architecture)
    convention = check_convention(architecture.convention if convention is None else convention)
    found = resolve_widths(widths, architecture.widths)
    return Report(architecture.name, convention, tuple(count(architecture.layers, found, convention)), found)


def allocated(
    architecture: Architecture,
    widths: Mapping[str, int] | None = None,
    convention: str | None = None,
    seed: int = 0,
) -> Report:
    """As `formula`, with the arrays of the architecture made of random numbers and measured.

    Every array that the architecture has is made as large as it is, whatever the convention prints or leaves out;
    arrays that it leaves out have width 0.
    """
    seed = seed_of(seed)
    report = formula(architecture, widths, convention)
    real = count(architecture.layers, resolve_widths(widths, architecture.widths), "declared")
    arrays = allocate(real, seed)
    sizes = {key: array.nbytes for key, array in arrays.items()}
    return Report(report.title, report.convention, tuple(with_run(report.items, sizes, real)), report.widths)


# ---------------------------------------------------------------------------------------------------------------------
# networks
# ---------------------------------------------------------------------------------------------------------------------


def sizes_of(network: Network) -> list[Sizes]:
    """Sizes of the connections of `network`, each with the neurons that it feeds; widths as declared."""
    found = []
    for name in network.order:
        layer = network.nodes[name]
        if not layer.weighted:
            continue
        source = network.inputs_of(name)[0]
        neuron = _reader(network, name, _fires)
        behind = _reader(network, neuron, _pools) if neuron else None
        widths = {"W": layer.weight_format.bits}
        if neuron:
            target = network.nodes[neuron]
            widths["U"] = target.v_format.bits
            if target.refractory.kind == "trace":
                widths["R"] = target.refractory.format.bits
        found.append(
            Sizes(
                name=name,
                weights=layer.weight.size,
                biases=layer.bias.size if layer.bias is not None else 0,
                inputs=_values(network, source),
                neurons=_values(network, neuron) if neuron else 0,
                outputs=_values(network, behind or neuron) if neuron else _values(network, name),
                widths=widths,
                state_name=neuron or name,
            )
        )
    return found


def _values(network: Network, name: str) -> int:
    size = 1
    for n in network.shapes[name]:
        size *= n
    return size


def _fires(layer: Layer) -> bool:
    return layer.fires


def _pools(layer: Layer) -> bool:
    return layer.passive and not layer.moves_only


def _reader(network: Network, name: str, wanted: Callable[[Layer], bool]) -> str | None:
    """The only reader of `name`, through joins, if it is `wanted`; of a join, the first branch has it."""
    readers = [b for a, b in network.edges if a == name]
    if len(readers) != 1:
        return None
    (reader,) = readers
    layer = network.nodes[reader]
    if wanted(layer):
        return reader
    if layer.arity[1] != 1 and network.inputs_of(reader)[0] == name:
        return _reader(network, reader, wanted)
    return None


def memory(
    network: Network,
    convention: str = "declared",
    *,
    widths: Mapping[str, int] | None = None,
    result=None,
    run: bool = True,
    file: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> Report:
    """Count and measure the memory of `network`.

    Parameters
    ----------
    network : Network
    convention : str
        One of `intsnn.analysis.memory.CONVENTIONS`. ``"declared"`` counts every parameter and every state of one sample
        at its declared width; a published one counts what it always counts, at the widths of the network.
    widths : mapping of symbol to int, optional
        For published conventions: widths of what the network does not have (gradients, readouts, ...).
    result : intsnn.engine.Result, optional
        A run (`layers`, `outputs` and, if its length matters, `steps` of it), for the observed widths.
    run : bool
        Measure the buffers of a run of one sample. Without it states are counted, not measured.
    file : bool
        Save to a temporary file and say where its bytes are.
    provenance : mapping, optional
        As `intsnn.files.save` takes it: part of the file.

    Raises
    ------
    FormatError
        An unknown convention, or widths that cannot be.
    """
    spiking_network(network)
    check_convention(convention)
    instance(result, "result", Result, none=True)
    run, file = flag(run, "run"), flag(file, "file")
    if widths is not None:
        mapping(widths, "widths")
    if provenance is not None:
        mapping(provenance, "provenance")
    if convention == "declared" and widths:
        raise FormatError("widths: a network declares its own; give them with a published convention")
    for symbol in ("W", "U"):
        if symbol in (widths or {}):
            raise FormatError(f"width {symbol}: the network declares its own; give widths of what it does not have")
    items = network_items(network)
    prepared = None
    if run:
        buffers, prepared = run_bytes(network, getattr(result, "steps", None))
        items = with_run(items, buffers)
    used: dict[str, int] = {}
    if convention != "declared":
        used = resolve_widths(widths, {})
        sizes = {(i.layer, i.kind, i.name): i for i in items}
        items = _published(count(sizes_of(network), used, convention), sizes)
    return Report(
        title="network",
        convention=convention,
        items=tuple(sorted(items, key=lambda item: network.order.index(item.layer))),
        widths=used,
        accumulators=tuple(accumulators(network, result).values()),
        prepared_bytes=prepared,
        file=file_bytes(network, provenance) if file else None,
    )


def _published(counted: list[Item], existing: dict[tuple[str, str, str], Item]) -> list[Item]:
    """What a convention counts with the bytes of what exists; the rest of it, uncounted, behind."""
    left = dict(existing)
    found = []
    for item in counted:
        kind, name = FIELDS.get(item.name, (item.kind, item.name))
        real = left.pop((item.layer, kind, name), None)
        sizes = {"measured_bytes": real.measured_bytes, "loaded_bytes": real.loaded_bytes} if real else {}
        found.append(Item(item.layer, item.kind, item.name, item.count, item.width, item.float_width, **sizes))
    for item in left.values():
        found.append(Item(item.layer, item.kind, item.name, item.count, 0, 0, item.measured_bytes, item.loaded_bytes))
    return found


def _signed(low: int, high: int) -> int:
    """Bits of a signed accumulator for low..high."""
    return Fixed.for_range(min(low, 0), max(high, 0), signed=True).bits


def accumulators(network: Network, result=None) -> dict[str, Accumulator]:
    """Widths of the accumulators of every neuron layer and readout: declared, proven and, with a `result`, observed."""
    bounds = spiking_network(network).bounds()
    instance(result, "result", Result, none=True)
    found = {}
    for name in network.order:
        layer, bound = network.nodes[name], bounds[name]
        if layer.fires:
            step = bounds[network.inputs_of(name)[0]]
            v_bits = layer.v_format.bits + (not layer.v_format.signed)
            proven = bound.membrane_format  # None where nothing is
            entry: dict[str, Any] = {
                "v_bits": v_bits,
                "bound_bits": v_bits if proven is None else proven.bits + (not proven.signed),
                "proven": proven is not None,
                "sum_bound_bits": _signed(int(step.low.min()), int(step.high.max())),
            }
            if result is not None:
                report = result.layers[name]
                entry |= {
                    "peak_bits": _signed(report.v_low, report.v_high),
                    "sum_peak_bits": _signed(report.sum_low, report.sum_high),
                    "v_min": report.v_low,
                    "v_max": report.v_high,
                }
        elif layer.answers and not layer.spikes:
            total = _signed(int(bound.total_low.min()), int(bound.total_high.max()))
            entry = {
                "v_bits": total, "bound_bits": total, "proven": True,
                "sum_bound_bits": _signed(int(bound.low.min()), int(bound.high.max())),
            }  # fmt: skip
            if result is not None and result.outputs.size and layer.keeps_total:
                low, high = int(result.outputs.min()), int(result.outputs.max())
                entry |= {"peak_bits": _signed(low, high), "v_min": low, "v_max": high}
        else:
            continue
        found[name] = Accumulator(name, **entry)
    return found


def cell(network: Network, result=None, convention: str = "declared") -> dict[str, Any]:
    """Totals and layers as the docstring of this module shows them."""
    report = memory(network, convention, result=result, file=False)
    weights = [item for item in report.items if item.kind == "weights"]
    layers: dict[str, dict[str, Any]] = {name: {"memory": kinds} for name, kinds in report.by_layer().items()}
    for entry in report.accumulators:
        values = vars(entry).copy()
        layers.setdefault(values.pop("layer"), {"memory": {}}).update(values)
    return {
        "formula_bits": report.bits,
        "measured_bytes": report.measured_bytes,
        "weight_formula_bits": sum(item.formula_bits for item in weights),
        "weight_measured_bytes": sum(item.measured_bytes or 0 for item in weights),
        "layers": layers,
    }
