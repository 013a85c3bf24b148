"""What does a report draw of single layers? Memory by kind, spike rates, ranges of membranes, widths of sums."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from . import axes as scale
from .data import Point, Row, families, label, number, plain, selected, shortened, subjects
from .figures import LONGEST, WIDTH, bit_line, file_name, legend
from .style import SERIES, Plot, colour

__all__ = ["kinds_of", "layer_plots", "layers_of"]

WIDE = 4.1  # inches of plots that stand two in a row
NAME = 20  # characters of a layer's name in a plot
OTHER = "all else"
WORDS = (8, 16, 32)  # widths that memories have


def layer_plots(points: Sequence[Point]) -> list[Plot]:
    """Plots of the selected cell of each subject; spike rates for each family and every activation width."""
    memory: list[Plot] = []
    rates: list[Plot] = []
    registers: list[Plot] = []
    for group in subjects(points):
        chosen = selected(group)
        if chosen is None:
            continue
        row, subject = chosen.rows[0], label(chosen, points)
        method = shortened(chosen.setting.method, LONGEST)
        title = f"{label(chosen, points, longest=LONGEST)} · {method} {chosen.setting.bits}"

        def plot(section, name, layers, draw, about, inches, count, title=title, subject=subject):
            size = (WIDE, 1.15 + inches * len(layers))
            text = f"{about}: {title}."
            return Plot(file_name(name, count, title), section, title, text, partial(draw, layers), subject, size)

        with_memory, with_range, with_sums = memory_layers(row), range_layers(row), sum_layers(row)
        if with_memory:
            about = "Memory of each layer by kind, measured and by formula"
            memory.append(plot("memory", "memory", with_memory, _memory, about, 0.42, len(memory)))
        if with_range:
            about = "Least and largest membrane of each layer in its register"
            registers.append(plot("registers", "ranges", with_range, _ranges, about, 0.42, len(registers)))
        if with_sums:
            about = "Observed and proven bits of the sums and membranes of each layer"
            registers.append(plot("registers", "sums", with_sums, _sums, about, 0.34, len(registers)))
    for family in families(points):
        lines = _rate_lines(family)
        if lines:
            title = f"{label(family[0], points, True, LONGEST)} · w{lines[0][0].setting.weight_bits}"
            about = f"Spikes per neuron and step in each layer of {title}, one line for each width of the activations."
            size = (WIDTH, 1.25 + 0.3 * max(len(layers) for _, layers in lines))
            name, subject = file_name("rates", len(rates), title), label(family[0], points)
            rates.append(Plot(name, "rates", title, about, partial(_rates, lines), subject, size))
    return [*memory, *rates, *registers]


def layers_of(row: Row) -> list[Row]:
    """The layers of a row that are what they should be."""
    layers = row.get("layers")
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def kinds_of(layer: Row) -> dict[str, tuple[float | None, float | None]]:
    """Kind of memory to bytes by formula and bytes measured."""
    memory = layer.get("memory")
    found = {}
    for kind, item in memory.items() if isinstance(memory, dict) else ():
        if isinstance(item, dict):
            bits = number(item, "formula_bits")
            found[plain(kind)] = (None if bits is None else bits / 8, number(item, "measured_bytes"))
    return found


def _largest(layers: Sequence[dict[str, tuple[float | None, float | None]]]) -> list[str]:
    """The kinds that get a colour, those with most bytes first; `OTHER` stands for the rest if there is one."""
    totals: dict[str, float] = {}
    for layer in layers:
        for kind, (formula, measured) in layer.items():
            totals[kind] = totals.get(kind, 0) + (formula or 0) + (measured or 0)
    kinds = sorted(totals, key=lambda kind: -totals[kind])
    return kinds if len(kinds) <= len(SERIES) else [*kinds[: len(SERIES) - 1], OTHER]


def _gathered(layer: dict[str, tuple[float | None, float | None]], kinds: Sequence[str]) -> dict:
    """A layer's memory by the kinds that have a colour, in their order."""
    found: dict[str, list[float | None]] = {}
    for kind, pair in layer.items():
        sums = found.setdefault(kind if kind in kinds else OTHER, [None, None])
        for side in (0, 1):
            if (value := pair[side]) is not None:
                sums[side] = (sums[side] or 0) + value
    return {kind: tuple(found[kind]) for kind in kinds if kind in found}


