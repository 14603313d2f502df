"""Stores that old MLflows wrote, made again from what `old_stores/make.py` kept of them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "old_stores"
OLDEST, LATE, FIRST_AUTH = "2.0.1", "2.22.0", "2.5.0"


def held(name: str) -> Any:
    """What is kept of ``tracking-…``, ``auth-…`` or ``files-…``."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def database(name: str, path: Path) -> Path:
    """The SQLite file ``path`` with what ``tracking-…`` or ``auth-…`` held."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in held(name)["schema"]:
            connection.execute(statement)
        for table, rows in held(name)["rows"].items():
            places = ", ".join("?" * len(rows[0]))
            connection.executemany(f'INSERT INTO "{table}" VALUES ({places})', rows)
        connection.commit()
    return path


def files(name: str, folder: Path) -> Path:
    """The folder ``folder`` with what the file store ``files-…`` held."""
    for file, text in held(name).items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return folder
