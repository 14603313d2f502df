"""The full read-back after a trial: streams every row of its runs from the store into the audits.

Rows come through one of two doors, by SQL (`SqlRows`) or over REST (`bench.rest_rows.RestRows`), in the same shape.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.identity import TrialKey, run_name
from bench.integrity.experiment_audit import ExperimentAudit
from bench.integrity.metric_audit import MetricAudit
from bench.integrity.run_audit import RunAudit
from bench.integrity.tally import Tally
from bench.integrity.text_audit import TextAudit
from bench.integrity.trace_audit import SELECT, TEXTS, TraceAudit, bounds
from bench.stores.base import Row, Session
from bench.workload import Layout

TABLES = (
    "metrics", "latest_metrics", "params", "tags", "runs", "experiments",
    "trace_info", "trace_request_metadata", "trace_tags", "spans",
)  # fmt: skip
_RUN_NAME = "mlflow.runName"


class Rows(Protocol):
    """Where stored rows come from, in batches; run ids and names as they are stored."""

    def experiments(self) -> AsyncIterator[Sequence[Row]]:
        """(experiment_id, name, lifecycle_stage) of experiments that the trial's writers made."""

    def runs(self) -> AsyncIterator[Sequence[Row]]:
        """(run_uuid, name, status, start_time, end_time, lifecycle_stage, experiment_id)."""

    def metrics(self) -> AsyncIterator[Sequence[Row]]:
        """(run_uuid, key, step, timestamp, value, is_nan), sorted by the first five."""

    def latest_metrics(self) -> AsyncIterator[Sequence[Row]]:
        """The same columns."""

    def params(self) -> AsyncIterator[Sequence[Row]]:
        """(run_uuid, key, value)."""

    def tags(self) -> AsyncIterator[Sequence[Row]]:
        """(run_uuid, key, value)."""


_METRIC = "run_uuid, {key}, step, timestamp, value, is_nan"
_SELECT = {
    "metrics": f"SELECT {_METRIC} FROM metrics WHERE $ ORDER BY run_uuid, {{key}}, step, timestamp, value",
    "latest_metrics": f"SELECT {_METRIC} FROM latest_metrics WHERE $",
    "params": "SELECT run_uuid, {key}, value FROM params WHERE $",
    "tags": "SELECT run_uuid, {key}, value FROM tags WHERE $",
    "runs": "SELECT run_uuid, name, status, start_time, end_time, lifecycle_stage, experiment_id FROM runs WHERE $",
    "experiments": "SELECT experiment_id, name, lifecycle_stage FROM experiments WHERE name >= ? AND name < ?",
}
_BY_ID = "run_uuid >= ? AND run_uuid < ?"
_BY_NAME = "run_uuid IN (SELECT run_uuid FROM runs WHERE name >= ? AND name < ?)"


class SqlRows:
    """Rows by SQL: of the runs whose ids are this trial's, or (``by_name``) whose names are."""

    def __init__(self, session: Session, key: TrialKey, by_name: bool = False) -> None:
        self._session = session
        low = run_name(key.prefix)
        self._names = low, low + "g"  # "g" sorts after every hex digit
        self._wanted = self._names if by_name else (key.prefix, key.prefix + "g")
        self._where = _BY_NAME if by_name else _BY_ID

    def _stream(self, table: str, wanted: tuple[str, str]) -> AsyncIterator[Sequence[Row]]:
        statement = _SELECT[table].replace("$", self._where)
        return self._session.stream(self._session.dialect.render(statement), *wanted)

    def experiments(self) -> AsyncIterator[Sequence[Row]]:
        """As `Rows` says."""
        return self._stream("experiments", self._names)

    def runs(self) -> AsyncIterator[Sequence[Row]]:
        """As `Rows` says."""
        return self._stream("runs", self._wanted)

    def metrics(self) -> AsyncIterator[Sequence[Row]]:
        """As `Rows` says."""
        return self._stream("metrics", self._wanted)

    def latest_metrics(self) -> AsyncIterator[Sequence[Row]]:
        """As `Rows` says."""
        return self._stream("latest_metrics", self._wanted)

    def params(self) -> AsyncIterator[Sequence[Row]]:
        """As `Rows` says."""
        return self._stream("params", self._wanted)

    def tags(self) -> AsyncIterator[Sequence[Row]]:
        """As `Rows` says."""
        return self._stream("tags", self._wanted)


