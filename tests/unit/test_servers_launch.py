"""The table of settings, ports, folders and versions."""

import fcntl
import os
import random
import re
import socket
from pathlib import Path

import pytest
import yaml

from bench.errors import BadInput
from bench.servers import KINDS, as_kind, catalogue, compose, engines, launch, places
from bench.servers.base import CannotInstall, Offer, version_in
from bench.servers.supervised import _telling

DURABLE = {
    "postgresql": {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "jit": "off"},
    "timescaledb": {"fsync": "on", "synchronous_commit": "on", "shared_preload_libraries": "timescaledb"},
    "mysql": {"innodb_flush_log_at_trx_commit": "1", "sync_binlog": "1", "tls-version": "", "mysqlx": "OFF"},
    "mariadb": {"innodb_flush_log_at_trx_commit": "1", "sync_binlog": "1", "log-bin": "binlog"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_durable(kind):
    settings = launch.settings_for(kind, {})
    assert DURABLE[kind].items() <= settings.items()
    assert settings["max_connections"] == "300"


def test_the_two_postgresql_stores_differ_in_the_extension_only():
    plain, extended = launch.DEFAULTS["postgresql"], launch.DEFAULTS["timescaledb"]
    assert set(extended.items()) - set(plain.items()) == {
        ("shared_preload_libraries", "timescaledb"),
        ("timescaledb.telemetry_level", "off"),
    }


def test_an_override_replaces_its_default_however_it_is_spelt():
    assert launch.settings_for("postgresql", {"synchronous_commit": "off"})["synchronous_commit"] == "off"
    settings = launch.settings_for("mysql", {"sync-binlog": "0", "tls_version": "TLSv1.3", "binlog_format": "ROW"})
    assert settings["sync_binlog"] == "0"
    assert settings["tls-version"] == "TLSv1.3"
    assert settings["binlog_format"] == "ROW"
    assert "sync-binlog" not in settings


@pytest.mark.parametrize("name", ["listen_addresses", "bind-address", "port", "skip-grant-tables", "a b", "", "x=y"])
def test_some_settings_are_refused(name):
    with pytest.raises(BadInput):
        launch.settings_for("mysql", {name: "1"})


@pytest.mark.parametrize("kind", KINDS)
def test_the_password_is_on_no_command_line(kind, tmp_path):
    programs = engines.Programs(kind, Path("/x/bin/server"), base=Path("/x"))
    make = engines._postgresql if kind in ("postgresql", "timescaledb") else engines._mysql
    made = make(programs, tmp_path, launch.settings_for(kind, {}), "s3cret")
    argv, env = made.serve(20001)
    for command in [argv, *made.prepare, made.tidy]:
        assert "s3cret" not in " ".join(command)
    assert "s3cret" not in " ".join([*env.values(), *made.env.values()])
    assert any("s3cret" in text for text in made.files.values())


def test_ports_are_below_the_ephemeral_ones():
    assert places.PORTS.stop == 32768
    seen = []

    def taken(port: int) -> bool:
        seen.append(port)
        return len(seen) < 5

    assert places.free_port(taken, random.Random(1)) == seen[4]
    assert len(set(seen)) == 5
    assert all(port in places.PORTS for port in seen)


def test_a_port_in_use_is_seen():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        assert places._is_taken(holder.getsockname()[1])


def test_no_port_at_all_is_one_clear_line():
    with pytest.raises(BadInput, match="no free port"):
        places.free_port(lambda port: True)


def test_stale_folders_go_and_living_ones_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "temp_root", lambda: tmp_path)
    for name in ("trackbench-mysql-dead", "trackbench-mysql-live", "trackbench-of-a-user", "other"):
        (tmp_path / name).mkdir()
    locks = [tmp_path / f"trackbench-mysql-{name}" / places.LOCK for name in ("dead", "live")]
    for lock in locks:
        lock.touch()
        os.utime(lock, (1, 1))
    with locks[1].open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        places.remove_stale_folders()
        assert places.is_held(locks[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "other",
        "trackbench-mysql-live",
        "trackbench-of-a-user",
    ]


def testcache_places(monkeypatch, tmp_path):
    for name in ("TRACKBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert places.cache_place() == Path("/var/cache/trackbench")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert places.cache_place() == tmp_path / ".cache/trackbench"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert places.cache_place() == Path("/xdg/trackbench")
    monkeypatch.setenv("TRACKBENCH_CACHE", "/own")
    assert places.cache_place() == Path("/own")


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("postgres (PostgreSQL) 18.6 (Debian 18.6-3)", "18.6 (Debian 18.6-3)"),
        ("postgres (PostgreSQL) 18.6", "18.6"),
        ("mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", "9.7.4-2"),
        ("mariadbd  Ver 10.11.18-MariaDB-0+deb12u1 for debian-linux-gnu", "10.11.18-MariaDB-0+deb12u1"),
        ("", None),
    ],
)
def test_versions(printed, version):
    assert version_in(printed) == version


def test_of_a_log_the_lines_that_tell_are_shown():
    log = ["starting", "FATAL:  no room", "", "database system is shut down"]
    assert _telling(log) == "FATAL:  no room"
    assert _telling(["one", "two"]) == "one | two"


def test_kinds_are_checked():
    assert as_kind("mysql") == "mysql"
    with pytest.raises(BadInput, match="'oracle'"):
        as_kind("oracle")


class FakeSource:
    """A source with one kind, or one that can't be installed."""

    def __init__(self, name, kinds, installs=True):
        self.name, self.kinds, self.installs, self.ready = name, kinds, installs, False

    def offer(self, kind):
        remedy = None if self.ready else f"install {kind}"
        return Offer(kind, self.name, self.ready, "1", self.name, remedy) if kind in self.kinds else None

    def install(self, kind, echo):
        if not self.installs:
            raise CannotInstall(f"{self.name} is broken")
        self.ready = True


def test_the_first_source_that_works_is_taken(monkeypatch):
    broken, good = FakeSource("broken", ["mysql"], installs=False), FakeSource("good", ["mysql"])
    monkeypatch.setattr(catalogue, "SOURCES", (broken, good, FakeSource("late", ["mysql"])))
    said: list[str] = []
    assert catalogue.install("mysql", said.append).source == "good"
    assert said == ["broken is broken"]


def test_mariadb_in_place_of_mysql_is_said_plainly(monkeypatch):
    monkeypatch.setattr(catalogue, "SOURCES", (FakeSource("prefix", ["mariadb"]),))
    said: list[str] = []
    assert catalogue.install("mysql", said.append).kind == "mariadb"
    assert "MariaDB takes its place" in said[0]
    with pytest.raises(CannotInstall, match="timescaledb"):
        catalogue.install("timescaledb")


# -- the compose file ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose_file():
    return yaml.safe_load(compose.FILE.read_text())


@pytest.mark.parametrize("kind", compose.SERVICES)
def test_compose_settings_are_those_of_the_table(compose_file, kind):
    assert compose_file["services"][kind]["command"] == compose._command(kind, launch.settings_for(kind, {}))


@pytest.mark.parametrize("kind", compose.SERVICES)
def test_compose_is_private(compose_file, kind):
    service = compose_file["services"][kind]
    (port,) = service["ports"]
    assert re.fullmatch(rf"127\.0\.0\.1:\$\{{TRACKBENCH_{kind.upper()}_PORT:-\d+\}}:\d+", port)
    passwords = [value for name, value in service["environment"].items() if name.endswith("SQL_PASSWORD")]
    passwords += [value for name, value in service["environment"].items() if name == "POSTGRES_PASSWORD"]
    assert passwords
    assert all(value.startswith("${TRACKBENCH_PASSWORD:?") for value in passwords)
    assert "SELECT 1" in service["healthcheck"]["test"][1]
    assert ":" in compose._image(kind)


def test_compose_gets_the_password_by_environment(tmp_path):
    made = compose.launch_of("mysql", tmp_path, {"sync_binlog": "0"}, "s3cret")
    argv, env = made.serve(23456)
    assert "s3cret" not in " ".join([*argv, *made.kill, *(part for argv in made.after for part in argv)])
    assert made.env["TRACKBENCH_PASSWORD"] == "s3cret"
    assert env == {"TRACKBENCH_MYSQL_PORT": "23456"}
    assert '"--sync_binlog=0"' in made.files["settings.json"]
