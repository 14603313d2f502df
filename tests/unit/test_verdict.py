"""The worst gating criterion wins, the reference never decides, and lost data is always exit code 4."""

import itertools

import pytest
from made import a_cell as cell
from made import a_criterion

from bench.cell import Criterion, Integrity, Verdict
from bench.errors import ExitCode
from bench.judge.verdict import exit_code, of_candidate, of_run, worst

BROKEN = Integrity(checked=True, attempted=100, lost=2, duplicated=3, corrupted=4, unexpected=5, invariants={"x": 6})
OUTCOMES: tuple[Verdict, ...] = ("pass", "inconclusive", "fail")


def criterion(outcome: str, gating: bool = True, candidate: str = "mysql", **changes: object) -> Criterion:
    return a_criterion(candidate=candidate, outcome=outcome, gating=gating, reason=f"because {outcome}", **changes)


@pytest.mark.parametrize("outcomes", [p for n in (1, 2, 3) for p in itertools.product(OUTCOMES, repeat=n)])
def test_the_worst_wins_in_any_order(outcomes: tuple[Verdict, ...]) -> None:
    expected = next(each for each in ("fail", "inconclusive", "pass") if each in outcomes)
    assert worst(outcomes) == expected
    verdict, reason = of_candidate("mysql", [criterion(each) for each in outcomes], [cell()])
    assert verdict == expected
    assert ("because " + expected in reason) == (expected != "pass")


def test_nothing_judged_is_inconclusive() -> None:
    assert worst([]) == "inconclusive"
    verdict, reason = of_candidate("mysql", [], [cell()])
    assert verdict == "inconclusive"
    assert "no gating criterion" in reason


@pytest.mark.parametrize("outcome", ["fail", "inconclusive"])
def test_an_advisory_criterion_never_decides(outcome: str) -> None:
    judged = [criterion("pass"), criterion(outcome, gating=False)]
    assert of_candidate("mysql", judged, [cell()])[0] == "pass"
    assert of_candidate("mysql", [criterion("pass", gating=False)], [cell()])[0] == "inconclusive"


def test_the_criteria_and_cells_of_others_do_not_count() -> None:
    judged = [criterion("pass"), criterion("fail", candidate="sqlite")]
    others = [cell(), cell(candidate="sqlite", integrity=BROKEN)]
    assert of_candidate("mysql", judged, others)[0] == "pass"
    assert of_candidate("sqlite", judged, others)[0] == "fail"


def test_the_reason_is_that_of_the_first_that_decides() -> None:
    judged = [
        criterion("inconclusive", name="one"), criterion("fail", name="two"), criterion("fail", name="three"),
    ]  # fmt: skip
    verdict, reason = of_candidate("mysql", judged, [cell()])
    assert verdict == "fail"
    assert reason.startswith("two (")


@pytest.mark.parametrize("judged", [[], [criterion("pass")], [criterion("pass", gating=False)]])
def test_broken_integrity_fails_even_if_nothing_gates(judged: list[Criterion]) -> None:
    cells = [cell(), cell(integrity=BROKEN)]
    verdict, reason = of_candidate("mysql", judged, cells)
    assert verdict == "fail"
    assert reason.startswith("integrity: 2 lost, 3 duplicated, 4 corrupted, 5 unexpected rows, 6 invariants")
    for whole in OUTCOMES:
        assert exit_code(whole, cells) == ExitCode.INTEGRITY == 4


@pytest.mark.parametrize("wrong", ["lost", "duplicated", "corrupted", "unexpected"])
def test_one_wrong_row_of_a_billion_is_enough(wrong: str) -> None:
    integrity = Integrity(checked=True, attempted=10**9, acknowledged=10**9, **{wrong: 1})  # type: ignore[arg-type]
    assert integrity.broken
    assert of_candidate("mysql", [criterion("pass")], [cell(integrity=integrity)])[0] == "fail"


