"""From a run's trials to its verdict: each criterion on its cells, and what a reader must know beside it."""

import pytest
from made import LATENCIES, a_candidate, a_result

from bench.cell import Criterion, Integrity, Operation, Percentiles
from bench.conclusion import judge_records
from bench.results import Candidate, Results
from bench.scenario import Scenario, parse_text
from bench.trial_record import TrialRecord

TEXT = """
title = "t"
reference = "sqlite"
rounds = 4
[candidates.sqlite]
store = "sqlite"
[candidates.mine]
store = "mysql"
[workloads.single]
kind = "log_metric"
[[cells]]
driver = "http"
workload = "single"
concurrency = [1, 20]
[[cells]]
driver = "direct"
workload = "single"
concurrency = [20]
"""
GOOD = Integrity(checked=True, attempted=10, acknowledged=10, stored=10)


def criterion(expression: str, more: str = "") -> str:
    return f'[[criteria]]\nname = "{expression}"\nexpression = "{expression}"\n{more}\n'


def scenario(*criteria: str) -> Scenario:
    return parse_text(TEXT + "".join(criteria), "x.toml")


def trial(name: str, store: str, place: tuple[str, int], round_number: int, **changes: object) -> TrialRecord:
    at = Percentiles(p50=5.0, p90=5.0, p95=5.0, p99=5.0 + round_number / 10, max=9.0, n=400)
    operation = Operation(ok=400, failed=0, unknown=0, reads=False, latency_ms=LATENCIES)
    record = TrialRecord(
        number=1, round=round_number, candidate=name, store=store, driver=place[0], workload="single",
        concurrency=place[1], started="", seconds=2.0, ops_ok=400, metrics_per_s=200.0 + round_number, ops_per_s=200.0,
        write_service=at, write_response=at, operations={"log_metric": operation}, integrity=GOOD,
        referee={"deadlocks": 0.0},
    )  # fmt: skip
    return record.model_copy(update=changes)


PLACES = (("http", 1), ("http", 20), ("direct", 20))
SQLITE, MINE = a_candidate("sqlite", "sqlite"), a_candidate("mine", "mysql")


def concluded(
    wanted: Scenario, mine: dict[str, object] | None = None, candidates: tuple[Candidate, ...] = (SQLITE, MINE),
    place: tuple[str, int] | None = None, whose: tuple[str, ...] = ("mine",), **changes: object,
) -> Results:  # fmt: skip
    """All trials went well, except that ``mine`` is changed in those of the candidate (at ``place``), or ``whose``."""
    records = [
        trial(one.name, one.store, where, n, **((mine or {}) if one.name in whose and place in (None, where) else {}))
        for n in range(4)
        for one in candidates
        for where in PLACES
    ]
    run = a_result().run.model_copy(update=changes)
    return judge_records(wanted, records, candidates, run, {"cores": "2"})


def of_mine(found: Results) -> list[Criterion]:
    return [one for one in found.criteria if one.candidate == "mine"]


def test_each_criterion_is_judged_on_its_cells() -> None:
    found = concluded(
        scenario(
            criterion("lost == 0"),
            criterion("p99_ms <= 500", 'driver = "http"\nconcurrency = 20'),
            criterion("deadlocks == 0", 'driver = "direct"'),
            criterion("ops_failed == 0", 'stores = ["mysql"]\nconcurrency = 1'),
        )
    )
    places = [(one.field, one.driver, one.concurrency) for one in of_mine(found)]
    assert places == [
        ("lost", "http", 1), ("lost", "http", 20), ("lost", "direct", 20), ("p99_ms", "http", 20),
        ("deadlocks", "direct", 20), ("ops_failed", "http", 1),
    ]  # fmt: skip
    assert not [one for one in found.criteria if one.candidate == "sqlite" and one.field == "ops_failed"]
    assert {one.outcome for one in found.criteria} == {"pass"}
    assert (found.verdict, found.exit_code) == ("pass", 0)
    assert found.verdicts == {"sqlite": "pass", "mine": "pass"}


def test_the_reference_is_that_of_the_same_driver_and_level() -> None:
    """Direct writes are ten times as fast: they are no reference for what users feel."""
    wanted = scenario(criterion("p99_ms <= 1.2 * reference"))
    slow = Percentiles(p50=50.0, p90=50.0, p95=50.0, p99=50.0, max=90.0, n=400)
    found = concluded(wanted, {"write_response": slow}, place=("http", 20))
    outcomes = {(one.driver, one.concurrency): one.outcome for one in of_mine(found)}
    assert outcomes == {("http", 20): "fail", ("http", 1): "pass", ("direct", 20): "pass"}
    assert found.exit_code == 1
    both = concluded(wanted, {"write_response": slow}, place=("http", 20), whose=("sqlite", "mine"))
    assert {one.outcome for one in of_mine(both)} == {"pass"}


