"""Real servers from every source this machine has: they start, keep what they promise, and leave nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import psutil
import psycopg2
import pymysql
import pytest
from click.testing import CliRunner

from bench import servers
from bench.cli_servers import doctor
from bench.cli_servers import servers as servers_command
from bench.errors import BadInput
from bench.servers import RunningServer, catalogue, places
from bench.servers.path import PathSource
from bench.servers.prefix import PrefixSource
from bench.servers.wheel import WheelSource

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[2]
POSTGRESQL = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "jit": "off",
    "max_connections": "300",
    "shared_buffers": "256MB",
    "listen_addresses": "127.0.0.1",
    "password_encryption": "scram-sha-256",
}
MYSQL = {
    "innodb_flush_log_at_trx_commit": "1",
    "sync_binlog": "1",
    "log_bin": "ON",
    "max_connections": "300",
    "innodb_buffer_pool_size": str(256 * 2**20),
    "performance_schema": "ON",
    "bind_address": "127.0.0.1",
}
# An owner that starts a server, says where it is, and waits to be killed.
OWNER = """
import json, sys, time
from bench import servers
server = servers.start(sys.argv[1])
print(json.dumps([server.pid, server.supervisor_pid, str(server.folder)]), flush=True)
time.sleep(600)
"""


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def query(server: RunningServer, statement: str, user: str | None = None, password: str | None = None) -> list:
    user, password = user or server.user, server.password if password is None else password
    at = {"host": server.host, "port": server.port, "user": user, "password": password}
    if server.url("x").startswith("postgresql:"):
        connection = psycopg2.connect(dbname="postgres", **at)
    else:
        connection = pymysql.connect(**at)
    with closing(connection), connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def processes_in(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if str(folder) in " ".join(process.cmdline()) or Path(process.cwd()).is_relative_to(folder):
                found.append(process.pid)
    return found


def command_lines() -> str:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(lines)


@pytest.fixture(scope="module", autouse=True)
def temp_root() -> Iterator[Path]:
    """A temporary folder of our own: others run servers on this machine too. It must be empty in the end."""
    root = Path(tempfile.mkdtemp(dir=places.temp_root()))
    root.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(root))
        patch.setattr(tempfile, "tempdir", None)
        yield root
    root.rmdir()


@pytest.fixture(scope="module", params=servers.KINDS)
def server(temp_root: Path, request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with servers.start(request.param) as running:
        yield running
    assert not running.alive
    assert not running.folder.exists()


def test_it_is_what_it_says(server: RunningServer):
    (version,) = query(server, "SELECT version()")[0]
    assert server.version.split()[0].rstrip(",") in version
    assert ("MariaDB" in version) == (server.kind == "mariadb")
    assert ("PostgreSQL" in version) == (server.kind in ("postgresql", "timescaledb"))
    if server.kind == "timescaledb":
        assert query(server, "SHOW shared_preload_libraries") == [("timescaledb",)]
        assert ", TimescaleDB " in server.version
        (offer, *_) = servers.offers(["timescaledb"])
        assert offer.version == server.version


def test_its_settings_are_durable(server: RunningServer):
    if server.kind in ("postgresql", "timescaledb"):
        assert {name: query(server, f"SHOW {name}")[0][0] for name in POSTGRESQL} == POSTGRESQL
        return
    names = ", ".join(f"'{name}'" for name in MYSQL)
    assert dict(query(server, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")) == MYSQL
    assert query(server, "SHOW STATUS LIKE 'Ssl_cipher'") == [("Ssl_cipher", "")]
    assert query(server, "SHOW GLOBAL VARIABLES LIKE 'mysqlx_port'") == []


def test_only_the_password_lets_in(server: RunningServer):
    for user, password in [(server.user, "wrong"), ("root", ""), ("postgres", "")]:
        with pytest.raises((psycopg2.OperationalError, pymysql.err.OperationalError)):
            query(server, "SELECT 1", user, password or "x" * 3 if user == "postgres" else password)


def test_it_is_private(server: RunningServer):
    assert server.port in places.PORTS
    assert server.password not in command_lines()
    assert server.folder.stat().st_mode & 0o077 == 0
    process = psutil.Process(server.pid)
    assert process.uids().real != 0
    listening = [part.laddr.ip for part in process.net_connections("inet") if part.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]


def test_killed_and_started_again_it_has_its_data(server: RunningServer):
    before, port = server.pid, server.port
    if server.kind in ("postgresql", "timescaledb"):
        name = f"kept{server.port}"
        with closing(psycopg2.connect(server.url("postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {name}")
        listing = "SELECT datname FROM pg_database"
    else:
        name = "kept"
        query(server, f"CREATE DATABASE {name}")
        listing = "SHOW DATABASES"
    server.kill()
    assert not server.alive
    assert not psutil.pid_exists(before)
    server.start_again()
    assert server.alive
    assert server.port == port
    assert (name,) in query(server, listing)


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_nothing_stays_when_the_owner_is_killed(kind: str):
    owner = subprocess.Popen([sys.executable, "-c", OWNER, kind], stdout=subprocess.PIPE, cwd=ROOT)
    assert owner.stdout is not None
    with owner.stdout:
        pid, supervisor, folder = json.loads(owner.stdout.readline())
    assert psutil.pid_exists(pid)
    owner.kill()
    owner.wait()
    assert eventually(lambda: not Path(folder).exists() and not psutil.pid_exists(supervisor))
    assert not psutil.pid_exists(pid)
    assert processes_in(Path(folder)) == []


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_nothing_stays_when_the_supervisor_is_killed(kind: str):
    with servers.start(kind) as running:
        os.kill(running.supervisor_pid, signal.SIGKILL)
        assert eventually(lambda: not running.alive)
        assert eventually(lambda: processes_in(running.folder) == [])
    assert not running.folder.exists()


def test_an_owner_that_is_killed_while_the_server_is_prepared_leaves_nothing(temp_root: Path):
    owner = subprocess.Popen([sys.executable, "-c", OWNER, "mysql"], stdout=subprocess.DEVNULL, cwd=ROOT)
    made: list[Path] = []

    def preparing() -> bool:
        made[:] = temp_root.glob("trackbench-mysql-*/data")
        return bool(made)

    assert eventually(preparing)
    owner.kill()
    owner.wait()
    assert eventually(lambda: not made[0].parent.exists())
    assert processes_in(made[0].parent) == []


def test_two_at_once():
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: servers.start("postgresql"), range(2))
    with first, second:
        assert first.port != second.port
        assert first.alive
        assert second.alive
        assert first.password != second.password


def test_a_port_that_is_taken_meanwhile_is_no_failure(monkeypatch: pytest.MonkeyPatch):
    with servers.start("postgresql") as first:
        ports = iter([first.port, places.free_port()])
        monkeypatch.setattr(places, "free_port", lambda: next(ports))
        with servers.start("postgresql") as second:
            assert second.port != first.port
            assert query(second, "SELECT 1") == [(1,)]


def test_a_server_that_can_not_start_says_why_and_leaves_nothing(temp_root: Path):
    before = set(temp_root.iterdir())
    with pytest.raises(BadInput, match="no_such_setting"):
        servers.start("postgresql", {"no_such_setting": "1"})
    assert set(temp_root.iterdir()) == before


def test_settings_override_the_defaults():
    with servers.start("postgresql", {"synchronous_commit": "off"}) as running:
        assert query(running, "SHOW synchronous_commit") == [("off",)]


def test_a_folder_of_the_callers_choice(temp_root: Path):
    folder = temp_root / ("long" * 30)  # longer than a Unix socket's path may be
    for kind in ("postgresql", "mysql"):
        with servers.start(kind, folder=folder) as running:
            assert running.folder == folder
            assert query(running, "SELECT 1") == [(1,)]
            with pytest.raises(BadInput, match="exists"):
                servers.start(kind, folder=folder)
            with pytest.raises(BadInput, match="File exists"):  # past the first look, by the supervisor
                PrefixSource().start(running.kind, folder, {})
            assert running.folder.exists()
        assert not folder.exists()


@pytest.mark.parametrize("source", [WheelSource(), PathSource()], ids=["wheel", "path"])
def test_other_sources_of_postgresql(source):
    offer = source.offer("postgresql")
    if offer is None or not offer.ready:
        pytest.skip("this machine has none")
    with source.start("postgresql", places.new_folder("postgresql"), {}) as running:
        assert running.source == source.name
        assert running.version.split()[0] == offer.version.split()[0]
        assert query(running, "SHOW fsync") == [("on",)]


def test_installing_again_at_the_same_time_does_nothing():
    offers = []
    with ThreadPoolExecutor(4) as pool:
        offers = list(pool.map(servers.install, ["postgresql", "timescaledb"] * 2))
    assert all(offer.ready for offer in offers)
    assert len({offer.detail for offer in offers}) == 1


def test_client_programs_run():
    for name in ("psql", "pgbench", "mysqlslap"):
        program = servers.tool(name)
        assert program is not None
        subprocess.run([program, "--version"], check=True, capture_output=True)
    assert servers.tool("no-such-program") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="everything here ran as a plain user")
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_plain_user(kind: str):
    plain_python = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin")
    if not places.reachable(Path(sysconfig.get_path("purelib"))) or plain_python is None:
        pytest.skip("no Python that a plain user can reach")
    uid, gid = places.server_user() or (0, 0)
    script = (
        "import sys\nfrom bench import servers\nwith servers.start(sys.argv[1]) as s:\n  print(s.version, s.source)"
    )
    env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    env["PYTHONPATH"] = f"{ROOT}:{sysconfig.get_path('purelib')}"
    env["TRACKBENCH_CACHE"] = str(places.cache_dir())  # root's: it is ready, and for reading only
    done = subprocess.run(
        [plain_python, "-W", "error", "-c", script, kind],
        user=uid,
        group=gid,
        extra_groups=[],
        env=env,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.split()[-1] == "prefix"


# -- the commands -------------------------------------------------------------------------------------------


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache with the installed prefixes and no standing servers."""
    prefixes = places.cache_dir() / "prefixes"
    cache = Path(tempfile.mkdtemp(dir=places.temp_root()))
    cache.chmod(0o755)
    (cache / "prefixes").symlink_to(prefixes)
    monkeypatch.setenv("TRACKBENCH_CACHE", str(cache))
    yield cache
    CliRunner().invoke(servers_command, ["down"])
    shutil.rmtree(cache)


