"""The supervisor, with small shell scripts in place of servers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bench.servers import places, supervise


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Talk:
    """A supervisor and its plan."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.folder = folder
        plan = {
            "folder": str(folder),
            "uid": None,
            "gid": None,
            "files": {"secret": "x"},
            "env": {"PATH": os.environ["PATH"]},
            "prepare": [],
            "after": [],
            "tidy": [],
            "kill": [],
            "stop_signal": int(signal.SIGTERM),
            "stop_seconds": 0.3,
            "death_signal": int(signal.SIGKILL),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", supervise.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.send(plan | changes)

    def send(self, message: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def serve(self, script: str) -> int:
        self.send({"order": "start", "argv": ["sh", "-c", script], "env": {}})
        return self.hear("started")["pid"]

    def hear(self, expected: str) -> dict:
        assert self.process.stdout is not None
        event = json.loads(self.process.stdout.readline())
        assert event["event"] == expected, event
        return event

    def prepared(self) -> None:
        self.hear("made")
        self.hear("prepared")

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Callable[..., Talk]]:
    made: list[Talk] = []

    def start(**changes: object) -> Talk:
        made.append(Talk(tmp_path / "server", **changes))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_hanging_up_stops_the_server_and_removes_the_folder(talk):
    one = talk()
    one.prepared()
    assert (one.folder / "secret").stat().st_mode & 0o777 == 0o600
    assert places.is_held(one.folder / supervise.LOCK)
    pid = one.serve("exec sleep 60")
    one.hang_up()
    one.hear("stopped")
    assert one.process.wait(5) == 0
    assert gone(pid)
    assert not one.folder.exists()


def test_a_server_that_ignores_the_stop_signal_is_killed(talk):
    one = talk()
    one.prepared()
    pid = one.serve("trap '' TERM; while :; do sleep 1; done")
    one.send({"order": "stop"})
    one.hear("stopped")
    assert gone(pid)


def test_what_the_server_leaves_behind_is_waited_for(talk):
    one = talk(stop_seconds=5.0)
    one.prepared()
    one.serve("(setsid sh -c 'touch born; sleep 0.4; touch late') & exec sleep 60")
    assert eventually((one.folder / "born").exists)
    one.send({"order": "kill"})
    assert one.hear("exited")["code"] == -signal.SIGKILL
    assert (one.folder / "late").exists()


def test_kill_and_start_again(talk):
    one = talk()
    one.prepared()
    first = one.serve("exec sleep 60")
    one.send({"order": "kill"})
    one.hear("exited")
    second = one.serve("exec sleep 60")
    assert first != second
    assert gone(first)
    assert not gone(second)


def test_a_server_that_dies_tells_its_last_lines(talk):
    one = talk()
    one.prepared()
    one.serve("echo no room >&2; exit 3")
    event = one.hear("exited")
    assert event["code"] == 3
    assert event["log"] == ["no room"]


def test_a_failing_preparation(talk):
    one = talk(prepare=[["sh", "-c", "echo bad disk; exit 1"], ["touch", "never"]])
    one.hear("made")
    event = one.hear("failed")
    assert event["log"] == ["bad disk"]
    one.hear("stopped")
    assert not one.folder.exists()


def test_a_missing_program(talk):
    one = talk(prepare=[["/nowhere/initdb"]])
    one.hear("made")
    assert "/nowhere/initdb" in one.hear("failed")["what"]


def test_hanging_up_during_preparation(talk, tmp_path):
    one = talk(prepare=[["sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60"]])
    assert eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    one.hang_up()
    one.hear("made")
    one.hear("stopped")
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_folder_that_exists_is_left_alone(talk, tmp_path):
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "precious").touch()
    one = talk()
    one.hear("failed")
    one.process.wait(5)
    assert (tmp_path / "server" / "precious").exists()


def test_a_detached_one_stays_until_it_is_told_to_end(talk):
    one = talk()
    one.prepared()
    pid = one.serve("exec sleep 60")
    one.send({"order": "detach"})
    one.hear("detached")
    one.hang_up()
    time.sleep(0.2)
    assert not gone(pid)
    one.process.terminate()
    assert one.process.wait(5) == 0
    assert gone(pid)
    assert not one.folder.exists()


def test_the_server_dies_with_a_killed_supervisor(talk):
    one = talk()
    one.prepared()
    pid = one.serve("exec sleep 60")
    one.process.kill()
    assert eventually(lambda: gone(pid))
    assert not places.is_held(one.folder / supervise.LOCK)
