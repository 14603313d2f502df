"""Matplotlib figures as inline SVG that takes its colours and fonts from the page around it."""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from reports.figures import one_line, significant

INK: Final = "#5e00ff"
GRID: Final = "#5e00fe"
MUTED: Final = "#5e00fd"
ALARM: Final = "#5e00fc"
PAPER: Final = "#5e00fb"
SERIES: Final = tuple(f"#5e000{index}" for index in range(8))
"""Colours that no reader sees: each is replaced by a variable of the page's style sheet."""

_VARIABLES: Final = {
    INK: "currentColor",
    GRID: "var(--grid)",
    MUTED: "var(--muted)",
    ALARM: "var(--fail)",
    PAPER: "var(--paper)",
    **{colour: f"var(--s{index})" for index, colour in enumerate(SERIES)},
}
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES: Final = ("-", (0, (6, 2)), (0, (1, 1.4)), (0, (5, 2, 1, 2)))
WIDTH, FONT = 4.5, 9.0
"""Inches and points: one figure fills a phone's width, two stand side by side on a desk."""
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trackbench",
    "text.parse_math": False,
    "font.size": FONT,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}


@dataclass(frozen=True)
class Look:
    """How one candidate is drawn everywhere: colour, marker and dashes tell it apart, each alone."""

    colour: str
    marker: str
    dashes: str | tuple[int, tuple[float, ...]]


def looks(names: Sequence[tuple[str, bool]]) -> dict[str, Look]:
    """A look for each (candidate, is reference); the reference is grey, the others follow in order."""
    found: dict[str, Look] = {}
    index = 0
    for name, reference in names:
        if reference:
            found[name] = Look(MUTED, "o", (0, (2, 1.5)))
            continue
        found[name] = Look(
            SERIES[index % len(SERIES)],
            _MARKERS[(index + 1) % len(_MARKERS)] if index else "o",
            _DASHES[index % len(_DASHES)],
        )
        index += 1
    return found


@contextmanager
def drawing() -> Iterator[None]:
    """Our style for the figures made inside; a font without some sign of a name is no reason to warn."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure of so many inches with a transparent ground."""
    made = Figure(figsize=(width, height), facecolor="none")
    FigureCanvasSVG(made)
    return made


def render(made: Figure, number: int) -> str:
    """The figure as an ``<svg>`` element for a page; ``number`` keeps its ids apart from those of others."""
    buffer = io.StringIO()
    made.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue(), number)


def _inline(text: str, number: int) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="(?!m)[^"]*">', "<g>", text)
    text = re.sub(r'\bid="([^"]+)"', rf'id="f{number}-\1"', text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'href="#f{number}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#f{number}-\1)", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    text = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", text)
    text = re.sub(r'\b(?:d|x|y)="[^"]*"', _hundredths, text)
    for sentinel, variable in _VARIABLES.items():
        text = text.replace(sentinel, variable)
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]+"', head)
    return f'<svg {box[0] if box else ""} aria-hidden="true" focusable="false">{body.strip()}'


def _hundredths(attribute: re.Match[str]) -> str:
    """Coordinates to a hundredth of a point: nobody sees more, and a page of many figures is half as long."""
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])


def plain(value: float) -> str:
    """A tick of a log axis as a plain number: 100, 1k, 10k."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{significant(value / size)}{prefix}"
    return significant(value)


def log_axis(axes: Axes, low: float, high: float, words: FuncFormatter) -> None:
    """A vertical log axis over [low, high] with few ticks, each in words."""
    axes.set_yscale("log")
    axes.set_ylim(low / 1.35, high * 1.35)
    decades = high / low
    subs = (1.0,) if decades > 300 else (1.0, 3.0) if decades > 20 else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=12))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(words)


def log_ticks(axes: Axes) -> None:
    """A horizontal log axis with few ticks, each a plain number."""
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def fixed_ticks(axes: Axes, at: Sequence[float], labels: Sequence[str]) -> None:
    """Horizontal ticks at given places and nowhere else."""
    axes.xaxis.set_major_locator(FixedLocator(list(at)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(at), labels=list(labels))


def short(name: str, most: int = 17) -> str:
    """A name that fits beside a line."""
    clean = one_line(name)
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def label_lines(axes: Axes, ends: Sequence[tuple[str, float, float, Look]], gap: float = 10.5) -> None:
    """Write each line's name at its right end, pushed apart where they would overlap (``gap`` in points)."""
    height = axes.get_window_extent().height
    step = gap * axes.figure.dpi / 72 / height
    placed = sorted(
        (axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[1], name, x, y, look)
        for name, x, y, look in ends
    )
    heights = apart([each[0] for each in placed], step)
    for (_, name, _, y, look), at in zip(placed, heights, strict=True):
        axes.annotate(
            short(name),
            xy=(1.0, y),
            xycoords=("axes fraction", "data"),
            xytext=(1.035, at),
            textcoords="axes fraction",
            va="center",
            ha="left",
            color=look.colour,
            fontweight="bold",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": GRID, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 1},
        )


def apart(wanted: list[float], step: float) -> list[float]:
    """Ascending heights at least ``step`` apart, as near to the wanted ones as a pass up and one down allow."""
    heights = list(wanted)
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + step)
    over = heights[-1] - 1.0 if heights else 0.0
    if over > 0:
        heights[-1] -= over
        for index in range(len(heights) - 2, -1, -1):
            heights[index] = min(heights[index], heights[index + 1] - step)
    return heights


def right_margin(names: Sequence[str]) -> float:
    """The share of the width left of the labels, so that the longest fits."""
    longest = max((len(short(name)) for name in names), default=0)
    return max(0.68, 1 - (longest * FONT * 0.64 + 14) / (WIDTH * 72))
