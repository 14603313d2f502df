"""The run behind a Locust test: `bench.host` in a process of its own, seen from the Locust that leads."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import gevent
from gevent.event import AsyncResult

from bench.errors import BadInput, ExitCode
from bench.host import Order
from bench.job import Job
from bench.scenario import CriterionSpec
from loadtests._child import Child, Frame

_GONE = "the run's own process is gone; see what it said on stderr"
_STOPS_S = 60.0  # how long servers may take to end


@dataclass(frozen=True)
class Offer:
    """Everything is ready: the load that is wanted, the run's folder, and what will be judged."""

    job: Job
    folder: Path
    criteria: list[CriterionSpec]


@dataclass(frozen=True)
class Result:
    """How a run ended. ``criteria`` are `bench.results.Criterion` as JSON has them; no folder, no report."""

    exit_code: int
    verdict: str
    reason: str
    folder: Path | None = None
    criteria: list[dict[str, Any]] = field(default_factory=list)


class Gone(Exception):
    """The run's process ended before it should: a defect of ours, or somebody killed it."""


class Host:
    """One run. It is gone when this process is; if it goes before that, and without a result, ``gone`` hears why."""

    def __init__(self, order: Order, say: Callable[[str], None], gone: Callable[[str], None]) -> None:
        self._say, self._gone = say, gone
        self._offer: AsyncResult[Any] = AsyncResult()
        self._result: AsyncResult[Any] = AsyncResult()
        self._child = Child("bench.host", sys.stderr.fileno())
        self._child.send(order.told())
        gevent.spawn(self._read)

    def offer(self) -> Offer:
        """What is ready, once it is.

        Raises:
            BadInput: what was asked for can't be.
            Gone: the run's process ended.
        """
        return cast(Offer, self._offer.get())

    def tell(self, frame: Frame) -> None:
        """A frame of the load."""
        self._child.send(frame)

    def result(self) -> Result:
        """The result, once all is judged."""
        return cast(Result, self._result.get())

    def abandon(self) -> None:
        """Nobody wants the run any more: it ends, with all that it started, and leaves no folder."""
        self._child.send({"event": "dropped"})
        self._child.end(_STOPS_S)

    def _read(self) -> None:
        for frame in self._child.frames():
            if frame["event"] == "say":
                self._say(str(frame["text"]))
            elif frame["event"] == "job":
                criteria = [CriterionSpec.model_validate(one) for one in frame["criteria"]]
                self._offer.set(Offer(Job.from_json(frame["job"]), Path(frame["folder"]), criteria))
            elif frame["event"] == "refused":
                self._refuse(str(frame["message"]))
            elif frame["event"] == "result":
                told = {name: frame[name] for name in ("exit_code", "verdict", "reason", "criteria")}
                self._result.set(Result(**told, folder=Path(frame["folder"])))
        if not self._offer.ready():
            self._offer.set_exception(Gone(_GONE))
        if not self._result.ready():
            self._result.set(Result(ExitCode.INCONCLUSIVE, "inconclusive", _GONE))
            self._gone(_GONE)
        self._child.end(_STOPS_S)

    def _refuse(self, message: str) -> None:
        if not self._offer.ready():
            self._offer.set_exception(BadInput(message))
        self._result.set(Result(ExitCode.BAD_INPUT, "refused", message))
