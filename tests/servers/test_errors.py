"""Errors that real servers give, provoked on purpose: each gets its own kind, and the referee sees deadlocks too."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest
from stores import new_run, opened, soon, sql

from bench.outcome import ErrorKind
from bench.stores import store_for
from bench.stores.base import Session, Store
from bench.stores.tracking import Metric, Tracking
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers
Fresh = Callable[[str], StoreUrl]
RUN, OTHER = "a" * 32, "b" * 32
METRIC: list[Metric] = [("m", 1.0, 1, 1, False)]
SERVERS = ("postgresql", "timescaledb", "mysql")


async def kind_of(store: Store, work: Awaitable[Any]) -> ErrorKind:
    """The kind of the error that some work ends with."""
    try:
        await work
    except Exception as error:
        return store.classify(error)
    raise AssertionError("nothing was raised")


def run(work: Awaitable[Any]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(work, 60)

    return asyncio.run(limited())


def with_run(url: StoreUrl) -> StoreUrl:
    """The store, with two runs in it."""

    async def work() -> None:
        async with opened(url) as (store, session):
            for run_id in (RUN, OTHER):
                await new_run(Tracking(store, session), run_id)

    run(work())
    return url


def test_sqlite_busy(fresh: Fresh) -> None:
    url = with_run(fresh("sqlite"))

    async def work() -> tuple[ErrorKind, int]:
        async with opened(url, busy_timeout="0") as (store, session):
            tracking = Tracking(store, session)
            with closing(sqlite3.connect(url.path or "", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                kind = await kind_of(store, tracking.log_metrics(RUN, METRIC))
                await session.rollback()
                other.execute("ROLLBACK")
            await tracking.log_metrics(RUN, METRIC)
            return kind, len(sql(url, "SELECT 1 FROM metrics"))

    assert run(work()) == (ErrorKind.SQLITE_BUSY, 1)


def test_sqlite_busy_at_the_commit_is_in_doubt_no_longer(fresh: Fresh) -> None:
    """A reader holds the file when the commit wants it: BUSY, and the rows are certainly not there."""
    url = with_run(fresh("sqlite"))

    async def work() -> tuple[ErrorKind, bool]:
        async with opened(url, busy_timeout="0") as (store, session):
            tracking = Tracking(store, session)
            with closing(sqlite3.connect(url.path or "", isolation_level=None)) as other:
                other.execute("BEGIN")
                other.execute("SELECT * FROM runs").fetchone()
                kind = await kind_of(store, tracking.log_metrics(RUN, METRIC))
            in_doubt = tracking.in_doubt
            await session.rollback()
            return kind, in_doubt

    kind, in_doubt = run(work())
    assert kind is ErrorKind.SQLITE_BUSY
    assert in_doubt
    assert not kind.leaves_doubt
    assert sql(url, "SELECT 1 FROM metrics") == []


def test_sqlite_busy_snapshot(fresh: Fresh) -> None:
    url = with_run(fresh("sqlite"))
    sql(url, "PRAGMA journal_mode = WAL")

    async def work() -> ErrorKind:
        async with opened(url) as (store, session):
            await session.execute("BEGIN")
            await session.fetch("SELECT * FROM runs")
            sql(url, "UPDATE runs SET user_id = 'x'")
            kind = await kind_of(store, session.execute("UPDATE runs SET user_id = 'y'"))
            await session.rollback()
            return kind

    assert run(work()) is ErrorKind.SQLITE_BUSY_SNAPSHOT


def test_sqlite_locked(fresh: Fresh) -> None:
    """A statement still reads what the same connection wants to drop."""
    url = with_run(fresh("sqlite"))

    async def work() -> ErrorKind:
        async with opened(url) as (store, session):
            rows = session.stream("SELECT run_uuid FROM runs", size=1)
            await anext(rows)
            kind = await kind_of(store, session.execute("DROP TABLE params"))
            await rows.aclose()  # type: ignore[attr-defined]
            return kind

    assert run(work()) is ErrorKind.SQLITE_LOCKED


def test_sqlite_full(fresh: Fresh) -> None:
    url = with_run(fresh("sqlite"))

    async def work() -> ErrorKind:
        async with opened(url) as (store, session):
            await session.fetch("PRAGMA max_page_count = 1")  # SQLite takes the present size instead
            return await kind_of(store, Tracking(store, session).log_params(RUN, [("p", "x" * 500_000)]))

    assert run(work()) is ErrorKind.DISK_FULL


def test_constraints(url: StoreUrl) -> None:
    async def work() -> list[ErrorKind]:
        async with opened(url) as (store, session):
            await new_run(Tracking(store, session), RUN)
            insert = session.dialect.render("INSERT INTO params ({key}, value, run_uuid) VALUES (?, ?, ?)")
            await session.execute(insert, "p", "v", RUN)
            kinds = []
            for row in (("p", "v", RUN), ("p", "v", "c" * 32), (None, "v", RUN)):
                kinds.append(await kind_of(store, session.execute(insert, *row)))
            await session.rollback()
            return kinds

    assert run(work()) == [ErrorKind.CONSTRAINT] * 3  # a key twice, no such run, no key


def test_deadlock(fresh: Fresh) -> None:
    """Two sessions lock two runs crosswise: one is the victim, and the server's own counter grows."""
    for name in SERVERS:
        url = with_run(fresh(name))
        pg = url.store in ("postgresql", "timescaledb")
        kind, counted = run(_deadlock(url, {"deadlock_timeout": "50ms"} if pg else {}))
        assert kind is (ErrorKind.PG_40P01_DEADLOCK if pg else ErrorKind.MYSQL_1213_DEADLOCK)
        assert kind.is_deadlock
        assert counted == 1


