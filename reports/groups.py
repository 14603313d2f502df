"""Criteria as the scenario names them: one group a criterion, and in it how many cells each candidate passed."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.cell import Criterion, Verdict
from bench.results import Candidate, Results
from reports.figures import NOT_MEASURED, SYMBOLS, mathematical, one_line
from reports.judged import SEVERITY, general_limit_of, place, reason_of, told, worst


@dataclass(frozen=True)
class Tally:
    """How one candidate did in all cells of a criterion; no outcome where nothing was judged or could be."""

    candidate: str
    reference: bool
    passed: int
    judged: int
    outcome: Verdict | None
    note: str = ""

    @property
    def text(self) -> str:
        """The count, such as ``3/4``, or a dash."""
        return f"{self.passed}/{self.judged}" if self.outcome else NOT_MEASURED

    @property
    def symbol(self) -> str:
        """The worst outcome as a sign, or nothing."""
        return SYMBOLS[self.outcome] if self.outcome else ""

    @property
    def told(self) -> str:
        """The count with its sign."""
        return f"{self.text} {self.symbol}".rstrip()


@dataclass(frozen=True)
class Miss:
    """One candidate's cells in which a criterion ended the same way, not a pass; told of the first of them."""

    candidate: str
    name: str
    cells: str
    told: str
    reason: str
    outcome: Verdict
    gating: bool

    @property
    def symbol(self) -> str:
        """The outcome as a sign."""
        return SYMBOLS[self.outcome]


@dataclass(frozen=True)
class Group:
    """One criterion of the scenario over all candidates and cells."""

    name: str
    expression: str
    limit: str
    gating: bool
    tallies: tuple[Tally, ...]
    criteria: tuple[Criterion, ...]
    misses: tuple[Miss, ...]

    def of(self, candidate: str) -> list[Criterion]:
        """The criteria of one candidate, named as in its tally."""
        return [each for each in self.criteria if one_line(each.candidate) == candidate]

    @property
    def outcome(self) -> Verdict:
        """The worst outcome of the judged candidates, the reference aside."""
        return worst([each.outcome for each in self.tallies if each.outcome and not each.reference]) or "pass"


def groups(results: Results, candidates: Sequence[Candidate]) -> list[Group]:
    """Every criterion of the scenario in its order, gating ones first."""
    found: dict[tuple[str, str, bool, str], list[Criterion]] = {}
    for each in results.criteria:
        found.setdefault((each.name, each.expression, each.gating, each.table), []).append(each)
    made = [_group(own, candidates) for own in found.values()]
    return sorted(made, key=lambda each: not each.gating)


def misses(found: Sequence[Group], *, gating: bool) -> list[Miss]:
    """What judged candidates did not pass, failures first; the reference decides nothing and is left out."""
    missed = [miss for group in found for miss in group.misses if miss.gating == gating]
    return sorted(missed, key=lambda each: -SEVERITY[each.outcome])


def _group(own: Sequence[Criterion], candidates: Sequence[Candidate]) -> Group:
    first = own[0]
    return Group(
        name=one_line(first.name),
        expression=mathematical(one_line(first.expression)),
        limit=general_limit_of(first),
        gating=first.gating,
        tallies=tuple(_tally(each, [one for one in own if one.candidate == each.name]) for each in candidates),
        criteria=tuple(own),
        misses=tuple(_misses([each for each in own if not each.reference and each.outcome != "pass"])),
    )


def _tally(candidate: Candidate, own: Sequence[Criterion]) -> Tally:
    """The reference's cells without a value are no outcome: nothing is wrong with a store that lacks a counter."""
    name = one_line(candidate.name)
    reference = candidate.reference or any(each.reference for each in own)
    counted = [each for each in own if not (reference and each.measured is None)]
    passed = sum(each.outcome == "pass" for each in counted)
    note = "not measured" if own and not counted else "" if own else "not judged"
    return Tally(name, reference, passed, len(counted), worst([each.outcome for each in counted]), note)


def _misses(missed: Sequence[Criterion]) -> list[Miss]:
    alike: dict[tuple[str, Verdict], list[Criterion]] = {}
    for each in missed:
        alike.setdefault((each.candidate, each.outcome), []).append(each)
    return [
        Miss(
            candidate=one_line(candidate),
            name=one_line(own[0].name),
            cells=_cells(own),
            told=told(own[0]),
            reason=reason_of(own[0]),
            outcome=outcome,
            gating=own[0].gating,
        )
        for (candidate, outcome), own in alike.items()
    ]


def _cells(own: Sequence[Criterion]) -> str:
    first = place(own[0])
    return first if len(own) == 1 else f"{first} and {len(own) - 1} more"
