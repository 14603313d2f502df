"""The rows of some buckets on disk, in the order of their canonical keys: sorted runs, merged when they are read."""

from __future__ import annotations

import heapq
import pickle
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from bench.migrate.canonical import Cell, Hasher, canonical
from bench.migrate.digest import Reading, Told, nobody, scan
from bench.stores.base import Row, Session

_RUN_BYTES: Final = 2**24  # of rows that are sorted in memory
_READ_BYTES: Final = 2**16  # of a run that are read together
_CELL_BYTES: Final = 120  # what a value costs in memory, beside its text

Record = tuple[tuple[Cell, ...], tuple[Any, ...]]  # canonical key, and the row as the driver gave it
KEY: Final = itemgetter(0)


async def spill(
    session: Session,
    store: str,
    reading: Reading,
    secret: bytes,
    wanted: NDArray[np.bool_],
    stem: Path,
    told: Told = nobody,
) -> list[Path]:
    """Write the rows of the ``wanted`` buckets into files whose names begin as ``stem``, each sorted by key."""
    hasher, runs = Hasher(secret, reading.kinds, reading.keys), _Runs(stem)
    async for rows in scan(session, store, reading):
        buckets, _ = hasher.rows(rows)
        for place in np.flatnonzero(wanted[buckets]).tolist():
            runs.add(_record(rows[place], reading))
        told(len(rows))
    runs.end()
    return runs.paths


def merged(paths: Sequence[Path]) -> Iterator[Record]:
    """All records of these runs, in the order of their keys."""
    return heapq.merge(*(_records(path) for path in paths), key=KEY)


def _record(row: Row, reading: Reading) -> Record:
    values = tuple(row)
    return tuple(canonical(values[n], reading.kinds[n]) for n in range(reading.keys)), values


class _Runs:
    """Gathers records, and writes a run whenever they take enough memory."""

    def __init__(self, stem: Path) -> None:
        self.paths: list[Path] = []
        self._stem = stem
        self._records: list[Record] = []
        self._bytes = 0

    def add(self, record: Record) -> None:
        self._records.append(record)
        self._bytes += _size(record[1])
        if self._bytes > _RUN_BYTES:
            self.end()

    def end(self) -> None:
        """Write what was gathered."""
        if not self._records:
            return
        self._records.sort(key=KEY)
        self.paths.append(self._stem.with_name(f"{self._stem.name}.{len(self.paths)}"))
        with self.paths[-1].open("wb") as file:
            part, size = list[Record](), 0
            for record in self._records:
                part.append(record)
                size += _size(record[1])
                if size > _READ_BYTES:
                    pickle.dump(part, file, pickle.HIGHEST_PROTOCOL)
                    part, size = [], 0
            pickle.dump(part, file, pickle.HIGHEST_PROTOCOL)
        self._records, self._bytes = [], 0


def _size(values: tuple[Any, ...]) -> int:
    return sum(_CELL_BYTES + (len(value) if isinstance(value, str | bytes) else 0) for value in values)


def _records(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        while True:
            try:
                part = cast("list[Record]", pickle.load(file))
            except EOFError:
                return
            yield from part
