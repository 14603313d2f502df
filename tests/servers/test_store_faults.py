"""What is done to a store on purpose, and the store's own check of its structure, on every real store."""

import asyncio
import multiprocessing
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from stores import Park, new_run, opened, soon, sql

from bench.errors import BadInput
from bench.faults.spec import NETWORK, TARGETS, Kind
from bench.outcome import ErrorKind
from bench.servers import places
from bench.stores import store_for
from bench.stores.base import Session, Store
from bench.stores.tracking import Metric, Tracking
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers
Fresh = Callable[[str], StoreUrl]
RUN, OTHER, FREE = "a" * 32, "b" * 32, "c" * 32
SERVERS = ("postgresql", "timescaledb", "mysql")


def run(work: Any) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(work, 60)

    return asyncio.run(limited())


def metric(step: int) -> list[Metric]:
    return [("m", float(step), step, step, False)]


@asynccontextmanager
async def prepared(url: StoreUrl, **options: str) -> AsyncIterator[tuple[Store, Session, Tracking]]:
    """A store with three runs, one of them without any metric yet; a foreign session and a writer."""
    async with opened(url, **options) as (store, session), opened(url, **options) as (_, writers):
        tracking = Tracking(store, writers)
        for run_id in (RUN, OTHER, FREE):
            await new_run(tracking, run_id)
        await tracking.log_metrics(RUN, metric(1))
        await tracking.log_metrics(FREE, metric(1))
        yield store, session, tracking


async def ending(store: Store, work: Any) -> ErrorKind:
    """How some work ends: `ErrorKind.NONE`, or the kind of its error."""
    try:
        await work
    except Exception as error:
        return store.classify(error)
    return ErrorKind.NONE


@pytest.mark.parametrize("name", SERVERS)
def test_all_other_sessions_of_the_database_are_ended(name: str, fresh: Fresh, park: Park, tmp_path: Path) -> None:
    """And no session of another database on the same server."""
    url, elsewhere = fresh(name), park.empty(name, tmp_path)

    async def work() -> tuple[int, list[ErrorKind], int]:
        async with opened(url) as (store, session), opened(elsewhere) as (_, far):
            async with opened(url) as (_, idle), opened(url) as (_, open_), opened(url) as (_, busy):
                await open_.begin()
                await open_.fetch("SELECT 1 FROM experiments")
                sleeping = "SELECT SLEEP(60)" if store.name in ("mysql", "mariadb") else "SELECT pg_sleep(60)"
                asleep = asyncio.create_task(ending(store, busy.fetch(sleeping)))
                await soon(lambda: _seen(url, sleeping), "the third session is at work")
                ended = await store.end_sessions(session)
                kinds = [await asleep, await ending(store, idle.ping()), await ending(store, open_.ping())]
            await far.ping()
            await session.ping()
            while await store.end_sessions(session):  # the last of them may be leaving still
                pass
            return ended, kinds, await store.end_sessions(session)

    assert run(work()) == (3, [ErrorKind.CONNECTION] * 3, 0)


def _seen(url: StoreUrl, statement: str) -> bool:
    pg = "postgres" in url.mlflow
    rows = sql(url, "SELECT query FROM pg_stat_activity" if pg else "SHOW FULL PROCESSLIST")
    return any(row[0 if pg else 7] == statement for row in rows)


def test_sqlite_has_no_sessions_to_end(fresh: Fresh) -> None:
    async def work() -> int:
        async with opened(fresh("sqlite")) as (store, session), opened(fresh("sqlite")):
            return await store.end_sessions(session)

    assert run(work()) == 0


def test_held_runs_take_no_metric_until_they_are_let_go(url: StoreUrl) -> None:
    """Neither one that has metrics nor one that has none; another run does, but for SQLite, which has one lock."""

    async def work() -> list[ErrorKind]:
        async with prepared(url) as (store, holder, tracking), opened(url) as (_, second):
            await store.hold(holder, [RUN, OTHER])
            if url.store == "sqlite":  # nobody tells who waits for the file
                async with opened(url, busy_timeout="0") as (_, hasty):
                    free = Tracking(store, hasty).log_metrics(FREE, metric(2))
                    assert await ending(store, free) is ErrorKind.SQLITE_BUSY
            else:
                await asyncio.wait_for(tracking.log_metrics(FREE, metric(2)), 10)
            waiting = [
                asyncio.create_task(tracking.log_metrics(RUN, metric(2))),
                asyncio.create_task(Tracking(store, second).log_metrics(OTHER, metric(2))),
            ]
            if url.store != "sqlite":
                async with opened(url) as (_, watcher):
                    while (await store.gauges(watcher))["lock_waiters"] < 2:
                        await watcher.rollback()
            assert not any(task.done() for task in waiting)
            await holder.rollback()
            return [await ending(store, task) for task in waiting]

    assert run(work()) == [ErrorKind.NONE] * 2
    assert len(sql(url, f"SELECT 1 FROM metrics WHERE run_uuid IN ('{RUN}', '{OTHER}') AND step = 2")) == 2


