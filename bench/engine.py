"""The engine: direct writers in a process of their own, asyncio on uvloop, which never imports Locust.

It takes orders on stdin and gives frames on stdout (`bench.frames`). Started by `bench.loader`, or by a Locust worker.
"""

import asyncio
import gc
import math
import os
import sys
import time
from array import array
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from bench import wall_clock
from bench.frames import TICK_S, pack, read_frame, summary
from bench.job import PATIENCE, Job
from bench.paced import PacedWriter
from bench.pacer import Due, Pacer, skipped_code
from bench.samples import Recorder
from bench.stores import store_for
from bench.writers import Writer, now

_LAG_PROBE_S = 0.02


class Engine:
    """Runs one job."""

    def __init__(self, job: Job, orders: asyncio.StreamReader) -> None:
        self._job = job
        self._orders = orders
        assert job.url is not None
        self._store = store_for(job.url)
        folder = Path(job.folder)
        (folder / "ledger").mkdir(parents=True, exist_ok=True)
        self._recorder = Recorder(job.samples)
        self._writers: list[Writer] = []
        self._tasks: dict[asyncio.Task[None], Writer] = {}
        self._lags = array("f")  # one in 20 ms, also of a load that lasts for days
        self._over = asyncio.Event()
        self._together = asyncio.Barrier(job.active) if job.workload.lockstep else None
        self._writes = 0  # ok writes since the measured time began
        self._refused: list[str] = []  # orders that could not be carried out
        self._pacer = None if job.arrivals is None else Pacer()

    async def run(self) -> None:
        """Connect, warm up, measure, stop; frames tell the owner how it goes."""
        try:
            await self._more_writers(self._job.active)
        except Exception as error:
            kind = self._store.classify(error)
            self._send({"event": "failed", "error": kind.label, "message": f"{type(error).__name__}: {error}"})
            return
        orders = asyncio.create_task(self._obey())  # not before: an order starts writers
        try:
            await self._load()
        finally:
            orders.cancel()

    async def _load(self) -> None:
        epoch = now()
        if self._pacer is not None:
            self._pacer.begin(self._arrivals(epoch))
        self._send({"event": "ready", "epoch_ns": epoch})
        for writer in self._writers:
            self._start(writer)
        background = [asyncio.create_task(self._tick(epoch)), asyncio.create_task(self._probe_lag())]
        finished = asyncio.create_task(self._all_done())
        over = asyncio.create_task(self._over.wait())
        ends = {finished, over, *background}
        figures = await self._window(epoch, ends)
        if self._pacer is not None:
            # without a time of its own the owner's order is the regular end
            await self._work_off(self._pacer, ends - {over} if math.isinf(self._job.duration_s) else ends)
        for writer in self._writers:
            writer.stop()
        await finished
        if self._pacer is not None:
            self._pacer.release()
        broken = [task for task in background if task.done()]
        for task in (over, *background):
            task.cancel()
        for task in broken:
            task.result()  # raises what ended it: without ticks there are no time limits
        self._recorder.close()
        retried: Counter[str] = sum((writer.retried for writer in self._writers), Counter())
        refused: Counter[str] = sum((writer.refused for writer in self._writers), Counter())
        self._send(
            {
                "event": "end",
                **figures,
                "retried": dict(retried),
                "refused": dict(refused),
                "reconnects": sum(writer.reconnects for writer in self._writers),
                "faults": self._faults(),
            }
        )

    async def _window(self, epoch: int, ends: set[asyncio.Task[Any]]) -> dict[str, object]:
        """Warm up, then measure until the time is over, or one of ``ends`` is done; what the generator used.

        CPU is that of the event loop's thread: SQLite works in threads of this process, and is not the generator.
        """
        opening = epoch + round(self._job.warmup_s * 1e9)
        await self._until(opening, ends)
        del self._lags[:]
        for writer in self._writers:
            writer.retried.clear()
        self._drain()
        self._writes = 0
        begun, cpu = now(), time.thread_time()
        if self._pacer is None:
            await self._closed_loop(begun, ends)
        else:
            await self._until(self._pacer.due.closing_ns, ends)
        ended = now()
        used = {
            "cpu_share": (time.thread_time() - cpu) / max((ended - begun) / 1e9, 1e-9),
            "loop_lag_p99_ms": float(np.percentile(self._lags, 99)) * 1000 if self._lags else 0.0,
        }
        if self._pacer is not None:  # measured on the schedule, unless something ended the load early
            self._pacer.close(ended)
            begun, ended = min(begun, opening), min(ended, self._pacer.due.closing_ns or ended)
        return {"begin_ns": begun - epoch, "end_ns": ended - epoch, **used}

    async def _closed_loop(self, begun: int, ends: set[asyncio.Task[Any]]) -> None:
        job = self._job
        done, _ = await asyncio.wait(ends, timeout=job.limit_s, return_when=asyncio.FIRST_COMPLETED)
        patient = begun + job.duration_s * PATIENCE * 1e9
        while not done and self._writes < job.min_writes and now() < patient:
            done, _ = await asyncio.wait(ends, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)

    def _arrivals(self, epoch: int) -> Due:
        """Those of an open loop: they begin with the load, and end with the measured time."""
        job = self._job
        assert job.arrivals is not None
        closing = None if job.limit_s is None else epoch + round(job.warmup_s * 1e9) + round(job.limit_s * 1e9)
        return Due(job.arrivals, epoch, closing)

    async def _work_off(self, pacer: Pacer, ends: set[asyncio.Task[Any]]) -> None:
        """Let writers send what was due within the measured time, for a while; what is left then is skipped.

        An owner that has ended the load waits for the operations in flight, and no longer.
        """
        await asyncio.wait(ends, timeout=self._job.drain_s, return_when=asyncio.FIRST_COMPLETED)
        word = skipped_code(self._job.workload, self._job.first)
        pacer.abandon(lambda due, at: self._recorder.record((due, at, at, word)))

    async def _until(self, at_ns: int | None, ends: set[asyncio.Task[Any]]) -> None:
        """Wait for a time of the clock (None: without end), or until one of ``ends`` is done if that comes first."""
        done: set[asyncio.Task[Any]] = set()
        while not done and (at_ns is None or at_ns > now()):  # timers are coarse, and may be early
            timeout = None if at_ns is None else max((at_ns - now()) / 1e9, 0.001)
            done, _ = await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    async def _more_writers(self, wanted: int) -> None:
        job, known = self._job, partial(Writer, together=self._together)
        make = known if self._pacer is None else partial(PacedWriter, pacer=self._pacer)
        new = [
            make(job, job.first + index, self._store, self._recorder.record)
            for index in range(len(self._writers), wanted)
        ]
        await asyncio.gather(*(writer.connect() for writer in new))
        self._writers += new

    def _start(self, writer: Writer) -> None:
        self._tasks[asyncio.create_task(writer.run())] = writer

    async def _all_done(self) -> None:
        """Until every writer has ended, late ones among them; an open-ended load ends when its owner says so."""
        if math.isinf(self._job.duration_s):
            await self._over.wait()
        while pending := [task for task in self._tasks if not task.done()]:
            await asyncio.wait(pending)

    def _faults(self) -> list[str]:
        """What ended a writer other than an order: errors of the harness, never of the store."""
        ended = [task for task in self._tasks if task.done() and not task.cancelled()]
        broken = [f"{type(fault).__name__}: {fault}" for task in ended if (fault := task.exception()) is not None]
        return self._refused + broken

    async def _obey(self) -> None:
        try:
            while (order := await read_frame(self._orders)) is not None:
                try:
                    if "clock_s" in order:
                        wall_clock.step(float(str(order["clock_s"])))
                    elif self._pacer is not None and "open_ns" in order:  # all whom the owner wanted are there
                        self._pacer.due.open(int(str(order["open_ns"])))
                    else:
                        await self._steer(int(str(order["writers"])))
                except Exception as error:  # the load is not what was ordered, and must not pass for it
                    self._refused.append(f"{type(error).__name__}: {error}")
        finally:
            self._over.set()

    async def _steer(self, wanted: int) -> None:
        """So many writers at work from now on; one that was told to stop does not come back."""
        active = [writer for task, writer in self._tasks.items() if not task.done() and not writer.stopping]
        known = len(self._writers)
        room = known + wanted - len(active)
        if room > self._job.block:
            raise ValueError(f"no identity is left for another writer, {self._job.block} were given")
        if room > known:
            await self._more_writers(room)
            for writer in self._writers[known:]:
                self._start(writer)
        for writer in active[wanted:]:
            writer.stop()

    async def _tick(self, epoch: int) -> None:
        limit = int(self._job.timeout_s * 1e9)
        while True:
            await asyncio.sleep(TICK_S)
            for writer in self._writers:
                writer.check_timeout(limit)
            self._send({"event": "tick", "t_ns": now() - epoch} | self._drain())

    def _drain(self) -> dict[str, object]:
        told = summary(self._recorder.drain(), self._job.workload)
        self._writes += told.writes
        return told.frame

    async def _probe_lag(self) -> None:
        while True:
            due = time.perf_counter() + _LAG_PROBE_S
            await asyncio.sleep(_LAG_PROBE_S)
            self._lags.append(max(0.0, time.perf_counter() - due))

    def _send(self, message: dict[str, object]) -> None:
        os.write(sys.stdout.fileno(), pack(message))


async def _main() -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    first = await read_frame(orders)
    if first is not None:
        await Engine(Job.from_json(str(first["job"])), orders).run()


if __name__ == "__main__":
    gc.freeze()  # what the imports made is never garbage, and need not be looked through while the load runs
    uvloop.run(_main())
