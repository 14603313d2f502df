"""What a run has so far, as results.json has it."""

import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from bench import environment, machine
from bench.cell import CLOSED
from bench.conclusion import judge_records
from bench.conditions import conditions, unlike
from bench.decision_request import Wanted
from bench.decision_steps import Other, cutover, rollback
from bench.judge.marks import marks
from bench.judge.regression import regression
from bench.results import Candidate, Machine, Results, Run
from bench.run_state import Request, State
from bench.scenario import Scenario
from bench.stand import Stand
from bench.stores import schema
from bench.trial_record import TrialRecord


def conclude(request: Request, folder: Path, state: State, ending: tuple[datetime, bool]) -> Results:
    """Judge what there is and write results.json; ``ending``: when the run began, and whether it was interrupted."""
    started, interrupted = ending
    scenario = judged(request)
    now = datetime.now(UTC)
    run_facts = Run(
        id=folder.name,
        scenario=request.scenario.name,
        title=scenario.title,
        started=started.isoformat(timespec="seconds"),
        ended=now.isoformat(timespec="seconds"),
        seconds=(now - started).total_seconds(),
        seed=request.seed,
        rounds=max((record.round + 1 for record in state.records), default=0),
        command=environment.command_line(),
        mlflow_version=schema.mlflow_version(),
        authentication=_authentication(state.candidates, {record.driver for record in state.records}),
        network="as the given URLs say" if request.urls or request.sites else "loopback, no TLS",
        loop=_loop(state.records),
        interrupted=interrupted,
        trials_planned=state.planned,
        trials_done=len(state.records),
        looks=[look.rounds for look in max(state.looks.values(), key=lambda own: own[-1].rounds, default=())],
    )
    known = conditions_of(request, state)
    found = judge_records(
        scenario, state.records, state.candidates, run_facts, state.facts,
        looks=state.looks, baseline=request.baseline, doubt=doubt(request.baseline, known), untested=state.untested,
        move=None if state.decision is None else state.decision.move,
    )  # fmt: skip
    found = found.model_copy(
        update={"notes": [*found.notes, *request.notes, *state.notes], "machine": _machine(state), "conditions": known}
    )
    if request.move is not None:
        found = _written_out(found, request.move, interrupted)
    if request.baseline is not None:
        found = found.model_copy(update={"baseline": regression(request.baseline, found, anyway=True)})
    found = found.model_copy(update={"marks": marks(found)})
    found.write(folder)
    write_environment(folder, state)
    return found


def _written_out(found: Results, wanted: Wanted, interrupted: bool) -> Results:
    """The results with the steps of carrying the move out, and of going back."""
    source, target = wanted.source.place, wanted.target.place
    move = found.move
    copied = not wanted.scratch and move is not None and move.migration is not None
    made = [] if move is None else move.also  # of the first pairs, where the run ended before the others
    also = [
        Other(pair[0].place, pair[1].place, "" if one is None else one.family)
        for pair, one in zip_longest(wanted.also, made)
    ]
    moved = [] if move is None or move.migration is None else [move.migration, *made]
    older = next((one.upgraded_from for one in moved if one.upgraded_from is not None), None)
    notes = list(found.notes)
    if interrupted and not wanted.scratch:
        notes.append(
            f"Interrupted: what was copied stays in {target.told}. The same command again goes on with it, as does "
            f"`trackbench migrate {source.argument} {target.argument}`; both remove what the load may have left."
        )
    there = cutover(source, target, also, "copied" if copied else "before", older)
    back = rollback(source, target, also, older)
    return found.model_copy(update={"notes": notes, "cutover": there, "rollback": back})


def judged(request: Request) -> Scenario:
    """The scenario as it is judged: with other levels on the command line, criteria of one level are those of all."""
    scenario = request.scenario.scenario
    if not request.overrides.concurrency:
        return scenario
    criteria_of_all = [one.model_copy(update={"concurrency": None}) for one in scenario.criteria]
    return scenario.model_copy(update={"criteria": criteria_of_all})


def doubt(baseline: Results | None, known: dict[str, str]) -> str | None:
    """Why nothing can be said against the baseline run; None if it was measured under the same conditions."""
    if baseline is None:
        return None
    if not baseline.conditions:
        return "the baseline run does not say under which conditions it was measured"
    differs = unlike(baseline.conditions, known)
    first = next(iter(differs), None)
    if first is None:
        return None
    then, now = differs[first]
    return f"the baseline run was not measured alike: {first} {then!r} then, {now!r} now"


def conditions_of(request: Request, state: State) -> dict[str, str]:
    """What must be alike in a run that is compared; two databases are not alike because the user gave both."""
    scenario = judged(request)
    addresses = {
        name: f"{url.host}:{url.port}/{url.database}"
        for name, spec in scenario.candidates.items()
        if (url := request.urls.get(spec.store)) is not None and url.path is None
    }
    return conditions(scenario, state.candidates, state.facts, request.overrides, addresses)


def _machine(state: State) -> Machine:
    """The machine while the trials ran; what the user's own servers and containers used can't be told from others'."""
    seen = machine.summary(state.speeds, state.records)
    apart = any(one.theirs or "compose" in one.source.lower() for one in state.candidates)
    return seen.model_copy(update={"others_share": None}) if apart else seen


def _loop(records: Sequence[TrialRecord]) -> Literal["closed", "open", "closed and open"]:
    """Which kinds of load there were."""
    kinds = {record.load == CLOSED for record in records}
    return "closed and open" if len(kinds) > 1 else "open" if kinds == {False} else "closed"


def _authentication(candidates: Sequence[Candidate], drivers: Collection[str]) -> str:
    """Who had to log in where."""
    said = []
    if "http" in drivers:
        modes = {one.tracking.get("authentication", "as their server wants it") for one in candidates if one.tracking}
        said.append(f"MLflow server: {', '.join(sorted(modes))}")
    if "direct" in drivers:
        said.append("direct connections log in to the database")
    return "; ".join(said) or "nothing was measured"


def candidate_of(ready: Stand, scenario: Scenario, state: State) -> Candidate:
    """What is known of a candidate before its trials."""
    facts = ready.facts
    moved = "" if state.decision is None else state.decision.holds(ready.name, facts.kind)
    return Candidate(
        name=ready.name,
        store=facts.kind,
        reference=ready.name == scenario.reference,
        source=facts.source,
        server_version=facts.version,
        settings={**facts.settings, **{f"session {name}": value for name, value in ready.spec.session.items()}},
        durable=facts.durable,
        durability=facts.durability,
        may_lose_crash=facts.crash,
        may_lose_power=facts.power,
        prefill=f"{moved}, and {size_of(scenario)} of ours" if moved else size_of(scenario),
        tracking=ready.site_facts,
        schema_revision=facts.schema_revision,
        schema_current=facts.schema_current,
        schema_missing=None if facts.schema_missing is None else list(facts.schema_missing),
        theirs=ready.theirs,
    )


def size_of(scenario: Scenario) -> str:
    """What the stores are filled with, in words."""
    size = scenario.prefill
    rows = -(-size.metrics // size.runs) * size.runs if size.runs else 0  # each run has as many as the others
    return f"{rows:,} metrics in {size.runs:,} runs" if rows else "empty"


def write_environment(folder: Path, state: State) -> None:
    """Write ``environment.json``: all that is known of the machine, the servers and the call."""
    whole = {
        "facts": state.facts,
        "mlflow": schema.mlflow_version(),
        "command": environment.command_line(),
        "candidates": [candidate.model_dump() for candidate in state.candidates],
    }
    (folder / "environment.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