def test_the_whole_sqlite_file_is_held_as_soon_as_its_writers_let_it(fresh: Fresh) -> None:
    """Another's transaction is waited for; afterwards nobody reads or writes."""
    url = fresh("sqlite")

    async def work() -> list[ErrorKind]:
        async with prepared(url) as (store, holder, tracking):
            await tracking.session.execute("UPDATE runs SET user_id = 'x'")
            holding = asyncio.create_task(store.hold(holder, [RUN]))
            async with opened(url, busy_timeout="0") as (_, hasty):
                await tracking.session.commit()
                await holding
                look = "SELECT * FROM runs"
                kinds = [await ending(store, hasty.fetch(look))]
                await holder.rollback()
                return [*kinds, await ending(store, hasty.fetch(look))]

    assert run(work()) == [ErrorKind.SQLITE_BUSY, ErrorKind.NONE]


@pytest.mark.parametrize("name", SERVERS)
def test_a_collision_with_a_writer_is_a_deadlock(name: str, fresh: Fresh) -> None:
    """The writer has its metric in and wants the latest metrics next: one of both is the victim."""
    url = fresh(name)
    pg = "postgres" in url.mlflow
    before = "SELECT * FROM latest_metrics", "SELECT * FROM runs ORDER BY run_uuid"

    async def work() -> list[ErrorKind]:
        async with prepared(url, **({"deadlock_timeout": "50ms"} if pg else {})) as (store, session, tracking):
            rows = [sql(url, look) for look in before]
            writer, render = tracking.session, tracking.session.dialect.render
            await writer.begin()
            await writer.execute(
                render(
                    "INSERT INTO metrics ({key}, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)"
                ),
                *metric(2)[0],
                RUN,
            )
            storm = asyncio.create_task(ending(store, store.collide(session, [RUN])))
            async with opened(url) as (_, watcher):
                while not (await store.gauges(watcher))["lock_waiters"]:
                    assert not storm.done()
                    await watcher.rollback()
            lock = render("SELECT value FROM latest_metrics WHERE run_uuid = ? FOR UPDATE")
            writers = await ending(store, writer.fetch(lock, RUN))
            await writer.rollback()
            kinds = [writers, await storm]
            assert (
                await ending(store, store.collide(session, [RUN, OTHER])) is ErrorKind.NONE
            )  # now without anybody else
            assert [sql(url, look) for look in before] == rows
            await Tracking(store, session).log_metrics(RUN, metric(3))  # its session is clean, and nothing is locked
            return kinds

    kinds = run(work())
    assert sorted(kind.is_deadlock for kind in kinds) == [False, True]
    assert ErrorKind.NONE in kinds


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_a_collision_on_sqlite_is_busy_at_once(fresh: Fresh, journal: str) -> None:
    url = fresh("sqlite")
    sql(url, f"PRAGMA journal_mode = {journal}")

    async def work() -> tuple[ErrorKind, ErrorKind]:
        async with prepared(url) as (store, session, tracking):
            await tracking.session.execute("UPDATE runs SET user_id = 'x'")
            kind = await asyncio.wait_for(ending(store, store.collide(session, [RUN])), 5)  # the busy timeout is 20 s
            await tracking.session.commit()
            return kind, await ending(store, store.collide(session, [RUN]))

    assert run(work()) == (ErrorKind.SQLITE_BUSY, ErrorKind.NONE)
    assert sql(url, "SELECT DISTINCT user_id FROM runs") == [("x",)]


