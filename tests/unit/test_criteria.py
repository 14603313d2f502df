"""The grammar of criteria, and three outcomes: what was not measured is never a pass."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import a_cell

from bench.errors import BadInput
from bench.judge.criteria import Expression, Rule, judge, parse
from bench.judge.fields import COUNT_FIELDS, FIELDS, REFEREE_FIELDS, ROUND_FIELDS, unit_of
from bench.judge.statistics import log_interval
from bench.outcome import ErrorKind
from bench.results import Availability, Cell, Criterion, Generator, Integrity, Operation, Probe

OPERATORS = ("<=", ">=", "<", ">", "==", "!=")
blanks = st.sampled_from(["", " ", "  ", "\t"])
numbers = st.integers(0, 10**6).map(str) | st.floats(0, 1e9).map(repr) | st.sampled_from(["1e3", "2.5e-4", "0", "007"])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FIELDS), st.sampled_from(OPERATORS), numbers, blanks, st.integers(0, 2))
def test_a_valid_expression_is_what_it_says(field: str, sign: str, number: str, blank: str, form: int) -> None:
    target = (number, f"{number}{blank}*{blank}reference", "reference")[form]
    found = parse(f"{blank}{field}{blank}{sign}{blank}{target}{blank}")
    assert found == Expression(field, sign, 1.0 if form == 2 else float(number), form > 0)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "p99_ms", "p99_ms <=", "<= 5", "p99_ms 5", "p99_ms = 5", "p99_ms =< 5", "p99_ms <= -5",
        "p99_ms <= 5 ms", "p99_ms <= 1,000", "p99_ms <= .5", "p99_ms <= 5.", "p99_ms <= nan", "p99_ms <= inf",
        "p99_ms <= 0x10",
        "p99_ms <= reference * 2", "p99_ms <= 2 reference", "p99_ms <= 2 * references", "p99_ms <= 2 * sqlite",
        "5 <= p99_ms", "1 <= p99_ms <= 5", "p99_ms <= 5 and p50_ms <= 5", "p99_ms <= 5; import os", "p99_ms <= p95_ms",
        "P99_MS <= 5", "__import__('os')", "__import__('os').system('id') <= 5", "().__class__ <= 5", "p99_ms <= 5\n;6",
        "p99 <= 5", "p42_ms <= 5", "read.metrics_per_s >= 1", "referee.nothing == 0", "generator.saturated == 0",
        "integrity.lost == 0", "lost. == 0", "p99_ms <= 1e999", "p99_ms <= ٥",
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_an_unknown_field_is_answered_with_those_there_are() -> None:
    with pytest.raises(BadInput, match=r"unknown field 'speed'; use one of metrics_per_s, ops_per_s, .*lock_waits"):
        parse("speed >= 5")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40) | st.text("pms_95<=>!. *reference0", max_size=25))
def test_any_text_is_an_expression_or_bad_input(text: str) -> None:
    try:
        found = parse(text)
    except BadInput as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert found.field in FIELDS
    assert found.operator in OPERATORS


def judged(expression: str, cell: Cell, reference: Cell | None = None, gating: bool = True) -> Criterion:
    return judge(Rule("a rule", expression, gating), cell, reference)


def outcome(expression: str, cell: Cell, reference: Cell | None = None) -> str:
    return judged(expression, cell, reference).outcome


@pytest.mark.parametrize(
    ("sign", "below", "same", "above"),
    [
        ("<=", "pass", "pass", "fail"),
        (">=", "fail", "pass", "pass"),
        ("<", "pass", "fail", "fail"),
        (">", "fail", "fail", "pass"),
        ("==", "fail", "pass", "fail"),
        ("!=", "pass", "fail", "pass"),
    ],
)
def test_counts_are_exact(sign: str, below: str, same: str, above: str) -> None:
    assert [outcome(f"lock_errors {sign} 5", a_cell(lock_errors=n)) for n in (4, 5, 6)] == [below, same, above]


AVAILABLE = Availability(share=0.75, n=8, health=Probe(ok=8, n=8, p95_ms=1.0), search=Probe(ok=6, n=8, p95_ms=9.0))
COUNTS: dict[str, tuple[dict[str, object], float]] = {
    "lock_errors": ({"lock_errors": 3}, 3.0),
    "deadlocks": ({"deadlocks": 3}, 3.0),
    "errors": ({"errors": {"timeout": 2, "other": 1}}, 3.0),
    "ops_failed": ({"ops_failed": 3}, 3.0),
    "ops_unknown": ({"ops_unknown": 3}, 3.0),
    "success_rate": ({"success_rate": 0.75}, 0.75),
    "integrity": ({"integrity": Integrity(checked=True, attempted=10, acknowledged=9, lost=1)}, 0.9),
    "lost": ({"integrity": Integrity(checked=True, attempted=9, acknowledged=9, lost=3)}, 3.0),
    "duplicated": ({"integrity": Integrity(checked=True, attempted=9, acknowledged=9, duplicated=3)}, 3.0),
    "corrupted": ({"integrity": Integrity(checked=True, attempted=9, acknowledged=9, corrupted=3)}, 3.0),
    "unexpected": ({"integrity": Integrity(checked=True, attempted=9, acknowledged=9, unexpected=3)}, 3.0),
    "max_ms": ({}, 9.0),
    "server_errors": ({"server_errors": {"sqlite_busy": 2, "timeout": 1}}, 3.0),
    "first_attempt_rate": ({"first_attempt_rate": 0.75}, 0.75),
    "availability": ({"availability": AVAILABLE}, 0.75),
    "runs_unfinished": ({"runs_unfinished": 3}, 3.0),
    "durable": ({"facts": {"durable": 1.0}}, 1.0),
    "schema_missing": ({"facts": {"schema_missing": 3.0}}, 3.0),
    "schema_current": ({"facts": {"schema_current": 1.0}}, 1.0),
    "generator.cpu_share": ({"generator": Generator(cpu_share=0.5)}, 0.5),
    "generator.loop_lag_p99_ms": ({"generator": Generator(loop_lag_p99_ms=7.0)}, 7.0),
    **{f"errors.{kind.label}": ({"errors": {kind.label: 3, "none of it": 9}}, 3.0) for kind in ErrorKind if kind},
    **{f"referee.{name}": ({"referee": {name: 3.0}}, 3.0) for name in REFEREE_FIELDS},
}


@pytest.mark.parametrize("field", COUNTS)
def test_each_count_is_read_from_its_place(field: str) -> None:
    changes, value = COUNTS[field]
    found = judged(f"{field} == {value}", a_cell(**changes))
    assert (found.outcome, found.measured, found.limit, found.field) == ("pass", value, value, field)
    missed = "inconclusive" if field.startswith("generator.") else "fail"
    assert outcome(f"{field} < {value}", a_cell(**changes)) == missed


def test_every_count_is_tried_here() -> None:
    assert set(COUNT_FIELDS) <= set(COUNTS)
    assert set(COUNTS) | set(ROUND_FIELDS) == set(FIELDS)
    assert not set(COUNT_FIELDS) & set(ROUND_FIELDS)


NOTHING = a_cell(
    ops_ok=0, metrics_per_s=None, success_rate=None, referee={}, generator=Generator(),
    integrity=Integrity(checked=False, reason="the trial did not get that far"), per_round={}, operations={},
)  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("target", [">= 0", "<= 1e9", "!= 7", "<= reference"])
def test_what_was_not_measured_is_inconclusive(field: str, target: str) -> None:
    found = judged(f"{field} {target}", NOTHING, a_cell())
    assert found.outcome == "inconclusive"
    assert found.measured is None
    assert found.reason


FAILED = {"ops_ok": 0, "ops_failed": 1000, "success_rate": 0.0, "errors": {"connection": 1000}}
NEVER_OK = Operation(ok=0, failed=1000, unknown=0, reads=False, latency_ms=a_cell().latency_ms)


@pytest.mark.parametrize(
    "expression",
    ["p99_ms <= 500", "lock_errors == 0", "deadlocks == 0", "integrity == 1", "lost == 0", "max_ms <= 500"],
)
def test_where_no_operation_ended_ok_nothing_passes(expression: str) -> None:
    """A thousand refused connections are fast, free of lock errors, and lose nothing."""
    cell = a_cell(
        **FAILED, operations={"log_metric": NEVER_OK}, integrity=Integrity(checked=True, attempted=1000)
    )  # fmt: skip
    assert outcome(expression, cell) != "pass"


@pytest.mark.parametrize(
    ("expression", "expected"), [("p99_ms <= 500", "pass"), ("read.p99_ms <= 500", "inconclusive")]
)
def test_a_kind_of_operation_that_never_ended_ok_is_no_pass(expression: str, expected: str) -> None:
    """The writes went well; every search failed, and fast (facts: an operation kind with no ok is unknown)."""
    rounds = [1.0, 1.1, 1.0, 1.1]
    searches = NEVER_OK.model_copy(update={"reads": True})
    kinds = {**a_cell().operations, "search_runs": searches}
    cell = a_cell(operations=kinds, ops_failed=1000, per_round={"p99_ms": rounds, "read.p99_ms": rounds})
    assert outcome(expression, cell) == expected


@pytest.mark.parametrize("expression", ["success_rate >= 0.999", "ops_failed == 0", "errors == 0"])
def test_that_everything_failed_is_itself_measured(expression: str) -> None:
    assert outcome(expression, a_cell(**FAILED)) == "fail"


def rounds(*values: float | None, field: str = "p99_ms") -> Cell:
    return a_cell(per_round={field: list(values)})


STEADY = (100.0, 102.0, 98.0, 101.0)
NOISY = (60.0, 160.0, 90.0, 130.0)


@pytest.mark.parametrize(
    ("expression", "values", "expected"),
    [
        ("p99_ms <= 110", STEADY, "pass"),
        ("p99_ms < 110", STEADY, "pass"),
        ("p99_ms <= 90", STEADY, "fail"),
        ("p99_ms >= 90", STEADY, "pass"),
        ("p99_ms >= 110", STEADY, "fail"),
        ("p99_ms == 90", STEADY, "fail"),
        ("p99_ms != 90", STEADY, "pass"),
        ("p99_ms <= 110", NOISY, "inconclusive"),
        ("p99_ms >= 110", NOISY, "inconclusive"),
        ("p99_ms == 110", NOISY, "inconclusive"),
        ("p99_ms != 110", NOISY, "inconclusive"),
    ],
)
def test_the_whole_interval_must_lie_on_one_side(expression: str, values: tuple[float, ...], expected: str) -> None:
    found = judged(expression, rounds(*values))
    assert found.outcome == expected
    assert found.interval == log_interval(values, 0.90)
    assert (found.rounds_needed is not None) == (expected == "inconclusive")
    if expected == "inconclusive":
        assert found.rounds_needed is not None
        assert f"about {found.rounds_needed} rounds" in found.reason


@pytest.mark.parametrize("field", ROUND_FIELDS)
def test_each_rate_and_latency_is_read_from_its_rounds(field: str) -> None:
    found = judged(f"{field} <= 110", rounds(*STEADY, field=field))
    assert found.outcome == "pass"
    assert found.measured == pytest.approx(math.exp(sum(map(math.log, STEADY)) / 4))
    assert found.unit == unit_of(field) == ("/s" if "per_s" in field else "ms")


def test_one_round_decides_nothing_however_clear_it_looks() -> None:
    found = judged("p99_ms <= 500", rounds(1.0))
    assert (found.outcome, found.measured, found.interval) == ("inconclusive", pytest.approx(1.0), None)
    assert "1 round is too few" in found.reason
    assert found.rounds_needed == 10


@pytest.mark.parametrize("values", [(None, None), (1.0, None, 1.0), ()])
def test_a_missing_round_decides_nothing(values: tuple[float | None, ...]) -> None:
    assert outcome("p99_ms <= 500", rounds(*values)) == "inconclusive"


def test_a_round_of_nothing_is_not_called_too_few_rounds() -> None:
    """A store that stood still for one of four rounds: no interval, and the reason must say why."""
    found = judged("metrics_per_s >= 50", rounds(100.0, 0.0, 100.0, 100.0, field="metrics_per_s"))
    assert found.outcome != "pass"
    assert "too few" not in found.reason


def test_against_the_reference_it_is_the_paired_ratio_that_counts() -> None:
    """Both drift threefold, one is always 10 % slower: unpaired intervals overlap, the pairs are clear."""
    drift = [100.0, 150.0, 200.0, 300.0]
    mine = [value * share for value, share in zip(drift, (1.10, 1.11, 1.09, 1.10), strict=True)]
    assert outcome("p99_ms <= 1.2 * reference", rounds(*mine), rounds(*drift)) == "pass"
    assert outcome("p99_ms <= 1.05 * reference", rounds(*mine), rounds(*drift)) == "fail"
    assert outcome("p99_ms <= reference", rounds(*mine), rounds(*drift)) == "fail"
    found = judged("p99_ms <= 1.1 * reference", rounds(*mine), rounds(*drift))
    assert found.outcome == "inconclusive"
    assert found.limit == pytest.approx(1.1 * math.exp(sum(map(math.log, drift)) / 4))
    assert found.target.startswith("<= 1.1 x reference = ")


@pytest.mark.parametrize("field", ["p99_ms", "lock_errors"])
def test_without_the_references_value_it_is_inconclusive(field: str) -> None:
    for reference in (None, NOTHING):
        found = judged(f"{field} <= 2 * reference", rounds(*STEADY), reference)
        assert (found.outcome, found.limit) == ("inconclusive", None)
        assert "reference" in found.reason


def test_a_count_is_compared_with_the_references_sum() -> None:
    reference = a_cell(lock_errors=4)
    found = judged("lock_errors <= 2 * reference", a_cell(lock_errors=8), reference)
    assert (found.outcome, found.limit) == ("pass", 8.0)
    assert outcome("lock_errors <= 2 * reference", a_cell(lock_errors=9), reference) == "fail"


def test_a_criterion_carries_its_cell_and_its_rule() -> None:
    cell = a_cell(candidate="c", driver="http", workload="w", concurrency=7, reference=True)
    found = judged("lost == 0", cell, gating=False)
    assert (found.candidate, found.driver, found.workload, found.concurrency) == ("c", "http", "w", 7)
    assert (found.name, found.expression, found.comparison, found.gating) == ("a rule", "lost == 0", "==", False)
    assert found.reference
    assert found.target == "== 0"


@pytest.mark.parametrize(("failed", "outcome"), [(9, "pass"), (11, "inconclusive")])
def test_a_percentile_proves_nothing_where_more_failed_than_lie_above_it(failed: int, outcome: str) -> None:
    """Only ok operations are timed: a store that refuses at once would otherwise have the best p99."""
    timed = {"log_metric": NEVER_OK.model_copy(update={"ok": 1000 - failed, "failed": failed})}
    cell = a_cell(operations=timed, ops_ok=1000 - failed, ops_failed=failed, per_round={"p99_ms": [1.0, 1.1]})
    assert judge(Rule("tail", "p99_ms <= 500", True), cell, None).outcome == outcome
