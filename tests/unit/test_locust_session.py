"""What Trackbench makes of Locust's events; in processes of their own, since importing Locust patches the library."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]


def run(script: str, folder: Path = _ROOT, **environment: str) -> Any:
    """What a script prints last, as JSON."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LOCUST_", "TRACKBENCH_"))}
    env = {**clean, "PYTHONPATH": str(_ROOT), **environment}
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_changing_number_of_users_is_noted() -> None:
    script = """
import json
from loadtests._session import notes_on
print(json.dumps([notes_on(20, [20], None), notes_on(20, [20, 5], None), notes_on(16, [1, 2, 16], "ladder"),
                  notes_on(3, [], None), notes_on(16, [1, 16], "soak", 150.0), notes_on(16, [16], None, 150.0)]))
"""
    steady, edited, shaped, none, paced, plain = run(script)
    assert plain == []
    assert paced == [
        "Load shape soak: from 1 to 16 users over time, where the concurrency is said to be 16. "
        "The rate stayed 150/s: users limit what is in flight."
    ]
    assert steady == none == []
    assert edited == ["The number of users was changed during the load: from 5 to 20, where 20 were asked for."]
    assert shaped == ["Load shape ladder: from 1 to 16 users over time, where the concurrency is said to be 16."]


_SESSION = """
import json, time
from types import SimpleNamespace
from bench.host import Order
from loadtests import _session
class Silent:
    def __init__(self, *given): self.told = []
    def tell(self, frame): self.told.append(frame)
    def result(self): return None
class Nobody:
    def end(self): return [], 0
_session.Host = Silent
order = Order(scenario="ci", driver="http", kind="log_metric", store="sqlite", url=None, tracking_url=None, users=4,
              identities=14, warmup_s=None, seed=None, out="results", command=[])
session = _session.Session(order, Nobody(), print, lambda: None)
session.stage, session.live = _session.Stage.RUNNING, _session.Live(time.time())
"""


def test_a_load_that_never_was_measured_ends_with_a_fault() -> None:
    script = _SESSION + "session.end(); print(json.dumps(session._host.told))"
    (frame,) = run(script)
    assert frame["faults"] == [
        "the load ended before its measured time began; give it longer (-t) or less --warmup",
    ]
    assert frame["notes"] == []
    script = _SESSION + "session._measured = 1; session.end(shape='soak'); print(json.dumps(session._host.told))"
    (frame,) = run(script)
    assert frame["faults"] == []
    assert len(frame["notes"]) == 1


def test_the_warm_up_begins_without_what_waited_for_users() -> None:
    script = (
        _SESSION
        + """
opened = []
session._crew.open = opened.append
session.offer = SimpleNamespace(job=SimpleNamespace(warmup_s=60.0))
before = time.perf_counter_ns()
session.all_users_are_there(4)
session.all_users_are_there(5)  # by hand, later
print(json.dumps([len(opened), before <= opened[0] <= time.perf_counter_ns(), session._measured]))
"""
    )
    assert run(script) == [1, True, -1]


_CONDUCTOR = """
import json, time
from types import SimpleNamespace
from bench.errors import BadInput
from loadtests._conductor import Conductor, Stage, _Merged
class Ending:
    stage = Stage.RUNNING
    def end(self, interrupted, shape):
        self.stage, self.interrupted, self.shape = Stage.JUDGING, interrupted, shape
    def judged(self):
        return SimpleNamespace(exit_code=0, folder=None)
def conductor(run_time, web_ui=None, **others):
    options = SimpleNamespace(scenario="ci", run_time=run_time, autostart=False, **others)
    made = Conductor(SimpleNamespace(parsed_options=options, web_ui=web_ui, runner=None, shape_class=None,
                                     process_exit_code=3), None)
    made.session, made._began = Ending(), time.monotonic() - 10
    return made
"""


