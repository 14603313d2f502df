"""What the types of a scenario can't say: names that must exist, and values that depend on one another."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from bench.cell import CLOSED
from bench.errors import BadInput
from bench.faults.rules import misfits, wrong
from bench.judge.criteria import parse
from bench.judge.fields import of_cells, of_moves
from bench.judge.places import misnamed, why_nowhere
from bench.workload import MAX_BATCH_METRICS

if TYPE_CHECKING:  # scenarios ask this module about themselves
    from bench.scenario import CellSpec, CriterionSpec, Scenario, WorkloadSpec

MAX_WRITERS = 1000
Refuse = Callable[..., None]


def check(scenario: "Scenario", refuse: Refuse) -> None:
    """Check a scenario; ``refuse`` is told the place of what is wrong, the problem, and what may stand there."""
    if scenario.reference is not None and scenario.reference not in scenario.candidates:
        refuse(("reference",), f"unknown candidate {scenario.reference!r}", sorted(scenario.candidates))
    for name, candidate in scenario.candidates.items():
        if candidate.store == "sqlite" and candidate.server:
            refuse(("candidates", name, "server"), "SQLite has no server; its settings are PRAGMAs under session")
    _check_faults(scenario, refuse)
    _check_cells(scenario, refuse)
    for name, work in scenario.workloads.items():
        if problem := _misfit(work, scenario):
            refuse(("workloads", name), f"workload {name!r}: {problem}")
    if (
        bool(scenario.prefill.metrics) != bool(scenario.prefill.runs)
        or scenario.prefill.metrics < scenario.prefill.runs
    ):
        refuse(("prefill", "metrics"), "metrics belong to runs, at least one to each; set runs and metrics to fit")
    for number, cell in enumerate(scenario.cells):
        if cell.objective is not None:
            _check_objective(cell.objective, partial(refuse, ("cells", number, "objective")))
    if scenario.control and scenario.control not in scenario.candidates:
        refuse(("control",), f"unknown candidate {scenario.control!r}", sorted(scenario.candidates))
    for number, criterion in enumerate(scenario.criteria):
        if criterion.workload is not None and criterion.workload not in scenario.workloads:
            problem = f"criterion {criterion.name!r}: unknown workload {criterion.workload!r}"
            refuse(("criteria", number, "workload"), problem, sorted(scenario.workloads))
        _check_criterion(criterion, scenario, number, refuse)


def _check_faults(scenario: "Scenario", refuse: Refuse) -> None:
    for name, fault in scenario.faults.items():
        for key, problem in wrong(fault):
            refuse(("faults", name, key), f"fault {name!r}: {problem}")
    taken: set[tuple[object, ...]] = set()
    for number, cell in enumerate(scenario.cells):
        work = scenario.workloads.get(cell.workload)
        if work is None or "faults" not in cell.model_fields_set:
            continue
        for problem in misfits(cell, scenario.faults, work.kind, cell.model_fields_set):
            refuse(("cells", number, "faults"), f"workload {cell.workload!r}: {problem}")
        for spot in ((cell.driver, cell.workload, n, name) for n in cell.concurrency for name in cell.faults):
            if spot in taken:
                refuse(("cells", number, "faults"), f"fault {spot[-1]!r} comes twice at one place")
            taken.add(spot)


def _check_cells(scenario: "Scenario", refuse: Refuse) -> None:
    for number, cell in enumerate(scenario.cells):
        here = ("cells", number)
        if cell.workload not in scenario.workloads:
            refuse((*here, "workload"), f"unknown workload {cell.workload!r}", sorted(scenario.workloads))
        elif problem := misplaced(cell, scenario.workloads[cell.workload]):
            refuse((*here, "workload"), f"workload {cell.workload!r}: {problem}")
        for problem in _unpaced(cell, scenario):
            refuse((*here, "load" if cell.load else "rate"), f"workload {cell.workload!r}: {problem}")
        for level in cell.concurrency:
            if not 1 <= level <= MAX_WRITERS:
                refuse((*here, "concurrency"), f"concurrency {level} is not between 1 and {MAX_WRITERS}")


def _unpaced(cell: "CellSpec", scenario: "Scenario") -> list[str]:
    """Why a cell's open loop can't be had, in words."""
    work = scenario.workloads[cell.workload]
    if not cell.load and not cell.rate:
        idle = [name for name in ("limit_ms", "objective", "of", "arrivals") if name in cell.model_fields_set]
        return [f"{name} belongs to an open loop; set load or rate" for name in idle]
    here = (cell.driver, cell.workload)
    partners = [one for one in scenario.cells if (one.driver, one.workload) == here and not one.faults]
    maxima = {level for one in partners if one.loads == [CLOSED] for level in one.concurrency}
    missing = sorted(set(cell.concurrency) - maxima)
    rules = {
        "count and runs end a closed loop; an open loop lasts duration_s": cell.count or cell.runs,
        "lockstep is a closed loop's": work.lockstep,
        f"two of its loads are the same: {', '.join(cell.loads)}": len(set(cell.loads)) < len(cell.loads),
        f"load is a share of the maximum; add a cell without load or rate at concurrency {missing[:1]}": cell.load
        and missing,
    }
    return [problem for problem, broken in rules.items() if broken]


def _check_criterion(criterion: "CriterionSpec", scenario: "Scenario", number: int, refuse: Refuse) -> None:
    path, here = ("criteria", number), f"criterion {criterion.name!r}"
    _check_expression(criterion.expression, here, scenario, partial(refuse, (*path, "expression")))
    if problem := misnamed(criterion, scenario):
        refuse((*path, "faults"), f"{here}: {problem}")
    if problem := why_nowhere(criterion, scenario):
        refuse((*path, "expression"), f"{here} {problem}")


def _check_objective(text: str, refuse: Refuse) -> None:
    try:
        expression = parse(text)
    except BadInput as error:
        refuse(f"objective: {error}")
        return
    if not of_cells(expression.field):
        what = "moving a store" if of_moves(expression.field) else "cells with a fault"
        refuse(f"objective {text!r}: {expression.field} is of {what}")
    if expression.against:
        refuse(f"objective {text!r} needs a limit of its own, as in `p99_ms <= 250`")


def _check_expression(text: str, here: str, scenario: "Scenario", refuse: Refuse) -> None:
    try:
        expression = parse(text)
    except BadInput as error:
        refuse(f"{here}: {error}")
        return
    if expression.uses_reference and scenario.reference is None:
        refuse(f"{here} needs a reference; name one")
    if expression.against == "baseline" and scenario.baseline is None:
        refuse(f"{here} needs a baseline; name the folder of a run")


def misplaced(cell: "CellSpec", work: "WorkloadSpec") -> str | None:
    """Why a workload can't be measured in this cell, in words; None where it can."""
    rules = {
        'kind bulk goes straight into the tables; set driver = "direct"': work.kind == "bulk" and cell.driver == "http",
        'kind traces goes through a tracking server; set driver = "http"': work.kind == "traces"
        and cell.driver == "direct",
        'experiments are made through a tracking server; set driver = "http"': work.kind == "train"
        and work.experiments
        and cell.driver == "direct",
        "runs belongs to kind train; use count": cell.runs is not None and work.kind != "train",
        "runs and count both say when a writer ends; set one": cell.runs is not None and cell.count is not None,
    }
    return next((problem for problem, broken in rules.items() if broken), None)


