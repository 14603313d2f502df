"""Percentiles are observed values, missing ones stay missing, and intervals cover as often as they say."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.cell import Percentiles
from bench.judge import statistics
from bench.judge.statistics import (
    MIN_SAMPLES,
    QUANTILES,
    detectable,
    effective,
    geometric_mean,
    holm,
    log_interval,
    paired_p,
    paired_ratios,
    percentiles,
    quantile_interval,
    rate_interval,
    rounds_needed,
    spread,
    unpaired,
)

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


def test_a_variance_that_more_rounds_do_not_lessen_needs_more_of_them_or_is_too_much() -> None:
    values = [90.0, 100.0, 111.0]
    alone, beside = rounds_needed(values, 115.0, 0.9), rounds_needed(values, 115.0, 0.9, 0.003)
    assert alone is not None
    assert beside is not None
    assert alone < beside
    assert rounds_needed(values, 115.0, 0.9, 0.1) is None


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3000), st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_a_quantiles_interval_has_the_ranks_of_the_binomial_distribution(n: int, q: float, confidence: float) -> None:
    found = quantile_interval(np.arange(1.0, n + 1), q, confidence)
    tail = (1 - confidence) / 2
    if found is None:
        assert q**n > tail or (1 - q) ** n > tail
        return
    low, high = map(int, found)
    below = stats.binom(n, q).cdf
    assert 1 <= low <= high <= n
    assert below(low - 1) <= tail + 1e-12 or low == 1
    assert 1 - below(high - 1) <= tail + 1e-12
    assert below(high - 1) - below(low - 1) >= confidence - 1e-9
    assert below(low) > tail - 1e-12  # a rank further in would miss too often
    assert 1 - below(high - 2) > tail - 1e-12


@pytest.mark.parametrize("name", QUANTILES)
def test_a_quantile_has_an_interval_from_as_many_samples_as_it_has_a_value(name: str) -> None:
    least = MIN_SAMPLES[name]
    assert quantile_interval(np.arange(float(least - 1)), QUANTILES[name], 0.95) is None
    found = quantile_interval(np.arange(float(least)), QUANTILES[name], 0.95)
    assert found is not None
    assert found[1] == least - 1
    assert quantile_interval(np.array([]), 0.5, 0.95) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 1e4), st.sampled_from([0.9, 0.95]))
def test_a_rates_interval_is_garwoods(count: int, seconds: float, confidence: float) -> None:
    low, high = rate_interval(count, seconds, confidence)
    tail = (1 - confidence) / 2
    assert low == pytest.approx(stats.chi2.ppf(tail, 2 * count) / 2 / seconds if count else 0.0, rel=1e-6)
    assert high == pytest.approx(stats.chi2.ppf(1 - tail, 2 * count + 2) / 2 / seconds, rel=1e-6)
    assert low <= count / seconds <= high


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=20, unique=True))
def test_the_paired_p_is_scipys_and_agrees_with_the_interval(ratios: list[float]) -> None:
    assume(np.std(np.log(ratios)) > 1e-6)  # scipy itself warns where the ratios are all but equal
    p = paired_p(ratios)
    assert p == pytest.approx(stats.ttest_1samp(np.log(ratios), 0.0).pvalue, rel=1e-6, abs=1e-12)
    low, high = log_interval(ratios, 0.95) or (0, 0)
    assert p is not None
    assert (p < 0.05) == (not low <= 1 <= high)
    assert spread(ratios) == pytest.approx(np.std(np.log(ratios), ddof=1))


def test_equal_rounds_are_certain() -> None:
    assert paired_p([1.0, 1.0]) == 1.0
    assert paired_p([2.0, 2.0]) == 0.0
    assert spread([2.0, 2.0]) == 0.0


@pytest.mark.parametrize("values", [[], [1.0], [1.0, None], [1.0, 0.0]])
def test_too_few_rounds_have_no_noise_and_no_p(values: list[float | None]) -> None:
    assert spread(values) is None
    assert paired_p(values) is None


def test_holms_correction_is_that_of_his_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.04, None, 0.03]) == [pytest.approx(0.06), None, pytest.approx(0.06)]
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1) | st.none(), max_size=12))
def test_holms_correction_keeps_order_and_lies_between_none_and_bonferroni(ps: list[float | None]) -> None:
    found = holm(ps)
    tests = sum(p is not None for p in ps)
    known = [(p, corrected) for p, corrected in zip(ps, found, strict=True) if p is not None and corrected is not None]
    assert len(known) == tests == sum(p is not None for p in found)
    for p, corrected in known:
        assert p <= corrected <= min(1.0, tests * p) + 1e-12
    assert [b for _, b in sorted(known)] == sorted(b for _, b in known)
    assert holm(ps[::-1]) == found[::-1]


@pytest.mark.parametrize("confidence", [0.90, 0.95])
@pytest.mark.parametrize("rounds", [3, 10, 40])
def test_the_smallest_difference_is_told_as_often_as_it_says(rounds: int, confidence: float) -> None:
    difference = math.log1p(detectable(0.07, rounds, confidence))
    logs = np.random.default_rng(8).normal(difference, 0.07, (20_000, rounds))
    told = stats.ttest_1samp(logs, 0.0, axis=1).pvalue < 1 - confidence
    assert np.mean(told) == pytest.approx(0.8, abs=0.01)


def test_more_rounds_and_less_noise_tell_smaller_differences() -> None:
    found = [detectable(0.07, rounds) for rounds in (1, 2, 4, 10, 40)]
    assert found == sorted(found, reverse=True)
    assert found[0] == math.inf
    assert detectable(0.05, 10) < detectable(0.1, 10)
    assert detectable(0.0, 10) == 0.0
    assert detectable(0.05, 10, power=0.5) < detectable(0.05, 10, power=0.9)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(1, 2), min_size=3, max_size=15),
    st.lists(st.floats(1, 2), min_size=3, max_size=15),
    st.floats(0.01, 100),
)
def test_an_unpaired_ratio_turns_over_and_scales(ours: list[float], theirs: list[float], scale: float) -> None:
    found, turned = unpaired(ours, theirs, 0.95), unpaired(theirs, ours, 0.95)
    assert found is not None
    assert turned is not None
    assert (turned.ratio, turned.low, turned.high) == pytest.approx((1 / found.ratio, 1 / found.high, 1 / found.low))
    assert found.p == pytest.approx(turned.p)
    assert found.low <= found.ratio * (1 + 1e-9)
    assert found.ratio <= found.high * (1 + 1e-9)
    both = unpaired([v * scale for v in ours], [v * scale for v in theirs], 0.95)
    assert both is not None
    assert (both.low, both.high) == pytest.approx((found.low, found.high), rel=1e-6)


def test_without_serial_correlation_it_is_welchs_test() -> None:
    """Rounds that alternate count as independent, since a negative correlation is not believed."""
    ours, theirs = [1.0, 1.2, 1.01, 1.22, 1.0, 1.19], [2.0, 2.6, 2.1, 2.4, 2.05, 2.55, 2.0, 2.5]
    found, welch = unpaired(ours, theirs, 0.95), stats.ttest_ind(np.log(ours), np.log(theirs), equal_var=False)
    assert found is not None
    low, high = np.exp(welch.confidence_interval(0.95))
    assert (found.p, found.low, found.high) == pytest.approx((welch.pvalue, low, high))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.5, 2), min_size=3, max_size=12), st.floats(0, 1))
def test_what_lies_within_a_bound_is_not_beyond_it(values: list[float], bound: float) -> None:
    found = unpaired(values, [1.0, 1.2, 1.01, 1.22, 1.0, 1.19], 0.95)
    assert found is not None
    assert found.p_beyond(0.0) == pytest.approx(found.p)
    assert found.p_beyond(bound) >= found.p - 1e-12
    assert found.p_beyond(abs(math.log(found.ratio))) == 1.0


def test_neighbours_that_are_alike_count_for_fewer() -> None:
    rng = np.random.default_rng(4)
    assert effective(np.array([1.0, 2.0] * 5)) == 10
    assert effective(np.arange(10.0)) == 2
    assert effective(np.ones(10)) == 10
    assert effective(rng.normal(size=1000)) > 800
    walk = np.convolve(rng.normal(size=2000), 0.7 ** np.arange(30))[:2000]
    assert effective(walk) == pytest.approx(2000 * 0.3 / 1.7, rel=0.2)
    assert effective(np.array([1.0, 2.0, 1.0, 2.0])) == 2  # too few to show it


@pytest.mark.parametrize("values", [[], [1.0, 1.1], [1.0, None, 1.1], [1.0, 0.0, 1.1]])
def test_no_unpaired_interval_without_three_positive_rounds_each(values: list[float | None]) -> None:
    assert unpaired(values, [1.0, 1.1, 1.2], 0.9) is None
    assert unpaired([1.0, 1.1, 1.2], values, 0.9) is None


def test_rounds_that_are_nothing_alike_have_an_interval_all_the_same() -> None:
    low, high = log_interval([1e-300, 1e300], 0.999) or (1, 0)
    assert 0 < low < high < math.inf
    assert unpaired([1e-300, 1e300, 1.0], [1.0, 1.0, 1.0], 0.999) is not None
    assert detectable(1e6, 2, 0.999) < math.inf
