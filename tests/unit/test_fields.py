"""What a criterion may ask of a cell: where each field comes from, and what keeps a pass from being one."""

import pytest
from made import LATENCIES, a_cell

from bench.cell import (
    Availability,
    Cell,
    Criterion,
    Generator,
    Integrity,
    MemoryUse,
    Operation,
    Percentiles,
    Probe,
    Schedule,
)
from bench.judge.criteria import Rule, judge
from bench.judge.fields import (
    CELL_FIELDS,
    COUNT_FIELDS,
    FAULT_FIELDS,
    FIELDS,
    INTEGRITY_FIELDS,
    PHASES,
    ROUND_FIELDS,
    why_missing,
)
from bench.judge.verdict import exit_code, of_candidate
from bench.outcome import ErrorKind

STEADY = [100.0, 102.0, 98.0, 101.0]
AVAILABLE = Availability(share=1.0, n=8, health=Probe(ok=8, n=8, p95_ms=1.0), search=Probe(ok=8, n=8, p95_ms=9.0))
SCHEDULE = Schedule(
    arrivals="poisson", rate=150.0, due=1000, late=1, skipped=0, limit_ms=50.0,
    lag_ms=LATENCIES.response, own_lag_ms=LATENCIES.response,
)  # fmt: skip
WHOLE = {
    "load": "150/s",
    "schedule": SCHEDULE,
    "server_errors": {},
    "first_attempt_rate": 1.0,
    "availability": AVAILABLE,
    "runs_unfinished": 0,
    "facts": {"durable": 1.0, "schema_missing": 0.0, "schema_current": 1.0},
    "referee": dict.fromkeys(
        ("deadlocks", "lock_waits", "commits", "rollbacks", "connections", "lock_waiters", "connections_share"), 0.0
    ),
    "per_round": dict.fromkeys(ROUND_FIELDS, STEADY),
    "operations": {
        "log_metric": Operation(ok=900, failed=0, unknown=0, reads=False, latency_ms=LATENCIES),
        "search_runs": Operation(ok=100, failed=0, unknown=0, reads=True, latency_ms=LATENCIES),
    },
}


def judged(expression: str, cell: Cell) -> Criterion:
    return judge(Rule("a rule", expression, True), cell, None)


USE = MemoryUse(first_mb=1.0, last_mb=2.0, peak_mb=3.0, mb_per_h=0.5, n=99)
MEMORY = dict.fromkeys(("harness", "load", "tracking", "database"), USE)


def whole(**changes: object) -> Cell:
    return a_cell(**{"memory": MEMORY, **WHOLE, **changes})


@pytest.mark.parametrize("field", CELL_FIELDS)
def test_every_field_has_its_place(field: str) -> None:
    """In a cell of which all is known, each can be told, and each can pass."""
    found = judged(f"{field} <= 1e9", whole())
    assert (found.outcome, found.field) == ("pass", field)
    assert found.measured is not None


@pytest.mark.parametrize("field", FAULT_FIELDS)
def test_a_cell_without_a_fault_says_nothing_of_one(field: str) -> None:
    found = judged(f"{field} <= 1e9", whole())
    assert (found.outcome, found.measured, found.reason) == ("inconclusive", None, "only a cell with a fault has it")


DOUBTS = {
    "rounds": ({"rounds_lost": 2}, "2 rounds could not be measured"),
    "parts": ({"generator": Generator(cpu_share=0.1, loop_lag_p99_ms=1.0, lost_parts=1)}, "1 Locust workers were lost"),
}


@pytest.mark.parametrize("doubt", DOUBTS)
@pytest.mark.parametrize("field", CELL_FIELDS)
def test_what_was_lost_leaves_no_pass(field: str, doubt: str) -> None:
    changes, words = DOUBTS[doubt]
    found = judged(f"{field} <= 1e9", whole(**changes))
    assert found.outcome == "inconclusive"
    assert words in found.reason
    assert found.measured is not None


@pytest.mark.parametrize("doubt", DOUBTS)
@pytest.mark.parametrize("expression", ["lock_errors == 0", "p99_ms <= 50", "availability >= 0.99"])
def test_what_failed_without_the_lost_part_stays_failed(expression: str, doubt: str) -> None:
    poor = AVAILABLE.model_copy(update={"share": 0.5})
    assert judged(expression, whole(lock_errors=1, availability=poor, **DOUBTS[doubt][0])).outcome == "fail"


GENERATOR = {
    "generator.cpu_share": Generator(cpu_share=0.9),
    "generator.loop_lag_p99_ms": Generator(loop_lag_p99_ms=90),
}


@pytest.mark.parametrize("field", [field for field in FIELDS if field.startswith("generator.")])
@pytest.mark.parametrize("target", ["< 0.7", "<= 0.7", "== 0.7"])
def test_a_generator_that_may_be_the_limit_decides_nothing(field: str, target: str) -> None:
    """It is the harness that fell short, not the store: never a fail."""
    cell = whole(generator=GENERATOR[field])
    found = judged(f"{field} {target}", cell)
    assert found.outcome == "inconclusive"
    assert found.measured is not None
    assert "the harness, not the store" in found.reason
    verdict, _ = of_candidate("mysql", [found], [cell])
    assert exit_code(verdict, [cell]) == 3


