"""The steps of a cut-over and of going back: their commands are of this very case, and hold no password."""

from itertools import product
from pathlib import Path

import pytest

from bench.decision_record import Act
from bench.decision_request import steps_after
from bench.decision_steps import Other, Place, Stage, cutover, place, rollback
from bench.stores.schema import mlflow_version
from bench.stores.url import parse

SECRET = "s3cret"
URLS = {
    "sqlite": "sqlite:////srv/mlflow/mlflow.db",
    "postgresql": f"postgresql://mlflow:{SECRET}@db.example/mlflow",
    "timescaledb": f"timescaledb://mlflow:{SECRET}@db.example:5433/mlflow?sslmode=require",
    "mysql": f"mysql+pymysql://mlflow:{SECRET}@db.example/mlflow",
}


def at(name: str, variable: str = "TARGET_URL") -> Place:
    return place(Path("/srv/mlruns") if name == "file" else parse(URLS[name]), variable)


def text(acts: list[Act]) -> str:
    return "\n".join(line for act in acts for line in (act.do, *act.commands, act.watch))


@pytest.mark.parametrize(("source", "target"), list(product(["file", *URLS], URLS)))
def test_no_command_holds_a_password_and_each_names_both_stores(source: str, target: str) -> None:
    here, there = at(source, "SOURCE_URL"), at(target)
    whole = text(cutover(here, there) + rollback(here, there))
    assert SECRET not in whole
    assert f"trackbench migrate --follow {here.argument} {there.argument}" in whole
    assert f"trackbench migrate {there.argument} " in whole
    if there.variable:
        assert f"export TARGET_URL='{there.told}'" in whole
        assert "put in the password" in whole


@pytest.mark.parametrize("name", ["file", *URLS])
def test_the_old_server_is_started_on_the_untouched_source(name: str) -> None:
    back = rollback(at(name, "SOURCE_URL"), at("postgresql"))
    hurry = next(act for act in back if act.do.startswith("In a hurry"))
    assert any(at(name).mlflow in command for command in hurry.commands)
    taken = next(act for act in back if act.do.startswith("Or take along"))
    assert at(name).argument not in taken.commands[-1].split()[3:]  # it goes into a new store, never into the source
    assert "back" in text([taken]).lower()


def test_mlflow_is_told_a_url_that_it_knows() -> None:
    assert at("timescaledb").mlflow == "postgresql+psycopg2://mlflow:***@db.example:5433/mlflow?sslmode=require"
    assert at("mysql").mlflow == "mysql+pymysql://mlflow:***@db.example:3306/mlflow"
    for kind in ("postgresql", "timescaledb", "mysql", "mariadb"):
        assert place(kind, "TARGET_URL").mlflow.startswith(("postgresql://", "mysql+pymysql://"))
    commands = at("mysql").server
    assert commands[0].startswith("export MLFLOW_BACKEND_STORE_URI='mysql+pymysql://")
    assert commands[1].startswith("mlflow server ")


def test_a_url_without_a_password_needs_no_variable() -> None:
    plain = place(parse("postgresql://db.example/mlflow"), "TARGET_URL")
    assert plain.argument == "postgresql://db.example:5432/mlflow"
    assert not plain.setting


def test_what_a_shell_would_act_on_is_quoted() -> None:
    odd = place(parse("sqlite:////srv/my store;rm -rf/mlflow.db"), "")
    assert odd.argument == "'sqlite:////srv/my store;rm -rf/mlflow.db'"
    assert "'/srv/my store;rm -rf/mlflow.db'" in text(cutover(odd, at("mysql")))


def test_the_order_is_follow_stop_last_pass_look_start_watch() -> None:
    does = [act.do for act in cutover(at("sqlite"), at("postgresql"), [Other(at("sqlite"), at("mysql", "ALSO_1"))])]
    wanted = ["Tell the shell", "Copy while", "Stop all", "Let the last", "Move what", "Look at", "Start MLflow"]
    wanted += ["Look before", "Watch", "Keep the source"]
    assert [one.startswith(begin) for one, begin in zip(does, wanted, strict=True)] == [True] * 10


def test_after_a_run_the_copy_that_is_there_is_followed() -> None:
    whole = text(cutover(at("sqlite"), at("postgresql"), stage="copied"))
    assert "from the copy that is there" in whole
    assert "what the source lacks is removed there" in whole


def test_after_a_migration_has_ended_only_the_start_is_left() -> None:
    does = [act.do for act in cutover(at("sqlite"), at("postgresql"), stage="moved")]
    wanted = ["Tell the shell", "Stop all", "Look at", "Start MLflow", "Look before", "Watch", "Keep the source"]
    assert [one.startswith(begin) for one, begin in zip(does, wanted, strict=True)] == [True] * 7
    whole = text(cutover(at("sqlite"), at("postgresql"), stage="moved"))
    assert f"trackbench verify {at('sqlite').argument} env:TARGET_URL" in whole


