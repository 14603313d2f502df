"""Runs that went wrong, and names that try to break out of a format."""

from fixtures_results import HOSTILE, Changes, realistic
from fixtures_results_damaged import EVERY_FAULTED
from fixtures_results_http import migration, served_only, theirs
from fixtures_results_open import at_one_rate, capacities, comparisons, control, opened_run

from bench.cell import Generator, Integrity, Latency, Operation, Percentiles
from bench.results import Mark, Results

NOTHING = Percentiles()


def empty() -> Results:
    """A run that was stopped before its first trial ended."""
    full = realistic()
    run = full.run.model_copy(update={"interrupted": True, "trials_done": 0, "command": "", "title": ""})
    return full.model_copy(
        update={
            "run": run,
            "environment": {},
            "candidates": [],
            "cells": [],
            "criteria": [],
            "verdicts": {},
            "reasons": {},
            "verdict": "inconclusive",
            "exit_code": 130,
            "notes": [],
        }
    )


def interrupted() -> Results:
    """A run that was stopped in its first round: two candidates have no data, the others one cell."""
    full = realistic()
    run = full.run.model_copy(update={"interrupted": True, "trials_done": 2})
    cells = [each for each in full.cells if each.candidate in ("sqlite", "postgresql")][:2]
    criteria = [
        each.model_copy(update={"measured": None, "interval": None, "outcome": "inconclusive", "reason": "no samples"})
        for each in full.criteria
    ]
    verdicts = dict.fromkeys(full.verdicts, "inconclusive")
    changes = {"run": run, "cells": cells, "criteria": criteria, "verdicts": verdicts, "reasons": {}}
    return full.model_copy(update=changes | {"verdict": "inconclusive", "exit_code": 130})


def unmeasured() -> Results:
    """Every figure that may be None is None."""
    full = realistic()
    silent: Changes = {
        "metrics_per_s": None,
        "ops_per_s": None,
        "success_rate": None,
        "latency_ms": Latency(service=NOTHING, response=NOTHING),
        "read_latency_ms": None,
        "operations": {},
        "errors": {},
        "referee": {"deadlocks": None},
        "integrity": Integrity(checked=False, reason="the checker crashed"),
        "generator": Generator(),
        "intervals": {"metrics_per_s": None},
        "per_round": {"metrics_per_s": [None, None]},
        "timeline": [],
    }
    cells = [each.model_copy(update=silent) for each in full.cells]
    return full.model_copy(update={"cells": cells, "reasons": {}})


def broken() -> Results:
    """MySQL lost, duplicated and corrupted rows while the generator was saturated."""
    full = realistic()
    wrong = Integrity(
        checked=True,
        attempted=1000,
        acknowledged=990,
        stored=987,
        lost=3,
        duplicated=2,
        corrupted=1,
        unexpected=4,
        invariants={"latest_metrics_is_maximum": 5},
        examples=["run 3a, key loss, step 7: acknowledged, absent", "run 3a, key loss, step 9: bits differ"],
    )
    cells = [
        each.model_copy(update={"integrity": wrong, "generator": Generator(cpu_share=0.99, saturated=True)})
        if each.candidate == "mysql"
        else each
        for each in full.cells
    ]
    criteria = [
        each.model_copy(update={"measured": 0.994, "outcome": "fail", "reason": "3 lost, 2 duplicated, 1 corrupted"})
        if each.field == "integrity" and each.candidate == "mysql"
        else each
        for each in full.criteria
    ]
    reasons = full.reasons | {"mysql": "3 lost, 2 duplicated, 1 corrupted in log_metric with 20 writers"}
    return full.model_copy(update={"cells": cells, "criteria": criteria, "reasons": reasons, "exit_code": 4})


