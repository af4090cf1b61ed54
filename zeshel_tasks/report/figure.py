"""A matplotlib figure as inline SVG that belongs to the page: its colours, its font, light and dark.

Figures are drawn in units of CSS pixels. Each colour here is a stand-in that no figure uses otherwise; in the SVG it
becomes a variable of the page's style sheet, so one drawing serves the light and the dark scheme, and print.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

INK, MUTED, GRID, SURFACE = "#010201", "#010202", "#010203", "#010204"
SPLIT_COLORS = {"train": "#010205", "valid": "#010206", "test": "#010207"}
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    SURFACE: "var(--surface)",
    SPLIT_COLORS["train"]: "var(--train)",
    SPLIT_COLORS["valid"]: "var(--valid)",
    SPLIT_COLORS["test"]: "var(--test)",
}
WIDTH = 400
_POINTS_PER_INCH = 72
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "zeshel",
    # A world named "cash$and$carry" is not a formula.
    "text.parse_math": False,
    "text.color": INK,
    "font.size": 12,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "ytick.major.size": 0,
    "lines.linewidth": 2,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "legend.borderpad": 0,
}


def inline_svg(name: str, description: str, height: float, draw: Callable[[Figure], None]) -> str:
    """Draws and returns an ``<svg>`` element, the same bytes for the same drawing.

    Args:
        name: prefix of the ids inside, unique in the page.
        description: read aloud to those who do not see the chart.
        height: in units of which the figure is :data:`WIDTH` wide.
        draw: draws into an empty figure, with the colours of this module.
    """
    stream = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The browser sets the text: matplotlib's own font need not have a world's letters.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(WIDTH / _POINTS_PER_INCH, height / _POINTS_PER_INCH), facecolor="none")
        draw(figure)
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _for_page(stream.getvalue(), name, description)


def _for_page(svg: str, name: str, description: str) -> str:
    root = ElementTree.fromstring(svg)
    used = set(re.findall(r"(?:url\(|href=\")#([^\")]+)", svg))
    for parent in root.iter():
        for child in list(parent):
            # The page has its own style; matplotlib's would apply to all of it.
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
        _adapt(parent, name, used)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib.update({"role": "img", "aria-label": description, "class": "chart"})
    return ElementTree.tostring(root, encoding="unicode")


def _adapt(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Drops namespaces, which HTML does not need, and unused ids; makes ids unique and colours variable."""
    element.tag = _local(element.tag)
    for key, value in list(element.attrib.items()):
        del element.attrib[key]
        if key == "id" and value not in used:
            continue
        element.set(_local(key), _value(_local(key), value, name))


def _value(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value.removeprefix('#')}"
    value = re.sub(r"url\(#", f"url(#{name}-", value)
    value = re.sub(r"'DejaVu Sans'[^;]*", "var(--font)", value)
    return re.sub(r"#0102\d\d", lambda found: VARIABLES[found.group()], value)


def _local(name: str) -> str:
    return name.rpartition("}")[2]
