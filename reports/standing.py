"""The tables of criteria: what each one demands, what every candidate measured, and which table decides."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from bench.cell import Criterion, Verdict
from bench.results import Candidate, Results
from reports.figures import NOT_MEASURED, SYMBOLS, one_line
from reports.groups import Group, groups
from reports.judged import DECIDES, PUBLISHED, READY, measured_of, place, worst

_WISHES: Final = ("phases.",)


@dataclass(frozen=True)
class Standing:
    """What one candidate measured of one criterion, a remark beside it, and how it ended."""

    candidate: str
    reference: bool
    text: str
    note: str
    outcome: Verdict | None

    @property
    def symbol(self) -> str:
        """The outcome as a sign, or nothing where there is none."""
        return SYMBOLS[self.outcome] if self.outcome else ""

    @property
    def told(self) -> str:
        """The figure with its sign and its remark, on one line."""
        body = f"{self.text} {self.symbol}".rstrip()
        return f"{body} ({self.note})" if self.note else body


@dataclass(frozen=True)
class Line:
    """One criterion: where it is judged if not where its table says, its limit, what was published, the candidates."""

    name: str
    where: str
    limit: str
    published: str
    advisory: bool
    standings: tuple[Standing, ...]


@dataclass(frozen=True)
class CriteriaTable:
    """Criteria that belong together, and in words what they decide."""

    key: str
    title: str
    lead: str
    lines: tuple[Line, ...]

    @property
    def decides(self) -> bool:
        """Whether the verdict comes from here: only then signs have colours."""
        return self.key in (DECIDES, READY)

    @property
    def columns(self) -> tuple[Standing, ...]:
        """One standing of each candidate, for the heads of the columns."""
        return self.lines[0].standings

    @property
    def has_published(self) -> bool:
        """Whether anything was published of these criteria."""
        return any(line.published for line in self.lines)


def tables(results: Results, candidates: Sequence[Candidate]) -> tuple[CriteriaTable, ...]:
    """The published test's table and those that decide; none where a scenario has no published table."""
    found = groups(results, candidates)
    published = [each for each in found if table_of(each) == PUBLISHED]
    if not published:
        return ()
    deciding = [each for each in found if table_of(each) == DECIDES]
    ready = [each for each in found if table_of(each) == READY]
    made = (
        _table(PUBLISHED, "The published test", _of_published(published, deciding, candidates), published),
        CriteriaTable(READY, "The move and its target", _OF_READY, tuple(map(_of_move, ready))),
        _table(DECIDES, "What decides", _OF_DECIDING, deciding),
    )
    return tuple(each for each in made if each.lines)


def table_of(group: Group) -> str:
    """The table that a criterion stands in: whatever gates and isn't the published test's belongs to what decides."""
    table = group.criteria[0].table
    return DECIDES if not table and group.gating else table


_OF_DECIDING: Final = (
    "These criteria decide each candidate's verdict: the worst of them is the verdict. Those marked advisory decide "
    "nothing, nor does the reference."
)

_OF_READY: Final = (
    "These criteria decide too: on the copy of your store, and on the server that is to hold it. The checklist has the "
    "same step by step."
)


def _of_published(published: Sequence[Group], deciding: Sequence[Group], candidates: Sequence[Candidate]) -> str:
    """Whose table this is, that it decides nothing, and who would pass by it alone."""
    own = [each for each in published if not _is_wish(each)]
    passing = [
        one_line(each.name)
        for index, each in enumerate(candidates)
        if {group.tallies[index].outcome for group in own} - {None} == {"pass"}
    ]
    whole = "all of them" if len(passing) == len(candidates) else f"{_listed(passing)} alone" if passing else "none"
    aside = ", its advisory lines aside" if len(own) < len(published) else ""
    decided = "what decided is below" if deciding else "nothing else was judged"
    return (
        "This is the published migration test's own table, measured again here. It does not decide; "
        f"{decided}. By it, {whole} would pass{aside}."
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is_wish(group: Group) -> bool:
    """Whether the published test itself only wished for this: its times of one experiment's parts."""
    return group.criteria[0].field.startswith(_WISHES)


def _table(key: str, title: str, lead: str, found: Sequence[Group]) -> CriteriaTable:
    """The groups as a table; the place that most of them judge is said once, above it."""
    wheres = Counter(map(_where, found))
    common, times = wheres.most_common(1)[0] if wheres else ("", 0)
    if times < 2:
        return CriteriaTable(key, title, lead, tuple(_line(each, "") for each in found))
    said = f"{lead} Measured in {common}, where a line names no other place."
    return CriteriaTable(key, title, said, tuple(_line(each, common) for each in found))


def _where(group: Group) -> str:
    wheres = list(dict.fromkeys(map(place, group.criteria)))
    return wheres[0] if len(wheres) == 1 else f"{len(wheres)} cells"


def _line(group: Group, common: str) -> Line:
    first = group.criteria[0]
    wish = _is_wish(group) if first.table == PUBLISHED else True
    return Line(
        name=group.name.removeprefix("advisory: ") if wish else group.name,
        where="" if (where := _where(group)) == common else where,
        limit=group.limit,
        published=one_line(first.published or ""),
        advisory=wish and not group.gating,
        standings=tuple(_standing(each.candidate, each.reference, group.of(each.candidate)) for each in group.tallies),
    )


def _of_move(group: Group) -> Line:
    """A criterion of a move is judged for the target alone, and is of no place among the cells."""
    line = _line(group, _where(group))
    judged = {one_line(each.candidate) for each in group.criteria}
    return replace(line, standings=tuple(each for each in line.standings if each.candidate in judged))


def _standing(candidate: str, reference: bool, own: Sequence[Criterion]) -> Standing:
    """The reference's cells without a value are no outcome: nothing is wrong with a store that lacks a counter."""
    counted = [each for each in own if not (reference and each.measured is None)]
    outcome = worst([each.outcome for each in counted])
    passed = sum(each.outcome == "pass" for each in counted)
    text = measured_of(own)
    note = ""
    if text == NOT_MEASURED:
        note = _why_none(own)
    elif 0 < passed < len(counted):
        note = f"{passed} of {len(counted)} cells met"
    return Standing(candidate, reference, text, note, outcome)


def _why_none(own: Sequence[Criterion]) -> str:
    if not own:
        return "not judged"
    return "no counter" if own[0].field.startswith("referee.") else "not measured"
