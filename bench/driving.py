"""Sees a load through from its first frame to its last, and watches what stands beside it."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from bench import loader, samples
from bench.availability import EVERY_S, Prober
from bench.cell import Generator
from bench.job import Job, samples_path
from bench.judge.trials import Window
from bench.memory import Memory
from bench.stand import Stand
from bench.stand_sql import SqlStand
from bench.stores.base import Counters

GENERATOR_LIMIT = 0.7  # share of a core above which the generator may be what limits
_GAUGE_EVERY_S = 0.25


class LoadFailed(Exception):
    """The load could not be made; ``epochs`` are the beginnings of the parts that did begin."""

    def __init__(self, message: str, epochs: dict[int, int]) -> None:
        super().__init__(message)
        self.epochs = epochs


@dataclass(frozen=True)
class Driven:
    """What the load process said of a trial's load; ``epochs`` is time 0 on the clock of each part."""

    window: Window
    epochs: dict[int, int]
    began_ns: int  # time 0 on our own clock
    generator: Generator
    retried: dict[str, int]
    reconnects: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # by kind: connections that could not be made anew


async def drive(job: Job, start: loader.Loader) -> Driven:
    """See a load through to its end.

    Raises:
        LoadFailed: it could not connect, or ended without its last frame.
    """
    epochs: dict[int, int] = {}
    began_ns = 0
    end: dict[str, Any] | None = None
    async with start(job) as load:
        async for frame in load.frames():
            if frame["event"] == "failed":
                message = f"writers could not connect ({frame['error']}): {frame['message']}"
                raise LoadFailed(message, epochs)
            if frame["event"] == "ready":
                began_ns = began_ns or time.perf_counter_ns()
                epochs[int(str(frame.get("part", 0)))] = int(str(frame["epoch_ns"]))
            if frame["event"] == "end":
                end = cast(dict[str, Any], frame)
    if end is None:
        message = "the load process ended before its trial did; see load.log in the trial's folder"
        raise LoadFailed(message, epochs)
    if end["faults"]:
        raise LoadFailed(f"a writer broke down: {end['faults'][0]}", epochs)
    saturated = end["cpu_share"] > GENERATOR_LIMIT
    generator = Generator(
        cpu_share=end["cpu_share"],
        loop_lag_p99_ms=end["loop_lag_p99_ms"],
        saturated=saturated,
        lost_parts=end.get("lost_parts", 0),
        reason=f"it used {end['cpu_share']:.0%} of a core, above {GENERATOR_LIMIT:.0%}" if saturated else None,
    )
    window = Window(end["begin_ns"], end["end_ns"])
    return Driven(window, epochs, began_ns, generator, end["retried"], end.get("reconnects", 0), end.get("refused", {}))


async def watched(job: Job, start: loader.Loader, stand: Stand) -> tuple[Driven, dict[str, Any]]:
    """The load, and what stood beside it: the database's counters, the tracking server's errors, availability.

    Raises:
        LoadFailed: as `drive` says.
    """
    before = await stand.counters()
    met = stand.server.errors() if stand.server is not None else None
    peaks: dict[str, float] = {}
    over = asyncio.Event()
    watch = asyncio.create_task(_watch_gauges(stand, peaks, over))
    try:
        async with _probes(job) as probes, _memory(stand) as memory:
            load = await drive(job, start)
    finally:
        over.set()  # not a cancellation: that would close the connection in the middle of a query
        await watch
    after: Counters = await stand.counters()
    referee: dict[str, float | None] = {**after.since(before), **peaks}
    if stand.facts.connections and "connections" in peaks:
        referee["connections_share"] = peaks["connections"] / stand.facts.connections
    seen: dict[str, Any] = {"referee": referee, "memory": memory.uses()}
    if job.driver == "http":
        begin, end = load.began_ns + load.window.begin_ns, load.began_ns + load.window.end_ns
        begin -= round(EVERY_S * 1e9)  # a trial may be shorter than the time between two probes
        seen["availability"] = probes.result(begin, end) if probes is not None else None
        if stand.server is not None and met is not None:
            seen["server_errors"] = dict(stand.server.errors() - met)
    return load, seen


def _memory(stand: Stand) -> Memory:
    """Who takes how much, of what is ours."""
    server, database = stand.server, stand.database if isinstance(stand, SqlStand) else None
    return Memory(tuple if server is None else server.pids, lambda: None if database is None else database.pid)


def compact(folder: Path, epochs: Mapping[int, int]) -> None:
    """Turn what the parts of a load recorded in a trial's folder into its Parquet file; each has its own time 0."""
    samples.compact({samples_path(folder, part): epoch for part, epoch in epochs.items()}, folder / "samples.parquet")


@asynccontextmanager
async def _probes(job: Job) -> AsyncIterator[Prober | None]:
    if job.driver == "direct" or job.site is None:
        yield None
        return
    async with Prober(job.site, job.experiment_id) as prober:
        yield prober


async def _watch_gauges(stand: Stand, peaks: dict[str, float], over: asyncio.Event) -> None:
    while not over.is_set():
        for name, value in (await stand.gauges()).items():
            peaks[name] = max(peaks.get(name, 0.0), value)
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), _GAUGE_EVERY_S)
