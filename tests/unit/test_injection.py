"""A fault's time is kept beside the load: whatever happens, one whole load comes out and nothing is left behind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from time import perf_counter_ns as now
from typing import Any

import pytest
from test_job import JOB

from bench import loader
from bench.faults.injection import Action, Crew, Injection
from bench.faults.spec import FaultSpec
from bench.job import Job

QUICK = {"at_s": 0.0, "for_s": 0.0, "tail_s": 0.0, "limit_s": 5.0}
Frame = dict[str, Any]


class Load:
    """A load process that ends ok operations all the time; ``works`` says whether they do now."""

    def __init__(self, job: Job, works: Callable[[], bool], gives_end: bool = True) -> None:
        self.job, self._works, self._gives_end = job, works, gives_end
        self.epoch = now()
        self.orders: list[Frame] = []
        self.ended, self.killed = asyncio.Event(), asyncio.Event()

    async def frames(self) -> AsyncIterator[Frame]:
        yield {"event": "ready", "epoch_ns": self.epoch}
        while not self.ended.is_set() and not self.killed.is_set():
            yield {"event": "tick", "t_ns": now() - self.epoch + 10**9, "ok": 3 if self._works() else 0}
            await asyncio.sleep(0.001)
        if not self.killed.is_set() and self._gives_end:
            told = {"retried": {"timeout": 2}, "refused": {"connection": 1}, "reconnects": 4, "faults": []}
            yield {"event": "end", "cpu_share": 0.3, "loop_lag_p99_ms": 1.0, "begin_ns": 5, "end_ns": 9, **told}

    async def order(self, what: Frame) -> None:
        self.orders.append(what)

    def end(self) -> None:
        self.ended.set()

    def kill(self) -> None:
        self.killed.set()


class Breaking(Action):
    """Notes what is called; ``works`` is false between begin and end."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.works = True

    async def prepare(self, job: Job, crew: Crew) -> Job:
        self.called.append("prepare")
        self.crew = crew
        self.job = job
        return job

    async def begin(self) -> str:
        self.called.append("begin")
        self.works = False
        return "broken"

    async def end(self) -> str:
        self.called.append("end")
        self.works = True
        return "mended"

    async def close(self) -> None:
        self.called.append("close")


class Replacing(Breaking):
    """The first load is let end in order, and another follows."""

    async def end(self) -> str:
        await self.crew.start_load(self.job)
        return await super().end()


class Killing(Breaking):
    async def begin(self) -> str:
        await self.crew.kill_load()
        return await super().begin()

    async def end(self) -> str:
        await self.crew.start_load(self.job)
        return await super().end()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Load]:
    """The loads that were started; `injected` says how they work."""
    started: list[Load] = []

    @contextlib.asynccontextmanager
    async def start(job: Job) -> AsyncIterator[Load]:
        action = start.action  # type: ignore[attr-defined]
        started.append(Load(job, lambda: action.works, start.gives_end))  # type: ignore[attr-defined]
        try:
            yield started[-1]
        finally:
            started[-1].kill()

    start.gives_end = True  # type: ignore[attr-defined]
    monkeypatch.setattr(loader, "start", start)
    return started


def injected(action: Breaking, gives_end: bool = True, **changes: Any) -> tuple[Injection, list[Frame]]:
    start: Any = loader.start
    start.action, start.gives_end = action, gives_end
    injection = Injection(FaultSpec(kind="kill", **{**QUICK, **changes}), action)

    async def whole() -> list[Frame]:
        async with asyncio.timeout(20), injection.loader(replace(JOB, timeout_s=0.1)) as load:
            return [frame async for frame in load.frames()]

    return injection, asyncio.run(whole())


