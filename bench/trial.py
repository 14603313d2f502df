"""One trial: set up, load, read back, remove. It leaves samples, ledgers and trial.json in its folder."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import loader, machine, samples
from bench.checking import check
from bench.driving import LoadFailed, compact, watched
from bench.faults import trial as faulted
from bench.identity import TrialKey
from bench.integrity.run_audit import run_row
from bench.job import Job
from bench.judge.trials import figures, unfinished
from bench.plan import Trial
from bench.rates import arrivals, duration_s
from bench.scenario import Scenario
from bench.stand import Stand, one_line
from bench.stand_sql import SqlStand
from bench.trial_record import TrialRecord
from bench.workload import Layout


@dataclass(frozen=True)
class Setting:
    """What a trial needs to know of its run; ``loader`` is where the load comes from."""

    run_id: str
    seed: int
    scenario: Scenario
    folder: Path
    loader: loader.Loader


async def run_trial(trial: Trial, setting: Setting, stand: Stand) -> TrialRecord:
    """Carry out one trial and write its record; a trial that fails has ``error`` set, it does not raise."""
    work = setting.scenario.workloads[trial.workload].workload(trial.workload)
    layout = Layout(TrialKey.of(setting.run_id, setting.seed, trial.number), work, trial.identities)
    name = f"{trial.number:04d}-{trial.candidate}-{trial.driver}-{trial.workload}-c{trial.concurrency}{_suffix(trial)}"
    folder = setting.folder / "trials" / name
    folder.mkdir(parents=True)
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    watch, clock = machine.Watch(), machine.Clock()
    fault = setting.scenario.faults[trial.fault] if trial.fault else None
    fields: dict[str, Any] = {} if fault is None else {"fault": faulted.blank(trial.fault, fault)}
    log = 0 if stand.server is None else stand.server.log_size()
    try:
        if fault is not None and fault.kind == "power":
            assert isinstance(stand, SqlStand)
            fields |= await faulted.without_power(trial.fault, fault, stand, setting.seed)
        else:
            fields |= await _measure(trial, setting, stand, layout, folder)
            await stand.remove_trials()
    except Exception as error:  # a trial that can't be measured must not cost the run its other trials
        said = f"{type(error).__name__}: {one_line(error)}"
        fields = {**fields, "error": fields.get("error") or said}  # the first is what led to the others
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
    """What tells trials of one cell at different loads or with faults, and its control, apart in a folder's name."""
    load = "" if trial.pace is None else f"-{trial.load.replace(' ', '').replace('%', 'pct').replace('/', 'p')}"
    return load + (f"-{trial.fault}" if trial.fault else "") + ("-again" if trial.control else "")


async def _measure(trial: Trial, setting: Setting, stand: Stand, layout: Layout, folder: Path) -> dict[str, Any]:
    await stand.remove_trials()  # what an earlier trial that broke down has left
    await stand.settle()
    experiment_id = await stand.create_experiment(f"trackbench-{setting.run_id}-{trial.number}", layout.key.prefix)
    rows = [run_row(layout.key, *place, experiment_id, stand.artifact_root) for place in layout.setup_runs()]
    run_ids = [await stand.create_run(row) for row in rows]
    job = _job(trial, setting, stand, layout, (experiment_id, folder, tuple(run_ids)))
    if trial.fault:
        return await faulted.measure(trial.fault, setting.scenario.faults[trial.fault], stand, job)
    try:
        load, seen = await watched(job, setting.loader, stand)
    except LoadFailed as error:  # the ledger still says what it had sent
        compact(folder, error.epochs)
        return {"error": str(error), **await check(stand, job, doubtful=True)}
    compact(folder, load.epochs)
    taken = samples.load(folder / "samples.parquet")
    found = figures(taken, load.window, layout.workload, load.retried, job.arrivals, as_given=trial.count is not None)
    return {
        **found,
        "runs_unfinished": unfinished(taken, layout.workload, trial.concurrency, trial.count),
        **seen,
        **await check(stand, job, doubtful=load.generator.lost_parts > 0),
        "generator": load.generator,
    }


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
