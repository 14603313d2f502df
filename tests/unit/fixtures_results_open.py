"""A run with open loops: four stores behind servers, from 20 % to 110 % of their maxima, and what is told of them."""

import random

from fixtures_results import STORES, Changes
from fixtures_results_http import SERVED, TRACKING, migration, served

from bench.cell import Cell, Criterion, Interval, Latency, Percentiles, Schedule
from bench.results import Capacity, Change, Comparison, Control, Mark, Results

LOADS = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)
OBJECTIVE = "p99_ms <= 250"
LIMIT = 250.0
_ROUNDS = 4
_SECONDS = 16.0
_SERVICE = {"sqlite": 60.0, "postgresql": 21.0, "timescaledb": 24.0, "mysql": 29.0}
_KNEE = {"sqlite": 0.55, "postgresql": 0.1, "timescaledb": 0.11, "mysql": 0.2}
"""How early each store's tail begins to grow: the variability of its service times."""


def label(share: float) -> str:
    return f"{share * 100:g} %"


def tail_at(store: str, share: float) -> float:
    """A p99 in ms that grows as a queue does, and in overload with the length of the test."""
    queue = share / max(1.02 - share, 0.06)
    return _SERVICE[store] * (1 + 6 * _KNEE[store] * queue) * 1.6 + max(0.0, share - 0.97) * 9000


def opened(store: str, share: float, rng: random.Random, workload: str = "log_metric") -> Cell:
    """One open loop of a store at a share of its maximum."""
    plain = served(store, workload, 20, rng)
    offered = SERVED[store][0] * share
    answered = min(offered, SERVED[store][0])
    p99 = tail_at(store, share)
    n = int(answered * _SECONDS)
    lag = max(0.4, p99 - _SERVICE[store] * 2)
    late = n // 50 if p99 > LIMIT else 0

    def spread(p50: float, top: float) -> Percentiles:
        return Percentiles(p50=p50, p90=p50 * 0.6 + top * 0.4, p95=p50 * 0.4 + top * 0.6, p99=top, max=top * 1.7, n=n)

    changes: Changes = {
        "load": label(share),
        "rounds": _ROUNDS,
        "seconds": _SECONDS,
        "ops_ok": n,
        "metrics_per_s": answered,
        "ops_per_s": answered,
        "latency_ms": Latency(
            service=spread(_SERVICE[store], _SERVICE[store] * 3), response=spread(_SERVICE[store] * 1.1, p99)
        ),
        "schedule": Schedule(
            arrivals="poisson",
            rate=offered,
            share=share,
            due=int(offered * _SECONDS),
            late=late,
            skipped=int(offered * _SECONDS * 0.03) if share > 1 else 0,
            limit_ms=1000.0,
            lag_ms=spread(0.3 if share < 0.95 else lag / 2, lag),
            own_lag_ms=spread(0.2, 0.9),
        ),
        "warmup_s": 0.6,
        "intervals": {"p99_ms": (p99 * 0.9, p99 * 1.12), "metrics_per_s": (answered * 0.99, answered * 1.01)},
        "per_round": {
            "metrics_per_s": [answered * rng.gauss(1, 0.01) for _ in range(_ROUNDS)],
            "p99_ms": [p99 * rng.gauss(1, 0.09) for _ in range(_ROUNDS)],
        },
        "timeline": [],
    }
    return plain.model_copy(update=changes)


def compared(store: str, load: str, field: str, ratio: float, outcome: Change, noise: float = 0.04) -> Comparison:
    known = outcome != "unknown"
    return Comparison(
        candidate=store,
        driver="http",
        workload="log_metric",
        concurrency=20,
        load=load,
        field=field,
        unit="ms" if field.endswith("_ms") else "/s",
        ours=100.0 * ratio,
        theirs=100.0,
        rounds=(_ROUNDS, _ROUNDS),
        ratio=ratio,
        interval=(ratio * (1 - noise), ratio * (1 + noise)),
        confidence=0.95,
        p=0.0004 if known else 0.21,
        outcome=outcome,
        reason="the interval lies clear of 1" if known else "not told apart by 4 rounds",
    )


def comparisons() -> list[Comparison]:
    """Each store's maximum and its tail at two loads against SQLite's."""
    found = []
    for store in list(STORES)[1:]:
        speed = SERVED[store][0] / SERVED["sqlite"][0]
        found.append(compared(store, "closed", "metrics_per_s", speed, "better"))
        for share in (0.6, 0.8):
            ratio = tail_at(store, share) / tail_at("sqlite", share)
            found.append(compared(store, label(share), "p99_ms", ratio, "unknown" if share == 0.6 else "better", 0.2))
    return found


