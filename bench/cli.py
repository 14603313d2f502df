"""The command line; the only place that knows every part."""

import asyncio
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from bench.cli_servers import doctor, servers
from bench.errors import BadInput, ExitCode

T = TypeVar("T")
_UI = (
    "--master-bind-host",
    "127.0.0.1",
    "--class-picker",
    "--users",
    "20",
    "--spawn-rate",
    "100",
    "--stop-timeout",
    "10s",
)


class _Interrupted(Exception):
    """A signal ended the command; ``code`` is the exit code that goes with it."""

    def __init__(self, code: ExitCode) -> None:
        super().__init__(code.name)
        self.code = code


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trackbench")
def cli() -> None:
    """May an MLflow tracking store move off SQLite, to which database, and did the move pass?

    Exit codes: 0 pass, 1 a criterion failed, 2 bad input, 3 inconclusive, 4 data lost, changed or duplicated,
    130/143 interrupted.
    """


@cli.command(context_settings={"ignore_unknown_options": True})
@click.option("--store", default="sqlite", show_default=True, metavar="NAME[=URL|=env:VAR]", help="The store to load.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[LOCUST'S OWN ARGUMENTS]...")
def ui(store: str, arguments: tuple[str, ...]) -> None:
    """Open Locust's web UI, on loopback, with Trackbench's tab in it."""
    import os

    from bench.stores import class_of
    from bench.stores.url import from_environment

    name, given, value = store.partition("=")
    class_of(name)
    os.environ["TRACKBENCH_STORE"] = name
    if given:  # by environment, since a URL may hold a password
        os.environ["TRACKBENCH_STORE_URL"] = from_environment(f"--store {name}", value)
    locustfile = Path(__file__).resolve().parent.parent / "loadtests" / "locustfile.py"
    argv = [sys.executable, "-m", "locust", "-f", str(locustfile), "--web-host", "127.0.0.1", *_UI, *arguments]
    os.execv(sys.executable, argv)


cli.add_command(servers)
cli.add_command(doctor)


def _levels(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, ...]:
    if value is None:
        return ()
    try:
        levels = tuple(int(part) for part in value.split(","))
    except ValueError as error:
        raise BadInput(f"--concurrency {value!r}: not whole numbers with commas between them, as in 1,5,20") from error
    from bench.scenario import MAX_WRITERS

    if wrong := [level for level in levels if not 1 <= level <= MAX_WRITERS]:
        raise BadInput(f"--concurrency {wrong[0]}: must be between 1 and {MAX_WRITERS}")
    return tuple(dict.fromkeys(levels))


