"""The proxy between a load and its server while nothing is impaired, and how every kind of end is passed on."""

import asyncio
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvloop
from wires import (
    BLACKHOLE,
    NEVER,
    RESET,
    SLOW,
    abort,
    fill,
    is_reset,
    is_silent,
    receive,
    rest,
    run,
    send,
    until,
    wired,
)

from bench.errors import BadInput
from bench.faults import proxy as proxy_module
from bench.faults.proxy import Impairment, Proxy
from bench.faults.proxy_link import _Lane
from bench.faults.proxy_sockets import AbortWatch
from bench.servers import places

BOTH = pytest.mark.parametrize("turned", [False, True], ids=["client", "server"])
WAYS = pytest.mark.parametrize(
    "way",
    [None, Impairment("latency", delay_ms=2), Impairment("throttle", bytes_per_s=5_000)],
    ids=lambda w: w and w.kind,
)


def test_passes_both_ways_and_counts() -> None:
    async def work() -> None:
        async with wired() as wire:
            assert wire.proxy.port in places.PORTS
            for number in (1, 2):
                client, server = await wire.pair()
                await send(client, b"question")
                assert await receive(server, 8) == b"question"
                await send(server, b"answer")
                assert await receive(client, 6) == b"answer"
                assert (wire.proxy.connections, wire.proxy.cut, wire.proxy.held) == (number, 0, 0)

    run(work())


def test_sends_at_once() -> None:
    """TCP_NODELAY on both sides: small pieces don't wait for acknowledgements."""

    async def work() -> None:
        async with wired() as wire:
            await wire.pair()
            (link,) = wire.proxy._network.links
            for side in (link.client, link.server):
                assert side is not None
                assert side.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(work())


@BOTH
@WAYS
def test_a_half_close_is_passed_on(way: Impairment | None, turned: bool) -> None:
    async def work() -> None:
        async with wired(way) as wire:
            first, second = await wire.pair(turned)
            await send(first, b"all I say")
            first.shutdown(socket.SHUT_WR)
            assert await rest(second) == (b"all I say", "end")
            await send(second, b"but I go on")
            assert await receive(first, 11) == b"but I go on"
            second.close()
            assert await rest(first) == (b"", "end")
            assert not wire.proxy._network.links

    run(work())


@BOTH
@WAYS
def test_an_abort_is_passed_on_behind_what_was_sent(way: Impairment | None, turned: bool) -> None:
    async def work() -> None:
        async with wired(way) as wire:
            first, second = await wire.pair(turned)
            await send(first, b"last words")
            abort(first)
            assert await rest(second) == (b"last words", "reset")
            assert not wire.proxy._network.links

    run(work())


@BOTH
@WAYS
def test_an_abort_is_told_to_a_side_that_does_not_read(way: Impairment | None, turned: bool) -> None:
    if way is not None and way.kind == "throttle":
        way = Impairment(
            "throttle", bytes_per_s=10**10
        )  # with a rate, the side that does not read is not full for hours

    async def work() -> None:
        async with wired(way) as wire:
            first, second = await wire.pair(turned)
            assert await fill(first) > 0
            assert wire.proxy.held > 0
            abort(first)
            await until(lambda: is_reset(second))
            assert not wire.proxy._network.links

    run(work())


@BOTH
@WAYS
def test_an_abort_after_a_half_close_is_passed_on(way: Impairment | None, turned: bool) -> None:
    """Nobody writes to the side that is aborted, and its end has been read already."""

    async def work() -> None:
        async with wired(way) as wire:
            first, second = await wire.pair(turned)
            first.shutdown(socket.SHUT_WR)
            assert await rest(second) == (b"", "end")
            abort(first)
            await until(lambda: is_reset(second))
            assert not wire.proxy._network.links

    run(work())


