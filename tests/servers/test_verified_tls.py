"""Verified TLS: our own drivers and MLflow's go on only if the server proves that it is the one in the URL."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
import uvloop
from secured import Secured, secured
from stores import Park, sql

from bench.faults.proxy import Proxy
from bench.outcome import ErrorKind
from bench.stores import store_for
from bench.stores.url import StoreUrl, parse

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def postgresql(public_tmp: Path) -> Iterator[Secured]:
    with secured("postgresql", public_tmp) as server:
        yield server


@pytest.fixture(scope="module")
def mysql(public_tmp: Path) -> Iterator[Secured]:
    with secured("mysql", public_tmp) as server:
        yield server


@pytest.fixture(params=["postgresql", pytest.param("mysql", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> Secured:
    found: Secured = request.getfixturevalue(request.param)
    return found


async def protocol(url: StoreUrl) -> str:
    """What our own driver's session is encrypted with."""
    try:
        session = await store_for(url).connect()
    except Exception:
        await _transports_closed()
        raise
    try:
        if url.store == "postgresql":
            return str((await session.fetch("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))[0][0])
        return str((await session.fetch("SHOW SESSION STATUS LIKE 'Ssl_version'"))[0][1])
    finally:
        await session.close()


async def _transports_closed() -> None:
    """A driver that gives up leaves TLS to say goodbye, which takes the loop a moment."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    async with asyncio.timeout(5):
        while len(loop._selector.get_map()) > 1:  # type: ignore[attr-defined]  # noqa: ASYNC110 (its own pipe stays)
            await asyncio.sleep(0.01)  # no event tells it


def mlflows(url: StoreUrl) -> str:
    """What MLflow's driver's session is encrypted with."""
    engine = sa.create_engine(url.mlflow, poolclass=sa.NullPool)
    with engine.connect() as connection:
        if url.store == "postgresql":
            return str(connection.scalar(sa.text("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")))
        return str(connection.execute(sa.text("SHOW SESSION STATUS LIKE 'Ssl_version'")).one()[1])


def test_both_drivers_verify_the_right_server_on_both_event_loops(server: Secured) -> None:
    assert asyncio.run(protocol(server.url())) == "TLSv1.3"
    assert uvloop.run(protocol(server.url())) == "TLSv1.3"  # the direct driver's loop
    assert mlflows(server.url()) == "TLSv1.3"


def test_many_rows_pass_through_tls(server: Secured) -> None:
    """More than one record, in both directions."""

    async def there_and_back() -> list[int]:
        session = await store_for(server.url()).connect()
        try:
            rows = await session.fetch(session.dialect.render("SELECT ?"), "x" * 3_000_000)
            return [len(row[0]) for row in rows]
        finally:
            await session.close()

    assert uvloop.run(there_and_back()) == [3_000_000]


@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_neither_driver_logs_in_to_another_server(server: Secured, wrong: str) -> None:
    url = server.url(ca=server.other_ca) if wrong == "authority" else server.url(host="localhost")
    with pytest.raises(Exception, match=r"(?i)certificate verify failed") as caught:
        asyncio.run(protocol(url))
    if server.server.kind == "mysql":
        assert store_for(url).classify(caught.value) is ErrorKind.CONNECTION
    with pytest.raises(sa.exc.OperationalError, match=r"(?i)certificate"):
        mlflows(url)


def test_neither_driver_goes_on_without_tls(server: Secured, plain: Callable[[str], StoreUrl]) -> None:
    """Somebody on the way may pose as a server that has none: nothing may be sent to it."""
    url = plain(server.server.kind)
    asked = replace(url, options=server.url().options)
    with pytest.raises(Exception, match=r"(?i)TLS|SSL"):
        asyncio.run(protocol(asked))
    with pytest.raises(sa.exc.OperationalError, match=r"(?i)ssl"):
        mlflows(asked)


@pytest.fixture
def plain(park: Park, tmp_path: Path) -> Callable[[str], StoreUrl]:
    """A server of the same kind without TLS."""
    return lambda kind: park.empty(kind, tmp_path)


def test_verification_holds_through_a_proxy_of_the_same_name(server: Secured) -> None:
    """Our proxy stands on 127.0.0.1 too, and passes what it can't read."""

    async def through() -> str:
        proxy = await Proxy.start("127.0.0.1", server.server.port)
        try:
            return await protocol(replace(server.url(), port=proxy.port))
        finally:
            await proxy.close()

    assert asyncio.run(through()) == "TLSv1.3"


def test_the_password_is_right_and_the_session_works(server: Secured) -> None:
    with pytest.raises(Exception, match=r"(?i)password|denied"):
        asyncio.run(protocol(replace(server.url(), password="another")))
    if server.server.kind == "postgresql":
        assert sql(parse(server.server.url("store"), "postgresql"), "SELECT 1") == [(1,)]
