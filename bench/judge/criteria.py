"""Criteria: a small grammar over results, and three outcomes.

    expression = field operator target
    operator   = "<=" | ">=" | "<" | ">" | "==" | "!="
    target     = number | "reference" | number "*" "reference"

Counts are exact: equality and thresholds are decided on their sums. Rates and latencies vary from round to round:
the whole 90 % interval over rounds must lie on one side of the target, else the outcome is inconclusive; against
the reference it is the interval of the paired ratio.
"""

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.errors import BadInput
from bench.judge import statistics as st
from bench.judge.fields import FIELDS, HARNESS, ROUND_FIELDS, per_round, unit_of, value_of, why_missing, why_unproven
from bench.results import Cell, Criterion, Verdict

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_SHAPE = re.compile(
    r"\s*(?P<field>[a-z][a-z0-9_.]*)\s*(?P<operator><=|>=|==|!=|<|>)\s*"
    r"(?:(?P<number>[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)(?:\s*\*\s*(?P<times>reference))?|(?P<bare>reference))\s*"
)


@dataclass(frozen=True)
class Expression:
    """A parsed expression; the target is ``factor``, or ``factor`` x the reference's value."""

    field: str
    operator: str
    factor: float
    uses_reference: bool

    def holds(self, value: float, target: float) -> bool:
        """Whether ``value operator target``."""
        return _COMPARE[self.operator](value, target)


def parse(text: str) -> Expression:
    """Parse an expression.

    Raises:
        BadInput: it does not fit the grammar, or its field is unknown.
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise BadInput(f"{text!r} is not `field operator target`, as in `p99_ms <= 500` or `p99_ms <= 1.2 * reference`")
    field = match["field"]
    if field not in FIELDS:
        raise BadInput(f"unknown field {field!r}; use one of {', '.join(FIELDS)}")
    if match["number"] and not math.isfinite(float(match["number"])):
        raise BadInput(f"{text!r}: the target is too large for a number")
    by_reference = match["times"] is not None or match["bare"] is not None
    return Expression(field, match["operator"], float(match["number"] or 1.0), by_reference)


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


def judge(rule: Rule, cell: Cell, reference: Cell | None) -> Criterion:
    """Judge one rule on one cell; ``reference`` is the reference's cell of the same workload and concurrency."""
    expression = rule.expression
    decide = _judge_rounds if expression.field in ROUND_FIELDS else _judge_count
    decision = decide(expression, cell, reference)
    doubt = why_unproven(expression.field, cell)
    if decision.outcome == "pass" and doubt is not None:
        decision = replace(decision, outcome="inconclusive", reason=doubt)
    return Criterion(
        candidate=cell.candidate,
        name=rule.name,
        expression=rule.text,
        field=expression.field,
        driver=cell.driver,
        workload=cell.workload,
        concurrency=cell.concurrency,
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
        reason=decision.reason,
        rounds_needed=decision.rounds_needed,
    )


@dataclass(frozen=True)
class _Decision:
    outcome: Verdict
    reason: str
    measured: float | None
    limit: float | None
    interval: tuple[float, float] | None = None
    rounds_needed: int | None = None


def _target(expression: Expression, limit: float | None) -> str:
    if not expression.uses_reference:
        return f"{expression.operator} {expression.factor:g}"
    amount = "" if limit is None else f" = {_short(limit)}"
    return f"{expression.operator} {expression.factor:g} x reference{amount}"


def _judge_count(expression: Expression, cell: Cell, reference: Cell | None) -> _Decision:
    value = value_of(expression.field, cell)
    limit: float | None = expression.factor
    if expression.uses_reference:
        other = value_of(expression.field, reference) if reference is not None else None
        limit = None if other is None else expression.factor * other
    if value is None:
        return _Decision("inconclusive", why_missing(expression.field, cell), None, limit)
    if limit is None:
        return _Decision("inconclusive", _NO_REFERENCE, value, None)
    if expression.field.startswith(HARNESS) and not expression.holds(value, limit):
        return _Decision(
            "inconclusive", f"measured {value:g}: the harness, not the store, may be the limit", value, limit
        )
    return _Decision("pass" if expression.holds(value, limit) else "fail", f"measured {value:g}", value, limit)


_NO_REFERENCE = "the reference has no value to compare with"


def _judge_rounds(expression: Expression, cell: Cell, reference: Cell | None) -> _Decision:
    values = per_round(expression.field, cell)
    measured = st.geometric_mean(values)
    shown = st.log_interval(values, st.GATE_CONFIDENCE)
    limit: float | None = expression.factor
    what = "90 % interval"
    if expression.uses_reference:
        others = per_round(expression.field, reference) if reference is not None else []
        other = st.geometric_mean(others)
        limit = None if other is None else expression.factor * other
        values, what = st.paired_ratios(values, others), "ratio to the reference"
    if measured is None:
        return _Decision("inconclusive", why_missing(expression.field, cell), None, limit)
    if limit is None:
        return _Decision("inconclusive", _NO_REFERENCE, measured, None, shown)
    interval = st.log_interval(values, st.GATE_CONFIDENCE)
    if interval is None:
        few = len(values) < 2
        reason = f"{len(values)} round is too few for an interval" if few else "a round without any leaves no interval"
        return _Decision("inconclusive", reason, measured, limit, shown, rounds_needed=10)
    low, high = interval
    span = f"{what} {_short(low)} to {_short(high)} over {len(values)} rounds"
    held = [expression.holds(end, expression.factor) for end in interval]
    inside = low <= expression.factor <= high
    if all(held) and not (inside and expression.operator == "!="):
        return _Decision("pass", span, measured, limit, shown)
    if not any(held) and not inside:
        return _Decision("fail", span, measured, limit, shown)
    more = st.rounds_needed(values, expression.factor, st.GATE_CONFIDENCE)
    advice = "more rounds will not decide it" if more is None else f"about {more} rounds in all would decide it"
    return _Decision("inconclusive", f"{span} spans the limit; {advice}", measured, limit, shown, more)


def _short(number: float) -> str:
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"
