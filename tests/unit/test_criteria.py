"""The grammar of criteria, and three outcomes: what was not measured is never a pass."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import PERCENTILES, a_cell

from bench.cell import Availability, Cell, Criterion, Generator, Integrity, MemoryUse, Operation, Probe, Schedule
from bench.errors import BadInput
from bench.judge.criteria import Expression, Other, Rule, judge, parse, percent
from bench.judge.fields import (
    CELL_FIELDS,
    COUNT_FIELDS,
    FAULT_FIELDS,
    FIELDS,
    MOVE_FIELDS,
    REFEREE_FIELDS,
    ROUND_FIELDS,
    unit_of,
)
from bench.judge.statistics import log_interval, spread, unpaired
from bench.outcome import ErrorKind

OPERATORS = ("<=", ">=", "<", ">", "==", "!=")
blanks = st.sampled_from(["", " ", "  ", "\t"])
numbers = st.integers(0, 10**6).map(str) | st.floats(0, 1e9).map(repr) | st.sampled_from(["1e3", "2.5e-4", "0", "007"])


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(FIELDS),
    st.sampled_from(OPERATORS),
    numbers,
    blanks,
    st.integers(0, 2),
    st.sampled_from(["reference", "baseline"]),
)
def test_a_valid_expression_is_what_it_says(
    field: str, sign: str, number: str, blank: str, form: int, other: Other
) -> None:
    form = 0 if field in (*FAULT_FIELDS, *MOVE_FIELDS) else form  # they are compared with a number only
    target = (number, f"{number}{blank}*{blank}{other}", other)[form]
    found = parse(f"{blank}{field}{blank}{sign}{blank}{target}{blank}")
    assert found == Expression(field, sign, 1.0 if form == 2 else float(number), other if form > 0 else "")
    assert found.uses_reference == (form > 0 and other == "reference")


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "p99_ms", "p99_ms <=", "<= 5", "p99_ms 5", "p99_ms = 5", "p99_ms =< 5", "p99_ms <= -5",
        "p99_ms <= 5 ms", "p99_ms <= 1,000", "p99_ms <= .5", "p99_ms <= 5.", "p99_ms <= nan", "p99_ms <= inf",
        "p99_ms <= 0x10",
        "p99_ms <= 2 baseline", "p99_ms <= baselines", "p99_ms <= reference * baseline",
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


@pytest.mark.parametrize("other", ["reference", "baseline"])
@pytest.mark.parametrize("field", [*FAULT_FIELDS, *MOVE_FIELDS])
def test_what_a_fault_did_is_compared_with_a_number_only(field: str, other: str) -> None:
    assert parse(f"{field} <= 1").field == field
    for target in (other, f"2 * {other}"):
        with pytest.raises(BadInput, match=f"{field} is compared with a number only, not with the {other}"):
            parse(f"{field} <= {target}")


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
SCHEDULE = Schedule(
    arrivals="poisson", rate=150.0, due=300, late=7, skipped=3, limit_ms=9.0, lag_ms=PERCENTILES, own_lag_ms=PERCENTILES
)
USE = MemoryUse(first_mb=1.0, last_mb=2.0, peak_mb=3.0, mb_per_h=3.0, n=99)
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
    "schedule.rate": ({"schedule": SCHEDULE}, 150.0),
    "schedule.skipped": ({"schedule": SCHEDULE}, 3.0),
    "schedule.skipped_share": ({"schedule": SCHEDULE}, 0.01),
    "schedule.late": ({"schedule": SCHEDULE}, 7.0),
    "schedule.lag_p99_ms": ({"schedule": SCHEDULE}, 4.0),
    **{
        f"memory.{party}_{what}": ({"memory": {party: USE, "other": USE.model_copy(update={what: 9.0})}}, 3.0)
        for party in ("harness", "load", "tracking", "database")
        for what in ("peak_mb", "mb_per_h")
    },
    **{f"errors.{kind.label}": ({"errors": {kind.label: 3, "none of it": 9}}, 3.0) for kind in ErrorKind if kind},
    **{f"referee.{name}": ({"referee": {name: 3.0}}, 3.0) for name in REFEREE_FIELDS},
}


@pytest.mark.parametrize("field", COUNTS)
def test_each_count_is_read_from_its_place(field: str) -> None:
    changes, value = COUNTS[field]
    found = judged(f"{field} == {value}", a_cell(**changes))
    assert (found.outcome, found.measured, found.limit, found.field) == ("pass", value, value, field)
    ours = field.startswith(("generator.", "memory.harness", "memory.load"))
    missed = "inconclusive" if ours else "fail"
    assert outcome(f"{field} < {value}", a_cell(**changes)) == missed


def test_every_count_is_tried_here() -> None:
    assert set(COUNT_FIELDS) <= set(COUNTS)
    assert set(COUNTS) | set(ROUND_FIELDS) == set(CELL_FIELDS)
    assert not set(COUNT_FIELDS) & set(ROUND_FIELDS)
    assert not set(CELL_FIELDS) & set(FAULT_FIELDS)
    assert not set(MOVE_FIELDS) & {*CELL_FIELDS, *FAULT_FIELDS}
    assert {*CELL_FIELDS, *FAULT_FIELDS, *MOVE_FIELDS} == set(FIELDS)


NOTHING = a_cell(
    ops_ok=0, metrics_per_s=None, success_rate=None, referee={}, generator=Generator(),
    integrity=Integrity(checked=False, reason="the trial did not get that far"), per_round={}, operations={},
)  # fmt: skip


@pytest.mark.parametrize("field", CELL_FIELDS)
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


def test_the_noise_and_the_level_are_told_with_the_verdict() -> None:
    found = judged("p99_ms <= 110", rounds(*STEADY))
    assert (found.confidence, found.noise) == (0.90, spread(STEADY))
    assert found.reason == "90 % interval: 98.2 to 102 over 4 rounds, noise between rounds 2 %"
    assert found.load == "closed"
    ratio = judged("p99_ms <= 1.2 * reference", rounds(*STEADY), rounds(*NOISY))
    assert ratio.noise == spread([ours / theirs for ours, theirs in zip(STEADY, NOISY, strict=True)])
    assert "90 % interval of the ratio to the reference: " in ratio.reason
    assert "noise between rounds 42 %" in ratio.reason
    count = judged("lock_errors == 0", rounds(*STEADY))
    assert (count.noise, count.confidence) == (None, None)


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0 %"), (0.004, "0.4 %"), (0.056, "6 %"), (1.2, "120 %"), (0.0099, "1.0 %")]
)
def test_a_share_for_people(share: float, text: str) -> None:
    assert percent(share) == text


def against_baseline(expression: str, cell: Cell, baseline: Cell | None) -> Criterion:
    return judge(Rule("a rule", expression, True), cell, a_cell(), (), baseline)


def test_against_a_baseline_the_interval_is_unpaired() -> None:
    ours, theirs = [102.0, 98.0, 101.0, 99.0, 100.0, 103.0], [100.0, 101.0, 99.0, 98.0, 102.0, 100.0]
    found = against_baseline("p99_ms <= 1.2 * baseline", rounds(*ours), rounds(*theirs))
    expected = unpaired(ours, theirs, 0.90)
    assert expected is not None
    assert found.outcome == "pass"
    assert f"90 % interval of the ratio to the baseline: {expected.low:.3g} to {expected.high:.3g}" in found.reason
    assert found.target.startswith("<= 1.2 x baseline = ")
    slower = [value * 1.5 for value in ours]
    assert against_baseline("p99_ms <= 1.2 * baseline", rounds(*slower), rounds(*theirs)).outcome == "fail"
    assert against_baseline("p99_ms <= baseline", rounds(*ours), rounds(*theirs)).outcome == "inconclusive"
    assert against_baseline("lock_errors <= 2 * baseline", a_cell(lock_errors=9), a_cell(lock_errors=4)).limit == 8.0


def test_a_baseline_that_was_too_noisy_is_not_mended_by_more_rounds_of_ours() -> None:
    found = against_baseline("p99_ms <= 1.05 * baseline", rounds(*STEADY), rounds(*NOISY, *NOISY))
    assert (found.outcome, found.rounds_needed) == ("inconclusive", None)
    assert "more rounds will not decide it" in found.reason


@pytest.mark.parametrize("field", ["p99_ms", "lock_errors"])
def test_without_a_baseline_it_is_inconclusive(field: str) -> None:
    found = against_baseline(f"{field} <= 2 * baseline", rounds(*STEADY), None)
    assert (found.outcome, found.limit, found.reason) == ("inconclusive", None, "no baseline run has this cell")
    empty = against_baseline(f"{field} <= 2 * baseline", rounds(*STEADY), NOTHING)
    assert empty.reason == "the baseline has no value to compare with"
    few = against_baseline("p99_ms <= 2 * baseline", rounds(*STEADY), rounds(1.0, 1.0))
    assert few.reason == "2 rounds of the baseline are too few for an interval"


def test_sums_over_unlike_numbers_of_rounds_are_not_compared() -> None:
    few, many = a_cell(lock_errors=10, rounds=2), a_cell(lock_errors=10, rounds=10)
    found = against_baseline("lock_errors <= baseline", few, many)
    assert (found.outcome, found.reason) == ("inconclusive", "a sum over 10 rounds then, over 2 now")
    assert against_baseline("lock_errors <= baseline", many, many).outcome == "pass"
    assert against_baseline("success_rate >= baseline", few, many).outcome == "pass"
