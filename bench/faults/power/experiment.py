"""Cuts the power after every event of a few commits, and reads back what SQLite makes of what is left."""

import asyncio
import hashlib
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import apsw

from bench.cell import Integrity
from bench.checking import integrity_of
from bench.faults.power.disk import Disk, Lose, Survival, survivals
from bench.faults.power.recording import Recording, record
from bench.faults.power.session import DATABASE, DirectSession
from bench.integrity import Expected, SqlRows, Tally, read_back
from bench.scratch import scratch_folder
from bench.stores.base import Row

CHECK = "SQLite's integrity_check"
READABLE = "the file can be opened and read"
_PROBLEMS = 10  # that integrity_check looks for
_EXAMPLES = 4
_TORN_AGAIN = 6  # the checksums in a journal find most torn pages: it takes some tries to see one get through
Damage = Literal["lost", "broken", "unreadable"]  # from bad to worse


class Stopped(Exception):
    """The experiment was told to end before its time."""


@dataclass(frozen=True)
class Cut:
    """One power cut that did damage, with the worst of the states that it may have left.

    lost: acknowledged rows are gone, and all else is right. broken: rows have other bits, are half there, or the file
    is damaged. unreadable: SQLite can't open or read the file, so that all of it counts as lost.
    """

    event: int
    damage: Damage
    integrity: Integrity
    said: str

    @property
    def badness(self) -> tuple[int, int]:
        """Greater is worse."""
        return get_args(Damage).index(self.damage), self.integrity.wrong


@dataclass(frozen=True)
class PowerLoss:
    """What power cuts did: ``cuts`` of them, one after each event of ``commits`` commits; ``states`` were looked at.

    ``damaged`` are the cuts that did any damage. ``integrity`` is that of the worst single cut, its examples those of
    several; where none did damage, of the last one. ``settings`` were read back; ``written_by`` and ``opened_by`` are
    versions of SQLite.
    """

    lose: Lose
    settings: Mapping[str, str]
    commits: int
    cuts: int
    states: int
    damaged: Sequence[Cut]
    integrity: Integrity
    written_by: str
    opened_by: str

    def count(self, damage: Damage) -> int:
        """How many cuts did this damage at the worst."""
        return sum(cut.damage == damage for cut in self.damaged)

    @property
    def worst(self) -> Cut | None:
        """The cut that did most damage, the first of several; None where none did any."""
        return _worst(self.damaged)

    @property
    def said(self) -> str:
        """What was done and found, in one sentence."""
        what = "unsynced contents" if self.lose == "contents" else "unsynced contents and directory entries"
        done = f"{self.cuts} power cuts in {self.commits} commits that took {what} ({self.states} states of the disk)"
        if not self.damaged:
            return f"{done}: nothing acknowledged was lost"
        counted = ", ".join(f"{self.count(damage)} {damage}" for damage in get_args(Damage) if self.count(damage))
        return f"{done}: {counted}"

    @property
    def examined(self) -> str:
        """SQLite's own check of what was left, and its answer."""
        wrong = sum(
            not cut.integrity.invariants[CHECK] == cut.integrity.invariants[READABLE] == 0 for cut in self.damaged
        )
        answer = f"found damage after {wrong} of {self.cuts} cuts" if wrong else "nothing wrong"
        return f"{CHECK} on each of {self.states} states of the disk: {answer}"


def lose_power(
    lose: Lose,
    template: Path,
    pragmas: Mapping[str, str],
    seed: int,
    commits: int = 12,
    stopped: threading.Event | None = None,
) -> PowerLoss:
    """Carry the experiment out: some seconds, for a thread of its own; ``stopped`` ends it at its next state.

    ``template`` is a SQLite file with MLflow's schema, ``pragmas`` the session's settings.

    Raises:
        BadInput: SQLite did not take one of ``pragmas``.
        Stopped: it was told to end.
    """
    with scratch_folder("power") as folder:
        recording = asyncio.run(record(template.read_bytes(), folder, pragmas, seed, commits))
        return asyncio.run(cut_everywhere(recording, lose, folder, seed, stopped=stopped))


