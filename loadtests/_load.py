"""The HTTP load of one process: its writers, which users take and give back, and what they record."""

import heapq
import math
import time
from array import array
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns as now

import gevent
import numpy as np
from gevent.event import Event

from bench.frames import TICK_S, summary
from bench.job import PATIENCE, Job
from bench.pacer import Due, skipped_code
from bench.samples import Recorder
from loadtests._pace import Pace
from loadtests._scripts import Scripts
from loadtests._together import Together
from loadtests._writer import HttpWriter

_LAG_PROBE_S = 0.02

Send = Callable[[dict[str, object]], None]


class Load:
    """A job's writers in this process. `take` gives a user a writer, `give` takes it back."""

    def __init__(self, job: Job) -> None:
        (Path(job.folder) / "ledger").mkdir(parents=True, exist_ok=True)
        self.job = job
        self.go = Event()  # users begin when it is set
        self.over = Event()  # set when there is nothing left to do
        self.seated = Event()  # set when a user has sat down or left
        self.unreachable: list[str] = []  # of the users that could not connect when they sat down
        self.faults: list[str] = []  # errors of the harness, never of the server
        self.together = Together() if job.workload.lockstep else None
        self.pace: Pace | None = None  # of an open loop, once it has begun
        self.users = 0  # that have a writer
        self.ready = 0  # how often one of them became ready to begin
        self._recorder = Recorder(job.samples)
        self._scripts = Scripts(job)
        self._writers: list[HttpWriter] = []
        self._free: list[int] = []  # positions of writers without a user that have operations left
        self._finished = 0
        self._stopping = Event()
        self._dropped = self._closed = False

    def take(self) -> HttpWriter | None:
        """A writer without a user, the first first; None if all that this process may use have one, or are done."""
        if self._closed:
            return None
        if self._free:
            writer = self._writers[heapq.heappop(self._free)]
        elif len(self._writers) < self.job.block:
            index = self.job.first + len(self._writers)
            writer = HttpWriter(self.job, index, self._scripts.of(index), self._recorder.record, self._stopping)
            self._writers.append(writer)
        else:
            return None
        self.users += 1
        return writer

    def give(self, writer: HttpWriter) -> None:
        """A user leaves its writer."""
        writer.rise()
        self.users -= 1
        if writer.is_over:
            self._finished += 1
        else:
            heapq.heappush(self._free, writer.index - self.job.first)
        if self._finished and not self.users:
            self.over.set()
        self._close_if_dropped()
        self.seated.set()

    def sat_down(self, problem: str | None) -> None:
        """A user is ready to begin; ``problem`` if it could not connect."""
        if problem is not None:
            self.unreachable.append(problem)
        self.ready += 1
        self.seated.set()

    def fault(self, error: BaseException) -> None:
        """Something of ours broke down: what the load measures from here on is worth nothing."""
        self.faults.append(f"{type(error).__name__}: {error}")
        self.over.set()

    def short(self, user: str) -> None:
        """A user found no writer. Unless some are done with all that the job wants, the load is less than was asked."""
        if not self._finished and not self.over.is_set():
            self.faults.append(f"no writer is left for another {user}: there is room for {self.job.block} here")
            self.over.set()

    def begin(self, epoch_ns: int, closing_ns: int | None) -> None:
        """The users begin; an open loop has its arrivals from ``epoch_ns`` on, to ``closing_ns`` if that is known."""
        if self.job.arrivals is not None:
            self.pace = Pace(Due(self.job.arrivals, epoch_ns, closing_ns))
        self.go.set()

    def open(self, at_ns: int) -> None:
        """All users are there: what was due before ``at_ns`` and found none of them free does not exist."""
        if self.pace is not None:
            self.pace.open(at_ns)

    def stop(self) -> None:
        """End each writer after the operation in flight; arrivals that nobody has taken are skipped."""
        self._stopping.set()
        self.go.set()
        if self.pace is not None:
            self.pace.abandon(self._skip)

    def _skip(self, due_ns: int, given_up_ns: int) -> None:
        """Record an arrival for which no writer was free; the first one's name stands for it."""
        word = skipped_code(self.job.workload, self.job.first)
        self._recorder.record((due_ns, given_up_ns, given_up_ns, word))

    def check_timeouts(self) -> None:
        """Give up what runs for too long."""
        limit = int(self.job.timeout_s * 1e9)
        for writer in self._writers:
            writer.check_timeout(limit)

    def drain(self) -> tuple[dict[str, object], int]:
        """What was recorded since the last time, as a tick has it, and how many ok writes are in it."""
        told = summary(self._recorder.drain(), self.job.workload)
        return told.frame, told.writes

    @property
    def retried(self) -> Counter[str]:
        """Errors, by kind, of attempts that were made again."""
        return sum((writer.retried for writer in self._writers), Counter())

    @property
    def reconnects(self) -> int:
        """Connections that users had to open anew, those of users that have left."""
        return sum(writer.reconnects for writer in self._writers)

    def forget_retries(self) -> None:
        """Those of the warm-up don't count."""
        for writer in self._writers:
            writer.retried.clear()

    def drop(self) -> None:
        """Nobody wants the load any more: it stops, and is closed when the last user has left."""
        self.over.set()
        self.stop()
        self._dropped = True
        self._close_if_dropped()

    def _close_if_dropped(self) -> None:
        if self._dropped and not self.users:
            self.close()

    def close(self) -> None:
        """Nobody will take a writer again; a second time does nothing."""
        if self._closed:
            return
        self._closed = True
        if self.pace is not None:
            self.pace.release()
        for writer in self._writers:
            writer.close()
        self._recorder.close()


