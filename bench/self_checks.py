"""What the harness itself costs and how far it errs, checked where it runs: timers, recorder, histograms.

The checks take the very parts that trials use; tests hand them broken ones, which must be found.
"""

import asyncio
import select
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop

from bench import histogram, samples
from bench.arrivals import Arrivals
from bench.histogram import Histogram
from bench.identity import F64, I64
from bench.judge.statistics import MIN_SAMPLES, QUANTILES
from bench.outcome import Outcome
from bench.pacer import Alarm, Due, Pacer, Seat
from bench.samples import SCHEMA, Recorder, code

WAKE_RATE = 1_000
_CALLS = 200_000
_REPETITIONS = 10
_ROWS = 120_000  # more than one row group
_DRAIN_EVERY = 7_000
_EPOCH_NS = 10**15  # a machine that has been up for eleven days
_LONGEST_NS = 120_000_000_000
_EDGES_NS = (0, 1, 2, 999, 1_000, 1_001, 10**6 - 1, 10**6, 10**9 + 1, 2**31, 2**32 + 1, 2**53 + 1, 10**15 + 1)
_ROUNDING = 1e-9  # of doubles, as a relative error


@dataclass(frozen=True)
class Timer:
    """The clock of all times: its smallest step, and the median time between two readings (a call and the loop)."""

    step_ns: int
    call_ns: float


@dataclass(frozen=True)
class Wakeups:
    """How late a sleeper wakes with nothing else to do, at ``rate`` a second. ``timer`` says who woke it."""

    timer: str
    rate: int
    n: int
    median_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Recording:
    """The recorder: ns a sample beyond an empty loop, and what became of ``n`` known samples on their way to Parquet.

    ``error_ns`` is the largest error of a time, ``wrong`` the samples that are gone or of which anything changed.
    """

    cost_ns: float
    n: int
    error_ns: int
    wrong: int


def timer() -> Timer:
    """Read the clock many times in a row."""
    now = time.perf_counter_ns
    steps = np.diff(np.array([now() for _ in range(_CALLS)], dtype=np.int64))
    return Timer(int(steps[steps > 0].min()), float(np.median(steps)))


def kernel_wakeups(seconds: float) -> Wakeups | None:
    """How late the kernel's timer wakes a process that only waits for it; None where the system has none."""
    if not Alarm.available():
        return None
    due = Due(Arrivals("constant", WAKE_RATE, 0), time.perf_counter_ns())
    late: list[int] = []
    alarm = Alarm()
    try:
        for _ in range(round(seconds * WAKE_RATE)):
            at = due.next_ns
            assert at is not None
            alarm.set(at)
            select.select([alarm.fileno()], [], [])
            woken = time.perf_counter_ns()
            late.append(woken - at)
            while due.take(woken, _ignore) is not None:  # those that came due while it slept on are no wake-ups
                pass
    finally:
        alarm.close()
    return _wakeups("kernel's timer", late)


def pacer_wakeups(seconds: float) -> Wakeups:
    """How late a writer begins that waits for the engine's pacer, on an event loop of its own, as the engine has it."""

    async def wait_for_each() -> list[int]:
        pacer, begun = Pacer(), time.perf_counter_ns()
        pacer.begin(Due(Arrivals("constant", WAKE_RATE, 0), begun, begun + round(seconds * 1e9)))
        seat = Seat(_ignore)
        late: list[int] = []
        try:
            while (at := await pacer.next(seat)) is not None:
                late.append(time.perf_counter_ns() - at)
        finally:
            pacer.release()
        return late

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return _wakeups("engine's pacer", runner.run(wait_for_each()))


def _ignore(_due_ns: int, _given_up_ns: int) -> None:
    """Nothing is skipped without a limit."""


def _wakeups(name: str, late_ns: list[int]) -> Wakeups:
    late = np.array(late_ns, dtype=np.int64) / 1e6
    return Wakeups(name, WAKE_RATE, len(late), float(np.median(late)), float(np.percentile(late, 99)))


