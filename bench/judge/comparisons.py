"""Claims that one cell is better, worse or the same as another: with its reference, or with itself (the A/A control).

Both cells were measured in the same rounds, so a figure's ratio is taken within each round, and what the machine did to
both cancels. Many claims are made together, so their p values are corrected together (Holm): in at most 5 % of runs is
even one of two equal cells called better or worse.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.cell import CLOSED, Cell, Interval
from bench.judge import statistics as st
from bench.judge.criteria import percent
from bench.judge.fields import per_round, unit_of, why_unproven
from bench.judge.looks import Look, reached, single
from bench.results import Change, Comparison, Control

ALPHA = 1 - st.SHOWN_CONFIDENCE
MARGIN = 0.05  # how far from 1 a ratio may lie and still count as the same
FEWEST = 4  # rounds for any claim: each cell twice in either order
Looks = Callable[[Cell], Sequence[Look]]


def against_reference(cells: Sequence[Cell], looks: Looks = lambda _: ()) -> list[Comparison]:
    """Each cell with the reference's of the same driver, workload, concurrency and load, figure by figure.

    ``looks``: those of a cell that got rounds until it was decided. Where a run stops then depends on what was seen, so
    the last look that was reached is judged, and may spend only its part of the error.
    """
    references = {_place(cell): cell for cell in cells if cell.reference}
    pairs = [(cell, references[_place(cell)]) for cell in cells if not cell.reference and _place(cell) in references]
    return _paired(pairs, looks)


def control_of(first: Cell, second: Cell, looks: Looks = lambda _: ()) -> Control:
    """The second against the first measurement of one cell; better or worse is the harness seeing what is not there."""
    return Control(
        candidate=first.candidate,
        driver=first.driver,
        workload=first.workload,
        concurrency=first.concurrency,
        load=first.load,
        comparisons=_paired([(second, first)], looks),
    )


def compared_fields(ours: Cell, theirs: Cell) -> list[str]:
    """The figures in which two cells are compared: the rate of a closed loop, and the tails that either has."""
    rate = "ops_per_s" if ours.metrics_per_s is None or theirs.metrics_per_s is None else "metrics_per_s"
    found = [rate] if ours.load == CLOSED and (_has(rate, ours) or _has(rate, theirs)) else []
    return found + [name for name in ("p99_ms", "read.p95_ms") if _has(name, ours) or _has(name, theirs)]


def doubt(field: str, ours: Cell, theirs: Cell) -> str | None:
    """Why the side that looks better proves nothing: its figure is of too few of its operations, say."""
    mine, others = (st.geometric_mean(per_round(field, one)) for one in (ours, theirs))
    if not mine or not others:
        return None
    return why_unproven(field, ours if direction(field, mine / others) == "better" else theirs)


def _has(field: str, cell: Cell) -> bool:
    return any(value is not None for value in per_round(field, cell))


def _place(cell: Cell) -> tuple[str, str, int, str]:
    return cell.driver, cell.workload, cell.concurrency, cell.load


@dataclass(frozen=True)
class _Pair:
    """One figure of two cells in the rounds that are judged, which may spend ``share`` of the error."""

    cell: Cell
    field: str
    ours: list[float | None]
    theirs: list[float | None]
    share: float
    doubt: str | None

    @property
    def ratios(self) -> list[float | None]:
        return st.paired_ratios(self.ours, self.theirs)

    @property
    def p(self) -> float | None:
        p = st.paired_p(self.ratios)
        return None if p is None or self.doubt or len(self.ours) < FEWEST else min(1.0, p / self.share)


def _paired(pairs: Sequence[tuple[Cell, Cell]], looks: Looks) -> list[Comparison]:
    found = [
        _pair(ours, theirs, field, looks(ours)) for ours, theirs in pairs for field in compared_fields(ours, theirs)
    ]
    return [_told(one, p) for one, p in zip(found, st.holm([one.p for one in found]), strict=True)]


def _pair(ours: Cell, theirs: Cell, field: str, looks: Sequence[Look]) -> _Pair:
    mine, others = per_round(field, ours), per_round(field, theirs)
    rounds = min(len(mine), len(others))
    look = (reached(looks, rounds) or looks[:1] or single(rounds))[-1]
    kept = min(look.rounds, rounds)
    return _Pair(ours, field, list(mine[:kept]), list(others[:kept]), look.share, doubt(field, ours, theirs))


def _told(pair: _Pair, p: float | None) -> Comparison:
    ratios = pair.ratios
    confidence = 1 - ALPHA * pair.share
    ratio, interval = st.geometric_mean(ratios), st.log_interval(ratios, confidence)
    outcome: Change = "unknown"
    reason = _untold(pair)
    if ratio is not None and interval is not None and p is not None:
        narrow = st.log_interval(ratios, 1 - (1 - st.GATE_CONFIDENCE) * pair.share)
        outcome = _outcome(pair.field, ratio, narrow, p)
        reason = _reason(pair, ratio, interval, outcome, p)
    return comparison(
        pair.cell, pair.field, pair.ours, pair.theirs,
        ratio=ratio, interval=interval, confidence=confidence, p=p, outcome=outcome, reason=reason,
    )  # fmt: skip


def comparison(
    cell: Cell, field: str, ours: Sequence[float | None], theirs: Sequence[float | None], **told: Any
) -> Comparison:
    """What is said of one figure of a cell, with the figure on both sides; ``told`` are the other fields."""
    return Comparison(
        candidate=cell.candidate,
        driver=cell.driver,
        workload=cell.workload,
        concurrency=cell.concurrency,
        load=cell.load,
        field=field,
        unit=unit_of(field),
        ours=st.geometric_mean(ours),
        theirs=st.geometric_mean(theirs),
        rounds=(len(ours), len(theirs)),
        **told,
    )


def _outcome(field: str, ratio: float, narrow: Interval | None, p: float) -> Change:
    if p <= ALPHA:
        return direction(field, ratio)
    return "same" if narrow is not None and within(narrow, MARGIN) else "unknown"


def direction(field: str, ratio: float) -> Change:
    """What a ratio other than 1 is: rates are better up, latencies down."""
    return "better" if (ratio > 1) == field.endswith("_per_s") else "worse"


def within(interval: Interval, margin: float) -> bool:
    """Whether a ratio's whole interval is so near to 1: two one-sided tests (Schuirmann, 1987), if it is a 90 % one."""
    return -math.log1p(margin) <= math.log(interval[0]) and math.log(interval[1]) <= math.log1p(margin)


