"""Criteria: a small grammar over results, and three outcomes.

    expression = field operator target
    operator   = "<=" | ">=" | "<" | ">" | "==" | "!="
    target     = number | other | number "*" other
    other      = "reference" | "baseline"

Counts are exact: equality and thresholds are decided on their sums. Rates and latencies vary from round to round:
the whole 90 % interval over rounds must lie on one side of the target, else the outcome is inconclusive; against
the reference it is the interval of the ratio within each round, against a baseline run, which shares no rounds with
this one, that of the ratio of the means. Where a run may go on until it is decided, planned looks take the place of
the one at its end (`bench.judge.looks`).

Of a cell with a fault nothing is a rate: all its fields are exact, and those of the fault itself (``fault.kept``) are
compared with a number only. So are those of moving a store (``migration.equal``) and of what it was moved to
(``readiness.failed``), which belong to no cell.
"""

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from bench.cell import CLOSED, Cell, Criterion, Interval, Verdict
from bench.errors import BadInput
from bench.fault_cell import FaultCell
from bench.judge import statistics as st
from bench.judge.fields import (
    FAULT_FIELDS,
    FIELDS,
    INTEGRITY_FIELDS,
    KEPT,
    MOVE_FIELDS,
    ROUND_FIELDS,
    Judged,
    of_harness,
    per_round,
    unit_of,
    value_of,
    why_missing,
    why_unproven,
)
from bench.judge.looks import Look, reached, single

Other = Literal["", "reference", "baseline"]

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_SHAPE = re.compile(
    r"\s*(?P<field>[a-z][a-z0-9_.]*)\s*(?P<operator><=|>=|==|!=|<|>)\s*"
    r"(?:(?P<number>[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)"
    r"(?:\s*\*\s*(?P<times>reference|baseline))?|(?P<bare>reference|baseline))\s*"
)


@dataclass(frozen=True)
class Expression:
    """A parsed expression; the target is ``factor``, or ``factor`` x the value of what it is ``against``."""

    field: str
    operator: str
    factor: float
    against: Other

    @property
    def uses_reference(self) -> bool:
        """Whether the target is the reference's value."""
        return self.against == "reference"

    def holds(self, value: float, target: float) -> bool:
        """Whether ``value operator target``."""
        return _COMPARE[self.operator](value, target)


def parse(text: str) -> Expression:
    """Parse an expression.

    Raises:
        BadInput: it does not fit the grammar, its field is unknown, or can't be compared with that.
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise BadInput(f"{text!r} is not `field operator target`, as in `p99_ms <= 500` or `p99_ms <= 1.2 * reference`")
    field = match["field"]
    if field not in FIELDS:
        raise BadInput(f"unknown field {field!r}; use one of {', '.join(FIELDS)}")
    if match["number"] and not math.isfinite(float(match["number"])):
        raise BadInput(f"{text!r}: the target is too large for a number")
    against = cast(Other, match["times"] or match["bare"] or "")
    if against and field in (*FAULT_FIELDS, *MOVE_FIELDS):
        raise BadInput(f"{text!r}: {field} is compared with a number only, not with the {against}")
    return Expression(field, match["operator"], float(match["number"] or 1.0), against)


@dataclass(frozen=True)
class Rule:
    """A criterion as the scenario gives it, parsed."""

    name: str
    text: str
    gating: bool
    table: str = ""
    published: str | None = None

    @property
    def expression(self) -> Expression:
        """The parsed text."""
        return parse(self.text)


def judge(
    rule: Rule, cell: Cell, reference: Cell | None, looks: Sequence[Look] = (), baseline: Cell | None = None
) -> Criterion:
    """Judge one rule on one cell.

    ``reference`` is the reference's cell of the same driver, workload, concurrency and load, ``baseline`` the same cell
    of an earlier run. Without ``looks`` all rounds are judged at `bench.judge.statistics.GATE_CONFIDENCE`. With them
    each takes its first rounds at its own confidence; the first that decides is final, whatever comes after it.
    """
    expression = rule.expression
    other = {"reference": reference, "baseline": baseline}.get(expression.against)
    if expression.field in ROUND_FIELDS:
        decision = _judge_looks(expression, cell, other, looks)
    else:
        decision = _judge_count(expression, cell, other)
    unlike = None
    if expression.against == "baseline" and other is not None:
        unlike = other_rate(expression.field, cell, other) or _other_sum(expression.field, cell, other)
    return _told(rule, cell, decision, unlike)


def judge_fault(
    rule: Rule, cell: FaultCell, reference: FaultCell | None = None, baseline: FaultCell | None = None
) -> Criterion:
    """Judge one rule on one cell with a fault; ``reference`` and ``baseline`` have the same fault at the same place."""
    expression = rule.expression
    other = {"reference": reference, "baseline": baseline}.get(expression.against)
    unlike = None
    if expression.against == "baseline" and other is not None:
        unlike = _other_sum(expression.field, cell, other)
    decision = _judge_count(expression, cell, other)
    if expression.field == KEPT:
        decision = replace(decision, reason=cell.reason)
    return _told(rule, cell, decision, unlike)


def _told(rule: Rule, cell: Judged, decision: "_Decision", unlike: str | None) -> Criterion:
    """A decision with its place; ``unlike`` is why what was compared can't be."""
    expression = rule.expression
    doubt = why_unproven(expression.field, cell)
    if decision.outcome == "pass" and doubt is not None:
        decision = replace(decision, outcome="inconclusive", reason=doubt)
    if unlike is not None:
        decision = replace(decision, outcome="inconclusive", reason=unlike, rounds_needed=None)
    load, fault = (CLOSED, cell.fault) if isinstance(cell, FaultCell) else (cell.load, "")
    return Criterion(
        candidate=cell.candidate,
        name=rule.name,
        expression=rule.text,
        field=expression.field,
        driver=cell.driver,
        workload=cell.workload,
        concurrency=cell.concurrency,
        load=load,
        comparison=expression.operator,
        limit=decision.limit,
        target=_target(expression, decision.limit),
        measured=decision.measured,
        unit=unit_of(expression.field),
        interval=decision.interval,
        outcome=decision.outcome,
        gating=rule.gating,
        table=rule.table,
        published=rule.published,
        reference=cell.reference,
        fault=fault,
        noise=decision.noise,
        confidence=decision.confidence,
        reason=decision.reason,
        rounds_needed=decision.rounds_needed,
    )


