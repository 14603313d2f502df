"""One run against another in words: every figure's change, the two runs, and what to know before believing it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.results import Change, Comparison, Regression, Results
from reports.figures import NOT_MEASURED, one_line, plural, quantity, significant
from reports.judged import place

SIGNS: Final[dict[Change, str]] = {"worse": "✗", "unknown": "?", "same": "=", "better": "✓"}
"""Every outcome with its sign, worst first."""

CLASSES: Final[dict[Change, str]] = {"worse": "fail", "unknown": "inconclusive", "same": "same", "better": "pass"}
_TELLING_MARKS: Final = ("generator", "noisy", "clock", "control")
_LOADS_DIFFER: Final = 1.05


@dataclass(frozen=True)
class Line:
    """One comparison in words."""

    outcome: Change
    candidate: str
    place: str
    figure: str
    theirs: str
    ours: str
    ratio: str
    interval: str
    confidence: str
    rounds: str
    p: str
    reason: str

    @property
    def sign(self) -> str:
        """The outcome as a sign."""
        return SIGNS[self.outcome]

    @property
    def style(self) -> str:
        """The style sheet's class of the outcome."""
        return CLASSES[self.outcome]

    @property
    def where(self) -> str:
        """Candidate and cell on one line."""
        return f"{self.candidate} {self.place}"


@dataclass(frozen=True)
class Side:
    """One of the two runs: which it is, and what it ran from."""

    role: str
    id: str
    when: str
    revision: str
    trackbench: str
    rounds: str
    ended: str
    command: str


def rises(field: str) -> bool:
    """Whether more of a figure is better; of a latency less is."""
    return field.endswith("_per_s")


def decline(comparison: Comparison) -> float | None:
    """How much worse a figure became, as a log ratio: negative where it became better; None where nothing is known."""
    if comparison.ratio is None or not 0 < comparison.ratio < math.inf:
        return None
    size = math.log(comparison.ratio)
    return -size if rises(comparison.field) else size


