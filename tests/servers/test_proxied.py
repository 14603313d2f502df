"""Direct writers' sessions through the proxy of network faults: what their drivers make of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from stores import new_run, rows_of

from bench.faults.proxy import Impairment, Proxy
from bench.outcome import ErrorKind
from bench.stores import store_for
from bench.stores.base import Session, Store
from bench.stores.tracking import Tracking
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers
RUN = "a" * 32


@pytest.fixture(params=["postgresql", "mysql"])
def url(request: pytest.FixtureRequest, fresh: Callable[[str], StoreUrl]) -> StoreUrl:
    """A fresh store of each driver."""
    return fresh(request.param)


@asynccontextmanager
async def proxied(url: StoreUrl) -> AsyncIterator[tuple[Proxy, Store]]:
    """A proxy before the server, and the store as seen through it."""
    proxy = await Proxy.start(url.host, url.port)
    try:
        yield proxy, store_for(replace(url, host="127.0.0.1", port=proxy.port))
    finally:
        await proxy.close()


def run(work: Awaitable[Any]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(work, 60)

    return asyncio.run(limited())


async def kind_of(store: Store, work: Awaitable[Any]) -> ErrorKind:
    """The kind of the error that some work ends with."""
    try:
        await work
    except Exception as error:
        return store.classify(error)
    raise AssertionError("nothing was raised")


async def log(store: Store, session: Session, step: int) -> None:
    """One commit: a metric at this step."""
    await Tracking(store, session).log_metrics(RUN, [("m", float(step), step, step, False)])


async def steps(session: Session) -> list[int]:
    return [row[0] for row in await rows_of(session, "SELECT step FROM metrics ORDER BY step")]


def test_a_session_works_as_without_it(url: StoreUrl) -> None:
    async def work() -> None:
        async with proxied(url) as (proxy, store):
            session = await store.connect()
            await new_run(Tracking(store, session), RUN)
            await log(store, session, 1)
            big = "x" * 3_000_000  # more than is read or held at once, there and back
            text = "CHAR" if url.store in ("mysql", "mariadb") else "TEXT"
            assert (await session.fetch(session.dialect.render(f"SELECT CAST(? AS {text})"), big))[0][0] == big
            assert await steps(session) == [1]
            await session.close()
            assert (proxy.connections, proxy.cut) == (1, 0)

    run(work())


def test_a_reset_in_mid_answer_is_a_connection_error(url: StoreUrl) -> None:
    """At work, at rest, and at the login of every new session; the commit behind the lost answer is in doubt."""

    async def work() -> None:
        async with proxied(url) as (proxy, store):
            session, resting = await store.connect(), await store.connect()
            await new_run(Tracking(store, session), RUN)
            proxy.impair(Impairment("reset"))
            kinds = [await kind_of(store, work) for work in (log(store, session, 1), resting.checkout())]
            kinds += [await kind_of(store, store.connect()) for _ in range(2)]
            kinds.append(await kind_of(store, session.fetch("SELECT 1")))
            assert kinds == [ErrorKind.CONNECTION] * 5
            assert proxy.cut == 4
            for lost in (session, resting):
                await lost.close()
            proxy.mend()
            session = await store.connect()
            await log(store, session, 2)
            assert await steps(session) == [2]
            await session.close()

    run(work())


def test_a_blackhole_stalls_a_session_and_then_it_goes_on(url: StoreUrl) -> None:
    async def work() -> None:
        async with proxied(url) as (proxy, store):
            session = await store.connect()
            await new_run(Tracking(store, session), RUN)
            proxy.impair(Impairment("blackhole"))
            works: list[asyncio.Future[Any]] = [
                asyncio.ensure_future(log(store, session, 1)),
                asyncio.ensure_future(store.connect()),
            ]
            done, _ = await asyncio.wait(works, timeout=0.3)
            assert not done
            proxy.mend()
            await works[0]
            other = await works[1]
            assert await steps(other) == [1]
            await other.close()
            await session.close()

    run(work())


def test_a_session_that_was_given_up_in_a_blackhole_ends_at_the_server_after_it(url: StoreUrl) -> None:
    async def work() -> None:
        direct = store_for(url)
        watcher = await direct.connect()
        async with proxied(url) as (proxy, store):
            session = await store.connect()
            assert await direct.writers_left(watcher, pooled=False) == 1
            proxy.impair(Impairment("blackhole"))
            assert await kind_of(store, asyncio.wait_for(session.fetch("SELECT 1"), 0.1)) is ErrorKind.TIMEOUT
            await session.close()
            assert await direct.writers_left(watcher, pooled=False) == 1
            proxy.mend()
            while await direct.writers_left(watcher, pooled=False):
                await watcher.rollback()
        await watcher.close()

    run(work())


def test_latency_is_paid_for_each_round_trip(url: StoreUrl) -> None:
    async def work() -> None:
        async with proxied(url) as (proxy, store):
            session = await store.connect()
            await session.fetch("SELECT 1")
            proxy.impair(Impairment("latency", delay_ms=20))
            begin = time.monotonic()
            for _ in range(3):
                await session.fetch("SELECT 1")
            assert 3 * 0.04 <= time.monotonic() - begin < 3
            proxy.mend()
            await session.close()

    run(work())