@dataclass(frozen=True)
class _Decision:
    outcome: Verdict
    reason: str
    measured: float | None
    limit: float | None
    interval: Interval | None = None
    rounds_needed: int | None = None
    noise: float | None = None
    confidence: float | None = None


def _target(expression: Expression, limit: float | None) -> str:
    if not expression.against:
        return f"{expression.operator} {expression.factor:g}"
    amount = "" if limit is None else f" = {_short(limit)}"
    return f"{expression.operator} {expression.factor:g} x {expression.against}{amount}"


def _judge_count(expression: Expression, cell: Judged, other: Judged | None) -> _Decision:
    value = value_of(expression.field, cell)
    limit: float | None = expression.factor
    if expression.against:
        theirs = value_of(expression.field, other) if other is not None else None
        limit = None if theirs is None else expression.factor * theirs
    if value is None:
        return _Decision("inconclusive", why_missing(expression.field, cell), None, limit)
    if limit is None:
        return _Decision("inconclusive", _nothing_there(expression, other), value, None)
    if of_harness(expression.field) and not expression.holds(value, limit):
        return _Decision(
            "inconclusive", f"measured {value:g}: the harness, not the store, may be the limit", value, limit
        )
    return _Decision("pass" if expression.holds(value, limit) else "fail", f"measured {value:g}", value, limit)


_SAME_RATE = math.log(1.05)
_SUMS = (
    "lock_errors", "deadlocks", "errors", "ops_failed", "ops_unknown", "server_errors", "schedule.skipped",
    "schedule.late", "runs_unfinished",
)  # fmt: skip


def other_rate(field: str, ours: Cell, theirs: Cell) -> str | None:
    """Why the tails of two open loops can't be compared: what they were offered differs; None where it does not."""
    mine, others = ours.schedule, theirs.schedule
    if mine is None or others is None or field.endswith("_per_s") or field not in ROUND_FIELDS:
        return None
    if abs(math.log(mine.rate / others.rate)) <= _SAME_RATE:
        return None
    return f"offered {others.rate:.3g}/s then, {mine.rate:.3g}/s now"


def _other_sum(field: str, ours: Judged, theirs: Judged) -> str | None:
    """Why two counts can't be compared: they are sums over unlike numbers of rounds."""
    summed = field in _SUMS or field.startswith(("errors.", "referee.")) or field in INTEGRITY_FIELDS[1:]
    if not summed or ours.rounds == theirs.rounds:
        return None
    return f"a sum over {theirs.rounds} rounds then, over {ours.rounds} now"


def _nothing_there(expression: Expression, other: Judged | None) -> str:
    if expression.against == "baseline" and other is None:
        return "no baseline run has this cell"
    return f"the {expression.against} has no value to compare with"


