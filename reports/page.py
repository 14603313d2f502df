"""Text on a terminal: lines that wrap well and tables that use the width there is."""

from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports.columns import GAP, all_fits, fit

_PLAIN = str.maketrans(
    {"✓": "+", "✗": "X", "–": "-", "×": "x", "≤": "<=", "≥": ">=", "µ": "u", "±": "+/-", "∞": "inf", "·": "|"}
    | {"…": "..", "“": '"', "”": '"'}
)
Entry = tuple[str, str, str]
"""A table's entry: its text, a remark (beside it where there is room, else below), the text's style."""

Rows = Callable[[Sequence[int]], list[list[Entry]]]
"""The rows of a table for the columns asked for."""


class Page:
    """Puts text on a console; characters that its encoding lacks are spelt out."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._unicode = console.encoding.lower().startswith("utf")

    def line(self) -> None:
        """An empty line."""
        self.console.print()

    def said(self, text: str) -> str:
        """``text`` in characters that the console's encoding has."""
        text = text.replace("\N{NO-BREAK SPACE}", " ")
        return text if self._unicode else text.translate(_PLAIN).encode("ascii", "replace").decode("ascii")

    def text(self, text: str, style: str = "") -> Text:
        """The same in a style."""
        return Text(self.said(text), style=style)

    def print(self, text: Text, hang: int = 0) -> None:
        """Print ``text`` wrapped; lines after the first stand ``hang`` columns further in."""
        width = max(20, self.console.width)
        first = text.wrap(self.console, width)[0]
        first.rstrip()
        self.console.print(first, highlight=False)
        rest = text[len(first) :]
        rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
        for line in rest.wrap(self.console, max(20, width - hang)) if rest else []:
            line.rstrip()
            self.console.print(Text(" " * hang) + line, highlight=False)

    def verbatim(self, text: str, style: str = "") -> None:
        """Print ``text`` as it is, on one line that only the terminal itself may break: it is there to be copied."""
        self.console.print(self.text(text, style), soft_wrap=True, highlight=False)

    def one_line(self, text: str, lead: str = "") -> None:
        """Print as much of ``text`` as one line holds, cut between clauses or words."""
        room = max(20, self.console.width - len(lead))
        said = self.said(text)
        if cell_len(said) > room:
            said = _clause(said, room - 1) + ("…" if self._unicode else "~")
        line = Text(lead, style="bold")
        line.append(Text(said, style="" if lead else "dim"))
        self.print(line)

    def parts(self, rows: Rows, fixed: list[int], others: list[int]) -> list[list[int]]:
        """The columns of each part of a table: all at once if no word is cut, else with as few parts as do."""
        for parts in range(1, len(others) + 1):
            size = -(-len(others) // parts)
            split = [[*fixed, *others[start : start + size]] for start in range(0, len(others), size)]
            if all(self.fits(rows(part)) for part in split):
                return split
        return [[each] for each in [*fixed, *others]]

    def fits(self, rows: list[list[Entry]]) -> bool:
        """Whether the table can be printed with no word cut."""
        return sum(fit(self._columns(rows), self.console.width)) + GAP * (len(rows[0]) - 1) <= self.console.width

    def _columns(self, rows: list[list[Entry]]) -> list[list[str]]:
        """The texts of each column, a figure's parts kept together."""
        last = len(rows[0]) - 1
        return [
            [self.said(f"{_unbroken(row[i][0])} {row[i][1]}".rstrip() if 0 < i < last else row[i][0]) for row in rows]
            for i in range(last + 1)
        ]

    def grid(self, rows: list[list[Entry]]) -> None:
        """Print a table; remarks are shortened where they would make it wrap."""
        width = self.console.width
        if not all_fits(self._columns(rows), width):
            rows = [[(text, _brief(note), style) for text, note, style in row] for row in rows]
        widths = fit(self._columns(rows), width)
        table = Table(box=None, show_header=False, show_edge=False, pad_edge=False, padding=(0, GAP, 0, 0))
        for each in widths:
            table.add_column(width=each, overflow="fold")
        for row in rows:
            table.add_row(*(self._entry(each, width) for each, width in zip(row, widths, strict=True)))
        self.console.print(table)

    def _entry(self, entry: Entry, width: int) -> Text:
        """The entry with its remark beside it, or below it where there is no room."""
        text, note, style = entry
        made = self.text(text, style)
        if note:
            fits = cell_len(self.said(f"{text} {note}")) <= width
            made.append(self.text(f"{' ' if fits else chr(10)}{note}", "dim"))
        return made


def _brief(note: str) -> str:
    """A remark without its details; how exact a figure is goes first."""
    return "" if note.startswith("±") else note.partition(":")[0]


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
