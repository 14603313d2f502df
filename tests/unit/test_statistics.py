"""Percentiles are observed values, missing ones stay missing, and intervals cover as often as they say."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.judge import statistics
from bench.judge.statistics import (
    MIN_SAMPLES,
    QUANTILES,
    geometric_mean,
    log_interval,
    paired_ratios,
    percentiles,
    rounds_needed,
)
from bench.results import Percentiles

positive = st.floats(1e-6, 1e9)
EXACT = {name: Fraction(str(q)) for name, q in QUANTILES.items()}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6000), st.integers(0, 2**32 - 1))
def test_percentiles_are_those_of_numpy(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(size=n)
    found = percentiles(values)
    assert found.n == n
    assert found.max == values.max()
    for name, q in QUANTILES.items():
        expected = float(np.quantile(values, q, method="inverted_cdf")) if n >= MIN_SAMPLES[name] else None
        assert getattr(found, name) == expected


@pytest.mark.parametrize("name", QUANTILES)
def test_the_rank_is_the_nearest_for_every_number_of_samples(name: str) -> None:
    """In exact arithmetic: 0.95 x 180 must not become 171.00000000000003."""
    numbers = range(MIN_SAMPLES[name], MIN_SAMPLES[name] + 1500)
    for n in (*numbers, *range(6_000, 40_000, 1_000), 100_000):
        rank = math.ceil(EXACT[name] * n)
        assert getattr(percentiles(np.arange(1.0, n + 1)), name) == rank, n


@pytest.mark.parametrize("name", QUANTILES)
def test_too_few_samples_have_no_percentile(name: str) -> None:
    least = MIN_SAMPLES[name]
    assert getattr(percentiles(np.ones(least - 1)), name) is None
    assert getattr(percentiles(np.ones(least)), name) == 1.0


@pytest.mark.parametrize("name", QUANTILES)
def test_enough_is_when_the_interval_of_the_quantile_has_an_upper_end(name: str) -> None:
    """The largest of n samples lies above quantile q with probability 1 - q**n, which must reach 97.5 %."""
    least = next(n for n in range(1, 10_000) if QUANTILES[name] ** n <= 0.025)
    assert MIN_SAMPLES[name] == least


def test_no_samples_have_nothing_and_the_input_is_left_alone() -> None:
    assert percentiles(np.array([])) == Percentiles()
    values = np.array([3.0, 1.0, 2.0] * 40)
    percentiles(values)
    assert values.tolist() == [3.0, 1.0, 2.0] * 40


@settings(max_examples=60, deadline=None)
@given(st.lists(positive, min_size=1, max_size=30))
def test_the_geometric_mean_is_scipys(values: list[float]) -> None:
    assert geometric_mean(values) == pytest.approx(stats.gmean(values), rel=1e-9)


def test_a_missing_round_makes_the_mean_missing_and_a_zero_makes_it_zero() -> None:
    assert geometric_mean([]) is None
    assert geometric_mean([1.0, None]) is None
    assert geometric_mean([None]) is None
    assert geometric_mean([4.0, 0.0]) == 0.0
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)


@pytest.mark.parametrize("values", [[], [1.0], [None, None], [1.0, None, 2.0], [1.0, 0.0], [1.0, -1.0]])
def test_no_interval_without_two_positive_rounds(values: list[float | None]) -> None:
    assert log_interval(values, 0.9) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.1, 1e4), min_size=2, max_size=20), st.floats(0.01, 100))
def test_the_interval_holds_the_mean_and_scales_with_the_unit(values: list[float], scale: float) -> None:
    low, high = log_interval(values, 0.9) or (0, 0)
    mean = geometric_mean(values)
    assert mean is not None
    assert low <= mean * (1 + 1e-9)
    assert mean <= high * (1 + 1e-9)
    scaled = log_interval([value * scale for value in values], 0.9)
    assert scaled == pytest.approx((low * scale, high * scale), rel=1e-6)
    wider = log_interval(values, 0.95)
    assert wider is not None
    assert wider[0] <= low <= high <= wider[1]


@pytest.mark.parametrize("confidence", [0.90, 0.95])
@pytest.mark.parametrize("rounds", [2, 4, 10])
def test_intervals_cover_at_the_stated_rate(rounds: int, confidence: float) -> None:
    rng = np.random.default_rng(20250101)
    truth, simulations = 120.0, 2000
    covered = 0
    for _ in range(simulations):
        low, high = log_interval((truth * rng.lognormal(0, 0.15, rounds)).tolist(), confidence) or (0, 0)
        covered += low <= truth <= high
    assert abs(covered / simulations - confidence) < 0.025


def test_pairing_takes_out_what_both_share() -> None:
    """A machine that gets slower from round to round must not widen the interval of the ratio."""
    drift = np.exp(np.linspace(0, 1, 10))
    ours, theirs = (1.1 * drift).tolist(), drift.tolist()
    low, high = log_interval(paired_ratios(ours, theirs), 0.9) or (0, 0)
    assert (low, high) == pytest.approx((1.1, 1.1))


def test_a_pair_needs_both_sides() -> None:
    assert paired_ratios([2.0, None, 3.0, 0.0, 5.0], [1.0, 1.0, None, 1.0, -1.0]) == [2.0, None, None, None, None]
    assert paired_ratios([2.0, 9.0], [4.0]) == [0.5]
    assert paired_ratios([], []) == []


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(50, 200), min_size=2, max_size=12),
    st.floats(40, 250),
    st.sampled_from([0.90, 0.95]),
)
def test_the_rounds_needed_are_those_at_which_the_interval_clears(
    values: list[float], target: float, confidence: float
) -> None:
    found = rounds_needed(values, target, confidence)
    distance = abs(float(np.mean(np.log(values))) - math.log(target))
    spread = float(np.std(np.log(values), ddof=1))

    def clears(rounds: int) -> bool:
        half = stats.t.ppf((1 + confidence) / 2, rounds - 1) * spread / math.sqrt(rounds)
        return bool(half < distance)

    if found is None:
        assert not clears(1000)
        return
    assert found > len(values)
    assert found % 2 == 0  # drift cancels over an even number of rounds
    assert clears(found)
    assert found - 2 <= len(values) or not clears(found - 2)


def test_rounds_needed_agrees_with_the_interval() -> None:
    """Where the same spread is seen over so many rounds, the interval does clear the target."""
    values, target = [90.0, 100.0, 111.0], 115.0
    low, high = log_interval(values, 0.9) or (0, 0)
    assert low < target < high
    needed = rounds_needed(values, target, 0.9)
    assert needed is not None
    logs = np.log(values)
    mean, spread = float(np.mean(logs)), float(np.std(logs, ddof=1))
    shape = np.where(np.arange(needed) % 2 == 0, 1.0, -1.0)
    again = np.exp(mean + shape / np.std(shape, ddof=1) * spread)
    assert (log_interval(again.tolist(), 0.9) or (0, 1e9))[1] < target


@pytest.mark.parametrize(
    ("values", "target"), [([], 1.0), ([5.0], 1.0), ([5.0, None], 1.0), ([1.0, 2.0], 0.0), ([1.0, 4.0], 2.0)]
)
def test_some_needs_cannot_be_told(values: list[float | None], target: float) -> None:
    assert rounds_needed(values, target, 0.9) is None


def test_the_gate_and_what_is_shown_are_what_the_report_says() -> None:
    assert (statistics.GATE_CONFIDENCE, statistics.SHOWN_CONFIDENCE) == (0.90, 0.95)
