"""What a run is called and what is logged of it; what a tracking URI means."""

import math
import posixpath
import re
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures_results import realistic
from hypothesis import given, settings
from hypothesis import strategies as st
from made import a_cell, a_result

from bench import history
from bench.errors import BadInput
from bench.history import logged, names, store
from bench.history.record import CODES, EXIT_CODE, MACHINE, REVISION, RUN_ID, VERDICT, figures, machine_of, record
from bench.results import Capacity, Comparison, Control, Machine, Results
from bench.scenario import rate_label, share_label
from bench.stores import schema

SECRET = "hunter2hunter2"
hostile = st.one_of(
    st.text(max_size=60),
    st.text("PGpg-.0a1b2c3d/ _:é\0\n\ud800", max_size=14),
    st.sampled_from(["", ".", "..", "../x", "a/b", "a//b", "run", "RUN", "é", "x" * 400, "pg-0a1b2c3d", "p g", "p_g"]),
)


def is_allowed(key: str) -> bool:
    """MLflow's own rule (mlflow.utils.validation), without the colon that it does not take on Windows."""
    return bool(re.fullmatch(r"[/\w.\- ]{1,250}", key)) and posixpath.normpath(key) == key and not key.startswith("..")


# -- names ------------------------------------------------------------------------------------------------


@given(hostile)
def test_a_part_is_allowed_whatever_the_name(name: str) -> None:
    made = names.part(name)
    assert is_allowed(made)
    assert made.isascii()
    assert "/" not in made
    assert made == names.part(name)


@settings(max_examples=200)
@given(hostile, hostile)
def test_two_names_are_two_parts_where_case_counts_for_nothing_too(one: str, other: str) -> None:
    if one != other:
        assert names.part(one).lower() != names.part(other).lower()


@pytest.mark.parametrize("name", ["postgresql", "log_metric", "pg-16.2", "a", "2", "with_2_workers"])
def test_a_plain_name_is_itself(name: str) -> None:
    assert names.part(name) == name


def test_a_name_that_is_not_plain_can_still_be_read() -> None:
    assert re.fullmatch(r"PG-tuned-[0-9a-f]{8}", names.part("PG tuned"))
    assert names.part(names.part("PG tuned")) != names.part("PG tuned")  # nobody can take its place


@pytest.mark.parametrize(
    ("place", "figure", "key"),
    [
        (names.Place("postgresql", "http", "log_metric", 20), "p99_ms", "postgresql/http/log_metric/20/p99_ms"),
        (names.Place("mysql", "direct", "mixed", 5, "80 %"), "p50_ms", "mysql/direct/mixed/5/80pct/p50_ms"),
        (names.Place("mysql", "direct", "mixed", 5, "62.5 %"), "late", "mysql/direct/mixed/5/62.5pct/late"),
        (names.Place("mysql", "direct", "mixed", 5, "150/s"), "late", "mysql/direct/mixed/5/150_per_s/late"),
        (names.Place("mysql", "direct", "mixed", 5, "1e+06/s"), "late", "mysql/direct/mixed/5/1000000_per_s/late"),
    ],
)
def test_a_metric_says_which_cell_and_is_read_back(place: names.Place, figure: str, key: str) -> None:
    assert names.metric(place, figure) == key
    assert names.read_metric(key) == (place, figure)


@settings(max_examples=50)
@given(st.floats(1e-3, 1e6), st.floats(0.001, 2))
def test_every_load_that_a_scenario_can_name_is_read_back(rate: float, share: float) -> None:
    for load in (rate_label(rate), share_label(share)):
        key = names.metric(names.Place("a", "http", "b", 1, load), "p99_ms")
        assert is_allowed(key)
        found = names.read_metric(key)
        assert found is not None
        assert found[0].load == load


@pytest.mark.parametrize("key", ["run/verdict", "mysql/verdict", "a/b/c/d/e", "a/b/c/²/e", "loss", "a/b/c/1/d/e/f"])
def test_what_is_no_cell_is_not_read_as_one(key: str) -> None:
    assert names.read_metric(key) is None


# -- records ----------------------------------------------------------------------------------------------


def test_a_record_holds_each_figure_that_was_measured_and_no_other() -> None:
    results = realistic()
    whole = record(results)
    assert all(is_allowed(key) and math.isfinite(value) for key, value in whole.metrics.items())
    for cell in results.cells:
        place = names.Place(cell.candidate, cell.driver, cell.workload, cell.concurrency, cell.load)
        for figure, value in figures(cell).items():
            assert whole.metrics.get(names.metric(place, figure)) == value
    at_20 = next(cell for cell in results.cells if (cell.candidate, cell.concurrency) == ("postgresql", 20))
    assert whole.metrics["postgresql/direct/log_metric/20/p99_ms"] == at_20.latency_ms.response.p99
    assert whole.metrics["postgresql/verdict"] == CODES["pass"]
    assert whole.metrics["run/verdict"] == CODES["fail"]
    assert whole.metrics["run/exit_code"] == 1
    assert (whole.ended - whole.started) == 3_125_000


