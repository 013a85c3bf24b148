"""The report in a real browser: nothing is missing, nothing overflows, nothing is asked of the network."""

import json
import os

import browser
import pytest
import sweep_rows

from intsnn.bench.report.style import ROLES
from intsnn.bench.report.write import write_report

pytest.importorskip("matplotlib", reason="matplotlib is not installed: the report cannot be drawn")


@pytest.fixture(scope="module")
def troubled():
    return sweep_rows.troubled()


@pytest.fixture(scope="module")
def folder(troubled, window, tmp_path_factory):
    """The report of `troubled`; not drawn where no browser is there."""
    folder = tmp_path_factory.mktemp("report")
    write_report(troubled, folder, command=f"intsnn report {sweep_rows.EVIL}", source=sweep_rows.EVIL)
    return folder


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    path = browser.find()
    if path is None:
        pytest.skip(f"no browser: {', '.join(browser.NAMES)} are not on PATH, and INTSNN_BROWSER names none")
    with browser.Browser(path, str(tmp_path_factory.mktemp("profile"))) as found:
        yield found


FIGURES = """[...document.querySelectorAll("figure")].map(figure => {
  const box = figure.querySelector("svg").getBoundingClientRect();
  const marks = figure.querySelectorAll("path, use").length;
  const letters = [...figure.querySelectorAll("text")].map(text => text.getBoundingClientRect());
  return {id: figure.id, width: box.width, height: box.height, marks, letters: letters.length,
    least: Math.min(...letters.map(letter => letter.height)),
    out: letters.filter(l => l.left < box.left - 3 || l.right > box.right + 3 || l.top < box.top - 3
      || l.bottom > box.bottom + 3).length};
})"""
OVERFLOW = """[...document.querySelectorAll("body *")].filter(element => !element.closest(".box, svg")
  && element.getBoundingClientRect().right > innerWidth + 0.5).map(element => element.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_browser_shows_the_report(window, folder, width, dark, tmp_path):
    url = (folder / "report.html").as_uri()
    window.show(url, width, dark=dark)
    if os.environ.get("INTSNN_SCREENSHOTS"):  # to look at
        window.picture(os.path.join(os.environ["INTSNN_SCREENSHOTS"], f"report-{width}{'-dark' if dark else ''}.png"))
    assert window.messages == []
    assert [request for request in window.requests if not request.startswith("data:")] == [url]
    assert window.run("[window.hacked ?? null, document.scripts.length]") == [None, 1]
    assert window.run("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
    assert window.run(OVERFLOW) == []
    figures, names = window.run(FIGURES), {path.stem for path in (folder / "plots").iterdir()}
    assert {figure["id"] for figure in figures} == names and len(figures) == len(names)
    for figure in figures:
        assert 300 < figure["width"] <= width and figure["height"] > 100, figure
        assert figure["marks"] >= 5 and figure["letters"] > 4 and figure["out"] == 0, figure
        assert figure["least"] >= 8, figure  # pixels
    paper, ink = window.run(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('svg text')).fill]"
    )
    side = int(dark)
    for shown, role in ((paper, "paper"), (ink, "ink")):
        assert shown == "rgb({}, {}, {})".format(*(int(ROLES[role][side][at : at + 2], 16) for at in (1, 3, 5)))


def test_tables_scroll_inside_their_box(window, folder):
    window.show((folder / "report.html").as_uri(), 390)
    wide = window.run("""[...document.querySelectorAll(".box")].filter(box => box.scrollWidth > box.clientWidth)
      .map(box => { box.scrollLeft = 1e6; return box.scrollLeft > 0 && getComputedStyle(box).overflowX == "auto"; })""")
    assert len(wide) >= 2 and all(wide)


def test_page_can_be_read_without_script(window, folder, troubled):
    window.show((folder / "report.html").as_uri(), 1280, script=False)
    # scripts of the page are off, those of the protocol are not
    rows = "[...document.querySelectorAll('#cells tbody tr')].filter(row => row.getBoundingClientRect().height > 0)"
    assert window.run(f"{rows}.length") == len(troubled)
    assert window.run("document.querySelectorAll('th button, .filter').length") == 0
    assert window.run("document.querySelectorAll('figure svg').length") > 10


COLUMN = """(() => {
  const heads = [...document.querySelectorAll("#cells thead th")];
  const at = heads.findIndex(head => head.textContent.trim() === NAME);
  heads[at].querySelector("button").click();
  return [[...document.querySelectorAll("#cells tbody tr")].map(row => row.cells[at].textContent),
    heads[at].getAttribute("aria-sort")];
})()"""


def test_tables_sort_and_filter(window, folder, troubled):
    window.show((folder / "report.html").as_uri(), 1280)
    for direction in ("ascending", "descending"):
        values, said = window.run(COLUMN.replace("NAME", json.dumps("accuracy %")))
        assert said == direction
        numbers = [float(value) for value in values if value != "–"]
        assert numbers == sorted(numbers, reverse=direction == "descending") and len(numbers) == len(troubled) - 2
        assert values[-2:] == ["–", "–"]  # what is unknown stays last
    values, _ = window.run(COLUMN.replace("NAME", json.dumps("method")))
    assert len(values) == len(troubled)
    shown = window.run("""(() => {
      const input = document.querySelector("#cells .filter input");
      input.value = "QFFS  lenet5";
      input.dispatchEvent(new Event("input"));
      return [[...document.querySelectorAll("#cells tbody tr")].filter(row => !row.hidden).length,
        document.querySelector("#cells .filter span").textContent];
    })()""")
    assert shown == [8, f"8 of {len(troubled)} rows"]
    assert window.messages == []
