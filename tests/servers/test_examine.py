"""The store's own check of its structure: silent on a sound store, and it names damage that was planted."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stores import Park, new_run, opened, sql

from bench import servers
from bench.servers import databases
from bench.stores import schema
from bench.stores.base import Examination
from bench.stores.tracking import Tracking
from bench.stores.url import StoreUrl, parse

pytestmark = pytest.mark.servers
Fresh = Callable[[str], StoreUrl]
PAGE = 8192


def examined(url: StoreUrl) -> Examination:
    """What the store says on a session of its own."""

    async def work() -> Examination:
        async with opened(url) as (store, session):
            return await store.examine(session)

    return asyncio.run(asyncio.wait_for(work(), 60))


def test_a_sound_store(url: StoreUrl) -> None:
    """Twice on one session, which is usable afterwards; and no extension stays."""

    async def work() -> list[Any]:
        async with opened(url) as (store, session):
            tracking = Tracking(store, session)
            await new_run(tracking)
            await tracking.log_metrics("a" * 32, [("m", 1.0, n * 3_600_000, n, False) for n in range(500)])
            found = [await store.examine(session), await store.examine(session)]
            await tracking.set_tag("a" * 32, "t", "v")
            return found

    first, again = asyncio.run(work())
    assert first == again
    assert first.problems == []
    said = {"sqlite": "integrity_check", "mysql": "CHECK TABLE on 6", "mariadb": "CHECK TABLE on 6"}
    assert said.get(url.store, "amcheck on ") in first.what
    if "postgres" in url.mlflow:
        assert sql(url, "SELECT 1 FROM pg_extension WHERE extname = 'amcheck'") == []


def flip(file: Path, offset: int) -> None:
    """Turn all the bits of a byte."""
    with file.open("r+b") as opened_file:
        opened_file.seek(offset)
        byte = opened_file.read(1)[0]
        opened_file.seek(offset)
        opened_file.write(bytes([byte ^ 0xFF]))


def test_a_flipped_byte_in_an_index_of_sqlite(fresh: Fresh) -> None:
    url = fresh("sqlite")
    assert url.path is not None
    root = sql(url, "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_runs_1'")[0][0]
    size = sql(url, "PRAGMA page_size")[0][0]
    asyncio.run(_with_runs(url, 3))
    flip(url.path, root * size - 5)  # the page's last entry, the first that went in
    problems = examined(url).problems
    assert problems
    assert any("sqlite_autoindex_runs_1" in problem for problem in problems)


async def _with_runs(url: StoreUrl, count: int) -> None:
    async with opened(url) as (store, session):
        for n in range(count):
            await new_run(Tracking(store, session), f"{n:032x}")


def test_a_row_without_its_parent_on_sqlite(fresh: Fresh) -> None:
    url = fresh("sqlite")
    asyncio.run(_with_runs(url, 1))
    sql(url, "DELETE FROM runs")  # foreign keys are off unless a session wants them
    assert examined(url).problems == ["row 1 of tags has no row in runs"]


def test_a_sqlite_file_that_is_none(fresh: Fresh) -> None:
    """Its first page goes while a session is open: to a new one it is no database at all."""
    url = fresh("sqlite")
    assert url.path is not None

    async def work() -> Examination:
        async with opened(url) as (store, session):
            assert url.path is not None
            with url.path.open("r+b") as file:
                file.write(bytes(range(256)) * 16)
            return await store.examine(session)

    problems = asyncio.run(work()).problems
    assert problems is not None
    assert len(problems) == 1


@pytest.mark.slow  # a copy of files takes a checkpoint of all that the session's tests have written
@pytest.mark.parametrize("name", ["postgresql", "timescaledb"])
def test_a_flipped_byte_in_a_file_of_postgresql(name: str, park: Park, tmp_path: Path) -> None:
    """In a database whose files were copied and not read yet: a page of a table, and one of an index."""
    source = park.fresh(name, tmp_path)
    data = park.server(name).folder / "data"
    if not data.is_dir():
        pytest.skip("its files are in a container")
    base = StoreUrl(source.store, None, source.host, source.port, source.user, source.password, "postgres")
    url = StoreUrl(source.store, None, source.host, source.port, source.user, source.password, source.database + "x")
    sql(base, f"CREATE DATABASE {url.database} TEMPLATE mlflowtemplate STRATEGY file_copy")
    sql(base, f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true")
    assert examined(source).problems == []
    index = sql(url, "SELECT indexrelid::regclass::text FROM pg_index "
        "WHERE indrelid = 'experiments'::regclass AND indisprimary")[0][0]  # fmt: skip
    for relation, page in (("experiments", 0), (index, 1)):
        flip(data / sql(url, f"SELECT pg_relation_filepath('{relation}')")[0][0], page * PAGE + 15)  # where data begin
    problems = examined(url).problems
    assert problems is not None
    named = {problem.partition(":")[0] for problem in problems}
    assert {"experiments", index} <= named
    of_the_table = {row[0] for row in sql(url, "SELECT indexname FROM pg_indexes WHERE tablename = 'experiments'")}
    assert named <= {"experiments"} | of_the_table  # an index is compared with the rows of its table


def test_an_index_that_lacks_a_row_and_a_table_older_than_it_says(fresh: Fresh) -> None:
    """Damage that no checksum sees: an index over a function that changed its mind, and a wrong freeze limit."""
    url = fresh("postgresql")
    asyncio.run(_with_runs(url, 3))
    function = "CREATE OR REPLACE FUNCTION whim(VARCHAR) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$ SELECT {} $$"
    sql(url, function.format("'a' || $1"))
    sql(url, "CREATE INDEX planted ON runs (whim(run_uuid))")
    sql(url, function.format("'b' || $1"))
    sql(url, "SET allow_system_table_mods = on; UPDATE pg_class SET relfrozenxid = "
        "pg_current_xact_id()::xid WHERE relname = 'tags'")  # fmt: skip
    problems = examined(url).problems
    assert problems is not None
    assert any("planted" in problem and "lacks matching index tuple" in problem for problem in problems)
    assert any(problem.startswith("tags, block 0") for problem in problems)
    assert {problem.partition(",")[0].partition(":")[0] for problem in problems} == {"planted", "tags"}


def test_without_the_right_to_amcheck_nothing_is_said(fresh: Fresh) -> None:
    url = fresh("postgresql")
    sql(url, "CREATE ROLE nobody_much LOGIN PASSWORD 'secret'")
    try:
        guest = StoreUrl(url.store, None, url.host, url.port, "nobody_much", "secret", url.database)
        found = examined(guest)
    finally:
        sql(url, "DROP ROLE nobody_much")
    assert found.problems is None
    assert "permission denied" in found.what


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mysql", "mariadb"])
def test_a_flipped_byte_in_an_index_of_mysql(name: str) -> None:
    """In the file of a stopped server of its own: MariaDB names the index, MySQL ends itself."""
    with servers.start(servers.as_kind(name)) as server:
        databases.create(server, "mlflow")
        url = parse(server.url("mlflow"), server.kind)
        asyncio.run(schema.create(url, "file:///trackbench/tests"))
        asyncio.run(_with_runs(url, 3))
        assert examined(url).problems == []
        server.halt()
        file = server.folder / "data" / "mlflow" / "tags.ibd"
        if not file.exists():
            pytest.skip("its files are in a container")
        flip(file, file.read_bytes().rindex(b"0" * 32))  # the table comes first in its file, then its indexes
        server.start_again()
        problems = examined(url).problems
        assert problems
        assert server.kind == "mysql" or any("index_tags_run_uuid" in problem for problem in problems)
        assert server.kind == "mariadb" or "the server ended while it checked" in problems[0]
