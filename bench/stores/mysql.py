"""MySQL through aiomysql, and MariaDB, which speaks the same protocol and is always called by its own name."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import aiomysql
import pymysql.err

from bench import codes
from bench.errors import BadInput
from bench.faults.spec import Kind, Target
from bench.outcome import ErrorKind
from bench.stores import tls
from bench.stores.base import TORN, Counters, Dialect, Durability, Examination, Row, Session, Store, promise
from bench.stores.mysql_rows import rows_of

_ROWS_A_STATEMENT = 1000
_LOGIN_S = 20
_NO_SUCH_THREAD = 1094
_NO_SYNC = ("nosync", "littlesync")

DIALECT = Dialect(
    placeholder="%s",
    quote="`",
    for_update=" FOR UPDATE",
    no_limit="LIMIT 0, 18446744073709551615",
    limit_one="LIMIT 1",
    page="LIMIT ?, ?",
    multi_row=True,
    join="INNER JOIN",
)

_SETTINGS = (
    "innodb_flush_log_at_trx_commit", "innodb_flush_log_at_timeout", "sync_binlog", "log_bin", "innodb_doublewrite",
    "innodb_flush_method", "innodb_buffer_pool_size", "innodb_lock_wait_timeout", "innodb_deadlock_detect",
    "transaction_isolation", "tx_isolation", "max_connections", "character_set_database", "collation_database",
    "sql_mode",
)  # fmt: skip
_OTHERS = "ID <> CONNECTION_ID() AND DB = DATABASE() AND USER = SUBSTRING_INDEX(CURRENT_USER(), '@', 1)"


class MysqlSession(Session):
    """One aiomysql connection without autocommit: the driver's first statement opens a transaction."""

    dialect = DIALECT

    def __init__(self, connection: "aiomysql.Connection") -> None:
        self._connection = connection
        self._frozen = False

    async def ping(self) -> None:
        """Before it, the ROLLBACK that SQLAlchemy's pool sends MySQL whenever a connection comes back to it."""
        await self._connection.rollback()
        await self._connection.ping(reconnect=False)

    async def begin(self) -> None:
        """Nothing: MySQL opens the transaction by itself."""

    async def commit(self) -> None:
        await self._connection.commit()

    async def rollback(self) -> None:
        self._frozen = False
        await self._connection.rollback()

    async def fetch(self, statement: str, *args: object) -> Sequence[Row]:
        async with self._connection.cursor() as cursor:
            await cursor.execute(statement, args or None)
            rows: Sequence[Row] = await cursor.fetchall()
        return rows

    async def execute(self, statement: str, *args: object) -> None:
        async with self._connection.cursor() as cursor:
            await cursor.execute(statement, args or None)

    async def execute_alone(self, statement: str, *args: object) -> None:
        await self.execute(statement, *args)
        await self._connection.commit()

    async def bulk(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), _ROWS_A_STATEMENT):
            part = rows[start : start + _ROWS_A_STATEMENT]
            statement = self.dialect.insert(table, columns, len(part))
            await self.execute(statement, *(value for row in part for value in row))
        await self._connection.commit()

    async def freeze(self) -> None:
        await self._connection.rollback()
        await self.execute("SET SESSION wait_timeout = 86400")  # it may wait while another store is read
        await self.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await self.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        self._frozen = True

    async def stream(self, statement: str, *args: object, size: int = 50_000) -> AsyncIterator[Sequence[Row]]:
        async with self._connection.cursor() as cursor:
            whole = cursor.mogrify(statement, args) if args else statement
        async with aclosing(rows_of(self._connection, whole, size)) as batches:
            async for rows in batches:
                yield rows
        if not self._frozen:
            await self._connection.rollback()

    async def close(self) -> None:
        try:
            await asyncio.wait_for(self._connection.ensure_closed(), 2)
        except (TimeoutError, OSError, pymysql.err.Error):
            self._connection.close()


