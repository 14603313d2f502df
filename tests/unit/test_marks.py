"""Honesty marks: each is planted alone in results in which all is well, and found alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import LATENCIES, PERCENTILES, a_cell, a_criterion, a_result

from bench.cell import Cell, Generator, Latency, Percentiles, Schedule
from bench.judge.marks import marks
from bench.results import Candidate, Change, Comparison, Control, Machine, Results


def a_candidate(name: str, **changes: object) -> Candidate:
    candidate = Candidate(
        name=name,
        store=name,
        reference=name == "sqlite",
        source="ours",
        server_version="8",
        settings={},
        durable=True,
        durability="synced at each commit",
        prefill="empty",
        tracking={"server": "MLflow 3, private", "workers": "4"},
        schema_revision="abc",
        schema_current=True,
        schema_missing=[],
        theirs=False,
    )
    return candidate.model_copy(update=changes)


QUIET = Machine(spin_ms=[1.0], sync_ms=[1.0], steal_share=0.01, others_share=0.10, clock_step_ms=-50.0)


def result(*cells: Cell, **changes: object) -> Results:
    """Ten rounds on a quiet machine, two candidates, one gating criterion a cell that holds."""
    made = cells or (cell(), cell(candidate="sqlite", reference=True))
    criteria = [criterion_of(each) for each in made]
    whole = {
        "cells": list(made), "criteria": criteria, "machine": QUIET,
        "candidates": [a_candidate("mysql"), a_candidate("sqlite")],
    }  # fmt: skip
    return a_result(**{**whole, **changes})


def cell(**changes: object) -> Cell:
    return a_cell(**{"rounds": 10, **changes})


def criterion_of(one: Cell, **changes: object):  # type: ignore[no-untyped-def]
    place = {name: getattr(one, name) for name in ("candidate", "driver", "workload", "concurrency", "load")}
    return a_criterion(**{**place, "reference": one.reference, "noise": 0.10, **changes})


def told(results: Results) -> list[tuple[str, str]]:
    return [(mark.kind, mark.text) for mark in marks(results)]


def test_where_all_is_well_there_is_nothing_to_know() -> None:
    assert told(result()) == []
    assert told(a_result(cells=[], criteria=[], candidates=[])) == []


# The load generator


def test_a_saturated_generator() -> None:
    busy = cell(generator=Generator(cpu_share=0.9, saturated=True, reason="it used 90 % of a core"))
    [(kind, text)] = told(result(cell(), busy))
    assert kind == "generator"
    assert text.startswith("the load generator may have been what limits")
    assert text.endswith("in 1 of 2 cells, first mysql log_metric at 20, direct: it used 90 % of a core")
    assert told(result(cell(generator=Generator(saturated=True))))[0][1].endswith("direct: it was saturated")


@pytest.mark.parametrize(
    ("lag", "p99", "seen"), [(5.0, 4.0, False), (5.1, 4.0, True), (9.9, 99.0, False), (10.1, 99.0, True)]
)
def test_an_event_loop_that_lags(lag: float, p99: float, seen: bool) -> None:
    """By 5 ms, and by a tenth of the p99 that is reported."""
    response = PERCENTILES.model_copy(update={"p99": p99})
    one = cell(
        generator=Generator(cpu_share=0.4, loop_lag_p99_ms=lag), latency_ms=Latency(service=response, response=response)
    )
    assert [kind for kind, _ in told(result(one))] == ["generator"] * seen


def test_where_there_is_no_p99_the_highest_latency_counts() -> None:
    few = Percentiles(p50=1.0, max=100.0, n=20)
    one = cell(generator=Generator(loop_lag_p99_ms=9.0), latency_ms=Latency(service=few, response=few))
    assert told(result(one)) == []
    nothing = Latency(service=Percentiles(), response=Percentiles())
    assert told(result(cell(generator=Generator(loop_lag_p99_ms=9.0), latency_ms=nothing)))[0][0] == "generator"


def opened(own: float | None, p50: float = 10.0, **changes: object) -> Cell:
    lag = Percentiles(p50=0.1, p99=own, max=own, n=1000)
    schedule = Schedule(arrivals="poisson", rate=150.0, due=300, skipped=0, lag_ms=PERCENTILES, own_lag_ms=lag)
    response = PERCENTILES.model_copy(update={"p50": p50})
    latency = Latency(service=response, response=response)
    return cell(**{"load": "80 %", "schedule": schedule, "latency_ms": latency, **changes})


@pytest.mark.parametrize(("own", "p50", "seen"), [
    (1.0, 10.0, False), (1.1, 10.0, True), (4.9, 100.0, False), (5.1, 100.0, True), (None, 1.0, False),
])  # fmt: skip
def test_a_generator_that_sends_late(own: float | None, p50: float, seen: bool) -> None:
    """By 1 ms, and by a twentieth of the median latency."""
    assert [kind for kind, _ in told(result(opened(own, p50)))] == ["schedule"] * seen


def test_a_late_generator_is_told_with_its_lag() -> None:
    [(_, text)] = told(result(opened(0.1), opened(7.25, workload="w"), opened(9.0, workload="x")))
    assert text == (
        "the load generator sent operations late that it could have sent, "
        "in 2 of 3 cells, first mysql w at 20, direct, 80 %: 7.2 ms at p99"
    )


# The machine


@pytest.mark.parametrize(("name", "value", "words"), [
    ("steal_share", 0.02, "a hypervisor took 2 % of the CPU time in the worst trial"),
    ("others_share", 0.25, "other programs used 25 % of the CPU time"),
])  # fmt: skip
def test_a_machine_that_others_use(name: str, value: float, words: str) -> None:
    assert told(result(machine=QUIET.model_copy(update={name: value}))) == [("noisy", words)]
    assert told(result(machine=QUIET.model_copy(update={name: None}))) == []


def test_rounds_that_differ() -> None:
    cells = [cell(workload=name) for name in "abc"]
    criteria = [criterion_of(one, noise=noise) for one, noise in zip(cells, (0.05, 0.11, 0.3), strict=True)]
    [(kind, text)] = told(result(*cells, criteria=criteria))
    assert kind == "noisy"
    assert text == "rounds differ by more than 10 % in 2 of 3 cells, most in mysql c at 20, direct: p99_ms by 30 %"


def test_noise_in_what_does_not_decide_is_not_told() -> None:
    loud = {"noise": 0.5}
    store, reference = cell(), cell(candidate="sqlite", reference=True)
    quiet = criterion_of(store)
    for other in (criterion_of(store, gating=False, **loud), criterion_of(reference, **loud)):
        assert told(result(store, reference, criteria=[quiet, other])) == []
    alone = result(reference, criteria=[criterion_of(reference, **loud)])
    assert [kind for kind, _ in told(alone)] == ["noisy"]


def comparison(outcome: Change, field: str = "p99_ms") -> Comparison:
    return Comparison(
        candidate="mysql", driver="direct", workload="w", concurrency=20, field=field, unit="ms", ours=1.0, theirs=1.0,
        rounds=(10, 10), ratio=1.06, interval=(1.02, 1.1), confidence=0.95, p=0.01, outcome=outcome, reason="",
    )  # fmt: skip


def test_a_control_that_differs_from_itself() -> None:
    def control(*outcomes: Change) -> Results:
        seen = [comparison(one) for one in outcomes]
        return result(
            control=Control(candidate="mysql", driver="direct", workload="w", concurrency=20, comparisons=seen)
        )

    assert told(control("same", "unknown")) == []
    for outcome in ("better", "worse"):
        [(kind, text)] = told(control("same", outcome))  # type: ignore[arg-type]
        assert kind == "control"
        assert text.endswith(f"in mysql w at 20, direct: p99_ms {outcome} (ratio 1.06)")


@pytest.mark.parametrize("step", [51.0, -51.0, 3_600_000.0])
def test_a_clock_that_stepped(step: float) -> None:
    [(kind, text)] = told(result(machine=QUIET.model_copy(update={"clock_step_ms": step})))
    assert (kind, text) == ("clock", f"the wall clock stepped by {step:.0f} ms during a trial")


# The run


def test_few_rounds() -> None:
    [(kind, text)] = told(result(cell(), cell(workload="w", rounds=5), cell(workload="x", rounds=6)))
    assert (kind, text) == ("rounds", "fewer than 6 rounds, in 1 of 3 cells, first mysql w at 20, direct: 5")
    [(_, text)] = told(result(cell(rounds=1)))
    assert text == "fewer than 6 rounds, in 1 of 1 cell, mysql log_metric at 20, direct: 1"


def test_few_rounds_of_what_does_not_decide_are_no_matter() -> None:
    few = cell(workload="w", rounds=2)
    assert told(result(cell(), few, criteria=[criterion_of(cell()), criterion_of(few, gating=False)])) == []


def test_criteria_that_more_rounds_would_decide() -> None:
    one = cell()
    open_one = criterion_of(one, outcome="inconclusive", rounds_needed=14, name="write tail")
    [(kind, text)] = told(result(one, criteria=[open_one]))
    assert kind == "rounds"
    assert text == (
        "1 gating criterion is undecided for lack of rounds, first write tail (mysql log_metric at 20, direct): "
        "about 14 in all would do"
    )
    assert told(result(one, criteria=[open_one] * 3))[0][1].startswith("3 gating criteria are undecided")
    hopeless = criterion_of(one, outcome="inconclusive", rounds_needed=None)
    assert told(result(one, criteria=[hopeless])) == []


def test_rounds_without_a_steady_part() -> None:
    [(kind, text)] = told(result(cell(), cell(workload="w", unsteady=2)))
    assert kind == "unsteady"
    assert text == "no steady part was found, in 1 of 2 cells, first mysql w at 20, direct: 2 of 10 rounds"


# The candidates


def test_a_store_that_is_not_durable() -> None:
    loose = a_candidate("mysql", durable=False, durability="flushed once a second")
    assert told(result(candidates=[loose, a_candidate("sqlite", durable=None)])) == [
        ("durability", "mysql: not durable: flushed once a second")
    ]


def test_a_schema_that_is_not_ours() -> None:
    old = a_candidate("mysql", schema_revision="abd", schema_current=False)
    found = told(result(candidates=[old, a_candidate("sqlite")]))
    assert found == [
        ("versions", "mysql: its schema (abd) is not the one that our MLflow wants"),
        ("versions", "candidates differ in their schema's revision: mysql abd, sqlite abc"),
    ]
    unknown = a_candidate("mysql", schema_revision=None, schema_current=None)
    assert told(result(candidates=[unknown, a_candidate("sqlite")])) == []


@pytest.mark.parametrize("key", ["server", "workers"])
def test_tracking_servers_that_differ(key: str) -> None:
    other = a_candidate("sqlite")
    ours = a_candidate("mysql", tracking={**other.tracking, key: "1"})
    [(kind, text)] = told(result(candidates=[ours, other]))
    assert kind == "versions"
    assert text == f"candidates differ in the tracking server's {key}: mysql 1, sqlite {other.tracking[key]}"


def test_a_candidate_without_a_tracking_server_differs_in_nothing() -> None:
    assert told(result(candidates=[a_candidate("mysql", tracking={}), a_candidate("sqlite")])) == []


# All of them


def everything() -> Results:
    one = opened(50.0, generator=Generator(saturated=True), rounds=2, unsteady=1)
    return result(
        one,
        criteria=[criterion_of(one, noise=0.4, outcome="inconclusive", rounds_needed=40)],
        machine=QUIET.model_copy(update={"steal_share": 0.2, "clock_step_ms": 900.0}),
        control=Control(
            candidate="mysql", driver="direct", workload="w", concurrency=20, comparisons=[comparison("worse")]
        ),
        candidates=[a_candidate("mysql", durable=False), a_candidate("sqlite", schema_current=False)],
    )


def test_what_weighs_most_stands_first() -> None:
    kinds = [kind for kind, _ in told(everything())]
    assert list(dict.fromkeys(kinds)) == [
        "generator", "schedule", "noisy", "control", "rounds", "clock", "durability", "versions", "unsteady",
    ]  # fmt: skip
    assert len(kinds) == 11


def test_nothing_is_told_twice() -> None:
    twice = [a_candidate("mysql", durable=False)] * 2
    assert len(told(result(candidates=twice))) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            cell,
            workload=st.sampled_from("abcdef"),
            rounds=st.integers(1, 12),
            unsteady=st.integers(0, 3),
            generator=st.builds(Generator, saturated=st.booleans()),
            latency_ms=st.just(LATENCIES),
        ),
        max_size=12,
    )
)
def test_marks_stay_few_however_many_cells(cells: list[Cell]) -> None:
    found = told(a_result(cells=cells, criteria=[criterion_of(one) for one in cells], machine=QUIET))
    assert len(found) == len(set(found)) <= 3
    kinds = {kind for kind, _ in found}
    assert ("generator" in kinds) == any(one.generator.saturated for one in cells)
    assert ("unsteady" in kinds) == any(one.unsteady for one in cells)
    assert ("rounds" in kinds) == any(one.rounds < 6 for one in cells)