def hostile() -> Results:
    """Every free text tries to break out of its format."""
    full = realistic()

    def renamed(name: str) -> str:
        return HOSTILE if name == "mysql" else name

    return full.model_copy(
        update={
            "run": full.run.model_copy(update={"title": HOSTILE, "command": HOSTILE, "id": HOSTILE}),
            "environment": full.environment | {HOSTILE: HOSTILE},
            "candidates": [
                each.model_copy(
                    update={"name": renamed(each.name), "settings": {HOSTILE: HOSTILE}, "server_version": HOSTILE}
                )
                for each in full.candidates
            ],
            "cells": [
                each.model_copy(
                    update={
                        "candidate": renamed(each.candidate),
                        "workload": HOSTILE,
                        "errors": {HOSTILE: 3},
                        "integrity": each.integrity.model_copy(update={"examples": [HOSTILE]}),
                    }
                )
                for each in full.cells[:12]
            ],
            "criteria": [
                each.model_copy(
                    update={
                        "candidate": renamed(each.candidate),
                        "expression": HOSTILE,
                        "reason": HOSTILE,
                        "name": HOSTILE,
                        "workload": HOSTILE,
                        "field": HOSTILE,
                        "unit": HOSTILE,
                        "target": HOSTILE,
                    }
                )
                for each in full.criteria
            ],
            "verdicts": {renamed(name): verdict for name, verdict in full.verdicts.items()},
            "reasons": {renamed(name): HOSTILE for name in full.reasons},
            "notes": [HOSTILE],
        }
    )


def hostile_open() -> Results:
    """The same of open loops and what is told of them."""
    full = opened_run()
    named: Changes = {"candidate": HOSTILE, "workload": HOSTILE}
    compared = [each.model_copy(update=named | {"reason": HOSTILE, "field": HOSTILE}) for each in comparisons()]
    found = control()
    paced: Changes = named | {"load": HOSTILE}
    return full.model_copy(
        update={
            "cells": [each.model_copy(update=paced if each.schedule else named) for each in full.cells[3::4]],
            "comparisons": compared,
            "control": found.model_copy(update=named | {"load": HOSTILE, "comparisons": compared[:2]}),
            "capacities": [
                each.model_copy(
                    update=named | {"objective": HOSTILE, "holds_load": HOSTILE, "reason": HOSTILE, "holds": 1.0}
                )
                for each in capacities()[:1]
            ],
            "marks": [Mark(kind="noisy", text=HOSTILE)],
        }
    )


def unpaced() -> Results:
    """Open loops of which nothing was measured, and comparisons and capacities without a figure."""
    full = opened_run()
    empty: Changes = {"ratio": None, "interval": None, "p": None, "ours": None, "theirs": None, "outcome": "unknown"}
    silent = Latency(service=NOTHING, response=NOTHING)
    unknown: Changes = {"holds": None, "holds_load": None, "breaks": None, "breaks_load": None, "maximum": None}
    return full.model_copy(
        update={
            "cells": [
                each.model_copy(update={"latency_ms": silent, "ops_per_s": None, "schedule": None, "per_round": {}})
                for each in full.cells
            ],
            "comparisons": [each.model_copy(update=empty) for each in full.comparisons],
            "control": control().model_copy(update={"comparisons": []}),
            "capacities": [each.model_copy(update=unknown) for each in full.capacities],
        }
    )


def reads_only() -> Results:
    """One candidate beside the reference, a workload that only reads, too few samples for any tail."""
    full = realistic()
    few = Percentiles(p50=4.0, p90=None, p95=None, p99=None, p999=None, max=9.0, n=40)
    read = Latency(service=few, response=few)
    cells = [
        each.model_copy(
            update={
                "workload": "search",
                "metrics_per_s": None,
                "latency_ms": read,
                "read_latency_ms": None,
                "operations": {"search_runs": Operation(ok=40, failed=0, unknown=0, reads=True, latency_ms=read)},
                "timeline": [],
            }
        )
        for each in full.cells
        if each.workload == "mixed" and each.store in ("sqlite", "postgresql")
    ]
    return full.model_copy(update={"cells": cells, "criteria": [], "candidates": full.candidates[:2]})


EVERY = {
    "realistic": realistic,
    "empty": empty,
    "interrupted": interrupted,
    "unmeasured": unmeasured,
    "broken": broken,
    "hostile": hostile,
    "hostile_open": hostile_open,
    "unpaced": unpaced,
    "opened_run": opened_run,
    "at_one_rate": at_one_rate,
    "reads_only": reads_only,
    "migration": migration,
    "served_only": served_only,
    "theirs": theirs,
    **EVERY_FAULTED,
}
