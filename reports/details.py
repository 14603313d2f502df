"""The tables behind the one-minute screen, as rows of text that every format can lay out."""

from dataclasses import dataclass
from typing import Final

from bench.cell import Cell, Criterion, Interval, Percentiles, Schedule, Verdict
from bench.results import Results
from reports.chosen import answered, overloaded
from reports.figures import (
    NOT_MEASURED,
    SYMBOLS,
    count,
    duration,
    mathematical,
    one_line,
    rate,
    share,
)
from reports.judged import SEVERITY, interval_of, limit_of, noise_of, place, quantity_of, reason_of, spot
from reports.rows import felt


@dataclass(frozen=True)
class CriterionLine:
    """One criterion, ready to print."""

    candidate: str
    name: str
    cell: str
    address: str
    expression: str
    target: str
    measured: str
    interval: str
    noise: str
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
    role = "reference" if each.reference else "gating" if each.gating else each.table or "advisory"
    plain = each.measured is not None and each.interval is None and each.outcome != "inconclusive"
    return CriterionLine(
        candidate=one_line(each.candidate),
        name=one_line(each.name),
        cell=place(each),
        address=_address(each),
        expression=mathematical(one_line(each.expression)),
        target=limit_of(each),
        measured=quantity_of(each, each.measured),
        interval=interval_of(each),
        noise=noise_of(each),
        outcome=each.outcome,
        role=role,
        reason="" if plain else reason_of(each),
    )


def _address(each: Criterion) -> str:
    """Which cell a criterion is about, in full: what tells it from all others of its name."""
    if not each.concurrency:
        return spot(each)
    if each.fault:
        return f"{each.driver}, {spot(each).removeprefix('direct ')}, {one_line(each.fault)}"
    return f"{each.driver}, {place(each).removeprefix('direct ')}"


def label(cell: Cell) -> tuple[str, ...]:
    """Which cell a row is about, in the columns of ``LABEL_HEADS``."""
    return (one_line(cell.candidate), one_line(cell.workload), cell.driver, str(cell.concurrency), one_line(cell.load))


LABEL_HEADS: Final = ("candidate", "workload", "driver", "at once", "load")


def in_order(results: Results) -> list[Cell]:
    """All cells, those through a server first."""
    return sorted(results.cells, key=lambda cell: cell.driver != "http")


def cells(results: Results) -> Table:
    """What every cell did: speed, tail, how its operations ended."""
    heads = (
        *LABEL_HEADS,
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
        "first attempts",
        "lock errors",
        "connections",
        "generator CPU",
    )
    return Table(heads, tuple(_cell_row(cell) for cell in in_order(results)), numeric=3)


def _cell_row(cell: Cell) -> tuple[str, ...]:
    tail = felt(cell.latency_ms)
    reads = felt(cell.read_latency_ms) if cell.read_latency_ms else Percentiles()
    busy = share(cell.generator.cpu_share)
    return (
        *label(cell),
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
        share(cell.first_attempt_rate),
        count(cell.lock_errors),
        _connections(cell),
        f"{busy}, saturated" if cell.generator.saturated else busy,
    )


def _connections(cell: Cell) -> str:
    """The peak, and what share it is of what the server admits."""
    peak, part = cell.referee.get("connections"), cell.referee.get("connections_share")
    return count(peak) if part is None else f"{count(peak)} ({share(part)})"


def _rates(bounds: Interval | None) -> str:
    return f"{rate(bounds[0])} to {rate(bounds[1])}" if bounds else NOT_MEASURED


def _percentiles(found: Percentiles) -> tuple[str, ...]:
    """p50, p95, p99, p99.9 and max; where n is too small for one, that is said instead."""
    values = (found.p50, found.p95, found.p99, found.p999, found.max)
    return tuple(duration(each) if each is not None else "n too small" if found.n else NOT_MEASURED for each in values)


def operations(results: Results) -> Table:
    """Each kind of operation within each cell."""
    heads = (*LABEL_HEADS, "operation", "ok", "failed", "unknown", "p50", "p95", "p99", "p99.9", "max")
    rows = [
        (
            *label(cell),
            f"{one_line(name)}{' (read)' if each.reads else ''}",
            count(each.ok),
            count(each.failed),
            count(each.unknown),
            *_percentiles(felt(each.latency_ms)),
        )
        for cell in in_order(results)
        for name, each in cell.operations.items()
    ]
    return Table(heads, tuple(rows), numeric=6)


def schedules(results: Results) -> Table:
    """What became of every open loop's arrivals, in the order of what was offered."""
    heads = (
        *LABEL_HEADS,
        *("arrivals", "offered", "answered", "due", "late", "skipped", "lag p50", "lag p99", "lag max"),
        *("generator's own p50", "own p99", "service p99", "response p99"),
    )
    opened = [(cell, cell.schedule) for cell in in_order(results) if cell.schedule]
    return Table(heads, tuple(_schedule_row(cell, found) for cell, found in opened), numeric=6)


def _schedule_row(cell: Cell, found: Schedule) -> tuple[str, ...]:
    return (
        *label(cell),
        found.arrivals,
        rate(found.rate),
        f"{share(answered(cell))}{', overloaded' if overloaded(cell) else ''}",
        count(found.due),
        count(found.late),
        count(found.skipped),
        *map(duration, (found.lag_ms.p50, found.lag_ms.p99, found.lag_ms.max)),
        *map(duration, (found.own_lag_ms.p50, found.own_lag_ms.p99)),
        *(duration(each.p99) for each in (cell.latency_ms.service, cell.latency_ms.response)),
    )
