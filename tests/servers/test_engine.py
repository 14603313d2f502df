"""The engine as a process: orders, frames, and its end, on a real SQLite file."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench import ledger, samples
from bench.frames import pack
from bench.identity import TrialKey
from bench.job import Job, samples_path
from bench.loader import LoadProcess, start
from bench.outcome import Outcome
from bench.scenario import CandidateSpec
from bench.stand import Access
from bench.stand_sql import SqlStand
from bench.stands import cache_folder, stand
from bench.workload import Workload

WRITERS = 4


@asynccontextmanager
async def sqlite() -> AsyncIterator[SqlStand]:
    async with stand("sqlite", CandidateSpec(store="sqlite"), Access(), cache_folder(), lambda _: None) as ready:
        assert isinstance(ready, SqlStand)
        yield ready


async def train_job(ready: SqlStand, folder: Path) -> Job:
    """Writers that make their own runs, for as long as nobody stops them."""
    key = TrialKey.of("engine", 1, 1)
    return Job(
        driver="direct",
        url=ready.url,
        site=None,
        session_options={},
        key=key,
        workload=Workload("train", "train", params=1, tags=1, keys=2, steps=3),
        run_ids=(),
        writers=WRITERS,
        part=0,
        first=0,
        block=WRITERS,
        active=WRITERS,
        experiment_id=await ready.create_experiment("engine", key.prefix),
        artifact_root="file:///nowhere",
        folder=str(folder),
        warmup_s=0.0,
        duration_s=60.0,
        count=None,
        min_writes=0,
        timeout_s=5.0,
        retry="none",
        reads=None,
    )


async def wait_for_ops(frames: AsyncIterator[dict[str, object]], wanted: int) -> None:
    seen = 0
    async for frame in frames:
        seen += int(str(frame.get("ok", 0)))
        if seen >= wanted:
            return


async def until_end(process: LoadProcess) -> dict[str, object]:
    last: dict[str, object] = {}
    async for frame in process.frames():
        last = frame
    return last


def test_a_count_is_kept_to_the_operation(tmp_path: Path) -> None:
    async def body() -> None:
        async with sqlite() as ready:
            job = replace(await train_job(ready, tmp_path), count=17)
            async with start(job) as process:
                end = await until_end(process)
        assert (end["event"], end["faults"]) == ("end", [])
        samples.compact({samples_path(tmp_path, 0): 0}, tmp_path / "samples.parquet")
        taken = samples.load(tmp_path / "samples.parquet")
        assert np.bincount(taken.writer).tolist() == [17] * WRITERS
        statuses = [ledger.load(tmp_path, writer) for writer in range(WRITERS)]
        assert [int(np.count_nonzero(one == Outcome.OK)) for one in statuses] == [17] * WRITERS

    asyncio.run(body())


def test_orders_lower_the_number_of_writers_to_none(tmp_path: Path) -> None:
    async def body() -> None:
        async with sqlite() as ready, start(await train_job(ready, tmp_path)) as process:
            frames = process.frames()
            await wait_for_ops(frames, 20)
            await process.set_writers(1)
            await process.set_writers(0)
            last = [frame async for frame in frames][-1]
        assert (last["event"], last["faults"]) == ("end", [])

    asyncio.run(body())


def test_the_end_of_its_stdin_ends_the_engine(tmp_path: Path) -> None:
    async def body() -> tuple[bytes, int]:
        async with sqlite() as ready:
            job = await train_job(ready, tmp_path)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bench.engine", stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert process.stdin is not None
            process.stdin.write(pack({"job": job.to_json()}))
            process.stdin.close()
            out, _ = await asyncio.wait_for(process.communicate(), 30)
            return out, process.returncode or 0

    out, code = asyncio.run(body())
    assert code == 0
    assert json.loads(out[out.rindex(b'{"event": "end"') :])["faults"] == []


def test_a_killed_engine_leaves_its_commits_reserved_and_no_process(tmp_path: Path) -> None:
    async def body() -> int:
        async with sqlite() as ready, start(await train_job(ready, tmp_path)) as process:
            await wait_for_ops(process.frames(), 20)
            os.kill(process.pid, signal.SIGKILL)
            assert [frame async for frame in process.frames() if frame["event"] == "end"] == []
            return process.pid

    pid = asyncio.run(body())
    assert not psutil.pid_exists(pid)
    seen = np.concatenate([ledger.load(tmp_path, writer) for writer in range(WRITERS)])
    assert np.count_nonzero(seen == Outcome.OK) > 0
    assert set(np.unique(seen).tolist()) <= {int(Outcome.OK), int(Outcome.RESERVED)}
    assert np.count_nonzero(seen == Outcome.RESERVED) <= WRITERS


@pytest.mark.slow
def test_a_store_that_hangs_ends_the_operation_at_its_time_limit(tmp_path: Path) -> None:
    """Another process holds the write lock for longer than the limit: the commit is a certain failure."""

    async def body() -> dict[str, object]:
        async with sqlite() as ready:
            job = replace(await train_job(ready, tmp_path), timeout_s=0.5, writers=1, block=1, active=1, duration_s=2.0)
            await ready.session.execute("BEGIN IMMEDIATE")
            async with start(job) as process:
                end = await until_end(process)
            await ready.session.rollback()
            return end

    end = asyncio.run(body())
    assert (end["event"], end["faults"]) == ("end", [])
    samples.compact({samples_path(tmp_path, 0): 0}, tmp_path / "samples.parquet")
    taken = samples.load(tmp_path / "samples.parquet")
    assert set(taken.outcome.tolist()) == {int(Outcome.FAIL)}
    assert not np.any(ledger.load(tmp_path, 0) == Outcome.OK)
