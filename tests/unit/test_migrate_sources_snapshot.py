"""A snapshot is what was committed, in whatever state the file is; the file and its folder are never written to."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from sqlite_files import ROWS, Written, rows, state

from bench.errors import BadInput
from bench.migrate.snapshot import Snapshot, take_snapshot


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The source's folder."""
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where the snapshot goes."""
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch" / "copy.db"


def taken(source: Path, copy: Path, patience_s: float = 5.0) -> Snapshot:
    """A snapshot that left everything about the source as it was."""
    before = state(source.parent)
    try:
        return asyncio.run(take_snapshot(source, copy, patience_s))
    finally:
        assert state(source.parent) == before


@pytest.mark.parametrize(
    ("mode", "end", "beside"),
    [
        ("delete", "clean", set()),
        ("delete", "open", set()),
        ("truncate", "open", {"-journal"}),
        ("persist", "open", {"-journal"}),
        ("wal", "open", {"-wal", "-shm"}),
        ("wal", "killed", {"-wal", "-shm"}),
        ("wal", "killed, no index", {"-wal"}),
        ("wal", "clean", set()),
        ("delete", "in the middle", {"-journal"}),
        ("wal", "in the middle", {"-wal", "-shm"}),
    ],
)
def test_what_was_committed_is_in_the_snapshot(mode: str, end: str, beside: set[str], place: Path, copy: Path) -> None:
    writer = Written(place / "a.db", mode, end)
    dead = end == "in the middle" or end.startswith("killed")
    try:
        if dead:
            writer.kill()
        if end == "killed, no index":
            (place / "a.db-shm").unlink()
        assert {path.name.removeprefix("a.db") for path in place.iterdir()} == beside | {""}
        found = taken(place / "a.db", copy)
        assert found.undone is (mode == "delete" and dead)
        assert rows(copy) == [(n, "x" * 500) for n in range(1, ROWS + 1)]
        assert [path.name for path in copy.parent.iterdir()] == ["copy.db"]
    finally:
        writer.kill()


def test_a_hot_journal_makes_a_difference(place: Path, copy: Path) -> None:
    """The planted defect of the test above: without its journal the file holds half a transaction."""
    Written(place / "a.db", "delete", "in the middle").kill()
    (place / "a.db-journal").unlink()
    taken(place / "a.db", copy)
    assert {text[0] for _, text in rows(copy)} == {"x", "y"}


def test_a_transaction_that_is_under_way_is_not_in_it_and_goes_on(place: Path, copy: Path) -> None:
    Written(place / "a.db", "delete", "clean").kill()
    with closing(sqlite3.connect(place / "a.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO t(b) VALUES ('mine')")  # in the cache, with a journal that is not hot
        assert not taken(place / "a.db", copy).undone
        writer.execute("COMMIT")
    assert len(rows(copy)) == ROWS
    assert len(rows(place / "a.db")) == ROWS + 1


_INSERTS = """
import json, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
longest = acknowledged = 0
print("ready", flush=True)
while acknowledged < 100_000:
    began = time.monotonic()
    connection.execute("INSERT INTO t(b) VALUES ('mine')")
    longest = max(longest, time.monotonic() - began)
    acknowledged += 1
    if acknowledged % 20 == 0:
        print(acknowledged, longest, flush=True)