class Measurement:
    """Runs a load from its first operation to its last, and tells its owner by frames how it goes."""

    def __init__(self, load: Load, send: Send) -> None:
        self._load, self._send = load, send
        self._epoch = 0
        self._writes = 0  # ok writes since the measured time began
        self._lags = array("f")  # one in 20 ms, also of a load that lasts for days

    def run(self) -> None:
        """Let the users begin, warm up, measure until the time, the job or the order to end it is over, and stop.

        Whoever wants the load to end before its time sets ``load.over``.
        """
        load = self._load
        self._epoch = now()
        self._send({"event": "ready", "epoch_ns": self._epoch})
        background = [gevent.spawn(self._tick), gevent.spawn(self._probe_lag)]
        for one in background:
            one.link_exception(self._broken)
        begun = self._epoch + round(load.job.warmup_s * 1e9)
        closing = None if math.isinf(load.job.duration_s) else begun + round(load.job.duration_s * 1e9)
        load.begin(self._epoch, closing)
        try:
            figures = self._window() if load.pace is None else self._on_schedule(load.pace, begun, closing)
            load.stop()
            while load.users:
                load.seated.clear()
                load.seated.wait(TICK_S)
        finally:
            gevent.killall(background)
        self._report()
        load.close()
        told = {"retried": dict(load.retried), "reconnects": load.reconnects, "faults": load.faults}
        self._send({"event": "end", **figures, **told})

    def _window(self) -> dict[str, object]:
        job, over = self._load.job, self._load.over
        if job.warmup_s:
            over.wait(job.warmup_s)
        self._forget()
        begun, cpu = now(), time.process_time()
        over.wait(job.limit_s)
        patient = begun + job.duration_s * PATIENCE * 1e9
        while not over.is_set() and self._writes < job.min_writes and now() < patient:
            over.wait(TICK_S)
        ended = now()
        return self._figures(begun, ended, (time.process_time() - cpu) / max((ended - begun) / 1e9, 1e-9))

    def _on_schedule(self, pace: Pace, begun: int, closing: int | None) -> dict[str, object]:
        """The window of an open loop is exact, on the schedule; what is due within it is sent even afterwards."""
        over = self._load.over
        self._wait_until(begun)
        self._forget()
        since, cpu = now(), time.process_time()
        self._wait_until(closing)
        until = now()
        share = (time.process_time() - cpu) / max((until - since) / 1e9, 1e-9)
        cut_short = over.is_set() and closing is not None and until < closing
        ended = until if closing is None or cut_short else closing
        pace.close(ended)
        figures = self._figures(min(begun, ended), ended, share)
        if not cut_short:  # otherwise nobody waits for the rest
            self._drain(ended)
        return figures

    def _wait_until(self, at_ns: int | None) -> None:
        """Until then, or until the load is to end."""
        over = self._load.over
        if at_ns is None:
            over.wait()
            return
        while not over.is_set() and (left := at_ns - now()) > 0:
            over.wait(left / 1e9)  # gevent counts from when it last looked at the clock, and may be early

    def _drain(self, ended: int) -> None:
        """Until all arrivals were taken and the users, who leave then, have their answers, if that is soon enough."""
        load = self._load
        deadline = ended + round(load.job.drain_s * 1e9)
        while load.users and not self._is_called_off() and (left := deadline - now()) > 0:
            load.seated.clear()
            load.seated.wait(min(left / 1e9, TICK_S))

    def _is_called_off(self) -> bool:
        """Whether nobody wants the rest; the order to end a load that has no time of its own is its regular end."""
        load = self._load
        return bool(load.faults) or (load.over.is_set() and not math.isinf(load.job.duration_s))

    def _forget(self) -> None:
        """What the warm-up left doesn't count."""
        del self._lags[:]
        self._load.forget_retries()
        self._report()
        self._writes = 0

    def _figures(self, begun: int, ended: int, cpu_share: float) -> dict[str, object]:
        return {
            "begin_ns": begun - self._epoch,
            "end_ns": ended - self._epoch,
            "cpu_share": cpu_share,
            "loop_lag_p99_ms": float(np.percentile(self._lags, 99)) * 1000 if self._lags else 0.0,
        }

    def _tick(self) -> None:
        while True:
            gevent.sleep(TICK_S)
            self._load.check_timeouts()
            self._report()

    def _report(self) -> None:
        frame, writes = self._load.drain()
        self._writes += writes
        self._send({"event": "tick", "t_ns": now() - self._epoch} | frame)

    def _probe_lag(self) -> None:
        while True:
            due = time.perf_counter() + _LAG_PROBE_S
            gevent.sleep(_LAG_PROBE_S)
            self._lags.append(max(0.0, time.perf_counter() - due))

    def _broken(self, greenlet: "gevent.Greenlet[[], None]") -> None:
        """Without ticks there are no time limits: the load must not go on."""
        self._load.fault(greenlet.exception or RuntimeError("a greenlet ended"))
