"""The command ``trackbench verify``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Self

import click

from bench.errors import ExitCode
from bench.signals import until_signal

if TYPE_CHECKING:  # heavy libraries are imported where they are used
    from rich.console import Console

    from bench.migrate.proof import Proof, RowDifference

_PLAIN_EVERY_S = 10.0
_NAMED = 100
_VERBS = {"missing": "only in the source", "extra": "only in the target", "changed": "differs"}


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--json", "as_json", is_flag=True, help="Print the proof as JSON.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=_NAMED,
    show_default=True,
    metavar="N",
    help="Name at most so many differing rows; all are counted.",
)
@click.option("--no-client", is_flag=True, help="Leave out what reads a sample through MLflow's own client.")
def verify(source: str, target: str, as_json: bool, limit: int, no_client: bool) -> None:
    """Prove that two MLflow stores are equal: every row to the bit, the schema, and what MLflow's client reads.

    SRC and DST are stores' URLs (sqlite:///…, postgresql://…, timescaledb://…, mysql+pymysql://…), a folder of
    MLflow's file store or env:VAR, in any pair. Neither is written to. Both may be in use: of each one moment is
    compared.

    Exit codes: 0 equal, 2 can't be compared, 4 different.
    """
    from rich.console import Console

    from bench.migrate.verify import verify as prove

    shown = Shown(Console(stderr=True, soft_wrap=True, highlight=False, markup=False))
    with shown:
        proof = until_signal(
            lambda: prove(source, target, shown.say, named=limit, client=not no_client, told=shown.rows)
        )
    if as_json:
        click.echo(proof.model_dump_json(indent=1))
    else:
        for line in lines(proof):
            click.echo(line)
    raise SystemExit(ExitCode.PASS if proof.equal else ExitCode.INTEGRITY)


class Shown:
    """How far it is: one live line on a terminal, a plain line now and then elsewhere. A context manager."""

    def __init__(self, console: Console) -> None:
        from rich.status import Status

        self._console = console
        self._status = Status("opening both stores", console=console) if console.is_terminal else None
        self._rows, self._told = 0, time.monotonic()

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, text: str) -> None:
        """A part begins."""
        self._console.print(text)

    def rows(self, table: str, more: int) -> None:
        """So many more rows of this table were read."""
        self._rows += more
        text = f"comparing {table}: {self._rows:,} rows of the source read"
        if self._status is not None:
            self._status.update(text)
        elif time.monotonic() - self._told > _PLAIN_EVERY_S:
            self._told = time.monotonic()
            self.say(text)


def lines(proof: Proof) -> Iterator[str]:
    """A proof for people: what differs, part by part, then what it was and came to."""
    if proof.structure:
        yield "The schema differs:"
        for one in proof.structure:
            where = f" of {one.table}" if one.table else ""
            yield f"  {one.what}{where}: {one.source} in the source, {one.target} in the target"
    tables = [table for table in proof.tables if not table.equal]
    if tables:
        yield "Rows differ:"
        for table in tables:
            counts = ((table.missing, "missing"), (table.extra, "extra"), (table.changed, "changed"))
            told = ", ".join(f"{number:,} {word}" for number, word in counts if number)
            rows = f"{table.source_rows:,} rows in the source, {table.target_rows:,} in the target"
            yield f"  {table.table}: {told} ({rows})"
    for name, named in groupby(proof.rows, lambda row: row.table):
        yield f"{name}:"
        for row in named:
            yield from _row(row)
    if proof.rows_not_named:
        yield f"… and {proof.rows_not_named:,} more rows that differ (--limit names more, --json all that is named)"
    if proof.client:
        yield "MLflow's client reads otherwise:"
        yield from (f"  {one.what} {one.where}: {one.source} became {one.target}" for one in proof.client)
    yield from (f"note: {note}" for note in proof.notes)
    yield "seconds: " + ", ".join(f"{name} {value:.1f}" for name, value in proof.seconds.items())
    yield f"source: {proof.source}"
    yield f"target: {proof.target}"
    yield _verdict(proof)


def _row(row: RowDifference) -> Iterator[str]:
    key = ", ".join(f"{name}={value}" for name, value in row.key.items())
    yield f"  {_VERBS[row.sort]}: {key}"
    for cell in row.cells:
        yield f"    {cell.column}: {cell.source} in the source, {cell.target} in the target"


def _verdict(proof: Proof) -> str:
    what = f"{proof.family}, revision {proof.revision or 'none'}: {proof.compared:,} rows in {len(proof.tables)} tables"
    if proof.equal:
        client = f"; MLflow's client read {sum(proof.client_read.values()):,} things alike" if proof.client_read else ""
        return f"EQUAL to the bit: {what}, and the schema{client}"
    differ = [
        f"{number:,} {word}"
        for number, word in (
            (sum(table.missing + table.extra + table.changed for table in proof.tables), "rows"),
            (len(proof.structure), "of the schema"),
            (len(proof.client or []), "through MLflow's client"),
        )
        if number
    ]
    return f"DIFFERENT: {', '.join(differ)}; compared: {what}"
