"""Our virtual file system is asked for what SQLite's own is asked for, and a commit is what SQLite says it is."""
# ruff: noqa: N802 -- the methods of a VFS have SQLite's names

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from planted import mlflow_schema
from power_cuts import recorded

from bench.faults.power.disk import Disk
from bench.faults.power.recording import Recording
from bench.faults.power.session import DATABASE, DiskStore
from bench.faults.power.vfs import DiskVfs


def steps(recording: Recording, number: int) -> list[str]:
    """The events of one commit, without offsets; writes that follow each other in one file are one."""
    commit = recording.commits[number]
    found = [f"{one.kind} {one.name}".strip() for one in recording.log[commit.begun : commit.acknowledged]]
    return [step for place, step in enumerate(found) if place == 0 or found[place - 1] != step]


def test_what_a_commit_does_to_the_disk():
    journal = "mlflow.db-journal"
    full = [
        f"create {journal}", f"write {journal}", f"sync {journal}", "sync directory", f"write {journal}",
        f"sync {journal}", "write mlflow.db", "sync mlflow.db", f"delete {journal}",
    ]  # fmt: skip
    assert steps(recorded("delete", "full"), 1) == full
    assert steps(recorded("delete", "extra"), 1) == [*full, "sync directory"]
    wal = ["write mlflow.db-wal", "sync mlflow.db-wal"]
    begun = [*wal, "sync directory"]  # with its header
    full_wal = recorded("wal", "full", commits=4)
    assert steps(full_wal, 0) == ["create mlflow.db-wal", *begun, *wal]
    assert steps(full_wal, 1) == wal
    assert steps(full_wal, 2) == [*wal, *wal]  # from its beginning again, after the checkpoint
    assert steps(recorded("wal", "normal", commits=4), 1) == ["write mlflow.db-wal"]


class SpyFile(apsw.VFSFile):
    def __init__(self, seen: list[tuple[Any, ...]], name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._seen = seen
        self._name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name).name

    def xWrite(self, data: Any, offset: int) -> None:
        self._seen.append(("write", self._name, offset, len(data)))
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._seen.append(("sync", self._name, 0, 0))
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:
        self._seen.append(("truncate", self._name, size, 0))
        super().xTruncate(size)


class Spy(apsw.VFS):
    """SQLite's own unix VFS on real files; ``seen`` is what SQLite asked it to do."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        super().__init__("spy", "unix")

    def xOpen(self, name: Any, flags: list[int]) -> SpyFile:
        return SpyFile(self.seen, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.seen.append(("delete", Path(filename).name, 0, 0))
        super().xDelete(filename, syncdir)


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL", "FULL", "EXTRA"])
@pytest.mark.parametrize("journal_mode", ["DELETE", "TRUNCATE", "PERSIST", "WAL", "MEMORY"])
def test_sqlite_asks_our_vfs_for_what_it_asks_its_own(journal_mode, synchronous, tmp_path):
    """So our sectors and characteristics are those of unix: they decide what SQLite writes and syncs."""
    statements = ["PRAGMA locking_mode = EXCLUSIVE"] * (journal_mode == "WAL")
    statements += [f"PRAGMA journal_mode = {journal_mode}", f"PRAGMA synchronous = {synchronous}"]
    statements += [f"INSERT INTO tags (key, value, run_uuid) VALUES ('{n}', 'v', 'r')" for n in range(3)]
    statements += ["PRAGMA wal_checkpoint", "UPDATE tags SET value = hex(zeroblob(5000))", "DELETE FROM tags"]
    path = tmp_path / DATABASE
    path.write_bytes(mlflow_schema())
    disk = Disk({DATABASE: mlflow_schema()})
    spy, ours = Spy(), DiskVfs(disk)
    for vfs, name in ((spy, str(path)), (ours, DATABASE)):
        with closing(apsw.Connection(name, vfs=vfs.name if vfs is ours else "spy")) as db:
            for statement in statements:
                db.execute(statement)
        vfs.unregister()
    places = {"truncate": lambda one: one.size, "write": lambda one: one.offset}
    log = [
        (one.kind, one.name, places.get(one.kind, lambda _: 0)(one), len(one.data))
        for one in disk.log
        if one.kind not in ("create", "sync directory")
    ]
    assert log == spy.seen
    assert {name: disk.files[file].now for name, file in disk.entries.items() if file is not None}.keys() == {
        one.name for one in tmp_path.iterdir()
    }


def test_an_error_of_sqlites_names_what_is_missing():
    vfs = DiskVfs(Disk({}))
    with pytest.raises(apsw.CantOpenError):
        asyncio.run(DiskStore(vfs).connect())
    with pytest.raises(apsw.IOError) as found:
        vfs.xDelete("nothing", False)
    assert found.value.extendedresult == apsw.SQLITE_IOERR_DELETE_NOENT
    vfs.unregister()
