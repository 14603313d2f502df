"""The command `trackbench rehearse-upgrade`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.signals import until_signal

if TYPE_CHECKING:  # heavy libraries are imported where they are used
    from bench.migrate.rehearsal_record import Kill, Rehearsal

MOST_KILLS = 20
_LONGEST = 3  # steps that are named
_TRIES = "restore the backup, then upgrade again"


@click.command("rehearse-upgrade")
@click.argument("url", metavar="URL|env:VAR")
@click.option(
    "--mlflow",
    "python",
    type=click.Path(path_type=Path),
    metavar="PYTHON",
    help="The Python of an environment with the MLflow to upgrade to, /path/to/venv/bin/python; without it, ours.",
)
@click.option("--kills", type=click.IntRange(1, MOST_KILLS), default=1, show_default=True, metavar="N",
              help="How many upgrades to kill, each on a copy of its own.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rehearse_upgrade(url: str, python: Path | None, kills: int, as_json: bool) -> None:
    """Try `mlflow db upgrade` on copies of the store at URL: how long it takes, and whether a kill -9 is survived.

    The store is only read. Its copies are in files, or on a private server of the same kind. One is upgraded
    undisturbed; on others the upgrade is killed in the middle of its longest steps and made again, and must end with
    the same store.

    Exit codes: 0 recoverable, 1 not recoverable or the upgrade fails, 2 bad input, 3 no kill came in time.
    """
    from rich.console import Console

    from bench.migrate.rehearsal import rehearse
    from bench.stores.url import from_environment, parse

    store = parse(from_environment("URL", url))
    console = Console(stderr=True, soft_wrap=True)

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    interpreter = None if python is None else python.expanduser().absolute()  # a link of a venv must stay one
    found = until_signal(lambda: rehearse(store, interpreter, kills, say))
    if as_json:
        told = found.model_dump(mode="json") | {"outcome": found.outcome, "exit_code": int(found.exit_code)}
        click.echo(json.dumps(told, indent=1, allow_nan=False))
    else:
        for line in lines(found):
            click.echo(line)
    raise SystemExit(found.exit_code)


def lines(found: Rehearsal) -> Iterator[str]:
    """A rehearsal in words; the last line is the judgement."""
    count = "1 migration" if found.migrations == 1 else f"{found.migrations} migrations"
    yield f"{found.url}: {found.rows:,} rows, copied in {found.seconds['copy']:.1f} s; copies in {found.rehearsed_on}"
    yield f"MLflow {found.mlflow}: {count}, from revision {found.revision or 'none'} to {found.head}"
    yield from found.notes
    if found.failure is not None:
        yield f"upgrade     failed after {found.seconds['upgrade']:.1f} s: {found.failure}"
        yield "FAILS: this upgrade fails on a copy that nothing disturbed; keep the MLflow that you have."
        return
    longest = sorted(found.steps, key=lambda step: -step.seconds)[:_LONGEST]
    named = ", ".join(f"{step.seconds:.1f} s after {step.revision}" for step in longest)
    yield f"upgrade     {found.seconds['upgrade']:.1f} s undisturbed; the longest steps: {named}"
    for kill in found.kills:
        yield from _of_kill(kill)
    if found.unstable:
        yield f"not compared, since no two upgrades fill them alike: {', '.join(found.unstable)}"
    yield _judgement(found)


def _of_kill(kill: Kill) -> Iterator[str]:
    if kill.left is None or kill.at_s is None:
        yield "kill -9     none: each upgrade was over before it could be killed"
        return
    during = f", in migration {kill.during}" if kill.during else ""
    settled = f"; the database worked on for {kill.settled_s:.1f} s" if kill.settled_s >= 0.1 else ""
    yield f"kill -9     after {kill.at_s:.1f} s{during}{settled}"
    left = kill.left
    parts = [f"revision {left.revision or 'none'}", f"{len(left.new_tables)} new tables"]
    parts += [f"{what} {', '.join(names)}" for what, names in _strange(kill) if names]
    yield f"  left      {'; '.join(parts)}"
    if kill.outcome == "blocked":
        yield f"  again     failed after {kill.again_s:.1f} s: {kill.words}"
        return
    result = "the same store as undisturbed" if kill.outcome == "recovered" else "ANOTHER store than undisturbed:"
    yield f"  again     {kill.again_s:.1f} s: {result}"
    if kill.proof is not None:
        for one in kill.proof.structure[:5]:
            yield f"    {one.what} of {one.table}: {one.source} undisturbed, {one.target} here"
        for row in kill.proof.rows[:5]:
            yield f"    {row.table}: {row.sort} row {row.key}"


def _strange(kill: Kill) -> list[tuple[str, list[str]]]:
    assert kill.left is not None
    return [("stray tables", kill.left.stray_tables), ("missing tables", kill.left.gone_tables)]


def _judgement(found: Rehearsal) -> str:
    bad = sum(kill.outcome == found.outcome for kill in found.kills)
    many = len(found.kills) > 1
    if found.outcome == "recovered":
        after = f"each of {len(found.kills)} kills" if many else "a kill -9"
        return f"RECOVERABLE: after {after} a second upgrade made the same store. Make a backup all the same."
    if found.outcome == "missed":
        return "UNKNOWN: the upgrade is too quick here to be killed in the middle; try a larger store, or more --kills."
    after = f"{bad} of {len(found.kills)} kills" if many else "a kill -9"
    if found.outcome == "differs":
        return f"NOT RECOVERABLE: after {after} a second upgrade ends well, with another store; {_TRIES}."
    why = " MySQL commits each statement that changes a schema." if found.store in ("mysql", "mariadb") else ""
    return f"NOT RECOVERABLE: after {after} a second upgrade fails.{why} If it is interrupted, {_TRIES}."
