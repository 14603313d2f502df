"""Durability claims: which promise of a candidate's settings a fault touches, and whether it was kept.

- ``kill -9`` ends processes and leaves the operating system as it was: what a crash of the database's process may lose
  may be lost. SQLite is a library, so its process is whoever opened the file: direct writers, or the tracking server.
- A full disk may make a server give itself up, which is such a crash too; SQLite answers with an error and goes on.
- A power cut takes what was not synced. A model of one that leaves each entry of a directory as it was last changed
  (``lose = "contents"``) can't bring a deleted journal back, which is all that a rollback journal with full sync leaves
  to chance.
- Whatever else is done, nothing that was acknowledged may be lost, at any setting.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from bench.cell import Integrity
from bench.fault_cell import STRUCTURE, FaultCell, FaultOutcome, FaultSeen
from bench.faults.spec import WHO, FaultSpec
from bench.judge import effect
from bench.results import Candidate

ALLOWED: Final = "as its settings allow"
UNCHECKED: Final = " (the amount was not checked)"
AGAINST: Final = "against what its settings promise"
_RANK: Final[dict[FaultOutcome, int]] = {"kept": 0, "unknown": 1, "lost": 2, "broken": 3}
_FULL = 2  # PRAGMA synchronous
_SESSION: Final = "session "  # as a candidate's settings name those of each session
_HARMLESS: Final = ("session busy_timeout",)


def touched(fault: FaultSpec, candidate: Candidate, driver: str) -> Literal["crash", "power"] | None:
    """The promise that a fault puts to the test; None where nothing may be lost whatever the settings say."""
    if fault.kind == "power":
        return "power"
    if candidate.store == "sqlite":
        library = "tracking" if driver == "http" else "load"
        return "crash" if fault.kind == "kill" and fault.target in (library, "database") else None
    return "crash" if fault.kind in ("kill", "disk_full") and fault.target == "database" else None


def may_lose(fault: FaultSpec, candidate: Candidate, driver: str) -> str | None:
    """What the candidate's settings, as read back, allow this fault to lose, in words; None: nothing."""
    promise = touched(fault, candidate, driver)
    if promise == "crash":
        return candidate.may_lose_crash
    if promise == "power":
        return None if fault.lose == "contents" and _only_entries(candidate) else candidate.may_lose_power
    return None


def _only_entries(candidate: Candidate) -> bool:
    """Whether all that a power loss may undo is the deletion of SQLite's journal, an entry in a directory."""
    journal, synchronous = (candidate.settings.get(name, "").lower() for name in ("journal_mode", "synchronous"))
    return candidate.store == "sqlite" and journal == "delete" and synchronous.isdigit() and int(synchronous) >= _FULL


def known(fault: FaultSpec, candidate: Candidate, driver: str) -> bool:
    """Whether it is known what `may_lose` says: of a store behind a tracking server of the user's no settings are.

    Nor those of MLflow's own sessions, where settings of the session are under test: they are in ours alone.
    """
    ours = any(name.startswith(_SESSION) and name not in _HARMLESS for name in candidate.settings)
    elsewhere = driver == "http" and ours
    return touched(fault, candidate, driver) is None or (candidate.durable is not None and not elsewhere)


class Round(NamedTuple):
    """What one trial with a fault left: its own rows by each door, and those of the prefill if they were read."""

    seen: FaultSeen
    doors: Sequence[Integrity]
    prefill: Integrity | None = None
    error: str | None = None


def outcome(rounds: Sequence[Round], may_lose: str | None, known: bool = True) -> tuple[FaultOutcome, str]:
    """(what became of acknowledged writes, why) of one cell: the worst of its rounds, of which there is at least one.

    ``may_lose`` is what its settings allow to be lost; with ``known`` false they could not be read.
    """
    judged = [_of_round(one, may_lose) for one in rounds]
    worst = max(judged, key=_RANK.__getitem__)
    alike = [one for one, own in zip(rounds, judged, strict=True) if own == worst]
    where = f" in {len(alike)} of {len(rounds)} rounds" if len(alike) < len(rounds) else ""
    if worst == "unknown":
        return worst, f"{_why_unknown(alike[0])}{where and f',{where}'}"
    if worst == "kept":
        said = _all_there(alike) if may_lose is None else f"nothing was lost this time; its settings allow: {may_lose}"
        said += _unexamined(rounds)
    else:
        said = f"{_damage(alike)}{where}{_against(alike, worst, may_lose, known)}"
    return worst, f"{said}{_besides(rounds)}"


def _of_round(one: Round, may_lose: str | None) -> FaultOutcome:
    """What is known to be damaged stays so, whatever else could not be found out."""
    broken = [door for door in one.doors if door.broken]
    if broken or (one.prefill is not None and one.prefill.broken):
        tail = all(door.wrong == door.lost for door in broken) and not (one.prefill is not None and one.prefill.broken)
        return "lost" if tail and may_lose is not None and one.seen.begin_s is not None else "broken"
    return "kept" if _why_unknown(one) is None else "unknown"


