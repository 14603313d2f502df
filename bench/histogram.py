"""Latency histograms that merge exactly: buckets of constant relative width, so that adding counts adds histograms.

A bucket's value is its geometric middle, at most 0.4 % from any latency that falls into it. Between 1 µs and two
minutes there are about 2,300 buckets; what is shorter counts as 1 µs.
"""

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

ERROR = 0.004  # the largest relative error of a bucket's value
_SHORTEST_NS = 1_000
_WIDTH = 2 * math.log1p(ERROR)  # from its lower end the middle is then ERROR away, from its upper end less


def buckets(latency_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bucket of each latency."""
    return np.floor(np.log(np.maximum(latency_ns, _SHORTEST_NS) / _SHORTEST_NS) / _WIDTH).astype(np.int64)


def value_ms(bucket: int) -> float:
    """The latency that stands for a bucket, in ms."""
    low = _SHORTEST_NS * math.exp(bucket * _WIDTH)
    return low * math.exp(_WIDTH / 2) / 1e6


class Histogram:
    """Counts by bucket."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    @property
    def n(self) -> int:
        """How many latencies were counted."""
        return self.counts.total()

    def add(self, counts: Mapping[str, int] | Mapping[int, int]) -> None:
        """Add the counts of another histogram; JSON makes its keys text."""
        for bucket, n in counts.items():
            self.counts[int(bucket)] += n

    def percentile_ms(self, share: float) -> float | None:
        """The nearest-rank percentile (``share`` from 0 to 1) in ms; None of nothing."""
        rank = max(1, math.ceil(share * self.n))
        for bucket in sorted(self.counts):
            rank -= self.counts[bucket]
            if rank <= 0:
                return value_ms(bucket)
        return None
