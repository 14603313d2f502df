"""Open loops in a whole run: a first pass finds what a store takes, a second holds a share of it; and more rounds."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from stores import carry_out

from bench import samples
from bench.arrivals import due_times
from bench.cell import Cell
from bench.plan import Group, Pace, Trial
from bench.rates import arrivals
from bench.results import Results

pytestmark = pytest.mark.servers
TWINS = """
title = "one store under two names"
reference = "one"
rounds = 2
warmup_s = 0.1
duration_s = 0.6
[prefill]
runs = 5
metrics = 50
[candidates.one]
store = "sqlite"
[candidates.other]
store = "sqlite"
[workloads.w]
kind = "log_metric"
[[criteria]]
name = "whole"
expression = "integrity == 1"
"""
CLOSED = '[[cells]]\nworkload = "w"\nconcurrency = [2]\n'
PACED = CLOSED + "load = [0.5]\nof = 'lowest'\nrate = [40.0]\nlimit_ms = 250.0\nobjective = 'p50_ms <= 1000'\n"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    """Two passes on two stores; their results and the run's folder."""
    out = tmp_path_factory.mktemp("passes")
    return carry_out(TWINS + CLOSED + PACED, {}, out), out / "latest"


def cell(results: Results, candidate: str, load: str) -> Cell:
    (one,) = [one for one in results.cells if (one.candidate, one.load) == (candidate, load)]
    return one


def test_the_rate_is_a_share_of_what_the_slowest_takes(found: tuple[Results, Path]) -> None:
    results, _ = found
    assert results.exit_code == 0, results.reasons
    assert results.run.loop == "closed and open"
    maxima = [cell(results, name, "closed").ops_per_s or 0.0 for name in ("one", "other")]
    for name in ("one", "other"):
        shared, fixed = cell(results, name, "50 %"), cell(results, name, "40/s")
        assert shared.schedule is not None
        assert fixed.schedule is not None
        assert (shared.schedule.share, fixed.schedule.share) == (0.5, None)
        assert shared.schedule.rate == pytest.approx(0.5 * min(maxima))
        assert fixed.schedule.rate == 40.0
        for one in (shared, fixed):
            assert one.schedule is not None
            done = one.ops_ok + one.ops_failed + one.ops_unknown
            assert 0 < one.schedule.due <= done + one.schedule.skipped
            assert one.integrity.wrong == 0
            assert one.integrity.acknowledged == one.integrity.stored > 0


def test_the_samples_hold_the_schedule_and_it_is_everybodys(found: tuple[Results, Path]) -> None:
    """Both stores got the same arrivals in a round; what was due is in the samples to the nanosecond."""
    results, folder = found
    for number in range(2):
        due = []
        for path in sorted((folder / "trials").glob("*-w-c2-40ps*")):
            record = json.loads((path / "trial.json").read_text())
            if record["round"] == number:
                taken = samples.load(path / "samples.parquet")
                due.append(np.sort(taken.scheduled_ns))
                assert (taken.start_ns >= taken.scheduled_ns).all()
        assert len(due) == 2 + any(c.load == "40/s" for c in [results.control] if c is not None)
        pace = Trial(0, number, "", "direct", "w", 2, 0, 0, None, 0, 2, Pace(40.0, limit_ms=250.0))
        schedule = arrivals(pace, results.run.seed)
        assert schedule is not None
        expected = list(islice(due_times(schedule), max(map(len, due))))
        for times in due:
            assert times.tolist() == expected[: len(times)]


def test_the_control_and_the_capacity_are_told(found: tuple[Results, Path]) -> None:
    results, _ = found
    assert results.control is not None
    assert (results.control.candidate, results.control.load) == ("other", "closed")
    assert {one.field for one in results.control.comparisons} >= {"metrics_per_s"}
    maxima = {one.candidate: one.maximum for one in results.capacities}
    assert maxima == {name: cell(results, name, "closed").ops_per_s for name in ("one", "other")}
    assert len(results.machine.spin_ms) == len(results.machine.sync_ms) == 4  # before each round of each pass
    assert results.conditions


UNDECIDED = (
    TWINS
    + CLOSED
    + '[[criteria]]\nname = "as fast"\nexpression = "metrics_per_s >= 1 * reference"\n'
    + '[[criteria]]\nname = "not faster"\nexpression = "metrics_per_s <= 1 * reference"\n'
)


@pytest.mark.slow
def test_rounds_are_added_until_all_is_decided_or_the_last_look_is_over(tmp_path: Path) -> None:
    """Of two equal stores it can't be decided which is faster: both directions can't hold, so one look won't do."""
    results = carry_out(UNDECIDED, {}, tmp_path, budget_s=600.0)
    rounds = {one.rounds for one in results.cells}
    assert len(rounds) == 1
    assert results.run.looks == [2, 4, 6, 8]
    assert rounds <= {4, 6, 8} or all(one.outcome != "inconclusive" for one in results.criteria if not one.reference)
    assert results.run.trials_done == results.run.trials_planned == 3 * rounds.pop()
    assert results.control is not None
    assert results.control.comparisons[0].rounds == (results.cells[0].rounds,) * 2


@pytest.mark.slow
def test_a_budget_ends_the_adding_and_says_so(tmp_path: Path) -> None:
    results = carry_out(UNDECIDED, {}, tmp_path, budget_s=0.001)
    assert {one.rounds for one in results.cells} == {2}
    assert any("time budget" in note for note in results.notes)
    assert results.verdict == "inconclusive"
    assert Group("direct", "w", 2, "closed") in {
        Group(one.driver, one.workload, one.concurrency, one.load) for one in results.cells
    }
