"""From a matplotlib figure to inline SVG: text stays text, colours come from the page's style, ids are unique."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

from dkgzsl.report.charts.drawing import plain, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WIDTH: Final = 330
"""Width of a chart in its own units. On a phone a unit is about one pixel, so that the text is readable there."""

# Each role has a placeholder colour that no figure uses; in the SVG it becomes a variable of the page's style.
_ROLES: Final = ("ink", "muted", "line", "paper", "ours", "peer", "good", "near", "far", "c1", "c2", "c3", "c4",
                 "c5", "c6", "c7", "c8")  # fmt: skip
COLOUR: Final[dict[str, str]] = {role: f"#fe00{number:02x}" for number, role in enumerate(_ROLES, 1)}
_VARIABLE: Final = {colour: f"var(--{role})" for role, colour in COLOUR.items()}
SERIES: Final = series(COLOUR)

_SVG: Final = "{http://www.w3.org/2000/svg}"
_HREF: Final = "{http://www.w3.org/1999/xlink}href"
_NAMED: Final = re.compile(r"#([\w-]+)[\")]")


@dataclass(frozen=True)
class Chart:
    """A chart, and the same content as a table.

    Attributes:
        svg: markup for a page; it is not escaped.
        title: what the chart shows, in a few words.
        columns: heads of the table.
        rows: rows of the table.
    """

    svg: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def draw(
    name: str,
    *,
    title: str,
    description: str,
    height: int,
    paint: Callable[[Figure], None],
) -> str:
    """Draw a figure of `WIDTH` by `height` units and convert it to SVG for a page.

    Args:
        name: name of the chart; its ids begin with it.
        title: what a screen reader says instead of the chart.
        description: what a screen reader says after the title: the content of the chart in words.
        height: in units.
        paint: adds axes to the figure.

    Returns:
        The SVG element as text.
    """
    from matplotlib.figure import Figure

    mpl: Any = import_module("matplotlib")  # its types list every key and leave the SVG backend untyped
    svg: Any = import_module("matplotlib.backends.backend_svg")
    with mpl.rc_context(_style(name)), warnings.catch_warnings():
        # Letters stay text: the reader's browser has the fonts for those that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        backend = svg.FigureCanvasSVG(figure)
        paint(figure)
        text = StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        backend.print_svg(text, metadata=nothing)
    return _for_page(text.getvalue(), name, title, description)


def one_axes(figure: Figure) -> Axes:
    """Axes without a box, with a light grid."""
    return plain(figure.add_subplot())


def _style(name: str) -> dict[str, Any]:
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,
        "axes.formatter.use_mathtext": False,
        "axes.unicode_minus": True,
        "font.size": 12,
        "axes.labelsize": 12,
        "axes.titlesize": 12,
        "xtick.labelsize": 11.5,
        "ytick.labelsize": 11.5,
        "legend.fontsize": 11.5,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "text.color": COLOUR["ink"],
        "axes.labelcolor": COLOUR["muted"],
        "axes.edgecolor": COLOUR["line"],
        "xtick.color": COLOUR["muted"],
        "ytick.color": COLOUR["muted"],
        "grid.color": COLOUR["line"],
        "legend.frameon": False,
        "lines.linewidth": 2,
        "path.simplify": True,
        "path.simplify_threshold": 0.3,
    }


def _for_page(text: str, name: str, title: str, description: str) -> str:
    root = ElementTree.fromstring(text)
    width, height = root.attrib["viewBox"].split()[2:]
    for parent in list(root.iter()):
        for child in list(parent):
            # A style element would change the whole page, and the metadata contain network addresses.
            if child.tag.removeprefix(_SVG) in ("metadata", "style") or "metadata" in child.tag:
                parent.remove(child)
    named = set(_NAMED.findall(text))
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        attributes = {}
        for key, value in element.attrib.items():
            if key == "id":
                if value == "outlined":
                    attributes["class"] = value
                if value in named:  # nothing refers to the others
                    attributes["id"] = f"{name}-{value}"
            elif key == _HREF:
                attributes["href"] = value.replace("#", f"#{name}-", 1)
            else:
                attributes[key] = _paged(value.replace("url(#", f"url(#{name}-"))
        element.attrib.clear()
        element.attrib.update(attributes)
        element.tail = None
        if element.tag != "text":
            element.text = None
    root.attrib.clear()
    root.attrib.update(
        {
            "class": "chart",
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-desc",
            "viewBox": f"0 0 {width} {height}",
        }
    )
    for position, (tag, content) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = content
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode")


def _paged(value: str) -> str:
    """A style or colour with the colours and fonts of the page."""
    value = re.sub(r"font-family: [^;]*;? ?", "", value)
    value = re.sub(r"(\.\d\d)\d+", r"\1", value)
    return re.sub("|".join(_VARIABLE), lambda found: _VARIABLE[found.group()], value)
