"""The report of a sweep: what it draws, that it hides nothing, and what a real browser makes of it."""

import base64
import contextlib
import hashlib
import itertools
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import sweep_rows
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from intsnn.bench.report import style as report_style
from intsnn.bench.report import write as reports
from intsnn.bench.report.data import drawable, front, plain, read_sweep, selected
from intsnn.bench.report.style import ROLES
from intsnn.bench.speed import plots
from intsnn.bench.sweep.results import Results
from intsnn.cli.main import main
from intsnn.errors import FormatError, UnsupportedError

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed: the report cannot be drawn")

VOID = {"meta", "link", "img", "br", "input", "hr"}
SECTIONS = {"pareto", "widths", "steps", "curve", "memory", "rates", "ranges", "sums"}


@pytest.fixture(scope="module")
def troubled():
    return sweep_rows.troubled()


@pytest.fixture(scope="module")
def folder(troubled, tmp_path_factory):
    """The report of `troubled`."""
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    reports.write_report(troubled, folder, command=f"intsnn report {sweep_rows.EVIL}", source=sweep_rows.EVIL)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text("utf-8"))


class Page(HTMLParser):
    """Elements, texts and nesting of a page; raises where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.text, self.open, self.elements, self.texts = text, [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice: {names}"
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        self.texts.append((tuple(self.open), data))

    def of(self, tag):
        return [attrs for name, attrs, _ in self.elements if name == tag]

    def within(self, *tags):
        """Texts somewhere below all of `tags`."""
        return [data.strip() for path, data in self.texts if set(tags) <= set(path) and data.strip()]


# -- rows and points --------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), max_size=14))
def test_front_is_what_nothing_beats(places):
    rows = [sweep_rows.make_row(seed=0) | {"t_drive": n} for n, _ in enumerate(places)]
    rows = [row | {"measured_bytes": m, "accuracy": a / 4} for row, (m, a) in zip(rows, places, strict=True)]
    points = read_sweep(rows).points

    def beaten(p):
        return any(
            q.memory() <= p.memory()
            and q.accuracy >= p.accuracy
            and (q.memory(), q.accuracy) != (p.memory(), p.accuracy)
            for q in points
        )

    found = front(points)
    assert set(found) == {point for point in points if not beaten(point)}
    assert [p.memory() for p in found] == sorted(p.memory() for p in found)
    if points:
        best = max(point.accuracy for point in points)
        near = [point for point in points if point.accuracy >= best - 0.5]
        assert selected(points).accuracy >= best - 0.5
        assert selected(points).memory() == min(point.memory() for point in near)
    else:
        assert selected(points) is None


def test_fronts_of_measured_memory_and_of_the_formula_differ():
    one = sweep_rows.make_row(weight_bits=2) | {"measured_bytes": 10, "formula_bits": 800, "accuracy": 90.0}
    two = sweep_rows.make_row(weight_bits=4) | {"measured_bytes": 20, "formula_bits": 80, "accuracy": 90.0}
    points = read_sweep([one, two]).points
    assert [point.memory() for point in front(points)] == [10]
    assert [point.memory("formula") for point in front(points, "formula")] == [10.0]
    assert front(points)[0] is not front(points, "formula")[0]


def test_seeds_are_one_point_and_failed_ones_are_kept():
    rows = sweep_rows.small(methods=("fast-snn",), weights=(4,), activations=(4,), seeds=(2, 0, 1))
    for row, accuracy in zip(rows, (90.0, 92.0, 97.0), strict=True):
        row["accuracy"] = accuracy
    rows[1] = sweep_rows.fail(rows[1])
    (point,) = read_sweep(rows).points
    assert [row["seed"] for row in point.rows] == [1, 2] and [row["seed"] for row in point.failed] == [0]
    assert point.accuracy == (90.0 + 97.0) / 2


def test_missing_combinations_are_found():
    rows = sweep_rows.small()
    gone = rows.pop(3)  # of a family of 2 x 2
    (missing,) = read_sweep(rows).missing
    assert (missing.method, missing.weight_bits, missing.activation_bits, missing.t_drive) == tuple(
        gone[name] for name in ("method", "weight_bits", "activation_bits", "t_drive")
    )
    assert read_sweep(sweep_rows.small()).missing == ()


def test_values_that_are_no_numbers_are_no_points():
    values = (None, math.nan, math.inf, "12", True, [1], {})
    rows = [sweep_rows.make_row(seed=n) | {"accuracy": value, "t_drive": n} for n, value in enumerate(values)]
    rows += [sweep_rows.make_row(seed=90 + n) | {"measured_bytes": v, "t_drive": 90 + n} for n, v in enumerate(values)]
    points = read_sweep(rows).points
    assert len(points) == 2 * len(values) and drawable(points) == []
    assert len(drawable(points, "formula")) == len(values)


def test_text_is_one_printable_line():
    text = plain(sweep_rows.EVIL)
    assert text.isprintable() and "\\x00\\x1b[31m \\x202e\\xd800" in text
    assert plain("a\n\t b") == "a b" and plain("x" * 400) == "x" * 299 + "…"
    text.encode("utf-8")


# -- colours ----------------------------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, severity 1.0: what a protanope, deuteranope, tritanope sees, in linear RGB
SEEN = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
)


def linear(code):
    values = [int(code[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]


def lab(rgb):
    rgb = [min(1, max(0, v)) for v in rgb]
    white = (0.9505, 1, 1.089)
    weights = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    x, y, z = (sum(w * v for w, v in zip(row, rgb, strict=True)) / n for row, n in zip(weights, white, strict=True))
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def contrast(a, b):
    low, high = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (linear(a), linear(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("side", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast_and_differ_for_the_colour_blind(side):
    paper = ROLES["paper"][side]
    for name, pair in ROLES.items():
        if name not in ("paper", "grid", "band"):
            assert contrast(pair[side], paper) >= (4.5 if name in ("ink", "muted") else 2.95), name
    for names, least in ((report_style.SERIES, 11), (report_style.BITS, 7)):
        for a, b in itertools.combinations(names, 2):
            for matrix in SEEN:
                seen = [
                    lab([sum(m * v for m, v in zip(row, linear(ROLES[name][side]), strict=True)) for row in matrix])
                    for name in (a, b)
                ]
                assert math.dist(*seen) >= least, (a, b)


def test_every_role_has_a_code_of_its_own():
    lights = [light for light, _ in ROLES.values()]
    assert len(set(lights)) == len(lights) and not {"#000000", "#ffffff"} & set(lights)


# -- files ------------------------------------------------------------------------------------------------------------


def test_files_are_the_plots_of_the_page(folder, page):
    figures = [attrs["id"] for attrs in page.of("figure")]
    assert len(set(figures)) == len(figures) and {name.split("-")[0] for name in figures} == SECTIONS
    names = {path.name for path in (folder / "plots").iterdir()}
    assert names == {f"{name}.{ending}" for name in figures for ending in ("svg", "png")}
    assert sorted(path.name for path in folder.iterdir()) == ["plots", "report.html"]
    links = {attrs["href"] for attrs in page.of("a") if not attrs["href"].startswith("#")}
    assert links == {f"plots/{name}" for name in names}
    for path in (folder / "plots").iterdir():
        assert re.fullmatch(r"[a-z0-9-]+\.(svg|png)", path.name)
        data = path.read_bytes()
        if path.suffix == ".png":
            assert data.startswith(b"\x89PNG") and data.endswith(b"IEND\xaeB`\x82")
        else:
            assert ElementTree.fromstring(data).tag.endswith("svg")
            assert not re.search(rb"<dc:date>|<script|<image", data)


def test_page_asks_for_nothing(page):
    for tag, attrs, _ in page.elements:
        assert tag not in ("img", "image", "iframe", "object", "embed", "base", "audio", "video", "source"), tag
        assert "src" not in attrs and "srcset" not in attrs and "xlink:href" not in attrs
        assert not any(name.startswith("on") for name in attrs), attrs
        for name in ("href", "action"):
            if name in attrs:
                assert re.match(r"#|plots/[a-z0-9-]+\.(svg|png)$|data:,$", attrs[name]), attrs
        assert all(re.match(r"url\(#", found) for found in re.findall(r"url\([^)]", " ".join(map(str, attrs.values()))))
    style = "".join(page.within("style"))
    assert "@import" not in style and "url(" not in style and "@font-face" not in style


def test_page_allows_its_own_script_only(page):
    (policy,) = [attrs["content"] for attrs in page.of("meta") if attrs.get("http-equiv") == "Content-Security-Policy"]
    script = re.search(r"<script>(.*?)</script>", page.text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert len(page.of("script")) == 1 and page.of("script")[0] == {}


def test_every_reference_has_its_place(page):
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    used = {attrs["href"][1:] for _, attrs, _ in page.elements if attrs.get("href", "").startswith("#")}
    used |= set(re.findall(r"url\(#([^)]+)\)", page.text))
    assert used <= set(ids) and len(used) > 50


def test_plots_in_the_page_take_the_colours_of_the_page(page):
    styles = [attrs["style"] for _, attrs, path in page.elements if "svg" in path and "style" in attrs]
    codes = {code for style in styles for code in re.findall(r"#[0-9a-f]{6}", style)}
    assert not codes & {light for light, _ in ROLES.values()}  # what is left are cells of heat maps
    assert any("var(--ink)" in style for style in styles) and any("var(--series-1)" in style for style in styles)
    assert "DejaVu Sans'" not in "".join(styles)


def test_hostile_text_stays_text(page):
    shown = plain(sweep_rows.EVIL)
    assert [data for data in page.within("td") if data == shown]
    assert [data for data in page.within("pre") if data == f"intsnn report {shown}"]
    assert any(data.startswith("<script>alert"[:8]) for data in page.within("svg", "text"))
    assert len(page.of("style")) == 1 and len(page.of("script")) == 1
    assert all(tag != "script" or path == ("html", "body") for tag, _, path in page.elements)
    assert "\x00" not in page.text and "\u202e" not in page.text


def test_failed_and_missing_cells_are_shown(page, troubled):
    texts = page.within("main")
    assert "ConversionError: the charge of conv1 does not fit 48 bits" in texts
    cells = page.within("svg", "text")
    assert {"×", "–"} <= set(cells) and any("× failed" in text for text in cells)
    assert page.within("td").count("failed") == 2
    warnings = [text for text in page.within("p") if "failed" in text or "without a row" in text]
    assert len(warnings) >= 2
    body = page.text.partition('<section id="cells">')[2].partition("</section>")[0]
    assert body.count("<tr") == 1 + len(troubled)
    gone = page.text.partition('<section id="missing">')[2].partition("</section>")[0]
    assert gone.count("<tr") == 2


def test_provenance_is_shown(page, troubled):
    made = page.text.partition('<section id="made">')[2]
    for value in (*sweep_rows.VERSIONS.values(), troubled[0]["source_sha256"], matplotlib.__version__, "0, 1"):
        assert value in made
    assert "versions of the source code" in page.text


@pytest.fixture(scope="module")
def few():
    """Rows of one family."""
    return sweep_rows.small(methods=("qffs",), weights=(2,), seeds=(0, 1))


@pytest.fixture(scope="module")
def written(few, tmp_path_factory):
    """Their report."""
    folder = tmp_path_factory.mktemp("few")
    reports.write_report(few, folder)
    return folder


def test_the_same_rows_give_the_same_bytes(few, written, tmp_path):
    """Whatever their order, and whatever the user's style."""
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "x", "text.usetex": True}):
        reports.write_report(few[::-1], tmp_path)
        assert matplotlib.rcParams["font.size"] == 30
    assert len(tree(written)) > 15 and tree(tmp_path) == tree(written)


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_failure_while_drawing_changes_no_file(few, written, tmp_path, monkeypatch):
    def broken(plot):
        if plot.section == "widths":
            raise MemoryError
        return report_style.render(plot)

    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(reports, "render", broken)
    with pytest.raises(MemoryError):
        reports.write_report(few[:2], tmp_path)
    assert tree(tmp_path) == tree(written)


