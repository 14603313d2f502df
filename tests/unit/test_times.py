"""Percentiles from whole nanoseconds: the same as from milliseconds, with the interval that the samples alone give."""

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.identity import I64
from bench.judge import statistics
from bench.judge.times import at_ranks, percentiles, percentiles_within


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 6000), st.integers(0, 2**32))
def test_percentiles_are_those_of_the_sorted_times(count: int, seed: int) -> None:
    ns = np.random.default_rng(seed).integers(1, 10**9, count)
    found, within = percentiles_within(ns)
    assert found == percentiles(ns) == statistics.percentiles(ns / 1e6)
    ordered = np.sort(ns) / 1e6
    for name, q in statistics.QUANTILES.items():
        expected = statistics.quantile_interval(ordered, q, 0.95)
        assert within[f"{name}_ms"] == expected
        value = getattr(found, name)
        assert (value is None) == (expected is None)
        assert expected is None or expected[0] <= value <= expected[1]


sizes = st.sampled_from([lambda n: n % 7, lambda n: n, lambda n: n * n, lambda n: 2**40 + n // 50, lambda n: n - 500])


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**32), st.lists(st.floats(0, 1), min_size=1), sizes, st.integers(0, 62))
def test_what_stands_at_a_rank_is_what_sorting_puts_there(
    count: int, seed: int, shares: list[float], shape: Callable[[I64], I64], bits: int
) -> None:
    """Whether times are spread over many octaves, are much the same, or all the same."""
    random = np.random.default_rng(seed)
    ns = shape(random.permutation(count)) if bits < 10 else random.integers(0, 2**bits, count)
    ranks = np.unique((np.array(shares) * (count - 1)).astype(np.int64))
    assert (at_ranks(ns, ranks) == np.sort(ns)[ranks]).all()
