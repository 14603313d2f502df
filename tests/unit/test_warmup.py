"""Where a warm-up ends: steady noise is left whole, warm-ups are found, and a load that never settles is told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.identity import F64
from bench.judge.warmup import BATCHES, batches, steady_from

S = 1_000_000_000
PLACES = np.arange(BATCHES)
SERIES = 600


def correlated(random: np.random.Generator) -> F64:
    steps = random.normal(size=BATCHES + 30)
    for n in range(1, len(steps)):
        steps[n] += 0.5 * steps[n - 1]
    return steps[30:]


NOISES = {
    "normal": lambda random: random.normal(size=BATCHES),
    "heavy tails": lambda random: random.standard_t(3, BATCHES),
    "very heavy tails": lambda random: random.standard_t(2, BATCHES),
    "one side": lambda random: random.lognormal(0, 1, BATCHES),
    "stalls": lambda random: random.normal(size=BATCHES) + (random.random(BATCHES) < 0.08) * random.exponential(8),
    "correlated": correlated,
}  # fmt: skip


def found(noise: str, size: float, shape: F64) -> list[int | None]:
    """What is found in many series of one shape and this much noise."""
    random = np.random.default_rng(7)
    return [steady_from(shape + size * NOISES[noise](random)) for _ in range(SERIES)]


@pytest.mark.parametrize("size", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("noise", NOISES)
def test_steady_noise_is_not_cut(noise: str, size: float) -> None:
    """At most 5 % of series, however large the noise is and whatever its tails."""
    cut = sum(first != 0 for first in found(noise, size, np.zeros(BATCHES)))
    assert cut <= 0.05 * SERIES


EXPONENTIAL = {(height, length): height * np.exp(-PLACES / length) for height, length in ((1, 1), (1, 3), (2, 4))}
STEPS = {(height, length): height * (length > PLACES) for height, length in ((0.5, 3), (-0.4, 6), (1, 12))}


@pytest.mark.parametrize("shape", EXPONENTIAL)
def test_a_warm_up_that_dies_away_is_found(shape: tuple[float, int]) -> None:
    """And what is left in is small: under a tenth."""
    firsts = found("normal", 0.05, EXPONENTIAL[shape])
    cut = [first for first in firsts if first]
    assert len(cut) >= 0.95 * SERIES
    assert np.quantile([EXPONENTIAL[shape][first] for first in cut], 0.9) < 0.1


@pytest.mark.parametrize("noise", ["normal", "heavy tails", "correlated"])
@pytest.mark.parametrize("shape", STEPS)
def test_a_step_is_found_where_it_is(shape: tuple[float, int], noise: str) -> None:
    firsts = found(noise, 0.05, STEPS[shape])
    near = sum(first is not None and 0 <= first - shape[1] <= 5 for first in firsts)
    assert near >= (0.9 if noise == "normal" else 0.8) * SERIES


@pytest.mark.parametrize("noise", ["normal", "heavy tails", "correlated"])
def test_a_load_that_settles_in_its_second_half_has_no_steady_part(noise: str) -> None:
    assert found(noise, 0.05, 0.5 * (PLACES < 25)).count(None) >= 0.9 * SERIES


def test_a_load_that_slows_down_all_along_has_no_steady_part() -> None:
    assert steady_from(PLACES / BATCHES) is None
    assert found("normal", 0.03, PLACES / BATCHES).count(None) >= 0.9 * SERIES


def test_a_stall_in_the_middle_is_no_warm_up() -> None:
    for place in range(8, 34):
        stalled = np.random.default_rng(place).normal(0, 0.03, BATCHES)
        stalled[place : place + 3] += 1.5
        assert steady_from(stalled) == 0


def test_a_warm_up_is_found_in_spite_of_a_stall() -> None:
    values = np.random.default_rng(2).normal(0, 0.03, BATCHES)
    values[:5] += 1.0
    values[25:27] += 0.5
    assert steady_from(values) == 5


def test_a_difference_too_small_to_matter_is_left() -> None:
    assert steady_from(0.04 * (PLACES < 8)) == 0
    assert steady_from(0.06 * (PLACES < 8)) == 8


def test_the_same_all_along_is_steady() -> None:
    assert steady_from(np.zeros(BATCHES)) == 0
    assert steady_from(np.full(BATCHES, -3.7)) == 0


def test_too_few_batches_tell_nothing() -> None:
    assert steady_from(np.array([])) == 0
    assert steady_from(np.linspace(9, 0, BATCHES - 1)) == 0


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(-3, 3), min_size=BATCHES, max_size=BATCHES),
    st.floats(-5, 5),
)
def test_only_differences_count(values: list[float], shift: float) -> None:
    first = steady_from(np.array(values))
    assert first is None or 0 <= first <= BATCHES // 2
    rounded = np.round(np.array(values), 3)
    assert steady_from(rounded) == steady_from(rounded + round(shift))


# Batches


def test_batches_are_of_equal_count_in_order_of_time() -> None:
    start = np.arange(4000) * S // 100
    means, begins = batches(start, np.full(4000, 5_000_000))  # type: ignore[misc]
    assert means == pytest.approx(np.full(BATCHES, np.log(5e6)))
    assert begins == pytest.approx(start[::100], abs=S / 100)
    assert begins[0] == start[0]


@settings(max_examples=60, deadline=None)
@given(st.integers(5 * BATCHES, 3000), st.integers(0, 2**32), st.integers(-(10**9), 10**15))
def test_batches_hold_every_operation_once(count: int, seed: int, origin: int) -> None:
    random = np.random.default_rng(seed)
    start = origin + random.integers(0, 60 * S, count)
    took = random.integers(1, S, count)
    means, begins = batches(start, took)  # type: ignore[misc]
    sizes = np.diff([*np.searchsorted(np.sort(start), begins), count])
    assert (np.diff(begins) > 0).all()
    assert sizes.min() >= count // BATCHES - 3
    assert sizes.max() <= count // BATCHES + 4
    assert np.sum(means * sizes) == pytest.approx(np.sum(np.log(took)))
    shuffled = random.permutation(count)
    again = batches(start[shuffled], took[shuffled])
    assert again is not None
    assert again[0] == pytest.approx(means)
    assert (again[1] == begins).all()


def test_too_few_operations_make_no_batches() -> None:
    start = np.arange(5 * BATCHES)
    assert batches(start, start + 1) is not None
    assert batches(start[1:], start[1:]) is None
    assert batches(start[:0], start[:0]) is None


def test_operations_that_come_all_at_once_make_no_batches() -> None:
    start = np.repeat([0, S, 2 * S], 200)
    assert batches(start, start + 1) is None


def test_a_batch_after_a_stall_begins_after_it() -> None:
    start = np.concatenate([np.arange(1000), 10 * S + np.arange(1000)]) * 1
    spread = np.where(start < S, start * S // 1000, 9 * S + (start - 10 * S) * S // 1000)
    _, begins = batches(spread, np.ones(2000))  # type: ignore[misc]
    assert begins[BATCHES // 2] == pytest.approx(9 * S, abs=0.01 * S)
