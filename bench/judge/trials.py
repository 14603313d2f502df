"""From a trial's raw samples to its figures.

Latency covers the ok operations that *started* within the measured window, however long they took, so that a stall
at the end is not cut off; throughput counts those that *ended* within it. Outcomes and errors are counted for every
operation that ended after the window began, so that one which began in the warm-up and then failed is not lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.identity import Flags
from bench.judge.statistics import percentiles
from bench.outcome import ErrorKind, Outcome
from bench.results import Latency, Operation
from bench.samples import Samples
from bench.trial_record import Second
from bench.workload import OPERATIONS, READS, Workload


@dataclass(frozen=True)
class Window:
    """The measured part of a trial, in ns since its epoch."""

    begin_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return max((self.end_ns - self.begin_ns) / 1e9, 1e-9)


def figures(samples: Samples, window: Window, workload: Workload, retried: Mapping[str, int]) -> dict[str, object]:
    """The fields of a `bench.trial_record.TrialRecord` that come from samples; ``retried``: errors by kind label."""
    samples = samples.where(samples.end_ns >= window.begin_ns)
    in_window = (samples.start_ns >= window.begin_ns) & (samples.start_ns < window.end_ns)
    timed = samples.where(in_window & (samples.outcome == Outcome.OK))
    ended = (samples.end_ns >= window.begin_ns) & (samples.end_ns < window.end_ns) & (samples.outcome == Outcome.OK)
    metrics = np.count_nonzero(ended & _is(samples, workload.operation)) * workload.metrics_per_operation
    reads = np.isin(timed.operation, [OPERATIONS.index(name) for name in READS])
    errors = _errors(samples, retried)
    kinds = {kind.label: kind for kind in ErrorKind}
    service, response = timed.service_ms, timed.response_ms
    return {
        "seconds": window.seconds,
        "ops_ok": _count(samples, Outcome.OK),
        "ops_failed": _count(samples, Outcome.FAIL),
        "ops_unknown": _count(samples, Outcome.INFO),
        "ops_retried": int(np.count_nonzero(samples.attempts > 1)),
        "first_attempts_ok": int(np.count_nonzero((samples.attempts == 1) & (samples.outcome == Outcome.OK))),
        "phases_ms": _phases(samples, workload),
        "metrics_per_s": float(metrics) / window.seconds if workload.metrics_per_operation else None,
        "ops_per_s": float(np.count_nonzero(ended)) / window.seconds,
        "write_service": percentiles(service[~reads]),
        "write_response": percentiles(response[~reads]),
        "read_service": percentiles(service[reads]),
        "read_response": percentiles(response[reads]),
        "operations": {name: _operation(samples, timed, name) for name in _present(samples)},
        "errors": errors,
        "lock_errors": sum(n for label, n in errors.items() if kinds[label].is_lock),
        "deadlocks": sum(n for label, n in errors.items() if kinds[label].is_deadlock),
        "timeline": _timeline(samples, window, workload),
    }


def unfinished(samples: Samples, workload: Workload, concurrency: int, count: int | None) -> int | None:
    """Of the runs that ``train`` was to make (``count``), or began in its time, how many did not finish.

    When the time is over, writers are in the middle of a run; those runs are not counted. None where the workload
    makes no runs, or began none.
    """
    if workload.kind != "train":
        return None
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


def _present(samples: Samples) -> list[str]:
    return [OPERATIONS[number] for number in np.unique(samples.operation)]


def _count(samples: Samples, outcome: Outcome) -> int:
    return int(np.count_nonzero(samples.outcome == outcome))


def _operation(samples: Samples, timed: Samples, name: str) -> Operation:
    samples, timed = samples.where(_is(samples, name)), timed.where(_is(timed, name))
    return Operation(
        ok=_count(samples, Outcome.OK),
        failed=_count(samples, Outcome.FAIL),
        unknown=_count(samples, Outcome.INFO),
        reads=name in READS,
        latency_ms=Latency(service=percentiles(timed.service_ms), response=percentiles(timed.response_ms)),
    )


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
    if workload.kind != "train" or len(samples) == 0:
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


def _errors(samples: Samples, retried: Mapping[str, int]) -> dict[str, int]:
    """Errors by kind, of every attempt."""
    counts = np.bincount(samples.error[samples.outcome != Outcome.OK], minlength=1)
    total = {ErrorKind(kind).label: int(n) for kind, n in enumerate(counts) if n and kind}
    for label, n in retried.items():
        total[label] = total.get(label, 0) + n
    return total


def _timeline(samples: Samples, window: Window, workload: Workload) -> list[Second]:
    """Metrics stored and lock errors in each second of the window, by the time the operation ended."""
    inside = samples.where((samples.end_ns >= window.begin_ns) & (samples.end_ns < window.end_ns))
    second = ((inside.end_ns - window.begin_ns) // 1_000_000_000).astype(np.int64)
    length = int(np.ceil(window.seconds))
    good = (inside.outcome == Outcome.OK) & _is(inside, workload.operation)
    locked = (inside.error >= ErrorKind.SQLITE_BUSY) & (inside.error <= ErrorKind.MYSQL_3572_NOWAIT)
    metrics = np.bincount(second[good], minlength=length) * workload.metrics_per_operation
    locks = np.bincount(second[locked], minlength=length)
    return [Second(metrics=int(m), lock_errors=int(n)) for m, n in zip(metrics, locks, strict=True)]