def worst_first(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Ordered by outcome, then by how much worse the figure is."""
    order = list(SIGNS)

    def key(one: Comparison) -> tuple[int, bool, float]:
        size = decline(one)
        return order.index(one.outcome), size is None, -(size or 0.0)

    return sorted(comparisons, key=key)


def ratio(value: float | None) -> str:
    """A ratio with as many digits as tell it from 1: ``0.70``, ``1.02``, ``12.3``."""
    if value is None or not 0.01 <= value < 10:
        return significant(value)
    return f"{value:.2f}"


def figure(field: str) -> str:
    """A field as people call it: ``metrics/s``, ``p99``, ``read p95``."""
    return one_line(field).replace("_per_s", "/s").removesuffix("_ms").replace(".", " ")


def lines(regression: Regression) -> list[Line]:
    """Every comparison, worst first."""
    return [_line(one) for one in worst_first(regression.comparisons)]


def _line(one: Comparison) -> Line:
    ours, theirs = one.rounds
    return Line(
        outcome=one.outcome,
        candidate=one_line(one.candidate),
        place=place(one),
        figure=figure(one.field),
        theirs=quantity(one.theirs, one.unit),
        ours=quantity(one.ours, one.unit),
        ratio=ratio(one.ratio),
        interval="" if one.interval is None else f"{ratio(one.interval[0])} to {ratio(one.interval[1])}",
        confidence=f"{one.confidence * 100:.3g} %",
        rounds=str(ours) if ours == theirs else f"{theirs}, {ours}",
        p=NOT_MEASURED if one.p is None else "< 0.001" if one.p < 0.001 else f"{one.p:.3f}",
        reason=one_line(one.reason),
    )


def headline(regression: Regression) -> str:
    """The outcome in a sentence."""
    comparisons = regression.comparisons
    if not comparisons:
        return "nothing could be compared"
    ended = [one for one in comparisons if one.outcome == regression.outcome]
    some = f"{len(ended)} of {plural(len(comparisons), 'figure')}"
    if regression.outcome == "unknown":
        return f"nothing is known to be worse; {some} {_be(ended)} not decided"
    if regression.outcome == "same":
        return f"{'all ' if len(ended) > 1 else ''}{plural(len(ended), 'figure')} {_be(ended)} the same"
    first = worst_first(ended)[0 if regression.outcome == "worse" else -1]
    most = ": " if len(ended) == 1 else ", most of all "
    told = f"{one_line(first.candidate)} {place(first)}, {figure(first.field)} {ratio(first.ratio)} times the base's"
    rest = "" if regression.outcome == "worse" else "; nothing is worse"
    return f"{some} {_be(ended)} {regression.outcome}{most}{told}{rest}"


def _be(counted: Sequence[object]) -> str:
    return "is" if len(counted) == 1 else "are"


def footing(regression: Regression) -> str:
    """What the outcomes rest on: the margin, and over how many figures the claims were corrected."""
    tested = sum(one.p is not None for one in regression.comparisons)
    holm = f"; claims are corrected together (Holm) over {plural(tested, 'figure')}" if tested else ""
    return f"Same is within {significant(regression.margin * 100)} %{holm}."


def differing(regression: Regression) -> list[str]:
    """What the runs' conditions differ in, a line each."""
    return [f"{name}: {theirs} in the base, {ours} in the candidate" for name, theirs, ours in unlike_rows(regression)]


def unlike_rows(regression: Regression) -> list[tuple[str, str, str]]:
    """The conditions that differ: name, the base's, the candidate's."""
    return [
        (one_line(name), one_line(theirs) or "not set", one_line(ours) or "not set")
        for name, (theirs, ours) in regression.unlike.items()
    ]


def sides(base: Results, candidate: Results) -> tuple[Side, Side]:
    """The two runs, for a table."""
    return _side("base", base), _side("candidate", candidate)


def _side(role: str, results: Results) -> Side:
    run = results.run
    how = "interrupted" if run.interrupted else f"exit code {results.exit_code}"
    return Side(
        role=role,
        id=one_line(run.id),
        when=one_line(run.started),
        revision=one_line(results.environment.get("git revision", "unknown")),
        trackbench=one_line(results.environment.get("trackbench", "unknown")),
        rounds=str(run.rounds),
        ended=f"{one_line(results.verdict)}, {how}, {run.trials_done} of {run.trials_planned} trials",
        command=one_line(run.command),
    )


def notes(regression: Regression, base: Results, candidate: Results) -> list[str]:
    """What a reader must know of either run before believing a comparison."""
    found = []
    for role, one in (("base", base), ("candidate", candidate)):
        if one.exit_code == 4:
            found.append(f"The {role} run lost, changed or duplicated data: what it did fast, it did not do right.")
        if one.run.interrupted:
            done = f"{one.run.trials_done} of {one.run.trials_planned} trials"
            found.append(f"The {role} run was interrupted after {done}.")
        found += [f"The {role} run: {one_line(each.text)}" for each in one.marks if each.kind in _TELLING_MARKS]
    if base.run.started > candidate.run.started:
        found.append("The base is the later of the two runs: what became worse since then shows as better here.")
    revisions = [one.environment.get("git revision", "unknown") for one in (base, candidate)]
    if revisions[0] == revisions[1] and not revisions[0].endswith("-dirty") and revisions[0] != "unknown":
        found.append("Both runs are of one revision of Trackbench.")
    return found + _offered(regression, base, candidate)


def _offered(regression: Regression, base: Results, candidate: Results) -> list[str]:
    """Open loops whose load follows from a maximum: a latency at a higher rate is no worse latency."""
    rates = {
        (one.candidate, one.driver, one.workload, one.concurrency, one.load): one.schedule.rate
        for one in base.cells
        if one.schedule is not None
    }
    judged = {(one.candidate, one.driver, one.workload, one.concurrency, one.load) for one in regression.comparisons}
    found = []
    for cell in candidate.cells:
        key = (cell.candidate, cell.driver, cell.workload, cell.concurrency, cell.load)
        before = rates.get(key) if key in judged else None
        if cell.schedule is None or before is None or min(before, cell.schedule.rate) <= 0:
            continue
        rate = cell.schedule.rate
        if max(before / rate, rate / before) > _LOADS_DIFFER:
            where = f"{one_line(cell.candidate)} {place(cell)}"
            offered = f"{significant(rate)} operations/s were offered, {significant(before)} in the base"
            found.append(f"{where}: {offered}; its latencies are not at equal load.")
    return found
