"""The pure core of the pacer, which loses no arrival and takes none twice; and the alarm, which is never early."""

import os
import select
import time
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.arrivals import Arrivals, due_times
from bench.outcome import Outcome
from bench.pacer import Alarm, Due, skipped_code
from bench.workload import OPERATIONS, Workload

EPOCH = 10**15
MS = 10**6
now = time.perf_counter_ns


def planned(arrivals: Arrivals, epoch: int, closing: int) -> list[int]:
    return list(takewhile(lambda due: due < closing, (epoch + due for due in due_times(arrivals))))


# The pure core

schedules = st.builds(
    Arrivals,
    kind=st.sampled_from(["constant", "poisson"]),
    rate=st.floats(10, 5_000),
    seed=st.integers(0, 1000),
    limit_ns=st.none() | st.integers(0, 50 * MS),
    offset=st.floats(0, 1, exclude_max=True),
)
steps = st.lists(st.integers(0, 40 * MS), max_size=60)


@settings(max_examples=150, deadline=None)
@given(schedules, steps, st.integers(0, 300 * MS), st.booleans())
def test_every_arrival_is_taken_or_skipped_once_and_in_order(
    arrivals: Arrivals, pauses: list[int], length: int, known: bool
) -> None:
    """Whether the closing time was known from the beginning, or somebody said so at some time."""
    closing = EPOCH + length
    due = Due(arrivals, EPOCH, closing if known else None)
    time_ns, left, taken, skipped = EPOCH, [], [], []

    def skip(due_ns: int, at_ns: int) -> None:
        assert at_ns == time_ns
        skipped.append(due_ns)
        left.append(due_ns)

    def skip_late(due_ns: int, at_ns: int) -> None:
        assert arrivals.limit_ns is not None
        assert at_ns - due_ns > arrivals.limit_ns
        skip(due_ns, at_ns)

    for pause in pauses:
        time_ns += pause
        if not known and time_ns >= closing:
            due.close(closing)
        got = due.take(time_ns, skip_late)
        if got is not None:
            assert got <= time_ns
            assert arrivals.limit_ns is None or time_ns - got <= arrivals.limit_ns
            taken.append(got)
            left.append(got)
        else:
            assert due.next_ns is None or due.next_ns > time_ns
    time_ns = max(time_ns, closing)
    due.close(closing)
    due.abandon(time_ns, skip)
    assert (due.exhausted, due.next_ns, due.take(time_ns + 10**9, skip)) == (True, None, None)
    assert left == planned(arrivals, EPOCH, closing)
    assert len(taken) + len(skipped) == len(left)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 20 * MS), st.integers(0, 40 * MS))
def test_an_arrival_is_skipped_once_its_limit_has_passed(limit: int, waited: int) -> None:
    """As pgbench has it: one that can be sent when the limit is just reached is sent."""
    skipped: list[tuple[int, int]] = []
    due = Due(Arrivals("constant", 1.0, 1, limit_ns=limit), EPOCH)
    got = due.take(EPOCH + waited, lambda due_ns, at_ns: skipped.append((due_ns, at_ns)))
    assert got == (EPOCH if waited <= limit else None)
    assert skipped == ([] if waited <= limit else [(EPOCH, EPOCH + waited)])


def test_a_load_that_ends_early_has_no_arrivals_after_its_end() -> None:
    skipped: list[int] = []
    due = Due(Arrivals("constant", 1000.0, 1), EPOCH, EPOCH + 10**9)
    due.abandon(EPOCH + 3 * MS, lambda due_ns, _: skipped.append(due_ns))
    assert skipped == [EPOCH, EPOCH + MS, EPOCH + 2 * MS]
    due.close(EPOCH + 5 * MS)
    assert due.closing_ns == EPOCH + 3 * MS


@settings(max_examples=60, deadline=None)
@given(schedules, st.integers(0, 100 * MS), st.integers(0, 5))
def test_what_was_due_before_the_opening_and_not_taken_does_not_exist(
    arrivals: Arrivals, opening: int, taken: int
) -> None:
    at, closing = EPOCH + opening, EPOCH + 200 * MS
    due = Due(arrivals, EPOCH)
    before = [due.take(closing, lambda *_: None) for _ in range(taken)]
    after = due.next_ns or 0
    due.open(at)
    left: list[int] = []
    due.close(closing)
    due.abandon(closing, lambda due_ns, _: left.append(due_ns))
    assert len(before) == taken
    assert left == [one for one in planned(arrivals, EPOCH, closing) if one >= max(at, after)]


@pytest.mark.parametrize(
    ("work", "operation"),
    [
        (Workload("r", "read"), "search_runs"),
        (Workload("t", "train"), "log_metric"),
        (Workload("b", "log_batch", metrics=7), "log_batch"),
        (Workload("m", "mixed", metrics=7), "log_batch"),
        (Workload("x", "traces"), "log_spans"),
    ],
)
def test_what_a_skipped_arrival_is_called(work: Workload, operation: str) -> None:
    word = skipped_code(work, 700)
    fields = (word & 0xFF, word >> 8 & 0xFF, word >> 16 & 0xFF, word >> 24 & 0xFF, word >> 32)
    assert fields == (OPERATIONS.index(operation), Outcome.SKIPPED, 0, 0, 700)


# The alarm

timerfd = pytest.mark.skipif(not Alarm.available(), reason="no timerfd here")


@pytest.fixture
def alarm() -> Any:
    made = Alarm()
    yield made
    made.close()


def readable(alarm: Alarm, timeout_s: float) -> bool:
    return bool(select.select([alarm.fileno()], [], [], timeout_s)[0])


@timerfd
def test_the_clock_of_samples_is_the_clock_of_alarms(alarm: Alarm) -> None:
    assert time.get_clock_info("perf_counter").implementation == "clock_gettime(CLOCK_MONOTONIC)"
    before, inside, after = now(), time.clock_gettime_ns(time.CLOCK_MONOTONIC), now()
    assert before <= inside <= after


@timerfd
def test_an_alarm_goes_off_at_its_time_and_not_before(alarm: Alarm) -> None:
    for _ in range(20):
        at = now() + MS // 2
        alarm.set(at)
        assert readable(alarm, 5)
        assert now() >= at


@timerfd
def test_an_alarm_whose_time_has_passed_goes_off_at_once(alarm: Alarm) -> None:
    for at in (now() - 1, now() - 10**9, 1, 0, -5):
        alarm.set(at)
        assert readable(alarm, 5)


@timerfd
def test_setting_and_clearing_an_alarm_make_it_silent(alarm: Alarm) -> None:
    silences: list[Callable[[], None]] = [alarm.clear, lambda: alarm.set(now() + 10**12)]
    for silence in silences:
        alarm.set(1)
        assert readable(alarm, 5)
        silence()
        assert not readable(alarm, 0)


@timerfd
def test_a_closed_alarm_has_given_its_file_back() -> None:
    alarm = Alarm()
    file = alarm.fileno()
    alarm.close()
    alarm.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)
    with pytest.raises(OSError, match="timerfd_settime"):
        alarm.set(now())
