"""history-<scenario>.html: the past of a scenario as one self-contained file, a chart for each figure of a cell."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.history.past import PastRun
from bench.history.series import History, Machine, Series
from bench.judge.changes import ALPHA, EFFECT, LEAST, segments
from reports import svg
from reports.figures import NOT_MEASURED, SYMBOLS, count, mathematical, one_line, plural, printable, quantity
from reports.history import (
    Line,
    Since,
    covered,
    group_title,
    headline,
    headline_value,
    line,
    short,
    since,
    summary,
    unit,
)
from reports.plots import Plot

_COLOURS: Final = {True: svg.SERIES[2], False: svg.ALARM, None: svg.MUTED}
_LEAST_SPAN: Final = 0.3
"""A chart spans at least this share of its middle, so that noise does not look like news."""
_MOST_TICKS: Final = 5
_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_ENVIRONMENT.filters["words"] = lambda text: mathematical(one_line(text))
_METHOD: Final = (
    (
        "Series",
        "One figure of one cell, one value a run, on one machine. Runs of unlike machines are never in one series.",
    ),
    (
        "Change",
        "A series is cut where its two sides differ most, on the logs of its values, if random orders of the same "
        f"values hardly ever differ as much (p at most {ALPHA:g}, shared among the cuts); its parts are searched in "
        f"turn. Less than {EFFECT * 100:g} % is not told, and it takes at least {LEAST} runs. A change and its return "
        "within three runs are not seen.",
    ),
    (
        "By chance",
        f"A series without any change is called changed with a probability of {ALPHA * 100:g} % at most. A slow drift, "
        "or noise that carries over from run to run, may be told as a change.",
    ),
    (
        "New there",
        "What the first run at the new level says differently of itself than the run before it. That both coincide "
        "does not make one the cause. If the machine's own figures changed there too, suspect the machine.",
    ),
)


@dataclass(frozen=True)
class Group:
    """The charts of cells that are compared with one another."""

    title: str
    plots: tuple[Plot, ...]


@dataclass(frozen=True)
class Row:
    """A run in the list of runs."""

    when: str
    run: str
    revision: str
    verdict: str
    symbol: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Began:
    """The changes that began with one run, as lines."""

    since: Since
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Part:
    """What a page shows of one machine."""

    title: str
    name: str
    covered: str
    changes: tuple[Began, ...]
    heads: tuple[str, ...]
    headline: str
    rows: tuple[Row, ...]
    groups: tuple[Group, ...]


def write(history: History, path: Path) -> Path:
    """Write the page in one step and return its path.

    Raises:
        OSError: the place can't be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.write_text(render(history), encoding="utf-8")
    return draft.replace(path)


def render(history: History) -> str:
    """The history as one HTML document that needs nothing from anywhere else."""
    with svg.drawing():
        parts = [_part(machine, number, history) for number, machine in enumerate(history.machines)]
    page = _ENVIRONMENT.get_template("history.html.j2").render(
        scenario=one_line(history.scenario),
        source=one_line(history.source),
        covered=covered(history.runs),
        summary=summary(history),
        parts_of=parts,
        method=_METHOD,
        svg=Markup,  # drawn by us: every name in it went through matplotlib's own escaping
        dash=NOT_MEASURED,
    )
    return printable(page)


def _part(machine: Machine, number: int, history: History) -> Part:
    columns, what = headline(machine)
    return Part(
        title=f"Machine {number + 1}" if len(history.machines) > 1 else "",
        name=one_line(machine.name),
        covered=covered(machine.runs),
        changes=tuple(Began(one, tuple(line(*each) for each in one.changes)) for one in since(machine)),
        heads=tuple(one.place.candidate for one in columns if one.place),
        headline=what,
        rows=tuple(_row(run, columns) for run in reversed(machine.runs)),
        groups=tuple(_groups(machine, 1000 * (number + 1))),
    )


def _row(run: PastRun, columns: Sequence[Series]) -> Row:
    return Row(
        when=f"{run.started:%Y-%m-%d %H:%M}",
        run=one_line(run.id),
        revision=short(run.revision),
        verdict=run.verdict if run.verdict in SYMBOLS else "",
        symbol=SYMBOLS.get(run.verdict, NOT_MEASURED),
        values=tuple(headline_value(run, each) for each in columns),
    )


