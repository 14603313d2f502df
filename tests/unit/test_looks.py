"""A few looks, planned beforehand, that spend no more error than one look does; and what is judged at each."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import a_cell

from bench.cell import Criterion
from bench.judge.criteria import Rule, judge
from bench.judge.looks import LOOKS, Look, planned, reached, single
from bench.judge.statistics import GATE_CONFIDENCE, log_interval


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 1000))
def test_the_errors_of_all_looks_add_up_to_the_whole(rounds: int) -> None:
    looks = planned(rounds)
    assert len(looks) == LOOKS
    assert sum(1 - look.confidence for look in looks) == pytest.approx(1 - GATE_CONFIDENCE)
    assert sum(look.share for look in looks) == pytest.approx(1.0)
    assert all(GATE_CONFIDENCE < look.confidence < 1 for look in looks)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 1000))
def test_looks_are_even_and_grow_from_the_first_rounds_to_four_times_as_many(rounds: int) -> None:
    ends = [look.rounds for look in planned(rounds)]
    assert all(end % 2 == 0 for end in ends)
    assert ends == sorted(set(ends))
    assert rounds <= ends[0] <= rounds + 1
    assert 4 * rounds <= ends[-1] <= max(4 * rounds + 1, 8)


def test_ten_rounds_as_they_are_documented() -> None:
    looks = planned(10)
    assert [look.rounds for look in looks] == [10, 16, 26, 40]
    spent = [0.1 * math.log(1 + (math.e - 1) * share) for share in (0.25, 0.4, 0.65, 1.0)]
    errors = [1 - look.confidence for look in looks]
    assert [sum(errors[: n + 1]) for n in range(4)] == pytest.approx(spent)
    assert [f"{look.confidence:.3f}" for look in looks] == ["0.964", "0.983", "0.977", "0.975"]


def test_one_look_may_spend_all() -> None:
    assert single(7) == (Look(7, GATE_CONFIDENCE),)
    assert single(7)[0].share == pytest.approx(1.0)


def test_a_look_is_reached_with_its_rounds() -> None:
    looks = planned(10)
    assert [len(reached(looks, rounds)) for rounds in (0, 9, 10, 15, 16, 39, 40, 99)] == [0, 0, 1, 1, 2, 3, 4, 4]


AT = (Look(4, 0.96), Look(8, 0.98), Look(10, 0.96))
CLEAR, WILD = [100.0, 101.0, 99.0, 100.0], [60.0, 160.0, 90.0, 130.0]


def looked(values: list[float], expression: str = "p99_ms <= 110", looks: tuple[Look, ...] = AT) -> Criterion:
    return judge(Rule("a rule", expression, True), a_cell(per_round={"p99_ms": values}), None, looks)


def test_the_first_look_that_decides_is_final_whatever_comes_after() -> None:
    for later in ([], WILD, [500.0] * 6, [1.0] * 4):
        found = looked(CLEAR + later)
        assert (found.outcome, found.confidence) == ("pass", 0.96)
        assert found.interval == log_interval(CLEAR, 0.96)
        assert found.measured == pytest.approx(100.0, rel=0.01)
        assert "96 % interval, look 1 of 3: " in found.reason
        assert "over 4 rounds" in found.reason


def test_a_look_takes_its_own_rounds_at_its_own_level() -> None:
    found = looked(WILD + [99.0, 101.0] * 2)
    assert (found.outcome, found.confidence) == ("inconclusive", 0.98)
    assert found.interval == log_interval(WILD + [99.0, 101.0] * 2, 0.98)
    assert "98 % interval, look 2 of 3: " in found.reason
    late = looked([95.0, 105.0] * 5, "p99_ms >= 96", (Look(8, 0.99), Look(10, 0.90)))
    assert (late.outcome, late.confidence) == ("pass", 0.90)


def test_between_two_looks_the_last_one_reached_is_told() -> None:
    """Rounds that came since then belong to the next look."""
    found = looked([*WILD, 100.0, 100.0])
    assert found.interval == log_interval(WILD, 0.96)
    assert "look 1 of 3" in found.reason
    assert found.rounds_needed is not None


def test_before_the_first_look_nothing_is_decided() -> None:
    found = looked([1.0, 1.01])
    assert (found.outcome, found.rounds_needed) == ("inconclusive", 4)
    assert found.reason == "2 rounds; the first look takes 4"
    nothing = judge(Rule("a rule", "p99_ms <= 110", True), a_cell(per_round={}), None, AT)
    assert (nothing.outcome, nothing.measured) == ("inconclusive", None)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(50, 200), min_size=4, max_size=16))
def test_looks_decide_no_more_than_one_interval_of_the_same_rounds(values: list[float]) -> None:
    """What a planned look decides, a single look at the same rounds does too: its interval is narrower."""
    found = looked(values, looks=planned(4))
    if found.outcome != "inconclusive":
        number = int(found.reason.split("look ")[1][0])
        assert looked(values[: planned(4)[number - 1].rounds], looks=()).outcome == found.outcome
