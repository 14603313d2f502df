"""A store with a little of everything in it, written by MLflow itself, and a plain copy of its rows elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from stores import ARTIFACTS, sql

from bench.migrate.catalog import reflect
from bench.stores.url import StoreUrl

NASTY = "żółć 🚀 'quoted' \"twice\" \\ % ; --"
STEPS = 30
SEQUENCE = "experiments_experiment_id_seq"  # PostgreSQL's


@contextmanager
def mlflow_stores(url: StoreUrl) -> Iterator[tuple[Any, Any]]:
    """MLflow's tracking store and registry over a database."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    tracking, registry = SqlAlchemyStore(url.mlflow, ARTIFACTS), Registry(url.mlflow)
    try:
        yield tracking, registry
    finally:
        tracking.engine.dispose()
        registry.engine.dispose()
        for kept in (SqlAlchemyStore, Registry):
            kept._engine_map.pop(url.mlflow, None)


def fill(url: StoreUrl, artifacts: str = ARTIFACTS, runs: int = 3) -> list[str]:
    """Write experiments, runs, a model registry, a logged model and a trace; the ids of the runs."""
    with mlflow_stores(url) as (tracking, registry):
        written = [run for n in range(2) for run in _experiment(tracking, f"{NASTY} {n}", f"{artifacts}/{n}", runs)]
        gone = tracking.create_experiment("gone", f"{artifacts}/gone")
        tracking.delete_experiment(gone)
        tracking.delete_run(written[1])
        _models(registry, written[0], artifacts)
        _logged_model(tracking)
        _trace(tracking)
    return written


def _experiment(tracking: Any, name: str, artifacts: str, runs: int) -> list[str]:
    from mlflow.entities import ExperimentTag, Metric, Param, RunStatus, RunTag

    experiment = tracking.create_experiment(name, artifacts, [ExperimentTag("owner", NASTY)])
    written = []
    for n in range(runs):
        run = tracking.create_run(experiment, "tester", 1_000 + n, [RunTag("mlflow.runName", f"run {n}")], f"run {n}")
        values = [0.1, 1e-308, 5e-324, -0.0, float("nan"), float("inf"), float("-inf"), 1 / 3]
        metrics = [Metric("loss", values[step % 8], 10_000 + step, step) for step in range(STEPS)]
        metrics.append(Metric("once: żółć", 0.5, 1, 0))
        params = [Param("lr", f"0.{n}"), Param("note", NASTY), Param("empty", "")]
        tracking.log_batch(run.info.run_id, metrics, params, [RunTag("note", NASTY * 20)])
        tracking.update_run_info(run.info.run_id, RunStatus.FINISHED, 2_000 + n, f"run {n}")
        written.append(run.info.run_id)
    return written


def _models(registry: Any, run: str, artifacts: str) -> None:
    from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag

    for name in ("classifier", NASTY[:12]):
        registry.create_registered_model(name, [RegisteredModelTag("team", NASTY)], f"about {name}")
        for _ in range(2):
            registry.create_model_version(name, f"{artifacts}/0/{run}/model", run, [ModelVersionTag("a", "b")])
        registry.set_registered_model_alias(name, "champion", "2")
        registry.transition_model_version_stage(name, "1", "Production", False)


def _logged_model(tracking: Any) -> None:
    from mlflow.entities import LoggedModelParameter, LoggedModelTag

    tracking.create_logged_model("1", "net", None, [LoggedModelTag("k", "v")], [LoggedModelParameter("depth", "3")])


def _trace(tracking: Any) -> None:
    from mlflow.entities import TraceInfo, TraceLocation, TraceState

    tracking.start_trace(
        TraceInfo(
            "tr-1", TraceLocation.from_experiment_id("1"), 5, TraceState.OK, "asked", "told", None, 7, {}, {"a": "b"}
        )
    )


def copy(source: StoreUrl, target: StoreUrl) -> None:
    """Copy every row of a SQLite store into a fresh one of the same schema: the simplest way, for a little store."""
    catalog = reflect(source)
    filled = [name for name in catalog.tables if sql(source, f"SELECT 1 FROM {name} LIMIT 1")]
    read, write = (sa.create_engine(url.mlflow, poolclass=sa.NullPool) for url in (source, target))
    here, there = sa.MetaData(), sa.MetaData()
    here.reflect(read, only=filled)
    there.reflect(write, only=filled)
    with read.connect() as reading, write.begin() as writing:
        if write.dialect.name == "mysql":
            writing.execute(sa.text("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES'"))
        for name in reversed(filled):
            writing.execute(there.tables[name].delete())
        for name in filled:
            columns = [here.tables[name].c[column.name] for column in catalog.tables[name].stored]
            rows = [dict(row) for row in reading.execute(sa.select(*columns)).mappings()]
            writing.execute(there.tables[name].insert(), rows)
    read.dispose()
    write.dispose()
    if target.store in ("postgresql", "timescaledb"):
        sql(target, f"SELECT setval('{SEQUENCE}', (SELECT MAX(experiment_id) + 1 FROM experiments), false)")
