"""Faults that are sessions of others in the database: locks held, deadlocks, connections taken, writes refused."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from bench.faults.injection import Action, Crew
from bench.faults.spec import Kind
from bench.job import Job
from bench.outcome import ErrorKind
from bench.stand_sql import SqlStand
from bench.stores import store_for
from bench.stores.base import Session

_STORMERS = 3
_GRABBERS = 8
_ENDED_AGAIN_S = 0.2
_NEIGHBOUR = {"postgresql": "postgres", "timescaledb": "postgres", "mysql": "mysql", "mariadb": "mysql"}


class _BySessions(Action):
    """Something that other sessions do; they are connected before the load begins, and closed after it."""

    wanted = 1

    def __init__(self, stand: SqlStand) -> None:
        self._stand, self._store = stand, stand.store
        self._sessions: list[Session] = []
        self._runs: tuple[str, ...] = ()

    async def prepare(self, job: Job, crew: Crew) -> Job:
        self._runs = job.run_ids
        for _ in range(self.wanted):
            self._sessions.append(await self._store.connect(self._stand.spec.session))
        return job

    async def close(self) -> None:
        for session in self._sessions:
            with suppress(Exception):
                await session.close()


class EndedSessions(_BySessions):
    """All other sessions ended, as the server's admin does."""

    async def begin(self) -> str:
        return f"{await self._store.end_sessions(self._sessions[0])} sessions ended"

    async def end(self) -> str:
        return "nothing more is done"


class HeldRows(_BySessions):
    """Another session holds what the load wants to write to."""

    builds_up = True  # it may have to wait itself

    async def begin(self) -> str:
        await self._store.hold(self._sessions[0], self._runs)
        return "locked"

    async def end(self) -> str:
        await self._sessions[0].rollback()
        return "let go"


class Deadlocks(_BySessions):
    """Sessions that take the load's locks in the opposite order, again and again."""

    wanted = _STORMERS

    def __init__(self, stand: SqlStand) -> None:
        super().__init__(stand)
        self._tasks: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()
        self._victims: Counter[str] = Counter()
        self._made = 0

    async def begin(self) -> str:
        self._tasks = [asyncio.create_task(self._storm(session)) for session in self._sessions]
        return f"{_STORMERS} sessions begin"

    async def end(self) -> str:
        self._over.set()
        await asyncio.gather(*self._tasks)
        said = ", ".join(f"{n} x {label}" for label, n in self._victims.items()) or "none of them was a victim"
        return f"they end after {self._made} transactions ({said})"

    async def close(self) -> None:
        self._over.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await super().close()

    async def _storm(self, session: Session) -> None:
        while not self._over.is_set():
            self._made += 1
            try:
                await self._store.collide(session, self._runs)
            except Exception as error:
                kind = self._store.classify(error)
                self._victims[kind.label] += 1
                self.met += 1
                if not kind.is_lock:
                    raise
                await session.rollback()


class TakenConnections(_BySessions):
    """All of a server's connections taken by others, from another database; the load's own are ended meanwhile."""

    builds_up = True

    def __init__(self, stand: SqlStand) -> None:
        super().__init__(stand)
        url = stand.store.url
        self._neighbour = store_for(replace(url, database=_NEIGHBOUR[url.store]))
        self._taken: list[Session] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()
        self._full = asyncio.Event()

    async def begin(self) -> str:
        self._tasks = [asyncio.create_task(self._grab()) for _ in range(_GRABBERS)]
        filling = asyncio.create_task(self._full.wait())
        await asyncio.wait([filling, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        filling.cancel()
        for task in self._tasks:
            if task.done():
                task.result()  # raises what ended it
        self._tasks.append(asyncio.create_task(self._drive_out()))
        return f"{len(self._taken)} connections taken: that is the limit"

    async def end(self) -> str:
        taken = len(self._taken)
        await self._let_go()
        return f"{taken} given back"

    async def close(self) -> None:
        await self._let_go()
        await super().close()

    async def _grab(self) -> None:
        while not self._over.is_set():
            try:
                self._taken.append(await self._neighbour.connect())
            except Exception as error:
                if self._neighbour.classify(error) is not ErrorKind.POOL_EXHAUSTED:
                    raise
                self._full.set()
                await asyncio.sleep(0.005)  # no event tells that one has become free

    async def _drive_out(self) -> None:
        """End the load's sessions, also those that it got back, as long as the fault lasts."""
        while not self._over.is_set():
            await self._store.end_sessions(self._sessions[0])
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), _ENDED_AGAIN_S)

    async def _let_go(self) -> None:
        self._over.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for session in self._taken:
            with suppress(Exception):
                await session.close()
        self._taken.clear()


class RefusedWrites(_BySessions):
    """The server is made read-only, and writable again, whatever happens in between."""

    builds_up = True

    _on = False

    async def begin(self) -> str:
        self._on = True
        await self._store.set_read_only(self._sessions[0], True)
        return "read-only"

    async def end(self) -> str:
        await self._store.set_read_only(self._sessions[0], False)
        self._on = False
        return "writable"

    async def close(self) -> None:
        try:
            if self._on:
                self._sessions.append(await self._store.connect())  # the first may have been cut off in its middle
                await self._store.set_read_only(self._sessions[-1], False)
        finally:
            await super().close()


SESSION_ACTIONS: Final[dict[Kind, Callable[[SqlStand], Action]]] = {
    "disconnect": EndedSessions,
    "lock": HeldRows,
    "deadlocks": Deadlocks,
    "connections": TakenConnections,
    "read_only": RefusedWrites,
}