def test_one_broken_invariant_is_enough() -> None:
    integrity = Integrity(checked=True, attempted=10**17, invariants={"a": 0, "b": 1})
    assert exit_code("pass", [cell(integrity=integrity)]) == 4


def test_recovered_and_indeterminate_rows_break_nothing() -> None:
    integrity = Integrity(checked=True, attempted=9, recovered=4, indeterminate=5, invariants={"a": 0})
    assert not integrity.broken
    assert integrity.share == 1.0


def test_integrity_that_was_not_checked_is_neither_broken_nor_good() -> None:
    unchecked = cell(integrity=Integrity(checked=False, reason="the read-back broke down", lost=3))
    assert not unchecked.integrity.broken
    assert unchecked.integrity.share is None
    assert exit_code("inconclusive", [unchecked]) == 3


def test_a_candidate_whose_rows_were_not_read_back_does_not_pass() -> None:
    """A checker that crashed makes the result unknown, also where no criterion asks for integrity."""
    unchecked = cell(integrity=Integrity(checked=False, reason="the read-back broke down"))
    verdict, reason = of_candidate("mysql", [criterion("pass")], [cell(), unchecked])
    assert verdict == "inconclusive"
    assert "the read-back broke down" in reason


@pytest.mark.parametrize("mine", OUTCOMES)
@pytest.mark.parametrize("of_reference", OUTCOMES)
def test_the_reference_never_decides(mine: Verdict, of_reference: Verdict) -> None:
    verdicts: dict[str, Verdict] = {"sqlite": of_reference, "mysql": mine, "postgresql": "pass"}
    assert of_run(verdicts, "sqlite") == mine
    assert of_run(verdicts, None) == worst([mine, of_reference])


def test_a_reference_that_ran_alone_is_judged_and_no_candidate_is_no_pass() -> None:
    assert of_run({"sqlite": "fail"}, "sqlite") == "fail"
    assert of_run({}, "sqlite") == "inconclusive"
    assert of_run({}, None) == "inconclusive"


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("inconclusive", 3)])
def test_the_exit_code_goes_with_the_verdict(verdict: Verdict, code: int) -> None:
    assert exit_code(verdict, [cell()]) == code
    assert exit_code(verdict, []) == code


REST_DOORS = {
    "good": Integrity(checked=True, attempted=9),
    "lost": Integrity(checked=True, attempted=9, lost=1),
    "unchecked": Integrity(checked=False, reason="the server was gone"),
}


@pytest.mark.parametrize(
    ("sql", "rest", "verdict", "code"),
    [
        ("good", "good", "pass", 0),
        ("good", "lost", "fail", 4),
        ("lost", "good", "fail", 4),
        ("good", "unchecked", "inconclusive", 3),
        ("unchecked", "good", "inconclusive", 3),
        ("unchecked", "lost", "fail", 4),
        ("lost", "unchecked", "fail", 4),
    ],
)
def test_both_doors_must_be_good(sql: str, rest: str, verdict: Verdict, code: int) -> None:
    both = cell(integrity=REST_DOORS[sql], integrity_rest=REST_DOORS[rest])
    decided, reason = of_candidate("mysql", [criterion("pass")], [cell(), both])
    assert decided == verdict
    assert exit_code(decided, [cell(), both]) == code
    if verdict == "fail":
        assert reason.startswith("integrity: 1 lost")
    if verdict == "inconclusive":
        assert "the server was gone" in reason


def test_without_a_rest_door_sql_decides() -> None:
    assert cell().doors == [cell().integrity]
    two = cell(integrity_rest=REST_DOORS["good"])
    assert two.doors == [two.integrity, two.integrity_rest]


@pytest.mark.parametrize(("prefill", "code"), [("good", 0), ("lost", 4), ("unchecked", 3)])
def test_a_prefill_that_was_touched_is_a_door_too(prefill: str, code: int) -> None:
    touched = cell(integrity_prefill=REST_DOORS[prefill])
    verdict, _ = of_candidate("mysql", [criterion("pass")], [touched])
    assert exit_code(verdict, [touched]) == code
