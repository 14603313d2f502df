"""One small plot a cell with a fault: metrics/s, the fault's span, the first ok after it, errors by kind beneath."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.ticker import MaxNLocator

from bench.fault_cell import FaultSeen, Moment
from reports import svg
from reports.figures import count, duration, one_line, rate
from reports.svg import ALARM, GRID, INK, MUTED, Look

BIN_S: Final = 0.25
_MOST_BINS, _MOST_KINDS = 90, 3
_OTHER: Final = "other kinds"
_WIDTH, _LEFT, _RIGHT = 2.95 * 72, 27.0, 5.0
_TOP, _RATES, _MARK, _STRIP, _BOTTOM, _BAR = 23.0, 58.0, 9.0, 20.0, 15.0, 8.0
"""Points: heights of the label rows, the rates, the mark of the first ok, one kind of error, the times."""

_FONT: Final = 8.0


@dataclass(frozen=True)
class Panel:
    """The drawing of one candidate's cell, and a text that replaces it."""

    svg: str
    alternative: str


@dataclass(frozen=True)
class Frame:
    """What the panels of one fault share, so that they compare side by side: seconds, metrics/s, kinds of errors."""

    seconds: float
    top: float
    kinds: tuple[str, ...]
    most: dict[str, int]

    @property
    def height(self) -> float:
        """In points."""
        return _TOP + _RATES + _MARK + _STRIP * max(1, len(self.kinds)) + _BOTTOM


@dataclass(frozen=True)
class Bins:
    """A timeline thinned for drawing: equal steps of ``step`` seconds from 0 on, without gaps."""

    step: float
    rates: tuple[float, ...]
    errors: tuple[Counter[str], ...]

    @property
    def total(self) -> Counter[str]:
        """All errors by kind."""
        return sum(self.errors, Counter())


def frame(rounds: Sequence[FaultSeen]) -> Frame:
    """The scales that hold all of them."""
    bins = [binned(each.timeline) for each in rounds]
    total: Counter[str] = sum((each.total for each in bins), Counter())
    kinds = [kind for kind, _ in total.most_common(None if len(total) <= _MOST_KINDS else _MOST_KINDS - 1)]
    shown = (*kinds, *([_OTHER] if len(kinds) < len(total) else []))
    counted = [_shown(errors, shown) for each in bins for errors in each.errors]
    return Frame(
        seconds=max([_ends(each, own) for each, own in zip(rounds, bins, strict=True)], default=BIN_S),
        top=max([value for each in bins for value in each.rates], default=0.0) or 1.0,
        kinds=shown,
        most={kind: max(each[kind] for each in counted) for kind in shown},
    )


def _ends(seen: FaultSeen, bins: Bins) -> float:
    marks = [each for each in (seen.begin_s, seen.end_s, first_ok(seen)) if each is not None]
    return max([len(bins.rates) * bins.step, BIN_S, *marks])


def first_ok(seen: FaultSeen) -> float | None:
    """When the first operation ended ok after the fault's end."""
    return None if seen.first_ok_s is None or seen.end_s is None else seen.end_s + seen.first_ok_s


