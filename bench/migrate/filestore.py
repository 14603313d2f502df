"""A file store (``./mlruns``) as a SQLite file, by MLflow's own ``migrate-filestore``; the folder is only read."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from bench.errors import BadInput
from bench.stores import schema
from bench.stores.url import StoreUrl

_TRASH: Final = ".trash"
_MODELS: Final = "models"
_ARTIFACTS: Final = "artifacts"  # not MLflow's rows: they stay where they are
_NAMED: Final = 5


def find(given: Path) -> Path:
    """The folder of a file store: ``given``, or ``mlruns`` in it.

    Raises:
        BadInput: there is none, or it can't be read.
    """
    try:
        if not given.exists():
            raise BadInput(f"{given}: no such folder; give a file store's folder (mlruns) or a database's URL")
        if not given.is_dir():
            raise BadInput(f"{given}: is a file; give a SQLite store as sqlite:///{given.resolve()}")
        inner = given / "mlruns"
        folder = inner if inner.is_dir() else given
        if any(_experiments(folder)):
            return folder
        database = next(iter(sorted(given.glob("*.db"))), None)
    except OSError as error:
        raise BadInput(f"{given}: can't be read ({error.strerror}); run as a user who may read it") from error
    hint = f"sqlite:///{database.resolve()}" if database else "the folder that has meta.yaml in folders with numbers"
    raise BadInput(f"{given}: is a folder but no MLflow file store; give {hint}")


def _experiments(folder: Path) -> Iterator[Path]:
    """What has an experiment's or a model's description."""
    for parent in (folder, folder / _TRASH, folder / _MODELS):
        if parent.is_dir():
            for path in parent.iterdir():
                if (parent.name == _MODELS or path.name.isdigit()) and (path / "meta.yaml").exists():
                    yield path


async def take_in(folder: Path, url: StoreUrl) -> list[str]:
    """Bring the file store in ``folder`` into the SQLite file ``url``, which must not exist; notes for the report.

    A file store has no lock. Whether it was written to meanwhile is seen and said, and what MLflow could not read.

    Raises:
        BadInput: MLflow could not do it; the message holds its last words.
    """
    assert url.path is not None
    before = _state(folder)
    try:
        passed_over = await schema.take_file_store(folder, url)
    except BadInput as error:
        raise BadInput(f"{folder}: {error}; the folder is as it was") from error
    notes = []
    if _state(folder) != before:
        notes.append(
            f"{folder} was written to while it was read: a file store has no lock; stop its writers for the last pass"
        )
    if passed_over:
        more = f" and {len(passed_over) - _NAMED} more" if len(passed_over) > _NAMED else ""
        notes.append(f"MLflow passed over files of {folder}: {'; '.join(passed_over[:_NAMED])}{more}")
    _leave_wal(url.path)
    return notes


def _state(folder: Path) -> int:
    """Changes with the names, sizes and times of the files, as far as MLflow reads them."""
    seen = set()
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != _ARTIFACTS]
        for name in names:
            try:
                status = Path(parent, name).stat()
            except OSError:
                continue
            seen.add((parent, name, status.st_size, status.st_mtime_ns))
    return hash(frozenset(seen))


def _leave_wal(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