def test_a_record_names_the_run_for_a_search() -> None:
    whole = record(realistic())
    assert whole.experiment == "trackbench/migration"
    assert whole.tags[RUN_ID] == whole.name == "20251121T212200Z-migration"
    assert whole.tags[REVISION] == "3f2c9ab" == whole.tags["mlflow.source.git.commit"]
    assert (whole.tags[VERDICT], whole.tags[EXIT_CODE]) == ("fail", "1")
    assert whole.tags["trackbench.verdict.timescaledb"] == "inconclusive"
    assert whole.tags[MACHINE] == "AMD EPYC 7B13, 2 cores, 8 GiB, x86_64"
    assert "PostgreSQL" in whole.params["server/postgresql"]
    assert whole.params["concurrency"] == "1, 5, 20"


def test_what_no_update_changes_is_the_machine() -> None:
    def of(**changes: str) -> str:
        return machine_of(a_result(environment={"machine": "Linux 6.1.0 x86_64", "memory": "7.8 GiB"} | changes))

    assert of() == of(machine="Linux 6.18.44 x86_64") == of(memory="8.1 GiB") == of(mlflow="3.18.0")
    assert len({of(), of(cores="4"), of(processor="other"), of(memory="16.0 GiB"), of(machine="Linux 6 arm")}) == 5
    assert machine_of(a_result(environment={})) == "unknown"


def hostile_result(one: str, other: str) -> Results:
    cells = [a_cell(candidate=name, workload=work) for name in (one, other) for work in (one, other)]
    base = a_result(cells=cells, verdicts={one: "pass", other: "fail"}, reasons={one: one, other: other})
    run = base.run.model_copy(update={"scenario": one, "id": other or "-", "command": one})
    return base.model_copy(update={"run": run, "conditions": {f"{one}: x": other, f"{other}: x": one, "y": "z"}})


@settings(max_examples=50)
@given(hostile, hostile)
def test_hostile_names_stay_apart_and_allowed(one: str, other: str) -> None:
    whole = record(hostile_result(one, other))
    distinct = len({one, other})
    assert sum(key.endswith("/p99_ms") for key in whole.metrics) == distinct**2
    assert sum(key.endswith("/verdict") for key in whole.metrics) == distinct + 1
    folders = {posixpath.dirname(key) for key in whole.metrics}
    assert not folders & set(whole.metrics)  # a file store could not keep both
    for keys in (whole.metrics, whole.params):
        assert all(map(is_allowed, keys))
        assert len({key.lower() for key in keys}) == len(keys)
    assert all(is_allowed(key) for key in whole.tags)
    assert all(value and len(value) <= 500 and value.isprintable() for value in whole.params.values())
    assert "\0" not in "".join(whole.tags.values())
    assert is_allowed(whole.experiment)


def test_control_capacity_and_machine_are_logged_too() -> None:
    compared = Comparison(
        candidate="mysql", driver="direct", workload="log_metric", concurrency=20, field="read.p95_ms", unit="ms",
        ours=1.0, theirs=1.0, rounds=(4, 4), ratio=1.02, interval=None, confidence=0.95, p=None, outcome="same",
        reason="",
    )  # fmt: skip
    place: dict[str, Any] = {"candidate": "mysql", "driver": "direct", "workload": "log_metric", "concurrency": 20}
    capacity = Capacity(
        **place, objective="p99_ms <= 250", holds=120.0, holds_load="120/s", breaks=None, breaks_load=None,
        maximum=150.0, reason="",
    )  # fmt: skip
    found = record(
        a_result(
            control=Control(**place, comparisons=[compared, compared.model_copy(update={"field": "x", "ratio": None})]),
            capacities=[capacity],
            machine=Machine(spin_ms=[3.0, 1.0, 2.0]),
        )
    ).metrics
    assert found["mysql/direct/log_metric/20/control_read_p95_ms_ratio"] == 1.02
    assert found["mysql/direct/log_metric/20/capacity_per_s"] == 120.0
    assert found["run/machine_spin_ms"] == 2.0
    assert "mysql/direct/log_metric/20/control_x_ratio" not in found
    assert "run/machine_sync_ms" not in found


def test_a_run_that_was_interrupted_says_so() -> None:
    base = a_result()
    whole = record(base.model_copy(update={"run": base.run.model_copy(update={"interrupted": True})}))
    assert whole.interrupted
    assert whole.tags["trackbench.interrupted"] == "yes"


