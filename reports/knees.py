"""The capacity plot: latency against the offered rate, up to where each candidate stops meeting its objective."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.cell import Cell
from bench.results import Capacity, Results
from reports import capacity, svg
from reports.chosen import overloaded
from reports.figures import duration, one_line, rate
from reports.judged import is_open
from reports.plots import Plot
from reports.rows import felt
from reports.summary import candidates_in_order
from reports.svg import ALARM, GRID, MUTED, Look

_LOG_FROM: Final = 8.0
"""Maxima further apart than this would press the slower candidates' lines together."""

_DEFAULT: Final = "p99_ms"
_CAPTION: Final = (
    "Lower is better, and further to the right. A ring marks the highest rate that holds, hollow points are overload: "
    "more was due than was answered, so their height says how long the test ran. Bars span the rounds; the marks "
    "on the lower edge are the maxima of the closed loop."
)


_OBJECTIVE: Final = Look(ALARM, "", "-")


@dataclass(frozen=True)
class _Point:
    """One load of one candidate: the rate offered, the latency in ms, the lowest and the highest round."""

    rate: float
    value: float
    low: float
    high: float
    overloaded: bool
    load: str


def draw(results: Results, found: Sequence[Capacity], number: int) -> Plot | None:
    """The plot of one group of capacities (see `reports.capacity.together`); None without anything to draw."""
    first = found[0]
    limit = capacity.limit_of(first)
    field = limit[0] if limit else _DEFAULT
    looks = svg.looks([(each.name, each.reference) for each in candidates_in_order(results)])
    own = {each.candidate: each for each in found}
    lines = {name: points for name in looks if name in own and (points := _points(results, own[name], field))}
    if not lines:
        return None
    with svg.drawing():
        made = svg.figure(3.1)
        axes = made.add_axes((0.135, 0.155, svg.right_margin(list(lines)) - 0.135, 0.765))
        _frame(axes, lines, limit[1] if limit else None, [each.maximum for each in found if each.maximum])
        axes.set_title(f"{_name(field)} response time, log scale", loc="left", fontsize=svg.FONT, color=MUTED)
        ends = [_line(axes, points, looks[name], own[name]) for name, points in lines.items()]
        labels = [(name, *end, looks[name]) for name, end in zip(lines, ends, strict=True)]
        if limit:
            labels.append((capacity.sign_of(first), axes.get_xlim()[1], limit[1], _OBJECTIVE))
        svg.label_lines(axes, labels)
        drawn = svg.render(made, number)
    told = "; ".join(_said(name, points, own[name]) for name, points in lines.items())
    return Plot(
        title=f"{capacity.where(first)}: {_name(field)} against the offered rate",
        caption=_CAPTION + _missing(results, own, lines),
        alternative=f"{_name(field)} by offered rate: {told}.",
        svg=drawn,
    )


def _points(results: Results, own: Capacity, field: str) -> list[_Point]:
    """The open loops of a capacity's place, in the order of their rates."""
    made = []
    for cell in _open_cells(results, own):
        value = _value(cell, field)
        if cell.schedule is None or cell.schedule.rate <= 0 or value is None or value <= 0:
            continue
        rounds = [each for each in cell.per_round.get(field, []) if each is not None and each > 0] or [value]
        span = min(*rounds, value), max(*rounds, value)
        made.append(_Point(cell.schedule.rate, value, *span, overloaded(cell), cell.load))
    return sorted(made, key=lambda each: each.rate)


def _open_cells(results: Results, own: Capacity) -> list[Cell]:
    place = (own.candidate, own.driver, own.workload, own.concurrency)
    return [
        each
        for each in results.cells
        if is_open(each) and (each.candidate, each.driver, each.workload, each.concurrency) == place
    ]


def _value(cell: Cell, field: str) -> float | None:
    """A latency of a cell by its name in criteria."""
    reads = field.startswith("read.")
    times = cell.read_latency_ms if reads else cell.latency_ms
    if times is None:
        return None
    found: float | None = getattr(felt(times), field.removeprefix("read.").removesuffix("_ms"), None)
    return found


def _name(field: str) -> str:
    return field.removesuffix("_ms").replace(".", " ").replace("p999", "p99.9")


def _frame(axes: Axes, lines: dict[str, list[_Point]], limit: float | None, maxima: Sequence[float]) -> None:
    rates = [point.rate for points in lines.values() for point in points]
    tops = [max(point.rate for point in points) for points in lines.values()]
    heights = [each for points in lines.values() for point in points for each in (point.low, point.high)]
    every = [*heights, *([limit] if limit else [])]
    svg.log_axis(axes, min(every) / 1.1, max(every), FuncFormatter(lambda value, _: duration(value)))
    if max(tops) / min(tops) > _LOG_FROM:
        axes.set_xscale("log")
        axes.set_xlim(min(rates) / 1.2, max(*rates, *maxima) * 1.1)
        svg.log_ticks(axes)
    else:
        axes.set_xlim(0, max([*rates, *maxima]) * 1.04)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: svg.plain(value)))
    axes.set_xlabel("offered operations/s")
    if limit:
        axes.axhline(
            limit, color=ALARM, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1.5
        )  # dashed, and labelled like the lines


def _line(axes: Axes, points: list[_Point], look: Look, own: Capacity) -> tuple[float, float]:
    """One candidate's line; where it ends, as (rate, latency)."""
    at, values = [each.rate for each in points], [each.value for each in points]
    colour = look.colour
    axes.vlines(
        at, [each.low for each in points], [each.high for each in points], color=colour, linewidth=2.4, alpha=0.4
    )
    axes.plot(at, values, color=colour, linestyle=look.dashes, zorder=3)
    for hollow in (False, True):
        some = [each for each in points if each.overloaded == hollow]
        axes.plot(
            [each.rate for each in some],
            [each.value for each in some],
            linestyle="none",
            marker=look.marker,
            color=colour,
            markerfacecolor=svg.PAPER if hollow else colour,
            zorder=4,
        )
    knee = next((each for each in points if each.load == own.holds_load), None)
    if knee is not None:
        axes.plot(knee.rate, knee.value, marker="o", markersize=10, fillstyle="none", color=colour, zorder=5)
    if own.maximum:
        axes.plot(
            own.maximum, 0.0, marker=2, markersize=7, markeredgewidth=2, color=colour, clip_on=False,
            transform=axes.get_xaxis_transform(), zorder=5,
        )  # fmt: skip
    axes.hlines(values[-1], at[-1], axes.get_xlim()[1], color=GRID, linewidth=0.7, zorder=1)
    return at[-1], values[-1]


def _said(name: str, points: list[_Point], own: Capacity) -> str:
    steps = ", ".join(f"{duration(each.value)} at {rate(each.rate)}" for each in points)
    return f"{one_line(name)} {steps}, holds {capacity.held(own)}"


def _missing(results: Results, own: dict[str, Capacity], lines: dict[str, list[_Point]]) -> str:
    """Which loads are not drawn because there were too few operations for the percentile."""
    found = []
    for name, each in own.items():
        drawn = {point.load for point in lines.get(name, [])}
        left = [one_line(cell.load) for cell in _open_cells(results, each) if cell.load not in drawn]
        found += [f"{one_line(name)} {', '.join(left)}"] if left else []
    return f" Left out, n too small: {'; '.join(found)}." if found else ""
