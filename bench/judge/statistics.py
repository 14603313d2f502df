"""Numbers one can decide on. The replicate is the round: intervals come from rounds, never from pooled requests.

Rates and latencies are judged on the scale of their logarithm, on which noise is symmetric and a ratio is a difference.
Intervals within a round (`quantile_interval`, `rate_interval`) show how well one trial is known, and decide nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from bench.cell import Interval, Percentiles
from bench.identity import F64

# Fewest samples for which the order-statistic 95 % interval of a quantile is finite (docs/methodology.md).
MIN_SAMPLES = {"p50": 6, "p90": 36, "p95": 72, "p99": 368, "p999": 3688}
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
GATE_CONFIDENCE = 0.90
SHOWN_CONFIDENCE = 0.95
FEWEST_UNPAIRED = 3  # rounds of each run, for an interval of their ratio


def percentiles(milliseconds: F64) -> Percentiles:
    """The percentiles of one trial; None where the samples are too few. Nearest rank, so each was observed."""
    n = len(milliseconds)
    if n == 0:
        return Percentiles()
    ranks = {name: min(n - 1, int(np.ceil(q * n)) - 1) for name, q in QUANTILES.items() if n >= MIN_SAMPLES[name]}
    ordered = np.partition(milliseconds, sorted({*ranks.values(), n - 1}))
    values = {name: float(ordered[rank]) for name, rank in ranks.items()}
    return Percentiles(**values, max=float(ordered[-1]), n=n)


def quantile_interval(ordered: F64, q: float, confidence: float) -> Interval | None:
    """The order-statistic interval of quantile ``q`` of one trial; ``ordered``: its samples, sorted.

    The number of samples below the true quantile is binomial, whatever they are distributed like (David and Nagaraja,
    Order Statistics, 2003, section 7.1). Both ends were observed; the interval covers at least at ``confidence``,
    if samples are independent. None where too few samples leave an end open.
    """
    n, tail = len(ordered), (1 - confidence) / 2
    if n == 0 or q**n > tail or (1 - q) ** n > tail:
        return None
    low, high = (_rank(share, n, q) for share in (tail, 1 - tail))
    return (float(ordered[low - 1]), float(ordered[high])) if low >= 1 and high < n else None


def _rank(share: float, n: int, q: float) -> int:
    """The smallest k at which a binomial distribution function reaches ``share`` (SciPy's, without its overhead)."""
    k = max(0, math.ceil(float(special.bdtrik(share, n, q))))
    while k > 0 and special.bdtr(k - 1, n, q) >= share:
        k -= 1
    while special.bdtr(k, n, q) < share:
        k += 1
    return k


def rate_interval(count: int, seconds: float, confidence: float) -> Interval:
    """The exact interval of a rate a second, from ``count`` events in ``seconds`` (Garwood, Biometrika 28, 1936).

    Events must be independent (Poisson). Writers that wait for their answers send more evenly: there it is too wide.
    """
    tail = (1 - confidence) / 2
    low = float(special.gammaincinv(count, tail)) if count else 0.0
    return low / seconds, float(special.gammaincinv(count + 1, 1 - tail)) / seconds


def geometric_mean(values: Sequence[float | None]) -> float | None:
    """The geometric mean, or None if a value is missing or there is none; 0 if one is 0."""
    present = [value for value in values if value is not None]
    if not present or len(present) < len(values):
        return None
    return math.exp(float(np.log(np.asarray(present)).sum()) / len(present)) if min(present) > 0 else 0.0


def log_interval(values: Sequence[float | None], confidence: float) -> Interval | None:
    """Student's t interval of the geometric mean over rounds; None with fewer than two positive values."""
    logs = _logs(values)
    if logs is None:
        return None
    mean, variance = _moments(logs)
    half = float(special.stdtrit(len(logs) - 1, (1 + confidence) / 2)) * math.sqrt(variance / len(logs))
    return _exp(mean - half), _exp(mean + half)


def _exp(number: float) -> float:
    """e to that power, as far as a float goes: two rounds that are nothing alike have ends out of all bounds."""
    return math.exp(min(max(number, -700.0), 700.0))


def spread(values: Sequence[float | None]) -> float | None:
    """The noise between rounds: the standard deviation of the logarithm (0.05 is about 5 %); None as `log_interval`."""
    logs = _logs(values)
    return None if logs is None else math.sqrt(_moments(logs)[1])


def _moments(values: F64) -> tuple[float, float]:
    """(mean, unbiased variance) of at least two values; NumPy's own take many times as long for so few."""
    mean = float(values.sum()) / len(values)
    centred = values - mean
    return mean, float(centred @ centred) / (len(values) - 1)


def _logs(values: Sequence[float | None]) -> F64 | None:
    present = [value for value in values if value is not None]
    if len(present) < 2 or len(present) < len(values) or min(present) <= 0:
        return None
    return np.log(np.asarray(present, np.float64))


def paired_ratios(values: Sequence[float | None], reference: Sequence[float | None]) -> list[float | None]:
    """value / reference of each round; None where either is missing or not positive."""
    return [
        value / other if value is not None and other is not None and value > 0 and other > 0 else None
        for value, other in zip(values, reference, strict=False)
    ]


def paired_p(ratios: Sequence[float | None]) -> float | None:
    """The two-sided p value of the paired t test on log ratios, against a ratio of 1; None as `log_interval`."""
    logs = _logs(ratios)
    if logs is None:
        return None
    mean, variance = _moments(logs)
    return _two_sided(mean, math.sqrt(variance / len(logs)), len(logs) - 1)


def _two_sided(mean: float, error: float, freedom: float) -> float:
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * special.stdtr(freedom, -abs(mean) / error))


