"""PostgreSQL through asyncpg."""

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import cast

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from bench import codes
from bench.outcome import ErrorKind
from bench.stores.base import Counters, Dialect, Durability, Row, Session, Store

DIALECT = Dialect(
    placeholder="$",
    quote="",
    for_update=" FOR UPDATE",
    no_limit="LIMIT ALL OFFSET 0",
    limit_one="LIMIT 1",
    page="LIMIT ? OFFSET ?",
    multi_row=True,
)

_SETTINGS = (
    "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "wal_level", "shared_buffers",
    "max_connections", "max_wal_size", "default_transaction_isolation", "deadlock_timeout", "jit", "autovacuum",
    "server_encoding", "lc_collate", "ssl", "synchronous_standby_names",
)  # fmt: skip


class PostgresqlSession(Session):
    """One asyncpg connection; each statement is prepared once."""

    dialect = DIALECT

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.connection = connection
        self._prepared: dict[str, PreparedStatement[asyncpg.Record]] = {}

    async def ping(self) -> None:
        await self.fetch("SELECT 1")

    async def begin(self) -> None:
        await self.connection.execute("BEGIN")

    async def commit(self) -> None:
        await self.connection.execute("COMMIT")

    async def rollback(self) -> None:
        if self.connection.is_in_transaction():
            await self.connection.execute("ROLLBACK")

    async def fetch(self, statement: str, *args: object) -> Sequence[Row]:
        prepared = self._prepared.get(statement)
        if prepared is None:
            prepared = self._prepared[statement] = await self.connection.prepare(statement)
        return await prepared.fetch(*args)

    async def execute(self, statement: str, *args: object) -> None:
        await self.fetch(statement, *args)

    def execute_alone(self, statement: str, *args: object) -> Awaitable[object]:
        prepared = self._prepared.get(statement)
        return self.fetch(statement, *args) if prepared is None else prepared.fetch(*args)

    async def bulk(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        records = cast("Sequence[Sequence[object]]", rows)
        await self.connection.copy_records_to_table(table, records=records, columns=list(columns))

    async def stream(self, statement: str, *args: object, size: int = 50_000) -> AsyncIterator[Sequence[Row]]:
        async with self.connection.transaction(readonly=True):
            cursor = await self.connection.cursor(statement, *args)
            while rows := await cursor.fetch(size):
                yield rows

    async def close(self) -> None:
        try:
            await self.connection.close(timeout=2)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.connection.terminate()


class PostgresqlStore(Store):
    """A PostgreSQL database."""

    name = "postgresql"
    dialect = DIALECT

    async def connect(self, options: dict[str, str] | None = None) -> PostgresqlSession:
        """Log in; ``options`` become settings of the session."""
        url = self.url
        connection = await asyncpg.connect(
            host=url.host,
            port=url.port,
            user=url.user or None,
            password=url.password or None,
            database=url.database,
            ssl=dict(url.options).get("sslmode"),  # type: ignore[arg-type]
            server_settings={"application_name": "trackbench", **(options or {})},
            timeout=20,
        )
        return PostgresqlSession(connection)

    def classify(self, error: BaseException) -> ErrorKind:
        if isinstance(error, asyncpg.PostgresError):
            return codes.of_sqlstate(error.sqlstate or "")
        if isinstance(error, TimeoutError):
            return ErrorKind.TIMEOUT
        if isinstance(error, OSError | asyncpg.InterfaceError):
            return ErrorKind.CONNECTION
        return ErrorKind.OTHER

    async def version(self, session: Session) -> str:
        return str((await session.fetch("SELECT version()"))[0][0]).partition(" on ")[0]

    async def settings(self, session: Session) -> dict[str, str]:
        rows = await session.fetch(
            "SELECT name, setting || coalesce(unit, '') FROM pg_settings "
            "WHERE name = ANY($1::text[]) OR name LIKE 'timescaledb.license' ORDER BY name",
            list(_SETTINGS),
        )
        return {row[0]: row[1] for row in rows}

    def durability(self, settings: dict[str, str]) -> Durability:
        if settings["fsync"] != "on":
            return Durability(False, "fsync=off: an OS crash may destroy the whole cluster")
        if settings["full_page_writes"] != "on":
            return Durability(False, "full_page_writes=off: a power loss may tear pages")
        if settings["synchronous_commit"] == "off":
            return Durability(False, "synchronous_commit=off: a crash may lose up to 3 x wal_writer_delay of commits")
        return Durability(True, "fsync and synchronous_commit on: an acknowledged commit is on disk")

    async def counters(self, session: Session) -> Counters:
        rows = await session.fetch(
            "SELECT deadlocks, xact_commit, xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        )
        deadlocks, commits, rollbacks = rows[0]
        return Counters(
            {
                "deadlocks": float(deadlocks),
                "lock_waits": None,
                "commits": float(commits),
                "rollbacks": float(rollbacks),
            }
        )

    async def gauges(self, session: Session) -> dict[str, float]:
        rows = await session.fetch(
            "SELECT count(*), count(*) FILTER (WHERE wait_event_type = 'Lock') FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return {"connections": float(rows[0][0]), "lock_waiters": float(rows[0][1])}

    async def writers_left(self, session: Session, pooled: bool) -> int:
        ours = "state <> 'idle'" if pooled else "application_name = 'trackbench'"
        rows = await session.fetch(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            f"AND backend_type = 'client backend' AND {ours} AND pid <> pg_backend_pid()"
        )
        return int(rows[0][0])

    async def max_connections(self, session: Session) -> int | None:
        rows = await session.fetch(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int "
            "- (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
        )
        return int(rows[0][0]) + 1  # this session counts among them

    async def tables(self, session: Session) -> list[str]:
        rows = await session.fetch("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        return [row[0] for row in rows]

    async def settle(self, session: Session) -> None:
        for table in ("metrics", "latest_metrics", "params", "tags", "runs", "experiments"):
            await session.execute(f"VACUUM (ANALYZE) {table}")
        await session.execute("CHECKPOINT")