@WAYS
def test_the_last_words_of_a_server_are_heard_though_the_client_goes_on(way: Impairment | None) -> None:
    """The server ends with a message; what the client sends meanwhile meets an RST, and that must not overtake it."""

    async def work() -> None:
        async with wired(way) as wire:
            client, server = await wire.pair()
            await send(server, b"FATAL")
            server.close()
            for _ in range(3):
                await until(lambda: True)
                try:
                    await send(client, b"question")
                except ConnectionError:  # as it would be without a proxy
                    break
            assert (await rest(client))[0] == b"FATAL"

    run(work())


def test_a_server_may_speak_and_abort_before_the_proxy_knows_that_it_is_connected() -> None:
    async def work() -> None:
        async with wired() as wire:
            client = await wire.client()
            server = await wire.server()
            (link,) = wire.proxy._network.links
            assert not link.lanes
            await send(server, b"too many connections")
            abort(server)
            assert await rest(client) == (b"too many connections", "reset")

    run(work())


def test_what_goes_to_an_aborted_side_is_an_abort_for_who_sends_it() -> None:
    """The server has closed, and its end was read; that it hears nothing more is only seen by sending twice."""

    async def work() -> None:
        async with wired() as wire:
            client, server = await wire.pair()
            server.close()
            assert await rest(client) == (b"", "end")
            wire.proxy.impair(NEVER)
            for number in (1, 2):
                await send(client, b"x")
                await until(lambda number=number: wire.proxy.held > number * 512)
            wire.proxy.mend()  # sends both at once, and the answer to the first is an RST
            await until(lambda: is_reset(client))
            assert not wire.proxy._network.links

    run(work())


def test_an_abort_that_sending_finds_does_not_overtake_what_was_said_before() -> None:
    async def work() -> None:
        async with wired(NEVER) as wire:
            client, server = await wire.pair()
            await send(client, b"question")
            await until(lambda: wire.proxy.held > 512)
            wire.proxy.impair(BLACKHOLE)
            await send(server, b"FATAL")
            abort(server)
            wire.proxy.mend()
            assert await rest(client) == (b"FATAL", "reset")

    run(work())


def test_an_abort_that_sending_finds_is_told_to_a_side_that_does_not_read() -> None:
    async def work() -> None:
        async with wired() as wire:
            client, server = await wire.pair()
            await fill(server)
            (link,) = wire.proxy._network.links
            abort(server)
            client.send(b"question")
            link.lanes[0]._readable()  # before the loop can look at anything
            await until(lambda: is_reset(client))

    run(work())


def counted(monkeypatch: pytest.MonkeyPatch, of: type, name: str) -> list[None]:
    """One element for each call of a method."""
    calls: list[None] = []
    method = getattr(of, name)

    def counting(self: object) -> None:
        calls.append(None)
        method(self)

    monkeypatch.setattr(of, name, counting)
    return calls


def test_an_end_that_is_not_read_yet_is_not_looked_at_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = counted(monkeypatch, AbortWatch, "_seen")

    async def work() -> None:
        async with wired() as wire:
            client, server = await wire.pair()
            server.shutdown(socket.SHUT_WR)
            assert await rest(client) == (b"", "end")
            while wire.proxy.held < 128 * 1024:
                await send(client, bytes(1 << 13))
                await asyncio.sleep(0)
            client.shutdown(socket.SHUT_WR)
            (link,) = wire.proxy._network.links
            await until(lambda: is_reset(link.client.sock))  # closed both ways, with something to read
            looks.clear()
            await asyncio.sleep(0.1)
            assert len(looks) <= 2

    run(work())


def test_what_is_said_to_a_lost_side_is_not_looked_at_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = counted(monkeypatch, _Lane, "_readable")

    async def work() -> None:
        async with wired(NEVER) as wire:
            client, server = await wire.pair()
            abort(server)
            await until(lambda: wire.proxy.held > 0)
            await send(client, b"question")
            client.shutdown(socket.SHUT_WR)
            reads.clear()
            await asyncio.sleep(0.1)
            assert len(reads) <= 2
            wire.proxy.mend()
            assert await rest(client) == (b"", "reset")

    run(work())


