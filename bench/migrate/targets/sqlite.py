"""A SQLite file as a target: one that does not exist yet, or an empty one."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from bench.errors import BadInput
from bench.migrate.catalog import Catalog, Column, Table
from bench.migrate.targets.base import Deferred, Target, first_line
from bench.stores.base import Row
from bench.stores.url import StoreUrl

_ABSENT: Final = "absent"
_FILE: Final = "file"


class SqliteTarget(Target):
    """A SQLite file.

    The lock is an flock on the file itself, which SQLite's own locks do not know of. Its descriptor is closed after the
    session: POSIX would drop SQLite's locks with it.
    """

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url)
        assert url.path is not None
        self.path = url.path
        self._lock: int | None = None
        self._open = False

    async def open(self) -> None:
        """As `Target` says; a file that does not exist is not made before `prepare`."""
        if not self.path.parent.is_dir():
            raise BadInput(f"{self.url}: no such folder: {self.path.parent}; make it first")
        if not self.path.exists():
            return
        if not self.path.is_file():
            raise BadInput(f"{self.url}: not a file; give the name of one")
        await self._connect()

    async def _connect(self) -> None:
        await super().open()
        self._open = True
        try:
            await self.session.fetch("SELECT 1 FROM sqlite_master LIMIT 1")
        except sqlite3.DatabaseError as error:
            raise BadInput(f"{self.url}: {first_line(error)}; give the name of a new or empty file") from error
        await self.session.fetch("PRAGMA foreign_keys = OFF")

    async def close(self) -> None:
        if self._open:
            self._open = False
            await self.session.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def lock(self) -> bool:
        if self._lock is not None:
            return True
        if not self.path.exists():
            await self.close()  # of a file that its migration has removed
            return True  # taken when the file is made
        return self._take(os.O_RDWR)

    def _take(self, how: int) -> bool:
        try:
            descriptor = os.open(self.path, how | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            return False
        except OSError as error:
            raise BadInput(f"{self.url}: can't be written to: {error.strerror}; give a place where you may") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        if not self.path.exists() or os.fstat(descriptor).st_ino != self.path.stat().st_ino:
            os.close(descriptor)  # the file was removed meanwhile, and perhaps made again
            return False
        self._lock = descriptor
        return True

    async def tables(self) -> set[str]:
        return await super().tables() if self._open else set()

    async def may_make_tables(self) -> None:
        """As `Target` says; nothing is written."""
        if not os.access(self.path if self.path.exists() else self.path.parent, os.W_OK):
            raise BadInput(f"{self.url}: can't be written to: no permission; give a place where you may")
        if not os.access(self.path.parent, os.W_OK):
            raise BadInput(
                f"{self.url}: no journal can be made in {self.path.parent}; give a folder where you may write"
            )

    # The schema

    async def prepare(self) -> dict[str, str]:
        if self._open:
            return {_FILE: "empty"}
        made = self._lock is None
        if made and not self._take(os.O_RDWR | os.O_CREAT | os.O_EXCL):
            raise BadInput(f"{self.url}: another migration into it is going on; wait for its end, or end its process")
        await self._connect()
        return {_FILE: _ABSENT if made else "empty"}

    async def undo(self, before: Mapping[str, str]) -> None:
        """As `Target` says: a file that was not there is removed, one that was empty is emptied."""
        await self.session.close()
        self._open = False
        with suppress(FileNotFoundError):
            if before.get(_FILE) == _ABSENT:
                self.path.unlink()
                await self.close()
            elif self.path.stat().st_size:
                os.truncate(self.path, 0)

    async def clear(self) -> None:
        await self.session.rollback()
        found = await self.tables()
        await self.session.fetch("PRAGMA foreign_keys = OFF")
        await self.begin()
        for name in sorted(found):
            await self.execute(f"DROP TABLE IF EXISTS {self.name(name)}")
        await self.session.commit()

    # Loading

    async def begin(self) -> None:
        await self.session.execute("BEGIN IMMEDIATE")

    async def defer(self, tables: Sequence[Table]) -> list[Deferred]:
        """As `Target` says: the indexes that a statement of their own made."""
        wanted = {table.name for table in tables}
        rows = await self.session.fetch("SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'index'")
        found = []
        for name, table, definition in rows:
            if table in wanted and definition:
                unique = definition.upper().startswith("CREATE UNIQUE")
                found.append(Deferred(name, "unique" if unique else "index", table, definition, None))
                await self.execute(f"DROP INDEX {self.name(name)}")
        return found

    async def restore(self, deferred: Sequence[Deferred], rows: Mapping[str, int], last: bool) -> None:
        there = {row[0] for row in await self.session.fetch("SELECT name FROM sqlite_master WHERE type = 'index'")}
        for one in deferred:
            if one.name not in there and one.build and (last or one.kind == "index"):
                try:
                    await self.execute(one.build)
                except sqlite3.IntegrityError as error:
                    raise BadInput(
                        f"{self.url}: {one.table}: rows of the source break {one.name}: {first_line(error)}; mend them "
                        "in the source, then run the same command again"
                    ) from error
        await self.session.commit()

    async def send(self, table: Table, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {self.name(table.name)} ({self.names(columns)}) VALUES ({marks})"
        await self.session.execute_many(statement, rows)

    # The end of a copy

    async def number(self, catalog: Catalog) -> None:
        """Nothing: SQLite looks at the highest number itself, and notes it where AUTOINCREMENT asks for that."""

    async def settle(self, tables: Sequence[str]) -> None:
        """Nothing: MLflow has SQLite keep no statistics, and the copy is to be like the original."""