def recording(folder: Path, make: Callable[[Path], Recorder] = Recorder, rows: int = _ROWS) -> Recording:
    """The recorder's cost and error; ``make`` makes the recorder under test, ``folder`` gets its files.

    ``rows`` known samples are enough to fill more than one row group.
    """
    cost = _recording_cost(make(folder / "cost.raw"), rows // 2)
    wanted = _known_samples(rows)
    found = _through(make(folder / "error.raw"), folder, wanted)
    if len(found) != len(wanted):
        return Recording(cost, len(wanted), 0, max(len(found), len(wanted)))
    differs = np.zeros(len(wanted), dtype=bool)
    error = 0
    for name in SCHEMA.names:
        ours, theirs = getattr(found, name), getattr(wanted, name)
        differs |= ours != theirs
        if name.endswith("_ns"):
            error = max(error, int(np.abs(ours - theirs).max()))
    return Recording(cost, len(wanted), error, int(np.count_nonzero(differs)))


def _recording_cost(recorder: Recorder, loop: int) -> float:
    """ns a sample, by turns with an empty loop in an order that cancels drift; the median of the pairs."""
    record, now, word = recorder.record, time.perf_counter_ns, code(0, Outcome.OK, writer=7)

    def full() -> int:
        begun = now()
        for _ in range(loop):
            record((begun, begun, begun, word))
        spent = now() - begun
        recorder.drain()
        return spent

    def empty() -> int:
        begun = now()
        for _ in range(loop):
            pass
        return now() - begun

    pairs = [(full(), empty()) if turn % 2 else (empty(), full())[::-1] for turn in range(_REPETITIONS)]
    recorder.close()
    return statistics.median(one - other for one, other in pairs) / loop


def _known_samples(rows: int) -> samples.Samples:
    """Samples with durations from nothing to beyond any, and every column in use; times since the epoch."""
    random = np.random.default_rng(1)
    took = np.exp(random.uniform(0, np.log(_LONGEST_NS), rows)).astype(np.int64)
    took[: len(_EDGES_NS)] = _EDGES_NS
    scheduled = np.cumsum(random.integers(0, 10**6, rows))
    start = scheduled + random.integers(0, 10**9, rows)
    operation, outcome, error, attempts = (random.integers(0, 256, rows).astype(np.uint8) for _ in range(4))
    writer = random.integers(0, 65536, rows, np.uint16)
    return samples.Samples(scheduled, start, start + took, operation, outcome, error, attempts, writer)


def _through(recorder: Recorder, folder: Path, known: samples.Samples) -> samples.Samples:
    """What comes back of known samples that are recorded, drained, compacted and loaded."""
    times = ((getattr(known, name) + _EPOCH_NS).tolist() for name in SCHEMA.names[:3])
    words = map(code, *(getattr(known, name).tolist() for name in SCHEMA.names[3:]))
    for number, row in enumerate(zip(*times, words, strict=True), start=1):
        recorder.record(row)
        if number % _DRAIN_EVERY == 0:
            recorder.drain()
    recorder.close()
    samples.compact({folder / "error.raw": _EPOCH_NS}, folder / "error.parquet")
    return samples.load(folder / "error.parquet")


def histogram_error(buckets: Callable[[I64], I64] = histogram.buckets) -> float:
    """The largest relative error of a histogram's percentiles against the exact nearest ranks; ``buckets`` counts.

    Over latencies from 1 µs to two minutes: spread evenly over their logarithm, log-normal, and each nearly the same.
    """
    random = np.random.default_rng(1)
    n = 4 * MIN_SAMPLES["p999"]
    shapes = (
        np.exp(random.uniform(np.log(1_000), np.log(_LONGEST_NS), n)),
        random.lognormal(15, 2, n) + 1_000,
        random.normal(3e6, 1e4, n),
    )
    return max(_worst_percentile(np.minimum(shape, _LONGEST_NS).astype(np.int64), buckets) for shape in shapes)


def _worst_percentile(latency_ns: I64, buckets: Callable[[I64], I64]) -> float:
    found, counts = np.unique(buckets(latency_ns), return_counts=True)
    counted = Histogram()
    counted.add(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    exact: F64 = np.sort(latency_ns) / 1e6
    worst = 0.0
    for share in (*QUANTILES.values(), 0.01, 0.25, 1.0):
        told, true = counted.percentile_ms(share), float(exact[max(1, int(np.ceil(share * len(exact)))) - 1])
        assert told is not None
        worst = max(worst, abs(told - true) / true)
    return worst


def faults(recorded: Recording, histogram_off: float) -> list[str]:
    """What is wrong with the harness itself, in words."""
    found = []
    if recorded.wrong:
        changed = f"{recorded.wrong:,} of {recorded.n:,} samples"
        found.append(f"the recorder lost or changed {changed}, times by up to {recorded.error_ns:,} ns")
    if histogram_off > histogram.ERROR + _ROUNDING:
        found.append(f"histograms are off by up to {histogram_off:.2%}, above the {histogram.ERROR:.1%} that is stated")
    return found
