"""A file store (``./mlruns``) as a SQLite file, by MLflow's own ``migrate-filestore``; the folder is only read."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final
from uuid import UUID

from bench.errors import BadInput
from bench.stores import schema
from bench.stores.url import StoreUrl

_TRASH: Final = ".trash"
_MODELS: Final = "models"
_ARTIFACTS: Final = "artifacts"  # not MLflow's rows: they stay where they are
_DATASET: Final = "made_id('dataset', experiment_id, name, digest)"
_INPUT: Final = "made_id('input', source_type, source_id, destination_type, destination_id)"
_MADE_IDS: Final = f"""
    UPDATE inputs SET source_id = (SELECT {_DATASET} FROM datasets WHERE dataset_uuid = source_id)
        WHERE source_type = 'DATASET';
    UPDATE datasets SET dataset_uuid = {_DATASET};
    UPDATE input_tags SET input_uuid = (SELECT {_INPUT} FROM inputs WHERE inputs.input_uuid = input_tags.input_uuid);
    UPDATE inputs SET input_uuid = {_INPUT};
"""


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


async def take_in(folder: Path, url: StoreUrl) -> None:
    """Bring the file store in ``folder`` into the SQLite file ``url``, which must not exist.

    The same folder always gives the same rows, so that a later pass or a proof finds no difference.

    Raises:
        BadInput: MLflow could not do it, the message holds its last words; it could not read a file; or the folder,
            which has no lock, was written to meanwhile.
    """
    assert url.path is not None
    before = _state(folder)
    try:
        passed_over = await schema.take_file_store(folder, url)
    except BadInput as error:
        raise BadInput(f"{folder}: {error}; the folder is as it was") from error
    if _state(folder) != before:
        raise BadInput(
            f"{folder}: was written to while it was read, and a file store has no lock; stop its writers, then run the "
            "same command again"
        )
    if passed_over:
        raise BadInput(
            f"{folder}: MLflow can't read all of it ({len(passed_over)} times; first: {passed_over[0]}), and what it "
            "can't read would be left out; mend it, or move it out of the folder"
        )
    _finish(url.path)


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


def _finish(path: Path) -> None:
    """Leave one file, with ids that follow from what they name: a file store has none, and MLflow draws them."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        connection.create_function("made_id", -1, _made_id, deterministic=True)
        connection.executescript(f"BEGIN; {_MADE_IDS} COMMIT;")


def _made_id(*names: object) -> str:
    return str(UUID(bytes=hashlib.sha256(json.dumps(names).encode()).digest()[:16]))
