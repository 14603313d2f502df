"""Looks, while a load runs, for what was acknowledged before: a store that misses it and has it later is stale.

It reads the ledgers that the load process writes, and asks the database for the newest acknowledged metric of one
writer after the other, each in a transaction of its own and past any proxy.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench import ledger
from bench.job import Job
from bench.outcome import Outcome
from bench.stores.base import Session

_EVERY_S = 0.1
_PATIENCE_S = 5.0
_COUNT = "SELECT COUNT(*) FROM metrics WHERE run_uuid = ? AND {key} = ? AND step = ?"
Place = tuple[str, str, int]  # run, key, step


@dataclass
class Witness:
    """Watches one trial of kind ``log_metric``; others are not watched. ``looks`` counts answers.

    ``missed`` are the places that an answer did not have although they had been acknowledged before it was asked for.
    """

    job: Job
    connect: Callable[[], Awaitable[Session]]
    looks: int = 0
    missed: list[Place] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch(self) -> None:
        """Look until ``over`` is set; a database that does not answer is asked again over a new connection."""
        session: Session | None = None
        turn = 0
        while self.job.workload.kind == "log_metric" and not self.over.is_set():
            try:
                async with asyncio.timeout(_PATIENCE_S):  # a frozen server answers nobody
                    session = session or await self.connect()
                    await self._look(session, turn % self.job.writers)
            except Exception:
                if session is not None:
                    with suppress(Exception):
                        await session.close()
                session = None
            turn += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), _EVERY_S)
        if session is not None:
            await session.close()

    async def stale(self, session: Session) -> int:
        """How many of the places that were missed are there now; to be asked when the load is over."""
        found = [await _holds(session, place) for place in self.missed]
        return sum(found)

    async def _look(self, session: Session, writer: int) -> None:
        status = ledger.load(Path(self.job.folder), writer)
        acknowledged = np.flatnonzero(status == Outcome.OK)
        if not len(acknowledged):
            return
        newest = acknowledged[-1:]
        (key,), (step,) = self.job.layout.metric_places(writer, newest)
        place = (self.job.run_id(writer), key, int(step))
        if not await _holds(session, place):
            self.missed.append(place)
        self.looks += 1


async def _holds(session: Session, place: Place) -> bool:
    rows = await session.fetch(session.dialect.render(_COUNT), *place)
    await session.rollback()  # or the next look would see the database as it was for this one
    return bool(int(rows[0][0]))