@pytest.mark.parametrize("name", SERVERS)
def test_a_read_only_server_refuses_writers_old_and_new(name: str, fresh: Fresh) -> None:
    url = fresh(name)
    mysql = name == "mysql"

    async def work() -> None:
        async with prepared(url) as (store, session, tracking), opened(url) as (_, halfway):
            if store.why_not("read_only", "database") is not None:
                pytest.skip("a MariaDB")
            await halfway.begin()
            await halfway.execute(f"UPDATE runs SET user_id = 'halfway' WHERE run_uuid = '{OTHER}'")
            try:
                await store.set_read_only(session, True)
                assert await ending(store, tracking.log_metrics(RUN, metric(2))) is ErrorKind.READ_ONLY
                await tracking.session.rollback()
                async with opened(url) as (_, late):
                    assert await ending(store, Tracking(store, late).set_tag(RUN, "t", "v")) is ErrorKind.READ_ONLY
                assert await tracking.get_run(RUN) == 1
                assert await ending(store, halfway.commit()) is (ErrorKind.READ_ONLY if mysql else ErrorKind.NONE)
                assert await ending(store, store.set_read_only(session, True)) is ErrorKind.NONE  # again: no harm
            finally:
                await store.set_read_only(session, False)
            await tracking.log_metrics(RUN, metric(3))
            async with opened(url) as (_, late):
                await Tracking(store, late).set_tag(RUN, "t", "v")

    run(work())
    assert sorted(sql(url, f"SELECT step FROM metrics WHERE run_uuid = '{RUN}'")) == [(1,), (3,)]
    # what a commit had not reached before is not there: a refusal is a certain failure
    assert sql(url, f"SELECT user_id FROM runs WHERE run_uuid = '{OTHER}'") == [("tester" if mysql else "halfway",)]
    assert not ErrorKind.READ_ONLY.leaves_doubt


def test_who_can_not_be_made_read_only_says_so(fresh: Fresh) -> None:
    mariadb = store_for(StoreUrl("mariadb"))
    with pytest.raises(BadInput, match="accounts with all privileges"):
        run(mariadb.set_read_only(None, True))  # type: ignore[arg-type]
    url = fresh("sqlite")
    sql(url, "PRAGMA journal_mode = WAL")

    async def work() -> None:
        async with opened(url) as (store, session):
            await store.set_read_only(session, True)

    with pytest.raises(BadInput, match="journal mode wal"):
        run(work())
    if os.geteuid() == 0:
        sql(url, "PRAGMA journal_mode = DELETE")
        with pytest.raises(BadInput, match="we are root"):
            run(work())


def test_a_read_only_sqlite_file_refuses_writers(fresh: Fresh, public_tmp: Path) -> None:
    """In a process of its own, as another user where we are root."""
    folder = public_tmp / "read-only"
    folder.mkdir()
    url = StoreUrl("sqlite", path=folder / "store.db")
    assert url.path is not None
    url.path.write_bytes((fresh("sqlite").path or Path()).read_bytes())
    owner = places.server_user()
    if owner is not None:
        for path in (folder, url.path):
            os.chown(path, *owner)
    modes = [path.stat().st_mode for path in (folder, url.path)]
    child = multiprocessing.get_context("fork").Process(target=_read_only_sqlite, args=(url, owner))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert [path.stat().st_mode for path in (folder, url.path)] == modes
    assert sorted(sql(url, f"SELECT step FROM metrics WHERE run_uuid = '{RUN}'")) == [(1,), (3,)]


def _read_only_sqlite(url: StoreUrl, owner: tuple[int, int] | None) -> None:
    if owner is not None:
        os.setgroups([])
        os.setgid(owner[1])
        os.setuid(owner[0])

    async def work() -> None:
        async with prepared(url) as (store, session, tracking):
            assert store.why_not("read_only", "database") is None
            await store.set_read_only(session, True)
            assert await ending(store, tracking.log_metrics(RUN, metric(2))) is ErrorKind.READ_ONLY
            await tracking.session.rollback()
            async with opened(url) as (_, late):
                assert await ending(store, Tracking(store, late).set_tag(RUN, "t", "v")) is ErrorKind.READ_ONLY
            assert await tracking.get_run(RUN) == 1
            await store.set_read_only(session, False)
            await tracking.log_metrics(RUN, metric(3))

    run(work())


def test_which_faults_a_store_can_not_have() -> None:
    serverless = {"kill", "stop", "freeze", *NETWORK, "disconnect", "connections"}
    kinds = get_args(Kind)
    for name in SERVERS:
        store = store_for(StoreUrl(name))
        assert not [kind for kind in kinds for target in TARGETS[kind] if store.why_not(kind, target)]
    assert [kind for kind in kinds if store_for(StoreUrl("mariadb")).why_not(kind, "database")] == ["read_only"]
    sqlite = store_for(StoreUrl("sqlite", path=Path("x")))
    found = {kind for kind in kinds if "database" in TARGETS[kind] and sqlite.why_not(kind, "database")}
    assert found - {"read_only"} == serverless
    assert ("read_only" in found) == (os.geteuid() == 0)
    assert not [kind for kind in kinds for target in ("tracking", "load") if sqlite.why_not(kind, target)]
    assert "no server" in (sqlite.why_not("freeze", "database") or "")
