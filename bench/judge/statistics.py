"""Numbers one can decide on. The replicate is the round: intervals come from rounds, never from pooled requests."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from bench.identity import F64
from bench.results import Percentiles

# Fewest samples for which the order-statistic 95 % interval of a quantile is finite (docs/methodology.md).
MIN_SAMPLES = {"p50": 6, "p90": 36, "p95": 72, "p99": 368, "p999": 3688}
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
GATE_CONFIDENCE = 0.90
SHOWN_CONFIDENCE = 0.95


def percentiles(milliseconds: F64) -> Percentiles:
    """The percentiles of one trial; None where the samples are too few. Nearest rank, so each was observed."""
    n = len(milliseconds)
    if n == 0:
        return Percentiles()
    ranks = {name: min(n - 1, int(np.ceil(q * n)) - 1) for name, q in QUANTILES.items() if n >= MIN_SAMPLES[name]}
    ordered = np.partition(milliseconds, sorted({*ranks.values(), n - 1}))
    values = {name: float(ordered[rank]) for name, rank in ranks.items()}
    return Percentiles(**values, max=float(ordered[-1]), n=n)


def geometric_mean(values: Sequence[float | None]) -> float | None:
    """The geometric mean, or None if a value is missing or there is none; 0 if one is 0."""
    present = [value for value in values if value is not None]
    if not present or len(present) < len(values):
        return None
    return float(np.exp(np.mean(np.log(present)))) if min(present) > 0 else 0.0


def log_interval(values: Sequence[float | None], confidence: float) -> tuple[float, float] | None:
    """Student's t interval of the geometric mean over rounds; None with fewer than two positive values."""
    present = [value for value in values if value is not None]
    if len(present) < 2 or len(present) < len(values) or min(present) <= 0:
        return None
    logs = np.log(present)
    half = float(stats.t.ppf((1 + confidence) / 2, len(logs) - 1) * np.std(logs, ddof=1) / np.sqrt(len(logs)))
    mean = float(np.mean(logs))
    return float(np.exp(mean - half)), float(np.exp(mean + half))


def paired_ratios(values: Sequence[float | None], reference: Sequence[float | None]) -> list[float | None]:
    """value / reference of each round; None where either is missing or not positive."""
    return [
        value / other if value is not None and other is not None and value > 0 and other > 0 else None
        for value, other in zip(values, reference, strict=False)
    ]


def rounds_needed(values: Sequence[float | None], target: float, confidence: float) -> int | None:
    """About how many rounds in all would clear ``target`` at the spread seen so far; None if it can't be said."""
    present = [value for value in values if value is not None and value > 0]
    if len(present) < 2 or target <= 0:
        return None
    logs = np.log(present)
    distance = abs(float(np.mean(logs)) - float(np.log(target)))
    spread = float(np.std(logs, ddof=1))
    for rounds in range(len(present) + 1, 1001):
        if stats.t.ppf((1 + confidence) / 2, rounds - 1) * spread / np.sqrt(rounds) < distance:
            return rounds + rounds % 2
    return None
