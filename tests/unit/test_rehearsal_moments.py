"""When an upgrade is killed, which upgrades can be rehearsed, what its end says, and how the judgement is told."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cli_rehearse import lines
from bench.errors import BadInput, ExitCode
from bench.migrate.catalog import AUTH, TRACKING, Catalog, Family
from bench.migrate.proof import CellDifference, Proof, RowDifference, Sort, TableProof
from bench.migrate.rehearsal import harmless, migrations_between, moments
from bench.migrate.rehearsal_record import Kill, Left, Moment, Outcome, Rehearsal, Step
from bench.migrate.upgrades import Mlflow, last_words
from bench.stores.url import StoreUrl

URL = StoreUrl("sqlite", path=Path("/data/mlflow.db"))
MLFLOW = Mlflow("3.17.2", "r3", ("r3", "r2", "r1"))


def steps(*seconds: float) -> list[Step]:
    return [Step(revision=f"r{number}", seconds=each) for number, each in enumerate(seconds)]


def test_one_kill_goes_into_the_middle_of_the_longest_step() -> None:
    assert moments(steps(1, 8, 2), 1) == [Moment(revision="r1", after_s=4)]


def test_more_kills_go_where_they_cut_the_longest_part() -> None:
    assert moments(steps(1, 9, 4), 3) == [
        Moment(revision="r1", after_s=3),
        Moment(revision="r1", after_s=6),
        Moment(revision="r2", after_s=2),
    ]


def test_equal_steps_are_taken_in_the_order_of_time() -> None:
    assert [moment.revision for moment in moments(steps(2, 2, 2), 2)] == ["r0", "r1"]


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=50), st.integers(1, 20))
def test_every_kill_lies_within_its_step(seconds: list[float], kills: int) -> None:
    found = moments(steps(*seconds), kills)
    assert len(found) == kills
    for moment in found:
        assert moment.revision is not None
        assert 0 < moment.after_s < seconds[int(moment.revision[1:])]


def catalog(revision: str | None, family: Family = TRACKING) -> Catalog:
    return Catalog("sqlite", family, revision, {})


def test_the_migrations_between_two_revisions_are_counted() -> None:
    assert migrations_between(catalog("r1"), MLFLOW, URL, None) == 2


def test_an_old_authentication_database_has_all_of_them_before_it() -> None:
    assert migrations_between(catalog(None, AUTH), MLFLOW, URL, None) == 3


def test_a_store_that_is_up_to_date_is_refused_and_the_way_out_named() -> None:
    with pytest.raises(BadInput, match=r"mlflow\.db: is at r3 already, .* of our MLflow \(3\.17\.2\); give --mlflow"):
        migrations_between(catalog("r3"), MLFLOW, URL, None)


def test_a_revision_that_mlflow_does_not_know_is_refused() -> None:
    with pytest.raises(BadInput, match=r"MLflow 3\.17\.2 does not know its schema revision r9; give --mlflow"):
        migrations_between(catalog("r9"), MLFLOW, URL, None)


SAID = [
    "Running upgrade a -> b, add things",
    "Traceback (most recent call last):",
    "sqlalchemy.exc.OperationalError: (pymysql.err.OperationalError) (1060, \"Duplicate column name 'x'\")",
    "[SQL: INSERT INTO t",
    "VALUES ('somebody@example.org')",
    "]",
    "(Background on this error at: https://sqlalche.me/e/20/e3q8)",
]


def test_the_last_words_are_the_error_without_the_statement() -> None:
    assert last_words(SAID) == "(pymysql.err.OperationalError) (1060, \"Duplicate column name 'x'\")"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([], "nothing"),
        (["no room"], "no room"),
        (["ModuleNotFoundError: No module named 'mlflow'"], "ModuleNotFoundError: No module named 'mlflow'"),
        (["util.exc.CommandError: no login as u:hunter2"], "util.exc.CommandError: no login as u:***"),
        (["x" * 500], "x" * 300 + "…"),
    ],
)  # fmt: skip
def test_last_words_of_other_sorts(said: list[str], told: str) -> None:
    assert last_words(said, ("", "hunter2")) == told


def kill(outcome: Outcome, words: str = "") -> Kill:
    if outcome == "missed":
        return Kill(moment=Moment(revision="r1", after_s=1), at_s=None, outcome=outcome)
    left = Left(revision="r1", new_tables=["spans"], stray_tables=["_alembic_tmp_runs"])
    return Kill(
        moment=Moment(revision="r1", after_s=1), at_s=1.25, during="r2", left=left,
        outcome=outcome, again_s=2, words=words,
    )  # fmt: skip


def rehearsal(*kills: Kill, store: str = "sqlite", failure: str | None = None) -> Rehearsal:
    return Rehearsal(
        url=str(URL), store=store, family="tracking store", rehearsed_on="SQLite 3.40.1", mlflow="3.17.2",
        revision="r1", head="r3", migrations=2, rows=1234, seconds={"copy": 0.1, "upgrade": 3.0}, steps=steps(1, 2),
        kills=list(kills), failure=failure,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "code", "judgement"),
    [
        (rehearsal(kill("recovered")), ExitCode.PASS, "RECOVERABLE: after a kill -9 a second upgrade made"),
        (rehearsal(kill("recovered"), kill("recovered")), ExitCode.PASS, "RECOVERABLE: after each of 2 kills"),
        (rehearsal(kill("recovered"), kill("blocked", "no")), ExitCode.FAIL, "NOT RECOVERABLE: after 1 of 2 kills a"),
        (rehearsal(kill("blocked", "no"), store="mysql"), ExitCode.FAIL, "MySQL commits each statement"),
        (rehearsal(kill("blocked", "no"), kill("differs")), ExitCode.FAIL, "after 1 of 2 kills a second upgrade ends"),
        (rehearsal(kill("differs")), ExitCode.FAIL, "ends well, with another store; restore the backup"),
        (rehearsal(kill("missed")), ExitCode.INCONCLUSIVE, "UNKNOWN: the upgrade is too quick"),
        (rehearsal(kill("missed"), kill("recovered")), ExitCode.INCONCLUSIVE, "UNKNOWN"),
        (rehearsal(failure="no room"), ExitCode.FAIL, "FAILS: this upgrade fails on a copy that nothing disturbed"),
    ],
)  # fmt: skip
def test_the_worst_kill_is_the_judgement_and_the_last_line(found: Rehearsal, code: ExitCode, judgement: str) -> None:
    assert found.exit_code is code
    assert judgement in list(lines(found))[-1]


def test_what_was_left_and_what_the_second_upgrade_said_is_told() -> None:
    told = "\n".join(lines(rehearsal(kill("blocked", "Duplicate column name 'x'"))))
    assert "after 1.2 s, in migration r2" in told
    assert "left      revision r1; 1 new tables; stray tables _alembic_tmp_runs" in told
    assert "again     failed after 2.0 s: Duplicate column name 'x'" in told


def test_a_rehearsal_reads_back_as_it_was_written() -> None:
    proof = Proof(source="a", target="b", family="x", revision=None, tables=[], rows_not_named=0, client=None)
    found = rehearsal(kill("recovered"), kill("differs").model_copy(update={"proof": proof}))
    assert Rehearsal.model_validate_json(found.model_dump_json()) == found


def differing(source_rows: int, target_rows: int, *sorts: Sort) -> Proof:
    cells = [CellDifference(column="at", source="1", target="2")]
    rows = [
        RowDifference(table="roles", key={"id": "1"}, sort=sort, cells=cells if sort == "changed" else [])
        for sort in sorts
    ]
    tables = [TableProof(table="roles", source_rows=source_rows, target_rows=target_rows)]
    return Proof(
        source="a", target="b", family="x", revision=None, tables=tables, rows=rows, rows_not_named=0, client=None
    )


def test_rows_with_keys_by_chance_are_excused_only_if_there_are_as_many() -> None:
    twins = {"roles.*"}
    assert harmless(differing(3, 3, "missing", "extra"), twins)
    assert not harmless(differing(3, 2, "missing"), twins)
    assert not harmless(differing(3, 4, "extra"), twins)
    assert not harmless(differing(3, 3, "missing", "extra"), set())
    assert not harmless(differing(3, 3, "changed"), twins)
    assert harmless(differing(3, 3, "changed"), {"roles.at"})
    assert not harmless(differing(3, 3, "changed").model_copy(update={"rows_not_named": 1}), {"roles.at"})
