"""A small file system of our own, which goes with the last process that sees it, and a way to fill it to the last byte.

Standard library only: the supervisor imports it, which is a script. Run as a script itself, it tries whether this
machine can do it, and says what went wrong.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

BALLAST = "ballast"
_PAGE = 4096  # what a tmpfs gives at least
_FIRST_STEP = 16 * 2**20
_CLONE_NEWNS = 0x20000
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_SLAVE = 0x2, 0x4, 0x4000, 0x80000
_MNT_DETACH = 2
_TRY_SECONDS = 10

_libc = ctypes.CDLL(None, use_errno=True)


def mount(folder: Path, megabytes: int, owner: tuple[int, int] | None) -> None:
    """Lay an empty tmpfs of that many MiB over ``folder``, seen by this process and its future children only.

    It is theirs alone (mode 0700) or ``owner``'s (user, group). Raises OSError; takes CAP_SYS_ADMIN on Linux.
    """
    _checked("unshare", _CLONE_NEWNS)
    slave, closed = ctypes.c_ulong(_MS_REC | _MS_SLAVE), ctypes.c_ulong(_MS_NOSUID | _MS_NODEV)
    _checked("mount", b"none", b"/", None, slave, None)  # or our mount would be everybody's
    uid, gid = owner or (os.geteuid(), os.getegid())
    options = f"size={megabytes}m,mode=0700,uid={uid},gid={gid}".encode()
    _checked("mount", b"trackbench", bytes(folder), b"tmpfs", closed, options)


def unmount(folder: Path) -> None:
    """Take it away again, whatever is open on it; raises OSError."""
    _checked("umount2", bytes(folder), _MNT_DETACH)


class Ballast:
    """A file that takes up what is left of a folder's file system."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / BALLAST
        self._file: int | None = None

    def fill(self) -> int:
        """Write until there is no room for one byte more; the file's size then. Raises OSError for other trouble."""
        if self._file is None:  # a name that is taken is not ours: the folder is the server's
            self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        size, step = os.fstat(self._file).st_size, _FIRST_STEP
        while step >= _PAGE:
            try:
                os.posix_fallocate(self._file, size, step)
                size += step
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                step //= 2
        return size

    def free(self) -> None:
        """Give the room back. Does no harm when repeated."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None
            self._path.unlink(missing_ok=True)


@functools.cache
def small_disks() -> str | None:
    """None where servers can have a small disk of their own; else why not, in words. Tries it for real, once."""
    if not sys.platform.startswith("linux"):
        return "a small file system of our own takes Linux"
    if os.geteuid() != 0:
        return "a small file system of our own takes root"
    try:
        tried = subprocess.run(
            [sys.executable, "-I", "-S", __file__],
            capture_output=True,
            text=True,
            timeout=_TRY_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"a small file system of our own could not be tried: {error}"
    if tried.returncode != 0:
        return f"a small file system of our own can't be made here: {tried.stderr.strip() or 'no reason given'}"
    return None


def _checked(name: str, *arguments: object) -> None:
    call = getattr(_libc, name, None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), name)
    if call(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)


def _try() -> str | None:
    """Make one, fill it, take it away; what went wrong. In a process of its own: its namespace goes with it."""
    import tempfile  # the supervisor starts sooner without it

    folder = Path(tempfile.mkdtemp())
    try:
        mount(folder, 1, None)
        try:
            size = Ballast(folder).fill()
        finally:
            unmount(folder)
    except OSError as error:
        return f"{error.filename or 'it'}: {error.strerror}"
    finally:
        with suppress(OSError):
            folder.rmdir()
    return None if 0 < size <= 2**20 else f"1 MiB took {size} bytes"


if __name__ == "__main__":
    sys.exit(_try())
