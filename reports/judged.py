"""Criteria and the cells that they judge: which is where, how they read, which is worst."""

from collections.abc import Sequence
from typing import Final

from bench.cell import CLOSED, Cell, Criterion, Verdict
from bench.fault_cell import FaultCell
from bench.results import Capacity, Comparison, Control, Results
from reports.figures import NOT_MEASURED, mathematical, one_line, percent, plural, quantity, share

SEVERITY: Final[dict[Verdict, int]] = {"pass": 0, "inconclusive": 1, "fail": 2}
INTEGRITY_FIELDS: Final = ("integrity", "lost", "duplicated", "corrupted", "unexpected")
PUBLISHED: Final = "published"
"""The table of a published test's criteria, which is shown and does not decide."""

DECIDES: Final = "decides"
READY: Final = "ready"
"""The table of criteria on a move and on what a store was moved to, which decide too."""

USUAL_CONFIDENCE: Final = 0.9
"""Of the interval that judges a criterion, where it says no other."""

_RELATIVE: Final = ("reference", "baseline")
_SHARES: Final = ("integrity", "success_rate", "first_attempt_rate", "availability")
_UNMEASURED: Final = "it could not be measured: "
_YES_OR_NO: Final = (
    "durable", "schema_current", "fault.kept", "migration.equal", "migration.equal_after_load",
    "readiness.backup_restored",
)  # fmt: skip


def all_cells(results: Results) -> list[Cell | FaultCell]:
    """The cells that were measured, and those in which something was broken."""
    return [*results.cells, *results.faults]


def worst(outcomes: Sequence[Verdict]) -> Verdict | None:
    """The worst outcome, or None of nothing."""
    return max(outcomes, key=SEVERITY.__getitem__, default=None)


def judges(criterion: Criterion, cell: Cell) -> bool:
    """Whether ``criterion`` is about ``cell``."""
    return judges_workload(criterion, cell) and same_load(criterion, cell)


def judges_workload(criterion: Criterion, cell: Cell) -> bool:
    """Whether ``criterion`` is about ``cell`` at this or another concurrency and load; one on a fault is not."""
    return not criterion.fault and (criterion.candidate, criterion.driver, criterion.workload) == (
        cell.candidate,
        cell.driver,
        cell.workload,
    )


def same_load(criterion: Criterion, cell: Cell) -> bool:
    """Whether ``criterion`` is about the load of ``cell``, through whichever driver."""
    same = (cell.workload, cell.concurrency, cell.load)
    return not criterion.fault and (criterion.workload, criterion.concurrency, criterion.load) == same


def place(where: Cell | Criterion | Comparison | Control) -> str:
    """Workload, concurrency and load in short: ``mixed at 20``, ``direct mixed at 20``, ``mixed at 20 with 80 % load``.

    Without ``direct`` it is through a server, without a load it is a closed loop. Of a fault it is that with who made
    the load: ``server-killed with 8 writers``.
    """
    if isinstance(where, Criterion) and where.fault:
        return f"{one_line(where.fault)} with {crowd(where.driver, where.concurrency)}"
    return f"{spot(where)}{f' with {load_words(where.load)}' if is_open(where) else ''}"


def spot(where: Cell | Criterion | Comparison | Control | Capacity) -> str:
    """The same without the load; what is of no cell, as a move is, has its own name."""
    if where.concurrency == 0:
        return one_line(where.workload)
    road = "direct " if where.driver == "direct" else ""
    return f"{road}{one_line(where.workload)} at {where.concurrency}"


def is_open(where: Cell | Criterion | Comparison | Control) -> bool:
    """Whether operations were due on a schedule, whatever became of those before."""
    return where.load != CLOSED


def load_words(load: str) -> str:
    """What a cell's load is called: ``closed loop``, ``80 % load``, ``150/s``."""
    if load == CLOSED:
        return "closed loop"
    return f"{one_line(load)} load" if load.endswith("%") else one_line(load)


def crowd(driver: str, concurrency: int) -> str:
    """Who makes the load: ``20 writers`` on the tables, ``20 users`` of a server."""
    return plural(concurrency, "writer" if driver == "direct" else "user")


