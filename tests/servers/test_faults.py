"""Faults on real servers: what is done is done, what was acknowledged is there, and a store that loses is found out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from stores import carry_out, sql

from bench.fault_cell import STRUCTURE, FaultCell
from bench.results import Results
from bench.scenario import load
from bench.stores.url import StoreUrl

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("quick_start")]
SOON = "at_s = 0.4\nfor_s = 0.4\ntail_s = 0.2\n"
CRITERIA = """
[[criteria]]
name = "whole"
expression = "integrity == 1"
[[criteria]]
name = "kept"
expression = "fault.kept == 1"
"""


def scenario(stores: dict[str, str], faults: dict[str, str], driver: str = "direct", more: str = "") -> str:
    candidates = "".join(
        f'[candidates.{name}]\nstore = "{name}"\ntracking = {{ workers = 1 }}\n{settings}\n'
        for name, settings in stores.items()
    )
    named = "".join(f"[faults.{name}]\n{SOON if 'at_s' not in text else ''}{text}\n" for name, text in faults.items())
    return (
        'title = "faults"\nrounds = 1\nreference = "sqlite"\ncontrol = ""\ntimeout_s = 10.0\n'.replace(
            'reference = "sqlite"\n', 'reference = "sqlite"\n' if "sqlite" in stores else ""
        )
        + f"[prefill]\nruns = 3\nmetrics = 60\n{candidates}{named}"
        + '[workloads.w]\nkind = "log_metric"\n[[cells]]\nworkload = "w"\nconcurrency = [4]\n'
        + f'driver = "{driver}"\nfaults = {list(faults)}\n{CRITERIA}{more}'
    )


def cells(found: Results, *names: str) -> list[FaultCell]:
    """The cells of these faults, one of each candidate, after a look at what all have in common."""
    assert not found.cells
    picked = [cell for cell in found.faults if cell.fault in names]
    for cell in picked:
        assert cell.rounds_lost == 0, (cell.candidate, cell.fault, cell.reason, cell.seen)
        assert cell.integrity.checked, cell.integrity.reason
        assert cell.integrity.invariants[STRUCTURE] == 0
        assert cell.ops_ok > 0
        assert cell.first_ok_s is not None
    return picked


def kept(found: Results, names: Sequence[str]) -> None:
    for cell in cells(found, *names):
        assert (cell.outcome, cell.integrity.wrong, cell.integrity.stale) == ("kept", 0, 0), (cell.fault, cell.reason)
        assert cell.integrity.acknowledged > 4


def told(cell: FaultCell) -> str:
    return "; ".join(event.what for event in cell.seen[0].events)


def test_postgresql_under_faults(tmp_path: Path) -> None:
    faults = {
        "killed": 'kind = "kill"',
        "ended": 'kind = "disconnect"',
        "reset": 'kind = "reset"',
        "locked": 'kind = "lock"',
        "power": 'kind = "power"',
    }
    found = carry_out(scenario({"postgresql": ""}, faults), {}, tmp_path)
    kept(found, list(faults))
    killed, ended, reset, locked = found.faults
    assert killed.reconnects >= 4
    assert killed.gone_s is not None
    assert killed.gone_s >= 0.4
    assert "sessions ended" in told(ended)
    assert ended.reconnects >= 4
    assert ended.errors["connection"] >= 1
    assert reset.errors["connection"] >= 1
    assert locked.errors == {}  # they wait
    assert locked.gone_s is not None
    assert locked.gone_s >= 0.35
    assert [(one.fault, one.applies) for one in found.untested] == [("power", True)]
    assert found.exit_code == 0


def test_sqlite_under_faults(tmp_path: Path) -> None:
    faults = {
        "writers": 'kind = "kill"\ntarget = "load"',
        "locked": 'kind = "lock"',
        "full": 'kind = "disk_full"\nat_s = 1.0\nfor_s = 2.0\ntail_s = 0.2',
        "clock": 'kind = "clock"\ntarget = "load"',
        "killed": 'kind = "kill"',
    }
    found = carry_out(scenario({"sqlite": ""}, faults), {}, tmp_path)
    kept(found, list(faults))
    writers, locked, full, clock = found.faults
    assert writers.integrity.recovered + writers.integrity.indeterminate > 0  # what was under way
    assert locked.gone_s is not None
    assert locked.gone_s >= 0.35
    assert full.errors["disk_full"] >= 1
    assert clock.errors == {}
    assert [(one.fault, one.applies) for one in found.untested] == [("killed", False)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "settings", "lost"),
    [
        ("postgresql", 'server = { synchronous_commit = "off", wal_writer_delay = "10s" }', "30000 ms of commits"),
        ("mysql", 'server = { innodb_flush_log_at_trx_commit = "0" }', "about 1 s of commits"),
    ],
)
def test_settings_that_allow_a_loss(store: str, settings: str, lost: str, tmp_path: Path) -> None:
    """A crash takes what was acknowledged: exit code 4, and the report says that the settings allow it."""
    faults = {"killed": 'kind = "kill"\nat_s = 0.5\nfor_s = 0.0\ntail_s = 0.2'}
    found = carry_out(scenario({store: settings}, faults), {}, tmp_path)
    (cell,) = cells(found, "killed")
    assert cell.outcome == "lost", cell.reason
    assert cell.integrity.lost > 0
    assert cell.integrity.wrong == cell.integrity.lost
    assert lost in str(cell.may_lose)
    assert found.exit_code == 4
    assert "settings allow" in found.reasons[store]


@pytest.mark.slow
def test_a_server_that_never_comes_back(tmp_path: Path) -> None:
    faults = {"gone": 'kind = "kill"\nat_s = 0.3\nfor_s = 0.1\ncomes_back = false\nlimit_s = 3.0'}
    found = carry_out(scenario({"postgresql": ""}, faults), {}, tmp_path)
    (cell,) = found.faults
    assert (cell.outcome, cell.rounds_lost) == ("unknown", 1)
    assert "not over within 3 s" in cell.reason
    assert cell.integrity.wrong == 0
    assert found.exit_code == 3
    assert found.run.seconds < 120


def _of(store: str, driver: str) -> str:
    """The shipped scenario, of one store and the cells of one driver."""
    loaded = load("faults")
    text: list[str] = []
    skipping = False
    for line in loaded.text.splitlines():
        if line.startswith("["):
            skipping = line.startswith("[candidates.") and line != f"[candidates.{store}]"
        if not skipping:
            text.append(line.replace('reference = "sqlite"', ""))
    whole = "\n".join(text)
    head, *parts = whole.split("[[cells]]")
    *_, tail = parts[-1].partition("[[criteria]]")
    tail = "[[criteria]]".join(one for one in tail.split("[[criteria]]") if "faults = [" not in one)  # of some only
    wanted = next(part for part in parts if ('driver = "http"' in part) == (driver == "http"))
    return f"{head}[[cells]]{wanted.partition('[[criteria]]')[0]}[[criteria]]{tail}"


@pytest.mark.slow
@pytest.mark.parametrize("store", ["sqlite", "postgresql", "timescaledb", "mysql"])
@pytest.mark.parametrize("driver", ["direct", "http"])
def test_every_fault_of_the_scenario(store: str, driver: str, tmp_path: Path) -> None:
    """Nothing is lost but where a disk under SQLite forgets the directory; what can't be had is said."""
    found = carry_out(_of(store, driver), {}, tmp_path)
    wanted = set(next(cell.faults for cell in load("faults").scenario.cells if cell.driver == driver))
    assert {cell.fault for cell in found.faults} | {one.fault for one in found.untested} == wanted
    power = "power-lost-directory"
    for cell in found.faults:
        expected = "lost" if (store, cell.fault) == ("sqlite", power) else "kept"
        assert cell.outcome == expected, (cell.fault, cell.reason, told(cell))
    reasons: dict[str, Any] = {one.fault: one for one in found.untested}
    assert all(one.reason for one in reasons.values())
    if store != "sqlite" and driver == "direct":
        assert {one for one in reasons if reasons[one].applies} <= {"power-lost-contents", power, "disk-full"}


