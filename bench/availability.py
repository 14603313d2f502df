"""Whether a tracking server could be used during a trial: a probe of its health and one of its database, side by side.

Four times a second a GET of ``/health``, which never touches the database, and a search, which does. Each is a task
of its own: no probe waits for another, and the schedule does not wait for answers. Latency runs from the scheduled
time, so a server that holds everybody up is seen by every probe that was due meanwhile.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import httpx

from bench.cell import Availability, Probe
from bench.site import Site

EVERY_S = 0.25
TIMEOUT_S = 5.0
MOST_WAITING = 8  # of a kind: a server that holds so many up is not there, and more would only add to its load
KINDS: tuple["What", ...] = ("health", "search")
What = Literal["health", "search"]
_SEARCH_RUNS = "/api/2.0/mlflow/runs/search"
_SEARCH_EXPERIMENTS = "/api/2.0/mlflow/experiments/search"


@dataclass(frozen=True)
class Answer:
    """How one probe ended. ``due_ns`` is its scheduled time, a reading of `time.perf_counter_ns`."""

    due_ns: int
    what: What
    ok: bool
    latency_ns: int


def figures(answers: Iterable[Answer], timeout_s: float = TIMEOUT_S) -> Availability:
    """The result. A probe without a good answer counts as the whole timeout in p95 (nearest rank)."""
    kept = list(answers)
    by_kind = {what: [one for one in kept if one.what == what] for what in KINDS}
    moments: dict[int, bool] = {}
    for one in kept:
        moments[one.due_ns] = moments.get(one.due_ns, True) and one.ok
    share = sum(moments.values()) / len(moments) if moments else None
    probes = {what: _probe(some, timeout_s) for what, some in by_kind.items()}
    return Availability(share=share, n=len(moments), health=probes["health"], search=probes["search"])


def _probe(answers: Sequence[Answer], timeout_s: float) -> Probe:
    latencies = sorted(one.latency_ns / 1e6 if one.ok else timeout_s * 1e3 for one in answers)
    p95 = latencies[math.ceil(0.95 * len(latencies)) - 1] if latencies else None
    return Probe(ok=sum(one.ok for one in answers), n=len(answers), p95_ms=p95)


class Prober:
    """Probes a site from `start` to `stop`, or as an async context manager. Never raises into the trial.

    ``experiment_id`` is where the search looks for a run; without it, the search is for an experiment.
    """

    def __init__(
        self, site: Site, experiment_id: str | int | None = None, every_s: float = EVERY_S, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._site = site
        self._search: tuple[str, dict[str, object]] = (_SEARCH_EXPERIMENTS, {"max_results": 1})
        if experiment_id is not None:
            self._search = (_SEARCH_RUNS, {"experiment_ids": [str(experiment_id)], "max_results": 1})
        self._every_ns = round(every_s * 1e9)
        self._timeout_s = timeout_s
        self._answers: list[Answer] = []
        self._waiting: Counter[What] = Counter()
        self._under_way: set[asyncio.Task[None]] = set()
        self._schedule: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def start(self) -> None:
        """Begin now; the first probes go out at once."""
        self._schedule = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Send no more, and wait for those under way: at most the timeout. Does no harm when repeated."""
        schedule, self._schedule = self._schedule, None
        if schedule is not None:
            schedule.cancel()
            await asyncio.wait([schedule])

    def result(self, begin_ns: int | None = None, end_ns: int | None = None) -> Availability:
        """What the probes said that were due in this span of `time.perf_counter_ns` (and have been answered)."""
        begin, end = begin_ns or 0, math.inf if end_ns is None else end_ns
        return figures((one for one in self._answers if begin <= one.due_ns < end), self._timeout_s)

    async def _run(self) -> None:
        with suppress(Exception):  # then there are no figures, which is never a pass
            # Neither a proxy nor a limit of connections: a probe must not wait for another one's.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
            async with httpx.AsyncClient(
                headers=self._site.headers, timeout=None, limits=limits, trust_env=False
            ) as client:
                try:
                    await self._keep_time(client)
                finally:
                    await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _keep_time(self, client: httpx.AsyncClient) -> None:
        due = time.perf_counter_ns()
        while True:
            for what in KINDS:
                if self._waiting[what] >= MOST_WAITING:
                    self._answers.append(Answer(due, what, False, round(self._timeout_s * 1e9)))
                    continue
                task = asyncio.create_task(self._ask(client, what, due))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
            due += self._every_ns
            await asyncio.sleep(max(0.0, (due - time.perf_counter_ns()) / 1e9))

    async def _ask(self, client: httpx.AsyncClient, what: What, due: int) -> None:
        ok = False
        self._waiting[what] += 1
        with suppress(Exception):
            async with asyncio.timeout(self._timeout_s):
                answer = await self._request(client, what)
                ok = answer.status_code == httpx.codes.OK
        self._waiting[what] -= 1
        self._answers.append(Answer(due, what, ok, time.perf_counter_ns() - due))

    async def _request(self, client: httpx.AsyncClient, what: What) -> httpx.Response:
        if what == "health":
            return await client.get(f"{self._site.url}/health")
        path, body = self._search
        return await client.post(self._site.url + path, json=body)