def memory_layers(row: Row) -> list[Row]:
    return [layer for layer in layers_of(row) if any(value for pair in kinds_of(layer).values() for value in pair)]


def range_layers(row: Row) -> list[Row]:
    return [
        layer for layer in layers_of(row) if number(layer, "v_min") is not None and number(layer, "v_max") is not None
    ]


def sum_layers(row: Row) -> list[Row]:
    names = ("bound_bits", "peak_bits", "sum_bound_bits", "sum_peak_bits")
    return [layer for layer in layers_of(row) if any(number(layer, name) is not None for name in names)]


def _layer_axis(axes: Any, layers: Sequence[Row], below: Sequence[str] | None = None) -> None:
    """Layers from top to bottom, in the order of computation; `below`: what stands below each name."""
    names = [shortened(plain(layer.get("name", "?")), NAME) for layer in layers]
    if below is not None:
        names = [f"{name}\n{more}" for name, more in zip(names, below, strict=True)]
    axes.set_yticks(range(len(layers)), labels=names, linespacing=1.1)
    axes.set_ylim(len(layers) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)


# ---------------------------------------------------------------------------------------------------------------------
# memory
# ---------------------------------------------------------------------------------------------------------------------


def _memory(layers: Sequence[Row], figure: Any) -> None:
    """Two bars a layer, stacked by kind: measured above, thick; by formula below, thin."""
    axes = figure.add_subplot()
    found = [kinds_of(layer) for layer in layers]
    kinds = _largest(found)
    found = [_gathered(layer, kinds) for layer in found]
    totals = []
    for y, layer in enumerate(found):
        formula, measured = 0.0, 0.0
        for kind, (by_formula, in_memory) in layer.items():
            shade = colour(SERIES[kinds.index(kind) % len(SERIES)])
            axes.barh(y - 0.14, in_memory or 0, left=measured, height=0.4, color=shade, lw=0)
            axes.barh(y + 0.24, by_formula or 0, left=formula, height=0.2, color=shade, lw=0, alpha=0.5)
            formula, measured = formula + (by_formula or 0), measured + (in_memory or 0)
        totals.append((formula, measured))
    longest = max(max(pair) for pair in totals) or 1
    for y, (formula, measured) in enumerate(totals):
        said = scale.bytes_text(measured) if any(pair[1] is not None for pair in found[y].values()) else "not measured"
        axes.text(measured + 0.012 * longest, y - 0.14, said, va="center", fontsize=7.5)
        axes.text(
            formula + 0.012 * longest, y + 0.26, scale.bytes_text(formula), va="center", fontsize=6.5,
            color=colour("muted"),
        )  # fmt: skip
    _layer_axis(axes, layers)
    axes.set_xlim(0, longest * 1.2)
    axes.xaxis.set_major_formatter(lambda value, _: scale.bytes_text(value) if value else "0")
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("thick: measured; thin: by formula", loc="right")
    for kind in kinds:
        axes.barh(0, 0, color=colour(SERIES[kinds.index(kind) % len(SERIES)]), label=shortened(kind, LONGEST))
    legend(axes, handlelength=0.9, handleheight=0.9)


# ---------------------------------------------------------------------------------------------------------------------
# spikes
# ---------------------------------------------------------------------------------------------------------------------


def _rate_lines(family: Sequence[Point]) -> list[tuple[Point, list[Row]]]:
    """For every activation width beside the selected cell: its layers that have a spike rate."""
    chosen = selected(family)
    found = []
    for point in family:
        if chosen is not None and point.setting.weight_bits == chosen.setting.weight_bits and point.rows:
            layers = [layer for layer in layers_of(point.rows[0]) if number(layer, "spike_rate") is not None]
            if layers:
                found.append((point, layers))
    return found


