"""Which colours and type do plots have, and how does one become a file and a part of a page?

A plot is drawn once, in the light colours. Each colour is a role with a hexadecimal code of its own, so that the copy
inside a page can name the role instead, and the page can give it another colour in the dark.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["BITS", "ROLES", "SERIES", "Plot", "Picture", "bit_role", "colour", "inline", "render", "styled"]

# Light, dark. Series after Okabe and Ito; widths run from orange to dark blue. Chosen for contrast with the paper (3 at
# least) and for distance under the three kinds of colour blindness; markers tell apart what is still alike.
ROLES: dict[str, tuple[str, str]] = {
    "paper": ("#fffffe", "#14171b"),
    "ink": ("#1b1f24", "#e6e9ed"),
    "muted": ("#5b6470", "#a6afba"),
    "grid": ("#e1e5ea", "#2b3138"),
    "band": ("#e9edf2", "#2a3038"),
    "series-1": ("#0072b2", "#5ab4ee"),
    "series-2": ("#d55e00", "#ff9a55"),
    "series-3": ("#00875f", "#3fd0a3"),
    "series-4": ("#a8468f", "#e79fd0"),
    "series-5": ("#5c2450", "#f2dc3c"),
    "series-6": ("#6f6f76", "#8d8d94"),
    "bits-1": ("#e8743b", "#fff1a8"),
    "bits-2": ("#dc5a52", "#fdd35f"),
    "bits-3": ("#c9427a", "#fdb347"),
    "bits-4": ("#b8308a", "#f8935d"),
    "bits-5": ("#a0149c", "#ee7a7c"),
    "bits-6": ("#6a1cb0", "#dc619c"),
    "bits-7": ("#3f1290", "#c269c6"),
    "bits-8": ("#0d0547", "#9a7de6"),
}
SERIES = tuple(name for name in ROLES if name.startswith("series-"))
BITS = tuple(name for name in ROLES if name.startswith("bits-"))
MARKERS = "osD^vPX*"
FONT = "DejaVu Sans"  # comes with matplotlib: the same letters everywhere
DPI = 200
LINE = 0.16  # inches that another line of a title takes
LETTERS = 12.5  # of a bold title that an inch holds, and a few more than of other text

SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "intsnn",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with a dollar sign is no formula
    "font.family": FONT,
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.handletextpad": 0.45,
    "legend.columnspacing": 1.1,
    "legend.borderaxespad": 0.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.2,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}
COLOURS = {
    "paper": ("figure.facecolor", "axes.facecolor", "savefig.facecolor"),
    "ink": ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"),
    "muted": ("axes.edgecolor", "xtick.color", "ytick.color"),
    "grid": ("grid.color",),
}


def colour(role: str) -> str:
    """The light colour of a role, to draw with."""
    return ROLES[role][0]


def bit_role(bits: int | None) -> int:
    """Place of a bit-width among `BITS` and `MARKERS`; what is wider than 8 shares the place of 8."""
    return max(1, min(len(BITS), bits or 1)) - 1


@dataclass(frozen=True)
class Plot:
    """A plot before it is drawn.

    Attributes
    ----------
    name : str
        Of its files, without ending: lower-case letters, digits, hyphens.
    section : str
        Where in the report it stands.
    title : str
    about : str
        What is seen, in a sentence; read out where nothing can be seen.
    draw : function of an empty matplotlib Figure
    subject : str
        The model and data that are drawn, where a section has several plots of one subject; else empty.
    size : width and height in inches
    """

    name: str
    section: str
    title: str
    about: str
    draw: Callable[[Any], None]
    subject: str = ""
    size: tuple[float, float] = (4.1, 3.1)


@dataclass(frozen=True)
class Picture:
    """A drawn plot: the bytes of its two files."""

    plot: Plot
    svg: bytes
    png: bytes


@contextmanager
def styled() -> Iterator[None]:
    """Here matplotlib has our settings, whatever the user's file says."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*missing from font")  # a name in a script that the font lacks
        matplotlib.rcdefaults()
        settings: Any = SETTINGS | {key: colour(role) for role, keys in COLOURS.items() for key in keys}
        matplotlib.rcParams.update(settings)
        yield


def render(plot: Plot) -> Picture:
    """Draw `plot`; the same bytes on every call with the same version of matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    lines = textwrap.wrap(plot.title, int(plot.size[0] * LETTERS), break_on_hyphens=False)
    width, height = plot.size
    with styled():
        figure = Figure(figsize=(width, height + LINE * (len(lines) - 1)), layout="constrained")
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=8.5, fontweight="bold")
        plot.draw(figure)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # places are settled; both files have the same
        svg, png = io.BytesIO(), io.BytesIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        # straight to the canvas: savefig would draw twice
        FigureCanvasSVG(figure).print_svg(svg, metadata=nothing)
        figure.dpi = DPI
        FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
    return Picture(plot, svg.getvalue(), png.getvalue())


def inline(picture: Picture) -> str:
    """The SVG as an element of a page: roles for colours, ids of its own, no name of another document in it."""
    text = picture.svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    head, body = text.split(">", 1)
    width, height = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', head).groups()  # type: ignore[union-attr]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)  # of the page, then
    # only markup is changed: a text stands between > and <, where neither a tag nor a quote of its own can be
    body = re.sub(r"<[^>]*>", lambda match: _tag(match[0], picture.plot.name), body)
    return f'<svg viewBox="0 0 {width} {height}" aria-hidden="true" focusable="false">{body}'


_ROLE = re.compile("|".join(light for light, _ in ROLES.values()))
_NAME = {light: name for name, (light, _) in ROLES.items()}


def _tag(tag: str, name: str) -> str:
    if tag.startswith("<!--"):
        return ""  # matplotlib repeats every text in a comment
    tag = re.sub(r'^<g id="[^"]*"', "<g", tag)  # groups have names that nothing refers to
    tag = re.sub(r'\bid="', f'id="{name}-', tag.replace("xlink:href", "href"))
    tag = re.sub(r"url\(#", f"url(#{name}-", tag)
    tag = re.sub(r'href="#', f'href="#{name}-', tag)
    tag = tag.replace(f"'{FONT}'", "var(--text)")
    return _ROLE.sub(lambda match: f"var(--{_NAME[match[0]]})", tag)
