"""What a load with a fault in it shows, and the cells that trials with faults become."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np

from bench.fault_cell import FaultCell, FaultSeen, Moment
from bench.identity import I64, Flags
from bench.judge.cells import sum_integrity, sum_of_some
from bench.judge.claims import Round, outcome
from bench.outcome import ErrorKind, Outcome
from bench.samples import Samples
from bench.trial_record import TrialRecord
from bench.workload import OPERATIONS, Workload

_BIN_NS, _BIN_S = 250_000_000, 0.25
_S = 1e9  # ns


def seen(
    samples: Samples, workload: Workload, begin_s: float | None, end_s: float | None, window_end_s: float
) -> dict[str, Any]:
    """The fields of a `bench.fault_cell.FaultSeen` that come from samples. Times in seconds, on the samples' clock.

    ``begin_s`` and ``end_s`` are the fault's, None where it did not begin or end; ``window_end_s`` is the load's end.

    - ``timeline``: quarters of a second from 0 to the load's end, or to that of an operation that ended after it.
      Errors are those with which operations ended; an attempt that was repeated has no moment of its own.
    - ``before``: operations that had ended ok when the fault began.
    - ``first_ok_s``: from the fault's end to the first operation that ended ok then or later, whenever it began.
    - ``gone_s``: the longest time in which none ended ok, from the fault's beginning to the load's end. A fault that
      never stopped the service has one too, the longest gap between two operations. None where no load saw the fault.

    Operations that only read count as well; arrivals that were skipped are no operations.
    """
    ok: Flags = np.asarray(samples.outcome == Outcome.OK)
    ended = np.sort(samples.end_ns[ok])
    return {
        "before": 0 if begin_s is None else int(np.searchsorted(ended, round(begin_s * _S))),
        "timeline": _timeline(samples, ok, workload, window_end_s),
        "first_ok_s": None if end_s is None else _first(ended, round(end_s * _S)),
        "gone_s": None if begin_s is None else _longest_gap(ended, round(begin_s * _S), round(window_end_s * _S)),
    }


def _first(ended: I64, moment_ns: int) -> float | None:
    """Seconds from a moment to the first of ``ended`` (in order) at or after it."""
    place = int(np.searchsorted(ended, moment_ns))
    return None if place == len(ended) else (int(ended[place]) - moment_ns) / _S


def _longest_gap(ended: I64, begin_ns: int, end_ns: int) -> float | None:
    """The longest time between two of ``ended`` (in order), from the one moment to the other, which count as such."""
    if begin_ns >= end_ns:
        return None
    within = ended[(ended > begin_ns) & (ended < end_ns)]
    return int(np.diff(within, prepend=begin_ns, append=end_ns).max()) / _S


def _timeline(samples: Samples, ok: Flags, workload: Workload, window_end_s: float) -> list[Moment]:
    """Metrics stored, and errors by kind, in each quarter of a second."""
    bins = np.maximum(samples.end_ns, 0) // _BIN_NS
    failed: Flags = (samples.outcome == Outcome.FAIL) | (samples.outcome == Outcome.INFO)
    ended = bins[ok | failed]
    count = max(int(np.ceil(window_end_s / _BIN_S)), int(ended.max(initial=-1)) + 1)
    stored = np.bincount(bins[ok & (samples.operation == OPERATIONS.index(workload.operation))], minlength=count)
    kinds, width = [kind for kind in ErrorKind if kind], max(ErrorKind) + 1
    named = failed & (samples.error != ErrorKind.NONE)
    code = bins[named] * width + samples.error[named]
    errors = np.bincount(code, minlength=count * width).reshape(count, width)
    return [
        Moment(
            at_s=n * _BIN_S,
            metrics=int(stored[n]) * workload.metrics_per_operation,
            errors={kind.label: int(errors[n, kind]) for kind in kinds if errors[n, kind]},
        )
        for n in range(count)
    ]


def cell_of(
    records: Sequence[TrialRecord], reference: bool, may_lose: str | None, promise_known: bool = True
) -> FaultCell:
    """The cell of trials with one fault at one place (one a round, at least one, in the order of their rounds).

    ``may_lose`` and ``promise_known`` are what `bench.judge.claims` says of the fault and the candidate. Counts are
    sums; a time is the longest of the rounds, None if one of them has none.
    """
    first, told = records[0], [_fault(one) for one in records]
    rounds = [_round(one) for one in records]
    became, reason = outcome(rounds, may_lose, promise_known)
    lost = sum(one.error is not None for one in records)
    return FaultCell(
        candidate=first.candidate,
        store=first.store,
        driver=cast(Literal["direct", "http"], first.driver),
        workload=first.workload,
        concurrency=first.concurrency,
        fault=told[0].name,
        kind=told[0].kind,
        target=told[0].target,
        says=told[0].says,
        reference=reference,
        modelled=any(one.modelled for one in told),
        rounds=len(records) - lost,
        rounds_lost=lost,
        ops_ok=sum(one.ops_ok for one in records),
        ops_failed=sum(one.ops_failed for one in records),
        ops_unknown=sum(one.ops_unknown for one in records),
        ops_retried=sum(one.ops_retried for one in records),
        errors=dict(sum((Counter(one.errors) for one in records), Counter())),
        lock_errors=sum(one.lock_errors for one in records),
        reconnects=sum(one.reconnects for one in told),
        looks=sum(one.looks for one in told),
        integrity=sum_integrity([one.integrity for one in records]),
        integrity_rest=sum_of_some([one.integrity_rest for one in records]),
        integrity_prefill=sum_of_some([one.integrity_prefill for one in records]),
        first_ok_s=_worst([one.first_ok_s for one in told]),
        gone_s=_worst([one.gone_s for one in told]),
        may_lose=may_lose,
        outcome=became,
        reason=reason,
        seen=told,
    )


def _fault(record: TrialRecord) -> FaultSeen:
    assert record.fault is not None
    return record.fault


def _round(record: TrialRecord) -> Round:
    doors = [record.integrity, *([] if record.integrity_rest is None else [record.integrity_rest])]
    return Round(_fault(record), doors, record.integrity_prefill, record.error)


def _worst(times: Sequence[float | None]) -> float | None:
    known = [one for one in times if one is not None]
    return max(known) if len(known) == len(times) else None
