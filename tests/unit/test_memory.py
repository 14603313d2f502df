"""What grows is seen to grow, what only begins or peaks is not, and no page counts twice."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import memory
from bench.cell import MemoryUse
from bench.memory import FEWEST, MOST, Look, Memory, figures

HOUR_S = 3600.0


def looks(amounts: list[float], party: str = "harness", every_s: float = 1.0) -> list[Look]:
    return [(n * every_s, {party: amount}) for n, amount in enumerate(amounts)]


def test_what_was_taken_first_last_and_most() -> None:
    assert figures(looks([5.0, 9.0, 7.0])) == {
        "harness": MemoryUse(first_mb=5.0, last_mb=7.0, peak_mb=9.0, mb_per_h=None, n=3)
    }
    assert figures([]) == {}


@given(st.integers(FEWEST, MOST), st.floats(-500, 500), st.floats(0.5, 8))
def test_growth_is_that_of_the_line(count: int, mb_per_h: float, every_s: float) -> None:
    line = [100 + mb_per_h / HOUR_S * n * every_s for n in range(count)]
    growth = figures(looks(line, "load", every_s))["load"].mb_per_h
    assert growth == pytest.approx(mb_per_h, abs=1e-6)


def test_too_few_looks_say_nothing_of_growth() -> None:
    assert figures(looks([1.0] * (FEWEST - 1)))["harness"].mb_per_h is None
    assert figures(looks([1.0] * FEWEST))["harness"].mb_per_h == 0


def test_a_start_is_no_growth() -> None:
    """Caches fill in the first half; only the second counts."""
    start = [float(n) for n in range(100)] + [100.0] * 100
    assert figures(looks(start))["harness"].mb_per_h == 0
    late = [0.0] * 100 + [float(n) for n in range(100)]
    assert figures(looks(late))["harness"].mb_per_h == pytest.approx(HOUR_S)


def test_a_quarter_of_peaks_does_not_bend_the_line() -> None:
    peaks = [50.0 + (1000.0 if n % 4 == 3 and n > 150 else 0.0) for n in range(200)]
    assert figures(looks(peaks))["harness"].mb_per_h == 0


def test_a_party_that_comes_late_or_goes_has_looks_of_its_own() -> None:
    seen: list[Look] = [(0.0, {"harness": 1.0}), (1.0, {"harness": 1.0, "load": 3.0}), (2.0, {"harness": 1.0})]
    found = figures(seen)
    assert list(found) == ["harness", "load"]
    assert (found["harness"].n, found["load"].n) == (3, 1)


class Scripted(Memory):
    """Sees what a script says, as fast as it can."""

    def __init__(self, amounts: list[float]) -> None:
        super().__init__(every_s=0.0)
        self._amounts = iter(amounts)
        self.done = asyncio.Event()

    async def all(self) -> None:
        async with self:
            await self.done.wait()

    def _look(self) -> dict[str, float]:
        amount = next(self._amounts, None)
        if amount is None:
            self._loop.call_soon_threadsafe(self.done.set)
            return {}
        return {"harness": amount}

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        assert self._task is not None
        return self._task.get_loop()


def test_of_a_long_trial_no_more_than_so_many_looks_are_kept() -> None:
    """And no peak is forgotten."""
    amounts = [1.0] * (2 * MOST)
    amounts[7] = 99.0

    async def watched() -> MemoryUse:
        one = Scripted(amounts)
        await one.all()
        return one.uses()["harness"]

    use = asyncio.run(watched())
    assert MOST // 2 <= use.n < MOST
    assert (use.first_mb, use.last_mb, use.peak_mb) == (1.0, 1.0, 99.0)


def test_the_time_between_looks_doubles() -> None:
    one = Memory(every_s=1.0)
    for n in range(MOST):
        one._keep((float(n), {"harness": 1.0}))
    assert [at for at, _ in one._looks] == [float(n) for n in range(0, MOST, 2)]
    assert one._every_s == 2.0


# Real processes

_IDLE = "import sys; block = bytearray(b'x') * int(sys.argv[1]); print('there', flush=True); sys.stdin.read()"
_PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {_IDLE!r}, sys.argv[1]], stdin=subprocess.PIPE)
sys.stdin.read()
child.communicate()
"""
_SHARING = """
import mmap, os, sys
block = mmap.mmap(-1, int(sys.argv[1]))
readers = []
for _ in range(3):
    told, tell = os.pipe()
    if os.fork() == 0:
        os.read(told, 1) if os.close(tell) is None else None
        for page in range(0, len(block), 4096):
            block[page]
        os.write(1, b"there\\n")
        os.read(0, 1)
        os._exit(0)
    readers.append(tell)
for page in range(0, len(block), 4096):
    block[page] = 1
for tell in readers:
    os.write(tell, b"x")
sys.stdin.read()
for _ in readers:
    os.wait()
"""
MB = 10**6


