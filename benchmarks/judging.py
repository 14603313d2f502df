"""Judging 100 cells of 10 rounds of 100,000 operations each: from samples in memory to criteria and comparisons.

.venv/bin/python -m benchmarks.judging

Closed loops and open loops are judged in turn, since an open loop has more to tell (lags, service beside response). In
every other pair of cells a quarter of the operations read. All have a lead-in, so the steady part is looked for in each
trial. One process, one trial at a time, as the product does it. On a busy machine CPU time is the robust figure.
"""

import time
from collections.abc import Sequence

import numpy as np

from bench.arrivals import Arrivals
from bench.cell import CLOSED, Cell, Integrity
from bench.judge.cells import cell_of
from bench.judge.comparisons import against_reference
from bench.judge.criteria import Rule, judge
from bench.judge.statistics import SHOWN_CONFIDENCE, geometric_mean, log_interval
from bench.judge.trials import Window, figures
from bench.outcome import Outcome
from bench.samples import Samples
from bench.trial_record import TrialRecord
from bench.workload import OPERATIONS, Workload

CELLS, ROUNDS, SAMPLES, WRITERS = 100, 10, 100_000, 20
TARGET_S, REPEATS = 5.0, 8
_SECONDS, _LEAD_IN_S, _MADE = 10, 0.5, 4  # trials whose samples are made: more would only need more memory
_CANDIDATES = ("sqlite", "mysql")
_RULES = [
    Rule("rate", "ops_per_s >= 0.8 * reference", True),
    Rule("tail", "p99_ms <= 1.2 * reference", True),
    Rule("limit", "p95_ms <= 500", True),
    Rule("reads", "read.p95_ms <= 500", False),
    Rule("locks", "lock_errors == 0", True),
    Rule("integrity", "integrity == 1", True),
]
_WRITES = Workload("log_metric", "log_metric")
_MIXED = Workload("mixed", "mixed", read_share=0.25)
_WINDOW = Window(round(_LEAD_IN_S * 1e9), _SECONDS * 10**9)


def _made(seed: int, workload: Workload, paced: bool) -> Samples:
    """One trial's samples as a load leaves them: writers that wait for their answers, in order of when they ended."""
    random = np.random.default_rng(seed)
    each = SAMPLES // WRITERS
    took = random.lognormal(0, 0.5, (WRITERS, each))
    took *= _SECONDS * 1e9 / took.sum(1, keepdims=True)
    end = np.cumsum(took, axis=1)
    order = np.argsort(end, axis=None)
    writer = np.repeat(np.arange(WRITERS, dtype=np.uint16), each)[order]
    start = (end - took).ravel().astype(np.int64)[order]
    lag = random.exponential(1e6, SAMPLES).astype(np.int64) if paced else 0
    operation = np.full(SAMPLES, OPERATIONS.index(workload.operation), dtype=np.uint8)
    operation[random.random(SAMPLES) < workload.read_share] = OPERATIONS.index("search_runs")
    outcome = np.full(SAMPLES, Outcome.OK, dtype=np.uint8)
    zeros = np.zeros(SAMPLES, dtype=np.uint8)
    return Samples(
        start - lag, start, end.ravel().astype(np.int64)[order], operation, outcome, zeros, zeros + 1, writer
    )  # fmt: skip


_Trial = tuple[Samples, Workload, Arrivals | None]


def _trial(made: _Trial, cell: int, number: int) -> TrialRecord:
    samples, workload, arrivals = made
    place, candidate = divmod(cell, len(_CANDIDATES))
    return TrialRecord(
        number=number + 1, round=number, candidate=_CANDIDATES[candidate], store=_CANDIDATES[candidate],
        driver="direct", workload=workload.name, concurrency=place + 1, load="80 %" if arrivals else CLOSED, started="",
        integrity=Integrity(checked=True), **figures(samples, _WINDOW, workload, {}, arrivals),
    )  # fmt: skip


def _judged(made: Sequence[_Trial]) -> tuple[float, float, float]:
    """Judge `CELLS` cells; seconds, seconds of CPU time, and seconds of CPU time for the figures of trials."""
    begin, cpu = time.perf_counter(), time.process_time()
    in_figures = 0.0
    cells: list[Cell] = []
    for cell in range(CELLS):
        started = time.process_time()
        kind = cell // len(_CANDIDATES) % 2 * _MADE
        records = [_trial(made[kind + number % _MADE], cell, number) for number in range(ROUNDS)]
        in_figures += time.process_time() - started
        cells.append(cell_of(records, reference=cell % len(_CANDIDATES) == 0))
    references = {one.concurrency: one for one in cells if one.reference}
    criteria = [judge(rule, one, references[one.concurrency]) for one in cells for rule in _RULES]
    assert len(criteria) == CELLS * len(_RULES)
    assert against_reference(cells)
    return time.perf_counter() - begin, time.process_time() - cpu, in_figures


def _told(seconds: Sequence[float]) -> str:
    interval = log_interval(seconds, SHOWN_CONFIDENCE)
    span = "" if interval is None else f" (95 % interval {interval[0]:.2f} to {interval[1]:.2f})"
    return f"{geometric_mean(seconds):.2f} s{span}"


def main() -> None:
    """Print the times, with their intervals over the repetitions."""
    arrivals = Arrivals("poisson", SAMPLES / _SECONDS, 1, limit_ns=50_000_000)
    loops: dict[str, list[_Trial]] = {}
    for loop, pace in (("closed", None), ("open", arrivals)):
        loops[loop] = [
            (_made(seed, workload, pace is not None), workload, pace)
            for workload in (_WRITES, _MIXED)
            for seed in range(_MADE)
        ]
    taken: dict[str, list[tuple[float, float, float]]] = {loop: [] for loop in loops}
    for repeat in range(REPEATS):
        for loop in list(loops)[:: 1 if repeat % 2 == 0 else -1]:
            taken[loop].append(_judged(loops[loop]))
    for loop, times in taken.items():
        wall, cpu, in_figures = (list(part) for part in zip(*times, strict=True))
        each = (geometric_mean(in_figures) or 0.0) / CELLS / ROUNDS * 1000
        print(
            f"{loop} loops: {CELLS} cells x {ROUNDS} rounds x {SAMPLES:,} operations judged in {_told(wall)}, of CPU "
            f"time {_told(cpu)}, over {REPEATS} repetitions, wanted under {TARGET_S:g} s; figures of one trial: "
            f"{each:.2f} ms of CPU time",
            flush=True,
        )


if __name__ == "__main__":
    main()
