"""What all figures share: sizes, colours that follow the page's theme, and SVG to put in a page.

matplotlib is imported when the first figure is drawn. It knows no themes: colours are drawn in
stand-ins, which become the page's CSS variables. Texts stay texts, and nothing refers to anything
outside of the figure.
"""

from __future__ import annotations

import functools
import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ACCENT",
    "BAD",
    "BANDS",
    "GRID",
    "INK",
    "MARKERS",
    "MUTED",
    "NARROW",
    "PANEL",
    "SERIES",
    "WARN",
    "WIDE",
    "blank",
    "clean",
    "room",
    "rows",
    "short",
    "shortened",
    "svg",
    "text_width",
    "themed",
    "value_axis",
]

_P = ParamSpec("_P")

WIDE, NARROW = 640, 340
"""Widths in pixels: of a page on a desk, and of one in a hand."""

INK, MUTED, GRID, PANEL = "#010101", "#020202", "#030303", "#040404"
ACCENT, BAD, WARN = "#050505", "#060606", "#070707"
SERIES = ("#080808", "#090909", "#0a0a0a", "#0b0b0b", "#0c0c0c")
BANDS = ("#0d0d0d", "#0e0e0e")
"""Stand-ins for colours of the page."""

MARKERS = ("o", "s", "^", "D", "v")
"""A form for each of the series: colour alone tells nothing to some."""

_SMALL = 500
_LOG_FROM = 5

_THEME = {
    INK: "ink",
    MUTED: "muted",
    GRID: "line",
    PANEL: "panel",
    ACCENT: "accent",
    BAD: "bad",
    WARN: "warn",
    **{color: f"series-{i}" for i, color in enumerate(SERIES, 1)},
    **{color: f"band-{i}" for i, color in enumerate(BANDS, 1)},
}
_COLOR = re.compile("|".join(_THEME))
_TEXT_PX = 12.0
_LETTER_PX = 6.4
"""Mean width of a letter, in the fonts that pages are shown in."""

_SVG = "http://www.w3.org/2000/svg"
_NUMBERS = {"d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "transform", "width", "height"}
_LONG = re.compile(r"-?\d+\.\d{2,}(?:e-?\d+)?")
_REFERENCE = re.compile(r"#([\w.-]+)")

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": _TEXT_PX,
    "text.color": INK,
    "text.parse_math": False,
    "axes.facecolor": "none",
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 1.0,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
    "path.simplify": True,
    "path.simplify_threshold": 0.5,
    "agg.path.chunksize": 0,
    "figure.facecolor": "none",
    "figure.dpi": 72,
}


def themed(draw: Callable[_P, str]) -> Callable[_P, str]:
    """Have a function draw in the page's style, whatever the user's own settings say."""

    @functools.wraps(draw)
    def styled(*args: _P.args, **kwargs: _P.kwargs) -> str:
        with warnings.catch_warnings():
            # Of letters, say, that matplotlib's own font doesn't have: the page's own has them.
            warnings.simplefilter("ignore")
            # Late: a session without this report doesn't wait for it.
            from matplotlib import rc_context, rcdefaults

            with rc_context():
                rcdefaults()
                with rc_context(_STYLE):
                    return draw(*args, **kwargs)

    return styled


def blank(
    width: int, height: float, *, left: float = 52, top: float = 8, bottom: float = 26
) -> tuple[Figure, Axes]:
    """An empty figure of a size in pixels, and its axes.

    Args:
        width: of the figure.
        height: of it.
        left: pixels for what stands beside the axes. matplotlib could find that out itself, by
            drawing everything twice, in letters that aren't those of the page.
        top: the same above them.
        bottom: the same below them.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72))
    figure.subplots_adjust(
        left=left / width, right=1 - 8 / width, top=1 - top / height, bottom=bottom / height
    )
    return figure, figure.subplots()


def room(names: Sequence[str]) -> float:
    """Pixels that names take to the left of the axes."""
    return 14 + max(map(text_width, names), default=0)


def text_width(text: str) -> float:
    """Pixels that a text takes, about: only the reader's browser knows its font."""
    return _LETTER_PX * len(text)


def clean(text: str) -> str:
    """A text without what XML can't hold."""
    return "".join(char if char.isprintable() or char == " " else "\ufffd" for char in text)


