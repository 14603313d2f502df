"""Stores that old MLflows wrote, and servers, as sources: brought to our schema in a copy, the source as it was."""

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from olden import FIRST_AUTH, FOLDER, LATE, OLDEST, database, files, held
from stores import Park, sql
from stores import opened as session_at

from bench.errors import BadInput
from bench.migrate.catalog import AUTH, OURS, TRACKING, Catalog, reflect
from bench.migrate.sources import Source, copy_into_scratch, open_source
from bench.migrate.sql import listed, select
from bench.stores import schema, store_for
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers
DBL_MAX = 1.7976931348623157e308
Rows = dict[str, list[tuple[Any, ...]]]


def opened(given: str | StoreUrl) -> tuple[Source, Rows]:
    """The source, closed again, and all its rows, each with its columns' names, sorted."""

    async def go() -> tuple[Source, Rows]:
        async with open_source(given) as source:
            found = {}
            for name, table in source.catalog.tables.items():
                names = [column.name for column in table.columns]
                rows = await source.session.fetch(select(source.catalog.store, name, table.columns))
                found[name] = sorted((tuple(zip(names, row, strict=True)) for row in rows), key=repr)
            return source, found

    return asyncio.run(go())


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below ``folder``, and every folder: when it changed, what it holds."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted([folder, *folder.rglob("*")])
    }


def kept(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row) of what an old MLflow wrote."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in held(name)["schema"]:
            connection.execute(statement)
        for table, rows in held(name)["rows"].items():
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            for row in rows:
                yield table, dict(zip(columns, row, strict=True))


def missing(name: str, found: Rows) -> list[tuple[str, dict[str, Any]]]:
    """Rows of what an old MLflow wrote that are not among ``found`` with all their values."""
    rows = {table: [dict(row) for row in some] for table, some in found.items()}
    return [
        (table, row)
        for table, row in kept(name)
        if not table.startswith("alembic")
        and not any(row.items() <= {key: one.get(key) for key in row}.items() for one in rows.get(table, []))
    ]


@pytest.mark.parametrize("version", [OLDEST, pytest.param(LATE, marks=pytest.mark.slow)])
def test_an_old_store_comes_whole_to_our_schema_in_a_copy(version: str, tmp_path: Path) -> None:
    path = database(f"tracking-{version}", tmp_path / "mlflow.db")
    before = state(tmp_path)
    source, found = opened(f"sqlite:///{path}")
    assert state(tmp_path) == before
    assert source.catalog.revision == schema.lineage(TRACKING).head
    assert source.upgraded_from == held(f"tracking-{version}")["rows"]["alembic_version"][0][0]
    assert source.seconds.keys() == {"snapshot", "upgrade"}
    changed = missing(f"tracking-{version}", found)
    if version == OLDEST:
        assert (changed, source.notes) == ([], [])
    else:  # MLflow moves a trace's tag into a column
        assert [table for table, _ in changed] == ["trace_tags"]
        assert source.notes == [f"{source.given}: MLflow's upgrade left 2 of 3 rows in table trace_tags"]
    values = [dict(row)["value"] for row in found["metrics"] if dict(row)["key"] == "loss"]
    assert {5e-324, DBL_MAX, -DBL_MAX, 0.1 + 0.2} <= set(values)
    assert any(dict(row)["is_nan"] for row in found["metrics"])
    assert {dict(row)["current_stage"] for row in found["model_versions"]} >= {"Production", "Staging", "None"}
    assert {dict(row)["lifecycle_stage"] for row in found["runs"]} == {"active", "deleted"}


def test_an_old_authentication_database_keeps_its_users_and_says_what_mlflow_drops(tmp_path: Path) -> None:
    path = database(f"auth-{FIRST_AUTH}", tmp_path / "basic_auth.db")
    before = state(tmp_path)
    source, found = opened(f"sqlite:///{path}")
    assert state(tmp_path) == before
    assert (source.catalog.family, source.upgraded_from) == (AUTH, "none")
    assert source.catalog.revision == schema.lineage(AUTH).head
    assert missing(f"auth-{FIRST_AUTH}", found) == []
    grants = [dict(row)["permission"] for row in found["role_permissions"]]
    assert sorted(grants) == ["EDIT", "MANAGE", "READ", "READ"]
    (note,) = source.notes
    assert "MLflow's upgrade drops 1 NO_PERMISSIONS (Żaneta on registered_model classifier)" in note


