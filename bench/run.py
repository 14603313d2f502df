"""A whole run: stands up, trials one after the other, everything judged, results.json written."""

import asyncio
import errno
import json
import secrets
import time
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

from bench import environment, loader, machine
from bench.cell import CLOSED
from bench.checking import check_prefill
from bench.conclusion import judge_records, undecided
from bench.conditions import conditions, unlike
from bench.errors import BadInput
from bench.fault_cell import Untested
from bench.faults import course
from bench.identity import TrialKey
from bench.judge import looks
from bench.judge.looks import Look
from bench.judge.marks import marks
from bench.judge.regression import regression
from bench.plan import Group, Overrides, Trial, more, plan, planned_rounds
from bench.rates import paced
from bench.results import Candidate, Machine, Results, Run
from bench.run_folder import check_room
from bench.scenario import LoadedScenario, Scenario
from bench.servers import places
from bench.site import Site
from bench.stand import Access, Stand, one_line
from bench.stands import cache_folder, stand
from bench.stores import schema
from bench.stores.url import StoreUrl
from bench.trial import Setting, run_trial
from bench.trial_record import TrialRecord

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
    budget_s: float | None = None  # go on until all is decided, for as long as this; None: the rounds of the plan only
    baseline: Results | None = None
    sites: dict[str, Site] = field(default_factory=dict)  # tracking servers of the user's, by store


@dataclass
class _State:
    """What a run has so far; judged as it stands if the run is interrupted."""

    began: float = field(default_factory=time.monotonic)
    planned: int = 0
    records: list[TrialRecord] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    speeds: list[tuple[float, float]] = field(default_factory=list)  # of the machine itself, before each round
    looks: dict[Group, tuple[Look, ...]] = field(default_factory=dict)  # of a run that goes on until all is decided
    notes: list[str] = field(default_factory=list)
    untested: list[Untested] = field(default_factory=list)


async def run(request: Request, folder: Path, watcher: Watcher, start: loader.Loader = loader.start) -> Results:
    """Carry out a run in its folder and write results.json; ``start`` is where the load comes from.

    When the surrounding task is cancelled, what was measured is judged and written before the cancellation goes on.

    Raises:
        BadInput: a store that can't be reached or used, or a concurrency above what its server admits.
    """
    started = datetime.now(UTC)
    state = _State()
    (folder / "scenario.toml").write_text(request.scenario.text, encoding="utf-8")
    try:
        await _carry_out(request, folder, (watcher, start), state)
        return _conclude(request, folder, state, (started, False))
    except asyncio.CancelledError:
        _conclude(request, folder, state, (started, True))
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BadInput(
            f"{folder}: no space left on the disk; finished trials are kept, free some and run again"
        ) from error


async def _carry_out(request: Request, folder: Path, given: tuple[Watcher, loader.Loader], state: _State) -> None:
    watcher, start = given
    scenario = request.scenario.scenario
    trials = plan(scenario, request.overrides)
    if len(trials) > _MAX_TRIALS:
        raise BadInput(f"{len(trials)} trials are more than {_MAX_TRIALS}; ask for fewer rounds or cells")
    state.planned = len(trials)
    state.facts = environment.facts(places.temp_root())
    setting = Setting(f"{folder.name}-{secrets.token_hex(3)}", request.seed, scenario, folder, start)
    http = any(trial.driver == "http" for trial in trials)
    traces = any(scenario.workloads[trial.workload].kind == "traces" for trial in trials)
    async with AsyncExitStack() as stack:
        stands: dict[str, Stand] = {}
        for name, spec in scenario.candidates.items():
            if spec.server and spec.store in request.urls:
                raise BadInput(f"candidate {name!r} has server settings; a server given by URL is never configured")
            access = Access(request.urls.get(spec.store), request.sites.get(spec.store), http, traces, request.keep)
            ready = await stack.enter_async_context(stand(name, spec, access, cache_folder(), watcher.say))
            stack.push_async_callback(_remove_ours, ready, watcher, state)
            _check_connections(ready, trials)
            stands[name] = ready
        for name, ready in stands.items():
            watcher.say(f"{name}: {ready.facts.version} ({ready.facts.source}), {_size(scenario)}")
            await ready.fill(
                scenario.prefill,
                TrialKey.of(f"{setting.run_id}/{name}", setting.seed, 0),
                f"trackbench-{setting.run_id}-{name}-prefill",
            )
        state.candidates = [_candidate(ready, scenario) for ready in stands.values()]
        trials, state.untested = course.possible(trials, scenario, stands)
        state.planned = len(trials)
        _write_environment(folder, state)
        show = (setting, stands, watcher)
        await _work_off(trials, state, show)
        if request.budget_s is not None:
            await _until_decided(request, state, show)
        for name, ready in stands.items():
            await _add_prefill_check(name, ready, state)


_Show = tuple[Setting, dict[str, Stand], Watcher]


async def _work_off(trials: Sequence[Trial], state: _State, show: _Show) -> None:
    """Trials in their order; before each round, what the machine itself is able to do."""
    setting, _, watcher = show
    current: int | None = None
    for trial in trials:
        check_room(setting.folder)
        if trial.round != current and not (trial.fault and state.speeds):
            current = trial.round
            state.speeds.append(await machine.measure(places.temp_root()))
        watcher.trial_begins(trial, len(state.records), state.planned)
        record = await _one(paced(trial, state.records), state, show)
        if record is not None:
            state.records.append(record)
            watcher.trial_ended(record)
            if record.error is not None:
                check_room(setting.folder)  # a full disk is no fault of the store


