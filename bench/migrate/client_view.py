"""What `bench.migrate.client` compares, in the process that has MLflow imported: choose, read from both, compare."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from operator import methodcaller
from typing import Any, Final

import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.workspace_context import set_server_request_workspace

from bench.migrate.client import Sample
from bench.migrate.frozen import first_line, open_client
from bench.migrate.plain import Plain, differing, plain, words
from bench.migrate.reader import Refused

_PAGE: Final = 10_000  # points of a history that are read at a time
_WALKED: Final = 20_000_000  # rows of a SQLite file, for all histories together
_LONGEST: Final = 8  # candidates for the longest history, by their last step

RUNS: Final = (
    "SELECT e.workspace, r.run_uuid FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id "
    "WHERE r.lifecycle_stage = '{stage}'"
)
_HISTORIES: Final = (
    "SELECT e.workspace, l.run_uuid, l.{key} FROM latest_metrics l JOIN runs r ON r.run_uuid = l.run_uuid "
    "JOIN experiments e ON e.experiment_id = r.experiment_id"
)
LOGGED_MODELS: Final = (
    "SELECT e.workspace, m.model_id FROM logged_models m JOIN experiments e ON e.experiment_id = m.experiment_id "
    "WHERE m.lifecycle_stage = 'active'"
)
_TRACES = "SELECT e.workspace, t.request_id FROM trace_info t JOIN experiments e ON e.experiment_id = t.experiment_id"
VERSIONS: Final = "SELECT workspace, name, version FROM model_versions WHERE current_stage <> 'Deleted_Internal'"


class Opened:
    """One store as MLflow's client sees it, by a thread of its own: its one connection is never used by two."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._opening = self._thread.submit(open_client, uri)

    @property
    def engine(self) -> sa.Engine:
        """Waits for the store to be open; raises Refused if MLflow can't read it."""
        return self._opening.result()[1]

    def rows(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """All rows of a statement."""
        return self._thread.submit(self._rows, statement, values).result()

    def chosen(self, statement: str, most: int) -> list[tuple[Any, ...]]:
        """The rows whose hash is smallest, at most so many: the same ones whatever the database and their order."""
        return self._thread.submit(self._chosen, statement, most).result()

    def read(self, workspace: str, call: Callable[[MlflowClient], Any]) -> Any:
        """The future of what a call gives in a workspace, as a plain value; MLflow's refusal is one as well."""
        return self._thread.submit(self._read, workspace, call)

    def _rows(self, statement: str, values: dict[str, object]) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(self._sql(statement), values)]

    def _chosen(self, statement: str, most: int) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            rows = connection.execute(self._sql(statement).execution_options(stream_results=True))
            return sorted(heapq.nsmallest(most, map(tuple, rows), key=_hash))

    def _sql(self, statement: str) -> sa.TextClause:
        return sa.text(statement.replace("{key}", self.engine.dialect.identifier_preparer.quote("key")))

    def _read(self, workspace: str, call: Callable[[MlflowClient], Any]) -> tuple[bool, Plain]:
        set_server_request_workspace(workspace)
        try:
            return True, plain(call(self._opening.result()[0]))
        except MlflowException as error:
            return False, {"refused": f"{error.error_code}: {first_line(error)}"}
        except Exception as error:  # MLflow can't show it, a time before year 1 for example: then on both sides alike
            return False, {"refused": f"{type(error).__name__}: {first_line(error)}"}


def _hash(row: tuple[Any, ...]) -> bytes:
    return blake2b(repr(row).encode(errors="backslashreplace"), digest_size=8).digest()


@dataclass(frozen=True)
class _Look:
    """One thing to read from both stores."""

    what: str
    where: str
    workspace: str
    call: Callable[[MlflowClient], Any]


def compare(source: Opened, target: Opened, sample: Sample) -> tuple[list[dict[str, str]], dict[str, int]]:
    """The fields of each `ClientDifference`, and how many of each thing were read from both."""
    source.engine  # noqa: B018 (what can't be read there can't be proved)
    try:
        target.engine  # noqa: B018
    except Refused as refusal:
        text = str(refusal)
        return [{"what": "store", "where": "opening it", "source": "opens", "target": text}], {}
    differences, read = list[dict[str, str]](), Counter[str]()
    for look in _looks(source, _affordable((source, target), sample)):
        futures = [side.read(look.workspace, look.call) for side in (source, target)]
        (had, here), (has, there) = (future.result() for future in futures)
        read[look.what] += had and has
        if look.what == "metric history" and isinstance(here, list):
            read["metric points"] += len(here)
        differences += (
            {
                "what": look.what,
                "where": f"{look.where}: {place}" if place else look.where,
                "source": one,
                "target": other,
            }
            for place, one, other in differing(here, there)
        )
    return differences, dict(read)


