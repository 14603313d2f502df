"""One of two stores that are compared: read by one session, here or in a process of its own.

Both sides of a proof work at the same time, each on a core: the source in the process that has its session, the target
in a child, which has a frozen session of its own. Orders and answers are pickled, on pipes that nobody else has. The
child ends when its stdin closes, which it does however its owner ends.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import struct
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.errors import BadInput
from bench.migrate.digest import Reading, TableDigest, Told, digest_of, nobody
from bench.migrate.spill import spill
from bench.stores import store_for
from bench.stores.base import Session
from bench.stores.url import StoreUrl

_LENGTH: Final = struct.Struct(">Q")
_DRIVERS: Final = ("sqlite3", "asyncpg", "pymysql", "aiomysql")
One = TypeVar("One")
Other = TypeVar("Other")


class Side(ABC):
    """A store that is compared with another. Methods raise BadInput where it can't be read any longer."""

    @abstractmethod
    async def digest(self, reading: Reading, secret: bytes, told: Told = nobody) -> TableDigest:
        """The digest of a table; ``told`` hears of its rows on the way."""

    @abstractmethod
    async def spill(
        self, reading: Reading, secret: bytes, wanted: NDArray[np.bool_], stem: Path, told: Told = nobody
    ) -> list[Path]:
        """Sorted runs of the rows in the ``wanted`` buckets, as `bench.migrate.spill` writes them."""


class LocalSide(Side):
    """A side that is read in this process, through a session that is open, and frozen where others may write."""

    def __init__(self, session: Session, url: StoreUrl) -> None:
        self._session, self._url = session, url

    async def digest(self, reading: Reading, secret: bytes, told: Told = nobody) -> TableDigest:
        """As `Side` says."""
        return await self._read(digest_of(self._session, self._url.store, reading, secret, told))

    async def spill(
        self, reading: Reading, secret: bytes, wanted: NDArray[np.bool_], stem: Path, told: Told = nobody
    ) -> list[Path]:
        """As `Side` says."""
        return await self._read(spill(self._session, self._url.store, reading, secret, wanted, stem, told))

    async def _read(self, work: Coroutine[Any, Any, One]) -> One:
        try:
            return await work
        except Exception as error:
            raise unreadable(self._url, error) or error from error


def unreadable(url: StoreUrl, error: Exception) -> BadInput | None:
    """What to say where a driver or the system could not read; None if the error is of another sort."""
    ours = isinstance(error, OSError | EOFError) or type(error).__module__.partition(".")[0] in _DRIVERS
    if not ours:
        return None
    told = str(error).strip().splitlines() or [type(error).__name__]
    return BadInput(f"{url}: can't be read to its end: {told[0]}; nothing was decided, mend it and try again")


class RemoteSide(Side):
    """A side that is read by a child of ours. Get one from `remote_side`; it does one thing at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._orders, self._answers = process.stdin, process.stdout
        self._url: StoreUrl | None = None

    async def open(self, url: StoreUrl) -> None:
        """See the store at ``url`` as it is now; once.

        Raises:
            BadInput: it can't be opened.
        """
        self._url = url
        await self.ask("open", (url,))

    async def digest(self, reading: Reading, secret: bytes, told: Told = nobody) -> TableDigest:
        """As `Side` says."""
        return TableDigest.unpacked(await self.ask("digest", (reading, secret), told))

    async def spill(
        self, reading: Reading, secret: bytes, wanted: NDArray[np.bool_], stem: Path, told: Told = nobody
    ) -> list[Path]:
        """As `Side` says."""
        found: list[Path] = await self.ask("spill", (reading, secret, wanted, stem), told)
        return found

    async def ask(self, order: str, arguments: tuple[Any, ...], told: Told = nobody) -> Any:
        """The answer to an order.

        Raises:
            BadInput: the child could not read the store, or is gone.
            RuntimeError: a defect of ours in it.
        """
        message = pickle.dumps((order, arguments), pickle.HIGHEST_PROTOCOL)
        try:
            self._orders.write(_LENGTH.pack(len(message)) + message)
            await self._orders.drain()
            while True:
                (length,) = _LENGTH.unpack(await self._answers.readexactly(_LENGTH.size))
                sort, value = pickle.loads(await self._answers.readexactly(length))
                if sort != "told":
                    break
                told(value)
        except (EOFError, ConnectionError) as error:
            raise BadInput(f"{self._url}: the process that read it ended; is there memory enough? try again") from error
        if sort == "bad":
            raise BadInput(value)
        if sort == "defect":
            raise RuntimeError(value)
        return value


@asynccontextmanager
async def remote_side(url: StoreUrl | None = None) -> AsyncIterator[RemoteSide]:
    """A child that sees the store at ``url`` as it is now; without one it starts, and waits to be told by `open`.

    Raises:
        BadInput: it can't be opened.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.migrate.side",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        side = RemoteSide(process)
        if url is not None:
            await side.open(url)
        yield side
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextmanager
def without_collector() -> Iterator[None]:
    """Without Python's collector of cycles, which looks at every batch of rows, finds none and takes a quarter more."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


async def together(one: Coroutine[Any, Any, One], other: Coroutine[Any, Any, Other]) -> tuple[One, Other]:
    """The results of both, which run at the same time; if one fails, the other is ended first."""
    tasks = (asyncio.ensure_future(one), asyncio.ensure_future(other))
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Child:
    """The child's end: carries out orders, one after the other."""

    def __init__(self, tell: Callable[[str, Any], None]) -> None:
        self._tell = tell
        self._session: Session | None = None
        self._side: LocalSide | None = None

    async def carry_out(self, order: str, arguments: Sequence[Any]) -> Any:
        if order == "open":
            return await self._open(*arguments)
        assert self._side is not None
        if order == "digest":
            reading, secret = arguments
            return (await self._side.digest(reading, secret, self._rows)).packed()
        reading, secret, wanted, stem = arguments
        return await self._side.spill(reading, secret, wanted, stem, self._rows)

    async def _open(self, url: StoreUrl) -> None:
        try:
            self._session = await store_for(url).connect()
            await self._session.freeze()
        except Exception as error:
            raise unreadable(url, error) or error from error
        self._side = LocalSide(self._session, url)

    def _rows(self, number: int) -> None:
        self._tell("told", number)


async def _main(orders: BinaryIO, answers: BinaryIO) -> None:
    def tell(sort: str, value: Any) -> None:
        message = pickle.dumps((sort, value), pickle.HIGHEST_PROTOCOL)
        answers.write(_LENGTH.pack(len(message)) + message)
        answers.flush()

    child, loop = _Child(tell), asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[str, Sequence[Any]]] = asyncio.Queue()

    def take() -> None:
        """Reads all the time, so that the end of the owner is noticed at once."""
        while head := orders.read(_LENGTH.size):
            if len(head) < _LENGTH.size:
                break
            order = pickle.loads(orders.read(_LENGTH.unpack(head)[0]))
            loop.call_soon_threadsafe(waiting.put_nowait, order)
        os._exit(1)

    threading.Thread(target=take, daemon=True).start()
    gc.disable()  # see `without_collector`
    while True:
        order, arguments = await waiting.get()
        try:
            tell("done", await child.carry_out(order, arguments))
        except BadInput as error:
            tell("bad", str(error))
        except Exception:
            tell("defect", traceback.format_exc())


if __name__ == "__main__":
    asyncio.run(_main(sys.stdin.buffer, sys.stdout.buffer))
