"""The plots of a report: every one shows the numbers of the rows, and what there is no number for."""

import math

import pytest
import sweep_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from intsnn.bench.report import axes as report_axes
from intsnn.bench.report import style as report_style
from intsnn.bench.report.data import front, read_sweep, selected
from intsnn.bench.report.figures import sweep_plots
from intsnn.bench.report.layer_figures import layer_plots

pytest.importorskip("matplotlib", reason="matplotlib is not installed: nothing can be drawn")


def drawn(plot):
    """The axes of a plot."""
    from matplotlib.figure import Figure

    with report_style.styled():
        figure = Figure(figsize=plot.size)
        plot.draw(figure)
    return figure.axes[0]


def planned(rows, section):
    """All plots of `rows` whose files begin with `section`."""
    points = read_sweep(rows).points
    found = [*sweep_plots(points), *layer_plots(points)]
    return [plot for plot in found if plot.name.startswith(f"{section}-")]


def words(axes):
    return [text.get_text() for text in axes.texts]


# -- what is drawn ----------------------------------------------------------------------------------------------------


def test_pareto_plot_has_every_point_and_the_front():
    rows = sweep_rows.small()
    for memory, plot in zip(("measured", "formula"), planned(rows, "pareto"), strict=True):
        axes, points = drawn(plot), read_sweep(rows).points
        dots = {xy for found in axes.collections if len(found.get_sizes()) for xy in map(tuple, found.get_offsets())}
        assert dots == {(point.memory(memory), point.accuracy) for point in points}
        staircase = next(line for line in axes.get_lines() if line.get_label() == "front")
        places = [(point.memory(memory), point.accuracy) for point in front(points, memory)]
        assert list(map(tuple, staircase.get_xydata()))[: len(places)] == places
        low, high = axes.get_xlim()
        assert all(low < x < high for x, _ in dots)
        assert selected(points).setting.bits in words(axes) or memory == "formula"


def test_heat_map_has_every_cell_failed_and_missing_ones_too():
    rows = sweep_rows.small(methods=("qffs",), weights=(1, 2, 4), activations=(2, 4, 8))
    rows[4] = sweep_rows.fail(rows[4])
    rows[0]["accuracy"] = None
    del rows[8]
    (plot,) = planned(rows, "widths")
    axes = drawn(plot)
    found = {(round(text.get_position()[0]), round(text.get_position()[1])): text.get_text() for text in axes.texts}
    expected = {divmod(n, 3)[::-1]: f"{row['accuracy']:.2f}" for n, row in enumerate(rows) if row["accuracy"]}
    assert found == expected | {(1, 1): "×", (0, 0): "?", (2, 2): "–"}
    for said in ("× failed", "? no labels", "– not run"):
        assert said in axes.get_xlabel()


def test_no_line_leads_across_a_cell_without_a_result():
    rows = sweep_rows.small(methods=("qffs",), activations=(2, 3, 4, 5))
    rows[2] = sweep_rows.fail(rows[2])  # w2 a4
    del rows[5]  # w4 a3
    (plot,) = planned(rows, "steps")
    axes = drawn(plot)
    lines = {line.get_label(): line for line in axes.get_lines()}
    for name, at in (("w2", 2), ("w4", 1)):
        x, y = lines[name].get_xdata(), lines[name].get_ydata()
        assert list(x) == [3, 7, 15, 31]
        assert [math.isnan(value) for value in y] == [n == at for n in range(4)]
    crosses = [line for line in axes.get_lines() if line.get_marker() == "x" and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in crosses] == [[15]]
    assert "failed" in lines


def test_curves_are_the_accuracies_after_each_step():
    rows = sweep_rows.small(methods=("fast-snn",))
    (plot,) = planned(rows, "curve")
    curves = [list(line.get_ydata()) for line in drawn(plot).get_lines() if len(line.get_xdata()) > 1]
    width = selected(read_sweep(rows).points).setting.weight_bits
    assert curves == [row["accuracy_by_step"] for row in rows if row["weight_bits"] == width]


def test_memory_bars_add_up():
    row = sweep_rows.make_row()
    more = {f"kind {n}": {"formula_bits": 8 * n, "measured_bytes": 2 * n} for n in range(9)}
    row["layers"][0]["memory"] |= more
    (plot,) = planned([row], "memory")
    axes = drawn(plot)
    sums = {}
    for bar in axes.patches:
        sums[round(bar.get_y() + bar.get_height() / 2, 2)] = bar.get_x() + bar.get_width()
    for y, layer in enumerate(row["layers"]):
        memory = layer["memory"].values()
        assert sums[round(y - 0.14, 2)] == pytest.approx(sum(item["measured_bytes"] for item in memory), abs=1e-9)
        assert sums[round(y + 0.24, 2)] == pytest.approx(sum(item["formula_bits"] for item in memory) / 8, abs=1e-9)
    assert len({bar.get_facecolor()[:3] for bar in axes.patches}) == 6  # as many as can be told apart


def test_rates_ranges_and_sums_are_those_of_the_layers():
    rows = sweep_rows.small(methods=("fast-snn",))
    chosen = selected(read_sweep(rows).points).rows[0]
    neurons = [layer for layer in chosen["layers"] if layer["kind"] == "Neuron"]
    lines = [list(line.get_xdata()) for line in drawn(planned(rows, "rates")[0]).get_lines()]
    assert [100 * layer["spike_rate"] for layer in neurons] in lines
    texts = words(drawn(planned(rows, "ranges")[0]))
    for layer in neurons:
        assert f"{layer['v_max']:,}" in texts and f"{layer['v_min']:,}".replace("-", "−") in texts
    bits = [tuple(line.get_xdata()) for line in drawn(planned(rows, "sums")[0]).get_lines()]
    assert tuple(layer["bound_bits"] for layer in chosen["layers"]) in bits
    assert tuple(layer["peak_bits"] for layer in chosen["layers"]) in bits


@settings(max_examples=25)
@given(st.floats(0, 100), st.floats(0, 100), st.sampled_from([None, 10, 360, 10_000]))
def test_accuracy_axis_keeps_order_and_shows_ticks(a, b, samples):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    report_axes.accuracy_axis(axes, "y", [a, b], samples)
    low, high = axes.get_ylim()
    assert low < high and low <= min(a, b)
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert len(ticks) >= 2
    up = axes.transData.transform([(0, low), *((0, value) for value in sorted((a, b))), (0, high)])[:, 1]
    assert list(up) == sorted(up)


def test_numbers_as_text():
    assert [report_axes.bytes_text(n) for n in (0, 999, 1000, 15_848, 99_960, 1e6, 2.5e9)] == [
        "0 B", "999 B", "1 kB", "15.8 kB", "100 kB", "1 MB", "2.5 GB",
    ]  # fmt: skip
    assert report_axes.integer(-1234) == "−1,234"
    assert [report_axes.short(n) for n in (0, 12.34567, 1500, 2_000_000)] == ["0", "12.35", "1.5 k", "2 M"]
