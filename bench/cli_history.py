"""The command `trackbench history`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.errors import BadInput

if TYPE_CHECKING:
    from bench.history import Kept
    from bench.history.series import History, Series


@click.command()
@click.argument("scenario", required=False)
@click.option(
    "--track",
    "uri",
    required=True,
    metavar="URI|env:VAR",
    help="The MLflow tracking store that holds the runs: http://…, sqlite:///…, postgresql://…, a folder.",
)
@click.option(
    "--figure",
    "figures",
    multiple=True,
    metavar="NAME",
    help="Show this figure of each cell (p50_ms, success_rate, …) instead of the usual ones; may be repeated.",
)
@click.option("--last", type=click.IntRange(1, 2000), default=200, show_default=True, help="How many runs at most.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE.html", help="The page, instead of results/….html."
)
@click.option(
    "--add",
    "added",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Log this run (a folder under results/) first, if it is not there; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; no page is written without --out.")
def history(
    scenario: str | None, uri: str, figures: tuple[str, ...], last: int, out: Path | None,
    added: tuple[Path, ...], as_json: bool,
) -> None:  # fmt: skip
    """List the past runs of SCENARIO, each figure's course, and where it changed.

    Runs are there once `trackbench run --track URI` has logged them. Without SCENARIO the scenarios that have runs are
    listed. Writes history-SCENARIO.html, with a chart for each figure of each cell.
    """
    from rich.console import Console

    from bench.history import past, scenarios, shown
    from bench.history.names import part
    from bench.history.series import SHOWN, known_figures
    from bench.history.series import history as history_of
    from reports import history as words
    from reports.history_page import write

    for folder in added:
        _add(folder, uri)
    if scenario is None:
        found = scenarios(uri)
        if as_json:
            _print_json([_kept(one) for one in found])
        else:
            words.render_scenarios(found, shown(uri), Console())
        return
    name = Path(scenario).stem if scenario.endswith(".toml") else scenario
    runs = past(uri, name, last)
    if not runs:
        raise BadInput(f"--track {shown(uri)}: no run of {name!r} was logged to its end; run it again")
    known = known_figures(runs)
    if unknown := [each for each in figures if each not in known]:
        raise BadInput(f"--figure {unknown[0]}: no run has it; use one of {', '.join(known)}")
    whole = history_of(name, shown(uri), runs, tuple(dict.fromkeys(figures)) or SHOWN)
    if out or not as_json:
        out = _written(write, whole, out or Path("results") / f"history-{part(name)}.html")
    if as_json:
        _print_json(_json(whole))
        return
    words.render(whole, Console())
    click.echo(f"charts: {out}")


def _add(folder: Path, uri: str) -> None:
    from bench.history import track
    from bench.results import read

    click.echo(track(read(folder), folder if folder.is_dir() else folder.parent, uri), err=True)


def _written(write: Callable[[History, Path], Path], whole: History, path: Path) -> Path:
    try:
        return write(whole, path)
    except OSError as error:
        where = error.filename or path
        raise BadInput(f"{where}: {error.strerror}; give a file that can be written to with --out") from error


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1, allow_nan=False))


def _kept(one: Kept) -> dict[str, object]:
    return {"scenario": one.scenario, "runs": one.runs, "latest": one.latest.isoformat() if one.latest else None}


def _json(whole: History) -> dict[str, object]:
    """Times are UTC; ``index`` counts a series' own runs from 0; ``ratio`` is after / before."""
    return {
        "scenario": whole.scenario,
        "runs": [
            {
                "id": run.id, "started": run.started.isoformat(), "revision": run.revision, "verdict": run.verdict,
                "exit_code": run.exit_code, "machine": run.machine,
            }
            for run in whole.runs
        ],
        "series": [_series(machine.name, one) for machine in whole.machines for one in machine.series],
    }  # fmt: skip


def _series(machine: str, one: Series) -> dict[str, object]:
    return {
        "machine": machine,
        "cell": one.place._asdict() if one.place else None,
        "figure": one.figure,
        "runs": [run.id for run in one.runs],
        "values": list(one.values),
        "tested": one.tested,
        "changes": [
            {**asdict(each.change), "run": each.run.id, "better": each.better, "differs": dict(each.differs)}
            for each in one.shifts
        ],
    }
