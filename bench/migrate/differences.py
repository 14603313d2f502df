"""Names the rows that differ: both sides spill the buckets that differ, and a merge in key order compares them.

The order is that of the canonical keys (`bench.migrate.canonical`), no database's collation, so that it is the same
for every pair of stores. Rows with one key are told apart by all that they hold: a table without a primary key, or an
SQLite key with NULLs in it, may have a row twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.migrate.canonical import Cell, canonical, shown
from bench.migrate.catalog import Kind
from bench.migrate.digest import Reading, Told, nobody
from bench.migrate.proof import CellDifference, RowDifference, Sort
from bench.migrate.side import Side, together
from bench.migrate.spill import KEY, Record, merged

_PAUSE_EVERY: Final = 1_000  # rows, after which others of this loop get their turn

_MEASURED: Final = (Kind.FLOAT, Kind.SINGLE, Kind.BOOLEAN)  # columns that say nothing about which row it is

Values = tuple[Any, ...]


@dataclass(frozen=True)
class Difference:
    """A row that differs, with all its values as the drivers gave them, in the order of the reading's columns.

    ``source`` is None for an extra row, ``target`` for a missing one; of a changed row ``changed`` has the columns.
    """

    sort: Sort
    source: Values | None
    target: Values | None
    changed: tuple[str, ...] = ()

    def values(self, reading: Reading, names: Sequence[str]) -> tuple[Values | None, Values | None]:
        """The source's and the target's values of these columns, in this order."""
        places = [reading.names.index(name) for name in names]
        ours, theirs = self.source, self.target
        return (
            None if ours is None else tuple(ours[place] for place in places),
            None if theirs is None else tuple(theirs[place] for place in places),
        )

    def named(self, reading: Reading) -> RowDifference:
        """It for people: key and differing values in words."""
        kinds = dict(zip(reading.names, reading.kinds, strict=True))
        ours = dict(zip(reading.names, self.source or (), strict=False))
        theirs = dict(zip(reading.names, self.target or (), strict=False))
        present = ours or theirs
        key = [name for name in reading.names[: reading.keys] if name not in self.changed]
        return RowDifference(
            table=reading.table,
            key={name: shown(present[name], kinds[name]) for name in key},
            sort=self.sort,
            cells=[
                CellDifference(
                    column=name, source=shown(ours[name], kinds[name]), target=shown(theirs[name], kinds[name])
                )
                for name in self.changed
            ],
        )


async def differing_rows(
    source: Side,
    target: Side,
    readings: tuple[Reading, Reading],
    secret: bytes,
    wanted: NDArray[np.bool_],
    folder: Path,
    told: Told = nobody,
) -> AsyncIterator[Difference]:
    """The rows of the ``wanted`` buckets that differ, in key order; both sides scan the table once.

    ``folder`` holds the rows of those buckets meanwhile. ``told`` hears of the source's rows.
    """
    stems = [folder / f"{readings[0].table}.{end}" for end in ("source", "target")]
    runs = await together(
        source.spill(readings[0], secret, wanted, stems[0], told),
        target.spill(readings[1], secret, wanted, stems[1], nobody),
    )
    try:
        found = compared(merged(runs[0]), merged(runs[1]), readings[0])
        for number, difference in enumerate(found):
            yield difference
            if number % _PAUSE_EVERY == 0:
                await asyncio.sleep(0)
    finally:
        for path in (*runs[0], *runs[1]):
            path.unlink(missing_ok=True)


async def as_changes(found: AsyncIterator[Difference], reading: Reading) -> AsyncIterator[Difference]:
    """For people: where all columns are the key, as MLflow's metrics have it, a changed value is no other row.

    There a missing and an extra row that differ in doubles and booleans alone become one that changed. They are not
    far apart: what is in such columns does not come first in a key.
    """
    names = [name for name, kind in zip(reading.names, reading.kinds, strict=True) if kind not in _MEASURED]
    identifying, alike = _only(reading, names), list[Difference]()
    identity: tuple[Cell, ...] = ()
    async for one in found:
        if reading.keys < len(reading.columns) or not names:
            yield one
            continue
        ours, theirs = one.values(reading, names)
        previous, identity = identity, _cells(ours or theirs or (), identifying)
        if identity != previous:
            for change in _paired(alike, reading):
                yield change
            alike = []
        alike.append(one)
    for change in _paired(alike, reading):
        yield change


def _paired(alike: list[Difference], reading: Reading) -> Iterator[Difference]:
    missing = [one for one in alike if one.source is not None]
    extra = [one for one in alike if one.target is not None]
    for one, other in zip(missing, extra, strict=False):
        assert one.source is not None
        assert other.target is not None
        yield Difference("changed", one.source, other.target, _changed(one.source, other.target, reading))
    yield from missing[len(extra) :]
    yield from extra[len(missing) :]


def _only(reading: Reading, names: Sequence[str]) -> Reading:
    places = [reading.names.index(name) for name in names]
    columns = tuple(reading.columns[place] for place in places)
    return Reading(reading.table, columns, tuple(reading.kinds[place] for place in places), len(places))


def compared(source: Iterator[Record], target: Iterator[Record], reading: Reading) -> Iterator[Difference]:
    """The differences between two streams of records, each in key order."""
    ours, theirs = groupby(source, KEY), groupby(target, KEY)
    here, there = next(ours, None), next(theirs, None)
    while here is not None or there is not None:
        if there is None or (here is not None and here[0] < there[0]):
            assert here is not None
            yield from (Difference("missing", row, None) for _, row in here[1])
            here = next(ours, None)
        elif here is None or there[0] < here[0]:
            yield from (Difference("extra", None, row) for _, row in there[1])
            there = next(theirs, None)
        else:
            yield from _same_key([row for _, row in here[1]], [row for _, row in there[1]], reading)
            here, there = next(ours, None), next(theirs, None)


def _same_key(ours: list[Values], theirs: list[Values], reading: Reading) -> Iterator[Difference]:
    """Equal rows cancel out; of the rest as many as there are on both sides have changed."""
    there: dict[tuple[Cell, ...], list[Values]] = {}
    for row in theirs:
        there.setdefault(_cells(row, reading), []).append(row)
    unmatched = []
    for row in ours:
        equal = there.get(cells := _cells(row, reading))
        if equal:
            equal.pop()
        else:
            unmatched.append((cells, row))
    left = [(cells, row) for cells, rows in there.items() for row in rows]
    for (_, row), (_, instead) in zip(unmatched, left, strict=False):
        yield Difference("changed", row, instead, _changed(row, instead, reading))
    both = min(len(unmatched), len(left))
    yield from (Difference("missing", row, None) for _, row in unmatched[both:])
    yield from (Difference("extra", None, row) for _, row in left[both:])


def _changed(row: Values, other: Values, reading: Reading) -> tuple[str, ...]:
    pairs = zip(reading.names, _cells(row, reading), _cells(other, reading), strict=True)
    return tuple(name for name, one, two in pairs if one != two)


def _cells(row: Values, reading: Reading) -> tuple[Cell, ...]:
    return tuple(canonical(value, kind) for value, kind in zip(row, reading.kinds, strict=True))