def _seconds(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0.1 <= value <= 86_400:  # NaN is neither
        raise BadInput(f"--duration {value}: must be between 0.1 and 86400 seconds")
    return value


@cli.command()
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
@click.option("--concurrency", callback=_levels, metavar="1,5,20", help="Writers, instead of the scenario's levels.")
@click.option("--rounds", type=click.IntRange(1, 1000), help="Rounds, instead of the scenario's.")
@click.option("--duration", type=float, callback=_seconds, metavar="SECONDS", help="Measured time of each trial.")
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
    scenario: str, stores: tuple[str, ...], trackings: tuple[str, ...], concurrency: tuple[int, ...],
    rounds: int | None, duration: float | None, seed: int | None, out: Path, keep: bool, as_json: bool,
) -> None:  # fmt: skip
    """Run SCENARIO (a name or a TOML file), check every acknowledged write, judge, and write the report."""
    from rich.console import Console

    import reports
    from bench import run as runs
    from bench import scenario as scenarios
    from bench.plan import Overrides
    from bench.progress import Progress
    from bench.results import read
    from reports.terminal import render

    loaded = scenarios.load(scenario)
    urls, sites = _urls(stores), _sites(trackings)
    wanted = loaded.scenario
    notes: list[str] = []
    if stores or sites:
        wanted = scenarios.with_stores(
            wanted, list(dict.fromkeys([*(name.partition("=")[0] for name in stores), *sites]))
        )
        dropped = [one.name for one in loaded.scenario.criteria if one not in wanted.criteria]
        notes += [f"Not judged, since the reference did not run: {name}." for name in dropped]
    if unreachable := sites.keys() - urls.keys():
        wanted, left_out = scenarios.without_direct(wanted, unreachable)
        notes += [f"Not run, since only a tracking server was given: {cell}." for cell in left_out]
    loaded = loaded.model_copy(update={"scenario": wanted})
    overrides = Overrides(concurrency, rounds, duration)
    chosen = wanted.seed if seed is None else seed
    request = runs.Request(loaded, overrides, urls, chosen, out, keep, tuple(notes), sites)
    folder = runs.new_folder(out, loaded.name, datetime.now(UTC))
    console = Console(stderr=as_json, soft_wrap=True)
    interrupted: _Interrupted | None = None
    try:
        with Progress(console) as progress:
            found = _until_signal(lambda: runs.run(request, folder, progress))
    except _Interrupted as stop:
        if not (folder / "results.json").exists():
            raise
        interrupted, found = stop, read(folder)
    except BadInput:
        if not (folder / "trials").exists():  # what was measured is kept
            runs.discard(folder)
        raise
    reports.write_all(found, folder)
    if as_json:
        click.echo(found.model_dump_json(indent=1))
    else:
        render(found, Console())
        click.echo(f"report: {folder / 'report.html'}")
    if interrupted is not None:
        raise interrupted
    raise SystemExit(found.exit_code)


@cli.command()
@click.argument("folders", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
def report(folders: tuple[Path, ...]) -> None:
    """Render the reports of RUN (a folder under results/) again, without running anything."""
    from rich.console import Console

    import reports
    from bench.results import read
    from reports.terminal import render

    for folder in folders:
        found = read(folder)
        target = folder if folder.is_dir() else folder.parent
        reports.write_all(found, target)
        render(found, Console())
        click.echo(f"report: {target / 'report.html'}")


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


def _until_signal(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine; SIGINT and SIGTERM cancel it, let it clean up, and become `_Interrupted`."""
    caught: list[ExitCode] = []

    async def supervised() -> T:
        task = asyncio.ensure_future(work())
        loop = asyncio.get_running_loop()

        def stop(code: ExitCode) -> None:
            caught.append(code)
            if len(caught) == 1:  # a second signal must not cut the clean-up short
                task.cancel()

        loop.add_signal_handler(signal.SIGINT, stop, ExitCode.INTERRUPTED)
        for ending in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(ending, stop, ExitCode.TERMINATED)
        return await task

    try:
        return asyncio.run(supervised())
    except asyncio.CancelledError:
        raise _Interrupted(caught[0] if caught else ExitCode.INTERRUPTED) from None


def main() -> None:
    """The command ``trackbench``: maps every way to end to the exit codes that docs/design.md promises."""
    try:
        cli.main(standalone_mode=False)
    except BadInput as error:
        click.echo(f"trackbench: {error}", err=True)
        sys.exit(ExitCode.BAD_INPUT)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        sys.exit(ExitCode.BAD_INPUT)
    except click.ClickException as error:
        where = f" (see `{error.ctx.command_path} --help`)" if isinstance(error, click.UsageError) and error.ctx else ""
        click.echo(f"trackbench: {error.format_message()}{where}", err=True)
        sys.exit(ExitCode.BAD_INPUT)
    except _Interrupted as stop:
        click.echo("trackbench: interrupted; what was measured is kept", err=True)
        sys.exit(stop.code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(ExitCode.INTERRUPTED)
    except Exception:  # a defect of ours: say everything, and never let it pass for a verdict
        traceback.print_exc()
        click.echo("trackbench: this is a defect in Trackbench; nothing was decided", err=True)
        sys.exit(ExitCode.INCONCLUSIVE)


if __name__ == "__main__":
    main()