GOOD = Integrity(checked=True, attempted=100, acknowledged=100, stored=100)
UNCHECKED = Integrity(checked=False, reason="the server was gone")
MENDED = {"integrity": "== 1", "lost": "== 0", "duplicated": "== 0", "corrupted": "== 0", "unexpected": "== 0"}


@pytest.mark.parametrize("field", INTEGRITY_FIELDS)
def test_integrity_is_that_of_the_worse_door(field: str) -> None:
    count = "lost" if field == "integrity" else field
    broken = GOOD.model_copy(update={count: 5})
    expression = f"{field} {MENDED[field]}"
    assert judged(expression, whole(integrity=GOOD, integrity_rest=GOOD)).outcome == "pass"
    for doors in ((GOOD, broken), (broken, GOOD), (broken, None)):
        cell = whole(integrity=doors[0], integrity_rest=doors[1])
        found = judged(expression, cell)
        assert found.outcome == "fail"
        assert found.measured == (pytest.approx(0.95) if field == "integrity" else 5.0)
        assert exit_code("fail", [cell]) == 4


@pytest.mark.parametrize("field", INTEGRITY_FIELDS)
@pytest.mark.parametrize("doors", [(GOOD, UNCHECKED), (UNCHECKED, GOOD), (UNCHECKED, UNCHECKED), (UNCHECKED, None)])
def test_a_door_that_was_not_checked_leaves_integrity_unknown(
    field: str, doors: tuple[Integrity, Integrity | None]
) -> None:
    cell = whole(integrity=doors[0], integrity_rest=doors[1])
    found = judged(f"{field} {MENDED[field]}", cell)
    assert (found.outcome, found.measured, found.reason) == ("inconclusive", None, "the server was gone")
    verdict, _ = of_candidate("mysql", [found], [cell])
    assert (verdict, exit_code(verdict, [cell])) == ("inconclusive", 3)


@pytest.mark.parametrize(("share", "outcome"), [(1.0, "pass"), (0.99, "pass"), (0.98, "fail"), (None, "inconclusive")])
def test_availability_is_the_share_of_good_moments(share: float | None, outcome: str) -> None:
    cell = whole(availability=AVAILABLE.model_copy(update={"share": share}))
    assert judged("availability >= 0.99", cell).outcome == outcome
    assert judged("availability >= 0.99", whole(availability=None)).outcome == "inconclusive"


@pytest.mark.parametrize("kind", [kind for kind in ErrorKind if kind])
def test_errors_are_told_by_kind(kind: ErrorKind) -> None:
    field = f"errors.{kind.label}"
    others = {other.label: 7 for other in ErrorKind if other and other is not kind}
    assert judged(f"{field} == 0", whole(errors=others)).outcome == "pass"
    assert judged(f"{field} == 0", whole(errors={**others, kind.label: 1})).outcome == "fail"


def test_errors_of_a_kind_that_is_none_are_no_field() -> None:
    assert "errors.none" not in FIELDS


@pytest.mark.parametrize("name", PHASES)
def test_a_phase_is_judged_over_rounds(name: str) -> None:
    field = f"phases.{name}_ms"
    assert judged(f"{field} < 110", whole()).outcome == "pass"
    assert judged(f"{field} < 90", whole()).outcome == "fail"
    assert judged(f"{field} < 100.5", whole()).outcome == "inconclusive"
    assert judged(f"{field} < 110", whole()).unit == "ms"
    holed = {**dict.fromkeys(ROUND_FIELDS, STEADY), field: [1.0, None, 1.0, 1.0]}
    assert judged(f"{field} < 110", whole(per_round=holed)).outcome == "inconclusive"


def test_a_phase_is_one_of_writes_where_reads_never_ended_ok() -> None:
    failed = Operation(ok=0, failed=9, unknown=0, reads=True, latency_ms=LATENCIES)
    cell = whole(operations={**a_cell().operations, "search_runs": failed})
    assert judged("phases.create_ms < 110", cell).outcome == "pass"
    assert judged("read.p95_ms < 110", cell).outcome == "inconclusive"


SCHEDULE_FIELDS = [field for field in COUNT_FIELDS if field.startswith("schedule.")]
CLOSED_LOOP = {"schedule": None, "load": "closed"}


@pytest.mark.parametrize("field", SCHEDULE_FIELDS)
def test_only_an_open_loop_has_a_schedule(field: str) -> None:
    nothing_ok = {"ops_ok": 0, "ops_failed": 0, "ops_unknown": 0, "operations": {}}
    for cell in (whole(**CLOSED_LOOP), whole(**CLOSED_LOOP, **nothing_ok)):
        found = judged(f"{field} <= 1e9", cell)
        assert (found.outcome, found.reason) == ("inconclusive", "a closed loop has no schedule")
    assert judged(f"{field} <= 1e9", whole(schedule=None)).reason == "no round of it was measured"


