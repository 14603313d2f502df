"""The ledger: one status byte a commit, in a memory-mapped file a writer, reserved before the send.

What a killed engine leaves behind is therefore "unknown" for the commit it was in, never "unexpected". The pages
belong to the file, so a kill -9 of the engine loses none of them.
"""

import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.outcome import Outcome

_STEP = 1 << 20


class Ledger:
    """One writer's ledger, open for writing. ``status[n]`` is commit n's byte; `ensure` makes room for it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._file.truncate(_STEP)
        self.status = mmap.mmap(self._file.fileno(), _STEP)
        self.capacity = _STEP

    def ensure(self, commit: int) -> None:
        """Grow the file until it holds ``commit``; the pages not yet touched take no space on disk."""
        while commit >= self.capacity:
            self.capacity += _STEP
            self._file.truncate(self.capacity)
            self.status.resize(self.capacity)

    def close(self, commits: int) -> None:
        """Cut the file to the ``commits`` that were planned and close it."""
        self.status.close()
        self._file.truncate(commits)
        self._file.close()


def path_of(folder: Path, writer: int) -> Path:
    """Where ``writer``'s ledger lies within a trial's folder."""
    return folder / "ledger" / f"{writer:04d}.bin"


def load(folder: Path, writer: int) -> NDArray[np.uint8]:
    """The status bytes of ``writer``, without the untouched tail that a killed engine leaves; mapped, not read."""
    path = path_of(folder, writer)
    if not path.exists() or path.stat().st_size == 0:
        return np.zeros(0, dtype=np.uint8)
    status = np.memmap(path, dtype=np.uint8, mode="r")
    used = int(np.max(np.flatnonzero(status), initial=-1)) + 1
    return status[:used]


def complete(status: NDArray[np.uint8], commits: int) -> NDArray[np.uint8]:
    """``status`` lengthened with untouched bytes to ``commits``."""
    if len(status) >= commits:
        return status[:commits]
    return np.concatenate([status, np.full(commits - len(status), Outcome.UNTOUCHED, dtype=np.uint8)])
