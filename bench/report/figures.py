"""What does a report draw of a whole sweep? Fronts, heat maps, accuracy against T and after t steps."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from . import axes as scale
from .data import Point, Row, Setting, drawable, families, front, label, number, selected, shortened, subjects
from .style import BITS, LETTERS, MARKERS, SERIES, Plot, bit_role, colour

__all__ = ["bit_line", "file_name", "legend", "sweep_plots"]

NAMED = 9  # points of a front that are named in the plot; the table marks all
WIDTH = 3.7  # inches of plots that stand three in a row
LONGEST = 30  # letters of a name in a title or legend
NESTED = (1.5, 0.95, 0.55)  # sizes of points in one place
ACCURACY = "accuracy, settled (%)"
MEMORIES = {"measured": "measured", "formula": "by formula"}


def sweep_plots(points: Sequence[Point]) -> list[Plot]:
    """One plot for each group that has something to draw, in the order of the report."""
    return [*_pareto_plots(points), *_width_plots(points), *_step_plots(points), *_curve_plots(points)]


def file_name(section: str, count: int, title: str) -> str:
    """Name of a plot's files: ``pareto-01-lenet5-mnist-test``, safe wherever files are kept."""
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower().encode("ascii", "ignore").decode()).strip("-")[:48].strip("-")
    return f"{section}-{count + 1:02d}" + (f"-{slug}" if slug else "")


def bit_line(bits: int | None) -> dict[str, Any]:
    """Colour and marker of a bit-width: the same in every plot."""
    return {"color": colour(BITS[bit_role(bits)]), "marker": MARKERS[bit_role(bits)]}


def legend(axes: Any, **options: Any) -> None:
    """A legend above the axes, left-aligned, that hides no data; as many columns as its names leave room for."""
    from matplotlib.transforms import blended_transform_factory

    _, names = axes.get_legend_handles_labels()
    room = axes.figure.get_size_inches()[0] * (LETTERS + 1)
    for columns in range(len(names), 0, -1):
        rows = math.ceil(len(names) / columns)  # filled column by column
        widths = [max(map(len, names[at : at + rows])) for at in range(0, len(names), rows)]
        if sum(widths) + 4 * len(widths) <= room or columns == 1:
            break
    if names:
        place = blended_transform_factory(axes.figure.transFigure, axes.transAxes)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), bbox_transform=place, ncols=columns, **options)


def _family_group(points: Sequence[Point], family: Sequence[Point]) -> list[Point]:
    return next(group for group in subjects(points) if family[0] in group)


def _accuracies(group: Iterable[Point]) -> list[float]:
    return [value for point in group for value in point.values("accuracy")]


# ---------------------------------------------------------------------------------------------------------------------
# the front
# ---------------------------------------------------------------------------------------------------------------------


def _pareto_plots(points: Sequence[Point]) -> list[Plot]:
    found: list[Plot] = []
    for group in subjects(points):
        for memory, said in MEMORIES.items():
            drawn = drawable(group, memory)
            if drawn:
                title = f"{label(group[0], points, longest=LONGEST)} · {said}"
                about = (
                    f"Accuracy against memory of {len(drawn)} settings, {title}; "
                    f"{len(front(drawn, memory))} of them are the Pareto front, which a line joins."
                )
                name, subject = file_name("pareto", len(found), title), label(group[0], points)
                draw = partial(_pareto, group=group, memory=memory)
                found.append(Plot(name, "pareto", title, about, draw, subject))
    return found


