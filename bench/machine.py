"""How the machine itself does while trials run: its speed, its disk, its clock, and who else uses it.

None of this judges a store. It tells one run's machine from another's, and a quiet machine from a busy one.
"""

import asyncio
import hashlib
import os
import secrets
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import psutil

from bench.results import Machine
from bench.trial_record import TrialRecord

_PIECES = 7
_STEPS = 25_000  # of the arithmetic in one piece: 2 to 3 ms of CPython
_BLOCK = bytes(1 << 20)  # hashed once a piece: about 1 ms
_PAGE = bytes(4096)
_SYNCS = 15
_SYNC_LIMIT_S = 0.5
_SLEW = 500e-6  # the most by which NTP makes a clock faster or slower
_READINGS = 5

# Waits for the end of its stdin, which comes when its owner ends in whatever way, then removes the file.
_REAPER = 'cat >/dev/null; rm -f -- "$0"'


def spin_ms() -> float:
    """The time in ms of a fixed piece of arithmetic and hashing: the median of seven, one after the other.

    A single interruption does not show, since it hits one piece; a machine that is slow, or that others keep busy all
    the time, does. It holds one core for about 25 ms.
    """
    return statistics.median(_piece_ms() for _ in range(_PIECES))


def _piece_ms() -> float:
    begun = time.perf_counter_ns()
    word = 1
    for _ in range(_STEPS):
        word = (word * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
    hashlib.sha256(_BLOCK).digest()
    return (time.perf_counter_ns() - begun) / 1e6


def sync_ms(folder: Path) -> float:
    """The median time in ms of a 4 KiB write with its fsync to a new file in ``folder``, which is removed.

    At most 15 of them and half a second. The file has a name while it is written, since some file systems don't sync
    one that has none; it goes even if we are killed. Where fsync does nothing (memory), the figure is that of the call.

    Raises:
        OSError: the folder can't be written to.
    """
    taken: list[float] = []
    with _short_lived_file(folder) as file:
        limit = time.perf_counter() + _SYNC_LIMIT_S
        while len(taken) < _SYNCS and (not taken or time.perf_counter() < limit):
            begun = time.perf_counter_ns()
            file.write(_PAGE)
            os.fsync(file.fileno())
            taken.append((time.perf_counter_ns() - begun) / 1e6)
    return statistics.median(taken)


@contextmanager
def _short_lived_file(folder: Path) -> Iterator[BinaryIO]:
    path = folder / f"trackbench-sync-{secrets.token_hex(4)}"
    reaper = subprocess.Popen(["/bin/sh", "-c", _REAPER, str(path)], stdin=subprocess.PIPE, start_new_session=True)
    with reaper, path.open("xb", buffering=0) as file:
        yield file


async def measure(folder: Path) -> tuple[float, float]:
    """(`spin_ms`, `sync_ms`) in a thread of their own; between trials, since a load beside them would slow both."""

    def both() -> tuple[float, float]:
        return spin_ms(), sync_ms(folder)

    return await asyncio.to_thread(both)


def summary(speeds: Sequence[tuple[float, float]], records: Sequence[TrialRecord]) -> Machine:
    """The machine while the trials ran; ``speeds`` are what `measure` found, once a round.

    Trials with a fault don't count, if there are others: what they do to the machine is wanted.
    """
    records = [record for record in records if record.fault is None] or records
    stolen = [record.steal_share for record in records if record.steal_share is not None]
    others = [record.others_share for record in records if record.others_share is not None]
    return Machine(
        spin_ms=[spin for spin, _ in speeds],
        sync_ms=[sync for _, sync in speeds],
        steal_share=max(stolen, default=None),
        others_share=statistics.median(others) if others else None,
        clock_step_ms=max((record.clock_step_ms for record in records), default=0.0),
    )


class Clock:
    """Watches the wall clock against the monotonic one; both are functions that give ns.

    Trials are timed on the monotonic clock and are not harmed by a step; timestamps, and the log lines of servers, are.
    A machine that was suspended shows as a step too: its monotonic clock stood still.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, steady: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall, self._steady = wall, steady
        self._last = self._read()

    def step_ms(self) -> float:
        """How far the wall clock stepped since the last call (or the beginning), in ms, never negative.

        What NTP may have slewed meanwhile, and what reading two clocks leaves uncertain, is not a step and counts as 0.
        A step that was undone between two calls is not seen.
        """
        before, self._last = self._last, self._read()
        moved = abs(self._last.offset - before.offset)
        allowed = _SLEW * (self._last.at - before.at) + self._last.doubt + before.doubt
        return moved / 1e6 if moved > allowed else 0.0

    def _read(self) -> "_Reading":
        """The best of a few readings: the one in which the least time passed between the clocks."""
        found = []
        for _ in range(_READINGS):
            before, wall, after = self._steady(), self._wall(), self._steady()
            found.append(_Reading(after, wall - (before + after) // 2, after - before))
        return min(found, key=lambda reading: reading.doubt)


class _Reading(NamedTuple):
    """When it was read on the steady clock, wall clock less steady clock, and how far that may be wrong; all ns."""

    at: int
    offset: int
    doubt: int


class Shares(NamedTuple):
    """Of the CPU time of all cores: what a hypervisor took, what processes of others used.

    ``steal`` is None where the system does not count it; both are None of no time.
    """

    steal: float | None
    others: float | None


class Watch:
    """Who had the CPU from here on.

    Ours are this process and all that descend from it: engines, private servers (their supervisors are subreapers, so
    what a server leaves behind stays among its descendants), those that have ended too. A database or a tracking server
    that the user runs, and a Docker container, count as others; so does a process that was orphaned elsewhere. In a
    container the system's counters are the whole host's, so others are then all other containers as well.
    Counters tick 100 times a second, so over a short time a share is coarse.
    """

    def __init__(self) -> None:
        self._begun = _usage()

    def shares(self) -> Shares:
        """The shares since this watch was made; it may be asked more than once."""
        now, then = _usage(), self._begun
        total = now.total - then.total
        if total <= 0:
            return Shares(None, None)
        steal = None if now.steal is None or then.steal is None else _share(now.steal - then.steal, total)
        others = (now.busy - then.busy) - (now.ours - then.ours)
        return Shares(steal, _share(others, total))


class _Usage(NamedTuple):
    """CPU time in seconds since the machine started: in all, used by processes, of those ours, stolen."""

    total: float
    busy: float
    ours: float
    steal: float | None


def _usage() -> _Usage:
    ours = our_cpu_s()
    times = psutil.cpu_times()
    counted = times._asdict()
    total = sum(value for name, value in counted.items() if not name.startswith("guest"))  # user has the guests' too
    return _Usage(total, times.user + times.system + counted.get("nice", 0.0), ours, counted.get("steal"))


def our_cpu_s() -> float:
    """CPU time of our process tree. A process that ends moves into its parent's ``children_…``: the sum stays."""
    me = psutil.Process()
    spent = 0.0
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:  # it has just ended: its parent counts it
            continue
        spent += times.user + times.system
        spent += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return spent


def _share(part: float, whole: float) -> float:
    """A share from 0 to 1; the counters are read one after the other and rounded, so it may come out beyond."""
    return min(1.0, max(0.0, part / whole))
