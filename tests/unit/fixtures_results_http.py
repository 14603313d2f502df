"""The migration scenario's results: four stores behind MLflow servers, both tables of criteria, direct cells beside."""

import random
from operator import eq, ge, gt, le, lt

from fixtures_results import ROUNDS, STORES, Changes, candidate, cell, criterion, latency, realistic

from bench.cell import Availability, Cell, Criterion, Operation, Probe
from bench.results import Candidate, Results

PUBLISHED = "102.2 metrics/s, MLflow 2.9.2 on TimescaleDB"
SERVED = {  # metrics/s, p50, p99, ms of one experiment alone
    "sqlite": (116.0, 70.0, 1480.0, 840.0),
    "postgresql": (168.0, 108.0, 237.0, 910.0),
    "timescaledb": (161.0, 112.0, 251.0, 990.0),
    "mysql": (142.0, 113.0, 612.0, 1130.0),
}
TRACKING = {
    "server": "MLflow 3.17.2, private",
    "workers": "4",
    "pool": "15 connections a worker at most",
    "authentication": "off",
}
_THEIRS: Changes = {"workload": "train", "table": "published", "gating": False}
WORKLOADS = ("train", "log_metric", "mixed")


def served(store: str, workload: str, concurrency: int, rng: random.Random) -> Cell:
    """A cell through a server: slower than straight into the tables, with what only a server shows."""
    top, p50, p99, _ = SERVED[store]
    speed = top if concurrency > 1 else top * 0.3
    plain = cell(store, "mixed" if workload == "mixed" else "log_metric", 20, rng)
    rates = [speed * rng.gauss(1, 0.04) for _ in range(ROUNDS)]
    n = int(speed * 100)
    tail = latency(p50, p99, n)
    kept = {"attempted": n, "acknowledged": n, "stored": n, "recovered": 0, "indeterminate": 0}
    retried = 9 if (store, workload) == ("mysql", "log_metric") else 0
    changes: Changes = {
        "driver": "http",
        "workload": workload,
        "concurrency": concurrency,
        "ops_ok": n,
        "ops_failed": 0,
        "ops_unknown": 0,
        "metrics_per_s": speed,
        "ops_per_s": speed,
        "success_rate": 1.0,
        "first_attempt_rate": 1.0,
        "latency_ms": tail,
        "operations": plain.operations
        | {"log_metric": Operation(ok=n, failed=0, unknown=0, reads=False, latency_ms=tail)},
        "errors": {},
        "lock_errors": 0,
        "deadlocks": 0,
        "server_errors": {"mysql_1213_deadlock": retried} if retried else {},
        "referee": {"deadlocks": float(retried), "connections": 43.0, "connections_share": 0.43},
        "facts": {"durable": 1.0, "schema_missing": 0.0, "schema_current": 1.0},
        "availability": _availability(399 if store == "sqlite" else 400, p50),
        "integrity": plain.integrity.model_copy(update=kept),
        "integrity_rest": plain.integrity.model_copy(update=kept | {"invariants": {}}),
        "intervals": {"metrics_per_s": (speed * 0.96, speed * 1.04)},
        "per_round": {"metrics_per_s": rates, "p99_ms": [p99 * rng.gauss(1, 0.06) for _ in range(ROUNDS)]},
        "timeline": [
            each.model_copy(update={"metrics": int(rates[each.round] * rng.gauss(1, 0.09)), "lock_errors": 0})
            for each in plain.timeline
        ],
    }
    if store == "sqlite":
        changes |= {"referee": {"deadlocks": None}}
    if workload == "train":
        changes |= {"phases_ms": _phases(store, concurrency), "runs_unfinished": 0}
    return plain.model_copy(update=changes)


def _availability(searches: int, p50: float) -> Availability:
    return Availability(
        share=searches / 400,
        n=400,
        health=Probe(ok=400, n=400, p95_ms=3.1),
        search=Probe(ok=searches, n=400, p95_ms=p50 * 1.4),
    )


def _phases(store: str, concurrency: int) -> dict[str, float]:
    whole = SERVED[store][3] * (1 + concurrency / 4)
    return {"create": whole * 0.02, "params": whole * 0.05, "steps": whole * 0.8, "experiment": whole}


def _judged(store: str, name: str, expression: str, measured: float | None, changes: Changes) -> Criterion:
    """A criterion judged from its expression; ``0.5 reference`` is half of what SQLite did."""
    field, sign, number, *reference = expression.split()
    limit = float(number) * (SERVED["sqlite"][2] if reference else 1)
    holds = {"<=": le, "<": lt, ">=": ge, ">": gt, "==": eq}[sign]
    varies = field.endswith(("_ms", "_per_s")) and measured is not None
    fixed: Changes = {
        "expression": expression.replace("reference", "* reference"),
        "field": field,
        "comparison": sign,
        "limit": limit,
        "target": f"{sign} {limit:g}",
        "measured": measured,
        "unit": "ms" if field.endswith("_ms") else "/s" if field.endswith("_per_s") else "",
        "interval": (measured * 0.94, measured * 1.06) if varies and measured is not None else None,
        "outcome": "inconclusive" if measured is None else "pass" if holds(measured, limit) else "fail",
        "driver": "http",
        "reason": "no such counter" if measured is None else f"measured {measured:g}",
    }
    rest = dict(changes)
    return criterion(store, str(rest.pop("workload")), name, **(fixed | rest))