def test_up_and_down(own_cache: Path):
    up = CliRunner().invoke(servers_command, ["up", "timescaledb", "--set", "work_mem=8MB"], catch_exceptions=False)
    state_file = own_cache / "run/timescaledb.json"
    state = json.loads(state_file.read_text())
    assert state_file.stat().st_mode & 0o777 == 0o600
    assert state["url"] in up.stdout
    assert str(state_file) in up.stdout
    with closing(psycopg2.connect(state["url"])) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT extname, current_setting('work_mem') FROM pg_extension WHERE extname = 'timescaledb'")
        assert cursor.fetchall() == [("timescaledb", "8MB")]
    again = CliRunner().invoke(servers_command, ["up", "timescaledb", "--json"], catch_exceptions=False)
    assert json.loads(again.stdout)[0]["pid"] == state["pid"]
    assert state["url"] not in again.stdout
    listed = CliRunner().invoke(servers_command, ["list", "--json"], catch_exceptions=False)
    assert [server["port"] for server in json.loads(listed.stdout)["up"]] == [state["port"]]
    down = CliRunner().invoke(servers_command, ["down", "timescaledb"], catch_exceptions=False)
    assert down.stdout == "timescaledb: stopped, data removed\n"
    assert not psutil.pid_exists(state["pid"])
    assert not Path(state["folder"]).exists()
    assert not state_file.exists()


def test_commands_refuse_unknown_kinds():
    for command in ("install", "up", "down"):
        result = CliRunner().invoke(servers_command, [command, "oracle"])
        assert isinstance(result.exception, BadInput)


def test_doctor():
    result = CliRunner().invoke(doctor, ["--json"], catch_exceptions=False)
    report = json.loads(result.stdout)
    assert {offer["kind"] for offer in report["offers"] if offer["ready"]} == set(servers.KINDS)
    assert report["missing"] == []
    assert {"psql", "pgbench"} <= report["tools"].keys()
    assert "Every kind" in CliRunner().invoke(doctor, catch_exceptions=False).stdout


def test_doctor_names_the_one_command(monkeypatch: pytest.MonkeyPatch, own_cache: Path):
    (own_cache / "prefixes").unlink()
    monkeypatch.setattr(catalogue, "SOURCES", catalogue.SOURCES[:2])
    result = CliRunner().invoke(doctor, catch_exceptions=False)
    if places.server_user() is not None:
        assert "missing: mysql. " in result.stdout
    assert result.exit_code == 0
