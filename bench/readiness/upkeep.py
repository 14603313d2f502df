"""Whether the database looks after itself: statistics, dead rows, transaction numbers, and a log to go back in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.readiness.check import Check, Outcome
from bench.readiness.scene import listed

_FEW = 10_000  # rows: below it nothing of this matters
_DEAD_SHARE = 0.3
_LAST_NUMBER = 2_100_000_000  # transactions after which PostgreSQL refuses writes, a little early
RETENTION = "keep 7 daily and 4 weekly dumps, on another machine, and restore one each month"


@dataclass(frozen=True)
class Kept:
    """A table's rows as the statistics have them."""

    table: str
    live: int
    dead: int
    analysed: bool


def vacuum(on: bool, tables: Sequence[Kept]) -> Check:
    """PostgreSQL's autovacuum, and what shows that it keeps up."""
    title = "Autovacuum and statistics"
    dead = [f"{one.table} ({one.dead:,} dead of {one.live + one.dead:,})" for one in tables if _is_stale(one)]
    never = [one.table for one in tables if one.live >= _FEW and not one.analysed]
    troubles = []
    if dead:
        troubles.append(f"dead rows pile up in {listed(dead)}")
    if never:
        troubles.append(f"never analysed: {listed(never)}")
    if not on:
        found = "; ".join(
            ["autovacuum or track_counts is off: tables will bloat, and in the end all writes stop", *troubles]
        )
        remedy = "ALTER SYSTEM RESET autovacuum; ALTER SYSTEM RESET track_counts; SELECT pg_reload_conf()"
        return Check(name="autovacuum", title=title, outcome="fail", found=found, remedy=remedy)
    if troubles:
        remedy = "VACUUM (ANALYZE); then ALTER TABLE … SET (autovacuum_vacuum_scale_factor = 0.02) on the big ones"
        return Check(name="autovacuum", title=title, outcome="warn", found="; ".join(troubles), remedy=remedy)
    return Check(name="autovacuum", title=title, outcome="pass", found="on, and no table has many dead rows")


def _is_stale(one: Kept) -> bool:
    return one.dead >= _FEW and one.dead > _DEAD_SHARE * (one.live + one.dead)


def wraparound(age: int, freeze_at: int) -> Check:
    """How far PostgreSQL's oldest transaction number is from where it stops writing."""
    outcome: Outcome = "fail" if age > _LAST_NUMBER // 2 else "warn" if age > 2 * freeze_at else "pass"
    found = (
        f"the oldest is {age:,} transactions old; autovacuum freezes at {freeze_at:,}, writes stop at {_LAST_NUMBER:,}"
    )
    remedy = (
        "" if outcome == "pass" else "find what holds it (old transactions, replication slots), then VACUUM (FREEZE)"
    )
    return Check(name="wraparound", title="Transaction numbers", outcome=outcome, found=found, remedy=remedy)


def point_in_time(possible: bool, found: str, how: str) -> Check:
    """Whether what was written since the last dump can be had back."""
    title = "Recovery to a point in time"
    if possible:
        return Check(name="point_in_time", title=title, outcome="pass", found=f"{found}; {RETENTION}")
    lost = f"{found}: with dumps alone, all that was written since the last one is lost with the disk"
    return Check(name="point_in_time", title=title, outcome="warn", found=lost, remedy=f"{how}; {RETENTION}")
