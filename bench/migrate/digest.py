"""What one table of one store comes to: for each bucket of keys how many rows, and the sum of their hashes.

Whatever order the database gives the rows in, and whatever batches: see `bench.migrate.canonical`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.migrate.canonical import BUCKETS, Hasher
from bench.migrate.catalog import Column, Kind, Table
from bench.migrate.limits import MYSQL
from bench.migrate.rules import octets
from bench.migrate.sql import quoted, select
from bench.stores.base import Row, Session
from bench.stores.sqlite import SqliteSession

ROWS_AT_ONCE: Final = 10_000
_BYTES_AT_ONCE: Final = 2**23
_LONG_TEXT: Final = 2**15  # bytes of a value from which on its row is read among few
_LONG_ROWS: Final = 4  # so many
_PRECEDENCE: Final = (
    Kind.JSON, Kind.BOOLEAN, Kind.DATE, Kind.FLOAT, Kind.SINGLE, Kind.INTEGER, Kind.BYTES, Kind.TEXT,
)  # fmt: skip

Told = Callable[[int], None]  # of so many more rows


def nobody(_: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Reading:
    """How one side reads a table: its own columns, the first ``keys`` of which are the key, and their common kinds."""

    table: str
    columns: tuple[Column, ...]
    kinds: tuple[Kind, ...]
    keys: int

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(column.name for column in self.columns)

    @property
    def rows_at_once(self) -> int:
        """How many rows to ask for together, so that they take little memory, where no value is a long text."""
        row = sum(min(column.characters or column.octets or _LONG_TEXT, _LONG_TEXT) for column in self._texts())
        return max(100, min(ROWS_AT_ONCE, _BYTES_AT_ONCE // max(row, 1)))

    def long(self, store: str) -> str | None:
        """The condition that a row has a long text; None if the columns' types allow none."""
        columns = [column for column in self._texts() if (column.characters or column.octets or 2**32) > _LONG_TEXT]
        lengths = (octets(store, quoted(store, column.name), column.kind) for column in columns)
        return " + ".join(f"COALESCE({length}, 0)" for length in lengths) + f" > {_LONG_TEXT}" if columns else None

    def _texts(self) -> list[Column]:
        return [column for column in self.columns if column.kind in (Kind.TEXT, Kind.JSON, Kind.BYTES)]


def readings(source: Table, target: Table) -> tuple[Reading, Reading]:
    """How both sides read a table that both have: the columns of both, key first, and of each the stricter kind.

    The key is the source's, unless the target lacks a column of it: then all columns are.
    """
    theirs = {column.name for column in target.columns}
    shared = [column.name for column in source.columns if column.name in theirs]
    key = source.key if set(source.key) <= set(shared) else tuple(shared)
    names = [*key, *(name for name in shared if name not in key)]
    kinds = tuple(min(source.column(name).kind, target.column(name).kind, key=_PRECEDENCE.index) for name in names)
    return (
        Reading(source.name, tuple(source.column(name) for name in names), kinds, len(key)),
        Reading(target.name, tuple(target.column(name) for name in names), kinds, len(key)),
    )


@dataclass
class TableDigest:
    """Of each bucket the number of rows, shape (buckets,), and the sums of both lanes, shape (2, buckets)."""

    counts: NDArray[np.int64]
    sums: NDArray[np.uint64]

    @classmethod
    def empty(cls) -> TableDigest:
        """That of no rows."""
        return cls(np.zeros(BUCKETS, np.int64), np.zeros((2, BUCKETS), np.uint64))

    @property
    def rows(self) -> int:
        """How many rows it is of."""
        return int(self.counts.sum())

    def add(self, hasher: Hasher, rows: Sequence[Row]) -> None:
        """Add these rows to it."""
        buckets, hashes = hasher.rows(rows)
        for lane in (0, 1):
            np.add.at(self.sums[lane], buckets, hashes[lane])
        self.counts += np.bincount(buckets, minlength=BUCKETS)

    def differing(self, other: TableDigest) -> NDArray[np.bool_]:
        """Which buckets differ, shape (buckets,)."""
        found: NDArray[np.bool_] = (self.counts != other.counts) | (self.sums != other.sums).any(axis=0)
        return found

    def packed(self) -> tuple[Any, ...]:
        """Its buckets that are not empty, for a pipe."""
        held = np.flatnonzero(self.counts)
        return held, self.counts[held], self.sums[:, held]

    @classmethod
    def unpacked(cls, packed: tuple[Any, ...]) -> TableDigest:
        """What was `packed`."""
        found = cls.empty()
        held, found.counts[held], found.sums[:, held] = packed
        return found


async def digest_of(session: Session, store: str, reading: Reading, secret: bytes, told: Told = nobody) -> TableDigest:
    """The digest of a table as ``session`` sees it, by one scan of it."""
    try:
        return await _digest(session, store, reading, secret, told)
    except sqlite3.OperationalError as error:
        if not isinstance(session, SqliteSession) or "decode" not in str(error).lower():
            raise
        session.take_any_text()
        return await _digest(session, store, reading, secret, nobody)


async def _digest(session: Session, store: str, reading: Reading, secret: bytes, told: Told) -> TableDigest:
    hasher, found = Hasher(secret, reading.kinds, reading.keys), TableDigest.empty()
    async for rows in scan(session, store, reading):
        found.add(hasher, rows)
        told(len(rows))
    return found


async def scan(session: Session, store: str, reading: Reading) -> AsyncIterator[Sequence[Row]]:
    """All rows of a table in batches, in whatever order the database gives them; of long ones a few at a time."""
    statement, many = select(store, reading.table, reading.columns), reading.rows_at_once
    long = None if store in MYSQL else reading.long(store)  # MySQL's sessions end a batch at so many bytes
    parts = [(statement, many)]
    if long is not None:
        parts = [(f"{statement} WHERE NOT ({long})", many), (f"{statement} WHERE {long}", _LONG_ROWS)]
    for part, size in parts:
        async for rows in session.stream(part, size=size):
            yield rows