def _why_unknown(one: Round) -> str | None:
    """Why nothing can be said of a round in which no damage was found; None if it can."""
    if one.error is not None:
        return f"it could not be measured: {one.error}"
    checks = [*one.doors, *([] if one.prefill is None else [one.prefill])]
    if unread := [door for door in checks if not door.checked]:
        return f"integrity is unknown: {unread[0].reason or 'the stored rows were not read back'}"
    if one.seen.begin_s is None:
        return "the fault never began"
    if one.seen.modelled:
        return None if one.doors[0].acknowledged else "no write was acknowledged, so there was nothing to keep"
    if not one.seen.before:
        return "no write was acknowledged before it began, so there was nothing to keep"
    if one.seen.end_s is None:
        return "what was broken never came back"
    if one.seen.first_ok_s is None:
        return "no operation ended ok after it"
    return effect.unmet(one.seen)


def _damage(rounds: Sequence[Round]) -> str:
    """What was found wrong, each round's rows as its worse door has them."""
    own = _counts([max(one.doors, key=lambda door: door.wrong if door.broken else 0) for one in rounds])
    prefill = _counts([one.prefill for one in rounds if one.prefill is not None])
    found = [*own, *(f"of the prefill, read after all faults, {words}" for words in prefill)]
    return ", ".join(found)


def _counts(doors: Sequence[Integrity]) -> list[str]:
    broken = [door for door in doors if door.broken]
    lost, rows = sum(one.lost for one in broken), sum(one.acknowledged for one in broken)
    found = [f"{lost:,} of {rows:,} acknowledged rows {'is' if lost == 1 else 'are'} gone"] if lost else []
    for name in ("duplicated", "corrupted", "unexpected"):
        if count := sum(getattr(one, name) for one in broken):
            found.append(f"{count:,} {name}")
    for name in dict.fromkeys(name for one in broken for name in one.invariants):
        if count := sum(one.invariants.get(name, 0) for one in broken):
            found.append(f"{name}: {count:,} wrong")
    return found


def _against(rounds: Sequence[Round], worst: FaultOutcome, may_lose: str | None, known: bool) -> str:
    """Whether the settings allow such damage; only where their words speak of corruption, that as well."""
    if any(one.seen.begin_s is None for one in rounds):
        return ", though the fault never began"
    if not known:
        return "; what its settings promise is not known"
    if may_lose is None:
        return f", {AGAINST}"
    if worst == "lost" or "corrupt" in may_lose.lower():
        return f", {ALLOWED}: {may_lose}{UNCHECKED}"
    return f", {AGAINST}; they allow: {may_lose}"


def _all_there(rounds: Sequence[Round]) -> str:
    return f"all {sum(one.doors[0].acknowledged for one in rounds):,} acknowledged rows are there, unchanged"


def _besides(rounds: Sequence[Round]) -> str:
    """What is no failure and has to be said all the same."""
    read = [one.doors[0] for one in rounds if one.doors[0].checked]
    counts = {name: sum(getattr(one, name) for one in read) for name in ("recovered", "indeterminate", "stale")}
    words = {
        "recovered": "of unknown outcome and there",
        "indeterminate": "of unknown outcome and not there",
        "stale": "missed by a read and found by a later one",
    }
    return "".join(f"; {count:,} {words[name]}" for name, count in counts.items() if count)


def _unexamined(rounds: Sequence[Round]) -> str:
    """Where the store's own check could not be made, that part of it was not looked at."""
    by_sql = [one.doors[0] for one in rounds if one.doors[0].door == "sql" and not one.seen.modelled]
    return "; its structure was not checked" if any(STRUCTURE not in one.invariants for one in by_sql) else ""


def crash_notes(cells: Sequence[FaultCell]) -> list[str]:
    """Which crashes and power losses these cells stand for, in words; without any, that there were none."""
    begun = [cell for cell in cells if any(one.begin_s is not None for one in cell.seen)]
    killed: dict[str, list[str]] = {}
    for cell in begun:
        if cell.kind == "kill":
            killed.setdefault(WHO.get(cell.target, cell.target), []).append(cell.candidate)
    cut = list(dict.fromkeys(cell.candidate for cell in begun if cell.kind == "power"))
    if not killed and not cut:
        return ["Process crashes and power losses were not tested in this run."]
    crashes = "; ".join(f"{who} of {', '.join(dict.fromkeys(names))}" for who, names in killed.items())
    return [
        f"Process crashes were tested by kill -9, which leaves the operating system's cache as it was: {crashes}."
        if killed
        else "Process crashes were not tested in this run.",
        *(["No database server's own crash was among them."] if killed and WHO["database"] not in killed else []),
        f"Power losses were tested in a model of the disk under SQLite, and on no server: {', '.join(cut)}."
        if cut
        else "Power losses were not tested in this run.",
    ]