def _misfit(work: "WorkloadSpec", scenario: "Scenario") -> str | None:
    """Why a workload makes no sense, in words; None where it does."""
    batch = work.metrics + work.params + work.tags
    batched = work.kind == "log_batch" or (work.kind == "mixed" and batch > 1)
    rules = {
        f"a batch holds 1 to {MAX_BATCH_METRICS} items, as MLflow's own limit says": batched
        and not 1 <= batch <= MAX_BATCH_METRICS,
        "it reads prefilled runs; set runs and metrics under [prefill]": work.kind in ("read", "mixed")
        and scenario.prefill.runs == 0,
        "read_share above 0 belongs to kind mixed, and mixed needs it": work.kind != "traces"
        and (work.kind == "mixed") != (work.read_share > 0),
        "experiments belongs to kind train": work.experiments and work.kind != "train",
        "metrics must be 1; log_batch writes several at once": work.kind in ("log_metric", "train")
        and work.metrics != 1,
        "metrics must be at least 1": work.kind in ("bulk", "mixed") and work.metrics == 0,
        "params and tags belong to log_batch, mixed and train": work.kind in ("log_metric", "bulk", "read", "traces")
        and work.params + work.tags > 0,
        "fresh_keys needs metrics": work.fresh_keys and work.metrics == 0,
        "train makes runs of its own: no hot_run, no fresh_keys": work.kind == "train"
        and (work.hot_run or work.fresh_keys),
        "lockstep belongs to log_metric, log_batch and bulk": work.lockstep
        and work.kind not in ("log_metric", "log_batch", "bulk"),
    }
    return next((problem for problem, broken in rules.items() if broken), None)
