"""The one reason for a candidate's verdict, and what to do next about it."""

from bench.cell import Cell, Criterion, Integrity, Verdict
from bench.results import Candidate, Results
from reports import aftermath, checklist
from reports.figures import count, duration, one_line
from reports.judged import INTEGRITY_FIELDS, SEVERITY, place, same_load, told
from reports.rows import broken, felt, hidden

_POOL = "pool_exhausted"
_MOST_ROUNDS = 200
"""More rounds than this are no advice: the machine or the limit has to change."""


def reason(results: Results, candidate: Candidate, verdict: Verdict) -> str:
    """The reason that the judge gave, with units where it is a criterion's; else what is known to be missing."""
    given = one_line(results.reasons.get(candidate.name, ""))
    tried = aftermath.of(results, candidate.name)
    if not given and not tried and not any(cell.candidate == candidate.name for cell in results.cells):
        missing = aftermath.nothing_tested(results, candidate.name)
        return f"no fault was tested: {missing}" if missing else "no data: no trial of this candidate finished"
    if given and (damage(results, candidate) or aftermath.decides(tried)):
        return given
    decisive = deciding(results, candidate)
    speaks = decisive is not None and decisive.outcome == verdict != "pass"
    if decisive is not None and speaks and candidate.reference and decisive.measured is None:
        return _of_reference(results, candidate)
    if decisive is not None and speaks and not decisive.concurrency and (step := checklist.worst(results)):
        return f"{one_line(step.step)}: {one_line(step.said)}"
    if decisive is not None and speaks and (befell := aftermath.befell(results, decisive)):
        return befell
    if decisive is not None and speaks and (not given or _names_a_criterion(results, candidate, given)):
        return f"{one_line(decisive.name)}, {place(decisive)}: {told(decisive)}"
    return given or ("every gating criterion is met" if verdict == "pass" else "no reason was recorded")


def _names_a_criterion(results: Results, candidate: Candidate, given: str) -> bool:
    """Whether the judge's reason is that of a criterion, which we tell with units, and no other thing."""
    own = [each for each in results.criteria if each.candidate == candidate.name and each.gating]
    return any(one_line(each.name) in given and one_line(each.reason) in given for each in own)


def _of_reference(results: Results, candidate: Candidate) -> str:
    """What a reference did whose open criteria could not be measured on it: nothing to be alarmed of."""
    own = [each for each in results.criteria if each.candidate == candidate.name and each.gating]
    measured = [each for each in own if each.measured is not None]
    missed = [each for each in measured if each.outcome != "pass"]
    if missed:
        first = max(missed, key=lambda each: SEVERITY[each.outcome])
        return f"{one_line(first.name)}, {place(first)}: {told(first)}"
    return f"{len(measured)} of {len(own)} gating criteria hold, the others can't be measured on it"


def damage(results: Results, candidate: Candidate) -> str:
    """Which data of the candidate is lost, changed, duplicated or added, or an empty text."""
    found = [_worse(cell) for cell in results.cells if cell.candidate == candidate.name and broken(cell)]
    if not found:
        return ""
    counted = {
        "lost": sum(each.lost for each in found),
        "duplicated": sum(each.duplicated for each in found),
        "corrupted": sum(each.corrupted for each in found),
        "unexpected": sum(each.unexpected for each in found),
        "invariants violated": sum(sum(each.invariants.values()) for each in found),
    }
    said = ", ".join(f"{count(n)} {word}" for word, n in counted.items() if n)
    return f"Data integrity is broken in {one_line(candidate.name)}: {said}."


def _worse(cell: Cell) -> Integrity:
    """The check that found the more: the one of the tables or the one through MLflow's REST API."""
    return max(cell.doors, key=lambda each: each.wrong)


def deciding(results: Results, candidate: Candidate) -> Criterion | None:
    """The criterion that decides the candidate's verdict: the worst gating one, integrity and users first."""
    own = [each for each in results.criteria if each.candidate == candidate.name and each.gating]
    return max(
        own,
        key=lambda each: (SEVERITY[each.outcome], each.field in INTEGRITY_FIELDS, each.driver == "http"),
        default=None,
    )


def next_step(results: Results, candidate: Candidate, verdict: Verdict) -> str:
    """What a person should do next about this candidate, in one sentence."""
    cells = [cell for cell in results.cells if cell.candidate == candidate.name]
    if any(map(broken, cells)):
        return "Do not move to it. Read the rows found wrong under Integrity, then repeat with the same seed."
    if candidate.reference:
        return "Nothing: it is what the others are compared with and decides nothing."
    decisive = deciding(results, candidate)
    if moved := _of_move(results, candidate, decisive, verdict):
        return moved
    if after := aftermath.next_step(results, candidate, decisive):
        return after
    if not cells and not aftermath.of(results, candidate.name):
        return _after_nothing(results, candidate)
    if verdict == "pass":
        return "Rehearse the move with a copy of your own store."
    if verdict == "fail":
        return _after_failure(decisive, cells)
    return _after_doubt(results, candidate, decisive)


