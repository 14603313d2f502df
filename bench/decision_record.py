"""What the decision to move a store came to, step by step, and how to carry it out. Part of results.json."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from bench.cell import Frozen
from bench.migrate.proof import Proof
from bench.migrate.record import Migration
from bench.readiness.check import Readiness

Outcome = Literal["pass", "warn", "fail", "unknown", "not done"]
BADNESS: Final[tuple[Outcome, ...]] = ("pass", "not done", "warn", "unknown", "fail")


class Step(Frozen):
    """One line of the checklist; ``remedy`` is what to do, empty where there is nothing to do."""

    step: str
    outcome: Outcome = Field(description="unknown: it could not be found out; not done: nobody asked for it, or can't")
    said: str
    remedy: str = ""


class Act(Frozen):
    """One step of a cut-over or roll-back: what to do, the commands for it, and what to see before the next one."""

    do: str
    commands: list[str] = Field(default_factory=list, description="as typed; no passwords, but env:VAR or ***")
    watch: str = ""


Part = Literal[
    "source", "preflight", "copy", "proof", "load", "faults", "proof_after_load", "readiness", "backup",
    "artifacts",
]  # fmt: skip


class Undone(Frozen):
    """Why a part of the move was not done, and what to do for it to be."""

    part: Part
    reason: str
    remedy: str = ""


class Move(Frozen):
    """Moving one deployment: its store, and with it what else was moved."""

    source: str = Field(description="URLs without passwords")
    target: str = Field(description="a URL, or the kind of a private server of ours")
    candidate: str = Field(description="the target's, among the candidates")
    scratch: bool = Field(description="whether the target is a private server of ours, gone with the run")
    migration: Migration | None = None
    also: list[Migration] = Field(default_factory=list, description="other databases of the deployment")
    proof_after_load: Proof | None = Field(default=None, description="with the load's own rows removed again")
    readiness: list[Readiness] = Field(default_factory=list)
    extra: list[Step] = Field(default_factory=list, description="steps with no record of their own")
    undone: list[Undone] = Field(default_factory=list)

    def why_not(self, part: Part, default: str) -> Undone:
        """Why a part was not done; ``default`` where nobody said."""
        return next((one for one in self.undone if one.part == part), Undone(part=part, reason=default))

    @property
    def proofs(self) -> list[Proof]:
        """Every proof that there is: of each copy, then that after the load."""
        made = [one.proof for one in (self.migration, *self.also) if one is not None]
        return [one for one in (*made, self.proof_after_load) if one is not None]

    @property
    def differs(self) -> str | None:
        """What is not equal, in words, if a proof found anything."""
        for proof in self.proofs:
            if not proof.equal:
                after = " after the load" if proof is self.proof_after_load else ""
                return f"{proof.target} is not equal to {proof.source}{after}: {differences(proof)}"
        return None


def differences(proof: Proof) -> str:
    """How much differs, in words."""
    counts = {
        ("row missing", "rows missing"): sum(table.missing for table in proof.tables),
        ("row too many", "rows too many"): sum(table.extra for table in proof.tables),
        ("row changed", "rows changed"): sum(table.changed for table in proof.tables),
        ("difference of structure", "differences of structure"): len(proof.structure),
        ("difference that MLflow's client sees", "differences that MLflow's client sees"): len(proof.client or []),
    }
    found = [f"{number:,} {one if number == 1 else more}" for (one, more), number in counts.items() if number]
    where = [table.table for table in proof.tables if not table.equal]
    named = f" ({', '.join(where[:3])}{' …' if len(where) > 3 else ''})" if where else ""
    return (", ".join(found) or "row counts differ") + named
