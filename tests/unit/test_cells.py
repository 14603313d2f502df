"""From trials to a cell: means over rounds, sums of counts, and what is missing stays missing."""

import pytest
from made import LATENCIES, a_cell

from bench.cell import Availability, Cell, Generator, Integrity, Operation, Percentiles, Probe, Schedule
from bench.judge.cells import cell_of, per_round, sum_integrity
from bench.judge.fields import ROUND_FIELDS
from bench.judge.statistics import log_interval
from bench.trial_record import Second, TrialRecord

GOOD = Integrity(checked=True, attempted=10, acknowledged=9, stored=9, recovered=1, invariants={"a": 0})


def at(ms: float | None, n: int = 400) -> Percentiles:
    return Percentiles(p50=ms, p90=ms, p95=ms, p99=ms, max=None if ms is None else 2 * ms, n=n)


def trial(round_number: int, **changes: object) -> TrialRecord:
    record = TrialRecord(
        number=round_number + 1,
        round=round_number,
        candidate="mysql",
        store="mysql",
        driver="direct",
        workload="w",
        concurrency=5,
        started="2025-01-01",
        seconds=2.0,
        ops_ok=90,
        ops_failed=6,
        ops_unknown=4,
        ops_retried=3,
        metrics_per_s=100.0,
        ops_per_s=50.0,
        write_service=at(1.0),
        write_response=at(2.0),
        errors={"timeout": 1},
        lock_errors=2,
        deadlocks=1,
        referee={"deadlocks": 1.0, "lock_waits": None, "connections": 5.0, "connections_share": 0.5},
        integrity=GOOD,
        generator=Generator(cpu_share=0.5, loop_lag_p99_ms=3.0),
        timeline=[Second(metrics=7, lock_errors=1), Second(metrics=8, lock_errors=0)],
    )
    return record.model_copy(update=changes)


def cell(*changes: dict[str, object]) -> Cell:
    return cell_of([trial(n, **change) for n, change in enumerate(changes)], False)


def test_rates_are_geometric_means_with_their_intervals() -> None:
    found = cell({"metrics_per_s": 100.0, "ops_per_s": 10.0}, {"metrics_per_s": 400.0, "ops_per_s": 40.0})
    assert found.metrics_per_s == pytest.approx(200.0)
    assert found.ops_per_s == pytest.approx(20.0)
    assert found.intervals["metrics_per_s"] == log_interval([100.0, 400.0], 0.95)
    assert found.per_round["metrics_per_s"] == [100.0, 400.0]


def test_latencies_are_geometric_means_with_the_maximum_of_maxima() -> None:
    found = cell(
        {"write_service": at(1.0, 300), "write_response": at(10.0, 300)},
        {"write_service": at(4.0, 500), "write_response": at(40.0, 500)},
    )
    service, response = found.latency_ms.service, found.latency_ms.response
    assert (service.p99, service.max, service.n) == (pytest.approx(2.0), 8.0, 800)
    assert (response.p50, response.max, response.n) == (pytest.approx(20.0), 80.0, 800)
    assert service.p999 is None
    assert found.per_round["p99_ms"] == [10.0, 40.0]  # criteria look at response time
    assert found.read_latency_ms is None


def test_counts_are_sums() -> None:
    found = cell({}, {"errors": {"timeout": 2, "other": 5}, "ops_ok": 10}, {"lock_errors": 40})
    assert (found.ops_ok, found.ops_failed, found.ops_unknown, found.ops_retried) == (190, 18, 12, 9)
    assert found.success_rate == pytest.approx(190 / 220)
    assert found.errors == {"timeout": 4, "other": 5}
    assert (found.lock_errors, found.deadlocks, found.seconds, found.rounds) == (44, 3, 6.0, 3)


def test_a_trial_that_could_not_be_measured_leaves_a_hole() -> None:
    empty = TrialRecord(
        number=2, round=1, candidate="mysql", store="mysql", driver="direct", workload="w", concurrency=5,
        started="2025-01-01", error="RuntimeError: gone",
    )  # fmt: skip
    found = cell_of([trial(0), empty, trial(2)], False)
    assert found.rounds == 2
    assert found.metrics_per_s is None
    assert found.per_round["metrics_per_s"] == [100.0, None, 100.0]
    assert found.intervals["metrics_per_s"] is None
    assert found.latency_ms.response.p99 is None
    assert not found.integrity.checked
    assert found.integrity.reason == "the trial did not get that far"
    assert found.referee["deadlocks"] == 2.0
    assert found.generator.cpu_share == 0.5


