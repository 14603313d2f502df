"""What a copy is going to take, guessed from the source's size, and whether there is room for it.

The guess is from stores made by our benchmark on a machine with two cores: true to a factor of two or three.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench.errors import BadInput
from bench.migrate.catalog import Catalog
from bench.migrate.limits import MYSQL, POSTGRESQL
from bench.migrate.record import Estimate
from bench.migrate.sql import quoted
from bench.servers import places
from bench.stores import store_for
from bench.stores.base import Session
from bench.stores.url import StoreUrl

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_SPARE: Final = 1.2  # of what is needed: guesses are guesses


@dataclass(frozen=True)
class Rate:
    """A store's figures: its bytes for a byte of the same rows in SQLite, rows a second, seconds before the first."""

    size: float
    rows: float
    schema_s: float
    log: float = 0.0  # bytes of its log meanwhile, for a byte of rows


_RATES: Final = {
    "sqlite": Rate(1.0, 150_000, 4, 0.0),
    "postgresql": Rate(1.35, 110_000, 6, 1.0),
    "timescaledb": Rate(1.5, 80_000, 7, 1.0),
    "mysql": Rate(1.6, 30_000, 25, 0.5),
    "mariadb": Rate(1.6, 30_000, 15, 0.3),
}


async def estimate(session: Session, source: Catalog, store: str, snapshot_bytes: int = 0) -> Estimate:
    """The estimate for all rows of ``source``, through a session of it, into an empty target of the kind ``store``.

    ``snapshot_bytes`` is the size of the SQLite file that a snapshot is taken of; other sources need none.
    """
    counts = [
        int((await session.fetch(f"SELECT COUNT(*) FROM {quoted(source.store, table)}"))[0][0])
        for table in source.tables
    ]
    rate = _RATES[store]
    in_sqlite = await size_of(session, source.store) / _RATES[source.store].size
    return Estimate(
        rows=sum(counts),
        bytes=round(in_sqlite * rate.size),
        seconds=round(rate.schema_s + sum(counts) / rate.rows, 1),
        snapshot_bytes=snapshot_bytes,
    )


async def size_of(session: Session, store: str) -> int:
    """Bytes of a store's rows and indexes, as its database counts them."""
    statement = {
        "sqlite": "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        **dict.fromkeys(POSTGRESQL, "SELECT pg_database_size(current_database())"),
        **dict.fromkeys(
            MYSQL,
            "SELECT COALESCE(SUM(data_length + index_length), 0) FROM information_schema.tables "
            "WHERE table_schema = DATABASE()",
        ),
    }[store]
    return int((await session.fetch(statement))[0][0])


async def check_room(estimate: Estimate, target: StoreUrl, scratch: Path | None = None) -> list[str]:
    """Whether what is needed is free; what could not be looked at, in words.

    Raises:
        BadInput: there is less room on this machine than is needed, for the snapshot or for the target.
    """
    folder = scratch or places.temp_root()
    needed: dict[int, list[tuple[str, Path, int]]] = {}
    notes = []
    if estimate.snapshot_bytes:
        _need(needed, f"the snapshot in {folder}", folder, estimate.snapshot_bytes)
    place = target.path.parent if target.path is not None else await _folder_of(target)
    if place is None:
        notes.append(
            f"free space: {target.host} can't be asked by SQL; about {_megabytes(estimate.bytes)} are needed there"
        )
    else:
        rate = _RATES[target.store]
        _need(needed, f"the target in {place}", place, round(estimate.bytes * (1 + rate.log)))
    for wanted in needed.values():  # several things may lie on one disk
        _check(wanted)
    return notes


def _need(needed: dict[int, list[tuple[str, Path, int]]], what: str, folder: Path, size: int) -> None:
    needed.setdefault(folder.stat().st_dev, []).append((what, folder, round(size * _SPARE)))


def _check(wanted: Sequence[tuple[str, Path, int]]) -> None:
    free, whole = shutil.disk_usage(wanted[0][1]).free, sum(size for _, _, size in wanted)
    if free < whole:
        what = " and ".join(name for name, _, _ in wanted)
        elsewhere = ", or set TMPDIR to a larger disk" if "snapshot" in what else ""
        raise BadInput(
            f"no disk space: {what} may need {_megabytes(whole)}, {_megabytes(free)} are free; free some{elsewhere}"
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


async def _folder_of(target: StoreUrl) -> Path | None:
    """Where a server on this very machine keeps its data; None where that can't be known for sure.

    A server in a container answers on loopback too, and its folder is another one than ours of that name: so the
    process that serves us must be one of ours.
    """
    if target.host not in _LOOPBACK:
        return None
    store = store_for(target)
    session = await store.connect()
    try:
        if target.store in MYSQL:
            statement = "SELECT @@hostname, @@datadir, @@pid_file"
            host, folder, pid_file = (await session.fetch(statement))[0]
            here = host == socket.gethostname() and _runs(_pid_in(Path(folder) / pid_file), target.store)
        else:
            allowed = "SELECT pg_has_role(current_user, 'pg_read_all_settings', 'USAGE'), pg_backend_pid()"
            may, pid = (await session.fetch(allowed))[0]
            here = _runs(int(pid), target.store)
            folder = (await session.fetch("SHOW data_directory"))[0][0] if may and here else ""
    finally:
        await session.close()
    return Path(folder) if here and folder and os.access(folder, os.F_OK) else None


def _pid_in(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0


def _runs(pid: int, store: str) -> bool:
    """Whether this process is a database server on this machine."""
    try:
        name = psutil.Process(pid).name()
    except psutil.Error:
        return False
    return pid > 0 and name.startswith(("mysqld", "mariadbd") if store in MYSQL else "postgres")
