"""What faults did to each candidate: one matrix, fault by candidate, and in words what was not tested."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bench.cell import Integrity, Verdict
from bench.fault_cell import FaultCell, FaultOutcome, FaultSeen, Untested
from bench.results import Candidate, Results
from reports.figures import NOT_MEASURED, count, duration, one_line
from reports.judged import crowd
from reports.table import Column

STYLES: Final[dict[FaultOutcome, Verdict]] = {
    "kept": "pass", "lost": "fail", "broken": "fail", "unknown": "inconclusive",
}  # fmt: skip
"""The style of an outcome. Data that is gone is never shown as right, whether or not the settings allow it."""

NOTHING_MAY_BE_LOST: Final = "nothing may be lost"
LEGEND: Final = (
    "✓ kept: every acknowledged write is there, unchanged. ✗ LOST: so many are gone, and the settings allow this fault "
    "to take them. ✗ BROKEN: gone although nothing may be, changed, duplicated or added. ? unknown: it was not found "
    f"out. {NOT_MEASURED}: can't happen to this store. The time runs from when its mending begins to the first "
    "operation that ended ok, a restart included."
)
"""What the words and times of the matrix mean, in every format."""

NOT_TESTED, NO_DATA = "not tested", "no data"
WORDS: Final[dict[FaultOutcome, str]] = {
    "kept": "✓ kept", "lost": "✗ LOST", "broken": "✗ BROKEN", "unknown": "? unknown",
}  # fmt: skip
_AT_ONCE_S: Final = 0.001


class Situation(NamedTuple):
    """A fault and where it was tried."""

    fault: str
    driver: str
    workload: str
    concurrency: int


@dataclass(frozen=True)
class Entry:
    """What became of one candidate under one fault; ``back`` is the time to the first ok, ``note`` that in words."""

    text: str
    note: str = ""
    back: str = ""
    style: Verdict | None = None

    @property
    def told(self) -> str:
        """The outcome and its remark on one line."""
        return f"{self.text}, {self.note}" if self.note else self.text


@dataclass(frozen=True)
class Row:
    """One fault, with its place if it has several, what was done, and an entry a candidate."""

    label: str
    says: str
    entries: tuple[Entry, ...]
    situation: Situation | None


@dataclass(frozen=True)
class Matrix:
    """Fault by candidate."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Gap:
    """Faults that some candidates did not get for one reason; ``applies`` is false where they can't have them."""

    faults: tuple[str, ...]
    candidates: tuple[str, ...]
    applies: bool
    reason: str

    @property
    def told(self) -> str:
        """Which faults, on which candidates, and why."""
        return f"{', '.join(self.faults)} ({', '.join(self.candidates)}): {self.reason}"


def matrix(results: Results, candidates: Sequence[Candidate]) -> Matrix | None:
    """Every fault that the run speaks of, those that somebody got first; None of a run without faults."""
    if not results.faults and not results.untested:
        return None
    missing = {(each.candidate, each.fault): each for each in results.untested}
    names = labels(results)
    rows = [_row(results, each, label, candidates, missing) for each, label in names.items()]
    tried = {each.fault for each in names}
    for name in dict.fromkeys(each.fault for each in results.untested if each.fault not in tried):
        entries = tuple(_gap(missing.get((each.name, name))) for each in candidates)
        rows.append(Row(one_line(name), "", entries, None))
    return Matrix(tuple(Column(one_line(each.name), each.reference) for each in candidates), tuple(rows))


def situation(cell: FaultCell) -> Situation:
    """Which fault a cell is about, and where it was tried."""
    return Situation(cell.fault, cell.driver, cell.workload, cell.concurrency)


def where(found: Situation) -> str:
    """Where a fault was tried: ``log_metric, 8 writers``."""
    return f"{one_line(found.workload)}, {crowd(found.driver, found.concurrency)}"


def labels(results: Results) -> dict[Situation, str]:
    """What each fault of the run is called: by its name, and where it was tried in several places by these too."""
    found = list(dict.fromkeys(map(situation, results.faults)))
    places = Counter(each.fault for each in found)
    workloads = {each.workload for each in found}
    return {
        each: one_line(each.fault)
        if places[each.fault] == 1
        else f"{one_line(each.fault)}, {where(each) if len(workloads) > 1 else crowd(each.driver, each.concurrency)}"
        for each in found
    }


