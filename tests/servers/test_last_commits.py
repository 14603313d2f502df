"""Whether a server still has sessions of our writers: a read-back after lost clients must wait for them."""

import asyncio
from pathlib import Path

import pytest
from stores import Park, opened

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "timescaledb", "mysql"])
def test_the_sessions_of_writers_are_counted_until_they_are_gone(name: str, park: Park, public_tmp: Path) -> None:
    url = park.fresh(name, public_tmp)

    async def body() -> list[int]:
        async with opened(url) as (store, session):
            seen = [await store.writers_left(session, pooled=False)]
            writer = await store.connect()
            seen.append(await store.writers_left(session, pooled=False))
            await writer.close()
            async with asyncio.timeout(10):
                while left := await store.writers_left(session, pooled=False):  # noqa: ASYNC110 (the server sends no event)
                    await asyncio.sleep(0.01)
            return [*seen, left]

    assert asyncio.run(body()) == [0, 0 if name == "sqlite" else 1, 0]


@pytest.mark.parametrize("name", ["postgresql", "timescaledb", "mysql"])
def test_of_pooled_sessions_only_those_at_work_are_counted(name: str, park: Park, public_tmp: Path) -> None:
    """A tracking server keeps its connections: they must not hold the read-back up once they are idle."""
    url = park.fresh(name, public_tmp)
    sleep = "SELECT SLEEP(1)" if name == "mysql" else "SELECT pg_sleep(1)"

    async def body() -> tuple[int, int]:
        async with opened(url) as (store, session), opened(url) as (_, pooled):
            await pooled.ping()
            idle = await store.writers_left(session, pooled=True)
            work = asyncio.create_task(pooled.fetch(sleep))
            async with asyncio.timeout(10):
                while not (busy := await store.writers_left(session, pooled=True)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await work
            return idle, busy

    assert asyncio.run(body()) == (0, 1)
