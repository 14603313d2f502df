"""The proxy between a load and its server with something wrong: latency, a throttle, a blackhole, resets."""

import asyncio
import random
import socket
import time
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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

from bench.faults.proxy import Impairment

BOTH = pytest.mark.parametrize("turned", [False, True], ids=["client", "server"])
MB = 1_000_000


@BOTH
def test_latency_delays_each_piece_and_not_one_after_the_other(turned: bool) -> None:
    words = [b"%02d" % number for number in range(40)]  # one after the other they would take more than three seconds

    async def work() -> None:
        async with wired() as wire:
            first, second = await wire.pair(turned)
            wire.proxy.impair(Impairment("latency", delay_ms=80))
            begin = time.monotonic()
            for word in words:
                await send(first, word)
                await asyncio.sleep(0)
            sent = time.monotonic()
            assert await receive(second, 2) == words[0]
            assert time.monotonic() - begin >= 0.08
            assert await receive(second, 78) == b"".join(words[1:])
            assert 0.08 <= time.monotonic() - sent < 1.5
            begin = time.monotonic()
            first.shutdown(socket.SHUT_WR)
            assert await rest(second) == (b"", "end")
            assert 0.08 <= time.monotonic() - begin < 1.5

    run(work())


def test_latency_lets_much_be_under_way() -> None:
    """A stop-and-wait of the proxy's usual 128 KiB would take 1.5 s here."""

    async def work() -> None:
        async with wired(Impairment("latency", delay_ms=50)) as wire:
            client, server = await wire.pair()
            sending = asyncio.ensure_future(send(client, bytes(4 * MB)))
            begin = time.monotonic()
            await receive(server, 4 * MB)
            assert 0.05 <= time.monotonic() - begin < 1.0
            await sending

    run(work())


@BOTH
def test_throttle_is_a_steady_rate_for_each_connection(turned: bool) -> None:
    rate, seconds = 100_000, 0.5

    async def carried(first: socket.socket, second: socket.socket, begin: float) -> None:
        size, got, steps = round(rate * seconds), 0, 0
        for _ in range(size // 500):
            await send(first, bytes(500))
            await asyncio.sleep(0)
        while got < size:
            got += len(await asyncio.get_running_loop().sock_recv(second, size))
            steps += 1
            assert got <= (time.monotonic() - begin + 0.02) * rate + 1
        assert time.monotonic() - begin < seconds + 1.5
        assert steps >= 5

    async def work() -> None:
        async with wired() as wire:
            pairs = [await wire.pair(turned) for _ in range(2)]
            begin = time.monotonic()
            wire.proxy.impair(Impairment("throttle", bytes_per_s=rate))
            await asyncio.gather(*(carried(*pair, begin) for pair in pairs))

    run(work())


@BOTH
@pytest.mark.parametrize("way", [NEVER, SLOW, BLACKHOLE], ids=lambda w: w.kind)
def test_mending_lets_all_that_waits_go_on_at_once(way: Impairment, turned: bool) -> None:
    async def work() -> None:
        async with wired() as wire:
            first, second = await wire.pair(turned)
            wire.proxy.impair(way)
            await send(first, b"what waits")
            first.shutdown(socket.SHUT_WR)
            if way is SLOW:
                assert await receive(second, 1) == b"w"
            assert await is_silent(second)
            wire.proxy.mend()
            assert await rest(second) == (b"what waits"[way is SLOW :], "end")
            assert wire.proxy.impairment is None

    run(work())


def test_another_impairment_takes_the_place_of_the_first() -> None:
    async def work() -> None:
        async with wired(NEVER) as wire:
            client, server = await wire.pair()
            await send(client, bytes(1_000))
            await until(lambda: wire.proxy.held > 1_000)
            begin = time.monotonic()
            wire.proxy.impair(Impairment("throttle", bytes_per_s=10_000))
            await receive(server, 1_000)
            assert time.monotonic() - begin >= 0.07
            wire.proxy.impair(RESET)
            await send(server, b"answer")
            assert await rest(client) == (b"ans", "reset")

    run(work())


@BOTH
@pytest.mark.parametrize("end", ["half-close", "close", "abort"])
def test_a_blackhole_keeps_every_end_from_the_other_side(turned: bool, end: str) -> None:
    ways = {"half-close": lambda sock: sock.shutdown(socket.SHUT_WR), "close": socket.socket.close, "abort": abort}

    async def work() -> None:
        async with wired() as wire:
            first, second = await wire.pair(turned)
            wire.proxy.impair(BLACKHOLE)
            await send(first, b"before")
            ways[end](first)
            assert await is_silent(second)
            await send(second, b"nobody hears it")
            assert await is_silent(second)
            assert wire.proxy.held == 0
            wire.proxy.mend()
            assert await rest(second) == (b"before", "reset" if end == "abort" else "end")
            if end == "close":  # what was said to it meets an RST
                await until(lambda: is_reset(second))

    run(work())


@BOTH
def test_an_abort_of_a_side_that_is_not_read_for_does_not_pass_a_blackhole(turned: bool) -> None:
    async def work() -> None:
        async with wired() as wire:
            first, second = await wire.pair(turned)
            await fill(first)
            wire.proxy.impair(BLACKHOLE)
            abort(first)
            await until(lambda: wire.proxy.held > 0)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(until(lambda: is_reset(second)), 0.1)
            wire.proxy.mend()
            await until(lambda: is_reset(second))

    run(work())


def test_a_blackhole_opens_connections_and_the_server_hears_of_them_later() -> None:
    async def work() -> None:
        async with wired(BLACKHOLE) as wire:
            stays, leaves, aborts = [await wire.client() for _ in range(3)]
            for client in (stays, leaves, aborts):
                await send(client, b"hello")
            leaves.close()
            abort(aborts)
            await until(lambda: wire.proxy.connections == 3)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wire.server(), 0.1)
            wire.proxy.mend()
            servers = [await wire.server() for _ in range(3)]
            assert [await receive(server, 5) for server in servers] == [b"hello"] * 3
            assert sorted([await rest(server) for server in servers[1:]]) == [(b"", "end"), (b"", "reset")]
            await send(servers[0], b"welcome")
            assert await receive(stays, 7) == b"welcome"

    run(work())


