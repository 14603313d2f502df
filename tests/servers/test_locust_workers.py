"""Distributed Locust: what the workers did merges exactly, and one that is lost is not overlooked."""

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from locusts import Locust, scenario
from stores import wait_until

from bench.histogram import ERROR
from bench.outcome import Outcome
from bench.samples import Samples, load

pytestmark = pytest.mark.servers


def two() -> tuple[str, ...]:
    """A master and two workers, on a port of their own."""
    port = str(_free_port())
    return "--headless", "-u", "4", "--processes", "2", "--master-bind-port", port, "--master-port", port


@contextmanager
def locust(public_tmp: Path, tmp_path: Path, *arguments: str, **given: Any) -> Iterator[Locust]:
    name = f"{tmp_path.name}-{len(list(tmp_path.iterdir()))}"
    with Locust(public_tmp / name, tmp_path / name, *arguments, **given) as started:
        yield started


def samples(run: Path) -> Samples:
    (folder,) = (run / "trials").iterdir()
    return load(folder / "samples.parquet")


def rank(values: Any, share: float) -> float:
    return float(np.sort(values)[max(0, int(np.ceil(share * len(values))) - 1)])


@pytest.mark.parametrize("user", ["DirectLogMetricUser", pytest.param("LogMetricUser", marks=pytest.mark.slow)])
def test_two_workers_add_up_to_the_last_operation(public_tmp: Path, tmp_path: Path, user: str) -> None:
    told = tmp_path / "told"
    with locust(public_tmp, tmp_path, *two(), "-t", "4s", "--warmup", "0", "--json-file", str(told), user) as started:
        assert started.wait() == 0, started.stderr
    taken = samples(started.run)
    (entry,) = json.loads(told.with_suffix(".json").read_text())
    assert len(taken) > 20
    assert entry["num_requests"] == len(taken)
    assert entry["num_failures"] == 0
    (cell,) = json.loads((started.run / "results.json").read_text())["cells"]
    assert cell["integrity"]["acknowledged"] >= len(taken)
    assert cell["integrity"]["lost"] == cell["integrity"]["unexpected"] == 0

    writers = sorted(set(taken.writer.tolist()))
    assert len(writers) == 4
    block = max(np.diff(writers))  # two blocks of two writers each
    assert block > 10
    assert [writer < block for writer in writers] == [True, True, False, False]

    counts = {float(value): n for value, n in entry["response_times"].items()}
    merged = np.repeat(list(counts), list(counts.values()))
    pooled = taken.where(taken.outcome == Outcome.OK).service_ms
    assert len(merged) == len(pooled)
    for share in (0.5, 0.9, 0.95, 0.99, 1.0):
        exact = rank(pooled, share)
        assert abs(rank(merged, share) - exact) <= exact * ERROR * 1.01 + 0.001, share


@pytest.mark.slow
@pytest.mark.parametrize("user", ["DirectLogMetricUser", "LogMetricUser"])
@pytest.mark.parametrize("kind", ["constant", "poisson"])
def test_two_workers_share_a_rate(public_tmp: Path, tmp_path: Path, user: str, kind: str) -> None:
    """What is due adds up, and no operation of either is lost."""
    asked = ("--rate", "60", "--arrivals", kind, "-t", "6s", "--warmup", "1")
    with locust(public_tmp, tmp_path, *two(), *asked, user) as started:
        assert started.wait() == 0, started.stderr
    taken = samples(started.run)
    found = json.loads((started.run / "results.json").read_text())
    (cell,) = found["cells"]
    schedule, seconds = cell["schedule"], cell["seconds"]
    assert (cell["load"], schedule["rate"], schedule["skipped"]) == ("60/s", pytest.approx(60.0), 0)
    wanted = 60 * seconds
    assert abs(schedule["due"] - wanted) <= (2 if kind == "constant" else 6 * wanted**0.5)
    assert set(taken.outcome.tolist()) == {Outcome.OK}
    assert cell["integrity"]["acknowledged"] >= len(taken)

    block = 10  # at least so many identities lie between those of two workers
    for part in (taken.where(taken.writer < block), taken.where(taken.writer >= block)):
        due = np.sort(part.scheduled_ns)
        if kind == "constant":
            warm = due[due >= 1e9]  # what was due before the users were there is no part of the load
            assert np.abs(np.diff(warm) - 1e9 / 30).max() <= 1  # each its half, without a gap
        assert abs(len(due) - len(taken) / 2) <= 6 * len(taken) ** 0.5


@pytest.mark.slow
def test_a_worker_that_is_killed_is_seen_and_survived(public_tmp: Path, tmp_path: Path) -> None:
    with locust(public_tmp, tmp_path, *two(), "-t", "12s", "DirectLogMetricUser") as started:
        started.until("results/*/trials/*/ledger/0001.bin")
        worker = wait_until(lambda: _worker_with_an_engine(started.process.pid), "a worker at work")
        worker.kill()
        assert started.wait() == 3, started.stderr
    assert "is lost" in started.stderr
    found = json.loads((started.run / "results.json").read_text())
    assert found["verdict"] == "inconclusive"
    (cell,) = found["cells"]
    assert cell["generator"]["lost_parts"] == 1
    assert cell["integrity"]["checked"]
    assert cell["integrity"]["lost"] == cell["integrity"]["unexpected"] == cell["integrity"]["corrupted"] == 0
    assert len({writer // 10 for writer in samples(started.run).writer.tolist()}) > 1  # the dead one's are there too


def _worker_with_an_engine(master: int) -> psutil.Process | None:
    for child in psutil.Process(master).children():
        if any("bench.engine" in " ".join(one.cmdline()) for one in child.children()):
            return child
    return None


@pytest.mark.slow
def test_a_worker_with_another_scenario_is_refused(public_tmp: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, text in (
        (one, scenario()),
        (other, scenario('[[criteria]]\nname = "more"\nexpression = "lost == 0"\n')),
    ):
        folder.mkdir()
        (folder / "same.toml").write_text(text)
    port = str(_free_port())
    # Each reads ./same.toml, and their folders hold different ones.
    with (
        locust(public_tmp, tmp_path, "--headless", "--master", "--master-bind-port", port, "-u", "2", "-t", "60s",
               "--scenario", "./same.toml", "DirectLogMetricUser", folder=one) as master,
        locust(public_tmp, tmp_path, "--worker", "--master-port", port, folder=other) as worker,
    ):  # fmt: skip
        assert worker.wait() == 2, worker.stderr
        assert master.wait() == 2, master.stderr
    assert "another version of scenario ./same.toml" in worker.stderr
    assert "another version of scenario ./same.toml" in master.stderr
    assert "Traceback" not in master.stderr + worker.stderr
    assert not [path for path in master.results.glob("*") if path.is_dir()]
    shutil.rmtree(one)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
