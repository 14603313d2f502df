"""What the side-by-side table asks of a cell: each question's label, a cell's answer, and which criteria limit it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from bench.cell import INTEGRITY_COUNTS, Cell, Criterion, Integrity, Interval, Latency, Percentiles
from reports.chosen import answered, overloaded
from reports.figures import NOT_MEASURED, count, duration, one_line, rate, share
from reports.judged import INTEGRITY_FIELDS

NO_READS: Final = "no reads"
ONLY_READS: Final = "only reads"
Answer = tuple[str, str]
"""What a cell answers to a question: a text and a remark beside it."""

EQUAL, PARTED, SQL, SQL_ONLY, REST_ONLY, UNREAD = (
    "SQL = REST", "SQL ≠ REST", "SQL", "SQL only", "REST only", "not read back",
)  # fmt: skip
_UNASKED: Final[Answer] = (NOT_MEASURED, "")


class ReadBack(Protocol):
    """A cell whose rows were read back through one door or two."""

    @property
    def integrity(self) -> Integrity:
        """The first door's check."""

    @property
    def integrity_rest(self) -> Integrity | None:
        """That over MLflow's REST API, if there was one."""


@dataclass(frozen=True)
class Question:
    """One row of the table.

    Of the main workload every question is put that was answered. Of others one with a ``usual`` answer only where some
    candidate answers otherwise, and one that is ``main_only`` not at all. One of a ``loop`` is put of that loop only.
    What a criterion limits is always put. ``opened`` is the label in an open loop, where it is another.
    """

    label: str
    answer: Callable[[Cell], Answer]
    usual: str | None = None
    main_only: bool = False
    opened: str = ""
    loop: Literal["", "closed", "open"] = ""

    def name(self, *, is_open: bool) -> str:
        """The row's label in a table of open or of closed loops."""
        return (self.opened if is_open else "") or self.label


def felt(latency: Latency) -> Percentiles:
    """Response times, which criteria judge; service times where none were kept. In a closed loop they are equal."""
    return latency.response if latency.response.n else latency.service


def _only_reads(cell: Cell) -> bool:
    return bool(cell.operations) and all(each.reads for each in cell.operations.values())


def _throughput(cell: Cell) -> Answer:
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


def _offered(cell: Cell) -> Answer:
    """The rate that the schedule asked for; what was answered beside it where that fell behind."""
    if cell.schedule is None:
        return _UNASKED
    part = answered(cell)
    behind = overloaded(cell) and part is not None
    return rate(cell.schedule.rate), f"OVERLOADED: {share(part)} of it answered" if behind else ""


def _lag(cell: Cell) -> Answer:
    """From when an operation was due to when it was sent, and the part of it that the load generator added."""
    if cell.schedule is None or not cell.schedule.lag_ms.n:
        return _UNASKED
    lag, own = cell.schedule.lag_ms, cell.schedule.own_lag_ms
    note = f"generator's own {duration(own.p50)} / {duration(own.p99)}" if own.n else ""
    return f"{duration(lag.p50)} / {duration(lag.p99)}", note


def _late(cell: Cell) -> Answer:
    found = cell.schedule
    if found is None or found.late is None:
        return _UNASKED
    return count(found.late), _part_of(found.late, found.due, f"above {duration(found.limit_ms)}")


def _skipped(cell: Cell) -> Answer:
    found = cell.schedule
    return _UNASKED if found is None else (count(found.skipped), _part_of(found.skipped, found.due))


def _part_of(n: int, whole: int, more: str = "") -> str:
    """How much of the arrivals that is."""
    return ", ".join(filter(None, (share(n / whole), more))) if n and whole else ""


def _write_tail(cell: Cell) -> Answer:
    if _only_reads(cell):
        return NOT_MEASURED, ONLY_READS
    found = felt(cell.latency_ms)
    return (duration(found.p99), "") if found.p99 is not None else (NOT_MEASURED, too_few(found.n))


def _read_tail(cell: Cell) -> Answer:
    reads = cell.read_latency_ms or (cell.latency_ms if _only_reads(cell) else None)
    if reads is None:
        return NOT_MEASURED, NO_READS
    found = felt(reads)
    return (duration(found.p95), "") if found.p95 is not None else (NOT_MEASURED, too_few(found.n))


def too_few(n: int) -> str:
    """Why a percentile is missing."""
    return f"n too small: {count(n)}" if n else "no samples"


def _first_attempts(cell: Cell) -> Answer:
    return share(cell.first_attempt_rate), ""


def _client_errors(cell: Cell) -> Answer:
    failed = cell.ops_failed + cell.ops_unknown
    if cell.lock_errors and not failed:
        return "0", f"{count(cell.lock_errors)} lock errors, retried"
    if cell.lock_errors == failed:
        return count(failed), "all lock errors" if failed else ""
    return count(failed), f"{count(cell.lock_errors)} lock errors"


def hidden(cell: Cell) -> dict[str, int]:
    """Errors inside the tracking server that clients never saw, because its own retries succeeded, by kind."""
    more = {kind: n - cell.errors.get(kind, 0) for kind, n in (cell.server_errors or {}).items()}
    return {kind: n for kind, n in more.items() if n > 0}


def _server_errors(cell: Cell) -> Answer:
    if cell.server_errors is None:
        return _UNASKED
    unseen = sum(hidden(cell).values())
    total = sum(cell.server_errors.values())
    which = "all" if unseen == total else count(unseen)
    return count(total), f"{which} hidden by its retries" if unseen else ""


