"""Real stores for tests: one private server of each kind a session, and on it databases with MLflow's schema."""

import asyncio
import itertools
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2
import pymysql
import pytest

from bench import loader, servers
from bench.plan import Overrides
from bench.results import Results
from bench.run import Request, run
from bench.run_folder import new_folder
from bench.scenario import LoadedScenario, parse_text
from bench.servers import RunningServer, places
from bench.site import Site
from bench.stores import schema, store_for
from bench.stores.base import Row, Session, Store
from bench.stores.tracking import RunRow, Tracking
from bench.stores.url import StoreUrl, parse

NAMES = ("sqlite", "postgresql", "timescaledb", "mysql")
ARTIFACTS = "file:///trackbench/tests"
SETTINGS = {
    "postgresql": {"log_line_prefix": "%d|%p|"},
    "timescaledb": {"log_line_prefix": "%d|%p|"},
    "mysql": {},
}
_TEMPLATE = "mlflowtemplate"


class Park:
    """The session's servers, each started when it is first asked for, and the databases on them."""

    def __init__(self) -> None:
        self._servers: dict[str, RunningServer] = {}
        self._numbers = itertools.count(1)
        self._seeded: list[str] = []  # tables of the MySQL store that hold rows of MLflow's own

    def server(self, name: str) -> RunningServer:
        """The server of this kind; MySQL's may turn out to be a MariaDB."""
        if name not in self._servers:
            self._servers[name] = servers.start(servers.as_kind(name), SETTINGS[name])
        return self._servers[name]

    def empty(self, name: str, folder: Path) -> StoreUrl:
        """An empty database, without any schema."""
        if name == "sqlite":
            path = folder / f"empty{next(self._numbers)}.db"
            path.touch()
            return StoreUrl("sqlite", path=path)
        url = self._url(name, f"empty{next(self._numbers)}")
        self._sql(name, f"CREATE DATABASE {url.database}")
        return url

    def fresh(self, name: str, folder: Path) -> StoreUrl:
        """A store with MLflow's schema and nothing else in it."""
        if name == "sqlite":
            path = folder / f"store{next(self._numbers)}.db"
            shutil.copyfile(_sqlite_template(), path)
            return StoreUrl("sqlite", path=path)
        if name == "mysql":
            return self._cleaned_mysql()
        if self._new_database(name, _TEMPLATE):
            asyncio.run(schema.create(self._url(name, _TEMPLATE), ARTIFACTS))
            # TimescaleDB's launcher visits databases, and a template must have no visitors while it is copied.
            self._sql(name, f"ALTER DATABASE {_TEMPLATE} ALLOW_CONNECTIONS false")
        url = self._url(name, f"store{next(self._numbers)}")
        self._sql(name, f"CREATE DATABASE {url.database} TEMPLATE {_TEMPLATE}")
        if name == "timescaledb":
            asyncio.run(_after_schema(url))
        return url

    def close(self) -> None:
        """End every server, all at the same time: nobody wants the data, which an orderly end would write out."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(_end, self._servers.values()))

    def _url(self, name: str, database: str) -> StoreUrl:
        server = self.server(name)
        return parse(server.url(database), server.kind)

    def _new_database(self, name: str, database: str) -> bool:
        if self._sql(name, f"SELECT 1 FROM pg_database WHERE datname = '{database}'"):
            return False
        self._sql(name, f"CREATE DATABASE {database}")
        return True

    def _cleaned_mysql(self) -> StoreUrl:
        url = self._url("mysql", "mlflow")
        if not self._sql("mysql", "SHOW DATABASES LIKE 'mlflow'"):
            self._sql("mysql", "CREATE DATABASE mlflow")
            asyncio.run(schema.create(url, ARTIFACTS))
            self._seeded = [table for table in mysql_tables(url) if sql(url, f"SELECT 1 FROM `{table}` LIMIT 1")]
        with mysql(url) as cursor:
            for trigger in fetch(cursor, "SHOW TRIGGERS"):
                cursor.execute(f"DROP TRIGGER `{trigger[0]}`")
            cursor.execute("SET FOREIGN_KEY_CHECKS = 0")
            for table in set(mysql_tables(url)) - set(self._seeded):
                cursor.execute(f"DELETE FROM `{table}`")
            cursor.execute("DELETE FROM experiments WHERE experiment_id <> 0")
        return url

    def _sql(self, name: str, statement: str) -> list[Any]:
        base = "mysql" if self.server(name).kind in ("mysql", "mariadb") else "postgres"
        return sql(self._url(name, base), statement)


def _end(server: RunningServer) -> None:
    if server.untouchable is None:
        server.kill()
    server.stop()


def sql(url: StoreUrl, statement: str, *args: object) -> list[Any]:
    """Carry out one statement behind Trackbench's back, as whoever else uses the database; its rows, if any."""
    with connected(url) as cursor:
        cursor.execute(statement, args or None) if url.path is None else cursor.execute(statement, args)
        return list(cursor.fetchall()) if cursor.description else []


