"""Which rate an open loop holds, how long it is measured, and that all candidates get the same arrivals."""

from dataclasses import replace
from itertools import islice

import pytest
from made_trials import a_record, a_trial

from bench.arrivals import due_times
from bench.plan import Pace
from bench.rates import arrivals, duration_s, paced
from bench.workload import Workload

OWN = a_trial(candidate="b", pace=Pace(None, 0.8))
LOWEST = replace(OWN, pace=Pace(None, 0.8, "lowest"))
RECORDS = [
    a_record(candidate="a", ops_per_s=50.0),
    a_record(candidate="b", ops_per_s=100.0),
    a_record(candidate="b", ops_per_s=400.0),
]


def rate(found: Pace | None) -> float | None:
    assert found is not None
    return found.rate


def test_a_share_is_of_the_geometric_mean_of_the_closed_loops_rounds() -> None:
    assert rate(paced(OWN, RECORDS).pace) == pytest.approx(0.8 * 200.0)
    assert rate(paced(LOWEST, RECORDS).pace) == pytest.approx(0.8 * 50.0)
    assert paced(OWN, RECORDS).load == OWN.load == "80 %"


def test_what_is_no_closed_loop_of_the_cell_gives_no_maximum() -> None:
    others = [
        a_record(candidate="b", ops_per_s=9.0, control=True),
        a_record(candidate="b", ops_per_s=9.0, concurrency=7),
        a_record(candidate="b", ops_per_s=9.0, workload="other"),
        a_record(candidate="b", ops_per_s=9.0, driver="http"),
        a_record(candidate="b", ops_per_s=None),
        a_record(candidate="b", ops_per_s=9.0, load="20 %"),
    ]
    assert rate(paced(OWN, [*RECORDS, *others]).pace) == pytest.approx(160.0)
    unknown = paced(OWN, others)
    assert rate(unknown.pace) is None
    with pytest.raises(ValueError, match="no maximum to hold 80 % of"):
        arrivals(unknown, 1)


def test_absolute_rates_and_closed_loops_stay_as_they_are() -> None:
    assert paced(a_trial(), RECORDS) == a_trial()
    fixed = a_trial(pace=Pace(150.0))
    assert paced(fixed, RECORDS) == fixed
    assert fixed.load == "150/s"
    assert arrivals(a_trial(), 1) is None


def test_every_candidate_has_the_same_arrivals_in_a_round_and_others_in_the_next() -> None:
    one, other = (arrivals(a_trial(candidate=name, number=n, pace=Pace(100.0)), 1) for n, name in enumerate("ab"))
    assert one is not None
    assert one == other
    later = arrivals(a_trial(round=1, pace=Pace(100.0)), 1)
    assert later is not None
    assert list(islice(due_times(one), 50)) != list(islice(due_times(later), 50))
    assert one != arrivals(a_trial(pace=Pace(100.0)), 2)
    limited = arrivals(a_trial(pace=Pace(100.0, limit_ms=2.5)), 1)
    assert limited is not None
    assert limited.limit_ns == 2_500_000


def test_an_open_loop_lasts_until_enough_writes_are_due() -> None:
    work = Workload("w", "log_metric")
    assert duration_s(a_trial(duration_s=3.0, min_writes=400), work) == 3.0
    assert duration_s(a_trial(duration_s=3.0, min_writes=400, pace=Pace(200.0)), work) == 3.0
    assert duration_s(a_trial(duration_s=3.0, min_writes=400, pace=Pace(100.0)), work) == pytest.approx(4.4)
    mixed = Workload("m", "mixed", read_share=0.5)
    assert duration_s(a_trial(duration_s=3.0, min_writes=400, pace=Pace(100.0)), mixed) == pytest.approx(8.8)
    assert duration_s(a_trial(duration_s=3.0, min_writes=400, pace=Pace(1.0)), work) == 12.0


def test_rounds_that_were_added_later_change_no_rate() -> None:
    later = [*RECORDS, a_record(candidate="b", load="80 %"), a_record(candidate="b", ops_per_s=9999.0)]
    assert rate(paced(OWN, later).pace) == pytest.approx(160.0)
