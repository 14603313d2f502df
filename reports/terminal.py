"""The run on a terminal: one screen with the verdicts, the side-by-side tables, the criteria and what they hold for."""

from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.results import Results, Verdict
from reports.columns import GAP, all_fits, fit
from reports.groups import Group, Miss, Tally, misses
from reports.summary import SEPARATOR, Headline, Screen, summarise
from reports.table import NO_LIMIT, Block, Figure

_STYLES: dict[Verdict, str] = {"pass": "green", "fail": "bold red", "inconclusive": "yellow"}
_PLAIN = str.maketrans(
    {"✓": "+", "✗": "X", "–": "-", "×": "x", "≤": "<=", "≥": ">=", "µ": "u", "±": "+/-", "∞": "inf", "·": "|"}
    | {"…": "..", "“": '"', "”": '"'}
)
_MOST_MISSES, _MOST_NOTES = 8, 5
_SMALL = 12
_SHORT = {
    "lost / duplicated / corrupted": "lost/duplicated/corrupted",
    "deadlocks in the database": "deadlocks in database",
    "lock errors": "locks",
    "success rate": "ok",
    "reference": "ref.",
}
"""What a terminal has no room to spell out; the report does."""
Entry = tuple[str, str, str]
"""A table's entry: its text, a remark (beside it where there is room, else below), the text's style."""

_Rows = Callable[[Sequence[int]], list[list[Entry]]]
"""The rows of a table for the columns asked for."""


def render(results: Results, console: Console) -> None:
    """Print the one-minute screen."""
    screen = summarise(results)
    page = _Page(console)
    page.head(screen)
    page.headlines(screen.headlines)
    one_driver = len({block.driver for block in screen.blocks}) == 1
    for block in screen.blocks:
        page.block(block, block.title.removesuffix(f", {block.driver}") if one_driver else block.title)
    page.criteria(screen)
    page.facts(screen)


