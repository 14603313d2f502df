"""From trials with a fault to its cell: counts are sums, times are the worst, and what one round lacks is missing."""

import pytest
from made import a_seen

from bench.cell import INTEGRITY_COUNTS, Integrity
from bench.fault_cell import FaultCell
from bench.judge.cells import sum_integrity
from bench.judge.faults import cell_of
from bench.trial_record import TrialRecord

GOOD = Integrity(checked=True, attempted=12, acknowledged=10, stored=11, recovered=1, indeterminate=1)
LOST = GOOD.model_copy(update={"lost": 2})
CRASH = "a crash may lose the last 0.6 s"


def trial(round_number: int, **changes: object) -> TrialRecord:
    record = TrialRecord(
        number=round_number + 1, round=round_number, candidate="mine", store="mysql", driver="http", workload="w",
        concurrency=5, started="", ops_ok=90, ops_failed=6, ops_unknown=4, ops_retried=3, lock_errors=2,
        errors={"connection": 5}, integrity=GOOD, fault=a_seen(),
    )  # fmt: skip
    return record.model_copy(update=changes)


def cell(*changes: dict[str, object], may_lose: str | None = None) -> FaultCell:
    return cell_of([trial(n, **change) for n, change in enumerate(changes)], False, may_lose)


def test_a_cell_carries_its_place_and_its_fault() -> None:
    found = cell({})
    assert (found.candidate, found.store, found.driver, found.workload, found.concurrency) == (
        "mine", "mysql", "http", "w", 5,
    )  # fmt: skip
    assert (found.fault, found.kind, found.target, found.says) == (
        "server-killed", "kill", "database", "database server killed",
    )  # fmt: skip
    assert (found.reference, found.modelled, found.may_lose) == (False, False, None)
    assert (found.outcome, found.reason[:7]) == ("kept", "all 10 ")
    assert found.seen == [a_seen()]
    assert cell_of([trial(0)], True, CRASH).reference
    assert cell({}, may_lose=CRASH).may_lose == CRASH


def test_counts_are_sums() -> None:
    found = cell({}, {"errors": {"connection": 1, "timeout": 2}, "fault": a_seen(reconnects=3)}, {"ops_ok": 10})
    assert (found.ops_ok, found.ops_failed, found.ops_unknown, found.ops_retried) == (190, 18, 12, 9)
    assert (found.lock_errors, found.reconnects, found.errors) == (6, 19, {"connection": 11, "timeout": 2})
    assert (found.rounds, found.rounds_lost, len(found.seen)) == (3, 0, 3)


@pytest.mark.parametrize("name", ["first_ok_s", "gone_s"])
def test_a_time_is_that_of_the_worst_round(name: str) -> None:
    def of(*times: float | None) -> float | None:
        found: float | None = getattr(cell(*({"fault": a_seen(**{name: one})} for one in times)), name)
        return found

    assert of(0.5) == 0.5
    assert of(0.5, 2.0, 0.0) == 2.0
    assert of(0.0, 0.0) == 0.0
    assert of(0.5, None, 2.0) is None
    assert of(None) is None


def test_a_round_that_could_not_be_measured_is_counted_apart() -> None:
    found = cell({}, {"error": "ServerFailed: gone", "fault": a_seen(begin_s=None, first_ok_s=None, gone_s=None)})
    assert (found.rounds, found.rounds_lost, found.outcome) == (1, 1, "unknown")
    assert found.reason == "it could not be measured: ServerFailed: gone, in 1 of 2 rounds"
    assert (found.first_ok_s, found.gone_s) == (None, None)


def test_each_door_has_a_sum_of_its_own() -> None:
    found = cell({"integrity_rest": GOOD}, {"integrity_rest": LOST, "integrity_prefill": LOST})
    assert (found.integrity.lost, found.integrity.recovered) == (0, 2)
    assert found.integrity_rest is not None
    assert found.integrity_prefill is not None
    assert (found.integrity_rest.lost, found.integrity_prefill.lost) == (2, 2)
    assert found.doors == [found.integrity, found.integrity_rest, found.integrity_prefill]
    assert cell({}).doors == [cell({}).integrity]


@pytest.mark.parametrize("door", ["integrity", "integrity_rest", "integrity_prefill"])
def test_each_door_decides(door: str) -> None:
    assert cell({door: LOST}).outcome == "broken"
    assert cell({door: LOST}, may_lose=CRASH).outcome == ("broken" if door == "integrity_prefill" else "lost")
    assert cell({door: Integrity(checked=False)}).outcome == "unknown"


def test_a_promise_that_is_not_known_reaches_the_reason() -> None:
    found = cell_of([trial(0, integrity=LOST)], False, None, promise_known=False)
    assert found.reason.startswith("2 of 10 acknowledged rows are gone; what its settings promise is not known")


def test_what_happened_to_a_model_is_marked() -> None:
    cut = a_seen(kind="power", modelled=True, end_s=None, first_ok_s=None)
    found = cell({"fault": cut}, may_lose=CRASH)
    assert (found.modelled, found.outcome) == (True, "kept")


@pytest.mark.parametrize("name", INTEGRITY_COUNTS)
def test_no_count_is_left_out_of_the_sum(name: str) -> None:
    one = Integrity(checked=True, **{name: 3})  # type: ignore[arg-type]
    assert getattr(sum_integrity([one, one]), name) == 6


def test_a_cell_can_be_written() -> None:
    assert FaultCell.model_validate_json(cell({}, {}).model_dump_json()) == cell({}, {})
