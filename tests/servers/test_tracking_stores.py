"""MLflow tracking servers on each store: private, and every database error counted by its code, hidden ones too."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pymysql
import pytest
from stores import Park, connected, opened, slow_but, sql, wait_until
from tracked import ONE, START_MS, Client, Tracked, labels

from bench.servers import tracking
from bench.servers.tracking import TrackingSettings
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module", params=slow_but("postgresql"))
def tracked(request: pytest.FixtureRequest, park: Park, public_tmp: Path) -> Iterator[Tracked]:
    """A tracking server with two workers on each store in turn."""
    url = park.fresh(request.param, public_tmp)
    with tracking.start(url.mlflow, TrackingSettings(workers=2)) as server, Client(server) as client:
        yield Tracked(url, server, client)


def command_lines(pids: list[int]) -> str:
    return " ".join(" ".join(psutil.Process(pid).cmdline()) for pid in pids)


def test_it_serves_privately_and_leaves_no_secret(tracked: Tracked):
    server = tracked.server
    assert server.version == "3.17.2"
    assert tracked.client.http.get("/health").text == "OK"
    pids = server.pids()
    assert len(pids) >= 4  # the command, uvicorn's parent, two workers
    listening = {
        tuple(one.laddr)
        for pid in pids
        for one in psutil.Process(pid).net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", server.port)}
    shown = command_lines(pids) + server.log_since(0)
    assert "mlflow server --host 127.0.0.1" in shown
    assert tracked.url.mlflow not in shown
    if tracked.url.password:
        assert tracked.url.password not in shown
    assert server.folder.stat().st_mode & 0o777 == 0o700
    assert server.cpu_seconds() > 0


def test_artifacts_stay_in_the_private_folder(tracked: Tracked):
    run = tracked.client.new_run("with artifacts")
    info = tracked.client.http.get("/api/2.0/mlflow/runs/get", params={"run_id": run}).json()["run"]["info"]
    assert info["artifact_uri"].startswith("mlflow-artifacts:/")
    path = info["artifact_uri"].removeprefix("mlflow-artifacts:/")
    answer = tracked.client.http.put(f"/api/2.0/mlflow-artifacts/artifacts/{path}/note.txt", content=b"hello")
    assert answer.status_code == 200
    assert (tracked.server.folder / "artifacts" / path / "note.txt").read_bytes() == b"hello"


def test_an_error_is_named_in_its_answer_only_and_counted_over_all_workers(tracked: Tracked):
    before = tracked.server.errors()
    assert labels(tracked.client.post("experiments/create", name="twice")) == []

    def again(_: int) -> list[str]:
        return labels(httpx.post(f"{tracked.server.url}/api/2.0/mlflow/experiments/create", json={"name": "twice"}))

    with ThreadPoolExecutor(8) as pool:  # a new connection each time: both workers get some
        assert list(pool.map(again, range(24))) == [["constraint"]] * 24
    assert tracked.server.errors() - before == Counter(constraint=24)
    assert labels(tracked.client.post("experiments/search", max_results=1)) == []


def test_the_log_is_given_from_an_offset(tracked: Tracked):
    tracked.client.post("experiments/search", max_results=1)
    offset = tracked.server.log_size()
    tracked.client.post("experiments/get-nothing")
    wait_until(lambda: "get-nothing" in tracked.server.log_since(offset), "the request's line")
    assert "Application startup complete" not in tracked.server.log_since(offset)


def is_mysql(url: StoreUrl) -> bool:
    return url.store in ("mysql", "mariadb")


def end_sessions(url: StoreUrl) -> None:
    """End every session of the tracking server in the database."""
    if is_mysql(url):
        for row in sql(url, "SELECT id FROM information_schema.processlist WHERE db = DATABASE()"):
            with suppress(pymysql.err.MySQLError):  # our own
                sql(url, f"KILL {row[0]}")
    else:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        sql(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")


@contextmanager
def new_sessions(tracked: Tracked, setting: str, value: str) -> Iterator[None]:
    """The tracking server's sessions are new ones, with another setting."""
    url = tracked.url
    change, undo = f"ALTER DATABASE {url.database} SET {setting} = {value}", f"ALTER DATABASE {url.database} RESET ALL"
    if is_mysql(url):
        change, undo = f"SET GLOBAL {setting} = {value}", f"SET GLOBAL {setting} = DEFAULT"
    sql(url, change)
    end_sessions(url)
    searched_until_well(tracked)
    try:
        yield
    finally:
        sql(url, undo)
        end_sessions(url)


