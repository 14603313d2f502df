"""Starts the engine's process and speaks its frames; the engine ends when this side does."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from bench.engine import pack, read_frame
from bench.job import Job


class EngineProcess:
    """A running engine."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """The engine's process id."""
        return self._process.pid

    async def frames(self) -> AsyncIterator[dict[str, object]]:
        """Its frames until it ends."""
        assert self._process.stdout is not None
        while (frame := await read_frame(self._process.stdout)) is not None:
            yield frame

    async def set_writers(self, wanted: int) -> None:
        """Order so many writers."""
        assert self._process.stdin is not None
        self._process.stdin.write(pack({"writers": wanted}))
        await self._process.stdin.drain()


@asynccontextmanager
async def engine(job: Job) -> AsyncIterator[EngineProcess]:
    """Start the engine with ``job``; on exit it is gone, whatever state it was in. Its stderr is ``engine.log``."""
    with (Path(job.folder) / "engine.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.engine",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
            start_new_session=True,  # Ctrl-C reaches the owner only, which ends the engine in order
            limit=1 << 24,
        )  # fmt: skip
        assert process.stdin is not None
        try:
            process.stdin.write(pack({"job": job.to_json()}))
            await process.stdin.drain()
            yield EngineProcess(process)
        finally:
            process.stdin.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), job.timeout_s + 5)
            if process.returncode is None:
                process.kill()
                await process.wait()
