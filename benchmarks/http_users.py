"""Our LogMetricUser against a bare FastHttpUser that posts a prepared body: requests a second per core, side by side.

.venv/bin/python -m benchmarks.http_users [USERS]

The server is a responder of a few lines in a process of its own: MLflow would be what limits.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.frames import pack, read_frame
from bench.identity import TrialKey
from bench.job import Job
from bench.site import Site
from bench.workload import Workload
from benchmarks.side_by_side import SECONDS, WARMUP_S, compare

USERS = 20
_PATH = "/api/2.0/mlflow/runs/log-metric"
_ANSWER = (  # uvicorn's and MLflow's own headers
    b"HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 00:29:42 GMT\r\nserver: uvicorn\r\ncontent-type: application/json\r\n"
    b"content-length: 2\r\nx-content-type-options: nosniff\r\nx-frame-options: SAMEORIGIN\r\nvary: Origin\r\n\r\n{}"
)


class _Responder(asyncio.Protocol):
    """Answers each POST at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport, self._seen = transport, b""

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self._seen += data
        while (end := self._seen.find(b"\r\n\r\n")) >= 0:
            head = self._seen[:end].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(self._seen) < end + 4 + length:
                return
            self._seen = self._seen[end + 4 + length :]
            self._transport.write(_ANSWER)  # type: ignore[attr-defined]


async def _respond() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Responder, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # until the owner ends


@contextmanager
def _responder() -> Iterator[str]:
    argv = [sys.executable, "-m", "benchmarks.http_users", "respond"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        assert process.stdin is not None
        process.stdin.close()


def _bare(url: str, users: int) -> None:
    """Locust with FastHttpUsers that do nothing but post; prints requests and CPU seconds."""
    import gevent
    from locust import FastHttpUser, task
    from locust.env import Environment

    values = {"run_id": "0" * 32, "key": "metric0000", "value": 0.123456789, "timestamp": 1735689600000, "step": 5}
    body: Any = json.dumps(values).encode()

    class Bare(FastHttpUser):
        @task
        def post(self) -> None:
            while True:
                self.client.post(_PATH, data=body, headers={"Content-Type": "application/json"})

    environment = Environment(user_classes=[Bare], host=url)
    runner = environment.create_local_runner()
    runner.start(users, spawn_rate=users)
    gevent.sleep(WARMUP_S)
    begun, cpu = environment.stats.total.num_requests, time.process_time()
    gevent.sleep(SECONDS)
    counts = environment.stats.total.num_requests - begun, time.process_time() - cpu
    assert not environment.stats.total.num_failures
    print(json.dumps(counts), flush=True)
    runner.quit()


async def _bare_rate(url: str, users: int) -> float:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.http_users", "bare", url, str(users), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    requests, seconds = json.loads(out)
    return float(requests / seconds)


async def _our_rate(url: str, users: int) -> float:
    """Our users with ledger, samples, ticks and Locust's own statistics."""
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "loadtests._engine",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pack({"job": _job(url, users, folder).to_json()}))
        ended = [(0, 0)]
        end: dict[str, object] = {}
        while (frame := await read_frame(process.stdout)) is not None:
            if frame["event"] == "tick":
                ended.append((int(str(frame["t_ns"])), int(str(frame["ok"]))))
            end = frame
        await process.wait()
    assert end["event"] == "end"
    begin_ns, end_ns = int(str(end["begin_ns"])), int(str(end["end_ns"]))
    requests = sum(n for at, n in ended if begin_ns < at <= end_ns)
    return float(requests / (float(str(end["cpu_share"])) * (end_ns - begin_ns) / 1e9))


def _job(url: str, users: int, folder: str) -> Job:
    return Job(
        driver="http",
        url=None,
        site=Site(url),
        session_options={},
        key=TrialKey.of("benchmark", 1, 1),
        workload=Workload("log_metric", "log_metric"),
        run_ids=tuple(f"{writer:032x}" for writer in range(users)),
        writers=users,
        part=0,
        first=0,
        block=users,
        active=users,
        experiment_id=1,
        artifact_root="",
        folder=folder,
        warmup_s=WARMUP_S,
        duration_s=SECONDS,
        count=None,
        min_writes=0,
        timeout_s=30,
        retry="none",
        reads=None,
    )


async def _main(users: int) -> None:
    with _responder() as url:
        await compare(
            f"LogMetricUser / bare FastHttpUser loop, {users} users, per core",
            lambda: _our_rate(url, users),
            lambda: _bare_rate(url, users),
            target=0.9,
        )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["respond"]:
            import uvloop

            uvloop.run(_respond())
        case ["bare", place, count]:
            _bare(place, int(count))
        case given:
            asyncio.run(_main(int(given[0]) if given else USERS))