class MysqlStore(Store):
    """A MySQL database."""

    name = "mysql"
    _processes = "performance_schema.processlist"
    dialect = DIALECT

    async def connect(self, options: dict[str, str] | None = None) -> MysqlSession:
        """Log in; ``options`` become settings of the session."""
        url = self.url
        async with asyncio.timeout(_LOGIN_S):  # aiomysql's own limit ends before the handshake
            connection = await tls.connect(
                url.authority,
                host=url.host,
                port=url.port,
                user=url.user,
                password=url.password,
                db=url.database or None,
                charset=dict(url.options).get("charset", "utf8mb4"),
                autocommit=False,
                connect_timeout=_LOGIN_S,
            )
        session = MysqlSession(connection)
        for name, value in (options or {}).items():
            await session.execute(f"SET SESSION {name} = {value}")
        return session

    def classify(self, error: BaseException) -> ErrorKind:
        if isinstance(error, TimeoutError):
            return ErrorKind.TIMEOUT
        if isinstance(error, pymysql.err.MySQLError):
            code = error.args[0] if error.args else 0
            if not isinstance(code, int) or isinstance(error, pymysql.err.InterfaceError):
                return ErrorKind.CONNECTION  # the driver's own words, without a number: the connection is closed
            return codes.of_mysql(code)
        if isinstance(error, OSError | EOFError):  # EOFError: asyncio.IncompleteReadError
            return ErrorKind.CONNECTION
        return ErrorKind.OTHER

    async def version(self, session: Session) -> str:
        rows = await session.fetch("SELECT VERSION(), @@version_comment")
        product = "MariaDB" if "mariadb" in f"{rows[0][0]} {rows[0][1]}".lower() else "MySQL"
        return f"{product} {rows[0][0]} ({rows[0][1].strip('()')})"

    async def misfit(self, session: Session, empty: bool) -> str | None:
        product = (await self.version(session)).partition(" ")[0]
        return (
            None
            if product.lower() == self.name
            else f"this server is {product}; give it as --store {product.lower()}=…"
        )

    async def settings(self, session: Session) -> dict[str, str]:
        names = ", ".join(f"'{name}'" for name in _SETTINGS)
        rows = await session.fetch(f"SHOW VARIABLES WHERE Variable_name IN ({names})")
        return {row[0]: str(row[1]) for row in rows}

    def durability(self, settings: dict[str, str]) -> Durability:
        """As `Store` says; without the doublewrite buffer, a page half written is torn when mysqld itself ends."""
        flush = settings["innodb_flush_log_at_trx_commit"]
        method, doublewrite = settings.get("innodb_flush_method", ""), settings["innodb_doublewrite"]
        tail = f"about {settings['innodb_flush_log_at_timeout']} s"
        crash, power, claims = list[str](), list[str](), list[str]()
        if flush == "0":
            crash.append(f"{tail} of commits")
            power.append(f"{tail} of commits")
            claims.append(f"innodb_flush_log_at_trx_commit=0: a crash of the server may lose {tail}")
        if flush == "2":
            power.append(f"{tail} of commits")
            claims.append(f"innodb_flush_log_at_trx_commit=2: a crash of the machine may lose {tail}")
        if method.lower() in _NO_SYNC:
            power.append("the whole store: it may be corrupt")
            claims.append(f"innodb_flush_method={method}: a crash of the machine may corrupt the store")
        if doublewrite.lower() == "fast":  # MariaDB's: as ON, but its data files are never synced
            power.append("the whole store: it may be corrupt")
            claims.append(f"innodb_doublewrite={doublewrite}: a crash of the machine may corrupt the store")
        elif doublewrite not in ("ON", "1", "DETECT_AND_RECOVER"):
            crash.append(TORN)
            power.append(TORN)
            claims.append(f"innodb_doublewrite={doublewrite}: a crash of the server or a power loss may tear pages")
        if settings.get("log_bin") in ("ON", "1") and settings.get("sync_binlog") != "1":
            power.append("commits in the binary log's tail")
            claims.append("sync_binlog is not 1: a crash of the machine may lose the binary log's tail")
        return promise(
            crash, power, claims, "the redo log is flushed at each commit: an acknowledged commit is on disk"
        )

    async def counters(self, session: Session) -> Counters:
        rows = await session.fetch(
            "SHOW GLOBAL STATUS WHERE Variable_name IN "
            "('Com_commit', 'Com_rollback', 'Innodb_row_lock_waits', 'Innodb_deadlocks')"
        )
        status = {row[0]: float(row[1]) for row in rows}
        return Counters(
            {
                "deadlocks": await self._deadlocks(session, status),
                "lock_waits": status.get("Innodb_row_lock_waits"),
                "commits": status.get("Com_commit"),
                "rollbacks": status.get("Com_rollback"),
            }
        )

    async def _deadlocks(self, session: Session, status: dict[str, float]) -> float | None:
        if "Innodb_deadlocks" in status:  # MariaDB
            return status["Innodb_deadlocks"]
        return await _number(
            session,
            "SELECT SUM_ERROR_RAISED FROM performance_schema.events_errors_summary_global_by_error "
            "WHERE ERROR_NUMBER = 1213",
        )

    async def gauges(self, session: Session) -> dict[str, float]:
        rows = await session.fetch(
            "SHOW GLOBAL STATUS WHERE Variable_name IN ('Threads_connected', 'Innodb_row_lock_current_waits')"
        )
        status = {row[0]: float(row[1]) for row in rows}
        return {
            "connections": status.get("Threads_connected", 0.0),
            "lock_waiters": status.get("Innodb_row_lock_current_waits", 0.0),
        }

    async def writers_left(self, session: Session, pooled: bool) -> int:
        at_work = "AND COMMAND <> 'Sleep'" if pooled else ""
        found = await _number(
            session,
            f"SELECT COUNT(*) FROM {self._processes} WHERE {_OTHERS} {at_work}",
        )
        return int(found or 0)

    async def max_connections(self, session: Session) -> int | None:
        used = (await self.gauges(session))["connections"]
        limit = await _number(session, "SELECT @@max_connections")
        return None if limit is None else int(limit - used) + 1  # this session counts among them

    async def tables(self, session: Session) -> list[str]:
        rows = await session.fetch("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'")
        return [row[0] for row in rows]

    async def settle(self, session: Session) -> None:
        await session.fetch("ANALYZE TABLE metrics, latest_metrics, params, tags, runs, experiments")

    # What is done to it on purpose

    async def end_sessions(self, session: Session) -> int:
        rows = await session.fetch(f"SELECT ID FROM {self._processes} WHERE {_OTHERS}")
        ended = 0
        for row in rows:
            try:
                await session.execute(f"KILL {int(row[0])}")
                ended += 1
            except pymysql.err.MySQLError as error:  # one that has left by itself
                if error.args[0] != _NO_SUCH_THREAD:
                    raise
        return ended

    async def set_read_only(self, session: Session, on: bool) -> None:
        """As `Store` says; ``super_read_only`` binds accounts with all privileges too, as ours is."""
        await session.rollback()
        await session.execute(f"SET GLOBAL super_read_only = {'ON' if on else 'OFF'}")
        if not on:
            await session.execute("SET GLOBAL read_only = OFF")  # which the other had switched on with it

    async def examine(self, session: Session) -> Examination:
        """As `Store` says; a MySQL that meets a page whose checksum is wrong ends itself."""
        await session.rollback()
        tables = await self.tables(session)
        what = f"CHECK TABLE on {len(tables)} tables"
        if not tables:
            return Examination(what, None)
        try:
            rows = await session.fetch(f"CHECK TABLE {', '.join(f'`{table}`' for table in tables)}")
            await session.rollback()
        except Exception as error:
            if self.classify(error) is not ErrorKind.CONNECTION or await self._answers():
                raise
            return Examination(what, [f"the server ended while it checked: {error}"])
        return Examination(what, [f"{row[0]}: {row[2]}: {row[3]}" for row in rows if row[3] != "OK"])

    async def _answers(self) -> bool:
        """Whether one can log in now."""
        try:
            session = await self.connect()
        except Exception:
            return False
        await session.close()
        return True


class MariadbStore(MysqlStore):
    """A MariaDB database: another product, another label."""

    name = "mariadb"
    _processes = "information_schema.PROCESSLIST"

    def why_not(self, kind: Kind, target: Target) -> str | None:
        if kind == "read_only":
            return "MariaDB's read_only does not bind accounts with all privileges, as ours is"
        return super().why_not(kind, target)

    async def set_read_only(self, session: Session, on: bool) -> None:
        raise BadInput(f"{self.url}: can't be made read-only: {self.why_not('read_only', 'database')}")


async def _number(session: Session, statement: str) -> float | None:
    """One number, or None where our rights do not reach it."""
    try:
        rows: Any = await session.fetch(statement)
    except pymysql.err.MySQLError:
        return None
    return float(rows[0][0]) if rows and rows[0][0] is not None else None
