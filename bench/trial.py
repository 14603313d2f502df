"""One trial: set up, load, read back, remove. It leaves samples, ledgers and trial.json in its folder."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from bench import ledger, samples
from bench.engine_client import engine
from bench.identity import TrialKey
from bench.integrity import TABLES, Expected, Tally, read_back, reconcile
from bench.integrity.run_audit import run_row
from bench.job import Job
from bench.judge.trials import Window, figures
from bench.outcome import Outcome
from bench.plan import Trial
from bench.results import INTEGRITY_COUNTS, Generator, Integrity
from bench.scenario import Scenario
from bench.stand import Stand, one_line
from bench.stores.base import Counters
from bench.trial_record import TrialRecord
from bench.workload import Layout

GENERATOR_LIMIT = 0.7  # share of a core above which the generator may be what limits
_GAUGE_EVERY_S = 0.25
_LAST_COMMIT_S = 10.0
_DOUBTFUL = (Outcome.RESERVED, Outcome.INFO)


@dataclass(frozen=True)
class Setting:
    """What a trial needs to know of its run."""

    run_id: str
    seed: int
    scenario: Scenario
    folder: Path


class EngineFailed(Exception):
    """The engine could not do its job; ``epoch_ns`` is when its load began, 0 if it did not."""

    def __init__(self, message: str, epoch_ns: int) -> None:
        super().__init__(message)
        self.epoch_ns = epoch_ns


@dataclass(frozen=True)
class _Load:
    """What the engine said of a trial's load."""

    window: Window
    epoch_ns: int
    generator: Generator
    retried: dict[str, int]


async def run_trial(trial: Trial, setting: Setting, stand: Stand) -> TrialRecord:
    """Carry out one trial and write its record; a trial that fails has ``error`` set, it does not raise."""
    work = setting.scenario.workloads[trial.workload].workload(trial.workload)
    layout = Layout(TrialKey.of(setting.run_id, setting.seed, trial.number), work, trial.concurrency)
    name = f"{trial.number:04d}-{trial.candidate}-direct-{trial.workload}-c{trial.concurrency}"
    folder = setting.folder / "trials" / name
    folder.mkdir(parents=True)
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    fields: dict[str, Any] = {}
    try:
        fields = await _measure(trial, setting, stand, layout, folder)
        await stand.remove_trials()
    except Exception as error:  # a trial that can't be measured must not cost the run its other trials
        fields = {**fields, "error": f"{type(error).__name__}: {one_line(error)}"}
        with suppress(Exception):  # a server that is gone shows in the next trial's error
            await stand.renew()
    record = TrialRecord(
        number=trial.number,
        round=trial.round,
        candidate=trial.candidate,
        store=stand.store.name,
        driver="direct",
        workload=trial.workload,
        concurrency=trial.concurrency,
        started=started,
        **fields,
    )
    (folder / "trial.json").write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return record


async def _measure(trial: Trial, setting: Setting, stand: Stand, layout: Layout, folder: Path) -> dict[str, Any]:
    await stand.remove_trials()  # what an earlier trial that broke down has left
    if not stand.theirs:
        await stand.store.settle(stand.session)
    experiment_id = await stand.create_experiment(f"trackbench-{setting.run_id}-{trial.number}", layout.key.prefix)
    for place in layout.setup_runs():
        await stand.tracking.create_run(run_row(layout.key, *place, experiment_id, stand.artifact_root))
    try:
        load, referee = await _load(trial, setting, stand, (layout, experiment_id, folder))
    except EngineFailed as error:  # the ledger still says what it had sent
        samples.compact(folder / "samples.raw", folder / "samples.parquet", error.epoch_ns)
        return {"error": str(error), "integrity": await _check(stand, layout, folder, experiment_id)}
    samples.compact(folder / "samples.raw", folder / "samples.parquet", load.epoch_ns)
    taken = samples.load(folder / "samples.parquet")
    integrity = await _check(stand, layout, folder, experiment_id)
    return {
        **figures(taken, load.window, layout.workload, load.retried),
        "referee": referee,
        "integrity": integrity,
        "generator": load.generator,
    }


