"""SQLite's backup: its backup API, all pages under one read lock, so that writers wait for as long as that takes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from bench.readiness.backup import Backup, Moment
from bench.scratch import scratch_folder
from bench.servers import RunningServer
from bench.stores import store_for
from bench.stores.url import StoreUrl

_WAIT_S = 20  # for writers, as MLflow itself waits


class SqliteBackup(Backup):
    """A copy of the file, and a copy of that."""

    kind = None

    async def prepare(self) -> None:
        """Nothing: Python has all that it takes."""

    @asynccontextmanager
    async def moment(self) -> AsyncIterator[Moment]:
        """A second copy of the file, to compare with: to hold the file itself still holds its writers up.

        How often it was written to is noted, since the backup is another moment's.
        """
        changes = await asyncio.to_thread(_changes, self._path)
        with scratch_folder("snapshot") as folder:
            snapshot = StoreUrl("sqlite", path=folder / "snapshot.db")
            await asyncio.to_thread(_copy, self._path, folder / "snapshot.db")
            session = await store_for(snapshot).connect()
            try:
                await session.freeze()
                yield Moment(session, {"changes": changes})
            finally:
                await session.close()

    @property
    def _path(self) -> Path:
        assert self.scene.url.path is not None
        return self.scene.url.path

    async def dump(self, moment: Moment, folder: Path) -> Path:
        file = folder / "backup.db"
        await asyncio.to_thread(_copy, self._path, file)
        return file

    async def restore(self, file: Path, server: RunningServer | None) -> StoreUrl:
        restored = file.with_name("restored.db")
        await asyncio.to_thread(_copy, file, restored)
        return StoreUrl("sqlite", path=restored)

    async def written(self, moment: Moment) -> bool:
        return moment.options["changes"] != await asyncio.to_thread(_changes, self._path)


def _copy(source: Path, target: Path) -> None:
    uri = f"{source.as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=_WAIT_S)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def _changes(path: Path) -> str:
    """What changes with every commit: the header's counter, and in WAL mode the log's size and time."""
    with path.open("rb") as file:
        counter = file.read(28)[24:28].hex()
    log = Path(f"{path}-wal")
    state = log.stat() if log.exists() else None
    return f"{counter},{state.st_size},{state.st_mtime_ns}" if state and state.st_size else counter