def test_a_cell_of_which_nothing_was_measured_has_no_figures() -> None:
    empty = trial(0).model_copy(
        update={
            "error": "x", "ops_ok": 0, "ops_failed": 0, "ops_unknown": 0, "metrics_per_s": None, "ops_per_s": None,
            "write_service": Percentiles(), "write_response": Percentiles(), "integrity": Integrity(checked=False),
        }
    )  # fmt: skip
    found = cell_of([empty], True)
    assert (found.rounds, found.success_rate, found.metrics_per_s, found.referee) == (0, None, None, {})
    assert found.latency_ms.service == Percentiles()
    assert found.generator == Generator()
    assert found.reference


def test_a_percentile_that_one_round_lacks_is_missing() -> None:
    thin = Percentiles(p50=1.0, max=9.0, n=20)
    found = cell({}, {"write_service": thin, "write_response": thin})
    assert found.latency_ms.service.p50 == pytest.approx(1.0)
    assert found.latency_ms.service.p99 is None
    assert found.latency_ms.service.max == 9.0
    assert found.per_round["p99_ms"] == [2.0, None]


READS = {"read_service": at(5.0, 50), "read_response": at(6.0, 50)}
NO_WRITES = {"write_service": Percentiles(), "write_response": Percentiles()}


def test_a_mixed_workload_keeps_reads_and_writes_apart() -> None:
    found = cell(READS, READS)
    assert found.read_latency_ms is not None
    assert found.read_latency_ms.response.p95 == pytest.approx(6.0)
    assert found.latency_ms.response.p95 == pytest.approx(2.0)
    assert (found.per_round["p95_ms"], found.per_round["read.p95_ms"]) == ([2.0, 2.0], [6.0, 6.0])


def test_where_a_workload_only_reads_its_reads_are_the_latency() -> None:
    found = cell({**READS, **NO_WRITES})
    assert found.read_latency_ms is None
    assert found.latency_ms.service.p99 == pytest.approx(5.0)
    assert found.per_round["p99_ms"] == found.per_round["read.p99_ms"] == [6.0]


def test_every_round_field_has_one_value_a_round() -> None:
    found = per_round([trial(0), trial(1), trial(2)])
    assert set(map(len, found.values())) == {3}
    names = ("p50", "p90", "p95", "p99", "p999")
    expected = {"metrics_per_s", "ops_per_s", *(f"{p}_ms" for p in names), *(f"read.{p}_ms" for p in names)}
    expected |= {f"phases.{name}_ms" for name in ("create", "params", "steps", "experiment")}
    assert set(found) == expected == set(ROUND_FIELDS)


def test_operations_are_summed_by_kind() -> None:
    def kind(ok: int) -> Operation:
        return Operation(ok=ok, failed=1, unknown=2, reads=ok > 50, latency_ms=LATENCIES)

    found = cell({"operations": {"a": kind(10), "b": kind(100)}}, {"operations": {"a": kind(20)}})
    a, b = found.operations["a"], found.operations["b"]
    assert (a.ok, a.failed, a.unknown, a.reads) == (30, 2, 4, False)
    assert (b.ok, b.failed, b.unknown, b.reads) == (100, 1, 2, True)
    assert a.latency_ms.service.n == 2000
    assert a.latency_ms.service.p99 == pytest.approx(4.0)


def test_counters_of_the_referee_are_summed_and_gauges_are_peaks() -> None:
    found = cell({}, {"referee": {"deadlocks": 4.0, "lock_waits": None, "connections": 3.0, "connections_share": 0.9}})
    assert found.referee == {"deadlocks": 5.0, "lock_waits": None, "connections": 5.0, "connections_share": 0.9}


def test_a_counter_that_one_round_lacks_is_missing() -> None:
    assert cell({}, {"referee": {"deadlocks": None}}).referee["deadlocks"] is None
    assert cell({}, {"referee": {}}).referee["deadlocks"] is None


def test_the_generator_is_shown_at_its_worst() -> None:
    worst = Generator(cpu_share=0.9, loop_lag_p99_ms=1.0, saturated=True, reason="too much")
    found = cell({}, {"generator": worst}, {})
    assert found.generator == Generator(cpu_share=0.9, loop_lag_p99_ms=3.0, saturated=True, reason="too much")


def test_the_timeline_keeps_each_second_of_each_round() -> None:
    points = [(point.round, point.second, point.metrics, point.lock_errors) for point in cell({}, {}).timeline]
    assert points == [(0, 0, 7, 1), (0, 1, 8, 0), (1, 0, 7, 1), (1, 1, 8, 0)]


def a_probe(ok: int, n: int, p95: float | None) -> Probe:
    return Probe(ok=ok, n=n, p95_ms=p95)


def available(share: float | None, n: int, health: Probe, search: Probe) -> dict[str, object]:
    return {"availability": Availability(share=share, n=n, health=health, search=search)}


