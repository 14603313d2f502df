"""The engine against mysqlslap: the same durable one-row INSERT, side by side.

.venv/bin/python -m benchmarks.mysql
"""

import asyncio
import re
import tempfile

from bench import servers
from bench.scenario import CandidateSpec
from bench.stand import Access
from bench.stand_sql import SqlStand
from bench.stands import cache_folder, stand
from benchmarks.side_by_side import SECONDS, Bed, compare, output_of

_INSERT = (
    "INSERT INTO metrics (`key`, value, timestamp, step, is_nan, run_uuid) VALUES "
    "('metric0000', RAND(), 1735689600000 + FLOOR(RAND() * 2764800000), FLOOR(RAND() * 9000000000000000), 0, '{run}')"
)


async def _mysqlslap(bed: Bed, writers: int, guess: list[float]) -> float:
    """Queries a second; mysqlslap wants their number ahead, so it comes from the last rate."""
    job = await bed.job(writers)
    url = job.url
    assert url is not None
    number = max(int(guess[-1] * SECONDS), writers)
    with tempfile.NamedTemporaryFile("w", suffix=".cnf") as login:  # mode 0600: the password stays out of sight
        login.write(f"[client]\nuser={url.user}\npassword={url.password}\nhost={url.host}\nport={url.port}\n")
        login.flush()
        printed = await output_of(
            str(servers.tool("mysqlslap")), f"--defaults-extra-file={login.name}", "--protocol=tcp", "--no-drop",
            f"--create-schema={url.database}", f"--concurrency={writers}", f"--number-of-queries={number}",
            f"--query={_INSERT.format(run=job.layout.run_id(0, 0))}",
        )  # fmt: skip
    found = re.search(r"Average number of seconds to run all queries: ([0-9.]+)", printed)
    assert found is not None, printed
    guess.append(number / float(found[1]))
    return guess[-1]


async def _main() -> None:
    async with stand("mysql", CandidateSpec(store="mysql"), Access(), cache_folder(), print) as ready:
        assert isinstance(ready, SqlStand)
        bed = Bed(ready)
        for writers in (1, 20):
            guess = [await bed.engine_rate(writers)]
            await compare(
                f"engine / mysqlslap, {writers} connections",
                lambda n=writers: bed.engine_rate(n),
                lambda n=writers, seen=guess: _mysqlslap(bed, n, seen),
            )


if __name__ == "__main__":
    asyncio.run(_main())
