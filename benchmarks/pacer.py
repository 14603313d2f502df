"""How punctual the open loop is: an operation that takes nothing, then real commits on PostgreSQL. One process each.

.venv/bin/python -m benchmarks.pacer
"""

import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import uvloop
from numpy.typing import NDArray

from bench import loader, samples
from bench.arrivals import Arrivals
from bench.job import samples_path
from bench.outcome import Outcome
from bench.pacer import Due, Pacer, Seat
from bench.scenario import CandidateSpec
from bench.stand import Access
from bench.stand_sql import SqlStand
from bench.stands import cache_folder, stand
from benchmarks.side_by_side import Bed

_WRITERS, _SECONDS = 20, 5.0
_RATES = (1_000.0, 5_000.0, 10_000.0)
_COMMIT_RATES = (1_000.0, 3_000.0)
now = time.perf_counter_ns


def _say(what: str, lags_ns: NDArray[np.int64], skipped: int, cpu_share: float, target: str = "") -> None:
    median, p99, most = np.percentile(lags_ns, [50, 99, 100]) / 1e6
    print(
        f"{what}: schedule lag median {median:.3f} ms{target}, p99 {p99:.3f} ms, max {most:.1f} ms; "
        f"{len(lags_ns):,} operations in {_SECONDS:.0f} s, {skipped} skipped, {cpu_share:.0%} of a core",
        flush=True,
    )


async def _nothing(rate: float) -> None:
    lags: list[int] = []
    skipped: list[int] = []

    async def writer() -> None:
        seat = Seat(lambda due, _: skipped.append(due))
        while (due := await pacer.next(seat)) is not None:
            lags.append(now() - due)

    pacer, epoch = Pacer(), now()
    pacer.begin(Due(Arrivals("poisson", rate, seed=1), epoch, epoch + round(_SECONDS * 1e9)))
    cpu = time.thread_time()
    await asyncio.gather(*(writer() for _ in range(_WRITERS)))
    share = (time.thread_time() - cpu) / _SECONDS
    pacer.release()
    target = " (wanted under 1)" if rate == 5_000 else ""
    _say(f"nothing at {rate:,.0f}/s, {_WRITERS} writers", np.array(lags), len(skipped), share, target)


async def _commits(bed: Bed, rate: float) -> None:
    job = replace(await bed.job(_WRITERS), duration_s=_SECONDS, arrivals=Arrivals("poisson", rate, seed=1))
    with tempfile.TemporaryDirectory() as folder:
        end: dict[str, object] = {}
        epoch = 0
        async with loader.start(replace(job, folder=folder)) as load:
            async for frame in load.frames():
                epoch = int(str(frame.get("epoch_ns", epoch)))
                end = frame
        samples.compact({samples_path(Path(folder), 0): epoch}, Path(folder) / "samples.parquet")
        taken = samples.load(Path(folder) / "samples.parquet")
    begin, over = int(str(end["begin_ns"])), int(str(end["end_ns"]))
    inside = taken.where((taken.scheduled_ns >= begin) & (taken.scheduled_ns < over))
    sent = inside.where(inside.outcome != Outcome.SKIPPED)
    share = float(str(end["cpu_share"]))
    what = f"durable one-row INSERT on PostgreSQL at {rate:,.0f}/s, {_WRITERS} connections"
    _say(what, sent.start_ns - sent.scheduled_ns, len(inside) - len(sent), share)
    service, response = np.percentile(sent.service_ms, 99), np.percentile(sent.response_ms, 99)
    print(f"    p99 {service:.2f} ms from the start, {response:.2f} ms from the schedule", flush=True)


async def _real() -> None:
    async with stand("postgresql", CandidateSpec(store="postgresql"), Access(), cache_folder(), print) as ready:
        assert isinstance(ready, SqlStand)
        bed = Bed(ready)
        for rate in _COMMIT_RATES:
            await _commits(bed, rate)


if __name__ == "__main__":
    for _rate in _RATES:
        uvloop.run(_nothing(_rate))
    asyncio.run(_real())
