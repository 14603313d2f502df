"""Who makes a trial's load: this Locust alone, or the workers of a master. Identities never meet across processes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
from locust.env import Environment

from bench.arrivals import Arrivals
from bench.job import Job
from loadtests import _part
from loadtests._part import Broke, Ending, Part, Told

MAX_IDENTITIES = 0xFFFF  # run ids have four hex digits for the writer

Began = Callable[[int, int], None]  # a part, and how far its monotonic clock is ahead of ours, in ns


class Crew(Protocol):
    """The processes that run users."""

    def identities(self, users: int) -> int:
        """How many writers there must be room for."""

    def begin(self, job: Job, scenario: tuple[str, str], told: Told, broke: Broke, began: Began) -> None:
        """Begin every part of a load. ``scenario``: its name and its text.

        Raises:
            BadInput: a worker can't take part.
        """

    def open(self, at_ns: int) -> None:
        """All users are there: what an open loop had due before ``at_ns`` (our clock) found too few of them."""

    def measure(self) -> None:
        """The measured time begins."""

    def end(self) -> tuple[list[Ending], int]:
        """End the load in order: how each part ended, and how many parts were lost."""

    def abandon(self) -> None:
        """Drop the load, whatever its state."""


def room(users: int) -> int:
    """Identities for so many users and some more: users may be added by hand, and may come and go."""
    return users + max(10, users // 2)


def part_of(job: Job, number: int, block: int, parts: int = 1) -> Job:
    """The load of part ``number`` of ``parts``, which has ``block`` identities of its own and begins with no user."""
    return replace(
        job,
        part=number,
        first=number * block,
        block=block,
        active=0,
        warmup_s=0.0,
        duration_s=float("inf"),
        count=None,
        arrivals=None if job.arrivals is None else shared(job.arrivals, number, parts),
    )


def shared(arrivals: Arrivals, number: int, parts: int) -> Arrivals:
    """The share of part ``number``: random schedules add up to one, constant ones that begin together take turns."""
    seed = int(np.random.SeedSequence([arrivals.seed, number]).generate_state(1, np.uint64)[0])
    return replace(arrivals, rate=arrivals.rate / parts, seed=seed, offset=(arrivals.offset + number) / parts)


class Alone:
    """This Locust runs the users itself."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._part: Part | None = None

    def identities(self, users: int) -> int:
        """How many writers there must be room for."""
        return min(room(users), MAX_IDENTITIES)

    def begin(self, job: Job, scenario: tuple[str, str], told: Told, broke: Broke, began: Began) -> None:  # noqa: ARG002
        """Begin the only part."""
        self._part = _part.begin(self._environment, part_of(job, 0, job.writers), told, broke)
        began(0, 0)

    def open(self, at_ns: int) -> None:
        """All users are there."""
        if self._part is not None:
            self._part.open(at_ns)

    def measure(self) -> None:
        """The measured time begins."""
        if self._part is not None:
            self._part.measure()

    def end(self) -> tuple[list[Ending], int]:
        """End the load in order."""
        assert self._part is not None
        ending = self._part.end()
        self._part = None
        return [ending], 0

    def abandon(self) -> None:
        """Drop the load."""
        if self._part is not None:
            self._part.abandon()
            self._part = None