@pytest.mark.parametrize("size", [1, 2, 7, 20_000])
def test_reset_cuts_an_answer_in_the_middle(size: int) -> None:
    async def work() -> None:
        async with wired() as wire:
            old = await wire.pair()
            wire.proxy.impair(RESET)
            for number, (client, server) in enumerate([old, await wire.pair()], 1):
                await send(client, b"question")
                assert await receive(server, 8) == b"question"
                await send(server, bytes(size))
                assert await rest(client) == (bytes(size // 2), "reset")
                assert await rest(server) == (b"", "end")
                assert wire.proxy.cut == number
            unasked, server = await wire.pair()
            assert await is_silent(unasked)
            wire.proxy.mend()
            await send(server, b"whole")
            assert await receive(unasked, 5) == b"whole"
            assert (wire.proxy.cut, wire.proxy.connections) == (2, 3)

    run(work())


@pytest.mark.parametrize(
    ("way", "most", "turned"),
    [
        (None, 1 * MB, False),
        (None, 1 * MB, True),
        (Impairment("latency", delay_ms=2), 6 * MB, False),
        (Impairment("throttle", bytes_per_s=500 * MB), 1 * MB, False),
        (BLACKHOLE, 1 * MB, False),
    ],
    ids=["client", "server", "latency", "throttle", "blackhole"],
)
def test_memory_is_bounded_though_a_side_does_not_read(way: Impairment | None, most: int, turned: bool) -> None:
    """100 MB for a side that begins to read when the sender can't go on."""
    data, into = random.Random(1).randbytes(MB), memoryview(bytearray(1 << 18))

    async def sent(sock: socket.socket) -> int:
        crc = 0
        for _ in range(100):
            await send(sock, data)
            crc = zlib.crc32(data, crc)
        sock.shutdown(socket.SHUT_WR)
        return crc

    async def work() -> int:
        async with wired() as wire:
            first, second = await wire.pair(turned)
            if way is not None:
                wire.proxy.impair(way)
            tracemalloc.start()
            sending = asyncio.ensure_future(sent(first))
            await asyncio.wait({sending}, timeout=0.3)
            assert not sending.done()
            if way is BLACKHOLE:
                wire.proxy.mend()
            got = crc = 0
            while size := await asyncio.get_running_loop().sock_recv_into(second, into):
                got, crc = got + size, zlib.crc32(into[:size], crc)
            assert (got, crc) == (100 * MB, await sending)
            return tracemalloc.get_traced_memory()[1]

    try:
        assert run(work()) < most
    finally:
        tracemalloc.stop()


def test_single_bytes_are_counted_with_what_holding_them_costs() -> None:
    async def work() -> None:
        async with wired(NEVER) as wire:
            client, _ = await wire.pair()
            tracemalloc.start()
            for _ in range(1_000):
                await send(client, b"x")
                await asyncio.sleep(0)
            taken, _ = tracemalloc.get_traced_memory()
            assert 100 * 1_000 < taken < wire.proxy.held + 100_000

    try:
        run(work())
    finally:
        tracemalloc.stop()


_piece = st.tuples(st.sampled_from(["client", "server"]), st.integers(1, 30_000))
_way = st.one_of(
    st.none(),
    st.just(BLACKHOLE),
    st.builds(lambda ms: Impairment("latency", delay_ms=ms), st.floats(0.01, 5)),
    st.builds(lambda rate: Impairment("throttle", bytes_per_s=rate), st.integers(2 * MB, 20 * MB)),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.one_of(_piece, _way), st.integers(0, 3)), max_size=14),
    _way.filter(lambda way: way is not BLACKHOLE),
    st.randoms(use_true_random=False),
)
def test_any_bytes_in_any_pieces_arrive_the_same(
    steps: list[Any], last: Impairment | None, chance: random.Random
) -> None:
    """Both directions, with pieces, impairments and mendings in any order, some of them while the loop has not run."""

    async def work() -> None:
        async with wired() as wire:
            sides = dict(zip(("client", "server"), await wire.pair(), strict=True))
            said = {"client": b"", "server": b""}
            heard = {"client": asyncio.ensure_future(rest(sides["server"]))}
            heard["server"] = asyncio.ensure_future(rest(sides["client"]))
            for step, turns in steps:
                if isinstance(step, tuple):
                    data = chance.randbytes(step[1])
                    said[step[0]] += data
                    await send(sides[step[0]], data)
                elif step is None:
                    wire.proxy.mend()
                else:
                    wire.proxy.impair(step)
                for _ in range(turns):
                    await asyncio.sleep(0)
            wire.proxy.mend() if last is None else wire.proxy.impair(last)
            for sock in sides.values():
                sock.shutdown(socket.SHUT_WR)
            for name, data in said.items():
                assert await heard[name] == (data, "end")

    run(work())
