"""Upgrades rehearsed on real databases: MLflow's own, and a newer MLflow's whose migrations are planted."""

import asyncio
import hashlib
import json
import shutil
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import LEAVES_SECONDS, Command
from stores import Park, connected, opened, wait_until

from bench import cli
from bench.migrate.catalog import TRACKING
from bench.migrate.rehearsal import rehearse
from bench.stores import schema
from bench.stores.url import StoreUrl

HEAD = schema.lineage(TRACKING).head
FAR = "acf3f17fdcc7"  # MLflow 2.10's

# Migrations of a newer MLflow. A long one is killed in the middle, where it sleeps.
BLOCKED = """
    op.create_table("half_done", sa.Column("id", sa.Integer, primary_key=True))
    time.sleep(1)
    op.add_column("half_done", sa.Column("more", sa.Integer))
"""
HARMLESS = """
    time.sleep(1)
    op.create_table("whole", sa.Column("id", sa.Integer, primary_key=True))
"""
TWICE = """
    with op.get_context().autocommit_block():
        op.execute("UPDATE experiments SET name = name || '!'")
    time.sleep(1)
"""
BY_CHANCE = """
    time.sleep(1)
    op.execute(f"UPDATE experiments SET name = '{uuid.uuid4()}'")
"""
FAILS = """
    op.execute("SELECT 'hunter2' FROM nothing_of_that_name")
"""
ENDLESS = """
    time.sleep(600)
"""


def newer(folder: Path, *migrations: str) -> Path:
    """A Python whose MLflow is ours with further migrations: the packages are links, the migrations a copy."""
    found = find_spec("mlflow")
    assert found is not None
    assert found.origin is not None
    ours, head = Path(found.origin).parent, HEAD
    here = folder / "newer" / "mlflow"
    versions = Path("store", "db_migrations", "versions")
    for part in (Path(), *reversed(versions.parents[:-1])):
        (here / part).mkdir(parents=True, exist_ok=True)
        for child in (ours / part).iterdir():
            inside = part / child.name
            if child.name != "__pycache__" and inside not in (versions, *versions.parents):
                (here / inside).symlink_to(child)
    shutil.copytree(ours / versions, here / versions, ignore=shutil.ignore_patterns("__pycache__"))
    for number, body in enumerate(migrations, 1):
        (here / versions / f"planted{number}.py").write_text(
            "import time, uuid\nimport sqlalchemy as sa\nfrom alembic import op\n"
            f"revision = 'planted{number}'\ndown_revision = '{head}'\n\ndef upgrade():{body}"
        )
        head = f"planted{number}"
    python = folder / "newer" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={python.parent} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


@pytest.fixture
def store(park: Park, tmp_path: Path) -> StoreUrl:
    return park.fresh("sqlite", tmp_path)


def bits(url: StoreUrl) -> str:
    assert url.path is not None
    return hashlib.sha256(url.path.read_bytes()).hexdigest()


def silent(_: str) -> None:
    """Tells nobody."""


