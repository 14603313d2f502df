"""Real servers that are killed, halted, frozen and left without room: their data stay, and nothing outlives them."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg2
import pymysql
import pytest
from stores import Park, wait_until
from tracked import ONE, Client

from bench import servers
from bench.servers import SMALL_DISK_MB, RunningServer, ServerFailed, databases, places, tracking
from bench.servers.supervised import Supervised

pytestmark = pytest.mark.servers
KINDS = ["postgresql", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("timescaledb", "mysql", "mariadb"))]
needs_small_disk = pytest.mark.skipif(servers.small_disks() is not None, reason=str(servers.small_disks()))
DRIVERS = (psycopg2.Error, pymysql.MySQLError)
NO_ROOM = {"53100", 1114}  # PostgreSQL: disk full; MySQL and MariaDB: the table is full
LIMIT_S = 20.0  # for what takes a second, and took for ever if it went wrong


@contextmanager
def session(server: RunningServer, within_s: int = 100) -> Iterator[Any]:
    """A connection that commits each statement, to a database of our own."""
    at: dict[str, Any] = {"host": server.host, "port": server.port, "user": server.user, "password": server.password}
    at["connect_timeout"] = within_s
    if server.kind in ("postgresql", "timescaledb"):
        connection = psycopg2.connect(dbname="faults", **at)
        connection.autocommit = True
    else:  # what it calls connecting ends before the server has said a word
        connection = pymysql.connect(database="faults", autocommit=True, read_timeout=within_s, **at)
    with closing(connection):
        yield connection


def carry_out(connection: Any, statement: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


class Diary:
    """A table that remembers what was acknowledged."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.written: list[tuple[int]] = []
        databases.create(server, "faults")
        with session(server) as connection:
            carry_out(connection, "CREATE TABLE diary (n INT PRIMARY KEY)")

    def write(self) -> None:
        with session(self.server) as connection:
            for _ in range(5):
                n = len(self.written)
                carry_out(connection, f"INSERT INTO diary VALUES ({n})")
                self.written.append((n,))

    def check(self) -> None:
        with session(self.server) as connection:
            assert carry_out(connection, "SELECT n FROM diary ORDER BY n") == self.written


def descendants(server: Supervised) -> list[int]:
    return [process.pid for process in psutil.Process(server.supervisor_pid).children(recursive=True)]


def gone(pids: list[int]) -> bool:
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return False
    return True


def shared_memory_of(pids: list[int]) -> list[str]:
    """Segments that one of these processes made, which outlive whoever does not remove them."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return [line for line in lines if int(line.split()[4]) in pids]


def error_of(connection: Any, statement: str) -> object:
    """The code of the error that this statement meets: an SQLSTATE, or MySQL's number."""
    with pytest.raises(DRIVERS) as caught:
        carry_out(connection, statement)
    return getattr(caught.value, "pgcode", None) or caught.value.args[0]


@pytest.mark.parametrize("kind", KINDS)
def test_its_data_stay_whatever_ends_it(kind: servers.Kind):
    with servers.start(kind) as server:
        diary = Diary(server)
        pids: list[int] = []
        for frozen, end in ((False, server.kill), (False, server.halt), (True, server.kill), (True, server.halt)):
            diary.write()
            family = descendants(server)
            pids += family
            with session(server):  # somebody is there when it happens
                if frozen:
                    server.freeze()
                end()
            assert not server.alive
            assert gone(family)
            assert descendants(server) == []
            server.start_again(LIMIT_S)
            diary.check()
        assert server.kind == kind
        server.kill()
        pids.append(server.pid)
    assert shared_memory_of(pids) == []
    assert not server.folder.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_it_answers_nobody_and_thawed_it_goes_on(kind: servers.Kind):
    with servers.start(kind) as server, ThreadPoolExecutor(1) as pool:
        Diary(server)
        with session(server) as open_before:
            server.freeze()
            assert {psutil.Process(pid).status() for pid in descendants(server)} <= {"stopped", "sleeping", "zombie"}
            with pytest.raises(DRIVERS), session(server, within_s=1):
                pass
            asked = pool.submit(carry_out, open_before, "SELECT 1")
            with pytest.raises(NotYet):
                asked.result(0.3)
            assert server.alive
            server.thaw()
            assert asked.result(LIMIT_S) == [(1,)]
        server.freeze()
        began = time.monotonic()
    assert time.monotonic() - began < LIMIT_S
    assert not server.folder.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_it_does_not_outlive_a_killed_supervisor(kind: servers.Kind):
    with servers.start(kind) as server:
        server.freeze()
        everybody = [server.supervisor_pid, *descendants(server)]
        os.kill(server.supervisor_pid, signal.SIGKILL)
        wait_until(lambda: gone(everybody), "their end", LIMIT_S)
        assert not server.alive
    assert not server.folder.exists()


