"""What a criterion may ask of a cell with a fault, and what keeps a pass from being one."""

import pytest
from made import a_cell, a_fault_cell, a_seen

from bench.cell import Criterion, Integrity
from bench.fault_cell import FaultCell
from bench.judge.criteria import Rule, judge, judge_fault
from bench.judge.fields import (
    CELL_FIELDS,
    FAULT_FIELDS,
    FIELDS,
    INTEGRITY_FIELDS,
    of_cells,
    of_faults,
    unit_of,
    value_of,
    why_missing,
)

GOOD = Integrity(checked=True, attempted=100, acknowledged=100, stored=100)
UNREAD = Integrity(checked=False, reason="the server was gone")
UNKNOWN = {"outcome": "unknown", "reason": "no operation ended ok after it"}
OURS = (*FAULT_FIELDS, *INTEGRITY_FIELDS)


def judged(
    expression: str, cell: FaultCell, reference: FaultCell | None = None, baseline: FaultCell | None = None
) -> Criterion:
    return judge_fault(Rule("a rule", expression, True, "decides", "102.2"), cell, reference, baseline)


def test_each_field_is_of_cells_with_a_fault_or_without_or_of_both() -> None:
    assert {field for field in FIELDS if of_faults(field)} == set(OURS)
    assert {field for field in FIELDS if of_cells(field)} == set(CELL_FIELDS)
    assert {field for field in FIELDS if of_faults(field) and of_cells(field)} == set(INTEGRITY_FIELDS)
    assert not of_faults("fault.nothing")
    assert not of_cells("fault.nothing")


@pytest.mark.parametrize("field", OURS)
def test_every_field_has_its_place(field: str) -> None:
    found = judged(f"{field} <= 1e9", a_fault_cell())
    assert (found.outcome, found.field, found.fault) == ("pass", field, "server-killed")
    assert found.measured is not None
    assert found.reason


VALUES: dict[str, tuple[dict[str, object], float]] = {
    "fault.first_ok_s": ({"first_ok_s": 3.0}, 3.0),
    "fault.gone_s": ({"gone_s": 3.0}, 3.0),
    "fault.reconnects": ({"reconnects": 3}, 3.0),
    "fault.unknown": ({"ops_unknown": 3}, 3.0),
    "stale": ({"integrity": GOOD.model_copy(update={"stale": 3})}, 3.0),
    "lost": ({"integrity": GOOD.model_copy(update={"lost": 3})}, 3.0),
    "duplicated": ({"integrity": GOOD.model_copy(update={"duplicated": 3})}, 3.0),
    "corrupted": ({"integrity_rest": GOOD.model_copy(update={"corrupted": 3})}, 3.0),
    "unexpected": ({"integrity_prefill": GOOD.model_copy(update={"unexpected": 3})}, 3.0),
    "integrity": ({"integrity": GOOD.model_copy(update={"lost": 25})}, 0.75),
}


@pytest.mark.parametrize("field", VALUES)
def test_each_value_is_read_from_its_place(field: str) -> None:
    changes, value = VALUES[field]
    found = judged(f"{field} == {value}", a_fault_cell(**changes))
    assert (found.outcome, found.measured, found.limit) == ("pass", value, value)
    assert judged(f"{field} < {value}", a_fault_cell(**changes)).outcome == "fail"


def test_every_value_is_tried_here() -> None:
    assert set(VALUES) | {"fault.kept"} == set(OURS)


@pytest.mark.parametrize(
    ("became", "value", "outcome"),
    [("kept", 1.0, "pass"), ("lost", 0.0, "fail"), ("broken", 0.0, "fail"), ("unknown", None, "inconclusive")],
)
def test_a_promise_is_kept_or_not(became: str, value: float | None, outcome: str) -> None:
    found = judged("fault.kept == 1", a_fault_cell(outcome=became, reason="as was seen"))
    assert (found.measured, found.outcome, found.reason) == (value, outcome, "as was seen")


