"""`trackbench run … --source … --target …`: the store is moved, loaded and proved again; what is planted is found."""

import asyncio
import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from commands import Ask, Command, refused
from migrated import Prepared, nasty
from stores import Park, carry_out, sql

from bench import loader, scenario
from bench.decision_request import wanted
from bench.decision_scenario import FAULTS
from bench.job import Job
from bench.migrate.catalog import AUTH, OURS
from bench.stores import schema
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers
TINY = """
title = "tiny"
reference = "sqlite"
control = ""
rounds = 1
warmup_s = 0.0
duration_s = 0.3
[prefill]
runs = 30
metrics = 9_000
[candidates.sqlite]
store = "sqlite"
[workloads.mixed]
kind = "mixed"
read_share = 0.25
[[cells]]
workload = "mixed"
concurrency = [2]
[[criteria]]
name = "whole"
expression = "integrity == 1"
"""
HTTP = """
[[cells]]
driver = "http"
workload = "mixed"
concurrency = [2]
[[criteria]]
"""
READY = scenario.load("migration").text.partition("# The move itself")[2]
TEXT = TINY + "#" + READY


@pytest.fixture
def source(tmp_path: Path) -> StoreUrl:
    """A small store with everything in it that breaks careless copies."""
    return nasty(tmp_path / "source.db")


