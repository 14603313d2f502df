"""Writers that users take and give back, and the frames that tell of them."""

from collections import Counter
from pathlib import Path
from time import perf_counter_ns as now
from typing import Any

import gevent
from http_scripted import Scripted, answer, in_turn, job

from bench.arrivals import Arrivals
from bench.ledger import load as load_ledger
from bench.site import Site
from bench.workload import Workload
from loadtests._connection import Connection
from loadtests._load import Load, Measurement
from loadtests._together import Together

LOG_METRIC = Workload("m", "log_metric")


def user(load: Load) -> None:
    """What a Locust user does."""
    writer = load.take()
    assert writer is not None
    assert load.job.site is not None
    writer.sit(Connection(load.job.site.url, 1), lambda _told: None)
    try:
        load.go.wait()
        while writer.step():
            pass
    finally:
        load.give(writer)


def test_identities_are_this_processs_own_and_are_taken_up_again(tmp_path: Path) -> None:
    load = Load(job(tmp_path, LOG_METRIC, Site("http://127.0.0.1:1"), writers=8, first=4, block=2, run_ids=("",) * 8))
    one, two = load.take(), load.take()
    assert one is not None
    assert two is not None
    assert (one.index, two.index) == (4, 5)
    assert load.take() is None
    load.give(two)
    load.give(one)
    assert load.take() is one
    assert load.take() is two
    load.close()


def test_a_dropped_load_is_closed_when_its_last_user_has_left(tmp_path: Path) -> None:
    load = Load(job(tmp_path, LOG_METRIC, Site("http://127.0.0.1:1"), arrivals=Arrivals("constant", 100, 0)))
    writer = load.take()
    assert writer is not None
    load.begin(now() - 10**9, None)
    load.drop()
    assert load.over.is_set()
    assert load.pace is not None
    assert load.pace.next(writer) is None  # the schedule has ended
    assert not writer._ledger._file.closed
    load.give(writer)
    assert writer._ledger._file.closed
    assert load.take() is None
    assert job_samples(tmp_path) >= 100
    load.drop()


def test_a_measurement_tells_of_every_operation_up_to_the_last(tmp_path: Path) -> None:
    server = Scripted(in_turn())
    load = Load(job(tmp_path, LOG_METRIC, Site(server.url, {}, True), warmup_s=0.1))
    users = [gevent.spawn(user, load) for _ in range(2)]
    gevent.sleep(0.05)
    frames: list[dict[str, Any]] = []
    Measurement(load, frames.append).run()
    gevent.joinall(users, raise_error=True)
    server.close()
    assert [frame["event"] for frame in frames][:: len(frames) - 1] == ["ready", "end"]
    ticks = [frame for frame in frames if frame["event"] == "tick"]
    end = frames[-1]
    assert 0.25e9 < end["end_ns"] - end["begin_ns"] < 1e9
    assert end["begin_ns"] >= 0.1e9
    assert 0 < end["cpu_share"] < 2
    assert end["faults"] == []
    total = sum(frame["ok"] for frame in ticks)
    assert total == len(server.paths) == job_samples(tmp_path)
    assert total == sum(len(load_ledger(tmp_path, writer)) for writer in (0, 1))


def job_samples(folder: Path) -> int:
    return (folder / "samples-0.raw").stat().st_size // 32


def test_the_count_ends_the_load_before_its_time(tmp_path: Path) -> None:
    server = Scripted(in_turn())
    load = Load(job(tmp_path, LOG_METRIC, Site(server.url, {}, True), count=5, duration_s=60.0))
    users = [gevent.spawn(user, load) for _ in range(2)]
    gevent.sleep(0.05)
    Measurement(load, lambda _frame: None).run()
    gevent.joinall(users, raise_error=True)
    server.close()
    assert len(server.paths) == 10


def test_too_few_writes_prolong_the_load(tmp_path: Path) -> None:
    server = Scripted(in_turn(then=answer(400)))
    load = Load(job(tmp_path, LOG_METRIC, Site(server.url, {}, True), min_writes=10, duration_s=0.2, active=1))
    users = [gevent.spawn(user, load)]
    frames: list[dict[str, Any]] = []
    Measurement(load, frames.append).run()
    gevent.joinall(users, raise_error=True)
    server.close()
    assert frames[-1]["end_ns"] - frames[-1]["begin_ns"] >= 0.8e9  # PATIENCE times its length


def test_a_broken_tick_ends_the_load_as_a_fault(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    server = Scripted(in_turn())
    load = Load(job(tmp_path, LOG_METRIC, Site(server.url, {}, True), duration_s=60.0))

    def broken() -> None:
        raise ZeroDivisionError("no ticks")

    monkeypatch.setattr(load, "check_timeouts", broken)
    users = [gevent.spawn(user, load)]
    frames: list[dict[str, Any]] = []
    Measurement(load, frames.append).run()
    gevent.joinall(users, raise_error=True)
    server.close()
    assert frames[-1]["faults"] == ["ZeroDivisionError: no ticks"]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_users_in_lockstep_begin_each_operation_together() -> None:
    together, order = Together(), []

    def member(name: str, rounds: int, pause: float) -> None:
        together.join()
        for n in range(rounds):
            gevent.sleep(pause)
            together.wait()
            order.append((n, name))
        together.leave()

    members = [
        gevent.spawn(member, "a", 3, 0.0),
        gevent.spawn(member, "b", 3, 0.02),
        gevent.spawn(member, "c", 2, 0.01),
    ]
    gevent.joinall(members, timeout=5, raise_error=True)
    assert Counter(n for n, _ in order) == {0: 3, 1: 3, 2: 2}
    assert [n for n, _ in order] == sorted(n for n, _ in order)


def test_a_user_killed_at_the_gate_holds_nobody_up() -> None:
    together = Together()
    for _ in range(2):
        together.join()
    killed, waiting = gevent.spawn(together.wait), None
    gevent.sleep(0)
    killed.kill()
    waiting = gevent.spawn(together.wait)
    gevent.sleep(0)
    assert not waiting.ready()
    together.leave()
    waiting.join(timeout=1)
    assert waiting.successful()
