"""Candidates against the reference, and the A/A control: ratios with their intervals, and what may be claimed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.cell import Cell
from bench.results import Change, Comparison, Control, Results
from reports.chosen import choose
from reports.compared import CLASSES, SIGNS, figure, ratio
from reports.figures import NOT_MEASURED, apart, one_line, plural, quantity, rate, share, significant
from reports.judged import is_open, load_words, place

LEAD: Final = (
    "Each figure divided by the reference's, paired within the rounds. Better and worse are claimed only where the "
    "difference survives Holm's correction over all these lines; same means within 5\N{NO-BREAK SPACE}%, unknown that "
    "these rounds do not tell."
)
_UNLIKE, _NO_USE = 1.05, 100.0
"""From which ratio of the rates on they are told, and from which of its ends on an interval is not."""

HEADS: Final = ("candidate", "cell", "figure", "outcome", "ratio", "95 % interval", "ours", "theirs", "rounds", "p")
"""The columns of a table of comparisons."""


@dataclass(frozen=True)
class VersusLine:
    """One comparison, ready to print in the columns of ``HEADS``."""

    candidate: str
    cell: str
    field: str
    outcome: Change
    figures: tuple[str, ...]
    reason: str

    @property
    def style(self) -> str:
        """The style sheet's class of the outcome."""
        return CLASSES[self.outcome]

    @property
    def told(self) -> str:
        """The outcome with its sign."""
        return f"{SIGNS[self.outcome]} {self.outcome}"


def field_of(comparison: Comparison) -> str:
    """What is compared: ``metrics/s``, ``p99``, ``read p95``; which time that is."""
    name = figure(comparison.field)
    if not comparison.field.endswith("_ms"):
        return name
    return f"{name}, {'response' if is_open(comparison) else 'service'} time"


def lines(results: Results) -> list[VersusLine]:
    """Every comparison with the reference, in order."""
    rates = {_key(cell.candidate, cell): cell.schedule.rate for cell in results.cells if cell.schedule}
    reference = next((cell.candidate for cell in results.cells if cell.reference), "")
    return [
        line(each, (rates.get(_key(each.candidate, each)), rates.get(_key(reference, each))))
        for each in results.comparisons
    ]


def _key(candidate: str, where: Cell | Comparison) -> tuple[str, str, str, int, str]:
    return candidate, where.driver, where.workload, where.concurrency, where.load


def line(each: Comparison, rates: tuple[float | None, float | None] = (None, None)) -> VersusLine:
    """One comparison; an outcome that is not known has its reason beside it.

    ``rates``: what was offered, ours and theirs, which is told where a share of unlike maxima made them unlike.
    """
    ours, theirs = each.rounds
    mine, others = rates
    unlike = mine is not None and others is not None and max(mine, others) > _UNLIKE * min(mine, others)
    return VersusLine(
        candidate=one_line(each.candidate),
        cell=place(each) + (f" ({rate(mine)} against {rate(others)})" if unlike else ""),
        field=field_of(each),
        outcome=each.outcome,
        figures=(
            NOT_MEASURED if each.ratio is None else f"× {ratio(each.ratio)}",
            _interval(each),
            quantity(each.ours, each.unit),
            quantity(each.theirs, each.unit),
            str(ours) if ours == theirs else f"{ours} and {theirs}",
            NOT_MEASURED if each.p is None else "< 0.001" if each.p < 0.001 else significant(each.p, 2),
        ),
        reason=one_line(each.reason) if each.outcome == "unknown" else "",
    )


def _interval(each: Comparison) -> str:
    if each.interval is None:
        return NOT_MEASURED
    if each.interval[1] > _NO_USE * each.interval[0]:
        return "of no use: too few rounds"
    low, high = map(ratio, each.interval)
    usual = round(each.confidence, 4) == 0.95
    return f"{low} to {high}" + ("" if usual else f" at {share(each.confidence)}")


def brief(results: Results) -> list[tuple[str, str]]:
    """For each candidate how its comparisons ended, and the ratios of the cells that speak for the run."""
    main = next(iter(choose(results)), None)
    loads = {(cell.driver, cell.workload, cell.concurrency, cell.load) for cell in main.cells} if main else set()
    found = []
    for name in dict.fromkeys(each.candidate for each in results.comparisons):
        own = [each for each in results.comparisons if each.candidate == name]
        shown = [each for each in own if (each.driver, each.workload, each.concurrency, each.load) in loads]
        ratios = [_told(each) for each in shown if each.ratio is not None]
        found.append((one_line(name), "; ".join([tally(own), *ratios])))
    return found


def tally(comparisons: Sequence[Comparison]) -> str:
    """How many ended which way: ``3 better, 1 unknown``."""
    counted = [(sum(each.outcome == outcome for each in comparisons), outcome) for outcome in SIGNS]
    return ", ".join(f"{n} {outcome}" for n, outcome in counted if n)


def _told(each: Comparison) -> str:
    name = figure(each.field)
    at = f" at {load_words(each.load)}" if is_open(each) else ""
    return f"{SIGNS[each.outcome]} {name}{at} × {ratio(each.ratio)} ({_interval(each)})"


def control(found: Control) -> str:
    """What the A/A control showed: how far the same store differed from itself."""
    who = f"{one_line(found.candidate)}, {place(found)}"
    if not found.comparisons:
        return f"the same store twice ({who}): nothing could be compared"
    said = ", ".join(_differs(each) for each in found.comparisons)
    rounds = plural(max(max(each.rounds) for each in found.comparisons), "round")
    return f"the same store twice ({who}, {rounds}) differs by {said}"


def _differs(each: Comparison) -> str:
    name = figure(each.field)
    if each.ratio is None:
        return f"{name} not known"
    span = f" ({apart(each.interval[0])} to {apart(each.interval[1])})" if each.interval else ""
    called = ", CALLED DIFFERENT" if each.outcome in ("better", "worse") else ""
    return f"{apart(each.ratio)} in {name}{span}{called}"
