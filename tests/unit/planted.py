"""A store that keeps exactly what the writers sent, in memory or as a real SQLite file, to plant defects in."""

import asyncio
import hashlib
import random
import re
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import identity
from bench.identity import TrialKey, run_name
from bench.integrity import TABLES, Expected, SqlRows, Tally, read_back, reconcile
from bench.integrity.run_audit import end_time
from bench.outcome import Outcome
from bench.stores import schema, store_for
from bench.stores.sqlite import DIALECT
from bench.stores.url import StoreUrl
from bench.workload import Layout, Workload

KEY = TrialKey.of("planted", 5, 2)
EXPERIMENT = 17
NAME_TAG = "mlflow.runName"
OK, FAIL, INFO = Outcome.OK, Outcome.FAIL, Outcome.INFO
Row = tuple[Any, ...]
Statuses = list[NDArray[np.uint8]]
UNIQUE = "run ids are unique"
WITH_EXPERIMENT = "runs have their experiment"
ENDS_AGREE = "status and end time agree"
LATEST = "latest_metrics is the maximum"
NAMED = "runs have their name tag"
NO_ORPHANS = "no row without its run"
HALVES = "no commit half there"

WORKLOADS = {
    work.name: work
    for work in (
        Workload("log_metric", "log_metric"),
        Workload("one_key", "log_metric", keys=1),
        Workload("hot", "log_metric", hot_run=True, keys=2),
        Workload("batch", "log_batch", metrics=5, params=2, tags=3),
        Workload("hot_batch", "log_batch", metrics=4, params=1, tags=2, hot_run=True, keys=4),
        Workload("params_only", "log_batch", metrics=0, params=3),
        Workload("tags_only", "log_batch", metrics=0, tags=2),
        Workload("fresh", "log_batch", metrics=3, params=1, fresh_keys=True),
        Workload("hot_fresh", "log_batch", metrics=3, tags=1, fresh_keys=True, hot_run=True),
        Workload("shuffled", "log_batch", metrics=7, keys=4, shuffled=True),
        Workload("mixed", "mixed", metrics=2, params=1, read_share=0.5),
        Workload("bulk", "bulk", metrics=8, keys=5),
        Workload("train", "train", steps=3, keys=2, params=2, tags=1),
        Workload("bare_train", "train", steps=2, keys=1),
        Workload("read", "read"),
    )
}
HTTP_WORKLOADS = {
    work.name: work
    for work in (
        Workload("experiments", "train", experiments=True, steps=3, keys=2, params=2, tags=1),
        Workload("bare_experiments", "train", experiments=True, steps=1, keys=1),
    )
}


@dataclass
class Stored:
    """The rows of the tables, in the columns that the read-back selects."""

    metrics: list[Row] = field(default_factory=list)  # run, key, step, timestamp, value, is_nan
    latest: list[Row] = field(default_factory=list)
    params: list[Row] = field(default_factory=list)  # run, key, value
    tags: list[Row] = field(default_factory=list)
    runs: list[Row] = field(default_factory=list)  # run, name, status, start, end, lifecycle stage, experiment
    experiments: list[Row] = field(default_factory=list)  # id, name, lifecycle stage; those that writers made
    counts: Counter[str] = field(default_factory=Counter)  # what a tally must say of the ledger

    def rows_of(self, table: str) -> list[Row]:
        """The rows of a table by its name in the database; writers of runs leave none in those of traces."""
        rows: list[Row] = getattr(self, {"latest_metrics": "latest"}.get(table, table), [])
        return rows

    def sizes(self) -> dict[str, int]:
        """Rows a table."""
        return {table: len(self.rows_of(table)) for table in TABLES}

    def settle_latest(self) -> None:
        """Make latest_metrics what MLflow makes it."""
        best: dict[tuple[str, str], Row] = {}
        for row in self.metrics:
            place = row[0], row[1]
            if place not in best or row[2:5] > best[place][2:5]:
                best[place] = row
        self.latest = list(best.values())

    def inner(self, many: int = 1) -> list[int]:
        """Places of ordinary metric rows that are not the latest of their key: changing them changes nothing else."""
        latest = set(self.latest)
        fit = [n for n, row in enumerate(self.metrics) if row not in latest and 1e-9 < abs(row[4]) < 1e9]
        return fit[:many]

    def change(self, table: str, place: int, column: int, value: object) -> None:
        """Put another value into one column of one row."""
        rows = getattr(self, table)
        rows[place] = (*rows[place][:column], value, *rows[place][column + 1 :])


def layout_of(name: str, writers: int = 2) -> Layout:
    return Layout(KEY, (WORKLOADS | HTTP_WORKLOADS)[name], writers)


def all_ok(layout: Layout, cycles: int) -> Statuses:
    """Ledgers of writers that carried out whole cycles without an error."""
    return [np.full(cycles * layout.commits_per_cycle, OK, dtype=np.uint8) for _ in range(layout.writers)]


