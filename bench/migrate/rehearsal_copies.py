"""Copies of a store to try things on: in files, or on a private server of the same kind. The store is only read.

It is read once, into a first copy that nobody touches; all others are made of that one, so that they are alike
whatever is written to the store meanwhile.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

from bench import servers
from bench.errors import BadInput
from bench.migrate.catalog import Catalog, reflect
from bench.migrate.same_kind import MYSQL, copy_as_it_stands
from bench.migrate.structure import compare_structure
from bench.scratch import scratch_folder
from bench.servers import RunningServer, databases
from bench.stores import store_for
from bench.stores.base import Session
from bench.stores.url import StoreUrl, parse

Echo = Callable[[str], None]

_PATIENCE_S = 20.0
_SHOWN = 3  # differences of structure in a note
_FIRST = "first"
_TIMES_THE_FILE = 4  # three copies, and what an upgrade writes beside a table


class Copies(ABC):
    """Where copies of one store are made. ``database`` is what they are in, with its version.

    ``rows`` are the store's, and ``seconds`` what reading it took; ``notes`` say what is not as in the store.
    """

    def __init__(self) -> None:
        self.database = ""
        self.rows = 0
        self.seconds = 0.0
        self.notes: list[str] = []
        self._numbers = itertools.count(1)

    @abstractmethod
    async def fresh(self) -> StoreUrl:
        """One more copy of the store as it was read."""

    @abstractmethod
    async def discard(self, url: StoreUrl) -> None:
        """Remove a copy, for its space."""


@asynccontextmanager
async def copies_of(url: StoreUrl, catalog: Catalog, echo: Echo) -> AsyncIterator[Copies]:
    """Read the store at ``url`` into the first copy; further ones can be made of it until the block ends.

    Raises:
        BadInput: it can't be read or copied here, with the reason.
    """
    if url.path is not None:
        with scratch_folder("rehearsal") as folder:
            files = _Files(folder)
            await files.read(url.path)
            yield files
        return
    server = await asyncio.to_thread(servers.start, servers.as_kind(url.store), None, echo)
    try:
        made = _Databases(server, catalog)
        await made.read(url)
        yield made
    finally:
        await asyncio.to_thread(server.stop)


class _Files(Copies):
    """SQLite: the first copy by its backup, the others by copying that file."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._first = folder / f"{_FIRST}.db"
        self.database = f"SQLite {sqlite3.sqlite_version}"

    async def read(self, source: Path) -> None:
        """Make the first copy."""
        await asyncio.to_thread(_refuse_too_large, source, self._folder)
        began = time.monotonic()
        self.rows = await asyncio.to_thread(_back_up, source, self._first)
        self.seconds = time.monotonic() - began

    async def fresh(self) -> StoreUrl:
        path = self._folder / f"copy{next(self._numbers)}.db"
        await asyncio.to_thread(shutil.copyfile, self._first, path)
        return StoreUrl("sqlite", path=path)

    async def discard(self, url: StoreUrl) -> None:
        assert url.path is not None
        for path in self._folder.glob(f"{url.path.name}*"):  # a journal too
            path.unlink()


def _refuse_too_large(source: Path, folder: Path) -> None:
    needed, free = _TIMES_THE_FILE * source.stat().st_size, shutil.disk_usage(folder).free
    if needed > free:
        sizes = f"copies take {needed >> 20} MiB, {free >> 20} are free"
        raise BadInput(f"{folder.parent}: {sizes}; set TMPDIR to a folder on a larger disk")


def _back_up(source: Path, target: Path) -> int:
    """Copy a file by SQLite's backup; the rows in it."""
    try:
        with (
            closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=_PATIENCE_S)) as reading,
            closing(sqlite3.connect(target)) as writing,
        ):
            reading.backup(writing)
            names = [row[0] for row in writing.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return sum(writing.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names)
    except sqlite3.Error as error:
        raise BadInput(f"sqlite:///{source}: can't be copied: {error}; is another program writing to it?") from error


class _Databases(Copies):
    """Databases on a private server."""

    def __init__(self, server: RunningServer, catalog: Catalog) -> None:
        super().__init__()
        self._server = server
        self._catalog = catalog
        self._first = self._url(_FIRST)

    async def read(self, url: StoreUrl) -> None:
        """Make the first copy, in one look at the store."""
        if self._server.kind != url.store:
            self.notes.append(f"Rehearsed on {self._server.kind}: no {url.store} server can be had here.")
        began = time.monotonic()
        async with _session(url) as session:
            theirs = await store_for(url).version(session)
            await session.rollback()
            await self._make(self._first, session)
        self.seconds = time.monotonic() - began
        async with _session(self._first) as session:
            self.database = await store_for(self._first).version(session)
        if theirs != self.database:
            self.notes.append(f"The store is on {theirs}; its copies are not, and may upgrade otherwise.")
        self.notes += _otherwise(self._catalog, await asyncio.to_thread(reflect, self._first))
        if self._first.store not in MYSQL:  # a template must have no visitors
            await self._order(
                f"ALTER DATABASE {_FIRST} ALLOW_CONNECTIONS false",
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{_FIRST}'",
            )

    async def fresh(self) -> StoreUrl:
        url = self._url(f"copy{next(self._numbers)}")
        if url.store not in MYSQL:
            await self._order(f"CREATE DATABASE {url.database} TEMPLATE {_FIRST}")
            return url
        async with _session(self._first) as session:
            await self._make(url, session)
        return url

    async def discard(self, url: StoreUrl) -> None:
        forced = "" if url.store in MYSQL else " WITH (FORCE)"
        await self._order(f"DROP DATABASE {url.database}{forced}")

    async def _make(self, target: StoreUrl, session: Session) -> None:
        await asyncio.to_thread(databases.create, self._server, target.database)
        await session.freeze()
        self.rows = await copy_as_it_stands(session, self._catalog, target)
        await session.rollback()

    def _url(self, database: str) -> StoreUrl:
        return parse(self._server.url(database), self._server.kind)

    async def _order(self, *statements: str) -> None:
        """Carry out statements about databases from outside of them."""
        async with _session(self._url("mysql" if self._server.kind in MYSQL else "postgres")) as session:
            for statement in statements:
                await session.execute(statement)


@asynccontextmanager
async def _session(url: StoreUrl) -> AsyncIterator[Session]:
    session = await store_for(url).connect()
    try:
        yield session
    finally:
        await session.close()


def _otherwise(store: Catalog, copy: Catalog) -> list[str]:
    """A note on what of the store's structure its copies do not have."""
    found = [
        f"{one.what} of {one.table}: {one.source} in the store, {one.target} in the copies"
        for one in compare_structure(store, copy)
    ]
    if not found:
        return []
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return [f"The store is not built as MLflow builds it: {'; '.join(found[:_SHOWN])}{more}."]
