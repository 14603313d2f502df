"""The decision to move a store: what is asked for, what runs, what is judged, the checklist and the verdict."""

from collections.abc import Sequence

import pytest
from fixtures_results_faults import faulted
from fixtures_results_move import CHECKS, RULES, TARGET, a_migration, a_move, a_proof, judged, moved, refused, unequal
from made import a_candidate, a_result

from bench import scenario as scenarios
from bench.cell import Criterion
from bench.conclusion import judge_records
from bench.decision_checklist import added, checklist
from bench.decision_record import Move, Step, Undone, differences
from bench.decision_request import Wanted, wanted
from bench.decision_scenario import FAULTS, reduced
from bench.errors import BadInput
from bench.fault_cell import FaultCell, Untested
from bench.judge import moves
from bench.judge.criteria import Rule, parse
from bench.judge.fields import MOVE_FIELDS, of_moves
from bench.migrate.proof import ClientDifference, StructureDifference, TableProof
from bench.migrate.record import Problem
from bench.plan import Overrides, plan
from bench.readiness.check import Check, Readiness
from bench.results import Results

PROBLEM = Problem(table="params", column="value", rows=1, reason="too long", remedy="shorten it")


def value(field: str, **changes: object) -> float | None:
    return moves.value_of(field, a_move(**changes))


def looked(*checks: Check) -> list[Readiness]:
    return [Readiness(url=TARGET, store="postgresql", version="16", checks=list(checks))]


def check(name: str, outcome: str, remedy: str = "") -> Check:
    return Check.model_validate({"name": name, "title": name, "outcome": outcome, "found": "found", "remedy": remedy})


def test_every_field_of_a_move_has_a_value_or_says_why_not() -> None:
    nothing = a_move(migration=None, proof_after_load=None, readiness=[], extra=[])
    for field in MOVE_FIELDS:
        judged_one = moves.judge(Rule("r", f"{field} == 1", gating=True), nothing)
        assert (judged_one.outcome, judged_one.measured) == ("inconclusive", None)
        assert judged_one.reason
    known = {field: moves.value_of(field, a_move()) for field in MOVE_FIELDS}
    assert known == {
        "migration.equal": 1.0,
        "migration.equal_after_load": 1.0,
        "migration.problems": 0.0,
        "migration.differing_rows": 0.0,
        "migration.frozen_to_proof_s": None,
        "migration.copy_metrics_per_s": 1_200_000 / 9.0,
        "readiness.failed": 0.0,
        "readiness.warned": 1.0,
        "readiness.unknown": 1.0,
        "readiness.backup_restored": 1.0,
    }


def test_equal_is_no_only_if_a_proof_says_so_and_yes_only_if_all_do() -> None:
    assert value("migration.equal", migration=a_migration(proof=unequal())) == 0.0
    assert value("migration.equal", migration=a_migration(proof=None)) is None
    assert value("migration.equal", also=[a_migration(proof=None)]) is None
    assert value("migration.equal", also=[a_migration(proof=unequal())]) == 0.0
    assert value("migration.equal", migration=a_migration(proof=None), also=[a_migration(proof=unequal())]) == 0.0
    assert value("migration.equal_after_load", proof_after_load=unequal()) == 0.0
    assert value("migration.differing_rows", proof_after_load=unequal()) == 1.0


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [(["pass"], 1.0), (["warn"], 1.0), (["fail"], 0.0), (["unknown"], None), (["pass", "fail"], 0.0), ([], None)],
)
def test_a_backup_counts_only_where_it_was_restored(outcomes: list[str], expected: float | None) -> None:
    found = looked(check("tls", "pass"), *(check("backup", outcome) for outcome in outcomes))
    assert value("readiness.backup_restored", readiness=found) == expected


def test_what_was_not_measured_never_passes() -> None:
    nothing: dict[str, object] = {"migration": None, "proof_after_load": None, "readiness": []}
    for name, none in nothing.items():
        found = judged(a_move(**{name: none}))
        assert "inconclusive" in {one.outcome for one in found if one.gating}


def concluded(move: Move | None, interrupted: bool = False) -> Results:
    text = scenarios.load("migration")
    candidates = [a_candidate("sqlite", "sqlite"), a_candidate("postgresql", "postgresql")]
    run = a_result().run.model_copy(update={"interrupted": interrupted})
    return judge_records(text.scenario, [], candidates, run, {}, move=move)


def of_move(found: Results) -> list[Criterion]:
    return [one for one in found.criteria if of_moves(one.field)]


