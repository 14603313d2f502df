"""What it costs to have the engine steered by Locust: the engine under Locust's users against the engine alone.

.venv/bin/python -m benchmarks.steering [sqlite|postgresql|mysql]

The Locust of this benchmark does all that a real one does: a user a writer, ticks merged into Locust's statistics and
into the live totals. Rates are noisy on a busy machine; CPU time an operation (the engine's event loop and Locust
together, against the engine's event loop alone) is the robust figure.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench import loader, samples
from bench.job import samples_path
from bench.judge.statistics import SHOWN_CONFIDENCE, geometric_mean, log_interval, paired_ratios
from bench.scenario import CandidateSpec
from bench.stand import Access
from bench.stand_sql import SqlStand
from bench.stands import cache_folder, stand
from benchmarks.side_by_side import Bed, compare

LEVELS = (1, 20)


@dataclass
class Costs:
    """CPU time an operation, in µs, one figure a measurement."""

    steered: list[float]
    alone: list[float]
    locust: list[float]  # of those that were steered: Locust's part


def _rate(folder: str, epoch_ns: int, begin_ns: int, end_ns: int) -> float:
    """Operations a second that ended within the window."""
    samples.compact({samples_path(Path(folder), 0): epoch_ns}, Path(folder) / "samples.parquet")
    taken = samples.load(Path(folder) / "samples.parquet")
    inside = np.count_nonzero((taken.end_ns >= begin_ns) & (taken.end_ns < end_ns))
    return float(inside / ((end_ns - begin_ns) / 1e9))


async def _alone(bed: Bed, writers: int, costs: Costs) -> float:
    job = await bed.job(writers)
    with tempfile.TemporaryDirectory() as folder:
        epoch, end = 0, {}
        async with loader.start(replace(job, folder=folder)) as load:
            async for frame in load.frames():
                if frame["event"] == "ready":
                    epoch = int(str(frame["epoch_ns"]))
                if frame["event"] == "end":
                    end = frame
        rate = _rate(folder, epoch, int(str(end["begin_ns"])), int(str(end["end_ns"])))
    costs.alone.append(float(str(end["cpu_share"])) / rate * 1e6)
    return rate


async def _steered(bed: Bed, writers: int, costs: Costs) -> float:
    job = await bed.job(writers)
    with tempfile.TemporaryDirectory() as folder:
        job = replace(job, folder=folder, active=0, warmup_s=0.0, duration_s=float("inf"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.steered", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        out, _ = await process.communicate(job.to_json().encode())
        if process.returncode != 0:
            raise RuntimeError("the steering process failed; see above")
        told = json.loads(out)
        rate = _rate(folder, 0, told["begin_ns"], told["end_ns"])
    costs.locust.append(told["locust_share"] / rate * 1e6)
    costs.steered.append((told["engine_share"] + told["locust_share"]) / rate * 1e6)
    return rate


def _tell(steered: Sequence[float], alone: Sequence[float], locust: Sequence[float]) -> None:
    ratios = paired_ratios(steered, alone)
    interval = log_interval(ratios, SHOWN_CONFIDENCE)
    span = "" if interval is None else f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"
    print(
        f"  CPU an operation: {geometric_mean(steered):.1f} µs, {np.median(locust):.1f} of them Locust's, against "
        f"{geometric_mean(alone):.1f}, ratio {geometric_mean(ratios):.3f}{span}",
        flush=True,
    )


async def _main(store: str) -> None:
    spec = CandidateSpec.model_validate({"store": store})
    async with stand(store, spec, Access(), cache_folder(), print) as ready:
        assert isinstance(ready, SqlStand)
        bed = Bed(ready)
        for level in LEVELS:
            costs = Costs([], [], [])
            await compare(
                f"{store}: steered by Locust / engine alone, {level} writers",
                lambda writers=level, told=costs: _steered(bed, writers, told),  # type: ignore[misc]
                lambda writers=level, told=costs: _alone(bed, writers, told),  # type: ignore[misc]
                target=0.95,
            )
            _tell(costs.steered, costs.alone, costs.locust)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1] if len(sys.argv) > 1 else "postgresql"))