@dataclass(frozen=True)
class Expected:
    """What a trial (or the prefill) should have left: its layout, its ledgers and its experiment.

    ``by_name`` says that a tracking server chose the run ids: a run is then known by its name.
    """

    layout: Layout
    statuses: Sequence[NDArray[np.uint8]]
    experiment_id: int
    by_name: bool = False


@dataclass
class _Ids:
    """Our own run ids for those that a server chose, found by the runs' names; all others stay as they are.

    Two runs of one name get one id, and count as duplicates from there on.
    """

    expected: Expected
    experiments: dict[int, str] = field(default_factory=dict)
    ours: dict[str, str] = field(default_factory=dict)

    def run(self, row: Row) -> Row:
        """A row of runs with our id; its experiment is the trial's, or -1 where it is not the one it should be."""
        if not self.expected.by_name:
            return row
        key, work = self.expected.layout.key, self.expected.layout.workload
        place = key.locate_name(row[1] or "")  # over REST a run may have no name
        if place is None:
            return row
        ours = self.ours[row[0]] = key.run_id(*place)
        experiment = int(row[6]) if row[6] is not None else -1
        trials = self.expected.experiment_id
        right = self.experiments.get(experiment) == row[1] if work.experiments else experiment == trials
        return (ours, *tuple(row)[1:6], trials if right else -1)

    def rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Rows of another table with our ids in their first column."""
        return [(self.ours.get(row[0], row[0]), *tuple(row)[1:]) for row in rows] if self.ours else rows


async def read_back(source: Rows, expected: Expected) -> Tally:
    """Compare every stored row of the trial's runs with its ledger."""
    layout, statuses = expected.layout, expected.statuses
    ids = _Ids(expected)
    experiments = ExperimentAudit(layout, statuses)
    async for rows in source.experiments():
        experiments.rows(rows)
        ids.experiments.update((int(row[0]), row[1]) for row in rows)
    runs = RunAudit(layout, statuses, expected.experiment_id)
    async for rows in source.runs():
        runs.rows([ids.run(row) for row in rows])
    metrics = MetricAudit(layout, statuses)
    async for rows in source.metrics():
        metrics.metrics(ids.rows(rows))
    latest = 0
    async for rows in source.latest_metrics():
        latest += len(rows)
        metrics.latest(ids.rows(rows))
    params = TextAudit(layout, statuses, "param")
    async for rows in source.params():
        params.rows(ids.rows(rows))
    tags = TextAudit(layout, statuses, "tag")
    names: list[tuple[str, str]] = []
    async for rows in source.tags():
        ours = ids.rows(rows)
        names += [(row[0], row[2]) for row in ours if row[1] == _RUN_NAME]
        tags.rows([row for row in ours if row[1] != _RUN_NAME])

    result = Tally()
    result.tables.update(latest_metrics=latest, tags=len(names))
    audits = (("experiments", experiments), ("runs", runs), ("metrics", metrics), ("params", params), ("tags", tags))
    for table, audit in audits:  # of what is wrong the first few are told: a run that is gone explains its metrics
        tally = audit.close()
        result.tables[table] += tally.stored
        result.add(tally)
    found, wanted = Counter(names), Counter((run_id, run_name(run_id)) for run_id in runs.run_ids)
    misnamed = {run for run, _ in (found - wanted) + (wanted - found)}
    result.invariants["runs have their name tag"] += len(misnamed)
    for run in sorted(misnamed):
        result.example(f"tags: the name tag of run {run} is missing or another's")
    orphans = (metrics.runs_seen | params.runs_seen | tags.runs_seen) - runs.run_ids
    result.invariants["no row without its run"] += len(orphans)
    for run in sorted(orphans):
        result.example(f"rows of run {run} have no run")
    return result


async def read_traces(session: Session, expected: Expected) -> Tally:
    """Compare every stored trace and span with the ledger: by SQL only, since MLflow's API gives no rows of spans."""
    audit = TraceAudit(expected.layout, expected.statuses, expected.experiment_id)
    low, high = bounds(expected.layout.key)
    statement = {table: session.dialect.render(text) for table, text in SELECT.items()}
    async for rows in session.stream(statement["trace_info"], low, high):
        audit.traces(rows)
    async for rows in session.stream(statement["spans"], low, high):
        audit.spans(rows)
    for table in TEXTS:
        async for rows in session.stream(statement[table], low, high):
            audit.texts(table, rows)
    return audit.close()


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
            rows = f"{abs(surplus)} row{'s' * (abs(surplus) > 1)} {'more' if surplus > 0 else 'fewer'}"
            result.example(f"{table}: {rows} than the ledger explains")
    return result