async def _one(trial: Trial, state: _State, show: _Show) -> TrialRecord | None:
    """One trial; None where the stand that it needs can't be had, which is said in the results."""
    setting, stands, watcher = show
    ready = stands[trial.candidate]
    if not course.takes_small_disk(trial, setting.scenario, ready):
        return await run_trial(trial, setting, ready)
    try:
        async with course.on_small_disk(trial, ready, setting.run_id, watcher.say) as small:
            return await run_trial(trial, setting, small)
    except BadInput as error:
        state.untested.append(
            Untested(candidate=trial.candidate, fault=trial.fault, applies=True, reason=f"no small disk: {error}")
        )
        state.planned -= 1
        return None


async def _until_decided(request: Request, state: _State, show: _Show) -> None:
    """More rounds for cells with an undecided criterion, up to each planned look, until the budget is spent.

    A budget that ends within rounds ends the run after the round; there is no further look then.
    """
    scenario, watcher = _judged(request), show[2]
    assert request.budget_s is not None
    done = planned_rounds(scenario, request.overrides)
    baseline = None if _doubt(request.baseline, _conditions(request, state)) else request.baseline
    state.looks = {group: looks.planned(rounds) for group, rounds in done.items()}
    for look in range(looks.LOOKS):
        wanted = undecided(scenario, state.records, state.candidates, state.looks, baseline)
        missing = {group: state.looks[group][look].rounds - done[group] for group in wanted}
        last = max((record.round for record in state.records), default=-1) + 1
        if more_rounds := max(missing.values(), default=0):
            watcher.say(f"{_names(wanted)} undecided: {more_rounds} rounds more, then look {look + 1} of {looks.LOOKS}")
        for n in range(more_rounds):
            if time.monotonic() - state.began > request.budget_s:
                state.notes.append(f"Not decided within the time budget of {request.budget_s / 60:g} min.")
                return
            here = [group for group in wanted if n < missing[group]]
            trials = more(scenario, request.overrides, here, [last + n], len(state.records))
            state.planned = len(state.records) + len(trials)
            await _work_off(trials, state, show)
        for group in wanted:
            done[group] += max(0, missing[group])


def _names(groups: Collection[Group]) -> str:
    first, *rest = sorted(groups)
    named = f"{first.workload} ({first.driver}) at {first.concurrency}"
    return f"{named} and {len(rest)} more" if rest else named


def _check_connections(ready: Stand, trials: Sequence[Trial]) -> None:
    most = max((trial.concurrency for trial in trials if trial.driver == "direct"), default=0)
    admitted = ready.facts.connections
    if admitted is not None and most + _SPARE_CONNECTIONS > admitted:
        raise BadInput(
            f"concurrency {most}: {ready.name} admits {admitted} connections and the run needs "
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
    own = [n for n, record in enumerate(state.records) if record.candidate == name and not record.control]
    last = max(own, default=None)
    if checked is None or last is None:
        return
    state.records[last] = state.records[last].model_copy(update={"integrity_prefill": checked})


def _conclude(request: Request, folder: Path, state: _State, ending: tuple[datetime, bool]) -> Results:
    started, interrupted = ending
    scenario = _judged(request)
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
    known = _conditions(request, state)
    found = judge_records(
        scenario, state.records, state.candidates, run_facts, state.facts,
        looks=state.looks, baseline=request.baseline, doubt=_doubt(request.baseline, known), untested=state.untested,
    )  # fmt: skip
    found = found.model_copy(
        update={"notes": [*found.notes, *request.notes, *state.notes], "machine": _machine(state), "conditions": known}
    )
    if request.baseline is not None:
        found = found.model_copy(update={"baseline": regression(request.baseline, found, anyway=True)})
    found = found.model_copy(update={"marks": marks(found)})
    found.write(folder)
    _write_environment(folder, state)
    return found


def _judged(request: Request) -> Scenario:
    """The scenario as it is judged: with other levels on the command line, criteria of one level are those of all."""
    scenario = request.scenario.scenario
    if not request.overrides.concurrency:
        return scenario
    criteria_of_all = [one.model_copy(update={"concurrency": None}) for one in scenario.criteria]
    return scenario.model_copy(update={"criteria": criteria_of_all})


def _doubt(baseline: Results | None, known: dict[str, str]) -> str | None:
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


def _conditions(request: Request, state: _State) -> dict[str, str]:
    """What must be alike in a run that is compared; two databases are not alike because the user gave both."""
    scenario = _judged(request)
    addresses = {
        name: f"{url.host}:{url.port}/{url.database}"
        for name, spec in scenario.candidates.items()
        if (url := request.urls.get(spec.store)) is not None and url.path is None
    }
    return conditions(scenario, state.candidates, state.facts, request.overrides, addresses)


def _machine(state: _State) -> Machine:
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


def _candidate(ready: Stand, scenario: Scenario) -> Candidate:
    facts = ready.facts
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
        prefill=_size(scenario),
        tracking=ready.site_facts,
        schema_revision=facts.schema_revision,
        schema_current=facts.schema_current,
        schema_missing=None if facts.schema_missing is None else list(facts.schema_missing),
        theirs=ready.theirs,
    )


def _size(scenario: Scenario) -> str:
    size = scenario.prefill
    rows = -(-size.metrics // size.runs) * size.runs if size.runs else 0  # each run has as many as the others
    return f"{rows:,} metrics in {size.runs:,} runs" if rows else "empty"


def _write_environment(folder: Path, state: _State) -> None:
    whole = {
        "facts": state.facts,
        "mlflow": schema.mlflow_version(),
        "command": environment.command_line(),
        "candidates": [candidate.model_dump() for candidate in state.candidates],
    }
    (folder / "environment.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
