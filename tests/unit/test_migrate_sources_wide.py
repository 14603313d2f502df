"""Rows of megabytes are read a few at a time, wherever a source is read; all of them, once."""

import asyncio
import shutil
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.migrate.catalog import Catalog, reflect
from bench.migrate.digest import readings, scan
from bench.migrate.preflight import preflight
from bench.migrate.sources import copy_into_scratch
from bench.stores import store_for
from bench.stores.sqlite import SqliteSession
from bench.stores.url import StoreUrl
from benchmarks.made_store import template

_LONG, _ROWS = 2**20, 40
_INSERT = (
    "INSERT INTO spans (trace_id, experiment_id, span_id, start_time_unix_nano, content, status) "
    "VALUES ('t', 0, ?, 0, ?, 'OK')"
)


@pytest.fixture
def url(tmp_path: Path) -> StoreUrl:
    """A store with short spans and with some of a megabyte, which are not plain ASCII."""
    path = tmp_path / "wide.db"
    shutil.copyfile(template(), path)
    with closing(sqlite3.connect(path)) as connection:
        for number in range(_ROWS):
            connection.execute(_INSERT, (f"{number:04}", "é" * (_LONG // 2)))
        connection.executemany(_INSERT, [(f"s{number:04}", "short") for number in range(3000)])
        connection.execute(
            "INSERT INTO trace_info (request_id, experiment_id, timestamp_ms, status) VALUES ('t', 0, 0, 'OK')"
        )
        connection.commit()
    return StoreUrl("sqlite", path=path)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """(statement, rows, bytes of texts) of each batch that is read."""
    found: list[tuple[str, int, int]] = []
    stream = SqliteSession.stream

    async def noted(
        self: SqliteSession, statement: str, *args: object, size: int = 50_000
    ) -> AsyncIterator[Sequence[Any]]:
        async for rows in stream(self, statement, *args, size=size):
            found.append(
                (statement, len(rows), sum(len(one) for row in rows for one in row if isinstance(one, str | bytes)))
            )
            yield rows

    monkeypatch.setattr(SqliteSession, "stream", noted)
    return found


def test_a_scan_gives_every_row_once_and_few_long_ones_together(
    url: StoreUrl, batches: list[tuple[str, int, int]]
) -> None:
    catalog = reflect(url)
    reading, _ = readings(catalog.tables["spans"], catalog.tables["spans"])

    async def go() -> Counter[str]:
        session = await store_for(url).connect()
        try:
            place = reading.names.index("span_id")
            return Counter([row[place] async for rows in scan(session, "sqlite", reading) for row in rows])
        finally:
            await session.close()

    found = asyncio.run(go())
    assert len(found) == _ROWS + 3000
    assert set(found.values()) == {1}
    assert max(octets for _, _, octets in batches) < 5 * _LONG
    assert max(rows for _, rows, _ in batches) > 100


def test_tables_without_long_texts_are_read_by_one_plain_statement() -> None:
    tables = reflect(StoreUrl("sqlite", path=template())).tables
    for name in ("metrics", "latest_metrics", "params", "tags", "runs"):
        assert readings(tables[name], tables[name])[0].long("sqlite") is None
    for name in ("spans", "issues"):
        assert readings(tables[name], tables[name])[0].long("sqlite") is not None


def test_a_preflight_looks_at_few_long_texts_together(url: StoreUrl, batches: list[tuple[str, int, int]]) -> None:
    async def go(catalog: Catalog) -> None:
        session = await store_for(url).connect()
        try:
            assert await preflight(session, catalog, "postgresql") == []
        finally:
            await session.close()

    asyncio.run(go(reflect(url)))
    of_spans = [(rows, octets) for statement, rows, octets in batches if "content" in statement]
    assert sum(rows for rows, _ in of_spans) >= _ROWS
    assert max(octets for _, octets in of_spans) < 10 * _LONG


def test_a_copy_takes_few_long_rows_together(
    url: StoreUrl, tmp_path: Path, batches: list[tuple[str, int, int]]
) -> None:
    scratch = tmp_path / "scratch.db"
    shutil.copyfile(template(), scratch)

    async def go() -> None:
        session = await store_for(url).connect()
        try:
            await copy_into_scratch("given", session, reflect(url), StoreUrl("sqlite", path=scratch))
        finally:
            await session.close()

    asyncio.run(go())
    assert (
        sum(rows for statement, rows, _ in batches if "spans" in statement and "content" in statement) == _ROWS + 3000
    )
    assert max(octets for _, _, octets in batches) < 10 * _LONG
