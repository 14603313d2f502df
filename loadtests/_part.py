"""One Locust process's part of a trial's load: HTTP users in this process, or an engine that its users steer.

A part begins without users. It gives its owner the load's ticks as they come, and at last what `Ending` holds.
"""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

import gevent
import numpy as np
import psutil
from gevent.event import AsyncResult
from locust.env import Environment

from bench.frames import summary
from bench.job import Job
from bench.samples import FIELDS
from loadtests import _users
from loadtests._child import Child, Frame
from loadtests._load import Load, Measurement
from loadtests._merge import merge

_ROW = FIELDS * 8  # bytes of one sample in the engine's file
_PATIENCE_S = 5.0  # beyond what the load itself may take to end


@dataclass(frozen=True)
class Clocks:
    """One moment on both clocks; the monotonic one is the machine's own, which ``boot`` names."""

    boot: str
    monotonic_ns: int
    wall_ns: int

    @classmethod
    def now(cls) -> "Clocks":
        """This machine's."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            boot = f"{psutil.boot_time()}"
        return cls(boot, time.perf_counter_ns(), time.time_ns())

    def ahead_ns(self, other: "Clocks") -> int:
        """How far this monotonic clock is ahead of another machine's; 0 on the same machine."""
        if self.boot == other.boot:
            return 0
        return (self.monotonic_ns - self.wall_ns) - (other.monotonic_ns - other.wall_ns)


@dataclass(frozen=True)
class Ending:
    """How a part ended. ``error`` says why it could not do its work; its other figures are then empty."""

    part: int
    cpu_share: float = 0.0
    loop_lag_p99_ms: float = 0.0
    retried: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    error: str | None = None

    def told(self) -> dict[str, Any]:
        """As a message has it."""
        return asdict(self)


class Part(Protocol):
    """What a Locust process that runs users does for a trial."""

    job: Job

    def open(self, at_ns: int) -> None:
        """All users are there: what an open loop had due before ``at_ns``, and nobody took, is no part of the load."""

    def measure(self) -> None:
        """The measured time begins."""

    def end(self) -> Ending:
        """Let each operation in flight end, and close every file."""

    def abandon(self) -> None:
        """Be gone, whatever the state."""


def patience_s(job: Job) -> float:
    """How long a part may take to end: its operations in flight, and in an open loop those still to be sent."""
    return job.timeout_s + (0.0 if job.arrivals is None else job.drain_s) + _PATIENCE_S


Told = Callable[[int, Frame], None]  # a second of the wall clock, and a tick
Broke = Callable[[str], None]  # why the load can't go on


def begin(environment: Environment, job: Job, told: Told, broke: Broke) -> Part:
    """Begin this process's part; its users, which may already be waiting, go to work."""
    if job.driver == "http":
        return HttpPart(environment, job, told, broke)

    def merged(second: int, tick: Frame) -> None:  # HTTP users tell Locust themselves
        assert job.url is not None
        merge(environment.stats, job.url.store, tick)
        told(second, tick)

    part = DirectPart(job, merged, broke)
    if _place(environment).ready():  # the part of an earlier trial
        del _steered[environment]
    _place(environment).set(part)
    return part


_steered: "WeakKeyDictionary[Environment, AsyncResult[Any]]" = WeakKeyDictionary()


def _place(environment: Environment) -> "AsyncResult[Any]":
    return _steered.setdefault(environment, AsyncResult())


def steered(environment: Environment) -> "DirectPart":
    """The engine that direct users steer; waits until there is one."""
    return cast(DirectPart, _place(environment).get())


class HttpPart:
    """HTTP users in this process."""

    def __init__(self, environment: Environment, job: Job, told: Told, broke: Broke) -> None:
        self.job = job
        self._environment = environment
        self._told, self._broke = told, broke
        self._end: Frame | None = None
        self._ending = False
        self._begun = time.perf_counter(), time.process_time()
        self._load = Load(job)
        _users.attach(environment, self._load)
        self._work = gevent.spawn(Measurement(self._load, self._frame).run)
        self._work.link_exception(lambda greenlet: broke(f"{greenlet.exception}"))

    def _frame(self, frame: Frame) -> None:
        if frame["event"] == "tick":
            self._told(int(time.time()), frame)
        elif frame["event"] == "end":
            self._end = frame
            if frame["faults"] and not self._ending:
                self._broke(str(frame["faults"][0]))

    def open(self, at_ns: int) -> None:
        """All users are there: what was due before ``at_ns`` while some were missing is no part of the load."""
        self._load.open(at_ns)

    def measure(self) -> None:
        """The measured time begins."""
        self._begun = time.perf_counter(), time.process_time()
        self._load.forget_retries()

    def end(self) -> Ending:
        """Let each operation in flight end, and close every file."""
        since, cpu = self._begun
        share = (time.process_time() - cpu) / max(time.perf_counter() - since, 1e-9)
        self._ending = True
        self._load.over.set()
        self._work.join(patience_s(self.job))
        if self._end is None:
            self.abandon()
            return Ending(self.job.part, error="its users did not end in time")
        return _ending(self.job, self._end, share)

    def abandon(self) -> None:
        """Be gone, whatever the state."""
        self._work.kill()
        self._load.drop()
        with suppress(Exception):
            _users.detach(self._environment, self.job.workload.kind)