@contextmanager
def running(code: str, *words: str, children: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said so many times that it is there; it ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        for _ in range(children):
            assert process.stdout.readline() == b"there\n"
        yield process
        process.stdin.close()


def seen(one: Memory) -> dict[str, float]:
    return one._look()


def test_each_party_is_known_by_what_it_is() -> None:
    amount = str(60 * MB)
    with (
        running(_IDLE, amount, "bench.engine"),
        running(_IDLE, amount, "bench.engines"),
        running(_PARENT, amount) as database,
        running(_IDLE, amount) as worker,
        running(_IDLE, "0") as parent,
    ):
        assert set(seen(Memory())) == {"harness", "load"}
        taken = seen(Memory(lambda: [worker.pid, parent.pid], lambda: database.pid))
        assert set(taken) == {"harness", "load", "tracking", "database"}
        assert taken["harness"] == pytest.approx(psutil.Process().memory_info().rss / MB, rel=0.1)
        for party in ("load", "tracking", "database"):
            assert 60 < taken[party] < 115, taken
    assert set(seen(Memory(lambda: [worker.pid], lambda: database.pid))) == {"harness"}


def test_the_load_of_another_process_is_not_ours() -> None:
    with running(_PARENT.replace("sys.argv[1]]", "sys.argv[1], 'bench.engine']"), "0"):
        assert "load" not in seen(Memory())


@pytest.mark.skipif(not hasattr(psutil.Process().memory_info(), "shared"), reason="the system does not tell")
def test_pages_that_processes_share_count_once() -> None:
    """As the buffers of a PostgreSQL do, which all of its backends map."""
    with running(_SHARING, str(100 * MB), children=3) as database:
        sharing = psutil.Process(database.pid)
        each = [one.memory_info().rss for one in (sharing, *sharing.children())]
        assert min(each) > 100 * MB
        assert 100 < seen(Memory(database=lambda: database.pid))["database"] < 180 < sum(each) / MB


def test_it_watches_from_the_beginning_to_the_end() -> None:
    asked: list[None] = []

    async def watched() -> dict[str, MemoryUse]:
        loop, enough = asyncio.get_running_loop(), asyncio.Event()

        def server() -> list[int]:
            asked.append(None)
            if len(asked) == 5:
                loop.call_soon_threadsafe(enough.set)
            return [os.getpid()]

        async with Memory(server, every_s=0.01) as one:
            await enough.wait()
        assert one._task is not None
        assert one._task.done()
        return one.uses()

    found = asyncio.run(watched())
    assert set(found) == {"harness", "tracking"}
    assert 5 <= found["harness"].n == found["tracking"].n == len(asked)
    assert found["harness"].mb_per_h is None
    assert 0 < found["harness"].first_mb <= found["harness"].peak_mb


def test_a_party_that_can_not_be_asked_ends_the_watch_with_its_error() -> None:
    def broken() -> int:
        raise ValueError("broken")

    async def watched() -> None:
        async with Memory(database=broken):
            pass

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(watched())


def test_all_parties_have_a_name() -> None:
    assert memory.PARTIES == ("harness", "load", "tracking", "database")
