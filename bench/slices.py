"""One long load instead of rounds: it is cut into slices of equal length, and these stand for rounds (batch means).

A load that Locust makes is one trial, and one trial has no interval. Its slices see drift, stalls and noise within the
load, though not what differs from one load to the next; the results say so. An operation belongs to the slice in which
it was due, which in a closed loop is when it began.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from bench.arrivals import Arrivals
from bench.cell import Cell, Criterion, Schedule
from bench.identity import I64
from bench.judge import statistics as st
from bench.judge import verdict
from bench.judge.cells import per_round
from bench.judge.criteria import Rule, judge
from bench.judge.fields import ROUND_FIELDS
from bench.judge.marks import marks
from bench.judge.trials import Window, figures, settled
from bench.outcome import Outcome
from bench.results import Results
from bench.samples import Samples, load
from bench.scenario import Scenario
from bench.trial_record import TrialRecord
from bench.workload import OPERATIONS, READS, Workload

MOST = 10
_FEWEST = 3  # two give an interval too, but one that decides nothing
_SHORTEST_S = 1.0


def cut(samples: Samples, window: Window) -> list[Window]:
    """Windows of equal length, at most `MOST`: as many as have enough operations each for a p99.

    Where not even three have, as many as have enough for a p95, a p90, a median; at last as many as there may be, for
    rates have intervals all the same. Of a load of less than two seconds the whole.
    """
    wrote = ~np.isin(samples.operation, [OPERATIONS.index(name) for name in READS])
    judged = wrote if wrote.any() else ~wrote
    due = samples.scheduled_ns[judged & (samples.outcome == Outcome.OK)]
    most = min(MOST, int(window.seconds // _SHORTEST_S))
    if most < 2:
        return [window]
    for needed in ("p99", "p95", "p90", "p50"):
        for count in range(most, min(most, _FEWEST) - 1, -1):
            edges = np.linspace(window.begin_ns, window.end_ns, count + 1).astype(np.int64)
            if np.histogram(due, edges)[0].min() >= st.MIN_SAMPLES[needed]:
                return _between(edges)
    return _between(np.linspace(window.begin_ns, window.end_ns, most + 1).astype(np.int64))


def _between(edges: I64) -> list[Window]:
    return [Window(begin, end) for begin, end in pairwise(edges.tolist())]


def judged_by_slices(found: Results, folder: Path, scenario: Scenario, window: Window) -> Results:
    """Results of a run of one trial, its rates and latencies judged over slices of its measured ``window``."""
    paths = list((folder / "trials").glob("*/trial.json"))
    if len(paths) != 1 or len(found.cells) != 1:
        return found
    record = TrialRecord.model_validate_json(paths[0].read_bytes())
    samples = load(paths[0].with_name("samples.parquet"))
    if record.error is not None or not len(samples):
        return found
    work = scenario.workloads[record.workload].workload(record.workload)
    windows = cut(samples, settled(samples, window, work).window)
    rounds = per_round([_slice(record, n, one, samples, work) for n, one in enumerate(windows)])
    intervals = {name: st.log_interval(values, st.SHOWN_CONFIDENCE) for name, values in rounds.items()}
    cell = found.cells[0].model_copy(update={"per_round": rounds, "intervals": intervals})
    criteria = [_again(one, cell) for one in found.criteria]
    outcome, reason = verdict.of_candidate(cell.candidate, criteria, [cell])
    whole = verdict.of_run({cell.candidate: outcome}, None)
    changes: dict[str, object] = {
        "cells": [cell],
        "criteria": criteria,
        "verdicts": {cell.candidate: outcome},
        "reasons": {cell.candidate: reason},
        "verdict": whole,
        "exit_code": int(verdict.exit_code(whole, [cell])),
        "notes": [*found.notes, _note(windows)],
    }
    again = found.model_copy(update=changes)
    return again.model_copy(update={"marks": marks(again)})


def _slice(record: TrialRecord, number: int, window: Window, samples: Samples, work: Workload) -> TrialRecord:
    """The record that this slice would have had as a trial of its own; for rates and latencies only."""
    taken = figures(samples, window, work, {}, _arrivals(record.schedule), as_given=True)
    return record.model_copy(update={**taken, "round": number})


def _arrivals(schedule: Schedule | None) -> Arrivals | None:
    """What is known of an open loop's arrivals; of a schedule that is over nobody needs the seed."""
    if schedule is None:
        return None
    limit_ns = None if schedule.limit_ms is None else round(schedule.limit_ms * 1e6)
    return Arrivals(schedule.arrivals, schedule.rate, seed=0, limit_ns=limit_ns)


def _again(old: Criterion, cell: Cell) -> Criterion:
    """A criterion of a rate or a latency, judged over the slices; counts stay as they are."""
    if old.field not in ROUND_FIELDS:
        return old
    new = judge(Rule(old.name, old.expression, old.gating, old.table, old.published), cell, None)
    return new.model_copy(update={"reason": new.reason.replace("round", "slice"), "rounds_needed": None})


def _note(windows: Sequence[Window]) -> str:
    if len(windows) < 2:
        return "One load, too short to be cut into slices: its rates and latencies have no interval."
    return (
        f"One load instead of rounds: rates and latencies are judged over its {len(windows)} slices of "
        f"{windows[0].seconds:.1f} s. They show drift and noise within this load, not between loads."
    )