def _of_move(results: Results, candidate: Candidate, decisive: Criterion | None, verdict: Verdict) -> str:
    """What to do about the store that was moved here; empty where none was, or where something else is in the way."""
    move = results.move
    if move is None or move.candidate != candidate.name:
        return ""
    if move.differs is not None:
        return "Do not move: the stores differ. `trackbench verify` with both URLs names every difference."
    if verdict == "pass":
        first = "Rehearsed. Now do the same with the server that is to hold it" if move.scratch else "Move"
        return f"{first}: the cut-over's steps are written out, and those of going back."
    step = checklist.worst(results)
    if step is None or (decisive is not None and decisive.concurrency and decisive.outcome == verdict):
        return ""
    return f"Mend this, then run it again: {one_line(step.remedy)}" if step.remedy else ""


def _after_nothing(results: Results, candidate: Candidate) -> str:
    """Where nothing was measured: what stood in the way, if that is known, for it would again."""
    missing = aftermath.nothing_tested(results, candidate.name)
    if not missing or results.run.interrupted:
        return "Run it again: nothing was measured."
    return f"Give it what its faults take, or choose others: {missing}."


def _after_failure(decisive: Criterion | None, cells: list[Cell]) -> str:
    judged = [cell for cell in cells if decisive is None or cell.driver == decisive.driver]
    if any(cell.errors.get(_POOL) for cell in judged):
        return "Do not move yet: the tracking server's pool ran out. Give a candidate a larger one, then run again."
    if any(cell.deadlocks or cell.lock_errors or hidden(cell) for cell in judged):
        return "Do not move yet. See which locks collide under Errors; change that, then run again."
    if decisive is not None and any(cell.generator.saturated for cell in judged):
        return "Do not blame the store yet: the load generator was saturated. Give it more cores, run again."
    if decisive is not None and (alone := _store_alone(decisive, cells)):
        return f"Look at the tracking server first (workers, pool): the store alone has {alone}. Then run again."
    return "Do not move yet. Change its settings or machine, name that a candidate, and run again."


def _store_alone(decisive: Criterion, cells: list[Cell]) -> str:
    """The tail of the same load straight into the tables, where that keeps a limit that users did not see kept."""
    name = decisive.field.removesuffix("_ms")
    for cell in cells:
        if cell.driver == "direct" and decisive.driver == "http" and same_load(decisive, cell):
            value = getattr(felt(cell.latency_ms), name, None)
            if value is not None and decisive.limit is not None and value <= decisive.limit:
                return f"{name} {duration(value)}"
    return ""


def _after_doubt(results: Results, candidate: Candidate, decisive: Criterion | None) -> str:
    run = results.run
    if run.interrupted:
        return f"Run it again to the end ({run.trials_done} of {run.trials_planned} trials were made)."
    open_ones = [
        each
        for each in results.criteria
        if each.candidate == candidate.name and each.gating and each.outcome == "inconclusive"
    ]
    if any(each.measured is None and each.field.endswith("_ms") for each in open_ones):
        return "Run again with longer trials (--duration): a tail needs more operations in each round."
    unmeasured = next((each for each in open_ones if each.measured is None), None)
    if unmeasured is not None:
        return f"Find out why “{one_line(unmeasured.name)}” could not be measured, then run again."
    if any(each.limit is None for each in open_ones):
        return "Run again with longer trials (--duration), so that the reference has a value to compare with."
    needed = max((each.rounds_needed for each in open_ones if each.rounds_needed is not None), default=None)
    if needed is None:
        known = decisive is not None and decisive.measured is not None and decisive.interval is not None
        return (
            "More rounds will not decide it: the limit lies where the measurement does. Change one of the two."
            if known
            else f"Run again with more rounds (--rounds {_even(max(10, 2 * run.rounds))}) or on a quieter machine."
        )
    if needed > _MOST_ROUNDS:
        return f"Measure on a quieter machine: on this one it takes about {count(needed)} rounds to decide."
    return f"Run again with more rounds (--rounds {_even(needed)}), or on a quieter machine."


def _even(rounds: int) -> int:
    """The next even number: only an even number of rounds cancels drift."""
    return rounds + rounds % 2
