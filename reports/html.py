"""report.html: one self-contained file, the one-minute screen first, everything behind it below."""

import re
from dataclasses import dataclass
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.results import Candidate, Results
from reports import capacity, details, evidence, knees, method, plots, regression, resilience, served, versus, wrong
from reports.capacity import CapacityLine
from reports.details import CriterionLine
from reports.figures import NOT_MEASURED, SYMBOLS, mathematical, one_line, plural, printable
from reports.groups import Group
from reports.plots import Plot
from reports.summary import candidates_in_order, summarise

_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("reports"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["words"] = lambda text: mathematical(one_line(text))
_ENVIRONMENT.filters["tight"] = lambda text: re.sub(r"(?<=[≤≥=<>×]) | (?=%|m?s\b|×)", "\N{NO-BREAK SPACE}", text)


@dataclass(frozen=True)
class SettingsTable:
    """The settings of all candidates side by side, one row a setting, and those of their tracking servers."""

    candidates: tuple[Candidate, ...]
    names: tuple[str, ...]
    tracking: tuple[str, ...]
    schemas: tuple[str, ...]
    crashes: tuple[str, ...]
    power: tuple[str, ...]


@dataclass(frozen=True)
class CapacityPart:
    """What was found of one place and objective: its lines and its plot."""

    title: str
    lines: tuple[CapacityLine, ...]
    plot: Plot | None


@dataclass(frozen=True)
class Folded:
    """A criterion with its line for every candidate and cell."""

    group: Group
    lines: tuple[CriterionLine, ...]


def render(results: Results) -> str:
    """The run as one HTML document that needs nothing from anywhere else."""
    candidates = candidates_in_order(results)
    gallery = plots.draw(results)
    screen = summarise(results)
    page = _ENVIRONMENT.get_template("report.html.j2").render(
        screen=screen,
        results=results,
        legend=resilience.LEGEND,
        evidence=evidence.parts(results, candidates),
        folded=[Folded(group, tuple(map(details.line, group.criteria))) for group in screen.groups],
        missed=[each for each in details.criteria(results) if each.role != "reference" and each.outcome != "pass"],
        capacities=_capacities(results),
        versus=versus.lines(results),
        versus_heads=versus.HEADS,
        versus_lead=versus.LEAD,
        versus_brief=versus.brief(results),
        cells=details.cells(results),
        schedules=details.schedules(results),
        operations=details.operations(results),
        availability=served.availability(results),
        phases=served.phases(results),
        referee=wrong.referee(results),
        errors=wrong.errors(results),
        integrity=wrong.integrity(results),
        wrong_rows=wrong.wrong_rows(results),
        settings=_settings(candidates),
        baseline=regression.html(results.baseline) if results.baseline else "",
        method=method.method(results),
        gallery=gallery,
        svg=Markup,  # drawn by us: every name in it went through matplotlib's own escaping
        symbols=SYMBOLS,
        dash=NOT_MEASURED,
    )
    return printable(page)


def _capacities(results: Results) -> list[CapacityPart]:
    return [
        CapacityPart(
            capacity.title(group[0]), tuple(map(capacity.line, group)), knees.draw(results, group, 300 + index)
        )
        for index, group in enumerate(capacity.together(results))
    ]


def _settings(candidates: list[Candidate]) -> SettingsTable:
    names = dict.fromkeys(name for each in candidates for name in each.settings)
    tracking = dict.fromkeys(name for each in candidates for name in each.tracking)
    return SettingsTable(
        tuple(candidates),
        tuple(names),
        tuple(tracking),
        tuple(map(_schema, candidates)),
        crashes=tuple(_may_lose(each, each.may_lose_crash) for each in candidates),
        power=tuple(_may_lose(each, each.may_lose_power) for each in candidates),
    )


def _may_lose(candidate: Candidate, what: str | None) -> str:
    """What the settings allow to be lost; nothing only where that is known."""
    known = candidate.durable or candidate.may_lose_crash or candidate.may_lose_power
    return one_line(what) if what else "nothing" if known else NOT_MEASURED


def _schema(candidate: Candidate) -> str:
    """MLflow's revision in the store, whether it is the one wanted, and which tables are not there."""
    if candidate.schema_revision is None and candidate.schema_missing is None:
        return NOT_MEASURED
    current = {True: "current", False: "NOT current", None: "not known to be current"}[candidate.schema_current]
    missing = candidate.schema_missing
    tables = (
        "tables not looked at"
        if missing is None
        else "all tables there"
        if not missing
        else f"{plural(len(missing), 'table')} missing: {', '.join(map(one_line, missing))}"
    )
    return f"revision {one_line(candidate.schema_revision or 'not recorded')}, {current}; {tables}"