@pytest.fixture
def quickly(park: Park, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's schema is made by its own statements, in no time."""
    monkeypatch.setattr(schema, "create_at", Prepared(park, tmp_path).create_at)


def digest(url: StoreUrl) -> str:
    assert url.path is not None
    return hashlib.sha256(url.path.read_bytes()).hexdigest()


def results_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results" / "latest" / "results.json").read_text())
    return found


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    return {step["step"]: step["outcome"] for step in found["checklist"]}


@pytest.mark.slow
@pytest.mark.usefixtures("quickly", "quick_start")
def test_a_store_is_moved_loaded_and_proved_again(source: StoreUrl, tmp_path: Path, ask: Ask) -> None:
    before = digest(source)
    target = StoreUrl("sqlite", path=tmp_path / "target.db")
    code, out, err = ask("--source", str(source), "--target", str(target), text=TEXT)
    assert code in (0, 1), err  # what a file is fit for in production is for its checks to say
    found = results_in(tmp_path)
    steps = outcomes(found)
    for step in ("copy", "proof: every row equal", "proof: structure equal", "load held on the copy"):
        assert steps[step] == "pass"
    assert steps["equal again after the load"] == "pass"
    assert steps["proof: MLflow's client reads the same"] == "pass"
    assert steps["faults survived"] == steps["authentication database"] == "not done"
    ready = {one["field"]: one["outcome"] for one in found["criteria"] if one["table"] == "ready"}
    assert ready["migration.equal"] == ready["migration.equal_after_load"] == "pass"
    assert digest(source) == before
    assert not sql(target, "SELECT name FROM experiments WHERE name LIKE 'trackbench-%'")
    assert sql(target, f"SELECT phase FROM {OURS}") == [("finished",)]
    assert found["candidates"][0]["theirs"]
    assert "your data" in found["candidates"][0]["prefill"]
    assert f"trackbench migrate --follow {source} {target}" in out


@pytest.mark.slow
@pytest.mark.usefixtures("quick_start")
def test_the_same_command_again_goes_on_with_the_copy_that_is_there(source: StoreUrl, tmp_path: Path, ask: Ask) -> None:
    target = StoreUrl("sqlite", path=tmp_path / "target.db")
    words = ("--source", str(source), "--target", str(target))
    ask(*words, text=TEXT)
    steps = outcomes(results_in(tmp_path))
    sql(target, "DELETE FROM params")
    _, out, _ = ask(*words, text=TEXT)
    again = results_in(tmp_path)
    assert outcomes(again) == steps
    assert again["move"]["migration"]["passes"][-1]["inserted"] > 0
    assert "continuing" in out


@pytest.mark.usefixtures("quickly", "quick_start")
def test_a_row_that_goes_lost_under_the_load_is_exit_code_4(source: StoreUrl, tmp_path: Path) -> None:
    target = StoreUrl("sqlite", path=tmp_path / "target.db")

    def vandal(job: Job) -> Any:
        sql(target, "DELETE FROM tags WHERE rowid = (SELECT min(rowid) FROM tags)")
        sql(target, "UPDATE params SET value = 'x' WHERE rowid = (SELECT min(rowid) FROM params)")
        return loader.start(job)

    move = wanted(str(source), str(target), ())
    assert move is not None
    text = TEXT.replace('reference = "sqlite"\n', "")
    found = carry_out(text, {"sqlite": target}, tmp_path, start=vandal, move=move, target="sqlite")
    assert (found.exit_code, found.verdict) == (4, "fail")
    assert "after the load: 1 row missing, 1 row changed" in found.reasons["sqlite"]
    steps = {step.step: step for step in found.checklist}
    assert steps["proof: every row equal"].outcome == "pass"
    assert steps["equal again after the load"].outcome == "fail"


def test_what_can_not_be_moved_exactly_stops_the_run_before_anything_is_touched(
    park: Park, source: StoreUrl, tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql(source, "UPDATE params SET value = 'a' || char(0) || 'b' WHERE rowid = (SELECT min(rowid) FROM params)")
    target = park.empty("postgresql", tmp_path)
    monkeypatch.setenv("TARGET_OF_TESTS", target.mlflow)
    code, out, _ = ask("--source", str(source), "--target", "env:TARGET_OF_TESTS", text=TEXT)
    assert code == 1
    found = results_in(tmp_path)
    steps = {step["step"]: step for step in found["checklist"]}
    assert steps["preflight"]["outcome"] == "fail"
    assert steps["preflight"]["said"].startswith("params.value: ")
    assert steps["load held on the copy"]["said"] == "the store can't be moved exactly"
    assert not found["cells"]
    assert not sql(target, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert target.password not in json.dumps(found) + out


def test_bad_input_is_one_line_and_changes_nothing(park: Park, source: StoreUrl, tmp_path: Path, ask: Ask) -> None:
    full = park.fresh("sqlite", tmp_path)
    before = digest(full), digest(source)
    said = {
        (str(source), str(full)): "not empty",
        (str(source), str(source)): "the same",
        (f"sqlite:///{tmp_path}/missing.db", str(tmp_path / "x.db")): "wants a URL",
        (f"sqlite:///{tmp_path}/missing.db", f"sqlite:///{tmp_path}/x.db"): "missing.db",
    }
    for (ours, theirs), words in said.items():
        assert words in refused(ask("--source", ours, "--target", theirs, text=TEXT))
    assert "does not go with" in refused(ask("--source", str(source), "--target", "mysql", "--keep", text=TEXT))
    assert (digest(full), digest(source)) == before
    assert not (tmp_path / "x.db").exists()
    assert not list((tmp_path / "results").glob("*/results.json"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["postgresql", "timescaledb", "mysql"])
def test_a_database_of_the_users_holds_the_copy_and_nothing_else(
    park: Park, source: StoreUrl, tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Through MLflow's server too, with readiness, a backup, and the authentication database moved along."""
    target = park.empty(name, tmp_path)
    auth = park.empty("sqlite" if name == "mysql" else name, tmp_path)  # which MLflow itself can't make on MySQL
    ours = StoreUrl("sqlite", path=tmp_path / "basic_auth.db")
    asyncio.run(schema.create_at(ours, AUTH, schema.lineage(AUTH).head))
    sql(ours, "INSERT INTO users (username, password_hash, is_admin) VALUES ('alice', 'x', 0)")
    for variable, url in (("TARGET_OF_TESTS", target), ("AUTH_OF_TESTS", auth)):
        monkeypatch.setenv(variable, url.mlflow.replace("postgresql+psycopg2", url.store))
    text = TEXT.replace("[[criteria]]", HTTP, 1)
    words = ("--source", str(source), "--target", "env:TARGET_OF_TESTS", "--also", f"{ours}=env:AUTH_OF_TESTS")
    code, out, err = ask(*words, text=text)
    assert code in (0, 1, 3), err
    found = results_in(tmp_path)
    steps = outcomes(found)
    assert steps["equal again after the load"] == "pass"
    assert steps[f"authentication database: {ours}"] == "pass"
    assert steps["users may do the same"] == "pass"
    assert steps["backup made and restored"] == "pass", found["checklist"]
    assert steps["faults survived"] == "not done"
    assert {one["name"] for one in found["candidates"]} == {"sqlite", name}
    assert all("your data" in one["prefill"] for one in found["candidates"])
    assert target.password not in json.dumps(found) + out + err
    assert "env:TARGET_OF_TESTS" in json.dumps(found["cutover"])


@pytest.mark.slow
def test_on_a_private_server_faults_are_tried_and_the_copy_outlives_them(
    source: StoreUrl, tmp_path: Path, ask: Ask
) -> None:
    code, out, err = ask("--source", str(source), "--target", "postgresql", text=TEXT)
    assert code in (0, 3), out + err
    found = results_in(tmp_path)
    steps = outcomes(found)
    assert steps["equal again after the load"] == "pass"
    assert {one["candidate"] for one in found["faults"]} == {"postgresql"}
    assert {one["fault"] for one in found["faults"]} == {name for names in FAULTS.values() for name in names}
    assert "lost" not in {one["outcome"] for one in found["faults"]}
    assert steps["readiness"] == "not done"


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on(source: StoreUrl, tmp_path: Path, public_tmp: Path) -> None:
    target = StoreUrl("sqlite", path=tmp_path / "target.db")
    file = tmp_path / "tiny.toml"
    file.write_text(TEXT.replace("rounds = 1", "rounds = 200"))
    out = tmp_path / "out"
    words = ("run", str(file), "--source", str(source), "--target", str(target), "--out", str(out / "results"))
    with Command(public_tmp / "interrupted", out, *words) as command:
        command.until("results/latest/trials/0002-*/ledger/0001.bin")
        command.send(signal.SIGTERM)
        assert command.wait() == 143
        found = results_in(out)
        assert found["verdict"] != "pass"
        (note,) = [one for one in found["notes"] if one.startswith("Interrupted: ")]
        assert f"trackbench migrate {source} {target}" in note
        assert sql(target, f"SELECT phase FROM {OURS}") == [("finished",)]
        assert not sql(target, "SELECT name FROM experiments WHERE name LIKE 'trackbench-%'")
        command.leaves_nothing()
