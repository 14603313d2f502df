"""The fields that criteria may name: what each is of a cell, and why one has no value or proves nothing."""

from collections.abc import Mapping, Sequence

from bench.judge import statistics as st
from bench.outcome import ErrorKind
from bench.results import Cell, Operation

HARNESS = "generator."  # fields of the harness itself: a store can't fail by them
_LATENCIES = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms")
PHASES = ("create", "params", "steps", "experiment")
ROUND_FIELDS = (
    "metrics_per_s", "ops_per_s", *_LATENCIES, *(f"read.{name}" for name in _LATENCIES),
    *(f"phases.{name}_ms" for name in PHASES),
)  # fmt: skip
REFEREE_FIELDS = ("deadlocks", "lock_waits", "commits", "rollbacks", "connections", "lock_waiters", "connections_share")
INTEGRITY_FIELDS = ("integrity", "lost", "duplicated", "corrupted", "unexpected")
FACTS = ("durable", "schema_missing", "schema_current")
COUNT_FIELDS = (
    "lock_errors", "deadlocks", "errors", *(f"errors.{kind.label}" for kind in ErrorKind if kind), "server_errors",
    "ops_failed", "ops_unknown", "success_rate", "first_attempt_rate", "availability", "runs_unfinished",
    *INTEGRITY_FIELDS, *FACTS, "max_ms", "generator.cpu_share", "generator.loop_lag_p99_ms",
)  # fmt: skip
FIELDS = (*ROUND_FIELDS, *COUNT_FIELDS, *(f"referee.{name}" for name in REFEREE_FIELDS))


def per_round(field: str, cell: Cell) -> Sequence[float | None]:
    """The values of a rate or a latency, one a round."""
    return cell.per_round.get(field, [])


def value_of(field: str, cell: Cell) -> float | None:
    """The value of a field of a cell; None where it was not measured."""
    if field.startswith("referee."):
        return cell.referee.get(field.removeprefix("referee."))
    if field in FACTS:
        return cell.facts.get(field)
    if field == "availability":
        return None if cell.availability is None else cell.availability.share
    if field.startswith(HARNESS):
        value: float | None = getattr(cell.generator, field.removeprefix(HARNESS))
        return value
    if field in INTEGRITY_FIELDS:
        if not all(door.checked for door in cell.doors):
            return None
        if field == "integrity":
            return min(door.share or 0.0 for door in cell.doors)
        return float(max(getattr(door, field) for door in cell.doors))
    if cell.ops_ok + cell.ops_failed + cell.ops_unknown == 0:
        return None
    if field == "errors":
        return float(sum(cell.errors.values()))
    if field.startswith("errors."):
        return float(cell.errors.get(field.removeprefix("errors."), 0))
    if field == "server_errors":
        return None if cell.server_errors is None else float(sum(cell.server_errors.values()))
    if field == "max_ms":
        return cell.latency_ms.response.max
    number: float | None = getattr(cell, field)
    return None if number is None else float(number)


def why_unproven(field: str, cell: Cell) -> str | None:
    """Why a criterion that holds proves nothing all the same; None where it does."""
    if cell.rounds_lost:
        return f"{cell.rounds_lost} rounds could not be measured"
    if cell.generator.lost_parts:
        return f"{cell.generator.lost_parts} Locust workers were lost during the load"
    writes = any(not one.reads for one in cell.operations.values())
    judged = {
        name: one
        for name, one in cell.operations.items()
        if field not in ROUND_FIELDS or one.reads == _reads(field, writes)
    }
    if silent := [name for name, one in judged.items() if one.ok == 0]:
        return f"no {silent[0]} ended ok"
    if cell.ops_ok == 0:
        return "no operation ended ok"
    return _failed_too_often(field, judged)


def _failed_too_often(field: str, judged: Mapping[str, Operation]) -> str | None:
    """A percentile is of ok operations: it says nothing of users if more of them failed than lie above it."""
    quantile = st.QUANTILES.get(field.removeprefix("read.").removesuffix("_ms"))
    total = sum(one.ok + one.failed + one.unknown for one in judged.values())
    if quantile is None or total == 0:
        return None
    share = 1 - sum(one.ok for one in judged.values()) / total
    return f"{share:.1%} of the operations did not end ok, and only ok ones are timed" if share > 1 - quantile else None


def _reads(field: str, writes: bool) -> bool:
    """Whether a rate or latency is that of operations that read; in a workload that only reads, all are."""
    return field.startswith("read.") or not writes


def why_missing(field: str, cell: Cell) -> str:
    """Why a field has no value."""
    if field in INTEGRITY_FIELDS:
        reasons = [door.reason for door in cell.doors if door.reason]
        return next(iter(reasons), "the stored rows were not read back")
    if cell.ops_ok == 0:
        return "no operation ended ok, so nothing was measured"
    if field.startswith("referee."):
        return "this database has no such counter that we may read"
    if field == "server_errors":
        return "the tracking server is not ours, so what it met inside is unknown"
    if field.startswith("phases."):
        return "only workloads of kind train have phases, and one of theirs had no ok operation"
    name = field.removeprefix("read.").removesuffix("_ms")
    if name in st.MIN_SAMPLES:
        return f"n too small: a round needs {st.MIN_SAMPLES[name]} samples for {name}"
    return "not measured"


def unit_of(field: str) -> str:
    """The unit of a field, for people."""
    if field.endswith("_ms"):
        return "ms"
    return "/s" if field.endswith("_per_s") else ""
