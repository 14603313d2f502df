"""The steps of a cut-over and of going back: their commands are of this very case, and hold no password."""

from itertools import product
from pathlib import Path

import pytest

from bench.decision_record import Act
from bench.decision_steps import Place, cutover, place, rollback
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
    does = [act.do for act in cutover(at("sqlite"), at("postgresql"), [(at("sqlite"), at("mysql", "ALSO_1"))])]
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
