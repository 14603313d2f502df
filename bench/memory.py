"""How much memory everybody takes while a trial runs, and whether it grows.

Resident memory, not proportional shares of it: those need a walk over all pages of a process, which costs it
milliseconds and would show in the latencies. Of the processes of one party the pages that they share count once, as
far as that is known without such a walk: those of the process that has most of them. MB are 10**6 bytes.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Final, Self

import numpy as np
import psutil

from bench.cell import MemoryUse

EVERY_S: Final = 1.0
MOST: Final = 720  # looks that are kept: of an hour, one in 8 s
FEWEST: Final = 60  # looks without which nothing is said about growth
PARTIES: Final = ("harness", "load", "tracking", "database")
_LOADS = frozenset({"bench.engine", "loadtests._engine"})

Look = tuple[float, dict[str, float]]
"""Seconds since the first look, and MB of each party that was there."""


def figures(looks: Sequence[Look]) -> dict[str, MemoryUse]:
    """What each party took, and its growth in MB an hour over the second half of its looks.

    The growth is the median of the slopes between any two of them (Theil and Sen), so that neither a start nor a peak
    passes for a leak.
    """
    found = {}
    for party in PARTIES:
        seen = [(at, taken[party]) for at, taken in looks if party in taken]
        if seen:
            amounts = [amount for _, amount in seen]
            growth = _slope(seen[len(seen) // 2 :]) * 3600 if len(seen) >= FEWEST else None
            found[party] = MemoryUse(
                first_mb=amounts[0], last_mb=amounts[-1], peak_mb=max(amounts), mb_per_h=growth, n=len(seen)
            )
    return found


def _slope(seen: Sequence[tuple[float, float]]) -> float:
    at, amount = np.array(seen, dtype=np.float64).T
    early, late = np.triu_indices(len(seen), 1)
    return float(np.median((amount[late] - amount[early]) / (at[late] - at[early])))


class Memory:
    """Looks every second for as long as it is open; a context manager. `uses` says what it saw.

    ``tracking`` gives the processes of the tracking server, ``database`` the root of the database's: None, or a number
    that is none of a descendant of ours, where there is none of ours. Both are called in a thread. When `MOST` looks
    are kept, every other one is dropped, and the time between two doubles.
    """

    def __init__(
        self,
        tracking: Callable[[], Iterable[int]] = tuple,
        database: Callable[[], int | None] = lambda: None,
        every_s: float = EVERY_S,
    ) -> None:
        self._tracking, self._database, self._every_s = tracking, database, every_s
        self._looks: list[Look] = []
        self._peaks: dict[str, float] = {}  # of all looks, those that were not kept among them
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        assert self._task is not None
        await self._task

    def uses(self) -> dict[str, MemoryUse]:
        """What each party took so far, by its name; those that were not seen are left out."""
        found = figures(self._looks)
        return {party: use.model_copy(update={"peak_mb": self._peaks[party]}) for party, use in found.items()}

    async def _watch(self) -> None:
        began = monotonic()
        while True:
            at = monotonic() - began
            self._keep((at, await asyncio.to_thread(self._look)))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), self._every_s)
            if self._over.is_set():
                return

    def _keep(self, look: Look) -> None:
        self._looks.append(look)
        for party, amount in look[1].items():
            self._peaks[party] = max(self._peaks.get(party, 0.0), amount)
        if len(self._looks) >= MOST:
            del self._looks[1::2]
            self._every_s *= 2

    def _look(self) -> dict[str, float]:
        me = psutil.Process()
        ours = me.children(recursive=True)
        parties = {
            "harness": [me],
            "load": [one for one in ours if _is_load(one, me.pid)],
            "tracking": _of(self._tracking()),
            "database": _below(self._database(), ours),
        }
        taken = {party: _megabytes(processes) for party, processes in parties.items()}
        return {party: amount for party, amount in taken.items() if amount}


def _is_load(process: psutil.Process, owner: int) -> bool:
    with suppress(psutil.Error):
        return process.ppid() == owner and not _LOADS.isdisjoint(process.cmdline())
    return False


def _of(pids: Iterable[int]) -> list[psutil.Process]:
    found = []
    for pid in pids:
        with suppress(psutil.Error):
            found.append(psutil.Process(pid))
    return found


def _below(root: int | None, ours: Sequence[psutil.Process]) -> list[psutil.Process]:
    """A process of ours with all that descend from it; parents come before their children."""
    family = {root}
    found = []
    for process in ours:
        with suppress(psutil.Error):
            if process.pid in family or process.ppid() in family:
                family.add(process.pid)
                found.append(process)
    return found


def _megabytes(processes: Iterable[psutil.Process]) -> float:
    """What they take together; 0 of processes that are gone."""
    own, most_shared = 0, 0
    for process in processes:
        with suppress(psutil.Error):
            info = process.memory_info()
            shared = getattr(info, "shared", 0)  # Linux tells
            own, most_shared = own + info.rss - shared, max(most_shared, shared)
    return (own + most_shared) / 1e6
