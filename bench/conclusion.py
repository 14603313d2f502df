"""From a run's trials to its results: cells, criteria, verdicts, and what a reader must know beside them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar, cast

from bench import decision_checklist
from bench.cell import CLOSED, Cell, Criterion
from bench.decision_record import Move
from bench.errors import ExitCode
from bench.fault_cell import FaultCell, Untested
from bench.judge import claims, criteria, faults, moves, verdict
from bench.judge.capacity import capacities
from bench.judge.cells import cell_of, sum_integrity
from bench.judge.comparisons import against_reference, control_of
from bench.judge.fields import of_moves
from bench.judge.looks import Look
from bench.judge.places import cells_of
from bench.plan import Group
from bench.results import Candidate, Control, Results, Run
from bench.scenario import CriterionSpec, Driver, Scenario
from bench.trial_record import CellKey, TrialRecord

_AnyCell = TypeVar("_AnyCell", Cell, FaultCell)


def judge_records(
    scenario: Scenario,
    records: Sequence[TrialRecord],
    candidates: Sequence[Candidate],
    run_facts: Run,
    facts: Mapping[str, str],
    looks: Mapping[Group, Sequence[Look]] | None = None,
    baseline: Results | None = None,
    doubt: str | None = None,
    untested: Sequence[Untested] = (),
    move: Move | None = None,
) -> Results:
    """Turn trials into cells, criteria and verdicts.

    ``looks``: for cells that got more rounds until they were decided, when that was looked at. ``baseline``: the run
    that criteria may name, ``doubt``: why nothing can be said against it. ``untested``: faults that candidates did not
    get. ``move``: what became of moving a store, if that was part of the run; criteria on it are judged only then.
    Trials with a fault become cells of their own, and no figure of any other cell.
    """
    own_facts = {one.name: _facts(one) for one in candidates}
    fair = [one for one in records if one.fault is None]
    control = _cells(scenario, [one for one in fair if one.control], own_facts)
    cells = _cells(scenario, [one for one in fair if not one.control], own_facts)
    cells = [_with_doors(cell, control) for cell in cells]
    faulted = _fault_cells(scenario, records, candidates)
    judged = _criteria(
        scenario, (cells, faulted), {one.name for one in candidates if one.theirs}, looks or {}, baseline, doubt
    )
    judged += _of_move(scenario, move)

    def own_looks(cell: Cell) -> Sequence[Look]:
        return (looks or {}).get(_group(cell), ())

    names = dict.fromkeys([*(one.name for one in candidates), *([move.candidate] if move else [])])
    decided = {name: verdict.of_candidate(name, judged, cells, faulted, move) for name in names}
    verdicts = {name: outcome for name, (outcome, _) in decided.items()}
    whole = verdict.of_run(verdicts, scenario.reference)
    found = Results(
        run=run_facts,
        environment=dict(facts),
        candidates=list(candidates),
        cells=cells,
        faults=faulted,
        untested=list(untested),
        criteria=judged,
        verdicts=verdicts,
        reasons={name: reason for name, (_, reason) in decided.items()},
        verdict=whole,
        exit_code=int(verdict.exit_code(whole, cells, faulted, move)),
        comparisons=against_reference(cells, own_looks),
        control=_control(control, cells, own_looks),
        capacities=capacities(cells, _objectives(scenario, cells)),
        move=move,
        notes=[*_notes(scenario, records, candidates, faulted), *_not_moved(scenario, move)],
    )
    found = decision_checklist.added(found)
    return cut_short(found) if run_facts.interrupted else found


def _of_move(scenario: Scenario, move: Move | None) -> list[Criterion]:
    """The criteria on a move, where one was part of the run."""
    if move is None:
        return []
    rules = [criteria.Rule(one.name, one.expression, one.gating, one.table, one.published) for one in scenario.criteria]
    return [moves.judge(rule, move) for rule in rules if of_moves(rule.expression.field)]


def _not_moved(scenario: Scenario, move: Move | None) -> list[str]:
    """That moving a store was no part of a run whose scenario asks for it."""
    asked = [one.name for one in scenario.criteria if of_moves(criteria.parse(one.expression).field)]
    if move is not None or not asked:
        return []
    return [f"Moving a store of yours was not part of this run (--source and --target): not judged: {', '.join(asked)}"]


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


def undecided(
    scenario: Scenario,
    records: Sequence[TrialRecord],
    candidates: Sequence[Candidate],
    looks: Mapping[Group, Sequence[Look]],
    baseline: Results | None,
) -> set[Group]:
    """The cells whose gating criteria are inconclusive, and which more rounds may decide; none of them has a fault."""
    fair = [one for one in records if one.fault is None and not one.control]
    cells = _cells(scenario, fair, {one.name: _facts(one) for one in candidates})
    judged = _criteria(scenario, (cells, []), {one.name for one in candidates if one.theirs}, looks, baseline, None)
    alone = all(one.reference for one in judged)  # then it decides
    return {
        Group(cast(Driver, one.driver), one.workload, one.concurrency, one.load)
        for one in judged
        if one.gating and (alone or not one.reference)
        if one.outcome == "inconclusive" and one.rounds_needed is not None
    }


def _with_doors(cell: Cell, control: Sequence[Cell]) -> Cell:
    """The cell with what became of the rows that its control wrote: its figures count nowhere, its rows do."""
    again = _twin(cell, control)
    if again is None:
        return cell
    pairs = {name: (getattr(cell, name), getattr(again, name)) for name in ("integrity_rest", "integrity_prefill")}
    sums = {name: sum_integrity([one for one in pair if one is not None]) for name, pair in pairs.items() if any(pair)}
    return cell.model_copy(update={"integrity": sum_integrity([cell.integrity, again.integrity]), **sums})


def _control(
    control: Sequence[Cell], cells: Sequence[Cell], own_looks: Callable[[Cell], Sequence[Look]]
) -> Control | None:
    """The A/A comparison, if a cell was measured twice."""
    pairs = [(first, second) for second in control if (first := _twin(second, cells)) is not None]
    return control_of(*pairs[0], own_looks) if pairs else None


def _objectives(scenario: Scenario, cells: Sequence[Cell]) -> dict[tuple[str, str, int], str]:
    """The objective of each cell that has one, at the levels that were measured."""
    asked = {(one.driver, one.workload): one.objective for one in scenario.cells if one.objective is not None}
    return {
        (cell.driver, cell.workload, cell.concurrency): asked[cell.driver, cell.workload]
        for cell in cells
        if (cell.driver, cell.workload) in asked
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
        cells,
        key=lambda cell: (
            cell.driver != "http",
            cell.workload,
            cell.concurrency,
            cell.load != CLOSED,
            _offered(cell),
            order[cell.candidate],
        ),
    )


def _fault_cells(
    scenario: Scenario, records: Sequence[TrialRecord], candidates: Sequence[Candidate]
) -> list[FaultCell]:
    """The cells with a fault: in the scenario's order of faults, then of candidates."""
    groups: dict[tuple[CellKey, str], list[TrialRecord]] = {}
    for record in records:
        if record.fault is not None:
            groups.setdefault((record.cell, record.fault.name), []).append(record)
    whose = {one.name: one for one in candidates}
    order = {name: place for place, name in enumerate(scenario.candidates)}
    faults_order = {name: place for place, name in enumerate(scenario.faults)}
    found = []
    for (key, name), group in groups.items():
        asked = scenario.faults[name], whose[key.candidate], key.driver
        by_round = sorted(group, key=lambda record: record.round)
        reference = key.candidate == scenario.reference
        found.append(faults.cell_of(by_round, reference, claims.may_lose(*asked), claims.known(*asked)))
    return sorted(
        found,
        key=lambda one: (
            faults_order[one.fault], order[one.candidate], one.driver != "http", one.workload, one.concurrency,
        ),
    )  # fmt: skip


