"""One run against an earlier one: what differs is refused, and what the machine may have done is no regression."""

import math

import numpy as np
import pytest
from made import a_cell, a_result

from bench.cell import Cell, Percentiles, Schedule
from bench.errors import BadInput
from bench.judge.regression import machine_moved, regression
from bench.results import Change, Machine, Results

WOBBLE = [1.0, 1.02, 0.99, 1.01, 1.0, 0.98, 1.01, 0.99, 1.0, 1.0]
STEADY = Machine(spin_ms=WOBBLE, sync_ms=WOBBLE)
TEN = list(reversed(WOBBLE))


def values(factor: float, rounds: int = 10) -> list[float]:
    return [100 * factor * noise for noise in TEN[:rounds]]


def store(name: str, rate: float, tail: float | None = None, **changes: object) -> Cell:
    per_round = {"metrics_per_s": values(rate), "ops_per_s": values(rate), "p99_ms": values(tail or 1 / rate)}
    return a_cell(**{"candidate": name, "reference": name == "sqlite", "per_round": per_round, **changes})


def run(*cells: Cell, machine: Machine = STEADY, **conditions: str) -> Results:
    return a_result(cells=list(cells), machine=machine, conditions=conditions)


BASE = run(store("sqlite", 1.0), store("mysql", 2.0))


def outcomes(base: Results, candidate: Results) -> dict[tuple[str, str], Change]:
    return {(one.candidate, one.field): one.outcome for one in regression(base, candidate).comparisons}


def test_a_store_that_got_slower_is_worse_and_the_other_the_same() -> None:
    found = regression(BASE, run(store("sqlite", 1.0), store("mysql", 1.4)))
    assert {(one.candidate, one.field): one.outcome for one in found.comparisons} == {
        ("sqlite", "metrics_per_s"): "same",
        ("sqlite", "p99_ms"): "same",
        ("mysql", "metrics_per_s"): "worse",
        ("mysql", "p99_ms"): "worse",
    }
    assert found.outcome == "worse"
    worse = found.comparisons[2]
    assert worse.ratio == pytest.approx(0.7)
    assert (worse.rounds, worse.confidence) == ((10, 10), 0.95)
    assert "30 % lower" in worse.reason
    assert "30 % lower relative to the reference" in worse.reason
    assert "2 worse, 2 same; first worse: metrics_per_s of mysql log_metric (direct) at 20: 30 % lower" in found.reason


def test_the_other_way_round_it_is_better() -> None:
    found = regression(run(store("sqlite", 1.0), store("mysql", 1.4)), BASE)
    assert found.outcome == "better"
    assert found.comparisons[2].ratio == pytest.approx(2.0 / 1.4)


def test_a_run_against_itself_is_the_same() -> None:
    found = regression(BASE, BASE)
    assert (found.outcome, found.missing, found.unlike) == ("same", [], {})
    assert all(one.ratio == pytest.approx(1.0) for one in found.comparisons)
    assert 0 < found.floor < 0.02


def test_conditions_that_differ_are_refused_in_one_line() -> None:
    base, candidate = (
        run(cores="2", cpu="a\nb", disk="y", mysql="8.4", kernel="6"),
        run(cores="4", cpu="c", disk="x" * 200, mysql="9"),
    )
    with pytest.raises(BadInput) as caught:
        regression(base, candidate)
    text = str(caught.value)
    assert "cores '2' then, '4' now; cpu 'a b' then, 'c' now; disk 'y' then, 'xxx" in text
    assert "; and 2 more; " in text
    assert "--anyway" in text
    assert "\n" not in text
    assert len(text) < 400
    found = regression(base, candidate, anyway=True)
    assert found.unlike["cores"] == ("2", "4")
    assert found.unlike["kernel"] == ("6", "")
    assert sorted(found.unlike) == ["cores", "cpu", "disk", "kernel", "mysql"]
    assert regression(run(cores="2"), run(cores="2")).unlike == {}


def test_comparing_anyway_is_told() -> None:
    base = run(store("sqlite", 1.0), cores="2")
    found = regression(base, run(store("sqlite", 1.0), cores="4"), anyway=True)
    assert "the runs were not measured alike in cores" in found.reason


