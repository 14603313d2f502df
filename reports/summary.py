"""The one-minute screen: what a person must know first, worked out once and shared by every format."""

import re
from dataclasses import dataclass
from typing import Final

from bench.cell import Cell, Percentiles, Verdict
from bench.fault_cell import FaultCell
from bench.results import Candidate, Results
from reports import advice, aftermath, capacity, checklist, conditions, cutover, marks
from reports.chosen import Chosen, choose, overloaded
from reports.figures import NOT_MEASURED, SYMBOLS, duration, one_line, printable, rate, span
from reports.groups import Group, groups
from reports.judged import SEVERITY, all_cells, crowd, is_open, place, spot
from reports.marks import MarkLine
from reports.resilience import Gap, Matrix, gaps, matrix
from reports.rows import felt
from reports.standing import CriteriaTable, table_of, tables
from reports.table import Block, build_blocks

OUTCOME_WORDS: dict[Verdict, str] = {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE"}

_MOST_SPEEDS: Final = 2
_NOTHING: Final = "Nothing was measured, so nothing can be said."
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
    aftermath: str
    moved: str
    alarms: tuple[str, ...]
    marks: tuple[MarkLine, ...]
    headlines: tuple[Headline, ...]
    checklist: tuple[checklist.Line, ...]
    checklist_lead: str
    acts: tuple[cutover.Part, ...]
    faults: Matrix | None
    gaps: tuple[Gap, ...]
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
    cells = {cell.candidate: cell for cell in all_cells(results)}
    judged, untested = ({each.candidate: None for each in found} for found in (results.criteria, results.untested))
    names = [*known, *results.verdicts, *cells, *judged, *untested]
    found = [known.get(name) or _unrecorded(name, cells.get(name)) for name in dict.fromkeys(names)]
    return sorted(found, key=lambda each: not each.reference)


def summarise(results: Results) -> Screen:
    """Work out the one-minute screen of a run."""
    candidates = candidates_in_order(results)
    chosen = choose(results)
    shown = [cell for each in chosen for cell in each.speed]
    headlines = tuple(_headline(results, candidate, chosen) for candidate in candidates)
    run = results.run
    tried = _tried(results, candidates)
    told = {each.text for each in results.marks}
    moved = checklist.moved(results)
    return Screen(
        title=one_line(run.title or run.scenario or run.id),
        run_id=one_line(run.id),
        when=f"{one_line(run.started)}, {span(run.seconds)}",
        took=span(run.seconds),
        verdict=results.verdict,
        exit_code=results.exit_code,
        answer=_answer(results, candidates, chosen) if chosen else tried or moved or _NOTHING,
        aftermath=tried if chosen else "",
        moved=moved if chosen or tried else "",
        alarms=tuple(_alarms(results, candidates)),
        marks=marks.lines(results),
        headlines=headlines,
        checklist=checklist.lines(results),
        checklist_lead=checklist.lead(results),
        acts=cutover.parts(results),
        faults=matrix(results, candidates),
        gaps=tuple(gaps(results)),
        sides=_sides(results, candidates, chosen),
        tables=tables(results, candidates),
        groups=tuple(groups(results, candidates)),
        brief=tuple(Fact(*each) for each in conditions.brief(results, candidates, shown)),
        scope=tuple(Fact(*each) for each in conditions.scope(results, candidates)),
        machine=tuple(Fact(*each) for each in conditions.machine(results, shown)),
        notes=tuple(marks.collapsed([one_line(note) for note in results.notes if note not in told])),
        command=printable(run.command),
    )


def _sides(results: Results, candidates: list[Candidate], chosen: list[Chosen]) -> tuple[Side, ...]:
    """The headline's driver first, its main workload first; of the other only what explains it."""
    return tuple(
        Side(
            driver,
            *_SIDES[driver],
            tuple(
                block
                for each in chosen
                if each.driver == driver
                for block in build_blocks(results, each, candidates, main=each is chosen[0])
            ),
        )
        for driver in dict.fromkeys(each.driver for each in chosen)
    )


def _headline(results: Results, candidate: Candidate, chosen: list[Chosen]) -> Headline:
    verdict = _verdict(results, candidate.name)
    speeds = [_speed(each, candidate.name) for each in chosen if each.driver == chosen[0].driver]
    return Headline(
        candidate=one_line(candidate.name),
        store=one_line(candidate.store),
        version=re.sub(r" \([^,]*\)", "", one_line(candidate.server_version)),
        reference=candidate.reference,
        verdict=verdict,
        reason=advice.reason(results, candidate, verdict),
        speeds=(
            *[each for each in speeds if each][:_MOST_SPEEDS],
            *_held(results, candidate.name),
            *(Fact(*each) for each in aftermath.facts(results, candidate.name)),
        ),
        next_step=advice.next_step(results, candidate, verdict),
    )


def _speed(chosen: Chosen, candidate: str) -> Fact | None:
    """How fast a candidate was in a workload: from the closed loop; how long users waited: from the open one."""
    pace = [_together(part) for part in _pace(chosen, candidate, "/s", placed=True)]
    own = next((cell for cell in chosen.cells if cell.candidate == candidate), None)
    if own is None:
        return None
    return Fact(spot(own) if chosen.closed else place(own), ", ".join(pace) or NOT_MEASURED)


def _held(results: Results, candidate: str) -> list[Fact]:
    """Up to which rate a candidate met an objective."""
    found = [each for each in results.capacities if each.candidate == candidate]
    return [Fact(f"{spot(each)}, {capacity.objective_of(each)}", capacity.held(each)) for each in found]


def _pace(chosen: Chosen, candidate: str, unit: str, *, placed: bool) -> list[str]:
    """Throughput and the highest percentile up to p99 that is known; ``placed``: and from which loop each is."""
    speed, tail = (next((c for c in own if c.candidate == candidate), None) for own in (chosen.speed, chosen.tail))
    parts = []
    both = placed and bool(chosen.closed and chosen.opened)
    if speed is not None and is_open(speed):
        behind = speed.schedule is not None and overloaded(speed)
        parts += [f"OVERLOADED at {rate(speed.ops_per_s)}"] if behind else []
    elif speed is not None and speed.metrics_per_s is not None:
        parts.append(rate(speed.metrics_per_s, unit) + (" at most" if both else ""))
    elif speed is not None and speed.ops_per_s is not None:
        parts.append(rate(speed.ops_per_s, " operations/s") + (" at most" if both else ""))
    waited = felt(tail.latency_ms) if tail is not None else Percentiles()
    known = [(name, value) for name in ("p99", "p95", "p90", "p50") if (value := getattr(waited, name)) is not None]
    at = f" at {chosen.pace.removesuffix(' each')}" if both else ""
    return [*parts, *(f"{name} {duration(value)}{at}" for name, value in known[:1])]


def _together(text: str) -> str:
    """``text`` with spaces that no line break may part."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _answer(results: Results, candidates: list[Candidate], chosen: list[Chosen]) -> str:
    """Which store holds the load, how fast and with what tail: one line on the most telling workload."""
    main = chosen[0]
    cells = {cell.candidate: cell for cell in main.cells}
    order = {name: place for place, name in enumerate(each.name for each in candidates)}
    ranked = sorted(
        cells.values(),
        key=lambda cell: (cell.reference, SEVERITY[_verdict(results, cell.candidate)], order[cell.candidate]),
    )
    first = ranked[0]
    said = f"{crowd(main.driver, main.concurrency)}, {one_line(main.workload)}{_loads(main)}: " + SEPARATOR.join(
        _standing(results, main, cell, " metrics/s" if cell is first else "/s") for cell in ranked
    )
    alone = all(cell.reference for cell in ranked)
    return f"{said} (no candidate was judged: it takes a store beside the reference)" if alone else said


def _tried(results: Results, candidates: list[Candidate]) -> str:
    """How the candidates stood the faults, the reference last; empty in a run without any."""
    if not aftermath.count_of_faults(results):
        return ""
    ranked = sorted(candidates, key=lambda each: (each.reference, SEVERITY[_verdict(results, each.name)]))
    return aftermath.answer(results, ranked, SEPARATOR)


def _loads(chosen: Chosen) -> str:
    """From which open loop the tails are; nothing of a closed one."""
    if not chosen.opened:
        return ""
    return f" (tail at {chosen.pace})" if chosen.closed else f" with {chosen.pace}"


def _standing(results: Results, chosen: Chosen, cell: Cell, unit: str) -> str:
    sign = "" if cell.reference else f"{SYMBOLS[_verdict(results, cell.candidate)]} "
    first, *rest = _pace(chosen, cell.candidate, unit, placed=False) or ["not measured"]
    return ", ".join(map(_together, [f"{sign}{one_line(cell.candidate)} {first}", *rest]))


def _verdict(results: Results, candidate: str) -> Verdict:
    return results.verdicts.get(candidate, "inconclusive")


def _alarms(results: Results, candidates: list[Candidate]) -> list[str]:
    """What outweighs every figure below: data gone, a run cut short, a generator that could not keep up."""
    found = [advice.damage(results, candidate) for candidate in candidates]
    return [
        each
        for each in (
            *found,
            *(alarm for candidate in candidates for alarm in aftermath.alarms(results, candidate)),
            _cut_short(results),
            *conditions.doubts(results.cells),
            "" if any(each.kind == "generator" for each in results.marks) else conditions.saturation(results.cells),
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


def _unrecorded(name: str, cell: Cell | FaultCell | None) -> Candidate:
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
