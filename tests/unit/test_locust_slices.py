"""One load cut into slices: as many as have enough operations, and none counted twice."""

import numpy as np
import pytest

from bench.arrivals import Arrivals
from bench.judge.statistics import MIN_SAMPLES
from bench.judge.trials import Window, figures
from bench.outcome import Outcome
from bench.samples import Samples
from bench.slices import MOST, cut
from bench.workload import OPERATIONS, Workload


def samples(per_second: int, seconds: int, late_ns: int = 0) -> Samples:
    n = per_second * seconds
    due = np.linspace(0, seconds * 10**9, n, endpoint=False).astype(np.int64)
    start = due + late_ns
    small = np.zeros(n, dtype=np.uint8)
    operation = small + OPERATIONS.index("log_metric")
    return Samples(due, start, start + 10**6, operation, small + Outcome.OK, small, small + 1, small.astype(np.uint16))


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


def test_an_operation_belongs_to_the_slice_in_which_it_was_due() -> None:
    """Those of an open loop that were sent after the window, when the server answered again, too."""
    window = Window(0, 4 * 10**9)
    taken = samples(1000, 4, late_ns=2 * 10**9)
    found = cut(taken, window)
    assert len(found) == 4
    work = Workload("w", "log_metric")
    scheduled = [figures(taken, one, work, {}, Arrivals("constant", 1000, 0), as_given=True) for one in found]
    assert [one["schedule"].due for one in scheduled] == [1000] * 4  # type: ignore[attr-defined]