@pytest.mark.slow
def test_writers_in_step_meet_a_fault_too(tmp_path: Path) -> None:
    text = scenario({"sqlite": ""}, {"writers": 'kind = "kill"\ntarget = "load"'})
    found = carry_out(text.replace('kind = "log_metric"', 'kind = "log_metric"\nlockstep = true'), {}, tmp_path)
    kept(found, ["writers"])


@pytest.mark.slow
def test_a_database_of_the_users_is_not_examined(fresh: Callable[[str], StoreUrl], tmp_path: Path) -> None:
    """What has been wrong in it for years is nobody's fault here; and what could harm it is not done."""
    url = fresh("sqlite")
    orphan = "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES ('k', 1, 1, 'nobody', 0, 0)"
    sql(url, orphan)
    faults = {"clock": 'kind = "clock"\ntarget = "load"', "locked": 'kind = "lock"', "power": 'kind = "power"'}
    found = carry_out(scenario({"sqlite": ""}, faults), {"sqlite": url}, tmp_path)
    (cell,) = found.faults
    assert (cell.fault, cell.outcome) == ("clock", "kept")
    assert cell.seen[0].examined == "not made: the database is yours"
    assert {one.fault for one in found.untested} == {"locked", "power"}
    assert sql(url, "SELECT run_uuid FROM metrics") == [("nobody",)]
