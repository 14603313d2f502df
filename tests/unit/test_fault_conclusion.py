"""Trials with a fault are judged beside the others: they become cells of their own, and no figure of any other."""

import pytest
from made import a_candidate, a_result, a_seen
from test_conclusion import GOOD, SQLITE, criterion, trial

from bench.cell import Criterion, Integrity, Percentiles
from bench.conclusion import judge_records, undecided
from bench.fault_cell import Untested
from bench.judge.looks import planned
from bench.judge.marks import marks
from bench.judge.regression import regression
from bench.plan import Group
from bench.results import Candidate, Results
from bench.scenario import Scenario, parse_text
from bench.trial_record import TrialRecord

CRASH, POWER = "a crash may lose the last 0.6 s", "a power loss may undo the last commit"
HEAD = """
title = "t"
reference = "sqlite"
baseline = "x"
[candidates.sqlite]
store = "sqlite"
[candidates.mine]
store = "mysql"
[workloads.single]
kind = "log_metric"
[faults.frozen]
kind = "freeze"
[faults.killed]
kind = "kill"
[faults.mlflow-killed]
kind = "kill"
target = "tracking"
[faults.cut]
kind = "power"
lose = "directory"
"""
FAIR = """
[[cells]]
driver = "http"
workload = "single"
concurrency = [20]
"""
FAULTED = """
[[cells]]
workload = "single"
concurrency = [20]
faults = ["killed", "frozen", "cut"]
[[cells]]
driver = "http"
workload = "single"
concurrency = [20]
faults = ["killed", "mlflow-killed"]
"""
KEPT = criterion("fault.kept == 1")
LOST = GOOD.model_copy(update={"lost": 2})
UNREAD = Integrity(checked=False, reason="the server was gone")
MINE = a_candidate("mine", "mysql")
PLACE, DIRECT = ("http", 20), ("direct", 20)
SLOW = Percentiles(p50=500.0, p90=500.0, p95=500.0, p99=500.0, max=900.0, n=400)


def scenario(*criteria: str, fair: str = FAIR) -> Scenario:
    return parse_text(HEAD + fair + FAULTED + "".join(criteria), "x.toml")


def fair(rounds: int = 4, **changes: object) -> list[TrialRecord]:
    return [
        trial(one.name, one.store, PLACE, n, **changes if one is MINE else {})
        for n in range(rounds)
        for one in (SQLITE, MINE)
    ]


def faulted(name: str, fault: str, place: tuple[str, int] = DIRECT, number: int = 0, **changes: object) -> TrialRecord:
    """A trial whose figures would spoil any cell that they got into."""
    kind, target = {
        "frozen": ("freeze", "database"), "killed": ("kill", "database"), "mlflow-killed": ("kill", "tracking"),
        "cut": ("power", "database"),
    }[fault]  # fmt: skip
    seen: dict[str, object] = {"name": fault, "kind": kind, "target": target, "modelled": kind == "power"}
    seen |= changes.pop("seen", {})  # type: ignore[arg-type, operator]
    spoilt = {
        "metrics_per_s": 1.0, "ops_per_s": 1.0, "write_service": SLOW, "write_response": SLOW, "lock_errors": 77,
        "referee": {"deadlocks": 99.0}, "steady": False,
    }  # fmt: skip
    store = "sqlite" if name == "sqlite" else "mysql"
    return trial(name, store, place, number, **{**spoilt, "fault": a_seen(**seen), **changes})


def judged(
    wanted: Scenario, records: list[TrialRecord], candidates: tuple[Candidate, ...] = (SQLITE, MINE), **more: object
) -> Results:
    return judge_records(wanted, records, candidates, a_result().run, {}, **more)  # type: ignore[arg-type]


def of_mine(found: Results, fault: str = "killed") -> Criterion:
    (one,) = [each for each in found.criteria if (each.candidate, each.fault) == ("mine", fault)]
    return one


RULES = (
    criterion("p99_ms <= 500"), criterion("p99_ms <= 2 * reference"), criterion("lock_errors == 0"),
    criterion("integrity == 1"), KEPT,
)  # fmt: skip


def test_a_trial_with_a_fault_is_no_figure_of_any_other_cell() -> None:
    broken = [faulted("mine", "killed", PLACE, n) for n in range(4)]
    broken.append(faulted("mine", "killed", PLACE, 1, control=True))
    wanted = scenario(*RULES)
    alone, beside = judged(wanted, fair()), judged(wanted, [*broken, *fair()])
    for name in ("cells", "comparisons", "control", "capacities"):
        assert getattr(beside, name) == getattr(alone, name)
    assert [one for one in beside.criteria if not one.fault] == [one for one in alone.criteria if not one.fault]
    assert marks(beside) == marks(alone)
    assert regression(alone, beside, anyway=True).comparisons == regression(alone, alone, anyway=True).comparisons
    assert (len(beside.faults), len(alone.faults)) == (2, 0)  # a control is none of the rounds


