"""From a trial's raw samples to its figures.

Latency covers the ok operations that were *due* within the measured window, whenever they began and however long they
took, so that a stall at the end is not cut off (in a closed loop an operation is due when it begins); throughput counts
those that *ended* within it. Both take the steady part of the window alone (`settled`). Outcomes and errors are counted
for every operation that ended after the window began, steady or not, so that none that failed is lost.

An arrival of an open loop that was never sent (skipped) is no operation: only `schedule` counts it.

All of this is called once a trial, on a few hundred thousand operations: each column is gone through once or twice.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.arrivals import Arrivals
from bench.cell import Interval, Latency, Operation
from bench.identity import I64, Flags
from bench.judge import statistics as st
from bench.judge import warmup
from bench.judge.schedule import schedule_of
from bench.judge.times import percentiles, percentiles_within, picked
from bench.outcome import ErrorKind, Outcome
from bench.samples import Samples
from bench.trial_record import Second
from bench.workload import OPERATIONS, READS, Workload

_LEAD_IN_NS = 50_000_000  # a window that begins sooner has no lead-in: the load is measured from its first operation
_READS = np.array([name in READS for name in OPERATIONS])


@dataclass(frozen=True)
class Window:
    """The measured part of a trial, in ns since its epoch."""

    begin_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return max((self.end_ns - self.begin_ns) / 1e9, 1e-9)

    def holds(self, ns: I64) -> Flags:
        """Which of some moments lie within it; its end is not part of it."""
        return np.asarray((ns >= self.begin_ns) & (ns < self.end_ns))


class Steady(NamedTuple):
    """The steady part of a trial's window; the window itself where it was not looked for, or not found."""

    window: Window
    warmup_s: float | None
    found: bool


def figures(
    samples: Samples,
    window: Window,
    workload: Workload,
    retried: Mapping[str, int],
    arrivals: Arrivals | None = None,
    as_given: bool = False,
) -> dict[str, object]:
    """The fields of a `bench.trial_record.TrialRecord` that come from samples.

    ``retried``: errors by kind label. ``arrivals``: those of all writers of an open loop. ``as_given``: no steady part
    of the window is looked for, since all of it counts.
    """
    steady = Steady(window, None, True) if as_given else settled(samples, window, workload)
    taken = _Taken(samples, window, steady.window)
    counts, seconds = taken.counts, steady.window.seconds
    errors = _errors(samples, taken.measured, retried)
    kinds = {kind.label: kind for kind in ErrorKind}
    stored = int(counts.ended[OPERATIONS.index(workload.operation)]) * workload.metrics_per_operation
    writes, reads = taken.latency(~_READS), taken.latency(_READS)
    return {
        "seconds": seconds,
        "ops_ok": int(counts.of(Outcome.OK).sum()),
        "ops_failed": int(counts.of(Outcome.FAIL).sum()),
        "ops_unknown": int(counts.of(Outcome.INFO).sum()),
        "ops_retried": int(np.count_nonzero(taken.measured & (samples.attempts > 1))),
        "first_attempts_ok": int(np.count_nonzero(taken.measured & taken.ok & (samples.attempts == 1))),
        "phases_ms": _phases(samples.where(taken.measured), workload) if workload.kind == "train" else {},
        "metrics_per_s": stored / seconds if workload.metrics_per_operation else None,
        "ops_per_s": int(counts.ended.sum()) / seconds,
        "write_service": writes.service,
        "write_response": writes.response,
        "read_service": reads.service,
        "read_response": reads.response,
        "operations": {name: taken.operation(number) for number, name in enumerate(OPERATIONS) if counts.any[number]},
        "errors": errors,
        "lock_errors": sum(n for label, n in errors.items() if kinds[label].is_lock),
        "deadlocks": sum(n for label, n in errors.items() if kinds[label].is_deadlock),
        "schedule": None if arrivals is None else schedule_of(samples, taken.due, arrivals),
        "warmup_s": steady.warmup_s,
        "steady": steady.found,
        "within": {
            "ops_per_s": st.rate_interval(int(counts.ended.sum()), seconds, st.SHOWN_CONFIDENCE),
            **taken.within,
        },
        "timeline": _timeline(samples, taken, workload),
    }


_Intervals = dict[str, Interval | None]