async def _deadlock(url: StoreUrl, options: dict[str, str]) -> tuple[ErrorKind, float]:
    store = store_for(url)
    statement = "UPDATE runs SET user_id = 'x' WHERE run_uuid = '{}'"
    async with opened(url) as (_, watcher):
        before = await store.counters(watcher)
        await watcher.rollback()
        async with opened(url, **options) as (_, first), opened(url, **options) as (_, second):
            for session, run_id in ((first, RUN), (second, OTHER)):
                await session.begin()
                await session.execute(statement.format(run_id))
            ends = await asyncio.gather(
                _update_and_end(first, statement.format(OTHER)),
                _update_and_end(second, statement.format(RUN)),
                return_exceptions=True,
            )
        victims = [error for error in ends if isinstance(error, Exception)]
        assert len(victims) == 1
        counted: float | None = 0.0
        while not counted:  # PostgreSQL's sessions report when they end
            counted = (await store.counters(watcher)).since(before)["deadlocks"]
            assert counted is not None
            await watcher.rollback()
        return store.classify(victims[0]), counted


async def _update_and_end(session: Session, statement: str) -> None:
    try:
        await session.execute(statement)
        await session.commit()
    except Exception:
        await session.rollback()
        raise


def test_a_lock_that_is_not_waited_for(fresh: Fresh) -> None:
    for name in SERVERS:
        url = with_run(fresh(name))
        mine = ErrorKind.PG_55P03_LOCK_NOT_AVAILABLE if "postgres" in url.mlflow else ErrorKind.MYSQL_3572_NOWAIT
        assert run(_held(url, {}, "SELECT * FROM runs FOR UPDATE NOWAIT")) is mine


def test_a_lock_that_is_waited_for_too_long(fresh: Fresh) -> None:
    update = "UPDATE runs SET user_id = 'y'"
    found = run(_held(with_run(fresh("mysql")), {"innodb_lock_wait_timeout": "1"}, update))
    assert found is ErrorKind.MYSQL_1205_LOCK_WAIT_TIMEOUT
    url = with_run(fresh("postgresql"))
    assert run(_held(url, {"lock_timeout": "20ms"}, update)) is ErrorKind.PG_55P03_LOCK_NOT_AVAILABLE
    assert run(_held(url, {"statement_timeout": "20ms"}, update)) is ErrorKind.TIMEOUT


async def _held(url: StoreUrl, options: dict[str, str], statement: str) -> ErrorKind:
    """The kind of error that a statement meets while another session holds the rows; the session stays usable."""
    async with opened(url) as (_, holder), opened(url, **options) as (store, session):
        await holder.begin()
        await holder.execute("UPDATE runs SET user_id = 'x'")
        await session.begin()
        kind = await kind_of(store, session.execute(statement))
        await session.rollback()
        await holder.rollback()
        await Tracking(store, session).log_metrics(RUN, METRIC)
        assert kind.is_lock or kind is ErrorKind.TIMEOUT
        return kind


def test_serialization_failure(fresh: Fresh) -> None:
    url = with_run(fresh("postgresql"))

    async def work() -> ErrorKind:
        async with opened(url, default_transaction_isolation="serializable") as (store, session):
            await session.begin()
            await session.fetch("SELECT * FROM runs")
            sql(url, "UPDATE runs SET user_id = 'x'")
            kind = await kind_of(store, session.execute("UPDATE runs SET user_id = 'y'"))
            await session.rollback()
            return kind

    assert run(work()) is ErrorKind.PG_40001_SERIALIZATION