class _Page:
    """Puts text on a console; characters that its encoding lacks are spelt out."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._unicode = console.encoding.lower().startswith("utf")

    def _said(self, text: str) -> str:
        text = text.replace("\N{NO-BREAK SPACE}", " ")
        return text if self._unicode else text.translate(_PLAIN).encode("ascii", "replace").decode("ascii")

    def _text(self, text: str, style: str = "") -> Text:
        return Text(self._said(text), style=style)

    def _print(self, text: Text, hang: int = 0) -> None:
        """Print ``text`` wrapped; lines after the first stand ``hang`` columns further in."""
        width = max(20, self._console.width)
        first = text.wrap(self._console, width)[0]
        first.rstrip()
        self._console.print(first, highlight=False)
        rest = text[len(first) :]
        rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
        for line in rest.wrap(self._console, max(20, width - hang)) if rest else []:
            line.rstrip()
            self._console.print(Text(" " * hang) + line, highlight=False)

    def head(self, screen: Screen) -> None:
        """The run's verdict and the answer."""
        self._console.print()
        title = self._text(screen.title, "bold")
        title.append(self._text(f"  {screen.run_id}, {screen.took}", "dim"))
        self._print(title)
        text = self._text(f"{screen.symbol} {screen.word}  ", _STYLES[screen.verdict])
        text.append(self._text(self._packed(screen.answer, len(text)), "bold"))
        self._print(text, hang=2)
        for alarm in screen.alarms:
            self._print(self._text(f"! {alarm}", "bold yellow"), hang=2)

    def _packed(self, answer: str, used: int) -> str:
        """The answer with line breaks between candidates instead of within one."""
        lines, room = [""], self._console.width - used
        for part in answer.split(SEPARATOR):
            longer = f"{lines[-1]} · {part}" if lines[-1] else part
            if lines[-1] and cell_len(longer) > room:
                lines.append(part)
                room = self._console.width - 2
            else:
                lines[-1] = longer
        return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")

    def headlines(self, headlines: Sequence[Headline]) -> None:
        """Each candidate's verdict and reason; then what to do next, once for those that it is the same for."""
        self._console.print()
        steps: dict[str, list[str]] = {}
        verdicts: dict[tuple[bool, Verdict, str], list[Headline]] = {}
        for each in headlines:
            verdicts.setdefault((each.reference, each.verdict, each.reason), []).append(each)
            if not each.reference:
                steps.setdefault(each.next_step, []).append(each.candidate)
        for (reference, verdict, reason), alike in verdicts.items():
            style = "dim" if reference else _STYLES[verdict]
            text = self._text(f"{'·' if reference else alike[0].symbol} {alike[0].word}  ", style)
            text.append(self._text(", ".join(each.candidate for each in alike), "bold"))
            text.append(self._text(f": {reason}", "dim" if reference else ""))
            self._print(text, hang=2)
        for step, names in steps.items():
            who = f" ({', '.join(names)})" if len(steps) > 1 else ""
            self._print(self._text(f"Next{who}: {step}", "bold"), hang=2)

    def block(self, block: Block, title: str) -> None:
        """The side-by-side table, in as many parts as the width asks for; the reference leads each."""
        fixed = [i for i, each in enumerate(block.columns) if each.reference][:1]
        others = [i for i in range(len(block.columns)) if i not in fixed]
        names = [f"{each.name}{' (ref.)' if each.reference else ''}" for each in block.columns]

        def rows(shown: Sequence[int], words: Callable[[str], str] = str) -> list[list[Entry]]:
            head: list[Entry] = [(title, "", "bold"), *((names[i], "", "bold") for i in shown)]
            lines = [[*head, ("limit", "", "dim")]]
            for row in block.rows:
                figures = [_figure(row.figures[i], reference=block.columns[i].reference) for i in shown]
                limit = "" if row.limit == NO_LIMIT else _short(row.limit)
                lines.append([(words(row.label), "", ""), *figures, (limit, "", "dim")])
            return lines

        self._console.print()
        whole = rows([*fixed, *others], _short)
        if self._fits(whole):
            self._grid(whole)
            return
        for part in self._parts(rows, fixed, others):
            self._grid(rows(part))

    def criteria(self, screen: Screen) -> None:
        """One line a criterion with the cells passed; below it what was missed, unless a headline says it already."""
        if not screen.groups:
            return
        shown = screen.groups
        fixed = [i for i, each in enumerate(shown[0].tallies) if each.reference][:1]
        others = [i for i in range(len(shown[0].tallies)) if i not in fixed]

        def rows(part: Sequence[int]) -> list[list[Entry]]:
            names = [shown[0].tallies[i] for i in part]
            head: list[Entry] = [("criteria: cells passed", "", "bold")]
            head += [(f"{each.candidate}{' (ref.)' if each.reference else ''}", "", "bold") for each in names]
            lines = [[*head, ("limit", "", "dim")]]
            lines += [
                [(group.name, "", ""), *(_tally(group.tallies[i], group) for i in part), _limit(group)]
                for group in shown
            ]
            return lines

        self._console.print()
        for part in self._parts(rows, fixed, others):
            self._grid(rows(part))
        self._misses(screen)

    def _misses(self, screen: Screen) -> None:
        said = [each.reason for each in screen.headlines]
        gating = [
            miss
            for miss in misses(screen.groups, gating=True)
            if not any(text.startswith(miss.name) and miss.told in text for text in said)
        ]
        for miss in gating[:_MOST_MISSES]:
            text = self._text(f"{miss.symbol} ", _STYLES[miss.outcome])
            self._print(text.append(self._text(_told(miss))), hang=2)
        if len(gating) > _MOST_MISSES:
            self._print(self._text(f"  and {len(gating) - _MOST_MISSES} more: see the report", "dim"))
        advisory = misses(screen.groups, gating=False)
        if advisory:
            alike: dict[str, list[str]] = {}
            for each in advisory:
                alike.setdefault(f"{each.symbol} {each.name}", []).append(each.candidate)
            told = "; ".join(f"{name} ({', '.join(who)})" for name, who in alike.items())
            self._one_line(f"advisory, decides nothing: {told}")

    def facts(self, screen: Screen) -> None:
        """What the figures hold for, the machine's state and the run's limits, briefly: the report has all of it."""
        self._console.print()
        width = max(len(fact.label) for fact in screen.brief) + GAP
        for fact in screen.brief:
            text = self._text(fact.label.ljust(width), "bold")
            text.append(self._text(fact.text))
            self._print(text, hang=width)
        for note in screen.notes[:_MOST_NOTES]:
            self._one_line(note, lead="Limit".ljust(width))
        if len(screen.notes) > _MOST_NOTES:
            self._one_line(f"and {len(screen.notes) - _MOST_NOTES} more: see the report", lead="Limit".ljust(width))

    def _one_line(self, text: str, lead: str = "") -> None:
        """Print as much of ``text`` as one line holds, cut between clauses or words."""
        room = max(20, self._console.width - len(lead))
        said = self._said(text)
        if cell_len(said) > room:
            said = _clause(said, room - 1) + ("…" if self._unicode else "~")
        line = Text(lead, style="bold")
        line.append(Text(said, style="" if lead else "dim"))
        self._print(line)

    def _parts(self, rows: _Rows, fixed: list[int], others: list[int]) -> list[list[int]]:
        """The columns of each part of a table: all at once if no word is cut, else with as few parts as do."""
        for parts in range(1, len(others) + 1):
            size = -(-len(others) // parts)
            split = [[*fixed, *others[start : start + size]] for start in range(0, len(others), size)]
            if all(self._fits(rows(part)) for part in split):
                return split
        return [[each] for each in [*fixed, *others]]

    def _fits(self, rows: list[list[Entry]]) -> bool:
        return sum(fit(self._columns(rows), self._console.width)) + GAP * (len(rows[0]) - 1) <= self._console.width

    def _columns(self, rows: list[list[Entry]]) -> list[list[str]]:
        """The texts of each column, a figure's parts kept together."""
        last = len(rows[0]) - 1
        return [
            [self._said(f"{_unbroken(row[i][0])} {row[i][1]}".rstrip() if 0 < i < last else row[i][0]) for row in rows]
            for i in range(last + 1)
        ]

    def _grid(self, rows: list[list[Entry]]) -> None:
        """Print a table; remarks are shortened where they would make it wrap."""
        width = self._console.width
        if not all_fits(self._columns(rows), width):
            rows = [[(text, _brief(note), style) for text, note, style in row] for row in rows]
        widths = fit(self._columns(rows), width)
        table = Table(box=None, show_header=False, show_edge=False, pad_edge=False, padding=(0, GAP, 0, 0))
        for each in widths:
            table.add_column(width=each, overflow="fold")
        for row in rows:
            table.add_row(*(self._entry(each, width) for each, width in zip(row, widths, strict=True)))
        self._console.print(table)

    def _entry(self, entry: Entry, width: int) -> Text:
        """The entry with its remark beside it, or below it where there is no room."""
        text, note, style = entry
        made = self._text(text, style)
        if note:
            fits = cell_len(self._said(f"{text} {note}")) <= width
            made.append(self._text(f"{' ' if fits else chr(10)}{note}", "dim"))
        return made


def _figure(figure: Figure, *, reference: bool) -> Entry:
    style = _STYLES[figure.outcome] if figure.outcome and figure.gating and not reference else ""
    text, note = f"{figure.text.replace(' / ', '/')} {figure.symbol}".rstrip(), _short(figure.note)
    if note and not note.startswith("±") and cell_len(f"{text} {note}") <= _SMALL:
        text, note = f"{text} {note}", ""
    return text, note, style


def _brief(note: str) -> str:
    """A remark without its details; how exact a figure is goes first."""
    return "" if note.startswith("±") else note.partition(":")[0]


def _tally(tally: Tally, group: Group) -> Entry:
    style = _STYLES[tally.outcome] if tally.outcome and group.gating and not tally.reference else ""
    return tally.told, "", style


def _limit(group: Group) -> Entry:
    return f"{_short(group.limit)}{'' if group.gating else ' (advisory)'}", "", "dim"


def _short(text: str) -> str:
    for long, short in _SHORT.items():
        text = text.replace(long, short)
    return text


def _told(miss: Miss) -> str:
    return f"{miss.candidate}: {miss.name}, {miss.cells}: {miss.told}"


def _unbroken(text: str) -> str:
    """As wide as ``text``, and one word."""
    return text.replace(" ", "_")


def _clause(text: str, room: int) -> str:
    """The start of ``text`` that fits into ``room``: whole clauses if they fill half of it, else whole words."""
    head = text[:room]
    for ends in (";:.,(", " "):
        at = max(head.rfind(end) for end in ends)
        if at > room // 2:
            return head[:at].rstrip(" ;:.,(")
    return head