# -- addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "uri"),
    [
        ("http://127.0.0.1:5000/", "http", "http://127.0.0.1:5000"),
        (f"https://me:{SECRET}@host/mlflow", "http", "https://host/mlflow"),
        ("sqlite:////tmp/a.db", "sqlite", "sqlite:////tmp/a.db"),
        (f"postgresql://me:{SECRET}@h/d?sslmode=require", "database",
         f"postgresql+psycopg2://me:{SECRET}@h/d?sslmode=require"),
        (f"timescaledb://me:{SECRET}@h/d", "database", f"postgresql+psycopg2://me:{SECRET}@h/d"),
        (f"mysql://me:{SECRET}@h/d", "database", f"mysql+pymysql://me:{SECRET}@h/d"),
        (f"mysql+pymysql://me:{SECRET}@h/d", "database", f"mysql+pymysql://me:{SECRET}@h/d"),
        ("file:///tmp/a%20b", "folder", "file:///tmp/a%20b"),
        ("/tmp/mlruns", "folder", "file:///tmp/mlruns"),
    ],
)  # fmt: skip
def test_what_a_uri_means(text: str, kind: str, uri: str) -> None:
    found = store.address(text)
    assert (found.kind, found.uri) == (kind, uri)
    assert SECRET not in f"{found} {found!r} {history.shown(text)}"


def test_a_uri_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WHERE", f"http://me:{SECRET}@127.0.0.1:5000")
    found = store.address("env:WHERE")
    assert found.login == {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": SECRET}
    monkeypatch.chdir(tmp_path)
    assert store.address("sqlite:///a.db").path == tmp_path / "a.db"


BAD: dict[str, tuple[str, list[str]]] = {
    "nothing": ("", ["empty", "http://HOST:PORT"]),
    "unknown scheme": (f"oracle://me:{SECRET}@h/d", ["oracle", "sqlite:///"]),
    "half a URL": (f"postgresql:/me:{SECRET}@h/d", ["neither a URI nor a folder"]),
    "a host without a scheme": ("localhost:5000", ["neither a URI nor a folder", "http://"]),
    "a server without a host": ("http://", ["tracking server", "http://HOST:PORT"]),
    "a user without a password": ("http://me@127.0.0.1:1", ["password"]),
    "a database in memory": ("sqlite://", ["names no file"]),
    "a variable not set": ("env:TRACKBENCH_NO_SUCH", ["TRACKBENCH_NO_SUCH"]),
    "a server that is not there": (f"http://me:{SECRET}@127.0.0.1:1", ["127.0.0.1:1", "start it"]),
    "a database that is not there": (f"postgresql://me:{SECRET}@127.0.0.1:1/d", ["can't be opened", "refused"]),
    "another that is not there": (f"mysql+pymysql://me:{SECRET}@127.0.0.1:1/d", ["can't be opened"]),
    "a file for a folder": ("/dev/null", ["not a folder"]),
    "a file in a file": ("sqlite:////dev/null/a.db", ["not a folder"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_uri_is_one_line_without_its_password(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
    text, parts = BAD[name]
    with pytest.raises(BadInput) as caught:
        history.check(text)
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert SECRET not in said
    assert "--track" in said or name in ("a server without a host", "a user without a password")
    for part in parts:
        assert part in said


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"this is not a database, and was never meant to be one" * 100)
    with pytest.raises(BadInput, match="not a database"):
        history.check(f"sqlite:///{path}")
    assert path.read_bytes().startswith(b"this is not")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> schema.Revisions:
    """Revisions that need no MLflow to be asked."""
    revisions = schema.Revisions("b2", frozenset({"a1", "b2"}), frozenset())

    async def ask() -> schema.Revisions:
        return revisions

    monkeypatch.setattr(schema, "revisions", ask)
    return revisions


@pytest.mark.parametrize(("revision", "says"), [("a1", "an older MLflow"), ("c3", "another MLflow"), ("b2", None)])
def test_a_store_of_another_mlflow_is_refused(
    revision: str, says: str | None, known: schema.Revisions, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
    connection.close()
    if says is None:
        history.check(f"sqlite:///{tmp_path / 'a.db'}")
        return
    with pytest.raises(BadInput, match=says) as caught:
        history.check(f"sqlite:///{tmp_path / 'a.db'}")
    assert "mlflow db upgrade" in str(caught.value)


def test_a_new_file_and_a_new_folder_can_be_used_and_are_not_made(tmp_path: Path) -> None:
    history.check(f"sqlite:///{tmp_path / 'new.db'}")
    history.check(str(tmp_path / "new" / "mlruns"))
    assert list(tmp_path.iterdir()) == []


def test_a_tracking_store_that_is_gone_costs_no_result(tmp_path: Path) -> None:
    said = history.told(a_result(), tmp_path, f"http://me:{SECRET}@127.0.0.1:1")
    assert said.startswith("not tracked: ")
    assert f"--add {tmp_path}" in said
    assert SECRET not in said


@pytest.mark.parametrize("root", ["file:///srv/mlruns/1/a", "/srv/mlruns/1/a"])
def test_no_file_is_written_here_for_a_server_that_keeps_them_elsewhere(root: str, tmp_path: Path) -> None:
    run = SimpleNamespace(info=SimpleNamespace(run_id="r", artifact_uri=root))
    (said,) = logged._keep_files(None, store.address("http://mlflow.example:5000"), run, tmp_path)
    assert "folder of its own machine" in said
