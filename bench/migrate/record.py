"""What a migration was and came to. Part of results.json, and what ``--json`` prints."""

from __future__ import annotations

from pydantic import Field

from bench.cell import Frozen
from bench.migrate.proof import Proof


class Problem(Frozen):
    """Something that keeps rows from being moved exactly, found beforehand."""

    table: str
    column: str | None
    key: dict[str, str] = Field(default_factory=dict, description="the first such row's, written as in a proof")
    rows: int
    reason: str
    remedy: str


class Estimate(Frozen):
    """What a copy is going to take, guessed from the source's size."""

    rows: int
    bytes: int = Field(description="in the target")
    seconds: float
    snapshot_bytes: int = Field(0, description="of scratch space on this machine")


class Pass(Frozen):
    """One pass over all tables."""

    rows: int = Field(description="of the source")
    inserted: int
    updated: int = 0
    deleted: int = 0
    seconds: float


class Migration(Frozen):
    """A migration, whether it was finished or not."""

    source: str = Field(description="URLs without passwords")
    target: str
    family: str
    revision: str | None
    upgraded_from: str | None = Field(None, description="the revision of a source that was upgraded in a copy")
    held_s: float | None = Field(None, description="how long the source's writers had to wait for the snapshot")
    estimate: Estimate | None = None
    problems: list[Problem] = Field(default_factory=list)
    passes: list[Pass] = Field(default_factory=list)
    seconds: dict[str, float] = Field(
        default_factory=dict, description="snapshot, preflight, schema, copy, finish, proof"
    )
    frozen_to_proof_s: float | None = Field(None, description="from when the writers were stopped to the proof's end")
    proof: Proof | None = None
    notes: list[str] = Field(default_factory=list)
