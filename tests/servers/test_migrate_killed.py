"""Kills migrations at every step, and sees that the same call again ends with equal stores."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import migrate_killed
import migrated
import psutil
import pytest
from migrated import Prepared, move, nasty
from stores import Park, wait_until

from bench.migrate.catalog import OURS, reflect
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers

POINTS = (
    ("snapshot", 1), ("preflight", 1), ("prepared", 1), ("begun", 1), ("schema", 1), ("emptied", 1), ("deferred", 1),
    ("saved", 2), ("sent", 3), ("saved", 4), ("sent", 9), ("restored", 1), ("numbered", 1), ("settled", 1),
    ("saved", 20), ("proved", 1), ("removed", 1),
)  # fmt: skip
QUICK = {("sqlite", "schema", 1), ("sqlite", "sent", 9), ("postgresql", "saved", 4), ("postgresql", "restored", 1)}
SCRIPT = Path(migrate_killed.__file__)


@pytest.fixture(scope="module")
def prepared(park: Park, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(park, tmp_path_factory.mktemp("schemas"))


@pytest.fixture
def source(tmp_path: Path) -> StoreUrl:
    return nasty(tmp_path / "source.db")


def killed(source: StoreUrl, target: StoreUrl, prepared: Prepared, point: str, number: int) -> bool:
    """Whether a migration got to this point, and was killed there; its children have ended as well."""
    words = [sys.executable, str(SCRIPT), point, str(number), source.mlflow]
    given = target.mlflow.replace("postgresql+psycopg2", target.store)
    environment = {
        migrate_killed.TARGET: given,
        migrated.PREPARED: str(prepared.file(target.store)),
        "PYTHONPATH": str(SCRIPT.parents[2]),
    }
    surroundings = os.environ | environment
    ended = subprocess.run(words, env=surroundings, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    wait_until(lambda: not list(_offspring(given)), "end of its children", 15)
    return ended.returncode != 0


def _offspring(given: str) -> Iterator[psutil.Process]:
    """Every process that it started: the target's URL came to all of them by environment."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(migrate_killed.TARGET) == given and process.status() != psutil.STATUS_ZOMBIE:
                yield process


@pytest.mark.parametrize(
    ("kind", "point", "number"),
    [
        pytest.param(kind, *point, marks=() if (kind, *point) in QUICK else pytest.mark.slow)
        for kind in ("sqlite", "postgresql", "timescaledb", "mysql")
        for point in POINTS
    ],
)
def test_a_second_call_ends_equal(
    source: StoreUrl, park: Park, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    kind: str, point: str, number: int,
) -> None:  # fmt: skip
    target = StoreUrl("sqlite", path=tmp_path / "target.db") if kind == "sqlite" else park.empty(kind, tmp_path)
    assert source.path is not None
    before = source.path.read_bytes()
    was_killed = killed(source, target, prepared, point, number)
    assert was_killed or (point, number) == ("saved", 20)
    assert source.path.read_bytes() == before
    if not was_killed or point == "removed":
        assert OURS not in reflect(target).tables
        return
    migrated.install(monkeypatch, prepared)
    found = move(source, target)
    assert found.proof is not None
    assert found.proof.equal, found.proof


@pytest.mark.parametrize(
    ("kind", "point", "number"),
    [
        pytest.param(kind, *point, marks=() if (kind, *point) == ("sqlite", "changed", 1) else pytest.mark.slow)
        for kind in ("sqlite", "postgresql", "mysql")
        for point in (("parked", 1), ("changed", 1), ("applied", 1))
    ],
)
def test_killed_while_changes_are_brought(
    source: StoreUrl, park: Park, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    kind: str, point: str, number: int,
) -> None:  # fmt: skip
    target = StoreUrl("sqlite", path=tmp_path / "target.db") if kind == "sqlite" else park.empty(kind, tmp_path)
    insert = (
        "INSERT INTO experiments (experiment_id, name, lifecycle_stage, workspace) VALUES (?, ?, 'active', 'default')"
    )
    assert source.path is not None
    with closing(sqlite3.connect(source.path)) as connection:
        connection.executemany(insert, [(101, "n1"), (102, "n2")])
        connection.commit()
    assert killed(source, target, prepared, "proved", 1)
    with closing(sqlite3.connect(source.path)) as connection:
        connection.execute("UPDATE experiments SET name = 'n3' WHERE experiment_id = 101")
        connection.execute("UPDATE experiments SET name = 'n1' WHERE experiment_id = 102")
        connection.execute("UPDATE experiments SET name = 'n2' WHERE experiment_id = 101")
        connection.commit()
    assert killed(source, target, prepared, point, number)
    migrated.install(monkeypatch, prepared)
    found = move(source, target)
    assert found.proof is not None
    assert found.proof.equal, found.proof
