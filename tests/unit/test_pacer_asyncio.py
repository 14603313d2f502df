"""The pacer for asyncio: no arrival is lost, whoever takes it, skips it or is stopped while it waits."""

import asyncio
import math
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import uvloop
from http_scripted import job
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.arrivals import Arrivals, due_times
from bench.engine import Engine
from bench.frames import pack
from bench.pacer import Alarm, Due, Pacer, Seat
from bench.site import Site
from bench.stores.url import parse
from bench.workload import Workload

MS = 10**6
now = time.perf_counter_ns


def planned(arrivals: Arrivals, epoch: int, closing: int) -> list[int]:
    return list(takewhile(lambda due: due < closing, (epoch + due for due in due_times(arrivals))))


class Log:
    """What writers got and skipped, in the order in which it happened."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.by: list[int] = []
        self.skipped: list[int] = []
        self.in_flight = self.most = 0

    def seat(self) -> Seat:
        return Seat(self.skip)

    def skip(self, due_ns: int, at_ns: int) -> None:
        assert at_ns >= due_ns
        self.skipped.append(due_ns)

    async def writer(self, pacer: Pacer, seat: Seat, name: int = 0, work: Callable[[], Any] = lambda: None) -> None:
        while (due := await pacer.next(seat)) is not None:
            assert due <= now()
            self.taken.append(due)
            self.by.append(name)
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
            if (waiting := work()) is not None:
                await waiting
            self.in_flight -= 1


Run = Callable[[Any], Any]


def begun(due: Due) -> Pacer:
    pacer = Pacer()
    pacer.begin(due)
    return pacer


def idle() -> Pacer:
    """A pacer of which the first arrival is a day away."""
    return begun(Due(Arrivals("constant", 1e-5, 1, offset=0.9), now()))


def wake(pacer: Pacer, due: Due) -> None:
    """From now on these are the arrivals; whoever waits gets those that are due."""
    pacer.begin(due)
    pacer._serve()


@pytest.fixture(params=["uvloop", "asyncio", "uvloop without alarm", "asyncio without alarm"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    if "without" in request.param:
        monkeypatch.setattr(Alarm, "available", staticmethod(lambda: False))
    elif not Alarm.available():
        pytest.skip("no timerfd here")
    return uvloop.run if "uvloop" in request.param else asyncio.run


def test_writers_share_the_arrivals_and_end_at_the_closing_time(run: Run) -> None:
    arrivals = Arrivals("poisson", 2_000.0, 7)
    log = Log()

    async def body() -> tuple[int, int, int]:
        epoch = now()
        closing = epoch + 60 * MS
        pacer = begun(Due(arrivals, epoch, closing))
        await asyncio.gather(*(log.writer(pacer, log.seat(), n, lambda: asyncio.sleep(0)) for n in range(5)))
        ended = now()
        pacer.release()
        return epoch, closing, ended

    epoch, closing, ended = run(body())
    assert sorted(log.taken) == planned(arrivals, epoch, closing)
    assert (log.skipped, log.in_flight) == ([], 0)
    assert log.most <= 5
    assert ended >= closing  # also those that had nothing left to do


def test_the_first_free_writer_is_the_first_served(run: Run) -> None:
    """Also if another comes when their arrivals are due, and the event loop has not yet said so."""
    arrivals = Arrivals("constant", 1000.0, 1)
    log = Log()

    async def body() -> None:
        epoch = now() + MS
        pacer = begun(Due(arrivals, epoch))
        first = [asyncio.create_task(pacer.next(log.seat())) for _ in range(3)]
        await asyncio.sleep(0)
        while now() < epoch + 5 * MS:
            pass
        late = await pacer.next(log.seat())
        assert [*[await task for task in first], late] == planned(arrivals, epoch, epoch + 4 * MS)
        pacer.release()

    run(body())


def test_a_backlog_is_taken_without_the_event_loop(run: Run) -> None:
    log = Log()

    async def body() -> int:
        pacer = begun(Due(Arrivals("constant", 1e6, 1), now() - MS, now()))
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await log.writer(pacer, log.seat())
        counting.cancel()
        pacer.release()
        return turns

    assert run(body()) == 0
    assert len(log.taken) >= 1000


def test_what_is_left_after_the_drain_is_skipped_and_nobody_waits_for_ever(run: Run) -> None:
    """One writer hangs, all others wait; the owner had said no end."""
    arrivals = Arrivals("constant", 1000.0, 1)
    log = Log()

    async def body() -> tuple[int, int]:
        hanging = asyncio.Event()
        epoch = now()
        pacer = begun(Due(arrivals, epoch))
        slow = asyncio.create_task(log.writer(pacer, log.seat(), 0, hanging.wait))
        await asyncio.sleep(0)
        while now() < epoch + 5 * MS:
            pass
        closing = now()
        pacer.close(closing)
        pacer.abandon(log.skip)
        await log.writer(pacer, log.seat())
        hanging.set()
        await slow
        pacer.release()
        return epoch, closing

    epoch, closing = run(body())
    assert log.taken == [epoch]
    assert log.taken + log.skipped == planned(arrivals, epoch, closing)


def test_the_end_wakes_those_who_wait(run: Run) -> None:
    log = Log()

    async def body() -> None:
        pacer = idle()
        waiting = [asyncio.create_task(log.writer(pacer, log.seat())) for _ in range(3)]
        await asyncio.sleep(0)
        pacer.close(now())
        await asyncio.wait_for(asyncio.gather(*waiting), 30)
        pacer.release()

    run(body())
    assert (log.taken, log.skipped) == ([], [])


def test_a_seat_that_is_left_waits_no_longer_and_costs_no_arrival(run: Run) -> None:
    arrivals = Arrivals("constant", 500.0, 1)
    log = Log()

    async def body() -> tuple[int, int]:
        pacer = idle()
        seats = [log.seat() for _ in range(4)]
        tasks = [asyncio.create_task(log.writer(pacer, seat, n)) for n, seat in enumerate(seats)]
        await asyncio.sleep(0)
        for n in (0, 2):
            seats[n].leave()
        await asyncio.wait_for(asyncio.gather(tasks[0], tasks[2]), 30)
        epoch = now()
        wake(pacer, Due(arrivals, epoch, epoch + 20 * MS))
        assert await pacer.next(seats[0]) is None  # it has left for good
        await asyncio.gather(*tasks)
        pacer.release()
        return epoch, epoch + 20 * MS

    epoch, closing = run(body())
    assert sorted(log.taken) == planned(arrivals, epoch, closing)
    assert set(log.by) <= {1, 3}


@pytest.mark.parametrize("told", ["leave", "cancel"])
def test_an_arrival_that_was_handed_over_is_carried_out_or_skipped(run: Run, told: str) -> None:
    """Its writer is stopped, or killed, after it was woken and before it runs."""
    log = Log()

    async def body() -> int:
        pacer = idle()
        seat = log.seat()
        task = asyncio.create_task(log.writer(pacer, seat))
        await asyncio.sleep(0)
        epoch = now()
        wake(pacer, Due(Arrivals("constant", 1.0, 1), epoch, epoch + 1))
        seat.leave() if told == "leave" else task.cancel()
        await asyncio.wait([task])
        pacer.release()
        return epoch

    due = run(body())
    assert (log.taken, log.skipped) == (([due], []) if told == "leave" else ([], [due]))


def test_a_waiting_writer_that_is_cancelled_costs_no_arrival(run: Run) -> None:
    arrivals = Arrivals("constant", 500.0, 1)
    log = Log()

    async def body() -> list[int]:
        pacer = idle()
        tasks = [asyncio.create_task(log.writer(pacer, log.seat(), n)) for n in range(2)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        epoch = now()
        wake(pacer, Due(arrivals, epoch, epoch + 10 * MS))
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [True, False]
        pacer.release()
        return planned(arrivals, epoch, epoch + 10 * MS)

    assert run(body()) == log.taken
    assert set(log.by) == {1}


def test_whoever_comes_late_skips_what_is_too_late(run: Run) -> None:
    arrivals = Arrivals("constant", 1000.0, 1, limit_ns=0)
    log = Log()

    async def body() -> tuple[int, int]:
        epoch = now() - 10 * MS
        closing = epoch + 10 * MS
        pacer = begun(Due(arrivals, epoch, closing))
        await log.writer(pacer, log.seat())
        pacer.release()
        return epoch, closing

    epoch, closing = run(body())
    assert (log.taken, log.skipped) == ([], planned(arrivals, epoch, closing))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["constant", "poisson"]),
    st.floats(200, 20_000),
    st.integers(1, 6),
    st.none() | st.integers(0, 3 * MS),
    st.integers(0, 100),
    st.sets(st.integers(0, 5), max_size=3),
)
def test_nothing_is_lost_whoever_is_stopped(
    kind: str, rate: float, writers: int, limit: int | None, seed: int, stopped: set[int]
) -> None:
    """Some writers are stopped in the middle, and the load is abandoned soon after its end."""
    arrivals = Arrivals("poisson" if kind == "poisson" else "constant", rate, seed, limit)
    log = Log()

    async def body() -> tuple[int, int]:
        epoch = now()
        closing = epoch + 8 * MS
        pacer = begun(Due(arrivals, epoch, closing))
        seats = [log.seat() for _ in range(writers)]
        tasks = [
            asyncio.create_task(log.writer(pacer, seat, n, lambda: asyncio.sleep(0.001)))
            for n, seat in enumerate(seats)
        ]
        await asyncio.sleep(0.004)
        for n in stopped & set(range(writers)):
            seats[n].leave()
        await asyncio.wait(tasks, timeout=0.006)
        while now() < closing:
            pass
        pacer.abandon(log.skip)
        await asyncio.gather(*tasks)
        pacer.release()
        return epoch, closing

    epoch, closing = uvloop.run(body())
    assert sorted(log.taken + log.skipped) == planned(arrivals, epoch, closing)
    assert log.most <= writers


def test_an_engine_forgets_what_was_due_before_its_owner_had_all_writers(tmp_path: Path) -> None:
    """It begins without any, as under Locust, and its owner says when all are there."""
    url = parse(f"sqlite:///{tmp_path / 'none.db'}")
    arrivals = Arrivals("constant", 1000.0, 1)
    wanted = job(tmp_path, Workload("m", "log_metric"), Site(""), url=url, arrivals=arrivals, duration_s=math.inf)

    async def body() -> None:
        orders = asyncio.StreamReader()
        engine = Engine(wanted, orders)
        assert engine._pacer is not None
        epoch = now() - 10**9
        engine._pacer.begin(Due(arrivals, epoch))
        orders.feed_data(pack({"open_ns": epoch + 900 * MS}))
        orders.feed_eof()
        await engine._obey()
        assert engine._faults() == []
        assert engine._pacer.due.next_ns == epoch + 900 * MS
        engine._pacer.release()
        engine._recorder.close()

    uvloop.run(body())


def test_an_idle_pacer_sleeps(run: Run) -> None:
    """While writers wait for a distant arrival, nothing wakes them, or the pacer."""
    log = Log()

    class Counted(Pacer):
        served = 0

        def _serve(self) -> None:
            self.served += 1
            super()._serve()

    async def body() -> tuple[int, int]:
        pacer = Counted()
        pacer.begin(Due(Arrivals("constant", 0.001, 1, offset=0.5), now()))
        task = asyncio.create_task(log.writer(pacer, log.seat()))
        for _ in range(20):
            await asyncio.sleep(0.001)
        idle = pacer.served
        pacer.close(now())
        await task
        pacer.release()
        return idle, pacer.served

    assert run(body()) == (0, 1)
    assert log.taken == []
