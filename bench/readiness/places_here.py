"""The disk of a server that runs on this machine, found through its data folder if that is truly the server's."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.readiness.growth import Disk


def disk_of(folder: str, mark: str, holds: str) -> Disk | None:
    """The disk under ``folder`` if its file ``mark`` has a line ``holds``; None otherwise.

    A server in a container tells of a folder that may exist here too and be another's.
    """
    try:
        if holds not in (Path(folder) / mark).read_text(errors="replace").split():
            return None
        return disk_at(Path(folder))
    except OSError:
        return None


def disk_at(path: Path) -> Disk:
    """The disk that holds ``path``, as seen by those who are not root."""
    usage = shutil.disk_usage(path)
    return Disk(usage.free, usage.total)
