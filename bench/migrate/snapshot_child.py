"""Copies a SQLite file in a process of its own: ``python -m bench.migrate.snapshot_child FILE COPY PATIENCE_S``.

The file is opened for reading only, and never by SQLite, which may write even then: it would undo what a dead writer
left, and make a WAL's files. SQLite's locks are byte ranges (https://www.sqlite.org/fileformat2.html, lockingv3.html
and walformat.html); those that a reader takes are taken here, so that writers wait as they do for any reader:

- rollback journal: SHARED. Pages are written to the file under EXCLUSIVE only, so what is there is one committed state,
  unless a journal lies beside it that nobody is writing (no RESERVED): its writer died, and the journal is copied too.
- WAL: SHARED, and of the index (``-shm``) the locks of writing, checkpoints and recovery. File and WAL together are one
  committed state. Without an index nobody had the file open; if one turns up meanwhile, all is done again.

SQLite then undoes or takes in what belongs to the copy. It must be a process: closing a descriptor drops every POSIX
lock of its process on that file, those of SQLite's connections among them.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

BAD: Final = 2  # the exit code where the reply is what is wrong
_PENDING, _RESERVED, _SHARED, _SHARED_BYTES = 0x40000000, 0x40000001, 0x40000002, 510
_WAL_LOCKS, _WAL_LOCKS_BYTES = 120, 3  # of the index: writing, checkpoint, recovery
_MAGIC: Final = b"SQLite format 3\0"
_WAL_VERSION: Final = 2
_POLL_S: Final = 0.002
_CHUNK: Final = 4 * 2**20
_NOT_HERE: Final = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)
_NAMED: Final = 3


class Bad(Exception):
    """What is wrong with the file, and how to mend it."""


class Again(Exception):
    """Somebody opened the file in WAL mode meanwhile."""


def beside(path: Path, end: str) -> Path:
    """One of the files that SQLite keeps beside a database."""
    return path.with_name(path.name + end)


def take(source: Path, copy: Path, patience_s: float) -> dict[str, Any]:
    """Make the copy; how long the locks were held and waited for, in seconds, and what was done to the copy."""
    began = time.monotonic()
    _warm(source)
    while True:
        try:
            waited, held, left = _locked_copy(source, copy, began + patience_s)
        except Again:
            if time.monotonic() > began + patience_s:
                raise Bad(_busy(patience_s, None)) from None
            continue
        break
    _settle(copy)
    return {"held_s": held, "waited_s": waited, "bytes": copy.stat().st_size, "undone": left}


def _warm(source: Path) -> None:
    """Read the file once, so that it comes from memory while the locks are held."""
    if source.stat().st_size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2:
        return
    with source.open("rb", buffering=0) as file:
        buffer = bytearray(_CHUNK)
        while file.readinto(buffer):
            pass


def _locked_copy(source: Path, copy: Path, deadline: float) -> tuple[float, float, bool]:
    """(seconds waited, seconds held, whether a dead writer's journal was copied too)."""
    with ExitStack() as stack:
        file = stack.enter_context(_opened(source))
        asked = time.monotonic()
        with _lock(file, _PENDING, 1, deadline):  # as SQLite does: so readers don't starve a writer
            shared = _lock(file, _SHARED, _SHARED_BYTES, deadline)
            stack.enter_context(shared)
        got = time.monotonic()
        header = os.pread(file, 100, 0)
        if not header.startswith(_MAGIC):
            raise Bad("is not a SQLite database; give the URL of an MLflow store")
        left = _left_over(source, file)
        if left:
            _copy_beside(source, copy, "-journal")
        index = in_wal = header[18] == _WAL_VERSION
        if in_wal and (index := _wal_locks(stack, source, deadline)):
            got = time.monotonic()
        _copy(file, copy)
        if in_wal:
            _copy_beside(source, copy, "-wal")
        if in_wal and not index and beside(source, "-shm").exists():
            raise Again
    return got - asked, time.monotonic() - got, left


def _wal_locks(stack: ExitStack, source: Path, deadline: float) -> bool:
    """Keep writers and checkpoints out; False if nobody has the file open."""
    try:
        index = stack.enter_context(_opened(beside(source, "-shm")))
    except FileNotFoundError:
        return False
    stack.enter_context(_lock(index, _WAL_LOCKS, _WAL_LOCKS_BYTES, deadline))
    return True


def _left_over(source: Path, file: int) -> bool:
    """Whether a writer died: its journal is there, and nobody is writing it. Asked under SHARED."""
    try:
        with beside(source, "-journal").open("rb") as journal:
            begun = journal.read(1) not in (b"", b"\0")
    except FileNotFoundError:
        return False
    if not begun:
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, _RESERVED)
    except OSError:
        return False
    fcntl.lockf(file, fcntl.LOCK_UN, 1, _RESERVED)
    return True


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _lock(file: int, start: int, length: int, deadline: float) -> Iterator[None]:
    """A read lock on a range of bytes, asked for until the deadline."""
    began = time.monotonic()
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, length, start)
            break
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
        if time.monotonic() > deadline:
            raise Bad(_busy(time.monotonic() - began, _holder(file, start, length)))
        time.sleep(_POLL_S)
    try:
        yield
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN, length, start)


def _busy(waited_s: float, holder: int | None) -> str:
    who = "a writer" if holder is None else f"process {holder}"
    return f"locked: {who} has kept it for {waited_s:.0f} s; let its transaction end, or stop it, then try again"


