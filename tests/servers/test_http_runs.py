"""Whole runs over HTTP that don't go as planned, and candidates that differ in their tracking servers only."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from commands import Command
from fleet import USERS, counts, disturbed, scenario
from stores import carry_out, wait_until

from bench.job import Job
from bench.results import read
from bench.trial_record import TrialRecord

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(600)]


def records(folder: Path) -> list[TrialRecord]:
    """What the trials of a run left, in their order."""
    trials = sorted((folder / "latest" / "trials").iterdir())
    return [TrialRecord.model_validate_json((trial / "trial.json").read_bytes()) for trial in trials]


def listeners(port: int) -> list[psutil.Process]:
    """The processes of the MLflow server at this port."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "mlflow" in words and str(port) in words:
                found += [process, *process.children(recursive=True)]
    return found


def kill_server(job: Job) -> None:
    """SIGKILL the tracking server of a load, with all its workers."""
    assert job.site is not None
    port = urlsplit(job.site.url).port
    assert port is not None
    processes = listeners(port)
    assert processes
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def test_a_tracking_server_that_dies_in_a_trial(tmp_path: Path) -> None:
    """The run ends, says what it could not measure, and what was acknowledged before is still proved by SQL."""
    text = scenario(["sqlite"], ["log_metric"], count=200).replace("rounds = 1", "rounds = 3")
    found = carry_out(text, {}, tmp_path, start=disturbed(kill_server, after=20))
    first, *later = records(tmp_path)
    assert first.ops_unknown > 0 or first.error is not None
    assert first.integrity.checked, first.integrity.reason
    assert counts(first.integrity) == {}
    assert first.integrity.acknowledged >= 20
    assert first.integrity_rest is not None
    assert not first.integrity_rest.checked
    assert [record.error is None for record in later] == [False, False]
    assert found.verdict in ("inconclusive", "fail")
    assert found.exit_code in (1, 3)
    assert len([note for note in found.notes if "Not measured: sqlite, http log_metric" in note]) >= 2
    assert not [note for note in found.notes if "TaskGroup" in note]


def test_candidates_that_differ_in_their_tracking_servers(tmp_path: Path) -> None:
    """One store, two ways to serve it, interleaved; each cell knows its own settings."""
    text = scenario(["sqlite"], ["log_metric"], count=20).replace("rounds = 1", "rounds = 2")
    wide = '[candidates.wide]\nstore = "sqlite"\ntracking = { workers = 2, pool_size = 3, max_overflow = 2 }\n'
    text = text.replace("[workloads.", f"{wide}[workloads.", 1)
    found = carry_out(text, {}, tmp_path)
    assert found.exit_code == 0, found.reasons
    assert [record.candidate for record in records(tmp_path)] == ["sqlite", "wide", "wide", "sqlite"]
    served = {one.name: one.tracking for one in found.candidates}
    assert (served["sqlite"]["workers"], served["wide"]["workers"]) == ("1", "2")
    assert served["sqlite"]["pool"].startswith("15 connections")
    assert served["wide"]["pool"].startswith("5 connections")
    for cell in found.cells:
        assert cell.ops_ok == 2 * USERS * 20
        assert [counts(door) for door in cell.doors] == [{}] * 3  # by SQL, over REST, the prefill


@pytest.fixture
def commands(public_tmp: Path, tmp_path: Path) -> Iterator[dict[str, Command]]:
    """Three runs whose first HTTP trial is under way; at the end each must have left nothing."""
    file = tmp_path / "tiny.toml"
    file.write_text(scenario(["sqlite"], ["log_metric"], count=100_000))
    with ExitStack() as stack:
        started = {}
        for name in ("interrupted", "killed", "engine"):
            out = tmp_path / name
            words = ["run", str(file), "--out", str(out / "results")]
            started[name] = stack.enter_context(Command(public_tmp / f"http-{name}", out, *words))
        for command in started.values():
            command.until("results/latest/trials/0001-*/ledger/0001.bin")
        yield started


def test_what_a_stopped_run_leaves(commands: dict[str, Command]) -> None:
    """Ctrl-C, kill -9, and kill -9 of the load process: no process, port or folder stays."""
    ports = []
    for command in commands.values():
        shown = [process.cmdline() for process in command.offspring()]
        ports += [words[words.index("--port") + 1] for words in shown if "mlflow" in words and "--port" in words]
    assert len(set(ports)) == len(commands)
    commands["interrupted"].send(signal.SIGINT)
    commands["killed"].send(signal.SIGKILL)
    (load,) = [process for process in commands["engine"].offspring() if "loadtests._engine" in process.cmdline()]
    load.kill()
    assert commands["interrupted"].wait(120) == 130, commands["interrupted"].stderr
    assert commands["killed"].wait() == -signal.SIGKILL
    assert commands["engine"].wait(120) == 3, commands["engine"].stderr
    for command in commands.values():
        command.leaves_nothing()
        assert "Traceback" not in command.stderr
    wait_until(lambda: not [port for port in ports if listeners(int(port))], "the end of the servers", 15)
    found = read(commands["interrupted"].out / "results" / "latest")
    assert found.run.interrupted
    assert found.verdict != "pass"
    (trial,) = (commands["engine"].out / "results" / "latest" / "trials").iterdir()
    record = json.loads((trial / "trial.json").read_text())
    assert "load.log" in record["error"]
    for door in ("integrity", "integrity_rest"):  # by its ledger, which outlives it
        assert record[door]["checked"]
        assert record[door]["lost"] == record[door]["corrupted"] == 0
        assert record[door]["acknowledged"] > 0
