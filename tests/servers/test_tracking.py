"""Lives and ends of MLflow tracking servers: settings, logins, kills, and what a server that dies at start says."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from stores import Park, sql, wait_until
from tracked import ONE, Client, labels

from bench.errors import BadInput
from bench.servers import ServerFailed, places, tracking
from bench.servers.tracking import TrackingSettings

pytestmark = pytest.mark.servers


@pytest.fixture
def temp_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where servers of this test keep their folders, so that whatever stays is found."""
    monkeypatch.setattr(places, "temp_root", lambda: tmp_path)
    return tmp_path


def command_lines(pids: list[int]) -> str:
    return " ".join(" ".join(psutil.Process(pid).cmdline()) for pid in pids)


def all_gone(pids: list[int]) -> bool:
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return False
    return True


@pytest.mark.slow
def test_with_authentication_only_its_login_lets_in(park: Park, public_tmp: Path):
    url = park.fresh("sqlite", public_tmp)
    settings = TrackingSettings(workers=1, authentication=True)
    with tracking.start(url.mlflow, settings) as server, Client(server) as client:
        assert server.version == "3.17.2"
        assert client.new_run("mine")
        assert labels(client.post("experiments/create", name="mine")) == ["constraint"]
        search = f"{server.url}/api/2.0/mlflow/experiments/search"
        assert httpx.post(search, json={"max_results": 1}).status_code == 401
        assert httpx.post(search, json={"max_results": 1}, auth=("admin", "password1234")).status_code == 401
        assert (server.folder / "basic_auth.db").exists()
        secret = server.site.headers["Authorization"].removeprefix("Basic ")
        assert secret not in repr(server.site) + command_lines(server.pids())


@pytest.mark.slow
def test_settings_reach_mlflow(park: Park, public_tmp: Path):
    url = park.fresh("sqlite", public_tmp)
    settings = TrackingSettings(1, pool_size=3, max_overflow=4, artifact_root="file:///trackbench/elsewhere")
    with tracking.start(url.mlflow, settings) as server, Client(server) as client:
        worker = psutil.Process(server.pids()[1]).environ()
        assert worker["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] == "3"
        assert worker["MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"] == "4"
        assert worker["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
        assert worker["MLFLOW_DISABLE_TELEMETRY"] == "true"
        run = client.new_run("elsewhere")
        info = client.http.get("/api/2.0/mlflow/runs/get", params={"run_id": run}).json()["run"]["info"]
        assert info["artifact_uri"].startswith("file:///trackbench/elsewhere/")


@pytest.mark.slow
def test_killed_it_can_be_started_again_on_its_port(park: Park, public_tmp: Path):
    with tracking.start(park.fresh("sqlite", public_tmp).mlflow, ONE) as server:
        pids, port = server.pids(), server.port
        server.kill()
        assert all_gone(pids)
        assert not server.alive
        assert server.pids() == []
        server.start_again()
        assert server.port == port
        assert httpx.get(f"{server.url}/health").status_code == 200
        folder, pids = server.folder, server.pids()
    assert all_gone(pids)
    assert not folder.exists()
    assert server.log_since(0) == ""


OWNER = """
import sys, time
from bench.servers import tracking
server = tracking.start(sys.argv[1], tracking.TrackingSettings(workers=2))
print(server.folder, server.supervisor_pid, *server.pids(), flush=True)
time.sleep(120)
"""


@pytest.mark.parametrize("victim", ["owner", pytest.param("supervisor", marks=pytest.mark.slow)])
def test_kill_minus_nine_leaves_no_process(park: Park, public_tmp: Path, victim: str):
    url = park.fresh("sqlite", public_tmp)
    with subprocess.Popen([sys.executable, "-c", OWNER, url.mlflow], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        folder, supervisor, *pids = owner.stdout.readline().split()
        everybody = [int(supervisor), *map(int, pids)]
        assert len(everybody) >= 5
        os.kill(owner.pid if victim == "owner" else int(supervisor), signal.SIGKILL)
        wait_until(lambda: all_gone(everybody), "their end", 20)
        owner.kill()
        owner.wait()
    if victim == "owner":
        wait_until(lambda: not Path(folder).exists(), "the folder's end", 20)
    else:  # nobody is left to remove it; the next server does
        os.utime(Path(folder) / "supervisor.lock", (0, 0))
        places.remove_stale_folders()
        assert not Path(folder).exists()


def refused(uri: str, settings: TrackingSettings = ONE) -> str:
    with pytest.raises(ServerFailed) as caught, tracking.start(uri, settings):
        pass
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_file_that_is_no_database_ends_it_at_once(temp_root: Path):
    (temp_root / "a.db").write_bytes(b"this is not a database, and was never meant to be one" * 100)
    message = refused(f"sqlite:///{temp_root / 'a.db'}")
    assert "file is not a database" in message
    assert not list(temp_root.glob("trackbench-*"))


@pytest.mark.slow
def test_an_older_schema_ends_it_with_mlflows_own_words(park: Park, temp_root: Path):
    url = park.fresh("sqlite", temp_root)
    sql(url, "UPDATE alembic_version SET version_num = 'cbc13b556ace'")
    message = refused(url.mlflow)
    assert "out-of-date database schema" in message


@pytest.mark.slow
def test_a_database_that_is_not_there_ends_it_soon(temp_root: Path):
    began = time.monotonic()
    message = refused("postgresql+psycopg2://someone:s3cr%40t@127.0.0.1:1/nothing")
    assert time.monotonic() - began < 60
    assert "can't reach its store" in message
    assert "refused" in message
    assert "s3cr" not in message
    assert not list(temp_root.glob("trackbench-*"))


def test_a_wrong_password_is_not_repeated(park: Park, public_tmp: Path):
    url = park.fresh("postgresql", public_tmp)
    message = refused(url.mlflow.replace(url.password, "wr0ng-password"))
    assert "authentication failed" in message
    assert "wr0ng" not in message


@pytest.mark.slow
def test_a_port_that_is_taken_in_between_is_tried_again(
    park: Park, public_tmp: Path, monkeypatch: pytest.MonkeyPatch, temp_root: Path
):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ports = iter([other.getsockname()[1], places.free_port()])
        monkeypatch.setattr(places, "free_port", lambda: next(ports))
        with tracking.start(park.fresh("sqlite", public_tmp).mlflow, ONE) as server:
            assert server.port != other.getsockname()[1]


@pytest.mark.parametrize(
    "wrong", [{"workers": 0}, {"pool_size": 0}, {"max_overflow": 0}, {"max_overflow": -1}], ids=str
)
def test_settings_that_mlflow_would_pass_over_are_refused(wrong: dict[str, int]):
    with pytest.raises(BadInput, match="1 or more"):
        TrackingSettings(**wrong)  # type: ignore[arg-type]


def test_settings_say_what_they_are():
    assert str(TrackingSettings()) == "4 workers, pool 5+10 each, authentication off"
    assert TrackingSettings(2, pool_size=20).connections == 60