@pytest.mark.parametrize(("run_time", "code"), [(10, 0), (None, 0), (60, 130)])
def test_ctrl_c_before_the_time_is_an_interruption(run_time: float | None, code: int) -> None:
    """With a shape Locust stops the test first, in the main greenlet, and quits afterwards."""
    script = (
        _CONDUCTOR
        + f"""
one, other = conductor({run_time}), conductor({run_time})
one.test_stopping()
one.quitting()
other.quitting()
print(json.dumps([one.session.interrupted, one.environment.process_exit_code,
                  other.session.interrupted, other.environment.process_exit_code]))
"""
    )
    assert run(script) == [code != 0, code] * 2


def test_a_test_that_breaks_off_by_itself_is_no_interruption() -> None:
    script = (
        _CONDUCTOR
        + """
import gevent
one = conductor(60)
gevent.spawn(one.test_stopping).join()
one.quitting()
print(json.dumps([one.session.interrupted, one.environment.process_exit_code]))
"""
    )
    assert run(script) == [False, 0]


def test_what_measured_nothing_does_not_end_well() -> None:
    script = (
        _CONDUCTOR
        + """
one = conductor(60)
one.session = None
one.quitting()
print(json.dumps(one.environment.process_exit_code))
"""
    )
    assert run(script) == 3


def test_a_form_says_what_is_run_and_not_where_results_go() -> None:
    script = (
        _CONDUCTOR
        + """
from werkzeug.datastructures import MultiDict
from loadtests._tab import allowed
form = MultiDict([("out", "/elsewhere"), ("html_file", "x"), ("store", "mysql"), ("user_count", "3"),
                  ("user_classes", "A"), ("user_classes", "B")])
merged = _Merged(SimpleNamespace(out="results", store="sqlite"), form)
print(json.dumps([merged.out, merged.store, allowed(form).to_dict(flat=False)]))
"""
    )
    out, store, form = run(script)
    assert (out, store) == ("results", "mysql")
    assert form == {"store": ["mysql"], "user_count": ["3"], "user_classes": ["A", "B"]}


_PARSE = """
import json
from locust.argument_parser import get_parser
from loadtests import locustfile
found = get_parser().parse_args({words})
print(json.dumps([found.web_host, found.master_bind_host, found.class_picker, found.stop_timeout, found.num_users,
                  found.spawn_rate, found.enable_rebalancing]))
"""


def test_loopback_from_every_folder_unless_said_otherwise(tmp_path: Path) -> None:
    for folder in (tmp_path, _ROOT):
        assert run(_PARSE.format(words=[]), folder) == ["127.0.0.1", "127.0.0.1", True, 10, 20, 100, True]
    words = ["--master-bind-host", "0.0.0.0", "--stop-timeout", "3", "-u", "7"]
    found = run(_PARSE.format(words=words), tmp_path, LOCUST_WEB_HOST="0.0.0.0")
    assert found == ["0.0.0.0", "0.0.0.0", True, 3, 7, 100, True]
    (tmp_path / "locust.conf").write_text("web-host = 192.0.2.1\n", encoding="utf-8")
    assert run(_PARSE.format(words=[]), tmp_path)[0] == "192.0.2.1"


_WORKERS = """
import json
from types import SimpleNamespace
from bench.errors import BadInput
from loadtests._workers import Workers
clients = {name: SimpleNamespace(state="ready") for name in "abc"}
options = SimpleNamespace(expect_workers=1, enable_rebalancing=True)
runner = SimpleNamespace(clients=clients, register_message=lambda *_: None,
                         environment=SimpleNamespace(parsed_options=options))
workers, broken = Workers(runner), []
"""


def test_more_workers_than_the_test_was_prepared_for_are_refused() -> None:
    script = (
        _WORKERS
        + """
late = [clients.pop("b"), clients.pop("c")]
job = SimpleNamespace(writers=workers.identities(20))
clients |= {"b": late[0], "c": late[1]}
try:
    workers.begin(job, ("ci", ""), print, broken.append, print)
except BadInput as error:
    print(json.dumps(str(error)))
"""
    )
    assert run(script) == (
        "3 workers are there, and the test was prepared for 1: "
        "say --expect-workers 3, or start the test once all are there"
    )


