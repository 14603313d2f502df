"""The shipped scenarios on all four stores: what each of them is there to show. Minutes each, so nightly."""

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command

from bench.results import Cell, Results, read

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(1500)]
SERVERS = ("postgresql", "timescaledb", "mysql")


def carried_out(folder: Path, scenario: str) -> tuple[Results, int]:
    out = folder / f"{scenario}-out"
    with Command(folder / f"{scenario}-tmp", out, "run", scenario, "--out", str(out)) as command:
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
