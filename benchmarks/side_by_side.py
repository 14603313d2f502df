"""What the benchmarks share: two contenders measured in turn in one run, and the ratio with its interval."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench import loader, samples
from bench.identity import TrialKey
from bench.integrity.run_audit import run_row
from bench.job import Job, samples_path
from bench.judge.statistics import SHOWN_CONFIDENCE, geometric_mean, log_interval, paired_ratios
from bench.stand_sql import SqlStand
from bench.workload import Layout, Workload

ONE_ROW = Workload("one-row", "bulk", metrics=1)
WARMUP_S, SECONDS = 0.5, 3.0

Contender = Callable[[], Awaitable[float]]


async def compare(what: str, ours: Contender, theirs: Contender, pairs: int = 12, target: float | None = None) -> None:
    """Measure both in turn, order reversed each time, and print the ratio of their rates."""
    first: list[float] = []
    second: list[float] = []
    for pair in range(pairs):
        for contender, rates in ((ours, first), (theirs, second))[:: 1 if pair % 2 == 0 else -1]:
            rates.append(await contender())
    ratios = paired_ratios(first, second)
    ratio, interval = geometric_mean(ratios), log_interval(ratios, SHOWN_CONFIDENCE)
    wanted = "" if target is None else f", wanted at least {target}"
    span = "" if interval is None else f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"
    print(
        f"{what}: {geometric_mean(first):,.0f}/s against {geometric_mean(second):,.0f}/s, "
        f"ratio {ratio:.3f}{span} over {pairs} interleaved pairs{wanted}",
        flush=True,
    )


class Bed:
    """A store with an experiment and a run for each writer, for one-row inserts."""

    def __init__(self, stand: SqlStand) -> None:
        self.stand = stand
        self._trial = 0

    async def job(self, writers: int, workload: Workload = ONE_ROW) -> Job:
        """A job on fresh runs."""
        self._trial += 1
        key = TrialKey.of("benchmark", 1, self._trial)
        experiment = await self.stand.create_experiment(f"benchmark-{self._trial}", key.prefix)
        places = Layout(key, workload, writers).setup_runs()
        rows = [run_row(key, *place, experiment, "file:///benchmark") for place in places]
        return Job(
            driver="direct",
            url=self.stand.url,
            site=None,
            session_options={},
            key=key,
            workload=workload,
            run_ids=tuple([await self.stand.create_run(row) for row in rows]),
            writers=writers,
            part=0,
            first=0,
            block=writers,
            active=writers,
            experiment_id=experiment,
            artifact_root="file:///benchmark",
            folder="",
            warmup_s=WARMUP_S,
            duration_s=SECONDS,
            count=None,
            min_writes=0,
            timeout_s=30,
            retry="none",
            reads=None,
        )

    async def engine_rate(self, writers: int) -> float:
        """Operations a second of the engine, with recording, ledger and classification on."""
        job = await self.job(writers)
        with tempfile.TemporaryDirectory() as folder:
            epoch, begin, end = 0, 0, 0
            async with loader.start(replace(job, folder=folder)) as load:
                async for frame in load.frames():
                    if frame["event"] == "ready":
                        epoch = int(str(frame["epoch_ns"]))
                    if frame["event"] == "end":
                        begin, end = int(str(frame["begin_ns"])), int(str(frame["end_ns"]))
            samples.compact({samples_path(Path(folder), 0): epoch}, Path(folder) / "samples.parquet")
            taken = samples.load(Path(folder) / "samples.parquet")
        inside = np.count_nonzero((taken.end_ns >= begin) & (taken.end_ns < end))
        return float(inside / ((end - begin) / 1e9))


async def output_of(*argv: str, env: dict[str, str] | None = None) -> str:
    """Standard output of a program that must succeed."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env
    )
    out, err = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{argv[0]}: {err.decode(errors='replace').strip()}")
    return out.decode()
