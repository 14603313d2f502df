"""Proof by simulation that what ships decides as often right as it says: runs drawn from a known truth, seeds fixed.

Each bound is checked at what a share may stray to by chance in so many runs (`at_most`, `at_least`: three standard
errors); the slow tests at the end draw more runs. Noise: 5 % a trial, so 7 % a pair's ratio (the noise of
facts/statistics.md), with the machine drifting by 10 % in ten rounds, cells interleaved ABBA.
"""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from simulated import a_run, abba, cells_of, each, slow

from bench.cell import Cell
from bench.judge import criteria
from bench.judge.comparisons import against_reference
from bench.judge.criteria import Rule
from bench.judge.looks import Look, planned
from bench.judge.regression import regression
from bench.judge.statistics import log_interval, paired_ratios, quantile_interval, rate_interval, unpaired
from bench.results import Comparison

LOOKS = planned(10)
DIFFERENT = ("better", "worse")


def at_most(share: float, wrong: int, runs: int) -> bool:
    """Whether so many in so many runs are no more than ``share``, but for chance."""
    return wrong <= share * runs + 3 * math.sqrt(share * (1 - share) * runs)


def at_least(share: float, right: int, runs: int) -> bool:
    return at_most(1 - share, runs - right, runs)


def told(comparisons: Sequence[Comparison]) -> bool:
    """Whether even one figure is called different."""
    return any(one.outcome in DIFFERENT for one in comparisons)


def called_different(seed: int, runs: int, cells: int) -> int:
    logs = abba(np.random.default_rng(seed), runs, 10, cells)
    return sum(told(against_reference(run)) for run in each(logs, "metrics_per_s"))


@pytest.mark.parametrize("cells", [2, 5])
def test_equal_stores_are_called_different_in_one_run_of_twenty(cells: int) -> None:
    assert at_most(0.05, called_different(1, 800, cells), 800)


def until_decided(logs: np.ndarray, rule: Rule) -> tuple[str, bool, int]:
    """(outcome, whether the stores are then called different, rounds) of a run that goes on until a gate is decided."""
    outcome, cells, rounds = "", list[Cell](), 0
    for look in LOOKS:
        rounds = look.rounds
        cells = cells_of(logs[:, :rounds], "metrics_per_s")
        outcome = criteria.judge(rule, cells[1], cells[0], LOOKS).outcome
        if outcome != "inconclusive":
            break
    return outcome, told(against_reference(cells, lambda _: LOOKS)), rounds


def looked_at(seed: int, runs: int) -> tuple[dict[str, int], int]:
    """Of runs of two equal stores, judged until decided: how often each outcome, and how often called different."""
    rule = Rule("as good", "metrics_per_s >= 1 * reference", True)
    found = [until_decided(logs, rule) for logs in abba(np.random.default_rng(seed), runs, 40, 2)]
    outcomes = {name: sum(outcome == name for outcome, _, _ in found) for name in ("pass", "fail", "inconclusive")}
    return outcomes, sum(different for _, different, _ in found)


def test_looking_again_until_it_is_decided_keeps_the_error() -> None:
    """A gate at the very truth errs in at most 5 % of runs each way, and at most 5 % are called different."""
    outcomes, different = looked_at(2, 600)
    assert at_most(0.05, outcomes["pass"], 600)
    assert at_most(0.05, outcomes["fail"], 600)
    assert at_most(0.05, different, 600)


def test_without_planned_looks_the_error_grows() -> None:
    """The simulation can see what the looks are for: the fixed 90 % interval at the same four looks errs more often."""
    rule, wrong = Rule("as good", "metrics_per_s >= 1 * reference", True), 0
    for logs in abba(np.random.default_rng(2), 400, 40, 2):
        for look in LOOKS:
            reference, ours = cells_of(logs[:, : look.rounds], "metrics_per_s")
            if criteria.judge(rule, ours, reference).outcome != "inconclusive":
                wrong += 1
                break
    assert wrong > 0.15 * 400


def gate(seed: int, runs: int, truth: float, looks: Sequence[Look] = ()) -> dict[str, int]:
    """How often each outcome, where a store's p99 is ``truth`` times the reference's and may be 1.2 times."""
    rule = Rule("tail", "p99_ms <= 1.2 * reference", True)
    counts = dict.fromkeys(("pass", "fail", "inconclusive"), 0)
    for logs in abba(np.random.default_rng(seed), runs, 40 if looks else 10, 2):
        reference, ours = cells_of(logs + np.log([[1.0], [truth]]), "p99_ms")
        counts[criteria.judge(rule, ours, reference, looks).outcome] += 1
    return counts


@pytest.mark.parametrize("looks", [(), LOOKS])
def test_a_store_ten_per_cent_slower_passes_a_margin_of_twenty_and_one_thirty_slower_fails(
    looks: Sequence[Look],
) -> None:
    assert gate(3, 400, 1.1, looks)["pass"] >= 0.90 * 400
    assert gate(3, 400, 1.3, looks)["fail"] >= 0.85 * 400
    assert gate(3, 400, 1.0, looks)["pass"] == 400
    at_the_margin = gate(3, 400, 1.2, looks)
    assert at_most(0.05, at_the_margin["pass"], 400)
    assert at_most(0.05, at_the_margin["fail"], 400)


def covers(interval: tuple[float, float] | None, truth: float) -> bool:
    return interval is not None and interval[0] <= truth <= interval[1]