async def cut_everywhere(
    recording: Recording,
    lose: Lose,
    folder: Path,
    seed: int,
    disk: type[Disk] = Disk,
    stopped: threading.Event | None = None,
) -> PowerLoss:
    """Cut the power after every event of a recording, and look at all that is left of it in an empty ``folder``."""
    judge = _Judge(folder)
    damaged: list[Cut] = []
    tally = Tally()
    for event, left in _cuts(recording, lose, random.Random(seed), disk):
        if stopped is not None and stopped.is_set():
            raise Stopped
        expected = recording.expected(event)
        found: list[Cut] = []
        for survival, files in left:
            tally = await judge.look(files, expected)
            if tally.wrong:
                found.append(_cut(f"event {event} ({recording.log[event - 1]}), {survival}", event, tally))
        if worst := _worst(found):
            damaged.append(worst)
    integrity = integrity_of(tally, "sql")
    if worst := _worst(damaged):
        others = [cut.said for cut in damaged if cut is not worst][: _EXAMPLES - 1]
        integrity = worst.integrity.model_copy(update={"examples": [worst.said, *others]})
    return PowerLoss(
        lose, recording.settings, len(recording.commits), len(recording.log), judge.states, damaged, integrity,
        apsw.sqlite_lib_version(), sqlite3.sqlite_version,
    )  # fmt: skip


def _worst(cuts: Sequence[Cut]) -> Cut | None:
    return max(cuts, key=lambda cut: cut.badness, default=None)


def _cuts(
    recording: Recording, lose: Lose, rng: random.Random, disk: type[Disk]
) -> Iterator[tuple[int, list[tuple[Survival, dict[str, bytes]]]]]:
    """The number of each event, and what may be left after it: most is tried where most is on its way."""
    machine = disk(recording.image)
    following = [*recording.log[1:], None]
    for number, (event, then) in enumerate(zip(recording.log, following, strict=True), 1):
        machine.do(event)
        tried = list(survivals(lose))
        if then is not None and then.kind == "sync":
            tried += [one for one in tried if one.contents == "some" and one.entries != "none"] * _TORN_AGAIN
        yield number, [(one, machine.after_cut(one, rng)) for one in tried]


class _Judge:
    """Opens what is left, has SQLite recover it, and reads it back; equal states with equal ledgers only once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[object, ...], Tally] = {}
        self._digest = lru_cache(16)(lambda contents: hashlib.sha256(contents).digest())

    @property
    def states(self) -> int:
        """How many were looked at."""
        return len(self._known)

    async def look(self, files: Mapping[str, bytes], expected: Expected) -> Tally:
        state = tuple((name, self._digest(contents)) for name, contents in sorted(files.items()))
        key = (state, *(status.tobytes() for status in expected.statuses))
        if key not in self._known:
            for name, contents in files.items():
                (self._folder / name).write_bytes(contents)
            try:
                self._known[key] = await _read(self._folder / DATABASE, expected)
            finally:
                for path in self._folder.iterdir():
                    path.unlink()
        return self._known[key]


async def _read(path: Path, expected: Expected) -> Tally:
    """What is in a file, and in the journal beside it."""
    try:
        session = DirectSession(sqlite3.connect(path, isolation_level=None))
        try:
            problems = [row[0] for row in await session.fetch(f"PRAGMA integrity_check({_PROBLEMS})")]
            tally = await read_back(SqlRows(session, expected.layout.key), expected)
        finally:
            await session.close()
    except Exception as error:  # a damaged file may break the reader in any way
        tally = await read_back(_Nothing(), expected)
        tally.invariants.update({READABLE: 1, CHECK: 0})
        tally.examples.insert(0, f"{type(error).__name__}: {error}")
        return tally
    problems = [] if problems == ["ok"] else problems
    tally.invariants.update({READABLE: 0, CHECK: len(problems)})
    tally.examples[:0] = [" ".join(f"integrity_check: {problem}".split()) for problem in problems[:3]]
    return tally


class _Nothing:
    """The rows of a file that can't be read."""

    async def _none(self) -> AsyncIterator[Sequence[Row]]:
        return
        yield

    experiments = runs = metrics = latest_metrics = params = tags = _none


def _cut(done: str, event: int, tally: Tally) -> Cut:
    """The damage that a cut did, in words too."""
    damage: Damage = "lost" if tally.wrong == tally.lost else "broken"
    if tally.invariants[READABLE]:
        damage, found = "unreadable", "the file can't be read"
    else:
        counts = {name: getattr(tally, name) for name in ("corrupted", "duplicated", "unexpected")} | tally.invariants
        lost = [f"{tally.lost} of {tally.acknowledged} acknowledged rows absent"] if tally.lost else []
        found = "; ".join(lost + [f"{name}: {count}" for name, count in counts.items() if count])
    first = f" ({tally.examples[0]})" if tally.examples else ""
    return Cut(event, damage, integrity_of(tally, "sql"), f"power cut after {done}: {found}{first}")
