"""What the proxy of network faults costs: asyncpg's `SELECT 1` through it and without it, in a process of its own.

.venv/bin/python -m benchmarks.proxy
"""

import asyncio
import json
import sys
import time
from functools import partial
from typing import Any

import asyncpg
import uvloop

from bench import servers
from bench.faults.proxy import Proxy
from bench.stores.url import StoreUrl, parse
from benchmarks.side_by_side import SECONDS, WARMUP_S, compare


async def _load(login: dict[str, Any], port: int, connections: int) -> float:
    """Exchanges a second."""
    opened = [await asyncpg.connect(**login, port=port) for _ in range(connections)]
    begin = time.perf_counter() + WARMUP_S
    counts = await asyncio.gather(*(_ask(connection, begin) for connection in opened))
    for connection in opened:
        await connection.close()
    return sum(counts) / SECONDS


async def _ask(connection: "asyncpg.Connection[asyncpg.Record]", begin: float) -> int:
    statement = await connection.prepare("SELECT 1")
    count = 0
    while (now := time.perf_counter()) < begin + SECONDS:
        await statement.fetch()
        count += now >= begin
    return count


async def _rate(url: StoreUrl, port: int, connections: int) -> float:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.proxy", "load", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    login = {"host": "127.0.0.1", "user": url.user, "password": url.password, "database": url.database}
    out, _ = await process.communicate(json.dumps([login, port, connections]).encode())
    return float(out)


async def _through(url: StoreUrl, port: int, connections: int, spent: list[tuple[float, float]]) -> float:
    """`_rate`; what the proxy, which has this process to itself meanwhile, spent on it: (CPU seconds, exchanges)."""
    cpu = time.process_time()
    rate = await _rate(url, port, connections)
    spent.append((time.process_time() - cpu, rate * (SECONDS + WARMUP_S)))
    return rate


async def _main(url: StoreUrl) -> None:
    proxy = await Proxy.start(url.host, url.port)
    for connections in (1, 20):
        spent: list[tuple[float, float]] = []
        await compare(
            f"SELECT 1 through the proxy / without it, {connections} connections (wanted at least 3,000/s)",
            partial(_through, url, proxy.port, connections, spent),
            partial(_rate, url, url.port, connections),
        )
        cpu_s, exchanges = (sum(column) for column in zip(*spent, strict=True))
        print(f"    the proxy took {cpu_s / exchanges * 1e6:.0f} µs of CPU an exchange", flush=True)
    await proxy.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["load"]:
        print(uvloop.run(_load(*json.load(sys.stdin))))
    else:
        with servers.start("postgresql") as server:
            asyncio.run(_main(parse(server.url("postgres"))))
