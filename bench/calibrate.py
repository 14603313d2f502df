"""What this machine and this harness can tell apart: the noise floor of twins, and the harness checked where it runs.

Twins are two cells that differ in nothing: the same load on the same store, measured one after the other in each
round (A/A). Whatever they differ by is noise, and what a run of so many rounds would see through it follows from that.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from bench import environment, loader, machine, self_checks, servers
from bench.errors import ExitCode
from bench.identity import TrialKey
from bench.judge.marks import CLOCK_MS, OTHERS, STEAL
from bench.judge.statistics import (
    GATE_CONFIDENCE,
    MIN_SAMPLES,
    detectable,
    geometric_mean,
    holm,
    paired_p,
    paired_ratios,
    spread,
)
from bench.plan import Trial
from bench.results import Machine
from bench.scenario import Scenario
from bench.scratch import scratch_folder
from bench.self_checks import Recording, Timer, Wakeups
from bench.servers import places
from bench.stand import Access, Stand
from bench.stands import cache_folder, stand
from bench.trial import Setting, run_trial
from bench.trial_record import TrialRecord

ROUNDS = 10  # of which the last line speaks
LEVELS = (6, 10, 20, 40)
POWER = 0.8
WANTED = 0.05  # the difference for which rounds are named
CHANCE = 0.001  # a sound harness calls its twins different in at most this share of self-tests
MOST_ROUNDS = 1000
_FEWEST_PAIRS = 4  # with fewer, twins are not compared: a t test of two or three pairs says nothing
_WARMUP_S = 0.1
_WAKE_S = 0.5
_ENOUGH = MIN_SAMPLES["p99"] + 32  # of one writer, for a p99; twenty writers have it at once or never
_UNITS = {"metrics_per_s": "metrics/s", "p99_ms": "p99"}
_FIGURES: Mapping[str, Callable[[TrialRecord], float | None]] = {
    "metrics_per_s": lambda record: record.metrics_per_s,
    "p99_ms": lambda record: record.write_service.p99,
}
Say = Callable[[str], None]


class Place(NamedTuple):
    """Where twins are measured."""

    store: str
    writers: int


@dataclass(frozen=True)
class Twins:
    """One figure of one place, over ``pairs`` rounds in which both twins have it.

    ``noise`` is the standard deviation of the log ratio of one pair, ``ratio`` the geometric mean of second by first,
    ``p`` the probability of such a ratio by chance (paired t, Holm over all twins), ``detects`` the smallest relative
    difference by number of rounds. None where there are too few pairs.
    """

    store: str
    writers: int
    field: str
    pairs: int
    value: float | None
    ratio: float | None
    noise: float | None
    p: float | None
    detects: dict[int, float] | None


@dataclass(frozen=True)
class Calibration:
    """All that `trackbench calibrate` found. ``faults`` say what is wrong with the harness, ``broken`` with data."""

    environment: dict[str, str]
    load_average: tuple[float, float, float]
    rounds: int
    duration_s: float
    seconds: float
    machine: Machine
    timer: Timer
    wakeups: tuple[Wakeups, ...]
    recording: Recording
    histogram_error: float
    twins: tuple[Twins, ...]
    faults: tuple[str, ...]
    broken: tuple[str, ...]

    @property
    def exit_code(self) -> ExitCode:
        """4 where data was not intact, 3 where the harness is wrong or could not be judged, else 0."""
        return ExitCode.INTEGRITY if self.broken else ExitCode.INCONCLUSIVE if self.faults else ExitCode.PASS

    @property
    def sentence(self) -> str:
        """What the default number of rounds sees here, in words; of several places the noisiest counts."""
        return sentence(self.twins)

    @property
    def caveats(self) -> list[str]:
        """What kept this from being the machine's own noise, in words."""
        seen, found = self.machine, []
        if (seen.others_share or 0.0) > OTHERS:
            found.append(f"other programs used {percent(seen.others_share or 0.0)} of the CPU")
        if (seen.steal_share or 0.0) > STEAL:
            found.append(f"a hypervisor took up to {percent(seen.steal_share or 0.0)} of the CPU time")
        if seen.clock_step_ms > CLOCK_MS:
            found.append(f"the clock stepped by {seen.clock_step_ms:,.0f} ms")
        return found

    def told(self) -> dict[str, object]:
        """As JSON has it."""
        words = {"caveats": self.caveats, "sentence": self.sentence, "exit_code": int(self.exit_code)}
        return {**asdict(self), "machine": self.machine.model_dump(), **words}


