"""The report's plots: throughput against concurrency, latency percentiles, and both over time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.cell import Cell, Percentiles, TimelinePoint
from bench.results import Results
from reports import svg
from reports.chosen import Chosen, choose
from reports.figures import duration, one_line, plural, rate
from reports.judged import is_open
from reports.rows import felt
from reports.summary import candidates_in_order
from reports.svg import GRID, MUTED, Look

_TICKS = ("p50", "p90", "p95", "p99", "p99.9", "max")
_LOG_FROM = 10.0
_MOST_BINS = 240
_MOST_ROUND_LINES = 40
_LEAST_SECOND = 0.4


@dataclass(frozen=True)
class Plot:
    """One drawing: its title, what to see in it, a text that replaces it, and the SVG itself."""

    title: str
    caption: str
    alternative: str
    svg: str


@dataclass(frozen=True)
class Gallery:
    """All plots of a report but those of capacity, in groups."""

    speed: tuple[Plot, ...]
    tails: tuple[Plot, ...]
    times: tuple[Plot, ...]


def draw(results: Results) -> Gallery:
    """Every plot that the results have data for."""
    names = [(each.name, each.reference) for each in candidates_in_order(results)]
    found = svg.looks(names)
    chosen = choose(results)
    with svg.drawing():
        speed = [_throughput(results, each, found, index) for index, each in enumerate(chosen)]
        tails = [_tails(each, found, 100 + index) for index, each in enumerate(chosen)]
        leading = [cell for each in chosen if each.driver == chosen[0].driver for cell in each.speed]
        times = [_over_time(cell, found[cell.candidate], 200 + index) for index, cell in enumerate(leading)]
    return Gallery(*(tuple(plot for plot in plots if plot) for plots in (speed, tails, times)))


def _speeds(cell: Cell) -> list[float]:
    return [each for each in cell.per_round.get("metrics_per_s", []) if each is not None and each > 0]


def _throughput(results: Results, chosen: Chosen, found: dict[str, Look], number: int) -> Plot | None:
    """Of closed loops alone: an open one prescribes its throughput."""
    key = (chosen.driver, chosen.workload)
    cells = [
        cell
        for cell in results.cells
        if (cell.driver, cell.workload) == key
        and not is_open(cell)
        and cell.metrics_per_s is not None
        and cell.metrics_per_s > 0
    ]
    lines = {
        name: sorted((cell for cell in cells if cell.candidate == name), key=lambda cell: cell.concurrency)
        for name in found
        if any(cell.candidate == name for cell in cells)
    }
    if not lines:
        return None
    made = svg.figure(2.75)
    axes = made.add_axes((0.115, 0.17, svg.right_margin(list(lines)) - 0.115, 0.74))
    levels = sorted({cell.concurrency for cell in cells})
    _frame_speed(axes, levels, [value for cell in cells for value in (cell.metrics_per_s or 0.0, *_speeds(cell))])
    ends = [_line(axes, name, line, found[name]) for name, line in lines.items()]
    svg.label_lines(axes, ends)
    told = "; ".join(
        f"{one_line(name)} " + ", ".join(f"{rate(cell.metrics_per_s)} at {cell.concurrency}" for cell in line)
        for name, line in lines.items()
    )
    return Plot(
        title=f"{one_line(chosen.workload)} ({chosen.driver}): metrics/s against concurrency",
        caption="Maximum, closed loop. Higher is better. A line that stays flat gains nothing from more writers. "
        "Bars and bands span the slowest and the fastest round.",
        alternative=f"Metrics per second by concurrency: {told}.",
        svg=svg.render(made, number),
    )


def _frame_speed(axes: Axes, levels: Sequence[int], values: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(levels[0] / 1.15, levels[-1] * 1.15)
    kept = levels if len(levels) <= 8 else levels[:: math.ceil(len(levels) / 8)]
    svg.fixed_ticks(axes, kept, [str(each) for each in kept])
    axes.set_xlabel("at once (writers or users)")
    low, high = min(values), max(values)
    if high / low > _LOG_FROM:
        svg.log_axis(axes, low, high, FuncFormatter(lambda value, _: svg.plain(value)))
        axes.set_title("metrics/s, log scale", loc="left", fontsize=svg.FONT, color=MUTED)
        return
    axes.set_ylim(0, high * 1.08)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: svg.plain(value)))
    axes.set_title("metrics/s", loc="left", fontsize=svg.FONT, color=MUTED)


def _line(axes: Axes, name: str, line: list[Cell], look: Look) -> tuple[str, float, float, Look]:
    at = [cell.concurrency for cell in line]
    middle = [cell.metrics_per_s or 0.0 for cell in line]
    rounds = [_speeds(cell) or [value] for cell, value in zip(line, middle, strict=True)]
    low, high = [min(each) for each in rounds], [max(each) for each in rounds]
    axes.fill_between(at, low, high, color=look.colour, alpha=0.14, linewidth=0)
    axes.vlines(at, low, high, color=look.colour, linewidth=2.6, alpha=0.45)
    axes.plot(at, middle, color=look.colour, marker=look.marker, linestyle=look.dashes)
    return name, float(at[-1]), middle[-1], look


def _values(found: Percentiles) -> list[float | None]:
    return [found.p50, found.p90, found.p95, found.p99, found.p999, found.max]


def _tails(chosen: Chosen, found: dict[str, Look], number: int) -> Plot | None:
    """Of the open loop where there is one; of the closed one else."""
    cells = chosen.tail
    lines = {
        cell.candidate: [
            (index, value)
            for index, value in enumerate(_values(felt(cell.latency_ms)))
            if value is not None and value > 0
        ]
        for cell in cells
    }
    lines = {name: lines[name] for name in found if lines.get(name)}
    if not lines:
        return None
    made = svg.figure(2.75)
    axes = made.add_axes((0.135, 0.17, svg.right_margin(list(lines)) - 0.135, 0.74))
    every = [value for line in lines.values() for _, value in line]
    axes.set_xlim(-0.25, len(_TICKS) - 0.75)
    svg.fixed_ticks(axes, range(len(_TICKS)), _TICKS)
    axes.set_xlabel("percentile of operations")
    svg.log_axis(axes, min(every), max(every), FuncFormatter(lambda value, _: duration(value)))
    time = "response time, from the schedule" if chosen.opened else "service time"
    axes.set_title(f"{time}, log scale", loc="left", fontsize=svg.FONT, color=MUTED)
    ends = []
    for name, line in lines.items():
        look, at, values = found[name], [x for x, _ in line], [y for _, y in line]
        axes.plot(at, values, color=look.colour, marker=look.marker, linestyle=look.dashes)
        ends.append((name, at[-1], values[-1], look))
    svg.label_lines(axes, ends)
    told = "; ".join(
        f"{one_line(name)} " + ", ".join(f"{_TICKS[at]} {duration(value)}" for at, value in line)
        for name, line in lines.items()
    )
    return Plot(
        title=f"{one_line(chosen.workload)} ({chosen.driver}), {chosen.concurrency} at once, "
        f"{chosen.pace or 'closed loop'}: latency percentiles",
        caption="Lower is better, and flatter: a line that climbs to the right makes some users wait."
        + _skipped(cells),
        alternative=f"Latency by percentile: {told}.",
        svg=svg.render(made, number),
    )


def _skipped(cells: Sequence[Cell]) -> str:
    """Which percentiles are missing because there were too few operations."""
    missing = [
        f"{one_line(cell.candidate)} {' '.join(names)} (n = {felt(cell.latency_ms).n})"
        for cell in cells
        if (names := [t for t, v in zip(_TICKS, _values(felt(cell.latency_ms)), strict=True) if v is None])
    ]
    return f" Left out, n too small: {'; '.join(missing)}." if missing else ""


@dataclass(frozen=True)
class _Bins:
    """A timeline thinned for drawing: where each bin begins, its mean and extreme rates, its peak of lock errors."""

    at: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    locks: list[int]
    round_starts: list[int]
    seconds: int


def _whole_seconds(cell: Cell) -> list[TimelinePoint]:
    """The timeline in order; a trial's last second is rarely whole: it becomes a rate, or is left out if too short."""
    points = sorted(cell.timeline, key=lambda point: (point.round, point.second))
    rounds = len({point.round for point in points})
    length = cell.seconds / max(1, rounds)
    kept = []
    for point in points:
        share = min(1.0, length - point.second)
        if share >= _LEAST_SECOND:
            kept.append(point.model_copy(update={"metrics": round(point.metrics / share)}))
    return kept