def test_a_file_store_goes_back_into_sqlite() -> None:
    whole = text(rollback(at("file"), at("postgresql")))
    assert "trackbench migrate env:TARGET_URL sqlite:////srv/mlflow-back.db" in whole
    assert "mlflow server --backend-store-uri /srv/mlruns" in whole


def test_a_servers_store_goes_back_into_a_database_beside_it() -> None:
    whole = text(rollback(at("mysql", "SOURCE_URL"), at("postgresql")))
    assert "export BACK_URL='mysql://mlflow:***@db.example:3306/mlflow_back'" in whole
    assert "trackbench migrate env:TARGET_URL env:BACK_URL" in whole


@pytest.mark.parametrize("stage", ["before", "copied", "moved"])
def test_an_upgraded_source_takes_a_newer_mlflow_before_the_start(stage: Stage) -> None:
    does = [act.do for act in cutover(at("sqlite"), at("postgresql"), stage=stage, upgraded_from="acf3f17fdcc7")]
    (number,) = [number for number, do in enumerate(does) if f"Install MLflow {mlflow_version()} or newer" in do]
    assert does[number + 1].startswith("Start MLflow")
    back = text(rollback(at("sqlite"), at("postgresql"), upgraded_from="acf3f17fdcc7"))
    assert "Only this store works with the MLflow that it had before." in back
    assert f"with MLflow {mlflow_version()} or newer" in back
    plain = text(cutover(at("sqlite"), at("postgresql"), stage=stage) + rollback(at("sqlite"), at("postgresql")))
    assert mlflow_version() not in plain


def test_steps_after_a_migration_know_of_its_upgrade() -> None:
    there, back = steps_after("sqlite:////srv/a.db", "sqlite:////srv/b.db", "acf3f17fdcc7")
    assert "Install MLflow" in text(there)
    assert mlflow_version() in text(back)
    assert "Install MLflow" not in text(steps_after("sqlite:////srv/a.db", "sqlite:////srv/b.db")[0])


def beside(name: str) -> Place:
    return place(parse(f"sqlite:////srv/mlflow/{name}.db"), "")


def commands(acts: list[Act], begin: str) -> list[str]:
    return next(act.commands for act in acts if act.do.startswith(begin))


def test_mlflow_is_told_of_the_databases_beside_its_store() -> None:
    users = place(parse(f"postgresql://ml%25flow:{SECRET}@db.example/auth"), "ALSO_1_TARGET")
    also = [
        Other(beside("auth"), users, "authentication database"),
        Other(beside("registry"), at("mysql", "ALSO_2_TARGET"), "tracking store"),
    ]
    start = commands(cutover(at("sqlite"), at("postgresql"), also), "Start MLflow")
    assert start[0].startswith(
        "# in basic_auth.ini: database_uri = postgresql+psycopg2://ml%%25flow:***@db.example:5432/auth"
    )
    assert "%" in users.mlflow
    assert users.mlflow.replace("%", "%%") in start[0]
    assert start[1].startswith("export MLFLOW_REGISTRY_STORE_URI='mysql+pymysql://mlflow:***@db.example:3306/mlflow'")
    assert start[-1].startswith("mlflow server")
    back = rollback(at("sqlite"), at("postgresql"), also)
    hurry, taken, again = (commands(back, begin) for begin in ("In a hurry", "Or take along", "Start the old kind"))
    assert "# in basic_auth.ini: database_uri = sqlite:////srv/mlflow/auth.db" in hurry
    assert "export MLFLOW_REGISTRY_STORE_URI=sqlite:////srv/mlflow/registry.db" in hurry
    assert "chmod u+w /srv/mlflow/auth.db" in hurry
    assert [line for line in taken if line.startswith("trackbench")] == [
        "trackbench migrate env:TARGET_URL sqlite:////srv/mlflow/mlflow-back.db",
        "trackbench migrate env:ALSO_1_TARGET sqlite:////srv/mlflow/auth-back.db",
        "trackbench migrate env:ALSO_2_TARGET sqlite:////srv/mlflow/registry-back.db",
    ]
    assert "export MLFLOW_REGISTRY_STORE_URI=sqlite:////srv/mlflow/registry-back.db" in again
    assert SECRET not in text(back)


def test_a_database_whose_kind_is_not_known_yet_is_told_both_ways() -> None:
    (first, *_) = commands(cutover(at("sqlite"), at("postgresql"), [Other(beside("x"), beside("y"))]), "Start MLflow")
    assert first.startswith("#")
    assert "basic_auth.ini" in first
    assert "MLFLOW_REGISTRY_STORE_URI" in first
