"""SQLite files in every state that a source may be in, each made by a process of its own, and what became of them."""

import hashlib
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

_WRITER = """
import os, sqlite3, sys, time
path, mode, rows, end = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None, timeout=20)
connection.execute("PRAGMA journal_mode = " + mode).fetchall()
connection.execute("PRAGMA cache_size = 10")
connection.execute("PRAGMA wal_autocheckpoint = 0")
connection.execute("CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY, b TEXT)")
connection.execute("BEGIN IMMEDIATE")
connection.executemany("INSERT INTO t(b) VALUES (?)", (("x" * 500,) for _ in range(int(rows))))
connection.execute("COMMIT")
if end == "in the middle":
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE t SET b = replace(b, 'x', 'y')")  # more than the cache holds: some of it is in the file
if end == "exclusive":
    connection.execute("BEGIN EXCLUSIVE")
if end == "clean":
    connection.close()
print("ready", flush=True)
sys.stdin.read()
"""
ROWS = 200


class Written:
    """A file with `ROWS` committed rows, and the process that wrote it and holds it still."""

    def __init__(self, path: Path, mode: str, end: str) -> None:
        self.path = path
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), mode, str(ROWS), end],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """End the writer as a crash does; what it left beside the file stays."""
        self.process.kill()
        self.process.communicate()


def state(folder: Path) -> dict[str, tuple[int, int, int, str]]:
    """Every file below ``folder``: size, times of change in ns (of content, of the entry), digest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.stat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, content)
    status = folder.stat()
    return found | {".": (0, status.st_mtime_ns, status.st_ctime_ns, "")}


def rows(path: Path) -> list[tuple[int, str]]:
    """What ``t`` holds, in order."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT a, b FROM t ORDER BY a").fetchall()


def store(path: Path, revision: str | None, more: str = "") -> Path:
    """The least that passes for a tracking store at a revision: MLflow's first tables, with one experiment."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name VARCHAR(256) UNIQUE);"
            "CREATE TABLE runs (run_uuid VARCHAR(32) PRIMARY KEY, experiment_id INTEGER REFERENCES experiments);"
            "CREATE TABLE metrics (key VARCHAR(250), run_uuid VARCHAR(32), value DOUBLE, PRIMARY KEY (key, run_uuid));"
            "CREATE TABLE params (key VARCHAR(250) PRIMARY KEY); CREATE TABLE tags (key VARCHAR(250) PRIMARY KEY);"
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL);"
            f"INSERT INTO experiments VALUES (1, 'one');{more}"
        )
        if revision is not None:
            connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        connection.commit()
    return path
