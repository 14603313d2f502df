"""Arrivals under gevent: each is taken once or skipped once, first come, first served, and nobody waits for ever."""

import random
from itertools import takewhile
from time import perf_counter_ns as now

import gevent
import pytest
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.arrivals import Arrivals, due_times
from bench.pacer import Alarm, Due
from loadtests._pace import Pace

SECOND = 10**9


class User:
    """Takes arrivals; what it took and skipped goes into lists of all users."""

    def __init__(self, name: int, taken: list[tuple[int, int]], skipped: list[int]) -> None:
        self.name, self.taken, self.skipped = name, taken, skipped

    def skip(self, due_ns: int, given_up_ns: int) -> None:
        assert given_up_ns > due_ns
        self.skipped.append(due_ns)

    def run(self, pace: Pace, works_s: float = 0.0) -> None:
        while (due := pace.next(self)) is not None:
            self.taken.append((due, self.name))
            gevent.sleep(works_s)


def expected(arrivals: Arrivals, epoch: int, seconds: float) -> list[int]:
    end = round(seconds * SECOND)
    return [epoch + due for due in takewhile(lambda due: due < end, due_times(arrivals))]


def opened(arrivals: Arrivals, epoch: int, seconds: float | None) -> Pace:
    return Pace(Due(arrivals, epoch, None if seconds is None else epoch + round(seconds * SECOND)))


@pytest.fixture(params=["alarm", "timer"])
def either_timer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's timer, and gevent's own where there is none."""
    if request.param == "timer":
        monkeypatch.setattr(Alarm, "available", staticmethod(lambda: False))


def test_who_waits_longest_is_served_first(either_timer: None) -> None:
    arrivals, epoch = Arrivals("constant", 500, 0), now()
    pace = opened(arrivals, epoch, 0.1)
    taken: list[tuple[int, int]] = []
    users = [User(name, taken, []) for name in range(5)]
    gevent.joinall([gevent.spawn(one.run, pace) for one in users], timeout=10, raise_error=True)
    pace.release()
    assert [due for due, _ in taken] == expected(arrivals, epoch, 0.1)
    assert [name for _, name in taken] == [n % 5 for n in range(len(taken))]
    assert now() >= epoch + 0.1 * SECOND  # nobody leaves before the end


def test_what_is_already_due_is_taken_without_a_switch() -> None:
    epoch = now() - SECOND
    pace = opened(Arrivals("constant", 100, 0), epoch, None)
    others: list[int] = []
    gevent.spawn(others.append, 1)
    user = User(0, [], [])
    assert [pace.next(user) for _ in range(100)] == expected(Arrivals("constant", 100, 0), epoch, 1)
    assert others == []
    pace.abandon(user.skip)
    assert pace.next(user) is None
    gevent.sleep(0)
    assert others == [1]
    pace.release()
    pace.release()


def test_what_is_too_late_is_skipped_by_whoever_comes() -> None:
    epoch = now() - SECOND
    arrivals = Arrivals("constant", 100, 0, limit_ns=SECOND // 2)
    pace = opened(arrivals, epoch, 1)
    user = User(0, [], [])
    user.run(pace)
    pace.release()
    assert sorted([*user.skipped, *(due for due, _ in user.taken)]) == expected(arrivals, epoch, 1)
    assert max(user.skipped) < user.taken[0][0]
    assert len(user.skipped) >= 49


def test_who_is_let_go_takes_nothing_and_the_next_one_is_served() -> None:
    epoch = now()
    pace = opened(Arrivals("constant", 5, 0, offset=1), epoch, 0.21)
    taken: list[tuple[int, int]] = []
    users = [User(name, taken, []) for name in range(2)]
    greenlets = [gevent.spawn(one.run, pace) for one in users]
    gevent.sleep(0)
    pace.let_go(users[0])
    pace.let_go(users[0])
    greenlets[0].join(timeout=1)
    assert greenlets[0].successful()
    gevent.joinall(greenlets, timeout=10, raise_error=True)
    pace.let_go(users[1])  # does not wait
    pace.release()
    assert [name for _, name in taken] == [1]


def test_who_is_killed_while_waiting_takes_nothing_with_it() -> None:
    epoch = now()
    pace = opened(Arrivals("constant", 5, 0, offset=1), epoch, 0.21)
    taken: list[tuple[int, int]] = []
    first, second = (gevent.spawn(User(name, taken, []).run, pace) for name in range(2))
    gevent.sleep(0)
    first.kill()
    second.join(timeout=10)
    pace.release()
    assert [name for _, name in taken] == [1]


def test_a_load_without_a_time_ends_when_it_is_closed() -> None:
    arrivals, epoch = Arrivals("poisson", 2000, 1), now()
    pace = opened(arrivals, epoch, None)
    taken: list[tuple[int, int]] = []
    users = [gevent.spawn(User(name, taken, []).run, pace) for name in range(3)]
    gevent.sleep(0.05)
    closing = now()
    pace.close(closing)
    pace.close(closing + SECOND)
    gevent.joinall(users, timeout=10, raise_error=True)
    pace.release()
    assert [due for due, _ in taken] == expected(arrivals, epoch, (closing - epoch) / SECOND)


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([None, 2_000_000]), st.integers(1, 6))
def test_each_arrival_leaves_once_whoever_comes_and_goes(rnd: random.Random, limit: int | None, many: int) -> None:
    """Users are killed and let go at any moment, new ones come, and the load ends with work left."""
    arrivals, epoch = Arrivals("poisson", 5000, rnd.randrange(1000), limit), now()
    pace = opened(arrivals, epoch, 0.02)
    taken: list[tuple[int, int]] = []
    skipped: list[int] = []
    users = {name: User(name, taken, skipped) for name in range(many)}
    running = {name: gevent.spawn(one.run, pace, rnd.choice([0, 0.001])) for name, one in users.items()}
    for step in range(20):
        name = rnd.randrange(many)
        gevent.sleep(rnd.choice([0, 0.001]))
        if rnd.random() < 0.5:
            running[name].kill()
        else:
            pace.let_go(users[name])
        if running[name].dead:
            users[name] = User(name, taken, skipped)
            running[name] = gevent.spawn(users[name].run, pace, 0.001 * (step % 2))
    closing = now()
    pace.abandon(lambda due, _: skipped.append(due))
    gevent.joinall(list(running.values()), timeout=10, raise_error=True)
    pace.release()
    seconds = min(0.02, (closing - epoch) / SECOND)
    whole = sorted([*skipped, *(due for due, _ in taken)])
    assert whole[: len(expected(arrivals, epoch, seconds))] == expected(arrivals, epoch, seconds)
    assert len(set(whole)) == len(whole)


class Counted(Pace):
    """Counts how often it is woken."""

    calls = 0

    def _serve(self) -> None:
        self.calls += 1
        super()._serve()


def test_nothing_happens_while_nobody_waits(either_timer: None) -> None:
    """No wake-up is left behind that would spin, or serve nobody."""
    pace = Counted(Due(Arrivals("constant", 1000, 0), now(), None))
    waiting = gevent.spawn(pace.next, User(0, [], []))
    waiting.join(timeout=10)
    assert waiting.value is not None
    before = pace.calls
    done = Event()
    gevent.spawn_later(0.02, done.set)
    done.wait()
    assert pace.calls <= before + 1
    pace.release()
