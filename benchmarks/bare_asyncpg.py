"""A bare asyncpg loop of the engine's one-row INSERT: nothing recorded, no ledger, no errors looked at."""

import asyncio
import json
import sys
import time

import asyncpg
import numpy as np
import uvloop

from bench import identity
from bench.identity import TrialKey
from bench.job import Job
from bench.stores.postgresql import DIALECT
from bench.stores.tracking import METRIC_COLUMNS


async def _loop(job: Job, writer: int, until: list[float], counts: list[int]) -> None:
    url = job.url
    assert url is not None
    connection = await asyncpg.connect(
        host=url.host, port=url.port, user=url.user, password=url.password, database=url.database
    )
    statement = await connection.prepare(DIALECT.insert("metrics", METRIC_COLUMNS, 1))
    run_id, place = job.layout.run_id(writer, 0), 0
    block = _block(job.key, job, writer, 0)
    await asyncio.sleep(0)
    counted = 0
    while time.perf_counter() < until[1]:
        if place == len(block):
            block, place = _block(job.key, job, writer, counted), 0
        await statement.fetch(*block[place], run_id)
        place += 1
        counted += 1
        if time.perf_counter() >= until[0]:
            counts[writer] += 1
    await connection.close()


def _block(key: TrialKey, job: Job, writer: int, start: int) -> list[tuple[object, ...]]:
    ordinals = np.arange(start, start + 1024)
    timestamps, values = identity.metrics(key, np.array([writer]), ordinals)
    stored, is_nan = identity.as_stored(values)
    keys, steps = job.layout.metric_places(writer, ordinals)
    return list(zip(keys, stored.tolist(), timestamps.tolist(), steps, is_nan.tolist(), strict=True))


async def _main() -> None:
    job = Job.from_json(sys.stdin.read())
    begin = time.perf_counter() + job.warmup_s
    until = [begin, begin + job.duration_s]
    counts = [0] * job.writers
    await asyncio.gather(*(_loop(job, writer, until, counts) for writer in range(job.writers)))
    print(json.dumps({"rate": sum(counts) / job.duration_s}))


if __name__ == "__main__":
    uvloop.run(_main())
