"""One load cut into slices: as many as have enough operations, and none counted twice."""

import numpy as np
import pytest

from bench.judge.statistics import MIN_SAMPLES
from bench.judge.trials import Window
from bench.outcome import Outcome
from bench.samples import Samples
from bench.slices import MOST, cut
from bench.workload import OPERATIONS


def samples(per_second: int, seconds: int) -> Samples:
    n = per_second * seconds
    start = np.linspace(0, seconds * 10**9, n, endpoint=False).astype(np.int64)
    small = np.zeros(n, dtype=np.uint8)
    operation = small + OPERATIONS.index("log_metric")
    return Samples(
        start, start, start + 10**6, operation, small + Outcome.OK, small, small + 1, small.astype(np.uint16)
    )


@pytest.mark.parametrize(
    ("per_second", "seconds", "slices"),
    [
        (1000, 30, MOST), (1000, 4, 4), (1000, 2, 2), (MIN_SAMPLES["p99"], 5, 5), (100, 20, 5), (20, 10, 5), (3, 10, 5),
        (1, 5, 5), (1000, 1, 1),
    ],
)  # fmt: skip
def test_as_many_slices_as_have_enough_operations(per_second: int, seconds: int, slices: int) -> None:
    window = Window(0, seconds * 10**9)
    found = cut(samples(per_second, seconds), window)
    assert len(found) == slices
    assert found[0].begin_ns == window.begin_ns
    assert found[-1].end_ns == window.end_ns
    assert [one.end_ns for one in found[:-1]] == [one.begin_ns for one in found[1:]]
    assert max(one.seconds for one in found) - min(one.seconds for one in found) < 1e-6