def control() -> Control:
    """PostgreSQL against itself."""
    same = compared("postgresql", "closed", "metrics_per_s", 1.012, "same", 0.03)
    return Control(candidate="postgresql", driver="http", workload="log_metric", concurrency=20, comparisons=[same])


def capacities() -> list[Capacity]:
    """The highest share whose p99 is below the objective, of each store."""
    found = []
    for store in STORES:
        good = [share for share in LOADS if tail_at(store, share) <= LIMIT and share < 1]
        bad = [share for share in LOADS if share not in good]
        top = SERVED[store][0]
        found.append(
            Capacity(
                candidate=store,
                driver="http",
                workload="log_metric",
                concurrency=20,
                objective=OBJECTIVE,
                holds=good[-1] * top if good else None,
                holds_load=label(good[-1]) if good else None,
                breaks=bad[0] * top if bad else None,
                breaks_load=label(bad[0]) if bad else None,
                maximum=top,
                reason=f"p99_ms is {tail_at(store, bad[0]):.0f} at {label(bad[0])}" if bad else "none broke it",
            )
        )
    return found


MARKS = [
    Mark(kind="generator", text="The load generator used 84 % of a core (mysql, log_metric at 20, 110 %)."),
    Mark(kind="noisy", text="Rounds of one cell differ by 9 %: a difference below 12 % can't be seen in 4 rounds."),
    Mark(kind="rounds", text="Four rounds are too few for a verdict on latency: intervals are wide."),
    Mark(kind="durability", text="mysql loses acknowledged commits if the machine loses power (sync_binlog = 0)."),
]


def _limits(full: Results) -> list[Criterion]:
    """The criteria of the closed loop, and each store's write tail in the open one, with the noise of its rounds."""
    kept = [each for each in full.criteria if each.table != "published" and each.workload == "log_metric"]
    plain = [each.model_copy(update={"table": ""}) for each in kept if each.field != "p99_ms"]
    tails = {each.candidate: each for each in kept if each.name == "write tail"}
    return plain + [_tail(tails[store], store, share) for store in STORES for share in (0.6, 0.8)]


def _tail(closed: Criterion, store: str, share: float) -> Criterion:
    found = tail_at(store, share)
    ends: Interval = (found * 0.9, found * 1.12)
    return closed.model_copy(
        update={
            "table": "",
            "load": label(share),
            "measured": found,
            "interval": ends,
            "outcome": "pass" if ends[1] <= 500 else "fail" if ends[0] > 500 else "inconclusive",
            "noise": 0.06,
            "confidence": 0.9,
            "reason": f"90 % interval {ends[0]:.0f} to {ends[1]:.0f} over {_ROUNDS} rounds",
        }
    )


def opened_run(seed: int = 5) -> Results:
    """The closed loop for the maximum, open loops up to the knee, and all that is said of them."""
    rng = random.Random(seed)
    full = migration()
    closed = [served(store, "log_metric", 20, rng) for store in STORES]
    return full.model_copy(
        update={
            "run": full.run.model_copy(
                update={
                    "id": "20251201T090000Z-capacity",
                    "scenario": "capacity",
                    "title": "How much can each store take with a p99 of 250 ms?",
                    "loop": "open",
                    "rounds": _ROUNDS,
                    "command": "trackbench run capacity",
                    "trials_planned": 128,
                    "trials_done": 128,
                    "looks": [4, 6, 10, 16],
                }
            ),
            "cells": [*closed, *(opened(store, share, rng) for share in LOADS for store in STORES)],
            "criteria": _limits(full),
            "comparisons": comparisons(),
            "control": control(),
            "capacities": capacities(),
            "marks": MARKS,
            "reasons": {},
            "candidates": [each.model_copy(update={"tracking": TRACKING}) for each in full.candidates],
        }
    )


def at_one_rate(seed: int = 6) -> Results:
    """One absolute rate for all stores and no closed loop: SQLite can't keep up with it."""
    rng = random.Random(seed)
    full = opened_run()
    offered = 130.0
    cells = []
    for store in STORES:
        share = offered / SERVED[store][0]
        cell = opened(store, share, rng)
        assert cell.schedule is not None
        paced = cell.schedule.model_copy(update={"share": None, "rate": offered})
        cells.append(cell.model_copy(update={"load": "130/s", "schedule": paced}))
    nothing: Changes = {"comparisons": [], "control": None, "capacities": [], "marks": []}
    return full.model_copy(update={"cells": cells, "criteria": [], **nothing})
