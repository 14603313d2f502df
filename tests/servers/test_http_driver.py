"""HTTP users before real MLflow servers: what they say was stored is stored, bit for bit, and nothing else."""

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from stores import NAMES, Park, wait_until

from bench import identity, ledger, loader, prefill, samples
from bench.identity import TrialKey
from bench.integrity import Expected, SqlRows, Tally, read_back
from bench.integrity.readback import read_traces
from bench.job import Job, ReadTargets
from bench.outcome import ErrorKind, Outcome
from bench.scenario import Prefill
from bench.servers import tracking
from bench.servers.tracking import RunningTracking, TrackingSettings
from bench.stores import store_for
from bench.stores.tracking import Tracking
from bench.stores.url import StoreUrl
from bench.workload import OPERATIONS, Layout, Workload

pytestmark = [pytest.mark.servers, pytest.mark.slow]  # test_http_trials.py has the short way through the same parts

WRITERS = 3
WORKLOADS = {
    work.name: work
    for work in (
        Workload("log_metric", "log_metric"),
        Workload("log_batch", "log_batch", metrics=10, params=4, tags=2, shuffled=True),
        Workload("hot_batch", "log_batch", metrics=6, hot_run=True, fresh_keys=True, shuffled=True, lockstep=True),
        Workload("hot_metric", "log_metric", keys=1, hot_run=True),
        Workload("train", "train", params=4, tags=2, keys=3, steps=4),
        Workload("experiments", "train", params=1, tags=1, keys=2, steps=2, experiments=True),
        Workload("read", "read"),
        Workload("mixed", "mixed", read_share=0.4),
        Workload("traces", "traces", spans=5, read_share=0.25),
    )
}
FEW = ("log_batch", "experiments", "traces")  # where another store has shown the rest
CASES = [(store, name) for store in NAMES for name in (WORKLOADS if store == "sqlite" else FEW)]
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Site:
    """A tracking server and the store behind it."""

    url: StoreUrl
    server: RunningTracking

    def post(self, path: str, **body: Any) -> Any:
        answer = httpx.post(f"{self.server.url}/api/2.0/mlflow/{path}", json=body, timeout=60, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def experiment(self) -> int:
        return int(self.post("experiments/create", name=f"driver-{next(_numbers)}")["experiment_id"])

    def job(self, workload: Workload, folder: Path, **fields: Any) -> Job:
        """A job with what its writers need."""
        key = TrialKey.of(folder.name, 3, next(_numbers))
        experiment = self.experiment()
        layout = Layout(key, workload, WRITERS)
        runs = []
        for place in layout.setup_runs():
            made = self.post(
                "runs/create", experiment_id=str(experiment), run_name=key.name(*place), user_id="trackbench",
                start_time=identity.moment(key, *place),
            )  # fmt: skip
            runs.append(made["run"]["info"]["run_id"])
        values: dict[str, Any] = {
            "driver": "http", "url": None, "site": self.server.site, "session_options": {}, "key": key,
            "workload": workload, "run_ids": tuple(runs), "writers": WRITERS, "part": 0, "first": 0, "block": WRITERS,
            "active": WRITERS, "experiment_id": experiment, "artifact_root": "", "folder": str(folder),
            "warmup_s": 0.0, "duration_s": 60.0, "count": 24, "min_writes": 0, "timeout_s": 60.0, "retry": "none",
            "reads": None,
        }  # fmt: skip
        return Job(**{**values, **fields})


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, park: Park, public_tmp: Path) -> Iterator[Site]:
    url = park.fresh(request.param, public_tmp)
    with tracking.start(url.mlflow, TrackingSettings(workers=2)) as server:
        yield Site(url, server)


@pytest.fixture(scope="module")
def sqlite_site(park: Park, public_tmp: Path) -> Iterator[Site]:
    url = park.fresh("sqlite", public_tmp)
    with tracking.start(url.mlflow, TrackingSettings(workers=2)) as server:
        yield Site(url, server)


async def drive(job: Job) -> list[dict[str, Any]]:
    """Run the load process as a trial does; its frames."""
    async with loader.start(job) as process, aclosing(process.frames()) as frames:  # type: ignore[type-var]
        return [frame async for frame in frames]


