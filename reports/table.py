"""The side-by-side table: one block a workload, a column a candidate, a row a question, with its limit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.results import Candidate, Cell, Criterion, Interval, Latency, Percentiles, Results, Verdict
from reports.figures import NOT_MEASURED, SYMBOLS, count, duration, one_line, rate
from reports.judged import INTEGRITY_FIELDS, by_reference, crowd, general_limit_of, judges, judges_workload, worst

NO_LIMIT: Final = "no limit"
_NO_READS: Final = "no reads"
_ONLY_READS: Final = "only reads"
_NO_DATA: Final = "no data"


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


@dataclass(frozen=True)
class Column:
    """Whose figures stand in a column."""

    name: str
    reference: bool


@dataclass(frozen=True)
class Block:
    """The table of one workload at its headline concurrency."""

    workload: str
    driver: str
    concurrency: int
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """What the block is about, in one line."""
        return f"{self.workload}, {crowd(self.driver, self.concurrency)}, {self.driver}"


Reading = Callable[[Cell], tuple[str, str]]


def build_block(results: Results, cells: list[Cell], candidates: list[Candidate]) -> Block:
    """The table of the given cells, which share driver, workload and concurrency."""
    by_name = {cell.candidate: cell for cell in cells}
    first = cells[0]
    rows = [
        _row(results, key, label, reading, [by_name.get(each.name) for each in candidates])
        for key, (label, reading) in _ROWS.items()
    ]
    return Block(
        workload=one_line(first.workload),
        driver=first.driver,
        concurrency=first.concurrency,
        columns=tuple(Column(one_line(each.name), each.reference) for each in candidates),
        rows=tuple(row for row in rows if not _pointless(row)),
    )


def _row(results: Results, key: str, label: str, reading: Reading, cells: list[Cell | None]) -> Row:
    limits: dict[str, None] = {}
    figures = []
    for cell in cells:
        if cell is None:
            figures.append(Figure(NOT_MEASURED, _NO_DATA))
            continue
        judging = [each for each in results.criteria if row_of(each) == key and judges(each, cell)]
        limits.update(dict.fromkeys(_limit(each) for each in judging if not each.reference))
        text, note = reading(cell)
        deciding = [each for each in judging if each.gating] or judging
        outcome = worst([each.outcome for each in deciding])
        if key == "integrity" and cell.integrity.broken:
            outcome = "fail"  # whatever a criterion tolerates, data that is gone is never marked as right
        elif cell.reference and text == NOT_MEASURED:
            outcome = None  # nothing is wrong with a reference that lacks a counter or was too slow for a tail
        figures.append(Figure(text, note, outcome, not judging or any(each.gating for each in judging)))
    limit = "; ".join(limits) or _elsewhere(results, key, cells) or NO_LIMIT
    return Row(key, label, limit, tuple(figures))


def _elsewhere(results: Results, key: str, cells: list[Cell | None]) -> str:
    """The limits set on these cells' workload at a concurrency that was not reached."""
    found = {
        f"{_limit(each)} at {each.concurrency}": None
        for each in results.criteria
        if row_of(each) == key and not each.reference
        if any(cell and judges_workload(each, cell) for cell in cells)
    }
    return "; ".join(found)


def _pointless(row: Row) -> bool:
    """Whether the workload has nothing to put into a row that nothing limits, such as reads."""
    return row.limit == NO_LIMIT and all(each.note in (_NO_READS, _ONLY_READS, _NO_DATA) for each in row.figures)


def row_of(criterion: Criterion) -> str | None:
    """The row of the table that a criterion limits, or None where the table has none."""
    return _ROW_OF_FIELD.get(criterion.field)


def _limit(criterion: Criterion) -> str:
    """The criterion's limit; in the row of errors, which several quantities share, with its name."""
    named = f"{criterion.field.replace('_', ' ')} " if row_of(criterion) == "errors" else ""
    limit = general_limit_of(criterion).replace("reference", "ref.") if by_reference(criterion) else None
    return named + (limit or general_limit_of(criterion)) + ("" if criterion.gating else " (advisory)")


