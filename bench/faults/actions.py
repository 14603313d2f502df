"""What each kind of fault does to a stand: to its servers, to the load's process, to the network, to its disk.

Faults that are other sessions in the database are in `bench.faults.sessions`.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from bench.faults.injection import Action, Crew
from bench.faults.proxy import Impairment, Proxy
from bench.faults.sessions import SESSION_ACTIONS
from bench.faults.spec import NETWORK, SESSIONS, WHO, FaultSpec
from bench.job import Job
from bench.servers import ServerFailed
from bench.servers.supervised import Supervised
from bench.stand import Stand
from bench.stand_sql import SqlStand

_PAGES_LEFT = 12  # that a full SQLite file still may grow by: the first writes split some, the next fill them


def make(spec: FaultSpec, stand: Stand) -> Action:
    """The action for a fault that `bench.faults.possible` allows on this stand."""
    if spec.kind in NETWORK:
        return Network(spec)
    if spec.kind == "clock":
        return WrongClock(spec)
    if spec.target == "load":
        return KilledLoad()
    assert isinstance(stand, SqlStand)
    if spec.kind in SESSIONS:
        return SESSION_ACTIONS[spec.kind](stand)
    if spec.kind == "disk_full":
        return FullFile(stand) if stand.database is None else FullDisk(stand.database)
    server = stand.server if spec.target == "tracking" else stand.database
    assert server is not None
    return {"kill": KilledServer, "stop": StoppedServer, "freeze": FrozenServer}[spec.kind](server, spec)


class _OfServer(Action):
    """Something done to a server of ours. Its supervisor works in threads, since its answers are waited for."""

    def __init__(self, server: Supervised, spec: FaultSpec) -> None:
        self._server, self._spec = server, spec

    async def close(self) -> None:
        """Whatever came of the fault, the candidate's next trial needs the server."""
        with suppress(ServerFailed):
            await asyncio.to_thread(self._server.thaw)
            await asyncio.to_thread(self._server.start_again, self._spec.limit_s)

    async def end(self) -> str:
        await asyncio.to_thread(self._server.start_again, self._spec.limit_s)
        return "started again"

    def _need_it_alive(self) -> None:
        if not self._server.alive:
            raise ServerFailed(f"{self._server.label} had ended before")


class KilledServer(_OfServer):
    """SIGKILL to all processes of a server; then it is started again on its data."""

    async def begin(self) -> str:
        self._need_it_alive()
        await asyncio.to_thread(self._server.kill)
        return "killed"


class StoppedServer(_OfServer):
    """A server stopped as its admin does, then started again."""

    async def begin(self) -> str:
        self._need_it_alive()
        await asyncio.to_thread(self._server.halt)
        return "stopped"


class FrozenServer(_OfServer):
    """SIGSTOP to all processes of a server, and SIGCONT."""

    async def begin(self) -> str:
        await asyncio.to_thread(self._server.freeze)
        return "frozen"

    async def end(self) -> str:
        await asyncio.to_thread(self._server.thaw)
        return "thawed"


class FullDisk(Action):
    """A server's disk filled to its last byte, and emptied; a server that gave up meanwhile is started again."""

    builds_up = True

    def __init__(self, server: Supervised) -> None:
        self._server = server

    async def begin(self) -> str:
        size = await asyncio.to_thread(self._server.fill)
        return f"the disk's last {size / 1e6:.0f} MB taken"

    async def end(self) -> str:
        await asyncio.to_thread(self._server.free)
        gave_up = not self._server.alive
        await asyncio.to_thread(self._server.start_again)  # does nothing to one that runs
        return "given back; the server had given up, and was started again" if gave_up else "given back"

    async def close(self) -> None:
        with suppress(ServerFailed):  # what is read back must not wait for room
            await self.end()


class _TwoLoads(Action):
    """The load's process is replaced by another with identities of its own, of which there must be twice as many."""

    _job: Job
    _crew: Crew

    async def prepare(self, job: Job, crew: Crew) -> Job:
        self._job, self._crew = job, crew
        return replace(job, block=job.active)

    def _second(self) -> Job:
        return replace(self._job, part=1, first=self._job.active, block=self._job.active)


class KilledLoad(_TwoLoads):
    """SIGKILL to the load's process, in the middle of what it does; then another takes its place."""

    async def begin(self) -> str:
        await self._crew.kill_load()
        return "killed"

    async def end(self) -> str:
        await self._crew.start_load(self._second())
        return "others begin"