def test_cells_that_only_one_run_has_are_named() -> None:
    base = run(store("sqlite", 1.0), store("mysql", 1.0, load="80 %"))
    found = regression(base, run(store("sqlite", 1.0), store("pg", 1.0)))
    assert [one.split(":")[0] for one in found.missing] == [
        "mysql log_metric (direct) at 20, 80 %",
        "pg log_metric (direct) at 20",
    ]
    assert {one.candidate for one in found.comparisons} == {"sqlite"}
    nothing = regression(run(store("a", 1.0)), run(store("b", 1.0)))
    assert (nothing.outcome, nothing.reason) == ("unknown", "the runs have no cell in common")


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_too_few_rounds_tell_nothing(rounds: int) -> None:
    few = {"metrics_per_s": values(1.0, rounds)}
    base = run(a_cell(candidate="sqlite", per_round=few))
    found = regression(base, run(a_cell(candidate="sqlite", per_round={"metrics_per_s": values(0.1)})))
    assert [(one.outcome, one.p, one.interval) for one in found.comparisons] == [("unknown", None, None)]
    assert found.comparisons[0].reason == f"10 and {rounds} rounds are too few; 4 of each run is the least"


def test_a_lost_round_tells_nothing() -> None:
    hole = a_cell(candidate="sqlite", per_round={"metrics_per_s": [None, *values(0.1)[1:]]})
    found = regression(BASE, run(hole))
    assert found.comparisons[0].outcome == "unknown"
    assert found.comparisons[0].reason == "a round without a value leaves no interval"


SLOW = Machine(spin_ms=[1.3 * value for value in WOBBLE], sync_ms=WOBBLE)
SLOW_DISK = Machine(spin_ms=WOBBLE, sync_ms=[1.3 * value for value in WOBBLE])
SHARED = STEADY.model_copy(update={"others_share": 0.25, "steal_share": 0.02})
ALONE = STEADY.model_copy(update={"others_share": 0.01, "steal_share": 0.0})


@pytest.mark.parametrize(("then", "now"), [(STEADY, SLOW), (STEADY, SLOW_DISK), (ALONE, SHARED), (SLOW, STEADY)])
def test_what_the_machine_itself_explains_is_no_regression(then: Machine, now: Machine) -> None:
    slower, faster = (store("sqlite", 0.78), store("mysql", 1.5)), (store("sqlite", 1.0), store("mysql", 2.0))
    base, candidate = (run(*cells, machine=machine) for cells, machine in ((faster, then), (slower, now)))
    if then is SLOW:
        base, candidate = run(*slower, machine=then), run(*faster, machine=now)
    found = regression(base, candidate)
    assert {one.outcome for one in found.comparisons} == {"unknown"}
    assert found.floor >= math.log(1.29)
    assert "the machine alone may explain" in found.comparisons[0].reason
    assert "may differ by" in found.reason
    assert "every cell got" in found.reason


def test_a_machine_that_measured_nothing_of_itself_is_told() -> None:
    bare = run(store("sqlite", 1.0), machine=Machine())
    found = regression(bare, BASE)
    assert found.floor == 0.0
    assert "how far the machine itself moved is not known" in found.reason


def test_the_floor_is_the_far_end_of_what_the_machine_may_have_done_within_reason() -> None:
    moved = machine_moved(STEADY, SLOW)
    assert moved.seen == pytest.approx(math.log(1.3))
    assert math.log(1.3) < moved.floor < math.log(1.35)
    assert moved.why == "the machine's speed"
    assert machine_moved(SLOW, STEADY).floor == pytest.approx(moved.floor)
    rng = np.random.default_rng(2)
    wild = Machine(spin_ms=rng.lognormal(0, 2, 10).tolist(), sync_ms=WOBBLE)
    capped = machine_moved(STEADY, wild)
    assert capped.floor == pytest.approx(max(capped.seen, math.log(1.5)))
    unknown = SHARED.model_copy(update={"steal_share": None})
    assert machine_moved(ALONE, unknown).why != "the CPU time that others left to us"