def _groups(machine: Machine, first: int) -> list[Group]:
    drawn = [(one, _chart(one, first + number)) for number, one in enumerate(machine.series)]
    found = groupby(drawn, lambda each: group_title(each[0].place) if each[0].place else "The machine itself")
    return [Group(title, tuple(plot for _, plot in each)) for title, each in found]


def _chart(series: Series, number: int) -> Plot:
    made = svg.figure(1.75)
    axes = made.add_axes((0.135, 0.15, 0.85, 0.68))
    _frame(axes, series)
    at = range(len(series.values))
    axes.plot(at, series.values, color=svg.SERIES[0], marker="o", markersize=3, linewidth=0.7, alpha=0.75)
    found = [shift.change for shift in series.shifts]
    for begin, end in segments(len(series.values), found):
        level = next((one.after for one in found if one.index == begin), found[0].before if found else None)
        if level is not None:
            axes.hlines(level, begin - 0.5, end - 0.5, color=svg.INK, linewidth=1.6)
    _mark(axes, series)
    who = series.place.candidate if series.place else "machine"
    return Plot(
        title=f"{who} · {series.figure}",
        caption="" if series.tested else _untested(series),
        alternative=_alternative(series),
        svg=svg.render(made, number),
    )


def _frame(axes: Axes, series: Series) -> None:
    low, high = min(series.values), max(series.values)
    middle = (low + high) / 2
    half = max((high - low) / 2 * 1.2, abs(middle) * _LEAST_SPAN / 2, 1e-9)
    axes.set_ylim(max(0.0, middle - half) if low >= 0 else middle - half, middle + half)
    axes.set_xlim(-0.6, len(series.values) - 0.4)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    of = unit(series.figure)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value, of)))
    at, labels = _ticks(series.runs)
    svg.fixed_ticks(axes, at, labels)


def _ticks(runs: Sequence[PastRun]) -> tuple[list[float], list[str]]:
    """A few runs, evenly spaced, and when they were: the time of day where all are of one day."""
    last = len(runs) - 1
    steps = min(_MOST_TICKS, len(runs))
    chosen = sorted({round(n * last / max(1, steps - 1)) for n in range(steps)})
    days = {run.started.date() for run in runs}
    years = {day.year for day in days}
    form = "%H:%M" if len(days) == 1 else "%b %-d" if len(years) == 1 else "%b %Y"
    return [float(index) for index in chosen], [f"{runs[index].started:{form}}" for index in chosen]


def _mark(axes: Axes, series: Series) -> None:
    """A vertical line where each change began, with its ratio and revision above."""
    room = len(series.values)
    for number, shift in enumerate(series.shifts):
        at, colour = shift.change.index - 0.5, _COLOURS[shift.better]
        axes.axvline(at, color=colour, linewidth=1.2, linestyle=(0, (4, 2)))
        said = line(series, shift)
        left = at > room * 0.7
        axes.annotate(
            f"×{said.ratio} {said.revision}",
            xy=(at, 1.0), xycoords=("data", "axes fraction"),
            xytext=(3 if not left else -3, 2 + 10 * (number % 2)), textcoords="offset points",
            ha="right" if left else "left", va="bottom",
            color=colour, fontsize=svg.FONT - 1, fontweight="bold", annotation_clip=False,
        )  # fmt: skip


def _untested(series: Series) -> str:
    if len(series.values) < LEAST:
        return f"{plural(len(series.values), 'run')}: changes are looked for from {LEAST} on."
    return "Not searched for changes: some value is 0, and has no ratio."


def _alternative(series: Series) -> str:
    of = unit(series.figure)
    found = [f"×{one.ratio} at {one.revision} ({one.when})" for one in (line(series, each) for each in series.shifts)]
    least, most, latest = (quantity(each, of) for each in (min(series.values), max(series.values), series.values[-1]))
    changed = f"changed: {', '.join(found)}" if found else "no change"
    return f"{count(len(series.values))} runs from {least} to {most}, the latest {latest}; {changed}."
