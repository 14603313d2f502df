"""Whether a restored store is equal to the one it was taken from: all rows, and its structure."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bench.migrate.catalog import Catalog, reflect
from bench.migrate.proof import RowDifference, StructureDifference, TableProof
from bench.migrate.side import LocalSide, remote_side
from bench.migrate.structure import compare_sequences, compare_structure
from bench.migrate.verify import prove_rows
from bench.readiness.scene import listed
from bench.stores import store_for
from bench.stores.base import Session
from bench.stores.url import StoreUrl

_NAMED = 3  # differing rows that are named


@dataclass(frozen=True)
class Equality:
    """What the comparison came to; ``differs`` in words, empty where all is equal."""

    rows: int
    tables: int
    differs: str

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differs


async def compare(source: StoreUrl, session: Session, catalog: Catalog, restored: StoreUrl) -> Equality:
    """Compare by the proof of a migration; ``session`` is a frozen one of the source, which may have gone on since.

    Raises:
        BadInput: one of them can't be read to its end.
    """
    found = await asyncio.to_thread(reflect, restored)
    structure = compare_structure(catalog, found)
    async with remote_side(restored) as side:
        rows = await prove_rows(LocalSide(session, source), side, (catalog, found), _NAMED)
    if not structure:
        theirs = await store_for(restored).connect()
        try:
            structure = await compare_sequences(found, theirs)
        finally:
            await theirs.close()
    differs = [_of_table(one) for one in rows.tables if not one.equal]
    differs += [_of_row(one) for one in rows.named]
    differs += [_of_structure(one) for one in structure]
    return Equality(sum(one.source_rows for one in rows.tables), len(rows.tables), listed(differs, 5))


def _of_table(proof: TableProof) -> str:
    counts = (("missing", proof.missing), ("extra", proof.extra), ("changed", proof.changed))
    return f"{proof.table} has {listed([f'{number} rows {sort}' for sort, number in counts if number])}"


def _of_row(row: RowDifference) -> str:
    key = ", ".join(f"{name} {value}" for name, value in row.key.items())
    cells = [f"{cell.column} was {cell.source}, is {cell.target}" for cell in row.cells]
    return f"{row.table} ({key}) {row.sort}{': ' if cells else ''}{listed(cells, 2)}"


def _of_structure(one: StructureDifference) -> str:
    return f"{one.what} of {one.table}: {one.source}, here {one.target}"
