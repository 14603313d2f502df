"""Operations made by hand, as samples and as the record that they give."""

import numpy as np

from bench.arrivals import Arrivals
from bench.judge.trials import Window, figures
from bench.outcome import ErrorKind, Outcome
from bench.samples import Samples
from bench.trial_record import TrialRecord
from bench.workload import OPERATIONS, Workload

S, MS = 1_000_000_000, 1_000_000
WINDOW = Window(10 * S, 12 * S)
SINGLE = Workload("w", "log_metric")
BATCH = Workload("b", "log_batch", metrics=25)
TRAIN = Workload("t", "train", params=2, steps=2, keys=1)
EXPERIMENTS = Workload("t", "train", params=2, steps=2, keys=1, experiments=True)
Row = tuple[int, int, int, str, Outcome, ErrorKind, int]
OK, FAIL, INFO = Outcome.OK, Outcome.FAIL, Outcome.INFO


def row(
    start: float, end: float, name: str = "log_metric", outcome: Outcome = OK, error: ErrorKind = ErrorKind.NONE,
    attempts: int = 1, lag: float = 0.0,
) -> Row:  # fmt: skip
    """An operation; times in seconds."""
    begin = round(start * S)
    return (begin - round(lag * S), begin, round(end * S), name, outcome, error, attempts)


def samples(rows: list[Row], writers: list[int] | None = None) -> Samples:
    """The operations as columns; ``writers``: who made each, else all are of one."""
    columns = [np.array([each[n] for each in rows], dtype=np.int64) for n in range(3)]
    kinds = np.array([OPERATIONS.index(each[3]) for each in rows], dtype=np.uint8)
    rest = [np.array([each[n] for each in rows], dtype=np.uint8) for n in (4, 5, 6)]
    owners = np.array(writers or [0] * len(rows), dtype=np.uint16)
    return Samples(columns[0], columns[1], columns[2], kinds, *rest, owners)


def of(
    rows: list[Row],
    workload: Workload = SINGLE,
    retried: dict[str, int] | None = None,
    window: Window = WINDOW,
    writers: list[int] | None = None,
    arrivals: Arrivals | None = None,
) -> TrialRecord:
    """The record of a trial that left these operations."""
    fields = figures(samples(rows, writers), window, workload, retried or {}, arrivals)
    return TrialRecord(
        number=1, round=0, candidate="c", store="sqlite", driver="direct", workload="w", concurrency=1, started="",
        **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def run_of(
    work: Workload, begin: float, took_ms: dict[str, float], bad: str = "", until: str = "finish_run"
) -> list[Row]:
    """The operations of one run, one after another with a pause between them; ``bad`` did not end ok."""
    names = ["create_experiment"] * work.experiments + ["create_run"] + ["log_param"] * work.params
    names += ["set_tag"] * work.tags + ["log_metric"] * (work.steps * work.keys) + ["finish_run"]
    rows = []
    for name in names[: names.index(until) + 1]:
        took = took_ms.get(name, 1.0) / 1000
        outcome = FAIL if name == bad else OK
        rows.append(row(begin, begin + took, name, outcome))
        begin += took + 0.01
    return rows
