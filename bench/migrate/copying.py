"""Loads a source's tables into an empty schema: in batches, resumable, in bounded memory.

Large tables are read in the order of their primary key, and the last key is noted in the same transaction as the rows.
A load that was killed goes on after that key, with whatever snapshot the source is at by then. What changed before it
in the meantime is brought by a pass over the differences afterwards (`bench.migrate.applying`), once keys are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from bench.errors import BadInput
from bench.migrate import sql
from bench.migrate.catalog import Catalog, Column, Kind, Table
from bench.migrate.progress import Mark, Progress
from bench.migrate.targets.base import Gone, Target, drivers, first_line
from bench.migrate.values import conversion
from bench.stores.base import Session
from bench.stores.url import StoreUrl

_BATCH_BYTES: Final = 8 * 2**20
_FEWEST: Final = 4  # rows of a batch, however long they may be
_WIDE: Final = 1000  # characters that a column may hold before it is looked how many it does
_ROW_BYTES: Final = 40  # a value's share beside its text
T = TypeVar("T")


class Reads(Protocol):
    """The side that is read: a frozen session."""

    @property
    def given(self) -> str:
        """What the user calls it, without a password."""

    @property
    def session(self) -> Session:
        """Where its rows are read."""

    @property
    def catalog(self) -> Catalog:
        """What it has."""


class Watcher(Protocol):
    """Who is told how it goes."""

    def say(self, text: str) -> None:
        """A line."""

    def phase(self, name: str, rows: int | None = None) -> None:
        """A phase begins; ``rows``: how many are going to pass."""

    def moved(self, rows: int) -> None:
        """So many more rows are through."""


@dataclass(frozen=True)
class Size:
    """How many rows a table has, and how many bytes the longest of them at most."""

    rows: int
    longest: int


@dataclass
class Load:
    """What is to be loaded from where to where."""

    source: Reads
    target: Target
    progress: Progress
    watcher: Watcher
    sizes: Mapping[str, Size]
    _pending: int = field(default=0, init=False)  # rows in the open transaction

    async def all_tables(self) -> int:
        """Load every table that is not marked as done; how many rows that were."""
        moved = 0
        for name, table in self.source.catalog.tables.items():
            moved += await self._table(name, table)
        await self._commit()
        return moved

    async def _table(self, name: str, table: Table) -> int:
        marks, size = self.progress.marks, self.sizes[name]
        mark = marks.get(name)
        if mark is not None and mark.done:
            self.watcher.moved(size.rows)
            return 0
        if not self._pending:
            await self.target.begin()
        if mark is not None and mark.last is None:  # a part of it is there, in no order that tells which
            await self.target.truncate(name)
        large = size.rows > self.target.large
        mark = marks[name] = Mark(last=mark.last) if mark is not None else Mark()
        moved = 0
        if size.rows:
            moved = await self._rows(table, mark, large)
        mark.done, mark.last = True, None
        self._pending += 1
        if large or self._pending >= self.target.part:
            await self._commit()
        return moved

    async def _rows(self, table: Table, mark: Mark, large: bool) -> int:
        session, source, target = self.source.session, self.source.catalog.store, self.target
        columns = table.stored
        convert = conversion(columns, target.url.store)
        ordered = large and continuable(table)
        places = [[column.name for column in columns].index(name) for name in table.key]
        statement, args = reading(source, table, ordered, mark.last), mark.last or []
        batch = batch_rows(self.sizes[table.name].longest, target.batch)
        moved = 0
        stream = session.stream(session.dialect.render(statement), *args, size=batch)
        async for rows in ahead(told(f"{self.source.given}: {table.name}", stream)):
            await target.send(table, columns, convert(rows))
            moved += len(rows)
            self._pending += len(rows)
            self.watcher.moved(len(rows))
            if large and self._pending >= target.part:
                mark.last = [rows[-1][place] for place in places] if ordered else None
                await self._commit()
                await target.begin()
        return moved

    async def _commit(self) -> None:
        if self._pending:
            await self.progress.save(self.target)
            await self.target.session.commit()
        self._pending = 0


def check_fit(source: Catalog, target: Catalog, url: StoreUrl) -> None:
    """See that the target's schema has all that the source has.

    Raises:
        BadInput: it lacks tables or columns: they are not MLflow's.
    """
    for name, table in source.tables.items():
        if name not in target.tables:
            raise BadInput(f"{url}: MLflow's schema has no table {name}, which the source has; move it by other means")
        known = {column.name for column in target.tables[name].columns}
        if more := [column.name for column in table.columns if column.name not in known]:
            raise BadInput(
                f"{url}: MLflow's {name} has no column {more[0]}, which the source has; move it by other means"
            )


def continuable(table: Table) -> bool:
    """Whether a load of the table may go on after a key.

    The key's order must be total, and nothing else may be unique: what was loaded from an earlier snapshot could clash
    with what comes from a later one.
    """
    keyed = not any(table.column(name).nullable for name in table.key)
    return keyed and not table.uniques and not any(index.unique for index in table.indexes)


def reading(store: str, table: Table, ordered: bool, after: Sequence[object] | None) -> str:
    """The statement that reads a table's rows, with ``?`` for each of the key's values that the rows come ``after``."""
    statement = (sql.ordered if ordered or after is not None else sql.select)(store, table.name, table.stored)
    key = sql.listed(store, table.key)
    if after is not None:
        statement += f" WHERE ({key}) > ({', '.join('?' * len(table.key))})"
    return f"{statement} ORDER BY {key}" if ordered else statement


def batch_rows(longest: int, most: int) -> int:
    """How many rows are read at once, where the longest has so many bytes."""
    return max(_FEWEST, min(most, _BATCH_BYTES // max(1, longest)))


async def sizes(source: Reads) -> dict[str, Size]:
    """The size of each table; bytes are counted only where the schema lets them be many."""
    found = {}
    for name, table in source.catalog.tables.items():
        store = source.catalog.store
        wide = [column for column in table.stored if _wide(column)]
        longest = "0" if not wide else f"MAX({' + '.join(f'COALESCE({_octets(store, one)}, 0)' for one in wide)})"
        rows = await source.session.fetch(f"SELECT COUNT(*), {longest} FROM {sql.quoted(store, name)}")
        others = sum(_ROW_BYTES + (column.characters or 0) for column in table.stored if column not in wide)
        found[name] = Size(int(rows[0][0]), int(rows[0][1] or 0) + others)
    return found


def _wide(column: Column) -> bool:
    if column.kind in (Kind.JSON, Kind.BYTES):
        return True
    return column.kind is Kind.TEXT and (column.characters is None or column.characters > _WIDE)


def _octets(store: str, column: Column) -> str:
    name = sql.quoted(store, column.name)
    if store == "sqlite":
        return f"length(CAST({name} AS BLOB))"
    return f"LENGTH({name})" if store in ("mysql", "mariadb") else f"octet_length({name}::text)"


async def span_ms(source: Reads) -> tuple[int, int] | None:
    """The first and the last timestamp of the metrics; None if there are none."""
    rows = await source.session.fetch("SELECT MIN(timestamp), MAX(timestamp) FROM metrics")
    return None if rows[0][0] is None else (int(rows[0][0]), int(rows[0][1]))


async def ahead(stream: AsyncIterator[T]) -> AsyncIterator[T]:
    """The items of a stream, the next one being fetched while the last is worked on."""

    async def following() -> T:
        return await anext(stream)

    task = asyncio.ensure_future(following())
    try:
        while True:
            try:
                item = await task
            except StopAsyncIteration:
                return
            task = asyncio.ensure_future(following())
            yield item
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, StopAsyncIteration, Exception):
            await task
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


async def told(what: str, stream: AsyncIterator[T]) -> AsyncIterator[T]:
    """The items of a stream; the errors of its driver become one line about ``what`` was read."""
    try:
        async for item in stream:
            yield item
    except Exception as error:
        if not drivers(error):
            raise
        raise BadInput(f"{what}: can't be read: {first_line(error)}") from error


async def guarded(target: Target, work: Awaitable[T]) -> T:
    """What ``work`` gives; the target's own errors become one line."""
    try:
        return await work
    except BadInput:
        raise
    except Exception as error:
        if not drivers(error):
            raise
        raise Gone(f"{target.url}: {first_line(error)}") from error
