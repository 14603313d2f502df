"""Ticks of several processes add up exactly, in our own figures and in Locust's."""

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.frames import summary
from bench.histogram import ERROR
from bench.outcome import ErrorKind, Outcome
from bench.samples import FIELDS, code
from bench.scenario import CriterionSpec
from bench.workload import OPERATIONS, Workload
from loadtests._live import Live, Totals
from loadtests._standing import so_far, value_of

WORK = Workload("w", "mixed", metrics=2, read_share=0.5)


def table(seed: int, n: int = 5000) -> NDArray[np.int64]:
    """Recorded words of ``n`` operations, sent later than they were due: writes and reads, most of them ok."""
    random = np.random.default_rng(seed)
    latency = (random.lognormal(0.5, 1.0, n) * 1e6).astype(np.int64)
    rows = np.zeros((n, FIELDS), dtype=np.int64)
    rows[:, 0] = random.integers(0, 10**9, n)
    rows[:, 1] = rows[:, 0] + latency // 2
    rows[:, 2] = rows[:, 0] + latency
    for place in range(n):
        name = "log_batch" if place % 2 else "get_run"
        bad = place % 100 == 1
        outcome = Outcome.INFO if bad else Outcome.OK
        error = ErrorKind.SQLITE_BUSY if bad else ErrorKind.NONE
        rows[place, 3] = code(OPERATIONS.index(name), outcome, error)
    return rows


def test_totals_of_two_processes_are_those_of_all_samples_together() -> None:
    parts = [table(1), table(2)]
    apart, together = Totals(), Totals()
    for part in parts:
        one = Totals()
        for half in np.array_split(part, 7):  # ticks
            one.add(summary(half, WORK).frame)
        apart.add(one.told())  # as a worker's message has them
    together.add(summary(np.concatenate(parts), WORK).frame)
    assert apart.told() == together.told()
    assert apart.all.n == 10_000
    assert apart.lock_errors == {"sqlite_busy": 100}
    assert apart.operations["log_batch"].metrics == 2 * (5000 - 100)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 0.999])
def test_percentiles_are_those_of_the_pooled_samples_within_the_stated_error(share: float) -> None:
    pooled = np.concatenate([table(3), table(4)])
    totals = Totals()
    totals.add(summary(pooled[:3000], WORK).frame)
    totals.add(summary(pooled[3000:], WORK).frame)
    ok = (pooled[:, 3] >> 8 & 0xFF) == Outcome.OK
    latency = np.sort(pooled[ok, 2] - pooled[ok, 0]) / 1e6
    exact = latency[int(np.ceil(share * len(latency))) - 1]
    found = totals.all.latency.percentile_ms(share)
    assert found is not None
    assert abs(found - exact) <= exact * ERROR


def test_a_live_load_counts_from_where_measuring_begins() -> None:
    tick = summary(table(5, 100), WORK).frame
    live = Live(began=1000.0)
    live.add(1000, tick)
    assert live.shown.all.n == 100
    live.measure(1002.0)
    assert live.shown.all.n == 0
    live.add(1003, tick)
    live.stop(1004.0)
    assert live.shown.all.n == 100
    assert live.whole.all.n == 200
    assert live.seconds(2000.0) == 2.0
    assert [point.operations for point in live.points(1004.5)] == [100, 0, 0]


def test_points_of_a_long_load_are_kept_and_the_late_ones_still_counted() -> None:
    tick = summary(table(6, 100), WORK).frame
    live = Live(began=0.5)
    for second in range(100):
        live.add(second, tick)
        points = live.points(second + 0.9)
        assert len(points) == max(0, second - 1)
    live.add(95, tick)  # told late
    points = live.points(100.9)
    assert [point.second for point in points] == list(range(99))
    assert {point.operations for point in points[:94]} == {100}
    assert points[95].operations == 200
    assert len(live.points(100.9, since=90)) == 9


CRITERIA = {
    "p99_ms <= 1000": "holds",
    "p99_ms <= 0.001": "broken",
    "read.p50_ms <= 1000": "holds",
    "p999_ms <= 1000": "open",  # too few
    "lock_errors == 0": "broken",
    "success_rate >= 0.9": "holds",
    "integrity == 1": "open",
    "referee.deadlocks == 0": "open",
    "metrics_per_s >= 100": "holds",
}


@pytest.mark.parametrize("expression", CRITERIA)
def test_criteria_stand_by_what_is_known_so_far(expression: str) -> None:
    totals = Totals()
    totals.add(summary(table(7), WORK).frame)
    spec = CriterionSpec.model_validate({"name": "n", "expression": expression})
    (standing,) = so_far([spec], totals, 10.0)
    assert standing.state == CRITERIA[expression]


def test_nothing_is_known_of_nothing() -> None:
    assert value_of("success_rate", Totals(), 1.0) is None