async def calibrate(
    rounds: int, duration_s: float, say: Say, step: Say, start: loader.Loader = loader.start
) -> Calibration:
    """Measure all of it; ``say`` is told each part that begins, ``step`` each trial. Leaves nothing, even if cancelled.

    Raises:
        BadInput: no place for the stores' files, or a server that does not start.
    """
    begun = time.monotonic()
    facts, load = environment.facts(places.temp_root()), os.getloadavg()
    say("the clock, and how late sleepers wake")
    clock = await asyncio.to_thread(self_checks.timer)
    kernel = await asyncio.to_thread(self_checks.kernel_wakeups, _WAKE_S)
    pacer = await asyncio.to_thread(self_checks.pacer_wakeups, _WAKE_S)
    say("the recorder and its histograms")
    recorded = await asyncio.to_thread(_recorded)
    off = await asyncio.to_thread(self_checks.histogram_error)
    with scratch_folder("calibrate") as folder:
        records, seen = await _measure_twins(rounds, duration_s, (say, step), folder, start)
    twins = compare(records)
    return Calibration(
        environment=facts,
        load_average=load,
        rounds=rounds,
        duration_s=duration_s,
        seconds=time.monotonic() - begun,
        machine=seen,
        timer=clock,
        wakeups=tuple(one for one in (kernel, pacer) if one is not None),
        recording=recorded,
        histogram_error=off,
        twins=twins,
        faults=(*self_checks.faults(recorded, off), *unmeasured(records), *differences(twins)),
        broken=broken(records),
    )


def _recorded() -> Recording:
    """In one thread with its folder, so that a cancellation can't take the folder away while files are made in it."""
    with scratch_folder("recorder") as folder:
        return self_checks.recording(folder)


async def _measure_twins(
    rounds: int, duration_s: float, told: tuple[Say, Say], folder: Path, start: loader.Loader
) -> tuple[list[TrialRecord], Machine]:
    say, step = told
    wanted = await asyncio.to_thread(at_hand)
    scenario = _scenario(wanted, duration_s)
    setting = Setting(f"calibrate-{secrets.token_hex(4)}", 1, scenario, folder, start)
    trials = plan(wanted, rounds, duration_s)
    records: list[TrialRecord] = []
    speeds: list[tuple[float, float]] = []
    async with AsyncExitStack() as stack:
        stands: dict[str, Stand] = {}
        for name, spec in scenario.candidates.items():
            ready = await stack.enter_async_context(stand(name, spec, Access(), cache_folder(), say))
            await ready.fill(scenario.prefill, TrialKey.of(f"{setting.run_id}/{name}", 1, 0), name)
            stands[name] = ready
        say(
            f"{len(trials)} trials of {duration_s:g} s: the same load twice a round, {' and '.join(map(_said, wanted))}"
        )
        for trial in trials:
            if trial.round == len(speeds):
                speeds.append(await machine.measure(places.temp_root()))
            step(f"trial {trial.number} of {len(trials)}: {_said(Place(trial.candidate, trial.concurrency))}")
            records.append(await run_trial(trial, setting, stands[trial.candidate]))
    return records, machine.summary(speeds, records)


def at_hand() -> tuple[Place, ...]:
    """Where twins are measured here: one writer on SQLite, twenty on PostgreSQL if its server need not be installed.

    Two places, so that ten rounds take about a minute; without PostgreSQL SQLite has the twenty, and makes them wait.
    """
    offers = servers.offers(["postgresql"])
    first = next((offer for offer in offers if offer.ready or offer.remedy), None)  # what is not ready gets installed
    return Place("sqlite", 1), Place("postgresql" if first is not None and first.ready else "sqlite", 20)


def _said(place: Place) -> str:
    return f"{place.store} at {place.writers}"


def _scenario(wanted: Sequence[Place], duration_s: float) -> Scenario:
    return Scenario.model_validate(
        {
            "title": "twins",
            "duration_s": duration_s,
            "candidates": {place.store: {"store": place.store} for place in wanted},
            "workloads": {"log_metric": {"kind": "log_metric"}},
            "cells": [{"workload": "log_metric", "concurrency": [place.writers for place in wanted]}],
        }
    )


def plan(wanted: Sequence[Place], rounds: int, duration_s: float) -> list[Trial]:
    """Both twins of each place side by side in each round, every other round in the reverse order (ABBA).

    The second twin is the one that is called ``control``.
    """
    trials: list[Trial] = []
    for number in range(rounds):
        cells = [(place, control) for place in wanted for control in (False, True)]
        for place, control in cells[:: 1 if number % 2 == 0 else -1]:
            trials.append(
                Trial(
                    number=len(trials) + 1,
                    round=number,
                    candidate=place.store,
                    driver="direct",
                    workload="log_metric",
                    concurrency=place.writers,
                    warmup_s=_WARMUP_S,
                    duration_s=duration_s,
                    count=None,
                    min_writes=_ENOUGH if place.writers == 1 else 0,
                    identities=place.writers,
                    control=control,
                )
            )
    return trials


