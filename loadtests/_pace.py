"""The open loop of HTTP users: whoever is free takes the next arrival of one schedule that all users share.

The schedule is `bench.pacer.Due`; here is how users wait for it under gevent. While nobody waits nothing happens at
all, and while somebody does the process sleeps until the next arrival.
"""

from time import perf_counter_ns as now
from typing import Any, Protocol

import gevent
from gevent.hub import Waiter

from bench.pacer import Alarm, Due, Skip

_READ = 1  # gevent's word for a file that is watched for reading
_COARSE_S = 0.001  # gevent's own timers know no less


class Taker(Protocol):
    """Who takes arrivals: a writer."""

    def skip(self, due_ns: int, given_up_ns: int) -> None:
        """Record an arrival that can't be sent within its limit any more."""


class Pace:
    """Hands arrivals to takers: first due, first free, first served. Times are ns on the monotonic clock."""

    def __init__(self, due: Due) -> None:
        self._due = due
        self._waiting: dict[Taker, Waiter[int | None]] = {}  # in the order in which they came
        self._loop: Any = gevent.get_hub().loop
        self._released = False
        self._alarm = Alarm() if Alarm.available() else None
        self._watch: Any = None  # of the alarm; without one a timer of gevent's, each time another
        if self._alarm is not None:
            self._watch = self._loop.io(self._alarm.fileno(), _READ)
            self._watch.start(self._serve)

    def next(self, taker: Taker) -> int | None:
        """When the operation was due that is to begin now; None when the load is over, or the taker was let go.

        Whoever gets a time must carry that operation out, and record it also if it is killed meanwhile.
        """
        if not self._waiting:  # those who came before go before
            time_ns = now()
            due = self._due.take(time_ns, taker.skip)
            if due is not None or self._is_over(time_ns):
                return due
        waiter = self._waiting[taker] = Waiter()
        if len(self._waiting) == 1:
            self._arm()
        try:
            # The hub switches here with the arrival in its hand: none is ever on its way to somebody who is gone.
            return waiter.get()
        finally:
            self._waiting.pop(taker, None)

    def let_go(self, taker: Taker) -> None:
        """If it waits, it does so no longer; one that has taken an arrival is left alone."""
        if (waiter := self._waiting.pop(taker, None)) is not None:
            self._loop.run_callback(waiter.switch, None)

    def open(self, at_ns: int) -> None:
        """Arrivals due before ``at_ns`` that nobody has taken yet do not exist."""
        self._due.open(at_ns)

    def close(self, at_ns: int) -> None:
        """Arrivals due at ``at_ns`` or after it do not exist; takers leave once the others are taken."""
        self._due.close(at_ns)
        self._loop.run_callback(self._serve)

    def abandon(self, skip: Skip) -> None:
        """The load ends now: what is left is skipped, and nobody waits any longer."""
        self._due.abandon(now(), skip)
        self._loop.run_callback(self._serve)

    def release(self) -> None:
        """Give the timer back, after `abandon`; a second time does nothing."""
        if self._released:
            return
        self._released = True
        if self._watch is not None:
            self._watch.close()
        if self._alarm is not None:
            self._alarm.close()

    def _is_over(self, now_ns: int) -> bool:
        """Not before the closing time, even if nothing is left to do: until then a user is part of the load."""
        closing = self._due.closing_ns
        return closing is not None and now_ns >= closing and self._due.exhausted

    def _serve(self) -> None:
        """Give those who wait what is due, in the hub, which alone may switch to them; then sleep until there is more.

        Each one runs from here until it waits for its answer, so the time is another one for the next.
        """
        while self._waiting:
            taker, waiter = next(iter(self._waiting.items()))
            time_ns = now()
            due = self._due.take(time_ns, taker.skip)
            if due is None and not self._is_over(time_ns):
                break
            del self._waiting[taker]
            waiter.switch(due)
        self._arm()

    def _arm(self) -> None:
        """Wake for the next arrival, or for the end, if anybody waits for it."""
        if self._released:
            return
        at = (self._due.next_ns or self._due.closing_ns) if self._waiting else None
        if self._alarm is not None:
            self._alarm.clear() if at is None else self._alarm.set(at)
            return
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if at is not None:
            self._watch = self._loop.timer(max((at - now()) / 1e9, _COARSE_S))
            self._watch.start(self._serve, update=True)
