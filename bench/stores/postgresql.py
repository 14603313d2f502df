"""PostgreSQL through asyncpg."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import nullcontext
from datetime import date, timedelta
from typing import cast
from urllib.parse import urlencode

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from bench import codes
from bench.outcome import ErrorKind
from bench.stores.base import (
    TORN,
    Counters,
    Dialect,
    Durability,
    Examination,
    Row,
    Session,
    Store,
    promise,
    rolled_back,
)

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
    "wal_writer_delay", "server_encoding", "lc_collate", "ssl", "synchronous_standby_names",
)  # fmt: skip
_RELOAD_S = 10.0
_NO_LIMITS = ("idle_in_transaction_session_timeout", "statement_timeout")
_EPOCH = date(2000, 1, 1)  # of PostgreSQL's dates

# pg_amcheck's own choice of relations, by name; the whole database's, so that chunks of hypertables are among them.
_INDEXES = (
    "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_am a ON a.oid = c.relam "
    "JOIN pg_index i ON i.indexrelid = c.oid WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't' "
    "AND i.indisready AND i.indisvalid AND i.indislive ORDER BY c.oid"
)
_TABLES = (
    "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_am a ON a.oid = c.relam "
    "WHERE a.amname = 'heap' AND c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't' ORDER BY c.oid"
)
_CHECK_INDEXES = "SELECT {}.bt_index_check(one::regclass, true{})::text FROM unnest($1::text[]) AS one"
_CHECK_TABLES = (
    "SELECT format('%s, block %s: %s', one, found.blkno, found.msg) FROM unnest($1::text[]) AS one, "
    "LATERAL (SELECT * FROM {}.verify_heapam(one::regclass) LIMIT 3) AS found"
)
_CHECKS_UNIQUENESS = (1, 4)  # the version of amcheck that came with PostgreSQL 17
_DAMAGE = ("XX", "58")  # classes of SQLSTATEs: corrupted, and what the operating system says of a file
_NO_AMCHECK = ("0A000", "58P01", "42501", "42883")  # not available (58P01 before PostgreSQL 13), no right, too old


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

    async def exact_dates(self) -> None:
        """Read and write each date as itself: asyncpg takes the first and last that Python knows for infinite ones.

        Those that Python does not know, infinite ones among them, are read as text.
        """
        await self.connection.set_type_codec("date", schema="pg_catalog", encoder=_days, decoder=_date, format="tuple")

    async def freeze(self) -> None:
        await self.exact_dates()
        await self.connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await self.connection.execute("SET LOCAL row_security = off")  # an error instead of rows that are not shown
        for name in _NO_LIMITS:  # it may wait for as long as another store is read
            await self.connection.execute(f"SET LOCAL {name} = 0")
        await self.connection.execute("SELECT 1")  # the first statement that reads takes the snapshot

    async def stream(self, statement: str, *args: object, size: int = 50_000) -> AsyncIterator[Sequence[Row]]:
        frozen = self.connection.is_in_transaction()
        async with nullcontext() if frozen else self.connection.transaction(readonly=True):
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
            f"postgresql://?{urlencode(url.options)}",  # read as libpq reads it: what all goes into verification
            host=url.host,
            port=url.port,
            user=url.user or None,
            password=url.password or None,
            database=url.database,
            server_settings={"application_name": "trackbench", **(options or {})},
            timeout=20,
        )
        return PostgresqlSession(connection)

    def classify(self, error: BaseException) -> ErrorKind:
        if isinstance(error, asyncpg.PostgresError):
            return codes.of_sqlstate(error.sqlstate or "")
        if isinstance(error, TimeoutError):
            return ErrorKind.TIMEOUT
        if isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError):
            # The last is what the driver says when the server's farewell came between two messages of ours.
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
        """As `Store` says; every other value of ``synchronous_commit`` waits for the disk of this one node."""
        crash, power, claims = list[str](), list[str](), list[str]()
        if settings["fsync"] != "on":
            power.append("the whole cluster: it may be corrupt")
            claims.append("fsync=off: an OS crash may destroy the whole cluster")
        if settings["full_page_writes"] != "on":
            power.append(TORN)
            claims.append("full_page_writes=off: a power loss may tear pages")
        if settings["synchronous_commit"] == "off":
            crash.append(f"up to {_three_times(settings['wal_writer_delay'])} of commits")
            power += crash
            claims.append("synchronous_commit=off: a crash may lose up to 3 x wal_writer_delay of commits")
        return promise(crash, power, claims, "fsync and synchronous_commit on: an acknowledged commit is on disk")

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

    # What is done to it on purpose

    async def end_sessions(self, session: Session) -> int:
        rows = await session.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return sum(bool(row[0]) for row in rows)

    async def set_read_only(self, session: Session, on: bool) -> None:
        """As `Store` says; ALTER SYSTEM is allowed in read-only transactions, so that there is a way back."""
        await session.rollback()
        change = "SET default_transaction_read_only = on" if on else "RESET default_transaction_read_only"
        await session.execute(f"ALTER SYSTEM {change}")
        await session.fetch("SELECT pg_reload_conf()")
        look = "SELECT current_setting('default_transaction_read_only') = 'on'"
        async with asyncio.timeout(_RELOAD_S):
            while (await session.fetch(look))[0][0] is not on:  # noqa: ASYNC110 (no event tells it)
                await asyncio.sleep(0.001)

    async def examine(self, session: Session) -> Examination:
        """As `Store` says, by the functions that pg_amcheck calls, in a transaction that leaves nothing behind."""
        await session.rollback()
        async with rolled_back(session):
            await session.execute("BEGIN READ WRITE")
            try:
                return await _amcheck(session)
            except asyncpg.PostgresError as error:
                if error.sqlstate not in _NO_AMCHECK:
                    raise
                return Examination(f"amcheck can't be had: {error.args[0]}", None)


async def _amcheck(session: Session) -> Examination:
    await session.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
    rows = await session.fetch(
        "SELECT extversion, extnamespace::regnamespace FROM pg_extension WHERE extname = 'amcheck'"
    )
    version, schema = rows[0]
    unique = ", true" if tuple(map(int, version.split("."))) >= _CHECKS_UNIQUENESS else ""
    indexes = [row[0] for row in await session.fetch(_INDEXES)]
    tables = [row[0] for row in await session.fetch(_TABLES)]
    problems = await _damage(session, _CHECK_INDEXES.format(schema, unique), indexes)
    problems += await _damage(session, _CHECK_TABLES.format(schema), tables)
    return Examination(f"amcheck on {len(indexes)} indexes and {len(tables)} tables", problems)


async def _damage(session: Session, check: str, relations: list[str]) -> list[str]:
    """What is wrong with these relations: checked together, and one by one where that meets damage."""
    await session.execute("SAVEPOINT here")
    try:
        rows = await session.fetch(check, relations)
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "")[:2] not in _DAMAGE:
            raise
        await session.execute("ROLLBACK TO here")
        if len(relations) == 1:
            return [f"{relations[0]}: {error.args[0]}"]
        return [problem for one in relations for problem in await _damage(session, check, [one])]
    await session.execute("RELEASE here")
    return [row[0] for row in rows if row[0]]


def _days(value: date) -> tuple[int]:
    return ((value - _EPOCH).days,)


def _date(value: tuple[int]) -> date | str:
    try:
        return _EPOCH + timedelta(value[0])
    except OverflowError:
        return f"{value[0]} days after {_EPOCH}"


def _three_times(delay: str) -> str:
    """Three times a setting in milliseconds."""
    return f"{3 * int(delay.removesuffix('ms'))} ms"
