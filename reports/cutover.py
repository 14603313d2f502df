"""How to carry a move out, and how to go back: the numbered steps of this very case, as each format prints them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console

from bench.decision_record import Act
from bench.results import Results
from reports.figures import one_line, printable
from reports.page import Page

CUTOVER: Final = "Cut-over"
ROLLBACK: Final = "Roll-back"
_LEADS: Final = {
    CUTOVER: "From the source to the target, once every step of the checklist is as it should be.",
    ROLLBACK: "Should anything be wrong afterwards: nothing that was written is lost.",
}


@dataclass(frozen=True)
class Part:
    """The steps of one direction; ``lead`` says when, and when not yet."""

    key: str
    title: str
    lead: str
    acts: tuple[Act, ...]


def parts(results: Results) -> tuple[Part, ...]:
    """Cut-over and roll-back; nothing where no store was moved."""
    found = {CUTOVER: results.cutover, ROLLBACK: results.rollback}
    return tuple(
        Part(title.lower(), title, _lead(results, title), tuple(map(_clean, acts)))
        for title, acts in found.items()
        if acts
    )


def _lead(results: Results, title: str) -> str:
    if title != CUTOVER or results.verdict == "pass":
        return _LEADS[title]
    return f"Not yet: the verdict is {results.verdict}. {_LEADS[title]}"


def _clean(act: Act) -> Act:
    return Act(do=one_line(act.do), commands=[printable(each) for each in act.commands], watch=one_line(act.watch))


def markdown(results: Results, escape: Callable[[str], str]) -> list[str]:
    """Both lists as Markdown."""
    return [
        f"### {part.title}\n\n{escape(part.lead)}\n\n"
        + "\n".join(_item(number, act, escape) for number, act in enumerate(part.acts, start=1))
        for part in parts(results)
    ]


def _item(number: int, act: Act, escape: Callable[[str], str]) -> str:
    """One step; its commands stand in a block whose fence they can't close."""
    said = f"{number}. {escape(act.do)}"
    if act.commands:
        body = "\n".join(line for each in act.commands for line in each.splitlines())
        fence = "```"
        while fence in body:
            fence += "`"
        block = "\n".join(f"   {line}" for line in (f"{fence}sh", *body.splitlines(), fence))
        said += f"\n{block}"
    return said + (f"\n   See: {escape(act.watch)}" if act.watch else "")


def terminal(results: Results, page: Page) -> None:
    """Both lists on a terminal."""
    for part in parts(results):
        page.line()
        page.print(page.text(part.title, "bold").append(page.text(f": {part.lead}", "dim")), hang=2)
        _acts(part.acts, page)


def show(cutover: Sequence[Act], rollback: Sequence[Act], console: Console) -> None:
    """Print both lists alone, as `trackbench migrate` does at its end."""
    page = Page(console)
    for title, acts in ((CUTOVER, cutover), (ROLLBACK, rollback)):
        page.line()
        page.print(page.text(title, "bold").append(page.text(f": {_LEADS[title]}", "dim")), hang=2)
        _acts([_clean(act) for act in acts], page)


def _acts(acts: Sequence[Act], page: Page) -> None:
    for number, act in enumerate(acts, start=1):
        page.print(page.text(f"{number:>2}. {act.do}"), hang=4)
        for command in act.commands:
            page.verbatim(f"      {command}", "bold")
        if act.watch:
            page.print(page.text(f"    {act.watch}", "dim"), hang=4)
