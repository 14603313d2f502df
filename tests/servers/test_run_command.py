"""`trackbench run` as users start it: what it leaves, what it says, and how it ends when it is stopped or killed."""

import json
import signal
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pyarrow.parquet as pq
import pytest
from commands import ROOT, Command, scenario
from stores import wait_until

from bench.samples import SCHEMA

pytestmark = pytest.mark.servers
Start = Callable[..., Command]
LONG = {"rounds": 40, "duration_s": 1.0}


@pytest.fixture
def start(public_tmp: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts commands; at the end of the test each must have left nothing."""
    with ExitStack() as stack:
        yield lambda text, *more, **values: stack.enter_context(_start(public_tmp, tmp_path, text, *more, **values))


def _start(tmp: Path, base: Path, text: str, *more: str, **environment: str) -> Command:
    number = len(list(base.glob("out*")))
    file = base / f"tiny{number}.toml"
    file.write_text(text)
    out = base / f"out{number}"
    return Command(
        tmp / f"{base.name}-{number}", out, "run", str(file), "--out", str(out / "results"), *more, **environment
    )


@pytest.fixture(scope="module")
def finished(public_tmp: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A whole run on two private stores: (command, exit code, folder, password, command lines seen meanwhile)."""
    base = tmp_path_factory.mktemp("finished")
    seen: set[str] = set()
    secrets: set[str] = set()
    with _start(public_tmp, base, scenario(["sqlite", "postgresql"])) as command:

        def looked() -> bool:
            for process in psutil.process_iter():
                try:
                    seen.add(" ".join(process.cmdline()))
                except psutil.Error:
                    continue
            secrets.update(file.read_text().strip() for file in _present(command.tmp.glob("*/password")))
            return command.process.poll() is not None

        wait_until(looked, "the end of the run", 120)
        code = command.wait()
    return command, code, base, {secret for secret in secrets if secret}, seen


def _present(paths: Iterator[Path]) -> list[Path]:
    try:
        return [path for path in paths if path.exists()]
    except OSError:
        return []


def test_a_small_run_passes_and_leaves_its_folder(finished: Any) -> None:
    command, code, base, _, _ = finished
    assert code == 0, command.stderr
    (folder,) = [path for path in (command.out / "results").iterdir() if not path.is_symlink()]
    assert (command.out / "results" / "latest").resolve() == folder
    names = {"results.json", "report.html", "report.md", "junit.xml", "environment.json", "scenario.toml", "trials"}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "scenario.toml").read_bytes() == (base / "tiny0.toml").read_bytes()
    found = json.loads((folder / "results.json").read_text())
    jsonschema.validate(found, json.loads((ROOT / "bench" / "results.schema.json").read_text()))
    assert (found["verdict"], found["exit_code"]) == ("pass", 0)
    assert found["run"]["trials_done"] == found["run"]["trials_planned"] == 4
    assert {one["name"]: one["source"] for one in found["candidates"]}.keys() == {"sqlite", "postgresql"}
    suite = ET.parse(folder / "junit.xml").getroot()
    assert len(list(suite.iter("testcase"))) == 2
    assert json.loads((folder / "environment.json").read_text())["mlflow"] == found["run"]["mlflow_version"]
    assert "report.html" in command.stdout


def test_each_trial_leaves_its_evidence(finished: Any) -> None:
    command = finished[0]
    trials = sorted((command.out / "results" / "latest" / "trials").iterdir())
    assert [trial.name for trial in trials] == [
        "0001-sqlite-direct-w-c2",
        "0002-postgresql-direct-w-c2",
        "0003-postgresql-direct-w-c2",
        "0004-sqlite-direct-w-c2",
    ]
    for trial in trials:
        record = json.loads((trial / "trial.json").read_text())
        table = pq.read_table(trial / "samples.parquet")
        assert table.schema.names == SCHEMA.names
        assert table.num_rows >= record["ops_ok"] > 0
        sizes = [path.stat().st_size for path in sorted((trial / "ledger").iterdir())]
        assert len(sizes) == 2
        assert sum(sizes) == table.num_rows  # a metric is one commit
        assert record["integrity"]["checked"]
        assert not list(trial.glob("*.raw"))


