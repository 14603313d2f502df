"""One run against an earlier one: better, worse, same or unknown, a figure of a cell at a time.

Two runs share no rounds, so what the machine did to one of them does not cancel. What keeps two runs of the same
revision from being called different:

- Rounds of one run resemble one another and count for fewer than they are (`bench.judge.statistics.unpaired`).
- How far the machine itself moved between the runs is known from its own control measurements. No difference counts
  that this and the margin together explain.
- In a closed loop with a reference beside it, a cell's ratio to the reference, paired within the rounds of each run,
  must have changed by more than the margin too. A machine that got slower for both does not change it; in exchange
  the machine's shift is taken as it was seen, not as far as it may have been.
- All claims of a report are corrected together (Holm).
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.cell import CLOSED, Cell
from bench.conditions import unlike as unlike_conditions
from bench.errors import BadInput
from bench.judge import statistics as st
from bench.judge.comparisons import (
    ALPHA,
    FEWEST,
    MARGIN,
    by_how_much,
    compared_fields,
    comparison,
    direction,
    doubt,
    interval_text,
    within,
)
from bench.judge.criteria import other_rate, percent
from bench.judge.fields import per_round
from bench.results import Change, Comparison, Machine, Regression, Results

_Key = tuple[str, str, str, int, str]
_WIDEST = math.log(1.5)  # noise of a control measurement itself counts at most so much
_TYPICAL_LOAD, _HIGHEST_LOAD = 0.8, 0.9


def regression(base: Results, candidate: Results, margin: float = MARGIN, anyway: bool = False) -> Regression:
    """Judge ``candidate`` against ``base``: ratios above 1 are a candidate's figures that are higher.

    ``margin``: how far from 1 a ratio may lie and still count as the same.

    Raises:
        BadInput: the runs' conditions differ (machine, versions, workload), and ``anyway`` is not set.
    """
    unlike = unlike_conditions(base.conditions, candidate.conditions)
    if unlike and not anyway:
        raise BadInput(_refusal(base.run.id, candidate.run.id, unlike))
    before, after = ({_key(cell): cell for cell in one.cells} for one in (base, candidate))
    moved = machine_moved(base.machine, candidate.machine)
    pairs = [
        _pair(key, field, before, after, moved)
        for key, cell in after.items()
        if key in before
        for field in compared_fields(cell, before[key])
    ]
    comparisons = _told(pairs, margin)
    outcome = _worst([one.outcome for one in comparisons])
    return Regression(
        base=base.run.id,
        candidate=candidate.run.id,
        unlike=unlike,
        floor=moved.floor,
        margin=margin,
        comparisons=comparisons,
        missing=[*_missing(before, after, base.run.id), *_missing(after, before, candidate.run.id)],
        outcome=outcome,
        reason=_reason(comparisons, outcome, moved, unlike),
    )


def _key(cell: Cell) -> _Key:
    return cell.candidate, cell.driver, cell.workload, cell.concurrency, cell.load


def _missing(there: Mapping[_Key, Cell], other: Mapping[_Key, Cell], run: str) -> list[str]:
    return [f"{_name(key)}: only in {run}" for key in there if key not in other]


def _name(key: _Key) -> str:
    candidate, driver, workload, concurrency, load = key
    return f"{candidate} {workload} ({driver}) at {concurrency}" + ("" if load == CLOSED else f", {load}")


_NAMED, _LONGEST = 3, 40  # differences in a refusal, and characters of each value


def _refusal(base: str, candidate: str, unlike: Mapping[str, tuple[str, str]]) -> str:
    """One line: what differs, and how to go on."""
    named = [f"{key} {_quoted(was)} then, {_quoted(now)} now" for key, (was, now) in list(unlike.items())[:_NAMED]]
    rest = f"; and {len(unlike) - _NAMED} more" if len(unlike) > _NAMED else ""
    return (
        f"{base} and {candidate} were not measured alike: {'; '.join(named)}{rest}; "
        "run both under the same conditions, or compare them all the same with --anyway"
    )


def _quoted(value: str) -> str:
    line = " ".join(value.split())
    return f"'{line if len(line) <= _LONGEST else line[: _LONGEST - 1] + '…'}'" if line else "nothing"


@dataclass(frozen=True)
class Moved:
    """How far the machine moved between two runs, as a log ratio: as ``seen``, and at most, as far as that is known."""

    seen: float
    floor: float
    why: str


def machine_moved(base: Machine, candidate: Machine) -> Moved:
    """The furthest that any of the machine's own measurements says it may have moved.

    Of its speed and its disk that is the far end of the 95 % interval of the ratio; of the CPU time that others and a
    hypervisor left to us, the ratio itself. All 0 where a run has no such measurements.
    """
    found = []
    for name, ours, theirs in (
        ("speed", candidate.spin_ms, base.spin_ms),
        ("disk", candidate.sync_ms, base.sync_ms),
    ):
        ratio = st.unpaired(ours, theirs, st.SHOWN_CONFIDENCE)
        if ratio is not None:
            seen, far = abs(math.log(ratio.ratio)), max(abs(math.log(ratio.low)), abs(math.log(ratio.high)))
            found.append(Moved(seen, max(seen, min(far, _WIDEST)), f"the machine's {name}"))
    if not found:
        return Moved(0.0, 0.0, "")
    left = (_left(base) / _left(candidate)) if _known(base) == _known(candidate) else 1.0
    found.append(Moved(abs(math.log(left)), abs(math.log(left)), "the CPU time that others left to us"))
    widest = max(found, key=lambda one: one.floor)
    return Moved(max(one.seen for one in found), widest.floor, widest.why)


def _left(machine: Machine) -> float:
    """The share of the CPU time that was there for us."""
    return max(0.01, 1 - (machine.steal_share or 0.0) - (machine.others_share or 0.0))


def _known(machine: Machine) -> tuple[bool, bool]:
    return machine.steal_share is not None, machine.others_share is not None


def _bound(key: _Key, field: str, before: Mapping[_Key, Cell], after: Mapping[_Key, Cell], moved: Moved) -> float:
    """The log ratio that the machine alone may explain in this figure.

    What takes a share s longer takes s longer in a closed loop. In an open loop operations also wait for one another,
    the longer the nearer the offered rate is to the maximum: where it is a share u of that, response times change by
    1 / (1 - u) times as much (M/M/1). Where the rate is itself a share of a measured maximum it moves with the machine,
    and what is left is how well that maximum was known.
    """
    if key[-1] == CLOSED or field.endswith("_per_s"):
        return moved.floor
    closed = (*key[:-1], CLOSED)
    shares: list[float | None] = []
    used, rates = [_TYPICAL_LOAD], []
    for cells in (after, before):
        schedule, loop = cells[key].schedule, cells.get(closed)
        shares.append(None if schedule is None else schedule.share)
        rates.append([] if loop is None else per_round("ops_per_s", loop))
        if schedule is not None and loop is not None and loop.ops_per_s:
            used.append(schedule.rate / loop.ops_per_s)
    u = min(max(used[1:] or used), _HIGHEST_LOAD)
    known = st.unpaired(rates[0], rates[1], st.SHOWN_CONFIDENCE)
    if known is None or None in shares:
        return moved.floor / (1 - u)
    return moved.floor + math.log(known.high / known.low) / 2 * u / (1 - u)


@dataclass(frozen=True)
class _Pair:
    """One figure of one cell in both runs, ours and theirs.

    ``relative`` are its ratios to the reference in the rounds of each run, where that is a fair yardstick; ``bound`` is
    the log ratio that the machine alone may explain.
    """

    cell: Cell
    field: str
    ours: Sequence[float | None]
    theirs: Sequence[float | None]
    relative: tuple[Sequence[float | None], Sequence[float | None]] | None
    bound: float
    doubt: str | None

    @property
    def rounds(self) -> int:
        return min(len(self.ours), len(self.theirs))


def _pair(key: _Key, field: str, before: Mapping[_Key, Cell], after: Mapping[_Key, Cell], moved: Moved) -> _Pair:
    ours, theirs = per_round(field, after[key]), per_round(field, before[key])
    unproven = other_rate(field, after[key], before[key]) or doubt(field, after[key], before[key])
    beside, then = _reference(key, after), _reference(key, before)
    relative = None
    if beside is not None and then is not None and beside.candidate == then.candidate:
        relative = (
            st.paired_ratios(ours, per_round(field, beside)),
            st.paired_ratios(theirs, per_round(field, then)),
        )
    if relative is None or st.unpaired(*relative, st.SHOWN_CONFIDENCE) is None:  # a round of the reference is missing
        return _Pair(after[key], field, ours, theirs, None, _bound(key, field, before, after, moved), unproven)
    return _Pair(after[key], field, ours, theirs, relative, moved.seen, unproven)


def _reference(key: _Key, cells: Mapping[_Key, Cell]) -> Cell | None:
    """The reference's cell beside a closed loop's; in an open loop it matters too how full each store is."""
    if key[-1] != CLOSED or cells[key].reference:
        return None
    return next((cell for other, cell in cells.items() if cell.reference and other[1:] == key[1:]), None)


@dataclass(frozen=True)
class _Found:
    """What the rounds of a pair say: of the figure itself, and of its ratio to the reference, if that is used."""

    own: st.Unpaired
    relative: st.Unpaired | None

    @property
    def p(self) -> float:
        return self.own.p if self.relative is None else self.relative.p

    def p_clear(self, bound: float, margin: float) -> float:
        """p against all that the machine and the margin explain."""
        own = self.own.p_beyond(bound + math.log1p(margin))
        if self.relative is None:
            return own
        agree = (self.own.ratio > 1) == (self.relative.ratio > 1)
        return self.relative.p_beyond(math.log1p(margin)) if own <= ALPHA and agree else 1.0


def _told(pairs: Sequence[_Pair], margin: float) -> list[Comparison]:
    found = [_find(pair) for pair in pairs]
    differs = st.holm([None if one is None else one.p for one in found])
    clear = st.holm(
        [None if one is None else one.p_clear(pair.bound, margin) for pair, one in zip(pairs, found, strict=True)]
    )
    return [
        _comparison(pair, one, p, beyond is not None and beyond <= ALPHA, margin)
        for pair, one, p, beyond in zip(pairs, found, differs, clear, strict=True)
    ]


def _find(pair: _Pair) -> _Found | None:
    """None where the rounds are too few, or prove nothing."""
    own = st.unpaired(pair.ours, pair.theirs, st.SHOWN_CONFIDENCE)
    if own is None or pair.doubt is not None or pair.rounds < FEWEST:
        return None
    return _Found(own, None if pair.relative is None else st.unpaired(*pair.relative, st.SHOWN_CONFIDENCE))


def _comparison(pair: _Pair, found: _Found | None, p: float | None, clear: bool, margin: float) -> Comparison:
    """``p`` is corrected; ``clear``: whether the difference is more than machine and margin together explain."""
    outcome: Change = "unknown"
    reason = _untold(pair)
    own = None if found is None else found.own
    if found is not None and p is not None:
        outcome = direction(pair.field, found.own.ratio) if clear else _same(pair, margin)
        reason = _why(pair, found, p, outcome, margin)
    return comparison(
        pair.cell, pair.field, pair.ours, pair.theirs,
        ratio=None if own is None else own.ratio, interval=None if own is None else (own.low, own.high),
        confidence=st.SHOWN_CONFIDENCE, p=p, outcome=outcome, reason=reason,
    )  # fmt: skip


def _same(pair: _Pair, margin: float) -> Change:
    narrow = st.unpaired(pair.ours, pair.theirs, st.GATE_CONFIDENCE)
    if narrow is None or pair.bound > math.log1p(margin):
        return "unknown"
    return "same" if within((narrow.low, narrow.high), margin) else "unknown"


def _untold(pair: _Pair) -> str:
    if pair.doubt is not None:
        return pair.doubt
    if pair.rounds < FEWEST:
        return f"{len(pair.ours)} and {len(pair.theirs)} rounds are too few; {FEWEST} of each run is the least"
    return "a round without a value leaves no interval"


def _why(pair: _Pair, found: _Found, p: float, outcome: Change, margin: float) -> str:
    interval = found.own.low, found.own.high
    span = interval_text(interval, st.SHOWN_CONFIDENCE)
    span = f"{span} over {len(pair.ours)} and {len(pair.theirs)} rounds"
    if outcome == "same":
        return f"within {percent(margin)}: {span}"
    parts = [span]
    if found.relative is not None:
        parts.append(f"{by_how_much(found.relative.ratio)} relative to the reference")
    if pair.bound > 0:
        parts.append(f"the machine alone may explain {percent(math.expm1(pair.bound))}")
    if outcome in ("better", "worse"):
        return f"{by_how_much(found.own.ratio)}: {'; '.join(parts)}"
    if p > ALPHA and not interval[0] <= 1 <= interval[1]:
        parts.append(f"among so many comparisons that may be chance (p {p:.2g})")
    return "; ".join([*parts, f"up to {percent(margin)} counts as the same"])


def _worst(outcomes: Sequence[Change]) -> Change:
    order: tuple[Change, ...] = ("worse", "unknown", "better")
    return next((one for one in order if one in outcomes), "same" if outcomes else "unknown")


def _reason(
    comparisons: Sequence[Comparison], outcome: Change, moved: Moved, unlike: Mapping[str, tuple[str, str]]
) -> str:
    """What the outcome rests on, in a sentence or two."""
    if not comparisons:
        return "the runs have no cell in common"
    counts = {name: sum(one.outcome == name for one in comparisons) for name in ("worse", "unknown", "better", "same")}
    parts = [", ".join(f"{count} {name}" for name, count in counts.items() if count)]
    first = next(one for one in comparisons if one.outcome == outcome)
    if outcome != "same":
        place = _name((first.candidate, first.driver, first.workload, first.concurrency, first.load))
        parts.append(f"first {outcome}: {first.field} of {place}: {first.reason}")
    if moved.why:
        parts.append(f"{moved.why} may differ by {percent(math.expm1(moved.floor))} between the runs")
    else:
        parts.append("how far the machine itself moved is not known, so that a difference may be the machine's")
    if together := _together(comparisons):
        parts.append(together)
    if unlike:
        parts.append(f"the runs were not measured alike in {', '.join(unlike)}")
    return "; ".join(parts)


def _together(comparisons: Sequence[Comparison]) -> str | None:
    """Whether all cells of several candidates moved one way, as a machine or a harness that changed would have it."""
    cells: dict[_Key, list[float]] = defaultdict(list)
    for one in comparisons:
        if one.ratio is not None:
            gain = math.log(one.ratio) if one.field.endswith("_per_s") else -math.log(one.ratio)
            cells[one.candidate, one.driver, one.workload, one.concurrency, one.load].append(gain)
    gains = [sum(values) / len(values) for values in cells.values()]
    if len({key[0] for key in cells}) < 2 or min(map(abs, gains)) <= math.log1p(MARGIN) / 2:
        return None
    if len({gain > 0 for gain in gains}) > 1:
        return None
    word = "better" if gains[0] > 0 else "worse"
    factor = math.exp(sum(map(abs, gains)) / len(gains))
    return f"every cell got {word}, by a factor of {factor:.2f}: the machine or the harness rather than one store"