def test_a_rate_wants_a_user_on_each_worker() -> None:
    script = (
        _WORKERS
        + """
options.expect_workers = 3
def begun(users, arrivals):
    workers.enlist = lambda client: None  # an answer is not what this is about
    try:
        job = SimpleNamespace(writers=workers.identities(users), arrivals=arrivals)
        workers.begin(job, ("ci", ""), print, broken.append, print)
    except BadInput as error:
        return str(error)
print(json.dumps([begun(2, True), begun(3, True), begun(2, None)]))
"""
    )
    assert run(script) == [
        "2 users on 3 workers: one without users could not send its share of the rate; use more users or fewer workers",
        None,
        None,
    ]


def test_each_worker_hears_on_its_own_clock_when_all_users_are_there() -> None:
    script = (
        _WORKERS
        + """
from loadtests._workers import _Worker
sent = []
runner.send_message = lambda *given: sent.append(given)
workers._workers = {"a": _Worker("a", 0), "b": _Worker("b", 1, ahead_ns=-40), "gone": _Worker("gone", 2)}
workers.open(100)
workers.measure()
print(json.dumps(sent))
"""
    )
    assert run(script) == [
        ["trackbench-open", {"at_ns": 100}, "a"],
        ["trackbench-open", {"at_ns": 60}, "b"],
        ["trackbench-measure", {}, "a"],
        ["trackbench-measure", {}, "b"],
    ]


def test_users_of_a_worker_that_comes_too_late_are_missed_in_the_load() -> None:
    script = (
        _WORKERS
        + """
workers._job, workers._block, workers._broke = SimpleNamespace(writers=10, arrivals=None), 30, broken.append
workers.enlist("c")
options.enable_rebalancing = False
workers.enlist("b")
print(json.dumps(broken))
"""
    )
    assert run(script) == ["worker c joined late, and no identities are left for its users; start with all workers"]


def test_a_worker_that_comes_too_late_finds_the_rate_shared_out() -> None:
    script = (
        _WORKERS
        + """
workers._job, workers._block, workers._broke = SimpleNamespace(writers=90, arrivals=True), 30, broken.append
workers._workers = {"a": None}
workers.enlist("b")
print(json.dumps(broken))
"""
    )
    assert run(script) == [
        "worker b joined late, and the rate is already shared out among the others; start with all workers"
    ]


_SHARES = """
import json
from dataclasses import replace
from itertools import islice, takewhile
from heapq import merge
from pathlib import Path
from bench.arrivals import Arrivals, due_times
from loadtests._crew import shared
"""


def test_workers_share_a_rate_out() -> None:
    script = (
        _SHARES
        + """
whole = Arrivals("constant", 300.0, 7, limit_ns=5)
parts = [shared(whole, n, 3) for n in range(3)]
ours = list(islice(merge(*map(due_times, parts)), 9000))
theirs = list(islice(due_times(whole), 9000))
random = [shared(replace(whole, kind="poisson"), n, 3) for n in range(3)]
again = [shared(replace(whole, kind="poisson"), n, 3) for n in range(3)]
minute = [len(list(takewhile(lambda due: due < 60e9, due_times(one)))) for one in random]
print(json.dumps([max(abs(a - b) for a, b in zip(ours, theirs)), [one.limit_ns for one in parts], random == again,
                  len({one.seed for one in random}), sum(one.rate for one in random), minute]))
"""
    )
    apart, limits, same, seeds, rate, minute = run(script)
    assert apart <= 1  # ns: together they are the schedule that one process would have
    assert limits == [5, 5, 5]
    assert (same, seeds, rate) == (True, 3, 300.0)
    assert all(abs(n - 6000) < 6 * 6000**0.5 for n in minute)


def test_direct_users_beyond_the_room_there_is_break_the_load_once() -> None:
    script = """
import json
from types import SimpleNamespace
from loadtests._part import DirectPart
broken = []
part = DirectPart.__new__(DirectPart)
part.job, part._writers, part._short, part._broke = SimpleNamespace(block=1), 0, False, broken.append
part._engine = SimpleNamespace(send=lambda order: None)
print(json.dumps([[part.enter("DirectReadUser") for _ in range(3)], broken]))
"""
    entered, broken = run(script)
    assert entered == [True, False, False]
    assert broken == ["no writer is left for another DirectReadUser: there is room for 1 here"]
