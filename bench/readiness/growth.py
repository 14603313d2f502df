"""How big the tables are, how fast they grow, and when the disk is full at that pace."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from bench.readiness.check import Check, Outcome
from bench.readiness.scene import LONGEST_S, Scene, amount, one_line

DAY_MS = 86_400_000
_SPANS = (7, 30)
_SHOWN = 4


@dataclass(frozen=True)
class Size:
    """A table; ``octets`` with its indexes, None where only the whole file is known; rows may be an estimate."""

    table: str
    rows: int
    octets: int | None


@dataclass(frozen=True)
class Pace:
    """Rows of metrics in the runs that were begun in the last so many days, as far as it could be counted in time."""

    days: int
    metrics: int
    runs: int


@dataclass(frozen=True)
class Disk:
    """The disk that holds the data."""

    free: int
    total: int


async def paces(scene: Scene, limited: str = "{}") -> list[Pace]:
    """How much came lately; ``limited`` wraps a statement so that the database gives it up after `LONGEST_S`.

    By the beginning of runs: a metric's own timestamp is the client's word, and has no index.
    """
    now, found = int(time.time() * 1000), []
    fetch, render = scene.session.fetch, scene.session.dialect.render
    for days in _SPANS:
        since = now - days * DAY_MS
        counted = (
            "SELECT (SELECT COUNT(*) FROM metrics m JOIN runs r ON r.run_uuid = m.run_uuid WHERE r.start_time > ?), "
            "(SELECT COUNT(*) FROM runs WHERE start_time > ?)"
        )
        rows = await fetch(render(limited.format(counted)), since, since)
        found.append(Pace(days, int(rows[0][0]), int(rows[0][1])))
    return found


def sizes(tables: Sequence[Size], whole: int) -> Check:
    """What there is; nothing about it is right or wrong."""
    biggest = sorted(tables, key=lambda one: (one.octets or 0, one.rows), reverse=True)[:_SHOWN]
    each = [
        f"{one.table} {one.rows:,} rows{'' if one.octets is None else f' in {amount(one.octets)}'}"
        for one in biggest
        if one.rows or (one.octets or 0) > 10**6
    ]
    found = f"{amount(whole)} in all; {', '.join(each) or 'no table has rows'}"
    return Check(name="sizes", title="Table sizes", outcome="pass", found=found)


async def counted(counting: Awaitable[Sequence[Pace]], tables: Sequence[Size], whole: int, disk: Disk | None) -> Check:
    """The check of what ``counting`` comes to; unknown if that fails or takes too long, which nothing else has to."""
    try:
        return growth(await counting, tables, whole, disk)
    except Exception as error:
        found = f"could not be counted (given up after {LONGEST_S} s at most): {one_line(error)}"
        remedy = "ANALYZE the tables metrics and runs, and try again at a quiet hour; until then watch `df`"
        return Check(name="growth", title="Growth", outcome="unknown", found=found, remedy=remedy)


def growth(lately: Sequence[Pace], tables: Sequence[Size], whole: int, disk: Disk | None) -> Check:
    """Rows a day, and when the disk is full; a disk that lasts less than 90 days is a warning, less than 14 fails."""
    title = "Growth"
    metrics = next((one.rows for one in tables if one.table == "metrics"), 0)
    by_days = [f"{one.metrics / one.days:,.0f} metrics and {one.runs / one.days:,.1f} runs a day" for one in lately]
    words = ", ".join(f"{text} over {one.days} days" for text, one in zip(by_days, lately, strict=True))
    fastest = max((one.metrics / one.days for one in lately), default=0.0)
    if not metrics or not fastest:
        found = words if any(one.runs for one in lately) else f"no run was begun in the last {_SPANS[-1]} days"
        return Check(name="growth", title=title, outcome="pass", found=found)
    a_day = fastest * whole / max(metrics, 1000)  # what a small store takes by itself is no growth
    words += f": about {amount(a_day)} a day"
    if disk is None:
        return Check(name="growth", title=title, outcome="pass", found=words)
    left = disk.free / a_day
    outcome: Outcome = "fail" if left < 14 else "warn" if left < 90 else "pass"
    words += f"; the disk is full in {left:,.0f} days" if left < 3650 else "; the disk lasts for years"
    remedy = (
        "" if outcome == "pass" else "enlarge the disk, or remove runs that nobody needs: mlflow gc --older-than 90d"
    )
    return Check(name="growth", title=title, outcome=outcome, found=words, remedy=remedy)


def disk_space(disk: Disk | None, whole: int, *, elsewhere: bool) -> Check:
    """Room for what is there once more (a dump, an upgrade that writes tables anew), and a fifth of the disk."""
    title = "Disk space"
    if disk is None:
        where = "the server is on another machine" if elsewhere else "its data folder can't be looked at from here"
        remedy = "watch it there: alert when `df` shows less than 20 % free"
        return Check(name="disk", title=title, outcome="warn", found=f"not seen: {where}", remedy=remedy)
    share = disk.free / max(disk.total, 1)
    outcome: Outcome = "pass"
    if share < 0.05 or disk.free < whole:
        outcome = "fail"
    elif share < 0.2 and disk.free < 10 * whole + 10**10:
        outcome = "warn"
    found = f"{amount(disk.free)} of {amount(disk.total)} free ({share:.0%}), the store takes {amount(whole)}"
    return Check(
        name="disk", title=title, outcome=outcome, found=found, remedy="" if outcome == "pass" else "enlarge the disk"
    )


def milliseconds() -> int:
    """`LONGEST_S` as databases want it."""
    return LONGEST_S * 1000
