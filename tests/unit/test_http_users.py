"""Locust's users themselves, in a process of their own: importing Locust patches the standard library."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_HEAD = """
import json, sys
import gevent
from locust import constant_pacing
from locust.env import Environment
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from http_scripted import Scripted, answer, in_turn, job
from bench.ledger import load as status_of
from bench.site import Site
from bench.workload import Workload
from loadtests._load import Load
from loadtests._users import LogMetricUser, TrackingUser, attach, detach

folder = Path(sys.argv[2])
def prepared(user, answers=in_turn(), **fields):
    server = Scripted(answers)
    environment = Environment(user_classes=[user], host=server.url, stop_timeout=5)
    load = Load(job(folder, Workload("m", "log_metric"), Site(server.url, {}, True), **fields))
    return server, environment.create_local_runner(), load
"""


def run(folder: Path, script: str) -> Any:
    """What a script prints last, as JSON."""
    argv = [sys.executable, "-c", _HEAD + script, str(_HERE), str(folder)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_users_wait_for_their_load_and_hand_identities_on(tmp_path: Path) -> None:
    script = """
server, runner, load = prepared(LogMetricUser)
runner.start(2, 10)
gevent.sleep(0.3)
early = len(server.paths)
attach(runner.environment, load)
load.go.set()
gevent.sleep(0.2)
first = [len(status_of(folder, writer)) for writer in (0, 1)]
requests = runner.stats.total.num_requests
runner.stop()
left = load.users
detach(runner.environment, "log_metric")
attach(runner.environment, load)
runner.start(1, 10)
gevent.sleep(0.2)
runner.quit()
load.close()
second = [len(status_of(folder, writer)) for writer in (0, 1)]
bad = sum(int((status_of(folder, writer) != 2).sum()) for writer in (0, 1))
entries = [list(key) for key in runner.stats.entries]
print(json.dumps([early, first, requests, left, second, bad, entries]))
"""
    early, first, requests, left, second, bad, entries = run(tmp_path, script)
    assert early == 0
    assert min(first) > 0
    assert 0 <= sum(first) - requests <= 2  # in flight
    assert left == 0
    assert second[0] > first[0]  # the same identity went on
    assert bad == 0  # a graceful stop lets each operation end
    assert entries == [["log_metric", "POST"]]


def test_a_class_with_a_wait_time_is_paced(tmp_path: Path) -> None:
    script = """
class Paced(LogMetricUser):
    wait_time = constant_pacing(0.1)

server, runner, load = prepared(Paced)
attach(runner.environment, load)
load.go.set()
runner.start(1, 10)
gevent.sleep(1)
runner.quit()
load.close()
print(json.dumps(len(server.paths)))
"""
    assert 5 <= run(tmp_path, script) <= 12


def test_failures_show_in_locusts_statistics_and_users_without_a_writer_leave(tmp_path: Path) -> None:
    script = """
server, runner, load = prepared(LogMetricUser, in_turn(answer(503, errors="sqlite_busy")), active=4)
attach(runner.environment, load)
load.go.set()
runner.start(4, 10)
gevent.sleep(0.3)
users = runner.user_count
runner.quit()
load.close()
errors = [(error.name, error.occurrences, str(error.error)) for error in runner.errors.values()]
print(json.dumps([users, errors, load.faults]))
"""
    users, errors, faults = run(tmp_path, script)
    assert users == 2  # the job has two writers in this process
    assert errors == [["log_metric", 1, "sqlite_busy (fail, HTTP 503)"]]
    assert faults == ["no writer is left for another LogMetricUser: there is room for 2 here"]  # less than was asked


def test_a_writer_that_breaks_down_is_a_fault_and_ends_the_load(tmp_path: Path) -> None:
    script = """
server, runner, load = prepared(LogMetricUser)
def broken(index):
    raise ZeroDivisionError("script")
    yield
load._scripts.of = broken
attach(runner.environment, load)
load.go.set()
runner.start(1, 10)
load.over.wait(5)
gevent.sleep(0)
runner.quit()
load.close()
print(json.dumps([load.faults, load.users]))
"""
    faults, users = run(tmp_path, script)
    assert faults == ["ZeroDivisionError: script"]
    assert users == 0


def test_a_user_that_can_not_begin_is_a_fault_and_ends_the_load(tmp_path: Path) -> None:
    script = """
server, runner, load = prepared(LogMetricUser)
def full(index):
    raise OSError(24, "Too many open files")
load._scripts.of = full
attach(runner.environment, load)
runner.start(1, 10)
ended = load.over.wait(5)
gevent.sleep(0)
runner.quit()
load.close()
print(json.dumps([ended, load.faults, load.users]))
"""
    ended, faults, users = run(tmp_path, script)
    assert ended
    assert faults == ["OSError: [Errno 24] Too many open files"]
    assert users == 0


def test_no_class_but_the_base_is_abstract(tmp_path: Path) -> None:
    script = """
from loadtests._users import USERS
print(json.dumps([TrackingUser.abstract, [user.abstract for user in USERS.values()], sorted(USERS)]))
"""
    base, others, kinds = run(tmp_path, script)
    assert base
    assert not any(others)
    assert kinds == ["log_batch", "log_metric", "mixed", "read", "traces", "train"]