class _Counts:
    """How many operations of each kind there are: arrays over `bench.workload.OPERATIONS`."""

    def __init__(self, samples: Samples, measured: Flags, due: Flags, ended: Flags) -> None:
        code = samples.operation.astype(np.uint16)
        for bits, what in ((5, samples.outcome), (8, measured), (9, due), (10, ended)):
            code |= what.astype(np.uint16) << bits
        table = np.bincount(code, minlength=1 << 11).reshape(2, 2, 2, 8, 32)[..., : len(OPERATIONS)]
        self._outcomes = table.sum((0, 1))[1]
        self.timed: I64 = table.sum((0, 2))[1, Outcome.OK]  # ok and due within the window
        self.ended: I64 = table.sum((1, 2))[1, Outcome.OK]  # ok and ended within it
        self.any: I64 = self._outcomes[[Outcome.OK, Outcome.FAIL, Outcome.INFO]].sum(0)

    def of(self, outcome: Outcome) -> I64:
        """Those that ended so after the measured time began."""
        found: I64 = self._outcomes[outcome]
        return found


class _Taken:
    """Samples as one window takes them; ``given`` is the window in which outcomes count, steady or not."""

    def __init__(self, samples: Samples, given: Window, window: Window) -> None:
        self.window = window
        self.ok: Flags = np.asarray(samples.outcome == Outcome.OK)
        self.measured: Flags = np.asarray((samples.end_ns >= given.begin_ns) & (samples.outcome != Outcome.SKIPPED))
        self.due, self.ended = window.holds(samples.scheduled_ns), window.holds(samples.end_ns)
        self.counts = _Counts(samples, self.measured, self.due, self.ended)
        self._operation, self._timed = samples.operation, self.due & self.ok
        self._response = samples.end_ns - samples.scheduled_ns
        closed = np.array_equal(samples.start_ns, samples.scheduled_ns)
        self._service = self._response if closed else samples.end_ns - samples.start_ns
        self._known: dict[tuple[int, ...], tuple[Latency, _Intervals]] = {}
        self._main = self._present(~_READS) or self._present(_READS)

    @property
    def within(self) -> _Intervals:
        """The intervals of the response times of writes; where there are none, of reads."""
        return self._times(self._main)[1]

    def latency(self, kinds: Flags) -> Latency:
        """Of the kinds of operations (indices of OPERATIONS) for which ``kinds`` is true."""
        return self._times(self._present(kinds))[0]

    def _present(self, kinds: Flags) -> tuple[int, ...]:
        return tuple(np.flatnonzero(kinds & (self.counts.timed > 0)).tolist())

    def _times(self, kinds: tuple[int, ...]) -> tuple[Latency, _Intervals]:
        if kinds not in self._known:  # most workloads have one kind: its times are also those of all writes
            self._known[kinds] = self._measure(kinds)
        return self._known[kinds]

    def _measure(self, kinds: tuple[int, ...]) -> tuple[Latency, _Intervals]:
        timed = self._timed
        if kinds != self._present(np.ones_like(_READS)):
            timed = timed & _of_kinds(self._operation, kinds)
        response = picked(self._response, timed)
        told, within = percentiles_within(response) if kinds == self._main else (percentiles(response), {})
        same = self._service is self._response
        return Latency(service=told if same else percentiles(picked(self._service, timed)), response=told), within

    def operation(self, number: int) -> Operation:
        """One kind of operation."""
        ok, failed, unknown = (int(self.counts.of(one)[number]) for one in (Outcome.OK, Outcome.FAIL, Outcome.INFO))
        return Operation(
            ok=ok,
            failed=failed,
            unknown=unknown,
            reads=bool(_READS[number]),
            latency_ms=self.latency(np.arange(len(OPERATIONS)) == number),
        )


def _of_kinds(operation: NDArray[np.uint8], kinds: Collection[int]) -> Flags:
    found: Flags = np.zeros(len(operation), dtype=np.bool_)
    for kind in kinds:
        found |= operation == kind
    return found


def settled(samples: Samples, window: Window, workload: Workload) -> Steady:
    """The part of the window from which on the load was steady, by the service times of the whole load.

    Looked at are the operations that write, or where there are none those that read. A load without a lead-in is
    counted, and one of kind ``train`` has no steady state: their windows stay, and nothing is said. The window stays as
    well, and the load is called unsteady, where no steady part begins in its first half, or where that part has too
    few operations for a percentile (up to p99) that the whole has.
    """
    if workload.kind == "train" or window.begin_ns < _LEAD_IN_NS:
        return Steady(window, None, True)
    ok = samples.outcome == Outcome.OK
    read = ok & _of_kinds(samples.operation, np.flatnonzero(_READS).tolist())
    wrote = ok & ~read
    main = wrote if wrote.any() else read
    start = picked(samples.start_ns, main)
    cut = warmup.batches(start, picked(samples.end_ns, main) - start)
    if cut is None:
        return Steady(window, None, True)
    means, begins = cut
    index = warmup.steady_from(means)
    if index is None:
        return Steady(window, None, False)
    warmup_s = int(begins[index] - begins[0]) / 1e9
    if begins[index] <= window.begin_ns:
        return Steady(window, warmup_s, True)
    rest = Window(int(begins[index]), window.end_ns)
    enough = all(_keeps(picked(samples.scheduled_ns, kind), window, rest) for kind in (wrote, read))
    return Steady(rest if enough else window, warmup_s, enough)