"""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_writer_loses_nothing_and_waits_no_longer_than_is_told(mode: str, place: Path, copy: Path) -> None:
    path = place / "a.db"
    Written(path, mode, "clean").kill()
    with closing(sqlite3.connect(path)) as connection:  # large enough for a writer to meet the lock
        connection.executemany("INSERT INTO t(b) VALUES (?)", (("y" * 4000,) for _ in range(10_000)))
        connection.commit()
    before = len(rows(path))
    writer = subprocess.Popen(
        [sys.executable, "-c", _INSERTS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        acknowledged = int(writer.stdout.readline().split()[0])
        began = time.monotonic()
        found = asyncio.run(take_snapshot(path, copy))
        took = time.monotonic() - began
        after, longest = 0, 0.0
        while after < acknowledged + 100:  # it goes on
            words = writer.stdout.readline().split()
            after, longest = int(words[0]), float(words[1])
    finally:
        writer.kill()
        writer.communicate()
    held = len(rows(copy))
    assert before + acknowledged <= held <= len(rows(path))
    assert len(rows(path)) >= before + after
    numbers = [number for number, _ in rows(copy)]
    assert numbers == list(range(1, held + 1))  # everything up to a moment
    assert 0 < found.held_s < took
    assert longest < found.held_s + 1.0  # SQLite's own busy handler sleeps 0.1 s at a time, and the disk syncs


def test_an_exclusive_writer_is_waited_for_and_named(place: Path, copy: Path) -> None:
    writer = Written(place / "a.db", "delete", "exclusive")
    try:
        with pytest.raises(BadInput) as caught:
            taken(place / "a.db", copy, 0.3)
    finally:
        writer.kill()
    assert f"locked: process {writer.process.pid} has kept it for 0 s" in str(caught.value)
    assert str(caught.value).startswith(f"sqlite:///{place}/a.db: ")
    assert not copy.exists()


def test_a_writer_that_ends_in_time_is_waited_out(place: Path, copy: Path) -> None:
    writer = Written(place / "a.db", "delete", "exclusive")

    async def both() -> Snapshot:
        task = asyncio.create_task(take_snapshot(place / "a.db", copy, 20))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(writer.kill)
        return await task

    assert asyncio.run(both()).waited_s > 0
    assert len(rows(copy)) == ROWS


def test_an_index_that_turns_up_in_the_middle_means_once_more(place: Path, copy: Path) -> None:
    """Nobody had the file open when its copy began; who opens it then may write a checkpoint into it."""
    from bench.migrate import snapshot_child

    Written(place / "a.db", "wal", "clean").kill()
    with pytest.MonkeyPatch.context() as patch:
        real, calls = snapshot_child._copy, list[str]()

        def opened_meanwhile(file: int, target: Path) -> None:
            real(file, target)
            calls.append(target.name)
            if len(calls) == 1:
                (place / "a.db-shm").touch()
            else:
                (place / "a.db-shm").unlink(missing_ok=True)

        patch.setattr(snapshot_child, "_copy", opened_meanwhile)
        snapshot_child.take(place / "a.db", copy, 5.0)
    assert calls == ["copy.db", "copy.db"]
    assert len(rows(copy)) == ROWS


def test_where_the_kernel_does_not_copy_we_do(place: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.migrate import snapshot_child

    def refused(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    Written(place / "a.db", "delete", "clean").kill()
    monkeypatch.setattr(os, "copy_file_range", refused)
    snapshot_child.take(place / "a.db", copy, 5.0)
    assert copy.read_bytes() == (place / "a.db").read_bytes()


def _damage(path: Path, what: str) -> None:
    """Plant a defect."""
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[16:18], "big")
    if what == "a page":
        content[3 * size : 4 * size] = b"\xff" * size
    elif what == "the end":
        content = content[: len(content) - 5 * size]
    elif what == "the schema":
        content[100:200] = b"\x01" * 100
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("what", "says"), [("a page", "is corrupt: table t: "), ("the end", "is corrupt: "), ("the schema", "is corrupt: ")]
)
def test_a_corrupt_file_is_refused_with_the_table(what: str, says: str, place: Path, copy: Path) -> None:
    Written(place / "a.db", "delete", "clean").kill()
    _damage(place / "a.db", what)
    with pytest.raises(BadInput) as caught:
        taken(place / "a.db", copy)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_that_a_check_forbids_is_no_damage(place: Path, copy: Path) -> None:
    """It is for a preflight to name its row."""
    with closing(sqlite3.connect(place / "a.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT CHECK (b IN ('0', '1')))")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("INSERT INTO t VALUES (1, 'true')")
    taken(place / "a.db", copy)
    assert rows(copy) == [(1, "true")]


def test_an_index_that_lacks_a_row_is_found(place: Path, copy: Path) -> None:
    with closing(sqlite3.connect(place / "a.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        connection.execute("CREATE INDEX of_b ON t (b)")
        connection.executemany("INSERT INTO t(b) VALUES (?)", [("x",)] * 10)
        entry = connection.execute("SELECT * FROM sqlite_master WHERE name = 'of_b'").fetchone()
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = 'of_b'")
    with closing(sqlite3.connect(place / "a.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM t WHERE a = 5")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", entry)
    with pytest.raises(BadInput, match="table t has 9 rows, its index of_b 10"):
        taken(place / "a.db", copy)


def _refusals(place: Path) -> Iterator[tuple[str, Path, str]]:
    (place / "text").write_text("this is no database, and never was one" * 50)
    (place / "empty").touch()
    (place / "folder").mkdir()
    os.mkfifo(place / "pipe")
    yield "missing", place / "missing", "no such file"
    yield "text", place / "text", "is not a SQLite database"
    yield "empty", place / "empty", "is empty (0 bytes)"
    yield "folder", place / "folder", "is a folder; give a file's URL"
    yield "pipe", place / "pipe", "is not a file"


def test_what_is_no_database_is_refused_in_one_line(place: Path, copy: Path) -> None:
    for name, path, says in _refusals(place):
        with pytest.raises(BadInput) as caught:
            asyncio.run(take_snapshot(path, copy))
        assert f"{name}: {says}" in str(caught.value)
        assert ";" in str(caught.value) or "give" in str(caught.value)
        assert not copy.exists()


_AS_NOBODY = """
import os, sys
from pathlib import Path
from bench.migrate import snapshot_child
if os.geteuid() == 0:
    os.seteuid(65534)
