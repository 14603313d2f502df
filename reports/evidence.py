"""The faults one by one: a figure with a panel a candidate, and beneath it what was seen, counted and promised."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.cell import Verdict
from bench.fault_cell import FaultCell, FaultSeen, Untested
from bench.results import Candidate, Results
from reports import svg, timelines
from reports.details import Table
from reports.figures import NOT_MEASURED, count, duration, one_line, plural, printable
from reports.resilience import (
    NO_DATA,
    NOT_TESTED,
    Situation,
    entry,
    of_model,
    promise,
    said,
    shown,
    situation,
    stayed_away,
    where,
    why,
    worst_door,
)
from reports.rows import doors
from reports.timelines import Panel

FIRST_FIGURE: Final = 1000
"""The number of the first panel, beyond those of all other figures of a page."""

_MOST_EXAMPLES: Final = 6


@dataclass(frozen=True)
class Place:
    """One candidate under one fault: how it ended, and its panel, or in words why there is none."""

    candidate: str
    text: str
    note: str
    style: Verdict | None
    panel: Panel | None
    instead: str


@dataclass(frozen=True)
class FaultPart:
    """One fault: what was done, a place for each candidate, the evidence of those that got it."""

    key: str
    title: str
    where: str
    says: str
    places: tuple[Place, ...]
    table: Table
    wrong_rows: tuple[str, ...]
    kept: bool


def parts(results: Results, candidates: Sequence[Candidate]) -> list[FaultPart]:
    """Every fault that some candidate got, in the run's order."""
    looks = svg.looks([(each.name, each.reference) for each in candidates])
    missing = {(each.candidate, each.fault): each for each in results.untested}
    found: dict[Situation, list[FaultCell]] = {}
    for cell in results.faults:
        found.setdefault(situation(cell), []).append(cell)
    with svg.drawing():
        return [
            _part(index, each, cells, candidates, looks, missing) for index, (each, cells) in enumerate(found.items())
        ]


def _part(
    index: int,
    found: Situation,
    cells: Sequence[FaultCell],
    candidates: Sequence[Candidate],
    looks: dict[str, svg.Look],
    missing: dict[tuple[str, str], Untested],
) -> FaultPart:
    by_name = {cell.candidate: cell for cell in cells}
    rounds = [seen for cell in cells if (seen := shown(cell)) and seen.timeline]
    shared = timelines.frame(rounds)
    places = []
    for column, candidate in enumerate(candidates):
        cell = by_name.get(candidate.name)
        if cell is None:
            places.append(_without(candidate, missing.get((candidate.name, found.fault))))
            continue
        number = FIRST_FIGURE + index * len(candidates) + column
        places.append(_place(cell, shared, looks[candidate.name], number))
    ordered = [by_name[each.name] for each in candidates if each.name in by_name]
    return FaultPart(
        key=f"fault-{index + 1}",
        title=one_line(found.fault),
        where="in a model" if all(cell.modelled for cell in cells) else where(found),
        says=said(cells),
        places=tuple(places),
        table=_evidence(ordered),
        wrong_rows=tuple(
            f"{one_line(cell.candidate)}: {printable(text)}" for cell in ordered for text in _examples(cell)
        ),
        kept=all(cell.outcome == "kept" for cell in cells),
    )


def _without(candidate: Candidate, missing: Untested | None) -> Place:
    text = NO_DATA if missing is None else NOT_TESTED if missing.applies else "can't happen"
    reason = "no trial of it ended" if missing is None else why(missing)
    return Place(one_line(candidate.name), text, "", None, None, reason)


def _place(cell: FaultCell, shared: timelines.Frame, look: svg.Look, number: int) -> Place:
    ended, seen = entry(cell), shown(cell)
    name = one_line(cell.candidate)
    if seen is None or not seen.timeline:
        return Place(name, ended.text, ended.note, ended.style, None, _instead(cell, seen))
    panel = timelines.draw(seen, shared, look, number)
    which = f"; round {cell.seen.index(seen) + 1} of {len(cell.seen)}" if len(cell.seen) > 1 else ""
    return Place(name, ended.text, f"{ended.note}{which}".removeprefix("; "), ended.style, panel, "")


