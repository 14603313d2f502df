"""A disk in memory that is honest about fsync and promises nothing else; pure, it knows no SQLite.

The model, after "Atomic Commit In SQLite" (chapters on hardware assumptions and on flushing) and the documentation of
``PRAGMA synchronous``:

- A sync of a file makes its contents and its size durable as they are then, and nothing else of the disk. A sync of the
  directory makes the entries durable: which names there are, and which file each one is. A file is not its name: it
  lives on when its name is deleted, and comes back with the name if the deletion was never synced.
- Until its sync every write may be on its way. After a cut each sector of 512 bytes is one of those that it was since
  the last sync: the durable one, the newest, or any in between, whatever became of its neighbours, of earlier writes
  and of other files. So writes are lost, torn and reordered. The size is one of those that the file had.
- A truncation changes no sector. If it is lost, the file is as it was before, and so is what was written since then.
- A sector is written as a whole or not at all, and bytes outside a write stay as they are: the latter is what SQLite's
  unix VFS claims too (SQLITE_IOCAP_POWERSAFE_OVERWRITE).
- ``lose="contents"``: the file system journals its directories, so that each entry is as it was last changed.
  ``lose="directory"``: an entry is lost, or comes back, like a sector.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

SECTOR = 512
_BLOCK = 8  # sectors of 4096 bytes, in which an operating system's cache writes back

Lose = Literal["contents", "directory"]
Keep = Literal["none", "some", "all"]
_Version = TypeVar("_Version")
Kind = Literal["create", "write", "truncate", "sync", "delete", "sync directory"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to the disk; ``file`` is its number, -1 for the directory."""

    kind: Kind
    name: str = ""
    file: int = -1
    offset: int = 0
    data: bytes = b""
    size: int = 0

    def __str__(self) -> str:
        if self.kind == "write":
            return f"write {len(self.data)} bytes at {self.offset} of {self.name}"
        if self.kind == "truncate":
            return f"truncate {self.name} to {self.size} bytes"
        return f"{self.kind} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Survival:
    """How much of what was not synced survives a cut: of files, and of directory entries."""

    contents: Keep
    entries: Keep = "all"

    def __str__(self) -> str:
        words = {"none": "nothing unsynced", "some": "some unsynced sectors", "all": "everything written"}
        entries = {"none": ", no unsynced directory entry", "some": ", some unsynced directory entries", "all": ""}
        return f"{words[self.contents]} survived{entries[self.entries]}"


