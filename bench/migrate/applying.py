"""Brings a target that was loaded before up to its source: deletes, inserts and updates what differs.

Unique values may have moved from row to row: two experiments that swapped names, a name that was freed and given again.
So rows whose unique values go to others first get values that nobody has (they are parked); then parents come in
before children, changed rows get their last values, and what is gone is deleted, children first. After the parking no
value that a row is going to get is another's any longer.
"""

from __future__ import annotations

import os
import pickle
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final

from bench.errors import BadInput
from bench.migrate.catalog import Catalog, Column, Kind, Table
from bench.migrate.differences import Difference
from bench.migrate.digest import Reading
from bench.migrate.record import Pass
from bench.migrate.targets.base import Target, drivers
from bench.migrate.values import conversion
from bench.stores.base import Row

_HELD_BYTES: Final = 2**20  # of a table's changes in memory; the rest lies in a file that nobody else sees
_BATCH: Final = 1000
_MARK: Final = "trackbench-"
_SAVEPOINT: Final = "trackbench"


class Spool:
    """A list of rows that does not stay in memory when it grows."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_HELD_BYTES)  # noqa: SIM115 (lives as long as it)
        self._batch: list[Any] = []
        self.rows = 0

    def add(self, row: Any) -> None:
        """One more."""
        self.rows += 1
        self._batch.append(row)
        if len(self._batch) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        self._file.seek(0, os.SEEK_END)
        pickle.dump(self._batch, self._file, pickle.HIGHEST_PROTOCOL)
        self._batch = []

    def batches(self) -> Iterator[list[Any]]:
        """All rows, as often as one asks."""
        if self._batch:
            self._flush()
        place, end = 0, self._file.seek(0, os.SEEK_END)
        while place < end:
            self._file.seek(place)
            batch = pickle.load(self._file)
            place = self._file.tell()
            yield batch

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


@dataclass
class Changes:
    """What is to be done to one table; values as the target wants them."""

    table: Table
    inserts: Spool = field(default_factory=Spool)  # rows of the stored columns
    updates: Spool = field(default_factory=Spool)  # values of the columns beside the key, then the key's
    deletes: Spool = field(default_factory=Spool)  # keys
    freed: Spool = field(default_factory=Spool)  # key, and the values of each unique set that its row gives up or None
    claimed: list[set[int]] = field(default_factory=list)  # hashes of the values of each unique set that rows get

    @property
    def any(self) -> bool:
        """Whether there is something."""
        return bool(self.inserts.rows or self.updates.rows or self.deletes.rows)

    def close(self) -> None:
        """Let the files go."""
        for spool in (self.inserts, self.updates, self.deletes, self.freed):
            spool.close()


async def gather(stream: AsyncIterator[Difference], table: Table, reading: Reading, target: str) -> Changes:
    """The changes to a target of this kind that differences between rows, read in the order of ``reading``, ask for."""
    changes = Changes(table)
    names = list(reading.names)
    stored = tuple(column for column in table.stored if column.name in names)
    convert = conversion(stored, target)
    places = [names.index(column.name) for column in stored]
    key = [[column.name for column in stored].index(name) for name in table.key]
    rest = [place for place in range(len(stored)) if place not in key]

    def converted(values: tuple[Any, ...]) -> Row:
        return convert([tuple(values[place] for place in places)])[0]

    sets = uniques(table)
    unique = [[[column.name for column in stored].index(name) for name in columns] for columns in sets]
    changes.claimed = [set() for _ in sets]

    def claim(row: Row) -> None:
        for claimed, where in zip(changes.claimed, unique, strict=True):
            claimed.add(hash(tuple(row[place] for place in where)))

    def free(row: Row, changed: Sequence[str] | None) -> None:
        given_up = [
            tuple(row[place] for place in where) if changed is None or set(changed) & set(columns) else None
            for columns, where in zip(sets, unique, strict=True)
        ]
        if any(given_up):
            changes.freed.add((tuple(row[place] for place in key), given_up))

    async for one in stream:
        if one.target is not None:
            row = converted(one.target)
            if one.sort == "extra":
                changes.deletes.add(tuple(row[place] for place in key))
            free(row, one.changed if one.sort == "changed" else None)
        if one.source is not None:
            row = converted(one.source)
            claim(row)
            if one.sort == "missing":
                changes.inserts.add(tuple(row))
            else:
                changes.updates.add(tuple(row[place] for place in (*rest, *key)))
    return changes


async def apply(target: Target, catalog: Catalog, changes: dict[str, Changes], bounded: int = 500_000) -> Pass:
    """Carry the changes out: in one transaction, or on MySQL in several where they are more than ``bounded`` rows.

    ``seconds`` and ``rows`` of the pass are left to the caller.
    """
    tables = [catalog.tables[name] for name in catalog.tables if name in changes and changes[name].any]
    work = _Work(target, bounded if target.url.store in ("mysql", "mariadb") else None)
    await target.begin()
    for table in tables:
        await work.park(changes[table.name])
    for table in tables:
        await work.insert(changes[table.name])
        await work.update(changes[table.name])
    for table in reversed(tables):
        await work.delete(changes[table.name])
    await target.session.commit()
    return Pass(
        rows=0,
        inserted=sum(one.inserts.rows for one in changes.values()),
        updated=sum(one.updates.rows for one in changes.values()),
        deleted=sum(one.deletes.rows for one in changes.values()),
        seconds=0.0,
    )


@dataclass
class _Work:
    target: Target
    bounded: int | None
    done: int = 0
    removed: set[tuple[str, tuple[Any, ...]]] = field(default_factory=set)  # rows that are to be made anew

    async def park(self, changes: Changes) -> None:
        """Give rows that change or go unique values that nobody has, where another row is going to get theirs."""
        table, sets = changes.table, uniques(changes.table)
        for batch in changes.freed.batches():
            for key, given_up in batch:
                for columns, values, claimed in zip(sets, given_up, changes.claimed, strict=True):
                    if values is not None and hash(values) in claimed:
                        await self._set_aside(table, parking(table, columns), key)
                        self.done += 1
        await self._passed(0)

    async def _set_aside(self, table: Table, column: Column, key: tuple[Any, ...]) -> None:
        """Park one row, or delete it where a trigger of MLflow's forbids the change: it is going to be made anew."""
        session = self.target.session
        await session.execute(f"SAVEPOINT {_SAVEPOINT}")
        try:
            await self.target.change(table, [column], [(parked(column), *key)])
        except Exception as error:
            if not drivers(error):
                raise
            await session.execute(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
            await self.target.remove(table, [key])
            self.removed.add((table.name, tuple(key)))
        await session.execute(f"RELEASE SAVEPOINT {_SAVEPOINT}")

    async def insert(self, changes: Changes) -> None:
        """In one statement where the table refers to itself: then its rows are checked together."""
        table, rows = changes.table, changes.inserts
        if any(key.table == table.name for key in table.foreign_keys):
            together = [row for batch in rows.batches() for row in batch]
            if together:
                await self.target.send(table, table.stored, together)
            return
        for batch in rows.batches():
            await self.target.send(table, table.stored, batch)
            await self._passed(len(batch))

    async def update(self, changes: Changes) -> None:
        table = changes.table
        rest = [column for column in table.stored if column.name not in table.key]
        for batch in changes.updates.batches():
            await self.target.change(table, rest, batch)
            anew = [row for row in batch if (table.name, tuple(row[len(rest) :])) in self.removed]
            if anew:
                columns = [*rest, *(table.column(name) for name in table.key)]
                await self.target.send(table, columns, [tuple(row) for row in anew])
            await self._passed(len(batch))

    async def delete(self, changes: Changes) -> None:
        for batch in changes.deletes.batches():
            await self.target.remove(changes.table, batch)
            await self._passed(len(batch))

    async def _passed(self, rows: int) -> None:
        self.done += rows
        if self.bounded is not None and self.done >= self.bounded:
            self.done = 0
            await self.target.session.commit()
            await self.target.begin()


def uniques(table: Table) -> list[tuple[str, ...]]:
    """What is unique beside the key."""
    found = [*table.uniques, *(index.columns for index in table.indexes if index.unique)]
    return [columns for columns in dict.fromkeys(found) if set(columns) != set(table.key)]


def parking(table: Table, columns: Sequence[str]) -> Column:
    """The column of a unique set that can hold a value that nobody has: no key, no reference, wide enough.

    Raises:
        BadInput: there is none.
    """
    bound = {*table.key, *(name for key in table.foreign_keys for name in key.columns)}
    free = [table.column(name) for name in columns if name not in bound and name in {one.name for one in table.columns}]
    texts = [one for one in free if one.kind is Kind.TEXT and (one.characters is None or one.characters >= 32)]
    if found := next(iter([*texts, *(one for one in free if one.nullable or one.kind is Kind.INTEGER)]), None):
        return found
    raise BadInput(
        f"{table.name}: rows changed whose ({', '.join(columns)}) is unique, and no value of it can be set aside; "
        "begin anew with --start-over"
    )


def parked(column: Column) -> Any:
    """A value that nobody has."""
    if column.kind is Kind.TEXT:
        return _MARK + secrets.token_hex(10)
    return None if column.nullable else -1 - secrets.randbelow(2**31 - 2)
