"""One engine process, two and four of them against pgbench -M prepared: 20 durable writers in all, side by side.

Each process is a part of the same job. Where cores are free, the rate must grow with the processes until the server is
busy; where there are none, what an operation costs the client decides, and no number of processes helps.

.venv/bin/python -m benchmarks.processes
"""

import asyncio
import resource
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench import loader, samples
from bench.job import Job
from bench.judge.statistics import SHOWN_CONFIDENCE, geometric_mean, log_interval, paired_ratios
from bench.machine import Watch
from bench.scenario import CandidateSpec
from bench.stand import Access
from bench.stand_sql import SqlStand
from bench.stands import cache_folder, stand
from benchmarks.postgresql import pgbench
from benchmarks.side_by_side import SECONDS, Bed

_WRITERS, _ROUNDS = 20, 6
_PROCESSES = (1, 2, 4)
_SPARE_S = 1.0  # parts begin one after the other, and only the time in which all of them work counts
_BUSY, _FREE = 0.9, 0.1  # shares: of a core that a process uses, of the machine that is idle
_PGBENCH = "pgbench"


@dataclass(frozen=True)
class _Taken:
    """What one measurement found: operations a second, CPU of all clients in µs an operation.

    ``busiest`` is the share of a core that the client process with the most work used (NaN: not known), ``idle`` the
    share of the machine's CPU time that nobody used.
    """

    rate: float
    cost_us: float
    busiest: float
    idle: float


@dataclass(frozen=True)
class _Part:
    """When one process worked (ns on the monotonic clock), when its operations ended, and its share of a core."""

    begin: int
    end: int
    ends: samples.Table
    share: float

    def within(self, begin: int, end: int) -> int:
        """Its operations that ended within this time."""
        return int(np.count_nonzero((self.ends >= begin) & (self.ends < end)))


async def _engines(bed: Bed, processes: int) -> _Taken:
    job = replace(await bed.job(_WRITERS), duration_s=SECONDS + _SPARE_S)
    idle = _Idle()
    with tempfile.TemporaryDirectory() as folder:
        parts = await asyncio.gather(*(_part(one, idle) for one in _jobs(job, processes, Path(folder))))
    begin, end = max(part.begin for part in parts), min(part.end for part in parts)
    seconds = (end - begin) / 1e9
    if seconds < SECONDS / 2:
        raise RuntimeError(f"all {processes} processes worked together for {seconds:.1f} s only; run it again")
    spent = sum(part.share * (part.end - part.begin) / 1e3 for part in parts)
    return _Taken(
        sum(part.within(begin, end) for part in parts) / seconds,
        spent / sum(part.within(part.begin, part.end) for part in parts),
        max(part.share for part in parts),
        idle.share,
    )


def _jobs(job: Job, processes: int, folder: Path) -> list[Job]:
    """The parts of a job, each with writers and a folder of its own."""
    found = []
    for number in range(processes):
        own = folder / str(number)
        own.mkdir()
        first, after = (_WRITERS * n // processes for n in (number, number + 1))
        found.append(replace(job, part=number, first=first, block=after - first, active=after - first, folder=str(own)))
    return found


async def _part(job: Job, idle: "_Idle") -> _Part:
    told: dict[str, Any] = {}
    async with loader.start(job) as load:
        async for frame in load.frames():
            told |= {str(frame["event"]): frame}
            if frame["event"] == "ready":
                idle.begin()
            if frame["event"] == "end":
                idle.end()
    if "end" not in told:
        raise RuntimeError(f"a load process did not end as it should: {told.get('failed', 'see its log')}")
    epoch, end = int(told["ready"]["epoch_ns"]), told["end"]
    words = np.fromfile(job.samples, dtype=np.int64).reshape(-1, samples.FIELDS)
    return _Part(epoch + int(end["begin_ns"]), epoch + int(end["end_ns"]), words[:, 2], float(end["cpu_share"]))


class _Idle:
    """The idle share of the machine's CPU time, while all parts worked: from the last beginning to the first end."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A part begins."""
        self._first = self._last = psutil.cpu_times()
        self._over = False

    def end(self) -> None:
        """A part has ended."""
        if not self._over:
            self._last, self._over = psutil.cpu_times(), True

    @property
    def share(self) -> float:
        """From 0 to 1."""
        every = sum(self._last) - sum(self._first)
        return float((self._last.idle - self._first.idle) / every) if every > 0 else 0.0


async def _theirs(bed: Bed) -> _Taken:
    """Their cost is that of the whole program with its start, in threads of one process."""
    before, idle = _children_s(), _Idle()
    rate = await pgbench(bed, _WRITERS)
    idle.end()
    return _Taken(rate, (_children_s() - before) / (rate * SECONDS) * 1e6, float("nan"), idle.share)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _name(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"


def _ratio(ours: Sequence[_Taken], theirs: Sequence[_Taken]) -> str:
    ratios = paired_ratios([one.rate for one in ours], [one.rate for one in theirs])
    interval = log_interval(ratios, SHOWN_CONFIDENCE)
    assert interval is not None
    return f"{geometric_mean(ratios):.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _line(name: str, taken: Mapping[str, Sequence[_Taken]]) -> str:
    ours = taken[name]
    rate, cost = (geometric_mean([getattr(one, field) for one in ours]) or 0.0 for field in ("rate", "cost_us"))
    said = f"{name}: {rate:,.0f}/s, {cost:.1f} µs of client CPU an operation, {_median(ours, 'idle'):.0%} idle"
    if name == _PGBENCH:
        return said
    said += f", the busiest process at {_median(ours, 'busiest'):.0%} of a core"
    said += f"; by pgbench {_ratio(ours, taken[_PGBENCH])}"
    return said if name == _name(1) else f"{said}, by one process {_ratio(ours, taken[_name(1)])}"


def _median(found: Sequence[_Taken], field: str) -> float:
    return float(np.median([getattr(one, field) for one in found]))


def _limit(ours: Sequence[_Taken]) -> str:
    """What held the load back, in words."""
    if _median(ours, "busiest") >= _BUSY:
        return "a core for each process: the generator limits"
    if _median(ours, "idle") >= _FREE:
        return "neither the generator nor the machine's CPU: the server waits for its disk or its locks"
    return "the machine's CPU, which clients, server and others share; the generator waits for its turn"


async def _main() -> None:
    async with stand("postgresql", CandidateSpec(store="postgresql"), Access(), cache_folder(), print) as ready:
        assert isinstance(ready, SqlStand)
        bed = Bed(ready)
        contenders: dict[str, Callable[[], Awaitable[_Taken]]] = {_PGBENCH: partial(_theirs, bed)}
        contenders |= {_name(n): partial(_engines, bed, n) for n in _PROCESSES}
        taken: dict[str, list[_Taken]] = {name: [] for name in contenders}
        watch = Watch()
        for number in range(_ROUNDS):
            for name in list(contenders)[:: 1 if number % 2 == 0 else -1]:
                taken[name].append(await contenders[name]())
        others = watch.shares().others or 0.0
    print(f"{_WRITERS} writers, {_ROUNDS} interleaved rounds, 95 % interval of each ratio")
    print(f"{psutil.cpu_count()} cores, of which others used {others:.0%}")
    for name in contenders:
        print(_line(name, taken))
    for number in _PROCESSES:
        print(f"what limits {_name(number)}: {_limit(taken[_name(number)])}")


if __name__ == "__main__":
    asyncio.run(_main())
