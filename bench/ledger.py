"""The ledger: one status byte a commit, in a memory-mapped file a writer, reserved before the send.

What a killed engine leaves behind is therefore "unknown" for the commit it was in, never "unexpected". The pages
belong to the file, so a kill -9 of the engine loses none of them. They are allocated before they are mapped: a page
that finds no room on a full disk only when it is touched kills its process with SIGBUS, and nobody learns why.
"""

import errno
import mmap
import os
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.outcome import Outcome

STEP: Final = 1 << 16  # commits, and bytes: a thousand writers take 64 MiB while they work
_UNABLE: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})  # file systems and C libraries without it


class LedgerFull(OSError):
    """There is no room for another commit: an error of the harness and its disk, never of the store."""


class Ledger:
    """One writer's ledger, open for writing. ``status[n]`` is commit n's byte; `ensure` makes room for it.

    Raises:
        LedgerFull: the disk is full, or a quota is used up.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("w+b")
        try:
            self._allocate(0, STEP)
            self.status = mmap.mmap(self._file.fileno(), STEP)
        except BaseException:
            self._file.close()
            raise
        self.capacity = STEP

    def ensure(self, commit: int) -> None:
        """Grow the file until it holds ``commit``; where that is not possible it stays as it is.

        Raises:
            LedgerFull: as for the class.
        """
        if commit < self.capacity:
            return
        wanted = (commit // STEP + 1) * STEP
        self._allocate(self.capacity, wanted - self.capacity)
        self.status.resize(wanted)
        self.capacity = wanted

    def close(self, commits: int) -> None:
        """Cut the file to the ``commits`` that were planned and close it."""
        self.status.close()
        self._file.truncate(commits)
        self._file.close()

    def _allocate(self, offset: int, size: int) -> None:
        """Blocks for these bytes, which are 0; where the file system can't reserve any, zeros are written."""
        descriptor = self._file.fileno()
        try:
            try:
                os.posix_fallocate(descriptor, offset, size)
            except (AttributeError, OSError) as error:  # not every system has the call
                if isinstance(error, OSError) and error.errno not in _UNABLE:
                    raise
                while size:
                    written = os.pwrite(descriptor, bytes(size), offset)
                    offset, size = offset + written, size - written
        except OSError as error:
            raise LedgerFull(error.errno, error.strerror, str(self._path)) from error


def path_of(folder: Path, writer: int) -> Path:
    """Where ``writer``'s ledger lies within a trial's folder."""
    return folder / "ledger" / f"{writer:04d}.bin"


def load(folder: Path, writer: int) -> NDArray[np.uint8]:
    """The status bytes of ``writer``, without the untouched tail that a killed engine leaves.

    They are read, not mapped: a load process that was given up may cut its file at any time, and a mapped page that
    lies beyond a file's end is a SIGBUS.
    """
    path = path_of(folder, writer)
    if not path.exists():
        return np.zeros(0, dtype=np.uint8)
    status = np.fromfile(path, dtype=np.uint8)
    used = int(np.max(np.flatnonzero(status), initial=-1)) + 1
    return status[:used].copy()  # a view would keep the tail in memory


def complete(status: NDArray[np.uint8], commits: int) -> NDArray[np.uint8]:
    """``status`` lengthened with untouched bytes to ``commits``."""
    if len(status) >= commits:
        return status[:commits]
    return np.concatenate([status, np.full(commits - len(status), Outcome.UNTOUCHED, dtype=np.uint8)])
