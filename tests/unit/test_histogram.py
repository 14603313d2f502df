"""A histogram errs by its stated share at most, and adding histograms is the same as pooling what they counted."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.histogram import ERROR, Histogram, buckets, value_ms
from bench.judge.statistics import QUANTILES, percentiles

US, LONGEST = 1_000, 120_000_000_000
ROUNDING = 1e-12  # of doubles: a latency on the very edge of a bucket may count for its neighbour
latencies = st.integers(US, LONGEST) | st.integers(3, 11).flatmap(
    lambda n: st.integers(10**n, min(10 ** (n + 1), LONGEST))
)


def bucket_of(latency_ns: int) -> int:
    return int(buckets(np.array([latency_ns], dtype=np.int64))[0])


def counted(values: list[int]) -> Histogram:
    """What a load process would send, through JSON, as its owner adds it."""
    found, n = np.unique(buckets(np.array(values, dtype=np.int64)), return_counts=True)
    told = json.loads(json.dumps(dict(zip(map(str, found.tolist()), n.tolist(), strict=True))))
    histogram = Histogram()
    histogram.add(told)
    return histogram


def error_of(value: float, latency_ns: int) -> float:
    return abs(value - latency_ns / 1e6) / (latency_ns / 1e6)


@settings(max_examples=500, deadline=None)
@given(latencies)
def test_a_bucket_is_near_each_of_its_latencies(latency: int) -> None:
    assert error_of(value_ms(bucket_of(latency)), latency) <= ERROR + ROUNDING


def test_the_error_is_kept_at_both_ends_of_every_bucket() -> None:
    """The shortest and the longest whole number of ns that fall into each bucket, from 1 µs to two minutes."""
    edges = np.unique(np.geomspace(US, LONGEST, 400_000).astype(np.int64))
    numbers = buckets(edges)
    last = np.flatnonzero(np.diff(numbers, append=numbers[-1] + 1))
    for place in (last, np.concatenate([[0], last[:-1] + 1])):
        middle = np.array([value_ms(int(bucket)) for bucket in numbers[place]])
        assert (np.abs(middle * 1e6 - edges[place]) / edges[place]).max() <= ERROR + ROUNDING
    assert ERROR == 0.004
    assert 2_300 <= numbers[-1] - numbers[0] <= 2_400


@settings(max_examples=200, deadline=None)
@given(latencies, latencies)
def test_a_longer_latency_is_in_no_earlier_bucket(one: int, two: int) -> None:
    assert (bucket_of(min(one, two))) <= bucket_of(max(one, two))
    assert value_ms(bucket_of(one)) < value_ms(bucket_of(one) + 1)


def test_the_value_of_a_bucket_lies_in_it() -> None:
    assert all(bucket_of(round(value_ms(bucket) * 1e6)) == bucket for bucket in range(700, 2_330))


@pytest.mark.parametrize("latency", [-5, 0, 1, 999, 1_000])
def test_what_is_shorter_counts_as_a_microsecond(latency: int) -> None:
    assert bucket_of(latency) == 0
    assert value_ms(0) == pytest.approx(0.001, rel=2 * ERROR)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(latencies, max_size=30), max_size=6))
def test_merging_is_pooling(parts: list[list[int]]) -> None:
    """Whatever process counted them, in whatever order: the counts are those of all latencies together."""
    merged = Histogram()
    for part in reversed(parts):
        merged.add(counted(part).counts)
    pooled = counted([latency for part in parts for latency in part])
    assert merged.counts == pooled.counts
    assert merged.n == sum(map(len, parts))
    for share in QUANTILES.values():
        assert merged.percentile_ms(share) == pooled.percentile_ms(share)


@settings(max_examples=200, deadline=None)
@given(st.lists(latencies, min_size=1, max_size=200), st.sampled_from([*QUANTILES.values(), 0.0, 0.25, 1.0]))
def test_a_percentile_is_the_nearest_rank_within_the_error(values: list[int], share: float) -> None:
    found = counted(values).percentile_ms(share)
    assert found is not None
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert error_of(found, exact) <= ERROR + ROUNDING


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3_700, 6_000))
def test_its_percentiles_are_those_of_the_raw_samples(seed: int, n: int) -> None:
    """The judge takes raw samples, a live page histograms: they may differ by the stated error only."""
    values = np.random.default_rng(seed).lognormal(15, 2, n).astype(np.int64) + US
    raw, live = percentiles(values / 1e6), counted(values.tolist())
    for name, share in QUANTILES.items():
        found, exact = live.percentile_ms(share), getattr(raw, name)
        assert found == pytest.approx(exact, rel=ERROR + ROUNDING), name


def test_nothing_has_no_percentile() -> None:
    assert Histogram().percentile_ms(0.99) is None
    assert Histogram().n == 0
