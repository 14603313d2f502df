"""The pacing of open loops: which arrivals are due, who takes them, and a timer that is sharp enough to wake for them.

`Due` and `Alarm` know no event loop: HTTP users pace themselves with them under gevent. `Pacer` is for asyncio.
"""

import asyncio
import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns as now

from bench.arrivals import Arrivals, due_times
from bench.outcome import Outcome
from bench.samples import code
from bench.workload import OPERATIONS, Workload

Skip = Callable[[int, int], None]  # (when it was due, when it was given up), both in ns

_CLOCK_MONOTONIC, _TFD_TIMER_ABSTIME = 1, 1  # of the Linux ABI
_TFD_NONBLOCK, _TFD_CLOEXEC = os.O_NONBLOCK, getattr(os, "O_CLOEXEC", 0)
_COARSE_S = 0.001  # what timers of event loops can tell apart
_NEVER, _RINGING = 0, -1  # in place of a time


def skipped_code(workload: Workload, writer: int) -> int:
    """The fourth word of the sample of an arrival that ``writer`` skipped, named as the workload's own operation."""
    operation = "search_runs" if workload.kind == "read" else workload.operation
    return code(OPERATIONS.index(operation), Outcome.SKIPPED, attempts=0, writer=writer)


class Due:
    """The arrivals of one load process. Times are ns on the monotonic clock.

    Every arrival due before the closing time leaves it exactly once, in order: it is taken, or handed to a `Skip`.
    ``closing_ns`` is when the load is over, None where somebody says so later; arrivals due then or after do not exist.
    Nor do those that `open` says were due too early.
    """

    def __init__(self, arrivals: Arrivals, epoch_ns: int, closing_ns: int | None = None) -> None:
        self.closing_ns = closing_ns
        self._epoch, self._limit = epoch_ns, arrivals.limit_ns
        self._times = due_times(arrivals)
        self._next = epoch_ns + next(self._times)

    @property
    def next_ns(self) -> int | None:
        """When the next arrival is (or was) due; None if there are no more."""
        return None if self.exhausted else self._next

    @property
    def exhausted(self) -> bool:
        """Whether there are no more arrivals before the closing time."""
        return self.closing_ns is not None and self._next >= self.closing_ns

    def take(self, now_ns: int, skip: Skip) -> int | None:
        """When the arrival that is to be sent now was due; None if none is. Those that are too late are skipped.

        An arrival is too late, as pgbench has it, if it would be sent when its latency limit has already passed.
        """
        limit = self._limit
        while (due := self._next) <= now_ns and not self.exhausted:
            self._next = self._epoch + next(self._times)
            if limit is None or due + limit >= now_ns:
                return due
            skip(due, now_ns)
        return None

    def open(self, at_ns: int) -> None:
        """Arrivals due before ``at_ns`` do not exist, but for those that have been taken or skipped already."""
        while self._next < at_ns and not self.exhausted:
            self._next = self._epoch + next(self._times)

    def close(self, at_ns: int) -> None:
        """Arrivals due at ``at_ns`` or after it do not exist; a closing time that is earlier stays."""
        if self.closing_ns is None or at_ns < self.closing_ns:
            self.closing_ns = at_ns

    def abandon(self, now_ns: int, skip: Skip) -> None:
        """The load ends now: all that were due before the closing time and have not been taken are skipped."""
        self.close(now_ns)
        while not self.exhausted:
            skip(self._next, now_ns)
            self._next = self._epoch + next(self._times)


class Alarm:
    """A timer of the kernel as a file that becomes readable at a given time: event loops' own timers know 1 ms at best.

    Use it where `available` says so. Watch `fileno` for reading; `set` and `clear` make it unreadable again.
    """

    def __init__(self) -> None:
        self._set = _libc.timerfd_settime
        self._value = _Timer()
        self._pointer = ctypes.byref(self._value)
        self._fd: int = _libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    @staticmethod
    def available() -> bool:
        """Whether this system has such timers."""
        return sys.platform == "linux" and hasattr(_libc, "timerfd_create")

    def fileno(self) -> int:
        """The file to watch."""
        return self._fd

    def set(self, at_ns: int) -> None:
        """Become readable at ``at_ns`` of the monotonic clock, at once if that has passed, and not before."""
        self._value.seconds, self._value.nanoseconds = divmod(max(at_ns, 1), 1_000_000_000)
        self._apply()

    def clear(self) -> None:
        """Be unreadable until it is set again."""
        self._value.seconds = self._value.nanoseconds = 0
        self._apply()

    def close(self) -> None:
        """Give the file back; a second time does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _apply(self) -> None:
        if self._set(self._fd, _TFD_TIMER_ABSTIME, self._pointer, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")


class _Timer(ctypes.Structure):
    """``struct itimerspec``; the interval stays 0, so that it expires once."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


