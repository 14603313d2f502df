"""The side-by-side table: one block a workload, a column a candidate, a row a question, with its limit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from bench.cell import Cell, Criterion, Verdict
from bench.results import Candidate, Results
from reports.chosen import Chosen
from reports.figures import NOT_MEASURED, SYMBOLS, one_line, rate
from reports.judged import (
    PUBLISHED,
    by_reference,
    crowd,
    general_limit_of,
    is_open,
    judges,
    judges_workload,
    worst,
)
from reports.rows import NO_READS, ONLY_READS, QUESTIONS, broken, question_of

NO_LIMIT: Final = "no limit"
_NO_DATA: Final = "no data"
_ALONE: Final = "closed loop"


@dataclass(frozen=True)
class Figure:
    """One cell of the table: what was measured, a remark beside it, and how its criterion ended."""

    text: str
    note: str = ""
    outcome: Verdict | None = None
    gating: bool = True

    @property
    def symbol(self) -> str:
        """The criterion's outcome as a sign, or nothing where no criterion applies."""
        return SYMBOLS[self.outcome] if self.outcome else ""

    @property
    def told(self) -> str:
        """The figure in one line of plain text."""
        body = f"{self.text} {self.symbol}".rstrip()
        return f"{body} ({self.note})" if self.note else body


@dataclass(frozen=True)
class Row:
    """One question put to every candidate, and the limit that its criterion sets."""

    key: str
    label: str
    limit: str
    figures: tuple[Figure, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """What was answered, remarks aside."""
        return tuple(each.text for each in self.figures)


@dataclass(frozen=True)
class Column:
    """Whose figures stand in a column."""

    name: str
    reference: bool


@dataclass(frozen=True)
class Block:
    """The table of one workload at its headline concurrency, in a closed loop or at one load of an open loop."""

    workload: str
    driver: str
    concurrency: int
    loop: str
    is_open: bool
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """What the block is about, in one line."""
        return f"{self.workload}, {crowd(self.driver, self.concurrency)}, {self.driver}: {self.loop}"

    @property
    def heading(self) -> str:
        """The same where the driver is known, and the loop too if there was but a closed one."""
        where = f"{self.workload}, {crowd(self.driver, self.concurrency)}"
        return where if self.loop == _ALONE else f"{where}: {self.loop}"


def build_blocks(results: Results, chosen: Chosen, candidates: list[Candidate], *, main: bool) -> list[Block]:
    """The tables of a workload's loops; the first one of the main workload has every row.

    A second one leaves out what no limit asks for and what it would only say again.
    """
    made = [
        _build(results, list(cells), candidates, _loop(chosen, cells), main=main and not index)
        for index, cells in enumerate(chosen.loops)
    ]
    said = {(row.key, row.texts) for row in made[0].rows}
    return [
        block if not index else replace(block, rows=tuple(row for row in block.rows if not _again(row, said)))
        for index, block in enumerate(made)
    ]


def _again(row: Row, said: set[tuple[str, tuple[str, ...]]]) -> bool:
    return row.limit == NO_LIMIT and (row.key, row.texts) in said


def _loop(chosen: Chosen, cells: Sequence[Cell]) -> str:
    """Which loop that was: the one that finds the maximum, or the load at which latency is told."""
    if not is_open(cells[0]):
        return "maximum, closed loop" if chosen.opened else _ALONE
    rates = [cell.schedule.rate for cell in cells if cell.schedule]
    shares = any(cell.schedule.share is not None for cell in cells if cell.schedule)
    if chosen.rate is not None:
        of = f", {one_line(cells[0].load)} of the lowest maximum" if shares else ""
        return f"open loop at {chosen.pace}{of}"
    return f"open loop at {chosen.pace}{f', {_range(rates)} offered' if rates and shares else ''}"


def _range(rates: Sequence[float]) -> str:
    low, high = (rate(each) for each in (min(rates), max(rates)))
    return low if low == high else f"{low} to {high}"


def _build(results: Results, cells: list[Cell], candidates: list[Candidate], loop: str, *, main: bool) -> Block:
    by_name = {cell.candidate: cell for cell in cells}
    first = cells[0]
    rows = [_row(results, key, [by_name.get(each.name) for each in candidates]) for key in QUESTIONS]
    return Block(
        workload=one_line(first.workload),
        driver=first.driver,
        concurrency=first.concurrency,
        loop=loop,
        is_open=is_open(first),
        columns=tuple(Column(one_line(each.name), each.reference) for each in candidates),
        rows=tuple(row for row in rows if not _pointless(row, main=main, loop="open" if is_open(first) else "closed")),
    )


def _row(results: Results, key: str, cells: list[Cell | None]) -> Row:
    limits: dict[str, None] = {}
    figures = []
    for cell in cells:
        if cell is None:
            figures.append(Figure(NOT_MEASURED, _NO_DATA))
            continue
        judging = [each for each in _asking(results, key) if judges(each, cell)]
        limits.update(dict.fromkeys(_limit(each) for each in judging if not each.reference))
        text, note = QUESTIONS[key].answer(cell)
        deciding = [each for each in judging if each.gating] or judging
        outcome = worst([each.outcome for each in deciding])
        if key == "integrity" and broken(cell):
            outcome = "fail"  # whatever a criterion tolerates, data that is gone is never marked as right
        elif cell.reference and text == NOT_MEASURED:
            outcome = None  # nothing is wrong with a reference that lacks a counter or was too slow for a tail
        figures.append(Figure(text, note, outcome, not judging or any(each.gating for each in judging)))
    limit = "; ".join(limits) or _elsewhere(results, key, cells) or NO_LIMIT
    opened = any(cell is not None and is_open(cell) for cell in cells)
    return Row(key, QUESTIONS[key].name(is_open=opened), limit, tuple(figures))


def _asking(results: Results, key: str) -> list[Criterion]:
    """The criteria that set a row's limits; those of a published test stand in a table of their own."""
    return [each for each in results.criteria if question_of(each) == key and each.table != PUBLISHED]


def _elsewhere(results: Results, key: str, cells: list[Cell | None]) -> str:
    """The limits set on these cells' workload and load at a concurrency that was not reached."""
    loads = {cell.load for cell in cells if cell}
    found = {
        f"{_limit(each)} at {each.concurrency}": None
        for each in _asking(results, key)
        if not each.reference and each.load in loads and any(cell and judges_workload(each, cell) for cell in cells)
    }
    return "; ".join(found)


def _pointless(row: Row, *, main: bool, loop: str) -> bool:
    """Whether no limit asks for a row and it says nothing: reads of a workload without any, all as usual."""
    if row.limit != NO_LIMIT:
        return False
    question, said = QUESTIONS[row.key], {each.text for each in row.figures} - {NOT_MEASURED}
    if question.loop not in ("", loop) or (question.loop == "open" and not said):
        return True
    if question.usual is None and not question.main_only:
        return all(each.note in (NO_READS, ONLY_READS, _NO_DATA) for each in row.figures)
    return not said if main else question.main_only or said <= {question.usual}


def _limit(criterion: Criterion) -> str:
    """The criterion's limit; in the row of errors, which several quantities share, with its name."""
    field = criterion.field.removeprefix("errors.").replace("_", " ")
    named = f"{field} " if question_of(criterion) == "errors" else ""
    limit = general_limit_of(criterion).replace("reference", "ref.") if by_reference(criterion) else None
    return named + (limit or general_limit_of(criterion)) + ("" if criterion.gating else " (advisory)")