async def check(site: Site, job: Job) -> Tally:
    """The whole read-back of a job, traces included."""
    statuses = [ledger.load(Path(job.folder), writer) for writer in range(job.writers)]
    session = await store_for(site.url).connect({})
    try:
        rows = SqlRows(session, job.key, by_name=True)
        tally = await read_back(rows, Expected(job.layout, statuses, job.experiment_id, by_name=True))
        if job.workload.kind == "traces":
            tally.add(await read_traces(session, Expected(job.layout, statuses, job.experiment_id)))
    finally:
        await session.close()
    return tally


def settled(site: Site, job: Job) -> Tally:
    """The read-back once all is well, or as it still is after a while: what was killed may be on its way in MLflow."""
    tallies: list[Tally] = []

    def well() -> bool:
        tallies.append(asyncio.run(check(site, job)))
        return tallies[-1].wrong == 0

    with suppress(AssertionError):
        wait_until(well, "the store agrees with the ledger")
    return tallies[-1]


async def filled(site: Site, experiment: int) -> ReadTargets:
    """Runs for reads to look at."""
    store = store_for(site.url)
    session = await store.connect({})
    key = TrialKey.of("driver", 1, next(_numbers))
    await prefill.fill(Tracking(store, session), key, Prefill(runs=20, metrics=200), experiment, "file:///x")
    await session.close()
    return ReadTargets(experiment, key, 20, prefill.KEYS)


def taken(job: Job) -> samples.Samples:
    parquet = Path(job.folder) / "samples.parquet"
    samples.compact({job.samples: 0}, parquet)
    return samples.load(parquet)


@pytest.mark.parametrize(("site", "name"), CASES, indirect=["site"], scope="module")
def test_what_users_say_was_stored_is_stored(site: Site, tmp_path: Path, name: str) -> None:
    work = WORKLOADS[name]
    reads = asyncio.run(filled(site, site.experiment())) if work.kind in ("read", "mixed") else None
    job = site.job(work, tmp_path, reads=reads)
    before = site.server.errors()
    frames = asyncio.run(drive(job))
    assert [frame["event"] for frame in frames if frame["event"] != "tick"] == ["ready", "end"]
    assert frames[-1]["faults"] == []
    found = taken(job)
    assert len(found) == WRITERS * 24
    ok = found.outcome == Outcome.OK
    hidden = site.server.errors() - before  # lockstep on one run provokes what MLflow may not survive
    assert ok.all() or (work.lockstep and hidden), Counter(found.error.tolist())
    told: Counter[str] = Counter()
    for frame in frames:
        if frame["event"] == "tick":
            told.update({one: values["ok"] for one, values in frame["operations"].items()})
    assert +told == Counter(OPERATIONS[number] for number in found.operation[ok])
    tally = asyncio.run(check(site, job))
    assert tally.wrong == 0, tally.examples
    if work.kind != "read":
        assert tally.acknowledged > 0
    assert tally.attempted == tally.acknowledged or hidden


def test_what_mlflow_answers_is_counted_by_code(sqlite_site: Site, tmp_path: Path) -> None:
    """A run that isn't there: plain refusals, certain, and known to have left nothing."""
    job = sqlite_site.job(WORKLOADS["log_metric"], tmp_path, count=3)
    asyncio.run(drive(replace(job, run_ids=("0" * 32,) * WRITERS)))
    found = taken(job)
    assert set(found.outcome.tolist()) == {int(Outcome.FAIL)}
    assert set(found.error.tolist()) == {int(ErrorKind.OTHER)}
    assert asyncio.run(check(sqlite_site, job)).wrong == 0


def test_nobody_reaches_a_server_that_is_gone(sqlite_site: Site, tmp_path: Path) -> None:
    job = sqlite_site.job(WORKLOADS["log_metric"], tmp_path)
    assert job.site is not None
    began = time.monotonic()
    frames = asyncio.run(drive(replace(job, site=replace(job.site, url="http://127.0.0.1:9"))))
    assert time.monotonic() - began < job.timeout_s / 2  # users that never began are not waited for
    assert [frame["event"] for frame in frames] == ["failed"]
    assert frames[0]["error"] == "connection"


