"""What a proof says: equal, or every difference by name. Part of results.json, and what ``--json`` prints.

Values are written so that different values never look alike: numbers as Python's ``repr`` (doubles with the shortest
digits that read back to the same bits), text as JSON, bytes as hexadecimal, NULL as ``NULL``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.cell import Frozen

Sort = Literal["missing", "extra", "changed"]


class CellDifference(Frozen):
    """One value that differs."""

    column: str
    source: str
    target: str


class RowDifference(Frozen):
    """A row of the source that the target lacks (missing), one more (extra), or one with other values (changed)."""

    table: str
    key: dict[str, str]
    sort: Sort
    cells: list[CellDifference] = Field(default_factory=list, description="of changed rows only")


class StructureDifference(Frozen):
    """Something of the schema that differs."""

    what: Literal[
        "family", "revision", "table", "column", "primary key", "unique", "index", "foreign key", "check", "sequence"
    ]
    table: str
    source: str
    target: str


class ClientDifference(Frozen):
    """Something that MLflow's own client reads otherwise from the target."""

    what: str = Field(description="experiment, run, metric history, registered model, model version, …")
    where: str
    source: str
    target: str


class TableProof(Frozen):
    """One table's rows on both sides, and how many differ."""

    table: str
    source_rows: int
    target_rows: int
    missing: int = 0
    extra: int = 0
    changed: int = 0

    @property
    def equal(self) -> bool:
        """Whether all rows are there, and nothing else."""
        return not (self.missing or self.extra or self.changed) and self.source_rows == self.target_rows


class Proof(Frozen):
    """What comparing two stores came to. ``rows`` names the differing rows, at most so many as were asked for."""

    source: str = Field(description="URLs without passwords")
    target: str
    family: str
    revision: str | None = Field(description="the source's; another one of the target's is among `structure`")
    tables: list[TableProof]
    rows: list[RowDifference] = Field(default_factory=list)
    rows_not_named: int = Field(0, description="differing rows beyond those in `rows`")
    structure: list[StructureDifference] = Field(default_factory=list)
    client: list[ClientDifference] | None = Field(None, description="None: MLflow's client was not asked")
    client_read: dict[str, int] = Field(default_factory=dict, description="how many of what the client read")
    seconds: dict[str, float] = Field(default_factory=dict, description="rows, structure, client, …")
    notes: list[str] = Field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether nothing at all differs."""
        return all(table.equal for table in self.tables) and not (self.structure or self.client)

    @property
    def compared(self) -> int:
        """Rows of the source."""
        return sum(table.source_rows for table in self.tables)
