"""One trial: set up, load, read back, remove. It leaves samples, ledgers and trial.json in its folder."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from bench import ledger, loader, machine, samples
from bench.availability import EVERY_S, Prober
from bench.cell import INTEGRITY_COUNTS, Generator, Integrity
from bench.identity import TrialKey, run_name
from bench.integrity import Expected, Tally, read_back
from bench.integrity.run_audit import run_row
from bench.job import Job, samples_path
from bench.judge.trials import Window, figures, unfinished
from bench.outcome import Outcome
from bench.plan import Trial
from bench.rates import arrivals, duration_s
from bench.rest import Rest
from bench.rest_rows import RestRows
from bench.scenario import Scenario
from bench.stand import Door, Stand, one_line
from bench.stores.base import Counters
from bench.trial_record import TrialRecord
from bench.workload import Layout

GENERATOR_LIMIT = 0.7  # share of a core above which the generator may be what limits
_GAUGE_EVERY_S = 0.25
_AGAIN, _AGAIN_S = 8, 5.0  # how often a doubtful read-back is repeated, and after how long
_DOUBTFUL = (Outcome.RESERVED, Outcome.INFO)


@dataclass(frozen=True)
class Setting:
    """What a trial needs to know of its run; ``loader`` is where the load comes from."""

    run_id: str
    seed: int
    scenario: Scenario
    folder: Path
    loader: loader.Loader


class LoadFailed(Exception):
    """The load could not be made; ``epochs`` are the beginnings of the parts that did begin."""

    def __init__(self, message: str, epochs: dict[int, int]) -> None:
        super().__init__(message)
        self.epochs = epochs


@dataclass(frozen=True)
class _Load:
    """What the load process said of a trial's load; ``epochs`` is time 0 on the clock of each part."""

    window: Window
    epochs: dict[int, int]
    began_ns: int  # time 0 on our own clock
    generator: Generator
    retried: dict[str, int]


async def run_trial(trial: Trial, setting: Setting, stand: Stand) -> TrialRecord:
    """Carry out one trial and write its record; a trial that fails has ``error`` set, it does not raise."""
    work = setting.scenario.workloads[trial.workload].workload(trial.workload)
    layout = Layout(TrialKey.of(setting.run_id, setting.seed, trial.number), work, trial.identities)
    name = f"{trial.number:04d}-{trial.candidate}-{trial.driver}-{trial.workload}-c{trial.concurrency}{_suffix(trial)}"
    folder = setting.folder / "trials" / name
    folder.mkdir(parents=True)
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    watch, clock = machine.Watch(), machine.Clock()
    fields: dict[str, Any] = {}
    log = 0 if stand.server is None else stand.server.log_size()
    try:
        fields = await _measure(trial, setting, stand, layout, folder)
        await stand.remove_trials()
    except Exception as error:  # a trial that can't be measured must not cost the run its other trials
        fields = {**fields, "error": f"{type(error).__name__}: {one_line(error)}"}
        with suppress(Exception):  # a server that is gone shows in the next trial's error
            await stand.renew()
    if stand.server is not None and trial.driver == "http":
        (folder / "mlflow.log").write_text(stand.server.log_since(log), encoding="utf-8")
    shares = watch.shares()
    record = TrialRecord(
        number=trial.number,
        round=trial.round,
        candidate=trial.candidate,
        store=stand.facts.kind,
        driver=trial.driver,
        workload=trial.workload,
        concurrency=trial.concurrency,
        load=trial.load,
        control=trial.control,
        started=started,
        steal_share=shares.steal,
        others_share=shares.others,
        clock_step_ms=clock.step_ms(),
        **fields,
    )
    draft = folder / ".trial.json.tmp"
    draft.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    draft.replace(folder / "trial.json")  # whole or not at all, whatever kills us
    return record


def _suffix(trial: Trial) -> str:
    """What tells trials of one cell at different loads, and its control, apart in a folder's name."""
    load = "" if trial.pace is None else f"-{trial.load.replace(' ', '').replace('%', 'pct').replace('/', 'p')}"
    return load + ("-again" if trial.control else "")