def test_arrivals_are_counted_even_where_none_was_sent() -> None:
    silent = whole(
        ops_ok=0, ops_failed=0, ops_unknown=0, operations={}, schedule=SCHEDULE.model_copy(update={"skipped": 1000})
    )
    assert judged("schedule.skipped == 0", silent).measured == 1000.0
    assert judged("schedule.skipped_share <= 0.01", silent).outcome == "fail"
    assert judged("schedule.skipped_share <= 1", silent).outcome == "inconclusive"  # nothing ended ok
    assert judged("p99_ms <= 500", silent.model_copy(update={"per_round": {}})).outcome == "inconclusive"


def test_units_of_a_schedule() -> None:
    assert [judged(f"{field} >= 0", whole()).unit for field in SCHEDULE_FIELDS] == ["/s", "", "", "", "ms"]


@pytest.mark.parametrize(
    ("field", "skipped", "outcome"),
    [
        ("p99_ms", 10, "pass"),
        ("p99_ms", 11, "inconclusive"),
        ("p95_ms", 11, "pass"),
        ("p50_ms", 501, "inconclusive"),
        ("p999_ms", 2, "inconclusive"),
        ("read.p95_ms", 51, "inconclusive"),
        ("ops_per_s", 900, "pass"),
    ],
)
def test_a_percentile_is_nothing_if_more_was_skipped_than_lies_above_it(field: str, skipped: int, outcome: str) -> None:
    cell = whole(schedule=SCHEDULE.model_copy(update={"skipped": skipped}))
    found = judged(f"{field} <= 500", cell)
    assert found.outcome == outcome
    assert ("were skipped or did not end ok" in found.reason) == (outcome == "inconclusive")


def test_what_was_skipped_and_what_failed_add_up() -> None:
    operations = {"log_metric": Operation(ok=994, failed=6, unknown=0, reads=False, latency_ms=LATENCIES)}
    few = SCHEDULE.model_copy(update={"skipped": 6})
    assert judged("p99_ms <= 500", whole(operations=operations)).outcome == "pass"
    assert judged("p99_ms <= 500", whole(schedule=few)).outcome == "pass"
    both = judged("p99_ms <= 500", whole(operations=operations, schedule=few))
    assert (both.outcome, both.reason[:4]) == ("inconclusive", "1.2%")


def test_what_fails_stays_failed_however_much_was_skipped() -> None:
    cell = whole(schedule=SCHEDULE.model_copy(update={"skipped": 900}))
    assert judged("p99_ms <= 50", cell).outcome == "fail"


REASONS = {
    "schedule.late": ({"schedule": SCHEDULE.model_copy(update={"late": None})}, "no limit"),
    "schedule.skipped_share": ({"schedule": SCHEDULE.model_copy(update={"due": 0})}, "nothing was due"),
    "schedule.lag_p99_ms": ({"schedule": SCHEDULE.model_copy(update={"lag_ms": Percentiles(p50=1.0, n=50)})}, "n too"),
    "integrity": ({"integrity": Integrity(checked=False)}, "not read back"),
    "lost": ({"integrity_rest": UNCHECKED}, "the server was gone"),
    "referee.deadlocks": ({"referee": {}}, "no such counter"),
    "server_errors": ({"server_errors": None}, "not ours"),
    "phases.create_ms": ({"per_round": {}}, "kind train"),
    "p99_ms": ({"per_round": {"p99_ms": [None]}}, "n too small"),
    "read.p95_ms": ({"per_round": {}}, "n too small"),
    "availability": ({"availability": None}, "not measured"),
    "runs_unfinished": ({"runs_unfinished": None}, "not measured"),
    "durable": ({"facts": {}}, "not measured"),
}


@pytest.mark.parametrize("field", REASONS)
def test_why_a_field_is_missing_is_said(field: str) -> None:
    changes, words = REASONS[field]
    cell = whole(**changes)
    found = judged(f"{field} <= 1", cell)
    assert (found.outcome, found.measured) == ("inconclusive", None)
    assert words in found.reason == why_missing(field, cell)


@pytest.mark.parametrize("field", sorted({*ROUND_FIELDS, *COUNT_FIELDS} - {*INTEGRITY_FIELDS, *SCHEDULE_FIELDS}))
def test_where_nothing_ended_ok_that_is_the_reason(field: str) -> None:
    cell = a_cell(ops_ok=0, ops_failed=0, ops_unknown=0, per_round={}, operations={}, generator=Generator(), facts={})
    assert "no operation ended ok" in judged(f"{field} <= 1e9", cell).reason


def test_a_rule_carries_its_table_and_what_was_published() -> None:
    rule = Rule("throughput", "metrics_per_s > 50", False, "published", "102.2")
    found = judge(rule, whole(), None)
    assert (found.table, found.published, found.gating) == ("published", "102.2", False)
    assert judged("lost == 0", whole()).table == ""