def test_criteria_of_a_move_are_judged_on_its_target_and_only_where_one_was_made() -> None:
    without = concluded(None)
    assert not of_move(without)
    assert not without.checklist
    (note,) = [one for one in without.notes if "not part of this run" in one]
    assert "the copy is equal to the source" in note
    found = of_move(concluded(a_move()))
    assert {one.candidate for one in found} == {"postgresql"}
    assert [one.table for one in found] == ["ready"] * 6
    assert [one.outcome for one in found] == ["pass"] * 5 + ["fail"]
    assert not [one for one in concluded(a_move()).notes if "not part of this run" in one]


@pytest.mark.parametrize(
    "changes",
    [
        {"migration": a_migration(proof=unequal())},
        {"proof_after_load": unequal()},
        {"also": [a_migration(proof=unequal())]},
        {
            "migration": a_migration(
                proof=a_proof(structure=[StructureDifference(what="index", table="runs", source="a", target="–")])
            )
        },
        {
            "migration": a_migration(
                proof=a_proof(client=[ClientDifference(what="run", where="1", source="a", target="b")])
            )
        },
    ],
)
@pytest.mark.parametrize("interrupted", [False, True])
def test_stores_that_differ_are_exit_code_4_whatever_else_holds(changes: dict[str, object], interrupted: bool) -> None:
    found = concluded(a_move(**changes), interrupted)
    assert (found.exit_code, found.verdict, found.verdicts["postgresql"]) == (4, "fail", "fail")
    assert "not equal" in found.reasons["postgresql"]
    assert "fail" in {step.outcome for step in found.checklist}


def test_differences_are_told_in_words() -> None:
    tables = [TableProof(table="runs", source_rows=9, target_rows=8, missing=2, extra=1, changed=1)]
    assert differences(a_proof(tables=tables)) == "2 rows missing, 1 row too many, 1 row changed (runs)"
    lost = [TableProof(table="runs", source_rows=9, target_rows=8)]
    assert differences(a_proof(tables=lost)) == "row counts differ (runs)"


def outcomes(move: Move) -> dict[str, str]:
    return {step.step: step.outcome for step in checklist(moved(move), move)}


def test_the_checklist_of_a_move_in_which_all_is_well() -> None:
    assert outcomes(a_move()) == {
        "source readable and consistent": "pass",
        "preflight": "pass",
        "copy": "pass",
        "proof: every row equal": "pass",
        "proof: structure equal": "pass",
        "proof: MLflow's client reads the same": "pass",
        "load held on the copy": "pass",
        "faults survived": "not done",
        "equal again after the load": "pass",
        "readiness: Password": "warn",
        "readiness": "warn",
        "backup made and restored": "pass",
        "artifacts fetched": "pass",
        "authentication database": "not done",
    }
    steps = {step.step: step for step in moved().checklist}
    assert "the server is yours" in steps["faults survived"].said
    assert steps["faults survived"].remedy == "rehearse with a private server: --target postgresql"
    assert "--also" in steps["authentication database"].remedy


def test_each_failing_check_stands_on_the_checklist_with_its_remedy() -> None:
    found = looked(check("tls", "fail", "switch it on"), check("disk", "fail", "add some"), check("backup", "fail"))
    steps = moved(a_move(readiness=found)).checklist
    failed = [(step.step, step.remedy) for step in steps if step.outcome == "fail"]
    assert failed == [
        ("readiness: tls", "switch it on"), ("readiness: disk", "add some"), ("backup made and restored", ""),
    ]  # fmt: skip


def test_a_check_that_could_not_be_made_is_no_pass_unless_it_takes_an_administrator() -> None:
    doubt = looked(check("durability", "unknown", "ask"), check("access", "unknown"), check("backup", "pass"))
    assert value("readiness.failed", readiness=doubt) is None
    found = moved(a_move(readiness=doubt))
    (criterion,) = [one for one in judged(a_move(readiness=doubt)) if one.field == "readiness.failed"]
    assert (criterion.outcome, criterion.reason) == ("inconclusive", "not known: durability")
    steps = {step.step: (step.outcome, step.said, step.remedy) for step in found.checklist}
    assert steps["readiness: durability"] == ("unknown", "found", "ask")
    assert steps["readiness"][:2] == ("warn", "0 of 2 checks pass; not for this login to see: access")
    assert (found.verdict, found.exit_code) == ("inconclusive", 3)
    assert value("readiness.failed", readiness=looked(check("access", "unknown"))) == 0.0
    assert value("readiness.failed", readiness=looked(check("tls", "fail"), check("durability", "unknown"))) == 1.0