@pytest.mark.parametrize(
    ("field", "changes", "outcome"),
    [
        ("durable == 1", {"durable": True}, "pass"),
        ("durable == 1", {"durable": False}, "fail"),
        ("durable == 1", {"durable": None}, "inconclusive"),
        ("schema_missing == 0", {"schema_missing": []}, "pass"),
        ("schema_missing == 0", {"schema_missing": ["spans", "tags"]}, "fail"),
        ("schema_missing == 0", {"schema_missing": None}, "inconclusive"),
        ("schema_current == 1", {"schema_current": True}, "pass"),
        ("schema_current == 1", {"schema_current": False}, "fail"),
        ("schema_current == 1", {"schema_current": None}, "inconclusive"),
    ],
)
def test_facts_of_the_candidate_are_judged(field: str, changes: dict[str, object], outcome: str) -> None:
    mine = MINE.model_copy(update=changes)
    found = concluded(scenario(criterion(field)), candidates=(SQLITE, mine))
    assert {one.outcome for one in of_mine(found)} == {outcome}
    assert {one.outcome for one in found.criteria if one.candidate == "sqlite"} == {"pass"}


def test_a_counter_that_others_move_too_fails_nobody() -> None:
    wanted = scenario(criterion("referee.deadlocks == 0"), criterion("lock_errors == 0"))
    deadlocked = {"referee": {"deadlocks": 3.0}}
    assert concluded(wanted, deadlocked).verdict == "fail"
    shared = concluded(wanted, deadlocked, (SQLITE, MINE.model_copy(update={"theirs": True})))
    referee = [one for one in of_mine(shared) if one.field == "referee.deadlocks"]
    assert {one.outcome for one in referee} == {"inconclusive"}
    assert "not ours alone" in referee[0].reason
    assert (shared.verdict, shared.exit_code) == ("inconclusive", 3)
    locked = concluded(wanted, {"lock_errors": 1}, (SQLITE, MINE.model_copy(update={"theirs": True})))
    assert locked.verdict == "fail"  # what our own clients saw is ours


@pytest.mark.parametrize("door", ["integrity", "integrity_rest"])
def test_lost_data_is_exit_code_4_whatever_the_criteria_say(door: str) -> None:
    lost = GOOD.model_copy(update={"lost": 1})
    found = concluded(scenario(criterion("lost <= 100")), {door: lost}, place=("http", 20))
    assert (found.verdict, found.exit_code) == ("fail", 4)
    assert found.reasons["mine"].startswith("integrity: ")


def test_a_rest_door_that_was_not_checked_leaves_no_pass() -> None:
    unchecked = Integrity(checked=False, reason="the server was gone")
    found = concluded(scenario(criterion("p99_ms <= 500")), {"integrity_rest": unchecked}, place=("http", 1))
    assert (found.verdict, found.exit_code) == ("inconclusive", 3)
    assert "the server was gone" in found.reasons["mine"]


def test_a_run_that_was_interrupted_is_no_pass() -> None:
    wanted = scenario(criterion("lost == 0"))
    stopped = concluded(wanted, interrupted=True, trials_planned=24, trials_done=9)
    assert (stopped.verdict, stopped.exit_code) == ("inconclusive", 3)
    assert set(stopped.verdicts.values()) == {"inconclusive"}
    assert "interrupted after 9 of 24 trials" in stopped.reasons["mine"]
    assert concluded(wanted, {"ops_failed": 3}, interrupted=True).verdict == "inconclusive"
    failed = scenario(criterion("ops_failed == 0"))
    assert concluded(failed, {"ops_failed": 3}, interrupted=True).verdict == "fail"


def test_a_trial_that_could_not_be_measured_is_told_and_leaves_no_pass() -> None:
    found = concluded(scenario(criterion("lost == 0")), {"error": "ServerFailed: gone"}, place=("http", 20))
    assert found.verdict == "inconclusive"
    assert "Not measured: mine, http single at 20, round 1: ServerFailed: gone" in found.notes


def test_a_criterion_of_a_table_is_told_with_it() -> None:
    wanted = scenario(criterion("metrics_per_s > 50", 'table = "published"\npublished = "102.2"\ngating = false'))
    found = concluded(wanted)
    assert {(one.table, one.published, one.gating) for one in found.criteria} == {("published", "102.2", False)}
    assert found.verdict == "inconclusive"  # nothing gates


def test_cells_come_in_one_order_and_the_drivers_are_explained() -> None:
    found = concluded(scenario(criterion("lost == 0")))
    places = [(one.driver, one.concurrency, one.candidate) for one in found.cells]
    levels = (("http", 1), ("http", 20), ("direct", 20))  # what users feel comes first
    assert places == [(driver, level, name) for driver, level in levels for name in ("sqlite", "mine")]
    assert any(note.startswith("HTTP: ") for note in found.notes)
    assert any(note.startswith("Direct writers: ") for note in found.notes)
    direct = judge_records(scenario(), [trial("mine", "mysql", ("direct", 20), 0)], [MINE], a_result().run, {})
    assert not any(note.startswith("HTTP: ") for note in direct.notes)


def test_a_candidate_that_is_not_durable_or_not_what_it_was_called_is_told() -> None:
    other = MINE.model_copy(update={"durable": False, "durability": "no sync", "store": "mariadb"})
    found = concluded(scenario(criterion("lost == 0")), candidates=(SQLITE, other))
    assert "mine: not durable: no sync" in found.notes
    assert "mine was asked for as mysql, and is mariadb" in found.notes