def _judge_looks(expression: Expression, cell: Cell, other: Cell | None, looks: Sequence[Look]) -> _Decision:
    """The first look that decides, else the last that could be taken."""
    values = per_round(expression.field, cell)
    if not looks:
        return _judge_rounds(expression, cell, other, single(len(values))[0], "")
    found = None
    for number, look in enumerate(reached(looks, len(values)), start=1):
        found = _judge_rounds(expression, cell, other, look, f", look {number} of {len(looks)}")
        if found.outcome != "inconclusive":
            return found
    if found is not None:
        return found
    first = looks[0].rounds
    every = _judge_rounds(expression, cell, other, Look(len(values), looks[0].confidence), "")
    if every.measured is None:
        return every
    return replace(
        every,
        outcome="inconclusive",
        reason=f"{_count(len(values))}; the first look takes {first}",
        rounds_needed=first,
    )


def _judge_rounds(expression: Expression, cell: Cell, other: Cell | None, look: Look, which: str) -> _Decision:
    values = per_round(expression.field, cell)[: look.rounds]
    measured = st.geometric_mean(values)
    limit: float | None = expression.factor
    theirs: Sequence[float | None] = []
    if expression.against:
        theirs = per_round(expression.field, other) if other is not None else []
        theirs = theirs[: look.rounds] if expression.uses_reference else theirs
        mean = st.geometric_mean(theirs)
        limit = None if mean is None else expression.factor * mean
    if measured is None:
        return _Decision("inconclusive", why_missing(expression.field, cell), None, limit)
    decision = _Decision(
        "inconclusive", "", measured, limit, st.log_interval(values, look.confidence), confidence=look.confidence
    )
    if limit is None:
        return replace(decision, reason=_nothing_there(expression, other))
    judged = st.paired_ratios(values, theirs) if expression.uses_reference else values
    interval = _interval(expression, judged, theirs, look.confidence)
    decision = replace(decision, noise=st.spread(judged))
    if interval is None:
        whole = all(value for value in (*judged, *theirs))  # a round without a value stays, however many follow
        return replace(decision, reason=_no_interval(expression, values, theirs), rounds_needed=10 if whole else None)
    span = _span(expression, interval, look, which) + f" over {_count(len(values))}{_noise(decision.noise)}"
    held = [expression.holds(end, expression.factor) for end in interval]
    inside = interval[0] <= expression.factor <= interval[1]
    if all(held) and not (inside and expression.operator == "!="):
        return replace(decision, outcome="pass", reason=span)
    if not any(held) and not inside:
        return replace(decision, outcome="fail", reason=span)
    more = _more(expression, judged, theirs, look.confidence)
    advice = "more rounds will not decide it" if more is None else f"about {more} rounds in all would decide it"
    return replace(decision, reason=f"{span}: it spans the limit; {advice}", rounds_needed=more)


def _interval(
    expression: Expression, judged: Sequence[float | None], theirs: Sequence[float | None], confidence: float
) -> Interval | None:
    """The interval of what is compared with the factor."""
    if expression.against != "baseline":
        return st.log_interval(judged, confidence)
    found = st.unpaired(judged, theirs, confidence)
    return None if found is None else (found.low, found.high)


def _more(
    expression: Expression, judged: Sequence[float | None], theirs: Sequence[float | None], confidence: float
) -> int | None:
    """About how many rounds of this run would decide it; those of a baseline are what they are."""
    mean, variance = st.geometric_mean(theirs), st.variance_of_mean(theirs)
    if expression.against != "baseline" or mean is None or variance is None:
        return st.rounds_needed(judged, expression.factor, confidence)
    return st.rounds_needed(judged, expression.factor * mean, confidence, variance)


def _no_interval(expression: Expression, values: Sequence[float | None], theirs: Sequence[float | None]) -> str:
    fewest = st.FEWEST_UNPAIRED if expression.against == "baseline" else 2
    for who, rounds in (("", values), (" of the baseline", theirs)):
        if len(rounds) < fewest and (not who or expression.against == "baseline"):
            verb = "is" if len(rounds) == 1 else "are"
            return f"{_count(len(rounds))}{who} {verb} too few for an interval"
    return "a round without any leaves no interval"


def _span(expression: Expression, interval: Interval, look: Look, which: str) -> str:
    what = f" of the ratio to the {expression.against}" if expression.against else ""
    return f"{look.confidence * 100:.3g} % interval{what}{which}: {_short(interval[0])} to {_short(interval[1])}"


def _count(rounds: int) -> str:
    return "1 round" if rounds == 1 else f"{rounds} rounds"


def _noise(noise: float | None) -> str:
    return "" if noise is None else f", noise between rounds {percent(noise)}"


def percent(share: float) -> str:
    """A share in per cent, for people: 0.4 %, 6 %, 120 %."""
    return f"{share * 100:.1f} %" if 0 < share < 0.01 else f"{share * 100:.0f} %"


def _short(number: float) -> str:
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"
