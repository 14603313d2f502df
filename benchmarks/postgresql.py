"""The engine against a bare asyncpg loop and against pgbench: the same durable one-row INSERT, side by side.

.venv/bin/python -m benchmarks.postgresql
"""

import asyncio
import json
import os
import re
import sys
import tempfile

from bench import servers
from bench.scenario import CandidateSpec
from bench.stand import Access
from bench.stand_sql import SqlStand
from bench.stands import cache_folder, stand
from benchmarks.side_by_side import SECONDS, Bed, compare, output_of

_SCRIPT = """\\set n random(1, 9000000000000000)
\\set t random(1735689600000, 1738454400000)
INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid)
VALUES ('metric0000', :n, :t, :n, false, '{run}');
"""


async def _bare(bed: Bed, writers: int) -> float:
    job = await bed.job(writers)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.bare_asyncpg", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(job.to_json().encode())
    return float(json.loads(out)["rate"])


async def pgbench(bed: Bed, writers: int) -> float:
    """Transactions a second of `pgbench -M prepared` with so many connections."""
    job = await bed.job(writers)
    url = job.url
    assert url is not None
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(_SCRIPT.format(run=job.layout.run_id(0, 0)))
        script.flush()
        program = servers.tool("pgbench")
        printed = await output_of(
            str(program), "-n", "-M", "prepared", "-c", str(writers), "-j", str(min(writers, 2)),
            "-T", f"{SECONDS:.0f}", "-f", script.name,
            "-h", url.host, "-p", str(url.port), "-U", url.user, url.database,
            env={**os.environ, "PGPASSWORD": url.password},
        )  # fmt: skip
    found = re.search(r"tps = ([0-9.]+)", printed)
    assert found is not None, printed
    return float(found[1])


async def _main() -> None:
    async with stand("postgresql", CandidateSpec(store="postgresql"), Access(), cache_folder(), print) as ready:
        assert isinstance(ready, SqlStand)
        bed = Bed(ready)
        for writers, wanted in ((1, 0.80), (20, 0.70)):
            await compare(
                f"engine / bare asyncpg loop, {writers} connections",
                lambda n=writers: bed.engine_rate(n),
                lambda n=writers: _bare(bed, n),
                target=0.95,
            )
            await compare(
                f"engine / pgbench -M prepared, {writers} connections",
                lambda n=writers: bed.engine_rate(n),
                lambda n=writers: pgbench(bed, n),
                target=wanted,
            )


if __name__ == "__main__":
    asyncio.run(_main())
