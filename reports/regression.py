"""One run against another: a figure a line, worst first, for the terminal, Markdown and HTML."""

from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Console

from bench.results import Change, Regression, Results
from reports import compared, forest
from reports.figures import NOT_MEASURED, one_line, printable
from reports.page import Entry, Page

_STYLES: Final[dict[Change, str]] = {"worse": "bold red", "unknown": "yellow", "same": "", "better": "green"}
_MOST_LINES, _MOST_UNLIKE = 12, 8
_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("reports"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def html(regression: Regression) -> Markup:
    """A section of a run's page: how the run compares with its baseline."""
    return _macro("section", regression)


def _macro(name: str, regression: Regression) -> Markup:
    macro = getattr(_ENVIRONMENT.get_template("regression.html.j2").module, name)
    return Markup(macro(_context(regression), forest.draw(regression), Markup))  # drawn by us, every name escaped


def html_page(regression: Regression, base: Results, candidate: Results) -> str:
    """The comparison as one HTML document that needs nothing from anywhere else."""
    text = _ENVIRONMENT.get_template("regression_page.html.j2").render(
        body=_macro("part", regression),
        view=_context(regression),
        sides=compared.sides(base, candidate),
        notes=compared.notes(regression, base, candidate),
        title=one_line(candidate.run.title),
    )
    return printable(text)


def _context(regression: Regression) -> dict[str, object]:
    box = {"worse": "fail", "unknown": "inconclusive", "same": "pass", "better": "pass"}[regression.outcome]
    return {
        "outcome": regression.outcome,
        "sign": compared.SIGNS[regression.outcome],
        "box": box,
        "base": one_line(regression.base),
        "candidate": one_line(regression.candidate),
        "reason": one_line(regression.reason),
        "headline": compared.headline(regression),
        "footing": compared.footing(regression),
        "lines": compared.lines(regression),
        "unlike": compared.unlike_rows(regression),
        "missing": [one_line(each) for each in regression.missing],
    }


def markdown(regression: Regression) -> list[str]:
    """The comparison as Markdown blocks: a lead, the table, what it rests on."""
    from reports.markdown import escape

    heads = ["outcome", "cell", "figure", "base", "candidate", "ratio (interval)", "rounds"]
    rows = [
        [
            f"{each.sign} {each.outcome}",
            escape(each.where),
            escape(each.figure),
            escape(each.theirs),
            escape(each.ours),
            each.ratio + (f" ({each.interval})" if each.interval else ""),
            each.rounds,
        ]
        for each in compared.lines(regression)
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] * 3 + ["---:"] * 4, *rows])
    sign = compared.SIGNS[regression.outcome]
    found = [
        f"**{sign} {regression.outcome}** (base: {escape(regression.base)}): {escape(compared.headline(regression))}."
    ]
    if regression.unlike:
        said = "".join(f"\n> - {escape(each)}" for each in compared.differing(regression))
        found.append(f"> ⚠ Unlike, and compared all the same:\n>{said}")
    found += [*([table] if rows else []), f"{escape(regression.reason)}. {escape(compared.footing(regression))}"]
    if regression.missing:
        found.append(f"Not compared: {escape('; '.join(regression.missing))}.")
    return found


def markdown_page(regression: Regression, base: Results, candidate: Results) -> str:
    """compare.md, for a CI step summary."""
    from reports.markdown import escape

    parts = [f"# {escape(candidate.run.title)}: one run against another", *markdown(regression)]
    told = [f"- **{each.role}:** {escape(_told(each))}" for each in compared.sides(base, candidate)]
    told += [f"- {escape(each)}" for each in compared.notes(regression, base, candidate)]
    return printable("\n\n".join([*parts, "\n".join(told)]) + "\n")


def _told(side: compared.Side) -> str:
    return f"{side.id}, revision {side.revision}, Trackbench {side.trackbench}, {side.rounds} rounds; {side.ended}"


def write(regression: Regression, base: Results, candidate: Results, folder: Path) -> Path:
    """Write ``compare.html`` and ``compare.md`` into ``folder``, each in one step; return the page's path.

    Raises:
        OSError: the folder can't be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        "compare.md": markdown_page(regression, base, candidate),
        "compare.html": html_page(regression, base, candidate),
    }
    for name, text in found.items():
        draft = folder / f".{name}.tmp"
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(folder / name)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
    return folder / "compare.html"


def terminal(regression: Regression, page: Page, most: int = _MOST_LINES) -> None:
    """Print the comparison; no more than ``most`` lines of the table, for the report has them all."""
    text = page.text(f"{compared.SIGNS[regression.outcome]} {regression.outcome}  ", _STYLES[regression.outcome])
    text.append(page.text(compared.headline(regression), "bold"))
    page.print(text.append(page.text(f" (base: {one_line(regression.base)})", "dim")), hang=2)
    told = compared.differing(regression)
    for each in told[:_MOST_UNLIKE]:
        page.print(page.text(f"! unlike: {each}", "bold yellow"), hang=2)
    if len(told) > _MOST_UNLIKE:
        page.print(page.text(f"! and {len(told) - _MOST_UNLIKE} more: see the report", "bold yellow"), hang=2)
    found = compared.lines(regression)
    page.line()
    if found:
        page.grid([_HEAD, *map(_entries, found[:most])])
    if len(found) > most:
        page.print(page.text(f"  and {len(found) - most} more, none of them worse than these: see the report", "dim"))
    for line in [one for one in found[:most] if one.ratio == NOT_MEASURED]:
        page.print(page.text(f"{line.where}, {line.figure}: {line.reason}", "dim"), hang=2)
    page.line()
    page.print(page.text(f"{one_line(regression.reason)}. {compared.footing(regression)}"))
    if regression.missing:
        page.print(page.text(f"Not compared: {one_line('; '.join(regression.missing))}.", "dim"))


_HEAD: Final[list[Entry]] = [(name, "", "bold") for name in ("", "figure", "base", "candidate", "ratio", "rounds")]
_LONGEST: Final = max(map(len, compared.SIGNS))


def _entries(line: compared.Line) -> list[Entry]:
    style = _STYLES[line.outcome]
    return [
        (f"{line.sign} {line.outcome.ljust(_LONGEST)}  {line.where}", "", style),
        (line.figure, "", ""),
        (line.theirs, "", ""),
        (line.ours, "", ""),
        (line.ratio, f"({line.interval.replace(' to ', '–')})" if line.interval else "", style),
        (line.rounds, "", ""),
    ]


def render(regression: Regression, base: Results, candidate: Results, console: Console) -> None:
    """Print all of the comparison, and which two runs it is of."""
    page = Page(console)
    page.line()
    page.print(page.text(one_line(candidate.run.title), "bold"))
    terminal(regression, page, most=len(regression.comparisons))
    for each in compared.sides(base, candidate):
        page.print(page.text(each.role.ljust(11), "bold").append(page.text(_told(each))), hang=11)
    for note in compared.notes(regression, base, candidate):
        page.print(page.text(note, "yellow"), hang=2)
