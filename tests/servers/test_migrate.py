"""Moves small stores with nasty values between real databases, and looks at what arrived."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import migrated
import pytest
from migrated import Prepared, Quiet, fails_once, move, nasty, raw_bytes
from stores import NAMES, Park, sql

from bench.errors import BadInput
from bench.migrate import bringing, migration
from bench.migrate.catalog import OURS, reflect
from bench.migrate.structure import compare_sequences
from bench.migrate.targets import base, target_for
from bench.stores import schema
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def prepared(park: Park, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(park, tmp_path_factory.mktemp("schemas"))


@pytest.fixture
def quickly(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    migrated.install(monkeypatch, prepared)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> StoreUrl:
    return nasty(tmp_path_factory.mktemp("small") / "nasty.db")


@pytest.fixture
def empty(park: Park, tmp_path: Path) -> Callable[[str], StoreUrl]:
    return lambda name: park.empty(name, tmp_path)


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(BadInput) as found:
        call()
    text = str(found.value)
    assert "\n" not in text
    return text


# Every pair


@pytest.mark.usefixtures("quickly")
def test_round_trip_to_the_bit(small: StoreUrl, empty: Callable[[str], StoreUrl], tmp_path: Path) -> None:
    """SQLite -> PostgreSQL -> MySQL -> SQLite."""
    end = StoreUrl("sqlite", path=tmp_path / "end.db")
    stops = [small, empty("postgresql"), empty("mysql"), end]
    for source, target in pairwise(stops):
        found = move(source, target)
        assert found.proof is not None
        assert found.proof.equal, found.proof
        assert OURS not in reflect(target).tables
    came, went = raw_bytes(end), raw_bytes(small)
    for table in went:
        assert came[table] == went[table] or table in _json_tables(small), table  # of JSON MySQL keeps the meaning only


def _json_tables(url: StoreUrl) -> set[str]:
    return {name for name, table in reflect(url).tables.items() if any(c.kind == "JSON" for c in table.columns)}


@pytest.mark.slow
@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("into", NAMES)
@pytest.mark.parametrize("out_of", NAMES)
def test_every_pair(small: StoreUrl, empty: Callable[[str], StoreUrl], tmp_path: Path, out_of: str, into: str) -> None:
    source = empty(out_of)
    move(small, source)
    target = empty(into)
    found = move(source, target)
    assert found.proof is not None
    assert found.proof.equal, found.proof


@pytest.mark.slow
@pytest.mark.parametrize("into", NAMES)
def test_mlflow_makes_the_schema(small: StoreUrl, empty: Callable[[str], StoreUrl], into: str) -> None:
    found = move(small, empty(into))
    assert found.proof is not None
    assert found.proof.equal, found.proof


# Resumed: what is left in the middle


@pytest.mark.usefixtures("quickly")
def test_parts_are_continued(
    small: StoreUrl, empty: Callable[[str], StoreUrl], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load that ends in the middle of a large table goes on after the last row, with what changed meanwhile."""
    source = StoreUrl("sqlite", path=tmp_path / "source.db")
    assert small.path is not None
    assert source.path is not None
    source.path.write_bytes(small.path.read_bytes())
    target = empty("postgresql")
    for name, value in (("large", 100), ("part", 150), ("batch", 50)):
        monkeypatch.setattr(type(target_for(target)), name, value)
    send, sent = type(target_for(target)).send, 0

    async def failing(self: Any, table: Any, columns: Any, rows: Any) -> None:
        nonlocal sent
        if table.name == "metrics":
            sent += len(rows)
            if sent > 400:
                raise OSError("the network is gone")
        await send(self, table, columns, rows)

    monkeypatch.setattr(type(target_for(target)), "send", failing)
    assert "run the same command again to continue" in refused(lambda: move(source, target))
    held = sql(target, "SELECT count(*) FROM metrics")[0][0]
    assert held == 300
    with closing(sqlite3.connect(source.path)) as connection:
        first = connection.execute("SELECT rowid FROM metrics ORDER BY key, timestamp, step, run_uuid LIMIT 1")
        connection.execute("DELETE FROM metrics WHERE rowid = ?", first.fetchone())
        connection.execute("UPDATE runs SET name = 'renamed'")
        connection.execute(
            "INSERT INTO experiments (experiment_id, name, lifecycle_stage, workspace) "
            "VALUES (77, 'later', 'active', 'default')"
        )
        connection.execute("INSERT INTO runs (run_uuid, experiment_id, status) VALUES ('later', 77, 'RUNNING')")
        connection.execute("INSERT INTO metrics VALUES ('zz', 0.5, 9999999999999, 'later', 1, 0)")
        connection.execute("INSERT INTO params (key, value, run_uuid) VALUES ('p', 'of a new run', 'later')")
        connection.commit()
    sent = -(10**9)
    watcher = Quiet()
    found = move(source, target, watcher)
    assert "continuing: loading" in watcher.lines
    assert found.passes[0].inserted < found.passes[0].rows
    assert found.passes[1].deleted == 1
    assert found.proof is not None
    assert found.proof.equal, found.proof
    assert "not empty" in refused(lambda: move(source, target))


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_leftovers_of_a_killed_beginning(
    small: StoreUrl, empty: Callable[[str], StoreUrl], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Half a schema of a migration is removed; MLflow's migrations would trip over it."""
    target = empty(kind)
    make = schema.create_at

    async def half(url: StoreUrl, *_: object) -> None:
        sql(url, "CREATE TABLE runs (half INTEGER)")
        raise asyncio.CancelledError

    monkeypatch.setattr(schema, "create_at", half)
    with pytest.raises(asyncio.CancelledError):
        move(small, target)
    assert sql(target, f"SELECT phase FROM {OURS}") == [("schema",)]
    monkeypatch.setattr(schema, "create_at", make)
    found = move(small, target)
    assert found.proof is not None
    assert found.proof.equal


# Brought up to date


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", pytest.param("mysql", marks=pytest.mark.slow)])
def test_changes_are_brought(
    small: StoreUrl, empty: Callable[[str], StoreUrl], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Swapped names, a freed name given again, a run that moved, deleted parents, a dropped row: one pass mends all."""
    source = StoreUrl("sqlite", path=tmp_path / "source.db")
    assert small.path is not None
    assert source.path is not None
    source.path.write_bytes(small.path.read_bytes())
    insert = (
        "INSERT INTO experiments (experiment_id, name, lifecycle_stage, workspace) VALUES (?, ?, 'active', 'default')"
    )
    with closing(sqlite3.connect(source.path)) as connection:
        connection.executemany(insert, [(101, "n1"), (102, "n2"), (103, "gone"), (104, "freed")])
        connection.execute("INSERT INTO runs (run_uuid, experiment_id, status) VALUES ('mover', 103, 'RUNNING')")
        connection.commit()
    target = empty(kind)
    monkeypatch.setattr(bringing, "compare_sequences", fails_once(compare_sequences))
    with pytest.raises(BadInput, match="once"):
        move(source, target)
    with closing(sqlite3.connect(source.path)) as connection:
        connection.execute("UPDATE experiments SET name = 'n3' WHERE experiment_id = 101")
        connection.execute("UPDATE experiments SET name = 'n1' WHERE experiment_id = 102")
        connection.execute("UPDATE experiments SET name = 'n2' WHERE experiment_id = 101")
        connection.execute("UPDATE experiments SET name = 'moved' WHERE experiment_id = 104")
        connection.executemany(insert, [(105, "freed")])
        connection.execute("UPDATE runs SET experiment_id = 105 WHERE run_uuid = 'mover'")
        connection.execute("DELETE FROM experiments WHERE experiment_id = 103")
        connection.execute("UPDATE metrics SET value = 1e-308 WHERE rowid = (SELECT MIN(rowid) FROM metrics)")
        connection.commit()
    found = move(source, target)
    assert found.proof is not None
    assert found.proof.equal, found.proof
    assert (found.passes[0].inserted, found.passes[0].updated, found.passes[0].deleted) == (2, 4, 2)


def test_what_others_logged_into_the_target_is_not_deleted(
    small: StoreUrl, empty: Callable[[str], StoreUrl], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that waits for its proof, and that somebody has begun to use: only what a load of ours left may go."""
    target = empty("postgresql")
    monkeypatch.setattr(bringing, "compare_sequences", fails_once(compare_sequences))
    with pytest.raises(BadInput, match="once"):
        move(small, target)
    experiment = (
        "INSERT INTO experiments (experiment_id, name, lifecycle_stage, workspace) VALUES (%s, %s, 'active', 'default')"
    )
    run = "INSERT INTO runs (run_uuid, experiment_id, status) VALUES (%s, %s, 'RUNNING')"
    sql(target, experiment, 900, "trackbench-load")
    sql(target, run, "ours", 900)
    sql(target, experiment, 901, "theirs")
    sql(target, run, "theirs", 901)
    with pytest.raises(BadInput, match="runs that the source lacks, theirs among them"):
        move(small, target)
    assert {row[0] for row in sql(target, "SELECT run_uuid FROM runs WHERE run_uuid IN ('ours', 'theirs')")} == {
        "ours",
        "theirs",
    }
    sql(target, "DELETE FROM runs WHERE run_uuid = 'theirs'")
    sql(target, "DELETE FROM experiments WHERE experiment_id = 901")
    found = move(small, target)
    assert found.proof is not None
    assert found.proof.equal


# The end of a copy


@pytest.mark.usefixtures("quickly")
def test_sequences_and_indexes_come_back(
    small: StoreUrl, empty: Callable[[str], StoreUrl], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sequence that was not moved and an index that was lost are found by the proof, and the next call mends them."""
    target = empty("postgresql")
    kind = type(target_for(target))
    monkeypatch.setattr(kind, "large", 100)
    number, restore = kind.number, kind.restore

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(kind, "number", nothing)
    lost = move(small, target)
    assert lost.proof is not None
    assert {one.what for one in lost.proof.structure} == {"sequence"}
    assert OURS in sql_tables(target)
    monkeypatch.setattr(kind, "number", number)
    found = move(small, target)
    assert found.proof is not None
    assert found.proof.equal
    days = sql(
        target, "SELECT count(*) FILTER (WHERE isfinite(rollup_day)), count(*) FROM sql_trace_rollup_rebuild_queue"
    )
    assert days[0][0] == days[0][1] > 0  # the first and the last day are no infinities
    highest = sql(target, "SELECT max(experiment_id) FROM experiments")[0][0]
    assert sql(target, "SELECT nextval(pg_get_serial_sequence('experiments', 'experiment_id'))") == [(highest + 1,)]

    async def without_one(self: Any, deferred: Any, *others: Any, **more: Any) -> None:
        await restore(self, [one for one in deferred if one.kind != "index"], *others, **more)

    again = empty("postgresql")
    monkeypatch.setattr(kind, "restore", without_one)
    lost = move(small, again)
    assert lost.proof is not None
    assert {(one.what, one.table) for one in lost.proof.structure} >= {("index", "metrics")}


def sql_tables(url: StoreUrl) -> set[str]:
    return {row[0] for row in sql(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


# Refused: one line, and both as they were


@pytest.mark.usefixtures("quickly")
def test_refused(small: StoreUrl, empty: Callable[[str], StoreUrl], park: Park, tmp_path: Path) -> None:
    filled = park.fresh("sqlite", tmp_path)
    assert filled.path is not None
    before = filled.path.read_bytes()
    assert "not empty" in refused(lambda: move(small, filled))
    assert filled.path.read_bytes() == before
    assert "same" in refused(lambda: move(small, small))
    nowhere = StoreUrl("sqlite", path=tmp_path / "no" / "where.db")
    assert "no such folder" in refused(lambda: move(small, nowhere))
    junk = StoreUrl("sqlite", path=tmp_path / "junk.db")
    assert junk.path is not None
    junk.path.write_bytes(b"no database, but long enough to look like one to somebody" * 40)
    assert "not a database" in refused(lambda: move(small, junk))
    missing = StoreUrl("sqlite", path=tmp_path / "missing.db")
    new = StoreUrl("sqlite", path=tmp_path / "new.db")
    assert str(missing) in refused(lambda: move(missing, new))
    assert new.path is not None
    assert not new.path.exists()


@pytest.mark.usefixtures("quickly")
def test_refused_by_a_server(small: StoreUrl, empty: Callable[[str], StoreUrl], tmp_path: Path) -> None:
    target = empty("postgresql")
    closed = StoreUrl("postgresql", host="127.0.0.1", port=1, user="nobody", password="secret", database="x")
    text = refused(lambda: move(small, closed))
    assert "can't be reached" in text
    assert "secret" not in text
    sql(target, "CREATE ROLE weak LOGIN PASSWORD 'weak'")
    sql(target, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    weak = StoreUrl("postgresql", None, target.host, target.port, "weak", "weak", target.database)
    assert "can't make tables" in refused(lambda: move(small, weak))
    assert not sql_tables(target)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", pytest.param("mysql", marks=pytest.mark.slow)])
def test_one_at_a_time(
    small: StoreUrl, empty: Callable[[str], StoreUrl], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A second migration into one target is refused while the first goes on, and so is another source afterwards."""
    target = empty(kind)
    monkeypatch.setattr(base, "LEFT_S", 0.2)
    make, answers = schema.create_at, []

    async def meanwhile(url: StoreUrl, *others: Any) -> None:
        answers.append(await asyncio.to_thread(refused, lambda: move(small, target)))
        await make(url, *others)
        raise BadInput("not now")

    monkeypatch.setattr(schema, "create_at", meanwhile)
    assert refused(lambda: move(small, target)) == "not now"
    assert "another migration" in answers[0]
    assert not asyncio.run(_tables(target))


async def _tables(url: StoreUrl) -> set[str]:
    target = target_for(url)
    await target.open()
    try:
        return await target.tables()
    finally:
        await target.close()


@pytest.mark.usefixtures("quickly")
def test_another_source(
    small: StoreUrl, empty: Callable[[str], StoreUrl], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = nasty(tmp_path / "other.db")
    target = StoreUrl("sqlite", path=tmp_path / "target.db")
    monkeypatch.setattr(bringing, "compare_sequences", fails_once(compare_sequences))
    with pytest.raises(BadInput, match="once"):
        move(small, target)
    assert f"unfinished migration from {small}" in refused(lambda: move(other, target))
    found = move(other, target, start_over=True)
    assert found.proof is not None
    assert found.proof.equal


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_rows_that_do_not_fit(small: StoreUrl, empty: Callable[[str], StoreUrl], tmp_path: Path, kind: str) -> None:
    """Found before anything is moved; the target is as it was."""
    source = StoreUrl("sqlite", path=tmp_path / "source.db")
    assert small.path is not None
    assert source.path is not None
    source.path.write_bytes(small.path.read_bytes())
    with closing(sqlite3.connect(source.path)) as connection:
        connection.execute("INSERT INTO tags VALUES ('odd', CAST(x'ff' AS TEXT), (SELECT MIN(run_uuid) FROM runs))")
        connection.commit()
    target = empty(kind) if kind != "sqlite" else StoreUrl("sqlite", path=tmp_path / "target.db")
    with pytest.raises(migration.Refused) as found:
        move(source, target)
    assert [(one.table, one.column) for one in found.value.found.problems] == [("tags", "value")]
    if target.path is not None:
        assert not target.path.exists()
    else:
        assert not sql_tables(target)
        assert not sql(target, "SELECT 1 FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    with pytest.raises(migration.Refused):
        move(source, target, dry_run=True)
