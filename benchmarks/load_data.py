"""The floor of MySQL: LOAD DATA LOCAL of all rows of an SQLite store from files made beforehand."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pymysql

from bench.migrate.catalog import Catalog, Kind, reflect
from bench.migrate.sql import listed, quoted
from bench.stores.url import StoreUrl

_ESCAPED: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"})
_BATCH: Final = 20_000


def write_files(source: Path, folder: Path) -> Catalog:
    """A file for each table, in the format that LOAD DATA reads by default; bytes are hexadecimal. Their catalog."""
    catalog = reflect(StoreUrl("sqlite", path=source))
    with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as connection:
        for table in catalog.tables.values():
            names = listed("sqlite", [column.name for column in table.stored])
            rows = connection.execute(f"SELECT {names} FROM {quoted('sqlite', table.name)}")
            rows.arraysize = _BATCH
            with (folder / table.name).open("w", encoding="utf-8", newline="") as file:
                while batch := rows.fetchmany(_BATCH):
                    file.writelines("\t".join(map(_field, row)) + "\n" for row in batch)
    return catalog


def _field(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, bytes):
        return value.hex()
    return value.translate(_ESCAPED) if isinstance(value, str) else repr(value)


def load(catalog: Catalog, folder: Path, target: StoreUrl) -> float:
    """Empty the tables of ``target``, whose server allows local files, and load them; the seconds of the loading."""
    with closing(_connection(target)) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION foreign_key_checks = 0, unique_checks = 0, sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
        for table in catalog.tables:
            cursor.execute(f"TRUNCATE {quoted('mysql', table)}")
        began = time.monotonic()
        for statement in _statements(catalog, folder):
            cursor.execute(statement)
        connection.commit()
        return time.monotonic() - began


def _connection(target: StoreUrl) -> pymysql.Connection[Any]:
    return pymysql.connect(
        host=target.host,
        port=target.port,
        user=target.user,
        password=target.password,
        database=target.database,
        charset="utf8mb4",
        local_infile=True,
    )


def _statements(catalog: Catalog, folder: Path) -> Iterator[str]:
    for table in catalog.tables.values():
        if (folder / table.name).stat().st_size == 0:
            continue
        names, settings = [], []
        for column in table.stored:
            name = quoted("mysql", column.name)
            if column.kind is Kind.BYTES:
                names.append(f"@{column.name}")
                settings.append(f"{name} = UNHEX(@{column.name})")
            else:
                names.append(name)
        given = f" SET {', '.join(settings)}" if settings else ""
        yield (
            f"LOAD DATA LOCAL INFILE '{folder / table.name}' INTO TABLE {quoted('mysql', table.name)} "
            f"CHARACTER SET utf8mb4 ({', '.join(names)}){given}"
        )
