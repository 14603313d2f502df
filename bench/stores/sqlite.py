"""SQLite as MLflow opens it: rollback journal, synchronous FULL, a busy timeout of 20 s."""

import asyncio
import os
import random
import sqlite3
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import aiosqlite

from bench import codes
from bench.errors import BadInput
from bench.faults.spec import NETWORK, Kind, Target
from bench.outcome import ErrorKind
from bench.stores.base import (
    COLLISION_S,
    Counters,
    Dialect,
    Durability,
    Examination,
    Row,
    Session,
    Store,
    rolled_back,
)

_MLFLOW_PRAGMAS = ("PRAGMA foreign_keys = ON;", "PRAGMA busy_timeout = {};", "PRAGMA case_sensitive_like = true;")
_MLFLOW_BUSY_TIMEOUT_MS = "20000"
_CLOSE_S = 2.0
_DRIVER_TIMEOUT_S = 5.0  # sqlite3.connect's default, in force until the first PRAGMA
_EXAMINED = "PRAGMA integrity_check and foreign_key_check"
_NO_SERVER: dict[Kind, str] = {
    "kill": "to kill",
    "stop": "to stop",
    "freeze": "to freeze",
    **dict.fromkeys(NETWORK, "and no network"),
    "disconnect": "whose administrator ends sessions",
    "connections": "with a limit of connections",
}

DIALECT = Dialect(
    placeholder="?",
    quote='"',
    for_update="",
    no_limit="LIMIT -1 OFFSET 0",
    limit_one="LIMIT 1 OFFSET 0",
    page="LIMIT ? OFFSET ?",
    multi_row=False,
)


def _any_text(found: bytes) -> str:
    return found.decode("utf-8", "surrogateescape")


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

    async def freeze(self) -> None:
        """As `Session` says; in rollback mode nobody can write meanwhile, so read from a copy of the file."""
        await self.execute("BEGIN")
        await self.fetch("SELECT 1 FROM sqlite_master LIMIT 1")

    async def stream(self, statement: str, *args: object, size: int = 50_000) -> AsyncIterator[Sequence[Row]]:
        async with self._db.execute(statement, args) as cursor:
            while rows := list(await cursor.fetchmany(size)):
                yield rows

    def take_any_text(self) -> None:
        """From now on read text that is not UTF-8 too, with its odd bytes escaped; until then such a read fails."""
        self._db.text_factory = _any_text

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
        """As `Store` says; ``truncate`` and ``persist`` sync the journal's end where ``delete`` needs EXTRA.

        With ``locking_mode`` exclusive a commit zeroes the journal's header and syncs that, instead of deleting it.
        """
        journal, synchronous = settings["journal_mode"].lower(), int(settings["synchronous"])
        exclusive = settings.get("locking_mode", "").lower() == "exclusive"
        as_set, corrupt = f"journal {journal}, synchronous {synchronous}", "the whole file: it may be corrupt"
        if journal in ("off", "memory"):
            return Durability(corrupt, corrupt, f"{as_set}: a crash may corrupt the file")
        if synchronous == 0:
            return Durability(None, corrupt, f"{as_set}: a crash may corrupt the file")
        if journal == "wal" and synchronous < 2:
            return Durability(None, "the last commits", "WAL without full sync: a power loss may drop the last commits")
        if synchronous < 2:
            claim = f"journal {journal} without full sync: a power loss may corrupt the file"
            return Durability(None, corrupt, claim)
        if synchronous < 3 and journal == "delete" and exclusive:
            return Durability(
                None, None, f"{as_set}, locking exclusive: the journal is not deleted, commits are synced"
            )
        if synchronous < 3 and journal == "delete":
            claim = (
                "rollback journal with synchronous FULL: commits are synced; the journal's deletion is not "
                "(EXTRA does that), so a power loss at the wrong moment may undo the last commit"
            )
            return Durability(None, "the last commit, undone by a journal that comes back", claim)
        return Durability(None, None, f"{as_set}: commits are synced")

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

    # What is done to it on purpose

    def why_not(self, kind: Kind, target: Target) -> str | None:
        if target != "database":
            return None
        if kind in _NO_SERVER:
            return f"SQLite has no server {_NO_SERVER[kind]}: its writers open the file themselves"
        if kind == "read_only" and os.geteuid() == 0:
            return "we are root, whom the permissions of files and folders do not bind"
        return None

    async def hold(self, session: Session, run_ids: Sequence[str]) -> None:
        """As `Store` says; SQLite has one lock, that of the whole file, waited for as long as the busy timeout says."""
        await session.execute("BEGIN EXCLUSIVE")

    async def collide(self, session: Session, run_ids: Sequence[str]) -> None:
        """As `Store` says, in SQLite's way: a transaction that has read wants to write.

        It fails at once (BUSY, or BUSY_SNAPSHOT in WAL mode) if another writes meanwhile, which would wait for its end
        to commit. MLflow's own transactions begin with a write, so that they are never the victims; they wait.
        """
        run_id = random.choice(run_ids)
        async with rolled_back(session):
            await session.execute("BEGIN")
            await session.fetch("SELECT key FROM latest_metrics WHERE run_uuid = ?", run_id)
            await asyncio.sleep(COLLISION_S)
            await session.execute("UPDATE runs SET user_id = user_id WHERE run_uuid = ?", run_id)

    async def set_read_only(self, session: Session, on: bool) -> None:
        """As `Store` says: its owner may write neither to the file nor to its folder, where the journal would be.

        Sessions that have the file open can write to it still, but not begin a journal.
        """
        assert self.url.path is not None
        journal = (await session.fetch("PRAGMA journal_mode"))[0][0]
        reason = self.why_not("read_only", "database")
        if journal != "delete":
            reason = (
                f"journal mode {journal}: sessions that have the journal open go on writing, whatever its permissions"
            )
        if reason is not None:
            raise BadInput(f"{self.url}: can't be made read-only: {reason}")
        for path in (self.url.path, self.url.path.parent):
            mode = path.stat().st_mode
            path.chmod(mode & ~stat.S_IWUSR if on else mode | stat.S_IWUSR)

    async def examine(self, session: Session) -> Examination:
        await session.rollback()
        try:
            found = [str(row[0]) for row in await session.fetch("PRAGMA integrity_check")]
            orphans = await session.fetch("PRAGMA foreign_key_check")
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
            return Examination(_EXAMINED, [str(error)])
        found += [f"row {row[1]} of {row[0]} has no row in {row[2]}" for row in orphans]
        return Examination(_EXAMINED, [problem for problem in found if problem != "ok"])