def _affordable(sides: Iterable[Opened], sample: Sample) -> Sample:
    """``sample`` with fewer histories of a large SQLite file: for each, MLflow has it walk all rows of that key."""
    files = [side for side in sides if side.engine.dialect.name == "sqlite"]
    rows = max((side.rows("SELECT MAX(rowid) FROM metrics")[0][0] or 0 for side in files), default=0)
    return replace(sample, histories=min(sample.histories, max(2, _WALKED // max(rows, 1))))


def _looks(source: Opened, sample: Sample) -> Iterator[_Look]:
    yield from _experiments(source, sample)
    yield from _runs(source, sample)
    yield from _histories(source, sample)
    yield from _registry(source, sample)
    for workspace, model in source.chosen(LOGGED_MODELS, sample.models):
        yield _Look("logged model", model, workspace, methodcaller("get_logged_model", model))
    for workspace, trace in source.chosen(_TRACES, sample.traces):
        yield _Look("trace", trace, workspace, partial(_trace, trace))


def _stages(most: int) -> tuple[tuple[str, int], ...]:
    return ("active", most), ("deleted", most // 2)


def _experiments(source: Opened, sample: Sample) -> Iterator[_Look]:
    for stage, most in _stages(sample.experiments):
        statement = f"SELECT workspace, experiment_id, name FROM experiments WHERE lifecycle_stage = '{stage}'"
        for n, (workspace, number, name) in enumerate(source.chosen(statement, most)):
            where = f"{name} ({number})"
            yield _Look("experiment", where, workspace, methodcaller("get_experiment", str(number)))
            yield _Look("experiment by name", where, workspace, methodcaller("get_experiment_by_name", name))
            if n < sample.searches:
                newest = partial(_newest, str(number), sample.found)
                yield _Look("search of runs", f"newest of {where}", workspace, newest)


def _newest(experiment: str, most: int, client: MlflowClient) -> dict[str, Any]:
    """The newest runs by id. Where the page is full, those that began when its last one did may have changed places."""
    runs = client.search_runs([experiment], run_view_type=ViewType.ALL, max_results=most)
    if len(runs) == most:
        runs = [run for run in runs if run.info.start_time != runs[-1].info.start_time]
    return {run.info.run_id: run for run in runs}


def _runs(source: Opened, sample: Sample) -> Iterator[_Look]:
    for stage, most in _stages(sample.runs):
        for workspace, run in source.chosen(RUNS.format(stage=stage), most):
            yield _Look("run", run, workspace, methodcaller("get_run", run))


def _histories(source: Opened, sample: Sample) -> Iterator[_Look]:
    """Histories by hash, and among those that went the furthest the longest."""
    furthest = source.rows(f"{_HISTORIES} ORDER BY l.step DESC LIMIT {_LONGEST}")
    count = "SELECT COUNT(*) FROM metrics WHERE run_uuid = :run AND {key} = :key"
    lengths = {row: source.rows(count, run=row[1], key=row[2])[0][0] for row in furthest}
    longest = sorted(furthest, key=lambda row: -lengths[row])[: max(1, sample.histories // 4)]
    for workspace, run, key in dict.fromkeys([*longest, *source.chosen(_HISTORIES, sample.histories - len(longest))]):
        history = partial(_history, run, key, sample.points)
        yield _Look("metric history", f"{key} of run {run}", workspace, history)


def _history(run: str, key: str, most: int, client: MlflowClient) -> list[str]:
    """Points of a history, a page at a time; of one that has more than ``most``, those before the last one read."""
    store, token, points = client._tracking_client.store, None, list[tuple[int, int, str]]()
    while True:
        page = store.get_metric_history(run, key, max_results=_PAGE, page_token=token)
        points += ((one.timestamp, one.step, words(one.value)) for one in page)
        token = page.token
        if token and len(points) >= most:  # a NaN and a 0 of one step may change places, and so the page
            points = [one for one in points if one[:2] != points[-1][:2]]
            token = None
        if not token:
            return [f"step {step}, timestamp {timestamp}: {value}" for timestamp, step, value in points]


def _registry(source: Opened, sample: Sample) -> Iterator[_Look]:
    for workspace, name in source.chosen("SELECT workspace, name FROM registered_models", sample.models):
        yield _Look("registered model", name, workspace, methodcaller("get_registered_model", name))
    for workspace, name, version in source.chosen(VERSIONS, sample.versions):
        get = methodcaller("get_model_version", name, str(version))
        yield _Look("model version", f"{name} {version}", workspace, get)
    aliases = "SELECT workspace, name, alias FROM registered_model_aliases"
    for workspace, name, alias in source.chosen(aliases, sample.aliases):
        get = methodcaller("get_model_version_by_alias", name, alias)
        yield _Look("model alias", f"{name}@{alias}", workspace, get)


def _trace(trace: str, client: MlflowClient) -> Any:
    """A trace; without its spans where they are not in the store but among the artifacts."""
    store = client._tracking_client.store
    info = store.get_trace_info(trace)
    spans = info.tags.get("mlflow.trace.spansLocation") == "TRACKING_STORE"
    return store.get_trace(trace) if spans else info
