"""The fields that criteria may name: what each is of a cell, and why one has no value or proves nothing."""

from collections.abc import Mapping, Sequence

from bench.cell import CLOSED, Cell, Operation, Schedule
from bench.fault_cell import FaultCell
from bench.judge import statistics as st
from bench.outcome import ErrorKind

Judged = Cell | FaultCell
_GENERATOR = "generator."
_LATENCIES = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms")
PHASES = ("create", "params", "steps", "experiment")
ROUND_FIELDS = (
    "metrics_per_s", "ops_per_s", *_LATENCIES, *(f"read.{name}" for name in _LATENCIES),
    *(f"phases.{name}_ms" for name in PHASES),
)  # fmt: skip
REFEREE_FIELDS = ("deadlocks", "lock_waits", "commits", "rollbacks", "connections", "lock_waiters", "connections_share")
INTEGRITY_FIELDS = ("integrity", "lost", "duplicated", "corrupted", "unexpected")
STALE = "stale"
FAULT = "fault."  # fields of a cell in which something was broken on purpose
KEPT = f"{FAULT}kept"
BESIDE_A_FAULT = (f"{FAULT}first_ok_s", f"{FAULT}gone_s", f"{FAULT}reconnects", f"{FAULT}unknown", STALE)  # with a load
FAULT_FIELDS = (KEPT, *BESIDE_A_FAULT)
FACTS = ("durable", "schema_missing", "schema_current")
SCHEDULE = "schedule."  # fields of an open loop
_SCHEDULE_FIELDS = ("rate", "skipped", "skipped_share", "late", "lag_p99_ms")
MEMORY = "memory."  # fields of what each party takes
_MEMORY_FIELDS = tuple(
    f"{MEMORY}{party}_{what}"
    for party in ("harness", "load", "tracking", "database")
    for what in ("peak_mb", "mb_per_h")
)
COUNT_FIELDS = (
    "lock_errors", "deadlocks", "errors", *(f"errors.{kind.label}" for kind in ErrorKind if kind), "server_errors",
    "ops_failed", "ops_unknown", "success_rate", "first_attempt_rate", "availability", "runs_unfinished",
    *INTEGRITY_FIELDS, *FACTS, "max_ms", "generator.cpu_share", "generator.loop_lag_p99_ms",
    *(f"{SCHEDULE}{name}" for name in _SCHEDULE_FIELDS), *_MEMORY_FIELDS,
)  # fmt: skip
MIGRATION, READINESS = "migration.", "readiness."  # fields of a move and of what it moves to: of no cell
MOVE_FIELDS = (
    *(
        f"{MIGRATION}{name}"
        for name in (
            "equal", "equal_after_load", "problems", "differing_rows", "frozen_to_proof_s", "copy_metrics_per_s",
        )
    ),
    *(f"{READINESS}{name}" for name in ("failed", "warned", "unknown", "backup_restored")),
)  # fmt: skip
CELL_FIELDS = (*ROUND_FIELDS, *COUNT_FIELDS, *(f"referee.{name}" for name in REFEREE_FIELDS))
FIELDS = (*CELL_FIELDS, *FAULT_FIELDS, *MOVE_FIELDS)


def of_harness(field: str) -> bool:
    """Whether a field is of the harness itself: a store can't fail by it."""
    return field.startswith((_GENERATOR, f"{MEMORY}harness_", f"{MEMORY}load_"))


def of_cells(field: str) -> bool:
    """Whether cells without a fault have this field."""
    return field in CELL_FIELDS


def of_faults(field: str) -> bool:
    """Whether cells with a fault have this field."""
    return field in FAULT_FIELDS or field in INTEGRITY_FIELDS


def of_moves(field: str) -> bool:
    """Whether a field is of moving a store, or of what it was moved to."""
    return field in MOVE_FIELDS


def per_round(field: str, cell: Cell) -> Sequence[float | None]:
    """The values of a rate or a latency, one a round."""
    return cell.per_round.get(field, [])


def value_of(field: str, cell: Judged) -> float | None:
    """The value of a field of a cell; None where it was not measured, or the cell has no such field."""
    if field in INTEGRITY_FIELDS:
        return _integrity(field, cell)
    if isinstance(cell, FaultCell):
        return _of_fault(field, cell) if of_faults(field) else None
    return _of_cell(field, cell) if of_cells(field) else None


def _of_cell(field: str, cell: Cell) -> float | None:
    if field.startswith("referee."):
        return cell.referee.get(field.removeprefix("referee."))
    if field in FACTS:
        return cell.facts.get(field)
    if field.startswith(SCHEDULE):
        return _scheduled(field.removeprefix(SCHEDULE), cell.schedule)
    if field.startswith(MEMORY):
        return _remembered(field.removeprefix(MEMORY), cell)
    if field == "availability":
        return None if cell.availability is None else cell.availability.share
    if field.startswith(_GENERATOR):
        value: float | None = getattr(cell.generator, field.removeprefix(_GENERATOR))
        return value
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


