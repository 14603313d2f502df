"""Claims of better, worse and same: paired within rounds, corrected together, and none without enough rounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import a_cell

from bench.cell import Cell
from bench.judge.comparisons import FEWEST, against_reference, by_how_much, compared_fields, control_of, within
from bench.judge.looks import planned
from bench.judge.statistics import holm, log_interval, paired_p
from bench.results import Change, Comparison

DRIFT = [100.0, 150.0, 200.0, 300.0, 400.0, 250.0, 170.0, 120.0]
WOBBLE = [1.0, 1.02, 0.99, 1.0, 1.01, 0.98, 1.0, 1.0]


def times(factor: float, values: list[float] = DRIFT) -> list[float]:
    return [value * factor * noise for value, noise in zip(values, WOBBLE, strict=True)]


def reference(**rounds: list[float] | list[float | None]) -> Cell:
    return a_cell(candidate="sqlite", reference=True, per_round=rounds)


def compared(ours: Cell, *others: Cell) -> list[Comparison]:
    return against_reference([ours, *others])


@pytest.mark.parametrize(
    ("field", "factor", "expected"),
    [
        ("metrics_per_s", 1.3, "better"),
        ("metrics_per_s", 0.7, "worse"),
        ("p99_ms", 1.3, "worse"),
        ("p99_ms", 0.7, "better"),
        ("read.p95_ms", 1.3, "worse"),
        ("metrics_per_s", 1.0, "same"),
        ("p99_ms", 1.0, "same"),
    ],
)
def test_rates_are_better_up_and_latencies_down(field: str, factor: float, expected: Change) -> None:
    """The machine got four times slower and recovered meanwhile; the pairs don't mind."""
    (found,) = [
        one
        for one in compared(a_cell(per_round={field: times(factor)}), reference(**{field: DRIFT}))
        if one.field == field
    ]
    assert found.outcome == expected
    ratios = [ours / theirs for ours, theirs in zip(times(factor), DRIFT, strict=True)]
    assert found.interval == pytest.approx(log_interval(ratios, 0.95))
    assert found.ratio == pytest.approx(factor, rel=0.01)
    assert (found.rounds, found.confidence) == ((8, 8), 0.95)
    assert found.unit == ("/s" if "per_s" in field else "ms")


def test_where_it_can_not_be_told_the_reason_says_what_would_show() -> None:
    rng = np.random.default_rng(3)
    noisy = [value * noise for value, noise in zip(DRIFT, rng.lognormal(0, 0.4, 8), strict=True)]
    (found,) = compared(a_cell(per_round={"p99_ms": noisy}, load="80 %"), reference(p99_ms=DRIFT).model_copy(
        update={"load": "80 %"}))  # fmt: skip
    assert found.outcome == "unknown"
    assert "noise between rounds" in found.reason
    assert "so many rounds would show a difference of" in found.reason


def test_figures_that_either_has_are_compared() -> None:
    both = {"metrics_per_s": DRIFT, "ops_per_s": DRIFT, "p99_ms": DRIFT, "read.p95_ms": DRIFT}
    ours, theirs = a_cell(per_round=both), a_cell(per_round=both)
    assert compared_fields(ours, theirs) == ["metrics_per_s", "p99_ms", "read.p95_ms"]
    no_reads = theirs.model_copy(update={"per_round": {**both, "read.p95_ms": [None] * 8}})
    assert compared_fields(ours, no_reads) == compared_fields(no_reads, ours) == compared_fields(ours, theirs)
    never = ours.model_copy(update={"per_round": {**both, "read.p95_ms": [None] * 8}})
    assert compared_fields(never, no_reads) == ["metrics_per_s", "p99_ms"]
    reads = ours.model_copy(update={"metrics_per_s": None})
    assert compared_fields(reads, theirs)[0] == "ops_per_s"
    offered = ours.model_copy(update={"load": "80 %"})
    assert compared_fields(offered, offered) == ["p99_ms", "read.p95_ms"]


def test_a_cell_is_compared_with_the_references_of_the_same_place() -> None:
    ours = a_cell(per_round={"metrics_per_s": times(2.0)})
    theirs = reference(metrics_per_s=DRIFT)
    for change in ({"workload": "train"}, {"concurrency": 5}, {"driver": "http"}, {"load": "150/s"}):
        assert compared(ours, theirs.model_copy(update=change)) == []
    assert [one.candidate for one in compared(ours, theirs)] == ["mysql"]
    assert compared(theirs) == []


def test_all_claims_are_corrected_together() -> None:
    """One clear difference and twenty that are chance."""
    rng = np.random.default_rng(7)
    cells = [a_cell(candidate="one", per_round={"metrics_per_s": times(1.3)})]
    cells += [
        a_cell(candidate=f"n{n}", per_round={"metrics_per_s": (np.array(DRIFT) * rng.lognormal(0, 0.05, 8)).tolist()})
        for n in range(20)
    ]
    found = compared(reference(metrics_per_s=DRIFT), *cells)
    ratios = [[a / b for a, b in zip(cell.per_round["metrics_per_s"], DRIFT, strict=True) if a] for cell in cells]
    alone = [paired_p(one) for one in ratios]
    assert [one.p for one in found] == pytest.approx(holm(alone))
    assert min(p for p in alone[1:] if p is not None) < 0.05
    assert [one.candidate for one in found if one.outcome in ("better", "worse")] == ["one"]
    chance = next(one for one in found[1:] if one.interval and not one.interval[0] <= 1 <= one.interval[1])
    assert "among so many comparisons that may be chance" in chance.reason


