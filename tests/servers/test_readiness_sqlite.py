"""`trackbench readiness` on a SQLite file, and the command itself."""

import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from ready import checks, fill, look, not_looked_at, outcomes
from stores import Park, sql

from bench import cli
from bench.errors import BadInput
from bench.readiness.backup_sqlite import SqliteBackup
from bench.readiness.check import Readiness
from bench.servers import RunningServer
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers
Fresh = Callable[[str], StoreUrl]


def test_a_sqlite_file_and_its_backup(fresh: Fresh) -> None:
    url = fresh("sqlite")
    assert url.path is not None
    fill(url)
    url.path.chmod(0o600)
    found = checks(url, backup=True)
    assert not_looked_at(found) == []
    names = ("permissions", "integrity", "backup", "structure", "revision", "growth", "sizes", "version")
    assert [found[name].outcome for name in names] == ["pass"] * len(names)
    assert "restored and equal, 305 rows in 64 tables" in found["backup"].found
    assert (found["journal"].outcome, found["durability"].outcome) == ("warn", "warn")


def test_planted_defects_of_sqlite(fresh: Fresh, tmp_path: Path) -> None:
    url = fresh("sqlite")
    assert url.path is not None
    fill(url)
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    url.path.replace(folder / "mlflow.db")
    url = replace(url, path=folder / "mlflow.db")
    tmp_path.chmod(0o755)
    (folder / "mlflow.db").chmod(0o666)
    sql(url, "PRAGMA journal_mode = WAL")
    sql(url, "DROP INDEX index_metrics_run_uuid_key_step")
    sql(url, "UPDATE alembic_version SET version_num = 'nonsense'")
    found = checks(url)
    assert [found[name].outcome for name in ("permissions", "journal", "revision")] == ["fail", "pass", "unknown"]
    sql(url, "UPDATE alembic_version SET version_num = 'dc11669786a5'")
    (folder / "mlflow.db").chmod(0o644)
    assert outcomes(url, "permissions", "revision", "structure") == ["warn", "pass", "fail"]


def test_a_damaged_page_is_found(fresh: Fresh) -> None:
    url = fresh("sqlite")
    assert url.path is not None
    fill(url, runs=20, metrics=200)
    with closing(sqlite3.connect(url.path)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'index_metrics_run_uuid'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with url.path.open("r+b") as file:
        file.seek((page - 1) * size + 12)
        file.write(b"\xff" * 64)
    found = checks(url)["integrity"]
    assert found.outcome == "fail"


def test_what_is_written_to_sqlite_between_backup_and_comparison_is_unknown_not_fail(
    fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh("sqlite")
    fill(url)
    dump, restore = SqliteBackup.dump, SqliteBackup.restore

    async def meanwhile(self: SqliteBackup, moment: object, folder: Path) -> Path:
        sql(url, "DELETE FROM metrics WHERE step = 7")
        return await dump(self, moment, folder)  # type: ignore[arg-type]

    async def badly(self: SqliteBackup, file: Path, server: RunningServer | None) -> StoreUrl:
        restored = await restore(self, file, server)
        sql(restored, "UPDATE runs SET name = 'Run 1' WHERE name = 'run 1'")
        return restored

    with monkeypatch.context() as patched:
        patched.setattr(SqliteBackup, "dump", meanwhile)
        found = checks(url, backup=True)["backup"]
    assert (found.outcome, "written to meanwhile" in found.found) == ("unknown", True)
    monkeypatch.setattr(SqliteBackup, "restore", badly)
    found = checks(url, backup=True)["backup"]
    assert (found.outcome, "runs has 1 rows changed" in found.found) == ("fail", True)
    assert 'name was "run 1", is "Run 1"' in found.found


def test_too_little_scratch_space(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.readiness import backup

    monkeypatch.setattr(backup, "_SERVER_BYTES", 0)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000, "total": 2000})())
    found = checks(fresh("sqlite"), backup=True)["backup"]
    assert (found.outcome, "scratch space" in found.found) == ("unknown", True)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["trackbench", "readiness", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_command_prints_the_worst_first_and_ends_with_it(
    fresh: Fresh, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = fresh("sqlite")
    monkeypatch.setenv("COLUMNS", "150")
    assert command(monkeypatch, str(url), "--no-backup") == 0
    out = capsys.readouterr().out
    assert out.index("warn") < out.index("pass")
    assert "What to do" in out
    assert "ready: " in out.splitlines()[-1]
    sql(url, "DROP INDEX index_metrics_run_uuid_key_step")
    assert command(monkeypatch, str(url), "--no-backup", "--json") == 1
    found = Readiness.model_validate(json.loads(capsys.readouterr().out))
    assert found.worst == "fail"
    sql(url, "UPDATE alembic_version SET version_num = 'nonsense'")
    assert command(monkeypatch, str(url), "--no-backup") == 3
    assert "not known to be ready" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("sqlite:////nowhere/mlflow.db", "no such file"),
        ("sqlite:////etc/hostname", "can't be"),
        ("postgresql://u:hunter2@127.0.0.1:1/d", "can't be used"),
        ("mysql://u:hunter2@127.0.0.1:1/d", "can't be used"),
        ("env:NO_SUCH_VARIABLE", "not set"),
        ("oracle://h/d", "unknown scheme"),
    ],
)
def test_bad_input_is_one_line(
    url: str, part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, url) == 2
    err = capsys.readouterr().err
    assert part in err
    assert len(err.splitlines()) == 1
    assert "hunter2" not in err


def test_a_database_that_is_not_mlflows_is_refused(park: Park, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is empty"):
        look(park.empty("sqlite", tmp_path))
    with pytest.raises(BadInput, match="is empty"):
        look(park.empty("postgresql", tmp_path))
