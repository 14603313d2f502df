"""The shipped scenarios on all four stores: what each of them is there to show. Minutes each, so nightly."""

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command

from bench.cell import Cell
from bench.results import Results, read

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(1500)]
SERVERS = ("postgresql", "timescaledb", "mysql")


def carried_out(folder: Path, scenario: str, *more: str) -> tuple[Results, int]:
    out = folder / f"{scenario}-out"
    with Command(folder / f"{scenario}-tmp", out, "run", scenario, "--out", str(out), *more) as command:
        code = command.process.wait(1400)
        assert code in (0, 1, 3), (out / "stderr").read_text()
        return read(out / "latest"), code


def cell_finder(results: Results) -> Callable[[str, str], Cell]:
    return lambda candidate, workload: next(
        cell for cell in results.cells if cell.candidate == candidate and cell.workload == workload
    )


def test_contention_provokes_what_it_is_there_for(public_tmp: Path) -> None:
    results, code = carried_out(public_tmp, "contention")
    cell = cell_finder(results)
    assert all(one.integrity.checked and not one.integrity.broken for one in results.cells)
    impatient = cell("sqlite-impatient", "hot-run")
    assert impatient.errors == {"sqlite_busy": impatient.lock_errors}
    assert impatient.lock_errors > 100
    assert cell("sqlite", "hot-run").lock_errors == 0
    seen = {name: cell(name, "new-keys-shuffled") for name in SERVERS}
    assert sum(one.deadlocks for one in seen.values()) > 0
    for name, one in seen.items():
        assert one.deadlocks == one.referee["deadlocks"], name  # no retries: the clients saw them all
        assert cell(name, "new-keys-sorted").deadlocks == 0
    assert results.verdicts["sqlite-impatient"] == "fail"
    assert code == 1


def test_quick_decides_about_every_server(public_tmp: Path) -> None:
    results, code = carried_out(public_tmp, "quick")
    assert all(one.integrity.checked and not one.integrity.broken for one in results.cells)
    assert all(one.rounds_lost == 0 for one in results.cells)
    assert {one.store for one in results.cells} == {"sqlite", *SERVERS}
    assert code == {"pass": 0, "fail": 1, "inconclusive": 3}[results.verdict]
    gating = [one for one in results.criteria if one.gating and not one.reference]
    assert [one.expression for one in gating if one.measured is None] == []


def whole(results: Results) -> None:
    """Every cell was measured in each of its rounds, and its rows are right through every door."""
    for cell in results.cells:
        assert cell.rounds_lost == 0, (cell.candidate, cell.workload)
        for door in cell.doors:
            assert door.checked, door.reason
            assert not door.broken, door.examples
        if cell.driver == "http":
            assert cell.integrity_rest is not None
            assert cell.availability is not None
            assert cell.server_errors is not None
    assert {one.store for one in results.cells} == {"sqlite", *SERVERS}


def test_migration_ends_in_its_tables(public_tmp: Path) -> None:
    """The published test on four stores, shortened: its own table, the one that decides, and a full report."""
    results, code = carried_out(public_tmp, "migration", "--rounds", "2", "--duration", "1")
    whole(results)
    assert code == {"pass": 0, "fail": 1, "inconclusive": 3}[results.verdict]
    for candidate in results.candidates:
        assert (candidate.schema_current, candidate.schema_missing) == (True, [])
        published = [one for one in results.criteria if (one.candidate, one.table) == (candidate.name, "published")]
        assert len(published) == 12
        assert not [one.name for one in published if one.measured is None or one.gating]
        outcomes = {one.name: one.outcome for one in published}
        assert outcomes["20 concurrent experiments all finish"] == outcomes["data integrity"] == "pass"
        assert outcomes["MLflow's tables that are missing"] == "pass"
        deciding = [one for one in results.criteria if (one.candidate, one.table) == (candidate.name, "decides")]
        assert deciding
        assert all(one.gating for one in deciding)
    experiments = [one for one in results.cells if (one.workload, one.concurrency) == ("experiments", 20)]
    assert len(experiments) == 4
    for cell in experiments:
        assert cell.operations["create_experiment"].ok == cell.operations["finish_run"].ok == 2 * 20
        for kind, planned in (("log_metric", 6000), ("log_param", 200)):
            one = cell.operations[kind]
            assert one.ok + one.failed + one.unknown == 2 * planned
    report = (public_tmp / "migration-out" / "latest" / "report.md").read_text()
    for text in ("### The published test", "102.2", "### What decides", "write tail", *SERVERS):
        assert text in report, text
    assert "http" in report


def test_ci_decides(public_tmp: Path) -> None:
    results, code = carried_out(public_tmp, "ci", "--rounds", "2")
    whole(results)
    assert code == {"pass": 0, "fail": 1, "inconclusive": 3}[results.verdict]
    assert {(one.driver, one.workload) for one in results.cells} == {("http", "mixed")}
