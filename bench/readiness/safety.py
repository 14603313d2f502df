"""What may be lost of acknowledged commits, by the settings read back and by the way tables are kept."""

from __future__ import annotations

from collections.abc import Sequence

from bench.readiness.check import Check, Outcome
from bench.readiness.scene import listed
from bench.stores.base import Durability


def durability(promised: Durability, remedy: str) -> Check:
    """Lost at a crash of the process, or corrupt at a power cut: fail; lost at a power cut: warn."""
    outcome: Outcome = "pass"
    if promised.power is not None:
        outcome = "warn"
    if promised.crash is not None or "corrupt" in (promised.power or ""):
        outcome = "fail"
    return Check(
        name="durability",
        title="Acknowledged writes survive",
        outcome=outcome,
        found=promised.claim,
        remedy="" if outcome == "pass" else remedy,
    )


def kept(unsafe: Sequence[str], what: str, why: str, remedy: str) -> Check:
    """Tables that a crash empties or tears: PostgreSQL's unlogged ones, MySQL's without InnoDB."""
    title = "Tables that survive a crash"
    if not unsafe:
        return Check(name="tables_kept", title=title, outcome="pass", found=f"no table is {what}")
    found = f"{len(unsafe)} tables are {what} ({why}): {listed(unsafe)}"
    return Check(name="tables_kept", title=title, outcome="fail", found=found, remedy=remedy)