def random_ledgers(layout: Layout, rng: random.Random) -> Statuses:
    """Ledgers as writers leave them: any outcome, cut off anywhere; no run, no commits in it."""
    statuses = []
    for _ in range(layout.writers):
        length = 0 if layout.workload.kind == "read" else rng.randrange(4 * layout.commits_per_cycle + 1)
        status = np.array([rng.choice((0, 1, 2, 2, 2, 2, 3, 4)) for _ in range(length)], dtype=np.uint8)
        if layout.own_runs:
            for begin in range(0, length, layout.commits_per_cycle):
                for first in range(begin, min(begin + 1 + layout.workload.experiments, length)):
                    if status[first] != OK:  # without its experiment or its run nothing else is sent
                        status[first + 1 : begin + layout.commits_per_cycle] = Outcome.UNTOUCHED
        statuses.append(status)
    return statuses


class _Keeper:
    """Decides, once a commit, whether it is there, and counts each row under the word that fits."""

    def __init__(self, statuses: Statuses, rng: random.Random) -> None:
        self._statuses, self._rng = statuses, rng
        self._luck: dict[tuple[int, int], bool] = {}
        self.counts: Counter[str] = Counter()

    def holds(self, writer: int, commit: int) -> bool:
        status = self._statuses[writer][commit] if commit < len(self._statuses[writer]) else Outcome.UNTOUCHED
        if status == Outcome.UNTOUCHED:
            return False
        self.counts["attempted"] += 1
        if status in (OK, FAIL):
            self.counts["acknowledged"] += int(status == OK)
            return bool(status == OK)
        there = self._luck.setdefault((writer, commit), self._rng.random() < 0.5)
        self.counts["recovered" if there else "indeterminate"] += 1
        return there


