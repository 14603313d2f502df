"""The command ``trackbench run``."""

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.errors import BadInput
from bench.signals import Interrupted, until_signal

if TYPE_CHECKING:  # heavy libraries are imported where they are used
    from rich.console import Console

    from bench.results import Results
    from bench.run import Request
    from bench.scenario import LoadedScenario


def _levels(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, ...]:
    if value is None:
        return ()
    try:
        levels = tuple(int(part) for part in value.split(","))
    except ValueError as error:
        raise BadInput(f"--concurrency {value!r}: not whole numbers with commas between them, as in 1,5,20") from error
    from bench.scenario_rules import MAX_WRITERS

    if wrong := [level for level in levels if not 1 <= level <= MAX_WRITERS]:
        raise BadInput(f"--concurrency {wrong[0]}: must be between 1 and {MAX_WRITERS}")
    return tuple(dict.fromkeys(levels))


def _seconds(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0.1 <= value <= 86_400:  # NaN is neither
        raise BadInput(f"--duration {value}: must be between 0.1 and 86400 seconds")
    return value


@click.command()
@click.argument("scenario")
@click.option(
    "--store",
    "stores",
    multiple=True,
    metavar="NAME[=URL|=env:VAR]",
    help="Judge this store: a private one of ours, or the database at URL. May be given several times.",
)
@click.option(
    "--tracking",
    "trackings",
    multiple=True,
    metavar="NAME=URL|NAME=env:VAR",
    help="Your own MLflow server in front of that store; HTTP trials go there. Without --store NAME=URL nothing else "
    "is known of its database.",
)
@click.option(
    "--source",
    metavar="URL|FOLDER|env:VAR",
    help="Move this store first: copied, proved equal, loaded, proved again. It is never written to.",
)
@click.option(
    "--target",
    metavar="URL|env:VAR|NAME",
    help="Where to: an empty database of yours, or postgresql, timescaledb, mysql for a private server (a rehearsal).",
)
@click.option(
    "--also",
    multiple=True,
    metavar="SOURCE=TARGET",
    help="Another database of the deployment to move: MLflow's authentication, a separate registry. Several times.",
)
@click.option("--concurrency", callback=_levels, metavar="1,5,20", help="Writers, instead of the scenario's levels.")
@click.option("--rounds", type=click.IntRange(1, 1000), help="Rounds, instead of the scenario's.")
@click.option("--duration", type=float, callback=_seconds, metavar="SECONDS", help="Measured time of each trial.")
@click.option(
    "--until-decided", is_flag=True, help="Add rounds at planned looks until each gating criterion is decided."
)
@click.option(
    "--budget",
    type=click.FloatRange(0, 10_080, min_open=True),
    default=30.0,
    show_default=True,
    metavar="MINUTES",
    help="With --until-decided: when to stop all the same, counted from the beginning of the run.",
)
@click.option(
    "--track",
    metavar="URI|env:VAR",
    help="Log the run into this MLflow tracking store: http://…, sqlite:///…, postgresql://…, mysql+pymysql://… or a "
    "folder (see `trackbench history`).",
)
@click.option("--seed", type=click.IntRange(0), help="Seed of all written values.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder that gets the run's own folder.",
)
@click.option("--keep", is_flag=True, help="Leave our rows in a database that was given by URL.")
@click.option("--json", "as_json", is_flag=True, help="Print results.json instead of the summary.")
def run(
    scenario: str, stores: tuple[str, ...], trackings: tuple[str, ...], source: str | None, target: str | None,
    also: tuple[str, ...], concurrency: tuple[int, ...], rounds: int | None, duration: float | None,
    until_decided: bool, budget: float, track: str | None, seed: int | None, out: Path, keep: bool, as_json: bool,
) -> None:  # fmt: skip
    """Run SCENARIO (a name or a TOML file), check every acknowledged write, judge, and write the report."""
    from rich.console import Console

    import reports
    from bench import decision_scenario, history, run_folder
    from bench import run as runs
    from bench import scenario as scenarios
    from bench.baseline import load_baseline
    from bench.decision_request import wanted as wanted_move
    from bench.plan import Overrides
    from reports.terminal import render

    move = wanted_move(source, target, also)
    urls, sites = _urls(stores), _sites(trackings)
    loaded, candidate = scenarios.load(scenario), ""
    if move is None:
        loaded, notes = _selected(loaded, stores, urls, sites)
    else:
        _check_alone(stores, trackings, keep)
        loaded, candidate, notes = decision_scenario.reduced(loaded, move)
        urls = {} if move.target.url is None else {move.target.kind: move.target.url}
    wanted = loaded.scenario
    request = runs.Request(
        loaded,
        Overrides(concurrency, rounds, duration),
        urls,
        wanted.seed if seed is None else seed,
        out,
        keep,
        notes,
        budget_s=budget * 60 if until_decided else None,
        baseline=None if wanted.baseline is None else load_baseline(wanted.baseline),
        sites=sites,
        move=move,
        target=candidate,
    )
    if track is not None:
        history.check(track)  # before the run: a wrong address must not show at its end
    folder = run_folder.new_folder(out, loaded.name, datetime.now(UTC))
    console = Console(stderr=as_json, soft_wrap=True)
    found, interrupted = _carried_out(request, folder, console)
    reports.write_all(found, folder)
    if as_json:
        click.echo(found.model_dump_json(indent=1))
    else:
        render(found, Console())
        click.echo(f"report: {folder / 'report.html'}")
    if track is not None:
        click.echo(history.told(found, folder, track), err=True)
    if interrupted is not None:
        raise interrupted
    raise SystemExit(found.exit_code)


def _check_alone(stores: tuple[str, ...], trackings: tuple[str, ...], keep: bool) -> None:
    """A move says itself what runs: the copy, and SQLite beside it."""
    given = {"--store": stores, "--tracking": trackings, "--keep": keep}
    for option, value in given.items():
        if value:
            raise BadInput(f"{option}: does not go with --source and --target, which say what runs; leave it out")


def _selected(
    loaded: "LoadedScenario", stores: tuple[str, ...], urls: Collection[str], sites: Collection[str]
) -> tuple["LoadedScenario", tuple[str, ...]]:
    """The scenario reduced to the stores that were named, and notes on what is left out."""
    from bench import selection

    wanted = loaded.scenario
    notes: list[str] = []
    if stores or sites:
        wanted = selection.with_stores(
            wanted, list(dict.fromkeys([*(name.partition("=")[0] for name in stores), *sites]))
        )
        dropped = [one.name for one in loaded.scenario.criteria if one not in wanted.criteria]
        notes += [f"Not judged, since the reference did not run: {name}." for name in dropped]
    if unreachable := set(sites) - set(urls):
        wanted, left_out = selection.without_direct(wanted, unreachable)
        notes += [f"Not run, since only a tracking server was given: {cell}." for cell in left_out]
    return loaded.model_copy(update={"scenario": wanted}), tuple(notes)


def _carried_out(request: "Request", folder: Path, console: "Console") -> tuple["Results", Interrupted | None]:
    """The results of a run, and the signal that cut it short, if one did."""
    from bench import run as runs
    from bench import run_folder
    from bench.progress import Progress
    from bench.results import read

    try:
        with Progress(console) as progress:
            return until_signal(lambda: runs.run(request, folder, progress)), None
    except Interrupted as stop:
        if not (folder / "results.json").exists():
            raise
        return read(folder), stop
    except BadInput:
        if not (folder / "trials").exists():  # what was measured is kept
            run_folder.discard(folder)
        raise


def _sites(trackings: tuple[str, ...]) -> dict[str, Any]:
    """The tracking servers among the --tracking options, by store name."""
    from bench.rest import site_of
    from bench.stores import class_of
    from bench.stores.url import from_environment

    sites: dict[str, Any] = {}
    for option in trackings:
        name, given, value = option.partition("=")
        if not given or not name.isalnum():
            raise BadInput("--tracking: wants NAME=URL, as in --tracking postgresql=http://127.0.0.1:5000")
        class_of(name)
        if name in sites:
            raise BadInput(f"--tracking {name}: given twice; one run judges one server of a kind")
        sites[name] = site_of(from_environment(f"--tracking {name}", value))
    return sites


def _urls(stores: tuple[str, ...]) -> dict[str, Any]:
    """The URLs among the --store options, by store name."""
    from bench.stores import class_of
    from bench.stores.url import from_option

    urls, named = {}, set[str]()
    for option in stores:
        name, given, value = option.partition("=")
        if not name.isalnum():  # perhaps a URL: not to be repeated, it may hold a password
            raise BadInput("--store: wants NAME or NAME=URL, as in --store postgresql=postgresql://…")
        class_of(name)
        if name in named:
            raise BadInput(f"--store {name}: given twice; one run judges one database of a kind")
        named.add(name)
        if given:
            urls[name] = from_option(name, value)
    return urls
