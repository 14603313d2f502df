"""A step of the clock is told once and never made up; our own CPU time is not that of others; probes leave nothing."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import machine
from bench.machine import Clock, Watch
from bench.results import Machine
from bench.trial_record import TrialRecord

MS = 1_000_000
UP_NS = 10**15


class Time:
    """Two clocks that are read one after the other; ``wall`` may run fast by ``drift`` and be set."""

    def __init__(self, drift: float = 0.0, reading_ns: int = 100) -> None:
        self.now, self.ahead, self._drift, self._reading = 0, 0, drift, reading_ns

    def wall(self) -> int:
        return 1_700_000_000 * 10**9 + self._tick() + self.ahead + int(self.now * self._drift)

    def steady(self) -> int:
        return UP_NS + self._tick()

    def _tick(self) -> int:
        self.now += self._reading
        return self.now


@given(
    st.lists(st.tuples(st.integers(1, 10**12), st.integers(-(10**13), 10**13)), min_size=1, max_size=10),
    st.integers(1, 10**6),
)
def test_each_step_is_told_once(intervals: list[tuple[int, int]], reading_ns: int) -> None:
    """``intervals`` are (how long one lasts, the step in it) in ns; readings take up to a millisecond."""
    time = Time(reading_ns=reading_ns)
    clock = Clock(time.wall, time.steady)
    for lasts, step in intervals:
        time.now += lasts
        time.ahead += step
        told = clock.step_ms()
        allowed = 500e-6 * (lasts + 40 * reading_ns) + 4 * reading_ns
        if abs(step) > allowed + 2 * reading_ns:
            assert told == pytest.approx(abs(step) / MS, abs=3 * reading_ns / MS)
        else:
            assert told == 0.0 or told * MS >= abs(step) - 2 * reading_ns
        assert clock.step_ms() == 0.0


@given(st.floats(-499e-6, 499e-6), st.integers(0, 10**13))
def test_what_ntp_slews_is_no_step(drift: float, lasts: int) -> None:
    time = Time(drift)
    clock = Clock(time.wall, time.steady)
    time.now += lasts
    assert clock.step_ms() == 0.0


def test_a_suspended_machine_shows_as_a_step() -> None:
    time = Time()
    clock = Clock(time.wall, time.steady)
    time.ahead += 3600 * 10**9  # the wall clock went on, the steady one stood still
    assert clock.step_ms() == pytest.approx(3_600_000)


def test_the_real_clocks_do_not_step_within_a_test() -> None:
    assert Clock().step_ms() == 0.0


def test_a_synced_write_leaves_nothing(tmp_path: Path) -> None:
    assert machine.sync_ms(tmp_path) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        machine.sync_ms(tmp_path / "none")


def test_both_are_measured_beside_the_event_loop(tmp_path: Path) -> None:
    spin, sync = asyncio.run(machine.measure(tmp_path))
    assert min(spin, sync) > 0
    assert list(tmp_path.iterdir()) == []


def a_record(steal: float | None, others: float | None, step: float) -> TrialRecord:
    return TrialRecord(
        number=1, round=0, candidate="sqlite", store="sqlite", driver="direct", workload="w", concurrency=1,
        started="", steal_share=steal, others_share=others, clock_step_ms=step,
    )  # fmt: skip


def test_the_worst_trial_of_a_hypervisor_and_a_clock_the_median_of_others() -> None:
    records = [a_record(0.1, 0.9, 0.0), a_record(None, None, 7.0), a_record(0.2, 0.1, 3.0), a_record(0.0, 0.2, 0.0)]
    assert machine.summary([(3.0, 0.1), (4.0, 0.2)], records) == Machine(
        spin_ms=[3.0, 4.0], sync_ms=[0.1, 0.2], steal_share=0.2, others_share=0.2, clock_step_ms=7.0
    )
    assert machine.summary([], [a_record(None, None, 0.0)]) == machine.summary([], []) == Machine()


def test_a_share_is_never_beyond_all() -> None:
    assert all(share is None or 0 <= share <= 1 for share in Watch().shares())


def test_the_time_of_a_child_that_has_ended_is_ours() -> None:
    """Its own and its child's: both are waited for, so both count."""
    burn = "import time\nwhile time.process_time() < 0.1: pass"
    nested = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}], check=True)\n{burn}"
    before = machine.our_cpu_s()
    subprocess.run([sys.executable, "-c", nested], check=True)
    assert machine.our_cpu_s() - before >= 0.15  # counters are of 10 ms each
