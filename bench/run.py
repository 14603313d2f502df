"""A whole run: stands up, trials one after the other, everything judged, results.json written."""

import asyncio
import errno
import json
import secrets
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from bench import environment
from bench.errors import BadInput
from bench.identity import TrialKey
from bench.judge import criteria, verdict
from bench.judge.cells import cell_of, sum_integrity
from bench.plan import Overrides, Trial, plan
from bench.results import Candidate, Cell, Criterion, Results, Run
from bench.scenario import LoadedScenario, Scenario, cells_of
from bench.servers import places
from bench.stand import Stand, cache_folder, fill, one_line, stand
from bench.stores import schema
from bench.stores.url import StoreUrl
from bench.trial import Setting, check_prefill, run_trial
from bench.trial_record import CellKey, TrialRecord

_MIN_FREE = 1 << 30  # bytes: four stores with their logs, and the samples
_MAX_TRIALS = 0xFFFF  # run ids have four hex digits for the trial
_SPARE_CONNECTIONS = 2  # the run's own session, and one to look with


class Watcher(Protocol):
    """Who is told how the run goes."""

    def say(self, text: str) -> None:
        """A line about what is being prepared."""

    def trial_begins(self, trial: Trial, done: int, planned: int) -> None:
        """A trial begins."""

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial has its record."""


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    scenario: LoadedScenario
    overrides: Overrides
    urls: dict[str, StoreUrl]
    seed: int
    out: Path
    keep: bool
    notes: tuple[str, ...] = ()


@dataclass
class _State:
    """What a run has so far; judged as it stands if the run is interrupted."""

    planned: int = 0
    records: list[TrialRecord] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def new_folder(out: Path, scenario: str, now: datetime) -> Path:
    """Make the run's folder and point ``latest`` at it.

    Raises:
        BadInput: the place can't be written to, or there is too little space for a run.
    """
    existing = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    for place in (existing, places.temp_root()):
        free = shutil.disk_usage(place).free
        if free < _MIN_FREE:
            raise BadInput(f"{place}: {free >> 20} MiB free; a run needs {_MIN_FREE >> 20}, free some or use --out")
    base = f"{now:%Y%m%dT%H%M%SZ}-{scenario}"
    for name in (base, *(f"{base}-{n}" for n in range(2, 100))):
        folder = out / name
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise BadInput(f"{folder}: {error.strerror}; give a folder that can be written to with --out") from error
        link = out / f".latest-{secrets.token_hex(4)}"
        link.symlink_to(name)
        link.replace(out / "latest")
        return folder
    raise BadInput(f"{out}: too many runs began in this second; try again")


async def run(request: Request, folder: Path, watcher: Watcher) -> Results:
    """Carry out a run in its folder and write results.json.

    When the surrounding task is cancelled, what was measured is judged and written before the cancellation goes on.

    Raises:
        BadInput: a store that can't be reached or used, or a concurrency above what its server admits.
    """
    started = datetime.now(UTC)
    state = _State()
    (folder / "scenario.toml").write_text(request.scenario.text, encoding="utf-8")
    try:
        await _carry_out(request, folder, watcher, state)
    except asyncio.CancelledError:
        _conclude(request, folder, state, (started, True))
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BadInput(
            f"{folder}: no space left on the disk; finished trials are kept, free some and run again"
        ) from error
    return _conclude(request, folder, state, (started, False))


async def _carry_out(request: Request, folder: Path, watcher: Watcher, state: _State) -> None:
    scenario = request.scenario.scenario
    trials = plan(scenario, request.overrides)
    if len(trials) > _MAX_TRIALS:
        raise BadInput(f"{len(trials)} trials are more than {_MAX_TRIALS}; ask for fewer rounds or cells")
    state.planned = len(trials)
    state.facts = environment.facts(places.temp_root())
    setting = Setting(f"{folder.name}-{secrets.token_hex(3)}", request.seed, scenario, folder)
    async with AsyncExitStack() as stack:
        stands: dict[str, Stand] = {}
        for name, spec in scenario.candidates.items():
            if spec.server and spec.store in request.urls:
                raise BadInput(f"candidate {name!r} has server settings; a server given by URL is never configured")
            ready = await stack.enter_async_context(
                stand(name, spec, request.urls.get(spec.store), cache_folder(), watcher.say, keep=request.keep)
            )
            stack.push_async_callback(_remove_ours, ready, watcher, state)
            _check_connections(ready, trials)
            stands[name] = ready
        for name, ready in stands.items():
            watcher.say(f"{name}: {ready.version} ({ready.source}), {_size(scenario)}")
            await fill(
                ready,
                scenario.prefill,
                TrialKey.of(f"{setting.run_id}/{name}", setting.seed, 0),
                f"trackbench-{setting.run_id}-{name}-prefill",
            )
        state.candidates = [_candidate(ready, scenario) for ready in stands.values()]
        _write_environment(folder, state)
        stolen = environment.cpu_seconds_stolen()
        for trial in trials:
            watcher.trial_begins(trial, len(state.records), len(trials))
            record = await run_trial(trial, setting, stands[trial.candidate])
            state.records.append(record)
            watcher.trial_ended(record)
        state.facts["CPU time stolen by the hypervisor"] = f"{environment.cpu_seconds_stolen() - stolen:.1f} s"
        for name, ready in stands.items():
            await _add_prefill_check(name, ready, state)


def _check_connections(ready: Stand, trials: Sequence[Trial]) -> None:
    most = max(trial.concurrency for trial in trials)
    if ready.connections is not None and most + _SPARE_CONNECTIONS > ready.connections:
        raise BadInput(
            f"concurrency {most}: {ready.name} admits {ready.connections} connections and the run needs "
            f"{most + _SPARE_CONNECTIONS}; lower --concurrency or raise the server's max_connections"
        )


async def _remove_ours(ready: Stand, watcher: Watcher, state: _State) -> None:
    """Take everything of ours out of a database that the user gave; if that can't be done, say what is left."""
    if not ready.theirs:
        return
    try:
        await ready.renew()
        await ready.remove_all()
    except Exception as error:
        left = f"{ready.name}: rows of ours may be left, in experiments named trackbench-…: {one_line(error)}"
        state.notes.append(left)
        watcher.say(left)


