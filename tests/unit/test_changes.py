"""Change points: none in noise, those that were planted, and the method's own bounds. All seeds are fixed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.judge.changes import EFFECT, LEAST, SIDE, Change, changes, segments
from bench.judge.changes import testable as is_testable

NOISE = 0.05


def noisy(levels: list[float], seed: int, noise: float = NOISE) -> list[float]:
    rng = np.random.default_rng(seed)
    return [float(each) for each in np.asarray(levels) * np.exp(rng.normal(0, noise, len(levels)))]


def test_noise_alone_is_rarely_called_a_change() -> None:
    called = sum(bool(changes(noisy([100.0] * 30, seed))) for seed in range(600))
    assert called <= 12  # 2 %


def test_noise_with_heavy_tails_too() -> None:
    rng = np.random.default_rng(7)
    series = np.exp(0.03 * rng.standard_t(2, (200, 30)))
    assert sum(bool(changes(list(map(float, one)))) for one in series) <= 4


def test_a_step_of_a_fifth_is_found_where_it_is() -> None:
    found = [changes(noisy([100.0] * 15 + [120.0] * 15, seed)) for seed in range(200)]
    right = sum(len(one) == 1 and abs(one[0].index - 15) <= 1 for one in found)
    assert right >= 190  # 95 %
    ratios = [one[0].ratio for one in found if len(one) == 1]
    assert np.exp(np.mean(np.log(ratios))) == pytest.approx(1.2, rel=0.01)


@pytest.mark.parametrize("last", [4, 6, 10])
def test_a_step_near_the_end_is_found(last: int) -> None:
    found = [changes(noisy([100.0] * (30 - last) + [80.0] * last, seed)) for seed in range(50)]
    assert sum(any(abs(one.index - (30 - last)) <= 1 for one in each) for each in found) >= 45


@pytest.mark.parametrize(
    "levels", [[100, 120, 150], [100, 130, 100], [100, 80, 100]], ids=["stairs", "there and back", "dip"]
)
def test_two_steps_are_found(levels: list[float]) -> None:
    series = [float(level) for level in levels for _ in range(12)]
    found = [changes(noisy(series, seed)) for seed in range(60)]
    right = sum(
        len(one) == 2 and all(abs(c.index - at) <= 1 for c, at in zip(one, (12, 24), strict=True)) for one in found
    )
    assert right >= 54


def test_a_drift_of_two_percent_is_not_told() -> None:
    assert all(not changes(noisy([100.0] * 40 + [102.0] * 40, seed, 0.002)) for seed in range(30))


def test_a_change_says_what_it_was() -> None:
    found = changes([10.0, 10.1, 9.9] * 3 + [20.0, 20.2, 19.8] * 3)
    assert len(found) == 1
    (one,) = found
    assert one.index == 9
    assert one.before == pytest.approx(10, rel=0.01)
    assert one.after == pytest.approx(20, rel=0.01)
    assert one.ratio == pytest.approx(2, rel=1e-3)
    assert 0 < one.p <= 0.01


def test_below_the_least_number_even_perfect_halves_are_chance() -> None:
    step = [1.0] * SIDE * 2 + [2.0] * SIDE * 2
    assert changes(step)
    for count in range(LEAST):
        assert changes(step[SIDE * 2 - count // 2 :][:count]) == []


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_what_has_no_log_is_not_tested(value: float) -> None:
    series = [1.0] * 10 + [2.0] * 10
    series[4] = value
    assert changes(series) == []
    assert not is_testable(series)


positive = st.floats(1e-3, 1e6)


@settings(max_examples=60, deadline=None)
@given(st.lists(positive, max_size=40))
def test_whatever_is_found_keeps_its_promises(values: list[float]) -> None:
    found = changes(values)
    edges = [0, *(one.index for one in found), len(values)]
    assert edges == sorted(edges)
    for begin, end in segments(len(values), found):
        assert end - begin >= SIDE or not found
    for one in found:
        assert abs(math.log(one.ratio)) >= math.log1p(EFFECT) * (1 - 1e-9)
        assert one.ratio == pytest.approx(one.after / one.before)
        assert 0 < one.p <= 0.01


@settings(max_examples=30, deadline=None)
@given(st.lists(positive, min_size=12, max_size=24), st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(values: list[float], factor: float) -> None:
    scaled = changes([value * factor for value in values])
    assert [one.index for one in scaled] == [one.index for one in changes(values)]


def test_the_same_series_gives_the_same_answer() -> None:
    series = noisy([100.0] * 12 + [115.0] * 12, 3)
    assert changes(series) == changes(tuple(series))
    assert all(isinstance(one, Change) for one in changes(series))
