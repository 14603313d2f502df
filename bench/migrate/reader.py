"""A process of its own that imports MLflow and reads two stores with it, writing to neither.

The import takes seconds, so a caller starts the process early and asks it later: ``async with reading(a, b) as
reader``, other work, then what `bench.migrate.client`, `bench.migrate.artifacts` and `bench.migrate.rights` offer.
Orders and answers are lines of JSON on its stdin and stdout. It ends when its stdin closes, which it does however its
owner ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import quote

from bench.errors import BadInput
from bench.stores.url import StoreUrl

VARIABLES: Final = ("TRACKBENCH_READ_SOURCE", "TRACKBENCH_READ_TARGET")  # so that no password is in a process list
_LINE_BYTES: Final = 2**28  # an answer is one line
_QUIET: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "StaticPool",  # one connection a store: see bench.migrate.frozen
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # what does not answer now is not reachable
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "AWS_MAX_ATTEMPTS": "1",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",  # nobody is there: without one, MLflow makes a store where it stands
    "MLFLOW_REGISTRY_URI": "http://127.0.0.1:1",
}
_UNFIT: Final = (  # what does not go with one connection, or lets MLflow look elsewhere
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE",
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW",
    "MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE",
    "MLFLOW_WORKSPACE",
    "MLFLOW_WORKSPACE_STORE_URI",
    "MLFLOW_ENABLE_WORKSPACES",
)


class Refused(Exception):
    """In the process: why it can't answer, which its owner is told in one line."""


class Reader:
    """The process. `ask` it one thing after the other."""

    def __init__(self, process: asyncio.subprocess.Process, urls: tuple[StoreUrl, StoreUrl]) -> None:
        self.urls = urls
        self._process = process
        self._last_words: deque[str] = deque(maxlen=5)
        self._listener = asyncio.create_task(self._listen())
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def ask(self, order: str, **arguments: Any) -> Any:
        """Its answer, as JSON gives it.

        Raises:
            BadInput: MLflow can't read one of the stores, or the process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._turn:
            with suppress(ConnectionError):  # it has ended, and what it said tells why
                self._process.stdin.write(json.dumps([order, arguments]).encode() + b"\n")
                await self._process.stdin.drain()
            line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):
            await self._listener
            last = self._hidden(self._last_words[-1] if self._last_words else "no message")
            raise BadInput(f"MLflow's client ended while reading {self.urls[0]} and {self.urls[1]}: {last}")
        refused, answer = json.loads(line)
        if refused is not None:
            raise BadInput(self._hidden(refused))
        return answer

    async def close(self) -> None:
        """End the process, whatever it is doing."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._listener

    async def _listen(self) -> None:
        """Keep the last of what MLflow says on stderr, where a full pipe would stop it."""
        assert self._process.stderr is not None
        while piece := await self._process.stderr.read(65_536):
            self._last_words.extend(line for line in piece.decode(errors="replace").splitlines() if line.strip())

    def _hidden(self, text: str) -> str:
        """``text`` with the stores called by their names without passwords."""
        for url in self.urls:
            text = text.replace(url.mlflow, str(url))
            for secret in {url.password, quote(url.password, safe="*")} - {""}:
                text = text.replace(secret, "***")
        return text


@asynccontextmanager
async def reading(source: StoreUrl, target: StoreUrl) -> AsyncIterator[Reader]:
    """A reader of two stores, which imports MLflow meanwhile; it opens them only when it is first asked."""
    environment = {name: value for name, value in os.environ.items() if name not in _UNFIT} | _QUIET
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.migrate.answering",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=environment | dict(zip(VARIABLES, (source.mlflow, target.mlflow), strict=True)),
        limit=_LINE_BYTES,
        start_new_session=True,
    )  # fmt: skip
    reader = Reader(process, (source, target))
    try:
        yield reader
    finally:
        await reader.close()
