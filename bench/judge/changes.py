"""Where a series of runs changed its level: binary segmentation with permutation tests.

The method, on the logs of the values, so that a change is a ratio and noise is relative:

- A split of a segment is rated by the sum of squares between its two sides, which within one segment is the same order
  as the two-sample |t| with a common variance. The maximum over all splits, each side of at least three values, is the
  likelihood-ratio statistic of one shift in the mean (Sen and Srivastava 1975, *On tests for detecting change in
  mean*, Annals of Statistics 3).
- A level that went and came back leaves both sides of any split alike. So where no split is found, the same statistic
  is taken over all stretches within the segment, each against what lies around it (Levin and Kline 1985, *The cusum
  test of homogeneity*, Statistics in Medicine 4; Olshen and others 2004, circular binary segmentation).
- The p-value of a maximum is the share of seeded random orders of the same values whose maximum is as large (Pitman
  1937, *Significance tests which may be applied to samples from any populations*). No normal noise is assumed, only
  that the order tells nothing where nothing changed: a slow drift, or noise that carries over from run to run, may be
  told as a change.
- A segment with a change is cut there, and its parts are tested in turn (Scott and Knott 1974, *A cluster analysis
  method for grouping means*, Biometrics 30). Bonferroni: the two tests of a segment have half of its alpha each, and
  its parts share it. So a series without any change is called changed in a share of at most alpha, as is each further
  depth of cuts, which is only reached below a change that was found.
- A change of less than 3 % is not told, however certain: nobody would act on it, and machines drift that far.

What it can't see: a change and its return within three values, and any change in fewer than eleven values.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.identity import F64

SIDE: Final = 3
"""Fewest values on either side of a change: two would make a change of every outlier."""
LEAST: Final = 11
"""Fewest values in which a change can be told: of ten, even perfect halves come by chance in 0.8 % of orders."""
EFFECT: Final = 0.03
"""The smallest change told, as a share."""
ALPHA: Final = 0.01
_FIRST_ORDERS, _ORDERS, _MOST_ORDERS = 199, 999, 9_999
_SEED = 20_250_101


@dataclass(frozen=True)
class Change:
    """A change of level. ``index`` is that of the first value after it, in the series.

    ``before`` and ``after`` are the geometric means of the segments on either side, ``ratio`` is after / before, ``p``
    the probability of so strong a split by chance.
    """

    index: int
    before: float
    after: float
    ratio: float
    p: float


def changes(values: Sequence[float], alpha: float = ALPHA) -> list[Change]:
    """The changes of level in ``values``, in their order; see this module for the method.

    None where a value has no log (zero, negative, not finite) or there are too few of them.
    """
    if not testable(values):
        return []
    logs = np.log(np.asarray(values, dtype=np.float64))
    return _told(logs, _segmented(logs, alpha))


def testable(values: Sequence[float]) -> bool:
    """Whether a change could be told: enough values, each above zero."""
    return len(values) >= LEAST and all(math.isfinite(value) and value > 0 for value in values)


def segments(count: int, found: Sequence[Change]) -> list[tuple[int, int]]:
    """The stretches (begin, end) between the changes of a series of ``count`` values."""
    edges = [0, *(one.index for one in found), count]
    return list(pairwise(edges))


def _segmented(logs: F64, alpha: float) -> dict[int, float]:
    """Where the series is cut, with the p of each cut."""
    found: dict[int, float] = {}
    waiting = [(0, len(logs), alpha)]
    while waiting:
        begin, end, level = waiting.pop()
        cuts, p = _cut(logs[begin:end], level / 2)
        edges = [begin, *(begin + at for at in cuts), end]
        found |= dict.fromkeys(edges[1:-1], p)
        if cuts:
            waiting += [(*part, level / (len(cuts) + 1)) for part in pairwise(edges)]
    return found


def _cut(logs: F64, level: float) -> tuple[tuple[int, ...], float]:
    """Where a segment is to be cut, nowhere if nothing in it is certain and large enough; and how certain it is."""
    n = len(logs)
    if n < 2 * SIDE:
        return (), 1.0
    orders = _orders(n, min(_MOST_ORDERS, max(_ORDERS, math.ceil(10 / level) - 1)))
    for strongest in (_splits, _stretches):
        p, (begin, end) = _by_chance(logs - logs.mean(), orders, strongest, level)
        if p > level:
            continue
        inside = np.arange(begin, end)
        step = float(logs[inside].mean() - np.delete(logs, inside).mean())
        if abs(step) >= math.log1p(EFFECT):
            return tuple(at for at in (begin, end) if 0 < at < n), p
    return (), 1.0


_Strongest = tuple[F64, tuple[int, int]]
"""The largest sum of squares between the sides, a row an order; and the stretch that has it in the first row."""


def _by_chance(
    centred: F64, orders: NDArray[np.int32], strongest: Callable[[F64], _Strongest], level: float
) -> tuple[float, tuple[int, int]]:
    """The p-value and the place of the strongest split or stretch; 1.0 as soon as p can only be above ``level``."""
    for some in (orders[:_FIRST_ORDERS], orders):
        sums: F64 = np.zeros((1 + len(some), len(centred) + 1))
        np.cumsum(np.vstack([centred, centred[some]]), axis=1, out=sums[:, 1:])
        strengths, place = strongest(sums)
        as_strong = np.count_nonzero(strengths >= strengths[0] * (1 - 1e-9))  # the order observed is one of them
        if as_strong > level * (1 + len(orders)):
            return 1.0, place
    return float(as_strong / (1 + len(orders))), place


def _splits(sums: F64) -> _Strongest:
    """Over all splits. ``sums`` are running sums from 0 on, a row an order, each ending at 0."""
    n = sums.shape[1] - 1
    left = np.arange(SIDE, n - SIDE + 1)
    squares = sums[:, SIDE : n - SIDE + 1] ** 2 * (n / (left * (n - left)))
    return squares.max(axis=1), (0, SIDE + int(np.argmax(squares[0])))


def _stretches(sums: F64) -> _Strongest:
    """Over all stretches with at least three values before, within and after."""
    n = sums.shape[1] - 1
    strongest: F64 = np.zeros(len(sums))
    place = (0, 0)
    for length in range(SIDE, n - 2 * SIDE + 1):
        within = sums[:, SIDE + length : n - SIDE + 1] - sums[:, SIDE : n - SIDE - length + 1]
        squares = within**2 * (n / (length * (n - length)))
        most = squares.max(axis=1)
        if most[0] > strongest[0]:
            begin = SIDE + int(np.argmax(squares[0]))
            place = (begin, begin + length)
        np.maximum(strongest, most, out=strongest)
    return strongest, place


@lru_cache(maxsize=16)
def _orders(n: int, count: int) -> NDArray[np.int32]:
    """``count`` random orders of ``n`` values, the same in every process."""
    rows = np.tile(np.arange(n, dtype=np.int32), (count, 1))
    return np.random.default_rng(_SEED + n).permuted(rows, axis=1)


def _told(logs: F64, found: dict[int, float]) -> list[Change]:
    """The changes between the final segments; the smallest goes first where a neighbour has made it too small."""
    at = sorted(found)
    while at:
        edges = [0, *at, len(logs)]
        means = [float(logs[begin:end].mean()) for begin, end in pairwise(edges)]
        steps = [after - before for before, after in pairwise(means)]
        least = min(range(len(at)), key=lambda n: abs(steps[n]))
        if abs(steps[least]) >= math.log1p(EFFECT):
            return [
                Change(index, math.exp(means[n]), math.exp(means[n + 1]), math.exp(steps[n]), found[index])
                for n, index in enumerate(at)
            ]
        del at[least]
    return []
