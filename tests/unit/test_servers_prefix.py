"""Building a prefix: one at a time, whole or not at all."""

import threading
import time
from pathlib import Path

import pytest

from bench.servers import debian, places, prefix
from bench.servers.base import CannotInstall

ARCHIVE = debian.Archive("debian", "bookworm", {"URIs": "http://mirror.example/debian"})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRACKBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(places, "server_user", lambda: None)  # root's servers can't reach a test's folder
    monkeypatch.setattr(debian, "host_archive", lambda: ARCHIVE)
    return tmp_path


def finish(root: Path) -> None:
    server = root / "usr/sbin/mysqld"
    server.parent.mkdir(parents=True)
    server.touch()
    (root / "manifest.json").write_text("{}")


def test_two_installs_at_once_build_once(cache, monkeypatch):
    built = []

    def build(link, archive, suite, recipe, echo):
        root = link.parent / f"mysql-{suite}-{len(built)}"
        built.append(root)
        time.sleep(0.2)
        finish(root)
        prefix._publish(root, link)

    monkeypatch.setattr(prefix, "_build", build)
    said: list[str] = []
    threads = [threading.Thread(target=prefix.PrefixSource().install, args=("mysql", said.append)) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert said == ["mysql: another process installs it, waiting"]
    programs = prefix.PrefixSource().programs("mysql")
    assert programs is not None
    assert programs.server == built[0] / "usr/sbin/mysqld"


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), CannotInstall("no network")])
def test_an_install_that_is_cut_short_leaves_nothing(cache, monkeypatch, ending):
    def update(self):
        raise ending

    monkeypatch.setattr(debian.Apt, "update", update)
    with pytest.raises(type(ending)):
        prefix.PrefixSource().install("mysql", lambda line: None)
    assert [path.name for path in (cache / "prefixes").iterdir()] == ["mysql.lock"]


def test_remains_of_a_killed_install_go_and_finished_prefixes_stay(cache, monkeypatch):
    folder = cache / "prefixes"
    (folder / "mysql-sid-dead" / "usr").mkdir(parents=True)
    finish(folder / "mysql-sid-old")

    def build(link, archive, suite, recipe, echo):
        finish(folder / "mysql-sid-new")
        prefix._publish(folder / "mysql-sid-new", link)

    monkeypatch.setattr(prefix, "_build", build)
    prefix.PrefixSource().install("mysql", lambda line: None)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["mysql", "mysql-sid-new", "mysql-sid-old", "mysql.lock"]


def test_the_next_suite_is_tried(cache, monkeypatch):
    tried = []

    def build(link, archive, suite, recipe, echo):
        tried.append(suite)
        if suite == "forky":
            raise CannotInstall("gone")
        finish(link.parent / "mariadb-x")

    monkeypatch.setattr(prefix, "_build", build)
    recipe = prefix.Recipe(("forky", ""), (), "", "")
    (cache / "prefixes").mkdir()
    prefix._install_from_a_suite(cache / "prefixes/mariadb", ARCHIVE, recipe, lambda line: None)
    assert tried == ["forky", "bookworm"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("postgresql-18", True),
        ("postgresql-client-18", True),
        ("postgresql-18-timescaledb", True),
        ("postgresql-common", False),
        ("libssl3t64", True),
        ("zlib1g", True),
        ("libc-bin", False),
        ("libperl5.42", False),
        ("perl-base", False),
        ("systemd", False),
    ],
)
def test_what_goes_into_a_prefix(name, kept):
    assert prefix._is_kept(name, prefix._DEBIAN["postgresql"]) is kept


def test_timescaledb_on_ubuntu_is_said_to_come_from_docker_only(cache, monkeypatch):
    monkeypatch.setattr(debian, "host_archive", lambda: debian.Archive("ubuntu", "noble", {}))
    offer = prefix.PrefixSource().offer("timescaledb")
    assert offer is not None
    assert not offer.ready
    assert "Docker only" in offer.detail
    assert prefix.PrefixSource().offer("mysql").remedy == "trackbench servers install mysql"  # type: ignore[union-attr]


def test_a_cache_for_reading_only_is_one_clear_line(cache, monkeypatch):
    def refuse(path, mode=0o777, exist_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(CannotInstall, match=r"mysql can't be installed in .*prefixes: Permission denied"):
        prefix.PrefixSource().install("mysql", lambda line: None)
