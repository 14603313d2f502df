"""The supervisor, with small shell scripts in place of servers."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from supervisors import Talk, eventually, gone

from bench.servers import places, supervise


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
    one.serve("(setsid sh -c 'touch born; sleep 0.4; touch late') & while [ ! -e born ]; do sleep 0.02; done; exit 7")
    assert one.hear("exited")["code"] == 7
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
    one.serve("exit 4")
    assert one.hear("exited")["log"] == []  # that was in an earlier life


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