async def _measure(trial: Trial, setting: Setting, stand: Stand, layout: Layout, folder: Path) -> dict[str, Any]:
    await stand.remove_trials()  # what an earlier trial that broke down has left
    await stand.settle()
    experiment_id = await stand.create_experiment(f"trackbench-{setting.run_id}-{trial.number}", layout.key.prefix)
    rows = [run_row(layout.key, *place, experiment_id, stand.artifact_root) for place in layout.setup_runs()]
    run_ids = [await stand.create_run(row) for row in rows]
    job = _job(trial, setting, stand, layout, (experiment_id, folder, tuple(run_ids)))
    try:
        load, seen = await _load(job, setting, stand)
    except LoadFailed as error:  # the ledger still says what it had sent
        _compact(folder, error.epochs)
        return {"error": str(error), **await _check(stand, job, doubtful=True)}
    _compact(folder, load.epochs)
    taken = samples.load(folder / "samples.parquet")
    found = figures(taken, load.window, layout.workload, load.retried, job.arrivals, as_given=trial.count is not None)
    return {
        **found,
        "runs_unfinished": unfinished(taken, layout.workload, trial.concurrency, trial.count),
        **seen,
        **await _check(stand, job, doubtful=load.generator.lost_parts > 0),
        "generator": load.generator,
    }


def _compact(folder: Path, epochs: dict[int, int]) -> None:
    raws = {samples_path(folder, part): epoch for part, epoch in epochs.items()}
    samples.compact(raws, folder / "samples.parquet")


def _job(trial: Trial, setting: Setting, stand: Stand, layout: Layout, made: tuple[int, Path, tuple[str, ...]]) -> Job:
    experiment_id, folder, run_ids = made
    return Job(
        driver=trial.driver,
        url=stand.url if trial.driver == "direct" else None,
        site=stand.site if trial.driver == "http" else None,
        session_options=stand.spec.session,
        key=layout.key,
        workload=layout.workload,
        run_ids=run_ids,
        writers=layout.writers,
        part=0,
        first=0,
        block=layout.writers,
        active=trial.concurrency,
        experiment_id=experiment_id,
        artifact_root=stand.artifact_root,
        folder=str(folder),
        warmup_s=trial.warmup_s,
        duration_s=duration_s(trial, layout.workload),
        count=trial.count,
        min_writes=trial.min_writes,
        timeout_s=setting.scenario.timeout_s,
        retry=setting.scenario.retry,
        reads=stand.reads,
        arrivals=arrivals(trial, setting.seed),
    )


async def _load(job: Job, setting: Setting, stand: Stand) -> tuple[_Load, dict[str, Any]]:
    """The load, and what stood beside it: the database's counters, the tracking server's errors, availability."""
    before = await stand.counters()
    met = stand.server.errors() if stand.server is not None else None
    peaks: dict[str, float] = {}
    over = asyncio.Event()
    watch = asyncio.create_task(_watch_gauges(stand, peaks, over))
    try:
        async with _probes(job) as probes:
            load = await _drive(job, setting.loader)
    finally:
        over.set()  # not a cancellation: that would close the connection in the middle of a query
        await watch
    after: Counters = await stand.counters()
    referee: dict[str, float | None] = {**after.since(before), **peaks}
    if stand.facts.connections and "connections" in peaks:
        referee["connections_share"] = peaks["connections"] / stand.facts.connections
    seen: dict[str, Any] = {"referee": referee}
    if job.driver == "http":
        begin, end = load.began_ns + load.window.begin_ns, load.began_ns + load.window.end_ns
        begin -= round(EVERY_S * 1e9)  # a trial may be shorter than the time between two probes
        seen["availability"] = probes.result(begin, end) if probes is not None else None
        if stand.server is not None and met is not None:
            seen["server_errors"] = dict(stand.server.errors() - met)
    return load, seen


@asynccontextmanager
async def _probes(job: Job) -> AsyncIterator[Prober | None]:
    if job.driver == "direct" or job.site is None:
        yield None
        return
    async with Prober(job.site, job.experiment_id) as prober:
        yield prober