def searched_until_well(tracked: Tracked) -> list[str]:
    """The errors that searches met, a connection each, until both workers' pools had no dead session any more."""
    seen: list[str] = []
    for _ in range(40):
        answer = httpx.post(f"{tracked.server.url}/api/2.0/mlflow/experiments/search", json={"max_results": 1})
        assert answer.status_code == 200  # the pool's ping finds the dead session and gets another
        seen += labels(answer)
    return seen


def test_a_session_that_the_database_ends_is_a_connection_error(tracked: Tracked):
    if tracked.url.path is not None:
        pytest.skip("SQLite has no sessions")
    searched_until_well(tracked)
    before = tracked.server.errors()
    end_sessions(tracked.url)
    seen = searched_until_well(tracked)
    assert seen
    assert set(seen) == {"connection"}
    assert tracked.server.errors() - before == Counter(seen)


def test_a_lock_that_is_waited_for_too_long_is_named_by_its_code(tracked: Tracked):
    """PostgreSQL 55P03, MySQL 1205."""
    url = tracked.url
    if url.path is not None:
        pytest.skip("SQLite waits for 20 s: see the slow test")
    run = tracked.client.new_run("locked")
    assert labels(tracked.client.log(run, "m")) == []
    short = ("innodb_lock_wait_timeout", "1") if is_mysql(url) else ("lock_timeout", "'300ms'")
    with new_sessions(tracked, *short), connected(url) as cursor:
        before = tracked.server.errors()
        cursor.execute("BEGIN")
        cursor.execute("SELECT * FROM latest_metrics WHERE run_uuid = %s FOR UPDATE", (run,))
        answer = tracked.client.log(run, "m", step=1)
        cursor.execute("ROLLBACK")
    wanted = "mysql_1205_lock_wait_timeout" if is_mysql(url) else "pg_55p03_lock_not_available"
    assert set(labels(answer)) == {wanted}
    assert answer.status_code == 503
    assert tracked.server.errors() - before == Counter(labels(answer))


def test_a_deadlock_that_mlflow_hides_is_named_in_the_good_answer(tracked: Tracked):
    """MLflow retries a deadlock's victim, and the client sees 200: only the header tells."""
    url = tracked.url
    if url.path is not None:
        pytest.skip("SQLite has no deadlocks")
    run = tracked.client.new_run("deadlock")
    insert = (
        "INSERT INTO latest_metrics ({0}key{0}, value, timestamp, step, is_nan, run_uuid) VALUES (%s, 1, 1, 0, {1}, %s)"
    ).format("`" if is_mysql(url) else "", "0" if is_mysql(url) else "false")
    # PostgreSQL's victim is the first that looks for a deadlock when there is one: let that be MLflow.
    slow = ("innodb_lock_wait_timeout", "50") if is_mysql(url) else ("deadlock_timeout", "'5s'")
    with new_sessions(tracked, *slow), connected(url) as cursor, ThreadPoolExecutor(1) as pool:
        before = tracked.server.errors()
        if not is_mysql(url):
            cursor.execute("SET deadlock_timeout = '60s'")
        cursor.execute("BEGIN")
        if is_mysql(url):  # InnoDB's victim is the lighter of the two: let us be the heavier
            for number in range(50):
                cursor.execute(insert, (f"weight{number}", run))
        cursor.execute(insert, ("b", run))
        answer = pool.submit(tracked.client.log, run, "a", "b")
        wait_until(lambda: somebody_waits(url), "MLflow to wait for our row")
        cursor.execute(insert, ("a", run))  # and now we wait for MLflow's
        cursor.execute("ROLLBACK")
        found = answer.result()
    wanted = "mysql_1213_deadlock" if is_mysql(url) else "pg_40p01_deadlock"
    assert found.status_code == 200, found.text
    assert set(labels(found)) == {wanted}
    assert tracked.server.errors() - before == Counter(labels(found))


def somebody_waits(url: StoreUrl) -> bool:
    if is_mysql(url):
        time.sleep(0.15)  # whoever asks more often than every 100 ms gets the first answer again and again
        return bool(sql(url, "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"))
    return bool(sql(url, "SELECT 1 FROM pg_locks WHERE NOT granted"))


