"""Probes beside the load: the figures, and a schedule that waits for nobody."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from bench.availability import KINDS, Answer, Prober, figures
from bench.cell import Availability
from bench.site import Site

MS = 1_000_000
Behaviour = Callable[[str], Awaitable[int]]  # the status with which a path is answered


def answers(*ticks: tuple[bool, bool], latency_ms: int = 10) -> list[Answer]:
    return [
        Answer(number * 250 * MS, what, ok, latency_ms * MS)
        for number, tick in enumerate(ticks)
        for what, ok in zip(KINDS, tick, strict=True)
    ]


def test_a_moment_is_good_only_if_both_answered_well():
    found = figures(answers((True, True), (True, False), (False, True), (True, True)))
    assert (found.share, found.n) == (0.5, 4)
    assert (found.health.ok, found.health.n) == (3, 4)
    assert (found.search.ok, found.search.n) == (3, 4)


def test_p95_is_an_observed_latency():
    many = [Answer(number, "health", True, (number + 1) * MS) for number in range(100)]
    assert figures(many).health.p95_ms == 95.0
    assert figures(many[:1]).health.p95_ms == 1.0


def test_bad_answers_count_as_the_whole_timeout():
    quick_refusals = answers(*[(True, True)] * 18, *[(False, True)] * 2, latency_ms=1)
    assert figures(quick_refusals, timeout_s=5.0).health.p95_ms == 5000.0
    assert figures(quick_refusals, timeout_s=5.0).search.p95_ms == 1.0


def test_nothing_measured_is_no_share():
    found = figures([])
    assert found.share is None
    assert found.health.p95_ms is None
    assert found.n == found.search.n == 0


async def seen(prober: Prober, moments: int) -> None:
    """Wait for answers of so many moments."""
    while prober.result().n < moments:  # noqa: ASYNC110 (it tells nobody)
        await asyncio.sleep(0.01)


def probe(behaviour: Behaviour, **options: float) -> tuple[Availability, float, Prober]:
    """Probe a small HTTP server at five moments or more; with the seconds that stopping took."""

    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        try:
            await converse(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            length = 0
            while (header := await reader.readline()).strip():
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            await reader.readexactly(length)
            status = await behaviour(line.decode().split()[1])
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\n{{}}".encode())

    async def work() -> tuple[Availability, float, Prober]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        async with server:
            prober = Prober(Site(f"http://{host}:{port}"), every_s=0.02, **options)
            prober.start()
            await seen(prober, 5)
            before = time.perf_counter()
            await prober.stop()
            took = time.perf_counter() - before
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
            return prober.result(), took, prober

    return asyncio.run(work())


def test_probes_of_a_well_server():
    async def well(path: str) -> int:
        return 200

    found, _, prober = probe(well)
    assert found.share == 1.0
    assert found.health.n == found.search.n == found.n
    assert prober.result(begin_ns=time.perf_counter_ns()).share is None
    assert prober.result(end_ns=time.perf_counter_ns()).n == found.n


def test_a_search_that_hangs_holds_up_neither_the_health_probes_nor_the_schedule():
    async def hanging(path: str) -> int:
        if path != "/health":
            await asyncio.sleep(30)
        return 200

    found, took, _ = probe(hanging, timeout_s=0.5)
    assert found.health.ok == found.health.n
    assert (found.search.ok, found.search.p95_ms) == (0, 500.0)
    assert found.share == 0.0
    assert took < 2.0  # those under way are waited for, at most until their timeout


def test_errors_are_answers_and_never_raise():
    async def failing(path: str) -> int:
        return 200 if path == "/health" else 503

    found, _, _ = probe(failing)
    assert (found.health.ok, found.search.ok) == (found.health.n, 0)


def test_nobody_there_is_unavailable_and_never_raises():
    async def work() -> Availability:
        async with Prober(Site("http://127.0.0.1:1"), every_s=0.02) as prober:
            await seen(prober, 2)
        await prober.stop()
        return prober.result()

    found = asyncio.run(work())
    assert found.share == 0.0


@pytest.mark.parametrize("url", ["http://[", "nonsense"])
def test_a_site_that_is_none_never_raises(url):
    async def work() -> Availability:
        async with Prober(Site(url), every_s=0.02) as prober:
            await seen(prober, 1)
        return prober.result()

    assert asyncio.run(work()).share == 0.0


def test_a_cancelled_trial_stays_cancelled():
    async def work() -> None:
        async with Prober(Site("http://127.0.0.1:1"), every_s=0.02):
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            await asyncio.sleep(30)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(work())
