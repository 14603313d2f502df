"""What became of an open loop's arrivals."""

import numpy as np

from bench.arrivals import Arrivals
from bench.cell import Schedule
from bench.identity import I64, Flags
from bench.judge.times import MS, percentiles, picked
from bench.outcome import Outcome
from bench.samples import Samples


def schedule_of(samples: Samples, due: Flags, arrivals: Arrivals) -> Schedule:
    """The schedule of one trial, over the arrivals for which ``due`` is true; ``arrivals`` are those of all writers.

    ``late``: answered ok, but later than the limit after it was due. ``lag_ms``: from when an operation was due to when
    it was sent. ``own_lag_ms``: from when it could have been sent (it was due, and the writer that sent it had
    ended its previous operation) to when it was; whether another writer was free before is not looked at. Both lags are
    of the operations that were sent, whatever became of them.
    """
    sent = due & (samples.outcome != Outcome.SKIPPED)
    arrived, kept = int(np.count_nonzero(due)), int(np.count_nonzero(sent))
    limit = arrivals.limit_ns
    late = None
    if limit is not None:
        over = samples.end_ns - samples.scheduled_ns > limit
        late = int(np.count_nonzero(over & due & (samples.outcome == Outcome.OK)))
    return Schedule(
        arrivals=arrivals.kind,
        rate=arrivals.rate,
        share=arrivals.share,
        due=arrived,
        late=late,
        skipped=arrived - kept,
        limit_ms=None if limit is None else limit / MS,
        lag_ms=percentiles(picked(samples.start_ns - samples.scheduled_ns, sent)),
        own_lag_ms=percentiles(_own_lag(samples, sent)),
    )


def _own_lag(samples: Samples, which: Flags) -> I64:
    """In ns, of the operations for which ``which`` is true, in any order; ``which`` is false of those never sent."""
    order = _by_writer(samples)
    order = picked(order, (samples.outcome != Outcome.SKIPPED).take(order))
    writer = samples.writer.take(order)
    free = samples.scheduled_ns.take(order)
    ended = samples.end_ns.take(order)[:-1]
    np.maximum(free[1:], ended, out=free[1:], where=writer[1:] == writer[:-1])
    lag = np.subtract(samples.start_ns.take(order), free, out=free)
    return picked(np.maximum(lag, 0, out=lag), which.take(order))


def _by_writer(samples: Samples) -> I64:
    """The places of samples in order of writer, then of time."""
    order = np.argsort(samples.writer, kind="stable")  # a radix sort; recorders leave each writer's in order of time
    writer, start = samples.writer.take(order), samples.start_ns.take(order)
    if np.any((start[1:] < start[:-1]) & (writer[1:] == writer[:-1])):
        return np.lexsort((samples.start_ns, samples.writer))
    return order