def test_availability_is_that_of_all_moments_of_all_rounds() -> None:
    found = cell(
        available(1.0, 30, a_probe(30, 30, 2.0), a_probe(30, 30, 90.0)),
        available(0.4, 10, a_probe(10, 10, 3.0), a_probe(4, 10, None)),
    ).availability
    assert found is not None
    assert (found.share, found.n) == (pytest.approx(34 / 40), 40)
    assert found.health == a_probe(40, 40, 3.0)  # the worst round's percentile
    assert found.search == a_probe(34, 40, 90.0)


def test_availability_of_no_moment_is_not_measured() -> None:
    empty = available(None, 0, a_probe(0, 0, None), a_probe(0, 0, None))
    found = cell(empty, empty).availability
    assert found is not None
    assert (found.share, found.n, found.health.p95_ms) == (None, 0, None)
    assert cell({}, {}).availability is None  # direct trials have none
    one = cell(empty, available(0.5, 4, a_probe(2, 4, 1.0), a_probe(4, 4, 1.0))).availability
    assert one is not None
    assert one.share == 0.5


def test_errors_within_the_server_are_unknown_if_one_round_is() -> None:
    mine = {"server_errors": {"sqlite_busy": 2}}
    assert cell(mine, {"server_errors": {"sqlite_busy": 1, "timeout": 4}}).server_errors == {
        "sqlite_busy": 3, "timeout": 4,
    }  # fmt: skip
    assert cell(mine, {"server_errors": {}}).server_errors == {"sqlite_busy": 2}
    assert cell({"server_errors": {}}, {"server_errors": {}}).server_errors == {}
    assert cell(mine, {}).server_errors is None
    assert cell({}, {}).server_errors is None


def test_first_attempts_are_a_share_of_all_operations() -> None:
    assert cell({"first_attempts_ok": 80}, {"first_attempts_ok": 90}).first_attempt_rate == pytest.approx(170 / 200)
    assert cell({"first_attempts_ok": 0}).first_attempt_rate == 0.0
    nothing = {"ops_ok": 0, "ops_failed": 0, "ops_unknown": 0}
    assert cell(nothing).first_attempt_rate is None


@pytest.mark.parametrize(
    ("rounds", "expected"), [([0, 0], 0), ([3, 0, 2], 5), ([None, None], None), ([0, None], None), ([4, None], None)]
)
def test_runs_unfinished_are_summed_and_unknown_if_one_round_is(rounds: list[int | None], expected: int | None) -> None:
    assert cell(*({"runs_unfinished": n} for n in rounds)).runs_unfinished == expected


def test_phases_are_geometric_means_and_need_every_round() -> None:
    found = cell({"phases_ms": {"create": 4.0, "steps": 100.0}}, {"phases_ms": {"create": 16.0}})
    assert found.phases_ms == {"create": pytest.approx(8.0)}
    assert found.per_round["phases.create_ms"] == [4.0, 16.0]
    assert found.per_round["phases.steps_ms"] == [100.0, None]
    assert found.per_round["phases.experiment_ms"] == [None, None]
    assert found.intervals["phases.create_ms"] == log_interval([4.0, 16.0], 0.95)


def test_rounds_that_were_lost_are_told() -> None:
    assert cell({}, {"error": "RuntimeError: gone"}, {}).rounds_lost == 1
    assert cell({}, {}).rounds_lost == 0


def test_lost_parts_of_the_generator_are_summed() -> None:
    found = cell({"generator": Generator(lost_parts=1)}, {}, {"generator": Generator(lost_parts=2)})
    assert found.generator.lost_parts == 3


def a_schedule(rate: float, due: int, skipped: int, late: int | None, lag: float | None) -> dict[str, object]:
    return {
        "schedule": Schedule(
            arrivals="poisson", rate=rate, share=0.8, due=due, late=late, skipped=skipped, limit_ms=50.0,
            lag_ms=at(lag), own_lag_ms=Percentiles(p50=0.0, max=lag, n=300),
        ),
        "load": "80 %",
    }  # fmt: skip


def test_arrivals_are_summed_over_the_rounds() -> None:
    found = cell(a_schedule(100.0, 200, 5, 7, 1.0), a_schedule(400.0, 800, 1, 0, 4.0))
    assert found.load == "80 %"
    assert found.schedule is not None
    assert (found.schedule.arrivals, found.schedule.share, found.schedule.limit_ms) == ("poisson", 0.8, 50.0)
    assert found.schedule.rate == pytest.approx(200.0)
    assert (found.schedule.due, found.schedule.skipped, found.schedule.late) == (1000, 6, 7)
    assert (found.schedule.lag_ms.p99, found.schedule.lag_ms.max, found.schedule.lag_ms.n) == (
        pytest.approx(2.0), 8.0, 800,
    )  # fmt: skip
    assert (found.schedule.own_lag_ms.p50, found.schedule.own_lag_ms.p99, found.schedule.own_lag_ms.max) == (
        0.0, None, 4.0,
    )  # fmt: skip