sys.exit(snapshot_child.main(Path(sys.argv[1]), Path(sys.argv[2]), 1.0))
"""


def test_a_file_that_we_may_not_read_is_refused(place: Path, copy: Path) -> None:
    Written(place / "a.db", "delete", "clean").kill()
    (place / "a.db").chmod(0)
    words = str(place / "a.db"), str(copy)
    told = subprocess.Popen(
        [sys.executable, "-c", _AS_NOBODY, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert told.wait(20) == 2
    assert "can't be read (Permission denied); run as a user who may read it" in told.communicate()[0]


def test_too_little_space_is_told_before(place: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Written(place / "a.db", "delete", "clean").kill()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(BadInput, match=r"no space for its snapshot: 0 MB wanted, 1 MB free in .*; set TMPDIR"):
        taken(place / "a.db", copy)


_OWNER = """
import asyncio, sys
from pathlib import Path
from bench.migrate.sources import open_source

async def main():
    print("asking", flush=True)
    async with open_source("sqlite:///" + sys.argv[1], patience_s=60):
        print("open", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_killed_owner_leaves_no_child_no_folder_and_the_source_as_it_was(place: Path, tmp_path: Path) -> None:
    writer = Written(place / "a.db", "delete", "exclusive")
    before = state(place)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(place / "a.db")],
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(temporary), "TRACKBENCH_CACHE": str(tmp_path / "cache")},
        cwd=Path(__file__).parents[2],
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"asking\n"
        _soon(lambda: any("snapshot_child" in str(one.cmdline()) for one in _children(owner.pid)))
        children = _children(owner.pid)
        owner.kill()
        owner.communicate()
        assert not psutil.wait_procs(children, 10)[1]
        _soon(lambda: not list(temporary.glob("**/mlflow.db*")))
        assert state(place) == before
    finally:
        owner.kill()
        writer.kill()


def _children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def _soon(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
