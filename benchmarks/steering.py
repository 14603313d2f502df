"""What it costs to have the engine steered by Locust: the engine under Locust's users against the engine alone.

.venv/bin/python -m benchmarks.steering [sqlite|postgresql|mysql]

The Locust of this benchmark does all that a real one does: a user a writer, ticks merged into Locust's statistics and
into the live totals.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench import samples
from bench.job import samples_path
from bench.scenario import CandidateSpec
from bench.stand import Access
from bench.stand_sql import SqlStand
from bench.stands import cache_folder, stand
from benchmarks.side_by_side import Bed, compare

WRITERS = 20


async def _steered(bed: Bed, writers: int) -> float:
    """Operations a second of an engine whose writers are Locust's users."""
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
        samples.compact({samples_path(Path(folder), 0): 0}, Path(folder) / "samples.parquet")
        taken = samples.load(Path(folder) / "samples.parquet")
    begin, end = told["begin_ns"], told["end_ns"]
    inside = np.count_nonzero((taken.end_ns >= begin) & (taken.end_ns < end))
    return float(inside / ((end - begin) / 1e9))


async def _main(store: str) -> None:
    spec = CandidateSpec.model_validate({"store": store})
    async with stand(store, spec, Access(), cache_folder(), print) as ready:
        assert isinstance(ready, SqlStand)
        bed = Bed(ready)
        for writers in (1, WRITERS):
            await compare(
                f"{store}: steered by Locust / engine alone, {writers} writers",
                lambda writers=writers: _steered(bed, writers),  # type: ignore[misc]
                lambda writers=writers: bed.engine_rate(writers),  # type: ignore[misc]
                target=0.95,
            )


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1] if len(sys.argv) > 1 else "postgresql"))
