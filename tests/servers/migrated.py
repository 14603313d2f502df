"""Small stores with nasty values for tests of migrations, and MLflow's schema made quickly.

MLflow's own migrations take from 3 s to 20 s a store. Tests of what comes after them replay the statements that MLflow
had left in a store of the same kind; that these are made into targets by MLflow itself is tested beside them.
"""

import asyncio
import json
import os
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from stores import Park, connected, sql

from bench import servers
from bench.migrate import migration
from bench.migrate.catalog import reflect
from bench.migrate.record import Migration
from bench.stores import schema
from bench.stores.url import StoreUrl
from benchmarks.made_store import Made, make

PREPARED = "TRACKBENCH_TESTS_SCHEMA"  # names a file of statements for a child of a test


class Quiet:
    """A `bench.migrate.copying.Watcher` that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.rows = 0

    def say(self, text: str) -> None:
        self.lines.append(text)

    def phase(self, name: str, rows: int | None = None) -> None:
        self.lines.append(name)

    def moved(self, rows: int) -> None:
        self.rows += rows


def nasty(path: Path, metrics: int = 600, runs: int = 6) -> StoreUrl:
    """A small SQLite store with everything in it that breaks careless copies."""
    make(path, Made(metrics=metrics, runs=runs, seed=5), nasty=True)
    return StoreUrl("sqlite", path=path)


def move(source: StoreUrl, target: StoreUrl, watcher: Quiet | None = None, **options: Any) -> Migration:
    """A migration in this process, without MLflow's client."""
    chosen = migration.Options(**{"client": False, **options})
    return asyncio.run(
        migration.migrate(source.mlflow if source.path else _given(source), target, chosen, watcher or Quiet())
    )


def _given(url: StoreUrl) -> str:
    """What the user writes, with the password."""
    return url.mlflow.replace("postgresql+psycopg2", url.store)


class Prepared:
    """MLflow's schema for each kind of store as statements, asked of the park's own stores once."""

    def __init__(self, park: Park, folder: Path) -> None:
        self._park, self._folder = park, folder
        self._files: dict[str, Path] = {}

    def file(self, kind: str) -> Path:
        """A file with a JSON list of statements."""
        kind = {"timescaledb": "postgresql", "mariadb": "mysql"}.get(kind, kind)
        if kind not in self._files:
            store = self._park.fresh(kind, self._folder)
            statements = {"sqlite": _of_sqlite, "postgresql": _of_postgresql, "mysql": _of_mysql}[kind](store)
            self._files[kind] = self._folder / f"schema-{kind}.json"
            self._files[kind].write_text(json.dumps(statements))
        return self._files[kind]

    async def create_at(self, url: StoreUrl, family: object, revision: str | None) -> None:
        """In place of `bench.stores.schema.create_at`."""
        work = asyncio.ensure_future(asyncio.to_thread(lambda: replay(url, self.file(url.store))))
        try:
            await asyncio.shield(work)
        finally:
            await work  # a thread can't be ended as the process can


def replay(url: StoreUrl, file: Path) -> None:
    """Carry out the statements of a file."""
    with connected(url) as cursor:
        for statement in json.loads(file.read_text()):
            cursor.execute(statement)


def _of_sqlite(url: StoreUrl) -> list[str]:
    assert url.path is not None
    with closing(sqlite3.connect(url.path)) as connection:
        return [line for line in connection.iterdump() if not line.startswith(("BEGIN", "COMMIT", "PRAGMA"))]


def _of_postgresql(url: StoreUrl) -> list[str]:
    program = servers.tool("pg_dump")
    assert program is not None
    words = [
        str(program),
        "--no-owner",
        "--no-privileges",
        "--inserts",
        "-h",
        url.host,
        "-p",
        str(url.port),
        "-U",
        url.user,
    ]
    dumped = subprocess.run(
        [*words, url.database],
        env=os.environ | {"PGPASSWORD": url.password},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    kept = (line for line in dumped.splitlines() if not re.match(r"\\|SET |SELECT pg_catalog.set_config|--", line))
    return ["\n".join(kept)]


def _of_mysql(url: StoreUrl) -> list[str]:
    tables = [row[0] for row in sql(url, "SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'")]
    made = [sql(url, f"SHOW CREATE TABLE `{table}`")[0][1] for table in tables]
    made = [re.sub(r" (CHARACTER SET|COLLATE) \w+| (DEFAULT )?(CHARSET|COLLATE)=\w+", "", one) for one in made]
    revision = sql(url, "SELECT version_num FROM alembic_version")[0][0]
    return [
        "SET SESSION foreign_key_checks = 0",
        *made,
        f"INSERT INTO alembic_version VALUES ('{revision}')",
        "INSERT INTO workspaces (name) VALUES ('default')",
    ]


def raw_bytes(url: StoreUrl) -> dict[str, list[Any]]:
    """All rows of a SQLite store, with the type of each value: what there is to the bit."""
    assert url.path is not None
    with closing(sqlite3.connect(url.path)) as connection:
        return {name: sorted(_typed(connection, name), key=repr) for name in reflect(url).tables}


def _typed(connection: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    for row in connection.execute(f'SELECT * FROM "{table}"'):
        yield tuple((type(value).__name__, value) for value in row)


def install(monkeypatch: Any, prepared: Prepared) -> None:
    """Have migrations in this process make the schema quickly."""
    monkeypatch.setattr(schema, "create_at", prepared.create_at)


def fails_once(call: Any) -> Any:
    """``call``, whose first use ends as a lost connection does."""
    calls = 0

    async def failing(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("once")
        return await call(*arguments)

    return failing
