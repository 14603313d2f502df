"""What a load shows of a fault: its timeline, how soon it worked again, and how long nothing ended ok."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_samples import BATCH, FAIL, INFO, OK, SINGLE, TRAIN, Row, row, samples

from bench.fault_cell import Moment
from bench.judge.faults import seen
from bench.outcome import ErrorKind, Outcome
from bench.samples import Samples
from bench.workload import Workload

S = 1_000_000_000
READS = Workload("r", "read")


def ok_at(*ends: float, name: str = "log_metric") -> list[Row]:
    return [row(max(0.0, end - 0.01), end, name) for end in ends]


def timeline(rows: list[Row], workload: Workload = SINGLE, window_end_s: float = 1.0) -> list[Moment]:
    found = seen(samples(rows), workload, None, None, window_end_s)["timeline"]
    assert isinstance(found, list)
    return found


def first_ok(rows: list[Row], end_s: float | None) -> float | None:
    found = seen(samples(rows), SINGLE, 0.0, end_s, 100.0)["first_ok_s"]
    assert found is None or isinstance(found, float)
    return found


def gone(rows: list[Row], begin_s: float | None, window_end_s: float = 10.0) -> float | None:
    found = seen(samples(rows), SINGLE, begin_s, None, window_end_s)["gone_s"]
    assert found is None or isinstance(found, float)
    return found


def test_metrics_are_counted_where_their_operation_ended() -> None:
    late = row(0.0, 0.8)  # it began long before
    found = timeline([*ok_at(0.1, 0.249, 0.25, 0.3, 0.999), late])
    assert [(one.at_s, one.metrics, one.errors) for one in found] == [
        (0.0, 2, {}), (0.25, 2, {}), (0.5, 0, {}), (0.75, 2, {}),
    ]  # fmt: skip


def test_a_batch_counts_as_its_metrics_and_other_operations_as_none() -> None:
    assert [one.metrics for one in timeline(ok_at(0.1, 0.1, name="log_batch"), BATCH)] == [50, 0, 0, 0]
    others = [*ok_at(0.1, name="create_run"), *ok_at(0.1, name="log_param"), *ok_at(0.1)]
    assert [one.metrics for one in timeline(others, TRAIN)] == [1, 0, 0, 0]
    assert [one.metrics for one in timeline(ok_at(0.1, name="search_runs"), READS)] == [0, 0, 0, 0]


def test_errors_are_counted_by_kind_where_their_operation_ended() -> None:
    found = timeline(
        [
            row(0.0, 0.1, outcome=FAIL, error=ErrorKind.SQLITE_BUSY),
            row(0.0, 0.2, outcome=FAIL, error=ErrorKind.SQLITE_BUSY),
            row(0.0, 0.2, outcome=INFO, error=ErrorKind.CONNECTION),
            row(0.0, 0.6, outcome=INFO, error=ErrorKind.TIMEOUT),
        ]
    )
    assert [one.errors for one in found] == [{"sqlite_busy": 2, "connection": 1}, {}, {"timeout": 1}, {}]
    assert sum(one.metrics for one in found) == 0


@pytest.mark.parametrize("kind", [kind for kind in ErrorKind if kind])
def test_each_kind_of_error_has_its_name(kind: ErrorKind) -> None:
    found = timeline([row(0.0, 0.3, outcome=FAIL, error=kind)])
    assert [one.errors for one in found] == [{}, {kind.label: 1}, {}, {}]


def test_what_is_no_error_is_not_counted_as_one() -> None:
    ended = [
        row(0.0, 0.1, error=ErrorKind.TIMEOUT, attempts=2),  # repeated, and ok in the end
        row(0.0, 0.1, outcome=INFO),  # under way when the load was ended
        row(0.0, 0.1, outcome=Outcome.SKIPPED, error=ErrorKind.TIMEOUT),
    ]
    assert [one.errors for one in timeline(ended)] == [{}, {}, {}, {}]


def test_an_arrival_that_was_skipped_is_no_operation() -> None:
    skipped = row(5.0, 5.0, outcome=Outcome.SKIPPED)
    assert len(timeline([*ok_at(0.5), skipped])) == 4
    assert first_ok([*ok_at(0.5), skipped], 1.0) is None
    assert gone([*ok_at(0.5), skipped], 0.0, 9.0) == 8.5


@pytest.mark.parametrize(("window_end_s", "moments"), [(0.0, 0), (0.1, 1), (0.25, 1), (0.26, 2), (3.0, 12)])
def test_the_timeline_lasts_as_long_as_the_load(window_end_s: float, moments: int) -> None:
    found = timeline([], window_end_s=window_end_s)
    assert [one.at_s for one in found] == [n * 0.25 for n in range(moments)]
    assert not any(one.metrics or one.errors for one in found)


def test_what_ended_after_the_load_is_in_it_too() -> None:
    assert [one.metrics for one in timeline(ok_at(1.0, 1.6))] == [0, 0, 0, 0, 1, 0, 1]


def test_the_first_ok_operation_after_the_end_is_what_counts() -> None:
    rows = [*ok_at(0.5, 4.0, 3.0, 9.0), row(2.0, 2.4, outcome=FAIL), row(2.0, 2.5, outcome=INFO)]
    assert first_ok(rows, 2.0) == 1.0  # of 3.0, though 4.0 was recorded before it
    assert first_ok(rows, 3.0) == 0.0
    assert first_ok(rows, 3.000000001) == pytest.approx(1.0)
    assert first_ok(rows, 9.0) == 0.0
    assert first_ok(rows, 9.1) is None
    assert first_ok([], 0.0) is None


def test_an_operation_that_waited_through_the_fault_is_ok_when_it_ends() -> None:
    assert first_ok([row(0.5, 2.25)], 2.0) == 0.25


def test_a_fault_that_did_not_end_has_no_first_ok() -> None:
    assert first_ok(ok_at(1.0, 2.0), None) is None


def test_the_longest_gap_is_between_the_beginning_and_the_end_of_the_load() -> None:
    assert gone(ok_at(0.9, 1.5, 4.0, 4.5, 9.5), 1.0) == 5.0  # 4.5 to 9.5
    assert gone(ok_at(0.9, 1.5, 4.0, 4.5, 6.0), 1.0) == 4.0  # 6.0 to the load's end
    assert gone(ok_at(0.5, 8.0, 9.0), 1.0) == 7.0  # from the fault's beginning, not from 0.5
    assert gone(ok_at(0.5), 1.0) == 9.0
    assert gone([], 1.0) == 9.0


def test_a_service_that_was_never_gone_has_its_longest_gap() -> None:
    assert gone(ok_at(*(n / 4 for n in range(41))), 1.0) == 0.25


def test_what_ended_badly_fills_no_gap() -> None:
    assert gone([row(1.0, 3.0, outcome=FAIL), row(1.0, 5.0, outcome=INFO), *ok_at(1.0, 9.0)], 1.0) == 8.0


def test_what_ended_after_the_load_fills_no_gap_and_makes_none() -> None:
    assert gone(ok_at(2.0, 4.0, 30.0), 1.0, 5.0) == 2.0


@pytest.mark.parametrize("begin_s", [None, 10.0, 11.0])
def test_where_no_load_saw_the_fault_nothing_is_known(begin_s: float | None) -> None:
    assert gone(ok_at(2.0), begin_s) is None


def test_reads_count_as_operations() -> None:
    rows = ok_at(2.0, 4.0, name="search_runs")
    found = seen(samples(rows), READS, 1.0, 3.0, 5.0)
    assert (found["first_ok_s"], found["gone_s"]) == (1.0, 2.0)


times = st.integers(0, 12 * S)
operations = st.lists(
    st.tuples(times, times, st.sampled_from(list(Outcome)[2:]), st.sampled_from(list(ErrorKind))), max_size=60
)


@settings(max_examples=100, deadline=None)
@given(operations, times, times, times)
def test_nothing_is_lost_and_no_gap_is_longer(
    rows: list[tuple[int, int, Outcome, ErrorKind]], begin_ns: int, end_ns: int, window_ns: int
) -> None:
    made = [(min(a, b), min(a, b), max(a, b), "log_batch", outcome, error, 1) for a, b, outcome, error in rows]
    found = seen(samples(made), BATCH, begin_ns / S, end_ns / S, window_ns / S)
    line: list[Moment] = found["timeline"]
    ok = sorted(each[2] for each in made if each[4] == OK)
    failed = [each for each in made if each[4] in (FAIL, INFO) and each[5]]
    assert sum(one.metrics for one in line) == 25 * len(ok)
    assert sum(sum(one.errors.values()) for one in line) == len(failed)
    assert [one.at_s for one in line] == [n * 0.25 for n in range(len(line))]
    assert len(line) * S // 4 >= window_ns
    for one in line:
        here = range(round(one.at_s * S), round(one.at_s * S) + S // 4)
        assert one.metrics == 25 * sum(end in here for end in ok)
        for kind in ErrorKind:
            assert one.errors.get(kind.label, 0) == sum(each[2] in here and each[5] == kind for each in failed)
    after = [end - end_ns for end in ok if end >= end_ns]
    assert found["first_ok_s"] == (min(after) / S if after else None)
    if begin_ns >= window_ns:
        assert found["gone_s"] is None
        return
    moments = [begin_ns, *(end for end in ok if begin_ns <= end <= window_ns), window_ns]
    gaps = [later - sooner for sooner, later in pairwise(moments)]
    assert found["gone_s"] == max(gaps) / S
    assert 0 < found["gone_s"] <= (window_ns - begin_ns) / S


def test_half_a_million_operations_are_no_work() -> None:
    """Whole arrays, no loop over operations: of a long load with a fault there are that many."""
    count = 500_000
    end = np.arange(count, dtype=np.int64) * 100_000
    zeros = np.zeros(count, dtype=np.uint8)
    kind = np.full(count, samples(ok_at(1.0)).operation[0], dtype=np.uint8)
    made = Samples(end, end, end, kind, zeros + int(OK), zeros, zeros + 1, zeros.astype(np.uint16))
    found = seen(made, SINGLE, 1.0, 2.0, 50.0)
    assert [one.metrics for one in found["timeline"]] == [2500] * 200
    assert (found["first_ok_s"], found["gone_s"]) == (0.0, pytest.approx(0.0001))


@pytest.mark.parametrize(("begin_s", "count"), [(0.3, 2), (0.31, 3), (0.0, 0), (None, 0), (5.0, 4)])
def test_what_had_ended_when_it_began(begin_s: float | None, count: int) -> None:
    assert seen(samples(ok_at(0.1, 0.2, 0.3, 0.9)), SINGLE, begin_s, 0.5, 1.0)["before"] == count