def test_without_a_limit_nothing_is_late() -> None:
    found = cell(a_schedule(100.0, 200, 5, None, 1.0), a_schedule(100.0, 200, 5, None, 1.0)).schedule
    assert found is not None
    assert found.late is None


def test_a_round_that_was_lost_has_no_schedule() -> None:
    found = cell(a_schedule(100.0, 200, 5, 7, 1.0), {"error": "gone", "load": "80 %"}).schedule
    assert found is not None
    assert (found.rate, found.due) == (pytest.approx(100.0), 200)
    assert cell({"error": "gone", "load": "80 %"}).schedule is None
    assert cell({"error": "gone", "load": "80 %"}).load == "80 %"
    assert cell({}, {}).schedule is None
    assert cell({}, {}).load == "closed"


def test_the_longest_warm_up_is_told_and_rounds_that_were_not_steady() -> None:
    found = cell({"warmup_s": 0.5}, {"warmup_s": 2.5}, {"warmup_s": None, "steady": False}, {"steady": False})
    assert (found.warmup_s, found.unsteady) == (2.5, 2)
    assert (cell({}, {}).warmup_s, cell({}, {}).unsteady) == (None, 0)
    assert cell({"warmup_s": 0.5}, {"warmup_s": 9.0, "steady": False, "error": "gone"}).warmup_s == 0.5
    assert cell({"warmup_s": 0.5}, {"steady": False, "error": "gone"}).unsteady == 0


def test_intervals_within_rounds_stand_in_the_order_of_the_rounds() -> None:
    found = cell(
        {"within": {"ops_per_s": (9.0, 11.0), "p50_ms": (1.0, 2.0)}},
        {},
        {"within": {"ops_per_s": (19.0, 21.0), "p50_ms": None}},
    )
    assert found.within == {"ops_per_s": [(9.0, 11.0), None, (19.0, 21.0)], "p50_ms": [(1.0, 2.0), None, None]}
    assert cell({}, {}).within == {}


def test_facts_are_those_of_the_candidate() -> None:
    facts = {"durable": 1.0, "schema_missing": None, "schema_current": 0.0}
    assert cell_of([trial(0)], False, facts).facts == facts
    assert cell_of([trial(0)], False).facts == {}


def test_the_rest_door_has_a_sum_of_its_own() -> None:
    lost = Integrity(checked=True, attempted=10, lost=1)
    found = cell({"integrity_rest": GOOD}, {"integrity_rest": lost})
    assert found.integrity_rest is not None
    assert (found.integrity_rest.lost, found.integrity.lost) == (1, 0)
    assert found.doors == [found.integrity, found.integrity_rest]
    assert cell({}, {}).integrity_rest is None
    unchecked = cell({"integrity_rest": GOOD}, {"integrity_rest": UNCHECKED}).integrity_rest
    assert unchecked is not None
    assert not unchecked.checked


UNCHECKED = Integrity(checked=False, reason="broke down")
BROKEN = Integrity(checked=True, attempted=10, lost=1, invariants={"a": 2}, examples=["x"] * 8)


def test_integrity_is_the_sum_of_the_rounds() -> None:
    found = sum_integrity([GOOD, GOOD, BROKEN, BROKEN])
    assert (found.attempted, found.acknowledged, found.stored, found.recovered) == (40, 18, 18, 2)
    assert (found.lost, found.invariants) == (2, {"a": 4})
    assert len(found.examples) == 10
    assert found.checked
    assert found.broken


@pytest.mark.parametrize("name", ["lost", "duplicated", "corrupted", "unexpected", "recovered", "indeterminate"])
def test_no_count_is_left_out_of_the_sum(name: str) -> None:
    one = Integrity(checked=True, attempted=99, **{name: 3})  # type: ignore[arg-type]
    assert getattr(sum_integrity([one, one]), name) == 6


def test_one_round_that_was_not_checked_leaves_the_cell_unchecked() -> None:
    found = sum_integrity([GOOD, UNCHECKED, GOOD])
    assert (found.checked, found.reason, found.broken, found.share) == (False, "broke down", False, None)


def test_what_is_known_to_be_broken_stays_broken() -> None:
    for rounds in ([UNCHECKED, BROKEN], [BROKEN, UNCHECKED], [GOOD, UNCHECKED, BROKEN]):
        found = sum_integrity(rounds)
        assert found.checked
        assert found.broken
        assert found.reason == "broke down"


def test_invariants_that_hold_stay_named() -> None:
    assert sum_integrity([GOOD, GOOD]).invariants == {"a": 0}
    assert not sum_integrity([GOOD, GOOD]).broken


def test_a_cell_can_be_written(tmp_path: object) -> None:
    assert Cell.model_validate_json(cell({}, {}).model_dump_json()) == cell({}, {})
    assert a_cell() == Cell.model_validate_json(a_cell().model_dump_json())
