"""MySQL and MariaDB as targets: INSERTs of about a megabyte, in the order of the primary key, in few transactions.

Not LOAD DATA LOCAL, which turns values that do not fit into warnings and needs a switch on the server. Indexes stay:
foreign keys need most of them, and to make them afterwards measured no faster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import pymysql.err
from pymysql.converters import escape_string

from bench.errors import BadInput
from bench.migrate.catalog import OURS, Catalog, Column, Kind, Table
from bench.migrate.sql import listed
from bench.migrate.targets.base import Target, first_line
from bench.stores.base import Row
from bench.stores.url import StoreUrl

_STATEMENT: Final = 2**20  # characters
_SPARE: Final = 2**16  # bytes of a packet that no rows are given
_REMEMBERED: Final = 50_000  # texts, and how long they may be
_SHORT: Final = 100
_SESSION: Final = (
    # Nothing is made to fit, 0 is a number like others, and a backslash escapes whatever the server's own mode is.
    "sql_mode = 'TRADITIONAL,NO_AUTO_VALUE_ON_ZERO'",
    "foreign_key_checks = 0",
    "unique_checks = 0",
    "lock_wait_timeout = 60",
    "wait_timeout = 86400",
    "net_write_timeout = 600",
)
_BEFORE: Final = ("character_set", "collation")
_DENIED: Final = (1044, 1045, 1142, 1227)


class MysqlTarget(Target):
    """A MySQL or MariaDB database."""

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url)
        self._most = _STATEMENT
        self.packet = 2**22
        self._literals: dict[tuple[Kind, ...], Callable[[Sequence[Row]], list[str]]] = {}
        self._texts = Texts()

    async def open(self) -> None:
        await super().open()
        if misfit := await self.store.misfit(self.session, False):
            raise BadInput(f"{self.url}: {misfit.replace('--store ', '').replace('=…', '://…')}")
        for setting in _SESSION:
            await self.execute(f"SET SESSION {setting}")
        if self.url.store == "mysql":
            await self.execute("SET SESSION information_schema_stats_expiry = 0")
        self.packet = int((await self.session.fetch("SELECT @@max_allowed_packet"))[0][0])
        self._most = min(_STATEMENT, (self.packet - _SPARE) // 4)  # a character has up to four bytes

    async def lock(self) -> bool:
        database = self.url.database.lower()  # on some servers another spelling is the same database
        name = hashlib.sha256(f"{OURS} {database}".encode()).hexdigest()[:60]  # 64 characters at most
        return bool((await self.session.fetch("SELECT GET_LOCK(%s, 0)", name))[0][0])

    async def others(self) -> int:
        return await self.store.writers_left(self.session, False)

    # The schema

    async def prepare(self) -> dict[str, str]:
        """As `Target` says: keys that differ in case, accents or trailing spaces only must stay different."""
        wanted = "utf8mb4_nopad_bin" if self.url.store == "mariadb" else "utf8mb4_0900_bin"
        rows = await self.session.fetch("SELECT @@character_set_database, @@collation_database")
        before = dict(zip(_BEFORE, (str(value) for value in rows[0]), strict=True))
        if before["collation"] == wanted:
            return {}
        statement = f"ALTER DATABASE {self.name(self.url.database)} CHARACTER SET utf8mb4 COLLATE {wanted}"
        try:
            await self.execute(statement)
        except pymysql.err.MySQLError as error:
            if error.args[0] in _DENIED:
                raise BadInput(
                    f"{self.url}: this account can't set the collation, without which names that differ in case only "
                    f"would be taken for one; have an administrator carry out {statement}"
                ) from error
            raise BadInput(f"{self.url}: {first_line(error)}; use MySQL 8.0.17 or MariaDB 10.2 or newer") from error
        return before

    async def undo(self, before: Mapping[str, str]) -> None:
        if before:
            character_set, collation = (before[name] for name in _BEFORE)
            name = self.name(self.url.database)
            await self.execute(f"ALTER DATABASE {name} CHARACTER SET {character_set} COLLATE {collation}")

    async def clear(self) -> None:
        """As `Target` says. A table at a time is gone for good: ours is the last, so that a kill is recognised."""
        for name in sorted(await self.tables(), key=lambda name: (name == OURS, name)):
            await self.execute(f"DROP TABLE IF EXISTS {self.name(name)}")

    async def truncate(self, table: str) -> None:
        await self.execute(f"TRUNCATE TABLE {self.name(table)}")

    # Loading

    async def send(self, table: Table, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        head = f"INSERT INTO {self.name(table.name)} ({self.names(columns)}) VALUES\n"
        shape = tuple(column.kind for column in columns)  # the source's order of columns may be another
        literals = self._literals.get(shape)
        if literals is None:
            literals = self._literals[shape] = rows_as_literals(columns, self._texts)
        for part in parts(literals(rows), self._most):
            if 4 * len(part) > self.packet and len(part.encode()) > self.packet - _SPARE:
                raise BadInput(
                    f"{self.url}: {table.name}: a row takes {len(part.encode())} bytes in a statement; set "
                    f"max_allowed_packet to more than {len(part.encode()) + _SPARE}, then run the same command again"
                )
            await self.execute(head + part)

    # The end of a copy

    async def number(self, catalog: Catalog) -> None:
        for table in catalog.tables.values():
            for column in table.columns:
                if not column.numbered:
                    continue
                rows = await self.session.fetch(
                    "SELECT AUTO_INCREMENT FROM information_schema.TABLES "
                    "WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %s",
                    table.name,
                )
                highest = (await self.session.fetch(self.highest(table, column)))[0][0]
                if highest is not None and rows and (rows[0][0] or 1) <= highest:
                    await self.execute(f"ALTER TABLE {self.name(table.name)} AUTO_INCREMENT = {int(highest) + 1}")
        await self.session.commit()

    async def settle(self, tables: Sequence[str]) -> None:
        if tables:
            await self.session.fetch(f"ANALYZE TABLE {listed(self.url.store, list(tables))}")
        await self.session.commit()


class Texts(dict[str | None, str]):
    """Literals of texts; short ones are remembered, since names and ids come again and again."""

    def __missing__(self, text: str | None) -> str:
        if text is None:
            return "NULL"
        literal = f"'{escape_string(text)}'"
        if len(text) <= _SHORT:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[text] = literal
        return literal


def double(value: float | None) -> str:
    """A double whose literal reads back to the same bits: with an exponent, so that MySQL does not make it decimal."""
    if value is None:
        return "NULL"
    text = repr(float(value))
    return text if "e" in text or "n" in text else f"{text}e0"


def octets(value: bytes | None) -> str:
    """Bytes in hexadecimal digits; without any it is the empty text, which is the same in such a column."""
    return "NULL" if value is None else f"X'{value.hex()}'"


def rows_as_literals(columns: Sequence[Column], texts: Texts) -> Callable[[Sequence[Row]], list[str]]:
    """What turns rows of these columns into the rows of a VALUES list."""
    forms = {
        Kind.INTEGER: "{{'NULL' if r[{0}] is None else r[{0}]}}",
        Kind.BOOLEAN: "{{'NULL' if r[{0}] is None else r[{0}]}}",
        Kind.FLOAT: "{{double(r[{0}])}}",
        Kind.SINGLE: "{{double(r[{0}])}}",
        Kind.BYTES: "{{octets(r[{0}])}}",
        Kind.TEXT: "{{texts[r[{0}]]}}",
        Kind.JSON: "{{texts[r[{0}]]}}",
        Kind.DATE: "{{texts[r[{0}]]}}",
    }
    fields = ",".join(forms[column.kind].format(place) for place, column in enumerate(columns))
    names: dict[str, Any] = {"texts": texts, "double": double, "octets": octets}
    made: Callable[[Sequence[Row]], list[str]] = eval(f'lambda rows: [f"({fields})" for r in rows]', names)
    return made


def parts(literals: Sequence[str], most: int) -> Iterator[str]:
    """The rows of VALUES lists, joined so that each has at most ``most`` characters, or one row."""
    begin = size = 0
    for place, literal in enumerate(literals):
        if size and size + len(literal) > most:
            yield ",".join(literals[begin:place])
            begin, size = place, 0
        size += len(literal) + 1
    if begin < len(literals):
        yield ",".join(literals[begin:])
