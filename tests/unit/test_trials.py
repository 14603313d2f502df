"""From samples to figures: latency by when an operation was due, throughput by when it ended."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_samples import BATCH, EXPERIMENTS, FAIL, INFO, OK, SINGLE, TRAIN, WINDOW, Row, S, of, row, run_of, samples

from bench.cell import Percentiles
from bench.judge import statistics
from bench.judge.trials import Window, figures, unfinished
from bench.outcome import ErrorKind
from bench.samples import SCHEMA, Samples
from bench.workload import Workload


def test_percentiles_of_known_samples() -> None:
    """Service times of 1 to 1000 ms, begun 1.5 times as late as planned."""
    found = of([row(10.5, 10.5 + n / 1000, lag=0.25) for n in range(1, 1001)])
    assert found.write_service == Percentiles(p50=500.0, p90=900.0, p95=950.0, p99=990.0, max=1000.0, n=1000)
    assert found.write_response == Percentiles(p50=750.0, p90=1150.0, p95=1200.0, p99=1240.0, max=1250.0, n=1000)
    assert found.read_service == found.read_response == Percentiles()
    assert found.seconds == 2.0


def test_latency_is_of_those_that_began_and_throughput_of_those_that_ended() -> None:
    rows = [
        row(9.9, 10.1),  # began before, ended within
        row(10.0, 10.2),  # began at the very first moment
        row(11.9, 15.0),  # began within, ended long after
        row(12.0, 12.1),  # began at the very end: outside
        row(9.0, 9.5),  # wholly before
        row(9.0, 10.0),  # ended at the very first moment
        row(11.0, 12.0),  # ended at the very end: outside
    ]
    found = of(rows)
    assert found.write_service.n == 3
    assert found.write_service.max == pytest.approx(3100.0)
    assert found.ops_ok == 6  # counted: whatever ended after the window began
    assert found.ops_per_s == 3 / 2
    assert found.metrics_per_s == 3 / 2


def test_only_what_ended_ok_is_throughput() -> None:
    rows = [row(10.1, 10.2), row(10.1, 10.2, outcome=FAIL), row(10.1, 10.2, outcome=INFO)]
    found = of(rows)
    assert (found.ops_ok, found.ops_failed, found.ops_unknown) == (1, 1, 1)
    assert found.ops_per_s == found.metrics_per_s == 0.5


def test_metrics_are_counted_by_the_operation_that_stores_them() -> None:
    found = of([row(10.1, 10.2, "log_batch"), row(10.1, 10.2, "search_runs"), row(10.1, 10.2, "log_param")], BATCH)
    assert found.metrics_per_s == 12.5
    assert found.ops_per_s == 1.5
    train = of([row(10.1, 10.2), row(10.1, 10.2, "create_run")], Workload("t", "train"))
    assert train.metrics_per_s == 0.5
    assert of([row(10.1, 10.2, "get_run")], Workload("r", "read")).metrics_per_s is None


def test_reads_and_writes_have_latencies_of_their_own() -> None:
    reads = [row(10.1, 10.3, name) for name in ("search_runs", "metric_history", "get_run")]
    writes = [row(10.1, 10.2, name) for name in ("log_metric", "log_batch", "create_run", "bulk_insert")]
    found = of(reads + writes)
    assert (found.read_service.n, found.write_service.n) == (3, 4)
    assert (found.read_response.max, found.write_response.max) == (pytest.approx(200.0), pytest.approx(100.0))
    assert {name for name, kind in found.operations.items() if kind.reads} == {
        "search_runs", "metric_history", "get_run",
    }  # fmt: skip
    assert sum(kind.ok for kind in found.operations.values()) == 7


def test_each_kind_has_its_own_counts() -> None:
    rows = [row(10, 10.1), row(10, 10.1, outcome=FAIL), row(10, 10.2, "set_tag", INFO), row(9, 10.2, "log_param")]
    kinds = of(rows).operations
    assert set(kinds) == {"log_metric", "set_tag", "log_param"}
    assert (kinds["log_param"].ok, kinds["log_param"].latency_ms.service.n) == (1, 0)  # began before the window
    assert (kinds["log_metric"].ok, kinds["log_metric"].failed, kinds["log_metric"].unknown) == (1, 1, 0)
    assert (kinds["set_tag"].ok, kinds["set_tag"].unknown) == (0, 1)
    assert kinds["set_tag"].latency_ms.service.n == 0  # only what ended ok is timed
    assert kinds["log_metric"].latency_ms.service.max == pytest.approx(100.0)


def test_errors_are_of_every_attempt() -> None:
    busy, deadlock = ErrorKind.SQLITE_BUSY, ErrorKind.MYSQL_1213_DEADLOCK
    rows = [
        row(10.1, 10.2, outcome=FAIL, error=busy),
        row(10.1, 10.2, outcome=FAIL, error=deadlock, attempts=3),
        row(10.1, 10.2, outcome=INFO, error=ErrorKind.TIMEOUT),
        row(10.1, 10.2, attempts=2),
        row(9.1, 10.2, outcome=FAIL, error=busy),  # began before the window, ended in it
        row(9.1, 9.9, outcome=FAIL, error=busy),  # was over before it
    ]
    found = of(rows, retried={"mysql_1213_deadlock": 2, "pg_40001_serialization": 1})
    assert found.errors == {"sqlite_busy": 2, "mysql_1213_deadlock": 3, "timeout": 1, "pg_40001_serialization": 1}
    assert found.lock_errors == 6
    assert found.deadlocks == 3
    assert found.ops_retried == 2


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_which_errors_are_lock_errors(kind: ErrorKind) -> None:
    locks = {"sqlite_busy", "sqlite_busy_snapshot", "sqlite_locked", "pg_40001_serialization", "pg_40p01_deadlock",
             "pg_55p03_lock_not_available", "mysql_1205_lock_wait_timeout", "mysql_1213_deadlock",
             "mysql_3572_nowait"}  # fmt: skip
    found = of([row(10.1, 10.2, outcome=FAIL, error=kind)])
    assert found.lock_errors == (kind.label in locks) == kind.is_lock
    assert found.timeline[0].lock_errors == (kind.label in locks)
    assert found.deadlocks == (kind.label in {"pg_40p01_deadlock", "mysql_1213_deadlock"})
    assert found.errors == ({} if kind is ErrorKind.NONE else {kind.label: 1})


def test_a_trial_without_samples_has_zeros_and_no_percentiles() -> None:
    found = of([])
    assert (found.ops_ok, found.ops_per_s, found.metrics_per_s, found.errors) == (0, 0.0, 0.0, {})
    assert found.write_service == found.read_response == Percentiles()
    assert [point.metrics for point in found.timeline] == [0, 0]
    assert found.operations == {}


def test_a_window_of_no_length_does_not_divide_by_zero() -> None:
    fields = figures(samples([row(1, 2)]), Window(5, 5), SINGLE, {})
    assert fields["ops_per_s"] == 0.0


operations = st.builds(
    row,
    st.floats(9, 13),
    st.floats(9, 16),
    st.sampled_from(["log_batch", "get_run", "log_metric"]),
    st.sampled_from([OK, FAIL, INFO]),
    st.sampled_from([ErrorKind.NONE, ErrorKind.SQLITE_BUSY, ErrorKind.TIMEOUT]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(operations, max_size=40), st.integers(1, 2_900_000_000))
def test_the_timeline_adds_up(rows: list[Row], length: int) -> None:
    window = Window(10 * S, 10 * S + length)
    fields = figures(samples(rows), window, BATCH, {})
    timeline: list = fields["timeline"]  # type: ignore[assignment,type-arg]
    assert len(timeline) == -(-length // S)
    ended = [each for each in rows if window.begin_ns <= each[2] < window.end_ns]
    good = [each for each in ended if each[4] is OK and each[3] == "log_batch"]
    assert sum(point.metrics for point in timeline) == 25 * len(good)
    assert fields["metrics_per_s"] == pytest.approx(25 * len(good) / (length / S))
    assert sum(point.lock_errors for point in timeline) == sum(each[5] is ErrorKind.SQLITE_BUSY for each in ended)
    for second, point in enumerate(timeline):
        inside = [each for each in good if (each[2] - window.begin_ns) // S == second]
        assert point.metrics == 25 * len(inside)


# Phases of a training


def phases(work: Workload, *writers: list[Row]) -> dict[str, float]:
    taken = samples([each for rows in writers for each in rows])
    owner = np.array([n for n, rows in enumerate(writers) for _ in rows], dtype=np.uint16)
    shuffled = np.random.default_rng(1).permutation(len(owner))
    mixed = Samples(*(getattr(taken, name)[shuffled] for name in SCHEMA.names[:-1]), owner[shuffled])
    return figures(mixed, WINDOW, work, {})["phases_ms"]  # type: ignore[return-value]


def test_the_phases_of_one_experiment_add_up_service_times() -> None:
    took = {"create_experiment": 7.0, "create_run": 5.0, "log_param": 3.0, "log_metric": 2.0, "finish_run": 1.0}
    found = phases(EXPERIMENTS, run_of(EXPERIMENTS, 10.5, took))
    assert found == pytest.approx({"create": 12.0, "params": 6.0, "steps": 4.0, "experiment": 12 + 6 + 4 + 1})
    found = phases(TRAIN, run_of(TRAIN, 10.5, took))
    assert found == pytest.approx({"create": 5.0, "params": 6.0, "steps": 4.0, "experiment": 5 + 6 + 4 + 1})


def test_a_phase_is_the_median_over_runs_whoever_made_them() -> None:
    one = run_of(TRAIN, 10.1, {"log_param": 1.0}) + run_of(TRAIN, 10.5, {"log_param": 2.0})
    two = run_of(TRAIN, 10.2, {"log_param": 50.0})
    assert phases(TRAIN, one, two)["params"] == pytest.approx(2 * 2.0)


def test_a_run_that_was_cut_off_at_either_end_has_no_time() -> None:
    """The warm-up takes the beginning of one, the end of the load the end of another."""
    whole = run_of(TRAIN, 10.5, {"log_metric": 4.0})
    begun_before = [each for each in run_of(TRAIN, 9.97, {"log_metric": 40.0}) if each[2] >= WINDOW.begin_ns]
    assert 0 < len(begun_before) < len(whole)
    begun_last = run_of(TRAIN, 11.5, {"log_metric": 400.0}, until="log_metric")
    expected = phases(TRAIN, whole)
    assert phases(TRAIN, begun_before + whole + begun_last) == expected
    assert phases(TRAIN, begun_before, whole, begun_last) == expected
    assert phases(TRAIN, begun_before, begun_last) == {}


@pytest.mark.parametrize(
    ("bad", "left"),
    [
        ("create_run", {"params", "steps"}),
        ("log_param", {"create", "steps"}),
        ("log_metric", {"create", "params"}),
        ("set_tag", {"create", "params", "steps"}),
        ("finish_run", set()),
    ],
)
def test_a_phase_that_did_not_go_well_has_no_time(bad: str, left: set[str]) -> None:
    work = Workload("t", "train", params=2, tags=1, steps=2, keys=1)
    assert set(phases(work, run_of(work, 10.5, {}, bad))) == left
    good = phases(work, run_of(work, 10.5, {}))
    assert phases(work, run_of(work, 10.5, {}), run_of(work, 10.5, {"log_param": 99.0, "log_metric": 99.0}, bad))[
        "experiment"
    ] == pytest.approx(good["experiment"])


def test_a_phase_without_operations_has_no_time() -> None:
    bare = Workload("t", "train", steps=1, keys=1)
    assert set(phases(bare, run_of(bare, 10.5, {}))) == {"create", "steps", "experiment"}


def test_only_trainings_have_phases() -> None:
    assert of([row(10.1, 10.2)]).phases_ms == {}
    assert of([], TRAIN).phases_ms == {}


def test_first_attempts_are_those_that_were_ok_at_once() -> None:
    rows = [
        row(10.1, 10.2), row(10.1, 10.2, attempts=2), row(10.1, 10.2, outcome=FAIL), row(10.1, 10.2, outcome=INFO),
        row(9.0, 9.5), row(9.9, 10.2),
    ]  # fmt: skip
    assert of(rows).first_attempts_ok == 2  # the fifth was over before the window


# Runs that did not finish


def left(work: Workload, *writers: list[Row], count: int | None = None) -> int | None:
    taken = samples([each for rows in writers for each in rows])
    owner = np.array([n for n, rows in enumerate(writers) for _ in rows], dtype=np.uint16)
    return unfinished(
        Samples(*(getattr(taken, name) for name in SCHEMA.names[:-1]), owner), work, len(writers) or 1, count
    )


def test_a_run_that_the_end_of_the_time_cut_off_is_not_unfinished() -> None:
    whole = run_of(TRAIN, 10.1, {})
    assert left(TRAIN, whole, whole) == 0
    assert left(TRAIN, whole + run_of(TRAIN, 11.0, {}, until="log_metric"), whole) == 0
    assert left(TRAIN, run_of(TRAIN, 10.1, {}, until="log_param") + whole, whole) == 1


def test_of_a_counted_load_every_run_is_asked_for() -> None:
    each = EXPERIMENTS.operations_per_run
    whole = run_of(EXPERIMENTS, 10.1, {})
    assert left(EXPERIMENTS, whole, whole, count=each) == 0
    assert left(EXPERIMENTS, whole, run_of(EXPERIMENTS, 10.1, {}, bad="finish_run"), count=each) == 1
    assert left(EXPERIMENTS, whole, whole, count=3 * each) == 4


def test_only_trainings_that_began_can_be_unfinished() -> None:
    assert left(SINGLE, [row(10.1, 10.2)]) is None
    assert left(TRAIN) is None


# Intervals within a trial


def test_intervals_within_a_trial_are_those_of_its_writes() -> None:
    rows = [row(10.5, 10.5 + n / 1000, lag=0.25) for n in range(1, 401)] + [row(10.1, 10.2, "get_run")] * 9
    within = of(rows).within
    assert set(within) == {"ops_per_s", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms"}
    assert within["p999_ms"] is None
    assert within["p50_ms"] == statistics.quantile_interval(np.arange(251.0, 651.0), 0.5, 0.95)
    assert within["p99_ms"] is not None
    assert within["ops_per_s"] == statistics.rate_interval(409, 2.0, 0.95)


def test_where_nothing_writes_they_are_those_of_reads() -> None:
    within = of([row(10.1, 10.1 + n / 1000, "get_run") for n in range(1, 11)]).within
    assert within["p50_ms"] == statistics.quantile_interval(np.arange(1.0, 11.0), 0.5, 0.95)
    assert within["p99_ms"] is None
    assert all(value is None for name, value in of([]).within.items() if name != "ops_per_s")
