"""From a run's trials to its results: cells, criteria, verdicts, and what a reader must know beside them."""

from collections.abc import Collection, Mapping, Sequence

from bench.errors import ExitCode
from bench.judge import criteria, verdict
from bench.judge.cells import cell_of
from bench.results import Candidate, Cell, Criterion, Results, Run
from bench.scenario import Scenario, cells_of
from bench.trial_record import CellKey, TrialRecord


def judge_records(
    scenario: Scenario,
    records: Sequence[TrialRecord],
    candidates: Sequence[Candidate],
    run_facts: Run,
    facts: Mapping[str, str],
) -> Results:
    """Turn trials into cells, criteria and verdicts."""
    cells = _cells(scenario, records, {one.name: _facts(one) for one in candidates})
    judged = _criteria(scenario, cells, {one.name for one in candidates if one.theirs})
    decided = {one.name: verdict.of_candidate(one.name, judged, cells) for one in candidates}
    verdicts = {name: outcome for name, (outcome, _) in decided.items()}
    whole = verdict.of_run(verdicts, scenario.reference)
    found = Results(
        run=run_facts,
        environment=dict(facts),
        candidates=list(candidates),
        cells=cells,
        criteria=judged,
        verdicts=verdicts,
        reasons={name: reason for name, (_, reason) in decided.items()},
        verdict=whole,
        exit_code=int(verdict.exit_code(whole, cells)),
        notes=_notes(scenario, records, candidates),
    )
    return cut_short(found) if run_facts.interrupted else found


def cut_short(found: Results) -> Results:
    """Results of a run that was interrupted: what was not measured can't have held, so nothing passes."""
    stopped = f"the run was interrupted after {found.run.trials_done} of {found.run.trials_planned} trials"
    passed = [name for name, one in found.verdicts.items() if one == "pass"]
    changes: dict[str, object] = {
        "run": found.run.model_copy(update={"interrupted": True}),
        "verdicts": {**found.verdicts, **dict.fromkeys(passed, "inconclusive")},
        "reasons": {**found.reasons, **dict.fromkeys(passed, stopped)},
    }
    if found.verdict == "pass":
        changes |= {"verdict": "inconclusive", "exit_code": int(ExitCode.INCONCLUSIVE)}
    return found.model_copy(update=changes)


def _facts(candidate: Candidate) -> dict[str, float | None]:
    """What criteria may ask of a candidate itself."""
    missing = candidate.schema_missing
    return {
        "durable": None if candidate.durable is None else float(candidate.durable),
        "schema_missing": None if missing is None else float(len(missing)),
        "schema_current": None if candidate.schema_current is None else float(candidate.schema_current),
    }


def _cells(
    scenario: Scenario, records: Sequence[TrialRecord], facts: Mapping[str, dict[str, float | None]]
) -> list[Cell]:
    groups: dict[CellKey, list[TrialRecord]] = {}
    for record in records:
        groups.setdefault(record.cell, []).append(record)
    order = {name: place for place, name in enumerate(scenario.candidates)}
    cells = [
        cell_of(
            sorted(group, key=lambda record: record.round), key.candidate == scenario.reference, facts[key.candidate]
        )
        for key, group in groups.items()
    ]
    return sorted(
        cells, key=lambda cell: (cell.driver != "http", cell.workload, cell.concurrency, order[cell.candidate])
    )


def _criteria(scenario: Scenario, cells: Sequence[Cell], shared: Collection[str]) -> list[Criterion]:
    """Every criterion on every cell it is for; ``shared`` are candidates whose server others may use too."""
    judged = []
    for spec in scenario.criteria:
        rule = criteria.Rule(spec.name, spec.expression, spec.gating, spec.table, spec.published)
        wanted = {(driver, workload) for driver, workload, _ in cells_of(spec, scenario)}
        for cell in cells:
            if (cell.driver, cell.workload) not in wanted or spec.concurrency not in (None, cell.concurrency):
                continue
            if spec.stores is not None and cell.store not in spec.stores:
                continue
            same = [other for other in cells if other.reference and _place(other) == _place(cell)]
            decided = criteria.judge(rule, cell, same[0] if same else None)
            if decided.outcome == "fail" and cell.candidate in shared and decided.field.startswith("referee."):
                reason = "the counter is everybody's on this server, which is not ours alone"
                decided = decided.model_copy(update={"outcome": "inconclusive", "reason": reason})
            judged.append(decided)
    return judged


def _place(cell: Cell) -> tuple[str, str, int]:
    return cell.driver, cell.workload, cell.concurrency


_DRIVER_NOTES = {
    "http": "HTTP: Locust users, a real MLflow server and its database share this machine's cores.",
    "direct": "Direct writers: the store's own share of what users feel; no MLflow server stands in between.",
}


def _notes(scenario: Scenario, records: Sequence[TrialRecord], candidates: Sequence[Candidate]) -> list[str]:
    """Limits and honesty marks."""
    notes = [
        "Closed loop: each writer waits for its answer before it sends again, so latency is service time; "
        "a stall delays operations that are then never sent (coordinated omission).",
        *(text for driver, text in _DRIVER_NOTES.items() if any(one.driver == driver for one in records)),
        "Process crashes and power losses were not tested in this run.",
    ]
    for record in records:
        if record.error is not None:
            notes.append(f"Not measured: {record.place}: {record.error}")
    notes += [f"{one.name}: not durable: {one.durability}" for one in candidates if one.durable is False]
    notes += [
        f"{name} was asked for as {spec.store}, and is {one.store}"
        for one in candidates
        for name, spec in scenario.candidates.items()
        if one.name == name and one.store != spec.store
    ]
    return notes
