"""Fills a store to the size that a scenario names, by the fast path, from a seed."""

import numpy as np

from bench import identity
from bench.identity import TrialKey
from bench.integrity import Expected
from bench.integrity.run_audit import run_row
from bench.outcome import Outcome
from bench.scenario import Prefill
from bench.stores.tracking import METRIC_COLUMNS, Tracking
from bench.workload import Layout, Workload

KEYS = 3
_PARAMS, _TAGS = 5, 2
_ROWS_A_LOAD = 20_000
_RUN_COLUMNS = (
    "run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status", "start_time",
    "end_time", "deleted_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id",
)  # fmt: skip
_TEXT_COLUMNS = ("key", "value", "run_uuid")


def layout(key: TrialKey, prefill: Prefill) -> Layout:
    """The prefill as a layout: each run is a "writer" that made one batch of metrics, params and tags."""
    metrics = -(-prefill.metrics // max(prefill.runs, 1))
    work = Workload("prefill", "log_batch", metrics=max(metrics, 1), params=_PARAMS, tags=_TAGS, keys=KEYS)
    return Layout(key, work, prefill.runs)


async def fill(tracking: Tracking, key: TrialKey, prefill: Prefill, experiment_id: int, artifact_root: str) -> Expected:
    """Write the prefill; returns what the store must hold from now on."""
    plan = layout(key, prefill)
    session = tracking.session
    for start in range(0, plan.writers, 500):
        writers = range(start, min(start + 500, plan.writers))
        rows = [run_row(key, writer, 0, experiment_id, artifact_root) for writer in writers]
        runs = [
            (row.run_id, row.name, "UNKNOWN", "", "", row.user, "RUNNING", row.start_time, None, None, "", "active",
             row.artifact_uri, row.experiment_id)
            for row in rows
        ]  # fmt: skip
        await session.bulk("runs", _RUN_COLUMNS, runs)
        tags = [("mlflow.runName", row.name, row.run_id) for row in rows]
        params = []
        for writer, row in zip(writers, rows, strict=True):
            tags += [(plan.tag_key(writer, n), identity.text(key, writer, n, "tag"), row.run_id) for n in range(_TAGS)]
            for n in range(_PARAMS):
                params.append((plan.param_key(writer, n), identity.text(key, writer, n, "param"), row.run_id))
        await session.bulk("tags", _TEXT_COLUMNS, tags)
        await session.bulk("params", _TEXT_COLUMNS, params)
    await _fill_metrics(tracking, plan)
    await tracking.rebuild_latest(key.prefix)
    done = np.full(plan.commits_per_cycle, Outcome.OK, dtype=np.uint8)
    return Expected(plan, [done] * plan.writers, experiment_id)


async def _fill_metrics(tracking: Tracking, plan: Layout) -> None:
    """Metrics of all runs, in loads of a size that stays in memory."""
    ordinals = np.arange(plan.metrics_per_cycle)
    rows: list[tuple[object, ...]] = []
    for writer in range(plan.writers):
        timestamps, values = identity.metrics(plan.key, np.array([writer]), ordinals)
        stored, is_nan = identity.as_stored(values)
        keys, steps = plan.metric_places(writer, ordinals)
        run_ids = [plan.run_id(writer, 0)] * len(ordinals)
        rows += zip(keys, stored.tolist(), timestamps.tolist(), steps, is_nan.tolist(), run_ids, strict=True)
        while len(rows) >= _ROWS_A_LOAD or (rows and writer == plan.writers - 1):
            await tracking.session.bulk("metrics", METRIC_COLUMNS, rows[:_ROWS_A_LOAD])
            del rows[:_ROWS_A_LOAD]