def binned(moments: Sequence[Moment]) -> Bins:
    """The moments as rates in equal steps; a moment that was not recorded had nothing."""
    if not moments:
        return Bins(BIN_S, (), ())
    metrics: Counter[int] = Counter()
    errors: dict[int, Counter[str]] = {}
    last = max(round(each.at_s / BIN_S) for each in moments)
    merged = math.ceil((last + 1) / _MOST_BINS)
    for each in moments:
        index = round(each.at_s / BIN_S) // merged
        metrics[index] += each.metrics
        errors.setdefault(index, Counter()).update({one_line(kind): n for kind, n in each.errors.items()})
    step, indices = BIN_S * merged, range(last // merged + 1)
    lasts = [min(step, (last + 1) * BIN_S - index * step) for index in indices]
    return Bins(
        step,
        tuple(metrics[index] / lasts[index] for index in indices),
        tuple(errors.get(index, Counter()) for index in indices),
    )


def _shown(errors: Counter[str], kinds: Sequence[str]) -> Counter[str]:
    """Errors of the kinds shown; all others together."""
    found: Counter[str] = Counter()
    for kind, n in errors.items():
        found[kind if kind in kinds else _OTHER] += n
    return found


def draw(seen: FaultSeen, shared: Frame, look: Look, number: int) -> Panel:
    """One panel; made inside `svg.drawing`."""
    bins = binned(seen.timeline)
    made = svg.figure(shared.height / 72, _WIDTH / 72)
    axes = made.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    second = (_WIDTH - _LEFT - _RIGHT) / shared.seconds
    axes.set_xlim(-_LEFT / second, (_WIDTH - _LEFT) / second)
    floor = shared.height - _TOP - _RATES
    axes.set_ylim(-floor, shared.height - floor)  # points; 0 is no metrics/s
    _scales(axes, shared, floor)
    _span(axes, seen, shared, floor)
    _rates(axes, bins, shared, look)
    _first_ok(axes, seen)
    _errors(axes, bins, shared)
    return Panel(svg.render(made, number), _told(seen, bins))


def _label(axes: Axes, x: float, y: float, text: str, side: str = "left", colour: str = MUTED) -> None:
    axes.text(x, y, text, ha=side, va="bottom", color=colour, fontsize=_FONT)


def _scales(axes: Axes, shared: Frame, floor: float) -> None:
    """Few lines and figures: the rates at the left, seconds beneath."""
    point = shared.seconds / (_WIDTH - _LEFT - _RIGHT)
    for value in _ticks(shared.top, 3):
        height = value / shared.top * _RATES
        axes.plot([0, shared.seconds], [height, height], color=GRID, linewidth=0.6, zorder=0.5)
        _label(axes, -4 * point, height - 3, svg.plain(value), "right")
    _label(axes, -_LEFT * point, _RATES + _TOP - 10, "metrics/s")
    for value in _ticks(shared.seconds, 5):
        axes.plot([value, value], [-floor + _BOTTOM, -floor + _BOTTOM - 3], color=GRID, linewidth=0.8)
        axes.text(value, -floor + _BOTTOM - 4, f"{value:g} s", ha="center", va="top", color=MUTED, fontsize=_FONT)
    axes.plot([0, shared.seconds], [-floor + _BOTTOM] * 2, color=GRID, linewidth=0.8)


def _ticks(top: float, most: int) -> list[float]:
    found = MaxNLocator(most, steps=(1, 2, 5, 10)).tick_values(0, top)
    return [float(each) for each in found if 0 <= each <= top * 1.001]


def _span(axes: Axes, seen: FaultSeen, shared: Frame, floor: float) -> None:
    """The time in which the fault held: shaded down to the seconds, its ends marked beside the rates."""
    if seen.begin_s is None:
        _label(axes, shared.seconds, _RATES + 2, "the fault did not begin", "right")
        return
    end = shared.seconds if seen.end_s is None else seen.end_s
    low = -floor + _BOTTOM
    begin = seen.begin_s
    axes.fill([begin, begin, end, end], [low, _RATES, _RATES, low], color=MUTED, alpha=0.16, linewidth=0)
    ends = [begin, *([] if seen.end_s is None else [seen.end_s])]
    axes.vlines(ends, 0, _RATES + 3, color=MUTED, linewidth=0.8)
    point = shared.seconds / (_WIDTH - _LEFT - _RIGHT)
    crowded = begin < 22 * point  # then the word would stand among the figures of the scale
    _label(axes, begin, _RATES + (11 if crowded else 2), "begin", "left" if crowded else "right")
    late = end > shared.seconds - 18 * point
    _label(axes, end, _RATES + 2, "no end" if seen.end_s is None else "end", "right" if late else "left")


def _rates(axes: Axes, bins: Bins, shared: Frame, look: Look) -> None:
    if not bins.rates:
        return
    area = _area(bins.step, [value / shared.top * _RATES for value in bins.rates], 0.0)
    axes.fill(*area, facecolor=to_rgba(look.colour, 0.3), edgecolor=look.colour, linewidth=1.1, clip_on=False)


def _area(step: float, heights: Sequence[float], base: float) -> tuple[list[float], list[float]]:
    """The outline of steps over a base, from its left end to its right one; equal neighbours are one step."""
    xs, ys = [0.0], [base]
    for index, height in enumerate(heights):
        if base + height != ys[-1]:
            xs += [index * step, index * step]
            ys += [ys[-1], base + height]
    end = len(heights) * step
    return [*xs, end, end], [*ys, ys[-1], base]


def _first_ok(axes: Axes, seen: FaultSeen) -> None:
    """A mark beneath the rates that points at the first operation that ended ok."""
    at = first_ok(seen)
    if at is not None:
        axes.plot([at], [-4.5], marker="^", markersize=5.5, color=INK, linestyle="none")


def _errors(axes: Axes, bins: Bins, shared: Frame) -> None:
    """A strip a kind with its name and number; bars as high as their share of the highest of that kind."""
    total = _shown(bins.total, shared.kinds)
    if not shared.kinds:
        _label(axes, 0, -_MARK - 11, "no errors")
    for place, kind in enumerate(shared.kinds):
        base = -_MARK - _STRIP * (place + 1) + 1
        number = count(total[kind]) if total[kind] else "none"
        _label(axes, 0, base + _BAR, f"{svg.short(kind.replace('_', ' '), 30)}: {number}")
        if total[kind]:
            heights = [_height(_shown(each, shared.kinds)[kind], shared.most[kind]) for each in bins.errors]
            axes.fill(*_area(bins.step, heights, base), color=ALARM, linewidth=0, clip_on=False)
        axes.plot([0, shared.seconds], [base, base], color=GRID, linewidth=0.5)


def _height(n: int, most: int) -> float:
    """Points; one error among thousands is still seen."""
    return 0.0 if not n else max(1.5, (_BAR - 1) * math.sqrt(n / most))


def _told(seen: FaultSeen, bins: Bins) -> str:
    """The panel in words."""
    errors = ", ".join(f"{kind} {count(n)}" for kind, n in bins.total.most_common())
    return f"{_rates_told(seen, bins)} Errors: {errors or 'none'}."


def _rates_told(seen: FaultSeen, bins: Bins) -> str:
    length = len(bins.rates) * bins.step
    begin = seen.begin_s
    if begin is None:
        return f"Metrics per second over {_seconds(length)}: {_mean(bins, 0, length)}; the fault did not begin."
    end = length if seen.end_s is None else seen.end_s
    parts = [f"Metrics per second: {_mean(bins, 0, begin)} before the fault"]
    parts += [f"{_mean(bins, begin, end)} during it"] if end > begin else []
    span = f"it began at {_seconds(begin)} and " + (
        "did not end" if seen.end_s is None else f"ended at {_seconds(end)}"
    )
    back = first_ok(seen)
    if back is not None:
        parts += [f"first ok {_seconds(back - end)} after its end", f"{_mean(bins, back, length)} thereafter"]
    elif seen.end_s is not None:
        parts.append("no ok after its end")
    return f"{', '.join(parts)}; {span}."


def _mean(bins: Bins, low: float, high: float) -> str:
    """The mean rate of the steps that lie within, or of the one that holds the middle."""
    inside = [
        value
        for index, value in enumerate(bins.rates)
        if low - 1e-9 <= index * bins.step and (index + 1) * bins.step <= high + 1e-9
    ]
    if not inside and bins.rates:
        inside = [bins.rates[min(int((low + high) / 2 / bins.step), len(bins.rates) - 1)]]
    return rate(sum(inside) / len(inside)) if inside else "nothing recorded"


def _seconds(value: float) -> str:
    return duration(max(0.0, value) * 1000)