@pytest.mark.parametrize("confidence", [0.90, 0.95])
@pytest.mark.parametrize("rounds", [4, 10])
def test_intervals_over_rounds_cover_at_their_rate(rounds: int, confidence: float) -> None:
    rng, runs = np.random.default_rng(4), 1500
    single = np.exp(rng.normal(0, 0.15, (runs, rounds))).tolist()
    covered = sum(covers(log_interval(values, confidence), 1.0) for values in single)
    assert abs(covered / runs - confidence) <= 3 * math.sqrt(confidence * (1 - confidence) / runs)
    paired = np.exp(abba(rng, runs, rounds, 2, drift=0.0))
    covered = sum(covers(log_interval(paired_ratios(*pair), confidence), 1.0) for pair in paired.tolist())
    assert abs(covered / runs - confidence) <= 3 * math.sqrt(confidence * (1 - confidence) / runs)


def test_drift_leaves_the_paired_interval_its_rate() -> None:
    runs = 1500
    paired = np.exp(abba(np.random.default_rng(5), runs, 10, 2)).tolist()
    assert at_least(0.90, sum(covers(log_interval(paired_ratios(*pair), 0.90), 1.0) for pair in paired), runs)


def covered_unpaired(seed: int, runs: int, rounds: int, memory: float) -> int:
    """At 95 %, of two runs whose machine's speed changes slowly."""
    ours, theirs = (np.exp(slow(np.random.default_rng(seed + n), runs, rounds, memory=memory)).tolist() for n in (0, 1))
    found = [unpaired(mine, yours, 0.95) for mine, yours in zip(ours, theirs, strict=True)]
    return sum(one is not None and covers((one.low, one.high), 1.0) for one in found)


@pytest.mark.parametrize("memory", [0.0, 0.3, 0.5, 0.7])
def test_the_interval_between_runs_covers_at_its_rate_though_rounds_resemble_one_another(memory: float) -> None:
    """With a little to spare where they don't: it can't know."""
    covered = covered_unpaired(6, 1000, 10, memory)
    assert at_least(0.95, covered, 1000)
    assert covered <= 0.99 * 1000


def test_within_a_trial_a_quantile_and_a_rate_cover_at_least_at_their_rate() -> None:
    rng, runs = np.random.default_rng(7), 1000
    for q, n in ((0.5, 50), (0.95, 400), (0.99, 2000)):
        samples = np.sort(rng.exponential(1.0, (runs, n)), axis=1)
        covered = sum(covers(quantile_interval(one, q, 0.95), -math.log1p(-q)) for one in samples)
        assert at_least(0.95, covered, runs)
        assert covered <= 0.985 * runs
    for rate in (3.0, 1000.0):
        covered = sum(covers(rate_interval(int(n), 2.0, 0.95), rate) for n in rng.poisson(2 * rate, runs))
        assert at_least(0.95, covered, runs)
        assert covered <= 0.99 * runs


def compared(seed: int, runs: int, shift: float, slowed: str = "", rounds: int = 10) -> tuple[int, int]:
    """Of pairs of runs: how many call a store different that is not, and how many see the one that was slowed.

    ``shift``: the standard deviation of the log of how much slower the machine is in the second run; or, below zero,
    always so much slower.
    """
    rng = np.random.default_rng(seed)
    wrong = seen = 0
    for _ in range(runs):
        factor = math.exp(rng.normal(0, shift)) if shift >= 0 else 1 - shift
        found = regression(a_run(rng, rounds), a_run(rng, rounds, factor, slowed)).comparisons
        wrong += told([one for one in found if one.candidate != slowed])
        seen += any(one.outcome == "worse" for one in found if one.candidate == slowed)
    return wrong, seen


@pytest.mark.parametrize("shift", [0.0, 0.1, -0.15])
def test_two_runs_of_one_revision_never_compare_as_different(shift: float) -> None:
    """Also with a machine that is 15 % slower the second time, or any other, and drifts slowly all the time."""
    wrong, _ = compared(8, 250, shift)
    assert wrong == 0


def test_a_store_that_is_thirty_per_cent_slower_is_seen() -> None:
    wrong, seen = compared(9, 200, 0.0, "mysql")
    assert at_least(0.80, seen, 200)
    assert at_most(0.01, wrong, 200)
    assert at_least(0.95, compared(9, 100, 0.0, "mysql", rounds=20)[1], 100)


@pytest.mark.slow
def test_the_same_with_many_more_runs() -> None:
    for cells in (2, 5):
        assert at_most(0.05, called_different(11, 5_000, cells), 5_000)
    outcomes, different = looked_at(12, 5_000)
    assert max(outcomes["pass"], outcomes["fail"], different) <= 0.05 * 5_000  # the union bound leaves room
    for looks in ((), LOOKS):
        assert gate(13, 5_000, 1.1, looks)["pass"] >= 0.90 * 5_000
        assert gate(13, 5_000, 1.3, looks)["fail"] >= 0.85 * 5_000
        assert at_most(0.05, gate(13, 5_000, 1.2, looks)["pass"], 5_000)
    for memory in (0.0, 0.3, 0.5, 0.7):
        assert covered_unpaired(14, 5_000, 10, memory) >= 0.94 * 5_000
    for shift in (0.0, 0.1, -0.15):
        assert compared(15, 1_500, shift)[0] <= 0.01 * 1_500
