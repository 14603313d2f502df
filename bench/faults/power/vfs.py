"""SQLite's virtual file system over a `Disk`: what SQLite's own unix VFS does, event for event.

- The first sync of a journal or a WAL that was opened to be created is followed by one of the directory (unixSync with
  UNIXFILE_DIRSYNC); the database's own never is.
- A deletion is followed by a sync of the directory only where SQLite asks for it: ``synchronous = EXTRA`` does for the
  rollback journal, FULL does not.
- Sectors and POWERSAFE_OVERWRITE as unix claims them, and nothing more: no atomic writes, no safe append, no order.

It is for one connection: locks do nothing. There is no shared memory, so WAL needs ``locking_mode = EXCLUSIVE``, with
which SQLite keeps the index of the WAL on its heap; what it writes to the files stays the same.
"""
# ruff: noqa: ARG002, D102, N802 -- the methods are SQLite's, and documented there

import os
import time
from itertools import count
from typing import ClassVar

import apsw

from bench.faults.power.disk import Disk

_SYNC_ENTRY = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL
_SECTOR = 4096  # of unix; with POWERSAFE_OVERWRITE SQLite counts in 512 all the same
_NUMBERS = count()


class OpenFile:
    """A file of the disk as SQLite holds it open."""

    def __init__(self, disk: Disk, name: str, file: int, sync_entry: bool) -> None:
        self._disk, self._name, self._file, self._sync_entry = disk, name, file, sync_entry

    def xRead(self, amount: int, offset: int) -> bytes:
        return self._disk.files[self._file].read(offset, amount)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.write(self._name, self._file, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:
        self._disk.truncate(self._name, self._file, newsize)

    def xSync(self, flags: int) -> None:
        self._disk.sync(self._name, self._file)
        if self._sync_entry:
            self._disk.sync_directory()
            self._sync_entry = False

    def xFileSize(self) -> int:
        return len(self._disk.files[self._file])

    def xClose(self) -> None: ...

    def xLock(self, level: int) -> None: ...

    def xUnlock(self, level: int) -> None: ...

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return _SECTOR

    def xDeviceCharacteristics(self) -> int:
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE


class DiskVfs(apsw.VFS):
    """The files of one disk; registered under ``name`` until `unregister`."""

    opened: ClassVar[type[OpenFile]] = OpenFile

    def __init__(self, disk: Disk) -> None:
        self.name = f"trackbench-power-{next(_NUMBERS)}"
        self.disk = disk
        super().__init__(self.name)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> OpenFile:  # type: ignore[override]
        flags[1] = flags[0]
        if name is None:  # temporary: no cut leaves anything of it
            return self.opened(Disk({"": b""}), "", 0, False)
        known = name.filename() if isinstance(name, apsw.URIFilename) else name
        create = bool(flags[0] & apsw.SQLITE_OPEN_CREATE)
        file = self.disk.find(known)
        if file is None:
            if not create:
                raise apsw.CantOpenError(known)
            file = self.disk.create(known)
        return self.opened(self.disk, known, file, create and bool(flags[0] & _SYNC_ENTRY))

    def xDelete(self, filename: str, syncdir: bool) -> None:
        if self.disk.find(filename) is None:
            error = apsw.IOError(filename)
            error.extendedresult = apsw.SQLITE_IOERR_DELETE_NOENT  # type: ignore[attr-defined]
            raise error
        self.disk.delete(filename)
        if syncdir:
            self.disk.sync_directory()

    def xAccess(self, pathname: str, flags: int) -> bool:
        file = self.disk.find(pathname)  # for SQLite's unix an empty file is none
        return file is not None and (flags != apsw.SQLITE_ACCESS_EXISTS or len(self.disk.files[file]) > 0)

    def xFullPathname(self, name: str) -> str:
        return name

    def xRandomness(self, numbytes: int) -> bytes:
        return os.urandom(numbytes)

    def xSleep(self, microseconds: int) -> int:
        return microseconds

    def xCurrentTime(self) -> float:
        return 2440587.5 + time.time() / 86400  # a Julian day

    def xCurrentTimeInt64(self) -> int:
        return int(self.xCurrentTime() * 86_400_000)

    def xGetLastError(self) -> tuple[int, str | None]:
        return 0, None
