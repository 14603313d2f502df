"""The seam: what a database must offer so that a store can be copied into it.

A target has one session of its own, which holds the lock that keeps a second migration away and does all the work.
Rows come as the tuples that `bench.migrate.values` makes of the source's, in the order of a table's stored columns.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Literal

from bench.errors import BadInput
from bench.migrate.catalog import OURS, Catalog, Column, Table
from bench.migrate.sql import listed, quoted
from bench.stores import store_for
from bench.stores.base import Row, Session
from bench.stores.url import StoreUrl

_PROBE: Final = f"{OURS}_probe"
LEFT_S: Final = 10.0  # what a killed migration had begun may go on in the database for so long
_LOOK_S: Final = 0.1
_DRIVERS: Final = ("sqlite3", "asyncpg", "pymysql", "aiomysql")
Echo = Callable[[str], None]


class Gone(BadInput):
    """The target failed in the middle of the work; what was done so far is there."""


@dataclass(frozen=True)
class Deferred:
    """Something that was dropped for loading, and the statements that restore it.

    Attributes:
        name: of the index or constraint.
        kind: a plain index and the primary key come back before a resumed copy is compared with its source; what may
            be violated until then comes back after it.
        table: that it belongs to.
        build: makes the index, if that is a step of its own; several may be built at the same time.
        attach: makes the constraint.
    """

    name: str
    kind: Literal["primary", "index", "unique", "foreign"]
    table: str
    build: str | None
    attach: str | None

    def as_json(self) -> dict[str, Any]:
        """For the record in the target."""
        return asdict(self)


class Target(ABC):
    """A database that a store is copied into; ``largest`` is how many rows a batch of its own may hold."""

    large: ClassVar[int] = 100_000  # rows; smaller tables are loaded in one transaction
    part: ClassVar[int] = 100_000  # rows of a large table in one transaction
    batch: ClassVar[int] = 20_000  # rows that are sent at once

    def __init__(self, url: StoreUrl) -> None:
        self.url = url
        self.store = store_for(url)
        self.session: Session

    # Beginning and end

    async def open(self) -> None:
        """Log in.

        Raises:
            BadInput: it can't be reached, or is not what its URL calls it.
        """
        try:
            self.session = await self.store.connect()
        except BadInput:
            raise
        except Exception as error:
            if not drivers(error):
                raise
            raise BadInput(
                f"{self.url}: can't be reached: {first_line(error)}; is it up, and the login right?"
            ) from error

    async def close(self) -> None:
        """End the session, and with it the lock."""
        if hasattr(self, "session"):
            await self.session.close()

    @abstractmethod
    async def lock(self) -> bool:
        """Keep other migrations away until the session ends; False if another has the lock."""

    async def renew(self, echo: Echo) -> None:
        """A new session and lock: an extension that was dropped can't be made again in the old one.

        Raises:
            BadInput: another migration has come in between.
        """
        await self.close()
        await self.open()
        await self.lock_or_refuse(echo)

    async def lock_or_refuse(self, echo: Echo) -> None:
        """`lock`, waiting a moment for what a killed migration may have left in the database.

        Raises:
            BadInput: another migration goes on.
        """
        for waited in range(int(LEFT_S / _LOOK_S)):
            if await self.lock():
                return
            if waited == 0:
                echo(f"{self.url}: another migration has it; waiting {LEFT_S:.0f} s for its end")
            await asyncio.sleep(_LOOK_S)
        raise BadInput(f"{self.url}: another migration into it is going on; wait for its end, or end its process")

    async def tables(self) -> set[str]:
        """The tables that are there now."""
        await self.session.rollback()
        found = set(await self.store.tables(self.session))
        await self.session.rollback()
        return found - {_PROBE}

    async def others(self) -> int:
        """How many other sessions of this account the database has, as far as it can be asked."""
        return 0

    async def alone(self) -> None:
        """Wait a moment until other sessions have ended: a killed migration's process that makes the schema."""
        for _ in range(int(LEFT_S / _LOOK_S)):
            if not await self.others():
                return
            await asyncio.sleep(_LOOK_S)

    # The schema

    @abstractmethod
    async def prepare(self) -> dict[str, str]:
        """Make the empty database fit for MLflow's migrations; what `undo` must know to put it back.

        Raises:
            BadInput: the rights do not suffice; the message says what an administrator must do.
        """

    @abstractmethod
    async def undo(self, before: Mapping[str, str]) -> None:
        """Put back what `prepare` changed."""

    @abstractmethod
    async def clear(self) -> None:
        """Drop all tables, ours last."""

    async def shape(self, span_ms: tuple[int, int] | None) -> None:  # noqa: B027 (most targets need nothing)
        """Turn MLflow's plain schema into this store's; ``span_ms``: the first and last timestamp of the metrics."""

    async def empty(self, catalog: Catalog) -> None:
        """Take out the rows that MLflow's migrations put in; children first."""
        await self.session.begin()
        for name in reversed(list(catalog.tables)):
            await self.execute(f"DELETE FROM {self.name(name)}")
        await self.session.commit()

    async def truncate(self, table: str) -> None:
        """Take out all rows of a table whose constraints are not in force."""
        await self.execute(f"DELETE FROM {self.name(table)}")

    # Loading

    async def defer(self, tables: Sequence[Table]) -> list[Deferred]:
        """Drop what slows the loading of these tables, in the transaction that is open; empty: nothing pays here."""
        return []

    async def restore(  # noqa: B027 (as above)
        self, deferred: Sequence[Deferred], rows: Mapping[str, int], last: bool
    ) -> None:
        """Make what `defer` dropped and is not there, with what may be violated only if ``last``; idempotent.

        Raises:
            BadInput: rows break a constraint.
        """

    async def begin(self) -> None:
        """Open a transaction."""
        await self.session.begin()

    @abstractmethod
    async def send(self, table: Table, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        """Insert ``rows`` in the transaction that is open, by the fastest way that keeps every bit."""

    async def change(self, table: Table, columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> None:
        """Set ``columns`` of the rows with these keys; each of ``rows`` holds their values, then the key's."""
        if columns and rows:
            assign = ", ".join(f"{self.name(column.name)} = ?" for column in columns)
            statement = f"UPDATE {self.name(table.name)} SET {assign} WHERE {self._where(table)}"
            await self.many(statement, rows)

    async def remove(self, table: Table, keys: Sequence[Sequence[Any]]) -> None:
        """Delete the rows with these keys."""
        if keys:
            await self.many(f"DELETE FROM {self.name(table.name)} WHERE {self._where(table)}", keys)

    async def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """One statement for each row of parameters."""
        await self.session.execute_many(self.store.dialect.render(statement), [tuple(row) for row in rows])

    # The end of a copy

    @abstractmethod
    async def number(self, catalog: Catalog) -> None:
        """Move what numbers new rows past the highest number that is there, never backwards."""

    @abstractmethod
    async def settle(self, tables: Sequence[str]) -> None:
        """Have the database learn what the tables hold."""

    # Small things

    async def execute(self, statement: str) -> None:
        """Carry out a statement without parameters."""
        await self.session.execute(statement)

    def name(self, name: str) -> str:
        """``name`` as an identifier."""
        return quoted(self.url.store, name)

    def names(self, columns: Sequence[Column]) -> str:
        """Names of columns as a list of identifiers."""
        return listed(self.url.store, [column.name for column in columns])

    def highest(self, table: Table, column: Column) -> str:
        """The statement for the highest number of a column."""
        return f"SELECT MAX({self.name(column.name)}) FROM {self.name(table.name)}"

    async def may_make_tables(self) -> None:
        """See whether tables can be made: one is made and dropped.

        Raises:
            BadInput: they can't.
        """
        probe = self.name(_PROBE)
        try:
            left = _PROBE in await self.store.tables(self.session)  # by a kill, where this is no transaction
            await self.session.rollback()
            await self.begin()
            if left:
                await self.execute(f"DROP TABLE {probe}")
            await self.execute(f"CREATE TABLE {probe} (id INTEGER)")
            await self.execute(f"DROP TABLE {probe}")
            await self.session.commit()
        except Exception as error:
            with suppress(Exception):
                await self.session.rollback()
            if not drivers(error):
                raise
            raise BadInput(
                f"{self.url}: this account can't make tables there: {first_line(error)}; grant it that right"
            ) from error

    def _where(self, table: Table) -> str:
        same = {"sqlite": "IS", "mysql": "<=>", "mariadb": "<=>"}.get(self.url.store, "IS NOT DISTINCT FROM")
        return " AND ".join(f"{self.name(name)} {same if table.column(name).nullable else '='} ?" for name in table.key)


def first_line(error: BaseException) -> str:
    """An exception in one line."""
    text = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], str) else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0]


def drivers(error: BaseException) -> bool:
    """Whether a database, its driver or the network says this, so that it is no defect of ours."""
    return isinstance(error, OSError | EOFError) or type(error).__module__.partition(".")[0] in _DRIVERS