def test_our_authentication_database_is_read_as_it_is(tmp_path: Path) -> None:
    path = database("auth-ours", tmp_path / "basic_auth.db")
    source, found = opened(f"sqlite:///{path}")
    assert (source.catalog.family, source.upgraded_from, source.notes) == (AUTH, None, [])
    assert missing("auth-ours", found) == []


@pytest.mark.parametrize("version", [pytest.param(OLDEST, marks=pytest.mark.slow), LATE])
def test_a_file_store_comes_in_with_all_its_runs(version: str, tmp_path: Path) -> None:
    files(f"files-{version}", tmp_path / "mlruns")
    before = state(tmp_path)
    source, found = opened(str(tmp_path))
    assert state(tmp_path) == before
    assert (source.given, source.held_s, source.upgraded_from, source.notes) == (str(tmp_path), None, None, [])
    assert source.catalog.revision == schema.lineage(TRACKING).head
    # What the same client calls left in a database of the same MLflow.
    same = [table for table in ("runs", "params", "tags", "metrics", "latest_metrics") if table in found]
    for table in same:
        assert len(found[table]) == sum(name == table for name, _ in kept(f"tracking-{version}")), table
    assert {5e-324, DBL_MAX, -DBL_MAX} <= {dict(row)["value"] for row in found["metrics"]}
    models = sum(name == "registered_models" for name, _ in kept(f"tracking-{LATE}"))
    assert len(found["registered_models"]) == (models if version == LATE else 0)


@pytest.mark.slow
def test_a_file_store_that_mlflow_can_not_read_to_its_end_is_refused(tmp_path: Path) -> None:
    files(f"files-{OLDEST}", tmp_path / "mlruns")
    run = min((tmp_path / "mlruns").glob("[1-9]*/*/meta.yaml"))
    run.write_text("{not yaml")
    with pytest.raises(BadInput) as caught:
        opened((tmp_path / "mlruns").as_uri())
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'mlruns'}: MLflow can't read all of it (1 times; first: Failed to read {run}:")
    assert said.endswith("mend it, or move it out of the folder")
    assert "\n" not in said


def test_a_file_store_gives_the_same_rows_each_time(tmp_path: Path) -> None:
    """What it does not hold is neither drawn nor the time: ids of datasets and inputs, times of old MLflows."""
    files(f"files-{LATE}", tmp_path / "mlruns")
    run = next((tmp_path / "mlruns").glob("*/*/inputs")).parent
    output = run / "outputs" / "m-0123" / "meta.yaml"
    output.parent.mkdir(parents=True)
    output.write_text("destination_id: m-0123\ndestination_type: MODEL_OUTPUT\nstep: 3\n")
    timed = [run / "meta.yaml", run.parent / "meta.yaml", *(tmp_path / "mlruns" / "models").rglob("meta.yaml")]
    for path in timed:
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not re.match("(creat|last_up|start_t)[a-z_]*:", line)))
    (_, first), (_, second) = opened(str(tmp_path)), opened(str(tmp_path))
    assert first == second
    inputs = [dict(row) for row in first["inputs"]]
    assert {row["source_type"] for row in inputs} == {"DATASET", "RUN_OUTPUT"}
    given = [row for row in inputs if row["source_type"] == "DATASET"]
    assert {row["source_id"] for row in given} == {dict(row)["dataset_uuid"] for row in first["datasets"]}
    assert {dict(row)["input_uuid"] for row in first["input_tags"]} == {row["input_uuid"] for row in given}
    assert None in {dict(row)["creation_time"] for row in first["experiments"]}
    assert None in {dict(row)["start_time"] for row in first["runs"]}
    assert {dict(row)["creation_time"] for row in first["registered_models"]} == {None}


def test_rows_that_postgresql_does_not_show_are_not_left_out(fresh: Callable[[str], StoreUrl]) -> None:
    url = fresh("postgresql")
    user = f"reader_of_{url.database}"
    sql(url, f"CREATE ROLE {user} LOGIN PASSWORD 'secret'")
    try:
        sql(url, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}")
        reader = replace(url, user=user, password="secret")
        opened(reader)
        sql(url, "ALTER TABLE runs ENABLE ROW LEVEL SECURITY")
        with pytest.raises(BadInput, match="row-level security may hide rows of table runs from this user"):
            opened(reader)
        assert asyncio.run(_frozen_read(reader)) == "42501"  # whoever does not look before is not deceived either
        opened(url)
    finally:
        sql(url, f"DROP OWNED BY {user}")
        sql(url, f"DROP ROLE {user}")