def _holder(file: int, start: int, length: int) -> int | None:
    """The process that has a range locked, where the system's own struct is known."""
    if sys.platform != "linux":
        return None
    import struct

    shape = "hhqqi"
    with suppress(OSError):
        asked = struct.pack(shape, fcntl.F_RDLCK, os.SEEK_SET, start, length, 0)
        found = struct.unpack(shape, fcntl.fcntl(file, fcntl.F_GETLK, asked))
        return int(found[4]) if found[0] != fcntl.F_UNLCK and found[4] > 0 else None
    return None


def _copy_beside(source: Path, copy: Path, end: str) -> None:
    with suppress(FileNotFoundError), _opened(beside(source, end)) as file:
        _copy(file, beside(copy, end))


def _copy(file: int, target: Path) -> None:
    """The whole of an open file; the kernel copies, and file systems that can share the blocks do."""
    size = os.fstat(file).st_size
    with target.open("wb", buffering=0) as out:
        done = 0
        while done < size:
            try:
                moved = os.copy_file_range(file, out.fileno(), min(size - done, 2**30), done)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                break
            if not moved:
                break
            done += moved
        os.lseek(file, done, os.SEEK_SET)
        out.seek(done)
        with os.fdopen(os.dup(file), "rb", buffering=0) as rest:
            shutil.copyfileobj(rest, out, _CHUNK)


def _settle(copy: Path) -> None:
    """Have SQLite undo or take in what lies beside the copy, and leave one file; then see that it is whole.

    What is not looked for is whether an index says of a row what the table says: that takes 15 times as long.
    """
    try:
        with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()
            connection.execute("PRAGMA ignore_check_constraints = ON")  # a wrong value is no damage: preflight names it
            connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
            problems = _problems(connection)
    except sqlite3.DatabaseError as error:
        problems = [str(error)]
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, "no space", str(copy)) from None
    if problems:
        told = "; ".join(problems[:_NAMED])
        raise Bad(f"is corrupt: {told}; restore a backup, or try `sqlite3 FILE .recover` and look at what it lost")


def _problems(connection: sqlite3.Connection) -> list[str]:
    """What is broken, the tables by name."""
    tables = [
        row[0]
        for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY 1")
    ]
    found = _checked(connection, "20")
    if found:
        named = [f"table {table}: {lines[0]}" for table in tables if (lines := _checked(connection, _quoted(table)))]
        return named or found
    return [problem for table in tables for problem in _short_indexes(connection, table)]


def _checked(connection: sqlite3.Connection, what: str) -> list[str]:
    """SQLite's findings, of so many at most or of one table."""
    try:
        found = [_line(row[0]) for row in connection.execute(f"PRAGMA quick_check({what})")]
    except sqlite3.DatabaseError as error:  # too broken to be checked
        return [str(error)]
    return [] if found == ["ok"] else found


def _short_indexes(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    """Indexes with more or fewer entries than the table has rows: reading by one would lose rows."""
    listed = connection.execute(f"PRAGMA index_list({_quoted(table)})").fetchall()
    whole = [row[1] for row in listed if not row[4]]
    if not whole:
        return
    rows = connection.execute(f"SELECT COUNT(*) FROM {_quoted(table)} NOT INDEXED").fetchone()[0]
    for index in whole:
        counted = f"SELECT COUNT(*), 0 FROM {_quoted(table)} INDEXED BY {_quoted(index)}"  # alone it counts any index
        there = connection.execute(counted).fetchone()[0]
        if there != rows:
            yield f"table {table} has {rows} rows, its index {index} {there}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _line(text: str) -> str:
    """SQLite's finding without its headline."""
    lines = [line for line in text.splitlines() if line and not line.startswith("***")]
    return "; ".join(lines[:1]) or text


def _end_with_owner() -> None:
    os.read(0, 1)
    os._exit(1)


def _refusal(error: OSError, copy: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space for its snapshot in {copy.parent}; set TMPDIR to a folder with more"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{error.filename} can't be read ({error.strerror}); run as a user who may read it"
    if isinstance(error, FileNotFoundError):
        return "no such file; give the URL of an existing MLflow store"
    return f"can't be read: {error.strerror or error}"


def checked(source: Path) -> None:
    """Refuse what can't be a database, before it is opened: a pipe would wait for its writer."""
    status = source.stat()
    if stat.S_ISDIR(status.st_mode):
        raise Bad("is a folder; give a file's URL, or for a file store the folder itself, without sqlite:///")
    if not stat.S_ISREG(status.st_mode):
        raise Bad("is not a file; give the URL of an MLflow store")
    if not status.st_size:
        raise Bad("is empty (0 bytes); give the URL of an MLflow store")


def main(source: Path, copy: Path, patience_s: float) -> int:
    """Leaves one line of JSON on stdout: what `take` gives, or what is ``bad``, then with the exit code `BAD`."""
    threading.Thread(target=_end_with_owner, daemon=True).start()
    try:
        source = source.resolve()  # SQLite keeps its files beside the file that a link leads to
        checked(source)
        reply, code = take(source, copy, patience_s), 0
    except Bad as bad:
        reply, code = {"bad": str(bad)}, BAD
    except OSError as error:
        reply, code = {"bad": _refusal(error, copy)}, BAD
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))
