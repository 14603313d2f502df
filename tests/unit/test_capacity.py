"""The highest rate that meets an objective, why, and where latency takes off."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from made import PERCENTILES, a_cell

from bench.cell import Cell, Schedule
from bench.judge.capacity import capacities, knee
from bench.results import Capacity

PLACE = ("direct", "log_metric", 20)
OBJECTIVE = {PLACE: "p99_ms <= 250"}
SURE, UNSURE = (0.99, 1.0, 1.01, 1.0), (0.6, 1.4, 0.8, 1.2)


def step(
    rate: float, p99: float | None, answered: float = 1.0, rounds: tuple[float, ...] = SURE, **changes: object
) -> Cell:
    """An open loop of 8 s at this rate; ``answered``: the share of what was due."""
    schedule = Schedule(
        arrivals="poisson", rate=rate, due=round(8 * rate), skipped=0, lag_ms=PERCENTILES, own_lag_ms=PERCENTILES
    )
    values = [None if p99 is None else p99 * each for each in rounds]
    return a_cell(
        **{
            "load": f"{rate:g}/s",
            "schedule": schedule,
            "seconds": 8.0,
            "ops_per_s": answered * round(8 * rate) / 8,
            "per_round": {"p99_ms": values},
            **changes,
        }
    )


CLOSED = a_cell(ops_per_s=188.0)


def only(*cells: Cell, objective: str = "p99_ms <= 250") -> Capacity:
    [found] = capacities(cells, {PLACE: objective})
    return found


def test_the_highest_rate_that_meets_it() -> None:
    found = only(step(100, 90), CLOSED, step(169, 410, load="90 %"), step(150, 212, load="80 %"), step(50, 60))
    assert (found.holds, found.holds_load, found.breaks, found.breaks_load) == (150.0, "80 %", 169.0, "90 %")
    assert found.maximum == 188.0
    assert found.reason == "p99 212 ms at 150/s (80 %); p99 410 ms at 169/s (90 %)"
    assert (found.candidate, found.driver, found.workload, found.concurrency) == ("mysql", *PLACE)
    assert found.objective == "p99_ms <= 250"


def test_a_rate_holds_only_if_all_lower_ones_do() -> None:
    found = only(step(50, 60), step(100, 300), step(150, 90))
    assert (found.holds, found.breaks) == (50.0, 100.0)


def test_where_not_even_the_lowest_holds() -> None:
    found = only(step(100, 900), step(50, 400))
    assert (found.holds, found.holds_load, found.breaks, found.breaks_load) == (None, None, 50.0, "50/s")
    assert found.reason == "p99 400 ms at 50/s"


def test_where_every_rate_holds() -> None:
    found = only(step(100, 90), step(50, 60))
    assert (found.holds, found.breaks, found.breaks_load) == (100.0, None, None)
    assert found.reason == "p99 90 ms at 100/s; no higher rate was tried"
    assert found.maximum is None


def test_an_inconclusive_rate_does_not_hold_and_is_told() -> None:
    found = only(step(50, 60), step(100, 240, rounds=UNSURE))
    assert (found.holds, found.breaks) == (50.0, 100.0)
    assert ", inconclusive: 90 % interval" in found.reason


def test_a_rate_that_was_not_answered_does_not_hold_whatever_its_latency() -> None:
    assert only(step(100, 90, answered=0.96)).holds == 100.0
    found = only(step(50, 60), step(100, 90, answered=0.8))
    assert (found.holds, found.breaks) == (50.0, 100.0)
    assert found.reason.endswith("p99 90 ms at 100/s, where 80 % of what was due was answered")
    assert only(step(100, 90, ops_per_s=None)).holds is None


def test_what_counts_is_what_was_due_not_what_the_rate_promised() -> None:
    """Random arrivals may be fewer than their rate says."""
    few = step(10, 60)
    assert few.schedule is not None
    fewer = few.model_copy(update={"schedule": few.schedule.model_copy(update={"due": 70}), "ops_per_s": 70 / 8})
    assert only(fewer).holds == 10.0


def test_skipped_arrivals_leave_the_tail_unproven() -> None:
    few = step(100, 90, answered=0.97)
    assert few.schedule is not None
    found = only(few.model_copy(update={"schedule": few.schedule.model_copy(update={"skipped": 24})}))
    assert found.holds is None
    assert "3.0% of the operations were skipped" in found.reason


def test_a_rate_without_a_figure_is_told_with_its_reason() -> None:
    found = only(step(50, 60), step(100, None))
    assert found.breaks == 100.0
    assert "p99 at 100/s is not known: n too small" in found.reason


def test_a_rate_that_could_not_be_measured_is_told() -> None:
    lost = step(100, 90, schedule=None, load="90 %", per_round={})
    found = only(step(50, 60), lost)
    assert (found.holds, found.breaks) == (50.0, None)
    assert found.reason.endswith("; not measured: 90 %")
    nothing = only(lost)
    assert (nothing.holds, nothing.breaks) == (None, None)
    assert nothing.reason == "no open loop of it was measured; not measured: 90 %"
    assert only(CLOSED).reason == "no open loop of it was measured"


def test_each_candidate_and_place_has_its_own() -> None:
    cells = [step(50, 60), step(50, 600, candidate="sqlite"), step(50, 60, concurrency=5), step(70, 60, workload="w")]
    found = capacities(cells, {**OBJECTIVE, ("direct", "w", 20): "p50_ms <= 9", ("http", "w", 20): "p50_ms <= 9"})
    assert [(one.candidate, one.workload, one.holds) for one in found] == [
        ("mysql", "log_metric", 50.0), ("sqlite", "log_metric", None), ("mysql", "w", None),
    ]  # fmt: skip
    assert capacities(cells, {}) == []


def test_other_objectives_are_told_in_their_own_words() -> None:
    found = only(step(50, 60), objective="max_ms <= 5")
    assert found.reason == "max 9 ms at 50/s"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 500), st.floats(1, 1000), st.floats(0.5, 1.0)),
        min_size=1,
        max_size=8,
        unique_by=lambda one: one[0],
    )
)
def test_what_holds_and_what_breaks_stand_side_by_side(rates: list[tuple[int, float, float]]) -> None:
    found = only(*(step(rate, p99, answered) for rate, p99, answered in rates))
    ordered = sorted(rate for rate, _, _ in rates)
    lower = [rate for rate in ordered if found.holds is not None and rate <= found.holds]
    assert ordered[len(lower) :][:1] == ([] if found.breaks is None else [found.breaks])
    good = {rate for rate, p99, answered in rates if p99 * 1.02 < 250 and answered > 0.96}
    bad = {rate for rate, p99, answered in rates if p99 > 250 or answered < 0.94}
    assert not bad & set(lower)
    assert found.breaks not in good
    assert only(*(step(rate, p99, answered) for rate, p99, answered in rates[::-1])) == found


# The knee


def queue(shares: list[float]) -> list[tuple[float, float]]:
    """Mean response time of a server with random arrivals and work (M/M/1), 1 ms of work."""
    return [(100 * share, 1 / (1 - share)) for share in shares]


def test_the_knee_of_a_queue() -> None:
    shares = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
    found = knee(queue(shares))
    assert found is not None
    assert 0.8 <= shares[found] <= 0.9


def test_the_knee_is_the_last_point_before_latency_takes_off() -> None:
    assert knee([(50, 10), (60, 11), (70, 12), (80, 14), (90, 80), (95, 400)]) == 3
    assert knee([(1, 10), (2, 10), (3, 10), (4, 1000)]) == 2


def test_a_latency_that_never_takes_off_has_no_knee() -> None:
    assert knee([(1, 10), (2, 12), (3, 19.9)]) is None
    assert knee([(1, 10), (2, 5), (3, 1)]) is None
    assert knee([(1, 10)]) is None
    assert knee([]) is None


def test_a_latency_that_climbs_evenly_takes_off_at_once() -> None:
    assert knee([(rate, math.exp(rate)) for rate in range(6)]) == 0
    assert knee([(1, 1), (2, 50), (3, 60)]) == 0


def test_what_comes_after_the_highest_latency_is_no_knee() -> None:
    assert knee([(1, 10), (2, 11), (3, 500), (4, 300)]) == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.1, 1e4), min_size=2, max_size=12))
def test_units_do_not_move_the_knee(latencies: list[float]) -> None:
    points = [(float(n), round(latency, 3)) for n, latency in enumerate(latencies)]
    found = knee(points)
    assert found is None or 0 <= found < len(points) - 1
    if max(latencies) / latencies[0] > 2.01:
        assert found is not None
        assert knee([(10 * rate, 8 * latency) for rate, latency in points]) == found