def compare(records: Sequence[TrialRecord]) -> tuple[Twins, ...]:
    """Each figure of each place, from the records of its twins."""
    wanted = dict.fromkeys(Place(record.candidate, record.concurrency) for record in records)
    found = [_twins(place, field, records) for place in wanted for field in _FIGURES]
    corrected = holm([one.p for one in found])
    return tuple(replace(one, p=p) for one, p in zip(found, corrected, strict=True))


def _twins(place: Place, field: str, records: Sequence[TrialRecord]) -> Twins:
    """One figure of one place; ``p`` not yet corrected."""
    first: dict[int, float | None] = {}
    second: dict[int, float | None] = {}
    for record in records:
        if (record.candidate, record.concurrency) == place:
            (second if record.control else first)[record.round] = _FIGURES[field](record)
    rounds = sorted(first.keys() & second.keys())
    ratios = paired_ratios([second[number] for number in rounds], [first[number] for number in rounds])
    known = [ratio for ratio in ratios if ratio is not None]
    noise = spread(known)
    return Twins(
        store=place.store,
        writers=place.writers,
        field=field,
        pairs=len(known),
        value=geometric_mean([value for value in (*first.values(), *second.values()) if value is not None]),
        ratio=geometric_mean(known),
        noise=noise,
        p=paired_p(known) if len(known) >= _FEWEST_PAIRS else None,
        detects=None if noise is None else detected(noise),
    )


def detected(noise: float, levels: Sequence[int] = LEVELS) -> dict[int, float]:
    """The smallest relative difference that so many rounds would see, by the number of rounds."""
    return {rounds: detectable(noise, rounds, GATE_CONFIDENCE, POWER) for rounds in levels}


def rounds_for(noise: float, wanted: float = WANTED) -> int | None:
    """The fewest rounds (an even number) that would see a difference of ``wanted``; None if a thousand would not."""
    found = range(2, MOST_ROUNDS + 1, 2)
    low, high = 0, len(found)
    while low < high:  # more rounds see less: halve what is left
        middle = (low + high) // 2
        if detectable(noise, found[middle], GATE_CONFIDENCE, POWER) <= wanted:
            high = middle
        else:
            low = middle + 1
    return found[low] if low < len(found) else None


def sentence(twins: Sequence[Twins]) -> str:
    """What ten rounds see here, and how many rounds see 5 %; of several places the noisiest counts."""
    worst = {
        field: max((one.noise for one in twins if one.field == field and one.noise is not None), default=None)
        for field in _FIGURES
    }
    known = {field: noise for field, noise in worst.items() if noise is not None}
    if not known:
        return "Too little was measured to say what a run would see here."
    seen = [f"{percent(detected(noise, (ROUNDS,))[ROUNDS])} in {_UNITS[field]}" for field, noise in known.items()]
    field = next(iter(known))
    rounds = rounds_for(known[field])
    enough = f"{WANTED * 100:g} % in {_UNITS[field]}"
    enough = f"{enough} takes {rounds} rounds" if rounds else f"a thousand do not see {enough}"
    return f"{ROUNDS} rounds see a difference of {' and of '.join(seen)} here; {enough}."


def percent(share: float) -> str:
    """A share as people read it: two digits, and no more than is known."""
    return f"{share:.1%}".replace("%", " %") if share < 0.0995 else f"{share:.0%}".replace("%", " %")


def differences(twins: Sequence[Twins]) -> list[str]:
    """Twins that are called different, beyond what chance does."""
    return [
        f"{_said(Place(one.store, one.writers))}: twins differ in {_UNITS[one.field]} by a factor of {one.ratio:.3f} "
        f"(p = {one.p:.1g}) though they are the same"
        for one in twins
        if one.p is not None and one.p < CHANCE
    ]


def unmeasured(records: Sequence[TrialRecord]) -> list[str]:
    """Trials that could not be measured, or whose data could not be checked."""
    failed = [(record.place, record.error or record.integrity.reason) for record in records]
    return [f"not measured: {place}: {reason}" for place, reason in failed if reason is not None]


def broken(records: Sequence[TrialRecord]) -> tuple[str, ...]:
    """Trials whose data was not intact."""
    return tuple(
        f"data not intact: {record.place}: {'; '.join(record.integrity.examples[:2]) or 'see the counts'}"
        for record in records
        if record.integrity.broken
    )
