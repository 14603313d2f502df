"""The tables behind the one-minute screen, as rows of text that every format can lay out."""

from dataclasses import dataclass

from bench.results import Cell, Criterion, Interval, Percentiles, Results, Verdict
from reports.figures import (
    NOT_MEASURED,
    SYMBOLS,
    count,
    duration,
    mathematical,
    one_line,
    printable,
    rate,
    share,
)
from reports.judged import SEVERITY, limit_of, place, quantity_of
from reports.table import felt


@dataclass(frozen=True)
class CriterionLine:
    """One criterion, ready to print."""

    candidate: str
    name: str
    driver: str
    cell: str
    expression: str
    target: str
    measured: str
    interval: str
    outcome: Verdict
    role: str
    reason: str

    @property
    def symbol(self) -> str:
        """The outcome as a sign."""
        return SYMBOLS[self.outcome]


@dataclass(frozen=True)
class Table:
    """Column heads and rows of text; ``numeric`` says from which column on the entries are figures."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: int = 1


def criteria(results: Results) -> list[CriterionLine]:
    """Every criterion of the run: the deciding ones first, the worst of them at the top."""
    ranked = sorted(results.criteria, key=lambda each: (each.reference, not each.gating, -SEVERITY[each.outcome]))
    return [line(each) for each in ranked]


def line(each: Criterion) -> CriterionLine:
    """One criterion on one cell; without a reason where an exact count and its limit say it all."""
    role = "reference" if each.reference else "gating" if each.gating else "advisory"
    plain = each.measured is not None and each.interval is None and each.outcome != "inconclusive"
    ends = [quantity_of(each, end) for end in each.interval or ()]
    return CriterionLine(
        candidate=one_line(each.candidate),
        name=one_line(each.name),
        driver=each.driver,
        cell=place(each.workload, each.concurrency),
        expression=mathematical(one_line(each.expression)),
        target=limit_of(each),
        measured=quantity_of(each, each.measured),
        interval=" to ".join(ends),
        outcome=each.outcome,
        role=role,
        reason="" if plain else one_line(each.reason),
    )


def _label(cell: Cell) -> tuple[str, ...]:
    return (one_line(cell.candidate), one_line(cell.workload), cell.driver, str(cell.concurrency))


_LABEL_HEADS = ("candidate", "workload", "driver", "at once")


def cells(results: Results) -> Table:
    """What every cell did: speed, tail, how its operations ended."""
    heads = (
        *_LABEL_HEADS,
        "rounds",
        "metrics/s",
        "95 % interval",
        "ops/s",
        "p50",
        "p95",
        "p99",
        "p99.9",
        "max",
        "read p95",
        "ok",
        "failed",
        "unknown",
        "retried",
        "success",
        "lock errors",
        "generator CPU",
    )
    return Table(heads, tuple(_cell_row(cell) for cell in results.cells), numeric=3)


def _cell_row(cell: Cell) -> tuple[str, ...]:
    tail = felt(cell.latency_ms)
    reads = felt(cell.read_latency_ms) if cell.read_latency_ms else Percentiles()
    busy = share(cell.generator.cpu_share)
    return (
        *_label(cell),
        str(cell.rounds),
        rate(cell.metrics_per_s),
        _rates(cell.intervals.get("metrics_per_s")),
        rate(cell.ops_per_s),
        *_percentiles(tail),
        duration(reads.p95),
        count(cell.ops_ok),
        count(cell.ops_failed),
        count(cell.ops_unknown),
        count(cell.ops_retried),
        share(cell.success_rate),
        count(cell.lock_errors),
        f"{busy}, saturated" if cell.generator.saturated else busy,
    )


def _rates(bounds: Interval | None) -> str:
    return f"{rate(bounds[0])} to {rate(bounds[1])}" if bounds else NOT_MEASURED


def _percentiles(found: Percentiles) -> tuple[str, ...]:
    """p50, p95, p99, p99.9 and max; where n is too small for one, that is said instead."""
    values = (found.p50, found.p95, found.p99, found.p999, found.max)
    return tuple(duration(each) if each is not None else "n too small" if found.n else NOT_MEASURED for each in values)


def operations(results: Results) -> Table:
    """Each kind of operation within each cell."""
    heads = (*_LABEL_HEADS, "operation", "ok", "failed", "unknown", "p50", "p95", "p99", "p99.9", "max")
    rows = [
        (
            *_label(cell),
            f"{one_line(name)}{' (read)' if each.reads else ''}",
            count(each.ok),
            count(each.failed),
            count(each.unknown),
            *_percentiles(felt(each.latency_ms)),
        )
        for cell in results.cells
        for name, each in cell.operations.items()
    ]
    return Table(heads, tuple(rows), numeric=5)


def errors(results: Results) -> Table:
    """Attempts that failed, by kind, for every cell that saw one."""
    kinds = sorted({kind for cell in results.cells for kind, n in cell.errors.items() if n})
    rows = [
        (*_label(cell), *(count(cell.errors.get(kind, 0)) for kind in kinds), count(cell.lock_errors))
        for cell in results.cells
        if any(cell.errors.values())
    ]
    return Table((*_LABEL_HEADS, *map(one_line, kinds), "lock errors"), tuple(rows), numeric=3)


def referee(results: Results) -> Table:
    """The database's own counters over each cell's trials; a dash where the store has no such counter."""
    counters = sorted({name for cell in results.cells for name, n in cell.referee.items() if n is not None})
    rows = [
        (*_label(cell), count(cell.deadlocks), *(count(cell.referee.get(name)) for name in counters))
        for cell in results.cells
        if counters
    ]
    heads = (*_LABEL_HEADS, "deadlocks that clients saw", *map(one_line, counters))
    return Table(heads, tuple(rows), numeric=3)


def integrity(results: Results) -> Table:
    """What became of every commit, cell by cell."""
    names = ("attempted", "acknowledged", "stored", "lost", "duplicated", "corrupted", "unexpected", "recovered")
    invariants = sorted({name for cell in results.cells for name in cell.integrity.invariants})
    heads = (*_LABEL_HEADS, "result", *names, "indeterminate", *map(one_line, invariants))
    rows = []
    for cell in results.cells:
        found = cell.integrity
        if not found.checked:
            why = f"? not checked: {one_line(found.reason or 'no reason was recorded')}"
            rows.append((*_label(cell), why, *(NOT_MEASURED for _ in heads[5:])))
            continue
        counts = [count(getattr(found, name)) for name in (*names, "indeterminate")]
        broken = [count(found.invariants[name]) if name in found.invariants else NOT_MEASURED for name in invariants]
        rows.append((*_label(cell), "✗ broken" if found.broken else "✓ intact", *counts, *broken))
    return Table(heads, tuple(rows), numeric=5)


def wrong_rows(results: Results) -> list[str]:
    """The first rows found wrong, each with its cell."""
    return [
        f"{cell.candidate}, {cell.workload}, {cell.concurrency} at once: {printable(example)}"
        for cell in results.cells
        for example in cell.integrity.examples
    ]
