"""The command ``trackbench migrate``."""

import time
from typing import TYPE_CHECKING, Any

import click

from bench.errors import ExitCode
from bench.signals import Interrupted, until_signal

if TYPE_CHECKING:  # heavy libraries are imported where they are used
    from rich.console import Console

    from bench.migrate.proof import Proof
    from bench.migrate.record import Migration

_PLAIN_EVERY_S = 10.0
_NAMED = 100  # differences on a terminal


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--dry-run", is_flag=True, help="Only look for rows that can't be moved exactly, and estimate the rest.")
@click.option(
    "--follow",
    is_flag=True,
    help="Go on copying what the source gains. When its writers are stopped, press Enter (a script: write a line to "
    "stdin, or send SIGUSR1): a last pass and the proof follow.",
)
@click.option("--start-over", is_flag=True, help="Throw away what an unfinished migration left in DST, and begin anew.")
@click.option("--json", "as_json", is_flag=True, help="Print what the migration came to as JSON.")
@click.option(
    "--no-client", is_flag=True, help="Leave out the part of the proof that reads through MLflow's own client."
)
def migrate(
    source: str, target: str, dry_run: bool, follow: bool, start_over: bool, as_json: bool, no_client: bool
) -> None:
    """Copy the MLflow store SRC into the empty database DST, and prove row by row that both are equal.

    SRC is a store's URL, a folder of MLflow's file store or env:VAR; it is never written to. DST is sqlite:///new.db,
    postgresql://…, timescaledb://… or mysql+pymysql://…, or env:VAR. An interrupted migration goes on where it was when
    the same command is run again. MLflow's authentication database moves by the same command.

    Exit codes: 0 moved and equal (with --dry-run: can be moved), 2 can't be moved, 4 moved, but different.
    """
    from rich.console import Console

    from bench.decision_request import steps_after
    from bench.migrate import migration
    from bench.migrate.follow import Stopped, listening
    from bench.migrate.follow import follow as followed
    from bench.stores.url import from_environment, parse
    from reports.cutover import show

    if dry_run and (follow or start_over):
        raise click.UsageError("--dry-run changes nothing: leave --follow and --start-over out")
    given = from_environment("SRC", source)
    url = parse(from_environment("DST", target))
    options = migration.Options(dry_run, start_over, not no_client)
    console = Console(stderr=as_json, soft_wrap=True, highlight=False, markup=False)
    shown = Shown(console)

    async def work() -> "Migration":
        if not follow:
            return await migration.migrate(given, url, options, shown)
        stopped = Stopped()
        with listening(stopped):
            return await followed(given, url, options, shown, stopped)

    try:
        with shown:
            found = until_signal(work)
    except migration.Refused as refused:
        found = refused.found
        _tell(found, as_json, _problems)
        raise SystemExit(ExitCode.BAD_INPUT) from None
    except Interrupted:
        console.print(
            "interrupted: the source is as it was; the same command continues, with --start-over it begins anew; "
            f"or drop {url}"
        )
        raise
    _tell(found, as_json, _estimated if dry_run else _summary)
    if not dry_run and not as_json and found.proof is not None and found.proof.equal:
        show(*steps_after(source, target, found.upgraded_from), Console(soft_wrap=True, highlight=False))
    equal = dry_run or (found.proof is not None and found.proof.equal)
    raise SystemExit(ExitCode.PASS if equal else ExitCode.INTEGRITY)


def _tell(found: "Migration", as_json: bool, told: Any) -> None:
    if as_json:
        click.echo(found.model_dump_json(indent=1))
    else:
        for line in told(found):
            click.echo(line)


def _problems(found: "Migration") -> list[str]:
    lines = []
    for one in found.problems:
        place = one.table if one.column is None else f"{one.table}.{one.column}"
        key = ", ".join(f"{name}={value}" for name, value in one.key.items())
        rows = "1 row" if one.rows == 1 else f"{one.rows:,} rows, the first"
        lines.append(f"{place}: {rows} ({key}): {one.reason}; {one.remedy}")
    kinds = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return [*lines, f"can't be moved exactly: {kinds}; nothing was moved, {found.target} is as it was"]