def test_it_begins_ends_and_waits_until_it_works_again(loads: list[Load]) -> None:
    action = Breaking()
    injection, frames = injected(action, at_s=0.01, for_s=0.02)
    told = injection.told
    assert action.called == ["prepare", "begin", "end", "close"]
    assert told.problem is None
    assert told.begin_ns is not None
    assert told.end_ns is not None
    assert told.epoch_ns + 0.01e9 <= told.begin_ns <= told.end_ns - 0.02e9
    assert [what for _, what in told.events] == ["broken", "mended"]
    assert frames[0]["event"] == "ready"
    assert frames[-1]["event"] == "end"
    assert frames[-1]["begin_ns"] == 0
    assert frames[-1]["end_ns"] >= told.end_ns - told.epoch_ns
    assert (frames[-1]["retried"], frames[-1]["reconnects"]) == ({"timeout": 2}, 4)
    assert sum(frame["event"] == "end" for frame in frames) == 1
    assert loads[0].job.duration_s == float("inf")


def test_it_waits_for_so_many_operations(loads: list[Load]) -> None:
    _, frames = injected(Breaking(), after=30, at_s=3600.0)
    assert sum(int(frame.get("ok", 0)) for frame in frames) >= 30


def test_a_killed_load_is_followed_by_another_on_the_same_clock(loads: list[Load]) -> None:
    injection, frames = injected(Killing())
    assert len(loads) == 2
    assert loads[0].killed.is_set()
    ready = [frame for frame in frames if frame["event"] == "ready"]
    assert [frame["epoch_ns"] for frame in ready] == [loads[0].epoch] * 2
    assert frames[-1]["event"] == "end"
    assert frames[-1]["reconnects"] == 4  # the killed one says nothing
    assert injection.told.problem is None


def test_a_load_that_is_replaced_ends_in_order(loads: list[Load]) -> None:
    injection, frames = injected(Replacing())
    assert len(loads) == 2
    assert frames[-1]["reconnects"] == 8  # both say theirs
    assert injection.told.problem is None
    assert injection.told.end_ns is not None


def test_a_load_that_dies_by_itself_has_no_end(loads: list[Load]) -> None:
    """Nobody may take what it left for a whole trial."""
    action = Breaking()
    _, frames = injected(action, gives_end=False)
    assert frames[-1]["event"] != "end"
    assert action.called[-1] == "close"


def test_a_load_that_ends_before_the_fault_is_told(loads: list[Load]) -> None:
    class Ending(Breaking):
        async def begin(self) -> str:
            loads[0].end()
            return await super().begin()

    injection, frames = injected(Ending(), for_s=60.0, limit_s=60.0)
    assert injection.told.problem == "the load ended before the fault was over"
    assert frames[-1]["event"] == "end"


def test_what_does_not_come_back_is_given_up(loads: list[Load]) -> None:
    action = Breaking()
    injection, frames = injected(action, comes_back=False, limit_s=0.05)
    assert action.called == ["prepare", "begin", "close"]
    assert injection.told.end_ns is None
    assert injection.told.problem == "it was not over within 0.05 s"
    assert frames[-1]["event"] == "end"


def test_what_works_no_more_is_given_up(loads: list[Load]) -> None:
    action = Breaking()
    action.works = False

    async def stays_broken() -> str:
        return "mended, says the server"

    action.end = stays_broken  # type: ignore[method-assign]
    injection, _ = injected(action, limit_s=0.05)
    assert injection.told.end_ns is not None
    assert injection.told.problem is not None


def test_an_action_that_fails_ends_the_load(loads: list[Load]) -> None:
    action = Breaking()

    async def fail() -> str:
        raise OSError("no such server")

    action.begin = fail  # type: ignore[method-assign]
    injection, frames = injected(action)
    assert injection.told.problem == "OSError: no such server"
    assert frames[-1]["event"] == "end"
    assert action.called[-1] == "close"


def test_a_trial_that_is_cancelled_leaves_nothing(loads: list[Load]) -> None:
    action = Breaking()
    start: Any = loader.start
    start.action, start.gives_end = action, True

    async def cut() -> None:
        injection = Injection(FaultSpec(kind="kill", **{**QUICK, "for_s": 60.0, "limit_s": 60.0}), action)

        async def whole() -> None:
            async with injection.loader(JOB) as load:
                async for _ in load.frames():
                    if "begin" in action.called:
                        raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await whole()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait_for(asyncio.gather(*others), 5)  # what reads the frames ends with the load

    asyncio.run(cut())
    assert action.called == ["prepare", "begin", "close"]
