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
            seen = [await store.writers_left(session)]
            writer = await store.connect()
            seen.append(await store.writers_left(session))
            await writer.close()
            async with asyncio.timeout(10):
                while left := await store.writers_left(session):  # noqa: ASYNC110 (the server sends no event)
                    await asyncio.sleep(0.01)
            return [*seen, left]

    assert asyncio.run(body()) == [0, 0 if name == "sqlite" else 1, 0]