def short(text: str, most: int) -> str:
    """A name cut in its middle, where long ones are alike least."""
    text = clean(text)
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def value_axis(axis: Any, unit: str, *, values: Sequence[float], width: int = WIDE) -> bool:
    """Tick labels with prefixes (``20 mJ``); logarithmic where values span much of a decade.

    Args:
        axis: of the figure's axes.
        unit: of the values.
        values: all that are drawn; none where the axis is to be linear.
        width: of the figure in pixels: a narrow one has fewer ticks.

    Returns:
        Whether it is logarithmic.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    log = bool(values) and min(values) > 0 and max(values) > _LOG_FROM * min(values)
    name = axis.axis_name
    if log:
        getattr(axis.axes, f"set_{name}scale")("log")
        decades = math.log10(max(values) / min(values)) * (1 if width > _SMALL else 2)
        subs = (1.0, 2.0, 5.0) if decades < 2.5 else (1.0, 3.0) if decades < 4 else (1.0,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=12))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(5 if width > _SMALL else 4, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, unit)))
    axis.grid(True)
    axis.set_tick_params(which="both", length=0, pad=5)
    return log


def _tick(value: float, unit: str) -> str:
    if unit == "1/s":
        return f"{value:,.0f}" if value >= 10 else f"{value:g}"
    if unit == "%":
        return f"{value:+g} %".replace("-", "\u2212") if value else "0"
    factors = (
        ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
        if unit == "s"
        else ((1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
    )
    size = abs(value)
    factor, prefix = next((row for row in factors if size >= row[0] * 0.9995), factors[-1])
    if size == 0:
        factor, prefix = 1.0, ""
    return f"{value / factor:.4g} {prefix}{unit}"


def rows(axes: Axes, names: Sequence[str]) -> None:
    """Make the vertical axis one of names, the first on top."""
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), list(names))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Names as long as a figure of a width has room for."""
    return [short(name, 32 if width > _SMALL else 18) for name in names]


# --- SVG -----------------------------------------------------------------------------------


def svg(figure: Figure, label: str, *, salt: str, titles: Mapping[str, str] | None = None) -> str:
    """The figure as an element of a page.

    Args:
        figure: drawn by :func:`blank`.
        label: what it shows, for those who can't see it.
        salt: of the ids in it; another one for each figure of a page.
        titles: fragment of a link in the figure (``#e1``) to what is shown beside the mouse.
    """
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.hashsalt": salt}):
        empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=empty)
    # In a page of HTML neither namespace has to be said.
    bare = text.getvalue().replace("xlink:href=", "href=").replace(f' xmlns="{_SVG}"', "")
    root = ElementTree.fromstring(bare)
    for holder in list(root.iter()):
        for child in list(holder):
            if child.tag in {"metadata", "style"}:
                holder.remove(child)
    used: set[str] = set()
    for element in root.iter():
        _simplify(element, titles or {})
        used.update(*(map(str, _REFERENCE.findall(v)) for v in element.attrib.values()))
    for element in root.iter():
        if element.get("id") and element.get("id") not in used:
            del element.attrib["id"]
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", clean(label))
    return ElementTree.tostring(root, encoding="unicode")


def _simplify(element: ElementTree.Element, titles: Mapping[str, str]) -> None:
    """Shorten numbers, give colours to the page, make links lead within it."""
    for name, value in list(element.attrib.items()):
        if name in _NUMBERS:
            element.set(name, _LONG.sub(lambda found: f"{float(found[0]):.1f}", value))
        elif name == "style":
            element.set(name, _style(value))
    if element.tag == "a":
        element.attrib.pop("target", None)
        target = element.get("href", "")
        element.set("class", "mark")
        if target in titles:
            title = ElementTree.Element("title")
            title.text = clean(titles[target])
            element.insert(0, title)


def _style(value: str) -> str:
    value = _COLOR.sub(lambda found: f"var(--{_THEME[found[0]]})", value)
    value = re.sub(r"font: (?:(\w+) )?([\d.]+)px [^;]*", _font, value)
    return value.replace("stroke-linejoin: miter; ", "")


def _font(found: re.Match[str]) -> str:
    weight = f"; font-weight: {found[1]}" if found[1] else ""
    return f"font-size: {float(found[2]):g}px{weight}"
