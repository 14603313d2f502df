"""Open loops over HTTP before a server that does as it is told: whatever it does, the schedule stays the schedule."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from time import perf_counter_ns as now
from typing import Any

import gevent
import numpy as np
import pytest
from gevent.event import Event
from http_scripted import STALL, Answers, Scripted, answer, bench, in_turn, job, outcomes

from bench.arrivals import Arrivals, due_times
from bench.outcome import ErrorKind, Outcome
from bench.pacer import skipped_code
from bench.samples import FIELDS, Samples, unpack
from bench.site import Site
from bench.workload import OPERATIONS, Workload
from loadtests import _writer
from loadtests._connection import Connection
from loadtests._load import Load, Measurement

OK, INFO, SKIPPED = Outcome.OK, Outcome.INFO, Outcome.SKIPPED
LOG_METRIC = Workload("m", "log_metric")
MS = 1_000_000
NONE = ErrorKind.NONE


class Opened:
    """An open loop of some users, from its beginning to its end; `join` adds one."""

    def __init__(self, folder: Path, answers: Answers, arrivals: Arrivals, users: int = 1, **fields: Any) -> None:
        self.arrivals = arrivals
        self.server = Scripted(answers)
        site = Site(self.server.url, {}, True)
        self.load = Load(job(folder, fields.pop("workload", LOG_METRIC), site, arrivals=arrivals, **fields))
        self.frames: list[dict[str, Any]] = []
        self.users: list[Any] = []
        for _ in range(users):
            self.join()
        self.measurement = gevent.spawn(Measurement(self.load, self.frames.append).run)

    def join(self) -> None:
        self.users.append(gevent.spawn(self._use))

    def _use(self) -> None:
        """What a Locust user does."""
        load = self.load
        writer = load.take()
        assert writer is not None
        assert load.job.site is not None
        writer.sit(Connection(load.job.site.url, 1), lambda _told: None)
        try:
            load.go.wait()
            assert load.pace is not None
            while (due := load.pace.next(writer)) is not None:
                writer.step(due)
        finally:
            load.give(writer)

    def wait(self) -> Samples:
        """Every sample of it, in the order in which they were due, once all has ended."""
        gevent.joinall([self.measurement, *self.users], timeout=20, raise_error=True)
        assert self.measurement.ready()
        assert all(one.ready() for one in self.users)
        words = np.fromfile(self.load.job.samples, dtype=np.int64).reshape(-1, FIELDS)
        return unpack(words[np.argsort(words[:, 0], kind="stable")])

    @property
    def epoch(self) -> int:
        return int(self.frames[0]["epoch_ns"])

    @property
    def end(self) -> dict[str, Any]:
        assert self.frames[-1]["event"] == "end"
        return self.frames[-1]

    def due(self) -> list[int]:
        """Everything that was due before the end of the window, absolute."""
        end = self.end["end_ns"]
        return [self.epoch + due for due in takewhile(lambda due: due < end, due_times(self.arrivals))]

    def told(self, name: str) -> int:
        return sum(frame[name] for frame in self.frames if frame["event"] == "tick")


@pytest.fixture
def open_loop(tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    opened: list[Opened] = []

    def begin(*given: Any, **fields: Any) -> Opened:
        opened.append(Opened(tmp_path, *given, **fields))
        return opened[-1]

    yield begin
    for one in opened:
        gevent.killall([one.measurement, *one.users])
        one.server.close()
        one.load.close()


def held(first: Event) -> Answers:
    """The first answer comes when ``first`` is set; the others at once."""

    def decide(number: int, _path: str) -> bytes:
        if number == 0:
            first.wait()
        return answer()

    return decide


def test_a_stalled_answer_delays_none_of_the_schedule(open_loop: Callable[..., Opened]) -> None:
    go_on = Event()
    one = open_loop(held(go_on), Arrivals("constant", 100, 0), duration_s=0.5, warmup_s=0.1)
    gevent.spawn_later(0.4, go_on.set)
    found = one.wait()
    assert found.scheduled_ns.tolist() == one.due()
    assert (one.end["begin_ns"], one.end["end_ns"]) == (100 * MS, 600 * MS)
    assert set(found.outcome.tolist()) == {OK}
    assert (found.start_ns >= found.scheduled_ns).all()
    assert found.response_ms[0] >= 350  # the 400 ms count from a moment after the first was due
    assert (found.response_ms[:20] > found.service_ms[:20] + 150).sum() >= 19  # those that waited for the first
    assert one.told("ok") == len(found) == 60
    assert one.end["faults"] == []


def test_the_limit_skips_what_came_too_late_and_counts_it(open_loop: Callable[..., Opened]) -> None:
    go_on = Event()
    one = open_loop(held(go_on), Arrivals("constant", 100, 0, limit_ns=200 * MS), duration_s=0.6)
    gevent.spawn_later(0.4, go_on.set)
    found = one.wait()
    assert found.scheduled_ns.tolist() == one.due()
    skipped = found.where(found.outcome == SKIPPED)
    assert 19 <= len(skipped) < len(found) - 1
    assert one.told("skipped") == len(skipped)
    assert one.told("ok") == len(found) - len(skipped)
    assert skipped.start_ns.tolist() == skipped.end_ns.tolist()
    assert (skipped.response_ms > 200).all()
    assert outcomes(skipped)[0] == (SKIPPED, NONE, 0)


def test_what_was_due_is_sent_even_when_the_time_is_over(open_loop: Callable[..., Opened]) -> None:
    go_on = Event()
    one = open_loop(held(go_on), Arrivals("constant", 100, 0), duration_s=0.2)
    gevent.spawn_later(0.3, go_on.set)
    found = one.wait()
    assert found.scheduled_ns.tolist() == one.due()
    assert outcomes(found) == [(OK, NONE, 1)] * 20
    assert one.end["end_ns"] == 200 * MS
    assert (found.start_ns - one.epoch > 200 * MS).sum() == 19


@pytest.mark.parametrize("limit_ns", [None, 50 * MS])
def test_a_server_that_never_answers_does_not_hold_the_end(
    open_loop: Callable[..., Opened], limit_ns: int | None
) -> None:
    """Neither the two users in flight nor those that are still due; each is counted once."""
    arrivals = Arrivals("poisson", 100, 3, limit_ns)
    one = open_loop(in_turn(then=STALL), arrivals, users=2, duration_s=0.3, timeout_s=0.2)
    found = one.wait()
    assert found.scheduled_ns.tolist() == one.due()
    ended = outcomes(found)
    assert {kind for kind in ended if kind[0] != SKIPPED} == {(INFO, ErrorKind.TIMEOUT, 1)}
    assert ended.count((SKIPPED, NONE, 0)) == one.told("skipped") > 0
    assert one.told("unknown") == len(found) - one.told("skipped") >= 2


def test_nobody_there_is_no_reason_to_wait(open_loop: Callable[..., Opened]) -> None:
    one = open_loop(in_turn(), Arrivals("constant", 100, 0), users=0, duration_s=0.1)
    found = one.wait()
    assert found.scheduled_ns.tolist() == one.due()
    assert outcomes(found) == [(SKIPPED, NONE, 0)] * 10
    assert set(found.writer.tolist()) == {0}


def test_a_load_whose_owner_ends_it_sends_what_was_due(open_loop: Callable[..., Opened]) -> None:
    """As under Locust."""
    go_on = Event()
    one = open_loop(held(go_on), Arrivals("constant", 100, 0), duration_s=float("inf"))
    gevent.spawn_later(0.2, one.load.over.set)
    gevent.spawn_later(0.3, go_on.set)
    found = one.wait()
    assert found.scheduled_ns.tolist() == one.due()
    assert outcomes(found) == [(OK, NONE, 1)] * len(found)
    assert one.end["begin_ns"] == 0
    assert one.end["end_ns"] >= 195 * MS  # gevent counts from when it last looked at the clock


def test_what_was_due_before_all_users_were_there_is_not_theirs(open_loop: Callable[..., Opened]) -> None:
    """Under Locust they come one by one; a backlog that comes to be afterwards stays."""
    go_on = Event()
    one = open_loop(held(go_on), Arrivals("constant", 100, 0), users=0, duration_s=float("inf"))
    gevent.sleep(0.2)
    at = now()
    one.load.open(at)
    one.join()
    gevent.spawn_later(0.2, go_on.set)
    gevent.spawn_later(0.3, one.load.over.set)
    found = one.wait()
    assert found.scheduled_ns.tolist() == [due for due in one.due() if due >= at]
    assert outcomes(found) == [(OK, NONE, 1)] * len(found)
    assert found.response_ms[0] > 100


def test_an_order_to_end_ends_the_drain_of_a_load_with_a_time(open_loop: Callable[..., Opened]) -> None:
    go_on = Event()
    one = open_loop(held(go_on), Arrivals("constant", 100, 0), duration_s=0.4)
    gevent.spawn_later(0.5, one.load.over.set)
    gevent.spawn_later(0.9, go_on.set)  # while it would still drain
    found = one.wait()
    assert outcomes(found) == [(OK, NONE, 1)] + [(SKIPPED, NONE, 0)] * 39
    assert one.end["end_ns"] == 400 * MS


@pytest.mark.parametrize("warmup_s", [0.0, 60.0])
def test_an_owner_who_ends_it_before_its_time_does_not_wait(open_loop: Callable[..., Opened], warmup_s: float) -> None:
    go_on = Event()
    one = open_loop(held(go_on), Arrivals("constant", 100, 0), duration_s=60.0, warmup_s=warmup_s)
    gevent.spawn_later(0.1, one.load.over.set)
    gevent.spawn_later(0.2, go_on.set)
    found = one.wait()
    assert found.scheduled_ns.tolist() == one.due()
    assert outcomes(found) == [(OK, NONE, 1)] + [(SKIPPED, NONE, 0)] * (len(found) - 1)
    assert 0 <= one.end["begin_ns"] <= one.end["end_ns"] < 10_000 * MS


def test_a_broken_harness_does_not_drain(open_loop: Callable[..., Opened]) -> None:
    one = open_loop(in_turn(), Arrivals("constant", 100, 0), users=1, duration_s=float("inf"))
    gevent.sleep(0.05)
    one.load.fault(ZeroDivisionError("broken"))
    one.wait()
    assert one.end["faults"] == ["ZeroDivisionError: broken"]


# One operation of the schedule

DUE = 5  # long ago


def test_an_operation_is_timed_from_when_it_was_due(tmp_path: Path) -> None:
    with bench(tmp_path, LOG_METRIC, in_turn(answer(503), then=answer())) as one:
        for _ in range(2):
            assert one.writer.step(DUE)
        found = one.samples()
        assert found.scheduled_ns.tolist() == [DUE, DUE]
        assert (found.start_ns > DUE).all()
        assert [told.milliseconds for told in one.told] == found.response_ms.tolist()  # Locust's too


def test_retries_belong_to_their_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_writer.HttpWriter, "_back_off", lambda self, attempts: False)
    with bench(tmp_path, LOG_METRIC, in_turn(answer(503)), retry="mlflow") as one:
        one.writer.step(DUE)
        found = one.samples()
        assert (found.scheduled_ns.tolist(), outcomes(found)) == ([DUE], [(OK, NONE, 2)])


@contextmanager
def killed_in(one: Any, requests: int) -> Iterator[None]:
    """Kill the user in its operation, once the server has so many requests."""
    user = gevent.spawn(one.writer.step, DUE)
    while len(one.server.paths) < requests:
        one.server.reached.clear()
        one.server.reached.wait()
    user.kill()
    yield


def test_what_was_taken_is_recorded_also_if_the_user_is_killed(tmp_path: Path) -> None:
    with bench(tmp_path, LOG_METRIC, in_turn(STALL)) as one, killed_in(one, 1):
        found = one.samples()
        assert (found.scheduled_ns.tolist(), outcomes(found)) == ([DUE], [(INFO, NONE, 1)])
        assert found.start_ns[0] > DUE


def test_and_also_in_a_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_writer.HttpWriter, "_back_off", lambda self, attempts: False)
    with bench(tmp_path, LOG_METRIC, in_turn(answer(503), STALL), retry="mlflow") as one, killed_in(one, 2):
        found = one.samples()
        assert (found.scheduled_ns.tolist(), outcomes(found)) == ([DUE], [(INFO, NONE, 2)])


def test_what_was_taken_is_carried_out_even_if_all_is_being_stopped(tmp_path: Path) -> None:
    with bench(tmp_path, LOG_METRIC, in_turn(), count=1) as one:
        one.steps(1)
        one.stopping.set()
        assert one.writer.step(DUE)
        assert not one.writer.step()
        assert outcomes(one.samples()) == [(OK, NONE, 1)] * 2


@pytest.mark.parametrize(
    ("kind", "operation"), [("read", "search_runs"), ("train", "log_metric"), ("log_batch", "log_batch")]
)
def test_a_skipped_arrival_is_of_the_workloads_operation(tmp_path: Path, kind: Any, operation: str) -> None:
    work = Workload("w", kind, params=1, tags=1)
    with bench(tmp_path, work, in_turn()) as one:
        one.writer.skip(DUE, 9)
        found = one.samples()
        assert OPERATIONS[found.operation[0]] == operation
        assert (found.start_ns[0], found.end_ns[0], found.scheduled_ns[0]) == (9, 9, DUE)
        assert skipped_code(work, 0) == one.writer._skipped
