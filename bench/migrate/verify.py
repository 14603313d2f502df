"""Whether two stores are equal: every row to the bit, the schema, the next numbers, and what MLflow's client reads."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.errors import BadInput
from bench.migrate.catalog import TRACKING, Catalog, Kind
from bench.migrate.client import compare_as_mlflow, open_stores
from bench.migrate.differences import as_changes, differing_rows
from bench.migrate.digest import Reading, TableDigest, readings
from bench.migrate.proof import Proof, RowDifference, Sort, StructureDifference, TableProof
from bench.migrate.reader import reading
from bench.migrate.side import LocalSide, Side, remote_side, together, unreadable, without_collector
from bench.migrate.sources import Source, open_source
from bench.migrate.structure import compare_sequences, compare_structure
from bench.scratch import scratch_folder
from bench.stores import store_for
from bench.stores.url import StoreUrl, from_environment, parse

NAMED: Final = 100  # differing rows that a proof names
_SECRET_BYTES: Final = 32
_MYSQL: Final = ("mysql", "mariadb")

Echo = Callable[[str], None]
ToldOfTable = Callable[[str, int], None]  # a table, and so many more rows of the source


def quiet(*_: object) -> None:
    """Tells nobody."""


@dataclass
class Rows:
    """What comparing all rows came to."""

    tables: list[TableProof] = field(default_factory=list)
    named: list[RowDifference] = field(default_factory=list)
    not_named: int = 0

    @property
    def equal(self) -> bool:
        """Whether no row differs."""
        return all(table.equal for table in self.tables)


async def prove_rows(
    source: Side,
    target: Side,
    catalogs: tuple[Catalog, Catalog],
    named: int = NAMED,
    told: ToldOfTable = quiet,
) -> Rows:
    """Compare all rows of the tables that both sides have; the first ``named`` differences are named, all are counted.

    Both sides digest their tables at the same time, each in one scan; tables whose digests differ are read once more.

    Raises:
        BadInput: a side can't be read any longer.
    """
    secret, found = secrets.token_bytes(_SECRET_BYTES), Rows()
    pairs = pairs_of(*catalogs)
    with without_collector():
        ours, theirs = await together(
            _digests(source, {name: pair[0] for name, pair in pairs.items()}, secret, told),
            _digests(target, {name: pair[1] for name, pair in pairs.items()}, secret, quiet),
        )
    for name, pair in pairs.items():
        here, there = TableDigest.unpacked(ours[name]), TableDigest.unpacked(theirs[name])
        wanted = here.differing(there)
        counted: dict[Sort, int] = {"missing": 0, "extra": 0, "changed": 0}
        if wanted.any():
            with scratch_folder("proof") as folder:
                told(f"{name}, where rows differ", 0)
                rows = differing_rows(source, target, pair, secret, wanted, Path(folder))
                async for row in as_changes(rows, pair[0]):
                    counted[row.sort] += 1
                    if len(found.named) < named:
                        found.named.append(row.named(pair[0]))
                    else:
                        found.not_named += 1
            if not any(counted.values()):  # the digests say that there is one
                raise RuntimeError(f"{name}: the digests differ and no row does; was something written meanwhile?")
        found.tables.append(TableProof(table=name, source_rows=here.rows, target_rows=there.rows, **counted))
    return found


def pairs_of(source: Catalog, target: Catalog) -> dict[str, tuple[Reading, Reading]]:
    """How the tables that both have are read, in the source's order."""
    return {
        name: readings(table, target.tables[name])
        for name, table in source.tables.items()
        if name in target.tables and readings(table, target.tables[name])[0].columns
    }


async def _digests(
    side: Side, of: Mapping[str, Reading], secret: bytes, told: ToldOfTable
) -> dict[str, tuple[Any, ...]]:
    found = {}
    for name, one in of.items():
        told(name, 0)
        found[name] = (await side.digest(one, secret, lambda rows, table=name: told(table, rows))).packed()  # type: ignore[misc]
    return found


