"""The faults of a run: which trials can be made here, and on which stand."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from bench.fault_cell import Untested
from bench.faults.possible import untested
from bench.identity import TrialKey
from bench.plan import Trial
from bench.scenario import Prefill, Scenario
from bench.stand import Access, Echo, Stand
from bench.stand_sql import SqlStand
from bench.stands import cache_folder, stand


def possible(
    trials: Sequence[Trial], scenario: Scenario, stands: Mapping[str, Stand]
) -> tuple[list[Trial], list[Untested]]:
    """The trials that can be made, numbered anew, and the faults that candidates don't get."""
    kept: list[Trial] = []
    found: dict[tuple[str, str], Untested] = {}
    for trial in trials:
        reason = None
        if trial.fault:
            reason = untested(trial.fault, scenario.faults[trial.fault], stands[trial.candidate], trial.driver)
        if reason is None:
            kept.append(replace(trial, number=len(kept) + 1))
        else:
            found[trial.fault, trial.candidate] = reason
    had = {(trial.fault, trial.candidate) for trial in kept}
    return kept, [reason for place, reason in found.items() if place not in had]


def takes_small_disk(trial: Trial, scenario: Scenario, ready: Stand) -> bool:
    """Whether a trial has a server of its own, on a disk that can be filled."""
    full = bool(trial.fault) and scenario.faults[trial.fault].kind == "disk_full"
    return full and isinstance(ready, SqlStand) and ready.database is not None


@asynccontextmanager
async def on_small_disk(trial: Trial, ready: Stand, run_id: str, echo: Echo) -> AsyncIterator[Stand]:
    """A second stand of the same candidate, on a small disk; gone with the trial.

    Raises:
        BadInput: it can't be had.
    """
    access = Access(small_disk=True)
    async with stand(ready.name, ready.spec, access, cache_folder(), echo) as small:
        await small.fill(Prefill(runs=0, metrics=0), TrialKey.of(run_id, 0, trial.number), "")
        yield small
