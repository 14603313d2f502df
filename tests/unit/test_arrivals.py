"""Arrival schedules: exact for constant arrivals, by their law for Poisson's, and the same for the same seed."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.arrivals import Arrivals, due_times
from bench.identity import I64

MANY = 20_000  # several of the blocks in which times are computed
rates = st.floats(0.05, 50_000)
seeds = st.integers(0, 2**63)


def first(arrivals: Arrivals, count: int) -> I64:
    return np.array(list(islice(due_times(arrivals), count)), dtype=np.int64)


@settings(max_examples=50, deadline=None)
@given(rates, st.floats(0, 1, exclude_max=True), st.integers(1, 10_000))
def test_constant_arrivals_keep_their_gap_to_the_nanosecond(rate: float, offset: float, count: int) -> None:
    times = first(Arrivals("constant", rate, seed=1, offset=offset), count)
    exact = [int((n + offset) * (1e9 / rate)) for n in range(count)]
    assert times.tolist() == exact


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["constant", "poisson"]), rates, seeds)
def test_a_schedule_is_its_rate_and_seed(kind: str, rate: float, seed: int) -> None:
    arrivals = Arrivals("poisson" if kind == "poisson" else "constant", rate, seed)
    times = first(arrivals, 6_000)
    assert np.all(np.diff(times) >= 0)
    assert times[0] >= 0
    assert np.array_equal(times, first(Arrivals(arrivals.kind, rate, seed, limit_ns=5), 6_000))


@pytest.mark.parametrize("rate", [3.0, 5_000.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_gaps_of_poisson_arrivals_are_exponential(rate: float, seed: int) -> None:
    times = first(Arrivals("poisson", rate, seed), MANY)
    gaps = np.diff(times, prepend=0) / 1e9
    assert float(gaps.mean()) == pytest.approx(1 / rate, rel=4 / MANY**0.5)  # four standard errors
    assert stats.kstest(gaps, stats.expon(scale=1 / rate).cdf).pvalue > 0.01
    neighbours = np.corrcoef(gaps[:-1], gaps[1:])[0, 1]
    assert abs(float(neighbours)) < 4 / MANY**0.5


@pytest.mark.parametrize("seed", [4, 5])
def test_counts_of_poisson_arrivals_vary_as_much_as_they_are_large(seed: int) -> None:
    times = first(Arrivals("poisson", 1_000.0, seed), MANY)
    counts = np.bincount(times // 100_000_000)[:-1]
    assert float(counts.var() / counts.mean()) == pytest.approx(1, abs=0.35)


def test_other_seeds_are_other_schedules() -> None:
    one, other = (first(Arrivals("poisson", 100.0, seed), 50) for seed in (1, 2))
    assert not np.any(one == other)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.floats(1, 10_000))
def test_processes_with_offsets_make_one_even_schedule(parts: int, rate: float) -> None:
    """Several load processes share a rate: together they are one constant schedule, to rounding."""
    each = [first(Arrivals("constant", rate / parts, seed=1, offset=n / parts), 500) for n in range(parts)]
    whole = first(Arrivals("constant", rate, seed=1), 500 * parts)
    assert np.all(np.abs(np.sort(np.concatenate(each)) - whole) <= 2 + np.abs(whole) * 1e-12)