@pytest.mark.parametrize("rounds", range(1, FEWEST))
def test_too_few_rounds_claim_nothing_however_clear_they_look(rounds: int) -> None:
    values = [100.0, 101.0, 99.0][:rounds]
    found = compared(
        a_cell(per_round={"metrics_per_s": values}), reference(metrics_per_s=[value / 9 for value in values])
    )
    assert [(one.outcome, one.p) for one in found] == [("unknown", None)]
    assert "too few" in found[0].reason


@pytest.mark.parametrize("hole", [None, 0.0])
def test_a_round_without_a_value_claims_nothing(hole: float | None) -> None:
    found = compared(a_cell(per_round={"metrics_per_s": [hole, *times(3.0)[1:]]}), reference(metrics_per_s=DRIFT))
    assert [(one.outcome, one.p, one.interval) for one in found] == [("unknown", None, None)]
    assert found[0].reason == "a round without a value leaves no interval"


def test_where_a_run_went_on_until_it_knew_a_claim_may_spend_only_its_looks_part() -> None:
    rng = np.random.default_rng(9)
    values = (100 * rng.lognormal(0.05, 0.05, 12)).tolist()
    cells = [a_cell(per_round={"metrics_per_s": values}), reference(metrics_per_s=[100.0] * 12)]
    looks = planned(4)
    (found,) = against_reference(cells, lambda _: looks)
    look = looks[2]
    p = paired_p([value / 100 for value in values])
    assert p is not None
    assert look.rounds == 12
    assert found.p == pytest.approx(min(1.0, p / look.share))
    assert found.confidence == pytest.approx(1 - 0.05 * look.share)
    assert found.rounds == (12, 12)
    (between,) = against_reference(
        [a_cell(per_round={"metrics_per_s": values[:11]}), reference(metrics_per_s=[100.0] * 11)], lambda _: looks
    )
    assert between.rounds == (8, 8)


def test_the_control_compares_the_second_with_the_first() -> None:
    first = a_cell(per_round={"metrics_per_s": DRIFT, "p99_ms": DRIFT}, load="closed")
    second = a_cell(per_round={"metrics_per_s": times(1.0), "p99_ms": times(1.5)})
    found = control_of(first, second)
    assert (found.candidate, found.workload, found.load) == ("mysql", "log_metric", "closed")
    assert {one.field: one.outcome for one in found.comparisons} == {"metrics_per_s": "same", "p99_ms": "worse"}
    assert found.comparisons[1].ratio == pytest.approx(1.5, rel=0.01)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.5, 2), min_size=4, max_size=12), st.lists(st.floats(0.5, 2), min_size=12, max_size=12))
def test_turned_over_better_is_worse(ours: list[float], others: list[float]) -> None:
    theirs = others[: len(ours)]

    def outcome(mine: list[float], yours: list[float]) -> str:
        return compared(a_cell(per_round={"metrics_per_s": mine}), reference(metrics_per_s=yours))[0].outcome

    turned = {"better": "worse", "worse": "better"}
    found = outcome(ours, theirs)
    assert outcome(theirs, ours) == turned.get(found, found)


@pytest.mark.parametrize(
    ("ratio", "words"), [(0.88, "12 % lower"), (1.25, "25 % higher"), (3.14, "3.14 times as high"), (1.0, "0 % lower")]
)
def test_ratios_in_words(ratio: float, words: str) -> None:
    assert by_how_much(ratio) == words


def test_within_a_margin_is_the_whole_interval() -> None:
    assert within((0.96, 1.04), 0.05)
    assert not within((0.94, 1.0), 0.05)
    assert not within((1.0, 1.06), 0.05)
    assert within((0.9525, 1.0499), 0.05)


def test_a_tail_of_survivors_is_no_better() -> None:
    """Half of the operations failed, and the rest was quick."""
    bad = a_cell().operations["log_metric"].model_copy(update={"ok": 50, "failed": 50})
    quick = a_cell(per_round={"p99_ms": times(0.6)}, operations={"log_metric": bad}, load="80 %")
    usual = reference(p99_ms=DRIFT).model_copy(update={"load": "80 %"})
    (found,) = compared(quick, usual)
    assert (found.outcome, found.p) == ("unknown", None)
    assert "did not end ok" in found.reason
    (slower,) = compared(quick.model_copy(update={"per_round": {"p99_ms": times(1.6)}}), usual)
    assert slower.outcome == "worse"  # that it is, whatever else failed


def test_a_tail_that_is_gone_is_unknown() -> None:
    ours = a_cell(per_round={"p99_ms": [None] * 8}, load="80 %")
    (found,) = compared(ours, reference(p99_ms=DRIFT).model_copy(update={"load": "80 %"}))
    assert found.outcome == "unknown"