@pytest.mark.slow
def test_half_a_migration_that_blocks_the_next_upgrade_is_found(
    store: StoreUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    python, before = newer(tmp_path, BLOCKED), bits(store)
    words = ["trackbench", "rehearse-upgrade", f"sqlite:///{store.path}", "--mlflow", str(python), "--json"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = json.loads(capsys.readouterr().out)
    assert (ended.value.code, told["exit_code"], told["outcome"]) == (1, 1, "blocked")
    assert (told["revision"], told["head"], told["migrations"]) == (HEAD, "planted1", 1)
    (kill,) = told["kills"]
    assert kill["during"] == "planted1"
    assert kill["left"] == {
        "revision": HEAD, "new_tables": ["half_done"], "gone_tables": [], "stray_tables": []
    }  # fmt: skip
    assert "table half_done already exists" in kill["words"]
    assert bits(store) == before  # the store itself is only read


@pytest.mark.slow
def test_each_kill_is_judged_by_itself(store: StoreUrl, tmp_path: Path) -> None:
    python = newer(tmp_path, HARMLESS, BLOCKED)
    found = asyncio.run(rehearse(store, python, 2, silent))
    assert [kill.during for kill in found.kills] == ["planted1", "planted2"]
    assert [kill.outcome for kill in found.kills] == ["recovered", "blocked"]
    assert found.outcome == "blocked"
    assert [step.revision for step in found.steps][:2] == [HEAD, "planted1"]


@pytest.mark.slow
def test_a_second_upgrade_that_ends_well_with_other_rows_is_found(store: StoreUrl, tmp_path: Path) -> None:
    with connected(store) as cursor:
        cursor.execute("INSERT INTO experiments (experiment_id, name) VALUES (7, 'seven')")
    found = asyncio.run(rehearse(store, newer(tmp_path, TWICE), 1, silent))
    assert found.outcome == "differs"
    proof = found.kills[0].proof
    assert proof is not None
    named = {(row.table, cell.column): (cell.source, cell.target) for row in proof.rows for cell in row.cells}
    assert named["experiments", "name"] in {('"seven!"', '"seven!!"'), ('"Default!"', '"Default!!"')}
    assert found.unstable == []


@pytest.mark.slow
def test_what_no_two_upgrades_fill_alike_is_no_damage(store: StoreUrl, tmp_path: Path) -> None:
    with connected(store) as cursor:
        cursor.execute("DELETE FROM experiments")
        cursor.execute("INSERT INTO experiments (experiment_id, name) VALUES (7, 'seven')")
    found = asyncio.run(rehearse(store, newer(tmp_path, BY_CHANCE), 1, silent))
    assert found.outcome == "recovered"
    assert found.unstable == ["experiments.name"]


@pytest.mark.slow
def test_an_upgrade_that_fails_by_itself_is_told_without_its_statement(store: StoreUrl, tmp_path: Path) -> None:
    found = asyncio.run(rehearse(store, newer(tmp_path, FAILS), 1, silent))
    assert found.outcome == "failed"
    assert found.failure == "(sqlite3.OperationalError) no such table: nothing_of_that_name"


@pytest.mark.slow
def test_nothing_stays_of_a_rehearsal_that_is_killed(store: StoreUrl, tmp_path: Path, public_tmp: Path) -> None:
    python = newer(tmp_path, ENDLESS)
    arguments = ["rehearse-upgrade", f"sqlite:///{store.path}", "--mlflow", str(python)]
    with Command(public_tmp / "rehearsal", tmp_path / "out", *arguments) as command:
        command.until("/trackbench-rehearsal-*/copy1.db")
        children = [one for one in command.offspring() if one.pid != command.process.pid]
        assert children
        command.send(signal.SIGKILL)
        command.wait()
        wait_until(lambda: not any(one.is_running() for one in children), "end of the upgrade", LEAVES_SECONDS)


async def with_hypertable(url: StoreUrl) -> None:
    async with opened(url) as (store, session):
        await store.misfit(session, empty=True)
        await store.after_schema(session)


def filled(url: StoreUrl) -> None:
    """Rows as MLflow 2.10 left them."""
    key, mark = ("`key`" if url.store == "mysql" else "key"), ("?" if url.path else "%s")
    run = "a" * 32
    with connected(url) as cursor:
        for experiment in (0, 1):
            cursor.execute(
                f"INSERT INTO experiments (experiment_id, name, lifecycle_stage) SELECT {experiment}, 'e{experiment}', "
                f"'active' WHERE NOT EXISTS (SELECT 1 FROM experiments WHERE experiment_id = {experiment})"
            )
        cursor.execute(f"INSERT INTO runs (run_uuid, experiment_id, lifecycle_stage) VALUES ('{run}', 1, 'active')")
        cursor.executemany(
            f"INSERT INTO metrics ({key}, value, timestamp, run_uuid, step, is_nan) "
            f"VALUES ('m', {mark}, {mark}, '{run}', 0, {mark})",
            [(number * 0.1, 1_700_000_000_000 + number, False) for number in range(2000)],
        )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["sqlite", "postgresql", "timescaledb", "mysql"])
def test_mlflows_own_upgrade_of_an_old_store(name: str, park: Park, tmp_path: Path) -> None:
    url = park.empty(name, tmp_path)
    asyncio.run(schema.create_at(url, TRACKING, FAR))
    if name == "timescaledb":
        asyncio.run(with_hypertable(url))
    filled(url)
    found = asyncio.run(rehearse(url, None, 2, silent))
    assert found.failure is None
    assert (found.revision, found.migrations) == (FAR, 44)
    assert found.rows > 2001
    assert all(kill.at_s is not None and kill.left is not None for kill in found.kills)
    if name == "mysql":  # which statement is cut is chance; that each is committed shows in what is left
        assert all(kill.left.new_tables for kill in found.kills if kill.left)
        assert found.outcome in ("recovered", "blocked")
    else:
        assert found.outcome == "recovered", found.kills


@pytest.mark.slow
def test_on_mysql_half_a_migration_stays(park: Park, tmp_path: Path) -> None:
    url = park.fresh("mysql", tmp_path)
    found = asyncio.run(rehearse(url, newer(tmp_path, BLOCKED), 1, silent))
    assert found.outcome == "blocked"
    assert "already exists" in found.kills[0].words