def test_a_failure_while_writing_leaves_whole_files(few, written, tmp_path, monkeypatch):
    count, replacing = itertools.count(), reports.replacing

    @contextlib.contextmanager
    def full(path):
        with replacing(path) as temporary:
            yield temporary
            if next(count) == 3:
                raise OSError(28, "No space left on device")

    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    blank = b'<svg viewBox="0 0 1 1"></svg>'
    monkeypatch.setattr(reports, "render", lambda plot: report_style.Picture(plot, blank, b"png"))
    monkeypatch.setattr(reports, "replacing", full)
    with pytest.raises(OSError, match="No space"):
        reports.write_report(few, tmp_path)
    before, after = tree(written), tree(tmp_path)
    assert set(after) == set(before)
    assert sum(after[path] != before[path] for path in before) == 3
    assert after[Path("report.html")] == before[Path("report.html")]


def test_rows_that_say_little(tmp_path):
    """Whatever a row lacks or has instead, there is a report, and the row is in it."""
    rows = [
        {"key": "a"},
        {"key": "b", "model": None, "error": ""},
        sweep_rows.make_row(seed=3) | {"layers": None, "accuracy_by_step": None, "versions": None},
        sweep_rows.make_row(seed=4) | {"accuracy": math.nan, "layers": [None, 3, {"memory": 5}, {"name": None}]},
        sweep_rows.make_row(activation_bits=2) | {"accuracy": None, "accuracy_by_step": ["x"], "t_drive": None},
        sweep_rows.make_row(weight_bits=2) | {"accuracy": 100.0, "measured_bytes": None},
        sweep_rows.make_row(weight_bits=3) | {"accuracy": 0.0, "samples": None, "seed": "x"},
    ]
    reports.write_report(rows, tmp_path)
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    body = page.text.partition('<section id="cells">')[2].partition("</section>")[0]
    assert body.count("<tr") == 1 + len(rows)


