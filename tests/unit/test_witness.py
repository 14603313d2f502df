"""Stale reads are planted, and found: missed by a look that began after the acknowledgement, there later."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from test_job import JOB

from bench import ledger
from bench.integrity.witness import Witness
from bench.job import Job
from bench.outcome import Outcome
from bench.stores.sqlite import DIALECT
from bench.workload import Workload

Answer = Callable[[tuple[object, ...]], int]


class Session:
    """Answers how many rows there are at a place; ``answer`` may raise."""

    dialect = DIALECT

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.closed = False

    async def fetch(self, statement: str, *place: object) -> list[tuple[int]]:
        return [(self._answer(place),)]

    async def rollback(self) -> None:
        """Nothing is open."""

    async def close(self) -> None:
        self.closed = True


def job(folder: Path, statuses: list[Outcome], kind: Any = "log_metric") -> Job:
    """Of one writer with this ledger."""
    (folder / "ledger").mkdir()
    ledger.path_of(folder, 0).write_bytes(bytes(statuses))
    work = Workload("w", kind)
    return replace(JOB, workload=work, folder=str(folder), writers=1, block=1, run_ids=("a" * 32,))


def watched(work: Job, answer: Answer, enough: Callable[[Witness, int], bool]) -> tuple[Witness, list[Session]]:
    """A witness that has looked until ``enough`` (of the witness and its connections), and those."""
    sessions: list[Session] = []

    async def whole() -> Witness:
        def told(place: tuple[object, ...]) -> int:
            if enough(witness, len(sessions)):
                witness.over.set()
            return answer(place)

        async def connect() -> Any:
            sessions.append(Session(told))
            return sessions[-1]

        witness = Witness(work, connect)
        await asyncio.wait_for(witness.watch(), 10)
        return witness

    return asyncio.run(whole()), sessions


OK, RESERVED, INFO = Outcome.OK, Outcome.RESERVED, Outcome.INFO


def test_what_was_missed_and_is_there_later_is_stale(tmp_path: Path) -> None:
    asked: list[tuple[object, ...]] = []

    def misses(place: tuple[object, ...]) -> int:
        asked.append(place)
        return 0

    found, sessions = watched(job(tmp_path, [OK, OK, OK, RESERVED, INFO]), misses, lambda *_: True)
    assert found.looks == 1
    assert found.missed == asked
    assert asked[0][0] == "a" * 32
    keys, steps = found.job.layout.metric_places(0, np.array([2]))  # the newest that was acknowledged
    assert asked[0][1:] == (keys[0], steps[0])
    assert asyncio.run(found.stale(Session(lambda _: 1))) == 1  # type: ignore[arg-type]
    assert asyncio.run(found.stale(Session(lambda _: 0))) == 0  # type: ignore[arg-type]  # then it is lost
    assert sessions[0].closed


def test_what_is_there_is_not_stale(tmp_path: Path) -> None:
    found, _ = watched(job(tmp_path, [OK]), lambda _: 1, lambda *_: True)
    assert (found.looks, found.missed) == (1, [])


def test_a_database_that_breaks_off_is_asked_again_and_is_no_look(tmp_path: Path) -> None:
    def breaks(_: tuple[object, ...]) -> int:
        raise OSError("gone")

    calls: Iterator[Answer] = iter((breaks, lambda _: 1))

    def in_turn(place: tuple[object, ...]) -> int:
        return next(calls)(place)

    found, sessions = watched(job(tmp_path, [OK]), in_turn, lambda _, n: n > 1)
    assert len(sessions) == 2
    assert sessions[0].closed
    assert (found.looks, found.missed) == (1, [])


def test_other_workloads_are_not_watched(tmp_path: Path) -> None:
    found, sessions = watched(job(tmp_path, [OK], "log_batch"), lambda _: 0, lambda *_: True)
    assert (found.looks, sessions) == (0, [])