@contextmanager
def refusing() -> Iterator[tuple[str, int]]:
    """An address that is taken, and that nobody listens at."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        yield silent.getsockname()


def test_a_server_that_refuses_resets_the_client() -> None:
    async def work() -> None:
        with refusing() as address:
            proxy = await Proxy.start(*address)
            for impairment in (NEVER, SLOW, RESET):
                with socket.create_connection(("127.0.0.1", proxy.port)) as client:
                    client.setblocking(False)
                    assert await rest(client) == (b"", "reset")
                proxy.impair(impairment)
            assert (proxy.connections, proxy.cut) == (3, 0)
            await proxy.close()

    run(work())


@pytest.mark.parametrize("asked", [False, True])
def test_a_refusal_does_not_pass_a_blackhole(asked: bool) -> None:
    """Neither one that the server would give, nor one that it has given."""

    async def work() -> None:
        with refusing() as address:
            proxy = await Proxy.start(*address)
            if not asked:
                proxy.impair(BLACKHOLE)
            with socket.create_connection(("127.0.0.1", proxy.port)) as client:
                client.setblocking(False)
                if asked:
                    proxy._accept()
                    proxy.impair(BLACKHOLE)
                await until(lambda: proxy.connections == 1)
                assert await is_silent(client)
                proxy.mend()
                assert await rest(client) == (b"", "reset")
            await proxy.close()

    run(work())


def test_every_address_of_a_host_is_tried() -> None:
    async def work() -> None:
        async with wired() as wire:
            with refusing() as nobody:
                there = wire.proxy._network.addresses
                there[:0] = [(socket.AF_INET, ("255.255.255.255", 1)), (socket.AF_INET, nobody)]
                client, server = await wire.pair()
            await send(client, b"hello")
            assert await receive(server, 5) == b"hello"

    run(work())


@pytest.mark.parametrize("way", [None, NEVER, SLOW, BLACKHOLE, RESET], ids=lambda w: w and w.kind)
def test_closing_leaves_nothing_and_aborts_both_sides(way: Impairment | None) -> None:
    """`run` looks for tasks, timers and sockets."""

    async def work() -> None:
        async with wired() as wire:
            pairs = [await wire.pair(), await wire.pair(turned=True)]
            if way is not None:
                wire.proxy.impair(way)
            late = await wire.client()
            for first, _ in pairs[: 1 if way is RESET else 2]:
                await send(first, b"question")
            await until(lambda: wire.proxy.connections == 3)
            await wire.proxy.close()
            await wire.proxy.close()
            for sock in (late, *pairs[0], *pairs[1]):
                assert (await rest(sock))[1] == "reset"
            with pytest.raises(ConnectionRefusedError):
                await wire.client()
            wire.proxy.mend()

    run(work())


def test_a_port_that_another_process_took_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = places.free_port(chooser=random.Random(1))
        ports = iter([taken.getsockname()[1]] * 3 + [port])
        monkeypatch.setattr(places, "free_port", lambda: next(ports))
        listener = proxy_module._listen()
        assert listener.getsockname()[1] == port
        listener.close()
        monkeypatch.setattr(places, "free_port", lambda: taken.getsockname()[1])
        with pytest.raises(BadInput):
            proxy_module._listen()


def test_uvloop_is_refused() -> None:
    with pytest.raises(RuntimeError, match="uvloop"):
        uvloop.run(Proxy.start("127.0.0.1", 1))


def test_an_impairment_without_its_figure_is_none() -> None:
    for wrong in ({"kind": "latency"}, {"kind": "throttle"}, {"kind": "latency", "delay_ms": float("nan")}):
        with pytest.raises(ValueError, match=str(wrong["kind"])):
            Impairment(**wrong)  # type: ignore[arg-type]
