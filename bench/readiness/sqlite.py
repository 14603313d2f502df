"""What a SQLite file is asked: where it lies, who may touch it, whether it is whole, and how it commits."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from bench.readiness import growth, safety
from bench.readiness.backup import Backup
from bench.readiness.backup_sqlite import SqliteBackup
from bench.readiness.check import Check, Outcome
from bench.readiness.database import Database
from bench.readiness.growth import Size
from bench.readiness.places_here import disk_at
from bench.readiness.scene import Question, listed

_NETWORK = frozenset({
    "nfs", "nfs3", "nfs4", "cifs", "smb", "smb3", "smbfs", "afs", "ncpfs", "9p", "glusterfs", "ceph", "lustre",
    "gpfs", "beegfs", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.goofys",
    "virtiofs", "vboxsf", "prl_fs",
})  # fmt: skip
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
_MOUNTS = Path("/proc/self/mountinfo")


class Sqlite(Database):
    """SQLite's questions. There is no server, so nobody logs in."""

    async def collect(self) -> None:
        assert self.scene.url.path is not None
        self.path = self.scene.url.path
        fetch = self.scene.session.fetch
        self.journal = str((await fetch("PRAGMA journal_mode"))[0][0])
        self.names = [str(row[0]) for row in await fetch(_TABLES)]

    def questions(self) -> list[Question]:
        return [
            Question("permissions", "Who may touch the file", self.permissions),
            Question("file_system", "File system", self.file_system),
            Question("integrity", "The file is whole", self.integrity),
            Question("durability", "Acknowledged writes survive", self.durability),
            Question("journal", "Journal", self.journal_mode),
            Question("sizes", "Table sizes and growth", self.sizes),
            Question("point_in_time", "Recovery to a point in time", self.point_in_time),
        ]

    async def permissions(self) -> list[Check]:
        title = "Who may touch the file"
        files = [Path(f"{self.path}{tail}") for tail in ("", "-journal", "-wal", "-shm")]
        modes = {path: path.stat().st_mode for path in [*files, self.path.parent] if path.exists()}
        writable = [str(path) for path, mode in modes.items() if mode & stat.S_IWOTH and not _is_sticky(mode)]
        readable = [str(path) for path, mode in modes.items() if mode & stat.S_IROTH and path != self.path.parent]
        closed = not modes[self.path.parent] & stat.S_IXOTH
        found = f"{stat.filemode(modes[self.path])} owned by user {self.path.stat().st_uid}"
        remedy = f"chmod 600 {self.path}; chmod 700 {self.path.parent}"
        if writable and not closed:
            what = f"{found}; everybody on this machine may write to {listed(writable)}"
            return [Check(name="permissions", title=title, outcome="fail", found=what, remedy=remedy)]
        if readable and not closed:
            what = f"{found}; everybody on this machine may read it, and the params and traces in it"
            return [Check(name="permissions", title=title, outcome="warn", found=what, remedy=remedy)]
        return [Check(name="permissions", title=title, outcome="pass", found=found)]

    async def file_system(self) -> list[Check]:
        title = "File system"
        kind = file_system_of(self.path)
        if kind is None:
            remedy = "see that the file is on a disk of this machine: df -T, or mount"
            found = "this system does not tell"
            return [Check(name="file_system", title=title, outcome="unknown", found=found, remedy=remedy)]
        if kind in _NETWORK:
            found = f"{kind}: a network file system, whose locks SQLite can't rely on; two hosts may corrupt the file"
            remedy = "move the file to a local disk, or the store to a database server: trackbench migrate"
            return [Check(name="file_system", title=title, outcome="fail", found=found, remedy=remedy)]
        if kind in ("tmpfs", "ramfs", "overlay"):
            found = f"{kind}: it is gone with the machine or its container"
            remedy = "put the file on a disk (a volume)"
            return [Check(name="file_system", title=title, outcome="warn", found=found, remedy=remedy)]
        return [Check(name="file_system", title=title, outcome="pass", found=f"{kind}, local")]

    async def integrity(self) -> list[Check]:
        """Reads the whole file once; writers in rollback mode wait for as long."""
        title = "The file is whole"
        rows = [str(row[0]) for row in await self.scene.session.fetch("PRAGMA quick_check(5)")]
        if rows == ["ok"]:
            return [Check(name="integrity", title=title, outcome="pass", found="PRAGMA quick_check: ok")]
        remedy = f"stop MLflow, keep a copy, then restore a backup; else: sqlite3 {self.path} .recover | sqlite3 new.db"
        found = f"PRAGMA quick_check: {listed(rows, 2)}"
        return [Check(name="integrity", title=title, outcome="fail", found=found, remedy=remedy)]

    async def durability(self) -> list[Check]:
        store = self.scene.store
        promised = store.durability(await store.settings(self.scene.session))
        return [safety.durability(promised, "a database server, or a file system and disk with power-loss protection")]

    async def journal_mode(self) -> list[Check]:
        title = "Journal"
        if self.journal == "wal":
            found = "wal: readers and one writer don't wait for each other; on one machine only"
            return [Check(name="journal", title=title, outcome="pass", found=found)]
        outcome: Outcome = "fail" if self.journal in ("off", "memory") else "warn"
        found = f"{self.journal}: one writer, and all readers wait for it"
        remedy = (
            f"sqlite3 {self.path} 'PRAGMA journal_mode=WAL' (it stays; MLflow itself sets none, and with its "
            "synchronous=FULL commits stay durable); several writers want a database server"
        )
        return [Check(name="journal", title=title, outcome=outcome, found=found, remedy=remedy)]

    async def sizes(self) -> list[Check]:
        fetch = self.scene.session.fetch
        tables = [
            Size(name, (await fetch(f'SELECT COUNT(*) FROM "{name}"'))[0][0], None)
            for name in self.names
            if not name.startswith("alembic")
        ]
        whole = await self.whole()
        disk = disk_at(self.path)
        checks = [growth.sizes(tables, whole), growth.disk_space(disk, whole, elsewhere=False)]
        if "metrics" in self.names:
            checks.insert(1, await growth.counted(growth.paces(self.scene), tables, whole, disk))
        return checks

    async def whole(self) -> int:
        return sum(path.stat().st_size for path in (self.path, Path(f"{self.path}-wal")) if path.exists())

    def backup(self) -> Backup:
        return SqliteBackup(self.scene)

    async def point_in_time(self) -> list[Check]:
        found = "SQLite keeps no log to go back by: what was written since the last backup is lost with the file"
        remedy = f"sqlite3 {self.path} \".backup '/elsewhere/mlflow-$(date +%F-%H).db'\" each hour, or litestream"
        title = "Recovery to a point in time"
        return [Check(name="point_in_time", title=title, outcome="warn", found=found, remedy=remedy)]


def _is_sticky(mode: int) -> bool:
    return stat.S_ISDIR(mode) and bool(mode & stat.S_ISVTX)


def file_system_of(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """The kind of file system under ``path``, or None where the system does not tell (no /proc)."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    best, kind = "", None
    where = os.path.realpath(path)
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")
        inside = where == point or where.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # the last one mounted there counts
            best, kind = point, after.split()[0]
    return kind