def _untold(pair: _Pair) -> str:
    if pair.doubt is not None:
        return pair.doubt
    count = len(pair.ours)
    if count < FEWEST:
        return f"{count} {'round is' if count == 1 else 'rounds are'} too few; {FEWEST} is the least"
    return "a round without a value leaves no interval"


def _reason(pair: _Pair, ratio: float, interval: Interval, outcome: Change, p: float) -> str:
    rounds, noise = len(pair.ours), st.spread(pair.ratios) or 0.0
    span = (
        f"{interval_text(interval, 1 - ALPHA * pair.share)} over {rounds} rounds, noise between rounds {percent(noise)}"
    )
    if outcome in ("better", "worse"):
        return f"{by_how_much(ratio)}: {span}"
    if outcome == "same":
        return f"within {percent(MARGIN)}: {span}"
    if not interval[0] <= 1 <= interval[1]:
        return f"{span}; among so many comparisons that may be chance (p {p:.2g})"
    seen = st.detectable(noise, rounds, 1 - ALPHA * pair.share)
    return f"{span}; so many rounds would show a difference of {percent(seen)}"


def by_how_much(ratio: float) -> str:
    """A ratio in words: 12 % lower, 3.1 times as high."""
    if ratio >= 2:
        return f"{ratio:.3g} times as high"
    return f"{percent(abs(ratio - 1))} {'higher' if ratio > 1 else 'lower'}"


def interval_text(interval: Interval, confidence: float) -> str:
    """An interval of a ratio in words."""
    return f"{confidence * 100:.3g} % interval {interval[0]:.3g} to {interval[1]:.3g}"