def perfect(layout: Layout, statuses: Statuses, rng: random.Random | None = None) -> Stored:
    """What a store that loses nothing holds; commits of unknown outcome are there or not, as ``rng`` says."""
    stored = Stored()
    keeper = _Keeper(statuses, rng or random.Random(1))
    for writer, cycle in layout.setup_runs():
        stored.runs.append(_run(layout, writer, cycle, False))
        keeper.counts.update(attempted=1, acknowledged=1)
    for writer, status in enumerate(statuses):
        for cycle in range(-(-len(status) // layout.commits_per_cycle)):
            _fill_cycle(layout, stored, keeper, (writer, cycle))
    stored.tags += [(row[0], NAME_TAG, row[1]) for row in stored.runs]
    stored.settle_latest()
    stored.counts = keeper.counts
    return stored


def _fill_cycle(layout: Layout, stored: Stored, keeper: _Keeper, place: tuple[int, int]) -> None:
    writer, cycle = place
    work, run = layout.workload, layout.run_id(*place)
    if work.experiments and keeper.holds(writer, layout.experiment_commit(cycle)):
        stored.experiments.append((experiment_of(*place), run_name(run), "active"))
    if layout.own_runs:
        created = keeper.holds(writer, layout.create_commit(cycle))
        finished = keeper.holds(writer, layout.finish_commit(cycle))
        stored.runs += [_run(layout, writer, cycle, finished)] * created
    for n in range(cycle * work.params, (cycle + 1) * work.params):
        if keeper.holds(writer, layout.param_commit(n)):
            stored.params.append((run, layout.param_key(writer, n), identity.text(KEY, writer, n, "param")))
    for n in range(cycle * work.tags, (cycle + 1) * work.tags):
        if keeper.holds(writer, layout.tag_commit(n)):
            stored.tags.append((run, layout.tag_key(writer, n), identity.text(KEY, writer, n, "tag")))
    ordinals = np.arange(cycle * layout.metrics_per_cycle, (cycle + 1) * layout.metrics_per_cycle)
    times, values = identity.metrics(KEY, np.array([writer]), ordinals)
    sent, is_nan = identity.as_stored(values)
    keys, steps = layout.metric_places(writer, ordinals)
    commits = layout.metric_commits(ordinals) if len(ordinals) else np.zeros(0, np.int64)
    for n, commit in enumerate(commits.tolist()):
        if keeper.holds(writer, commit):
            stored.metrics.append((run, keys[n], steps[n], int(times[n]), float(sent[n]), bool(is_nan[n])))


def _run(layout: Layout, writer: int, cycle: int, finished: bool) -> Row:
    run = layout.key.run_id(writer, cycle)
    start, end = identity.moment(layout.key, writer, cycle), end_time(layout.key, writer, cycle)
    ending = ("FINISHED", start, end) if finished else ("RUNNING", start, None)
    experiment = experiment_of(writer, cycle) if layout.workload.experiments else EXPERIMENT
    return (run, run_name(run), *ending, "active", experiment)


def experiment_of(writer: int, cycle: int) -> int:
    """The id that the experiment of (writer, cycle) got."""
    return EXPERIMENT + 1 + cycle * 100 + writer


def chosen(run: str) -> str:
    """The id that a tracking server chose in place of ours."""
    return hashlib.sha256(run.encode()).hexdigest()[:32]


def by_server(stored: Stored) -> Stored:
    """The same rows under run ids that a tracking server chose."""
    names = ("metrics", "latest", "params", "tags", "runs")
    tables = {name: [(chosen(row[0]), *row[1:]) for row in getattr(stored, name)] for name in names}
    return Stored(**tables, experiments=list(stored.experiments), counts=stored.counts)


class MemorySession:
    """Answers the read-back's statements from a `Stored`, a few rows at a time."""

    dialect = DIALECT

    def __init__(self, stored: Stored, size: int) -> None:
        self._stored, self._size = stored, size

    async def stream(self, statement: str, low: str, high: str) -> AsyncIterator[Sequence[Row]]:
        found = re.search(r"FROM (\w+)", statement)
        assert found is not None
        rows = self._stored.rows_of(found[1])
        named = {row[0] for row in self._stored.runs if row[1] is not None and low <= row[1] < high}
        if "IN (SELECT run_uuid FROM runs WHERE name" in statement:
            rows = [row for row in rows if row[0] in named]
        else:
            column = 1 if found[1] == "experiments" else 0
            rows = [row for row in rows if low <= row[column] < high]
        if "ORDER BY" in statement:
            rows.sort(key=lambda row: row[:5])
        for start in range(0, len(rows), self._size):
            yield rows[start : start + self._size]


def check(stored: Stored, layout: Layout, statuses: Statuses, size: int = 3, by_name: bool = False) -> Tally:
    """Read a store in memory back, ``size`` rows at a time."""
    session: Any = MemorySession(stored, size)
    expected = Expected(layout, statuses, EXPERIMENT, by_name)
    return asyncio.run(read_back(SqlRows(session, layout.key, by_name), expected))


def check_by_name(stored: Stored, layout: Layout, statuses: Statuses, size: int = 3) -> Tally:
    """As after an HTTP trial: a server chose the run ids, and whole tables are counted too."""
    theirs = by_server(stored)
    return counted(theirs, check(theirs, layout, statuses, size, by_name=True))


def counted(stored: Stored, tally: Tally) -> Tally:
    """``tally`` with what the counts of whole tables add to it."""
    tally.add(reconcile(Counter(), stored.sizes(), tally.tables))
    return tally


_INSERTS = {
    "metrics": "INSERT INTO metrics (run_uuid, key, step, timestamp, value, is_nan) VALUES (?, ?, ?, ?, ?, ?)",
    "latest": "INSERT INTO latest_metrics (run_uuid, key, step, timestamp, value, is_nan) VALUES (?, ?, ?, ?, ?, ?)",
    "params": "INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)",
    "tags": "INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)",
    "runs": "INSERT INTO runs (run_uuid, name, status, start_time, end_time, lifecycle_stage, experiment_id) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)",
    "experiments": "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (?, ?, ?)",
}


@cache
def mlflow_schema() -> bytes:
    """An empty SQLite file with MLflow's own schema; made once, as that takes seconds."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "mlflow.db")
        path.touch()
        asyncio.run(schema.create(StoreUrl("sqlite", path=path), folder))
        return path.read_bytes()


def in_sqlite(stored: Stored, folder: Path) -> StoreUrl:
    """A file that has MLflow's schema and these rows."""
    path = folder / "store.db"
    path.write_bytes(mlflow_schema())
    with closing(sqlite3.connect(path)) as db, db:
        insert(db, stored)
    return StoreUrl("sqlite", path=path)


def insert(db: sqlite3.Connection, stored: Stored) -> None:
    """Write the rows into tables of MLflow's."""
    for name, statement in _INSERTS.items():
        db.executemany(statement, getattr(stored, name))


def check_in_sqlite(stored: Stored, layout: Layout, statuses: Statuses, folder: Path, by_name: bool = False) -> Tally:
    """Write the rows into a file that has MLflow's schema, then read it back through the store's own session."""
    url = in_sqlite(by_server(stored) if by_name else stored, folder)

    async def whole() -> Tally:
        store = store_for(url)
        session = await store.connect()
        try:
            rows = SqlRows(session, layout.key, by_name)
            tally = await read_back(rows, Expected(layout, statuses, EXPERIMENT, by_name))
            if by_name:
                now = await store.count(session, TABLES)
                tally.add(reconcile(Counter(experiments=1), now, tally.tables))  # MLflow's default experiment
            return tally
        finally:
            await session.close()

    return asyncio.run(whole())


def wrong(tally: Tally) -> dict[str, int]:
    """What makes a result broken, by name, without the zeros."""
    named = {name: getattr(tally, name) for name in ("lost", "duplicated", "corrupted", "unexpected")}
    return {name: count for name, count in {**named, **tally.invariants}.items() if count}


def bits_of(value: float) -> Iterator[float]:
    """``value`` with each single bit flipped, from the lowest to the sign; NaN is left out: no store keeps one."""
    word = np.float64(value).view(np.uint64)
    for bit in range(64):
        other = float((word ^ np.uint64(1 << bit)).view(np.float64))
        if other == other:  # noqa: PLR0124
            yield other