class FullFile(_TwoLoads):
    """SQLite's file may not grow: its ``max_page_count``, which is each connection's own; so others take over."""

    def __init__(self, stand: SqlStand) -> None:
        self._stand = stand

    async def prepare(self, job: Job, crew: Crew) -> Job:
        first = await super().prepare(job, crew)
        await self._stand.session.fetch("VACUUM")  # pages that earlier trials have left free would be used up first
        pages = int((await self._stand.session.fetch("PRAGMA page_count"))[0][0])
        return replace(first, session_options={**job.session_options, "max_page_count": str(pages + _PAGES_LEFT)})

    async def begin(self) -> str:
        return f"the file may grow by {_PAGES_LEFT} pages in all"

    async def end(self) -> str:
        await self._crew.start_load(self._second())
        return "others begin, who may let it grow"


class WrongClock(Action):
    """The load's wall clock is set, and set right again."""

    def __init__(self, spec: FaultSpec) -> None:
        self._spec = spec
        self._crew: Crew

    async def prepare(self, job: Job, crew: Crew) -> Job:
        self._crew = crew
        return job

    async def begin(self) -> str:
        await self._crew.step_clock(self._spec.step_s)
        return f"set by {self._spec.step_s:+g} s"

    async def end(self) -> str:
        await self._crew.step_clock(0.0)
        return "set right"


class Network(Action):
    """A proxy between the load and the server that it talks to, which passes everything on but for the fault's time."""

    def __init__(self, spec: FaultSpec) -> None:
        self._spec = spec
        self._proxy: Proxy | None = None

    async def prepare(self, job: Job, crew: Crew) -> Job:
        if job.site is not None:
            there = urlsplit(job.site.url)
            self._proxy = await Proxy.start(there.hostname or "", there.port or 80)
            here = there._replace(netloc=f"127.0.0.1:{self._proxy.port}").geturl()
            return replace(job, site=replace(job.site, url=here))
        assert job.url is not None
        self._proxy = await Proxy.start(job.url.host, job.url.port)
        return replace(job, url=replace(job.url, host="127.0.0.1", port=self._proxy.port))

    async def begin(self) -> str:
        spec = self._spec
        assert self._proxy is not None
        assert spec.kind in ("latency", "throttle", "blackhole", "reset")
        self._proxy.impair(Impairment(spec.kind, delay_ms=spec.delay_ms, bytes_per_s=spec.bytes_per_s))
        return {
            "latency": f"{spec.delay_ms:g} ms more each way",
            "throttle": f"{spec.bytes_per_s} bytes/s each way and connection",
            "blackhole": "nothing passes",
            "reset": "each answer is cut in its middle",
        }[spec.kind]

    async def end(self) -> str:
        assert self._proxy is not None
        self._proxy.mend()
        return f"mended; {self._proxy.cut} connections were reset" if self._spec.kind == "reset" else "mended"

    async def close(self) -> None:
        if self._proxy is not None:
            await self._proxy.close()


_SAYS: Final[dict[str, Callable[[FaultSpec], str]]] = {
    "kill": lambda one: f"{WHO[one.target]} killed (kill -9){_again(one)}",
    "stop": lambda one: f"{WHO[one.target]} stopped as its admin does{_again(one)}",
    "freeze": lambda one: f"{WHO[one.target]} frozen (SIGSTOP) for {one.for_s:g} s",
    "latency": lambda one: f"{one.delay_ms:g} ms more each way between load and server for {one.for_s:g} s",
    "throttle": lambda one: f"{one.bytes_per_s} bytes/s each way and connection for {one.for_s:g} s",
    "blackhole": lambda one: f"nothing passes between load and server for {one.for_s:g} s",
    "reset": lambda one: f"every answer cut in its middle by a reset for {one.for_s:g} s",
    "disconnect": lambda _: "all connections ended by the server's admin",
    "lock": lambda one: f"the rows that the load writes to (SQLite: the file) locked by others for {one.for_s:g} s",
    "deadlocks": lambda one: f"other sessions that take the same locks in the opposite order for {one.for_s:g} s",
    "connections": lambda one: f"all connections taken by others, those of the load ended, for {one.for_s:g} s",
    "read_only": lambda one: f"the store refuses writes for {one.for_s:g} s",
    "disk_full": lambda one: f"no byte left on the store's disk for {one.for_s:g} s",
    "clock": lambda one: f"the load's wall clock set by {one.step_s:+g} s for {one.for_s:g} s",
    "power": lambda one: (
        "power cut after every single write: what was not synced is gone"
        + (", entries of the directory too" if one.lose == "directory" else "")
    ),
}


def _again(one: FaultSpec) -> str:
    if not one.comes_back:
        return ", and not started again"
    return f", {'others begin' if one.target == 'load' else 'started again'} {one.for_s:g} s later"


def says(spec: FaultSpec) -> str:
    """What a fault is, in words."""
    return _SAYS[spec.kind](spec)
