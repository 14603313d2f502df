"""A consistent copy of a SQLite file that others may be writing to; the file itself is never written to, nor opened
by SQLite. See `bench.migrate.snapshot_child`, which makes it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.errors import BadInput
from bench.migrate.snapshot_child import beside

PATIENCE_S: Final = 20.0  # as long as MLflow itself waits for a lock
_SPARE: Final = 16 * 2**20


@dataclass(frozen=True)
class Snapshot:
    """What taking it came to.

    ``held_s``: for so long writers had to wait at most, in seconds; ``waited_s``: so long we waited for them before.
    ``undone``: a writer had died in the middle of a transaction, which was undone in the copy.
    """

    held_s: float
    waited_s: float
    bytes: int
    undone: bool


async def take_snapshot(source: Path, copy: Path, patience_s: float = PATIENCE_S) -> Snapshot:
    """Copy the SQLite file ``source`` to ``copy``, which must not exist, and check that it is whole.

    Writers are kept waiting while the bytes are copied, and not while they are checked. The copy has no WAL.

    Raises:
        BadInput: there is no such file, it is no SQLite database, can't be read, is corrupt, was locked for
            ``patience_s``, or there is no space for the copy.
    """
    shown = f"sqlite:///{source}"
    _check_space(shown, source, copy.parent)
    ours, alive = os.pipe()  # the child ends when the other end closes, which it does however we end
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.migrate.snapshot_child", os.fspath(source), os.fspath(copy), str(patience_s),
            stdin=ours, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    finally:
        os.close(ours)
        os.close(alive)
    lines = out.decode().splitlines()
    if not lines:
        last = (err.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise BadInput(f"{shown}: no snapshot could be taken: {last}")
    reply: dict[str, Any] = json.loads(lines[-1])
    if bad := reply.get("bad"):
        raise BadInput(f"{shown}: {bad}")
    return Snapshot(**reply)


def _check_space(shown: str, source: Path, folder: Path) -> None:
    size = 0
    for path in (source, beside(source, "-wal"), beside(source, "-journal")):
        try:
            size += path.stat().st_size
        except OSError:
            continue  # said in its place, if it matters
    free = shutil.disk_usage(folder).free
    if size and free < size + _SPARE:
        raise BadInput(
            f"{shown}: no space for its snapshot: {size / 1e6:.0f} MB wanted, {free / 1e6:.0f} MB free in "
            f"{folder.parent}; set TMPDIR to a folder with more"
        )
