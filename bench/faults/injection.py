"""Keeps a fault's time beside the load: begins it, ends it, and lets the load go on until it is seen to work again.

An `Injection` stands between a trial and its load process, as a `bench.loader.Loader`: what it hands on are the
frames of one load, though an action may have killed the process in its middle and put another in its place.
"""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from time import perf_counter_ns
from typing import Any, ClassVar, Protocol, cast

from bench import loader
from bench.faults.spec import FaultSpec
from bench.frames import TICK_S
from bench.job import Job
from bench.loader import LoadProcess
from bench.stand import one_line

_PATIENCE_S = 10.0  # beyond what the operations in flight may take, for a load that was told to end


class Crew(Protocol):
    """What an action may do to the load."""

    async def kill_load(self) -> None:
        """SIGKILL the load process at work."""

    async def start_load(self, job: Job) -> None:
        """Put another load process in the place of the one at work, which is let end in order if it lives."""

    async def step_clock(self, seconds: float) -> None:
        """Set the load's wall clock this far from the true time."""


class Action:
    """What one kind of fault does; `begin` and `end` are called once each, on the loop of the run.

    With ``builds_up`` it is in force when `begin` returns, otherwise from the call on. ``met`` counts what its own
    sessions met, where it has any that may meet something.
    """

    builds_up: ClassVar[bool] = False
    met: int = 0

    async def prepare(self, job: Job, crew: Crew) -> Job:  # noqa: ARG002 (most need no crew)
        """Before the load starts; the job as the load shall have it."""
        return job

    async def begin(self) -> str:
        """Break it; says what was done."""
        raise NotImplementedError

    async def end(self) -> str:
        """Mend it; returns when it is mended, and says what was done. Raises if it can't be."""
        raise NotImplementedError

    async def close(self) -> None:
        """Free what is left, whatever happened before."""


@dataclass
class Told:
    """What an injection has done, in ns of `time.perf_counter_ns`; ``problem`` is why it is not what was wanted."""

    epoch_ns: int = 0
    begin_ns: int | None = None
    end_ns: int | None = None
    events: list[tuple[int, str]] = field(default_factory=list)
    met: int = 0
    problem: str | None = None


@dataclass
class _Part:
    """One load process of the trial."""

    load: LoadProcess
    pump: asyncio.Task[None] = field(init=False)
    killed: bool = False
    dismissed: bool = False  # its end was wanted
    epoch_ns: int = 0
    end: dict[str, Any] | None = None