async def _drive(job: Job, start: loader.Loader) -> _Load:
    """See a load through to its end.

    Raises:
        LoadFailed: it could not connect, or ended without its last frame.
    """
    epochs: dict[int, int] = {}
    began_ns = 0
    end: dict[str, Any] | None = None
    async with start(job) as load:
        async for frame in load.frames():
            if frame["event"] == "failed":
                message = f"writers could not connect ({frame['error']}): {frame['message']}"
                raise LoadFailed(message, epochs)
            if frame["event"] == "ready":
                began_ns = began_ns or time.perf_counter_ns()
                epochs[int(str(frame.get("part", 0)))] = int(str(frame["epoch_ns"]))
            if frame["event"] == "end":
                end = cast(dict[str, Any], frame)
    if end is None:
        message = "the load process ended before its trial did; see load.log in the trial's folder"
        raise LoadFailed(message, epochs)
    if end["faults"]:
        raise LoadFailed(f"a writer broke down: {end['faults'][0]}", epochs)
    saturated = end["cpu_share"] > GENERATOR_LIMIT
    generator = Generator(
        cpu_share=end["cpu_share"],
        loop_lag_p99_ms=end["loop_lag_p99_ms"],
        saturated=saturated,
        lost_parts=end.get("lost_parts", 0),
        reason=f"it used {end['cpu_share']:.0%} of a core, above {GENERATOR_LIMIT:.0%}" if saturated else None,
    )
    return _Load(Window(end["begin_ns"], end["end_ns"]), epochs, began_ns, generator, end["retried"])


async def _watch_gauges(stand: Stand, peaks: dict[str, float], over: asyncio.Event) -> None:
    while not over.is_set():
        for name, value in (await stand.gauges()).items():
            peaks[name] = max(peaks.get(name, 0.0), value)
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), _GAUGE_EVERY_S)


async def _check(stand: Stand, job: Job, doubtful: bool) -> dict[str, Integrity]:
    """Read everything back through the stand's own door, and after an HTTP trial over REST as well.

    ``doubtful``: who made the load did not end in order, and may still be writing.
    """
    first = _expected(job)
    in_doubt = doubtful or any(bool(np.isin(status, _DOUBTFUL).any()) for status in first.statuses)
    try:
        await stand.finish_writing(first, in_doubt)
    except Exception as error:
        return {"integrity": _broke_down(error, stand.door)}
    found = {"integrity": await _settled(lambda: stand.read_back(_expected(job)), stand.door, in_doubt)}
    if job.site is not None and stand.door != "rest" and job.workload.kind != "traces":
        async with Rest(job.site.url, job.site.headers) as rest:

            def again() -> Awaitable[Tally]:
                return read_back(RestRows(rest, [job.experiment_id], run_name(job.key.prefix)), _expected(job))

            found["integrity_rest"] = await _settled(again, "rest", in_doubt)
    return found


def _expected(job: Job) -> Expected:
    """What the ledgers say now: a load process that was given up may still be writing to them."""
    statuses = [ledger.load(Path(job.folder), writer) for writer in range(job.writers)]
    return Expected(job.layout, statuses, job.experiment_id, by_name=job.driver == "http")


async def _settled(check: Callable[[], Awaitable[Tally]], door: Door, in_doubt: bool) -> Integrity:
    """What a check found; while writes are in doubt, only what it finds twice is held to be broken.

    A server that is not ours may carry out a request that its client has long given up.
    """
    found = await _judged(check(), door)
    for _ in range(_AGAIN if in_doubt else 0):
        if not found.broken:
            break
        await asyncio.sleep(_AGAIN_S)
        before, found = found, await _judged(check(), door)
        if found == before:
            break
    return found


async def _judged(check: Awaitable[Tally], door: Door) -> Integrity:
    """What a check found; one that breaks down leaves integrity unchecked, never good."""
    try:
        return integrity_of(await check, door)
    except Exception as error:
        return _broke_down(error, door)


def _broke_down(error: Exception, door: Door) -> Integrity:
    return Integrity(
        checked=False, door=door, reason=f"the read-back broke down: {type(error).__name__}: {one_line(error)}"
    )


def integrity_of(tally: Tally, door: Door) -> Integrity:
    """A tally as results.json has it."""
    return Integrity(
        checked=True,
        door=door,
        **{name: getattr(tally, name) for name in INTEGRITY_COUNTS},
        invariants=dict(tally.invariants),
        examples=tally.examples,
    )


async def check_prefill(stand: Stand) -> Integrity | None:
    """Read the prefill back at the end of the run: trials must not have touched it."""
    if stand.filled is None:
        return None
    return await _judged(stand.read_back(stand.filled), stand.door)
