"""Which rate an open loop holds: an absolute one, or a share of a maximum that the run itself has found."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from bench.arrivals import Arrivals
from bench.cell import CLOSED
from bench.identity import TrialKey
from bench.job import PATIENCE
from bench.judge.statistics import geometric_mean
from bench.plan import Trial
from bench.trial_record import TrialRecord
from bench.workload import Workload

_SPARE = 1.1  # random arrivals may be fewer than their rate says


def paced(trial: Trial, records: Sequence[TrialRecord]) -> Trial:
    """The trial with the rate that its load stands for; without one where no closed loop of its cell was measured.

    The maximum is the geometric mean over the rounds of the closed loop's operations a second.
    """
    pace = trial.pace
    if pace is None or pace.share is None:
        return trial
    maxima = [
        value for name, value in _maxima(trial, records).items() if pace.of == "lowest" or name == trial.candidate
    ]
    return replace(trial, pace=replace(pace, rate=pace.share * min(maxima) if maxima else None))


def _maxima(trial: Trial, records: Sequence[TrialRecord]) -> dict[str, float]:
    """Operations a second of the closed loops of a trial's cell, by candidate; as found in the first pass."""
    rates: dict[str, list[float]] = {}
    for one in takewhile(lambda one: one.load == CLOSED, records):  # rounds that were added later change no rate
        alike = (one.driver, one.workload, one.concurrency) == (trial.driver, trial.workload, trial.concurrency)
        if alike and one.load == CLOSED and not one.control and one.ops_per_s:
            rates.setdefault(one.candidate, []).append(one.ops_per_s)
    return {name: mean for name, values in rates.items() if (mean := geometric_mean(values))}


def duration_s(trial: Trial, workload: Workload) -> float:
    """How long a trial is measured: an open loop long enough for ``min_writes``, at most `PATIENCE` times as long."""
    if trial.pace is None or not trial.pace.rate:
        return trial.duration_s
    writes = trial.pace.rate * (1 - workload.read_share)
    return min(max(trial.duration_s, _SPARE * trial.min_writes / writes), PATIENCE * trial.duration_s)


def arrivals(trial: Trial, seed: int) -> Arrivals | None:
    """The schedule of a trial: the same for every candidate in a round, so that they differ in nothing but the store.

    Raises:
        ValueError: the rate is not known.
    """
    pace = trial.pace
    if pace is None:
        return None
    if pace.rate is None:
        raise ValueError(f"no closed loop of this cell was measured, so there is no maximum to hold {pace.label} of")
    limit_ns = None if pace.limit_ms is None else round(pace.limit_ms * 1e6)
    seeds = TrialKey.of("/".join(map(str, trial.group)), seed, trial.round)
    return Arrivals(pace.arrivals, pace.rate, seeds.word, limit_ns, share=pace.share)