def test_what_it_can_not_start_with_is_said_and_can_be_mended():
    with servers.start("postgresql") as server:
        server.kill()
        settings = server.folder / "data" / "postgresql.auto.conf"
        settings.write_text("no_such_setting = 1\n")
        with pytest.raises(ServerFailed, match=r"it said: .*postgresql.auto.conf. contains errors$"):
            server.start_again()
        settings.write_text("")
        with pytest.raises(ServerFailed, match="nobody could log in for 0 s"):
            server.start_again(within_s=0)
        server.start_again(LIMIT_S)


# -- small disks ------------------------------------------------------------------------------------------------


@needs_small_disk
@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_met_and_survived(kind: servers.Kind):
    """MySQL and MariaDB without their binary log: with it they wait (below)."""
    settings = {"skip-log-bin": ""} if kind in ("mysql", "mariadb") else {}
    with servers.start(kind, settings, disk_mb=SMALL_DISK_MB[kind]) as server:
        assert server.small_disk
        diary = Diary(server)
        diary.write()
        with session(server) as connection:
            carry_out(connection, "CREATE TABLE hoard (what TEXT)")
            filled = server.fill()
            assert 0 < filled < SMALL_DISK_MB[kind] * 2**20
            more = f"INSERT INTO hoard VALUES {', '.join(['(%r)' % ('x' * 1000)] * 2000)}"
            assert error_of(connection, more) in NO_ROOM
            server.free()
            carry_out(connection, more)
        server.fill()
        server.kill()
        with suppress(ServerFailed):  # MySQL can do without room, PostgreSQL can't
            server.start_again(within_s=3.0)
        server.kill()
        server.free()
        server.start_again(60.0)
        diary.write()
        diary.check()
        server.fill()
        began = time.monotonic()
    assert time.monotonic() - began < LIMIT_S
    assert not server.folder.exists()
    assert str(server.folder) not in Path("/proc/mounts").read_text()


@needs_small_disk
def test_postgresql_says_why_it_does_not_start_on_a_full_disk():
    with servers.start("postgresql", disk_mb=SMALL_DISK_MB["postgresql"]) as server:
        server.halt()
        server.fill()
        with pytest.raises(ServerFailed, match="No space left on device"):
            server.start_again()
        server.free()
        server.start_again(LIMIT_S)


@needs_small_disk
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mysql", "mariadb"])
def test_a_server_with_a_binary_log_waits_for_room_up_to_a_minute(kind: servers.Kind):
    with servers.start(kind, disk_mb=SMALL_DISK_MB[kind]) as server, ThreadPoolExecutor(1) as pool:
        diary = Diary(server)
        with session(server) as connection:
            carry_out(connection, "CREATE TABLE hoard (n INT PRIMARY KEY, what TEXT)")
            carry_out(connection, "INSERT INTO hoard VALUES (1, '')")
        server.fill()
        asked = pool.submit(_fill_binary_log, server)
        with pytest.raises(NotYet):
            asked.result(5.0)
        server.free()
        asked.result(90.0)
        diary.write()
        diary.check()


def _fill_binary_log(server: RunningServer) -> None:
    with session(server) as connection:
        for n in range(200):
            carry_out(connection, f"UPDATE hoard SET what = '{n}{'x' * 1000}'")


@needs_small_disk
def test_a_small_disk_goes_with_a_killed_supervisor():
    with servers.start("postgresql", disk_mb=SMALL_DISK_MB["postgresql"]) as server:
        server.fill()
        server.freeze()
        everybody = [server.supervisor_pid, *descendants(server)]
        assert places.is_held(server.folder / places.LOCK)
        os.kill(server.supervisor_pid, signal.SIGKILL)
        wait_until(lambda: gone(everybody), "their end", LIMIT_S)
        assert not places.is_held(server.folder / places.LOCK)
        assert sorted(path.name for path in server.folder.iterdir()) == ["server.log", "supervisor.lock"]
    assert not server.folder.exists()


# -- tracking servers -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_tracking_server_is_ended_frozen_and_started_again(park: Park, public_tmp: Path):
    with tracking.start(park.fresh("sqlite", public_tmp).mlflow, ONE) as server, Client(server) as client:
        run = client.new_run("kept")
        for n, end in enumerate((server.kill, server.halt, server.freeze)):
            assert client.log(run, f"key{n}").status_code == 200
            pids = descendants(server)
            end()
            if end == server.freeze:
                with pytest.raises(httpx.TimeoutException):
                    httpx.get(f"{server.url}/health", timeout=0.5)
                assert not gone(pids)
                server.thaw()
            else:
                assert gone(pids)
                assert descendants(server) == []
                server.start_again()
            info = client.http.get("/api/2.0/mlflow/runs/get", params={"run_id": run}).json()["run"]
            assert {metric["key"] for metric in info["data"]["metrics"]} == {f"key{m}" for m in range(n + 1)}
        pids = descendants(server)
        server.freeze()
    assert gone(pids)
    assert not server.folder.exists()