def by_reference(criterion: Criterion) -> bool:
    """Whether the limit is a multiple of what the reference or an earlier run did."""
    return criterion.expression.rstrip().endswith(_RELATIVE)


def quantity_of(criterion: Criterion, value: float | None) -> str:
    """A value of the criterion's field as people read it: shares as percentages, what is so or not as yes and no."""
    if criterion.field in _YES_OR_NO and value in (0, 1):
        return "yes" if value else "no"
    is_share = criterion.field in _SHARES or criterion.field.endswith("_share")
    return share(value) if is_share else quantity(value, one_line(criterion.unit))


def limit_of(criterion: Criterion) -> str:
    """The limit with its unit: ``≤ 500 ms``, or ``≤ 1.2 × reference = 694 ms``."""
    if not by_reference(criterion):
        return f"{mathematical(criterion.comparison)} {quantity_of(criterion, criterion.limit)}"
    rule = general_limit_of(criterion)
    return rule if criterion.limit is None else f"{rule} = {quantity_of(criterion, criterion.limit)}"


def general_limit_of(criterion: Criterion) -> str:
    """The limit as the scenario sets it for all cells: without what the reference did in one of them."""
    if not by_reference(criterion):
        return limit_of(criterion)
    rule = one_line(criterion.expression).removeprefix(criterion.field).strip()
    return mathematical(rule.replace("*", "×"))


def why(criterion: Criterion) -> str:
    """What figures alone do not say about an outcome; empty where measured value and limit say it all."""
    if criterion.measured is None or criterion.limit is None or by_reference(criterion):
        return reason_of(criterion)
    if criterion.outcome != "inconclusive":
        return ""
    if criterion.interval is None:
        return reason_of(criterion)
    if criterion.rounds_needed is None:
        return "more rounds will not decide it"
    return f"about {criterion.rounds_needed} rounds in all would decide it"


def reason_of(criterion: Criterion) -> str:
    """The judge's reason; of a fault's cell that could not be judged so that it goes with the figure beside it."""
    said = one_line(criterion.reason)
    if not criterion.fault or criterion.outcome != "inconclusive":
        return said
    plain = said.removeprefix(_UNMEASURED)
    if criterion.measured is None:
        return plain
    return f"{'rows are right' if criterion.field in INTEGRITY_FIELDS else 'it would do'}, but: {plain}"


def told(criterion: Criterion) -> str:
    """Measured value, its interval, the limit and what else must be said, on one line."""
    if criterion.measured is None:
        return f"not measured ({why(criterion)}), limit {limit_of(criterion)}"
    sure = ", ".join(filter(None, (interval_of(criterion), noise_of(criterion))))
    span = f" ({sure})" if sure else ""
    more = why(criterion)
    return f"{quantity_of(criterion, criterion.measured)}{span}, limit {limit_of(criterion)}" + (
        f"; {more}" if more else ""
    )


def interval_of(criterion: Criterion) -> str:
    """The interval that judged it, with its confidence where that is not the usual one; else nothing."""
    if criterion.interval is None:
        return ""
    low, high = (quantity_of(criterion, end) for end in criterion.interval)
    usual = criterion.confidence is None or round(criterion.confidence, 4) == USUAL_CONFIDENCE
    return f"{low} to {high}" + ("" if usual else f" at {share(criterion.confidence)}")


def noise_of(criterion: Criterion) -> str:
    """How far the rounds that judged it lie apart, or nothing where that is not known."""
    return "" if criterion.noise is None else f"noise between rounds {percent(criterion.noise)}"


def measured_of(criteria: Sequence[Criterion]) -> str:
    """What several criteria of one name measured: one figure, or the lowest and the highest."""
    found = sorted(((each.measured, each) for each in criteria if each.measured is not None), key=lambda pair: pair[0])
    if not found:
        return NOT_MEASURED
    low, high = (quantity_of(each, value) for value, each in (found[0], found[-1]))
    return low if low == high else f"{low} to {high}"
