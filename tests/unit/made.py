"""Results in which all is well, to be changed one field at a time."""

from bench.cell import Cell, Criterion, Generator, Integrity, Latency, Operation, Percentiles, TimelinePoint
from bench.fault_cell import FaultCell, FaultSeen, Moment
from bench.results import Candidate, Results, Run

PERCENTILES = Percentiles(p50=1.0, p90=2.0, p95=3.0, p99=4.0, p999=None, max=9.0, n=1000)
LATENCIES = Latency(service=PERCENTILES, response=PERCENTILES)


def a_cell(**changes: object) -> Cell:
    """A cell of MySQL in which all is well; ``changes`` are not checked."""
    rounds: list[float | None] = [100.0, 101.0, 99.0, 100.0]
    cell = Cell(
        candidate="mysql",
        store="mysql",
        driver="direct",
        workload="log_metric",
        concurrency=20,
        reference=False,
        rounds=4,
        seconds=8.0,
        ops_ok=1000,
        ops_failed=0,
        ops_unknown=0,
        ops_retried=0,
        metrics_per_s=100.0,
        ops_per_s=100.0,
        success_rate=1.0,
        latency_ms=LATENCIES,
        read_latency_ms=None,
        operations={"log_metric": Operation(ok=1000, failed=0, unknown=0, reads=False, latency_ms=LATENCIES)},
        errors={},
        lock_errors=0,
        deadlocks=0,
        referee={"deadlocks": 0.0, "lock_waits": None},
        integrity=Integrity(checked=True, attempted=1000, acknowledged=1000, stored=1000),
        generator=Generator(cpu_share=0.4, loop_lag_p99_ms=2.0),
        intervals={"metrics_per_s": (98.0, 102.0), "p99_ms": None},
        per_round={"metrics_per_s": rounds, "p99_ms": rounds},
        timeline=[TimelinePoint(round=0, second=0, metrics=100, lock_errors=0)],
    )
    return cell.model_copy(update=changes)


def a_criterion(**changes: object) -> Criterion:
    """A criterion that holds; ``changes`` are not checked."""
    criterion = Criterion(
        candidate="mysql",
        name="write tail",
        expression="p99_ms <= 500",
        field="p99_ms",
        driver="direct",
        workload="log_metric",
        concurrency=20,
        comparison="<=",
        limit=500.0,
        target="<= 500",
        measured=100.0,
        unit="ms",
        interval=(98.0, 102.0),
        outcome="pass",
        gating=True,
        reference=False,
        reason="90 % interval 98 to 102",
        rounds_needed=None,
    )
    return criterion.model_copy(update=changes)


def a_result(**changes: object) -> Results:
    """A whole run of one candidate; ``changes`` are not checked."""
    run = Run(
        id="20250101T000000Z-quick",
        scenario="quick",
        title="a title",
        started="2025-01-01T00:00:00+00:00",
        ended="2025-01-01T00:01:00+00:00",
        seconds=60.0,
        seed=1,
        rounds=4,
        command="trackbench run quick",
        mlflow_version="3.17.2",
        authentication="none",
        network="loopback",
        loop="closed",
        interrupted=False,
        trials_planned=4,
        trials_done=4,
    )
    result = Results(
        run=run,
        environment={"cores": "2"},
        candidates=[],
        cells=[a_cell()],
        criteria=[a_criterion()],
        verdicts={"mysql": "pass"},
        reasons={"mysql": "all hold"},
        verdict="pass",
        exit_code=0,
        notes=["żółć 🜚"],
    )
    return result.model_copy(update=changes)


def a_seen(**changes: object) -> FaultSeen:
    """A database server that was killed and came back; ``changes`` are not checked."""
    seen = FaultSeen(
        name="server-killed", kind="kill", target="database", says="database server killed", begin_s=1.0, end_s=2.5,
        before=200, first_ok_s=0.5, gone_s=2.0, reconnects=8, looks=20,
        timeline=[Moment(at_s=n / 4, metrics=0 if 4 <= n < 12 else 50) for n in range(16)],
    )  # fmt: skip
    return seen.model_copy(update=changes)


def a_fault_cell(**changes: object) -> FaultCell:
    """A cell of MySQL that kept everything through a fault; ``changes`` are not checked."""
    cell = FaultCell(
        candidate="mysql",
        store="mysql",
        driver="direct",
        workload="log_metric",
        concurrency=8,
        fault="server-killed",
        kind="kill",
        target="database",
        says="database server killed",
        reference=False,
        rounds=1,
        ops_ok=1000,
        ops_failed=0,
        ops_unknown=3,
        ops_retried=0,
        errors={"connection": 11},
        lock_errors=0,
        reconnects=8,
        looks=20,
        integrity=Integrity(checked=True, attempted=1003, acknowledged=1000, stored=1002, recovered=2, indeterminate=1),
        first_ok_s=0.5,
        gone_s=2.0,
        may_lose=None,
        outcome="kept",
        reason="all 1,000 acknowledged rows are there, unchanged",
        seen=[a_seen()],
    )
    return cell.model_copy(update=changes)


def a_candidate(name: str, store: str, **changes: object) -> Candidate:
    """A durable candidate of ours; SQLite is the reference. ``changes`` are not checked."""
    made = Candidate(
        name=name, store=store, reference=name == "sqlite", source="ours", server_version="1", settings={},
        durable=True, durability="synced", prefill="none", schema_current=True, schema_missing=[], theirs=False,
    )  # fmt: skip
    return made.model_copy(update={"may_lose_crash": None, "may_lose_power": None, **changes})
