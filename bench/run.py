"""A whole run: stands up, trials one after the other, everything judged, results.json written."""

import asyncio
import errno
import json
import secrets
import shutil
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from bench import environment, loader
from bench.conclusion import judge_records
from bench.errors import BadInput
from bench.identity import TrialKey
from bench.plan import Overrides, Trial, plan
from bench.results import Candidate, Results, Run
from bench.scenario import LoadedScenario, Scenario
from bench.servers import places
from bench.site import Site
from bench.stand import Access, Stand, one_line
from bench.stands import cache_folder, stand
from bench.stores import schema
from bench.stores.url import StoreUrl
from bench.trial import Setting, check_prefill, run_trial
from bench.trial_record import TrialRecord

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
    sites: dict[str, Site] = field(default_factory=dict)  # tracking servers of the user's, by store


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


def discard(folder: Path) -> None:
    """Remove the folder of a run that measured nothing, so that ``latest`` does not point at nothing."""
    latest = folder.parent / "latest"
    if latest.is_symlink() and latest.readlink() == Path(folder.name):
        latest.unlink()
    shutil.rmtree(folder, ignore_errors=True)


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
    last = max((n for n, record in enumerate(state.records) if record.candidate == name), default=None)
    if checked is None or last is None:
        return
    state.records[last] = state.records[last].model_copy(update={"integrity_prefill": checked})


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
        authentication=_authentication(state.candidates, {record.driver for record in state.records}),
        network="as the given URLs say" if request.urls or request.sites else "loopback, no TLS",
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