class File:
    """Contents as they are now, as of the last sync, and each sector in between."""

    def __init__(self, contents: bytes = b"") -> None:
        self.durable = contents
        self._contents = bytearray(contents)
        self._now: bytes | None = contents  # the same as bytes, made when somebody asks
        self._sizes = [len(contents)]  # since the last sync or truncation, never smaller than the one before
        self._before: dict[int, list[bytes]] = {}  # sector: what it was since the last sync, the newest left out
        self._untruncated: File | None = None  # as it was before the last truncation, if that is not synced

    def __len__(self) -> int:
        return len(self._contents)

    @property
    def now(self) -> bytes:
        """What a reader sees; the same object until something changes."""
        if self._now is None:
            self._now = bytes(self._contents)
        return self._now

    def read(self, offset: int, amount: int) -> bytes:
        """At most ``amount`` bytes from ``offset`` on; fewer at the end."""
        return bytes(self._contents[offset : offset + amount])

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes there; a gap behind the end is zeros."""
        end = offset + len(data)
        for sector in range(offset // SECTOR, -(-end // SECTOR)):
            there = self.read(sector * SECTOR, SECTOR)
            self._before.setdefault(sector, []).append(there.ljust(SECTOR, b"\0"))
        self._extend(end)
        self._contents[offset:end] = data
        self._now = None

    def truncate(self, size: int) -> None:
        """Make the file shorter, or longer by zeros."""
        if size >= len(self):
            self._extend(size)
            return
        before = File(self.durable)
        before._contents, before._now = bytearray(self._contents), self._now
        before._sizes, before._untruncated = self._sizes, self._untruncated
        before._before = {sector: list(versions) for sector, versions in self._before.items()}
        self._untruncated = before
        self._before = {sector: versions for sector, versions in self._before.items() if sector * SECTOR < size}
        self._sizes = [size]
        del self._contents[size:]
        self._now = None

    def _extend(self, size: int) -> None:
        if size > len(self):
            self._contents.extend(bytes(size - len(self)))
            self._sizes.append(size)
            self._now = None

    def sync(self) -> None:
        """What is there now is durable."""
        self.durable = self.now
        self._sizes = [len(self)]
        self._before.clear()
        self._untruncated = None

    def after_cut(self, keep: Keep, rng: random.Random) -> bytes:
        """The contents that a machine would find."""
        if keep == "some":
            return self._mixed(rng)
        return self.now if keep == "all" else self.durable

    def _mixed(self, rng: random.Random) -> bytes:
        if self._untruncated is not None and rng.random() < 0.5:
            return self._untruncated._mixed(rng)
        if not self._before and len(self._sizes) == 1:
            return self.now
        size = _pick(rng, self._sizes, 0.5)
        found = bytearray(self._contents)
        grain, newest = rng.choice((1, _BLOCK)), rng.choice((0.1, 0.5, 0.9))
        luck: dict[int, float] = {}
        for sector, before in self._before.items():
            drawn = luck.setdefault(sector // grain, rng.random())
            if drawn >= newest:  # sectors of one block are equally old, as far as they were written as often
                age = (drawn - newest) / (1 - newest)
                found[sector * SECTOR : (sector + 1) * SECTOR] = before[int(age * len(before))]
        return bytes(found[:size])


def _pick(rng: random.Random, versions: list[_Version], newest: float) -> _Version:
    """The newest of ``versions`` with that chance, else any."""
    return versions[-1] if rng.random() < newest else rng.choice(versions)


class Disk:
    """One directory of files. Everything that changes it is an event, kept in ``log``."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """A disk on which ``files`` are durable."""
        self.log: list[Event] = []
        self.files: list[File] = [File(contents) for contents in files.values()]
        self.entries: dict[str, int | None] = {name: number for number, name in enumerate(files)}
        self._before: dict[str, list[int | None]] = {}  # as `File` has it of its sectors

    def find(self, name: str) -> int | None:
        """The number of the file of this name now."""
        return self.entries.get(name)

    def create(self, name: str) -> int:
        """A new empty file; returns its number."""
        self.do(Event("create", name, len(self.files)))
        return len(self.files) - 1

    def write(self, name: str, file: int, offset: int, data: bytes) -> None:
        """Write to a file; ``name`` is what it was opened by."""
        self.do(Event("write", name, file, offset, data))

    def truncate(self, name: str, file: int, size: int) -> None:
        """Set a file's size."""
        self.do(Event("truncate", name, file, size=size))

    def sync(self, name: str, file: int) -> None:
        """fsync a file."""
        self.do(Event("sync", name, file))

    def delete(self, name: str) -> None:
        """Take a name out of the directory."""
        self.do(Event("delete", name))

    def sync_directory(self) -> None:
        """fsync the directory."""
        self.do(Event("sync directory"))

    def do(self, event: Event) -> None:
        """Carry out an event, and note it."""
        self.log.append(event)
        if event.kind == "create":
            self.files.append(File())
            self._enter(event.name, event.file)
        elif event.kind == "delete":
            self._enter(event.name, None)
        elif event.kind == "sync directory":
            self._before.clear()
        elif event.kind == "write":
            self.files[event.file].write(event.offset, event.data)
        elif event.kind == "truncate":
            self.files[event.file].truncate(event.size)
        else:
            self.files[event.file].sync()

    def _enter(self, name: str, file: int | None) -> None:
        self._before.setdefault(name, []).append(self.entries.get(name))
        self.entries[name] = file

    def after_cut(self, survival: Survival, rng: random.Random) -> dict[str, bytes]:
        """The files that a machine would find if the power were cut now."""
        found: dict[str, bytes] = {}
        for name, newest in self.entries.items():
            versions = [*self._before.get(name, ()), newest]
            if survival.entries == "some":
                file = _pick(rng, versions, 0.5)
            else:
                file = versions[0 if survival.entries == "none" else -1]
            if file is not None:
                found[name] = self.files[file].after_cut(survival.contents, rng)
        return found


def survivals(lose: Lose) -> tuple[Survival, ...]:
    """What is tried at each cut: none, some and all of what was not synced; for ``directory`` of entries as well."""
    if lose == "contents":
        return Survival("none"), Survival("some"), Survival("all")
    without = Survival("none", "none"), Survival("some", "none"), Survival("all", "none")
    return *without, Survival("some", "some"), Survival("none")