async def verify(
    source: str | StoreUrl,
    target: str | StoreUrl,
    echo: Echo = quiet,
    *,
    named: int = NAMED,
    client: bool = True,
    told: ToldOfTable = quiet,
) -> Proof:
    """The whole proof that two stores are equal; neither is written to, and others may go on writing to both.

    Raises:
        BadInput: they are one and the same, or one can't be read or is not MLflow's.
    """
    refuse_same(source, target)
    seconds: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        side = await stack.enter_async_context(remote_side())  # it starts while the sources are opened
        ours = await stack.enter_async_context(open_source(source, echo))
        theirs = await stack.enter_async_context(open_source(target, echo))
        reader = await stack.enter_async_context(reading(ours.url, theirs.url)) if client else None
        if reader is not None and ours.catalog.family == theirs.catalog.family == TRACKING:
            await open_stores(reader)  # so that it sees about the same moment of servers that are written to
        began = time.monotonic()
        await side.open(theirs.url)
        rows = await prove_rows(LocalSide(ours.session, ours.url), side, (ours.catalog, theirs.catalog), named, told)
        seconds["rows"] = time.monotonic() - began
        began = time.monotonic()
        structure = await _structure(ours, theirs)
        seconds["structure"] = time.monotonic() - began
        notes = [*_how_read(ours), *_how_read(theirs), *_notes(ours.catalog, theirs.catalog)]
        differences, read, why_not = None, dict[str, int](), None
        if reader is not None:
            began = time.monotonic()
            echo("reading a sample of both as MLflow does")
            differences, read, why_not = await compare_as_mlflow(reader, ours.catalog, theirs.catalog)
            seconds["client"] = time.monotonic() - began
    return Proof(
        source=ours.given,
        target=theirs.given,
        family=ours.catalog.family.name,
        revision=ours.catalog.revision,
        tables=rows.tables,
        rows=rows.named,
        rows_not_named=rows.not_named,
        structure=structure,
        client=differences,
        client_read=read,
        seconds=seconds,
        notes=[*notes, *([why_not] if why_not else [])],
    )


async def _structure(source: Source, target: Source) -> list[StructureDifference]:
    """The target as it lies against what it should be: the source at our revision, or at the one that both have."""
    alike = source.lies.revision == target.lies.revision
    found = compare_structure(source.lies if alike else source.catalog, target.lies)
    try:
        if target.older is None or target.server is None:
            return found + await compare_sequences(target.lies, target.session)
        session = await store_for(target.server).connect()
        try:
            return found + await compare_sequences(target.older, session)
        finally:
            await session.close()
    except Exception as error:
        raise unreadable(target.url, error) or error from error


def _how_read(side: Source) -> list[str]:
    """What was done to read this side."""
    notes = list(side.notes)
    if side.held_s is not None:
        notes.append(f"{side.given}: read from a copy of the file; its writers waited for {side.held_s:.2f} s at most")
    if side.upgraded_from is not None:
        notes.append(f"{side.given}: revision {side.upgraded_from}, compared as MLflow upgrades it, in a copy")
    return notes


def _notes(source: Catalog, target: Catalog) -> list[str]:
    """What a reader of the proof should know about how values were compared."""
    kinds = {kind for pair in pairs_of(source, target).values() for kind in pair[0].kinds}
    notes = []
    if Kind.JSON in kinds:
        mysql = "mysql" in (source.store, target.store)
        why = "MySQL keeps no text of it" if mysql else "spaces and the order of keys do not count"
        notes.append(f"JSON columns were compared by what they mean, not byte by byte: {why}")
    return notes


def refuse_same(source: str | StoreUrl, target: str | StoreUrl) -> None:
    """A store that is compared with itself proves nothing.

    Raises:
        BadInput: both are the same file or database.
    """
    ours, theirs = _place(source), _place(target)
    if ours is not None and theirs is not None and ours[1:] == theirs[1:] and ours[0] & theirs[0]:
        raise BadInput(f"{target}: source and target are the same store; give two stores")


def _place(given: str | StoreUrl) -> tuple[frozenset[object], ...] | None:
    """Where a store lies: hosts or the file, port, database. None for what is no URL (a folder of MLflow's)."""
    if isinstance(given, str):
        given = from_environment("verify", given)
        if "://" not in given or given.startswith("file:"):
            return None
        given = parse(given)
    if given.path is not None:
        path = given.path.resolve()
        return (frozenset({(path.stat().st_dev, path.stat().st_ino) if path.exists() else path}),)
    try:
        hosts = {found[4][0] for found in socket.getaddrinfo(given.host, None)}
    except OSError:
        hosts = {given.host}
    return frozenset(hosts), frozenset({given.port}), frozenset({given.database})