def tried(faults: Sequence[FaultCell], missing: Sequence[Untested], criteria: Sequence[Criterion]) -> Step:
    move = a_move(scratch=True)
    full = moved(move)
    changes = {"faults": list(faults), "untested": list(missing), "criteria": [*full.criteria, *criteria]}
    steps = checklist(full.model_copy(update=changes), move)
    return next(step for step in steps if step.step == "faults survived")


def test_faults_that_were_not_tried_are_named_and_no_pass() -> None:
    full = faulted()
    cells = [cell for cell in full.faults if cell.candidate == "postgresql" and cell.outcome == "kept"][:1]
    judged_ones = [
        one
        for one in full.criteria
        if one.candidate == "postgresql" and one.gating and one.fault == cells[0].fault and one.outcome == "pass"
    ]
    assert tried(cells, [], judged_ones).outcome == "pass"
    missing = Untested(candidate="postgresql", fault="disk-full", applies=True, reason="no small disk")
    for given in (cells, []):
        step = tried(given, [missing], judged_ones)
        assert step.outcome == "warn"
        assert "not tried: disk-full: no small disk" in step.said
    for other in ({"applies": False}, {"candidate": "sqlite"}):
        assert tried(cells, [missing.model_copy(update=other)], judged_ones).outcome == "pass"
    assert tried(cells, [], []).outcome == "unknown"


def test_a_load_that_no_criterion_judges_is_unknown() -> None:
    move = a_move()
    full = moved(move)
    of_load = full.model_copy(update={"criteria": judged(move)})
    (step,) = [one for one in checklist(of_load, move) if one.step == "load held on the copy"]
    assert (step.outcome, step.said) == ("unknown", "no gating criterion judges it")


def test_a_check_that_two_databases_of_one_server_share_is_told_once() -> None:
    twice = looked(check("tls", "fail", "switch it on")) * 2
    assert [step.step for step in moved(a_move(readiness=twice)).checklist if step.outcome == "fail"] == [
        "readiness: tls"
    ]


def test_a_move_that_is_refused_beforehand_names_the_rows_and_stops() -> None:
    steps = {step.step: step for step in refused().checklist}
    assert steps["preflight"].outcome == "fail"
    assert "params.value: holds a NUL character" in steps["preflight"].said
    assert steps["preflight"].remedy.startswith("UPDATE params")
    for name in ("copy", "proof: every row equal", "load held on the copy", "equal again after the load"):
        assert (steps[name].outcome, steps[name].said) == ("not done", "the store can't be moved exactly")


def test_another_database_stands_on_the_checklist_under_its_own_name() -> None:
    other = a_migration(family="authentication database", source="sqlite:///auth.db", proof=a_proof(client=None))
    assert outcomes(a_move(also=[other]))["authentication database: sqlite:///auth.db"] == "pass"
    assert "authentication database" not in outcomes(a_move(also=[other]))
    bad = other.model_copy(update={"problems": [PROBLEM], "proof": None})
    assert outcomes(a_move(also=[bad]))["authentication database: sqlite:///auth.db"] == "fail"


@pytest.mark.parametrize(("outcome", "verdict", "code"), [("fail", "fail", 1), ("unknown", "inconclusive", 3)])
def test_the_checklist_binds_the_verdict(outcome: str, verdict: str, code: int) -> None:
    """Users' rights are no criterion, yet nobody may move where they differ."""
    step = Step.model_validate({"step": "users may do the same", "outcome": outcome, "said": "alice"})
    found = moved(a_move(extra=[step]))
    assert (found.verdict, found.exit_code, found.verdicts["postgresql"]) == (verdict, code, verdict)
    assert found.reasons["postgresql"] == "users may do the same: alice"
    assert moved().verdict == "pass"


def test_the_checklist_makes_no_verdict_better() -> None:
    full = moved()
    failed = full.model_copy(update={"verdict": "fail", "exit_code": 1, "verdicts": {"postgresql": "fail"}})
    assert (added(failed).verdict, added(failed).exit_code) == ("fail", 1)


def test_why_a_part_was_not_done_is_said() -> None:
    why = Undone(part="readiness", reason="could not be done: timeout", remedy="see what it says")
    steps = {step.step: step for step in moved(a_move(readiness=[], undone=[why])).checklist}
    assert (steps["readiness"].said, steps["readiness"].remedy) == (why.reason, why.remedy)
    (criterion,) = [one for one in judged(a_move(readiness=[], undone=[why])) if one.field == "readiness.failed"]
    assert (criterion.outcome, criterion.reason) == ("inconclusive", why.reason)