def _keeps(due_ns: I64, window: Window, rest: Window) -> bool:
    """Whether the rest of a window has enough operations for each percentile up to p99 that the whole has."""
    before, after = (np.count_nonzero(one.holds(due_ns)) for one in (window, rest))
    return not any(after < st.MIN_SAMPLES[name] <= before for name in ("p50", "p90", "p95", "p99"))


def unfinished(samples: Samples, workload: Workload, concurrency: int, count: int | None) -> int | None:
    """Of the runs that ``train`` was to make (``count``), or began in its time, how many did not finish.

    When the time is over, writers are in the middle of a run; those runs are not counted. None where the workload
    makes no runs, or began none.
    """
    if workload.kind != "train":
        return None
    samples = samples.where(samples.outcome != Outcome.SKIPPED)
    began = np.count_nonzero(_is(samples, "create_experiment" if workload.experiments else "create_run"))
    if not began:
        return None
    last = _is(samples, "finish_run")
    finished = int(np.count_nonzero(last & (samples.outcome == Outcome.OK)))
    if count is not None:
        return max(concurrency * (count // workload.operations_per_run), int(began)) - finished
    ends = {int(writer): bool(ended) for writer, ended in zip(samples.writer, last, strict=True)}
    return max(0, int(began) - finished - sum(not ended for ended in ends.values()))


def _is(samples: Samples, name: str) -> Flags:
    return np.asarray(samples.operation == OPERATIONS.index(name))


_PHASES = {
    "create": ("create_experiment", "create_run"),
    "params": ("log_param",),
    "steps": ("log_metric",),
    "experiment": OPERATIONS,
}


def _phases(samples: Samples, workload: Workload) -> dict[str, float]:
    """The time in ms that one run of ``train`` spent in each phase: the median over runs seen from beginning to end.

    A writer's operations follow one another, so their service times add up. A run one of whose operations did not
    end ok has no time for that phase.
    """
    if len(samples) == 0:
        return {}
    order = np.lexsort((samples.start_ns, samples.writer))
    operation, took = samples.operation[order], samples.service_ms[order]
    ok = samples.outcome[order] == Outcome.OK
    begins = operation == OPERATIONS.index("create_experiment" if workload.experiments else "create_run")
    another = np.diff(samples.writer[order].astype(np.int64), prepend=-1) != 0
    run = np.cumsum(begins | another) - 1
    runs = int(run[-1]) + 1

    def count(which: Flags) -> NDArray[np.int64]:
        return np.bincount(run[which], minlength=runs)

    whole = (count(begins) > 0) & (count(ok & (operation == OPERATIONS.index("finish_run"))) > 0)
    result = {}
    for phase, names in _PHASES.items():
        inside = np.isin(operation, [OPERATIONS.index(name) for name in names])
        timed = whole & (count(inside & ok) > 0) & (count(inside & ~ok) == 0)
        if timed.any():
            result[phase] = float(np.median(np.bincount(run[inside], took[inside], minlength=runs)[timed]))
    return result


def _errors(samples: Samples, measured: Flags, retried: Mapping[str, int]) -> dict[str, int]:
    """Errors by kind, of every attempt."""
    counts = np.bincount(samples.error[measured & (samples.outcome != Outcome.OK)], minlength=1)
    total = {ErrorKind(kind).label: int(n) for kind, n in enumerate(counts) if n and kind}
    for label, n in retried.items():
        total[label] = total.get(label, 0) + n
    return total


def _timeline(samples: Samples, taken: _Taken, workload: Workload) -> list[Second]:
    """Metrics stored and lock errors in each second of the window, by the time the operation ended."""
    window = taken.window
    good = taken.ended & taken.ok & _is(samples, workload.operation)
    locked = taken.ended & (samples.error >= ErrorKind.SQLITE_BUSY) & (samples.error <= ErrorKind.MYSQL_3572_NOWAIT)
    metrics, locks = (
        np.bincount(
            (picked(samples.end_ns, which) - window.begin_ns) // 1_000_000_000, minlength=int(np.ceil(window.seconds))
        )
        for which in (good, locked)
    )
    return [
        Second(metrics=int(m) * workload.metrics_per_operation, lock_errors=int(n))
        for m, n in zip(metrics, locks, strict=True)
    ]