@contextmanager
def connected(url: StoreUrl) -> Iterator[Any]:
    """A cursor of a driver that Trackbench does not use for load, each statement committed at once."""
    if url.path is not None:
        with closing(sqlite3.connect(url.path, timeout=20, isolation_level=None)) as connection:
            yield connection.cursor()
    elif url.store in ("mysql", "mariadb"):
        with mysql(url) as cursor:
            yield cursor
    else:
        connection = psycopg2.connect(
            host=url.host, port=url.port, user=url.user, password=url.password, dbname=url.database
        )
        with closing(connection):
            connection.autocommit = True
            yield connection.cursor()


@contextmanager
def mysql(url: StoreUrl) -> Iterator[Any]:
    """A PyMySQL cursor that commits each statement."""
    connection = pymysql.connect(
        host=url.host, port=url.port, user=url.user, password=url.password, database=url.database, autocommit=True
    )
    with closing(connection):
        yield connection.cursor()


def fetch(cursor: Any, statement: str) -> list[Any]:
    """The rows of a statement."""
    cursor.execute(statement)
    return list(cursor.fetchall())


def mysql_tables(url: StoreUrl) -> list[str]:
    """The tables of a MySQL database, without the one that holds the schema's revision."""
    return [row[0] for row in sql(url, "SHOW TABLES") if row[0] != "alembic_version"]


def _sqlite_template() -> Path:
    """The schema's SQLite template: the product's own, or made now."""
    template = schema.template_path(places.cache_dir())
    if not template.exists():
        draft = template.with_suffix(".tests.tmp")
        draft.touch()
        asyncio.run(schema.create(StoreUrl("sqlite", path=draft), "file:///trackbench/default"))
        draft.replace(template)
    return template


async def _after_schema(url: StoreUrl) -> None:
    async with opened(url) as (store, session):
        assert await store.misfit(session, True) is None
        await store.after_schema(session)


@asynccontextmanager
async def opened(url: StoreUrl, **options: str) -> AsyncIterator[tuple[Store, Session]]:
    """A session of the store at ``url``."""
    store = store_for(url)
    session = await store.connect(options)
    try:
        yield store, session
    finally:
        await session.close()


async def new_run(tracking: Tracking, run_id: str = "a" * 32) -> str:
    """A run in an experiment of its own."""
    experiment_id = await tracking.create_experiment(f"experiment of {run_id}", ARTIFACTS, 1)
    await tracking.create_run(RunRow(run_id, f"run {run_id}", "tester", 1_000, experiment_id, f"{ARTIFACTS}/{run_id}"))
    return run_id


async def rows_of(session: Session, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement with ``{key}`` in it, outside of any transaction."""
    found: list[Row] = list(await session.fetch(session.dialect.render(statement)))
    await session.rollback()
    return [tuple(row) for row in found]


async def soon(holds: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """`wait_until` beside other tasks of this loop."""
    return await asyncio.to_thread(wait_until, holds, what, seconds)


def wait_until(holds: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Poll until ``holds()`` is true and return its value; fails with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        if found := holds():
            return found
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(0.02)


class Silent:
    """A `bench.run.Watcher` that tells nobody."""

    def say(self, text: str) -> None:
        """Nothing."""

    def trial_begins(self, trial: object, done: int, planned: int) -> None:
        """Nothing."""

    def trial_ended(self, record: object) -> None:
        """Nothing."""


def carry_out(
    text: str,
    urls: dict[str, StoreUrl],
    out: Path,
    sites: dict[str, Site] | None = None,
    start: loader.Loader = loader.start,
    **more: Any,
) -> Results:
    """A whole run of a scenario, given as TOML, on stores given by URL or behind tracking servers.

    ``more`` is what the request says beside that.
    """
    loaded = LoadedScenario(name="test", text=text, scenario=parse_text(text, "test.toml"))
    request = Request(loaded, Overrides(), urls, loaded.scenario.seed, out, keep=False, sites=sites or {}, **more)
    folder = new_folder(out, "test", datetime.now(UTC))
    return asyncio.run(run(request, folder, Silent(), start))


def slow_but(*quick: str) -> list[Any]:
    """All stores as parameters, those that are not ``quick`` marked slow: each has servers to start."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
