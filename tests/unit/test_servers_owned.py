"""What the owner of a server can do to it, with small shell scripts in place of servers."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from supervisors import LIMIT_S, eventually, gone

from bench.servers import ServerFailed, catalogue, compose
from bench.servers.launch import Launch
from bench.servers.supervised import Supervised

SCRIPT = """
if [ -e broken ]; then echo 'error: it is broken' >&2; exit 3; fi
trap 'echo bye > said; exit 0' TERM
while [ -e slow ]; do echo > waited; sleep 0.02; done
echo > ready
while :; do sleep 0.02; done
"""


class Script(Supervised):
    """A server that is ready when it has made a file of that name."""

    ready_seconds = 30.0
    ready_means = "nothing was ready"

    def __init__(self, folder: Path, untouchable: str | None = None) -> None:
        self.asked = threading.Event()
        launch = Launch(
            serve=lambda _port: (["sh", "-c", SCRIPT], {}),
            env={"PATH": os.environ["PATH"]},
            as_server_user=False,
            untouchable=untouchable,
        )
        super().__init__("the script", "a test", launch, folder)

    def _serve(self, port: int) -> None:
        if self.port and self.folder.exists():
            (self.folder / "ready").unlink(missing_ok=True)
        super()._serve(port)

    def _answers(self, within_s: float) -> bool:
        self.asked.set()
        return (self.folder / "ready").exists()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Script]]:
    made: list[Script] = []

    def start(**more: str) -> Script:
        made.append(Script(tmp_path / "server", **more))
        return made[-1]

    yield start
    for one in made:
        one.stop()
        assert not one.folder.exists()
        assert gone(one.pid)


@pytest.mark.parametrize("end", ["kill", "halt"])
def test_ended_and_started_again(started, end):
    server = started()
    first = server.pid
    getattr(server, end)()
    assert not server.alive
    assert gone(first)
    assert (server.folder / "said").exists() == (end == "halt")
    getattr(server, end)()  # there is nobody any more
    server.start_again()
    assert server.alive
    assert server.pid != first
    again = server.pid
    server.start_again()  # it runs
    assert server.pid == again


def test_who_can_not_start_again_says_why_and_may_try_later(started):
    server = started()
    server.kill()
    (server.folder / "broken").touch()
    for _ in range(2):
        with pytest.raises(ServerFailed, match="it ended with 3; it said: error: it is broken"):
            server.start_again()
        assert not server.alive
    (server.folder / "broken").unlink()
    server.start_again(LIMIT_S)
    assert server.alive


def test_who_is_too_slow_to_start_again_may_be_waited_for_once_more(started):
    server = started()
    server.halt()
    (server.folder / "slow").touch()
    with pytest.raises(ServerFailed, match="nothing was ready for 0 s"):
        server.start_again(within_s=0)
    slow = server.pid
    assert server.alive
    assert eventually((server.folder / "waited").exists)
    (server.folder / "slow").unlink()
    server.start_again(LIMIT_S)
    assert server.pid == slow


def test_who_is_too_slow_may_be_killed_instead(started):
    server = started()
    server.halt()
    (server.folder / "slow").touch()
    with pytest.raises(ServerFailed):
        server.start_again(within_s=0)
    server.kill()
    assert gone(server.pid)
    (server.folder / "slow").unlink()
    server.start_again(LIMIT_S)


def test_stop_does_not_wait_for_a_start_in_another_thread(started):
    server = started()
    server.kill()
    (server.folder / "slow").touch()
    server.asked.clear()
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(server.start_again)
        assert server.asked.wait(LIMIT_S)
        server.stop()
        with pytest.raises(ServerFailed, match="is being stopped"):
            starting.result(LIMIT_S)


def test_frozen_and_thawed(started):
    server = started()
    server.freeze()
    stopped = psutil.STATUS_STOPPED
    assert eventually(lambda: psutil.Process(server.pid).status() == stopped)  # once the disk has answered it
    assert server.alive
    server.thaw()
    assert psutil.Process(server.pid).status() != psutil.STATUS_STOPPED
    server.thaw()


@pytest.mark.parametrize("end", ["kill", "halt", "stop"])
def test_frozen_it_can_be_ended(started, end):
    server = started()
    server.freeze()
    getattr(server, end)()
    assert gone(server.pid)
    if end != "stop":
        server.start_again(LIMIT_S)
        assert psutil.Process(server.pid).status() != psutil.STATUS_STOPPED


def test_nobody_freezes_the_dead(started):
    server = started()
    server.kill()
    with pytest.raises(ServerFailed, match="the script does not run"):
        server.freeze()
    server.thaw()


def test_a_death_in_between_is_noted_and_answers_no_order(started):
    server = started()
    server.freeze()
    os.kill(server.pid, signal.SIGKILL)
    assert eventually(lambda: gone(server.pid))
    server.thaw()
    assert eventually(lambda: not server.alive)
    server.start_again(LIMIT_S)


def test_where_only_a_client_can_be_reached_nobody_pretends(started, tmp_path):
    server = started(untouchable="it is elsewhere")
    assert server.untouchable == "it is elsewhere"
    for order in (server.halt, server.freeze):
        with pytest.raises(ServerFailed, match="the script: it is elsewhere"):
            order()
    assert server.alive
    server.kill()
    assert compose.launch_of("mysql", tmp_path, {}, "").untouchable is not None


def test_here_it_can_be_had(started):
    server = started()
    assert server.untouchable is None
    assert not server.small_disk
    with pytest.raises(ServerFailed, match="has no small disk"):
        server.fill()


def test_a_small_disk_that_can_not_be_had_is_refused_in_words(monkeypatch, tmp_path):
    monkeypatch.setattr(catalogue, "small_disks", lambda: "it takes root")
    with pytest.raises(ServerFailed, match="postgresql on a small disk: it takes root"):
        catalogue.start("postgresql", disk_mb=100)
    with pytest.raises(ServerFailed, match="container"):
        compose.ComposeSource().start("mysql", tmp_path / "server", {}, disk_mb=100)
