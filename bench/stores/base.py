"""The seam: what a database must offer so that Trackbench can load it, read it back and ask it how it felt.

Adding a database is adding one file with a `Store` and a `Session`, and naming it in ``bench/stores/__init__.py``.
Statements are written once (`bench.stores.statements`) with ``?`` for a parameter and ``{key}`` for the column
that MySQL must quote; a `Dialect` renders them for a driver.
"""

import asyncio
import random
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Final, Literal, Protocol

from bench.faults.spec import Kind, Target
from bench.outcome import ErrorKind
from bench.stores.url import StoreUrl

COLLISION_S = 0.005  # between the locks of one transaction of a storm: a writer's whole transaction fits in


class Row(Protocol):
    """One row: a tuple, or what a driver has in its place."""

    def __getitem__(self, column: int, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Dialect:
    """How one driver wants its SQL.

    ``placeholder`` is ``?``, ``%s`` or ``$``, the last numbered. ``no_limit``, ``limit_one`` and ``page`` (with
    two parameters) are the LIMIT clauses that SQLAlchemy writes there. ``multi_row`` says that several rows go in
    one INSERT, as SQLAlchemy sends them there; otherwise one statement a row.
    """

    placeholder: Literal["?", "%s", "$"]
    quote: str
    for_update: str
    no_limit: str
    limit_one: str
    page: str
    multi_row: bool
    join: str = "JOIN"

    def render(self, statement: str) -> str:
        """``statement`` in this dialect."""
        return _render(self, statement)

    def values(self, columns: int, rows: int) -> str:
        """A VALUES list with ``?`` for each parameter."""
        row = "(" + ", ".join("?" * columns) + ")"
        return ", ".join([row] * rows)

    def insert(self, table: str, columns: Sequence[str], rows: int) -> str:
        """A rendered INSERT of ``rows`` rows."""
        return _insert(self, table, tuple(columns), rows)


@cache
def _render(dialect: Dialect, statement: str) -> str:
    statement = statement.replace("{key}", f"{dialect.quote}key{dialect.quote}").replace("{join}", dialect.join)
    if dialect.placeholder == "$":
        numbers = iter(range(1, 100_000))
        return re.sub(r"\?", lambda _: f"${next(numbers)}", statement)
    return statement.replace("?", dialect.placeholder)


@cache
def _insert(dialect: Dialect, table: str, columns: tuple[str, ...], rows: int) -> str:
    names = ", ".join("{key}" if column == "key" else column for column in columns)
    return dialect.render(f"INSERT INTO {table} ({names}) VALUES {dialect.values(len(columns), rows)}")


class Session(ABC):
    """One connection. Its methods raise the driver's own exceptions; `Store.classify` names them."""

    dialect: ClassVar[Dialect]

    @abstractmethod
    async def ping(self) -> None:
        """SQLAlchemy's pre-ping, which MLflow asks for whenever it takes a connection from its pool."""

    async def checkout(self) -> None:
        """What MLflow sends before a transaction: the pre-ping, and SQLite's PRAGMAs."""
        await self.ping()

    @abstractmethod
    async def begin(self) -> None:
        """Open a transaction as MLflow's driver does (explicitly, or by the first write)."""

    @abstractmethod
    async def commit(self) -> None:
        """Commit; on return the database has acknowledged."""

    @abstractmethod
    async def rollback(self) -> None:
        """Give the transaction up; harmless outside of one."""

    @abstractmethod
    async def fetch(self, statement: str, *args: object) -> Sequence[Row]:
        """All rows of a rendered statement."""

    @abstractmethod
    async def execute(self, statement: str, *args: object) -> None:
        """Carry out a rendered statement."""

    @abstractmethod
    def execute_alone(self, statement: str, *args: object) -> Awaitable[object]:
        """Carry out a rendered statement in a transaction of its own, in as few round trips as there can be.

        A plain function, so that a store may hand out its driver's own awaitable: the bulk path is measured
        against bare driver loops, and each coroutine in between costs.
        """

    @abstractmethod
    async def bulk(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Insert rows by the database's fastest path, in a transaction of its own."""

    @abstractmethod
    async def freeze(self) -> None:
        """Begin a read-only transaction that sees the database as it is now, whatever others commit, until `rollback`.

        `fetch` and `stream` stay in it.
        """

    @abstractmethod
    def stream(self, statement: str, *args: object, size: int = 50_000) -> AsyncIterator[Sequence[Row]]:
        """Rows of a rendered statement in batches of at most ``size``, never held all at once by the driver.

        Outside of a frozen transaction it ends the transaction that it opened.
        """

    @abstractmethod
    async def close(self) -> None:
        """End the connection at once, whatever state it is in; harmless if it has ended."""

    async def insert(self, head: str, rows: Sequence[Row]) -> None:
        """Insert ``rows`` the way SQLAlchemy does there; ``head`` is ``INSERT INTO t (columns) VALUES``."""
        if self.dialect.multi_row or len(rows) == 1:
            values = self.dialect.values(len(rows[0]), len(rows))
            statement = self.dialect.render(f"{head} {values}")
            await self.execute(statement, *(value for row in rows for value in row))
            return
        await self.execute_many(self.dialect.render(f"{head} {self.dialect.values(len(rows[0]), 1)}"), rows)

    async def execute_many(self, statement: str, rows: Sequence[Row]) -> None:
        """Carry out a rendered statement once for each row of parameters."""
        for row in rows:
            await self.execute(statement, *row)


@asynccontextmanager
async def rolled_back(session: Session) -> AsyncIterator[None]:
    """Give the transaction up at the end; after an error that error is told, whatever else goes wrong."""
    try:
        yield
    except BaseException:
        with suppress(Exception):
            await session.rollback()
        raise
    await session.rollback()


@dataclass(frozen=True)
class Durability:
    """What the settings read back allow to be lost of acknowledged commits, in words; None: nothing.

    ``crash`` is what a kill -9 of the database's process may cost, the machine staying up, and ``power`` what the end
    of the machine may: a power cut, or a crash of its system. ``claim`` is both in one line.
    """

    crash: str | None
    power: str | None
    claim: str

    @property
    def ok(self) -> bool:
        """Whether an acknowledged commit survives both."""
        return self.crash is None and self.power is None


TORN: Final = "torn pages: the store may be corrupt"  # `bench.judge.claims` looks for the last word


def promise(crash: Sequence[str], power: Sequence[str], claims: Sequence[str], durable: str) -> Durability:
    """All that may be lost, joined; ``durable`` is the claim where nothing may be."""
    return Durability("; ".join(crash) or None, "; ".join(power) or None, "; ".join(claims) or durable)


@dataclass(frozen=True)
class Examination:
    """The database's own check of its structure: ``what`` was done, and each of the ``problems`` in words.

    Where ``problems`` is None it could not be made, and ``what`` says why not.
    """

    what: str
    problems: list[str] | None


@dataclass(frozen=True)
class Counters:
    """The referee: the server's own growing counters, by name; ``None`` where this database has no such counter.

    Every store has the names ``deadlocks``, ``lock_waits``, ``commits`` and ``rollbacks``.
    """

    values: dict[str, float | None] = field(default_factory=dict)

    def since(self, before: "Counters") -> dict[str, float | None]:
        """What was added since ``before``."""
        result: dict[str, float | None] = {}
        for name, now in self.values.items():
            then = before.values.get(name)
            result[name] = None if now is None or then is None else now - then
        return result


class Store(ABC):
    """One database with MLflow's schema, at one URL."""

    name: ClassVar[str]
    dialect: ClassVar[Dialect]

    def __init__(self, url: StoreUrl) -> None:
        self.url = url

    @abstractmethod
    async def connect(self, options: dict[str, str] | None = None) -> Session:
        """A new connection set up as MLflow's; ``options`` are the scenario's session settings."""

    @abstractmethod
    def classify(self, error: BaseException) -> ErrorKind:
        """The kind of a driver's exception, from its code."""

    @abstractmethod
    async def version(self, session: Session) -> str:
        """The server's own words about its version."""

    @abstractmethod
    async def settings(self, session: Session) -> dict[str, str]:
        """The settings that matter for durability, memory and locking, read back from the server."""

    @abstractmethod
    def durability(self, settings: dict[str, str]) -> Durability:
        """What ``settings`` promise about acknowledged commits."""

    @abstractmethod
    async def counters(self, session: Session) -> Counters:
        """The referee's counters now."""

    @abstractmethod
    async def gauges(self, session: Session) -> dict[str, float]:
        """Numbers that rise and fall, sampled during a trial for their peak: ``connections``, ``lock_waiters``."""

    async def writers_left(self, session: Session, pooled: bool) -> int:
        """How many sessions of our writers the server still has: a lost client's last commit may be under way.

        Behind a tracking server sessions are ``pooled`` and stay: then only those at work count.
        """
        return 0

    @abstractmethod
    async def max_connections(self, session: Session) -> int | None:
        """How many connections the server still admits for us, or None where there is no limit."""

    @abstractmethod
    async def tables(self, session: Session) -> list[str]:
        """The names of the tables in this database (of the current schema)."""

    @abstractmethod
    async def settle(self, session: Session) -> None:
        """Bring a server of ours to the same state before each trial: statistics, dead rows, checkpoint."""

    async def after_schema(self, session: Session) -> None:  # noqa: B027 (most stores need nothing)
        """Turn MLflow's plain schema into this store's (a hypertable)."""

    async def misfit(self, session: Session, empty: bool) -> str | None:
        """Why this database is not (``empty``: can't become) the store that its URL calls it; None if it is."""
        return None

    async def count(self, session: Session, tables: Iterable[str]) -> dict[str, int]:
        """Rows of each table, without any join or filter."""
        result = {}
        for table in tables:
            rows = await session.fetch(f"SELECT COUNT(*) FROM {table}")
            result[table] = int(rows[0][0])
        return result

    # What is done to it on purpose

    def why_not(self, kind: Kind, target: Target) -> str | None:
        """Why this store can't have such a fault, in words; None if nothing about the store speaks against it."""
        return None

    async def end_sessions(self, session: Session) -> int:
        """End all other sessions of this database, as its administrator does; how many, 0 where there is no server."""
        return 0

    async def hold(self, session: Session, run_ids: Sequence[str]) -> None:
        """Open a transaction that holds what every ``log_metric`` to these runs (one at least) needs.

        It waits for the transactions that are under way. Until ``session`` rolls back, writers wait as long as their
        settings have them wait for a lock. Here the rows of the runs: the foreign key of each new metric wants them.
        """
        await session.begin()
        statement = self.dialect.render("SELECT run_uuid FROM runs WHERE run_uuid = ? FOR UPDATE")
        for run_id in sorted(run_ids):  # one by one: for a list MySQL may go through the whole table, and lock it
            await session.fetch(statement, run_id)

    async def collide(self, session: Session, run_ids: Sequence[str]) -> None:
        """One transaction of a deadlock storm, rolled back at its end: the locks of ``log_metric`` in the other order.

        It is about one of the runs (one at least), by chance. A writer that has its metric in already wants the latest
        metrics, which are held here, and holds the run, which is wanted here. Raises the driver's error where the
        database makes this transaction the victim. Until somebody is, both sides wait: PostgreSQL looks for deadlocks
        after ``deadlock_timeout``, a second by default, and then the one that waited first gives way, the writer.
        """
        render, run_id = self.dialect.render, random.choice(run_ids)
        async with rolled_back(session):
            await session.begin()
            latest = "SELECT {key} FROM latest_metrics WHERE run_uuid = ? ORDER BY {key} FOR UPDATE"
            await session.fetch(render(latest), run_id)
            await asyncio.sleep(COLLISION_S)
            await session.fetch(render("SELECT run_uuid FROM runs WHERE run_uuid = ? FOR UPDATE"), run_id)

    @abstractmethod
    async def set_read_only(self, session: Session, on: bool) -> None:
        """Have the transactions that begin from now on refused their writes, or not any longer.

        What becomes of those under way differs: PostgreSQL lets them commit, MySQL does not.

        Raises:
            BadInput: it can't be done here; `why_not` tells it beforehand.
        """

    @abstractmethod
    async def examine(self, session: Session) -> Examination:
        """Have the database check its structure, nothing being written meanwhile; ``session`` rolls back at the end."""