def _published(store: str) -> list[Criterion]:
    speed = SERVED[store][0]
    up = 399 / 400 if store == "sqlite" else 1.0
    phases = _phases(store, 1)
    rows: list[tuple[str, str, float, str | None]] = [
        ("all 20 experiments finish", "runs_unfinished == 0", 0.0, "20 of 20"),
        ("operations succeed", "success_rate >= 0.95", 1.0, "100 %"),
        ("no lock error", "lock_errors == 0", 0.0, "0"),
        ("throughput", "metrics_per_s > 50", speed, PUBLISHED),
        ("every write is there", "integrity == 1", 1.0, None),
        ("availability", "availability >= 0.99", up, None),
        ("MLflow's tables are there", "schema_missing == 0", 0.0, None),
        ("MLflow's current revision", "schema_current == 1", 1.0, None),
        ("create an experiment", "phases.create_ms < 100", phases["create"], None),
        ("10 params", "phases.params_ms < 50", phases["params"], None),
        ("100 steps", "phases.steps_ms < 500", phases["steps"], None),
        ("one experiment", "phases.experiment_ms < 1000", phases["experiment"], None),
    ]
    return [
        _judged(store, name, expression, measured, _THEIRS | {"published": said, "concurrency": _at(expression)})
        for name, expression, measured, said in rows
    ]


def _at(expression: str) -> int:
    return 1 if expression.startswith("phases.") else 20


def _deciding(store: str) -> list[Criterion]:
    p99 = SERVED[store][2]
    met = {"sqlite": None, "mysql": 9.0}.get(store, 0.0)
    part = None if store == "sqlite" else 0.43
    rows: list[tuple[str, str, str, float | None]] = [
        ("train", "all runs finish", "runs_unfinished == 0", 0.0),
        *((each, "first attempts succeed", "first_attempt_rate >= 0.999", 1.0) for each in WORKLOADS),
        ("log_metric", "no lock error at clients", "lock_errors == 0", 0.0),
        ("log_metric", "no pool timeout", "errors.pool_exhausted == 0", 0.0),
        ("log_metric", "no deadlock in the database", "referee.deadlocks == 0", met),
        ("log_metric", "write tail", "p99_ms <= 500", p99),
        ("log_metric", "write tail against the reference", "p99_ms <= 1.2 reference", p99),
        ("mixed", "reads beside writes", "read.p95_ms <= 1000", p99 * 0.3),
        ("log_metric", "connections to spare", "referee.connections_share <= 0.8", part),
        ("log_metric", "settings are durable", "durable == 1", 1.0),
    ]
    ours = [
        _judged(store, name, text, value, {"workload": where, "table": "decides"}) for where, name, text, value in rows
    ]
    harness: Changes = {"workload": "log_metric", "table": ""}
    return [*ours, _judged(store, "generator keeps up", "generator.cpu_share <= 0.7", 0.41, harness)]


def tracked(store: str) -> Candidate:
    """A candidate with a tracking server of ours in front of it."""
    return candidate(store).model_copy(
        update={
            "tracking": TRACKING,
            "schema_revision": "dc11669786a5",
            "schema_current": True,
            "schema_missing": [],
        }
    )


def migration(seed: int = 11) -> Results:
    """Through a server and straight into the tables: MySQL deadlocks behind the server's back, SQLite is too slow."""
    rng = random.Random(seed)
    full = realistic()
    through = [("log_metric", 20), ("mixed", 20), ("train", 1), ("train", 20)]
    cells = [served(store, workload, at, rng) for workload, at in through for store in STORES]
    return full.model_copy(
        update={
            "run": full.run.model_copy(
                update={
                    "title": "The published migration test: 20 experiments at once",
                    "authentication": "MLflow server: off; direct connections log in to the database",
                    "command": "trackbench run migration",
                    "trials_planned": 200,
                    "trials_done": 200,
                }
            ),
            "candidates": [tracked(store) for store in STORES],
            "cells": [*(cell(store, "log_metric", 20, rng) for store in STORES), *cells],
            "criteria": [each for store in STORES for each in (*_published(store), *_deciding(store))],
            "verdicts": {"sqlite": "fail", "postgresql": "pass", "timescaledb": "pass", "mysql": "fail"},
            "reasons": {
                "sqlite": "write tail (p99_ms <= 500, log_metric at 20): measured 1480",
                "postgresql": "all 13 gating criteria hold",
                "timescaledb": "all 13 gating criteria hold",
                "mysql": "no deadlock in the database (referee.deadlocks == 0, log_metric at 20): measured 9",
            },
            "notes": full.notes[:1],
        }
    )


def served_only() -> Results:
    """The same run without direct cells."""
    full = migration()
    return full.model_copy(update={"cells": [each for each in full.cells if each.driver == "http"]})


def theirs() -> Results:
    """A tracking server of the user's own: read back by REST only, errors inside unknown, no published table."""
    full = served_only()
    unseen: Changes = {"server_errors": None, "referee": {}, "integrity_rest": None}
    by_rest = {"door": "rest"}
    cells = [
        each.model_copy(update={**unseen, "integrity": each.integrity.model_copy(update=by_rest)})
        for each in full.cells
    ]
    unknown: Changes = {"schema_current": None, "schema_missing": None, "schema_revision": None}
    unknown |= {"tracking": {"server": "MLflow 3.17.2, yours", "authentication": "basic-auth"}}
    candidates = [each.model_copy(update=unknown) for each in full.candidates]
    criteria = [each.model_copy(update={"table": ""}) for each in full.criteria if each.table != "published"]
    return full.model_copy(update={"cells": cells, "candidates": candidates, "criteria": criteria})
