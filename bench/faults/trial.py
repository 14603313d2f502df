"""The part of a trial in which something is broken: the load with its fault, the recovery, and what was left."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from bench import samples
from bench.cell import Integrity
from bench.checking import check
from bench.driving import Driven, LoadFailed, compact, drive
from bench.fault_cell import STRUCTURE, Event, FaultSeen
from bench.faults.actions import make, says
from bench.faults.injection import Injection, Told
from bench.faults.power import lose_power
from bench.faults.spec import FaultSpec
from bench.integrity.witness import Witness
from bench.job import Job
from bench.judge import faults as judge
from bench.judge.trials import figures
from bench.outcome import ErrorKind
from bench.servers import places
from bench.stand import Stand, one_line
from bench.stand_sql import SqlStand
from bench.stores import schema

_LOOK_AGAIN_S = 0.1


def blank(name: str, spec: FaultSpec) -> FaultSeen:
    """What is known of a fault before it was tried."""
    return FaultSeen(name=name, kind=spec.kind, target=spec.target, says=says(spec), modelled=spec.kind == "power")


async def measure(name: str, spec: FaultSpec, stand: Stand, job: Job) -> dict[str, Any]:
    """Put a load on a stand, break something, see it recover, and read everything back.

    Returns the fields of a `bench.trial_record.TrialRecord`; with ``error`` if the store did not come back.
    """
    folder = Path(job.folder)
    injection = Injection(spec, make(spec, stand))
    error, load = None, None
    async with _witness(stand, job) as witness:
        try:
            load = await drive(job, injection.loader)
            compact(folder, load.epochs)
        except LoadFailed as failed:
            compact(folder, failed.epochs)
            error = str(failed)
    seen = _seen(blank(name, spec), injection.told, load)
    fields: dict[str, Any] = {"error": error or injection.told.problem}
    if load is not None:
        taken = samples.load(folder / "samples.parquet")
        fields |= figures(taken, load.window, job.workload, load.retried, job.arrivals, as_given=True)
        if spec.kind == "disk_full" and job.url is not None and job.url.path is not None:
            seen = seen.model_copy(update={"begin_s": _first_refusal(taken, seen.begin_s)})
        seen = seen.model_copy(
            update=judge.seen(taken, job.workload, seen.begin_s, seen.end_s, load.window.end_ns / 1e9)
        )
        fields["generator"] = load.generator
    fields["fault"] = seen
    try:
        await recovered(stand, spec.limit_s)
    except Exception as gone:
        reason = f"the store did not come back within {spec.limit_s:g} s: {one_line(gone)}"
        return {**fields, "error": fields["error"] or reason, "integrity": Integrity(checked=False, reason=reason)}
    found = await check(stand, job, doubtful=True)
    if isinstance(stand, SqlStand):
        found["integrity"], examined = await _examined(stand, found["integrity"], witness)
        looks = 0 if witness is None else witness.looks
        fields["fault"] = seen.model_copy(update={"examined": examined, "looks": looks})
    return {**fields, **found}


def _first_refusal(taken: samples.Samples, begin_s: float | None) -> float | None:
    """When a file that may grow no more was felt, which may be before we say that it is full."""
    refused = taken.end_ns[taken.error == ErrorKind.DISK_FULL]
    return begin_s if begin_s is None or not len(refused) else min(begin_s, int(refused.min()) / 1e9)


async def recovered(stand: Stand, within_s: float) -> None:
    """Wait until the stand answers again, over a new connection; raises what it last said if it does not."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            async with asyncio.timeout(max(0.1, deadline - time.monotonic())):
                await stand.renew()
                await stand.gauges()
                return
        except Exception:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(_LOOK_AGAIN_S)  # no event tells it


@asynccontextmanager
async def _witness(stand: Stand, job: Job) -> AsyncIterator[Witness | None]:
    """Somebody who looks for stale reads beside the load, where the store can be asked by SQL."""
    if not isinstance(stand, SqlStand):
        yield None
        return
    witness = Witness(job, lambda: stand.store.connect(stand.spec.session))
    task = asyncio.create_task(witness.watch())
    try:
        yield witness
    finally:
        witness.over.set()
        await task


def _seen(seen: FaultSeen, told: Told, load: Driven | None) -> FaultSeen:
    """What was done, on the clock of the load."""

    def at(moment: int | None) -> float | None:
        return None if moment is None or not told.epoch_ns else (moment - told.epoch_ns) / 1e9

    events = [Event(at_s=at(moment) or 0.0, what=what) for moment, what in told.events]
    if load is not None and load.refused:
        kinds = ", ".join(f"{label} {n}" for label, n in sorted(load.refused.items()))
        end = load.window.end_ns / 1e9
        events.append(
            Event(at_s=end, what=f"connecting anew had been refused {sum(load.refused.values())} times ({kinds})")
        )
    return seen.model_copy(
        update={
            "begin_s": at(told.begin_ns),
            "end_s": at(told.end_ns),
            "events": events,
            "reconnects": 0 if load is None else load.reconnects,
            "met": told.met,
        }
    )


async def _examined(stand: SqlStand, found: Integrity, witness: Witness | None) -> tuple[Integrity, str]:
    """The store's own check of its structure, and what the witness had missed, added to what the read-back found.

    Damage that it finds counts also where the rows could not be read; a check that breaks down leaves integrity
    unchecked.
    """
    try:
        stale = 0 if witness is None else await witness.stale(stand.session)
        if stand.theirs:  # what is wrong in it may be so for years, and a check reads all of it
            return found.model_copy(update={"stale": stale}), "not made: the database is yours"
        look = await stand.store.examine(stand.session)
    except Exception as error:
        with suppress(Exception):
            await stand.renew()
        said = f"the store's own check broke down: {type(error).__name__}: {one_line(error)}"
        if found.broken:
            return found, said  # what is known to be damaged stays so
        return found.model_copy(update={"checked": False, "reason": said}), said
    if look.problems is None:
        return found.model_copy(update={"stale": stale}), look.what
    changes: dict[str, Any] = {
        "stale": stale,
        "invariants": {**found.invariants, STRUCTURE: len(look.problems)},
        "examples": [*found.examples, *(f"{look.what}: {one}" for one in look.problems[:3])],
    }
    if look.problems:
        changes["checked"] = True
    said = f"{look.what}: {'nothing wrong' if not look.problems else f'{len(look.problems)} problems'}"
    return found.model_copy(update=changes), said


async def without_power(name: str, spec: FaultSpec, stand: SqlStand, seed: int) -> dict[str, Any]:
    """A power cut after each write of some commits, in a model of a disk under SQLite's own code."""
    assert stand.store.url.path is not None
    began = time.perf_counter()
    template = schema.template_path(places.cache_dir())
    stopped = threading.Event()
    try:
        found = await asyncio.to_thread(lose_power, spec.lose, template, stand.spec.session, seed, stopped=stopped)
    finally:
        stopped.set()  # a thread can't be cancelled
    took = time.perf_counter() - began
    seen = blank(name, spec).model_copy(
        update={"begin_s": 0.0, "end_s": took, "examined": found.examined, "events": [Event(at_s=0.0, what=found.said)]}
    )
    return {"fault": seen, "integrity": found.integrity, "seconds": took}
