"""Open loops of the engine against a real PostgreSQL: every arrival is sent or skipped, whatever happens."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from time import perf_counter_ns as now
from typing import Any

import numpy as np
import psutil
import psycopg2
import pytest
from stores import ARTIFACTS, Park, opened, soon, sql

from bench import ledger, loader, prefill, samples
from bench.arrivals import Arrivals, due_times
from bench.frames import pack, read_frame
from bench.identity import TrialKey
from bench.integrity.run_audit import run_row
from bench.job import Job, ReadTargets, samples_path
from bench.outcome import Outcome
from bench.paced import PacedWriter
from bench.pacer import Due, Pacer
from bench.samples import Samples
from bench.scenario import Prefill
from bench.stores import store_for
from bench.stores.tracking import Tracking
from bench.stores.url import StoreUrl
from bench.workload import Layout, Workload

pytestmark = pytest.mark.servers
SECOND = 10**9
ONE = Workload("one", "log_metric")


@pytest.fixture
def url(fresh: Callable[[str], StoreUrl]) -> StoreUrl:
    return fresh("postgresql")


async def job_on(url: StoreUrl, folder: Path, work: Workload, writers: int, arrivals: Arrivals) -> Job:
    """A second of open loop without warm-up, on runs of its own."""
    key = TrialKey.of("open-loop", 1, 1)
    reads = None
    async with opened(url) as (store, session):
        tracking = Tracking(store, session)
        experiment = await tracking.create_experiment("open loop", ARTIFACTS, 1)
        rows = [run_row(key, *place, experiment, ARTIFACTS) for place in Layout(key, work, writers).setup_runs()]
        for row in rows:
            await tracking.create_run(row)
        if work.kind == "mixed":
            filled = TrialKey.of("open-loop", 1, 0)
            other = await tracking.create_experiment("prefill", ARTIFACTS, 1)
            await prefill.fill(tracking, filled, Prefill(runs=3, metrics=30), other, ARTIFACTS)
            reads = ReadTargets(other, filled, 3, prefill.KEYS)
    return Job(
        driver="direct", url=url, site=None, session_options={}, key=key, workload=work,
        run_ids=tuple(row.run_id for row in rows), writers=writers, part=0, first=0, block=writers, active=writers,
        experiment_id=experiment, artifact_root=ARTIFACTS, folder=str(folder), warmup_s=0.0, duration_s=1.0, count=None,
        min_writes=0, timeout_s=10.0, retry="none", reads=reads, arrivals=arrivals,
    )  # fmt: skip


@dataclass
class Took:
    """An open loop that is over; times in ns since its epoch."""

    job: Job
    begin: int
    end: int
    taken: Samples
    ticks: list[dict[str, Any]]

    @property
    def planned(self) -> list[int]:
        """When the schedule has its arrivals."""
        assert self.job.arrivals is not None
        return list(takewhile(lambda due: due < self.end, due_times(self.job.arrivals)))

    @property
    def sent(self) -> Samples:
        return self.taken.where(self.taken.outcome != Outcome.SKIPPED)

    @property
    def skipped(self) -> Samples:
        return self.taken.where(self.taken.outcome == Outcome.SKIPPED)

    def is_whole(self) -> None:
        """Every arrival of the schedule has one sample, and no writer made two operations at once."""
        assert sorted(self.taken.scheduled_ns.tolist()) == self.planned
        assert np.all(self.taken.start_ns >= self.taken.scheduled_ns)
        assert np.array_equal(self.skipped.start_ns, self.skipped.end_ns)
        assert set(self.skipped.error.tolist()) | set(self.skipped.attempts.tolist()) <= {0}
        assert self.most_in_flight <= self.job.block
        for frame in self.ticks:
            assert (frame["failed"], frame["unknown"], frame["errors"]) == (0, 0, {})

    @property
    def most_in_flight(self) -> int:
        sent = self.sent
        moments = np.concatenate([sent.start_ns, sent.end_ns])
        steps = np.repeat([1, -1], len(sent))
        order = np.lexsort((steps, moments))
        return int(np.cumsum(steps[order]).max(initial=0))


Told = Callable[[dict[str, Any]], None]
Beside = Callable[[int], Coroutine[Any, Any, None]]


async def carried_out(job: Job, told: Told = lambda _: None, beside: Beside | None = None) -> Took:
    """The load from beginning to end; ``told`` gets each tick, ``beside`` begins with the load and gets its epoch."""
    ticks: list[dict[str, Any]] = []
    end: dict[str, Any] = {}
    task: asyncio.Task[None] | None = None
    epoch = 0
    async with loader.start(job) as load:
        async for frame in load.frames():
            if frame["event"] == "ready":
                epoch = int(str(frame["epoch_ns"]))
                task = asyncio.create_task(beside(epoch)) if beside is not None else None
            elif frame["event"] == "tick":
                ticks.append(frame)
                told(frame)
            else:
                end = frame
    if task is not None:
        await task
    assert (end["event"], end["faults"]) == ("end", [])
    return took(job, epoch, end, ticks)


def took(job: Job, epoch: int, end: dict[str, Any], ticks: list[dict[str, Any]]) -> Took:
    parquet = Path(job.folder) / "samples.parquet"
    samples.compact({samples_path(Path(job.folder), 0): epoch}, parquet)
    return Took(job, end["begin_ns"], end["end_ns"], samples.load(parquet), ticks)


@contextmanager
def locked(url: StoreUrl) -> Iterator[Callable[[], None]]:
    """Nobody can write metrics until the block ends, or the function is called that it is given."""
    connection = psycopg2.connect(
        host=url.host, port=url.port, user=url.user, password=url.password, dbname=url.database
    )
    try:
        connection.cursor().execute("LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE")
        yield connection.rollback
    finally:
        connection.close()


def test_the_rate_is_held_and_the_schedule_recorded(url: StoreUrl, tmp_path: Path) -> None:
    async def body() -> Took:
        job = await job_on(url, tmp_path, ONE, 4, Arrivals("constant", 200.0, 1, offset=0.5))
        return await carried_out(replace(job, warmup_s=0.25))

    load = asyncio.run(body())
    load.is_whole()
    assert (load.begin, load.end) == (SECOND // 4, SECOND + SECOND // 4)
    assert len(load.sent) == 250  # all of them: nothing is skipped where there is no limit
    assert set(load.taken.outcome.tolist()) == {int(Outcome.OK)}
    statuses = [ledger.load(tmp_path, writer) for writer in range(4)]
    assert sum(int(np.count_nonzero(status == Outcome.OK)) for status in statuses) == 250


@pytest.mark.parametrize(
    "work",
    [
        Workload("t", "train", params=1, tags=1, keys=2, steps=3),
        Workload("m", "mixed", metrics=4, params=1, tags=1, read_share=0.5),
        pytest.param(Workload("b", "bulk", metrics=10), marks=pytest.mark.slow),
        pytest.param(Workload("l", "log_batch", metrics=5, params=2, tags=1), marks=pytest.mark.slow),
    ],
    ids=lambda work: work.kind,
)
def test_every_operation_of_a_workload_is_an_arrival(url: StoreUrl, tmp_path: Path, work: Workload) -> None:
    async def body() -> Took:
        job = await job_on(url, tmp_path, work, 3, Arrivals("poisson", 150.0, 5))
        return await carried_out(replace(job, duration_s=0.6))

    load = asyncio.run(body())
    load.is_whole()
    assert set(load.taken.outcome.tolist()) == {int(Outcome.OK)}
    kinds = {"train": 5, "mixed": 4}  # how many kinds of operation it has
    assert len(set(load.taken.operation.tolist())) == kinds.get(work.kind, 1)


def test_an_overload_skips_what_is_too_late_and_counts_all(url: StoreUrl, tmp_path: Path) -> None:
    """Two writers are offered far more than any disk takes."""
    limit = SECOND // 50

    async def body() -> Took:
        arrivals = Arrivals("poisson", 20_000.0, 3, limit_ns=limit)
        return await carried_out(await job_on(url, tmp_path, ONE, 2, arrivals))

    load = asyncio.run(body())
    load.is_whole()
    assert len(load.skipped) > len(load.taken) / 4
    assert len(load.sent) > 0
    assert np.all(load.skipped.start_ns - load.skipped.scheduled_ns > limit)
    told = {name: sum(int(tick[name]) for tick in load.ticks) for name in ("ok", "skipped")}
    assert 0 < told["skipped"] <= len(load.skipped)  # the last tick comes before the end
    assert 0 < told["ok"] <= len(load.sent)


def test_what_was_due_in_time_is_sent_after_it(url: StoreUrl, tmp_path: Path) -> None:
    """The table is locked for the whole of the measured time, and a little longer."""

    async def body() -> Took:
        job = replace(await job_on(url, tmp_path, ONE, 2, Arrivals("constant", 100.0, 1)), duration_s=0.4)
        with locked(url) as unlock:
            return await carried_out(job, lambda tick: unlock() if tick["t_ns"] > SECOND // 2 else None)

    load = asyncio.run(body())
    load.is_whole()
    assert (load.end, len(load.sent), len(load.skipped)) == (SECOND * 2 // 5, 40, 0)
    assert np.count_nonzero(load.sent.start_ns >= load.end) == 38
    waited = load.sent.start_ns - load.sent.scheduled_ns
    assert int(waited.max()) > SECOND // 3


def test_what_cannot_be_sent_while_the_load_drains_is_skipped(url: StoreUrl, tmp_path: Path) -> None:
    """The lock outlasts the drain, of four times the measured time; operations in flight end when they can."""

    async def body() -> Took:
        job = replace(await job_on(url, tmp_path, ONE, 2, Arrivals("constant", 100.0, 1)), duration_s=0.2)
        assert job.drain_s == pytest.approx(0.8)
        with locked(url) as unlock:
            return await carried_out(job, lambda tick: unlock() if tick["skipped"] else None)

    load = asyncio.run(body())
    load.is_whole()
    assert (len(load.sent), len(load.skipped)) == (2, 18)
    assert len(set(load.skipped.start_ns.tolist())) == 1
    assert int(load.skipped.start_ns[0]) >= load.end + 8 * SECOND // 10 - SECOND // 1000


def test_orders_steer_an_open_loop_and_its_owner_ends_it(url: StoreUrl, tmp_path: Path) -> None:
    """One writer, three, one again, none; then the end of stdin. Arrivals come all the time."""

    async def body() -> Took:
        job = await job_on(url, tmp_path, ONE, 3, Arrivals("poisson", 300.0, 2))
        job = replace(job, active=1, duration_s=float("inf"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.engine", stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 24
        )
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(pack({"job": job.to_json()}))
        frames: list[dict[str, Any]] = []

        async def until(enough: Callable[[int], bool]) -> None:
            """Read frames until one has ``enough`` operations that ended ok."""
            while not (frames and enough(frames[-1].get("ok", -1))):
                frame = await read_frame(stdout)
                assert frame is not None
                frames.append(frame)

        await until(lambda ok: ok > 10)
        for writers in (3, 1):
            stdin.write(pack({"writers": writers}))
            frames.append({"event": "ordered"})
            await until(lambda ok: ok > 10)
        stdin.write(pack({"writers": 0}))
        await until(lambda ok: ok == 0)  # arrivals come that nobody takes
        stdin.close()
        while (frame := await read_frame(stdout)) is not None:
            frames.append(frame)
        assert await process.wait() == 0
        assert (frames[-1]["event"], frames[-1]["faults"]) == ("end", [])
        return took(job, int(frames[0]["epoch_ns"]), frames[-1], [f for f in frames if f["event"] == "tick"])

    load = asyncio.run(body())
    load.is_whole()
    assert set(load.sent.writer.tolist()) == {0, 1, 2}
    assert len(load.skipped) > 0
    assert int(load.skipped.scheduled_ns.min()) > int(load.sent.scheduled_ns.max())


@pytest.mark.parametrize("told", ["stop", "kill"])
def test_a_writer_that_is_ended_in_its_operation_records_it(url: StoreUrl, tmp_path: Path, told: str) -> None:
    """It waits for a lock: told to stop, it ends its operation; killed, nobody knows how that ended."""
    recorded: list[tuple[int, int, int, int]] = []

    async def body() -> int:
        job = await job_on(url, tmp_path, ONE, 1, Arrivals("constant", 1000.0, 1))
        (tmp_path / "ledger").mkdir()
        with locked(url) as unlock:
            pacer = Pacer()
            writer = PacedWriter(job, 0, store_for(url), recorded.append, pacer)
            await writer.connect()
            epoch = now()
            pacer.begin(Due(Arrivals("constant", 1000.0, 1), epoch))
            task = asyncio.create_task(writer.run())
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            await soon(lambda: sql(url, waiting), "a writer that waits for the lock")
            if told == "stop":
                writer.stop()
                unlock()
                await asyncio.wait_for(task, 30)
            else:
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
            pacer.release()
            return epoch

    epoch = asyncio.run(body())
    assert len(recorded) == 1
    scheduled, start, end, word = recorded[0]
    assert scheduled == epoch <= start <= end
    assert word >> 8 & 0xFF == (Outcome.OK if told == "stop" else Outcome.INFO)


# Coordinated omission


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A server of which no process gets the processor."""
    leader = psutil.Process(pid)
    if "postgres" not in leader.name():
        pytest.skip("the server is not a process of this machine's")
    family = [leader, *leader.children(recursive=True)]
    try:
        for process in family:
            os.kill(process.pid, signal.SIGSTOP)
        yield
    finally:
        for process in family:
            os.kill(process.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("rate", "seconds", "stall", "percentile"),
    [(100.0, 3.0, 0.8, 95), pytest.param(200.0, 16.0, 2.0, 99, marks=pytest.mark.slow)],
    ids=["3s", "16s"],
)
def test_a_stall_shows_from_the_schedule_and_not_from_the_start(
    url: StoreUrl, tmp_path: Path, park: Park, rate: float, seconds: float, stall: float, percentile: int
) -> None:
    """Two writers feel it: one operation each. All that was due meanwhile feels it too, on the schedule alone."""

    async def body() -> Took:
        job = await job_on(url, tmp_path, ONE, 2, Arrivals("constant", rate, 1))

        async def stop(epoch: int) -> None:
            await asyncio.sleep((epoch + SECOND - now()) / 1e9)
            with stopped(park.server("postgresql").pid):
                await asyncio.sleep(stall)

        return await carried_out(replace(job, duration_s=seconds), beside=stop)

    load = asyncio.run(body())
    load.is_whole()
    assert len(load.sent) == round(rate * seconds)
    assert int(np.count_nonzero(load.sent.service_ms > stall * 500)) <= 2
    service, response = (float(np.percentile(of, percentile)) for of in (load.sent.service_ms, load.sent.response_ms))
    assert response >= stall * 500  # half of the stall
    assert service < response / 4
