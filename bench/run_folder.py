"""The folder of a run: made before anything else, taken away again if nothing was measured."""

import errno
import os
import secrets
import shutil
from datetime import datetime
from pathlib import Path

from bench.errors import BadInput
from bench.servers import places

_MIN_FREE = 1 << 30  # bytes: four stores with their logs, and the samples
_MIN_LEFT = 8 << 20  # bytes, during the run: a short trial, results.json and the reports
_WHILE_IT_RUNS = 4  # times what the samples of a trial take at its end: until then they are not compressed


def new_folder(out: Path, scenario: str, now: datetime) -> Path:
    """Make the run's folder and point ``latest`` at it.

    Raises:
        BadInput: the place can't be written to, or there is too little space for a run.
    """
    existing = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    for place in (existing, places.temp_root()):
        free = shutil.disk_usage(place).free
        if free < _MIN_FREE:
            raise BadInput(f"{place}: {free >> 20} MiB free; a run needs {_MIN_FREE >> 20}, free some or use --out")
    base = f"{now:%Y%m%dT%H%M%SZ}-{scenario}"
    for name in (base, *(f"{base}-{n}" for n in range(2, 100))):
        folder = out / name
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise BadInput(f"{folder}: {error.strerror}; give a folder that can be written to with --out") from error
        link = out / f".latest-{secrets.token_hex(4)}"
        link.symlink_to(name)
        link.replace(out / "latest")
        return folder
    raise BadInput(f"{out}: too many runs began in this second; try again")


def check_room(folder: Path) -> None:
    """Before and after each trial: whether the run's folder has room for another one, as long as the longest so far.

    Without it, every trial to come would fail by itself, one after the other, and be told as a fault of its store.

    Raises:
        OSError: ENOSPC, there is too little space left.
    """
    taken = [samples.stat().st_size for samples in (folder / "trials").glob("*/samples.parquet")]
    needed = max(_MIN_LEFT, _WHILE_IT_RUNS * max(taken, default=0))
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def discard(folder: Path) -> None:
    """Remove the folder of a run that measured nothing, so that ``latest`` does not point at nothing."""
    latest = folder.parent / "latest"
    if latest.is_symlink() and latest.readlink() == Path(folder.name):
        latest.unlink()
    shutil.rmtree(folder, ignore_errors=True)
