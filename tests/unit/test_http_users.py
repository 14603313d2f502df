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


_OPEN = """
from time import perf_counter_ns
from gevent.event import Event
from bench.arrivals import Arrivals
"""


def test_in_an_open_loop_users_take_what_is_due_and_locust_is_told_from_when(tmp_path: Path) -> None:
    script = (
        _OPEN
        + """
go_on = Event()
def held(number, path):
    if number == 0:
        go_on.wait()
    return answer()

server, runner, load = prepared(LogMetricUser, held, arrivals=Arrivals("constant", 100, 0))
epoch = perf_counter_ns()
attach(runner.environment, load)
runner.start(1, 10)
load.begin(epoch, epoch + 400_000_000)
gevent.get_hub().loop.update_now()  # it last looked at the clock before the imports
gevent.spawn_later(0.3, go_on.set)
while load.users or not load.ready:
    load.seated.clear()
    load.seated.wait()
entry = runner.stats.get("log_metric", "POST")
runner.quit()
load.stop()
load.close()
print(json.dumps([entry.num_requests, entry.max_response_time, entry.get_response_time_percentile(0.5), load.faults]))
"""
    )
    requests, longest, median, faults = run(tmp_path, script)
    assert requests == 40
    assert longest >= 300
    assert median >= 90  # 30 of 40 waited for the first answer, 10 ms each less than the one before
    assert faults == []


def test_locust_stops_users_that_wait_for_an_arrival_at_once_and_the_others_after_their_operation(
    tmp_path: Path,
) -> None:
    script = (
        _OPEN
        + """
server, runner, load = prepared(LogMetricUser, block=3, writers=3, run_ids=("",) * 3,
                                arrivals=Arrivals("constant", 0.01, 0))
runner.environment.stop_timeout = 50
attach(runner.environment, load)
runner.start(3, 100)
load.begin(perf_counter_ns(), None)
server.reached.wait()
gevent.sleep(0)
runner.start(1, 100)  # two have to go
runner.spawning_greenlet.join()
left = load.users
runner.start(2, 100)  # and one comes back
runner.spawning_greenlet.join()
back = load.users
runner.quit()
load.stop()
load.close()
print(json.dumps([left, back, load.users, runner.stats.total.num_requests, len(server.paths)]))
"""
    )
    assert run(tmp_path, script) == [1, 2, 0, 1, 1]


def test_users_killed_by_locust_lose_no_arrival(tmp_path: Path) -> None:
    script = (
        _OPEN
        + """
from itertools import takewhile
from bench.arrivals import due_times
from bench.samples import FIELDS
import numpy as np
arrivals = Arrivals("poisson", 2000, 5)
server, runner, load = prepared(LogMetricUser, block=4, writers=4, run_ids=("",) * 4, arrivals=arrivals)
runner.environment.stop_timeout = 0  # no mercy
attach(runner.environment, load)
epoch = perf_counter_ns()
runner.start(4, 1000)
load.begin(epoch, None)
for users in (1, 4, 2, 4, 0, 3):
    gevent.sleep(0.05)
    runner.start(users, 1000)
    runner.spawning_greenlet.join()
gevent.sleep(0.05)
closing = perf_counter_ns()
load.stop()
runner.quit()
load.close()
words = np.fromfile(load.job.samples, dtype=np.int64).reshape(-1, FIELDS)
expected = [epoch + due for due in takewhile(lambda due: epoch + due < closing, due_times(arrivals))]
outcomes = np.unique(words[:, 3] >> 8 & 0xFF).tolist()
found = sorted(words[:, 0].tolist())
print(json.dumps([found[:len(expected)] == expected, len(found) - len(expected), load.users, outcomes]))
"""
    )
    same, more, users, outcomes = run(tmp_path, script)
    assert same
    assert 0 <= more <= 2  # due between the two clock readings
    assert users == 0
    assert set(outcomes) <= {2, 4, 5}  # ok, unknown where it was killed, skipped


def test_a_dropped_part_lets_its_users_go_and_keeps_nothing_open(tmp_path: Path) -> None:
    """One user waits for its answer, the other two for arrivals."""
    script = (
        _OPEN
        + """
import os
from loadtests import _part
def kept():  # the timer, and files of ours
    paths = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd.isdigit()
             and os.path.lexists(f"/proc/self/fd/{fd}")]
    return [path for path in paths if "timerfd" in path or path.startswith(str(folder))]

go_on = Event()
def held(number, path):
    go_on.wait()
    return answer()

server, runner, load = prepared(LogMetricUser, held, block=3, writers=3, run_ids=("",) * 3, duration_s=float("inf"),
                                arrivals=Arrivals("constant", 0.01, 0))
load.close()
before = kept()
broken = []
part = _part.begin(runner.environment, load.job, lambda second, tick: None, broken.append)
load = part._load
runner.start(3, 100)
server.reached.wait()
while load.ready < 3:
    load.seated.clear()
    load.seated.wait()
gevent.sleep(0)
users = [load.users]
part.abandon()
while load.users > 1:
    load.seated.clear()
    load.seated.wait()
users.append(load.users)
in_flight = kept()
go_on.set()
while load.users:
    load.seated.clear()
    load.seated.wait()
with gevent.Timeout(5, False):
    while kept():  # gevent closes files in the next round of its loop
        gevent.sleep(0)
after = kept()
runner.quit()
print(json.dumps([users, before, in_flight, after, broken]))
"""
    )
    users, before, in_flight, after, broken = run(tmp_path, script)
    assert users == [3, 1]
    assert len(in_flight) > 3
    assert before == after == broken == []


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
