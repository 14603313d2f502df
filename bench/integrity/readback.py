"""The full read-back after a trial: streams every row of its runs from the store into the audits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.integrity.metric_audit import MetricAudit
from bench.integrity.run_audit import RunAudit, run_name
from bench.integrity.tally import Tally
from bench.integrity.text_audit import TextAudit
from bench.stores.base import Session
from bench.workload import Layout

TABLES = ("metrics", "latest_metrics", "params", "tags", "runs", "experiments")
_RUN_NAME = "mlflow.runName"
_METRIC = "run_uuid, {key}, step, timestamp, value, is_nan"
_OURS = "WHERE run_uuid >= ? AND run_uuid < ?"
_SELECT = {
    "metrics": f"SELECT {_METRIC} FROM metrics {_OURS} ORDER BY run_uuid, {{key}}, step, timestamp, value",
    "latest_metrics": f"SELECT {_METRIC} FROM latest_metrics {_OURS}",
    "params": f"SELECT run_uuid, {{key}}, value FROM params {_OURS}",
    "tags": f"SELECT run_uuid, {{key}}, value FROM tags {_OURS}",
    "runs": f"SELECT run_uuid, name, status, start_time, end_time, lifecycle_stage, experiment_id FROM runs {_OURS}",
}


@dataclass(frozen=True)
class Expected:
    """What a trial (or the prefill) should have left: its layout, its ledgers and its experiment."""

    layout: Layout
    statuses: Sequence[NDArray[np.uint8]]
    experiment_id: int


async def read_back(session: Session, expected: Expected) -> Tally:
    """Compare every stored row of the trial's runs with its ledger."""
    layout, statuses = expected.layout, expected.statuses
    low, high = layout.key.prefix, layout.key.prefix + "g"  # "g" sorts after every hex digit
    statement = {table: session.dialect.render(text) for table, text in _SELECT.items()}
    metrics = MetricAudit(layout, statuses)
    async for rows in session.stream(statement["metrics"], low, high):
        metrics.metrics(rows)
    latest = 0
    async for rows in session.stream(statement["latest_metrics"], low, high):
        latest += len(rows)
        metrics.latest(rows)
    params = TextAudit(layout, statuses, "param")
    async for rows in session.stream(statement["params"], low, high):
        params.rows(rows)
    tags = TextAudit(layout, statuses, "tag")
    names: list[tuple[str, str]] = []
    async for rows in session.stream(statement["tags"], low, high):
        names += [(row[0], row[2]) for row in rows if row[1] == _RUN_NAME]
        tags.rows([row for row in rows if row[1] != _RUN_NAME])
    runs = RunAudit(layout, statuses, expected.experiment_id)
    async for rows in session.stream(statement["runs"], low, high):
        runs.rows(rows)

    result = Tally()
    result.tables.update(latest_metrics=latest, tags=len(names))
    for table, audit in (("metrics", metrics), ("params", params), ("tags", tags), ("runs", runs)):
        tally = audit.close()
        result.tables[table] += tally.stored
        result.add(tally)
    named = sorted(names) == sorted((run_id, run_name(run_id)) for run_id in runs.run_ids)
    result.invariants["runs have their name tag"] += not named
    orphans = (metrics.runs_seen | params.runs_seen | tags.runs_seen) - runs.run_ids
    result.invariants["no row without its run"] += len(orphans)
    for run in sorted(orphans):
        result.example(f"rows of run {run} have no run")
    return result


def reconcile(before: Mapping[str, int], after: Mapping[str, int], ours: Mapping[str, int]) -> Tally:
    """Whole-table counts, without joins: what a table gained must be what we found under our run ids.

    ``before`` and ``after`` are rows a table, ``ours`` the rows that this trial added. A surplus is
    ``unexpected`` (somebody wrote behind our back), a deficit is ``lost``.
    """
    result = Tally()
    for table, now in after.items():
        surplus = now - before[table] - ours[table]
        result.unexpected += max(surplus, 0)
        result.lost += max(-surplus, 0)
        if surplus:
            result.example(
                f"{table}: {abs(surplus)} rows {'more' if surplus > 0 else 'fewer'} than the ledger explains"
            )
    return result
