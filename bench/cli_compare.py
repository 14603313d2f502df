"""The command `trackbench compare`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.errors import BadInput, ExitCode

if TYPE_CHECKING:
    from bench.results import Regression, Results


def _margin(_: click.Context, __: click.Parameter, value: str) -> float:
    text = value.strip()
    try:
        number = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    except ValueError as error:
        raise BadInput(f"--margin {value!r}: not a share; write 5% or 0.05") from error
    if not 0 < number < 1:  # NaN is neither
        raise BadInput(f"--margin {value}: must be above 0 and below 100%; write 5% or 0.05")
    return number


@click.command()
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option(
    "--margin",
    default="5%",
    show_default=True,
    callback=_margin,
    metavar="5%|0.05",
    help="How far a figure may move and still count as the same.",
)
@click.option("--anyway", is_flag=True, help="Compare runs of unlike machines, versions or workloads all the same.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON instead of the table.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for compare.html and compare.md, instead of the candidate's own.",
)
def compare(base: Path, candidate: Path, margin: float, anyway: bool, as_json: bool, out: Path | None) -> None:
    """Judge the run CANDIDATE against the earlier run BASE: better, worse, same or unknown, a figure a line.

    Each is a run's folder or its results.json. Writes compare.html and compare.md into the candidate's folder.

    Exit codes: 0 nothing is worse, 1 something is, 2 bad input or runs that are not alike, 3 nothing is known to be
    worse but something is unknown, 4 the candidate lost, changed or duplicated data.
    """
    from rich.console import Console

    from bench.baseline import load_run
    from bench.judge.regression import regression
    from reports.figures import one_line
    from reports.regression import render, write

    ours, theirs = load_run(candidate), load_run(base)
    _refuse_itself(base, candidate, (theirs, ours))
    if not anyway:
        _refuse_unknown({base: theirs, candidate: ours})
    try:
        found = regression(theirs, ours, margin, anyway)
    except BadInput as error:
        raise BadInput(one_line(str(error))) from error  # it repeats what stands in a file
    if not found.comparisons:
        why = "every cell had too few operations for a percentile" if _common(theirs, ours) else "no cell is in both"
        raise BadInput(f"{base} and {candidate} have no figure in common, since {why}; compare runs of one scenario")
    folder = out or (candidate if candidate.is_dir() else candidate.parent)
    try:
        page = write(found, theirs, ours, folder)
    except OSError as error:
        raise BadInput(f"{folder}: {error.strerror}; give a folder that can be written to with --out") from error
    if as_json:
        click.echo(found.model_dump_json(indent=1))
    else:
        render(found, theirs, ours, Console())
        click.echo(f"report: {page}")
    raise SystemExit(exit_code(found, ours))


def exit_code(found: Regression, candidate: Results) -> ExitCode:
    """What a comparison ends with: lost data outweighs a slower figure, and that one that is not known."""
    outcomes = {one.outcome for one in found.comparisons}
    if candidate.exit_code == ExitCode.INTEGRITY:
        return ExitCode.INTEGRITY
    if "worse" in outcomes:
        return ExitCode.FAIL
    cut_short = candidate.run.interrupted and bool(found.missing)
    return ExitCode.INCONCLUSIVE if "unknown" in outcomes or cut_short else ExitCode.PASS


def _refuse_itself(base: Path, candidate: Path, runs: tuple[Results, Results]) -> None:
    first, second = (one.run for one in runs)
    if (first.id, first.started) == (second.id, second.started):
        raise BadInput(f"{base} and {candidate} are the same run; name two runs")


def _common(base: Results, candidate: Results) -> bool:
    """Whether a cell is in both runs."""
    places = [
        {(cell.candidate, cell.driver, cell.workload, cell.concurrency, cell.load) for cell in one.cells}
        for one in (base, candidate)
    ]
    return bool(places[0] & places[1])


def _refuse_unknown(runs: Mapping[Path, Results]) -> None:
    for path, run in runs.items():
        if not run.conditions:
            raise BadInput(
                f"{path}: does not say under which conditions it was measured (an older Trackbench made it); "
                "run the scenario again, or add --anyway"
            )
