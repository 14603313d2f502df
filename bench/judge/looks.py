"""Looks: the few moments, planned beforehand, at which a run may stop since it knows enough.

To look after every round and stop at the first clear interval calls two equal stores different in 28 % of runs. So the
error of 10 % that a 90 % interval has is spent over at most four looks (Lan and DeMets, Biometrika 70, 1983, with their
function after Pocock: alpha ln(1 + (e - 1) t) is spent when a share t of the rounds is there). Each look takes what
has become due since the look before. By the union bound the errors of all looks add up to no more than the whole,
however the rounds depend on one another, and whichever look a run stops at.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.judge.statistics import GATE_CONFIDENCE

_SHARES = (1.0, 1.6, 2.6, 4.0)
LOOKS = len(_SHARES)


@dataclass(frozen=True)
class Look:
    """A moment to judge: with so many rounds, by intervals at this confidence."""

    rounds: int
    confidence: float

    @property
    def share(self) -> float:
        """The part of the whole error that this look may spend; any other error is spent in the same shares."""
        return (1 - self.confidence) / (1 - GATE_CONFIDENCE)


def planned(rounds: int) -> tuple[Look, ...]:
    """The looks of a run that begins with ``rounds`` and may go on to four times as many.

    All are even, so that drift cancels, and no two are the same. Their errors add up to that of one look at
    `GATE_CONFIDENCE`.
    """
    ends: list[int] = []
    for share in _SHARES:
        ends.append(max(_even(share * rounds), ends[-1] + 2 if ends else 2))
    spent = [0.0, *(_spent(end / ends[-1]) for end in ends)]
    return tuple(Look(end, 1 - (after - before)) for end, (before, after) in zip(ends, pairwise(spent), strict=True))


def single(rounds: int) -> tuple[Look, ...]:
    """One look at the end, which may spend the whole error: a run of a fixed length."""
    return (Look(rounds, GATE_CONFIDENCE),)


def _even(rounds: float) -> int:
    return 2 * math.ceil(round(rounds, 6) / 2)


def _spent(share: float) -> float:
    return (1 - GATE_CONFIDENCE) * math.log1p((math.e - 1) * share)


def reached(looks: Sequence[Look], rounds: int) -> Sequence[Look]:
    """The looks that so many rounds are enough for, in their order."""
    return [look for look in looks if look.rounds <= rounds]
