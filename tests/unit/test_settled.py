"""The measured window begins where the load is steady, unless there is nothing to find or it would cost a figure."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_samples import FAIL, INFO, MS, SINGLE, TRAIN, Row, S, of, row, samples

from bench.arrivals import Arrivals
from bench.cell import Percentiles
from bench.judge.trials import Window, figures, settled
from bench.outcome import ErrorKind
from bench.trial_record import TrialRecord
from bench.workload import Workload

POISSON = Arrivals("poisson", 150.0, 1, 200 * MS)
LOAD = Window(1 * S, 11 * S)


def a_load(
    count: int = 11_000, slow_s: float = 0.0, slowness: float = 1.0, name: str = "log_metric", seconds: float = 11.0
) -> list[Row]:
    """Operations at an even rate from the load's beginning, those of the first ``slow_s`` so many times as slow."""
    took = np.random.default_rng(5).lognormal(-5.5, 0.4, count)
    begin = np.arange(count) * (seconds / count)
    took = np.where(begin < slow_s, took * slowness, took)
    return [row(start, start + each, name) for start, each in zip(begin.tolist(), took.tolist(), strict=True)]


def found_in(rows: list[Row], workload: Workload = SINGLE) -> TrialRecord:
    return of(rows, workload, window=LOAD)


def test_a_steady_load_is_measured_as_it_was_asked_for() -> None:
    found = found_in(a_load())
    assert (found.seconds, found.warmup_s, found.steady) == (10.0, 0.0, True)
    assert len(found.timeline) == 10


def test_a_warm_up_within_the_lead_in_changes_nothing() -> None:
    found = found_in(a_load(slow_s=0.7, slowness=3.0))
    assert (found.seconds, found.steady) == (10.0, True)
    assert found.warmup_s == pytest.approx(0.7, abs=0.5)


@pytest.mark.parametrize("arrivals", [None, POISSON])
def test_the_window_begins_where_the_load_is_steady(arrivals: Arrivals | None) -> None:
    rows = a_load(slow_s=3.0, slowness=4.0)
    fields = figures(samples(rows), LOAD, SINGLE, {}, arrivals)
    warmup_s = fields["warmup_s"]
    assert isinstance(warmup_s, float)
    assert 3.0 <= warmup_s <= 4.0
    assert fields["seconds"] == pytest.approx(11.0 - warmup_s)
    assert fields["steady"]
    kept = figures(samples(rows), Window(round(warmup_s * S), LOAD.end_ns), SINGLE, {}, arrivals, as_given=True)
    for name in ("seconds", "ops_per_s", "metrics_per_s", "write_response", "timeline", "within", "schedule"):
        assert fields[name] == kept[name]
    asked = figures(samples(rows), LOAD, SINGLE, {}, arrivals, as_given=True)
    slowest, of_all = fields["write_response"], asked["write_response"]
    assert isinstance(slowest, Percentiles)
    assert isinstance(of_all, Percentiles)
    assert (slowest.p99 or 0) < 0.5 * (of_all.p99 or 0)
    assert (asked["seconds"], asked["warmup_s"], asked["steady"]) == (10.0, None, True)


def test_what_fails_while_the_load_warms_up_is_counted_all_the_same() -> None:
    bad = [row(1.5, 1.6, outcome=FAIL, error=ErrorKind.SQLITE_BUSY), row(2.5, 2.6, outcome=INFO)]
    found = found_in(a_load(slow_s=3.0, slowness=4.0) + bad)
    assert found.warmup_s is not None
    assert found.warmup_s > 2.6
    assert (found.ops_failed, found.ops_unknown, found.lock_errors) == (1, 1, 1)
    assert found.operations["log_metric"].failed == 1


def test_a_load_that_is_steady_too_late_stays_whole_and_is_told() -> None:
    found = found_in(a_load(slow_s=7.0, slowness=3.0))
    assert (found.seconds, found.warmup_s, found.steady) == (10.0, None, False)


def test_no_cut_takes_a_percentile_away() -> None:
    """500 operations, of them a third slow: what is left has no p99, which the whole has."""
    few = found_in(a_load(500, slow_s=4.0, slowness=9.0))
    assert few.steady is False
    assert few.seconds == 10.0
    assert few.write_response.p99 is not None
    many = found_in(a_load(1100, slow_s=4.0, slowness=9.0))
    assert many.steady
    assert many.seconds < 8.0
    assert many.write_response.p99 is not None


def test_nor_does_it_take_one_from_reads() -> None:
    writes = a_load(slow_s=3.0, slowness=4.0)
    reads = a_load(100, name="get_run")
    assert found_in(writes + reads, Workload("m", "mixed", read_share=0.1)).steady is False
    assert found_in(writes + a_load(30, name="get_run")).steady
    assert found_in(writes + a_load(1000, name="get_run")).steady


def test_reads_are_looked_at_where_nothing_writes() -> None:
    found = found_in(a_load(slow_s=3.0, slowness=4.0, name="search_runs"), Workload("r", "read"))
    assert found.seconds < 8.1
    beside = found_in(a_load() + a_load(2000, slow_s=3.0, slowness=4.0, name="search_runs"))
    assert beside.seconds == 10.0


@pytest.mark.parametrize("window", [Window(0, 11 * S), Window(1 * MS, 11 * S)])
def test_a_load_without_a_lead_in_is_not_searched(window: Window) -> None:
    """Counted loads have none, and all that they do counts."""
    found = settled(samples(a_load(slow_s=3.0, slowness=4.0)), window, SINGLE)
    assert found == (window, None, True)


def test_a_training_is_not_searched_nor_a_load_of_few_operations() -> None:
    slow = samples(a_load(slow_s=3.0, slowness=4.0))
    assert settled(slow, LOAD, TRAIN) == (LOAD, None, True)
    assert settled(samples(a_load(150, slow_s=3.0, slowness=9.0)), LOAD, SINGLE) == (LOAD, None, True)
    assert settled(samples([]), LOAD, SINGLE) == (LOAD, None, True)


def test_operations_that_failed_say_nothing_of_the_warm_up() -> None:
    rows = a_load()
    failed = [row(n / 1000, n / 1000 + 0.5, outcome=FAIL) for n in range(3000)]
    assert found_in(rows + failed).seconds == 10.0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 3.0, 7.0]))
def test_the_order_of_rows_does_not_matter(seed: int, slow_s: float) -> None:
    rows = a_load(2000, slow_s, 5.0)
    order = np.random.default_rng(seed).permutation(len(rows))
    fields, again = (
        figures(samples([rows[n] for n in places]), LOAD, SINGLE, {}) for places in (range(len(rows)), order)
    )
    assert fields == again
