"""report.md: the one-minute screen and every criterion, short enough for a CI step summary."""

from collections.abc import Iterable, Sequence

from bench.fault_cell import FaultCell
from bench.results import Capacity, Results
from reports import capacity, checklist, cutover, regression, resilience, versus
from reports.figures import NOT_MEASURED, one_line
from reports.groups import misses
from reports.judged import measured_of
from reports.standing import CriteriaTable
from reports.summary import Headline, Screen, Side, summarise
from reports.table import Block, Figure

_LITERAL = str.maketrans({each: f"\\{each}" for each in "\\`*_{}[]#|~$"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"})

_MOST_MISSES = 20
_MOST_COMPARISONS = 16
_GAPS = {True: "Not tested", False: "Can't happen"}


def render(results: Results) -> str:
    """The run as GitHub-flavoured Markdown."""
    screen = summarise(results)
    parts = [
        f"# {screen.symbol} {screen.word}: {escape(screen.title)}",
        f"**{escape(screen.answer)}**",
        f"**{escape(screen.moved)}**" if screen.moved else "",
        f"**{escape(screen.aftermath)}**" if screen.aftermath else "",
        *(f"> ⚠ {escape(alarm)}" for alarm in screen.alarms),
        _marks(screen),
        _headlines(screen),
        *checklist.markdown(results, escape),
        *_faults(results, screen),
        *(_criteria_table(each) for each in screen.tables),
        *(part for side in screen.sides for part in _side(side, alone=len(screen.sides) == 1)),
        *(_capacity(group) for group in capacity.together(results)),
        _versus(results),
        _baseline(results),
        _tallies(screen),
        _missed(screen),
        *cutover.markdown(results, escape),
        _facts(screen),
        _details("What every criterion measured", _criteria(screen)),
        _details("Settings read back", _settings(results)),
        _command(screen),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """``text`` on one line with everything that Markdown or HTML would act on made literal."""
    return one_line(text).translate(_LITERAL)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], figures_from: int = 99) -> str:
    rule = ["---:" if index >= figures_from else "---" for index in range(len(heads))]
    lines = [list(heads), rule, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _marks(screen: Screen) -> str:
    """What a reader must know before believing a figure."""
    if not screen.marks:
        return ""
    return "Before you believe a figure:\n\n" + "\n".join(
        f"- **{escape(mark.kind)}:** {escape(mark.text)}" for mark in screen.marks
    )


def _capacity(group: Sequence[Capacity]) -> str:
    rows = [
        [
            escape(each.candidate),
            _noted(each.holds, each.holds_note),
            _noted(each.breaks, each.breaks_note),
            escape(each.maximum),
            escape(each.reason),
        ]
        for each in map(capacity.line, group)
    ]
    return f"### Capacity: {escape(capacity.title(group[0]))}\n\n{_table(capacity.HEADS, rows)}"


def _noted(text: str, note: str) -> str:
    return escape(f"{text} ({note})" if note else text)


def _baseline(results: Results) -> str:
    """How the run compares with the one that the scenario names."""
    if results.baseline is None:
        return ""
    return "\n\n".join(["### Against the baseline run", *regression.markdown(results.baseline)])


def _versus(results: Results) -> str:
    """How the candidates compare with the reference; many lines are folded away."""
    if not results.comparisons:
        return ""
    brief = "\n".join(f"- **{escape(name)}:** {escape(text)}" for name, text in versus.brief(results))
    rows = [
        [
            *map(escape, (each.candidate, each.cell, each.field)),
            _noted(each.told, each.reason),
            *map(escape, each.figures),
        ]
        for each in versus.lines(results)
    ]
    body = _table(versus.HEADS, rows, figures_from=4)
    folded = body if len(rows) <= _MOST_COMPARISONS else _details("Every comparison", body)
    return f"### Against the reference\n\n{versus.LEAD}\n\n{brief}\n\n{folded}"


def _headlines(screen: Screen) -> str:
    if not screen.headlines:
        return ""
    rows = [_headline(each) for each in screen.headlines]
    return _table(("candidate", "verdict", "the one reason", "next"), rows)


def _headline(each: Headline) -> list[str]:
    word = each.word if each.reference else f"**{each.symbol} {each.word}**"
    return [f"**{escape(each.candidate)}**", word, escape(each.reason), escape(each.next_step)]


def _faults(results: Results, screen: Screen) -> list[str]:
    """The matrix, the reasons of what was not kept, and what was not tested."""
    if screen.faults is None:
        return []
    heads = [
        "fault",
        *(f"{escape(each.name)}{' (reference)' if each.reference else ''}" for each in screen.faults.columns),
    ]
    rows = [[escape(row.label), *(escape(each.told) for each in row.entries)] for row in screen.faults.rows]
    bad = [each for each in results.faults if each.outcome != "kept"]
    told = [
        f"- {escape(resilience.entry(each).text)}: **{escape(each.candidate)}**, {escape(each.fault)}: "
        f"{escape(each.reason) or 'no reason was recorded'}{_of_model(each)}"
        for each in bad[:_MOST_MISSES]
    ]
    if len(bad) > _MOST_MISSES:
        told.append(f"- and {len(bad) - _MOST_MISSES} more: see report.html")
    told += [f"- {_GAPS[gap.applies]}: {escape(gap.told)}" for gap in screen.gaps]
    parts = ["### What was broken, and what was left", _table(heads, rows), "\n".join(told), escape(resilience.LEGEND)]
    return [part for part in parts if part]


def _of_model(cell: FaultCell) -> str:
    return f" ({escape(said)})" if (said := resilience.of_model(cell)) else ""


def _criteria_table(table: CriteriaTable) -> str:
    heads = ["criterion", "target", *(["published"] if table.has_published else [])]
    heads += [f"{escape(each.candidate)}{' (reference)' if each.reference else ''}" for each in table.columns]
    rows = [
        [
            escape(", ".join(filter(None, (line.name, line.where)))) + (" (advisory)" if line.advisory else ""),
            escape(line.limit),
            *([escape(line.published) or NOT_MEASURED] if table.has_published else []),
            *(escape(each.told) for each in line.standings),
        ]
        for line in table.lines
    ]
    return f"### {escape(table.title)}\n\n{escape(table.lead)}\n\n{_table(heads, rows)}"


def _side(side: Side, *, alone: bool) -> list[str]:
    said = [] if alone else [f"### {escape(side.title)}\n\n{escape(side.lead)}"]
    return [*said, *map(_block, side.blocks)]


def _block(block: Block) -> str:
    heads = [escape(block.title)]
    heads += [f"{escape(each.name)}{' (reference)' if each.reference else ''}" for each in block.columns]
    rows = [[escape(row.label), *(_figure(each) for each in row.figures), escape(row.limit)] for row in block.rows]
    return _table([*heads, "limit"], rows)


def _figure(figure: Figure) -> str:
    return escape(figure.told)


def _facts(screen: Screen) -> str:
    lines = [f"- **{fact.label}:** {escape(fact.text)}" for fact in (*screen.machine, *screen.scope)]
    lines += [f"- **Limit:** {escape(note)}" for note in screen.notes]
    return "\n".join(lines)


def _details(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>" if body else ""


def _tallies(screen: Screen) -> str:
    """One line a criterion: how many cells each candidate passed; those of the tables above are left out."""
    if not screen.untabled:
        return "" if screen.groups else "No criterion was judged."
    names = [
        f"{escape(each.candidate)}{' (reference)' if each.reference else ''}" for each in screen.untabled[0].tallies
    ]
    rows = [
        [
            escape(each.name),
            *(tally.told for tally in each.tallies),
            escape(each.limit) + ("" if each.gating else " (advisory)"),
        ]
        for each in screen.untabled
    ]
    return _table(("criteria: cells passed", *names, "limit"), rows)


def _missed(screen: Screen) -> str:
    """What judged candidates did not pass, gating criteria first."""
    found = [*misses(screen.groups, gating=True), *misses(screen.untabled, gating=False)]
    lines = [
        f"- {each.symbol} **{escape(each.candidate)}**: {escape(each.name)}, {escape(each.cells)}: {escape(each.told)}"
        + ("" if each.gating else " (advisory, decides nothing)")
        for each in found[:_MOST_MISSES]
    ]
    if len(found) > _MOST_MISSES:
        lines.append(f"- and {len(found) - _MOST_MISSES} more: see junit.xml or report.html")
    return "\n".join(lines)


def _criteria(screen: Screen) -> str:
    """What each candidate measured: one figure, or the lowest and the highest of a criterion's cells."""
    if not screen.untabled:
        return ""
    rows = []
    for group in screen.untabled:
        own = [escape(measured_of(group.of(tally.candidate))) for tally in group.tallies]
        rows.append([f"{escape(group.name)}: {escape(group.expression)}", *own])
    return _table(("criterion", *(escape(each.candidate) for each in screen.untabled[0].tallies)), rows)


def _settings(results: Results) -> str:
    rows = [
        [
            escape(each.name),
            escape(each.server_version) or NOT_MEASURED,
            escape("; ".join(f"{name}={value}" for name, value in each.settings.items())) or NOT_MEASURED,
            escape(each.durability) or NOT_MEASURED,
        ]
        for each in results.candidates
    ]
    return _table(("candidate", "version", "settings", "durability"), rows) if rows else ""


def _command(screen: Screen) -> str:
    """The exact command in a code block whose fence it cannot close."""
    body = screen.command.replace("\r", "")
    if not body.strip():
        return ""
    fence = "```"
    while fence in body:
        fence += "`"
    return f"{fence}sh\n{body}\n{fence}"
