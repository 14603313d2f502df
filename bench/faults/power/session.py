"""MLflow's session on SQLite over a disk that will lose its power: apsw in the place of Python's own driver."""

import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import aiosqlite
import apsw

from bench.errors import BadInput
from bench.faults.power.vfs import DiskVfs
from bench.stores.base import Row
from bench.stores.sqlite import SqliteSession, SqliteStore
from bench.stores.url import StoreUrl

DATABASE = "mlflow.db"
_WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE")
_BUSY_TIMEOUT_MS = "20000"


class DirectSession(SqliteSession):
    """A connection without a thread of its own, of apsw or of Python's driver with ``isolation_level=None``."""

    def __init__(self, db: apsw.Connection | sqlite3.Connection, busy_timeout_ms: str = _BUSY_TIMEOUT_MS) -> None:
        super().__init__(cast("aiosqlite.Connection", db), busy_timeout_ms)
        self._direct = db

    async def commit(self) -> None:
        """As `Session` says."""
        if self._direct.in_transaction:
            self._direct.execute("COMMIT")

    async def rollback(self) -> None:
        """As `Session` says."""
        if self._direct.in_transaction:
            self._direct.execute("ROLLBACK")

    async def fetch(self, statement: str, *args: object) -> Sequence[Row]:
        """As `Session` says; a transaction begins with the first write, as Python's driver has it."""
        if statement.lstrip().upper().startswith(_WRITES) and not self._direct.in_transaction:
            self._direct.execute("BEGIN")
        return self._direct.execute(statement, cast("tuple[str, ...]", args)).fetchall()

    async def execute(self, statement: str, *args: object) -> None:
        """As `Session` says."""
        await self.fetch(statement, *args)

    async def execute_many(self, statement: str, rows: Sequence[Row]) -> None:
        """As `Session` says."""
        for row in rows:
            await self.fetch(statement, *row)

    async def stream(self, statement: str, *args: object, size: int = 50_000) -> AsyncIterator[Sequence[Row]]:
        """As `Session` says, for tables that fit into one batch."""
        rows = await self.fetch(statement, *args)
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    async def close(self) -> None:
        """As `Session` says."""
        self._direct.close()


class DiskStore(SqliteStore):
    """The file `DATABASE` on the disk of a VFS."""

    def __init__(self, vfs: DiskVfs) -> None:
        super().__init__(StoreUrl("sqlite", path=Path(DATABASE)))
        self._vfs = vfs

    async def connect(self, options: Mapping[str, str] | None = None) -> DirectSession:
        """As `SqliteStore` says; WAL gets ``locking_mode = EXCLUSIVE``, without which it can't be had here.

        Raises:
            BadInput: SQLite has no such PRAGMA, or did not take this journal mode.
        """
        wanted = {name.lower(): value for name, value in (options or {}).items()}
        journal = wanted.get("journal_mode", "").lower()
        if journal == "wal":
            wanted = {"locking_mode": "EXCLUSIVE", **wanted}
        db = apsw.Connection(DATABASE, flags=apsw.SQLITE_OPEN_READWRITE, vfs=self._vfs.name)
        timeout = wanted.pop("busy_timeout", _BUSY_TIMEOUT_MS)
        session = DirectSession(db, timeout)
        try:
            await session.checkout()
            for name, value in wanted.items():
                await session.fetch(f"PRAGMA {name} = {value}")
                found = await session.fetch(f"PRAGMA {name}")
                if not found or (name == "journal_mode" and found[0][0] != journal):
                    raise BadInput(f"session setting {name} = {value}: SQLite did not take it; see its list of PRAGMAs")
        except BaseException:
            db.close()
            raise
        return session
