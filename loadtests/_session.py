"""One trial under Locust, from what was asked for to its result; lives in the Locust that leads."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

import gevent

from bench.errors import BadInput, ExitCode
from bench.host import Order
from bench.scenario import rate_label
from loadtests._child import Frame
from loadtests._crew import Crew
from loadtests._host import Host, Offer, Result
from loadtests._live import Live
from loadtests._part import Ending

_log = logging.getLogger(__name__)
_NEVER_MEASURED = "the load ended before its measured time began; give it longer (-t) or less --warmup"


class Stage(StrEnum):
    """How far a session has come."""

    PREPARING = "preparing"
    READY = "ready"
    RUNNING = "running"
    ENDING = "ending"
    JUDGING = "judging"
    OVER = "over"


class Session:
    """A trial. ``say`` gets lines about its preparation; ``broke`` is called if the load can't go on."""

    def __init__(self, order: Order, crew: Crew, say: Callable[[str], None], broke: Callable[[], None]) -> None:
        self.order = order
        self.stage = Stage.PREPARING
        self.offer: Offer | None = None
        self.live: Live | None = None
        self.result: Result | None = None
        self.lost = 0
        self._crew, self._broke = crew, broke
        self._faults: list[str] = []
        self._epoch = self._measured = 0  # on the monotonic clock; 0: not yet
        self._users: list[int] = []  # how many there were, one after the other
        self._host = Host(order, say, self._fault)

    def prepare(self) -> None:
        """Until servers, schema and prefill are there.

        Raises:
            BadInput: what was asked for can't be; nothing is left then.
        """
        try:
            self.offer = self._host.offer()
        except BaseException:
            self.abandon()
            raise
        self.stage = Stage.READY

    def begin(self) -> None:
        """Give every process that runs users its part of the load.

        Raises:
            BadInput: a worker can't take part; the session is then to be abandoned.
        """
        assert self.offer is not None
        self._epoch = time.perf_counter_ns()
        self.live = Live(time.time())
        try:
            text = (self.offer.folder / "scenario.toml").read_text(encoding="utf-8")
            self._crew.begin(self.offer.job, (self.order.scenario, text), self._told, self._fault, self._began)
        except BadInput as error:
            self.result = Result(ExitCode.BAD_INPUT, "refused", str(error))
            raise
        self.stage = Stage.RUNNING

    def _began(self, part: int, ahead_ns: int) -> None:
        self._host.tell({"event": "ready", "part": part, "epoch_ns": self._epoch + ahead_ns})

    def _told(self, second: int, tick: Frame) -> None:
        assert self.live is not None
        self.live.add(second, tick)

    def _fault(self, why: str) -> None:
        if self.stage in (Stage.PREPARING, Stage.OVER):  # who prepares it hears of it, and afterwards nobody need
            return
        _log.error("Trackbench: %s", why)
        self._faults.append(why)
        if self.stage is Stage.RUNNING:
            gevent.spawn(self._broke)

    def all_users_are_there(self, users: int) -> None:
        """The warm-up begins, unless it has: Locust says this after each change of the number of users."""
        if self.stage is Stage.RUNNING:
            self._users.append(users)
        if self.stage is Stage.RUNNING and not self._measured and self.offer is not None:
            self._measured = -1
            self._crew.open(time.perf_counter_ns())  # no store is to blame for what waited for users
            gevent.spawn_later(self.offer.job.warmup_s, self._measure)

    def _measure(self) -> None:
        if self.stage is Stage.RUNNING and self.live is not None:
            self._measured = time.perf_counter_ns()
            self.live.measure(time.time())
            self._crew.measure()

    def end(self, interrupted: bool = False, shape: str | None = None) -> None:
        """Let operations in flight end, then have everything read back and judged; `judged` waits for that.

        ``shape`` is the name of the load shape that decided how many users there were, if one did.
        """
        if self.stage is not Stage.RUNNING or self.live is None:
            return
        self.stage = Stage.ENDING
        ended = time.perf_counter_ns()
        self.live.stop(time.time())
        endings, self.lost = self._crew.end()
        notes = notes_on(self.order.users, self._users, shape, self.order.rate)
        self._host.tell(self._last_frame(endings, ended) | {"interrupted": interrupted, "notes": notes})
        self.stage = Stage.JUDGING
        gevent.spawn(self.judged)

    def _last_frame(self, endings: list[Ending], ended: int) -> Frame:
        begun = self._measured if self._measured > 0 else ended
        errors = [ending.error for ending in endings if ending.error]
        late = [] if self._measured > 0 else [_NEVER_MEASURED]
        retried: Counter[str] = sum((Counter(ending.retried) for ending in endings), Counter())
        return {
            "event": "end",
            "begin_ns": begun - self._epoch,
            "end_ns": ended - self._epoch,
            "cpu_share": max((ending.cpu_share for ending in endings), default=0.0),
            "loop_lag_p99_ms": max((ending.loop_lag_p99_ms for ending in endings), default=0.0),
            "retried": dict(retried),
            "faults": [*errors, *self._faults, *(fault for ending in endings for fault in ending.faults), *late],
            "lost_parts": self.lost,
        }

    def judged(self) -> Result:
        """The result, once it is there."""
        if self.result is None:
            self.result = self._host.result()
            self.stage = Stage.OVER
        return self.result

    def abandon(self) -> None:
        """Drop everything."""
        self.stage = Stage.OVER
        self._crew.abandon()
        self._host.abandon()


def notes_on(wanted: int, users: list[int], shape: str | None, rate: float | None = None) -> list[str]:
    """What a reader of the result must know if not all of the ``wanted`` users ran all the time.

    ``users`` are the numbers of users that there were, one after the other; ``rate`` is that of an open loop.
    """
    low, high = min(users, default=0), max(users, default=0)
    if shape is not None:
        note = (
            f"Load shape {shape}: from {low} to {high} users over time, where the concurrency is said to be {wanted}."
        )
    elif users and (low, high) != (wanted, wanted):
        note = f"The number of users was changed during the load: from {low} to {high}, where {wanted} were asked for."
    else:
        return []
    return [note if rate is None else f"{note} The rate stayed {rate_label(rate)}: users limit what is in flight."]