def _estimated(found: "Migration") -> list[str]:
    lines = [f"{found.source}: {found.family}, revision {found.revision}", *found.notes]
    if (guess := found.estimate) is not None:
        lines.append(
            f"{guess.rows:,} rows, about {guess.seconds:.0f} s, {guess.bytes / 1e6:,.0f} MB in {found.target}, "
            f"{guess.snapshot_bytes / 1e6:,.0f} MB of scratch space here"
        )
    return [*lines, "no row stands against it; nothing was moved"]


def _summary(found: "Migration") -> list[str]:
    rows = found.passes[-1].rows if found.passes else 0
    lines = [f"{found.source} -> {found.target}: {found.family}, revision {found.revision}"]
    if found.upgraded_from is not None:
        lines.append(f"upgraded from revision {found.upgraded_from} in a copy; the source stays as it is")
    if found.held_s is not None:
        lines.append(f"writers of the source waited for the snapshot: {found.held_s:.2f} s")
    moved = sum(one.inserted for one in found.passes)
    changed = sum(one.updated + one.deleted for one in found.passes)
    more = f", {changed:,} changed or deleted later" if changed else ""
    lines.append(f"{moved:,} rows moved in {len(found.passes)} pass{'es' if len(found.passes) > 1 else ''}{more}")
    lines.append("seconds: " + ", ".join(f"{name} {value:.1f}" for name, value in found.seconds.items()))
    lines += found.notes
    if found.frozen_to_proof_s is not None:
        lines.append(f"from the writers' stop to the proof: {found.frozen_to_proof_s:.1f} s")
    assert found.proof is not None
    return [*lines, *_proof(found.proof, max(rows, found.proof.compared)), *_next(found)]


def _proof(proof: "Proof", rows: int) -> list[str]:
    """The proof's outcome; the differences themselves as `trackbench verify` shows them."""
    if proof.equal:
        things = sum(count for what, count in proof.client_read.items() if what != "metric points")
        client = f"; MLflow itself read {things:,} things alike" if things else ""
        return [f"proved equal to the bit: {rows:,} rows in {len(proof.tables)} tables, and the schema{client}"]
    lines = [
        f"{one.table}: {one.missing:,} missing, {one.extra:,} extra, {one.changed:,} changed"
        for one in proof.tables
        if not one.equal
    ]
    for row in proof.rows[:_NAMED]:
        key = ", ".join(f"{name}={value}" for name, value in row.key.items())
        cells = "; ".join(f"{cell.column}: {cell.source} became {cell.target}" for cell in row.cells)
        lines.append(f"  {row.sort} in {row.table}: {key}" + (f": {cells}" if cells else ""))
    lines += [f"  {one.what} of {one.table}: {one.source} became {one.target}" for one in proof.structure]
    lines += [f"  {one.what} {one.where}: {one.source} became {one.target}" for one in proof.client or []]
    return [*lines, "DIFFERENT: do not use the target"]


def _next(found: "Migration") -> list[str]:
    """What to do now."""
    assert found.proof is not None
    if found.proof.equal:
        return []
    return ["run the same command again: it brings what differs; if that does not help, add --start-over"]


class Shown:
    """A `bench.migrate.copying.Watcher`: a bar on a terminal, plain lines elsewhere. Use it as a context manager."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = console
        self._bar = (
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            if console.is_terminal
            else None
        )
        self._task: Any = None
        self._name, self._rows, self._done = "", 0, 0
        self._began = self._told = 0.0

    def __enter__(self) -> "Shown":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """A line."""
        self._console.print(text)

    def phase(self, name: str, rows: int | None = None) -> None:
        """A phase begins."""
        self._name, self._rows, self._done = name, rows or 0, 0
        self._began = self._told = time.monotonic()
        if self._bar is None:
            self.say(name if rows is None else f"{name}: {rows:,} rows")
            return
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(name, total=rows, rate="")

    def moved(self, rows: int) -> None:
        """So many more rows are through."""
        self._done += rows
        now = time.monotonic()
        rate = self._done / max(now - self._began, 1e-3)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, rate=f"{rate:,.0f} rows/s")
        elif now - self._told >= _PLAIN_EVERY_S:
            self._told = now
            left = f", about {(self._rows - self._done) / rate:.0f} s left" if rate and self._rows else ""
            self.say(f"{self._name}: {self._done:,} of {self._rows:,} rows, {rate:,.0f} rows/s{left}")
