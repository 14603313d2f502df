"""The command line; the only place that knows every part."""

import errno
import sys
import traceback
from pathlib import Path

import click

from bench.cli_calibrate import calibrate
from bench.cli_compare import compare
from bench.cli_history import history
from bench.cli_migrate import migrate
from bench.cli_readiness import readiness
from bench.cli_rehearse import rehearse_upgrade
from bench.cli_run import run
from bench.cli_servers import doctor, servers
from bench.cli_verify import verify
from bench.errors import BadInput, ExitCode
from bench.signals import Interrupted


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
    argv = [sys.executable, "-m", "locust", "-f", str(locustfile), "--web-host", "127.0.0.1", *arguments]
    os.execv(sys.executable, argv)


for _command in (run, compare, history, calibrate, migrate, readiness, rehearse_upgrade, servers, doctor, verify):
    cli.add_command(_command)


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
    except Interrupted as stop:
        click.echo("trackbench: interrupted; what was measured is kept", err=True)
        sys.exit(stop.code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:  # a defect of ours: say everything, and never let it pass for a verdict
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = error.filename or "a disk"
            click.echo(f"trackbench: {where}: no space left; what was measured is kept, free some, run again", err=True)
            sys.exit(ExitCode.BAD_INPUT)
        traceback.print_exc()
        click.echo("trackbench: this is a defect in Trackbench; nothing was decided", err=True)
        sys.exit(ExitCode.INCONCLUSIVE)


if __name__ == "__main__":
    main()
