"""The run on a terminal: one screen with the verdicts, the tables, the criteria and what they hold for."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console

from bench.cell import Verdict
from bench.results import Results
from reports import aftermath, capacity, checklist, cutover, regression, versus
from reports.columns import GAP, all_fits
from reports.figures import NOT_MEASURED, one_line
from reports.groups import Group, Miss, Tally, misses
from reports.page import Entry, Page
from reports.resilience import Matrix
from reports.standing import CriteriaTable, Standing
from reports.summary import SEPARATOR, Headline, Screen, Side, summarise
from reports.table import NO_LIMIT, Figure, Row

_STYLES: dict[Verdict, str] = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}
_MOST_MISSES, _MOST_NOTES, _MOST_MARKS, _MOST_GAPS = 8, 5, 6, 4
_SMALL, _WIDEST_TITLE = 12, 28
_WITHOUT_NOTES = ("availability", "connections", "experiment", "lag")
_SHORT = {
    "lost / duplicated / corrupted": "lost/duplicated/corrupted",
    "deadlocks in the database": "deadlocks in database",
    "hidden by its retries": "hidden",
    "lock errors": "locks",
    "service time": "service",
    "response time": "response",
    "offered operations": "offered",
    "success rate": "ok",
    "reference": "ref.",
}
"""What a terminal has no room to spell out; the report does."""

_LEGEND = {
    "kept": "kept: every acknowledged write is there",
    "LOST": "LOST: so many are gone, as settings allow",
    "BROKEN": "BROKEN: gone though nothing may be, or changed",
    "unknown": "unknown: not found out",
    NOT_MEASURED: f"{NOT_MEASURED}: can't happen to this store",
}
_TIME = "The time: from when its mending begins to the first ok."


def render(results: Results, console: Console) -> None:
    """Print the one-minute screen."""
    screen, page = summarise(results), Page(console)
    _title(page, screen)
    cutover.terminal(results, page)
    last = [table for table in screen.tables if table.decides] or screen.tables[-1:]
    for table in screen.tables:
        if table not in last:  # what does not decide goes first, so that the last screen holds what does
            _criteria_table(page, table)
    _answer(page, screen)
    _headlines(page, screen.headlines)
    checklist.terminal(results, page)
    for table in last:
        _criteria_table(page, table)
    _faults(page, results, screen)
    for side in screen.sides:
        _side(page, side, alone=len(screen.sides) == 1, brief=bool(screen.tables))
    _capacities(page, results)
    _versus(page, results)
    if results.baseline is not None:
        page.line()
        page.print(page.text("Against the baseline run", "bold"))
        regression.terminal(results.baseline, page)
    _tallies(page, screen.untabled)
    _misses(page, screen)
    _facts(page, screen)


def _title(page: Page, screen: Screen) -> None:
    page.line()
    title = page.text(screen.title, "bold")
    title.append(page.text(f"  {screen.run_id}, {screen.took}", "dim"))
    page.print(title)


def _answer(page: Page, screen: Screen) -> None:
    """The run's verdict and the answer, and what outweighs both."""
    if screen.tables:
        page.line()
    text = page.text(f"{screen.symbol} {screen.word}  ", _STYLES[screen.verdict])
    text.append(page.text(_packed(screen.answer, page.console.width, len(text)), "bold"))
    page.print(text, hang=2)
    if screen.moved:
        page.print(page.text(screen.moved, "bold"), hang=2)
    if screen.aftermath:
        page.print(page.text(_packed(screen.aftermath, page.console.width, 0), "bold"), hang=2)
    for alarm in screen.alarms:
        page.print(page.text(f"! {alarm}", "bold yellow"), hang=2)
    for mark in screen.marks[:_MOST_MARKS]:
        page.print(page.text(f"! {mark.kind}: ", "bold yellow").append(page.text(mark.text)), hang=2)
    if len(screen.marks) > _MOST_MARKS:
        page.print(page.text(f"! and {len(screen.marks) - _MOST_MARKS} more: see the report", "dim"))


def _packed(answer: str, width: int, used: int) -> str:
    """The answer with line breaks between candidates instead of within one."""
    lines, room = [""], width - used
    for part in answer.split(SEPARATOR):
        longer = f"{lines[-1]} · {part}" if lines[-1] else part
        if lines[-1] and cell_len(longer) > room:
            lines.append(part)
            room = width - 2
        else:
            lines[-1] = longer
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")


def _headlines(page: Page, headlines: Sequence[Headline]) -> None:
    """Each candidate's verdict and reason; then what to do next, once for those that it is the same for."""
    page.line()
    steps: dict[str, list[str]] = {}
    verdicts: dict[tuple[bool, Verdict, str], list[Headline]] = {}
    for each in headlines:
        verdicts.setdefault((each.reference, each.verdict, each.reason), []).append(each)
        if not each.reference:
            steps.setdefault(each.next_step, []).append(each.candidate)
    for (reference, verdict, reason), alike in verdicts.items():
        style = "dim" if reference else _STYLES[verdict]
        text = page.text(f"{'·' if reference else alike[0].symbol} {alike[0].word}  ", style)
        text.append(page.text(", ".join(each.candidate for each in alike), "bold"))
        text.append(page.text(f": {reason}", "dim" if reference else ""))
        page.print(text, hang=2)
    for step, names in steps.items():
        who = f" ({', '.join(names)})" if len(steps) > 1 else ""
        page.print(page.text(f"Next{who}: {step}", "bold"), hang=2)


