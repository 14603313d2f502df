"""How criteria stand while a load runs: what its histograms say so far, and no verdict.

Integrity, the database's own counters and the tracking server's are known when everything was read back.
"""

from dataclasses import dataclass
from typing import Any

from bench.histogram import Histogram
from bench.judge.criteria import parse
from bench.judge.fields import unit_of
from bench.judge.statistics import MIN_SAMPLES, QUANTILES
from bench.scenario import CriterionSpec
from bench.workload import READS
from loadtests._live import KINDS, Totals


@dataclass(frozen=True)
class Standing:
    """One criterion: ``state`` is holds, broken or open so far, pass, fail or inconclusive in the end."""

    name: str
    expression: str
    gating: bool
    measured: float | None
    unit: str
    state: str
    note: str

    def told(self) -> dict[str, Any]:
        """For the web page."""
        return vars(self)


def so_far(criteria: list[CriterionSpec], totals: Totals, seconds: float) -> list[Standing]:
    """Each criterion by what is known after so many measured seconds."""
    return [_one(spec, totals, seconds) for spec in criteria]


def _one(spec: CriterionSpec, totals: Totals, seconds: float) -> Standing:
    expression = parse(spec.expression)
    value = value_of(expression.field, totals, seconds)
    if value is None:
        state, note = "open", "not enough so far" if _is_live(expression.field) else "known after the test"
    else:
        holds = expression.holds(value, expression.factor)
        state, note = ("holds" if holds else "broken"), "so far"
    return Standing(spec.name, spec.expression, spec.gating, value, unit_of(expression.field), state, note)


def at_the_end(criteria: list[dict[str, Any]]) -> list[Standing]:
    """What was decided; ``criteria`` are `bench.results.Criterion` as JSON has them."""
    return [
        Standing(
            one["name"], one["expression"], one["gating"], one["measured"], one["unit"], one["outcome"], one["reason"]
        )
        for one in criteria
    ]


def value_of(field: str, totals: Totals, seconds: float) -> float | None:
    """A criterion's field, as far as it is known while the load runs."""
    whole = totals.all
    if whole.n == 0 or not _is_live(field):
        return None
    names = list(totals.operations)
    reads, writes = [n for n in names if n in READS], [n for n in names if n not in READS]
    if field.endswith("_per_s"):
        return (whole.metrics if field == "metrics_per_s" else whole.ok) / seconds
    if field in _COUNTS:
        return float(_COUNTS[field](totals))
    if field == "max_ms":
        return totals.of(writes or reads).max_ns / 1e6
    if field.startswith("errors."):
        return float(totals.errors[field.removeprefix("errors.")])
    of = reads if field.startswith("read.") else writes or reads
    return _percentile(field.removeprefix("read.").removesuffix("_ms"), totals.of(of).latency)


_COUNTS: dict[str, Any] = {
    "lock_errors": lambda totals: sum(totals.lock_errors.values()),
    "deadlocks": lambda totals: sum(n for label, n in totals.errors.items() if KINDS[label].is_deadlock),
    "errors": lambda totals: totals.errors.total(),
    "ops_failed": lambda totals: totals.all.failed,
    "ops_unknown": lambda totals: totals.all.unknown,
    "success_rate": lambda totals: totals.all.ok / totals.all.n,
}


def _is_live(field: str) -> bool:
    name = field.removeprefix("read.").removesuffix("_ms")
    known = field in _COUNTS or field in ("metrics_per_s", "ops_per_s", "max_ms") or name in QUANTILES
    return known or field.startswith("errors.")


def _percentile(name: str, latency: Histogram) -> float | None:
    return latency.percentile_ms(QUANTILES[name]) if latency.n >= MIN_SAMPLES[name] else None
