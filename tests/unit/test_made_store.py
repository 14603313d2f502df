"""A store made from a seed is MLflow's in every respect, the same each time, and holds what it says."""

import json
import math
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.made_store import Made, make
from benchmarks.nasty_values import ALIKE, DOUBLES, INT64, JSONS, LONG, TEXTS, run

_MADE = Made(metrics=1_234, runs=20, seed=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two stores in it: plain.db and nasty.db."""
    folder = tmp_path_factory.mktemp("made")
    make(folder / "plain.db", _MADE)
    make(folder / "nasty.db", _MADE, nasty=True)
    return folder


@pytest.fixture(params=["plain", "nasty"])
def store(request: pytest.FixtureRequest, folder: Path) -> Iterator[sqlite3.Connection]:
    """Both in turn."""
    with closing(sqlite3.connect(folder / f"{request.param}.db")) as connection:
        yield connection


@pytest.fixture
def nasty(folder: Path) -> Iterator[sqlite3.Connection]:
    """The nasty one."""
    with closing(sqlite3.connect(folder / "nasty.db")) as connection:
        yield connection


def test_it_is_sound(store: sqlite3.Connection) -> None:
    assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert store.execute("PRAGMA foreign_key_check").fetchall() == []
    assert store.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_latest_metrics_are_those_of_the_metrics(store: sqlite3.Connection) -> None:
    latest = "SELECT key, run_uuid, step, timestamp, value, is_nan FROM latest_metrics ORDER BY key, run_uuid"
    rule = (
        "SELECT key, run_uuid, step, timestamp, value, is_nan FROM (SELECT *, row_number() OVER "
        "(PARTITION BY run_uuid, key ORDER BY step DESC, timestamp DESC, value DESC, is_nan) AS n FROM metrics) "
        "WHERE n = 1 ORDER BY key, run_uuid"
    )
    assert store.execute(latest).fetchall() == store.execute(rule).fetchall()


def test_metrics_and_runs_are_as_many_as_were_asked_for(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "plain.db")) as store:
        for table, rows in (("metrics", 1_234), ("runs", 20)):
            assert store.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (rows,)
        assert store.execute("SELECT COUNT(*) FROM metrics WHERE typeof(value) <> 'real'").fetchone() == (0,)
        assert store.execute("SELECT COUNT(*) FROM spans WHERE duration_ns > 0").fetchone()[0] > 0


def test_a_seed_makes_the_same_rows_and_another_makes_others(folder: Path, tmp_path: Path) -> None:
    make(tmp_path / "again.db", _MADE, nasty=True)
    make(tmp_path / "other.db", Made(1_234, 20, seed=8))
    assert _rows(tmp_path / "again.db") == _rows(folder / "nasty.db")
    assert _rows(tmp_path / "other.db")["metrics"] != _rows(folder / "plain.db")["metrics"]


def _rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as store:
        names = store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {name: store.execute(f'SELECT * FROM "{name}"').fetchall() for (name,) in names}


def test_no_table_of_a_nasty_store_is_empty(folder: Path) -> None:
    assert [name for name, rows in _rows(folder / "nasty.db").items() if not rows] == []


def test_nasty_values_are_there_to_the_bit(nasty: sqlite3.Connection) -> None:
    found = nasty.execute("SELECT value FROM metrics WHERE key = 'doubles' AND is_nan = 0").fetchall()
    assert {_bits(value) for (value,) in found} == {_bits(value + 0.0) for value in DOUBLES}
    assert nasty.execute("SELECT COUNT(*) FROM metrics WHERE key = 'doubles' AND is_nan").fetchone() == (1,)
    texts = nasty.execute("SELECT value FROM params WHERE run_uuid = ? ORDER BY rowid", (run(0),)).fetchall()
    assert [text for (text,) in texts] == [*TEXTS, *LONG]
    keys = nasty.execute("SELECT key FROM params WHERE run_uuid = ?", (run(1),)).fetchall()
    assert {key for (key,) in keys} == set(ALIKE)
    steps = {step for (step,) in nasty.execute("SELECT step FROM metrics")}
    assert steps >= set(INT64)


def _bits(value: float) -> bytes:
    return struct.pack(">d", value)


def test_the_nasty_values_are_what_they_are_said_to_be() -> None:
    assert len(set(ALIKE)) == len(ALIKE)
    folded = {text.casefold().strip() for text in ALIKE}
    assert len(folded) < len(ALIKE)
    assert any(math.nextafter(value, math.inf) in DOUBLES for value in DOUBLES)
    for text in JSONS:
        json.loads(text)


def test_a_file_is_never_written_over(folder: Path) -> None:
    before = (folder / "plain.db").read_bytes()
    with pytest.raises(FileExistsError, match="give another path"):
        make(folder / "plain.db", _MADE)
    assert (folder / "plain.db").read_bytes() == before


def test_nothing_is_left_of_one_that_failed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        make(tmp_path / "store.db", Made(metrics=1, runs=1, seed=-1))
    assert list(tmp_path.iterdir()) == []
