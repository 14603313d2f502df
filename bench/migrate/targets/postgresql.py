"""PostgreSQL as a target: COPY into bare tables, then all indexes, several at a time. Nothing needs a superuser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final, Literal, cast

import asyncpg

from bench.errors import BadInput
from bench.migrate.catalog import OURS, Catalog, Column, Table
from bench.migrate.targets.base import Deferred, Target, first_line
from bench.stores.base import Row
from bench.stores.postgresql import PostgresqlSession

_LOCK: Final = int.from_bytes(OURS.encode()[:7], "big")  # an advisory lock's number, in each database its own
_SESSION: Final = {
    "maintenance_work_mem": "256MB",  # of the server's memory, for each index that is being built
    "lock_timeout": "60s",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
_BUILDERS: Final = 2  # indexes that are built at a time
_FORBIDDEN: Final = "42501"
_BROKEN: Final = "23"  # the class of violated constraints

_INDEXES: Final = """
    SELECT i.relname, t.relname, pg_get_indexdef(i.oid), c.conname, c.contype::text, c.condeferrable,
           pg_get_constraintdef(c.oid)
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
    LEFT JOIN pg_constraint c ON c.conindid = i.oid AND c.conrelid = t.oid AND c.contype IN ('p', 'u', 'x')
    WHERE t.relnamespace = current_schema()::regnamespace AND t.relname = ANY($1::text[]) ORDER BY 2, 1
"""
_FOREIGN: Final = """
    SELECT c.conname, t.relname, pg_get_constraintdef(c.oid)
    FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
    WHERE c.contype = 'f' AND t.relnamespace = current_schema()::regnamespace ORDER BY 2, 1
"""
_FUNCTIONS: Final = "functions"
_FUNCTION: Final = """
    SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = current_schema()::regnamespace
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
"""
_THERE: Final = """
    SELECT 'i' || i.relname, t.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
    JOIN pg_class t ON t.oid = x.indrelid WHERE t.relnamespace = current_schema()::regnamespace
    UNION ALL SELECT 'c' || c.conname, t.relname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
    WHERE t.relnamespace = current_schema()::regnamespace
