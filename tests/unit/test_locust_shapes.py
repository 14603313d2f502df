"""Shapes are pure functions of the time, and scale with users and time."""

import pytest

from bench.errors import BadInput
from loadtests._shapes import SHAPES, at, check


def users(name: str, most: int, run_time: float) -> list[int]:
    steps = [at(name, second, most, run_time) for second in range(int(run_time))]
    return [step[0] for step in steps if step is not None]


def test_a_ladder_doubles_from_rung_to_rung() -> None:
    assert users("ladder", 16, 10) == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16]
    assert users("ladder", 100, 5) == [6, 12, 25, 50, 100]


def test_a_spike_is_the_middle_fifth() -> None:
    assert users("spike", 50, 10) == [5, 5, 5, 5, 50, 50, 5, 5, 5, 5]


def test_a_soak_starts_slowly_and_stays() -> None:
    assert users("soak", 40, 100)[:7] == [1, 8, 16, 24, 32, 40, 40]
    assert set(users("soak", 40, 100)[5:]) == {40}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("most", [1, 3, 1000])
@pytest.mark.parametrize("run_time", [0.5, 7.0, 3600.0])
def test_every_shape_ends_with_the_time_and_keeps_to_the_users(name: str, most: int, run_time: float) -> None:
    shares = [n / 997 for n in range(997)]
    steps = [at(name, share * run_time, most, run_time) for share in shares]
    assert all(step is not None and 1 <= step[0] <= most and step[1] > 0 for step in steps)
    assert max(step[0] for step in steps if step) == most
    assert at(name, run_time, most, run_time) is None
    assert at(name, run_time * 2, most, run_time) is None
    assert steps == [at(name, share * run_time, most, run_time) for share in shares]


def test_a_shape_needs_a_time() -> None:
    check("soak", 1.0)
    for missing in (None, 0):
        with pytest.raises(BadInput, match="give one with -t"):
            check("soak", missing)
