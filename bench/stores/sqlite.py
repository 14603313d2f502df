"""SQLite as MLflow opens it: rollback journal, synchronous FULL, a busy timeout of 20 s."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import aiosqlite

from bench import codes
from bench.errors import BadInput
from bench.outcome import ErrorKind
from bench.stores.base import Counters, Dialect, Durability, Row, Session, Store

_MLFLOW_PRAGMAS = ("PRAGMA foreign_keys = ON;", "PRAGMA busy_timeout = {};", "PRAGMA case_sensitive_like = true;")
_MLFLOW_BUSY_TIMEOUT_MS = "20000"
_CLOSE_S = 2.0
_DRIVER_TIMEOUT_S = 5.0  # sqlite3.connect's default, in force until the first PRAGMA

DIALECT = Dialect(
    placeholder="?",
    quote='"',
    for_update="",
    no_limit="LIMIT -1 OFFSET 0",
    limit_one="LIMIT 1 OFFSET 0",
    page="LIMIT ? OFFSET ?",
    multi_row=False,
)


class SqliteSession(Session):
    """One aiosqlite connection, a thread of its own; Python's driver opens transactions at the first write."""

    dialect = DIALECT

    def __init__(self, connection: aiosqlite.Connection, busy_timeout_ms: str) -> None:
        self._db = connection
        self._pragmas = [pragma.format(busy_timeout_ms) for pragma in _MLFLOW_PRAGMAS]

    async def ping(self) -> None:
        await self.fetch("SELECT 1")

    async def checkout(self) -> None:
        await self.ping()
        for pragma in self._pragmas:
            await self.fetch(pragma)

    async def begin(self) -> None:
        """Nothing: an explicit BEGIN first would manufacture BUSY errors that MLflow does not have."""

    async def commit(self) -> None:
        await self._db.commit()

    async def rollback(self) -> None:
        await self._db.rollback()

    async def fetch(self, statement: str, *args: object) -> Sequence[Row]:
        return list(await self._db.execute_fetchall(statement, args))

    async def execute(self, statement: str, *args: object) -> None:
        await self._db.execute_fetchall(statement, args)

    async def execute_many(self, statement: str, rows: Sequence[Row]) -> None:
        await (await self._db.executemany(statement, rows)).close()

    async def execute_alone(self, statement: str, *args: object) -> None:
        await self._db.execute_fetchall(statement, args)
        await self._db.commit()

    async def bulk(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        await self.execute_many(self.dialect.insert(table, columns, 1), rows)
        await self._db.commit()

    async def stream(self, statement: str, *args: object, size: int = 50_000) -> AsyncIterator[Sequence[Row]]:
        async with self._db.execute(statement, args) as cursor:
            while rows := list(await cursor.fetchmany(size)):
                yield rows

    async def close(self) -> None:
        with suppress(ValueError, TimeoutError):  # aiosqlite's answer when it is closed; a lock that is waited for
            await self._db.interrupt()
            await asyncio.wait_for(self._db.close(), _CLOSE_S)


class SqliteStore(Store):
    """A SQLite file."""

    name = "sqlite"
    dialect = DIALECT

    async def connect(self, options: dict[str, str] | None = None) -> SqliteSession:
        """Open the file; ``options`` are PRAGMAs of the session; MLflow's ``busy_timeout`` is 20000 ms."""
        assert self.url.path is not None
        if not self.url.path.exists():
            raise BadInput(f"{self.url}: no such file; give an existing MLflow database or an empty one")
        connection = await aiosqlite.connect(self.url.path, timeout=_DRIVER_TIMEOUT_S)
        timeout = (options or {}).get("busy_timeout", _MLFLOW_BUSY_TIMEOUT_MS)
        session = SqliteSession(connection, timeout)
        await session.checkout()
        for name, value in (options or {}).items():
            if name != "busy_timeout":
                await session.fetch(f"PRAGMA {name} = {value}")
                if not await session.fetch(f"PRAGMA {name}"):  # SQLite passes over what it does not know
                    await session.close()
                    raise BadInput(f"session setting {name!r}: SQLite has no such PRAGMA; see its list of PRAGMAs")
        return session

    def classify(self, error: BaseException) -> ErrorKind:
        if isinstance(error, TimeoutError):
            return ErrorKind.TIMEOUT
        if not isinstance(error, sqlite3.Error):
            return ErrorKind.OTHER
        return codes.of_sqlite(getattr(error, "sqlite_errorcode", 0))

    async def version(self, session: Session) -> str:
        rows = await session.fetch("SELECT sqlite_version()")
        return f"SQLite {rows[0][0]}"

    async def settings(self, session: Session) -> dict[str, str]:
        names = (
            "journal_mode",
            "synchronous",
            "busy_timeout",
            "foreign_keys",
            "page_size",
            "cache_size",
            "locking_mode",
        )
        return {name: str((await session.fetch(f"PRAGMA {name}"))[0][0]) for name in names}

    def durability(self, settings: dict[str, str]) -> Durability:
        journal, synchronous = settings["journal_mode"].lower(), int(settings["synchronous"])
        if journal in ("off", "memory") or synchronous == 0:
            return Durability(False, f"journal {journal}, synchronous {synchronous}: a crash may corrupt the file")
        if journal == "wal" and synchronous < 2:
            return Durability(False, "WAL without full sync: a power loss may drop the last commits")
        if synchronous < 2:
            return Durability(False, f"journal {journal} without full sync: a power loss may corrupt the file")
        if synchronous < 3 and journal != "wal":
            return Durability(
                False,
                "rollback journal with synchronous FULL: commits are synced; the journal's deletion is not "
                "(EXTRA does that), so a power loss at the wrong moment may undo the last commit",
            )
        return Durability(True, f"journal {journal}, synchronous {synchronous}: commits are synced")

    async def counters(self, session: Session) -> Counters:
        """SQLite keeps no counters; the file's change counter (header bytes 24 to 27) counts write transactions."""
        assert self.url.path is not None
        with self.url.path.open("rb") as file:
            header = file.read(28)
        changes = int.from_bytes(header[24:28], "big")
        return Counters({"commits": float(changes), "rollbacks": None, "deadlocks": None, "lock_waits": None})

    async def gauges(self, session: Session) -> dict[str, float]:
        return {}

    async def max_connections(self, session: Session) -> int | None:
        return None

    async def tables(self, session: Session) -> list[str]:
        rows = await session.fetch("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        return [row[0] for row in rows]

    async def settle(self, session: Session) -> None:
        await session.fetch("PRAGMA optimize")