async def _frozen_read(url: StoreUrl) -> str:
    async with session_at(url) as (_, session):
        await session.freeze()
        with pytest.raises(asyncpg.PostgresError) as caught:
            await session.fetch("SELECT COUNT(*) FROM runs")
    return str(caught.value.sqlstate)


def test_a_target_that_is_being_filled_is_no_source(fresh: Callable[[str], StoreUrl]) -> None:
    url = fresh("postgresql")
    sql(url, f"CREATE TABLE {OURS} (id INTEGER)")
    with pytest.raises(BadInput, match="holds an unfinished migration; finish it first with the same command"):
        opened(url)


def test_texts_of_no_encoding_are_refused(park: Park, tmp_path: Path) -> None:
    url = park.empty("postgresql", tmp_path)
    sql(url, "CREATE DATABASE of_bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        with pytest.raises(BadInput, match="its encoding is SQL_ASCII, which PostgreSQL can't convert to UTF-8"):
            opened(replace(url, database="of_bytes"))
    finally:
        sql(url, "DROP DATABASE of_bytes")


@pytest.mark.slow
def test_an_upgrade_that_fails_is_one_line_with_mlflows_last_words(tmp_path: Path) -> None:
    path = database(f"tracking-{OLDEST}", tmp_path / "mlflow.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE registered_model_aliases (a INTEGER)")  # the upgrade makes one, too
    before = state(tmp_path)
    with pytest.raises(BadInput) as caught:
        opened(f"sqlite:///{path}")
    said = str(caught.value)
    assert said.startswith(f"sqlite:///{path}: MLflow {schema.mlflow_version()} could not upgrade its schema: ")
    assert "registered_model_alias" in said
    assert said.endswith(" (from revision 97727af70f4d, in a copy); the store is as it was")
    assert "\n" not in said
    assert state(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["postgresql", "timescaledb", "mysql"])
def test_a_server_stands_still_while_it_is_read_in_place(name: str, fresh: Callable[[str], StoreUrl]) -> None:
    url = fresh(name)

    async def go() -> tuple[Source, list[int]]:
        counts = []
        async with open_source(url) as source:
            for _ in range(2):
                counts.append(len(await source.session.fetch("SELECT experiment_id FROM experiments")))
                await asyncio.to_thread(sql, url, "INSERT INTO experiments(name, workspace) VALUES ('x', 'default')")
                if len(counts) == 1:
                    await asyncio.to_thread(sql, url, "DELETE FROM experiments WHERE name = 'x'")
        return source, counts

    source, counts = asyncio.run(go())
    assert counts[0] == counts[1]
    assert (source.url, source.given, source.held_s, source.upgraded_from) == (url, str(url), None, None)
    sql(url, "DELETE FROM experiments WHERE name = 'x'")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_an_old_store_on_a_server_comes_to_our_schema_in_a_scratch_copy(name: str, park: Park, tmp_path: Path) -> None:
    old = StoreUrl("sqlite", path=database(f"tracking-{OLDEST}", tmp_path / "mlflow.db"))
    url = park.empty(name, tmp_path)
    asyncio.run(_bring(old, url))
    before = sql(url, "SELECT COUNT(*) FROM metrics")
    source, found = opened(url)
    assert source.given == str(url)
    assert source.url.path is not None
    assert source.upgraded_from == "97727af70f4d"
    assert source.seconds.keys() == {"copy", "upgrade"}
    assert missing(f"tracking-{OLDEST}", found) == []
    assert sql(url, "SELECT COUNT(*) FROM metrics") == before
    assert sql(url, "SELECT version_num FROM alembic_version") in ([("97727af70f4d",)], (("97727af70f4d",),))


async def _bring(old: StoreUrl, url: StoreUrl) -> None:
    """The rows of an old SQLite store into an empty database on a server, at its revision."""
    from bench.migrate.values import conversion

    catalog = reflect(old)
    if url.store in ("mysql", "mariadb"):  # names that differ in case only
        collation = {"mysql": "utf8mb4_0900_bin", "mariadb": "utf8mb4_nopad_bin"}[url.store]
        await asyncio.to_thread(sql, url, f"ALTER DATABASE {url.database} CHARACTER SET utf8mb4 COLLATE {collation}")
    await schema.create_at(url, TRACKING, catalog.revision)
    zero = {"sql_mode": "'NO_AUTO_VALUE_ON_ZERO'"} if url.store in ("mysql", "mariadb") else {}
    source, target = await store_for(old).connect(), await store_for(url).connect(zero)
    try:
        for name in reversed(list(catalog.tables)):
            await target.execute_alone(f"DELETE FROM {name}")
        for name, table in catalog.tables.items():
            columns = [column.name for column in table.stored]
            statement = f"SELECT {listed('sqlite', columns)} FROM {name}"
            rows = conversion(table.stored, url.store)(await source.fetch(statement))
            if rows:
                await target.bulk(name, columns, rows)
    finally:
        await source.close()
        await target.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mysql"])
def test_the_schema_of_an_old_revision_is_what_the_old_mlflow_made(name: str, park: Park, tmp_path: Path) -> None:
    """And a table of ours that is there first is left alone."""
    old = reflect(StoreUrl("sqlite", path=database(f"tracking-{OLDEST}", tmp_path / "old.db")))
    url = park.empty(name, tmp_path)
    sql(url, "CREATE TABLE trackbench_migration (id INTEGER)")
    asyncio.run(schema.create_at(url, TRACKING, old.revision))
    made = reflect(url)
    assert made.revision == old.revision
    assert _shape(made) == _shape(old)
    assert sql(url, "SELECT COUNT(*) FROM trackbench_migration")[0][0] == 0


def _shape(catalog: Catalog) -> dict[str, Any]:
    return {
        name: (table.key, sorted(column.name for column in table.columns), [key.table for key in table.foreign_keys])
        for name, table in catalog.tables.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_the_authentication_database_of_each_age_can_be_made(name: str, park: Park, tmp_path: Path) -> None:
    for revision, tables in ((schema.lineage(AUTH).head, 11), (None, 3)):
        url = park.empty(name, tmp_path)
        asyncio.run(schema.create_at(url, AUTH, revision))
        catalog = reflect(url)
        assert (catalog.family, catalog.revision, len(catalog.tables)) == (AUTH, revision, tables)


@pytest.mark.slow
def test_mlflows_own_migrations_can_not_make_an_authentication_database_on_mysql(park: Park, tmp_path: Path) -> None:
    """Two of its foreign keys have one name, which MySQL refuses; MLflow's issues 9642 and 10964 tell of it."""
    with pytest.raises(BadInput, match=r"could not make its schema at revision .*fk_user_id"):
        asyncio.run(schema.create_at(park.empty("mysql", tmp_path), AUTH, schema.lineage(AUTH).head))


@pytest.mark.slow
def test_a_table_that_is_not_mlflows_is_refused_where_it_could_not_be_copied(tmp_path: Path) -> None:
    path = database(f"tracking-{OLDEST}", tmp_path / "old.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a INTEGER PRIMARY KEY)")
    url, scratch = StoreUrl("sqlite", path=path), StoreUrl("sqlite", path=tmp_path / "scratch.db")
    (tmp_path / "scratch.db").touch()

    async def go() -> None:
        await schema.create_at(scratch, TRACKING, "97727af70f4d")
        session = await store_for(url).connect()
        try:
            await copy_into_scratch("given", session, reflect(url), scratch)
        finally:
            await session.close()

    with pytest.raises(BadInput, match="given: table theirs is not MLflow's at revision 97727af70f4d"):
        asyncio.run(go())


@pytest.mark.slow
def test_lineage_is_what_mlflow_says(revisions: schema.Revisions) -> None:
    assert schema.lineage(TRACKING) == schema.Lineage(revisions.head, revisions.known)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_the_kept_stores_are_what_the_old_mlflows_write(name: str, tmp_path: Path) -> None:
    spec = spec_from_file_location("make_old_stores", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    make = module_from_spec(spec)
    spec.loader.exec_module(make)
    assert _unordered(make.make(name, tmp_path)) == _unordered(held(name))


def _unordered(kept: Any) -> Any:
    """A table's constraints come in the order of a set; the spelling of the rest is compared."""
    if "schema" not in kept:
        return kept
    lines = [sorted(line.strip(" ,\t") for line in statement.splitlines()) for statement in kept["schema"]]
    return json.dumps([lines, kept["rows"]])