def _instead(cell: FaultCell, seen: FaultSeen | None) -> str:
    """What is told where there is nothing to draw: what a model found, or that nothing was recorded."""
    told = "; ".join(one_line(each.what) for each in seen.events) if seen else ""
    if cell.modelled:
        return told or "A model of a disk, not a load over time."
    return f"No timeline was recorded. {told}".rstrip()


def _evidence(cells: Sequence[FaultCell]) -> Table:
    """A column a candidate, a row a question; a row that nobody has anything to say to is left out."""
    rows = [(name, *(answer(cell) for cell in cells)) for name, answer in _ANSWERS.items()]
    filled = [tuple(text or NOT_MEASURED for text in row) for row in rows if any(row[1:])]
    return Table(("", *(one_line(cell.candidate) for cell in cells)), tuple(filled), numeric=99)


def _examples(cell: FaultCell) -> list[str]:
    return [text for door in cell.doors for text in door.examples][:_MOST_EXAMPLES]


def _outcome(cell: FaultCell) -> str:
    return f"{entry(cell).text}: {one_line(cell.reason)}" if cell.reason else entry(cell).text


def _clients(cell: FaultCell) -> str:
    if cell.modelled:
        return ""
    counted = {"ok": cell.ops_ok, "failed": cell.ops_failed, "unknown": cell.ops_unknown}
    retried = f", {count(cell.ops_retried)} retried" if cell.ops_retried else ""
    return ", ".join(f"{count(n)} {word}" for word, n in counted.items()) + retried


def _errors(cell: FaultCell) -> str:
    if cell.modelled:
        return ""
    ranked = sorted(cell.errors.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{one_line(kind)} {count(n)}" for kind, n in ranked if n) or "none"


def _first_ok(cell: FaultCell) -> str:
    if cell.first_ok_s is not None:
        return duration(cell.first_ok_s * 1000)
    return "never" if stayed_away(cell) else ""


def _rows(cell: FaultCell) -> str:
    found = worst_door(cell)
    if not found.checked:
        return f"not read back: {one_line(found.reason or 'no reason was recorded')}"
    return f"{count(found.acknowledged)} acknowledged, {count(found.stored)} stored (read by {doors(cell)})"


def _counts(names: Sequence[str]) -> Callable[[FaultCell], str]:
    def answer(cell: FaultCell) -> str:
        found = worst_door(cell)
        return " / ".join(count(getattr(found, name)) for name in names) if found.checked else ""

    return answer


def _violated(cell: FaultCell) -> str:
    found = worst_door(cell).invariants
    return ", ".join(f"{one_line(name)} {count(n)}" for name, n in found.items() if n)


def _examined(cell: FaultCell) -> str:
    return "; ".join(dict.fromkeys(one_line(each.examined) for each in cell.seen if each.examined))


def _events(cell: FaultCell) -> str:
    seen = None if cell.modelled else shown(cell)
    return "; ".join(f"{duration(each.at_s * 1000)}: {one_line(each.what)}" for each in seen.events) if seen else ""


def _rounds(cell: FaultCell) -> str:
    lost = f", {cell.rounds_lost} not measured" if cell.rounds_lost else ""
    return f"{plural(cell.rounds, 'round')}{lost}" if cell.rounds > 1 or cell.rounds_lost else ""


def _gone(cell: FaultCell) -> str:
    return "" if cell.gone_s is None else duration(cell.gone_s * 1000)


_WRONG: Final = ("lost", "duplicated", "corrupted", "unexpected")
_DOUBTFUL: Final = ("recovered", "indeterminate", "stale")
_ANSWERS: Final[dict[str, Callable[[FaultCell], str]]] = {
    "outcome": _outcome,
    "what the model did": of_model,
    "the settings promise": promise,
    "rounds": _rounds,
    "clients saw": _clients,
    "errors by kind": _errors,
    "connections made anew": lambda cell: "" if cell.modelled else count(cell.reconnects),
    "gone for": _gone,
    "first ok after mending began": _first_ok,
    "rows": _rows,
    " / ".join(_WRONG): _counts(_WRONG),
    " / ".join(_DOUBTFUL): _counts(_DOUBTFUL),
    "invariants violated": _violated,
    "the store's own check": _examined,
    "in order": _events,
}
"""Each row of the evidence with its answer; an empty one is a dash."""