def test_orders_steer_the_number_of_users_and_the_end_of_stdin_ends_them(sqlite_site: Site, tmp_path: Path) -> None:
    job = sqlite_site.job(WORKLOADS["log_metric"], tmp_path, active=1, count=None, duration_s=float("inf"))

    async def steer() -> dict[str, Any]:
        async with loader.start(job) as process:
            ticks: list[dict[str, Any]] = []
            async for frame in process.frames():
                if frame["event"] == "tick":
                    ticks.append(frame)
                if len(ticks) == 5:
                    await process.set_writers(3)
                if len(ticks) == 15:
                    await process.set_writers(0)
                if len(ticks) == 25:
                    assert process._process.stdin is not None
                    process._process.stdin.close()
                if frame["event"] == "end":
                    assert not any(tick["ok"] for tick in ticks[20:])
                    return frame
        raise AssertionError("the load ended without a last word")

    end = asyncio.run(steer())
    assert end["faults"] == []
    assert {int(writer) for writer in taken(job).writer} == {0, 1, 2}
    tally = asyncio.run(check(sqlite_site, job))
    assert tally.wrong == 0, tally.examples
    assert tally.attempted == tally.acknowledged


_KILLED = """
import sys
import gevent
from locust.env import Environment
from bench.job import Job
from loadtests._load import Load
from loadtests._users import USERS, attach

job = Job.from_json(sys.stdin.read())
environment = Environment(user_classes=[USERS[job.workload.kind]], host=job.site.url)
runner = environment.create_local_runner()
load = Load(job)
attach(environment, load)
load.go.set()
requests = failures = 0
for _ in range(3):
    runner.start(3, spawn_rate=3)
    gevent.sleep(1)
    runner.stop()  # no stop timeout: requests in flight are killed
    requests += environment.stats.total.num_requests
    failures += environment.stats.total.num_failures
print(requests, failures)
load.close()
"""


def test_requests_killed_by_locust_are_never_successes(sqlite_site: Site, tmp_path: Path) -> None:
    job = sqlite_site.job(WORKLOADS["log_metric"], tmp_path, count=None)
    printed = subprocess.run(
        [sys.executable, "-c", _KILLED], input=job.to_json(), capture_output=True, text=True, check=True, timeout=60
    ).stdout
    requests, failures = map(int, printed.split())
    found = taken(job)
    killed = found.where(found.outcome != Outcome.OK)
    assert 0 < len(killed) <= 9
    assert set(killed.outcome.tolist()) == {int(Outcome.INFO)}
    assert (requests, failures) == (int((found.outcome == Outcome.OK).sum()), 0)
    statuses = [ledger.load(tmp_path, writer) for writer in range(WRITERS)]
    assert sum(int((status == Outcome.RESERVED).sum()) for status in statuses) == len(killed)
    tally = settled(sqlite_site, job)
    assert tally.wrong == 0, tally.examples
    assert tally.recovered + tally.indeterminate == len(killed)


def test_a_killed_load_process_leaves_a_ledger_that_agrees_with_the_store(sqlite_site: Site, tmp_path: Path) -> None:
    job = sqlite_site.job(WORKLOADS["train"], tmp_path, count=None)

    async def kill() -> None:
        async with loader.start(job) as process:
            ticks = 0
            async for frame in process.frames():
                ticks += frame["event"] == "tick"
                if ticks == 5:
                    process._process.kill()

    asyncio.run(kill())
    tally = settled(sqlite_site, job)
    assert tally.acknowledged > 0
    assert tally.wrong == 0, tally.examples


def test_the_first_frame_out_is_a_frame(sqlite_site: Site, tmp_path: Path) -> None:
    """Nothing that Locust prints may come between."""
    job = sqlite_site.job(WORKLOADS["log_metric"], tmp_path, count=2)
    frames = asyncio.run(drive(job))
    assert json.dumps(frames[0]).startswith('{"event": "ready"')
    assert sum(frame["ok"] for frame in frames if frame["event"] == "tick") == 2 * WRITERS
