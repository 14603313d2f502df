"""What stands beside the cells: the control's rows count, a baseline must be alike, and who alone is may decide."""

from made import a_result
from test_conclusion import GOOD, MINE, SQLITE, TEXT, criterion, scenario, trial

from bench.cell import Criterion, Integrity, Percentiles
from bench.conclusion import judge_records, undecided
from bench.judge.looks import planned
from bench.plan import Group
from bench.results import Results
from bench.scenario import parse_text
from bench.trial_record import TrialRecord

PLACE = ("http", 20)


def records(rounds: int = 4, **changes: object) -> list[TrialRecord]:
    return [
        trial(one.name, one.store, PLACE, n, **changes if one is MINE else {})
        for n in range(rounds)
        for one in (SQLITE, MINE)
    ]


def judged(found: list[TrialRecord], **more: object) -> Results:
    wanted = scenario(criterion("integrity == 1"), criterion("lock_errors == 0"))
    return judge_records(wanted, found, (SQLITE, MINE), a_result().run, {}, **more)  # type: ignore[arg-type]


def test_rows_that_a_control_lost_are_lost() -> None:
    lost = GOOD.model_copy(update={"lost": 5})
    again = trial("mine", "mysql", PLACE, 0, control=True, integrity=lost, lock_errors=7)
    found = judged([*records(), again])
    assert (found.exit_code, found.verdicts["mine"]) == (4, "fail")
    (cell,) = [one for one in found.cells if one.candidate == "mine"]
    assert cell.integrity.lost == 5
    assert (cell.rounds, cell.lock_errors) == (4, 0)  # its figures are nobody's


def test_a_control_whose_rows_were_not_read_leaves_integrity_unknown() -> None:
    again = trial("mine", "mysql", PLACE, 0, control=True, integrity=Integrity(checked=False, reason="gone"))
    found = judged([*records(), again])
    assert (found.exit_code, found.verdicts["mine"]) == (3, "inconclusive")


def test_the_rest_door_of_a_control_counts_too() -> None:
    again = trial("mine", "mysql", PLACE, 0, control=True, integrity_rest=GOOD.model_copy(update={"duplicated": 1}))
    assert judged([*records(), again]).exit_code == 4
    assert judged([*records(), trial("mine", "mysql", PLACE, 0, control=True)]).exit_code == 0


def against(baseline: Results, doubt: str | None = None) -> list[Criterion]:
    text = TEXT.replace('title = "t"', 'title = "t"\nbaseline = "x"') + criterion("p99_ms <= 2 * baseline")
    wanted = parse_text(text, "x.toml")
    found = judge_records(wanted, records(10), (SQLITE, MINE), a_result().run, {}, baseline=baseline, doubt=doubt)
    return [one for one in found.criteria if one.candidate == "mine"]


def test_against_a_baseline_under_other_conditions_nothing_passes() -> None:
    base = judged(records(10))
    assert {one.outcome for one in against(base)} == {"pass"}
    doubtful = against(base, "the baseline run was not measured alike: cores '1' then, '2' now")
    assert {(one.outcome, one.rounds_needed) for one in doubtful} == {("inconclusive", None)}
    assert "cores" in doubtful[0].reason


def test_a_reference_that_ran_alone_gets_more_rounds_too() -> None:
    """It decides then, so it is what must be decided."""
    wanted = scenario(criterion("p99_ms <= 5.2"))
    alone = [one for one in records() if one.candidate == "sqlite"]
    group = Group("http", "single", 20, "closed")
    assert undecided(wanted, alone, (SQLITE,), {group: planned(4)}, None) == {group}
    slow = Percentiles(p50=5.0, p90=5.0, p95=5.0, p99=50.0, max=90.0, n=400)
    decided = records(write_response=slow, write_service=slow)
    assert undecided(wanted, decided, (SQLITE, MINE), {group: planned(4)}, None) == set()