def felt(latency: Latency) -> Percentiles:
    """Response times, which criteria judge; service times where none were kept. In a closed loop they are equal."""
    return latency.response if latency.response.n else latency.service


def _only_reads(cell: Cell) -> bool:
    return bool(cell.operations) and all(each.reads for each in cell.operations.values())


def _throughput(cell: Cell) -> tuple[str, str]:
    if cell.metrics_per_s is None:
        return (rate(cell.ops_per_s), "operations") if cell.ops_per_s is not None else (NOT_MEASURED, "not measured")
    return rate(cell.metrics_per_s), _half_width(cell.intervals.get("metrics_per_s"), cell.metrics_per_s)


def _half_width(bounds: Interval | None, value: float) -> str:
    """Half the interval's width as a share of the value: how far the figure can be trusted."""
    if bounds is None or value <= 0:
        return ""
    half = (bounds[1] - bounds[0]) / 2 / value
    if half > 1:
        return "±>100 %"
    return "±under 1 %" if half < 0.01 else f"±{round(half * 100)} %"


def _write_tail(cell: Cell) -> tuple[str, str]:
    if _only_reads(cell):
        return NOT_MEASURED, _ONLY_READS
    found = felt(cell.latency_ms)
    return (duration(found.p99), "") if found.p99 is not None else (NOT_MEASURED, too_few(found.n))


def _read_tail(cell: Cell) -> tuple[str, str]:
    reads = cell.read_latency_ms or (cell.latency_ms if _only_reads(cell) else None)
    if reads is None:
        return NOT_MEASURED, _NO_READS
    found = felt(reads)
    return (duration(found.p95), "") if found.p95 is not None else (NOT_MEASURED, too_few(found.n))


def too_few(n: int) -> str:
    """Why a percentile is missing."""
    return f"n too small: {count(n)}" if n else "no samples"


def _client_errors(cell: Cell) -> tuple[str, str]:
    failed = cell.ops_failed + cell.ops_unknown
    if cell.lock_errors and not failed:
        return "0", f"{count(cell.lock_errors)} lock errors, retried"
    if cell.lock_errors == failed:
        return count(failed), "all lock errors" if failed else ""
    return count(failed), f"{count(cell.lock_errors)} lock errors"


def _deadlocks(cell: Cell) -> tuple[str, str]:
    seen = cell.referee.get("deadlocks")
    if seen is None:
        return NOT_MEASURED, f"no counter; clients saw {count(cell.deadlocks)}" if cell.deadlocks else "no counter"
    return count(seen), f"clients saw {count(cell.deadlocks)}" if seen != cell.deadlocks else ""


def _integrity(cell: Cell) -> tuple[str, str]:
    found = cell.integrity
    if not found.checked:
        return NOT_MEASURED, one_line(found.reason or "not checked")
    counts = " / ".join(count(each) for each in (found.lost, found.duplicated, found.corrupted))
    broken = sum(found.invariants.values())
    extra = [
        *([f"{count(found.unexpected)} unexpected"] if found.unexpected else []),
        *([f"{count(broken)} invariants violated"] if broken else []),
    ]
    return counts, ", ".join(extra)


_ROWS: dict[str, tuple[str, Reading]] = {
    "throughput": ("metrics/s", _throughput),
    "write_p99": ("write p99", _write_tail),
    "read_p95": ("read p95", _read_tail),
    "errors": ("client errors", _client_errors),
    "deadlocks": ("deadlocks in the database", _deadlocks),
    "integrity": ("lost / duplicated / corrupted", _integrity),
}

_ROW_OF_FIELD: Final = {
    "metrics_per_s": "throughput",
    "ops_per_s": "throughput",
    "p99_ms": "write_p99",
    "read.p95_ms": "read_p95",
    "referee.deadlocks": "deadlocks",
    **dict.fromkeys(("lock_errors", "deadlocks", "errors", "ops_failed", "ops_unknown", "success_rate"), "errors"),
    **dict.fromkeys(INTEGRITY_FIELDS, "integrity"),
}
