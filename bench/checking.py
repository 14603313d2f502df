"""Reads a trial's rows back through every door there is, and decides when a doubtful answer is final."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from bench import ledger
from bench.cell import INTEGRITY_COUNTS, Integrity
from bench.identity import run_name
from bench.integrity import Expected, Tally, read_back
from bench.job import Job
from bench.outcome import Outcome
from bench.rest import Rest
from bench.rest_rows import RestRows
from bench.stand import Door, Stand, one_line

_AGAIN, _AGAIN_S = 8, 5.0  # how often a doubtful read-back is repeated, and after how long
_DOUBTFUL = (Outcome.RESERVED, Outcome.INFO)


async def check(stand: Stand, job: Job, doubtful: bool) -> dict[str, Integrity]:
    """Read everything back through the stand's own door, and after an HTTP trial over REST as well.

    ``doubtful``: who made the load did not end in order, and may still be writing.
    """
    first = expected(job)
    in_doubt = doubtful or any(bool(np.isin(status, _DOUBTFUL).any()) for status in first.statuses)
    try:
        await stand.finish_writing(first, in_doubt)
    except Exception as error:
        return {"integrity": _broke_down(error, stand.door)}
    found = {"integrity": await _settled(lambda: stand.read_back(expected(job)), stand.door, in_doubt)}
    if job.site is not None and stand.door != "rest" and job.workload.kind != "traces":
        async with Rest(job.site.url, job.site.headers) as rest:

            def again() -> Awaitable[Tally]:
                return read_back(RestRows(rest, [job.experiment_id], run_name(job.key.prefix)), expected(job))

            found["integrity_rest"] = await _settled(again, "rest", in_doubt)
    return found


def expected(job: Job) -> Expected:
    """What the ledgers say now: a load process that was given up may still be writing to them."""
    statuses = [ledger.load(Path(job.folder), writer) for writer in range(job.writers)]
    return Expected(job.layout, statuses, job.experiment_id, by_name=job.driver == "http")


async def _settled(check: Callable[[], Awaitable[Tally]], door: Door, in_doubt: bool) -> Integrity:
    """What a check found; while writes are in doubt, only what it finds twice is held to be broken.

    A server that is not ours may carry out a request that its client has long given up.
    """
    found = await _judged(check(), door)
    for _ in range(_AGAIN if in_doubt else 0):
        if not found.broken:
            break
        await asyncio.sleep(_AGAIN_S)
        before, found = found, await _judged(check(), door)
        if found == before:
            break
    return found


async def _judged(check: Awaitable[Tally], door: Door) -> Integrity:
    """What a check found; one that breaks down leaves integrity unchecked, never good."""
    try:
        return integrity_of(await check, door)
    except Exception as error:
        return _broke_down(error, door)


def _broke_down(error: Exception, door: Door) -> Integrity:
    return Integrity(
        checked=False, door=door, reason=f"the read-back broke down: {type(error).__name__}: {one_line(error)}"
    )


def integrity_of(tally: Tally, door: Door) -> Integrity:
    """A tally as results.json has it."""
    return Integrity(
        checked=True,
        door=door,
        **{name: getattr(tally, name) for name in INTEGRITY_COUNTS},
        invariants=dict(tally.invariants),
        examples=tally.examples,
    )


async def check_prefill(stand: Stand) -> Integrity | None:
    """Read the prefill back at the end of the run: trials must not have touched it."""
    if stand.filled is None:
        return None
    return await _judged(stand.read_back(stand.filled), stand.door)
