"""Where a load's warm-up ends: found from its data, not assumed.

The marginal standard error rule (MSER: White, "An effective truncation heuristic for bias reduction in simulation
output", Simulation 69, 1997) cuts where the rest gives its mean the smallest standard error. Alone it also cuts pure
noise, wherever a few batches happen to lie close together. So a cut must be worth it twice over: what is cut off must
differ from the rest by more than noise allows, and by enough to matter.
"""

import numpy as np

from bench.identity import F64, I64

BATCHES = 40
_FEWEST = 5  # operations in a batch, as MSER-5 has it
_SLOTS = 8192
_LIMIT = 4.0  # standard errors: the cut is chosen after the data was seen, and batches of a load have heavy tails
_WORTH = 0.05  # of the values, which are logs: a fifth of a load at 5 % moves its mean by 1 %, less than rounds differ
_CLOSEST = 0.9  # neighbours may be correlated so far; beyond it the estimate means nothing


def steady_from(values: F64) -> int | None:
    """The index of the first steady batch; None where no steady part begins in the first half.

    ``values``: means of the logs of service times, one a batch of equal count, in order of time. With fewer than
    `BATCHES` of them nothing can be told from noise, and all are held to be steady.

    Of steady noise (normal, heavy tails, neighbours correlated by a half) at most 5 % is cut at all.
    """
    count = len(values)
    if count < BATCHES:
        return 0
    first = _cut(values, count // 2)
    rest = values[first:]
    return None if _cut(rest, count * 3 // 4 - first) else first


def _cut(values: F64, last: int) -> int:
    """How many of the first values to cut off, at most ``last``: by MSER, but only where noise does not explain it."""
    centred = values - values.mean()
    left = np.arange(len(values), 0, -1)
    sums, squares = (np.cumsum(part[::-1])[::-1] for part in (centred, centred**2))
    score = (squares - sums**2 / left) / left**2
    same = score.max() * 1e-9  # rounding
    while last > 0:
        place = int(np.argmax(score[: last + 1] <= score[: last + 1].min() + same))
        if place == 0 or _unlike(values[:place], values[place:]):
            return place
        last = place - 1
    return 0


def _unlike(head: F64, rest: F64) -> bool:
    """Whether the head lies further from the rest than noise explains.

    It is the head's median that must: a stall in the middle of a load moves the mean of all that came before its end,
    but is no warm-up. Stalls and checkpoints make neighbours alike, so the error grows with their correlation.
    """
    around = rest - rest.mean()
    variance = float(np.mean(around**2)) * len(rest) / (len(rest) - 1)
    alike = float(np.mean(around[1:] * around[:-1])) / variance if variance else 0.0
    alike = min(max(alike, 0.0), _CLOSEST)
    of_head = (np.pi / 2 if len(head) > 2 else 1.0) / len(head)  # a median errs more than a mean; of two it is one
    error = np.sqrt(variance * (of_head + 1 / len(rest)) * (1 + alike) / (1 - alike))
    return bool(abs(np.median(head) - rest.mean()) > max(_LIMIT * error, _WORTH))


def batches(start_ns: I64, took_ns: I64) -> tuple[F64, I64] | None:
    """(mean of the log of ``took_ns``, when it begins) of each of `BATCHES` batches, in order of ``start_ns``.

    The batches are of equal count, as nearly as `_SLOTS` slots of time allow: to sort all operations would take several
    times as long as all the rest of a trial's figures. None of too few operations, or of some that come all at once.
    """
    count = len(start_ns)
    if count < BATCHES * _FEWEST:
        return None
    first = int(start_ns.min())
    shift = max(0, (int(start_ns.max()) - first).bit_length() - _SLOTS.bit_length() + 1)
    slot = (start_ns - first) >> shift
    held = np.bincount(slot)
    taken = np.flatnonzero(held)
    held = held[taken]
    logs = np.bincount(slot, np.log(np.maximum(took_ns, 1)))[taken]
    batch = (np.cumsum(held) - held) * BATCHES // count
    sizes = np.bincount(batch, held, BATCHES)
    if not sizes.all():
        return None
    begins = taken[np.searchsorted(batch, np.arange(BATCHES))]
    return np.bincount(batch, logs, BATCHES) / sizes, first + (begins << shift)