def _rates(lines: Sequence[tuple[Point, list[Row]]], figure: Any) -> None:
    axes = figure.add_subplot()
    longest = max((layers for _, layers in lines), key=len)
    places = {str(layer.get("name")): y for y, layer in enumerate(longest)}
    several = len({point.setting.activation_bits for point, _ in lines}) < len(lines)
    for point, layers in lines:
        here = [layer for layer in layers if str(layer.get("name")) in places]
        bits = point.setting.activation_bits
        name = f"a{bits}" + (f" T{point.setting.t_drive}" if several else "")
        rates = [100 * (number(layer, "spike_rate") or 0) for layer in here]
        axes.plot(rates, [places[str(layer.get("name"))] for layer in here], lw=0.9, label=name, **bit_line(bits))
    _layer_axis(axes, longest)
    axes.grid(True, axis="y")
    axes.set_xlim(left=0)
    axes.set_xlabel("spikes per neuron and step (%)", loc="right")
    legend(axes)


# ---------------------------------------------------------------------------------------------------------------------
# membranes and sums
# ---------------------------------------------------------------------------------------------------------------------


def _code(value: float) -> str:
    """A code in the room that there is."""
    return scale.integer(value) if abs(value) < 1e7 else scale.short(value).replace("-", "\N{MINUS SIGN}")


def _ranges(layers: Sequence[Row], figure: Any) -> None:
    """What of its register a membrane used; the axis is the register, numbers are codes."""
    axes = figure.add_subplot()
    shade = colour("series-1")
    for y, layer in enumerate(layers):
        low, high = number(layer, "v_min") or 0, number(layer, "v_max") or 0
        bits = number(layer, "v_bits")
        half = 2.0 ** (bits - 1) if bits else max(abs(low), abs(high), 1)
        if bits:
            axes.barh(y, 2, left=-1, height=0.62, color=colour("band"), lw=0)
        axes.barh(y, (high - low) / half, left=low / half, height=0.34, color=shade, lw=0)
        axes.text(-1.03, y, _code(low), ha="right", va="center", fontsize=7)
        axes.text(1.03, y, _code(high), ha="left", va="center", fontsize=7)
    axes.axvline(0, color=colour("muted"), lw=0.7)
    widths = [number(layer, "v_bits") for layer in layers]
    _layer_axis(axes, layers, [f"{bits:.0f} bits" if bits else "width unknown" for bits in widths])
    axes.set_xlim(-1.6, 1.6)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1], labels=["\N{MINUS SIGN}100 %", "\N{MINUS SIGN}50", "0", "50", "100 %"])
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    axes.set_xlabel("share of the register (grey) in use", loc="right")


def _sums(layers: Sequence[Row], figure: Any) -> None:
    """Observed and proven widths, joined; sums and membranes apart where both are known."""
    axes = figure.add_subplot()
    both = any(number(layer, "sum_bound_bits") is not None for layer in layers)
    series = [("sum_", "sums", "series-1", -0.16), ("", "membranes", "series-3", 0.16)]
    largest = 8.0
    for prefix, said, role, shift in series if both else [("", "accumulators", "series-1", 0.0)]:
        shade, line = colour(role), {"linestyle": "none", "color": colour(role)}
        seen = [(number(layer, f"{prefix}peak_bits"), y + shift) for y, layer in enumerate(layers)]
        proven = [(number(layer, f"{prefix}bound_bits"), y + shift) for y, layer in enumerate(layers)]
        for (low, y), (high, _) in zip(seen, proven, strict=True):
            if low is not None and high is not None:
                axes.plot([low, high], [y, y], color=shade, lw=1, alpha=0.6)
        for places, look in ((seen, {"marker": "o", "ms": 4.5}), (proven, {"marker": "|", "ms": 8, "mew": 1.8})):
            known = [(bits, y) for bits, y in places if bits is not None]
            largest = max([largest, *(bits for bits, _ in known)])
            axes.plot([bits for bits, _ in known], [y for _, y in known], **line, **look)
        axes.plot([], [], color=shade, lw=3, label=said)
    axes.plot([], [], color=colour("muted"), linestyle="none", marker="o", ms=4.5, label="observed")
    axes.plot([], [], color=colour("muted"), linestyle="none", marker="|", ms=8, mew=1.8, label="proven")
    _layer_axis(axes, layers)
    axes.set_xlim(0, largest + 1.5)
    ticks = [word for word in WORDS if word <= largest + 1.5]
    axes.set_xticks([0, *ticks], labels=["0", *map(str, ticks)])
    axes.set_xlabel("bits (lines: widths of machine words)", loc="right")
    legend(axes)