def test_rows_that_a_trial_with_a_fault_lost_are_those_of_its_cell() -> None:
    found = judged(scenario(*RULES), [*fair(), faulted("mine", "killed", PLACE, integrity=LOST)])
    assert [cell.integrity.lost for cell in found.cells] == [0, 0]
    (cell,) = found.faults
    assert (cell.integrity.lost, cell.outcome) == (2, "broken")
    assert (found.exit_code, found.verdicts) == (4, {"sqlite": "pass", "mine": "fail"})


def test_each_criterion_is_judged_on_the_cells_that_have_its_field() -> None:
    records = [*fair(), faulted("mine", "killed"), faulted("mine", "cut"), faulted("mine", "killed", PLACE)]
    rules = (
        criterion("lost == 0"), criterion("p99_ms <= 500"), KEPT, criterion("fault.gone_s <= 5"),
        criterion("duplicated == 0", 'faults = ["cut"]'), criterion("corrupted == 0", 'driver = "http"'),
        criterion("stale == 0", 'stores = ["sqlite"]'),
    )  # fmt: skip
    found = judged(scenario(*rules), records)
    here = [(one.field, one.driver, one.fault) for one in found.criteria if one.candidate == "mine"]
    assert here == [
        ("lost", "http", ""), ("lost", "http", "killed"), ("lost", "direct", "killed"), ("lost", "direct", "cut"),
        ("p99_ms", "http", ""),
        ("fault.kept", "http", "killed"), ("fault.kept", "direct", "killed"), ("fault.kept", "direct", "cut"),
        ("fault.gone_s", "http", "killed"), ("fault.gone_s", "direct", "killed"),
        ("duplicated", "direct", "cut"),
        ("corrupted", "http", ""), ("corrupted", "http", "killed"),
    ]  # fmt: skip
    assert [one.field for one in found.criteria if one.candidate == "sqlite"] == ["lost", "p99_ms", "corrupted"]


def test_a_criterion_of_one_level_is_judged_there_only() -> None:
    wanted = scenario(criterion("fault.kept == 1", "concurrency = 20"))
    records = [faulted("mine", "killed"), faulted("mine", "killed", ("direct", 5))]
    assert [one.concurrency for one in judged(wanted, records).criteria] == [20]
    any_level = wanted.model_copy(
        update={"criteria": [one.model_copy(update={"concurrency": None}) for one in wanted.criteria]}
    )
    assert [one.concurrency for one in judged(any_level, records).criteria] == [5, 20]  # as --concurrency 5,20 asks


def test_cells_come_in_the_scenarios_order_of_faults_then_of_candidates() -> None:
    records = [
        faulted("mine", "cut"), faulted("mine", "killed"), faulted("sqlite", "killed"),
        faulted("mine", "mlflow-killed"), faulted("sqlite", "cut"), faulted("mine", "frozen"),
        faulted("mine", "killed", PLACE),
    ]  # fmt: skip
    places = [(one.fault, one.candidate, one.driver) for one in judged(scenario(KEPT), records).faults]
    assert places == [
        ("frozen", "mine", "direct"), ("killed", "sqlite", "direct"), ("killed", "mine", "http"),
        ("killed", "mine", "direct"), ("mlflow-killed", "mine", "direct"), ("cut", "sqlite", "direct"),
        ("cut", "mine", "direct"),
    ]  # fmt: skip


def test_rounds_of_one_fault_are_one_cell_in_their_order() -> None:
    records = [
        faulted("mine", "killed", number=1, seen={"gone_s": 9.0}), faulted("mine", "killed", seen={"gone_s": 1.0}),
    ]  # fmt: skip
    (cell,) = judged(scenario(KEPT), records).faults
    assert (cell.rounds, cell.gone_s, [one.gone_s for one in cell.seen]) == (2, 9.0, [1.0, 9.0])


@pytest.mark.parametrize(
    ("fault", "place", "store", "allowed"),
    [
        ("killed", DIRECT, "mine", CRASH),
        ("frozen", DIRECT, "mine", None),
        ("mlflow-killed", PLACE, "mine", None),  # its database lives on
        ("cut", DIRECT, "mine", POWER),
        ("mlflow-killed", PLACE, "sqlite", CRASH),  # SQLite lives in it
    ],
)
def test_the_promise_is_that_of_the_candidates_settings(
    fault: str, place: tuple[str, int], store: str, allowed: str | None
) -> None:
    loose = {"may_lose_crash": CRASH, "may_lose_power": POWER, "durable": False}
    candidates = (SQLITE.model_copy(update=loose), MINE.model_copy(update=loose))
    found = judged(scenario(KEPT), [faulted(store, fault, place, integrity=LOST)], candidates)
    (cell,) = found.faults
    assert (cell.may_lose, cell.outcome) == (allowed, "lost" if allowed else "broken")
    phrase = "as its settings allow" if allowed else "against what its settings promise"
    reason = found.reasons[store]
    assert reason.startswith(f"fault {fault}: 2 of ")
    assert phrase in reason
    assert (found.verdicts[store], found.exit_code) == ("fail", 4)