class DirectPart:
    """An engine, and how many writers its users want of it."""

    def __init__(self, job: Job, told: Told, broke: Broke) -> None:
        self.job = job
        self._told, self._broke = told, broke
        self._writers = 0
        self._short = False  # a user found no writer
        self._operations = 0  # told in ticks so far
        self._end: Frame | None = None
        self._error: str | None = None
        Path(job.folder).mkdir(parents=True, exist_ok=True)
        self._log = (Path(job.folder) / f"load-{job.part}.log").open("wb")
        self._engine = Child("bench.engine", self._log)
        self._engine.send({"job": job.to_json()})
        self._begun = self._cpu()
        self._reader = gevent.spawn(self._read)

    def enter(self, user: str) -> bool:
        """One more writer; false if this process has no identity left for it, and the load can't go on then."""
        if self._writers >= self.job.block:
            if not self._short:
                self._short = True
                self._broke(f"no writer is left for another {user}: there is room for {self.job.block} here")
            return False
        self._writers += 1
        self._engine.send({"writers": self._writers})
        return True

    def leave(self) -> None:
        """One fewer."""
        self._writers -= 1
        self._engine.send({"writers": self._writers})

    def open(self, at_ns: int) -> None:
        """All users are there: what was due before ``at_ns`` while some were missing is no part of the load."""
        if self.job.arrivals is not None:
            self._engine.send({"open_ns": at_ns})

    def measure(self) -> None:
        """The measured time begins."""
        self._begun = self._cpu()

    def end(self) -> Ending:
        """Let each operation in flight end, and close every file."""
        (since, cpu), (now, used) = self._begun, self._cpu()
        self._engine.close()
        self._reader.join(patience_s(self.job))
        self.abandon()
        self._tell_the_rest()
        if self._end is None:
            error = self._error or f"the engine ended before its trial did; see load-{self.job.part}.log"
            return Ending(self.job.part, error=error)
        share = (used - cpu) / max(now - since, 1e-9)
        return _ending(self.job, self._end, share if math.isfinite(share) else float(self._end["cpu_share"]))

    def abandon(self) -> None:
        """Be gone, whatever the state."""
        self._engine.end(_PATIENCE_S)
        self._log.close()

    def _tell(self, tick: Frame) -> None:
        self._operations += sum(tick[name] for name in ("ok", "failed", "unknown", "skipped"))
        self._told(int(time.time()), tick)

    def _tell_the_rest(self) -> None:
        """What the engine recorded after its last tick, also if it died: its file has it."""
        if self.job.samples.exists():
            whole = self.job.samples.stat().st_size // _ROW * _ROW  # a killed engine may have torn the last one
            untold = np.fromfile(self.job.samples, dtype=np.int64, offset=self._operations * _ROW)
            rows = untold[: (whole - self._operations * _ROW) // 8].reshape(-1, FIELDS)
            if len(rows):
                self._tell(summary(rows, self.job.workload).frame)

    def _read(self) -> None:
        for frame in self._engine.frames():
            if frame["event"] == "tick":
                self._tell(frame)
            elif frame["event"] == "end":
                self._end = frame
            elif frame["event"] == "failed":
                self._error = f"writers could not connect ({frame['error']}): {frame['message']}"
        if self._end is None:
            self._broke(self._error or f"the engine is gone; see load-{self.job.part}.log in the trial's folder")

    def _cpu(self) -> tuple[float, float]:
        """(now, CPU seconds of the engine's event loop); SQLite works in other threads, and is not the generator."""
        now = time.perf_counter()
        with suppress(psutil.Error, StopIteration):
            threads = psutil.Process(self._engine.pid).threads()
            loop = next(thread for thread in threads if thread.id == self._engine.pid)
            return now, loop.user_time + loop.system_time
        return now, math.nan


def _ending(job: Job, end: Frame, share: float) -> Ending:
    return Ending(job.part, share, float(end["loop_lag_p99_ms"]), dict(end["retried"]), list(end["faults"]))