async def _load(
    trial: Trial, setting: Setting, stand: Stand, place: tuple[Layout, int, Path]
) -> tuple[_Load, dict[str, float | None]]:
    layout, experiment_id, folder = place
    job = Job(
        url=stand.store.url,
        session_options=stand.spec.session,
        key=layout.key,
        workload=layout.workload,
        writers=trial.concurrency,
        experiment_id=experiment_id,
        artifact_root=stand.artifact_root,
        folder=str(folder),
        warmup_s=trial.warmup_s,
        duration_s=trial.duration_s,
        count=trial.count,
        min_writes=trial.min_writes,
        timeout_s=setting.scenario.timeout_s,
        retry=setting.scenario.retry,
        reads=stand.reads,
    )
    before = await stand.store.counters(stand.session)
    await stand.session.rollback()
    peaks: dict[str, float] = {}
    over = asyncio.Event()
    watch = asyncio.create_task(_watch_gauges(stand, peaks, over))
    try:
        load = await _drive(job)
    finally:
        over.set()  # not a cancellation: that would close the connection in the middle of a query
        await watch
    after: Counters = await stand.store.counters(stand.session)
    await stand.session.rollback()
    referee: dict[str, float | None] = {**after.since(before), **peaks}
    if stand.connections and "connections" in peaks:
        referee["connections_share"] = peaks["connections"] / stand.connections
    return load, referee


async def _drive(job: Job) -> _Load:
    """Run the engine to its end.

    Raises:
        EngineFailed: the engine could not connect, or ended without its last frame.
    """
    epoch = 0
    end: dict[str, Any] | None = None
    async with engine(job) as process:
        async for frame in process.frames():
            if frame["event"] == "failed":
                raise EngineFailed(f"writers could not connect ({frame['error']}): {frame['message']}", epoch)
            if frame["event"] == "ready":
                epoch = int(str(frame["epoch_ns"]))
            if frame["event"] == "end":
                end = cast(dict[str, Any], frame)
    if end is None:
        raise EngineFailed("the engine ended before its trial did; see engine.log in the trial's folder", epoch)
    if end["faults"]:
        raise EngineFailed(f"a writer broke down: {end['faults'][0]}", epoch)
    saturated = end["cpu_share"] > GENERATOR_LIMIT
    generator = Generator(
        cpu_share=end["cpu_share"],
        loop_lag_p99_ms=end["loop_lag_p99_ms"],
        saturated=saturated,
        reason=f"it used {end['cpu_share']:.0%} of a core, above {GENERATOR_LIMIT:.0%}" if saturated else None,
    )
    return _Load(Window(end["begin_ns"], end["end_ns"]), epoch, generator, end["retried"])


async def _watch_gauges(stand: Stand, peaks: dict[str, float], over: asyncio.Event) -> None:
    while not over.is_set():
        for name, value in (await stand.store.gauges(stand.session)).items():
            peaks[name] = max(peaks.get(name, 0.0), value)
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), _GAUGE_EVERY_S)


async def _check(stand: Stand, layout: Layout, folder: Path, experiment_id: int) -> Integrity:
    """Read everything back; a check that breaks down leaves integrity unchecked, never good."""
    try:
        statuses = [ledger.load(folder, writer) for writer in range(layout.writers)]
        if any(np.isin(status, _DOUBTFUL).any() for status in statuses):
            await _until_writers_are_gone(stand)
        if layout.workload.kind == "bulk":
            await stand.tracking.rebuild_latest(layout.key.prefix)
        tally = await read_back(stand.session, Expected(layout, statuses, experiment_id))
        if not stand.theirs:
            now = await stand.store.count(stand.session, TABLES)
            tally.add(reconcile(stand.baseline, now, {**tally.tables, "experiments": 1}))
        await stand.session.rollback()
    except Exception as error:
        return Integrity(checked=False, reason=f"the read-back broke down: {type(error).__name__}: {error}")
    return integrity_of(tally)


async def _until_writers_are_gone(stand: Stand) -> None:
    """A commit whose client is lost may still be under way; the read-back must come after it, within reason."""
    deadline = time.monotonic() + _LAST_COMMIT_S
    while await stand.store.writers_left(stand.session) and time.monotonic() < deadline:  # noqa: ASYNC110 (no event)
        await asyncio.sleep(_GAUGE_EVERY_S)
    await stand.session.rollback()


def integrity_of(tally: Tally) -> Integrity:
    """A tally as results.json has it."""
    return Integrity(
        checked=True,
        **{name: getattr(tally, name) for name in INTEGRITY_COUNTS},
        invariants=dict(tally.invariants),
        examples=tally.examples,
    )


async def check_prefill(stand: Stand) -> Integrity | None:
    """Read the prefill back at the end of the run: trials must not have touched it."""
    if stand.filled is None:
        return None
    try:
        return integrity_of(await read_back(stand.session, stand.filled))
    except Exception as error:
        return Integrity(checked=False, reason=f"the prefill's read-back broke down: {type(error).__name__}: {error}")