def test_nothing_but_failures_is_a_report_too(tmp_path):
    reports.write_report([sweep_rows.fail(row) for row in sweep_rows.small()], tmp_path)
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert page.within("td").count("the worker died (signal 9)") == len(sweep_rows.small())
    assert [attrs["id"].split("-")[0] for attrs in page.of("figure")] == ["widths", "widths"]


def test_no_rows_are_an_error(tmp_path):
    with pytest.raises(FormatError, match="no row"):
        reports.write_report([], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_without_matplotlib_nothing_is_written(tmp_path, monkeypatch):
    def absent():
        raise UnsupportedError("plots need matplotlib")

    monkeypatch.setattr(reports, "check_plots", absent)
    with pytest.raises(UnsupportedError):
        reports.write_report(sweep_rows.small(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path):
    """A file of results, and the rows in it."""
    path, rows = tmp_path / "sweep.sqlite", sweep_rows.small(methods=("qffs",))
    rows[0] = sweep_rows.fail(rows[0], "it broke")
    with Results(path) as file:
        file.add((row["key"], row) for row in rows)
    return path, rows


def call(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_command_writes_the_report_and_exports(results, tmp_path):
    path, rows = results
    done = call(path, "-o", tmp_path / "out", "--csv", tmp_path / "a.csv", "--json", tmp_path / "a.json")
    assert done.exit_code == 0, done.output
    assert "4 rows, 1 of them failed" in done.output
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "intsnn report sweep.sqlite -o out" in page and "it broke" in page and str(tmp_path) not in page
    assert json.loads((tmp_path / "a.json").read_text()) == rows
    assert (tmp_path / "a.csv").read_bytes().count(b"\r\n") == 1 + len(rows)


def test_command_exports_to_standard_output(results):
    path, rows = results
    done = CliRunner().invoke(main, ["report", str(path), "--json", "-"])
    assert done.exit_code == 0 and json.loads(done.stdout) == rows


@pytest.mark.parametrize(
    "arguments, code, part",
    [
        ([], 2, "nothing to write"),
        (["--csv", "-", "--json", "-"], 2, "one format"),
        (["--csv", "x", "--json", "x"], 2, "same file"),
        (["--csv", "{results}"], 2, "also what is read"),
        (["--csv", "no/such/x.csv"], 3, "no folder"),
        (["-o", "{results}"], 2, "is a file"),
        (["-o", "{results}/out"], 3, "nothing can be written"),
    ],
)
def test_wrong_use_is_one_line(results, tmp_path, monkeypatch, arguments, code, part):
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    done = call(results[0], *(item.format(results=results[0]) for item in arguments))
    assert done.exit_code == code and part in done.output and "Traceback" not in done.output
    assert tree(tmp_path) == before


def test_results_that_are_none(tmp_path):
    (tmp_path / "text").write_text("no database")
    with Results(tmp_path / "empty.sqlite"):
        pass
    for name, part in (("missing", "missing"), ("text", "SQLite"), ("empty.sqlite", "no row")):
        done = call(tmp_path / name, "-o", tmp_path / "out", "--csv", tmp_path / "x.csv")
        assert done.exit_code == 3 and part in done.output, done.output
        assert not (tmp_path / "out").exists() and not (tmp_path / "x.csv").exists()


def test_exports_need_no_matplotlib(results, tmp_path, monkeypatch):
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "matplotlib" else find(name, *a))
    done = call(results[0], "-o", tmp_path / "out")
    assert done.exit_code == 3 and "intsnn[report]" in done.output
    assert call(results[0], "--markdown", tmp_path / "x.md").exit_code == 0
    assert plots.check_plots  # what the command asks
