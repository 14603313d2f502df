"""The past of a scenario in words, and on a terminal: its runs, each figure's course, and where it changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from rich.console import Console

from bench.cell import CLOSED
from bench.history.names import Place
from bench.history.past import Kept, PastRun
from bench.history.series import History, Machine, Series, Shift
from bench.judge.changes import ALPHA, LEAST
from reports.figures import NOT_MEASURED, count, one_line, plural, quantity, significant
from reports.page import Entry, Page

_STYLES: Final = {True: "green", False: "bold red", None: "yellow"}
_WORDS: Final = {True: "better", False: "worse", None: "changed"}
_VERDICTS: Final = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}
_BARS: Final = "▁▂▃▄▅▆▇█"
_MOST_BARS, _MOST_RUNS, _MOST_SERIES, _MOST_DIFFERENCES = 24, 8, 40, 3


@dataclass(frozen=True)
class Line:
    """One change as a reader sees it."""

    figure: str
    place: str
    ratio: str
    direction: str
    revision: str
    when: str
    p: str
    before: str
    after: str


@dataclass(frozen=True)
class Since:
    """The changes that began with one run; ``new`` is what it says differently of itself than the run before it."""

    when: str
    revision: str
    run: str
    new: str
    changes: tuple[tuple[Series, Shift], ...]


def unit(figure: str) -> str:
    """The unit of a figure by its name, as `reports.figures.quantity` wants it."""
    if figure.endswith("_ms"):
        return "ms"
    if figure.endswith("_per_s"):
        return "/s"
    return "share" if figure in ("success_rate", "integrity") else "×" if figure.endswith("_ratio") else ""


def since(machine: Machine) -> list[Since]:
    """The changes found on a machine by the run that they began with, the latest first."""
    grouped = groupby(machine.shifts, lambda each: (short(each[1].run.revision), each[1].run.id, _differing(each[1])))
    found = [(key, list(each)) for key, each in grouped]
    return [
        Since(f"{own[0][1].run.started:%Y-%m-%d}", revision, run, new, tuple(own))
        for (revision, run, new), own in found
    ]


def told(series: Series, shift: Shift) -> str:
    """A change in one line: ``p99_ms postgresql http log_metric 20: x1.32 at 1a2b3c4 (2026-03-05), p = 0.002``."""
    said = line(series, shift)
    return f"{series.name}: x{said.ratio} at {said.revision} ({said.when}), p = {said.p}"


def line(series: Series, shift: Shift) -> Line:
    """A change as a reader sees it."""
    change, of = shift.change, unit(series.figure)
    return Line(
        figure=series.figure,
        place=str(series.place) if series.place else "the machine itself",
        ratio=f"{change.ratio:.2f}" if change.ratio < 10 else significant(change.ratio),
        direction=_WORDS[shift.better],
        revision=short(shift.run.revision),
        when=f"{shift.run.started:%Y-%m-%d}",
        p=f"{change.p:.1g}",
        before=quantity(change.before, of),
        after=quantity(change.after, of),
    )


def _differing(shift: Shift) -> str:
    """What was new with a change, beside the revision."""
    new = [
        f"{one_line(name)} {one_line(b)} → {one_line(a)}"
        for name, (b, a) in shift.differs.items()
        if name != "revision"
    ]
    more = f", and {len(new) - _MOST_DIFFERENCES} more" if len(new) > _MOST_DIFFERENCES else ""
    return ", ".join(new[:_MOST_DIFFERENCES]) + more


def short(revision: str) -> str:
    """A revision as people quote it; ``-dirty`` stays."""
    name, dash, rest = one_line(revision).partition("-")
    return f"{name[:9]}{dash}{rest}" if rest in ("", "dirty") else one_line(revision)


# -- terminal ---------------------------------------------------------------------------------------------


def render_scenarios(found: Sequence[Kept], source: str, console: Console) -> None:
    """Print which scenarios have runs."""
    page = Page(console)
    if not found:
        page.print(page.text(f"{one_line(source)}: nothing was tracked there; `trackbench run --track` does"))
        return
    rows: list[list[Entry]] = [[("scenario", "", "bold"), ("runs", "", "bold"), ("latest", "", "bold")]]
    for one in found:
        latest = f"{one.latest:%Y-%m-%d %H:%M}" if one.latest else NOT_MEASURED
        rows.append([(one_line(one.scenario), "", ""), (count(one.runs), "", ""), (latest, "", "dim")])
    page.grid(rows)


def render(history: History, console: Console) -> None:
    """Print the runs, each series with its latest value and its course, and last what changed."""
    page = Page(console)
    page.line()
    title = page.text(one_line(history.scenario), "bold")
    page.print(title.append(page.text(f"  {covered(history.runs)}, {one_line(history.source)}", "dim")), hang=2)
    for number, machine in enumerate(history.machines, start=1):
        page.line()
        if len(history.machines) > 1:
            page.print(
                page.text(f"Machine {number}: {one_line(machine.name)} ({plural(len(machine.runs), 'run')})", "bold")
            )
        _print_runs(page, machine)
        page.line()
        _print_series(page, machine)
    page.line()
    if len(history.machines) > 1:
        page.print(page.text("Runs of unlike machines are not compared: each machine has series of its own."), hang=2)
    for machine in history.machines:
        _print_changes(page, machine)
    page.print(page.text(summary(history), "bold"), hang=2)


def _print_changes(page: Page, machine: Machine) -> None:
    """A line for each change; what was new in the run that it began with, once for those that it is the same for."""
    for run in since(machine):
        for series, shift in run.changes:
            text = page.text(f"{_WORDS[shift.better]}  ", _STYLES[shift.better])
            page.print(text.append(page.text(told(series, shift))), hang=2)
        if run.new:
            page.print(page.text(f"  new at {run.revision}: {run.new}", "dim"), hang=4)


def summary(history: History) -> str:
    """How many changes were found in how much, and how many chance alone would make."""
    if not history.tested:
        return f"No series is long enough to be searched for changes: it takes {LEAST} runs of one machine."
    found = [shift for machine in history.machines for _, shift in machine.shifts]
    kinds = [(sum(each.better is kind for each in found), word) for kind, word in sorted(_WORDS.items(), key=str)]
    told_apart = ", ".join(f"{count(number)} {word}" for number, word in kinds if number)
    said = f"{plural(len(found), 'change')} ({told_apart})" if found else "No change"
    by_chance = significant(history.tested * ALPHA, 2)
    return f"{said} in {count(history.tested)} series; by chance alone at most {by_chance} would be expected."


def covered(runs: Sequence[PastRun]) -> str:
    """How many runs, and the days that they span."""
    first, last = f"{runs[0].started:%Y-%m-%d}", f"{runs[-1].started:%Y-%m-%d}"
    return f"{plural(len(runs), 'run')}, {first}" + ("" if first == last else f" to {last}")


def _print_runs(page: Page, machine: Machine) -> None:
    columns, what = headline(machine)
    rows: list[list[Entry]] = [
        [
            (name, "", "bold")
            for name in ("when", "revision", "verdict", *(one.place.candidate for one in columns if one.place))
        ]
    ]
    for run in reversed(machine.runs[-_MOST_RUNS:]):
        figures = [(headline_value(run, each), "", "") for each in columns]
        verdict = (one_line(run.verdict), "", _VERDICTS.get(run.verdict, ""))
        rows.append([(f"{run.started:%Y-%m-%d %H:%M}", "", ""), (short(run.revision), "", ""), verdict, *figures])
    page.grid(rows)
    earlier = len(machine.runs) - _MOST_RUNS
    left = f" {plural(earlier, 'earlier run')}: see the page." if earlier > 0 else ""
    if said := (f"{what}." if what else "") + left:
        page.print(page.text(said.strip(), "dim"))


def headline(machine: Machine) -> tuple[list[Series], str]:
    """What stands beside each run in a list: one figure of the cells at the highest concurrency, and which that is."""
    placed = [(one, one.place) for one in machine.series if one.place]
    for figure in ("p99_ms", "metrics_per_s", *(one.figure for one, _ in placed)):
        cells = [(one, place) for one, place in placed if one.figure == figure]
        if cells:
            _, top = max(cells, key=lambda each: (each[1].driver == "http", each[1].concurrency))
            return [one for one, place in cells if place[1:] == top[1:]], f"{figure} of {group_title(top)}"
    return [], ""


def headline_value(run: PastRun, column: Series) -> str:
    """A run's value in a column of `headline`."""
    found = {own.id: value for own, value in zip(column.runs, column.values, strict=True)}
    return quantity(found.get(run.id), unit(column.figure))


