"""The checklist of a move: a line a step, and what each format makes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree as ET

from bench.decision_record import BADNESS, Outcome, Step
from bench.results import Results
from reports.figures import one_line, plural
from reports.page import Page

TITLE: Final = "The move, step by step"
_SIGNS: Final[dict[Outcome, str]] = {"pass": "✓", "warn": "!", "unknown": "?", "fail": "✗", "not done": "–"}
_CLASSES: Final[dict[Outcome, str]] = {
    "pass": "pass", "warn": "inconclusive", "unknown": "inconclusive", "fail": "fail", "not done": "",
}  # fmt: skip
_STYLES: Final[dict[Outcome, str]] = {
    "pass": "green", "warn": "yellow", "unknown": "yellow", "fail": "bold red", "not done": "dim",
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One step, ready to print; ``style`` is its outcome's class on the page, empty where it has no colour."""

    step: str
    sign: str
    outcome: Outcome
    style: str
    said: str
    remedy: str


def lines(results: Results) -> tuple[Line, ...]:
    """The checklist in its order; nothing where no store was moved."""
    return tuple(
        Line(
            one_line(each.step), _SIGNS[each.outcome], each.outcome, _CLASSES[each.outcome], one_line(each.said),
            one_line(each.remedy),
        )
        for each in results.checklist
    )  # fmt: skip


def lead(results: Results) -> str:
    """From where to where, and how the steps ended."""
    if results.move is None:
        return ""
    counts = {outcome: sum(each.outcome == outcome for each in results.checklist) for outcome in _SIGNS}
    words = {"pass": "passed", "warn": "with a warning", "unknown": "unknown", "fail": "failed", "not done": "not done"}
    said = ", ".join(f"{number} {words[outcome]}" for outcome, number in counts.items() if number)
    where = f"{one_line(results.move.source)} → {target(results)}"
    return f"{where}. {plural(len(results.checklist), 'step')}: {said}."


def target(results: Results) -> str:
    """What the store was moved to, in words."""
    if results.move is None:
        return ""
    told = one_line(results.move.target)
    return f"a private {told} server, gone with the run" if results.move.scratch else told


def moved(results: Results) -> str:
    """What became of the move, in one line for the top; empty where there was none."""
    move = results.move
    if move is None:
        return ""
    if move.differs is not None:
        return f"NOT EQUAL: {one_line(move.differs)}"
    if move.migration is not None and move.migration.problems:
        return f"Not moved: {plural(len(move.migration.problems), 'problem')} found beforehand"
    if move.migration is None or move.migration.proof is None:
        return "Not moved: no copy was proved equal"
    proof = move.migration.proof
    again = ", and again after the load" if move.proof_after_load is not None else ""
    return f"{proof.compared:,} rows in {len(proof.tables)} tables moved to {target(results)}: proved equal{again}"


def worst(results: Results) -> Step | None:
    """The step that stands most in the way, if any does."""
    bad = [each for each in results.checklist if each.outcome in ("fail", "unknown")]
    return max(bad, key=lambda each: BADNESS.index(each.outcome), default=None)


def markdown(results: Results, escape: Callable[[str], str]) -> list[str]:
    """The checklist as Markdown."""
    if not results.checklist:
        return []
    rows = [
        f"| {escape(each.step)} | {each.sign} {each.outcome} | {escape(each.said)}"
        f"{f' <br>**Do:** {escape(each.remedy)}' if each.remedy else ''} |"
        for each in lines(results)
    ]
    table = "\n".join(["| step | outcome | found |", "| --- | --- | --- |", *rows])
    return [f"### {TITLE}\n\n{escape(lead(results))}\n\n{table}"]


def terminal(results: Results, page: Page) -> None:
    """The checklist on a terminal."""
    if not results.checklist:
        return
    page.line()
    page.print(page.text(TITLE, "bold").append(page.text(f": {lead(results)}", "dim")), hang=2)
    for each in lines(results):
        text = page.text(f"{each.sign} ", _STYLES[each.outcome])
        text.append(page.text(each.step, "" if each.outcome == "not done" else "bold"))
        text.append(page.text(f": {each.said}", "dim" if each.outcome in ("pass", "not done") else ""))
        page.print(text, hang=2)
        if each.remedy:
            page.print(page.text(f"  do: {each.remedy}", "" if each.outcome == "fail" else "dim"), hang=6)


def junit(root: ET.Element, results: Results, started: str) -> int:
    """A suite with a case a step; returns how many of them are failures. What nobody did is skipped."""
    found = lines(results)
    if not found:
        return 0
    failing = [each for each in found if each.outcome in ("fail", "unknown")]
    skipped = sum(each.outcome == "not done" for each in found)
    suite = ET.SubElement(
        root, "testsuite", name="checklist", tests=str(len(found)), failures=str(len(failing)), errors="0",
        skipped=str(skipped), time="0", timestamp=started,
    )  # fmt: skip
    for name, each in zip(_unique([each.step for each in found]), found, strict=True):
        case = ET.SubElement(suite, "testcase", classname="checklist", name=name, time="0")
        told = f"{each.outcome}: {each.said}" + (f"\ndo: {each.remedy}" if each.remedy else "")
        if each.outcome in ("fail", "unknown"):
            kind = "fail" if each.outcome == "fail" else "inconclusive"
            ET.SubElement(case, "failure", type=kind, message=each.said).text = told
        elif each.outcome == "not done":
            ET.SubElement(case, "skipped", message=each.said)
        else:
            ET.SubElement(case, "system-out").text = told
    return len(failing)


def _unique(names: Sequence[str]) -> list[str]:
    """Each name once: a later one of the same gets a number."""
    seen: dict[str, int] = {}
    made = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        made.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return made
