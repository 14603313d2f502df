"""Runs tracked in real MLflow stores: what is logged is read back equal, once, and a planted change is found."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from history_runs import named, planted, realistic, written
from stores import Park, sql

from bench import history
from bench.cli_history import history as command
from bench.errors import BadInput
from bench.history import logged, store
from bench.history.logged import FILES
from bench.history.record import LOGGED, RUN_ID, record
from bench.history.series import history as history_of
from bench.results import Results
from bench.servers import tracking
from bench.servers.tracking import RunningTracking, TrackingSettings

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("quick_start")]
SECRET = "Geh3im"


@pytest.fixture(scope="module")
def server(park: Park, public_tmp: Path) -> Iterator[RunningTracking]:
    with tracking.start(park.fresh("sqlite", public_tmp).mlflow, TrackingSettings(workers=1)) as running:
        yield running


@pytest.fixture
def file(park: Park, tmp_path: Path) -> str:
    """An SQLite file with MLflow's schema and nothing in it."""
    return park.fresh("sqlite", tmp_path).mlflow


@pytest.fixture(params=[pytest.param("server", marks=pytest.mark.slow), "file", "folder"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A tracking store of each kind that needs no database server."""
    if request.param == "server":
        return str(request.getfixturevalue("server").url)
    return str(request.getfixturevalue("file")) if request.param == "file" else str(tmp_path / "mlruns")


def runs_of(uri: str, results: Results) -> list[Any]:
    """MLflow's own runs of ours, by such a search as its UI makes."""
    with store.client(store.address(uri)) as client:
        found = client.get_experiment_by_name(record(results).experiment)
        return list(client.search_runs([found.experiment_id], f"tags.`{RUN_ID}` = '{results.run.id}'"))


def asked(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def test_what_was_logged_is_read_back_equal_and_once(uri: str, tmp_path: Path) -> None:
    results = realistic()
    folder = written(results, tmp_path / "results" / results.run.id)
    said = history.track(results, folder, uri)
    assert said.startswith("tracked: ")
    assert "\n" not in said
    (run,) = runs_of(uri, results)
    whole = record(results)
    assert run.data.metrics == whole.metrics
    assert run.data.params == whole.params
    assert whole.tags.items() <= run.data.tags.items()
    assert (run.info.start_time, run.info.end_time) == (whole.started, whole.ended)
    assert (run.info.status, run.info.run_name) == ("FINISHED", results.run.id)
    with store.client(store.address(uri)) as client:
        assert sorted(one.path for one in client.list_artifacts(run.info.run_id)) == sorted(FILES)
        copied = Path(client.download_artifacts(run.info.run_id, "results.json", str(tmp_path)))
        assert copied.read_bytes() == (folder / "results.json").read_bytes()
        found = client.search_runs([run.info.experiment_id], "tags.`trackbench.verdict` = 'fail'")
        assert [one.info.run_id for one in found] == [run.info.run_id]
    (past,) = history.past(uri, results.run.scenario)
    assert (past.metrics, past.params, past.id) == (whole.metrics, whole.params, results.run.id)

    assert history.track(results, folder, uri).startswith("tracked already: ")
    assert len(runs_of(uri, results)) == 1


def test_a_planted_change_is_found_in_what_mlflow_kept(file: str, tmp_path: Path) -> None:
    for results in planted(14, 7, 1.4):
        history.track(results, written(results, tmp_path / results.run.id), file)
    (machine,) = history_of("quick", file, history.past(file, "quick")).machines
    ((series, shift),) = machine.shifts
    assert series.name == "p99_ms mysql direct log_metric 20"
    assert shift.run.started.day == 8
    assert shift.change.ratio == pytest.approx(1.4, rel=0.05)
    assert [run.id for run in history.past(file, "quick", 3)] == [run.id for run in machine.runs[-3:]]

    page = tmp_path / "page.html"
    ended = asked("quick", "--track", file, "--out", str(page))
    assert ended.exit_code == 0, ended.output
    assert "worse  p99_ms mysql direct log_metric 20: x1." in ended.output
    assert str(page) in ended.output
    assert "<svg" in page.read_text(encoding="utf-8")

    told = json.loads(asked("quick", "--track", file, "--json", "--figure", "p99_ms").stdout)
    (one,) = (each for each in told["series"] if each["cell"])
    assert len(one["values"]) == len(told["runs"]) == 14
    assert one["changes"][0]["index"] == 7
    assert json.loads(asked("--track", file, "--json").stdout) == [
        {"scenario": "quick", "runs": 14, "latest": "2025-03-14T06:00:00+00:00"}
    ]


def test_hostile_names_are_logged_and_read_back(file: str, tmp_path: Path) -> None:
    results = named('20250101T000000Z-it\'s "odd"', 'it\'s "odd" /é')
    cells = [results.cells[0].model_copy(update={"candidate": name}) for name in ("PG", "pg", "../x", "a b", "run", "")]
    results = results.model_copy(update={"cells": cells, "verdicts": {one.candidate: "pass" for one in cells}})
    folder = written(results, tmp_path / "odd")
    assert history.track(results, folder, file).startswith("tracked: ")
    assert history.track(results, folder, file).startswith("tracked already: ")
    (past,) = history.past(file, results.run.scenario)
    assert past.metrics == record(results).metrics
    assert len([key for key in past.metrics if key.endswith("/p99_ms")]) == 6
    assert [one.scenario for one in history.scenarios(file)] == [results.run.scenario]


def test_a_run_that_was_cut_short_while_logged_is_completed(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = named("cut short")
    folder = written(results, tmp_path / "run")

    def gone(*_: object) -> list[str]:
        raise OSError("the store went away")

    with monkeypatch.context() as patched:
        patched.setattr(logged, "_keep_files", gone)
        with pytest.raises(BadInput, match="went away"):
            history.track(results, folder, file)
    (run,) = runs_of(file, results)
    assert LOGGED not in run.data.tags
    assert history.past(file, "quick") == []
    assert asked("quick", "--track", file).exception.args[0].endswith("run it again")

    assert history.track(results, folder, file).startswith("tracked: ")
    (again,) = runs_of(file, results)
    assert again.info.run_id == run.info.run_id
    assert again.data.metrics == record(results).metrics
    assert [past.id for past in history.past(file, "quick")] == ["cut short"]


def test_where_files_cannot_be_kept_the_rest_is_logged_and_it_is_said(file: str, tmp_path: Path) -> None:
    with store.client(store.address(file)) as client:
        client.create_experiment("trackbench/quick", "file:///proc/nowhere")
    said = history.track(named("no files"), written(named("no files"), tmp_path / "run"), file).splitlines()
    assert said[0].startswith("tracked: ")
    assert said[1].startswith("The report was not logged: file:///proc/nowhere")
    assert [past.id for past in history.past(file, "quick")] == ["no files"]


def test_files_of_a_new_database_lie_beside_it(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    history.track(named("here"), written(named("here"), tmp_path / "run"), file)
    assert list(elsewhere.iterdir()) == []
    assert len(list((tmp_path / "mlruns" / "trackbench-quick").rglob("report.html"))) == 1


def test_an_experiment_that_was_deleted_is_not_written_to(file: str, tmp_path: Path) -> None:
    folder = written(named("one"), tmp_path / "run")
    history.track(named("one"), folder, file)
    with store.client(store.address(file)) as client:
        client.delete_experiment(client.get_experiment_by_name("trackbench/quick").experiment_id)
    with pytest.raises(BadInput, match="was deleted there") as caught:
        history.track(named("two"), folder, file)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(BadInput, match="has no runs of 'quick'"):
        history.past(file, "quick")


def test_runs_are_added_by_their_folders(file: str, tmp_path: Path) -> None:
    folder = written(named("later"), tmp_path / "later")
    ended = asked("--track", file, "--add", str(folder), "--add", str(folder / "results.json"))
    assert ended.exit_code == 0, ended.output
    assert ended.stderr.startswith("tracked: ")
    assert "tracked already: " in ended.stderr
    assert ended.stdout.splitlines()[1].split()[:2] == ["quick", "1"]


def test_nothing_of_mlflow_is_left_in_this_process(
    file: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    environment, handlers, level = dict(os.environ), list(logging.getLogger().handlers), logging.getLogger().level
    new = f"sqlite:///{tmp_path / 'new.db'}"  # so that MLflow makes its tables, of which it says much
    for place in (file, new):
        history.track(named("quiet"), written(named("quiet"), tmp_path / "run"), place)
    assert dict(os.environ) == environment
    assert (logging.getLogger().handlers, logging.getLogger().level) == (handlers, level)
    assert logging.root.manager.disable == 0
    assert capfd.readouterr() == ("", "")


def test_a_store_of_an_older_mlflow_is_refused(file: str, tmp_path: Path, park: Park) -> None:
    url = park.fresh("sqlite", tmp_path)
    sql(url, "UPDATE alembic_version SET version_num = 'cbc13b556ace'")
    with pytest.raises(BadInput, match="an older MLflow than our"):
        history.check(url.mlflow)
    assert history.told(named("x"), tmp_path, url.mlflow).startswith("not tracked: ")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["quick"], ["nothing was tracked there"]),
        (["quick", "--figure", "p98_ms"], ["nothing was tracked there"]),
        (["--add", "nowhere"], ["nowhere", "results/"]),
    ],
)
def test_what_is_not_there_is_told_in_one_line(arguments: list[str], parts: list[str], file: str) -> None:
    ended = asked(*arguments, "--track", file)
    assert isinstance(ended.exception, BadInput)
    said = str(ended.exception)
    assert len(said.splitlines()) == 1
    for part in parts:
        assert part in said


def test_a_figure_that_no_run_has_is_refused(file: str, tmp_path: Path) -> None:
    history.track(named("one"), written(named("one"), tmp_path / "run"), file)
    said = str(asked("quick", "--track", file, "--figure", "p98_ms").exception)
    assert "p98_ms" in said
    assert "p99_ms" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["postgresql", "timescaledb", "mysql"])
def test_databases_without_a_server_in_front(name: str, park: Park, tmp_path: Path) -> None:
    url = park.fresh(name, tmp_path)
    results = planted(2, 1, 2.0)[1]
    cells = [results.cells[0].model_copy(update={"candidate": each}) for each in ("PG", "pg", "pg ", "pḡ")]
    results = results.model_copy(update={"cells": cells})  # names that MySQL's collation takes for one another
    folder = written(results, tmp_path / "results" / "run")
    said = history.track(results, folder, url.mlflow)
    assert said.startswith("tracked: ")
    assert "files are on this machine" in said
    assert url.password not in said
    (past,) = history.past(url.mlflow, "quick")
    assert past.metrics == record(results).metrics
    assert history.track(results, folder, url.mlflow).startswith("tracked already")
    wrong = url.mlflow.replace(url.password, SECRET)
    with pytest.raises(BadInput) as caught:
        history.check(wrong)
    assert SECRET not in str(caught.value)


@pytest.mark.slow
def test_a_login_is_asked_for_used_and_never_shown(park: Park, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    settings = TrackingSettings(workers=1, authentication=True)
    with tracking.start(park.fresh("sqlite", tmp_path).mlflow, settings) as server:
        with pytest.raises(BadInput, match="wants a login"):
            history.check(server.url)
        wrong = server.url.replace("http://", f"http://trackbench:{SECRET}@")
        with pytest.raises(BadInput, match="refuses this login") as caught:
            history.check(wrong)
        assert SECRET not in str(caught.value)
        password = server._secrets[0]
        right = wrong.replace(SECRET, password)
        said = history.track(named("mine"), written(named("mine"), tmp_path / "run"), right)
        assert said.startswith(f"tracked: {server.url}/#/experiments/")
        assert password not in said
        assert [past.id for past in history.past(right, "quick")] == ["mine"]
