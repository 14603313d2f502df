"""Arrival schedules of open loops: when each operation is due, whatever became of those before it.

A schedule is a function of its rate and seed alone, so that every store gets the same arrivals in the same round.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.identity import I64

Kind = Literal["constant", "poisson"]
_BLOCK = 4096


@dataclass(frozen=True)
class Arrivals:
    """``rate`` operations a second over all writers of one load process.

    ``limit_ns`` is the latency limit as pgbench has it (``--latency-limit``): an operation that could not be sent
    before it is skipped; None sends all of them, however late. ``offset`` shifts a constant schedule by that share of
    a gap, so that several load processes do not arrive together. ``share`` is that of the maximum throughput from which
    the rate came, where it came from one; it is only told.
    """

    kind: Kind
    rate: float
    seed: int
    limit_ns: int | None = None
    offset: float = 0.0
    share: float | None = None


def due_times(arrivals: Arrivals) -> Iterator[int]:
    """When each operation is due, in ns since the load began; without end, and never decreasing."""
    return (due for block in _blocks(arrivals) for due in block.tolist())


def _blocks(arrivals: Arrivals) -> Iterator[I64]:
    gap_ns = 1e9 / arrivals.rate
    if arrivals.kind == "constant":
        first = 0
        while True:
            yield np.asarray((np.arange(first, first + _BLOCK) + arrivals.offset) * gap_ns, dtype=np.int64)
            first += _BLOCK
    random = np.random.default_rng(arrivals.seed)
    reached = 0.0
    while True:
        times = reached + np.cumsum(random.exponential(gap_ns, _BLOCK))
        reached = float(times[-1])
        yield np.asarray(times, dtype=np.int64)