def _row(
    results: Results,
    found: Situation,
    label: str,
    candidates: Sequence[Candidate],
    missing: dict[tuple[str, str], Untested],
) -> Row:
    cells = {each.candidate: each for each in results.faults if situation(each) == found}
    entries = tuple(
        entry(cells[each.name]) if each.name in cells else _gap(missing.get((each.name, found.fault)))
        for each in candidates
    )
    return Row(label, said(cells.values()), entries, found)


def said(cells: Iterable[FaultCell]) -> str:
    """What was done in these cells of one fault."""
    return "; ".join(_once(one_line(each.says) for each in cells if each.says))


def entry(cell: FaultCell) -> Entry:
    """How it ended, and how soon the store answered again."""
    note, back = _returned(cell)
    how_many = f" {count(worst_door(cell).lost)}" if cell.outcome == "lost" else ""
    return Entry(f"{WORDS[cell.outcome]}{how_many}", note, back, STYLES[cell.outcome])


def _gap(missing: Untested | None) -> Entry:
    if missing is None:
        return Entry(NO_DATA)
    return Entry(NOT_TESTED if missing.applies else NOT_MEASURED)


def _returned(cell: FaultCell) -> tuple[str, str]:
    """When the first operation ended ok after the fault, in words and as a bare time."""
    if cell.modelled:
        return "modelled", ""
    if cell.first_ok_s is not None:
        soon = duration(cell.first_ok_s * 1000)
        return ("ok at once", "") if cell.first_ok_s < _AT_ONCE_S else (f"ok after {soon}", soon)
    if not any(each.begin_s is not None for each in cell.seen):
        return ("did not begin" if cell.seen else "no trial ended"), ""
    if stayed_away(cell):
        return "not ok again", ""
    return "", ""  # the load itself ended with the fault: nobody was left to ask


def stayed_away(cell: FaultCell) -> bool:
    """Whether the fault began and no operation of a load that was left ended ok after it."""
    began = any(each.begin_s is not None for each in cell.seen)
    return began and cell.first_ok_s is None and cell.target != "load" and not cell.modelled


def worst_door(cell: FaultCell) -> Integrity:
    """The check that found the most wrong; of equals one that was made at all."""
    return max(cell.doors, key=lambda each: (each.wrong, each.checked))


def wrongs(found: Integrity) -> str:
    """What a check found wrong, in words: ``2 lost, 1 duplicated``; empty where that is nothing."""
    counted = {
        "lost": found.lost,
        "duplicated": found.duplicated,
        "corrupted": found.corrupted,
        "unexpected": found.unexpected,
        "invariants violated": sum(found.invariants.values()),
    }
    return ", ".join(f"{count(n)} {word}" for word, n in counted.items() if n)


def of_model(cell: FaultCell) -> str:
    """What the power cuts of a model did, in one sentence; empty of any other fault."""
    return "; ".join(_once(one_line(event.what) for each in cell.seen for event in each.events if cell.modelled))


def promise(cell: FaultCell) -> str:
    """What the settings promise for this fault."""
    return f"may lose: {one_line(cell.may_lose)}" if cell.may_lose else NOTHING_MAY_BE_LOST


def shown(cell: FaultCell) -> FaultSeen | None:
    """The round to show: one that did not begin or never came back, else that of the longest outage."""
    if not cell.seen:
        return None
    return max(cell.seen, key=lambda each: (each.begin_s is None, each.first_ok_s is None, each.gone_s or 0.0))


def gaps(results: Results) -> list[Gap]:
    """What was not tested though it could happen, and then what can't happen: equal reasons told together."""
    alike: dict[tuple[str, bool, str], list[str]] = {}
    for each in results.untested:
        alike.setdefault((one_line(each.fault), each.applies, why(each)), []).append(one_line(each.candidate))
    together: dict[tuple[tuple[str, ...], bool, str], list[str]] = {}
    for (fault, applies, reason), who in alike.items():
        together.setdefault((_once(who), applies, reason), []).append(fault)
    made = [Gap(_once(faults), who, applies, reason) for (who, applies, reason), faults in together.items()]
    return sorted(made, key=lambda each: not each.applies)


def why(missing: Untested) -> str:
    """The reason, without what stands beside it anyway."""
    return one_line(missing.reason).removeprefix(f"{NOT_TESTED}: ")


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
