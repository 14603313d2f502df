"""The command `trackbench readiness`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from bench.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from bench.readiness.check import Check, Outcome, Readiness

_COLOURS = {"pass": "green", "warn": "yellow", "unknown": "magenta", "fail": "red"}


@click.command()
@click.argument("url", metavar="URL|env:VAR")
@click.option("--workers", type=click.IntRange(1), default=4, show_default=True, help="Workers of the MLflow server.")
@click.option("--pool", type=click.IntRange(1), default=5, show_default=True, help="Connections each keeps pooled.")
@click.option("--overflow", type=click.IntRange(0), default=10, show_default=True, help="And may open beyond those.")
@click.option("--backup/--no-backup", default=True, show_default=True, help="Dump the store, restore it, compare.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def readiness(url: str, workers: int, pool: int, overflow: int, backup: bool, as_json: bool) -> None:
    """Say what is not yet fit for production in the database behind an MLflow server, and how to mend it.

    URL is MLflow's backend-store URI, or that of its authentication database; nothing in it is changed. Over verified
    TLS: ?sslmode=verify-full&sslrootcert=ca.pem (PostgreSQL), ?ssl_ca=ca.pem (MySQL). The backup is restored into a
    private server that is removed afterwards.

    Exit codes: 0 nothing fails (there may be warnings), 1 a check fails, 2 bad input, 3 nothing fails but something
    could not be looked at.
    """
    from rich.console import Console

    from bench.readiness.look import readiness as look
    from bench.readiness.scene import Server
    from bench.signals import until_signal
    from bench.stores.url import from_environment, parse

    def say(line: str) -> None:
        click.echo(line, err=True)

    given = parse(from_environment("readiness URL", url))
    found = until_signal(lambda: look(given, Server(workers, pool, overflow), with_backup=backup, echo=say))
    if as_json:
        click.echo(found.model_dump_json(indent=1))
    else:
        render(found, Console())
    sys.exit(exit_code(found.worst))


def exit_code(worst: Outcome) -> ExitCode:
    """What the worst outcome ends the command with."""
    return {"fail": ExitCode.FAIL, "unknown": ExitCode.INCONCLUSIVE}.get(worst, ExitCode.PASS)


def render(found: Readiness, console: Console) -> None:
    """A table, the worst first, and below it the remedies in the same order."""
    from rich.markup import escape
    from rich.table import Table

    order = ("fail", "unknown", "warn", "pass")
    checks = sorted(found.checks, key=lambda check: order.index(check.outcome))
    console.print(f"[bold]{escape(found.url)}[/]  {escape(found.version)}", soft_wrap=True, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "check", "found"):
        table.add_column(name, overflow="fold")
    for check in checks:
        colour = _COLOURS[check.outcome]
        table.add_row(f"[{colour}]{check.outcome}[/]", escape(check.title), escape(check.found))
    console.print(table, highlight=False)
    todo = [check for check in checks if check.remedy]
    if todo:
        console.print("\n[bold]What to do[/]")
    for check in todo:
        line = f"[{_COLOURS[check.outcome]}]{check.outcome:7}[/] {escape(check.title)}: {escape(check.remedy)}"
        console.print(line, soft_wrap=True, highlight=False)
    console.print(f"\n{_summary(checks)}", highlight=False)


def _summary(checks: list[Check]) -> str:
    counts = [(name, sum(check.outcome == name for check in checks)) for name in ("fail", "unknown", "warn", "pass")]
    told = ", ".join(f"{number} {name}" for name, number in counts if number)
    worst = next(name for name, number in counts if number)
    verdict = {"fail": "not ready", "unknown": "not known to be ready"}.get(worst, "ready")
    return f"{verdict}: {told}"