@dataclass(frozen=True)
class _Grid:
    """A table with a column a candidate: its title, the candidates, and rows of (label, figures, limit)."""

    title: str
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[tuple[str, Sequence[Entry], str]]
    last: str = "limit"

    def entries(self, shown: Sequence[int]) -> list[list[Entry]]:
        """The rows with the heads, for the candidates shown."""
        names = [f"{name}{' (ref.)' if reference else ''}" for name, reference in self.columns]
        head: list[Entry] = [(self.title, "", "bold"), *((names[i], "", "bold") for i in shown), (self.last, "", "dim")]
        return [
            head,
            *(
                [(label, "", ""), *(figures[i] for i in shown), (limit, "", "dim")]
                for label, figures, limit in self.rows
            ),
        ]


def _print_grid(page: Page, grid: _Grid) -> None:
    """The table in as many parts as the width asks for; the reference leads each."""
    fixed = [i for i, (_, reference) in enumerate(grid.columns) if reference][:1]
    others = [i for i in range(len(grid.columns)) if i not in fixed]
    for part in page.parts(grid.entries, fixed, others):
        page.grid(grid.entries(part))


def _criteria_table(page: Page, table: CriteriaTable) -> None:
    """What a table of criteria decides, what each candidate measured, and below it what was published."""
    page.line()
    columns = [(each.candidate, each.reference) for each in table.columns]
    rows = [
        (
            ", ".join(filter(None, (line.name, line.where))),
            [_standing(each, decides=table.decides and not line.advisory) for each in line.standings],
            f"{_short(line.limit)}{' (advisory)' if line.advisory else ''}",
        )
        for line in table.lines
    ]
    page.print(page.text(table.title, "bold").append(page.text(f": {table.lead}", "dim")), hang=2)
    _print_grid(page, _Grid("", columns, rows))
    said = "; ".join(f"{line.name}: {line.published}" for line in table.lines if line.published)
    if said:
        page.print(page.text(f"Published. {said}", "dim"), hang=2)


def _standing(each: Standing, *, decides: bool) -> Entry:
    style = _STYLES[each.outcome] if each.outcome and decides and not each.reference else ""
    return f"{each.text} {each.symbol}".rstrip(), each.note, style


def _faults(page: Page, results: Results, screen: Screen) -> None:
    """Fault by candidate: how each ended and, if there is room, how soon the first operation was ok."""
    if screen.faults is None:
        return
    page.line()
    columns = [(each.name, each.reference) for each in screen.faults.columns]
    everyone = [i for i, (_, reference) in enumerate(columns) if reference][:1]
    everyone += [i for i in range(len(columns)) if i not in everyone]
    whole, brief = (_matrix(screen.faults, columns, timed=timed) for timed in (True, False))
    timed = _in_line(page, whole.entries(everyone))
    if timed:
        page.grid(whole.entries(everyone))
    else:
        _print_grid(page, brief)
    page.print(page.text(_legend(screen.faults, timed=timed), "dim"), hang=2)
    for name, said in aftermath.modelled_losses(results)[:_MOST_GAPS]:
        page.print(page.text(f"{name}: {said}.", "dim"), hang=2)
    for gap in [each for each in screen.gaps if each.applies][:_MOST_GAPS]:
        page.print(page.text(f"Not tested: {gap.told}.", "dim"), hang=2)


def _legend(found: Matrix, *, timed: bool) -> str:
    """What those words of the matrix mean that occur in it."""
    words = {word for row in found.rows for each in row.entries for word in each.text.split()}
    said = "; ".join(meaning for word, meaning in _LEGEND.items() if word in words)
    return " ".join([*([f"{said}."] if said else []), *([_TIME] if timed else [])])


def _in_line(page: Page, rows: list[list[Entry]]) -> bool:
    """Whether every entry stands on one line with its remark beside it."""
    columns = [[page.said(f"{text} {note}".rstrip()) for text, note, _ in column] for column in zip(*rows, strict=True)]
    return all_fits(columns, page.console.width)


def _matrix(found: Matrix, columns: Sequence[tuple[str, bool]], *, timed: bool) -> _Grid:
    rows = [
        (
            row.label,
            [
                (each.text, each.back if timed else "", _STYLES[each.style] if each.style else "dim")
                for each in row.entries
            ],
            "",
        )
        for row in found.rows
    ]
    return _Grid("faults", columns, rows, last="")