class Injection:
    """One fault in one trial. ``told`` says what happened when, once the load is over."""

    def __init__(self, spec: FaultSpec, action: Action) -> None:
        self.told = Told()
        self._spec, self._action = spec, action
        self._stack = AsyncExitStack()
        self._job: Job | None = None
        self._conductor: asyncio.Task[None] | None = None
        self._mended_ns: int | None = None
        self._frames: asyncio.Queue[dict[str, object] | None] = asyncio.Queue()  # None: something has ended
        self._parts: list[_Part] = []
        self._ok = 0
        self._due = asyncio.Event()  # the load has begun; with ``after``, so many operations have ended ok
        self._works = asyncio.Event()  # an operation has ended ok after the fault's end

    @asynccontextmanager
    async def loader(self, job: Job) -> AsyncIterator["Injection"]:
        """A `bench.loader.Loader`: the load, and the fault in it."""
        job = replace(job, duration_s=math.inf, warmup_s=0.0)
        async with self._stack:
            try:
                self._job = await self._action.prepare(job, self)
                await self.start_load(self._job)
                yield self
            finally:  # in this order: what the load still has under way may need what the action holds
                await self._dismiss()
                await self._action.close()

    async def frames(self) -> AsyncIterator[dict[str, object]]:
        """The frames of all parts as if they were one load's."""
        conductor = self._conductor = self._told_when_done(self._conduct())
        while True:
            frame = await self._frames.get()
            if frame is not None:
                yield frame
            elif all(one.pump.done() for one in self._parts):
                if conductor.done():
                    break
                if not self._parts[-1].dismissed:  # it ended by itself, and nothing will follow
                    self._trouble("the load ended before the fault was over")
                    conductor.cancel()
        if self.told.epoch_ns and all(one.killed or one.end is not None for one in self._parts):
            yield self._ending()

    def _told_when_done(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._frames.put_nowait(None))
        return task

    async def _dismiss(self) -> None:
        """Nobody keeps the fault's time any longer."""
        if self._conductor is not None:
            self._conductor.cancel()
            with suppress(asyncio.CancelledError, Exception):  # the action's own end must come all the same
                await self._conductor

    # The fault's time

    async def _conduct(self) -> None:
        spec, told = self._spec, self.told
        try:
            if not await self._is_due():
                return
            async with asyncio.timeout(spec.limit_s):
                told.begin_ns = perf_counter_ns()
                said = await self._action.begin()
                if self._action.builds_up:
                    told.begin_ns = perf_counter_ns()
                self._note(said)
                await asyncio.sleep(spec.for_s)
                if not spec.comes_back:
                    await asyncio.Event().wait()  # until the limit
                told.end_ns = perf_counter_ns()  # a server's start counts as time without it
                self._note(await self._action.end())
                self._mended_ns = perf_counter_ns()
                await self._works.wait()
                await asyncio.sleep(spec.tail_s)
        except TimeoutError:
            self._trouble(f"it was not over within {spec.limit_s:g} s")
        except Exception as error:
            self._trouble(f"{type(error).__name__}: {one_line(error)}")
        finally:
            told.met = self._action.met
        await self._end_load()

    async def _is_due(self) -> bool:
        """Wait until the fault may begin; false if that never comes."""
        try:
            async with asyncio.timeout(self._spec.limit_s):
                await self._due.wait()
        except TimeoutError:
            self._trouble(f"it was not due within {self._spec.limit_s:g} s")
            await self._end_load()
            return False
        if self._spec.after is None:
            await asyncio.sleep(self._spec.at_s)
        return True

    def _note(self, what: str) -> None:
        self.told.events.append((perf_counter_ns(), what))

    def _trouble(self, what: str) -> None:
        self.told.problem = what
        self._note(what)

    # The parts of the load

    async def start_load(self, job: Job) -> None:
        """As `Crew` says."""
        if self._parts:
            await self._end_load()
        load = await self._stack.enter_async_context(loader.start(job))
        self._parts.append(part := _Part(load))
        part.pump = self._told_when_done(self._pump(part, job.part))

    async def kill_load(self) -> None:
        """As `Crew` says."""
        part = self._parts[-1]
        part.killed = part.dismissed = True
        part.load.kill()
        await part.pump

    async def step_clock(self, seconds: float) -> None:
        """As `Crew` says."""
        await self._parts[-1].load.order({"clock_s": seconds})

    async def _end_load(self) -> None:
        """Let the process at work end; it is killed if it can't."""
        part = self._parts[-1]
        part.dismissed = True
        part.load.end()
        assert self._job is not None
        _, late = await asyncio.wait([part.pump], timeout=2 * self._job.timeout_s + _PATIENCE_S)
        if late:
            part.load.kill()
            await part.pump

    async def _pump(self, part: _Part, number: int) -> None:
        async for frame in part.load.frames():
            self._take(part, number, frame)

    def _take(self, part: _Part, number: int, frame: dict[str, object]) -> None:
        if frame["event"] == "end":
            part.end = cast(dict[str, Any], frame)
            return
        if frame["event"] == "ready":
            part.epoch_ns = int(str(frame["epoch_ns"]))
            self.told.epoch_ns = self.told.epoch_ns or part.epoch_ns
            frame = {**frame, "part": number, "epoch_ns": self.told.epoch_ns}  # one clock for all parts
            if self._spec.after is None:
                self._due.set()
        self._frames.put_nowait(frame)
        ok = int(str(frame.get("ok", 0)))
        if not ok:
            return
        self._ok += ok
        if self._spec.after is not None and self._ok >= self._spec.after:
            self._due.set()
        ended = part.epoch_ns + int(str(frame.get("t_ns", 0))) - round(TICK_S * 1e9)
        if self._mended_ns is not None and ended > self._mended_ns:
            self._works.set()

    def _ending(self) -> dict[str, object]:
        """The last frame of the whole: what the parts say in theirs, put together."""
        ends = [one.end for one in self._parts if one.end is not None]

        def counted(name: str) -> dict[str, int]:
            return dict(sum((Counter(one.get(name, {})) for one in ends), Counter()))

        return {
            "event": "end",
            "begin_ns": 0,
            "end_ns": perf_counter_ns() - self.told.epoch_ns,
            "cpu_share": max((one["cpu_share"] for one in ends), default=0.0),
            "loop_lag_p99_ms": max((one["loop_lag_p99_ms"] for one in ends), default=0.0),
            "retried": counted("retried"),
            "refused": counted("refused"),
            "reconnects": sum(one.get("reconnects", 0) for one in ends),
            "faults": [fault for one in ends for fault in one["faults"]],
        }