_libc = ctypes.CDLL(None, use_errno=True)


class Pacer:
    """Hands arrivals to writers of the running event loop: first due, first free, first served. Begin it before use.

    While nobody waits it does nothing at all, and while somebody does it sleeps until the next arrival.
    """

    due: Due

    def __init__(self) -> None:
        self._waiting: deque[_Place] = deque()
        self._loop = asyncio.get_running_loop()
        self._armed = _NEVER  # when the alarm will go off
        self._timer: asyncio.TimerHandle | None = None
        self._alarm = Alarm() if Alarm.available() else None
        if self._alarm is not None:
            self._loop.add_reader(self._alarm.fileno(), self._ring)

    def begin(self, due: Due) -> None:
        """These are the arrivals."""
        self.due = due

    async def next(self, seat: "Seat") -> int | None:
        """When the next operation was due, which is to begin now; None when the load is over, or the seat was left.

        Whoever gets a time must carry out that operation, even if told to stop meanwhile.
        """
        if seat.left:
            return None
        if self._waiting:
            self._serve()  # those who came before
        if not self._waiting:
            time_ns = now()
            due = self.due.take(time_ns, seat.skip)
            if due is not None or self._is_over(time_ns):
                return due
        place: asyncio.Future[int | None] = self._loop.create_future()
        seat.place = place
        self._waiting.append((place, seat.skip))
        if len(self._waiting) == 1:
            self._arm()
        try:
            return await place
        except asyncio.CancelledError:
            if not place.cancelled() and (due := place.result()) is not None:
                seat.skip(due, now())  # it was served and cancelled at once
            raise

    def close(self, at_ns: int) -> None:
        """The load is over at ``at_ns``, if not before: arrivals due then or after do not exist."""
        self.due.close(at_ns)
        self._serve()

    def abandon(self, skip: Skip) -> None:
        """The load ends now: all that is left is skipped, and nobody waits any longer."""
        self.due.abandon(now(), skip)
        self._serve()

    def release(self) -> None:
        """Give the timer back; nobody may wait any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._alarm is not None:
            self._loop.remove_reader(self._alarm.fileno())
            self._alarm.close()

    def _is_over(self, now_ns: int) -> bool:
        """Not before the closing time, even if nothing is left to do: who ends early would end the load."""
        closing = self.due.closing_ns
        return closing is not None and now_ns >= closing and self.due.exhausted

    def _serve(self) -> None:
        """Give those who wait what is due, then sleep until there is more."""
        waiting = self._waiting
        time_ns = now()
        while waiting:
            place, skip = waiting[0]
            if not place.done():
                due = self.due.take(time_ns, skip)
                if due is None and not self._is_over(time_ns):
                    break
                place.set_result(due)
            waiting.popleft()
        self._arm()

    def _ring(self) -> None:
        """The alarm has gone off, and does so until it is set again or cleared."""
        self._armed = _RINGING
        self._serve()

    def _arm(self) -> None:
        at = (self.due.next_ns or self.due.closing_ns or _NEVER) if self._waiting else _NEVER
        if at == self._armed:
            return  # to set a timer of the kernel is what costs most here
        self._armed = at
        if self._alarm is None:
            if self._timer is not None:
                self._timer.cancel()
            wait_s = max((at - now()) / 1e9, _COARSE_S)
            self._timer = None if at == _NEVER else self._loop.call_later(wait_s, self._ring)
        elif at == _NEVER:
            self._alarm.clear()
        else:
            self._alarm.set(at)


class Seat:
    """A writer's place at a pacer: how it skips what is too late, and how it stops waiting."""

    def __init__(self, skip: Skip) -> None:
        self.skip = skip
        self.place: asyncio.Future[int | None] | None = None
        self.left = False

    def leave(self) -> None:
        """Wait no longer, now or ever; what has been handed over already is to be carried out."""
        self.left = True
        if self.place is not None and not self.place.done():
            self.place.set_result(None)


_Place = tuple[asyncio.Future[int | None], Skip]
