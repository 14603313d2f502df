"""The self-test finds a broken recorder and a coarse histogram, and lets sound ones pass."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench import histogram, self_checks
from bench.identity import I64
from bench.samples import Recorder
from bench.self_checks import faults, recording

ROWS = 3_000
Words = tuple[int, int, int, int]


def spoiling(spoil: Callable[[int, Words], Words | None]) -> Callable[[Path], Recorder]:
    """A recorder that stores what ``spoil`` makes of its n-th sample, or nothing."""

    def make(path: Path) -> Recorder:
        recorder = Recorder(path)
        sound, seen = recorder.record, iter(range(10**9))

        def record(words: Words) -> None:
            if (stored := spoil(next(seen), words)) is not None:
                sound(stored)

        recorder.record = record
        return recorder

    return make


def test_the_recorder_is_right_to_the_ns(tmp_path: Path) -> None:
    found = recording(tmp_path)
    assert (found.error_ns, found.wrong) == (0, 0)
    assert found.n > 100_000  # more than a row group
    assert faults(found, 0.0) == []


@pytest.mark.parametrize(
    ("spoil", "error_ns", "wrong"),
    [
        pytest.param(lambda n, w: (w[0], w[1], w[2] + 1, w[3]), 1, ROWS, id="each end is off by one ns"),
        pytest.param(lambda n, w: (w[0], w[1] - (n == 7), w[2], w[3]), 1, 1, id="one start is off by one ns"),
        pytest.param(lambda n, w: (w[0] + 2 * (n == 9), *w[1:]), 2, 1, id="one due time is off by two"),
        pytest.param(lambda n, w: (*w[:3], w[3] ^ 1 << 47), 0, ROWS, id="the writer's highest bit"),
        pytest.param(lambda n, w: (*w[:2], int(np.float32(w[2])), w[3]), None, None, id="ends as 32-bit floats"),
        pytest.param(lambda n, w: None if n == ROWS - 1 else w, 0, ROWS, id="the last sample is lost"),
    ],
)
def test_a_recorder_that_errs_is_found(
    tmp_path: Path, spoil: Callable[[int, Words], Words | None], error_ns: int | None, wrong: int | None
) -> None:
    found = recording(tmp_path, spoiling(spoil), ROWS)
    assert found.n == ROWS
    assert found.wrong == wrong if wrong is not None else found.wrong > ROWS / 2
    assert found.error_ns == error_ns if error_ns is not None else found.error_ns > 1_000
    (fault,) = faults(found, 0.0)
    assert "recorder" in fault


def test_the_histogram_keeps_its_stated_error(tmp_path: Path) -> None:
    off = self_checks.histogram_error()
    assert 0.001 < off <= histogram.ERROR * (1 + 1e-9)
    assert faults(recording(tmp_path, rows=ROWS), off) == []


@pytest.mark.parametrize(
    "buckets",
    [
        pytest.param(lambda ns: histogram.buckets(ns) // 2 * 2, id="twice as coarse"),
        pytest.param(lambda ns: histogram.buckets(ns) + 1, id="shifted by one"),
        pytest.param(lambda ns: histogram.buckets(ns // 1_000_000 * 1_000_000), id="whole milliseconds"),
    ],
)
def test_a_histogram_that_is_too_coarse_is_found(tmp_path: Path, buckets: Callable[[I64], I64]) -> None:
    off = self_checks.histogram_error(buckets)
    assert off > histogram.ERROR
    (fault,) = faults(recording(tmp_path, rows=ROWS), off)
    assert "histogram" in fault


def test_the_clock_has_a_step() -> None:
    found = self_checks.timer()
    assert found.step_ns >= 1
    assert found.call_ns > 0


def test_each_arrival_of_the_pacer_is_a_wake_up() -> None:
    found = self_checks.pacer_wakeups(0.05)
    assert found.n == 0.05 * self_checks.WAKE_RATE
    assert 0 <= found.median_ms <= found.p99_ms


def test_the_kernel_wakes_nobody_too_early() -> None:
    found = self_checks.kernel_wakeups(0.05)
    assert found is None or (found.n == 50 and 0 <= found.median_ms <= found.p99_ms)