def _deadlocks(cell: Cell) -> Answer:
    seen = cell.referee.get("deadlocks")
    if seen is None:
        return NOT_MEASURED, f"no counter; clients saw {count(cell.deadlocks)}" if cell.deadlocks else "no counter"
    return count(seen), f"clients saw {count(cell.deadlocks)}" if seen != cell.deadlocks else ""


def _connections(cell: Cell) -> Answer:
    peak, part = cell.referee.get("connections"), cell.referee.get("connections_share")
    if not peak or not part:
        return _UNASKED
    return share(part), f"{count(peak)} of {count(round(peak / part))}"


def _availability(cell: Cell) -> Answer:
    found = cell.availability
    if found is None:
        return _UNASKED
    return share(found.share), f"p95: health {duration(found.health.p95_ms)}, search {duration(found.search.p95_ms)}"


PHASES: Final = {"create": "create", "params": "params", "steps": "steps", "experiment": "whole experiment"}
"""The parts of one experiment of ``train``, as results.json names them, and in words."""


def _experiment(cell: Cell) -> Answer:
    parts = [f"{word} {duration(cell.phases_ms[name])}" for name, word in PHASES.items() if name in cell.phases_ms]
    return duration(cell.phases_ms.get("experiment")), ", ".join(parts[:3])


def _unfinished(cell: Cell) -> Answer:
    return count(cell.runs_unfinished), ""


def broken(cell: Cell) -> bool:
    """Whether data was lost, changed, duplicated or added, through whichever door that showed."""
    return any(each.broken for each in cell.doors)


def _integrity(cell: Cell) -> Answer:
    found, rest = cell.integrity, cell.integrity_rest
    if rest is not None and rest.checked and (not found.checked or (rest.broken and not found.broken)):
        found = rest
    if not found.checked:
        return NOT_MEASURED, one_line(found.reason or "not checked")
    usual = doors(cell) in (EQUAL, SQL)
    return _counts(found), "; ".join([*_more(found), *([] if usual else [doors(cell)])])


def _counts(found: Integrity) -> str:
    return " / ".join(count(each) for each in (found.lost, found.duplicated, found.corrupted))


def _more(found: Integrity) -> list[str]:
    broken = sum(found.invariants.values())
    extra = [
        *([f"{count(found.unexpected)} unexpected"] if found.unexpected else []),
        *([f"{count(broken)} invariants violated"] if broken else []),
    ]
    return [", ".join(extra)] if extra else []


def doors(cell: ReadBack) -> str:
    """Through which doors a cell's rows were read back, and whether both showed the same.

    After load through a server the REST check stands beside that by SQL, unless REST is the only door there is.
    """
    first, rest = cell.integrity, cell.integrity_rest
    if rest is None:
        return UNREAD if not first.checked else REST_ONLY if first.door == "rest" else SQL
    if not rest.checked:
        return SQL_ONLY if first.checked else UNREAD
    if not first.checked:
        return REST_ONLY
    return EQUAL if agree(first, rest) else PARTED


def agree(one: Integrity, other: Integrity) -> bool:
    """Whether two checks of the same rows counted the same."""
    return all(getattr(one, name) == getattr(other, name) for name in INTEGRITY_COUNTS)


QUESTIONS: Final = {
    "throughput": Question("metrics/s", _throughput, loop="closed"),
    "offered": Question("offered operations", _offered, loop="open"),
    "write_p99": Question("write p99, service time", _write_tail, opened="write p99, response time"),
    "read_p95": Question("read p95, service time", _read_tail, opened="read p95, response time"),
    "lag": Question("schedule lag p50 / p99", _lag, loop="open"),
    "late": Question("late answers", _late, loop="open"),
    "skipped": Question("skipped", _skipped, loop="open"),
    "experiment": Question("one experiment", _experiment, usual=NOT_MEASURED),
    "unfinished": Question("runs unfinished", _unfinished, usual="0"),
    "availability": Question("available", _availability, usual="100 %"),
    "first_attempts": Question("first attempts ok", _first_attempts, usual="100 %"),
    "errors": Question("client errors", _client_errors),
    "server_errors": Question("errors inside the server", _server_errors, usual="0"),
    "deadlocks": Question("deadlocks in the database", _deadlocks),
    "connections": Question("peak connections", _connections, main_only=True),
    "integrity": Question("lost / duplicated / corrupted", _integrity),
}
"""The table's rows in order."""

_OF_FIELD: Final = {
    "metrics_per_s": "throughput",
    "ops_per_s": "throughput",
    "p99_ms": "write_p99",
    "read.p95_ms": "read_p95",
    "phases.experiment_ms": "experiment",
    "runs_unfinished": "unfinished",
    "availability": "availability",
    "first_attempt_rate": "first_attempts",
    "server_errors": "server_errors",
    "referee.deadlocks": "deadlocks",
    "referee.connections": "connections",
    "referee.connections_share": "connections",
    **dict.fromkeys(("lock_errors", "deadlocks", "errors", "ops_failed", "ops_unknown", "success_rate"), "errors"),
    **dict.fromkeys(INTEGRITY_FIELDS, "integrity"),
}


def question_of(criterion: Criterion) -> str | None:
    """The question that a criterion sets a limit to, or None where the table has none."""
    group, _, rest = criterion.field.partition(".")
    if group == "schedule":
        return next((key for key in ("lag", "late", "skipped") if key in rest), None)
    return _OF_FIELD.get(criterion.field) or ("errors" if group == "errors" else None)
