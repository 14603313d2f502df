"""Percentiles of one trial's times, from whole nanoseconds: only the few that are asked for become milliseconds."""

import math

import numpy as np

from bench.cell import Interval, Percentiles
from bench.identity import I64, Flags
from bench.judge import statistics as st

MS = 1e6  # ns
_BITS = 15  # of a float's 23 bits of mantissa, that bins don't tell apart


def picked(values: I64, which: Flags) -> I64:
    """The values for which ``which`` is true: all of them uncopied, some by place (twice as fast as by flags)."""
    places = np.flatnonzero(which)
    return values if len(places) == len(values) else values.take(places)


def percentiles(ns: I64) -> Percentiles:
    """As `bench.judge.statistics.percentiles`, of times in ns."""
    return _told(ns, _ranks(len(ns)), set())[0]


def percentiles_within(ns: I64) -> tuple[Percentiles, dict[str, Interval | None]]:
    """The percentiles, and of each (``p50_ms`` …) the 95 % interval that these samples alone give; None of too few."""
    ends = _interval_ranks(len(ns))
    found, at = _told(ns, _ranks(len(ns)), {rank for pair in ends.values() if pair for rank in pair})
    return found, {f"{name}_ms": (at[pair[0]], at[pair[1]]) if pair else None for name, pair in ends.items()}


def _told(ns: I64, ranks: dict[str, int], others: set[int]) -> tuple[Percentiles, dict[int, float]]:
    """The percentiles, and in ms what stands at each rank."""
    n = len(ns)
    if n == 0:
        return Percentiles(), {}
    wanted = sorted({*ranks.values(), *others, n - 1})
    at = dict(zip(wanted, (at_ranks(ns, np.array(wanted)) / MS).tolist(), strict=True))
    return Percentiles(**{name: at[rank] for name, rank in ranks.items()}, max=at[n - 1], n=n), at


def at_ranks(ns: I64, ranks: I64) -> I64:
    """What stands at some ranks (from 0) of the times once they are sorted; ``ranks`` in order, at least one.

    It is a third of the work of `numpy.partition`: times are counted in bins by size (a float's exponent and the first
    bits of its mantissa, so that each octave has 256 bins), and only bins in which a rank lies are put in order.
    """
    size = (ns - ns.min()).astype(np.float32).view(np.int32) >> _BITS
    held = np.bincount(size)
    upto = np.cumsum(held)
    own = np.searchsorted(upto, ranks, side="right")  # the bin of each rank
    wanted = np.zeros(len(held), dtype=np.bool_)
    wanted[own] = True
    passed = np.cumsum(np.where(wanted, 0, held))  # how many stand before a bin and are in none of those wanted
    places = ranks - passed[own]
    found: I64 = np.partition(picked(ns, wanted.take(size)), places)[places]
    return found


def _ranks(n: int) -> dict[str, int]:
    """Where each percentile stands in order; nearest rank, so each was observed."""
    return {name: min(n, math.ceil(q * n)) - 1 for name, q in st.QUANTILES.items() if n >= st.MIN_SAMPLES[name]}


def _interval_ranks(n: int) -> dict[str, tuple[int, int] | None]:
    places = np.arange(n, dtype=np.float64)  # the interval of the places themselves: which of them it ends at
    found: dict[str, tuple[int, int] | None] = {}
    for name, q in st.QUANTILES.items():
        pair = st.quantile_interval(places, q, st.SHOWN_CONFIDENCE)
        found[name] = None if pair is None else (int(pair[0]), int(pair[1]))
    return found