def test_a_statement_that_takes_too_long_on_mysql(fresh: Fresh) -> None:
    async def work() -> ErrorKind:
        async with opened(fresh("mysql"), max_execution_time="20") as (store, session):
            slow = "SELECT COUNT(*) FROM information_schema.columns a, information_schema.columns b"
            return await kind_of(store, session.fetch(f"{slow}, information_schema.columns c"))

    assert run(work()) is ErrorKind.TIMEOUT


@pytest.mark.parametrize("name", SERVERS)
def test_a_killed_connection(fresh: Fresh, name: str) -> None:
    """Killed at work, killed at rest, and used once more after that: always a connection error."""
    url = fresh(name)
    pg = "postgres" in url.mlflow
    me, sleep = ("pg_backend_pid()", "pg_sleep(60)") if pg else ("CONNECTION_ID()", "SLEEP(60)")
    kill = "SELECT pg_terminate_backend({})" if pg else "KILL {}"

    async def work() -> list[ErrorKind]:
        kinds = []
        async with opened(url) as (store, session):
            number = (await session.fetch(f"SELECT {me}"))[0][0]
            sleeper = asyncio.create_task(kind_of(store, session.fetch(f"SELECT {sleep}")))
            await _until_seen(url, sleep, pg)
            sql(url, kill.format(number))
            kinds.append(await sleeper)
            kinds.append(await kind_of(store, session.checkout()))
            kinds.append(await kind_of(store, session.fetch("SELECT 1")))
        async with opened(url) as (store, session):
            sql(url, kill.format((await session.fetch(f"SELECT {me}"))[0][0]))
            kinds.append(await kind_of(store, Tracking(store, session).log_metrics(RUN, METRIC)))
            kinds.append(await kind_of(store, session.commit()))
        return kinds

    assert run(work()) == [ErrorKind.CONNECTION] * 5


async def _until_seen(url: StoreUrl, statement: str, pg: bool) -> None:
    """Until the server says that it is at work on this statement."""
    listing = "SELECT query FROM pg_stat_activity" if pg else "SHOW FULL PROCESSLIST"

    def seen() -> bool:
        return any(row[-1 if pg else 7] == f"SELECT {statement}" for row in sql(url, listing))

    await soon(seen, f"{statement} is at work")


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_takes_no_more_connections(fresh: Fresh, name: str) -> None:
    url = fresh(name)
    if "postgres" in url.mlflow:
        sql(url, "CREATE ROLE guest LOGIN PASSWORD 'secret' CONNECTION LIMIT 0")
        undo = "DROP ROLE guest"
    else:
        sql(url, "CREATE USER guest IDENTIFIED BY 'secret'")
        sql(url, f"GRANT ALL ON {url.database}.* TO guest")
        before = sql(url, "SELECT @@max_connections")[0][0]
        sql(url, "SET GLOBAL max_connections = 1")
        undo = f"SET GLOBAL max_connections = {before}"
    guest = StoreUrl(url.store, None, url.host, url.port, "guest", "secret", url.database)
    try:
        with closing(_Holder(url)):
            assert run(kind_of(store_for(guest), store_for(guest).connect())) is ErrorKind.POOL_EXHAUSTED
    finally:
        sql(url, undo)
        if "postgres" not in url.mlflow:
            sql(url, "DROP USER guest")


class _Holder:
    """A connection that takes the one place there is."""

    def __init__(self, url: StoreUrl) -> None:
        self._runner = asyncio.Runner()
        self._session = self._runner.run(store_for(url).connect())

    def close(self) -> None:
        """Give the place back."""
        self._runner.run(self._session.close())
        self._runner.close()


@pytest.mark.parametrize("name", SERVERS)
def test_no_login_and_no_server(fresh: Fresh, name: str) -> None:
    url = fresh(name)
    wrong = StoreUrl(url.store, None, url.host, url.port, url.user, "wrong", url.database)
    nobody = StoreUrl(url.store, None, url.host, 1, url.user, url.password, url.database)
    refused = run(kind_of(store_for(wrong), store_for(wrong).connect()))
    assert refused in (ErrorKind.OTHER, ErrorKind.CONNECTION)
    assert run(kind_of(store_for(nobody), store_for(nobody).connect())) is ErrorKind.CONNECTION


def test_giving_up_is_a_timeout(url: StoreUrl) -> None:
    assert store_for(url).classify(TimeoutError()) is ErrorKind.TIMEOUT
    assert store_for(url).classify(ValueError("ours")) is ErrorKind.OTHER