def group_title(place: Place) -> str:
    """What cells that are compared with one another share: ``http log_metric, 20 at once``."""
    said = f"{place.driver} {place.workload}, {place.concurrency} at once"
    return said if place.load == CLOSED else f"{said}, {place.load}"


def _print_series(page: Page, machine: Machine) -> None:
    heads = ("cell", "figure", "latest", "to previous", "course" if _draws(page) else "")
    rows: list[list[Entry]] = [[(name, "", "bold") for name in heads]]
    for one in machine.series[:_MOST_SERIES]:
        style = _STYLES[one.shifts[-1].better] if one.shifts else ""
        previous = _ratio(one.values[-1], one.values[-2]) if len(one.values) > 1 else NOT_MEASURED
        rows.append([
            (str(one.place) if one.place else "the machine itself", "", ""), (one.figure, "", style),
            (quantity(one.values[-1], unit(one.figure)), "", ""), (previous, "", ""),
            (spark(one.values[-_MOST_BARS:]) if _draws(page) else "", "", style or "dim"),
        ])  # fmt: skip
    page.grid(rows)
    if len(machine.series) > _MOST_SERIES:
        page.print(page.text(f"{plural(len(machine.series) - _MOST_SERIES, 'figure')} more: see the page.", "dim"))


def _draws(page: Page) -> bool:
    return page.said(_BARS) == _BARS


def _ratio(value: float, other: float) -> str:
    return f"x{value / other:.2f}" if other else NOT_MEASURED


def spark(values: Sequence[float]) -> str:
    """A course as a row of bars, from the least to the greatest; a level one where they hardly differ."""
    low, high = min(values), max(values)
    if high - low <= 0.02 * abs(high):
        return _BARS[3] * len(values)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in values)