async def _add_prefill_check(name: str, ready: Stand, state: _State) -> None:
    """What became of the prefill counts against the candidate's last trial."""
    checked = await check_prefill(ready)
    last = max((n for n, record in enumerate(state.records) if record.candidate == name), default=None)
    if checked is None or last is None:
        return
    record = state.records[last]
    state.records[last] = record.model_copy(update={"integrity": sum_integrity([record.integrity, checked])})


def _conclude(request: Request, folder: Path, state: _State, ending: tuple[datetime, bool]) -> Results:
    started, interrupted = ending
    scenario = request.scenario.scenario
    if request.overrides.concurrency:  # criteria of one level are then those of the levels that ran
        criteria_of_all = [one.model_copy(update={"concurrency": None}) for one in scenario.criteria]
        scenario = scenario.model_copy(update={"criteria": criteria_of_all})
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
        authentication="none in front of the store: direct connections log in to the database",
        network="loopback, no TLS" if not request.urls else "as the given URLs say",
        loop="closed",
        interrupted=interrupted,
        trials_planned=state.planned,
        trials_done=len(state.records),
    )
    found = judge_records(scenario, state.records, state.candidates, run_facts, state.facts)
    found = found.model_copy(update={"notes": [*found.notes, *request.notes, *state.notes]})
    found.write(folder)
    _write_environment(folder, state)
    return found


def judge_records(
    scenario: Scenario,
    records: Sequence[TrialRecord],
    candidates: Sequence[Candidate],
    run_facts: Run,
    facts: Mapping[str, str],
) -> Results:
    """Turn trials into cells, criteria and verdicts."""
    cells = _cells(scenario, records)
    judged = _criteria(scenario, cells, {one.name for one in candidates if one.theirs})
    decided = {one.name: verdict.of_candidate(one.name, judged, cells) for one in candidates}
    verdicts = {name: outcome for name, (outcome, _) in decided.items()}
    whole = verdict.of_run(verdicts, scenario.reference)
    if run_facts.interrupted and whole == "pass":
        whole = "inconclusive"
    return Results(
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


def _cells(scenario: Scenario, records: Sequence[TrialRecord]) -> list[Cell]:
    groups: dict[CellKey, list[TrialRecord]] = {}
    for record in records:
        groups.setdefault(record.cell, []).append(record)
    order = {name: place for place, name in enumerate(scenario.candidates)}
    cells = [
        cell_of(sorted(group, key=lambda record: record.round), key.candidate == scenario.reference)
        for key, group in groups.items()
    ]
    return sorted(cells, key=lambda cell: (cell.workload, cell.concurrency, order[cell.candidate]))


def _criteria(scenario: Scenario, cells: Sequence[Cell], shared: Collection[str]) -> list[Criterion]:
    """Every criterion on every cell it is for; ``shared`` are candidates whose server others may use too."""
    judged = []
    for spec in scenario.criteria:
        rule = criteria.Rule(spec.name, spec.expression, spec.gating)
        wanted = cells_of(spec, scenario)
        levels = {workload for workload, _ in wanted}
        for cell in cells:
            if cell.workload not in levels or spec.concurrency not in (None, cell.concurrency):
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


def _candidate(ready: Stand, scenario: Scenario) -> Candidate:
    return Candidate(
        name=ready.name,
        store=ready.store.name,
        reference=ready.name == scenario.reference,
        source=ready.source,
        server_version=ready.version,
        settings={**ready.settings, **{f"session {name}": value for name, value in ready.spec.session.items()}},
        durable=ready.durability.ok,
        durability=ready.durability.claim,
        prefill=_size(scenario),
        theirs=ready.theirs,
    )


def _size(scenario: Scenario) -> str:
    size = scenario.prefill
    rows = -(-size.metrics // size.runs) * size.runs if size.runs else 0  # each run has as many as the others
    return f"{rows:,} metrics in {size.runs:,} runs" if rows else "empty"


def _notes(scenario: Scenario, records: Sequence[TrialRecord], candidates: Sequence[Candidate]) -> list[str]:
    """Limits and honesty marks."""
    notes = [
        "Closed loop: each writer waits for its answer before it sends again, so latency is service time; "
        "a stall delays operations that are then never sent (coordinated omission).",
        "Direct writers: the store's own share of what users feel; no MLflow server stands in between.",
        "Process crashes and power losses were not tested in this run.",
    ]
    for record in records:
        if record.error is not None:
            place = f"{record.candidate}, {record.workload} at {record.concurrency}, round {record.round + 1}"
            notes.append(f"Not measured: {place}: {record.error}")
    notes += [f"{one.name}: not durable: {one.durability}" for one in candidates if one.durable is False]
    notes += [
        f"{name} was asked for as {spec.store}, and is {one.store}"
        for one in candidates
        for name, spec in scenario.candidates.items()
        if one.name == name and one.store != spec.store
    ]
    return notes


def _write_environment(folder: Path, state: _State) -> None:
    whole = {
        "facts": state.facts,
        "mlflow": schema.mlflow_version(),
        "command": environment.command_line(),
        "candidates": [candidate.model_dump() for candidate in state.candidates],
    }
    (folder / "environment.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
