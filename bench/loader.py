"""Starts a load process and speaks its frames; it ends when this side does.

A `Loader` is where a trial's load comes from. `start` is the one for the command line; `bench.host` has another, for
a Locust that makes the load itself.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

from bench.frames import pack, read_frame
from bench.job import Driver, Job

_MODULES: dict[Driver, str] = {"direct": "bench.engine", "http": "loadtests._engine"}
_PATIENCE_S = 5.0  # beyond the time limit of the operation in flight


class Load(Protocol):
    """A load under way."""

    def frames(self) -> AsyncIterator[dict[str, object]]:
        """Its frames until it ends."""


Loader = Callable[[Job], AbstractAsyncContextManager[Load]]


class LoadProcess:
    """A load process of ours."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def frames(self) -> AsyncIterator[dict[str, object]]:
        """Its frames until it ends."""
        assert self._process.stdout is not None
        while (frame := await read_frame(self._process.stdout)) is not None:
            yield frame

    async def set_writers(self, wanted: int) -> None:
        """Order so many writers."""
        await self.order({"writers": wanted})

    async def order(self, what: dict[str, object]) -> None:
        """Give an order; a process that has ended takes none."""
        assert self._process.stdin is not None
        with suppress(ConnectionError):
            self._process.stdin.write(pack(what))
            await self._process.stdin.drain()

    def end(self) -> None:
        """Let it end in order: after the operations in flight, with its last frames."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def kill(self) -> None:
        """SIGKILL it."""
        with suppress(ProcessLookupError):
            self._process.kill()


@asynccontextmanager
async def start(job: Job) -> AsyncIterator[LoadProcess]:
    """Start the process for the job's driver; on exit it is gone, whatever its state. Its stderr is ``load.log``."""
    with (Path(job.folder) / "load.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", _MODULES[job.driver],
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
            start_new_session=True,  # Ctrl-C reaches the owner only, which ends the load in order
            limit=1 << 24,
        )  # fmt: skip
        assert process.stdin is not None
        try:
            with suppress(ConnectionError):  # it died at once: its frames will end without an "end"
                process.stdin.write(pack({"job": job.to_json()}))
                await process.stdin.drain()
            yield LoadProcess(process)
        finally:
            process.stdin.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), job.timeout_s + _PATIENCE_S)
            if process.returncode is None:
                process.kill()
                await process.wait()
