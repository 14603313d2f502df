"""What our hooks cost a tracking server: requests a second with and without them, side by side.

    python -m benchmarks.tracking_wrapper [PAIRS]

Two real MLflow servers with one worker each, on SQLite files of their own; the clients speak plain sockets with
requests encoded ahead, so that the server is what is measured. ``/health`` does next to nothing, so the hooks weigh
most there; log_metric is what users send. Counted by the server's processor time: one server has one core at most, and
whatever else the machine does then weighs little.
"""

import asyncio
import json
import shutil
import sys
import time
from pathlib import Path

import httpx

from bench.scratch import scratch_folder
from bench.servers import places, tracking
from bench.servers.tracking import RunningTracking, TrackingSettings
from bench.stores import schema
from bench.stores.url import StoreUrl
from benchmarks.side_by_side import compare

CONNECTIONS = 8
SECONDS = 3.0


class Contender:
    """One server, and requests to it."""

    def __init__(self, server: RunningTracking) -> None:
        self._server = server
        with httpx.Client(base_url=f"{server.url}/api/2.0/mlflow/", trust_env=False) as client:
            self._run = client.post("runs/create", json={"experiment_id": "0"}).json()["run"]["info"]["run_id"]
        self._step = 0

    def health(self) -> bytes:
        """A request that makes no work."""
        return f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{self._server.port}\r\n\r\n".encode()

    def log_metric(self) -> bytes:
        """A request that writes one metric."""
        self._step += 1
        body = json.dumps({"run_id": self._run, "key": "m", "value": 1.0, "timestamp": self._step, "step": self._step})
        head = (
            f"POST /api/2.0/mlflow/runs/log-metric HTTP/1.1\r\nHost: 127.0.0.1:{self._server.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return (head + body).encode()

    async def rate(self, what: str) -> float:
        """Answers a second of the server's processor time; all of them must be good."""
        before = self._server.cpu_seconds()
        ends = time.perf_counter() + SECONDS
        counts = await asyncio.gather(*(self._client(what, ends) for _ in range(CONNECTIONS)))
        return sum(counts) / (self._server.cpu_seconds() - before)

    async def _client(self, what: str, ends: float) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        done = 0
        while time.perf_counter() < ends:
            writer.write(getattr(self, what)())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode(errors="replace"))
            length = head.lower().split(b"content-length:")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            done += 1
        writer.close()
        await writer.wait_closed()
        return done


def server(folder: Path, counted: bool) -> RunningTracking:
    """A server on a fresh file."""
    path = folder / f"{counted}.db"
    template = schema.template_path(places.cache_dir())
    if template.exists():
        shutil.copyfile(template, path)
    return tracking.start(StoreUrl("sqlite", path=path).mlflow, TrackingSettings(workers=1), print, counted=counted)


async def main(pairs: int) -> None:
    """Print both ratios."""
    with scratch_folder("wrapper") as folder, server(folder, True) as ours, server(folder, False) as bare:
        with_hooks, without = Contender(ours), Contender(bare)
        for what in ("health", "log_metric"):
            await with_hooks.rate(what)
            await without.rate(what)
            await compare(
                f"answers a processor second with our hooks against without, {what}",
                lambda what=what: with_hooks.rate(what),  # type: ignore[misc]
                lambda what=what: without.rate(what),  # type: ignore[misc]
                pairs,
                target=0.98,
            )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 12))
