"""What the harness leaves when it is itself what breaks: killed at any point, or out of disk for its results."""

import asyncio
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from commands import Command, scenario
from stores import new_run, wait_until

from bench import ledger
from bench.identity import TrialKey
from bench.job import Job
from bench.ledger import LedgerFull
from bench.outcome import Outcome
from bench.results import read
from bench.stores import store_for
from bench.stores.tracking import Tracking
from bench.stores.url import StoreUrl
from bench.trial_record import TrialRecord
from bench.workload import Workload
from bench.writers import Writer

pytestmark = pytest.mark.servers
Start = Callable[..., Command]
MIB = 1 << 20


@pytest.fixture
def start(public_tmp: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts commands; at the end of the test each must have left nothing."""
    with ExitStack() as stack:

        def started(text: str, results: Path | None = None) -> Command:
            number = len(list(tmp_path.glob("out*")))
            file = tmp_path / f"tiny{number}.toml"
            file.write_text(text)
            out = tmp_path / f"out{number}"
            words = ("run", str(file), "--out", str(results or out / "results"))
            return stack.enter_context(Command(public_tmp / f"{tmp_path.name}-{number}", out, *words))

        yield started


def long(stores: list[str]) -> str:
    """A scenario that is not over before the test has done its worst."""
    return scenario(stores, rounds=40, duration_s=1.0)


def whole_trials(results: Path) -> list[TrialRecord]:
    """The trials that have a record, which are all but the last; each record is whole, and so are its samples."""
    folders = sorted((results / "latest" / "trials").glob("*"))
    records = []
    for folder in folders:
        if (folder / "trial.json").exists():
            records.append(TrialRecord.model_validate_json((folder / "trial.json").read_bytes()))
            if records[-1].error is None:
                assert pq.read_table(folder / "samples.parquet").num_rows >= records[-1].ops_ok > 0
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    assert len(records) >= len(folders) - 1
    return records


def ports(command: Command) -> set[int]:
    """Where its offspring listens."""
    found = set()
    for process in command.offspring():
        with suppress(psutil.Error):
            sockets = process.net_connections("tcp")
            found |= {one.laddr[1] for one in sockets if one.status == psutil.CONN_LISTEN}
    return found


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# Killed


def point(name: str, stores: list[str], pattern: str, number: signal.Signals, slow: bool = True) -> object:
    marks = [pytest.mark.slow] if slow else []
    return pytest.param(stores, pattern, number, id=f"{number.name} {name}", marks=marks)


SQLITE, BOTH = ["sqlite"], ["sqlite", "postgresql"]
FIRST = "results/latest/trials/0001-*/"
POINTS = [
    point("before anything is prepared", BOTH, "results/latest/scenario.toml", signal.SIGKILL),
    point("while a server starts", BOTH, "/trackbench-postgresql-*", signal.SIGTERM),
    point("when all is prepared", BOTH, "results/latest/environment.json", signal.SIGKILL),
    point("when all is prepared", BOTH, "results/latest/environment.json", signal.SIGTERM),
    point("while a trial is set up", BOTH, FIRST, signal.SIGKILL),
    point("while its rows are read back", SQLITE, f"{FIRST}samples.parquet", signal.SIGKILL, slow=False),
    point("while its rows are read back", BOTH, f"{FIRST}samples.parquet", signal.SIGTERM),
    point("between two trials", SQLITE, f"{FIRST}trial.json", signal.SIGTERM, slow=False),
]


@pytest.mark.parametrize(("stores", "pattern", "number"), POINTS)
def test_a_run_that_is_ended_leaves_whole_trials_and_nothing_else(
    start: Start, stores: list[str], pattern: str, number: signal.Signals
) -> None:
    """`leaves_nothing` looks for processes and folders, whose locks end with them."""
    command = start(long(stores))
    command.until(pattern)
    open_ports = ports(command)
    command.send(number)
    killed = number == signal.SIGKILL
    assert command.wait(60) == (-number if killed else 143), command.stderr
    command.leaves_nothing()
    assert [port for port in open_ports if listens(port)] == []
    records = whole_trials(command.out / "results")
    assert all(record.error is None and not record.integrity.broken for record in records)
    assert "Traceback" not in command.stderr
    if records and not killed:
        found = read(command.out / "results" / "latest")
        assert found.run.interrupted
        assert found.run.trials_done == len(records)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_moment_a_run_leaves_whole_trials_and_nothing_else(start: Start) -> None:
    """At twelve moments, evenly spread over a run; then another one finds nothing in its way."""
    text = scenario(BOTH, rounds=2, duration_s=0.3)
    for moment in range(1, 13):
        command = start(text)
        with suppress(subprocess.TimeoutExpired):
            command.wait(moment * 0.8)
        command.send(signal.SIGKILL)
        assert command.wait() in (-signal.SIGKILL, 0)
        command.leaves_nothing()
        latest = command.out / "results" / "latest"
        whole_trials(command.out / "results")
        if (latest / "results.json").exists():
            assert read(latest).run.trials_done == 4
    last = start(text)
    assert last.wait() == 0, last.stderr
    assert len(whole_trials(last.out / "results")) == 4


# A full disk under the results


class SmallDisk:
    """A file system of its own, in a mount namespace that one process holds: `path` leads there from anywhere."""

    def __init__(self, mountpoint: Path) -> None:
        self._mountpoint = str(mountpoint)
        mount = 'mount -t tmpfs -o size=2g,mode=755 none "$1" && echo there && read -r line'
        self._holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", mount, "sh", self._mountpoint],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"there\n"
        self.path = Path(f"/proc/{self._holder.pid}/root{self._mountpoint}")

    def leave(self, free: int) -> None:
        """Make it so small that so many bytes are free."""
        size = shutil.disk_usage(self.path).used + free
        words = ["nsenter", "-t", str(self._holder.pid), "-m", "mount", "-o", f"remount,size={size}", self._mountpoint]
        subprocess.run(words, check=True)

    def close(self) -> None:
        self._holder.communicate()


def no_namespace() -> str | None:
    """Why there can be no small disk that nobody else sees; None where there can."""
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("nsenter"):
        return "needs root, unshare and nsenter, for a small disk"
    done = subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True, text=True)
    return None if done.returncode == 0 else f"no mount namespace: {done.stderr.strip()}"


@contextmanager
def small_disk(mountpoint: Path) -> Iterator[SmallDisk]:
    if reason := no_namespace():
        pytest.skip(reason)
    mountpoint.mkdir()
    disk = SmallDisk(mountpoint)
    try:
        yield disk
    finally:
        disk.close()


@pytest.mark.parametrize("free", [0, 2 * MIB])
def test_a_full_disk_under_the_results_ends_the_run(start: Start, tmp_path: Path, free: int) -> None:
    """With nothing left the trial in flight can't write; with a little, the next one is not begun."""
    with small_disk(tmp_path / "disk") as disk:
        command = start(long(SQLITE), disk.path / "results")
        second = "results/latest/trials/0002-*/ledger/0001.bin"
        wait_until(lambda: next(disk.path.glob(second), None), "the second trial", 60)
        disk.leave(free)
        assert command.wait(60) == 2, command.stderr
        (line,) = command.stderr.splitlines()
        assert line.startswith("trackbench: ")
        assert "no space left" in line
        command.leaves_nothing()
        first, *later = whole_trials(disk.path / "results")
        assert first.error is None
        assert first.integrity.checked
        assert len(later) <= 1
        assert not (disk.path / "results" / "latest" / "results.json").exists()
        found = json.loads((disk.path / "results" / "latest" / "environment.json").read_text())
        assert found["candidates"]
    assert list((tmp_path / "disk").iterdir()) == []


def test_a_disk_that_is_full_from_the_beginning_is_refused(start: Start, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        disk.leave(MIB)
        command = start(scenario(SQLITE), disk.path / "results")
        assert command.wait(60) == 2
        (line,) = command.stderr.splitlines()
        assert "MiB free" in line
        assert list(disk.path.iterdir()) == []


def test_a_ledger_that_is_full_is_no_error_of_the_store(
    fresh: Callable[[str], StoreUrl], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer ends by it; taken for one of the database's errors, it would be counted as such without end."""
    url, told, allocate = fresh("sqlite"), list[tuple[int, int, int, int]](), os.posix_fallocate

    def full_after_eight(descriptor: int, offset: int, size: int) -> None:
        if offset + size > 8:
            raise OSError(errno.ENOSPC, "full")
        allocate(descriptor, offset, size)

    async def work() -> None:
        store = store_for(url)
        session = await store.connect()
        run_id = await new_run(Tracking(store, session))
        await session.close()
        writer = Writer(_job(url, tmp_path, run_id), 0, store, told.append)
        await writer.connect()
        with pytest.raises(LedgerFull):
            await writer.run()

    (tmp_path / "ledger").mkdir()
    monkeypatch.setattr(ledger, "STEP", 8)
    monkeypatch.setattr(os, "posix_fallocate", full_after_eight)
    asyncio.run(work())
    assert [word >> 8 & 0xFF for *_, word in told] == [Outcome.OK] * 8 + [Outcome.INFO]
    assert ledger.load(tmp_path, 0).tolist() == [Outcome.OK] * 8


def _job(url: StoreUrl, folder: Path, run_id: str) -> Job:
    return Job(
        driver="direct", url=url, site=None, session_options={}, key=TrialKey.of("full", 1, 1),
        workload=Workload("w", "log_metric"), run_ids=(run_id,), writers=1, part=0, first=0, block=1, active=1,
        experiment_id=1, artifact_root="", folder=str(folder), warmup_s=0.0, duration_s=60.0, count=20, min_writes=0,
        timeout_s=5.0, retry="none", reads=None,
    )  # fmt: skip


FROZEN = """
title = "frozen"
[candidates.postgresql]
store = "postgresql"
[workloads.w]
kind = "log_metric"
[faults.frozen]
kind = "freeze"
at_s = 0.2
for_s = 50.0
[[cells]]
workload = "w"
concurrency = [2]
faults = ["frozen"]
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_frozen_server_outlives_nobody(start: Start, number: signal.Signals, code: int) -> None:
    """A stopped process hears of no end; so it is thawed first, by whoever is left."""
    command = start(FROZEN)
    command.until("results/*/trials/*/ledger/0001.bin")

    def stopped() -> bool:
        states = []
        for one in command.offspring():
            with suppress(psutil.Error):
                states.append(one.status())
        return psutil.STATUS_STOPPED in states

    wait_until(stopped, "the server is frozen", 30)
    command.send(number)
    assert command.wait(30) == code