def test_rules_of_the_fixtures_are_those_of_the_scenario() -> None:
    ready = [one for one in scenarios.load("migration").scenario.criteria if one.table == "ready"]
    assert [one.expression for one in ready] == [one.text for one in RULES]
    assert {one.name for one in CHECKS} >= {"backup"}


# What is asked for.


def asked(source: str = "sqlite:///mlflow.db", target: str = "postgresql", *also: str) -> Wanted:
    found = wanted(source, target, also)
    assert found is not None
    return found


def test_nothing_is_moved_unless_it_is_asked_for() -> None:
    assert wanted(None, None, ()) is None


@pytest.mark.parametrize(
    ("source", "target", "also", "said"),
    [
        (None, "postgresql", (), "--source URL"),
        ("sqlite:///a.db", None, (), "--target URL"),
        (None, None, ("sqlite:///a.db=sqlite:///b.db",), "--source URL"),
        ("./no-such-folder", "postgresql", (), "no such folder"),
        ("oracle://h/d", "postgresql", (), "unknown scheme"),
        ("sqlite:///a.db", "sqlite", (), "name it"),
        ("sqlite:///a.db", "oracle", (), "wants a URL"),
        ("sqlite:///a.db", "env:TRACKBENCH_NO_SUCH_VARIABLE", (), "is not set"),
        ("sqlite:///a.db", "postgresql", ("sqlite:///a.db",), "SOURCE=TARGET"),
        ("sqlite:///a.db", "postgresql", ("sqlite:///a.db=nonsense",), "SOURCE=TARGET"),
    ],
)
def test_what_can_not_be_moved_is_refused_in_one_line(
    source: str | None, target: str | None, also: tuple[str, ...], said: str
) -> None:
    with pytest.raises(BadInput) as caught:
        wanted(source, target, also)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pair_is_parted_at_the_right_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_URL", "mysql+pymysql://me:s3cret@h/auth")
    found = asked("sqlite:///mlflow.db", "postgresql", "postgresql://a:s3cret@h/d?sslmode=require=env:AUTH_URL")
    ((ours, theirs),) = found.also
    assert ours.given.endswith("?sslmode=require")
    assert (theirs.kind, theirs.variable) == ("mysql", "AUTH_URL")
    assert "s3cret" not in repr(found)
    assert "s3cret" not in f"{ours} {theirs}"


# What runs.


def test_of_the_candidates_the_target_and_the_reference_are_left() -> None:
    loaded, candidate, notes = reduced(scenarios.load("migration"), asked(target="mysql+pymysql://u:p@h/d"))
    made = loaded.scenario
    assert candidate == "mysql"
    assert list(made.candidates) == ["sqlite", "mysql"]
    assert made.reference == "sqlite"
    assert (made.prefill.runs, made.prefill.metrics) == (20, 6_000)
    assert not made.faults
    assert any("Left out" in note and "timescaledb" in note for note in notes)
    assert [one.name for one in made.criteria] == [one.name for one in scenarios.load("migration").scenario.criteria]


def test_on_a_server_of_ours_faults_are_tried_and_readiness_is_not_judged() -> None:
    loaded, candidate, notes = reduced(scenarios.load("migration"), asked(target="timescaledb"))
    made = loaded.scenario
    assert candidate == "timescaledb"
    assert set(made.faults) == {name for names in FAULTS.values() for name in names}
    assert not [one for one in made.criteria if parse(one.expression).field.startswith("readiness.")]
    assert any("private server" in note for note in notes)
    assert "fault.kept == 1" in [one.expression for one in made.criteria]
    trials = [trial for trial in plan(made, Overrides()) if trial.fault]
    assert {trial.round for trial in trials} == {0}
    scenarios.parse_text(loaded.text, "migration.toml")


def test_a_target_of_the_references_own_kind_is_judged_alone() -> None:
    loaded, candidate, notes = reduced(scenarios.load("migration"), asked(target="sqlite:////tmp/new.db"))
    assert (candidate, loaded.scenario.reference) == ("sqlite", None)
    assert list(loaded.scenario.candidates) == ["sqlite"]
    assert any("the reference did not run" in note for note in notes)


def test_a_criterion_of_a_move_names_no_cell() -> None:
    text = scenarios.load("migration").text
    line = 'expression = "migration.equal == 1"'
    narrowed = text.replace(line, f'{line}\ndriver = "http"')
    with pytest.raises(BadInput, match="of the whole move: leave it out"):
        scenarios.parse_text(narrowed, "migration.toml")
