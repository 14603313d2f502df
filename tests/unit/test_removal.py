"""What a trial left is taken out of MLflow's own schema again, to the last row, and nobody else's row with it."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import planted
import pytest
from planted import EXPERIMENT, KEY, Stored, all_ok, layout_of, perfect

from bench import removal
from bench.identity import TrialKey, run_name
from bench.stores import store_for
from bench.stores.url import StoreUrl

Dump = dict[str, list[tuple[object, ...]]]


def beside(key: TrialKey, by: int) -> TrialKey:
    """The key whose prefix, as a number, lies ``by`` beside."""
    return TrialKey(f"{int(key.prefix, 16) + by:012x}", key.word)


def dump(path: Path) -> Dump:
    """Every row of every table."""
    with closing(sqlite3.connect(path)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        return {name: sorted(db.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in names}


def add_experiment(db: sqlite3.Connection, experiment: int, name: str) -> None:
    db.execute(
        "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (?, ?, 'active')", (experiment, name)
    )


def add_run(db: sqlite3.Connection, run: str, name: str | None, experiment: int) -> None:
    db.execute(
        "INSERT INTO runs (run_uuid, name, status, lifecycle_stage, experiment_id) "
        "VALUES (?, ?, 'RUNNING', 'active', ?)",
        (run, name, experiment),
    )
    for table in ("metrics", "latest_metrics"):
        db.execute(
            f"INSERT INTO {table} (run_uuid, key, step, timestamp, value, is_nan) VALUES (?, 'loss', 0, 1, 2.5, 0)",
            (run,),
        )
    for table in ("params", "tags"):
        db.execute(f"INSERT INTO {table} (run_uuid, key, value) VALUES (?, 'mlflow.runName', ?)", (run, name or ""))


def add_trace(db: sqlite3.Connection, trace: str, experiment: int) -> None:
    """As MLflow's start_trace and log_spans leave it, with a measured span and somebody's assessment."""
    db.execute(
        "INSERT INTO trace_info (request_id, experiment_id, timestamp_ms, status) VALUES (?, ?, 1, 'OK')",
        (trace, experiment),
    )
    for table in ("trace_tags", "trace_request_metadata", "trace_metrics"):
        db.execute(f"INSERT INTO {table} (request_id, key, value) VALUES (?, 'key', 1)", (trace,))
    for span in ("a", "b"):
        db.execute(
            "INSERT INTO spans (trace_id, experiment_id, span_id, status, start_time_unix_nano, end_time_unix_nano, "
            "content) VALUES (?, ?, ?, 'OK', 1, 2, '{}')",
            (trace, experiment, span),
        )
        db.execute("INSERT INTO span_metrics (trace_id, span_id, key, value) VALUES (?, ?, 'cost', 1)", (trace, span))
    db.execute(
        "INSERT INTO assessments (assessment_id, trace_id, name, assessment_type, value, created_timestamp, "
        "last_updated_timestamp, source_type, valid) VALUES (?, ?, 'n', 'feedback', '1', 1, 1, 'HUMAN', 1)",
        (f"of-{trace}", trace),
    )


def add_neighbours(db: sqlite3.Connection) -> None:
    """What must stay: other trials' rows, whose prefixes lie next to ours, and users' with names like ours."""
    add_experiment(db, 5, "trackbench-another-2")
    for key in (beside(KEY, 0x10000), beside(KEY, 1), beside(KEY, -1)):
        add_run(db, key.run_id(0, 0), key.name(0, 0), 5)
        add_run(db, planted.chosen(key.run_id(1, 0)), key.name(1, 0), 5)
        add_experiment(db, int(key.prefix[-6:], 16) + 10_000, key.name(0, 0))
        add_trace(db, f"tr-{key.run_id(0, 0)}", 5)
    add_experiment(db, 6, "somebody's")
    low = run_name(KEY.prefix)
    for number, name in enumerate((None, "", "mine", low[:-1], low[:-1] + "z", f"{low}g", f"{low}z", f"my {low}")):
        add_run(db, f"{number:032d}", name, 6)
        if name:
            add_experiment(db, 100 + number, name)
    add_run(db, KEY.prefix[:-1] + "z" + "0" * 20, "x", 6)
    for trace in (
        "tr-0123456789abcdef0123456789abcdef",
        f"tr-{KEY.prefix}g",
        f"tr-{KEY.prefix[:-1]}",
        KEY.run_id(0, 0),
    ):
        add_trace(db, trace, 6)
    db.execute("INSERT INTO experiment_tags (experiment_id, key, value) VALUES (6, 'mlflow.experimentKind', 'x')")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store in which others are at work."""
    url = planted.in_sqlite(Stored(), tmp_path)
    assert url.path is not None
    with closing(sqlite3.connect(url.path)) as db, db:
        add_neighbours(db)
    return url.path