def _pareto(figure: Any, group: Sequence[Point], memory: str) -> None:
    axes = figure.add_subplot()
    points, best = drawable(group, memory), front(group, memory)
    bytes_ = [point.memory(memory) or 0 for point in points]
    floats = _floats(group)
    scale.byte_axis(axes, bytes_)
    scale.accuracy_axis(axes, "y", [*_accuracies(points), *floats], group[0].setting.samples)
    methods = list(dict.fromkeys(point.setting.method for point in group))
    keys = methods if len(methods) > 1 else sorted({bit_role(point.setting.weight_bits) for point in points})
    taken: Counter = Counter()
    sharing = Counter((point.memory(memory), point.accuracy) for point in points)
    for key in keys:
        if len(methods) > 1:
            mine = [point for point in points if point.setting.method == key]
            place = methods.index(key)  # type: ignore[arg-type]
            style, name = {"color": colour(SERIES[place % 6]), "marker": MARKERS[place % len(MARKERS)]}, str(key)
        else:
            mine = [point for point in points if bit_role(point.setting.weight_bits) == key]
            style, name = bit_line(mine[0].setting.weight_bits), f"w{mine[0].setting.weight_bits}"
        axes.plot([], [], linestyle="none", label=shortened(name, LONGEST), **style)
        sizes = []
        for at in ((point.memory(memory), point.accuracy) for point in mine):
            # points of several methods in one place: each smaller than the one below it
            sizes.append(NESTED[min(taken[at], 2)] if sharing[at] > 1 else 1.0)
            taken[at] += 1
        _scatter(axes, mine, sizes, best, memory, style)
    staircase = [(point.memory(memory), point.accuracy) for point in best]
    staircase.append((axes.get_xlim()[1], best[-1].accuracy))
    axes.step(*zip(*staircase, strict=True), where="post", color=colour("ink"), lw=0.9, zorder=2, label="front")
    if floats:
        axes.axhline(max(floats), color=colour("muted"), lw=0.9, ls=(0, (4, 3)), zorder=1, label="float")
    axes.set(xlabel=f"memory, {MEMORIES[memory]}", ylabel=ACCURACY)
    legend(axes)
    figure.draw_without_rendering()  # now it is known where points lie
    _name_front(axes, best, memory, selected(group))


def _floats(group: Iterable[Point]) -> list[float]:
    return [value for point in group for value in point.values("float_accuracy")]


def _scatter(
    axes: Any, mine: Sequence[Point], sizes: Sequence[float], best: Sequence[Point], memory: str, style: dict[str, Any]
) -> None:
    """Points of a series: those of the front in full, the others pale; whiskers from least to best seed."""
    for on_front, look in (
        (False, {"alpha": 0.5, "linewidths": 0, "zorder": 3}),
        (True, {"linewidths": 0.7, "edgecolors": colour("paper"), "zorder": 4}),
    ):
        chosen = [(point, size) for point, size in zip(mine, sizes, strict=True) if (point in best) is on_front]
        axes.scatter(
            [point.memory(memory) for point, _ in chosen],
            [point.accuracy for point, _ in chosen],
            s=[((5.8 if on_front else 3.8) * size) ** 2 for _, size in chosen],
            color=style["color"],
            marker=style["marker"],
            **look,
        )
    for point in mine:
        values = point.values("accuracy")
        if len(values) > 1 and max(values) > min(values):
            axes.vlines(point.memory(memory), min(values), max(values), color=style["color"], lw=0.8, zorder=3)


def _name_front(axes: Any, best: Sequence[Point], memory: str, chosen: Point | None) -> None:
    """Names above and left of points of the front, where no other point can be; only those that find room."""
    inch = axes.figure.dpi
    boxes: list[tuple[float, float, float, float]] = []
    ends = [point for point in (chosen, best[-1], best[0]) if point is not None and point in best]
    order = [*dict.fromkeys(ends), *(point for point in best if point not in ends)]
    left, bottom, right, top = axes.bbox.extents
    for point in order:
        text = point.setting.bits
        x, y = axes.transData.transform((point.memory(memory), point.accuracy))
        width, height = 0.066 * inch * len(text), 0.13 * inch
        on_the_left = x - width > left
        x0 = x - width - 0.04 * inch if on_the_left else x + 0.05 * inch
        y0 = y + 0.03 * inch
        box = (x0, y0, x0 + width, y0 + height)
        crowded = any(
            box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes
        )  # fmt: skip
        if crowded or len(boxes) >= NAMED or y0 + height > top + 0.1 * inch:
            continue
        boxes.append(box)
        axes.annotate(
            text, (point.memory(memory), point.accuracy), (-4 if on_the_left else 5, 3), textcoords="offset points",
            ha="right" if on_the_left else "left", va="bottom", fontsize=7.5,
            fontweight="bold" if point is chosen else "normal", zorder=2.5,
            bbox={"facecolor": colour("paper"), "edgecolor": "none", "pad": 0.4},
        )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# widths against each other
# ---------------------------------------------------------------------------------------------------------------------


def _columns(family: Iterable[Point]) -> list[tuple[int | None, int | None]]:
    pairs = {(point.setting.activation_bits, point.setting.t_drive) for point in family}
    return sorted(pairs, key=lambda pair: tuple((value is None, value or 0) for value in pair))


def _lines(family: Iterable[Point]) -> list[int | None]:
    widths = {point.setting.weight_bits for point in family}
    return sorted(widths, key=lambda value: (value is None, value or 0))


