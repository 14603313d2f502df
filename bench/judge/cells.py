"""From trials to cells: a cell's figure is the geometric mean over its rounds, and its interval comes from them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, cast

from bench.cell import (
    INTEGRITY_COUNTS,
    Availability,
    Cell,
    Generator,
    Integrity,
    Interval,
    Latency,
    MemoryUse,
    Operation,
    Percentiles,
    Probe,
    Schedule,
    TimelinePoint,
)
from bench.judge import statistics as st
from bench.judge.fields import PHASES
from bench.trial_record import TrialRecord

_NAMES = tuple(st.QUANTILES)


def cell_of(trials: Sequence[TrialRecord], reference: bool, facts: Mapping[str, float | None] | None = None) -> Cell:
    """The cell of ``trials`` (one a round, at least one, in the order of their rounds); ``facts``: its candidate's."""
    first = trials[0]
    rounds = per_round(trials)
    measured = [trial for trial in trials if trial.error is None]
    ok, failed, unknown = (sum(getattr(trial, name) for trial in trials) for name in _COUNTS)
    reads = any(trial.read_service.n for trial in trials)
    writes = any(trial.write_service.n for trial in trials)
    return Cell(
        candidate=first.candidate,
        store=first.store,
        driver=cast(Literal["direct", "http"], first.driver),
        workload=first.workload,
        concurrency=first.concurrency,
        load=first.load,
        reference=reference,
        rounds=len(measured),
        rounds_lost=len(trials) - len(measured),
        seconds=sum(trial.seconds for trial in trials),
        ops_ok=ok,
        ops_failed=failed,
        ops_unknown=unknown,
        ops_retried=sum(trial.ops_retried for trial in trials),
        metrics_per_s=st.geometric_mean(rounds["metrics_per_s"]),
        ops_per_s=st.geometric_mean(rounds["ops_per_s"]),
        success_rate=ok / (ok + failed + unknown) if ok + failed + unknown else None,
        first_attempt_rate=_first_attempts(trials),
        latency_ms=_latency(trials, "write" if writes else "read"),
        read_latency_ms=_latency(trials, "read") if reads and writes else None,
        operations=_operations(trials),
        errors=dict(sum((Counter(trial.errors) for trial in trials), Counter())),
        lock_errors=sum(trial.lock_errors for trial in trials),
        deadlocks=sum(trial.deadlocks for trial in trials),
        facts=dict(facts or {}),
        server_errors=_server_errors(trials),
        referee=_referee([trial.referee for trial in measured]),
        availability=_availability([one.availability for one in trials if one.availability is not None]),
        phases_ms={name: mean for name in PHASES if (mean := st.geometric_mean(rounds[f"phases.{name}_ms"]))},
        runs_unfinished=_unfinished(trials),
        integrity=sum_integrity([trial.integrity for trial in trials]),
        integrity_rest=sum_of_some([one.integrity_rest for one in trials]),
        integrity_prefill=sum_of_some([one.integrity_prefill for one in trials]),
        generator=_generator([trial.generator for trial in measured]),
        memory=_memory([trial.memory for trial in measured]),
        schedule=_schedule([trial.schedule for trial in measured if trial.schedule is not None]),
        warmup_s=max((trial.warmup_s for trial in measured if trial.warmup_s is not None), default=None),
        unsteady=sum(not trial.steady for trial in measured),
        within=_within(trials),
        intervals={name: st.log_interval(values, st.SHOWN_CONFIDENCE) for name, values in rounds.items()},
        per_round=rounds,
        timeline=[
            TimelinePoint(round=trial.round, second=n, metrics=point.metrics, lock_errors=point.lock_errors)
            for trial in trials
            for n, point in enumerate(trial.timeline)
        ],
    )


_COUNTS = ("ops_ok", "ops_failed", "ops_unknown")


def per_round(trials: Sequence[TrialRecord]) -> dict[str, list[float | None]]:
    """Each rate and percentile by its name in criteria, one value a round; None where a round has none."""
    rounds: dict[str, list[float | None]] = {
        "metrics_per_s": [trial.metrics_per_s for trial in trials],
        "ops_per_s": [trial.ops_per_s for trial in trials],
    }
    main = "write" if any(trial.write_service.n for trial in trials) else "read"
    for name in _NAMES:
        rounds[f"{name}_ms"] = [getattr(getattr(trial, f"{main}_response"), name) for trial in trials]
        rounds[f"read.{name}_ms"] = [getattr(trial.read_response, name) for trial in trials]
    for name in PHASES:
        rounds[f"phases.{name}_ms"] = [trial.phases_ms.get(name) for trial in trials]
    return rounds


def _first_attempts(trials: Sequence[TrialRecord]) -> float | None:
    operations = sum(trial.ops_ok + trial.ops_failed + trial.ops_unknown for trial in trials)
    return sum(trial.first_attempts_ok for trial in trials) / operations if operations else None


def _server_errors(trials: Sequence[TrialRecord]) -> dict[str, int] | None:
    """The sum over rounds, unknown if that of one of them is."""
    known = [trial.server_errors for trial in trials if trial.server_errors is not None]
    return dict(sum(map(Counter, known), Counter())) if len(known) == len(trials) else None


def _unfinished(trials: Sequence[TrialRecord]) -> int | None:
    counts = [trial.runs_unfinished for trial in trials if trial.runs_unfinished is not None]
    return sum(counts) if counts and len(counts) == len(trials) else None


def sum_of_some(rounds: Sequence[Integrity | None]) -> Integrity | None:
    """The sum over the rounds that have this check; None where none has."""
    present = [one for one in rounds if one is not None]
    return sum_integrity(present) if present else None