@pytest.mark.parametrize("field", OURS)
def test_what_was_not_found_out_is_no_pass(field: str) -> None:
    """Fields that are known do not say that the fault did anything at all."""
    found = judged(f"{field} <= 1e9", a_fault_cell(**UNKNOWN))
    assert (found.outcome, found.reason) == ("inconclusive", UNKNOWN["reason"])


def test_what_fails_stays_failed_though_not_all_was_found_out() -> None:
    cell = a_fault_cell(**UNKNOWN, gone_s=40.0, integrity=GOOD.model_copy(update={"stale": 1}))
    assert judged("fault.gone_s <= 10", cell).outcome == "fail"
    assert judged("stale == 0", cell).outcome == "fail"


MISSING: dict[str, tuple[dict[str, object], str]] = {
    "fault.first_ok_s": ({"first_ok_s": None}, "no operation ended ok after it"),
    "fault.gone_s": ({"gone_s": None}, "not measured"),
    "fault.unknown": ({"ops_ok": 0, "ops_failed": 0, "ops_unknown": 0}, "not measured"),
    "stale": ({"integrity": GOOD.model_copy(update={"door": "rest"})}, "nobody could look for stale reads"),
    **{field: ({"integrity_rest": UNREAD}, "the server was gone") for field in INTEGRITY_FIELDS},
}


@pytest.mark.parametrize("field", MISSING)
def test_why_a_field_is_missing_is_said(field: str) -> None:
    changes, words = MISSING[field]
    found = judged(f"{field} <= 1e9", a_fault_cell(**changes))
    assert (found.outcome, found.measured) == ("inconclusive", None)
    assert words in found.reason


@pytest.mark.parametrize("field", sorted(set(CELL_FIELDS) - set(INTEGRITY_FIELDS)))
def test_rates_and_tails_are_of_cells_without_a_fault(field: str) -> None:
    assert value_of(field, a_fault_cell()) is None
    assert why_missing(field, a_fault_cell()) == "only a cell without a fault has it"


def test_a_criterion_carries_its_cell_its_fault_and_its_rule() -> None:
    cell = a_fault_cell(candidate="c", driver="http", workload="w", concurrency=7, reference=True, fault="f")
    found = judged("fault.gone_s <= 10", cell)
    assert (found.candidate, found.driver, found.workload, found.concurrency) == ("c", "http", "w", 7)
    assert (found.fault, found.load, found.reference, found.unit) == ("f", "closed", True, "s")
    assert (found.table, found.published, found.target, found.reason) == ("decides", "102.2", "<= 10", "measured 2")
    assert (found.interval, found.noise, found.confidence, found.rounds_needed) == (None, None, None, None)
    assert judge(Rule("r", "lost == 0", True), a_cell(), None).fault == ""


def test_units_of_a_fault() -> None:
    assert [unit_of(field) for field in FAULT_FIELDS] == ["", "s", "s", "", "", ""]
    assert [unit_of(field) for field in ("metrics_per_s", "schedule.rate", "p99_ms")] == ["/s", "/s", "ms"]


def test_lost_rows_may_be_compared_with_those_of_the_reference() -> None:
    lost = [a_fault_cell(integrity=GOOD.model_copy(update={"lost": n})) for n in range(3)]
    assert judged("lost <= reference", lost[1], lost[2]).outcome == "pass"
    assert judged("lost <= reference", lost[2], lost[1]).outcome == "fail"
    alone = judged("lost <= reference", lost[0])
    assert (alone.outcome, alone.limit) == ("inconclusive", None)
    assert judged("lost <= baseline", lost[1], None, lost[2]).outcome == "pass"
    longer = judged("lost <= baseline", lost[1], None, lost[2].model_copy(update={"rounds": 9}))
    assert (longer.outcome, longer.reason) == ("inconclusive", "a sum over 9 rounds then, over 1 now")


def test_a_model_has_the_fields_of_what_was_left() -> None:
    cut = a_fault_cell(kind="power", modelled=True, first_ok_s=None, seen=[a_seen(kind="power", modelled=True)])
    assert judged("fault.kept == 1", cut).outcome == "pass"
    assert judged("integrity == 1", cut).outcome == "pass"
