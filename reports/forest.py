"""The forest plot of a regression: each figure's ratio with its interval, beside the band that counts as the same."""

import math
from collections.abc import Sequence
from typing import Any, Final

from matplotlib.axes import Axes

from bench.results import Change, Comparison, Regression
from reports import svg
from reports.compared import SIGNS, decline, figure, ratio, rises, worst_first
from reports.figures import one_line, plural
from reports.judged import is_open, place, spot
from reports.plots import Plot

_COLOURS: Final[dict[Change, str]] = {
    "worse": svg.ALARM,
    "unknown": svg.SERIES[5],
    "same": svg.MUTED,
    "better": svg.SERIES[2],
}
_MARKERS: Final[dict[Change, str]] = {"worse": "s", "unknown": "o", "same": "o", "better": "D"}
_TICKS: Final = (
    0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0,
)  # fmt: skip
_FURTHEST: Final = math.log(50)
_MOST_ROWS: Final = 40
_ROW, _HEAD, _FOOT = 0.34, 0.34, 0.42  # inches
_NUMBER: Final = 900  # keeps the ids of these drawings apart from those of others on the page


def draw(regression: Regression) -> tuple[Plot, ...]:
    """A drawing for figures of which more is better, and one for those of which less is; on one scale."""
    found = [one for one in worst_first(regression.comparisons) if decline(one) is not None]
    limits = _limits(found, math.log1p(regression.margin) + abs(regression.floor))
    kinds = [[one for one in found if rises(one.field) == more] for more in (True, False)]
    with svg.drawing():
        return tuple(_forest(kind, limits, regression, _NUMBER + index) for index, kind in enumerate(kinds) if kind)


def _ends(one: Comparison) -> tuple[float, float]:
    """The interval's logs; without one, the ratio's own."""
    assert one.ratio is not None
    low, high = one.interval or (one.ratio, one.ratio)
    return tuple(  # type: ignore[return-value]
        math.log(end) if 0 < end < math.inf else math.copysign(_FURTHEST, end - 1) for end in (low, high)
    )


def _limits(found: Sequence[Comparison], band: float) -> tuple[float, float]:
    """Logs: symmetrical about 1, so that a doubling and a halving look alike; wider than the ``band``."""
    furthest = max((abs(end) for one in found for end in _ends(one)), default=0.0)
    reach = min(_FURTHEST, max(furthest * 1.08, 1.4 * band))
    return -reach, reach


def _forest(found: Sequence[Comparison], limits: tuple[float, float], regression: Regression, number: int) -> Plot:
    shown = found[:_MOST_ROWS]
    height = _HEAD + _ROW * len(shown) + _FOOT
    made = svg.figure(height)
    axes = made.add_axes((0.36, _FOOT / height, 0.47, _ROW * len(shown) / height))
    _frame(axes, len(shown), limits, regression)
    for row, one in enumerate(shown):
        _row(axes, row, one, limits)
    more = rises(found[0].field)
    title = "Throughput: right is better" if more else "Latency: left is better"
    axes.set_xlabel("candidate ÷ base, log scale")
    axes.text(0, 1.0 + 0.1 / (_ROW * len(shown)), "← worse" if more else "← better", **_side("left", axes))
    axes.text(1, 1.0 + 0.1 / (_ROW * len(shown)), "better →" if more else "worse →", **_side("right", axes))
    left_out = f" {plural(len(found) - len(shown), 'figure')} more in the table." if len(found) > len(shown) else ""
    return Plot(
        title=title,
        caption="Each line spans where the ratio may lie. Within the dark band it counts as the same"
        + ("; the light one is what the machine may explain besides." if regression.floor else ".")
        + left_out,
        alternative="; ".join(
            f"{one_line(one.candidate)} {place(one)} {figure(one.field)}: {ratio(one.ratio)}, {one.outcome}"
            for one in shown
        )
        + ".",
        svg=svg.render(made, number),
    )


def _side(align: str, axes: Axes) -> dict[str, Any]:
    return {"ha": align, "va": "bottom", "transform": axes.transAxes, "color": svg.MUTED, "fontsize": svg.FONT - 1}


def _frame(axes: Axes, rows: int, limits: tuple[float, float], regression: Regression) -> None:
    axes.set_xlim(*limits)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="x")
    band = math.log1p(regression.margin)
    for edge in {band, band + abs(regression.floor)}:
        axes.axvspan(-edge, edge, color=svg.MUTED, alpha=0.13, linewidth=0)
    axes.axvline(0, color=svg.MUTED, linewidth=0.9)
    ticks = _ticks(limits)
    svg.fixed_ticks(axes, [math.log(each) for each in ticks], [f"{each:g}" for each in ticks])


def _ticks(limits: tuple[float, float]) -> list[float]:
    """Round ratios, 1 among them, far enough apart for their labels."""
    span = limits[1] - limits[0]
    kept = [1.0]
    for tick in sorted((each for each in _TICKS if limits[0] <= math.log(each) <= limits[1]), key=_distance):
        if all(abs(math.log(tick / each)) > span * 0.13 for each in kept):
            kept.append(tick)
    return sorted(kept)


def _distance(tick: float) -> float:
    return -abs(math.log(tick))


def _row(axes: Axes, row: int, one: Comparison, limits: tuple[float, float]) -> None:
    assert one.ratio is not None
    colour = _COLOURS[one.outcome]
    low, high = (min(max(end, limits[0]), limits[1]) for end in _ends(one))
    middle = min(max(math.log(one.ratio), limits[0]), limits[1])
    if one.interval is not None:
        axes.hlines(row, low, high, color=colour, linewidth=2.2)
    axes.plot([middle], [row], marker=_MARKERS[one.outcome], color=colour, markersize=5, linestyle="none")
    label: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "clip_on": False}
    name = svg.short(one.candidate, 14)
    where = f"{spot(one)}, {one_line(one.load)}" if is_open(one) else spot(one)
    axes.text(-0.75, row - 0.2, f"{name}, {figure(one.field)}", ha="left", fontsize=svg.FONT - 0.5, **label)
    axes.text(-0.75, row + 0.22, svg.short(where, 30), ha="left", color=svg.MUTED, fontsize=svg.FONT - 1.5, **label)
    told = f"{SIGNS[one.outcome]} {ratio(one.ratio)}"
    axes.text(1.03, row, told, ha="left", color=colour, fontweight="bold", **label)