def _side(page: Page, side: Side, *, alone: bool, brief: bool) -> None:
    """The side-by-side tables of one driver; in brief, that of its main workload, for the report has all."""
    if not alone:
        page.line()
        page.print(page.text(side.title, "bold"), hang=2)
    main = side.blocks[0].workload
    for index, block in enumerate(each for each in side.blocks if not brief or each.workload == main):
        if alone or index:
            page.line()
        title = block.heading
        if cell_len(title) > _WIDEST_TITLE:  # it would press the columns together
            page.print(page.text(title, "bold"), hang=2)
            title = ""
        columns = [(each.name, each.reference) for each in block.columns]
        whole = _Grid(title, columns, [_row(row, columns, _short(row.label)) for row in block.rows])
        everyone = [i for i, (_, reference) in enumerate(columns) if reference][:1]
        everyone += [i for i in range(len(columns)) if i not in everyone]
        if page.fits(whole.entries(everyone)):
            page.grid(whole.entries(everyone))
        else:
            _print_grid(page, _Grid(title, columns, [_row(row, columns, row.label) for row in block.rows]))


def _row(row: Row, columns: Sequence[tuple[str, bool]], label: str) -> tuple[str, Sequence[Entry], str]:
    figures = [
        _figure(row.key, figure, reference=reference)
        for figure, (_, reference) in zip(row.figures, columns, strict=True)
    ]
    return label, figures, "" if row.limit == NO_LIMIT else _short(row.limit)


def _figure(key: str, figure: Figure, *, reference: bool) -> Entry:
    style = _STYLES[figure.outcome] if figure.outcome and figure.gating and not reference else ""
    text = f"{figure.text.replace(' / ', '/')} {figure.symbol}".rstrip()
    note = "" if key in _WITHOUT_NOTES else _short(figure.note)
    if note and not note.startswith("±") and cell_len(f"{text} {note}") <= _SMALL:
        text, note = f"{text} {note}", ""
    return text, note, style


def _capacities(page: Page, results: Results) -> None:
    """Up to which rate each candidate met an objective, a line each."""
    for group in capacity.together(results):
        page.line()
        page.print(page.text("Capacity", "bold").append(page.text(f": {capacity.title(group[0])}", "bold")), hang=2)
        rows: list[list[Entry]] = [
            [(one_line(each.candidate), "", ""), (capacity.held(each), "", "bold"), (capacity.beyond(each), "", "dim")]
            for each in group
        ]
        page.grid(rows)


def _versus(page: Page, results: Results) -> None:
    """How each candidate compares with the reference, in a line or two."""
    found = versus.brief(results)
    if not found:
        return
    page.line()
    page.print(page.text("Against the reference", "bold"))
    for name, text in found:
        page.print(page.text(f"{name}: ", "bold").append(page.text(text)), hang=2)


def _tallies(page: Page, groups: Sequence[Group]) -> None:
    """One line a criterion with the cells that each candidate passed."""
    if not groups:
        return
    columns = [(each.candidate, each.reference) for each in groups[0].tallies]
    rows = [(group.name, [_tally(each, group) for each in group.tallies], _limit(group)) for group in groups]
    page.line()
    _print_grid(page, _Grid("criteria: cells passed", columns, rows))


def _misses(page: Page, screen: Screen) -> None:
    """What was missed, unless a headline or a table of the screen says it already."""
    said = [each.reason for each in screen.headlines]
    gating = [
        miss
        for miss in misses(screen.groups, gating=True)
        if not any(text.startswith(miss.name) and miss.told in text for text in said)
    ]
    for miss in gating[:_MOST_MISSES]:
        text = page.text(f"{miss.symbol} ", _STYLES[miss.outcome])
        page.print(text.append(page.text(_told(miss))), hang=2)
    if len(gating) > _MOST_MISSES:
        page.print(page.text(f"  and {len(gating) - _MOST_MISSES} more: see the report", "dim"))
    alike: dict[str, list[str]] = {}
    for miss in misses(screen.untabled, gating=False):
        alike.setdefault(f"{miss.symbol} {miss.name}", []).append(miss.candidate)
    if alike:
        told = "; ".join(f"{name} ({', '.join(who)})" for name, who in alike.items())
        page.one_line(f"advisory, decides nothing: {told}")


def _facts(page: Page, screen: Screen) -> None:
    """What the figures hold for, the machine's state and the run's limits, briefly: the report has all of it."""
    page.line()
    width = max(len(fact.label) for fact in screen.brief) + GAP
    for fact in screen.brief:
        page.print(page.text(fact.label.ljust(width), "bold").append(page.text(fact.text)), hang=width)
    for note in screen.notes[:_MOST_NOTES]:
        page.one_line(note, lead="Limit".ljust(width))
    if len(screen.notes) > _MOST_NOTES:
        page.one_line(f"and {len(screen.notes) - _MOST_NOTES} more: see the report", lead="Limit".ljust(width))


def _tally(tally: Tally, group: Group) -> Entry:
    style = _STYLES[tally.outcome] if tally.outcome and group.gating and not tally.reference else ""
    return tally.told, "", style


def _limit(group: Group) -> str:
    return f"{_short(group.limit)}{'' if group.gating else ' (advisory)'}"


def _short(text: str) -> str:
    for long, short in _SHORT.items():
        text = text.replace(long, short)
    return text


def _told(miss: Miss) -> str:
    return f"{miss.candidate}: {miss.name}, {miss.cells}: {miss.told}"