@dataclass(frozen=True)
class Unpaired:
    """The ratio of two geometric means that share no rounds, its interval, and p against a ratio of 1.

    ``error`` is the standard error of its logarithm, with so many degrees of ``freedom``.
    """

    ratio: float
    low: float
    high: float
    p: float
    error: float
    freedom: float

    def p_beyond(self, bound: float) -> float:
        """p against all log ratios from ``-bound`` to ``bound`` (0 or more); 1 where the one seen is among them."""
        over = abs(math.log(self.ratio)) - bound
        return _two_sided(over, self.error, self.freedom) if over > 0 else 1.0


def unpaired(ours: Sequence[float | None], theirs: Sequence[float | None], confidence: float) -> Unpaired | None:
    """Ours divided by theirs, where the two are of different runs; None where either has too few positive rounds.

    Welch's t interval on logs, with Satterthwaite's degrees of freedom (Welch, Biometrika 34, 1947). Rounds of one run
    share the machine's slow changes, so each run counts as `effective` rounds, and its variance is corrected for the
    part that such changes hide (Zwiers and von Storch, Journal of Climate 8, 1995). Of independent rounds the interval
    is therefore a little too wide. What differs between the runs as a whole is in no run's rounds: see
    `bench.judge.regression`.
    """
    mine, others = _logs(ours), _logs(theirs)
    if mine is None or others is None or min(len(mine), len(others)) < FEWEST_UNPAIRED:
        return None
    (mean, variance, freedom), (mean_2, variance_2, freedom_2) = _of_mean(mine), _of_mean(others)
    difference, error = mean - mean_2, math.sqrt(variance + variance_2)
    if error > 0:
        freedom = (variance + variance_2) ** 2 / (variance**2 / freedom + variance_2**2 / freedom_2)
    half = float(special.stdtrit(freedom, (1 + confidence) / 2)) * error
    low, high = _exp(difference - half), _exp(difference + half)
    p = _two_sided(difference, error, freedom)
    return Unpaired(math.exp(difference), low, high, p, error, freedom)