def _criteria(
    scenario: Scenario,
    cells: tuple[Sequence[Cell], Sequence[FaultCell]],
    shared: Collection[str],
    looks: Mapping[Group, Sequence[Look]],
    baseline: Results | None,
    doubt: str | None,
) -> list[Criterion]:
    """Every criterion on every cell it is for, those without a fault first.

    ``shared`` are candidates whose server others may use too.
    """
    fair, faulted = cells
    before, before_faulted = ([], []) if baseline is None else (baseline.cells, baseline.faults)
    judged = []
    for spec in scenario.criteria:
        rule = criteria.Rule(spec.name, spec.expression, spec.gating, spec.table, spec.published)
        wanted = {(one.driver, one.workload, one.load, one.fault) for one in cells_of(spec, scenario)}
        found = [
            criteria.judge(rule, cell, _reference(cell, fair), looks.get(_group(cell), ()), _twin(cell, before))
            for cell in fair
            if (cell.driver, cell.workload, cell.load, "") in wanted and _taken(spec, cell)
        ]
        under_fault = {(driver, workload, fault) for driver, workload, _, fault in wanted if fault}
        found += [
            criteria.judge_fault(rule, cell, _reference(cell, faulted), _twin(cell, before_faulted))
            for cell in faulted
            if (cell.driver, cell.workload, cell.fault) in under_fault and _taken(spec, cell)
        ]
        judged += [_with_doubts(one, rule, one.candidate in shared, doubt) for one in found]
    return judged


