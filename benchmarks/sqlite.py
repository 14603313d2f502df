"""The engine against a loop in C on SQLite: sqlite3's ``executemany`` in autocommit, the same durable INSERT.

.venv/bin/python -m benchmarks.sqlite
"""

import asyncio
import sqlite3
import time

import numpy as np

from bench import identity
from bench.scenario import CandidateSpec
from bench.stand import Access
from bench.stand_sql import SqlStand
from bench.stands import cache_folder, stand
from bench.stores.sqlite import DIALECT
from bench.stores.tracking import METRIC_COLUMNS
from benchmarks.side_by_side import SECONDS, Bed, compare

_ROWS = 100


async def _loop_in_c(bed: Bed) -> float:
    job = await bed.job(1)
    assert job.url is not None
    assert job.url.path is not None
    statement, run_id = DIALECT.insert("metrics", METRIC_COLUMNS, 1), job.layout.run_id(0, 0)
    connection = sqlite3.connect(job.url.path, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    done, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        ordinals = np.arange(done, done + _ROWS)
        timestamps, values = identity.metrics(job.key, np.array([0]), ordinals)
        stored, is_nan = identity.as_stored(values)
        keys, steps = job.layout.metric_places(0, ordinals)
        columns = (keys, stored.tolist(), timestamps.tolist(), steps, is_nan.tolist(), [run_id] * _ROWS)
        connection.executemany(statement, zip(*columns, strict=True))
        done += _ROWS
    rate = done / (time.perf_counter() - begin)
    connection.close()
    return rate


async def _main() -> None:
    async with stand("sqlite", CandidateSpec(store="sqlite"), Access(), cache_folder(), print) as ready:
        assert isinstance(ready, SqlStand)
        bed = Bed(ready)
        await compare("engine / loop in C, 1 connection", lambda: bed.engine_rate(1), lambda: _loop_in_c(bed))


if __name__ == "__main__":
    asyncio.run(_main())