def _remembered(name: str, cell: Cell) -> float | None:
    party, _, what = name.partition("_")
    use = cell.memory.get(party)
    value: float | None = None if use is None else getattr(use, what)
    return value


def _of_fault(field: str, cell: FaultCell) -> float | None:
    """``fault.kept``: 1 where nothing was lost, 0 where something was, whether or not the settings allow it."""
    if field == KEPT:
        return None if cell.outcome == "unknown" else float(cell.outcome == "kept")
    if field == STALE:
        by_sql = [door for door in cell.doors if door.door == "sql"]
        found = _integrity(field, cell) if by_sql else None
        return found if found or cell.looks else None  # nobody looked
    if field == f"{FAULT}unknown":
        return float(cell.ops_unknown) if cell.ops_ok + cell.ops_failed + cell.ops_unknown else None
    number: float | None = getattr(cell, field.removeprefix(FAULT))
    return None if number is None else float(number)


def _integrity(field: str, cell: Judged) -> float | None:
    """That of the worse door, if all were checked."""
    if not all(door.checked for door in cell.doors):
        return None
    if field == "integrity":
        return min(door.share or 0.0 for door in cell.doors)
    return float(max(getattr(door, field) for door in cell.doors))


def _scheduled(name: str, schedule: Schedule | None) -> float | None:
    """What became of the arrivals, even if none of them ended ok."""
    if schedule is None:
        return None
    if name == "lag_p99_ms":
        return schedule.lag_ms.p99
    if name == "skipped_share":
        return _skipped_share(schedule)
    number: float | None = getattr(schedule, name)
    return None if number is None else float(number)


def _skipped_share(schedule: Schedule | None) -> float | None:
    return schedule.skipped / schedule.due if schedule is not None and schedule.due else None


def why_unproven(field: str, cell: Judged) -> str | None:
    """Why a criterion that holds proves nothing all the same; None where it does."""
    if isinstance(cell, FaultCell):
        return cell.reason if cell.outcome == "unknown" else None
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
    return _failed_too_often(field, judged, _skipped_share(cell.schedule) or 0.0)


def _failed_too_often(field: str, judged: Mapping[str, Operation], skipped: float) -> str | None:
    """A percentile is of ok operations: it says nothing of users if more of them failed than lie above it.

    Nor if more were ``skipped``, the share of an open loop's arrivals that were never sent.
    """
    quantile = st.QUANTILES.get(field.removeprefix("read.").removesuffix("_ms"))
    total = sum(one.ok + one.failed + one.unknown for one in judged.values())
    if quantile is None or total == 0:
        return None
    share = 1 - sum(one.ok for one in judged.values()) / total * (1 - skipped)
    if share <= 1 - quantile:
        return None
    what = "were skipped or did not end ok" if skipped else "did not end ok"
    return f"{share:.1%} of the operations {what}, and only ok ones are timed"


def _reads(field: str, writes: bool) -> bool:
    """Whether a rate or latency is that of operations that read; in a workload that only reads, all are."""
    return field.startswith("read.") or not writes


def why_missing(field: str, cell: Judged) -> str:
    """Why a field has no value."""
    if isinstance(cell, FaultCell):
        return _why_not_of_fault(field, cell)
    if not of_cells(field):
        return "only a cell with a fault has it"
    if field in INTEGRITY_FIELDS:
        return _unread(cell)
    if field.startswith(SCHEDULE) and cell.schedule is None:
        return "a closed loop has no schedule" if cell.load == CLOSED else "no round of it was measured"
    if field == "schedule.late":
        return "no limit was set beyond which an operation is late"
    if field == "schedule.skipped_share":
        return "nothing was due"
    if cell.ops_ok == 0:
        return "no operation ended ok, so nothing was measured"
    if field.startswith("referee."):
        return "this database has no such counter that we may read"
    if field == "server_errors":
        return "the tracking server is not ours, so what it met inside is unknown"
    if field.startswith("phases."):
        return "only workloads of kind train have phases, and one of theirs had no ok operation"
    name = field.removeprefix("read.").removeprefix("schedule.lag_").removesuffix("_ms")
    if name in st.MIN_SAMPLES:
        return f"n too small: a round needs {st.MIN_SAMPLES[name]} samples for {name}"
    return "not measured"


def _unread(cell: Judged) -> str:
    """Why integrity is not known."""
    reasons = [door.reason for door in cell.doors if door.reason]
    return next(iter(reasons), "the stored rows were not read back")


def _why_not_of_fault(field: str, cell: FaultCell) -> str:
    if cell.outcome == "unknown":
        return cell.reason
    if field in INTEGRITY_FIELDS:
        return _unread(cell)
    if field == STALE:
        return "nobody could look for stale reads while the load ran"
    if field == f"{FAULT}first_ok_s":
        return "no operation ended ok after it"
    return "not measured" if of_faults(field) else "only a cell without a fault has it"


def unit_of(field: str) -> str:
    """The unit of a field, for people."""
    if field.endswith("_ms"):
        return "ms"
    if field.endswith("_per_s") or field == "schedule.rate":
        return "/s"
    return "s" if field.endswith("_s") else ""