def _taken(spec: CriterionSpec, cell: Cell | FaultCell) -> bool:
    """Whether a criterion is for cells of this level (which the command line may change) and this store."""
    return spec.concurrency in (None, cell.concurrency) and (spec.stores is None or cell.store in spec.stores)


def _with_doubts(judged: Criterion, rule: criteria.Rule, shared: bool, doubt: str | None) -> Criterion:
    """The criterion, inconclusive where what it was compared with, or a counter, says nothing of this store."""
    changes: dict[str, object] = {}
    if doubt is not None and rule.expression.against == "baseline":
        changes = {"outcome": "inconclusive", "reason": doubt, "rounds_needed": None}
    elif judged.outcome == "fail" and shared and judged.field.startswith("referee."):
        reason = "the counter is everybody's on this server, which is not ours alone"
        changes = {"outcome": "inconclusive", "reason": reason}
    return judged.model_copy(update=changes)


def _reference(cell: _AnyCell, cells: Sequence[_AnyCell]) -> _AnyCell | None:
    """The reference's cell at the same place."""
    return next((one for one in cells if one.reference and _spot(one) == _spot(cell)), None)


def _twin(cell: _AnyCell, others: Sequence[_AnyCell]) -> _AnyCell | None:
    """The same cell among others."""
    return next((one for one in others if (one.candidate, _spot(one)) == (cell.candidate, _spot(cell))), None)


def _spot(cell: Cell | FaultCell) -> tuple[str, str, int, str]:
    """What cells share that differ in nothing but the candidate."""
    return cell.driver, cell.workload, cell.concurrency, cell.load if isinstance(cell, Cell) else cell.fault


def _group(cell: Cell) -> Group:
    return Group(cell.driver, cell.workload, cell.concurrency, cell.load)


def _offered(cell: Cell) -> float:
    """What puts open loops in order: the share of the maximum, or the rate."""
    return 0.0 if cell.schedule is None else cell.schedule.share or cell.schedule.rate


_LOOP_NOTES = {
    True: "Closed loop: each writer waits for its answer before it sends again, so latency is service time; "
    "a stall delays operations that are then never sent (coordinated omission).",
    False: "Open loop: operations are due by a schedule that no answer changes; latency runs from when each was due.",
}
_DRIVER_NOTES = {
    "http": "HTTP: Locust users, a real MLflow server and its database share this machine's cores.",
    "direct": "Direct writers: the store's own share of what users feel; no MLflow server stands in between.",
}


def _notes(
    scenario: Scenario, records: Sequence[TrialRecord], candidates: Sequence[Candidate], faulted: Sequence[FaultCell]
) -> list[str]:
    """Limits and honesty marks."""
    closed_ones = {one.load == CLOSED for one in records if one.fault is None}
    notes = [
        *(text for closed, text in _LOOP_NOTES.items() if closed in closed_ones),
        *(text for driver, text in _DRIVER_NOTES.items() if any(one.driver == driver for one in records)),
        *claims.crash_notes(faulted),
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