def _width_plots(points: Sequence[Point]) -> list[Plot]:
    found: list[Plot] = []
    for family in families(points):
        title = label(family[0], points, True, LONGEST)
        measured = [point for point in family if point.accuracy is not None]
        if not measured and all(point.rows for point in family):
            continue  # no labels
        about = (
            f"Heat map of the accuracy of {title}: widths of weights by widths of activations, {len(measured)} cells."
        )
        size = (max(WIDTH, 0.7 + 0.58 * len(_columns(family))), 1.2 + 0.37 * len(_lines(family)))
        draw = partial(_widths, family=family, group=_family_group(points, family))
        name, subject = file_name("widths", len(found), title), label(family[0], points)
        found.append(Plot(name, "widths", title, about, draw, subject, size))
    return found


def _widths(figure: Any, family: Sequence[Point], group: Sequence[Point]) -> None:
    import matplotlib

    axes = figure.add_subplot()
    columns, lines = _columns(family), _lines(family)
    floor = scale.error_floor(family[0].setting.samples)
    errors = [max(floor, 100 - value) for value in _accuracies(group)] or [1.0]
    low, high = math.log(min(errors)), math.log(max(errors))
    colours = matplotlib.colormaps["cividis"]
    have = {(p.setting.weight_bits, (p.setting.activation_bits, p.setting.t_drive)): p for p in family}
    chosen, marks = selected(group), set()
    for y, weights in enumerate(lines):
        for x, column in enumerate(columns):
            point = have.get((weights, column))
            accuracy = point.accuracy if point else None
            if accuracy is None:
                mark = "– not run" if point is None else "? no labels" if point.rows else "× failed"
                text, face, ink = mark[0], colour("band"), colour("ink")
                marks.add(mark)
            else:
                error = math.log(max(floor, 100 - accuracy))
                share = 1 - (error - low) / (high - low) if high > low else 1.0
                text, ink = f"{accuracy:.2f}", "#ffffff" if share < 0.5 else "#000000"
                face = matplotlib.colors.to_hex(colours(0.08 + 0.92 * share))
                if point and point.failed:
                    text += "*"
                    marks.add("* not every seed has a result")
            axes.add_patch(
                matplotlib.patches.Rectangle(
                    (x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor=colour("paper"), lw=1.2
                )
            )
            bold = "bold" if point is not None and point is chosen else "normal"
            axes.text(x, y, text, color=ink, ha="center", va="center", fontsize=7.5, fontweight=bold)
            if point is not None and point is chosen:
                frame = matplotlib.patches.Rectangle(
                    (x - 0.45, y - 0.42), 0.9, 0.84, fill=False, edgecolor=ink, lw=1.1
                )  # fmt: skip
                axes.add_patch(frame)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(lines) - 0.5), ylabel="weights (bits)")
    axes.set_xticks(range(len(columns)), labels=[f"{_text(bits)}\nT {_text(drive)}" for bits, drive in columns])
    axes.set_yticks(range(len(lines)), labels=[_text(bits) for bits in lines])
    axes.set_xlabel("activations (bits) and driven steps T\n" + ",  ".join(["accuracy in %", *sorted(marks)]))
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _text(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


# ---------------------------------------------------------------------------------------------------------------------
# steps
# ---------------------------------------------------------------------------------------------------------------------


def _step_plots(points: Sequence[Point]) -> list[Plot]:
    found: list[Plot] = []
    for family in families(points):
        if any(point.accuracy is not None and point.setting.t_drive for point in family):
            title = label(family[0], points, True, LONGEST)
            about = (
                f"Accuracy of {title} when settled against the driven steps T, one line for each width of the weights."
            )
            draw = partial(_steps, family=family, group=_family_group(points, family))
            name, subject = file_name("steps", len(found), title), label(family[0], points)
            found.append(Plot(name, "steps", title, about, draw, subject, (WIDTH, 2.9)))
    return found


def _line_key(family: Sequence[Point]) -> Any:
    """What makes a line: the width of the weights, and that of the activations where T varies without it."""
    places = [(p.setting.weight_bits, p.setting.t_drive) for p in family]
    if len(set(places)) == len(places):
        return lambda s: (s.weight_bits, None)
    return lambda s: (s.weight_bits, s.activation_bits)


def _steps(figure: Any, family: Sequence[Point], group: Sequence[Point]) -> None:
    axes = figure.add_subplot()
    key = _line_key(family)
    family = sorted((p for p in family if p.setting.t_drive), key=lambda p: p.setting.t_drive or 0)
    scale.count_axis(axes, [p.setting.t_drive or 0 for p in family])
    floats = _floats(group)
    scale.accuracy_axis(axes, "y", [*_accuracies(group), *floats], family[0].setting.samples)
    lines = sorted({key(p.setting) for p in family}, key=lambda pair: tuple((v is None, v or 0) for v in pair))
    every = list(dict.fromkeys(p.setting.t_drive for p in family))
    for weights, activations in lines:
        mine = [point for point in family if key(point.setting) == (weights, activations)]
        at = {point.setting.t_drive: point.accuracy for point in mine}
        # a gap for each T that other lines have: no line leads across what is not known
        places = [drive for drive in every if activations is None or drive in at]
        style = bit_line(weights)
        name = f"w{_text(weights)}" + ("" if activations is None else f" a{activations}")
        if activations is not None:
            style["ls"] = ("-", "--", ":", "-.")[activations % 4]
        axes.plot(places, [_or_nan(at.get(drive)) for drive in places], label=name, **style)
        failed = [point.setting.t_drive for point in mine if not point.rows]
        crosses = {"color": style["color"], "ms": 6, "mew": 1.6, "transform": axes.get_xaxis_transform()}
        axes.plot(failed, [0.03] * len(failed), "x", **crosses)  # at the foot of the plot
        for point in mine:
            values = point.values("accuracy")
            if len(values) > 1 and max(values) > min(values):
                axes.vlines(point.setting.t_drive, min(values), max(values), color=style["color"], lw=0.8)
    if floats:
        axes.axhline(max(floats), color=colour("muted"), lw=0.9, ls=(0, (4, 3)), zorder=1, label="float")
    if any(not point.rows for point in family):
        axes.plot([], [], "x", color=colour("muted"), ms=6, mew=1.6, label="failed")
    axes.set(xlabel="driven steps T", ylabel=ACCURACY)
    legend(axes)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _curves(family: Sequence[Point]) -> list[tuple[Setting, Row, list[float]]]:
    """Accuracy after each step of the first seed, for every activation width beside the selected cell."""
    chosen = selected(family)
    found = []
    for point in family:
        if chosen is None or point.setting.weight_bits != chosen.setting.weight_bits or not point.rows:
            continue
        values = point.rows[0].get("accuracy_by_step")
        if isinstance(values, list) and values and all(number({"v": v}, "v") is not None for v in values):
            found.append((point.setting, point.rows[0], values))
    return found


def _curve_plots(points: Sequence[Point]) -> list[Plot]:
    found: list[Plot] = []
    for family in families(points):
        curves = _curves(family)
        if curves:
            title = f"{label(family[0], points, True, LONGEST)} · w{_text(curves[0][0].weight_bits)}"
            about = f"Accuracy of {title} after each step, one line for each width of the activations."
            name, subject = file_name("curve", len(found), title), label(family[0], points)
            found.append(Plot(name, "curve", title, about, partial(_curve, curves), subject, (WIDTH, 2.9)))
    return found


def _curve(curves: Sequence[tuple[Setting, Row, list[float]]], figure: Any) -> None:
    axes = figure.add_subplot()
    longest = max(len(values) for _, _, values in curves)
    scale.accuracy_axis(axes, "y", [v for *_, values in curves for v in values], curves[0][0].samples)
    scale.time_axis(axes, longest)
    several = len({s.activation_bits for s, *_ in curves}) < len(curves)
    for setting, _, values in curves:
        name = f"a{_text(setting.activation_bits)}" + (f" T{setting.t_drive}" if several else "")
        style = bit_line(setting.activation_bits)
        axes.plot(range(1, len(values) + 1), values, color=style["color"])
        drive = setting.t_drive
        if drive and drive <= len(values):
            axes.plot([drive], [values[drive - 1]], marker=style["marker"], color=style["color"], ms=5.5, mew=0)
        axes.plot([], [], label=name, **style)
    tried = {number(row, "detail_samples") or setting.samples for setting, row, _ in curves}
    some = tried != {setting.samples for setting, *_ in curves}
    first = f" (first {' or '.join(f'{count:,}' for count in sorted(n for n in tried if n))} samples)" if some else ""
    axes.set(xlabel=f"steps t{first}", ylabel="accuracy after t steps (%)")
    legend(axes)