def test_the_password_is_nowhere(finished: Any) -> None:
    command, _, _, secrets, seen = finished
    (secret,) = secrets
    assert any("bench.engine" in line for line in seen)
    assert any("postgres" in line and "listen_addresses" in line for line in seen)
    assert not [line for line in seen if secret in line]
    for path in command.out.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def test_json_prints_the_results_and_nothing_else(start: Start) -> None:
    command = start(scenario(["sqlite"]), "--json")
    assert command.wait() == 0, command.stderr
    assert json.loads(command.stdout) == json.loads((command.out / "results" / "latest" / "results.json").read_text())


def test_signals_keep_what_was_measured(start: Start) -> None:
    ends = {signal.SIGINT: 130, signal.SIGTERM: 143}
    commands = {number: start(scenario(["sqlite"], **LONG)) for number in ends}
    for number, command in commands.items():
        command.until("results/latest/trials/0002-*/ledger/0001.bin")
        command.send(number)
    for number, command in commands.items():
        assert command.wait(60) == ends[number], command.stderr
        folder = command.out / "results" / "latest"
        found = json.loads((folder / "results.json").read_text())
        assert found["run"]["interrupted"]
        assert 1 <= found["run"]["trials_done"] < found["run"]["trials_planned"] == 40
        assert found["cells"][0]["ops_ok"] > 0
        assert found["verdict"] != "pass"
        assert {"report.html", "report.md", "junit.xml"} <= {path.name for path in folder.iterdir()}
        assert "interrupted" in command.stderr
        assert "Traceback" not in command.stderr


def test_a_signal_before_the_first_trial(start: Start) -> None:
    command = start(scenario(["postgresql"], **LONG))
    command.until("/trackbench-postgresql-*")
    command.send(signal.SIGINT)
    assert command.wait(60) == 130
    assert "Traceback" not in command.stderr


def test_kill_9_leaves_nothing_running_and_keeps_finished_trials(start: Start) -> None:
    """While the server starts, in a trial, and between two; `start` looks for what they leave."""
    starting = start(scenario(["sqlite", "postgresql"], **LONG))
    starting.until("/trackbench-postgresql-*")
    starting.send(signal.SIGKILL)
    within = start(scenario(["postgresql", "sqlite"], **LONG))
    between = start(scenario(["sqlite"], **LONG))
    between.until("results/latest/trials/0001-*/trial.json")
    between.send(signal.SIGKILL)
    within.until("results/latest/trials/0002-*/ledger/0001.bin")
    within.send(signal.SIGKILL)
    for command in (starting, within, between):
        assert command.wait() == -signal.SIGKILL
        command.leaves_nothing()
    for command in (within, between):
        (first,) = (command.out / "results" / "latest" / "trials").glob("0001-*")
        assert json.loads((first / "trial.json").read_text())["ops_ok"] > 0
        assert pq.read_table(first / "samples.parquet").num_rows > 0


def test_a_killed_engine_costs_its_trial_only(start: Start) -> None:
    command = start(scenario(["sqlite"], rounds=3, duration_s=1.0))
    command.until("results/latest/trials/0002-*/ledger/0001.bin")
    (engine,) = [process for process in command.offspring() if "bench.engine" in process.cmdline()]
    engine.kill()
    assert command.wait() == 3, command.stderr
    folder = command.out / "results" / "latest"
    records = [json.loads((trial / "trial.json").read_text()) for trial in sorted((folder / "trials").iterdir())]
    assert [record["error"] is None for record in records] == [True, False, True]
    assert records[1]["integrity"]["checked"]  # by its ledger, which outlives it
    assert records[1]["integrity"]["lost"] == 0
    assert records[2]["integrity"]["checked"]
    assert records[2]["integrity"]["unexpected"] == records[2]["integrity"]["lost"] == 0
    found = json.loads((folder / "results.json").read_text())
    assert found["verdict"] == "inconclusive"
    assert any("Not measured" in note for note in found["notes"])
    assert "not measured" in command.stdout


@pytest.mark.parametrize("place", ["below a file", "a file"])
def test_results_that_can_not_be_written(start: Start, tmp_path: Path, place: str) -> None:
    file = tmp_path / "file"
    file.write_text("")
    out = file / "results" if place == "below a file" else file
    command = start(scenario(["sqlite"]), "--out", str(out))
    assert command.wait() == 2
    assert command.stdout == ""
    assert command.stderr.startswith("trackbench: ")
    assert len(command.stderr.splitlines()) == 1
    assert "--out" in command.stderr
