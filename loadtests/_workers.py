"""A master's workers as the crew of a trial. Each has identities of its own; one that is lost is seen."""

import logging
import math
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.event import Event
from locust.runners import STATE_MISSING, MasterRunner

from bench.errors import BadInput
from bench.job import Job
from loadtests import _messages as say
from loadtests._crew import MAX_IDENTITIES, Began, part_of, room
from loadtests._part import Broke, Clocks, Ending, Told, patience_s

_log = logging.getLogger("trackbench")
_ANSWER_S = 15.0
_POLL_S = 0.25
_SPARE_S = 5.0  # beyond the patience of the workers themselves
_TOGETHER_S = 3.0  # Ctrl-C reaches master and workers at once: who leaves that shortly before is not lost
_SPARE = 1  # parts beyond the workers there are: for one that joins late, or comes back under another name


@dataclass
class _Worker:
    """A worker's part in the trial."""

    client: str
    part: int
    ahead_ns: int = 0  # its monotonic clock, of ours
    taken: Event = field(default_factory=Event)
    refused: str | None = None
    ending: Ending | None = None
    ended: float = 0.0  # when it said how its part ended
    lost: bool = False


class Workers:
    """The crew of a `MasterRunner`."""

    def __init__(self, runner: MasterRunner) -> None:
        self._runner = runner
        self._workers: dict[str, _Worker] = {}
        self._users = self._block = 0
        self._parts = 1
        self._job: Job | None = None
        self._scenario = ("", "")
        self._told: Told | None = None
        self._broke: Broke | None = None
        self._began: Began | None = None
        self._ending = False
        runner.register_message(say.TAKEN, self._on_taken)
        runner.register_message(say.TICKS, self._on_ticks)
        runner.register_message(say.BROKE, self._on_broke)
        runner.register_message(say.ENDED, self._on_ended)

    @property
    def _present(self) -> list[str]:
        return [name for name, node in self._runner.clients.items() if node.state != STATE_MISSING]

    def identities(self, users: int) -> int:
        """How many writers there must be room for: as many for each worker as it gets when one other is lost."""
        self._users = users
        options: Any = self._runner.environment.parsed_options
        workers = max(len(self._present), int(options.expect_workers), 1)
        self._block = room(math.ceil(users / max(1, workers - 1)))
        whole = self._block * (workers + _SPARE)
        if whole > MAX_IDENTITIES:
            raise BadInput(f"{users} users on {workers} workers: too many for one trial; use fewer of either")
        return whole

    def begin(self, job: Job, scenario: tuple[str, str], told: Told, broke: Broke, began: Began) -> None:
        """Give each worker its part. ``scenario``: its name and its text.

        Raises:
            BadInput: a worker can't take part, or would have a share of the rate and no user.
        """
        self._job, self._scenario, self._told, self._broke, self._began = job, scenario, told, broke, began
        self._workers, self._ending = {}, False
        present = self._present
        if len(present) * self._block > job.writers:
            known = job.writers // self._block - _SPARE
            raise BadInput(
                f"{len(present)} workers are there, and the test was prepared for {known}: "
                f"say --expect-workers {len(present)}, or start the test once all are there"
            )
        if job.arrivals is not None and self._users < len(present):
            raise BadInput(
                f"{self._users} users on {len(present)} workers: one without users could not send its share of the "
                "rate; use more users or fewer workers"
            )
        self._parts = max(len(present), 1)
        for client in present:
            self.enlist(client)
        workers = list(self._workers.values())
        with suppress(gevent.Timeout), gevent.Timeout(_ANSWER_S):
            for worker in workers:
                worker.taken.wait()
        for worker in workers:
            if worker.refused is not None:
                raise BadInput(f"worker {worker.client}: {worker.refused}")
            if not worker.taken.is_set():
                raise BadInput(f"worker {worker.client}: no answer; is it a worker of locust -f loadtests/?")
        gevent.spawn(self._watch)

    def enlist(self, client: str) -> None:
        """Give a worker a part: one of those present at the start, or one that joined later."""
        if self._job is None or self._ending or client in self._workers:
            return
        part = len(self._workers)
        if self._job.arrivals is not None and part >= self._parts:
            self._without_part(client, "the rate is already shared out among the others")
            return
        if (part + 1) * self._block > self._job.writers:
            self._without_part(client, "no identities are left for its users")
            return
        self._workers[client] = _Worker(client, part)
        name, text = self._scenario
        job = part_of(self._job, part, self._block, self._parts)
        message = {"job": job.to_json(), "scenario": name, "digest": say.digest(text), "source": say.source()}
        self._runner.send_message(say.JOB, message, client)

    def _without_part(self, client: str, why: str) -> None:
        """A worker too many: where users are shared out anew, it gets some, and they could do nothing."""
        options: Any = self._runner.environment.parsed_options
        if options.enable_rebalancing and self._broke is not None:
            self._broke(f"worker {client} joined late, and {why}; start with all workers")
        else:
            _log.warning("worker %s joined late, and takes no part: %s", client, why)

    def _on_taken(self, msg: Any, **_: Any) -> None:
        if (worker := self._workers.get(msg.node_id)) is None or self._began is None:
            return
        worker.refused = msg.data["refused"]
        if worker.refused is None:
            worker.ahead_ns = Clocks(**msg.data["clocks"]).ahead_ns(Clocks.now())
            self._began(worker.part, worker.ahead_ns)
        worker.taken.set()

    def _on_ticks(self, msg: Any, **_: Any) -> None:
        if self._told is not None and msg.node_id in self._workers:
            for second, totals in msg.data["seconds"].items():
                self._told(int(second), totals)

    def _on_broke(self, msg: Any, **_: Any) -> None:
        if self._broke is not None and msg.node_id in self._workers:
            self._broke(f"worker {msg.node_id}: {msg.data['why']}")

    def _on_ended(self, msg: Any, **_: Any) -> None:
        if (worker := self._workers.get(msg.node_id)) is not None:
            worker.ending, worker.ended = Ending(**msg.data), time.monotonic()

    def _watch(self) -> None:
        """Say at once who is lost: Locust itself goes on without it, and ends well."""
        while self._workers and not self._ending:
            self._look()
            gevent.sleep(_POLL_S)

    def _look(self) -> None:
        present, now = self._present, time.monotonic()
        for worker in self._workers.values():
            left = worker.ending is not None and now - worker.ended > _TOGETHER_S
            died = worker.ending is None and worker.client not in present
            if not worker.lost and (died or (left and not self._ending)):
                worker.lost = True
                _log.error("Trackbench: worker %s is lost; this test proves no pass any more", worker.client)

    def open(self, at_ns: int) -> None:
        """All users are there."""
        for worker in self._reachable:
            self._runner.send_message(say.OPEN, {"at_ns": at_ns + worker.ahead_ns}, worker.client)

    def measure(self) -> None:
        """The measured time begins."""
        self._send(say.MEASURE)

    def _send(self, message: str) -> None:
        for worker in self._reachable:
            self._runner.send_message(message, {}, worker.client)

    @property
    def _reachable(self) -> list[_Worker]:
        return [self._workers[client] for client in self._present if client in self._workers]

    def end(self) -> tuple[list[Ending], int]:
        """End the load in order: how each part ended, and how many were lost or left early."""
        assert self._job is not None
        self._look()
        self._ending = True
        self._send(say.END)
        with suppress(gevent.Timeout), gevent.Timeout(patience_s(self._job) + _SPARE_S):
            while any(worker.ending is None and not worker.lost for worker in self._workers.values()):
                gevent.sleep(_POLL_S / 5)
                self._look()
        lost = [one for one in self._workers.values() if one.ending is None or one.lost]
        endings = [one.ending for one in self._workers.values() if one.ending is not None]
        self._job = None
        return endings, len(lost)

    def abandon(self) -> None:
        """Drop the load."""
        self._ending = True
        self._send(say.DROP)
        self._job = None
