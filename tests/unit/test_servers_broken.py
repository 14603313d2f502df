"""What a supervisor does to its server on purpose: kill all of it, halt, freeze, fill its disk. Nothing outlives it."""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from supervisors import LIMIT_S, Talk, eventually, gone

from bench.servers import family, launch, places, small_disk, supervise

# A child of its own session, and one that nobody waits for, as databases have them. It says who they are.
FAMILY = """
setsid sh -c 'echo $$ >> pids; exec sleep 60' &
(sh -c 'echo $$ >> pids; exec sleep 60' &)
exec sleep 60
"""
# Children that live for a moment, born one after the other.
NURSERY = """
import os, time
while True:
    if os.fork() == 0:
        time.sleep(0.02)
        os._exit(0)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    time.sleep(0.001)
"""
# As MLflow's command does: the main thread waits for a child, and passes on to it what it is told; others idle.
FORWARDER = """
import signal, subprocess, sys, threading
child = subprocess.Popen(["sleep", "60"])
signal.signal(signal.SIGTERM, lambda *_: child.terminate())
for _ in range(8):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", file=open("ready", "w"))
child.wait()
"""
POLITE = "trap 'echo bye > said; exit 0' TERM; echo > ready; while :; do sleep 0.02; done"

needs_small_disk = pytest.mark.skipif(small_disk.small_disks() is not None, reason=str(small_disk.small_disks()))


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Callable[..., Talk]]:
    made: list[Talk] = []

    def start(**changes: object) -> Talk:
        made.append(Talk(tmp_path / "server", **changes))
        made[-1].prepared()
        return made[-1]

    yield start
    for one in made:
        one.close()


def with_family(one: Talk) -> list[int]:
    top = one.serve(FAMILY)
    pids = one.folder / "pids"
    assert eventually(lambda: pids.exists() and len(pids.read_text().splitlines()) == 2)
    return [top, *map(int, pids.read_text().split())]


def ready(one: Talk) -> int:
    pid = one.serve(POLITE)
    assert eventually((one.folder / "ready").exists)
    return pid


def states(one: Talk) -> set[str]:
    """Of the server and all its descendants; the supervisor's helper sleeps."""
    found = set()
    for process in psutil.Process(one.process.pid).children(recursive=True):
        try:
            if process.name() != "sh":
                found.add(process.status())
        except psutil.NoSuchProcess:
            found.add("gone")
    return found


def test_kill_takes_all_of_them(talk):
    one = talk()
    pids = with_family(one)
    assert one.order("kill", "exited")["code"] == -signal.SIGKILL
    assert all(gone(pid) for pid in pids)
    assert psutil.Process(one.process.pid).children() == []
    assert (one.folder / "pids").exists()
    assert not gone(one.serve("exec sleep 60"))


def test_what_a_dead_server_leaves_behind_is_killed_in_the_end(talk):
    one = talk(stop_seconds=0.2)
    pids = with_family(one)
    os.kill(pids[0], signal.SIGKILL)
    assert one.hear("exited")["code"] == -signal.SIGKILL
    assert all(gone(pid) for pid in pids)


def test_halt_is_polite_and_keeps_the_data(talk):
    one = talk(stop_seconds=LIMIT_S)
    pid = ready(one)
    assert one.order("halt", "exited")["code"] == 0
    assert gone(pid)
    assert (one.folder / "said").read_text() == "bye\n"
    assert not gone(one.serve("exec sleep 60"))


def test_who_ignores_being_halted_is_killed(talk):
    one = talk()
    pid = one.serve("trap '' TERM; echo > ready; while :; do sleep 0.1; done")
    assert eventually((one.folder / "ready").exists)
    assert one.order("halt", "exited")["code"] == -signal.SIGKILL
    assert gone(pid)


