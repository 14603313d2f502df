"""The queries of docs/operations.md on real servers, with the rights that the page gives: they run, and they see."""

import asyncio
import os
import re
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extras
import pymysql
import pymysql.cursors
import pytest
import yaml
from stores import ARTIFACTS, Park, opened, wait_until

from bench import servers
from bench.servers import databases
from bench.stores import schema
from bench.stores.url import StoreUrl, parse

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
BLOCK = re.compile(r"^```(\w+) (\S+) (\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PASSWORD = "change me"
KINDS = ("timescaledb", "mysql", pytest.param("mariadb", marks=pytest.mark.slow))
DAY_MS = 86_400_000
COLUMNS = {  # what an operator reads there, whatever the database
    "locks": {"waiter", "waits_s", "waiter_statement", "blocker", "blocker_open_s", "blocker_statement"},
    "connections": {"login", "database", "client", "connections", "active", "all_connections", "admitted"},
    "sessions": {"pid", "login", "open_s", "statement"},
    "slow": {"calls", "total_s", "mean_ms", "max_ms", "statement"},
    "database": {"deadlocks", "commits", "cache_percent", "bytes", "oldest_transaction_age"},
    "growth": {"table", "index_bytes", "about_rows", "inserted", "deleted"},
    "dead": {"table", "live_rows", "dead_rows", "dead_percent", "last_vacuum"},
    "replication": set[str](),  # two servers' own words
    "archive": {"archive_mode", "archived_count", "failed_count", "age_s"},
    "chunks": {"table", "chunks", "from_ms", "to_ms", "interval_ms", "bytes", "largest_chunk_bytes"},
    "innodb": {"name", "value"},
    "runs": {"lifecycle_stage", "status", "runs", "deleted_since_ms"},
}
# As postgres_exporter 0.19, mysqld_exporter 0.19 and node_exporter name them, the last one as the page does.
METRICS = {
    *("up", "pg_up", "pg_stat_activity_count", "pg_settings_max_connections", "pg_stat_activity_max_tx_duration"),
    *("pg_stat_statements_seconds_total", "pg_stat_statements_calls_total", "pg_stat_database_deadlocks"),
    *("pg_stat_user_tables_n_dead_tup", "pg_stat_user_tables_n_live_tup", "pg_database_size_bytes"),
    *("pg_replication_lag_seconds", "pg_stat_archiver_failed_count", "mysql_up"),
    *("mysql_global_status_threads_connected", "mysql_global_variables_max_connections"),
    *("mysql_global_status_connection_errors_total", "mysql_global_status_innodb_row_lock_current_waits"),
    *("mysql_perf_schema_events_statements_seconds_total", "mysql_perf_schema_events_statements_total"),
    *("mysql_info_schema_innodb_metrics_lock_lock_deadlocks_total", "mysql_global_status_innodb_deadlocks"),
    "mysql_info_schema_innodb_metrics_transaction_trx_rseg_history_len",
    *("mysql_slave_status_seconds_behind_master", "node_filesystem_avail_bytes"),
    "mlflow_store_backup_timestamp_seconds",
}


def blocks(language: str, kind: str) -> dict[str, str]:
    """The page's blocks for a kind of server, by name."""
    tags = {kind, "postgresql"} if kind == "timescaledb" else {kind}
    found = BLOCK.findall(PAGE.read_text())
    return {name: text for words, tagged, name, text in found if words == language and tags & set(tagged.split("+"))}


@dataclass
class Watched:
    """A store on a server, and the page's queries asked of it by the page's login."""

    url: StoreUrl
    queries: dict[str, str] = field(default_factory=dict)

    def connect(self, user: str = "", password: str = "", autocommit: bool = False) -> Any:
        """A connection of the administrator, or of somebody else; rows are dictionaries."""
        url, name, secret = self.url, user or self.url.user, password or self.url.password
        if url.store in ("mysql", "mariadb"):
            return pymysql.connect(
                host=url.host, port=url.port, user=name, password=secret, database=url.database,
                autocommit=autocommit, cursorclass=pymysql.cursors.DictCursor,
            )  # fmt: skip
        connection = psycopg2.connect(
            host=url.host, port=url.port, user=name, password=secret, dbname=url.database,
            cursor_factory=psycopg2.extras.RealDictCursor,
        )  # fmt: skip
        connection.autocommit = autocommit
        return connection

    def do(self, *statements: str) -> list[dict[str, Any]]:
        """Carry out statements as the administrator, each committed; the rows of the last."""
        with closing(self.connect(autocommit=True)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def ask(self, name: str) -> list[dict[str, Any]]:
        """What a query of the page shows to its login; `runs` is MLflow's own."""
        user, password = ("", "") if name == "runs" else ("watcher", PASSWORD)
        with closing(self.connect(user, password, autocommit=True)) as connection, connection.cursor() as cursor:
            cursor.execute(self.queries[name])
            names = {column[0] for column in cursor.description}
            assert names >= COLUMNS[name], name
            return list(cursor.fetchall())

    def row(self, query: str, /, **wanted: Any) -> dict[str, Any] | None:
        """The first row of a query with these values."""
        rows = self.ask(query)
        return next((row for row in rows if all(row[key] == value for key, value in wanted.items())), None)

    @contextmanager
    def sessions(self, count: int) -> Iterator[list[Any]]:
        """Connections of MLflow's login."""
        with ExitStack() as stack:
            yield [stack.enter_context(closing(self.connect())) for _ in range(count)]

    def pid(self, connection: Any) -> int:
        """What the server calls a session."""
        return int(connection.thread_id() if self.is_mysql else connection.info.backend_pid)

    @property
    def is_mysql(self) -> bool:
        return self.url.store in ("mysql", "mariadb")


def started(kind: str, stack: ExitStack) -> StoreUrl:
    """A store on a server of its own."""
    preloaded = {"shared_preload_libraries": "timescaledb,pg_stat_statements"} if kind == "timescaledb" else {}
    server = stack.enter_context(servers.start(servers.as_kind(kind), preloaded))
    databases.create(server, "mlflow")
    url = parse(server.url("mlflow"), server.kind)
    asyncio.run(schema.create(url, ARTIFACTS))
    return url


async def with_hypertable(url: StoreUrl) -> None:
    async with opened(url) as (store, session):
        await store.after_schema(session)


@pytest.fixture(scope="module", params=KINDS)
def watched(request: pytest.FixtureRequest, park: Park, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A store with the page's login, two runs and a metric on each of two days."""
    kind: str = request.param
    with ExitStack() as stack:
        url = park.fresh(kind, tmp_path_factory.mktemp("none")) if kind == "mysql" else started(kind, stack)
        if kind == "timescaledb":
            asyncio.run(with_hypertable(url))
        found = Watched(url, blocks("sql", url.store) | blocks("sql", "all"))
        login = found.queries.pop("watcher")
        if kind == "timescaledb":
            found.do("CREATE EXTENSION pg_stat_statements")
        found.do(*filter(None, map(str.strip, login.split(";"))))
        stack.callback(found.do, "DROP USER watcher")
        key = "`key`" if found.is_mysql else "key"
        metric = (
            f"INSERT INTO metrics ({key}, value, timestamp, run_uuid, step, is_nan) VALUES ('m', 1, %s, 'a', 0, false)"
        )
        run = "INSERT INTO runs (run_uuid, experiment_id, status, lifecycle_stage, deleted_time, start_time) VALUES "
        found.do(f"{run} ('a', 0, 'FINISHED', 'active', NULL, 1), ('b', 0, 'FAILED', 'deleted', 1234, 5)")
        found.do(*(metric % (day * DAY_MS) for day in (20_000, 20_001)))
        yield found


def test_the_page_has_every_query_and_the_test_knows_it(watched: Watched) -> None:
    common = {"locks", "connections", "sessions", "slow", "growth", "replication", "runs"}
    more = {"innodb"} if watched.is_mysql else {"database", "dead", "archive", "chunks"}
    assert set(watched.queries) == common | more
    for name in watched.queries:
        watched.ask(name)


def test_the_login_changes_nothing(watched: Watched) -> None:
    with closing(watched.connect("watcher", PASSWORD)) as connection, connection.cursor() as cursor:
        denied = pytest.raises((psycopg2.Error, pymysql.Error), match="denied")
        with denied:
            cursor.execute("DELETE FROM runs")


def test_a_held_lock_shows_who_holds_it_and_who_waits(watched: Watched) -> None:
    assert watched.ask("locks") == []
    with watched.sessions(2) as (blocker, waiter):
        blocker.cursor().execute("UPDATE runs SET status = 'KILLED' WHERE run_uuid = 'a'")
        waiting = threading.Thread(
            target=waiter.cursor().execute, args=["UPDATE runs SET name = 'n' WHERE run_uuid = 'a'"]
        )
        waiting.start()
        try:
            row = wait_until(lambda: watched.row("locks"), "a waiter")
            assert (row["blocker"], row["waiter"]) == (watched.pid(blocker), watched.pid(waiter))
            assert row["waiter_statement"].startswith("UPDATE runs SET name")
            assert row["waits_s"] >= 0
            open_one = watched.row("sessions", pid=watched.pid(blocker))
            assert open_one is not None
            assert open_one["open_s"] >= row["waits_s"]
        finally:
            blocker.rollback()
            waiting.join()
            waiter.rollback()
    wait_until(lambda: watched.ask("locks") == [], "nobody waiting")


def test_connections_are_counted_by_login(watched: Watched) -> None:
    def mine() -> dict[str, Any]:
        row = watched.row("connections", login=watched.url.user, database=watched.url.database)
        return row or {"connections": 0, "all_connections": 0}

    before = mine()["connections"]
    with watched.sessions(4):
        now = mine()
        assert now["connections"] == before + 4
        assert before + 4 < now["all_connections"] < now["admitted"] <= 300  # the watcher is among all
    wait_until(lambda: mine()["connections"] <= before, "the end of the sessions")


def test_a_slow_statement_comes_first(watched: Watched) -> None:
    if watched.is_mysql:
        watched.do("TRUNCATE performance_schema.events_statements_summary_by_digest", "SELECT SLEEP(0.3)")
    else:
        watched.do("SELECT pg_stat_statements_reset()", "SELECT pg_sleep(0.3)")
    slowest = watched.ask("slow")[0]
    assert "sleep" in slowest["statement"].lower()
    assert slowest["max_ms"] >= 300
    assert slowest["calls"] == 1


def test_growth_counts_rows_that_came_and_went(watched: Watched) -> None:
    def tags() -> tuple[int, int]:
        row = watched.row("growth", table="tags")
        return (row["inserted"] or 0, row["deleted"] or 0) if row else (0, 0)

    key, filling = ("`key`", "x" * 4000) if watched.is_mysql else ("key", "x" * 2000)
    rows = ", ".join(f"('k{number}', '{filling}', 'a')" for number in range(300))
    before = tags()
    watched.do(f"INSERT INTO tags ({key}, value, run_uuid) VALUES {rows}", "DELETE FROM tags")
    wait_until(lambda: tags() == (before[0] + 300, before[1] + 300), "300 rows in, 300 rows out")


def test_dead_rows_show(watched: Watched) -> None:
    if watched.is_mysql:
        pytest.skip("InnoDB purges")
    watched.do("INSERT INTO params SELECT 'k' || n, 'v', 'a' FROM generate_series(1, 500) AS n", "DELETE FROM params")
    row = wait_until(lambda: watched.row("dead", table="params"), "params among the tables with dead rows")
    assert row["dead_rows"] >= 500


def test_a_deadlock_is_counted(watched: Watched) -> None:
    def deadlocks() -> int:
        row = watched.row("innodb", name="lock_deadlocks") if watched.is_mysql else watched.ask("database")[0]
        assert row is not None
        return int(row["value"] if watched.is_mysql else row["deadlocks"])

    before = deadlocks()
    with watched.sessions(2) as (one, other):
        if not watched.is_mysql:
            for session in (one, other):
                session.cursor().execute("SET deadlock_timeout = '20ms'")
        one.cursor().execute("UPDATE runs SET name = 'one' WHERE run_uuid = 'a'")
        other.cursor().execute("UPDATE runs SET name = 'other' WHERE run_uuid = 'b'")

        def crosswise() -> None:
            with suppress(psycopg2.Error, pymysql.Error):
                other.cursor().execute("UPDATE runs SET name = 'other' WHERE run_uuid = 'a'")

        waiting = threading.Thread(target=crosswise)
        waiting.start()
        wait_until(lambda: watched.ask("locks"), "the first of two waiters")
        with suppress(psycopg2.Error, pymysql.Error):
            one.cursor().execute("UPDATE runs SET name = 'one' WHERE run_uuid = 'b'")
        one.rollback()
        waiting.join()
    wait_until(lambda: deadlocks() == before + 1, "one deadlock more")


def test_a_forgotten_slot_and_the_chunks_show(watched: Watched) -> None:
    if watched.is_mysql:
        pytest.skip("PostgreSQL's")
    watched.do("SELECT pg_create_physical_replication_slot('forgotten', true)")
    try:
        assert watched.ask("replication")[0]["state"] == "slot, NOT ACTIVE"
    finally:
        watched.do("SELECT pg_drop_replication_slot('forgotten')")
    (chunks,) = watched.ask("chunks")
    assert (chunks["table"], chunks["chunks"], chunks["interval_ms"]) == ("metrics", 2, DAY_MS)
    assert chunks["from_ms"] == 20_000 * DAY_MS
    assert chunks["bytes"] > chunks["largest_chunk_bytes"] > 0


def test_deleted_runs_are_told_with_their_age(watched: Watched) -> None:
    row = watched.row("runs", lifecycle_stage="deleted")
    assert row is not None
    assert (row["status"], row["runs"], row["deleted_since_ms"]) == ("FAILED", 1, 1234)


def test_a_sqlite_store_shows_its_size_and_who_holds_it(park: Park, tmp_path: Path) -> None:
    url = park.fresh("sqlite", tmp_path)
    assert url.path is not None
    url.path.rename(tmp_path / "mlflow.db")
    queries, scripts = blocks("sql", "sqlite"), blocks("sh", "sqlite")
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as connection:
        connection.execute("INSERT INTO runs (run_uuid, lifecycle_stage) VALUES ('a', 'active')")
        connection.executemany("INSERT INTO tags VALUES (?, ?, 'a')", ((f"k{n}", "x" * 3000) for n in range(300)))
        full, free = connection.execute(queries["size"]).fetchone()
        assert dict(connection.execute(queries["growth"]).fetchall())["tags"] > 300 * 3000
        connection.execute("DELETE FROM tags")
        assert connection.execute(queries["size"]).fetchone() == (full, pytest.approx(free + 300 * 4096, rel=0.2))
        assert connection.execute(blocks("sql", "all")["runs"]).fetchone()[:3] == ("active", None, 1)

        def holders() -> str:
            return subprocess.run(
                scripts["locks"], shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
            ).stdout

        assert str(os.getpid()) not in holders()
        connection.execute("BEGIN IMMEDIATE")
        assert f"process {os.getpid()} holds a WRITE lock" in holders()


def test_the_alert_rules_are_rules_about_metrics_that_exist() -> None:
    page = PAGE.read_text()
    rules = yaml.safe_load(blocks("yaml", "prometheus")["rules"])
    assert set(rules) == {"groups"}
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    seen = set[str]()
    for rule in alerts:
        assert {"alert", "expr", "labels"} <= set(rule) <= {"alert", "expr", "for", "labels"}
        assert rule["labels"]["severity"] in ("page", "warn")
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "1m"))
        assert rule["expr"].count("(") == rule["expr"].count(")")
        bare = re.sub(r'\{[^}]*\}|\[\w+\]|by \([^)]*\)|"[^"]*"', " ", rule["expr"])
        seen |= set(re.findall(r"\b(?!sum|max|by|and|or|rate|delta|increase|time|predict_linear)[a-z]\w*", bare))
    assert seen == METRICS
    told = {name for line in re.findall(r"Rules? (`Store.*)", page) for name in re.findall(r"`(Store\w+)`", line)}
    assert told <= {rule["alert"] for rule in alerts}
    assert len(page.splitlines()) <= 300