def test_a_reference_that_changed_does_not_make_the_others_different() -> None:
    found = outcomes(BASE, run(store("sqlite", 1.6), store("mysql", 2.0)))
    assert found["sqlite", "metrics_per_s"] == "better"
    assert found["mysql", "metrics_per_s"] not in ("better", "worse")


def test_what_changed_for_all_is_told_as_the_machines_or_the_harness() -> None:
    found = regression(BASE, run(store("sqlite", 0.5), store("mysql", 1.0)))
    assert found.outcome == "worse"
    assert "every cell got worse, by a factor of 2.00: the machine or the harness rather than one store" in found.reason
    one = regression(run(store("mysql", 1.0)), run(store("mysql", 0.5)))
    assert "every cell" not in one.reason
    apart = regression(BASE, run(store("sqlite", 0.5), store("mysql", 3.0)))
    assert "every cell" not in apart.reason


NONE = Percentiles()


def offered(tail: float, rate: float, share: float | None) -> Cell:
    schedule = Schedule(
        arrivals="poisson", rate=rate, share=share, due=1000, skipped=0, limit_ms=None, lag_ms=NONE, own_lag_ms=NONE
    )
    load = "80 %" if share else f"{rate:g}/s"
    return store("mysql", 1.0, tail, load=load, schedule=schedule, reference=False)


@pytest.mark.parametrize("share", [0.8, None])
def test_a_latency_near_the_maximum_may_move_by_more_than_the_machine(share: float | None) -> None:
    """At 80 % of the maximum a machine 4 % slower may make waiting 20 % longer; threefold it does not."""
    loop = store("mysql", 1.0, ops_per_s=100.0)
    tail = [
        {
            (one.load, one.outcome)
            for one in regression(
                run(loop, offered(1.0, 80.0, share)), run(loop, offered(factor, 80.0, share))
            ).comparisons
            if one.load != "closed"
        }
        for factor in (1.08, 3.0)
    ]
    label = "80 %" if share else "80/s"
    assert tail == [{(label, "unknown")}, {(label, "worse")}]


def test_an_open_loop_is_compared_by_latency_alone() -> None:
    cells = run(store("mysql", 1.0, ops_per_s=100.0), offered(1.0, 80.0, 0.8))
    found = [one.field for one in regression(cells, cells).comparisons if one.load != "closed"]
    assert found == ["p99_ms"]


def paced(name: str, rate: float, tail: float, **changes: object) -> Cell:
    lag = Percentiles()
    schedule = Schedule(arrivals="poisson", rate=rate, share=0.8, due=400, skipped=0, lag_ms=lag, own_lag_ms=lag)
    return store(name, 1.0, tail, load="80 %", schedule=schedule, **changes)


def test_tails_at_other_rates_are_not_compared() -> None:
    """Its rate is a share of what another store takes, and that store changed."""
    base, now = (run(store("mysql", 2.0), paced("mysql", rate, tail)) for rate, tail in ((60.0, 1.0), (200.0, 4.0)))
    found = regression(base, now)
    assert outcomes(base, now)["mysql", "p99_ms"] == "unknown"
    assert found.outcome != "worse"
    assert any("offered 60/s then, 200/s now" in one.reason for one in found.comparisons)


def test_a_lost_round_of_the_reference_widens_what_the_machine_explains() -> None:
    moved = Machine(spin_ms=[1.1 * one for one in NOISY], sync_ms=WOBBLE)
    base = run(store("sqlite", 1.0), store("mysql", 2.0), machine=Machine(spin_ms=NOISY, sync_ms=WOBBLE))
    slower = run(store("sqlite", 0.88), store("mysql", 1.76), machine=moved)
    assert "worse" not in outcomes(base, slower).values()
    gone = slower.cells[0].per_round
    holed = slower.cells[0].model_copy(update={"per_round": {k: [None, *v[1:]] for k, v in gone.items()}})
    assert "worse" not in outcomes(base, slower.model_copy(update={"cells": [holed, slower.cells[1]]})).values()


NOISY = [1.0, 1.2, 0.85, 1.1, 0.9, 1.15, 0.95, 1.0, 0.8, 1.1]