def test_frozen_nothing_runs_until_it_is_thawed(talk):
    one = talk()
    pids = with_family(one)
    one.order("freeze", "frozen")
    assert {psutil.Process(pid).status() for pid in pids} == {psutil.STATUS_STOPPED}
    one.order("freeze", "frozen")  # again does no harm
    one.order("thaw", "thawed")
    assert psutil.STATUS_STOPPED not in {psutil.Process(pid).status() for pid in pids}
    assert {child.pid for child in psutil.Process(one.process.pid).children(recursive=True)} == set(pids)
    one.order("thaw", "thawed")


def test_who_is_born_while_it_freezes_freezes_too(talk):
    one = talk()
    one.send({"order": "start", "argv": [sys.executable, "-I", "-S", "-c", NURSERY], "env": {}})
    one.hear("started")
    for _ in range(10):
        assert eventually(lambda: len(psutil.Process(one.process.pid).children(recursive=True)) > 3)
        one.order("freeze", "frozen")
        assert states(one) <= {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
        one.order("thaw", "thawed")
    one.order("kill", "exited")
    assert psutil.Process(one.process.pid).children() == []


def test_a_frozen_server_does_not_outlive_a_killed_supervisor(talk):
    one = talk(death_signal=int(signal.SIGQUIT))  # which waits, while a process is stopped
    pid = one.serve("exec sleep 60")
    one.order("freeze", "frozen")
    (helper,) = {child.pid for child in psutil.Process(one.process.pid).children()} - {pid}
    one.process.kill()
    assert eventually(lambda: gone(pid), 30)  # a helper that gets no processor is late
    assert eventually(lambda: gone(helper), 30)
    assert not places.is_held(one.folder / supervise.LOCK)


@pytest.mark.parametrize("end", ["stop", "halt", "hang up", "terminate"])
def test_a_frozen_server_can_be_stopped_politely_and_at_once(talk, tmp_path, end):
    one = talk(stop_seconds=60.0)
    pid = one.serve(f"trap 'echo bye > {tmp_path}/said; exit 0' TERM; echo > ready; while :; do sleep 0.02; done")
    assert eventually((one.folder / "ready").exists)
    one.order("freeze", "frozen")
    began = time.monotonic()
    if end == "terminate":
        one.process.terminate()
    elif end == "hang up":
        one.hang_up()
    else:
        one.send({"order": end})
    one.hear("exited" if end == "halt" else "stopped")
    assert time.monotonic() - began < LIMIT_S
    assert gone(pid)
    assert (tmp_path / "said").exists()


def test_a_frozen_server_of_many_threads_hears_that_it_is_to_stop(talk):
    one = talk(stop_seconds=60.0)
    for _ in range(5):
        one.send({"order": "start", "argv": [sys.executable, "-I", "-S", "-c", FORWARDER], "env": {}})
        one.hear("started")
        assert eventually((one.folder / "ready").exists)
        (one.folder / "ready").unlink()
        one.order("freeze", "frozen")
        began = time.monotonic()
        one.order("halt", "exited")
        assert time.monotonic() - began < LIMIT_S


def test_a_frozen_server_is_killed_without_another_breath(talk):
    one = talk()
    pid = ready(one)
    one.order("freeze", "frozen")
    os.kill(pid, signal.SIGTERM)  # it would say bye if it came to run again
    assert one.order("kill", "exited")["code"] == -signal.SIGKILL
    assert not (one.folder / "said").exists()
    assert psutil.Process(one.process.pid).children() == []
    assert not gone(one.serve("exec sleep 60"))


def test_a_frozen_server_that_somebody_kills_is_no_riddle(talk):
    one = talk()
    pid = one.serve("exec sleep 60")
    one.order("freeze", "frozen")
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    assert one.hear("exited")["code"] == -signal.SIGKILL
    assert time.monotonic() - began < LIMIT_S


def test_it_thaws_although_its_helper_was_killed(talk):
    one = talk()
    pid = one.serve("exec sleep 60")
    one.order("freeze", "frozen")
    (helper,) = {child.pid for child in psutil.Process(one.process.pid).children()} - {pid}
    os.kill(helper, signal.SIGKILL)
    one.order("thaw", "thawed")
    assert psutil.Process(pid).status() != psutil.STATUS_STOPPED


def test_a_family_is_found_without_those_that_are_spared(talk):
    one = talk()
    pids = with_family(one)
    assert family.of(one.process.pid) == set(pids)
    assert family.of(one.process.pid, {pids[1]}) == {pids[0], pids[2]}
    assert family.of(2**22 + 1) == set()


# -- small disks ----------------------------------------------------------------------------------------------

SMALL = {"disk_mb": 2}


@needs_small_disk
def test_a_small_disk_is_the_servers_own_and_can_be_filled(talk):
    one = talk(**SMALL)
    one.serve("cat secret && touch tiny && echo > ready; exec sleep 60")
    inside = Path(f"/proc/{one.process.pid}/root{one.folder}")
    assert eventually((inside / "ready").exists)
    assert sorted(path.name for path in one.folder.iterdir()) == [supervise.LOG, supervise.LOCK]
    assert places.is_held(one.folder / supervise.LOCK)
    assert inside.stat().st_mode & 0o777 == 0o700
    size = os.statvfs(inside)
    assert size.f_blocks * size.f_bsize == 2 * 2**20

    filled = one.order("fill", "filled")["bytes"]
    assert 1.9 * 2**20 < filled < 2 * 2**20
    assert os.statvfs(inside).f_bfree == 0
    with pytest.raises(OSError, match="No space left") as caught:
        (inside / "tiny").write_bytes(b"x")
    assert caught.value.errno == errno.ENOSPC
    assert one.order("fill", "filled")["bytes"] == filled
    (inside / "ready").unlink()
    assert one.order("fill", "filled")["bytes"] == filled + 4096  # what was removed since
    one.order("free", "freed")
    (inside / "tiny").write_bytes(b"x")
    assert not (inside / small_disk.BALLAST).exists()
    one.order("free", "freed")

    one.order("fill", "filled")
    one.send({"order": "stop"})
    one.hear("stopped")
    assert not one.folder.exists()
    assert str(one.folder) not in Path("/proc/mounts").read_text()


@needs_small_disk
def test_a_small_disk_goes_with_a_killed_supervisor(talk):
    one = talk(**SMALL)
    pid = one.serve("exec sleep 60")
    one.order("fill", "filled")
    one.order("freeze", "frozen")
    one.process.kill()
    assert eventually(lambda: gone(pid))
    assert not places.is_held(one.folder / supervise.LOCK)
    assert str(one.folder) not in Path("/proc/mounts").read_text()
    places.remove_folder(one.folder)
    assert not one.folder.exists()


@needs_small_disk
def test_a_disk_too_small_to_prepare_a_server_says_so(tmp_path):
    one = Talk(tmp_path / "server", disk_mb=1, prepare=[["dd", "if=/dev/zero", "of=big", "bs=1M", "count=2"]])
    one.hear("made")
    assert "No space left" in " ".join(one.hear("failed")["log"])
    one.hear("stopped")
    assert not one.folder.exists()
    one.close()


def test_without_a_small_disk_nothing_is_filled(talk):
    one = talk()
    assert one.order("fill", "filled")["bytes"] == 0
    assert not (one.folder / small_disk.BALLAST).exists()


def test_small_disks_take_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "root" in (small_disk.small_disks.__wrapped__() or "")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "Linux" in (small_disk.small_disks.__wrapped__() or "")


def test_small_disks_say_what_went_wrong(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert small_disk.small_disks.__wrapped__() == (
        "a small file system of our own can't be made here: no reason given"
    )


@pytest.mark.parametrize("kind", launch.DEFAULTS)
def test_on_a_small_disk_the_log_is_small_unless_it_is_said_otherwise(kind):
    usual, small = launch.settings_for(kind, {}), launch.settings_for(kind, {}, small=True)
    assert usual.items() < small.items()
    name = min(small.keys() - usual.keys())
    assert launch.settings_for(kind, {name.replace("_", "-"): "1GB"}, small=True)[name] == "1GB"
