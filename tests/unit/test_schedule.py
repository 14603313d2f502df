"""Open loops: each arrival has one place, whether it was answered, late, skipped or sent after the window."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_samples import BATCH, FAIL, INFO, MS, OK, TRAIN, WINDOW, Row, of, row, run_of, samples

from bench.arrivals import Arrivals
from bench.judge.trials import figures, unfinished
from bench.outcome import ErrorKind, Outcome
from bench.trial_record import TrialRecord

SKIPPED = Outcome.SKIPPED
POISSON = Arrivals("poisson", 150.0, 1, 200 * MS)


def opened(rows: list[Row], writers: list[int] | None = None, arrivals: Arrivals = POISSON) -> TrialRecord:
    return of(rows, writers=writers, arrivals=arrivals)


def never(due: float, given_up: float) -> Row:
    """An arrival that was skipped."""
    return row(given_up, given_up, outcome=SKIPPED, lag=given_up - due)


def test_latency_is_of_those_that_were_due_whenever_they_began() -> None:
    rows = [
        row(9.9, 10.1, lag=0.0),  # due and begun before
        row(10.1, 10.2, lag=0.2),  # due before, begun within
        row(11.9, 12.4, lag=0.1),  # due within, ended after
        row(14.0, 14.1, lag=2.5),  # due within, begun long after
        row(12.0, 12.1, lag=0.0),  # due at the very end: outside
    ]
    found = opened(rows)
    assert (found.write_response.n, found.write_service.n) == (2, 2)
    assert found.write_response.max == pytest.approx(2600.0)
    assert found.write_service.max == pytest.approx(500.0)
    assert found.ops_per_s == 2 / 2  # ended within, whenever they were due
    assert found.schedule is not None
    assert (found.schedule.due, found.schedule.skipped) == (2, 0)


def test_what_was_skipped_is_no_operation() -> None:
    found = opened([row(10.1, 10.2), never(10.5, 10.8), never(11.9, 13.0), never(9.9, 10.2), never(12.0, 12.2)])
    assert (found.ops_ok, found.ops_failed, found.ops_unknown, found.first_attempts_ok) == (1, 0, 0, 1)
    assert found.errors == {}
    assert (found.ops_per_s, found.metrics_per_s) == (0.5, 0.5)
    assert found.write_response.n == 1
    assert sum(point.metrics for point in found.timeline) == 1
    assert found.schedule is not None
    assert (found.schedule.due, found.schedule.skipped) == (3, 2)
    assert found.schedule.lag_ms.n == 1


def test_a_kind_of_which_all_was_skipped_is_not_there() -> None:
    found = opened([never(10.5, 10.8)])
    assert found.operations == {}
    assert found.schedule is not None
    assert (found.schedule.due, found.schedule.skipped, found.schedule.lag_ms.n) == (1, 1, 0)


def test_late_are_those_that_were_answered_above_the_limit() -> None:
    rows = [
        row(10.1, 10.3),  # as long as the limit
        row(10.1, 10.3001),
        row(10.25, 10.35, lag=0.15),
        row(10.1, 10.9, outcome=FAIL),
        never(10.1, 10.9),
        row(9.0, 10.9),  # due before
    ]
    found = opened(rows).schedule
    assert found is not None
    assert (found.late, found.limit_ms, found.due) == (2, 200.0, 5)
    unlimited = opened(rows, arrivals=Arrivals("constant", 10.0, 1)).schedule
    assert unlimited is not None
    assert (unlimited.late, unlimited.limit_ms, unlimited.arrivals, unlimited.rate) == (None, None, "constant", 10.0)


def test_lag_runs_from_when_an_operation_was_due_and_our_own_from_when_its_writer_was_free() -> None:
    rows = [
        row(10.1, 10.5, lag=0.1),  # its writer was free: all of the lag is our own
        row(10.6, 10.7, lag=0.5),  # due at 10.1, its writer free at 10.5: 0.1 of it
        row(10.7, 10.8, lag=0.0),  # another writer, which was free
        row(11.0, 11.1, lag=0.3, outcome=FAIL),  # due at 10.7, its writer free at 10.8: 0.2
    ]
    found = opened(rows, [1, 1, 2, 2]).schedule
    assert found is not None
    assert (found.lag_ms.n, found.lag_ms.max) == (4, pytest.approx(500.0))
    assert (found.own_lag_ms.n, found.own_lag_ms.max) == (4, pytest.approx(200.0))
    own = [opened([each], [0]).schedule for each in rows[:1]]
    assert own[0] is not None
    assert own[0].own_lag_ms.max == pytest.approx(100.0)


def test_what_a_writer_did_before_the_window_and_what_it_skipped_are_told_apart() -> None:
    """An operation that began before the window kept its writer busy; one that it skipped did not."""
    busy = opened([row(9.0, 10.5), row(10.5, 10.6, lag=0.3)], [3, 3]).schedule
    idle = opened([never(9.0, 10.5), row(10.5, 10.6, lag=0.3)], [3, 3]).schedule
    assert busy is not None
    assert idle is not None
    assert (busy.own_lag_ms.max, idle.own_lag_ms.max) == (0.0, pytest.approx(300.0))


arrived = st.builds(
    row,
    st.floats(9, 13),
    st.floats(13, 16),
    st.sampled_from(["log_batch", "get_run", "log_metric"]),
    st.sampled_from([OK, OK, FAIL, INFO, SKIPPED]),
    st.sampled_from([ErrorKind.NONE, ErrorKind.TIMEOUT]),
    st.sampled_from([1, 2]),
    st.floats(0, 2),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(arrived, max_size=60), st.randoms(use_true_random=False))
def test_every_arrival_has_one_place(rows: list[Row], shuffle: random.Random) -> None:
    writers = [n % 5 for n in range(len(rows))]
    found = opened(rows, writers)
    assert found.schedule is not None
    due = [each for each in rows if WINDOW.begin_ns <= each[0] < WINDOW.end_ns]
    assert found.schedule.due == len(due)
    assert found.schedule.skipped == sum(each[4] is SKIPPED for each in due)
    assert found.schedule.lag_ms.n == found.schedule.own_lag_ms.n == found.schedule.due - found.schedule.skipped
    assert (found.schedule.late or 0) <= found.write_response.n + found.read_response.n
    assert found.ops_ok + found.ops_failed + found.ops_unknown == sum(each[4] is not SKIPPED for each in rows)
    assert found.ops_ok == sum(kind.ok for kind in found.operations.values())
    assert found.ops_failed == sum(kind.failed for kind in found.operations.values())
    assert found.write_response.n + found.read_response.n == sum(each[4] is OK for each in due)
    if found.schedule.lag_ms.n:
        assert (found.schedule.own_lag_ms.max or 0) <= (found.schedule.lag_ms.max or 0)
    order = list(range(len(rows)))
    shuffle.shuffle(order)
    again = opened([rows[n] for n in order], [writers[n] for n in order])
    assert again == found


closed_operations = st.builds(
    row,
    st.floats(9, 13),
    st.floats(9, 16),
    st.sampled_from(["log_batch", "get_run", "log_metric"]),
    st.sampled_from([OK, FAIL, INFO]),
    st.sampled_from([ErrorKind.NONE, ErrorKind.SQLITE_BUSY, ErrorKind.TIMEOUT]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(closed_operations, max_size=40))
def test_without_lag_an_open_loop_has_the_figures_of_a_closed_one(rows: list[Row]) -> None:
    closed, paced = (figures(samples(rows), WINDOW, BATCH, {}, arrivals) for arrivals in (None, POISSON))
    assert closed.pop("schedule") is None
    assert paced.pop("schedule") is not None
    assert closed == paced
    for kind in ("write", "read"):
        assert closed[f"{kind}_service"] == closed[f"{kind}_response"]


def test_a_skipped_arrival_does_not_spoil_a_training() -> None:
    whole = run_of(TRAIN, 10.5, {"log_param": 3.0})
    spoiled = [*whole, never(10.55, 10.56), never(11.4, 11.5)]
    expected = of(whole, TRAIN).phases_ms
    assert of(spoiled, TRAIN, arrivals=POISSON).phases_ms == expected != {}
    assert unfinished(samples(spoiled), TRAIN, 1, None) == unfinished(samples(whole), TRAIN, 1, None) == 0