def _availability(rounds: Sequence[Availability]) -> Availability | None:
    """Over all rounds; the percentiles are the worst of theirs."""
    n = sum(one.n for one in rounds)
    if not rounds:
        return None
    good = sum((one.share or 0.0) * one.n for one in rounds)
    return Availability(
        share=good / n if n else None,
        n=n,
        health=_probe([one.health for one in rounds]),
        search=_probe([one.search for one in rounds]),
    )


def _probe(rounds: Sequence[Probe]) -> Probe:
    worst = max((one.p95_ms for one in rounds if one.p95_ms is not None), default=None)
    return Probe(ok=sum(one.ok for one in rounds), n=sum(one.n for one in rounds), p95_ms=worst)


def _latency(trials: Sequence[TrialRecord], what: str) -> Latency:
    return Latency(
        service=_mean([getattr(trial, f"{what}_service") for trial in trials]),
        response=_mean([getattr(trial, f"{what}_response") for trial in trials]),
    )


def _mean(rounds: Sequence[Percentiles]) -> Percentiles:
    """Geometric mean of each percentile over the rounds; the maximum of the maxima; the sum of n."""
    values: dict[str, float | None] = {
        name: st.geometric_mean([getattr(one, name) for one in rounds]) for name in _NAMES
    }
    maxima = [one.max for one in rounds if one.max is not None]
    return Percentiles(**values, max=max(maxima, default=None), n=sum(one.n for one in rounds))


def _memory(rounds: Sequence[Mapping[str, MemoryUse]]) -> dict[str, MemoryUse]:
    """The worst of the rounds, by party; the first look is the first round's, the last one the last's."""
    found = {}
    for party in dict.fromkeys(name for one in rounds for name in one):
        uses = [one[party] for one in rounds if party in one]
        growths = [use.mb_per_h for use in uses if use.mb_per_h is not None]
        found[party] = MemoryUse(
            first_mb=uses[0].first_mb,
            last_mb=uses[-1].last_mb,
            peak_mb=max(use.peak_mb for use in uses),
            mb_per_h=max(growths, default=None),
            n=sum(use.n for use in uses),
        )
    return found


def _schedule(rounds: Sequence[Schedule]) -> Schedule | None:
    """Counts are summed, the rate is the geometric mean, and lags are told as latencies are."""
    if not rounds:
        return None
    late = [one.late for one in rounds if one.late is not None]
    return Schedule(
        arrivals=rounds[0].arrivals,
        rate=st.geometric_mean([one.rate for one in rounds]) or 0.0,
        share=rounds[0].share,
        due=sum(one.due for one in rounds),
        late=sum(late) if late else None,
        skipped=sum(one.skipped for one in rounds),
        limit_ms=rounds[0].limit_ms,
        lag_ms=_mean([one.lag_ms for one in rounds]),
        own_lag_ms=_mean([one.own_lag_ms for one in rounds]),
    )


def _within(trials: Sequence[TrialRecord]) -> dict[str, list[Interval | None]]:
    """Each round's own intervals by name; None where a round has none."""
    names = dict.fromkeys(name for trial in trials for name in trial.within)
    return {name: [trial.within.get(name) for trial in trials] for name in names}


def _operations(trials: Sequence[TrialRecord]) -> dict[str, Operation]:
    names = sorted({name for trial in trials for name in trial.operations})
    result = {}
    for name in names:
        parts = [trial.operations[name] for trial in trials if name in trial.operations]
        result[name] = Operation(
            ok=sum(part.ok for part in parts),
            failed=sum(part.failed for part in parts),
            unknown=sum(part.unknown for part in parts),
            reads=parts[0].reads,
            latency_ms=Latency(
                service=_mean([part.latency_ms.service for part in parts]),
                response=_mean([part.latency_ms.response for part in parts]),
            ),
        )
    return result


_PEAKS = ("connections", "lock_waiters", "connections_share")


def _referee(rounds: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Growing counters are summed over the rounds, gauges are the highest of the rounds."""
    names = sorted({name for one in rounds for name in one})
    result: dict[str, float | None] = {}
    for name in names:
        values = [value for one in rounds if (value := one.get(name)) is not None]
        combine = max if name in _PEAKS else sum
        result[name] = float(combine(values)) if len(values) == len(rounds) and values else None
    return result


def sum_integrity(rounds: Sequence[Integrity]) -> Integrity:
    """The sum over rounds; unchecked if any round is, unless one of them is already known to be broken."""
    unchecked = next((one for one in rounds if not one.checked), None)
    counts = {name: sum(getattr(one, name) for one in rounds) for name in INTEGRITY_COUNTS}
    invariants: Counter[str] = Counter()
    for one in rounds:
        invariants.update(one.invariants)
    return Integrity(
        checked=unchecked is None or any(one.broken for one in rounds),
        door=rounds[0].door,
        reason=None if unchecked is None else unchecked.reason,
        invariants=dict(invariants),
        examples=[text for one in rounds for text in one.examples][:10],
        **counts,
    )


def _generator(rounds: Sequence[Generator]) -> Generator:
    shares = [one.cpu_share for one in rounds if one.cpu_share is not None]
    lags = [one.loop_lag_p99_ms for one in rounds if one.loop_lag_p99_ms is not None]
    return Generator(
        cpu_share=max(shares, default=None),
        loop_lag_p99_ms=max(lags, default=None),
        saturated=any(one.saturated for one in rounds),
        lost_parts=sum(one.lost_parts for one in rounds),
        reason=next((one.reason for one in rounds if one.reason), None),
    )
