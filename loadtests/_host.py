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


class Host:
    """One run. It is gone when this process is."""

    def __init__(self, order: Order, say: Callable[[str], None]) -> None:
        self._say = say
        self._offer: AsyncResult[Any] = AsyncResult()
        self._result: AsyncResult[Any] = AsyncResult()
        self._child = Child("bench.host", sys.stderr.fileno())
        self._child.send(order.told())
        gevent.spawn(self._read)

    def offer(self) -> Offer:
        """What is ready, once it is.

        Raises:
            BadInput: what was asked for can't be.
        """
        return cast(Offer, self._offer.get())

    def tell(self, frame: Frame) -> None:
        """A frame of the load."""
        self._child.send(frame)

    def result(self) -> Result:
        """The result, once all is judged."""
        return cast(Result, self._result.get())

    def abandon(self) -> None:
        """Nobody wants the run any more: it ends, and what it started with it."""
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
        self._refuse("the run's own process is gone; see above")
        self._child.end(_STOPS_S)

    def _refuse(self, message: str) -> None:
        """Both who waits for the offer and who waits for the result must hear of it, unless they have theirs."""
        if not self._offer.ready():
            self._offer.set_exception(BadInput(message))
            self._result.set(Result(ExitCode.BAD_INPUT, "refused", message))
        if not self._result.ready():
            self._result.set(Result(ExitCode.INCONCLUSIVE, "inconclusive", message))
