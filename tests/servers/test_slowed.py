"""A real PostgreSQL made slower on purpose, by a known amount, and a machine made busy: what runs say of them.

`commit_delay` holds each flush of the WAL for so many microseconds. A lone writer's commits each take so much longer.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from stores import carry_out

from bench.cell import CLOSED, Cell
from bench.errors import BadInput
from bench.judge.regression import regression
from bench.results import Regression, Results

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(1200)]
# The judged stores all have so slow a disk: beside it, what other processes on the machine do to an operation is small
# (a process that finds all cores taken waits for one tick of the scheduler, 4 ms, and more often than not for several).
SLOW_DISK_US = 40_000
MOST_US = 100_000  # that commit_delay may be

SCENARIO = """
title = "slowed on purpose"
control = ""
warmup_s = 0.2
[workloads.w]
kind = "log_metric"
"""
ONE_WRITER = 'duration_s = 1.5\n[[cells]]\nworkload = "w"\nconcurrency = [1]\n'
MARGIN = """
[[criteria]]
name = "writes"
expression = "p50_ms <= 1.2 * reference"
[[criteria]]
name = "rate"
expression = "metrics_per_s >= 0.83 * reference"
"""


def postgresql(name: str, delay_us: float = 0) -> str:
    """A candidate whose commits take so much longer, in TOML."""
    assert 0 <= delay_us <= MOST_US
    return (
        f'[candidates.{name}]\nstore = "postgresql"\n'
        f'server = {{ commit_delay = "{round(delay_us)}", commit_siblings = "0" }}\n'
    )


def cell(results: Results, candidate: str, load: str = CLOSED) -> Cell:
    (one,) = [one for one in results.cells if (one.candidate, one.load) == (candidate, load)]
    return one


def p50_us(one: Cell) -> float:
    """Median service time of a cell in microseconds."""
    p50 = one.latency_ms.service.p50
    assert p50 is not None
    return p50 * 1000


@pytest.fixture(scope="module")
def slowed(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Ten rounds of a plain store and of two that are slower by 10 and 30 % of its p50, which is measured first."""
    out = tmp_path_factory.mktemp("slowed")
    alone = "rounds = 2\n" + ONE_WRITER + postgresql("plain", SLOW_DISK_US)
    p50 = p50_us(cell(carry_out(_ordered(alone), {}, out), "plain"))
    stores = "".join(
        postgresql(name, SLOW_DISK_US + share * p50) for name, share in (("plain", 0.0), ("by10", 0.1), ("by30", 0.3))
    )
    return carry_out(_ordered('reference = "plain"\nrounds = 10\n' + ONE_WRITER + MARGIN + stores), {}, out)


def _ordered(text: str) -> str:
    """The scenario with these lines; TOML wants plain keys before the tables."""
    lines = text.splitlines(keepends=True)
    tables = next(n for n, line in enumerate(lines) if line.startswith("["))
    return "".join(lines[:tables]) + SCENARIO + "".join(lines[tables:])


def test_the_stores_are_as_slow_as_was_intended(slowed: Results) -> None:
    plain = p50_us(cell(slowed, "plain"))
    ratios = {name: p50_us(cell(slowed, name)) / plain for name in ("by10", "by30")}
    assert 1.2 <= ratios["by30"] <= 1.45, ratios
    assert 1.03 <= ratios["by10"] <= 1.18, ratios


def test_a_store_slowed_by_30_percent_fails_a_margin_of_20(slowed: Results) -> None:
    found = {one.name: one for one in slowed.criteria if one.candidate == "by30"}
    assert {name: one.outcome for name, one in found.items()} == {"writes": "fail", "rate": "fail"}, found
    assert (slowed.verdicts["by30"], slowed.verdict, slowed.exit_code) == ("fail", "fail", 1)
    rates = [one for one in slowed.comparisons if (one.candidate, one.field) == ("by30", "metrics_per_s")]
    assert [one.outcome for one in rates] == ["worse"], rates
    assert not [one for one in slowed.comparisons if one.outcome == "better"]


def test_a_store_slowed_by_10_percent_never_fails_it(slowed: Results) -> None:
    found = {one.name: one for one in slowed.criteria if one.candidate == "by10"}
    assert set(found) == {"writes", "rate"}
    assert {one.outcome for one in found.values()} <= {"pass", "inconclusive"}, found
    assert slowed.verdicts["by10"] in ("pass", "inconclusive")


TWO_WRITERS = """
reference = "sqlite"
rounds = 10
duration_s = 1.0
[candidates.sqlite]
store = "sqlite"
[[cells]]
workload = "w"
concurrency = [2]
[[cells]]
workload = "w"
concurrency = [2]
load = [0.5]
duration_s = 3.0
"""

# It leaves the family of our processes, whose CPU time counts as ours, and ends with whoever holds its stdin.
_BUSY = """
import os, sys, threading
if os.fork():
    os._exit(0)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True:
    pass
"""


@contextmanager
def busy_core() -> Iterator[None]:
    """Somebody else's process takes one core."""
    with subprocess.Popen([sys.executable, "-c", _BUSY], stdin=subprocess.PIPE) as other:  # closes its stdin at the end
        yield
    assert other.returncode == 0


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Ten rounds of SQLite and PostgreSQL at their own speed, on the machine as it is."""
    return carry_out(_ordered(TWO_WRITERS + postgresql("pg")), {}, tmp_path_factory.mktemp("quiet"))


def test_the_same_stores_on_a_busier_machine_are_never_called_different(quiet: Results, tmp_path: Path) -> None:
    with busy_core():
        busy = carry_out(_ordered(TWO_WRITERS + postgresql("pg")), {}, tmp_path)
    assert (busy.machine.others_share or 0.0) > 0.25 / (os.cpu_count() or 1)
    for base, candidate in ((quiet, busy), (busy, quiet)):
        found = regression(base, candidate)
        text = told(found)
        assert {one.outcome for one in found.comparisons} <= {"same", "unknown"}, text
        assert {(one.candidate, one.load) for one in found.comparisons} >= {("sqlite", CLOSED), ("pg", CLOSED)}
        assert all(one.interval is not None for one in found.comparisons if one.field == "metrics_per_s"), text


def test_a_slower_store_is_worse_than_in_an_earlier_run_or_unknown(quiet: Results, tmp_path: Path) -> None:
    delay = 0.3 * p50_us(cell(quiet, "pg"))
    slower = carry_out(_ordered(TWO_WRITERS + postgresql("pg", delay)), {}, tmp_path)
    with pytest.raises(BadInput, match="commit_delay"):
        regression(quiet, slower)
    found = regression(quiet, slower, anyway=True)
    text = told(found)
    assert list(found.unlike) == ["pg: setting commit_delay"]
    outcomes = {one.outcome for one in found.comparisons if one.candidate == "pg"}
    assert outcomes
    assert outcomes <= {"worse", "unknown"}, text


def told(found: Regression) -> str:
    """What a comparison says; ``--log-cli-level=INFO`` shows it as it goes."""
    lines = [f"{one.candidate} {one.load} {one.field}: {one.outcome}: {one.reason}" for one in found.comparisons]
    text = "\n  ".join([f"{found.outcome}: {found.reason}", *lines])
    logging.getLogger(__name__).info(text)
    return text