def _binned(points: Sequence[TimelinePoint]) -> _Bins:
    starts = [i for i, each in enumerate(points) if i and each.round != points[i - 1].round]
    size = math.ceil(len(points) / _MOST_BINS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return _Bins(
        at=[float(start) for start in range(0, len(points), size)],
        mean=[sum(point.metrics for point in group) / len(group) for group in groups],
        low=[float(min(point.metrics for point in group)) for group in groups],
        high=[float(max(point.metrics for point in group)) for group in groups],
        locks=[max(point.lock_errors for point in group) for group in groups],
        round_starts=starts,
        seconds=len(points),
    )


def _over_time(cell: Cell, look: Look, number: int) -> Plot | None:
    points = _whole_seconds(cell)
    if len(points) < 2:
        return None
    bins = _binned(points)
    made = svg.figure(2.15)
    above = made.add_axes((0.115, 0.44, 0.865, 0.44))
    below = made.add_axes((0.115, 0.205, 0.865, 0.13), sharex=above)
    _draw_rates(above, bins, look)
    _draw_locks(below, bins)
    below.set_xlabel("measured seconds, the rounds one after another")
    locks = sum(point.lock_errors for point in cell.timeline)
    said = plural(locks, "lock error") if locks else "no lock errors"
    return Plot(
        title=f"{one_line(cell.candidate)}: {one_line(cell.workload)} ({cell.driver}), {cell.concurrency} at once",
        caption="",
        alternative=(
            f"Metrics per second over {bins.seconds} seconds in {plural(len(bins.round_starts) + 1, 'round')}: "
            f"{rate(min(bins.low))} to {rate(max(bins.high))}, with {said}."
        ),
        svg=svg.render(made, number),
    )


def _draw_rates(axes: Axes, bins: _Bins, look: Look) -> None:
    axes.fill_between(bins.at, bins.low, bins.high, color=look.colour, alpha=0.2, linewidth=0)
    axes.plot(bins.at, bins.mean, color=look.colour, linewidth=1.1)
    axes.set_xlim(0, max(1, bins.seconds - 1))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_ylim(0, max(*bins.high, 1.0) * 1.1)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: svg.plain(value)))
    axes.tick_params(labelbottom=False, bottom=False)
    axes.set_title("metrics/s", loc="left", fontsize=svg.FONT, color=MUTED, pad=4)
    if len(bins.round_starts) <= _MOST_ROUND_LINES:
        for start in bins.round_starts:
            axes.axvline(start, color=GRID, linewidth=0.6)


def _draw_locks(axes: Axes, bins: _Bins) -> None:
    peak = max(bins.locks)
    axes.set_title(
        "lock errors/s" if peak else "lock errors/s: none", loc="left", fontsize=svg.FONT, color=MUTED, pad=3
    )
    axes.set_ylim(0, max(1, peak))
    axes.yaxis.set_major_locator(MaxNLocator(1, integer=True))
    if peak:
        axes.fill_between(bins.at, bins.locks, color=svg.ALARM, step="post", linewidth=0.8)
    else:
        axes.tick_params(labelleft=False)
