"""MLflow's operations on every real store, read back bit for bit; what the stores say of themselves."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from stores import ARTIFACTS, Park, new_run, opened, rows_of, sql

from bench.errors import BadInput
from bench.identity import LARGEST
from bench.stores import class_of, schema
from bench.stores.base import Session, Store
from bench.stores.tracking import Metric, RunGone, RunRow, Tracking
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers
RUN, OTHER = "a" * 32, "b" * 32
TEXT = "żółć 試験 🜚 \\ ' \" % ? {key} $1"
VALUES = (0.1 + 0.2, 5e-324, LARGEST, -LARGEST, 2.2250738585072014e-308, 1 / 3, -1.0, 123456789.123456789, -0.0)
METRICS = "SELECT {key}, value, timestamp, step, is_nan FROM metrics ORDER BY {key}, step, timestamp, value"
LATEST = "SELECT {key}, value, timestamp, step, is_nan FROM latest_metrics ORDER BY {key}"


def on(url: StoreUrl, work: Callable[[Tracking], Awaitable[Any]]) -> Any:
    """Do some work on a session of its own."""

    async def whole() -> Any:
        async with opened(url) as (store, session):
            return await work(Tracking(store, session))

    return asyncio.run(whole())


def bits(value: float) -> bytes:
    return struct.pack(">d", value)


def exact(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(key, bits(value), timestamp, step, bool(is_nan)) for key, value, timestamp, step, is_nan in rows]


def test_metrics_keep_every_bit(url: StoreUrl) -> None:
    batch: list[Metric] = [("batch", value, 10 + n, n, False) for n, value in enumerate(VALUES)]
    single: list[Metric] = [("single", value, 10 + n, n, False) for n, value in enumerate(VALUES)]
    nan: Metric = ("nan", 0.0, 9_007_199_254_740_993, -7, True)

    async def work(tracking: Tracking) -> list[Any]:
        await new_run(tracking, RUN)
        await tracking.log_metrics(RUN, [*batch, nan])
        for metric in single:
            await tracking.log_metrics(RUN, [metric])
        return [await rows_of(tracking.session, METRICS), await rows_of(tracking.session, LATEST)]

    stored, latest = on(url, work)
    zero = 0.0 if url.store == "sqlite" else -0.0  # SQLite keeps no sign of zero
    expected = [(key, zero if value == 0 and key != "nan" else value, *rest) for key, value, *rest in (*batch, nan)]
    assert exact(stored) == exact([*expected, *((("single", *row[1:])) for row in expected[:-1])])
    assert exact(latest) == exact([expected[len(VALUES) - 1], nan, ("single", *expected[len(VALUES) - 1][1:])])


@pytest.mark.parametrize("keys", [1, 3, 700])
def test_latest_metrics_follow_step_then_time_then_value(fresh: Callable[[str], StoreUrl], keys: int) -> None:
    async def work(tracking: Tracking) -> Any:
        await new_run(tracking, RUN)
        names = [f"k{n:03d}" for n in range(keys)]
        for value, timestamp, step in ((5.0, 50, 5), (9.0, 90, 4), (4.0, 50, 5), (6.0, 50, 5), (1.0, 51, 5)):
            await tracking.log_metrics(RUN, [(key, value, timestamp, step, False) for key in names])
        return await rows_of(tracking.session, LATEST)

    for name in ("sqlite", "postgresql") if keys == 700 else ("sqlite", "postgresql", "timescaledb", "mysql"):
        assert on(fresh(name), work) == [(f"k{n:03d}", 1.0, 51, 5, False) for n in range(keys)]


def test_a_duplicate_key_costs_only_the_duplicate(url: StoreUrl) -> None:
    first: list[Metric] = [("a", 1.0, 1, 1, False), ("b", 1.0, 1, 1, False)]
    second: list[Metric] = [("a", 1.0, 1, 1, False), ("a", 2.0, 2, 2, False), ("c", 0.0, 1, 1, True)]

    async def work(tracking: Tracking) -> Any:
        await new_run(tracking, RUN)
        await tracking.log_metrics(RUN, first)
        await tracking.log_metrics(RUN, second)
        await tracking.log_metrics(RUN, second)  # nothing is missing
        await tracking.log_metrics(RUN, first[:1])  # the statement of a single metric
        assert not tracking.in_doubt
        return [await rows_of(tracking.session, METRICS), await rows_of(tracking.session, LATEST)]

    stored, latest = on(url, work)
    assert stored == [("a", 1.0, 1, 1, 0), ("a", 2.0, 2, 2, 0), ("b", 1.0, 1, 1, 0), ("c", 0.0, 1, 1, 1)]
    assert latest == [("a", 2.0, 2, 2, 0), ("b", 1.0, 1, 1, 0), ("c", 0.0, 1, 1, 1)]


def test_params_and_tags_keep_every_character(url: StoreUrl) -> None:
    async def work(tracking: Tracking) -> Any:
        await new_run(tracking, RUN)
        await tracking.log_param(RUN, "one", TEXT)
        await tracking.log_param(RUN, "one", TEXT)  # the same again is no error
        await tracking.log_params(RUN, [("one", TEXT), ("two 🜚", ""), ("three", "x" * 6000)])
        await tracking.set_tag(RUN, "t", "before")
        await tracking.set_tag(RUN, "t", TEXT)
        await tracking.set_tags(RUN, [("t", "after"), ("u 🜚", TEXT), ("empty", "")])
        params = await rows_of(tracking.session, "SELECT {key}, value FROM params")
        return dict(params), dict(await rows_of(tracking.session, "SELECT {key}, value FROM tags"))

    params, tags = on(url, work)
    assert params == {"one": TEXT, "two 🜚": "", "three": "x" * 6000}
    assert tags == {"mlflow.runName": f"run {RUN}", "t": "after", "u 🜚": TEXT, "empty": ""}


def test_runs_and_reads(url: StoreUrl) -> None:
    async def work(tracking: Tracking) -> Any:
        experiment_id = await tracking.create_experiment("żółć 🜚", ARTIFACTS, 77)
        for run_id, start in ((RUN, 5), (OTHER, 9_007_199_254_740_993)):
            await tracking.create_run(RunRow(run_id, TEXT, "tester", start, experiment_id, f"{ARTIFACTS}/{run_id}"))
        await tracking.log_metrics(RUN, [("m", float(n), n, n, False) for n in range(7)])
        await tracking.log_metrics(RUN, [("n", 1.0, 1, 1, False)])
        await tracking.peek_run(RUN)
        await tracking.finish_run(RUN, 1_234_567_890_123)
        reads = (
            await tracking.get_run(RUN),
            await tracking.get_run(OTHER),
            await tracking.search_runs(experiment_id, 1),
            await tracking.search_runs(experiment_id, 100),
            await tracking.metric_history(RUN, "m"),
            await tracking.metric_history(RUN, "absent"),
        )
        columns = "run_uuid, name, user_id, status, start_time, end_time, lifecycle_stage, experiment_id"
        return experiment_id, reads, await rows_of(tracking.session, f"SELECT {columns} FROM runs ORDER BY run_uuid")

    experiment_id, reads, runs = on(url, work)
    assert reads == (2, 0, 2, 2, 7, 0)  # search_runs asks for one more than the page, as MLflow does
    assert runs == [
        (RUN, TEXT, "tester", "FINISHED", 5, 1_234_567_890_123, "active", experiment_id),
        (OTHER, TEXT, "tester", "RUNNING", 9_007_199_254_740_993, None, "active", experiment_id),
    ]


def test_a_run_that_is_gone_takes_nothing(url: StoreUrl) -> None:
    async def work(tracking: Tracking) -> None:
        await new_run(tracking, RUN)
        await new_run(tracking, OTHER)
        sql(url, f"UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = '{RUN}'")
        for run_id in (RUN, "c" * 32):
            for refused in (
                tracking.log_metrics(run_id, [("m", 1.0, 1, 1, False)]),
                tracking.log_param(run_id, "p", "v"),
                tracking.log_params(run_id, [("p", "v")]),
                tracking.set_tag(run_id, "t", "v"),
                tracking.set_tags(run_id, [("t", "v")]),
                tracking.finish_run(run_id, 1),
                tracking.peek_run(run_id),
                tracking.get_run(run_id),
            ):
                with pytest.raises(RunGone):
                    await refused
        await tracking.log_metrics(OTHER, [("m", 1.0, 1, 1, False)])  # the session is clean

    on(url, work)
    assert len(sql(url, "SELECT 1 FROM metrics")) == 1
    assert sql(url, "SELECT 1 FROM params") == []


def test_bulk_stream_and_rebuilt_latest(url: StoreUrl) -> None:
    rows: list[Metric] = [(f"k{n % 2}", float(n), 5, n // 2, n == 3) for n in range(2500)]

    async def work(tracking: Tracking) -> Any:
        session = tracking.session
        await new_run(tracking, RUN)
        await tracking.bulk_metrics(RUN, rows[:1])
        await tracking.bulk_metrics(RUN, rows[1:])
        await tracking.rebuild_latest(RUN[:12])
        await tracking.rebuild_latest(RUN[:12])
        statement = session.dialect.render(f"SELECT {{key}}, value FROM metrics WHERE run_uuid = ? AND {'1 = 1'}")
        sizes, values = [], set()
        async for part in session.stream(statement, RUN, size=1000):
            sizes.append(len(part))
            values |= {row[1] for row in part}
        counts = await tracking.store.count(session, ("metrics", "latest_metrics", "params"))
        return sizes, values, counts, await rows_of(session, LATEST)

    sizes, values, counts, latest = on(url, work)
    assert sizes == [1000, 1000, 500]
    assert values == {float(n) for n in range(2500)}
    assert counts == {"metrics": 2500, "latest_metrics": 2, "params": 0}
    assert latest == [("k0", 2498.0, 5, 1249, False), ("k1", 2499.0, 5, 1249, False)]


def test_what_a_store_says_of_itself(url: StoreUrl, revisions: schema.Revisions) -> None:
    product = {"sqlite": "SQLite 3", "postgresql": "PostgreSQL ", "timescaledb": "PostgreSQL ", "mysql": "MySQL "}

    async def work(tracking: Tracking) -> Any:
        store, session = tracking.store, tracking.session
        await store.settle(session)
        found = await schema.inspect(store, session)
        settings = await store.settings(session)
        return await store.version(session), found, settings, await store.gauges(session)

    version, found, settings, gauges = on(url, work)
    assert version.startswith(product[url.store]) or url.store == "mariadb"
    assert ("TimescaleDB 2" in version) == (url.store == "timescaledb")
    assert found.content is schema.Content.MLFLOW
    assert not revisions.tables - found.tables
    assert len(found.tables) >= 60
    assert found.revision == revisions.head == "dc11669786a5"
    durability = class_of(url.store)(url).durability(settings)
    assert durability.ok == (url.store != "sqlite"), durability.claim  # MLflow's SQLite does not sync the directory
    assert durability.crash is None
    if url.store == "sqlite":
        assert settings == settings | {"journal_mode": "delete", "synchronous": "2", "busy_timeout": "20000"}
        assert gauges == {}
    elif "postgres" in url.mlflow:
        assert settings == settings | {"fsync": "on", "synchronous_commit": "on", "jit": "off"}
    else:
        assert settings == settings | {"innodb_flush_log_at_trx_commit": "1", "sync_binlog": "1"}


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_connections_and_gauges(fresh: Callable[[str], StoreUrl], name: str) -> None:
    """``max_connections`` counts what is left for us; the gauges see our own writers and who waits for a lock."""
    url = fresh(name)

    async def look(store: Store, session: Session) -> tuple[int, dict[str, float]]:
        free = await store.max_connections(session)
        gauges = await store.gauges(session)
        await session.rollback()
        assert free is not None
        return free, gauges

    async def work() -> None:
        async with opened(url) as (store, session):
            await new_run(Tracking(store, session), RUN)
            free, gauges = await look(store, session)
            assert 200 < free <= 300
            async with opened(url) as (_, holder), opened(url) as (_, waiter):
                less, more = await look(store, session)
                assert less == free - 2
                assert more["connections"] == gauges["connections"] + 2
                assert more["lock_waiters"] == 0
                statement = "UPDATE runs SET user_id = 'x'"
                await holder.begin()
                await holder.execute(statement)
                await waiter.begin()
                waiting = asyncio.create_task(waiter.execute(statement))
                while (await look(store, session))[1]["lock_waiters"] == 0:
                    assert not waiting.done()
                await holder.rollback()
                await waiting
                await waiter.rollback()

    asyncio.run(asyncio.wait_for(work(), 30))


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_the_referee_counts_commits_and_rollbacks(fresh: Callable[[str], StoreUrl], name: str) -> None:
    url = fresh(name)

    async def work(tracking: Tracking) -> dict[str, float | None]:
        before = await tracking.store.counters(tracking.session)
        await tracking.session.rollback()
        async with opened(url) as (store, session):
            writer = Tracking(store, session)
            await new_run(writer, RUN)
            for n in range(20):
                await writer.log_metrics(RUN, [("m", 1.0, 1, n, False)])
        after: dict[str, float | None] = {}
        while (after.get("commits") or 0) < 20:  # PostgreSQL's sessions report when they end
            after = (await tracking.store.counters(tracking.session)).since(before)
            await tracking.session.rollback()
        return after

    found = on(url, lambda tracking: asyncio.wait_for(work(tracking), 30))
    assert found["deadlocks"] == 0
    assert set(found) == {"deadlocks", "lock_waits", "commits", "rollbacks"}


def test_sqlites_referee_counts_write_transactions(fresh: Callable[[str], StoreUrl]) -> None:
    async def work(tracking: Tracking) -> dict[str, float | None]:
        await new_run(tracking, RUN)
        before = await tracking.store.counters(tracking.session)
        for n in range(3):
            await tracking.log_metrics(RUN, [("m", 1.0, 1, n, False)])
        return (await tracking.store.counters(tracking.session)).since(before)

    assert on(fresh("sqlite"), work) == {"commits": 3, "rollbacks": None, "deadlocks": None, "lock_waits": None}


def test_session_settings_reach_the_server(fresh: Callable[[str], StoreUrl]) -> None:
    async def setting(name: str, option: dict[str, str]) -> str:
        async with opened(fresh(name), **option) as (store, session):
            return (await store.settings(session))[next(iter(option))]

    assert asyncio.run(setting("sqlite", {"busy_timeout": "123"})) == "123"
    assert asyncio.run(setting("mysql", {"innodb_lock_wait_timeout": "7"})) == "7"
    assert asyncio.run(setting("postgresql", {"synchronous_commit": "off"})) == "off"


def test_a_database_without_the_schema(park: Park, tmp_path: Any) -> None:
    """What another connection makes meanwhile is seen at once, whatever snapshot the session had."""

    async def looks(url: StoreUrl) -> list[schema.Found]:
        async with opened(url) as (store, session):
            first = await schema.inspect(store, session)
            sql(url, "CREATE TABLE theirs (id INT)")
            return [first, await schema.inspect(store, session)]

    for name in ("sqlite", "postgresql", "mysql"):
        url = park.empty(name, tmp_path)
        first, found = asyncio.run(looks(url))
        assert first.content is schema.Content.EMPTY
        assert (found.content, found.tables) == (schema.Content.FOREIGN, {"theirs"})
        with pytest.raises(BadInput, match=r"holds 1 tables that are not MLflow's"):
            schema.check(url, found, schema.Revisions("head", frozenset({"head"}), frozenset()))
