"""What can be a source, and the one line that everything else gets; no MLflow is asked here."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlite_files import state, store

from bench.errors import BadInput
from bench.migrate.catalog import AUTH, OURS, TRACKING
from bench.migrate.sources import Source, open_source
from bench.stores import schema
from bench.stores.url import StoreUrl, parse

HEAD = schema.lineage(TRACKING).head


def opened(given: str | StoreUrl) -> tuple[Source, list[str], list[tuple[object, ...]], Path]:
    """(the source, closed again; what was said; its experiments; the file that was read)."""
    said: list[str] = []

    async def go() -> tuple[Source, list[str], list[tuple[object, ...]], Path]:
        async with open_source(given, said.append) as source:
            rows = [tuple(row) for row in await source.session.fetch("SELECT experiment_id, name FROM experiments")]
            assert source.url.path is not None
            assert source.url.path.exists()
            return source, said, rows, source.url.path

    return asyncio.run(go())


def refused(given: str) -> str:
    """The line that ``given`` gets."""
    with pytest.raises(BadInput) as caught:
        opened(given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scratch folders go here; none is left."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr("bench.servers.places.temp_root", lambda: folder)
    return folder


def test_a_sqlite_store_at_our_revision_is_read_from_a_snapshot(tmp_path: Path, temporary: Path) -> None:
    path = store(tmp_path / "a.db", HEAD)
    before = state(tmp_path)
    source, said, rows, read = opened(f"sqlite:///{path}")
    assert state(tmp_path) == before
    assert rows == [(1, "one")]
    assert (source.given, source.upgraded_from, source.notes) == (f"sqlite:///{path}", None, [])
    assert source.catalog.revision == HEAD
    assert source.held_s is not None
    assert source.held_s > 0
    assert source.seconds.keys() == {"snapshot"}
    size = path.stat().st_size / 1e6
    assert said == [f"sqlite:///{path}: snapshot of {size:.1f} MB taken; writers waited at most {source.held_s:.3f} s"]
    assert read != path
    assert not list(temporary.iterdir())


def test_a_writer_changes_nothing_of_what_is_read(tmp_path: Path) -> None:
    path = store(tmp_path / "a.db", HEAD)

    async def go() -> list[int]:
        counts = []
        async with open_source(parse(f"sqlite:///{path}")) as source:
            for _ in range(2):
                counts.append(len(await source.session.fetch("SELECT * FROM experiments")))
                with closing(sqlite3.connect(path)) as writer:
                    writer.execute("INSERT INTO experiments(name) VALUES ('two')" if len(counts) == 1 else "VACUUM")
                    writer.commit()
        return counts

    assert asyncio.run(go()) == [1, 1]


def test_a_failure_in_the_middle_leaves_no_folder(tmp_path: Path, temporary: Path) -> None:
    path = store(tmp_path / "a.db", HEAD)
    before = state(tmp_path)

    async def go() -> None:
        async with open_source(f"sqlite:///{path}"):
            assert os.listdir(temporary)  # noqa: PTH208
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(go())
    assert not list(temporary.iterdir())
    assert state(tmp_path) == before


def test_the_url_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store(tmp_path / "a.db", HEAD)
    monkeypatch.setenv("OLD_STORE", f"sqlite:///{path}")
    assert opened("env:OLD_STORE")[2] == [(1, "one")]
    monkeypatch.delenv("OLD_STORE")
    assert refused("env:OLD_STORE") == "source=env:OLD_STORE: OLD_STORE is not set; export it with the URL"


@pytest.mark.parametrize(
    ("revision", "says"),
    [
        ("0123456789ab", f"schema revision 0123456789ab is newer or unknown, MLflow {schema.mlflow_version()} wants"),
        (None, "alembic_version is empty, MLflow"),
    ],
)
def test_a_store_of_a_newer_mlflow_is_refused(revision: str | None, says: str, tmp_path: Path) -> None:
    path = store(tmp_path / "a.db", revision)
    before = state(tmp_path)
    said = refused(f"sqlite:///{path}")
    assert said.startswith(f"sqlite:///{path}: {says}")
    assert said.endswith("; use a Trackbench for that MLflow")
    assert state(tmp_path) == before


def test_what_is_no_store_is_refused_by_the_name_that_was_given(tmp_path: Path, temporary: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    with closing(sqlite3.connect(tmp_path / "none.db")) as connection:
        connection.execute("PRAGMA user_version = 1")
    (tmp_path / "text.db").write_text("no database" * 100)
    (tmp_path / "folder").mkdir()
    store(tmp_path / "folder" / "mlflow.db", HEAD)
    url = f"sqlite:///{tmp_path}"
    expected = {
        f"{url}/theirs.db": "holds 1 tables that are not MLflow's; give the URL of an MLflow store",
        f"{url}/none.db": "is empty; give the URL of an MLflow store",
        f"{url}/text.db": "is not a SQLite database; give the URL of an MLflow store",
        f"{url}/missing.db": "no such file; give the URL of an existing MLflow store",
        f"{url}/folder": "is a folder; give a file's URL, or for a file store the folder itself, without sqlite:///",
        f"{tmp_path}/folder": f"is a folder but no MLflow file store; give sqlite:///{tmp_path}/folder/mlflow.db",
        f"{tmp_path}/text.db": f"is a file; give a SQLite store as sqlite:///{tmp_path}/text.db",
        f"{tmp_path}/missing": "no such folder; give a file store's folder (mlruns) or a database's URL",
    }
    for given, says in expected.items():
        assert refused(given) == f"{given}: {says}"
    assert refused(f"file://{tmp_path}/missing") == f"{tmp_path}/missing: {expected[f'{tmp_path}/missing']}"
    assert "unknown scheme 'http'" in refused("http://localhost:5000")
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("revision", [HEAD, "97727af70f4d"])
def test_a_target_that_is_being_filled_is_no_source(revision: str, tmp_path: Path) -> None:
    path = store(tmp_path / "a.db", revision, f"CREATE TABLE {OURS} (id INTEGER)")
    said = refused(f"sqlite:///{path}")
    assert said == f"sqlite:///{path}: holds an unfinished migration; finish it first with the same command"


def test_a_file_store_that_is_written_to_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "meta.yaml").write_text("name: Default")

    async def meanwhile(folder: Path, url: StoreUrl) -> list[str]:
        (folder / "0" / "tags").mkdir()
        (folder / "0" / "tags" / "new").write_text("x")
        return []

    monkeypatch.setattr(schema, "take_file_store", meanwhile)
    assert "was written to while it was read" in refused(str(tmp_path))


def test_a_server_that_is_not_there_is_one_line_without_a_password() -> None:
    for scheme in ("postgresql", "mysql+pymysql", "timescaledb"):
        said = refused(f"{scheme}://me:secret@127.0.0.1:1/mlflow")
        assert "secret" not in said
        assert "127.0.0.1:1/mlflow: can't be used (" in said
        assert said.endswith("is it reachable, user and password right?")


def test_too_little_space_for_an_upgrade_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store(tmp_path / "a.db", min(schema.lineage(TRACKING).known - {HEAD}))
    size = path.stat().st_size
    monkeypatch.setattr("bench.migrate.snapshot._SPARE", 0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=size))
    assert f"{path}: no space to upgrade its copy: 0 MB wanted, 0 MB free in " in refused(f"sqlite:///{path}")


def test_the_revisions_are_read_without_mlflow() -> None:
    tracking, auth = schema.lineage(TRACKING), schema.lineage(AUTH)
    assert tracking.head in tracking.known
    assert "97727af70f4d" in tracking.known  # MLflow 2.0
    assert {"8606fa83a998", auth.head} <= auth.known
