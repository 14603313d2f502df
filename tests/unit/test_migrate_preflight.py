"""Each value that a target can't hold is named, with its table, column, key and reason; what all hold is passed."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bench.errors import BadInput
from bench.migrate.catalog import Catalog, Kind, reflect
from bench.migrate.estimate import check_room, estimate
from bench.migrate.limits import expected
from bench.migrate.preflight import Look, check, preflight
from bench.migrate.record import Estimate, Problem
from bench.stores import NAMES, store_for
from bench.stores.url import StoreUrl
from benchmarks.made_store import Made, make, template
from benchmarks.refused_values import REFUSED, RUN, SERVERS

Seen = Callable[..., list[Problem]]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    """Of an SQLite store of our MLflow's."""
    return reflect(StoreUrl("sqlite", path=template()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty store."""
    shutil.copyfile(template(), tmp_path / "store.db")
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to it that lets everything in."""
    with closing(sqlite3.connect(path)) as connection:
        yield connection


@pytest.fixture
def seen(path: Path, catalog: Catalog) -> Seen:
    """What a preflight of it finds, for a kind of target."""

    async def look(into: str, packet: int | None) -> list[Problem]:
        session = await store_for(StoreUrl("sqlite", path=path)).connect()
        try:
            return await preflight(session, catalog, into, packet)
        finally:
            await session.close()

    return lambda into, packet=None: asyncio.run(look(into, packet))


@pytest.mark.parametrize("what", REFUSED)
def test_each_value_is_refused_for_those_that_cannot_hold_it(what: str, store: sqlite3.Connection, seen: Seen) -> None:
    value = REFUSED[what]
    value.plant(store)
    for into in ("sqlite", "postgresql", "mysql"):
        found = seen(into)
        if into not in value.targets:
            assert found == []
            continue
        assert [(one.table, one.column, one.rows) for one in found] == [(value.table, value.column, 1)], found
        assert found[0].key.keys() == set(reflect_key(store, value.table))
        assert found[0].reason
        assert found[0].remedy


def test_a_hypertable_and_mariadb_refuse_what_their_like_do(store: sqlite3.Connection, seen: Seen) -> None:
    for what in ("a NUL in a text", "an infinity"):
        REFUSED[what].plant(store)
    assert [one.column for one in seen("timescaledb")] == ["value"]
    assert [one.table for one in seen("mariadb")] == ["metrics"]


def reflect_key(store: sqlite3.Connection, table: str) -> list[str]:
    """The primary key's columns."""
    return [row[1] for row in store.execute(f'PRAGMA table_info("{table}")') if row[5]]


@pytest.mark.parametrize("into", NAMES)
def test_what_every_target_holds_is_passed(into: str, tmp_path: Path, catalog: Catalog) -> None:
    make(tmp_path / "made.db", Made(600, 10), nasty=True)

    async def look() -> list[Problem]:
        session = await store_for(StoreUrl("sqlite", path=tmp_path / "made.db")).connect()
        try:
            return await preflight(session, catalog, into, 2**26)
        finally:
            await session.close()

    assert asyncio.run(look()) == []


def test_the_first_row_by_its_key_is_named_and_all_are_counted(store: sqlite3.Connection, seen: Seen) -> None:
    REFUSED["a NUL in a text"].plant(store)
    rows = [("b\tä", "\0", RUN), ("z", "x\0", RUN), ("a", "harmless é", RUN)]
    store.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", rows)
    store.commit()
    (problem,) = seen("postgresql")
    assert (problem.rows, problem.key) == (3, {"key": '"b\\tä"', "run_uuid": f'"{RUN}"'})
    assert problem.reason == "a NUL character, which postgresql refuses in text"


def test_a_key_that_is_no_utf8_is_shown_as_a_proof_shows_it(store: sqlite3.Connection, seen: Seen) -> None:
    REFUSED["a key that is no UTF-8"].plant(store)
    (problem,) = seen("sqlite")
    assert problem.key["key"] == '"\\udced\\udcb0\\udc80"'


def test_a_text_beyond_mysqls_packets_is_named_with_the_setting(store: sqlite3.Connection, seen: Seen) -> None:
    store.execute("INSERT INTO experiment_tags (key, value, experiment_id) VALUES ('k', ?, 0)", ("x" * 600_000,))
    store.commit()
    assert seen("mysql", 4 * 2**20) == []
    (problem,) = seen("mysql", 2**20)
    assert (problem.table, problem.column) == ("experiment_tags", "value")
    assert problem.remedy == "set max_allowed_packet of the target to more than 1048576"


def test_what_a_schema_in_the_target_refuses_is_found_by_its_catalog(
    store: sqlite3.Connection, path: Path, catalog: Catalog
) -> None:
    """A column that may not be NULL, and a unique constraint, which the source does not have."""
    store.executescript(f"INSERT INTO runs (run_uuid, name) VALUES ('{RUN}', NULL), ('f', 'twice'), ('g', 'twice')")
    target = path.with_name("target.db")
    shutil.copyfile(template(), target)
    with closing(sqlite3.connect(target)) as connection:
        connection.executescript("ALTER TABLE runs ADD COLUMN more TEXT; CREATE UNIQUE INDEX one ON runs (name)")
        connection.execute("PRAGMA writable_schema = ON")
        strict = "replace(sql, 'name VARCHAR(250)', 'name VARCHAR(250) NOT NULL')"
        connection.execute(f"UPDATE sqlite_master SET sql = {strict} WHERE name = 'runs'")
        connection.commit()

    async def look() -> list[Problem]:
        session = await store_for(StoreUrl("sqlite", path=path)).connect()
        try:
            return await check(Look(session, catalog, reflect(StoreUrl("sqlite", path=target))))
        finally:
            await session.close()

    missing, twice = asyncio.run(look())
    assert (missing.column, missing.rows, missing.key) == ("name", 1, {"run_uuid": f'"{RUN}"'})
    assert (twice.rows, twice.key, twice.table) == (2, {"name": '"twice"'}, "runs")


async def _estimated(path: Path, catalog: Catalog, into: str, size: int) -> Estimate:
    session = await store_for(StoreUrl("sqlite", path=path)).connect()
    try:
        return await estimate(session, catalog, into, size)
    finally:
        await session.close()


def test_an_estimate_counts_all_rows_and_grows_with_them(tmp_path: Path, catalog: Catalog) -> None:
    found = []
    for metrics in (1_000, 20_000):
        path = tmp_path / f"{metrics}.db"
        make(path, Made(metrics, 10))
        one = asyncio.run(_estimated(path, catalog, "mysql", path.stat().st_size))
        with closing(sqlite3.connect(path)) as store:
            assert one.rows == sum(
                store.execute(f'SELECT COUNT(*) FROM "{name}"').fetchone()[0] for name in catalog.tables
            )
        assert one.snapshot_bytes == path.stat().st_size < one.bytes
        found.append(one)
    assert found[1].seconds > found[0].seconds > 0
    assert found[1].bytes > found[0].bytes


def test_room_that_is_not_there_is_told_before_anything_is_written(tmp_path: Path) -> None:
    target = StoreUrl("sqlite", path=tmp_path / "new.db")
    assert asyncio.run(check_room(Estimate(rows=1, bytes=1, seconds=1, snapshot_bytes=1), target, tmp_path)) == []
    for needed in ({"bytes": 10**18}, {"bytes": 1, "snapshot_bytes": 10**18}):
        guess = Estimate.model_validate({"rows": 1, "seconds": 1, **needed})
        with pytest.raises(BadInput, match=r"no disk space: .* may need 1,200,000,000,000 MB, .* MB are free"):
            asyncio.run(check_room(guess, target, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_room_elsewhere_is_said_to_be_unknown(tmp_path: Path) -> None:
    target = StoreUrl("postgresql", host="db.example.com", port=5432, database="mlflow")
    guess = Estimate(rows=1, bytes=2_000_000, seconds=1, snapshot_bytes=0)
    (note,) = asyncio.run(check_room(guess, target, tmp_path))
    assert note == "free space: db.example.com can't be asked by SQL; about 2 MB are needed there"


def test_a_revision_that_the_lists_do_not_know_leaves_sizes_to_the_second_look(catalog: Catalog) -> None:
    other = Catalog(catalog.store, catalog.family, "0123456789ab", catalog.tables)
    assert expected(catalog, "mysql").tables["issues"].column("description").octets == 65_535
    assert expected(other, "mysql").tables["issues"].column("description").octets is None


def test_servers_number_and_sqlite_does_not_limit(catalog: Catalog) -> None:
    for into in SERVERS:
        assert expected(catalog, into).tables["experiments"].column("experiment_id").bits == 32
    assert expected(catalog, "sqlite").tables["experiments"].column("experiment_id").bits is None
    weight = expected(catalog, "mariadb").tables["endpoint_model_mappings"].column("weight")
    assert weight.kind is Kind.SINGLE
