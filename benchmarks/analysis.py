"""Analysing and rendering a run of ten million samples: time and peak memory.

.venv/bin/python -m benchmarks.analysis
"""

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import reports
from bench import samples
from bench.cell import Integrity
from bench.conclusion import judge_records
from bench.identity import TrialKey
from bench.judge.trials import Window, figures
from bench.results import Candidate, Run
from bench.scenario import load
from bench.trial_record import TrialRecord
from bench.workload import Layout

TRIALS, SAMPLES = 100, 100_000
_SECONDS, _LEAD_IN_S = 10, 0.5


def _make(path: Path, seed: int) -> None:
    """One trial's samples as the engine leaves them."""
    random = np.random.default_rng(seed)
    start = np.sort(random.integers(0, _SECONDS * 10**9, SAMPLES))
    end = start + (random.lognormal(1.5, 0.7, SAMPLES) * 1e6).astype(np.int64)
    zeros = np.zeros(SAMPLES, dtype=np.uint8)
    columns = [start, start, end, zeros, zeros + 2, zeros, zeros + 1, zeros.astype(np.uint16)]
    pq.write_table(pa.table(columns, schema=samples.SCHEMA), path, compression="zstd")


def main() -> None:
    """Print the time and the peak."""
    loaded = load("quick")
    work = loaded.scenario.workloads["log_metric"].workload("log_metric")
    assert Layout(TrialKey.of("x", 1, 1), work, 20).metrics_per_cycle == 1
    names = list(loaded.scenario.candidates)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{n}.parquet" for n in range(TRIALS)]
        for n, path in enumerate(paths):
            _make(path, n)
        begin = time.perf_counter()
        records = []
        for n, path in enumerate(paths):
            values = figures(samples.load(path), Window(round(_LEAD_IN_S * 1e9), _SECONDS * 10**9), work, {})
            name = names[n % len(names)]
            records.append(
                TrialRecord(
                    number=n + 1, round=n // len(names), candidate=name, store=name, driver="direct",
                    workload="log_metric", concurrency=20, started="", integrity=Integrity(checked=True), **values,
                )
            )  # fmt: skip
        candidates = [
            Candidate(
                name=name, store=name, reference=name == "sqlite", source="", server_version="", settings={},
                durable=True, durability="", prefill="", theirs=False,
            )
            for name in names
        ]  # fmt: skip
        run = Run(
            id="benchmark", scenario="quick", title="benchmark", started="2026-01-01T00:00:00+00:00",
            ended="2026-01-01T00:00:00+00:00", seconds=0, seed=1, rounds=25, command="", mlflow_version="",
            authentication="", network="", loop="closed", interrupted=False, trials_planned=TRIALS, trials_done=TRIALS,
        )  # fmt: skip
        reports.write_all(judge_records(loaded.scenario, records, candidates, run, {}), Path(folder))
        took = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{TRIALS * SAMPLES:,} samples analysed and rendered in {took:.1f} s (wanted under 10), "
        f"peak {peak:.2f} GB (wanted under 1.5)"
    )


if __name__ == "__main__":
    main()
