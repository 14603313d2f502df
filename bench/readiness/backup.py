"""A backup made by the database's own tool, restored into a scratch server of the same kind, and proved equal.

One file a database says how (`Backup`); what they have in common is here. Nothing of it stays, whatever ends it.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import servers
from bench.errors import BadInput
from bench.migrate.catalog import Catalog
from bench.readiness.check import Check
from bench.readiness.equality import Equality, compare
from bench.readiness.scene import Scene, amount, one_line
from bench.readiness.tools import ToolFailed
from bench.scratch import scratch_folder
from bench.servers import RunningServer, databases, places
from bench.stores.base import Session
from bench.stores.url import StoreUrl, parse

_TITLE = "Backup made and restored"
_DATABASE = "restored"
_SERVER_BYTES = 400_000_000  # an empty one, with its logs
_ELSEWHERE = "restore it into a server like yours (version, extensions), and compare by `trackbench verify`"
Echo = Callable[[str], None]


class NotPossible(Exception):
    """Why a backup can't be tried here, and what would make it possible."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.remedy = remedy


@dataclass
class Moment:
    """What a dump shows, or as near to it as can be: ``session`` is frozen at it."""

    session: Session
    options: dict[str, str] = field(default_factory=dict)


class Backup(ABC):
    """How one kind of database is dumped and restored."""

    kind: servers.Kind | None  # of the scratch server; None: a file will do

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    @abstractmethod
    async def prepare(self) -> None:
        """See whether it can be done. Raises NotPossible."""

    @abstractmethod
    def moment(self) -> AbstractAsyncContextManager[Moment]:
        """Hold the source still, for us alone: others go on writing."""

    @abstractmethod
    async def dump(self, moment: Moment, folder: Path) -> Path:
        """Write the backup into ``folder`` (mode 0700); the file. Raises ToolFailed."""

    @abstractmethod
    async def restore(self, file: Path, server: RunningServer | None) -> StoreUrl:
        """Bring it back into the empty server; where it is then. Raises ToolFailed or NotPossible."""

    async def written(self, moment: Moment) -> bool:
        """Whether something was written between the moment and the dump, where they are not the same."""
        return False


async def check(backup: Backup, catalog: Catalog, whole: int, echo: Echo) -> tuple[Check, Mapping[str, float]]:
    """The check and its times in seconds, as far as it came; ``whole`` is the size of the store in bytes.

    Whatever goes wrong is told by the check: the checks made before it are not lost with it.
    """
    seconds: dict[str, float] = {}
    try:
        await backup.prepare()
        _need_space(whole, backup.kind)
        found = await _tried(backup, catalog, seconds, echo)
    except NotPossible as error:
        return _unknown(str(error), error.remedy), seconds
    except servers.ServerFailed as error:
        return _unknown(f"no scratch server: {error}", "see `trackbench doctor`"), seconds
    except servers.CannotInstall as error:
        return _unknown(f"no scratch server: {error}", f"trackbench servers install {backup.kind}"), seconds
    except ToolFailed as error:
        remedy = "give the login the right to read all of its own tables, or make the backup as the database's owner"
        return Check(name="backup", title=_TITLE, outcome="fail", found=str(error), remedy=remedy), seconds
    except Exception as error:  # a driver's, a full disk, a store that can't be read to its end
        return _unknown(reason(error), "try again, or --no-backup", "not finished"), seconds
    return found, seconds


async def _tried(backup: Backup, catalog: Catalog, seconds: dict[str, float], echo: Echo) -> Check:
    with scratch_folder("backup") as folder:
        async with backup.moment() as moment, _scratch_server(backup.kind, echo) as server:
            echo("backup: dumping")
            with _Timed(seconds, "backup"):
                file = await backup.dump(moment, folder)
            size = file.stat().st_size
            echo(f"backup: {amount(size)} in {seconds['backup']:.1f} s; restoring")
            with _Timed(seconds, "restore"):
                try:
                    restored = await backup.restore(file, server)
                except ToolFailed as error:  # our server's lack, such as an extension: it says nothing of the dump
                    return _unknown(str(error), _ELSEWHERE, "could not be restored here")
            echo(f"backup: restored in {seconds['restore']:.1f} s; comparing")
            with _Timed(seconds, "proof"):
                equality = await compare(backup.scene.url, moment.session, catalog, restored)
            moved = not equality.equal and await backup.written(moment)
    times = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    return _judged(equality, moved, f"{amount(size)}: {times}")


def _judged(equality: Equality, moved: bool, times: str) -> Check:
    if equality.equal:
        found = f"restored and equal, {equality.rows:,} rows in {equality.tables} tables ({times})"
        return Check(name="backup", title=_TITLE, outcome="pass", found=found)
    differs = f"the restored store differs: {equality.differs} ({times})"
    if moved:
        remedy = "try again while nobody writes"
        found = f"{differs}, but the store was written to meanwhile, which such a dump can't be compared with"
        return Check(name="backup", title=_TITLE, outcome="unknown", found=found, remedy=remedy)
    remedy = "don't rely on this kind of backup: copy with `trackbench migrate`, or by the database's physical backup"
    return Check(name="backup", title=_TITLE, outcome="fail", found=differs, remedy=remedy)


def _unknown(why: str, remedy: str, what: str = "not tried") -> Check:
    return Check(name="backup", title=_TITLE, outcome="unknown", found=f"{what}: {why}", remedy=remedy)


def _need_space(whole: int, kind: servers.Kind | None) -> None:
    root = places.temp_root()
    free = shutil.disk_usage(root).free
    needed = int(2.5 * whole) + (_SERVER_BYTES if kind else 0)
    if needed > free * 0.9:
        raise NotPossible(
            f"it takes {amount(needed)} of scratch space, and {root} has {amount(free)}",
            "set TMPDIR to a folder with room, or leave it out with --no-backup",
        )


class _Timed:
    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self.seconds, self.name = seconds, name

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.name] = round(time.monotonic() - self.began, 3)


@asynccontextmanager
async def _scratch_server(kind: servers.Kind | None, echo: Echo) -> AsyncIterator[RunningServer | None]:
    if kind is None:
        yield None
        return
    echo(f"backup: starting a scratch {kind} server")
    server = await asyncio.to_thread(servers.start, kind, {}, echo)
    try:
        if server.kind != kind:
            raise NotPossible(f"only a {server.kind} server can be had here", f"trackbench servers install {kind}")
        yield server
    finally:
        await asyncio.to_thread(server.stop)


async def new_database(server: RunningServer) -> StoreUrl:
    """An empty database on a scratch server."""
    await asyncio.to_thread(databases.create, server, _DATABASE)
    return parse(server.url(_DATABASE), server.kind)


def reason(error: BaseException) -> str:
    """An error in a few words."""
    return str(error) if isinstance(error, BadInput) else one_line(error)
