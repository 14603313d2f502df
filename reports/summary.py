"""The one-minute screen: what a person must know first, worked out once and shared by every format."""

import re
from dataclasses import dataclass
from typing import Final

from bench.results import Candidate, Cell, Results, Verdict
from reports import advice, conditions
from reports.figures import NOT_MEASURED, SYMBOLS, duration, one_line, printable, rate, span
from reports.groups import Group, groups
from reports.judged import SEVERITY, crowd, gating_at, headline_concurrency, place
from reports.rows import felt
from reports.standing import CriteriaTable, table_of, tables
from reports.table import Block, build_block

OUTCOME_WORDS: dict[Verdict, str] = {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE"}

_MOST_SPEEDS: Final = 2
SEPARATOR = "\N{NO-BREAK SPACE}· "
"""Between the candidates of the answer; a line may break after it."""


@dataclass(frozen=True)
class Fact:
    """One labelled line of the screen."""

    label: str
    text: str


@dataclass(frozen=True)
class Headline:
    """One candidate's line: its verdict, the one reason for it, how fast it was and what to do next."""

    candidate: str
    store: str
    version: str
    reference: bool
    verdict: Verdict
    reason: str
    speeds: tuple[Fact, ...]
    next_step: str

    @property
    def symbol(self) -> str:
        """The outcome as a sign that needs no colour."""
        return SYMBOLS[self.verdict]

    @property
    def word(self) -> str:
        """The outcome as a word; a reference is never said to pass or fail."""
        return "REFERENCE" if self.reference else OUTCOME_WORDS[self.verdict]


@dataclass(frozen=True)
class Side:
    """The side-by-side tables of one driver, and what its figures mean."""

    driver: str
    title: str
    lead: str
    blocks: tuple[Block, ...]


_SIDES: Final = {
    "http": ("Through MLflow's server: what users feel", "Every request goes through a real MLflow server."),
    "direct": (
        "Straight into the tables: the store's own share",
        "The same statements without an MLflow server in between: they explain the figures above.",
    ),
}


@dataclass(frozen=True)
class Screen:
    """Everything above the fold."""

    title: str
    run_id: str
    when: str
    took: str
    verdict: Verdict
    exit_code: int
    answer: str
    alarms: tuple[str, ...]
    headlines: tuple[Headline, ...]
    sides: tuple[Side, ...]
    tables: tuple[CriteriaTable, ...]
    groups: tuple[Group, ...]
    brief: tuple[Fact, ...]
    scope: tuple[Fact, ...]
    machine: tuple[Fact, ...]
    notes: tuple[str, ...]
    command: str

    @property
    def symbol(self) -> str:
        """The run's outcome as a sign."""
        return SYMBOLS[self.verdict]

    @property
    def word(self) -> str:
        """The run's outcome as a word."""
        return OUTCOME_WORDS[self.verdict]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The side-by-side tables of all drivers, in order."""
        return tuple(block for side in self.sides for block in side.blocks)

    @property
    def untabled(self) -> tuple[Group, ...]:
        """The criteria that stand in none of the screen's tables."""
        shown = {each.key for each in self.tables}
        return tuple(each for each in self.groups if table_of(each) not in shown)


def candidates_in_order(results: Results) -> list[Candidate]:
    """Every candidate that the results speak of, the reference first; one without a record gets an empty one."""
    known = {each.name: each for each in results.candidates}
    cells = {cell.candidate: cell for cell in results.cells}
    names = [*known, *results.verdicts, *cells, *(each.candidate for each in results.criteria)]
    found = [known.get(name) or _unrecorded(name, cells.get(name)) for name in dict.fromkeys(names)]
    return sorted(found, key=lambda each: not each.reference)


def headline_cells(results: Results) -> dict[tuple[str, str], list[Cell]]:
    """The most telling cells of each (driver, workload): those at its headline concurrency, the main workload first."""
    chosen: dict[tuple[str, str], list[Cell]] = {}
    for key in dict.fromkeys((cell.driver, cell.workload) for cell in results.cells):
        concurrency = headline_concurrency(results, *key)
        chosen[key] = [
            cell for cell in results.cells if (cell.driver, cell.workload) == key and cell.concurrency == concurrency
        ]
    ranked = sorted(chosen, key=lambda key: _weight(results, key, chosen[key]), reverse=True)
    return {key: chosen[key] for key in ranked}


def summarise(results: Results) -> Screen:
    """Work out the one-minute screen of a run."""
    candidates = candidates_in_order(results)
    chosen = headline_cells(results)
    shown = [cell for cells in chosen.values() for cell in cells]
    headlines = tuple(_headline(results, candidate, shown) for candidate in candidates)
    run = results.run
    return Screen(
        title=one_line(run.title or run.scenario or run.id),
        run_id=one_line(run.id),
        when=f"{one_line(run.started)}, {span(run.seconds)}",
        took=span(run.seconds),
        verdict=results.verdict,
        exit_code=results.exit_code,
        answer=_answer(results, candidates, chosen),
        alarms=tuple(_alarms(results, candidates)),
        headlines=headlines,
        sides=_sides(results, candidates, chosen),
        tables=tables(results, candidates),
        groups=tuple(groups(results, candidates)),
        brief=tuple(Fact(*each) for each in conditions.brief(results, candidates, shown)),
        scope=tuple(Fact(*each) for each in conditions.scope(results, candidates)),
        machine=tuple(Fact(*each) for each in conditions.machine(results, shown)),
        notes=tuple(_collapsed([one_line(note) for note in results.notes])),
        command=printable(run.command),
    )


def _sides(
    results: Results, candidates: list[Candidate], chosen: dict[tuple[str, str], list[Cell]]
) -> tuple[Side, ...]:
    """The headline's driver first, its main workload first; of the other only what explains it."""
    drivers = dict.fromkeys(driver for driver, _ in chosen)
    main = next(iter(chosen), None)
    return tuple(
        Side(
            driver,
            *_SIDES[driver],
            tuple(
                build_block(results, cells, candidates, main=key == main)
                for key, cells in chosen.items()
                if key[0] == driver
            ),
        )
        for driver in drivers
    )


def _headline(results: Results, candidate: Candidate, shown: list[Cell]) -> Headline:
    verdict = _verdict(results, candidate.name)
    cells = [cell for cell in shown if (cell.candidate, cell.driver) == (candidate.name, shown[0].driver)]
    return Headline(
        candidate=one_line(candidate.name),
        store=one_line(candidate.store),
        version=re.sub(r" \([^,]*\)", "", one_line(candidate.server_version)),
        reference=candidate.reference,
        verdict=verdict,
        reason=advice.reason(results, candidate, verdict),
        speeds=tuple(_speed(cell) for cell in cells[:_MOST_SPEEDS]),
        next_step=advice.next_step(results, candidate, verdict),
    )


def _speed(cell: Cell) -> Fact:
    said = ", ".join(_together(part) for part in _pace(cell, "/s"))
    return Fact(place(cell), said or NOT_MEASURED)


def _pace(cell: Cell, unit: str) -> list[str]:
    """How fast a cell was and with what tail: throughput and the highest percentile up to p99 that is known."""
    parts = []
    if cell.metrics_per_s is not None:
        parts.append(rate(cell.metrics_per_s, unit))
    elif cell.ops_per_s is not None:
        parts.append(rate(cell.ops_per_s, " operations/s"))
    tail = felt(cell.latency_ms)
    known = [(name, value) for name in ("p99", "p95", "p90", "p50") if (value := getattr(tail, name)) is not None]
    return [*parts, *(f"{name} {duration(value)}" for name, value in known[:1])]


def _together(text: str) -> str:
    """``text`` with spaces that no line break may part."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _answer(results: Results, candidates: list[Candidate], chosen: dict[tuple[str, str], list[Cell]]) -> str:
    """Which store holds the load, how fast and with what tail: one line on the most telling workload."""
    if not chosen:
        return "Nothing was measured, so nothing can be said."
    cells = {cell.candidate: cell for cell in next(iter(chosen.values()))}
    order = {name: place for place, name in enumerate(each.name for each in candidates)}
    ranked = sorted(
        cells.values(),
        key=lambda cell: (cell.reference, SEVERITY[_verdict(results, cell.candidate)], order[cell.candidate]),
    )
    first = ranked[0]
    said = f"{crowd(first.driver, first.concurrency)}, {one_line(first.workload)}: " + SEPARATOR.join(
        _standing(results, cell, " metrics/s" if cell is first else "/s") for cell in ranked
    )
    alone = all(cell.reference for cell in ranked)
    return f"{said} (no candidate was judged: it takes a store beside the reference)" if alone else said


def _weight(results: Results, key: tuple[str, str], cells: list[Cell]) -> tuple[bool, bool, int]:
    """How much a workload says of the run: through a server rather than direct, writes, gating criteria."""
    writes = any(cell.metrics_per_s is not None for cell in cells)
    return key[0] == "http", writes, sum(gating_at(results, *key).values())


def _standing(results: Results, cell: Cell, unit: str) -> str:
    sign = "" if cell.reference else f"{SYMBOLS[_verdict(results, cell.candidate)]} "
    first, *rest = _pace(cell, unit) or ["not measured"]
    return ", ".join(map(_together, [f"{sign}{one_line(cell.candidate)} {first}", *rest]))


def _verdict(results: Results, candidate: str) -> Verdict:
    return results.verdicts.get(candidate, "inconclusive")


def _collapsed(notes: list[str]) -> list[str]:
    """Notes that differ only in figures and in what stands in brackets, as the first of them and their number."""
    alike: dict[str, list[str]] = {}
    for note in notes:
        alike.setdefault(re.sub(r"\([^()]*\)|[\d.]+", "", note), []).append(note)
    return [
        own[0] if len(own) == 1 else f"{own[0].rstrip('.')} (and {len(own) - 1} more like it)."
        for own in alike.values()
    ]


def _alarms(results: Results, candidates: list[Candidate]) -> list[str]:
    """What outweighs every figure below: data gone, a run cut short, a generator that could not keep up."""
    found = [advice.damage(results, candidate) for candidate in candidates]
    return [
        each
        for each in (
            *found,
            _cut_short(results),
            *conditions.doubts(results.cells),
            conditions.saturation(results.cells),
        )
        if each
    ]


def _cut_short(results: Results) -> str:
    run = results.run
    if run.interrupted:
        return (
            f"Interrupted after {run.trials_done} of {run.trials_planned} trials: what follows is what was "
            "measured until then."
        )
    if run.trials_done < run.trials_planned:
        return f"Only {run.trials_done} of {run.trials_planned} trials were made."
    return ""


def _unrecorded(name: str, cell: Cell | None) -> Candidate:
    return Candidate(
        name=name,
        store=cell.store if cell else "",
        reference=cell.reference if cell else False,
        source="",
        server_version="",
        settings={},
        durable=None,
        durability="",
        prefill="",
        schema_current=None,
        schema_missing=None,
        theirs=False,
    )
