"""MLflow's operations on a store, statement for statement and transaction for transaction.

Each method that writes is one commit, the ledger's unit; `Tracking.in_doubt` tells whether a commit was under
way when an exception came out of it. ``log_batch`` is a sequence of them (`Tracking.peek_run`, then params,
metrics, tags): MLflow's outer transaction, which holds a second connection meanwhile, is closed before the
first, because a direct writer has one connection.
"""

from collections.abc import Awaitable, Sequence
from typing import NamedTuple

from bench.outcome import ErrorKind
from bench.stores import statements as sql
from bench.stores.base import Row, Session, Store

Metric = tuple[str, float, int, int, bool]  # key, value as stored, timestamp in ms, step, is_nan
METRIC_COLUMNS = ("key", "value", "timestamp", "step", "is_nan", "run_uuid")


class RunRow(NamedTuple):
    """What a new run is made from; times in ms."""

    run_id: str
    name: str
    user: str
    start_time: int
    experiment_id: int
    artifact_uri: str


class RunGone(Exception):
    """The run does not exist or is not active: MLflow would answer RESOURCE_DOES_NOT_EXIST."""


class Tracking:
    """MLflow's tracking operations over one `Session`."""

    def __init__(self, store: Store, session: Session) -> None:
        self.store = store
        self.session = session
        self.in_doubt = False
        render = session.dialect.render
        self._select_run = render(sql.SELECT_RUN)
        self._select_latest_key = render(sql.select_latest_keys(1))
        self._select_latest_one = render(sql.select_latest(1) + session.dialect.for_update)
        self._insert_metric = render(f"{sql.INSERT_METRIC} {session.dialect.values(6, 1)}")
        self._insert_latest = render(f"{sql.INSERT_LATEST} {session.dialect.values(6, 1)}")

    async def _begin(self) -> None:
        self.in_doubt = False
        await self.session.checkout()
        await self.session.begin()

    async def _commit(self) -> None:
        self.in_doubt = True
        await self.session.commit()
        self.in_doubt = False

    async def _need_run(self, run_id: str) -> Row:
        rows = await self.session.fetch(self._select_run, run_id)
        if not rows or rows[0][11] != "active":
            await self.session.rollback()
            raise RunGone(run_id)
        return rows[0]

    # Experiments and runs

    async def create_experiment(self, name: str, artifact_location: str, now: int) -> int:
        """Create an experiment and return its id."""
        await self._begin()
        row = (name, "default", artifact_location, "active", now, now)
        await self.session.insert(sql.INSERT_EXPERIMENT, [row])
        found = await self.session.fetch(
            self.session.dialect.render("SELECT experiment_id FROM experiments WHERE workspace = ? AND name = ?"),
            "default",
            name,
        )
        await self._commit()
        return int(found[0][0])

    async def create_run(self, run: RunRow) -> None:
        """Create a run with its name tag."""
        render = self.session.dialect.render
        await self._begin()
        stages = (run.experiment_id, "active", "deleted")
        await self.session.fetch(render(sql.SELECT_EXPERIMENT), *stages)
        await self.session.fetch(render(sql.SELECT_EXPERIMENT_TAGS), *stages)
        await self.session.commit()
        await self._begin()
        row = (
            run.run_id, run.name, "UNKNOWN", "", "", run.user, "RUNNING", run.start_time, None, None, "", "active",
            run.artifact_uri, run.experiment_id,
        )  # fmt: skip
        await self.session.insert(sql.INSERT_RUN, [row])
        await self.session.insert(sql.INSERT_TAG, [("mlflow.runName", run.name, run.run_id)])
        await self.session.fetch(render(sql.select_inputs(1)), "RUN", run.run_id)
        await self._commit()

    async def finish_run(self, run_id: str, end_time: int) -> None:
        """Set status FINISHED and the end time."""
        render = self.session.dialect.render
        await self._begin()
        await self._need_run(run_id)
        await self.session.execute(render(sql.FINISH_RUN), "FINISHED", end_time, run_id)
        for statement in (sql.SELECT_OWN_TAGS, sql.SELECT_OWN_LATEST, sql.SELECT_OWN_PARAMS):
            await self.session.fetch(render(statement), run_id)
        await self._commit()

    async def peek_run(self, run_id: str) -> None:
        """What ``log_batch`` does first: see that the run is active."""
        await self._begin()
        await self._need_run(run_id)
        await self.session.commit()

    # Metrics

    async def log_metrics(self, run_id: str, metrics: Sequence[Metric]) -> None:
        """Insert metrics and bring latest_metrics up to date."""
        await self._begin()
        await self._need_run(run_id)
        try:
            await self._insert_metrics(run_id, metrics)
            await self._commit()
        except Exception as error:
            if self.store.classify(error) is not ErrorKind.CONSTRAINT:
                raise
            await self.session.rollback()
            missing = await self._missing(run_id, metrics)
            if missing:
                await self._insert_metrics(run_id, missing)
            await self._commit()

    async def _insert_metrics(self, run_id: str, metrics: Sequence[Metric]) -> None:
        session = self.session
        rows = [(*metric, run_id) for metric in metrics]
        if len(rows) == 1:
            await session.execute(self._insert_metric, *rows[0])
        else:
            await session.insert(sql.INSERT_METRIC, rows)
        known = await self._lock_latest(run_id, sorted({metric[0] for metric in metrics}))
        new: dict[str, Metric] = {}
        changed: dict[str, Metric] = {}
        for metric in metrics:
            key, value, timestamp, step, _ = metric
            latest = changed.get(key) or new.get(key) or known.get(key)
            if latest is None:
                new[key] = metric
            elif (step, timestamp, value) > (latest[3], latest[2], latest[1]):
                (changed if key in known else new)[key] = metric
        for key in sorted(changed):
            await self._update_latest(run_id, known[key], changed[key])
        if len(new) == 1:
            await session.execute(self._insert_latest, *next(iter(new.values())), run_id)
        elif new:
            await session.insert(sql.INSERT_LATEST, [(*metric, run_id) for metric in new.values()])

    async def _lock_latest(self, run_id: str, keys: list[str]) -> dict[str, Metric]:
        session, render = self.session, self.session.dialect.render
        known: dict[str, Metric] = {}
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            one = len(part) == 1
            statement = self._select_latest_key if one else render(sql.select_latest_keys(len(part)))
            there = [row[0] for row in await session.fetch(statement, run_id, *part)]
            if there:
                one = len(there) == 1
                statement = (
                    self._select_latest_one
                    if one
                    else render(sql.select_latest(len(there)) + session.dialect.for_update)
                )
                for row in await session.fetch(statement, run_id, *there):
                    known[row[0]] = (row[0], row[1], row[2], row[3], bool(row[4]))
        return known

    async def _update_latest(self, run_id: str, old: Metric, new: Metric) -> None:
        names = ("value", "timestamp", "step", "is_nan")
        changes = [
            (name, after) for name, before, after in zip(names, old[1:], new[1:], strict=True) if before != after
        ]
        statement = self.session.dialect.render(sql.update_latest(tuple(name for name, _ in changes)))
        await self.session.execute(statement, *(value for _, value in changes), new[0], run_id)

    async def _missing(self, run_id: str, metrics: Sequence[Metric]) -> list[Metric]:
        await self.session.ping()  # MLflow's session gave its connection back at the rollback
        await self.session.begin()
        exact = [(key, timestamp, step, value, is_nan) for key, value, timestamp, step, is_nan in metrics]
        statement = self.session.dialect.render(sql.select_existing_metrics(len(exact)))
        rows = await self.session.fetch(statement, run_id, *(value for row in exact for value in row))
        there = {(row[0], row[1], row[2], row[3], bool(row[4])) for row in rows}
        return [metric for metric, identity in zip(metrics, exact, strict=True) if identity not in there]

    # Params and tags

    async def log_param(self, run_id: str, key: str, value: str) -> None:
        """Log one param."""
        await self._begin()
        await self._need_run(run_id)
        statement = self.session.dialect.render(f"{sql.SELECT_PARAM} {self.session.dialect.limit_one}")
        if not await self.session.fetch(statement, run_id, key, value):
            await self.session.insert(sql.INSERT_PARAM, [(key, value, run_id)])
        await self._commit()

    async def log_params(self, run_id: str, params: Sequence[tuple[str, str]]) -> None:
        """Log a batch's params."""
        await self._begin()
        await self._need_run(run_id)
        rows = await self.session.fetch(self.session.dialect.render(sql.SELECT_OWN_PARAMS), run_id)
        there = {row[0] for row in rows}
        new = [(key, value, run_id) for key, value in params if key not in there]
        if new:
            await self.session.insert(sql.INSERT_PARAM, new)
        await self._commit()

    async def set_tag(self, run_id: str, key: str, value: str) -> None:
        """Set one tag."""
        render = self.session.dialect.render
        await self._begin()
        await self._need_run(run_id)
        if await self.session.fetch(render(sql.SELECT_TAG), key, run_id):
            await self.session.execute(render(sql.UPDATE_TAG), value, key, run_id)
        else:
            await self.session.insert(sql.INSERT_TAG, [(key, value, run_id)])
        await self._commit()

    async def set_tags(self, run_id: str, tags: Sequence[tuple[str, str]]) -> None:
        """Set a batch's tags."""
        render = self.session.dialect.render
        await self._begin()
        await self._need_run(run_id)
        keys = [key for key, _ in tags]
        rows = await self.session.fetch(render(sql.select_tags(len(keys))), run_id, *keys)
        there = {row[0] for row in rows}
        for key, value in sorted(tags):
            if key in there:
                await self.session.execute(render(sql.UPDATE_TAG), value, key, run_id)
        new = [(key, value, run_id) for key, value in tags if key not in there]
        if new:
            await self.session.insert(sql.INSERT_TAG, new)
        await self._commit()

    # Reads

    async def get_run(self, run_id: str) -> int:
        """Load a run with its tags, params and latest metrics; returns how many latest metrics it has."""
        render = self.session.dialect.render
        await self._begin()
        await self._need_run(run_id)
        latest = await self._eager([run_id])
        one = render(sql.select_models("= ?"))
        await self.session.fetch(one, "RUN_INPUT", run_id, "MODEL_INPUT")
        await self.session.fetch(one, "RUN_OUTPUT", run_id, "MODEL_OUTPUT")
        await self.session.commit()
        return latest

    async def search_runs(self, experiment_id: int, max_results: int) -> int:
        """The newest runs of an experiment with their tags, params and latest metrics; returns how many runs."""
        render = self.session.dialect.render
        await self._begin()
        statement = render(f"{sql.SEARCH_RUNS} {self.session.dialect.page}")
        page = (0, max_results + 1) if "," in self.session.dialect.page else (max_results + 1, 0)
        rows = await self.session.fetch(statement, experiment_id, "active", *page)
        runs = [row[0] for row in rows]
        if runs:
            await self._eager(runs)
            models = render(sql.select_models(f"IN ({sql.marks(len(runs))})"))
            await self.session.fetch(models, "RUN_OUTPUT", *runs, "MODEL_OUTPUT")
        await self.session.commit()
        return len(runs)

    async def metric_history(self, run_id: str, key: str) -> int:
        """All values of one metric; returns how many."""
        await self._begin()
        statement = self.session.dialect.render(f"{sql.SELECT_HISTORY} {self.session.dialect.no_limit}")
        rows = await self.session.fetch(statement, run_id, key)
        await self.session.commit()
        return len(rows)

    async def _eager(self, runs: Sequence[str]) -> int:
        render = self.session.dialect.render
        for table in ("tags", "params"):
            await self.session.fetch(render(sql.select_eager(table, len(runs))), *runs)
        latest = await self.session.fetch(render(sql.select_eager("latest_metrics", len(runs))), *runs)
        await self.session.fetch(render(sql.select_inputs(len(runs))), "RUN", *runs)
        return len(latest)

    # The database's own limit: not what MLflow does, and labelled so wherever it is shown

    def bulk_metrics(self, run_id: str, metrics: Sequence[Metric]) -> Awaitable[object]:
        """Insert metrics by the fastest path; `rebuild_latest` must follow before MLflow reads the run."""
        self.in_doubt = True  # whatever error comes out of it
        if len(metrics) == 1:
            return self.session.execute_alone(self._insert_metric, *metrics[0], run_id)
        return self.session.bulk("metrics", METRIC_COLUMNS, [(*metric, run_id) for metric in metrics])

    async def rebuild_latest(self, prefix: str) -> None:
        """Fill latest_metrics of the runs with this prefix from their metrics."""
        render = self.session.dialect.render
        await self.session.begin()
        await self.session.execute(render(sql.DELETE_LATEST), prefix, prefix + "g")
        await self.session.execute(render(sql.REBUILD_LATEST), prefix, prefix + "g")
        await self.session.commit()