def remove(path: Path, experiment: int = EXPERIMENT, prefix: str = KEY.prefix) -> None:
    async def whole() -> None:
        session = await store_for(StoreUrl("sqlite", path=path)).connect()
        try:
            await removal.remove(session, experiment, prefix)
        finally:
            await session.close()

    asyncio.run(whole())


def of_a_trial(name: str, by_server: bool) -> Callable[[sqlite3.Connection], None]:
    def add(db: sqlite3.Connection) -> None:
        layout = layout_of(name)
        stored = perfect(layout, all_ok(layout, 3))
        planted.insert(db, planted.by_server(stored) if by_server else stored)

    return add


def traces(db: sqlite3.Connection) -> None:
    for writer in range(3):
        for cycle in range(3):
            add_trace(db, f"tr-{KEY.run_id(writer, cycle)}", EXPERIMENT)


def nothing(_: sqlite3.Connection) -> None:
    """A trial that broke down at once."""


def looked_at(db: sqlite3.Connection) -> None:
    """MLflow's own pages tag an experiment that somebody opens."""
    of_a_trial("experiments", True)(db)
    for experiment in (EXPERIMENT, planted.experiment_of(0, 0), planted.experiment_of(1, 2)):
        db.execute("INSERT INTO experiment_tags (experiment_id, key, value) VALUES (?, 'kind', 'x')", (experiment,))


def a_run_in_anothers_experiment(db: sqlite3.Connection) -> None:
    """A server that mixes up experiments: the run is ours all the same."""
    add_run(db, "f" * 32, KEY.name(0, 7), 6)


LEFT = {
    "direct": of_a_trial("batch", False),
    "direct training": of_a_trial("train", False),
    "http": of_a_trial("batch", True),
    "http training": of_a_trial("train", True),
    "http experiments": of_a_trial("experiments", True),
    "http traces": traces,
    "nothing": nothing,
    "looked at": looked_at,
    "strayed": a_run_in_anothers_experiment,
}


@pytest.mark.parametrize("name", LEFT)
def test_all_that_is_ours_goes_and_nothing_else(name: str, path: Path) -> None:
    before = dump(path)
    with closing(sqlite3.connect(path)) as db, db:
        add_experiment(db, EXPERIMENT, "trackbench-run-2")
        LEFT[name](db)
    assert dump(path) != before
    remove(path)
    assert dump(path) == before
    remove(path)  # again, as after a trial that broke down
    assert dump(path) == before


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_many_runs_go_a_part_at_a_time(at_once: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_AT_ONCE", at_once)
    before = dump(path)
    with closing(sqlite3.connect(path)) as db, db:
        add_experiment(db, EXPERIMENT, "trackbench-run-2")
        of_a_trial("train", True)(db)
    remove(path)
    assert dump(path) == before


@pytest.mark.parametrize("what", ["run", "trace"])
def test_what_somebody_put_into_our_experiment_stays_with_it(what: str, path: Path) -> None:
    """It is not ours to remove, and no reason to leave our own rows."""
    mine = planted.experiment_of(0, 0)
    with closing(sqlite3.connect(path)) as db, db:
        for experiment, name in ((EXPERIMENT, "trackbench-run-2"), (mine, KEY.name(0, 0))):
            add_experiment(db, experiment, name)
            if what == "run":
                add_run(db, f"{experiment:032d}", "my own", experiment)
            else:
                add_trace(db, f"tr-{experiment:032d}", experiment)
            db.execute("INSERT INTO experiment_tags (experiment_id, key, value) VALUES (?, 'k', 'x')", (experiment,))
    before = dump(path)
    with closing(sqlite3.connect(path)) as db, db:
        layout = layout_of("experiments")
        stored = perfect(layout, all_ok(layout, 3))
        stored.experiments = [row for row in stored.experiments if row[0] != mine]
        planted.insert(db, planted.by_server(stored))
        traces(db)
    remove(path)
    assert dump(path) == before
