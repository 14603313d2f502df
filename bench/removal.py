"""Takes a trial's rows out of a store again, those whose ids a tracking server chose among them."""

from collections.abc import Sequence

from bench.identity import run_name
from bench.stores.base import Row, Session

_OF_RUNS = ("metrics", "latest_metrics", "params", "tags", "runs")
_OF_TRACES = {
    "spans": "trace_id", "trace_metrics": "request_id", "trace_tags": "request_id",
    "trace_request_metadata": "request_id", "trace_info": "request_id",
}  # fmt: skip
_OF_EXPERIMENTS = ("experiment_tags", "experiments")  # MLflow's own pages tag an experiment that somebody opens
_RUNS = "SELECT run_uuid FROM runs WHERE (run_uuid >= ? AND run_uuid < ?) OR (name >= ? AND name < ?)"
_EXPERIMENTS = (
    "SELECT experiment_id FROM experiments WHERE (experiment_id = ? OR (name >= ? AND name < ?))"
    " AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.experiment_id = experiments.experiment_id)"
    " AND NOT EXISTS (SELECT 1 FROM trace_info WHERE trace_info.experiment_id = experiments.experiment_id)"
)
_AT_ONCE = 500


async def remove(session: Session, experiment_id: int, prefix: str) -> None:
    """Remove an experiment, and the runs, experiments and traces of the trial whose ``prefix`` this is.

    An experiment of ours into which somebody else put a run or a trace stays, with that.
    """
    render = session.dialect.render
    name = run_name(prefix)
    names = name, name + "g"  # "g" sorts after every hex digit
    await session.begin()
    runs = await session.fetch(render(_RUNS), prefix, prefix + "g", *names)
    await _delete(session, _OF_RUNS, "run_uuid", runs)
    for table, column in _OF_TRACES.items():
        statement = f"DELETE FROM {table} WHERE {column} >= ? AND {column} < ?"
        await session.execute(render(statement), f"tr-{prefix}", f"tr-{prefix}g")
    experiments = await session.fetch(render(_EXPERIMENTS), experiment_id, *names)
    await _delete(session, _OF_EXPERIMENTS, "experiment_id", experiments)
    await session.commit()


async def _delete(session: Session, tables: Sequence[str], column: str, found: Sequence[Row]) -> None:
    """Delete from each table the rows whose ``column`` is the first of a row found."""
    ids = [row[0] for row in found]
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        marks = ", ".join("?" * len(some))
        for table in tables:
            await session.execute(session.dialect.render(f"DELETE FROM {table} WHERE {column} IN ({marks})"), *some)