def variance_of_mean(values: Sequence[float | None]) -> float | None:
    """The variance of the mean log of a run's rounds, as `unpaired` takes it; None as `log_interval`."""
    logs = _logs(values)
    return None if logs is None else _of_mean(logs)[1]


_LEAST_FREEDOM = 3  # a t of fewer degrees has tails so long that one unlucky series in ten would hide any difference


def _of_mean(logs: F64) -> tuple[float, float, float]:
    """(mean, its variance, degrees of freedom)."""
    n, count = len(logs), effective(logs)
    mean, variance = _moments(logs)
    return mean, variance * (n - 1) / n / (count - 1), max(count - 1, min(_LEAST_FREEDOM, n - 1))


def effective(values: F64) -> float:
    """As how many independent values a series counts: n (1 - r) / (1 + r), at least 2 (Bayley and Hammersley, 1946).

    r, the correlation of neighbours, is corrected for being seen too small in a short series (Marriott and Pope,
    Biometrika 41, 1954), and counts only if it is positive: a run that seems to even itself out gains nothing. Fewer
    than five values can't show it, and count as two.
    """
    n = len(values)
    centred = values - float(values.sum()) / n
    total = float(centred @ centred)
    if n < 5 or total == 0:
        return 2.0 if total > 0 else float(n)
    seen = float(centred[1:] @ centred[:-1]) / total
    r = min(max(0.0, (n * seen + 1) / (n - 4)), 0.99)
    return max(2.0, n * (1 - r) / (1 + r))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p values corrected for being told together (Holm, Scandinavian Journal of Statistics 6, 1979).

    Of all that are at most 0.05 afterwards, even one is wrong in at most 5 % of runs, however they depend on one
    another. None is a test that could not be made, and counts as none.
    """
    order = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    found: list[float | None] = [None] * len(ps)
    highest = 0.0
    for rank, (p, place) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        found[place] = highest
    return found


def detectable(noise: float, rounds: int, confidence: float = GATE_CONFIDENCE, power: float = 0.8) -> float:
    """The smallest relative difference that ``rounds`` pairs would tell from none, in a share ``power`` of runs.

    ``noise`` is the standard deviation of the log ratio of one pair (`spread`). 0.05 is a difference of 5 %. The power
    is that of the paired t test (noncentral t). Infinite for fewer than two rounds.
    """
    if rounds < 2:
        return math.inf
    freedom = rounds - 1
    limit = float(special.stdtrit(freedom, (1 + confidence) / 2))

    def missing(shift: float) -> float:
        return power - 1 + float(special.nctdtr(freedom, shift, limit))

    shift = float(optimize.brentq(missing, 0.0, 10 + 4 * limit))
    return _exp(shift * noise / math.sqrt(rounds)) - 1


def rounds_needed(values: Sequence[float | None], target: float, confidence: float, other: float = 0.0) -> int | None:
    """About how many rounds in all would clear ``target`` at the spread seen so far; None if it can't be said.

    ``other`` is a variance that more rounds don't lessen: that of the log of what ``target`` was measured as.
    """
    present = [value for value in values if value is not None and value > 0]
    if len(present) < 2 or target <= 0:
        return None
    mean, variance = _moments(np.log(np.asarray(present)))
    distance = abs(mean - math.log(target))
    rounds = np.arange(2, _MOST_ROUNDS + 1)
    half = _students(confidence) * np.sqrt(variance / rounds + other)
    enough = rounds[(half < distance) & (rounds > len(present))]
    return int(enough[0] + enough[0] % 2) if len(enough) else None


_MOST_ROUNDS = 1000


@lru_cache(maxsize=32)
def _students(confidence: float) -> F64:
    """Student's t of the interval over 2, 3, … rounds."""
    return np.asarray(special.stdtrit(np.arange(1.0, _MOST_ROUNDS), (1 + confidence) / 2))