def test_a_promise_of_settings_that_were_not_read_is_not_known() -> None:
    unread = MINE.model_copy(update={"durable": None})
    (cell,) = judged(scenario(KEPT), [faulted("mine", "killed", integrity=LOST)], (SQLITE, unread)).faults
    assert cell.reason.endswith("; what its settings promise is not known")


def test_a_power_cut_in_a_model_of_the_reference_is_shown_and_never_decides() -> None:
    records = [*fair(), faulted("sqlite", "cut", integrity=LOST)]
    found = judged(scenario(criterion("integrity == 1"), KEPT), records)
    (cell,) = found.faults
    assert (cell.reference, cell.modelled, cell.outcome) == (True, True, "broken")
    assert found.verdicts == {"sqlite": "fail", "mine": "pass"}
    assert (found.verdict, found.exit_code) == ("pass", 0)
    mine = judged(scenario(criterion("integrity == 1"), KEPT), [*fair(), faulted("mine", "cut", integrity=LOST)])
    assert (mine.verdicts["mine"], mine.exit_code) == ("fail", 4)


UNKNOWN = {
    "error": {"error": "ServerFailed: gone"},
    "unread": {"integrity": UNREAD},
    "never began": {"seen": {"begin_s": None}},
    "never came back": {"seen": {"end_s": None, "first_ok_s": None}},
    "nothing ok": {"seen": {"first_ok_s": None}},
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_was_not_found_out_leaves_the_candidate_inconclusive(name: str) -> None:
    found = judged(scenario(criterion("p99_ms <= 500"), KEPT), [*fair(), faulted("mine", "killed", **UNKNOWN[name])])
    assert of_mine(found).outcome == "inconclusive"
    assert (found.verdicts["mine"], found.exit_code) == ("inconclusive", 3)
    without = judged(scenario(criterion("p99_ms <= 500")), [*fair(), faulted("mine", "killed", **UNKNOWN[name])])
    assert (without.verdicts["mine"], without.exit_code) == ("inconclusive", 3)  # nobody asked, and it is no pass
    assert judged(scenario(criterion("p99_ms <= 500"), KEPT), [*fair(), faulted("mine", "killed")]).exit_code == 0


def test_a_trial_that_could_not_be_measured_is_told_with_its_fault() -> None:
    found = judged(scenario(KEPT), [faulted("mine", "killed", error="ServerFailed: gone")])
    told = [note for note in found.notes if note.startswith("Not measured: ")]
    assert told == ["Not measured: mine, direct single at 20, killed, round 1: ServerFailed: gone"]


def test_no_more_rounds_are_asked_for_because_of_a_fault() -> None:
    group = Group("http", "single", 20, "closed")
    looks = {group: planned(4)}
    wanted = scenario(criterion("p99_ms <= 400"), KEPT, criterion("integrity == 1"))
    spoilt = [faulted("mine", "killed", PLACE, n, error="gone") for n in range(4)]
    assert undecided(wanted, [*fair(), *spoilt], (SQLITE, MINE), looks, None) == set()
    unclear = [*fair(3), trial("mine", "mysql", PLACE, 3, write_response=SLOW, write_service=SLOW)]
    assert undecided(wanted, [*unclear, *spoilt], (SQLITE, MINE), looks, None) == {group}
    assert undecided(wanted, spoilt, (SQLITE, MINE), {}, None) == set()


def test_faults_that_were_not_had_are_kept_with_their_reasons() -> None:
    left_out = [Untested(candidate="sqlite", fault="killed", applies=False, reason="SQLite has no server")]
    assert judged(scenario(KEPT), fair(), untested=left_out).untested == left_out
    assert judged(scenario(KEPT), fair()).untested == []


def test_a_candidate_that_got_no_fault_is_judged_by_none() -> None:
    found = judged(scenario(KEPT), [faulted("mine", "killed")])
    assert (found.verdicts, found.exit_code) == ({"sqlite": "inconclusive", "mine": "pass"}, 0)
    assert found.reasons["sqlite"] == "no gating criterion applies to it"


def test_a_scenario_of_faults_alone_works_in_every_part() -> None:
    wanted = scenario(criterion("integrity == 1"), KEPT, fair="")
    records = [faulted(name, fault) for fault in ("killed", "frozen") for name in ("sqlite", "mine")]
    found = judged(wanted, records)
    assert (found.cells, found.comparisons, found.control, found.capacities) == ([], [], None, [])
    assert (len(found.faults), found.verdict, found.exit_code) == (4, "pass", 0)
    assert marks(found) == []
    again = regression(found, found, anyway=True)
    assert (again.comparisons, again.outcome, again.reason) == ([], "unknown", "the runs have no cell in common")
    assert judged(wanted, records, baseline=found, doubt="other cores").verdict == "pass"
    stopped = judge_records(
        wanted, records[:1], (SQLITE, MINE), found.run.model_copy(update={"interrupted": True}), {}
    )  # fmt: skip
    assert (stopped.verdict, stopped.exit_code) == ("inconclusive", 3)
    assert Results.model_validate_json(found.model_dump_json()) == found


def test_lost_rows_are_compared_with_those_of_the_same_fault() -> None:
    wanted = scenario(criterion("lost <= reference"), criterion("lost <= baseline"))
    lost = [GOOD.model_copy(update={"lost": n}) for n in range(4)]
    records = [
        faulted("sqlite", "killed", integrity=lost[2]), faulted("mine", "killed", integrity=lost[2]),
        faulted("sqlite", "frozen", integrity=lost[1]), faulted("mine", "frozen", integrity=lost[2]),
        faulted("mine", "killed", PLACE, integrity=lost[2]),
    ]  # fmt: skip
    before = judged(
        wanted, [faulted("mine", "killed", integrity=lost[1]), faulted("mine", "frozen", integrity=lost[3])]
    )
    found = judged(wanted, records, baseline=before)
    mine = {
        (one.expression, one.fault, one.driver): (one.outcome, one.limit)
        for one in found.criteria
        if one.candidate == "mine"
    }
    assert mine == {
        ("lost <= reference", "killed", "direct"): ("pass", 2.0),
        ("lost <= reference", "killed", "http"): ("inconclusive", None),
        ("lost <= reference", "frozen", "direct"): ("fail", 1.0),
        ("lost <= baseline", "killed", "direct"): ("fail", 1.0),
        ("lost <= baseline", "killed", "http"): ("inconclusive", None),
        ("lost <= baseline", "frozen", "direct"): ("pass", 3.0),
    }
    doubted = judged(wanted, records, baseline=before, doubt="other cores").criteria
    against = [one for one in doubted if one.expression == "lost <= baseline"]
    assert {(one.outcome, one.reason) for one in against} == {("inconclusive", "other cores")}


def test_the_notes_say_what_was_tested() -> None:
    untested = "Process crashes and power losses were not tested in this run."
    assert untested in judged(scenario(KEPT), fair()).notes
    assert untested in judged(scenario(KEPT), [faulted("mine", "frozen")]).notes
    assert untested in judged(scenario(KEPT), [faulted("mine", "killed", seen={"begin_s": None})]).notes
    killed = judged(scenario(KEPT), [faulted("mine", "killed"), faulted("sqlite", "cut")]).notes
    assert untested not in killed
    assert any(note.startswith("Process crashes were tested by kill -9") for note in killed)
    assert "Power losses were tested in a model of the disk under SQLite, and on no server: sqlite." in killed


def test_the_kind_of_loop_is_that_of_what_was_measured() -> None:
    """A load with a fault has no latency that a note could explain."""
    alone = judged(scenario(KEPT), [faulted("mine", "killed")]).notes
    assert not any("loop: " in note for note in alone)
    assert any(note.startswith("Direct writers: ") for note in alone)
    assert any(note.startswith("Closed loop: ") for note in judged(scenario(KEPT), fair()).notes)


def test_marks_are_of_cells_without_a_fault() -> None:
    """A gating criterion of a fault makes no promise about the rounds of the cell beside it."""
    wanted = scenario(criterion("p99_ms <= 500", "gating = false"), KEPT)
    found = judged(wanted, [*fair(), *(faulted("mine", "killed", PLACE, n) for n in range(2))])
    assert [mark.kind for mark in marks(found)] == []
    gating = judged(scenario(criterion("p99_ms <= 500"), KEPT), [*fair(), faulted("mine", "killed", PLACE)])
    assert [mark.kind for mark in marks(gating)] == ["rounds"]


def test_the_fields_of_a_prefill_that_was_touched_are_those_of_the_cell() -> None:
    found = judged(scenario(KEPT), [*fair(), faulted("mine", "killed", integrity_prefill=LOST)])
    assert found.exit_code == 4
    assert "of the prefill, read after all faults, 2 of " in found.reasons["mine"]
