"""A whole run: stands up, trials one after the other, everything judged, results.json written."""

import asyncio
import errno
import secrets
import time
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench import environment, loader, machine
from bench.checking import check_prefill
from bench.conclusion import undecided
from bench.decision_request import Stopped
from bench.errors import BadInput
from bench.fault_cell import Untested
from bench.faults import course
from bench.identity import TrialKey
from bench.judge import looks
from bench.plan import Group, Trial, more, plan, planned_rounds
from bench.rates import paced
from bench.results import Results
from bench.run_folder import check_room
from bench.run_results import candidate_of, conclude, conditions_of, doubt, judged, size_of, write_environment
from bench.run_state import Request, State, Watcher
from bench.servers import places
from bench.stand import Access, Stand, one_line
from bench.stands import cache_folder, stand
from bench.trial import Setting, run_trial
from bench.trial_record import TrialRecord

__all__ = ["Request", "Watcher", "run"]

_MAX_TRIALS = 0xFFFF  # run ids have four hex digits for the trial
_SPARE_CONNECTIONS = 2  # the run's own session, and one to look with


async def run(request: Request, folder: Path, watcher: Watcher, start: loader.Loader = loader.start) -> Results:
    """Carry out a run in its folder and write results.json; ``start`` is where the load comes from.

    When the surrounding task is cancelled, what was measured is judged and written before the cancellation goes on.

    Raises:
        BadInput: a store that can't be reached or used, or a concurrency above what its server admits.
    """
    started = datetime.now(UTC)
    state = State()
    (folder / "scenario.toml").write_text(request.scenario.text, encoding="utf-8")
    try:
        try:
            await _carry_out(request, folder, (watcher, start), state)
        except Stopped:  # the record of the move says why
            state.planned = 0
        return conclude(request, folder, state, (started, False))
    except asyncio.CancelledError:
        conclude(request, folder, state, (started, True))
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BadInput(
            f"{folder}: no space left on the disk; finished trials are kept, free some and run again"
        ) from error


async def _carry_out(request: Request, folder: Path, given: tuple[Watcher, loader.Loader], state: State) -> None:
    watcher, start = given
    scenario = request.scenario.scenario
    trials = _planned(request)
    if len(trials) > _MAX_TRIALS:
        raise BadInput(f"{len(trials)} trials are more than {_MAX_TRIALS}; ask for fewer rounds or cells")
    state.planned = len(trials)
    state.facts = environment.facts(places.temp_root())
    setting = Setting(f"{folder.name}-{secrets.token_hex(3)}", request.seed, scenario, folder, start)
    http = any(trial.driver == "http" for trial in trials)
    traces = any(scenario.workloads[trial.workload].kind == "traces" for trial in trials)
    async with AsyncExitStack() as stack:
        stands: dict[str, Stand] = {}
        if request.move is not None:
            from bench.decision import deciding  # with all that moves stores

            state.decision = await stack.enter_async_context(deciding(request.move, request.target, watcher.say))
        for name in sorted(scenario.candidates, key=lambda name: name != request.target):  # the move comes first
            spec = scenario.candidates[name]
            if spec.server and spec.store in request.urls:
                raise BadInput(f"candidate {name!r} has server settings; a server given by URL is never configured")
            access = Access(request.urls.get(spec.store), request.sites.get(spec.store), http, traces, request.keep)
            if state.decision is not None:
                access = replace(access, move_in=state.decision.move_in(name, spec.store))
            ready = await stack.enter_async_context(stand(name, spec, access, cache_folder(), watcher.say))
            stack.push_async_callback(_remove_ours, ready, watcher, state)
            _check_connections(ready, trials)
            stands[name] = ready
        stands = {name: stands[name] for name in scenario.candidates}
        for name, ready in stands.items():
            watcher.say(f"{name}: {ready.facts.version} ({ready.facts.source}), {size_of(scenario)}")
            await ready.fill(
                scenario.prefill,
                TrialKey.of(f"{setting.run_id}/{name}", setting.seed, 0),
                f"trackbench-{setting.run_id}-{name}-prefill",
            )
        state.candidates = [candidate_of(ready, scenario, state) for ready in stands.values()]
        trials, state.untested = course.possible(trials, scenario, stands)
        state.planned = len(trials)
        write_environment(folder, state)
        show = (setting, stands, watcher)
        await _work_off(trials, state, show)
        if request.budget_s is not None:
            await _until_decided(request, state, show)
        for name, ready in stands.items():
            await _add_prefill_check(name, ready, state)
        if state.decision is not None:
            target = stands[request.target]
            await _remove(target, watcher, state)
            await state.decision.after(target)


def _planned(request: Request) -> list[Trial]:
    """The trials; where a store is moved, what is broken is broken in its target alone, and once."""
    every = plan(request.scenario.scenario, request.overrides)
    if request.move is None:
        return every
    kept = [one for one in every if not one.fault or (one.candidate == request.target and one.round == 0)]
    return [replace(one, number=n) for n, one in enumerate(kept, start=1)]


_Show = tuple[Setting, dict[str, Stand], Watcher]


async def _work_off(trials: Sequence[Trial], state: State, show: _Show) -> None:
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


async def _one(trial: Trial, state: State, show: _Show) -> TrialRecord | None:
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


async def _until_decided(request: Request, state: State, show: _Show) -> None:
    """More rounds for cells with an undecided criterion, up to each planned look, until the budget is spent.

    A budget that ends within rounds ends the run after the round; there is no further look then.
    """
    scenario, watcher = judged(request), show[2]
    assert request.budget_s is not None
    done = planned_rounds(scenario, request.overrides)
    baseline = None if doubt(request.baseline, conditions_of(request, state)) else request.baseline
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


async def _remove_ours(ready: Stand, watcher: Watcher, state: State) -> None:
    """Take everything of ours out of a database that the user gave."""
    if ready.theirs:
        await _remove(ready, watcher, state)


async def _remove(ready: Stand, watcher: Watcher, state: State) -> None:
    """Take everything of ours out of a database; if that can't be done, say what is left."""
    try:
        await ready.renew()
        await ready.remove_all()
    except Exception as error:
        left = f"{ready.name}: rows of ours may be left, in experiments named trackbench-…: {one_line(error)}"
        state.notes.append(left)
        watcher.say(left)


async def _add_prefill_check(name: str, ready: Stand, state: State) -> None:
    """What became of the prefill counts against the candidate's last trial."""
    checked = await check_prefill(ready)
    own = [n for n, record in enumerate(state.records) if record.candidate == name and not record.control]
    last = max(own, default=None)
    if checked is None or last is None:
        return
    state.records[last] = state.records[last].model_copy(update={"integrity_prefill": checked})
