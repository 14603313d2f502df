"""Recordings of commits on a disk in memory, and power cuts in them, for the tests of both."""

import asyncio
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from planted import mlflow_schema

from bench.faults.power import PowerLoss
from bench.faults.power.disk import Disk, Lose
from bench.faults.power.experiment import cut_everywhere
from bench.faults.power.recording import Recording, record
from bench.faults.power.vfs import DiskVfs

SEED = 7
COMMITS = 3
NEEDED = {
    "alembic_version", "datasets", "experiment_tags", "experiments", "input_tags", "inputs", "latest_metrics",
    "metrics", "params", "runs", "sqlite_sequence", "tags",
}  # fmt: skip
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a recovery syncs, which needs no disk here


@cache
def lean() -> bytes:
    """MLflow's schema without the tables that metrics have nothing to do with: it is checked thousands of times."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        path = template(Path(folder))
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for table in tables - NEEDED:
                db.execute(f"DROP TABLE {table}")
            db.execute("VACUUM")
        return path.read_bytes()


def template(folder: Path) -> Path:
    path = folder / "template.db"
    path.write_bytes(mlflow_schema())
    return path


@cache
def recorded(
    journal_mode: str, synchronous: str, vfs: type[DiskVfs] = DiskVfs, commits: int = COMMITS, seed: int = SEED
) -> Recording:
    pragmas = {"journal_mode": journal_mode, "synchronous": synchronous}
    with TemporaryDirectory(dir=MEMORY) as folder:
        return asyncio.run(record(lean(), Path(folder), pragmas, seed, commits, vfs))


def cut(recording: Recording, lose: Lose, disk: type[Disk] = Disk, seed: int = SEED) -> PowerLoss:
    with TemporaryDirectory(dir=MEMORY) as folder:
        return asyncio.run(cut_everywhere(recording, lose, Path(folder), seed, disk))
