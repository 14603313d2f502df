"""The limits that are foreseen are those of the schemas that MLflow makes; servers are sources too."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from stores import Park, opened, sql

from bench.errors import BadInput
from bench.migrate.catalog import Column, reflect
from bench.migrate.estimate import check_room, size_of
from bench.migrate.limits import MYSQL, expected, octets_on_mysql
from bench.migrate.preflight import largest_packet, preflight
from bench.migrate.record import Estimate, Problem
from bench.stores.url import StoreUrl
from benchmarks.made_store import template

Fresh = Callable[[str], StoreUrl]


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_foreseen_limits_are_those_of_the_schema(name: str, fresh: Fresh) -> None:
    real, source = reflect(fresh(name)), reflect(StoreUrl("sqlite", path=template()))
    for one in (source, real):
        foreseen = expected(one, real.store)
        assert foreseen.tables.keys() == real.tables.keys()
        for table in real.tables.values():
            for column in table.columns:
                assert _limits(foreseen.tables[table.name].column(column.name), "") == _limits(column, real.store)


def _limits(column: Column, store: str) -> tuple[object, ...]:
    octets = column.octets or (octets_on_mysql(column) if store in MYSQL else None)
    return column.name, column.kind, column.nullable, column.bits, column.characters, octets


def _seen(url: StoreUrl, into: str) -> list[Problem]:
    async def look() -> list[Problem]:
        async with opened(url) as (_, session):
            await session.freeze()
            return await preflight(session, reflect(url), into)

    return asyncio.run(look())


def test_doubles_of_postgresql_that_others_do_not_have(fresh: Fresh) -> None:
    url = fresh("postgresql")
    sql(url, "INSERT INTO runs (run_uuid, experiment_id) VALUES ('r', 0)")
    for number, value in enumerate(("NaN", "Infinity", "1e300")):
        statement = (
            "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (%s, %s, 0, 'r', 0, false)"
        )
        sql(url, statement, f"key {number}", value)
    assert _seen(url, "timescaledb") == []
    (nan,) = _seen(url, "sqlite")
    assert (nan.table, nan.column, nan.rows, nan.key["key"]) == ("metrics", "value", 1, '"key 0"')
    (both,) = _seen(url, "mysql")
    assert (both.column, both.rows) == ("value", 2)


def test_text_of_postgresql_that_mysql_does_not_hold(fresh: Fresh) -> None:
    url = fresh("postgresql")
    columns = "issue_id, experiment_id, name, description, status, created_timestamp, last_updated_timestamp"
    sql(url, f"INSERT INTO issues ({columns}) VALUES ('i', 0, 'n', repeat('é', 32768), 's', 0, 0)")
    sql(url, "INSERT INTO experiment_tags (key, value, experiment_id) VALUES ('long', repeat('é', 32768), 0)")
    (problem,) = _seen(url, "mysql")
    assert (problem.table, problem.column) == ("issues", "description")
    assert _seen(url, "sqlite") == []


def test_rows_of_mysql_that_others_do_not_hold(fresh: Fresh) -> None:
    url = fresh("mysql")
    sql(url, "INSERT INTO experiment_tags (`key`, value, experiment_id) VALUES ('nul', 'a\\0b', 0), ('ok', '\\\\0', 0)")
    columns = "id, creation_time, params, status, retry_count, last_update_time"
    sql(url, f"INSERT INTO jobs ({columns}) VALUES ('j', 0, '', 0, 0, 0)")
    assert _seen(url, url.store) == []
    (lost,) = _seen(url, "sqlite")
    assert (lost.table, lost.column, lost.key) == ("jobs", "job_name", {"id": '"j"'})
    found = {(one.table, one.column): one.key for one in _seen(url, "postgresql")}
    assert found.keys() == {("experiment_tags", "value"), ("jobs", "job_name")}
    assert found["experiment_tags", "value"]["key"] == '"nul"'


def test_mysql_says_what_it_takes_in_a_statement(park: Park, tmp_path: Path, fresh: Fresh) -> None:
    async def ask(url: StoreUrl) -> int | None:
        async with opened(url) as (_, session):
            return await largest_packet(session, url.store)

    assert asyncio.run(ask(park.empty("mysql", tmp_path))) == 64 * 2**20
    assert asyncio.run(ask(fresh("sqlite"))) is None


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_room_on_this_machine_is_looked_at_where_our_server_keeps_its_data(name: str, fresh: Fresh) -> None:
    url = fresh(name)
    small, large = (Estimate(rows=1, bytes=size, seconds=1, snapshot_bytes=0) for size in (1, 10**18))
    assert asyncio.run(check_room(small, url)) == []
    with pytest.raises(BadInput, match="no disk space: the target in /"):
        asyncio.run(check_room(large, url))


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_the_size_of_a_servers_store_is_its_own_word(name: str, fresh: Fresh) -> None:
    async def ask(url: StoreUrl) -> int:
        async with opened(url) as (_, session):
            return await size_of(session, url.store)

    assert 10**6 < asyncio.run(ask(fresh(name))) < 10**8