def test_traces_sent_as_otlp_name_their_errors_too(tracked: Tracked):
    """A route of FastAPI's own, beside Flask's."""
    span = {
        "traceId": "0" * 31 + "1",
        "spanId": "0" * 15 + "1",
        "name": "root",
        "startTimeUnixNano": str(START_MS * 10**6),
        "endTimeUnixNano": str((START_MS + 1) * 10**6),
    }
    body = {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {}, "spans": [span]}]}]}
    run = tracked.client.new_run("traced")
    found = tracked.client.http.get("/api/2.0/mlflow/runs/get", params={"run_id": run}).json()["run"]["info"]

    def send() -> httpx.Response:
        headers = {"x-mlflow-experiment-id": found["experiment_id"]}
        return tracked.client.http.post("/v1/traces", json=body, headers=headers)

    answer = send()
    assert answer.status_code == 200, answer.text
    assert labels(answer) == []
    with renamed(tracked.url, "spans"):
        answer = send()
    assert answer.status_code >= 400
    assert labels(answer)
    assert set(labels(answer)) == {"other"}


@contextmanager
def renamed(url: StoreUrl, table: str) -> Iterator[None]:
    """A table has another name for a while."""
    sql(url, f"ALTER TABLE {table} RENAME TO {table}_away")
    yield
    sql(url, f"ALTER TABLE {table}_away RENAME TO {table}")


@pytest.mark.slow
def test_sqlite_that_stays_locked_is_named_busy(park: Park, public_tmp: Path):
    url = park.fresh("sqlite", public_tmp)
    with tracking.start(url.mlflow, ONE) as server, Client(server) as client:
        run = client.new_run("busy")
        with connected(url) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            answer = client.log(run, "m")  # waits for 20 s
            cursor.execute("ROLLBACK")
        assert answer.status_code == 503
        assert set(labels(answer)) == {"sqlite_busy"}
        assert server.errors() == Counter(labels(answer))


@pytest.mark.slow
def test_a_pool_that_locks_itself_is_named_in_answers_that_mlflow_does_not_log(park: Park, public_tmp: Path):
    """log_batch holds two connections: with as many clients as connections, nobody gets a second one for 30 s."""
    url = park.fresh("postgresql", public_tmp)
    settings = TrackingSettings(workers=1, pool_size=1, max_overflow=1)
    with tracking.start(url.mlflow, settings) as server, Client(server) as client:
        runs = [client.new_run(f"pool {number}") for number in range(8)]
        offset = server.log_size()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda run: client.log(run, "a", "b"), runs))
        failed = [answer for answer in answers if answer.status_code != 200]
        assert failed
        assert {answer.status_code for answer in failed} == {400}
        assert all(set(labels(answer)) == {"pool_exhausted"} for answer in failed)
        assert server.errors()["pool_exhausted"] == sum(len(labels(answer)) for answer in answers)
        assert "QueuePool" not in server.log_since(offset)


# -- the scripts of our Docker image --------------------------------------------------------------------------


def script(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of docker/mlflow with our Python."""
    return subprocess.run(
        [sys.executable, Path(__file__).parents[2] / "docker/mlflow" / name],
        env={"PATH": "/usr/bin:/bin", "MLFLOW_DISABLE_TELEMETRY": "true", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_images_health_check_asks_the_database_too(tracked: Tracked):
    port = str(tracked.server.port)
    done = script("healthcheck.py", MLFLOW_PORT=port)
    assert (done.returncode, done.stderr) == (0, "")
    with renamed(tracked.url, "experiments"):
        done = script("healthcheck.py", MLFLOW_PORT=port)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "experiments/search: answered" in done.stderr


def test_the_images_health_check_finds_nobody():
    done = script("healthcheck.py", MLFLOW_PORT="1")
    assert done.returncode == 1
    assert "/health: " in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_image_makes_metrics_a_hypertable_once(park: Park, public_tmp: Path):
    url = park.empty("timescaledb", public_tmp)
    for _ in range(2):
        done = script("hypertable.py", MLFLOW_BACKEND_STORE_URI=url.mlflow, HOME=str(public_tmp))
        assert done.returncode == 0, done.stderr

    async def misfit() -> str | None:
        async with opened(url) as (store, session):
            return await store.misfit(session, False)

    assert asyncio.run(misfit()) is None
