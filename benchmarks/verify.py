"""`trackbench verify` on equal stores, SQLite against PostgreSQL and against MySQL in turn: metrics a second.

What is timed is the proof of all rows, both sides and the start of the other side's process included; not the snapshot
of the SQLite file, the schema or MLflow's client. All that runs beside it takes from it, above all the database's own
share of the two cores.

.venv/bin/python -m benchmarks.verify [--metrics 1200000] [--runs 2000] [--rounds 6] [--memory]
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import servers
from bench.judge.statistics import SHOWN_CONFIDENCE, geometric_mean, log_interval
from bench.migrate import migration
from bench.migrate.catalog import Catalog, reflect
from bench.migrate.side import LocalSide, remote_side
from bench.migrate.verify import prove_rows
from bench.scratch import scratch_folder
from bench.servers import databases
from bench.stores import store_for
from bench.stores.base import Session
from bench.stores.url import StoreUrl, parse
from benchmarks.made_store import Made, make
from benchmarks.side_by_side import Contender, compare

WANTED = 300_000
_SAMPLE_S = 0.05


class Quiet:
    """Watches a copy and says nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def phase(self, name: str, rows: int | None = None) -> None:
        """Nothing."""

    def moved(self, rows: int) -> None:
        """Nothing."""


@dataclass
class Pair:
    """Two equal stores; the source's session is open and frozen."""

    source: StoreUrl
    target: StoreUrl
    session: Session
    catalogs: tuple[Catalog, Catalog]
    metrics: int

    async def verified(self) -> float:
        """Metrics a second of a proof of all rows."""
        began = time.perf_counter()
        async with remote_side(self.target) as there:
            rows = await prove_rows(LocalSide(self.session, self.source), there, self.catalogs)
        if not rows.equal:
            raise RuntimeError(f"the stores differ: {rows.named[:3]}")
        return self.metrics / (time.perf_counter() - began)


async def peak_during(work: Callable[[], Awaitable[float]]) -> float:
    """The most memory in MB that this process and what ``work`` starts have together; shared pages count once."""
    others = {process.pid for process in psutil.Process().children()}  # the servers
    most, task = 0.0, asyncio.ensure_future(work())
    while not task.done():
        held = 0
        for process in [psutil.Process(), *psutil.Process().children()]:
            with suppress(psutil.Error):
                held += 0 if process.pid in others else process.memory_full_info().pss
        most = max(most, held / 1e6)
        await asyncio.sleep(_SAMPLE_S)
    await task
    return most


@asynccontextmanager
async def pair(name: str, source: StoreUrl, made: Made) -> AsyncIterator[Pair]:
    """A server of ours that holds what the source does."""
    server = servers.start(servers.as_kind(name), {})
    try:
        databases.create(server, "verified")
        target = parse(server.url("verified"), server.kind)
        await migration.migrate(source.mlflow, target, migration.Options(client=False), Quiet())
        session = await store_for(source).connect()
        await session.freeze()
        try:
            yield Pair(source, target, session, (reflect(source), reflect(target)), made.metrics)
        finally:
            await session.close()
    finally:
        server.stop()


def timed(contender: Contender, rates: list[float]) -> Contender:
    """It, with its rates kept."""

    async def rate() -> float:
        rates.append(await contender())
        return rates[-1]

    return rate


async def _main(metrics: int, runs: int, rounds: int, memory: bool) -> None:
    made = Made(metrics=metrics, runs=runs)
    async with AsyncExitStack() as stack:
        path = Path(stack.enter_context(scratch_folder("benchmark"))) / "source.db"
        make(path, made)
        source = StoreUrl("sqlite", path=path)
        pairs = [await stack.enter_async_context(pair(name, source, made)) for name in ("postgresql", "mysql")]
        rates: list[list[float]] = [[], []]
        contenders = [timed(one.verified, kept) for one, kept in zip(pairs, rates, strict=True)]
        what = f"verify of {metrics:,} metrics, SQLite against {pairs[0].target.store} / {pairs[1].target.store}"
        await compare(what, contenders[0], contenders[1], pairs=rounds)
        for one, kept in zip(pairs, rates, strict=True):
            interval = log_interval(kept, SHOWN_CONFIDENCE)
            span = "" if interval is None else f" (95 % interval {interval[0]:,.0f} to {interval[1]:,.0f})"
            print(f"  {one.target.store}: {geometric_mean(kept):,.0f} metrics/s{span}, wanted at least {WANTED:,}")
            if memory:
                print(f"  {one.target.store}: peak of both processes {await peak_during(one.verified):.0f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=int, default=1_200_000)
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--memory", action="store_true", help="also the peak of memory, by one more proof")
    given = parser.parse_args()
    asyncio.run(_main(given.metrics, given.runs, given.rounds, given.memory))