"""


class PostgresqlTarget(Target):
    """A PostgreSQL database, by the rights of the tables' owner."""

    part: ClassVar[int] = 500_000
    session: PostgresqlSession

    @property
    def connection(self) -> asyncpg.Connection[asyncpg.Record]:
        """asyncpg's own."""
        return self.session.connection

    async def open(self) -> None:
        await super().open()
        await self._set_up(self.session)

    async def _set_up(self, session: PostgresqlSession) -> None:
        for name, value in _SESSION.items():
            await session.connection.execute(f"SET {name} = '{value}'")
        await session.exact_dates()
        with suppress(asyncpg.PostgresError):  # new in version 14: a statement ends soon after its client
            await session.connection.execute("SET client_connection_check_interval = '1s'")

    async def lock(self) -> bool:
        rows = await self.session.fetch("SELECT pg_try_advisory_lock($1::bigint)", _LOCK)
        return bool(rows[0][0])

    async def others(self) -> int:
        rows = await self.session.fetch(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user "
            "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return int(rows[0][0])

    async def execute(self, statement: str) -> None:
        await self.connection.execute(statement)

    # The schema

    async def prepare(self) -> dict[str, str]:
        encoding = (await self.session.fetch("SHOW server_encoding"))[0][0]
        if encoding != "UTF8":
            raise BadInput(
                f"{self.url}: its encoding is {encoding}, which lacks characters; make the database anew with ENCODING "
                "'UTF8' TEMPLATE template0"
            )
        return {_FUNCTIONS: json.dumps(await self._functions())}

    async def _functions(self) -> list[str]:
        """The schema's functions, without those of extensions: MLflow's migrations make some for triggers."""
        return [row[0] for row in await self.session.fetch(_FUNCTION)]

    async def undo(self, before: Mapping[str, str]) -> None:
        if _FUNCTIONS in before:
            for one in set(await self._functions()) - set(json.loads(before[_FUNCTIONS])):
                await self.execute(f"DROP FUNCTION {one}")

    async def clear(self) -> None:
        found = await self.tables()
        await self.begin()
        for name in sorted(found):  # ours is among them: a kill leaves all or nothing
            await self.execute(f"DROP TABLE IF EXISTS {self.name(name)} CASCADE")
        await self.session.commit()

    async def truncate(self, table: str) -> None:
        await self.execute(f"TRUNCATE {self.name(table)}")

    # Loading

    async def defer(self, tables: Sequence[Table]) -> list[Deferred]:
        """As `Target` says; and all foreign keys: a load that goes on may meet children of rows that come later."""
        names = [table.name for table in tables]
        shaped = await self.hypertables()
        foreign = [Deferred(name, "foreign", table, None, self._add(table, name, definition))
                   for name, table, definition in await self.session.fetch(_FOREIGN)]  # fmt: skip
        found = []
        for index, table, definition, constraint, sort, deferrable, of in await self.session.fetch(_INDEXES, names):
            if constraint is None:
                unique = definition.startswith("CREATE UNIQUE")
                found.append(Deferred(index, "unique" if unique else "index", table, definition, None))
                continue
            kind: Literal["primary", "unique"] = "primary" if sort == "p" else "unique"
            if deferrable or sort == "x" or table in shaped:
                found.append(Deferred(constraint, kind, table, None, self._add(table, constraint, of)))
                continue
            word = "PRIMARY KEY" if sort == "p" else "UNIQUE"
            attach = self._add(table, constraint, f"{word} USING INDEX {self.name(index)}")
            found.append(Deferred(constraint, kind, table, definition, attach))
        for one in [*foreign, *(one for one in found if one.attach)]:
            await self.execute(f"ALTER TABLE {self.name(one.table)} DROP CONSTRAINT {self.name(one.name)}")
        for one in found:
            if not one.attach:
                await self.execute(f"DROP INDEX {self.name(one.name)}")
        return found + foreign

    async def hypertables(self) -> set[str]:
        """Tables that are split by time: constraints of theirs can't be made from an index."""
        return set()

    async def restore(self, deferred: Sequence[Deferred], rows: Mapping[str, int], last: bool) -> None:
        kinds = ("primary", "index", "unique", "foreign") if last else ("primary", "index")
        there = {tuple(row) for row in await self.session.fetch(_THERE)}
        due = [one for one in deferred if one.kind in kinds and not self._is_there(one, there)]
        builds = [one for one in due if one.build and ("i" + one.name, one.table) not in there]
        builds.sort(key=lambda one: (-rows.get(one.table, 0), one.kind != "primary", -len(one.build or "")))
        await self._build(builds)
        for one in sorted(due, key=lambda one: kinds.index(one.kind)):
            if one.attach:
                await self._told(one, self.connection.execute(one.attach))

    @staticmethod
    def _is_there(one: Deferred, there: set[tuple[Any, ...]]) -> bool:
        return (("c" if one.attach else "i") + one.name, one.table) in there

    async def _build(self, builds: list[Deferred]) -> None:
        """Build indexes, the longest first, over two sessions; more would only share the server's cores."""
        waiting = builds[::-1]

        async def work(session: PostgresqlSession) -> None:
            while waiting:
                one = waiting.pop()
                assert one.build is not None
                await self._told(one, session.connection.execute(one.build))

        others = []
        try:
            for _ in range(min(_BUILDERS, len(builds)) - 1):
                with suppress(asyncpg.PostgresError, OSError):  # no connection to be had: then one at a time
                    other = cast("PostgresqlSession", await self.store.connect())
                    others.append(other)
                    await self._set_up(other)
            await all_or_none([lambda one=one: work(one) for one in (self.session, *others)])  # type: ignore[misc]
        finally:
            for other in others:
                await other.close()

    async def _told(self, one: Deferred, work: Awaitable[object]) -> None:
        try:
            await work
        except asyncpg.PostgresError as error:
            if not (error.sqlstate or "").startswith(_BROKEN) or getattr(error, "schema_name", "") == "pg_catalog":
                raise  # the catalog's own: somebody makes the same index
            detail = getattr(error, "detail", None) or first_line(error)
            raise BadInput(
                f"{self.url}: {one.table}: rows of the source break {one.name}: {detail}; mend them in the source, "
                "then run the same command again"
            ) from error

    def _add(self, table: str, name: str, definition: str) -> str:
        return f"ALTER TABLE {self.name(table)} ADD CONSTRAINT {self.name(name)} {definition}"

    async def send(self, table: Table, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        records = cast("Sequence[Sequence[object]]", rows)
        names = [column.name for column in columns]
        await self.connection.copy_records_to_table(table.name, records=records, columns=names)

    async def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        await self.connection.executemany(self.store.dialect.render(statement), rows)

    # The end of a copy

    async def number(self, catalog: Catalog) -> None:
        for table in catalog.tables.values():
            for column in table.columns:
                if not column.numbered:
                    continue
                owner = f"{self.name(table.name)}", column.name
                sequence = (await self.session.fetch("SELECT pg_get_serial_sequence($1, $2)", *owner))[0][0]
                highest = (await self.session.fetch(self.highest(table, column)))[0][0]
                if sequence is None or highest is None:
                    continue
                last, called = (await self.session.fetch(f"SELECT last_value, is_called FROM {sequence}"))[0]
                if highest >= (last + 1 if called else last):
                    await self.session.fetch("SELECT setval($1::text::regclass, $2::bigint)", sequence, highest)

    async def settle(self, tables: Sequence[str]) -> None:
        for name in tables:
            await self.execute(f"ANALYZE {self.name(name)}")


async def all_or_none(works: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Do them at the same time; where one fails the others are cancelled, and its error is told."""
    tasks = [asyncio.ensure_future(work()) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
