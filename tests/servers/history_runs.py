"""Runs to be tracked, made from the results that unit tests render."""

import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from fixtures_results import realistic
from made import LATENCIES, a_cell, a_result

from bench.cell import Latency
from bench.results import Results

__all__ = ["named", "planted", "realistic", "written"]
START = datetime(2025, 3, 1, 6, tzinfo=UTC)


def written(results: Results, folder: Path) -> Path:
    """The run's folder with files in place of its report."""
    folder.mkdir(parents=True, exist_ok=True)
    results.write(folder)
    for name in ("report.html", "report.md", "junit.xml"):
        (folder / name).write_text(f"{name} of {results.run.id}", encoding="utf-8")
    return folder


def named(run_id: str, scenario: str = "quick", started: datetime = START, **changes: Any) -> Results:
    """A run under this name."""
    base = a_result(**changes)
    run = base.run.model_copy(
        update={
            "id": run_id,
            "scenario": scenario,
            "started": started.isoformat(),
            "ended": (started + timedelta(minutes=1)).isoformat(),
        }
    )
    return base.model_copy(update={"run": run})


def planted(count: int, at: int, ratio: float, scenario: str = "quick") -> list[Results]:
    """Nightly runs whose p99 changes by ``ratio`` from run ``at`` on, in noise of 3 %."""
    rng = random.Random(count)
    found = []
    for number in range(count):
        p99 = 40.0 * rng.gauss(1, 0.03) * (ratio if number >= at else 1.0)
        times = LATENCIES.response.model_copy(update={"p99": p99})
        cell = a_cell(latency_ms=Latency(service=times, response=times), metrics_per_s=100 * rng.gauss(1, 0.03))
        started = START + timedelta(days=number)
        environment = {"cores": "2", "git revision": f"{0xA000000 + number * 7919:x}"}
        run_id = f"{started:%Y%m%dT%H%M%SZ}-{scenario}"
        found.append(named(run_id, scenario, started, cells=[cell], environment=environment))
    return found
