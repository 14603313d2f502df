"""Where the rows come from: any store, opened so that it stands still, without a write to it.

A SQLite file is read from a snapshot, a file store from a scratch SQLite file, a server in one read-only transaction.
A store of an older MLflow is brought to our schema in a copy.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from bench.errors import BadInput
from bench.migrate import filestore, sql
from bench.migrate.catalog import AUTH, OURS, Catalog, reflect
from bench.migrate.copying import batch_rows, sizes
from bench.migrate.limits import POSTGRESQL
from bench.migrate.snapshot import PATIENCE_S, take_snapshot
from bench.migrate.targets.base import drivers, first_line
from bench.migrate.values import conversion
from bench.scratch import scratch_folder
from bench.stores import schema, store_for
from bench.stores.base import Session, Store
from bench.stores.url import StoreUrl, from_environment, parse

Echo = Callable[[str], None]
_SCRATCH: Final = "mlflow.db"
_UPGRADE_ROOM: Final = 2  # copies of the largest table that SQLite's migrations may need at a time
_BATCH: Final = 5_000
_NAMED: Final = 5
_NO_UTF8: Final = ("SQL_ASCII", "MULE_INTERNAL")


@dataclass
class Source:
    """A store that stands still.

    ``given`` is what the user calls it, without a password; ``url`` is what is read, a file of ours or the server.
    ``held_s`` is for how many seconds its writers may have had to wait, None where there was no lock.
    ``upgraded_from`` is the revision of an older store (``none`` where it says none) that was brought to our schema in
    a copy; ``lies`` is what it has where it lies, which differs from ``catalog`` then. ``seconds`` has what took its
    time: snapshot, import, copy, upgrade.
    """

    given: str
    url: StoreUrl
    store: Store
    session: Session
    catalog: Catalog
    held_s: float | None = None
    upgraded_from: str | None = None
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    older: Catalog | None = None
    server: StoreUrl | None = None  # where an older server's store lies, which ``url`` is a copy of

    @property
    def lies(self) -> Catalog:
        """What the store has where it lies: before an upgrade, if there was one."""
        return self.older or self.catalog


@dataclass(frozen=True)
class _Lies:
    """A store where it lies, while it is copied."""

    given: str
    session: Session
    catalog: Catalog


@dataclass
class _Opening:
    """What is known on the way to a `Source`."""

    given: str
    echo: Echo
    stack: AsyncExitStack
    held_s: float | None = None
    upgraded_from: str | None = None
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    older: Catalog | None = None

    async def open(self, url: StoreUrl) -> tuple[Store, Session]:
        """A session at ``url`` in a read-only transaction, closed with the stack."""
        store = store_for(url)
        try:
            session = await store.connect()
            self.stack.push_async_callback(session.close)
            await session.freeze()
        except BadInput:
            raise
        except Exception as error:
            why = f"{store.classify(error).label}: {first_line(error)}"
            raise BadInput(f"{self.given}: can't be used ({why}); is it reachable, user and password right?") from error
        return store, session

    def refuse_unfinished(self, tables: Iterable[str]) -> None:
        """Refuse a store that a migration of ours is filling."""
        if OURS in tables:
            raise BadInput(f"{self.given}: holds an unfinished migration; finish it first with the same command")

    def scratch(self) -> StoreUrl:
        """A SQLite file that does not exist, in a folder that goes with the stack or with us."""
        folder = self.stack.enter_context(scratch_folder("source"))
        return StoreUrl("sqlite", path=folder / _SCRATCH)

    async def source(self, url: StoreUrl) -> Source:
        """What lies at ``url``, a file of ours."""
        store, session = await self.open(url)
        return self.opened(url, store, session, await self.reflected(url))

    def opened(self, url: StoreUrl, store: Store, session: Session, catalog: Catalog) -> Source:
        """What `open` gave, with all that is known of it."""
        known = self.held_s, self.upgraded_from, self.notes, self.seconds, self.older
        return Source(self.given, url, store, session, catalog, *known)

    async def reflected(self, url: StoreUrl) -> Catalog:
        """What ``url`` has; errors name what the user gave."""
        try:
            return await asyncio.to_thread(reflect, url)
        except BadInput as error:
            raise BadInput(str(error).replace(str(url), self.given)) from error


@asynccontextmanager
async def open_source(
    given: str | StoreUrl, echo: Echo = lambda _: None, *, patience_s: float = PATIENCE_S
) -> AsyncIterator[Source]:
    """Open a store to be copied from or compared: ``given`` is a URL, ``env:VAR``, or a file store's folder.

    Nothing is written to it. A SQLite file is locked while it is copied, and waited for up to ``patience_s`` seconds.

    Raises:
        BadInput: it is missing, no MLflow store, locked, corrupt, newer than our MLflow, filled by an unfinished
            migration, can't be reached, upgraded or read (whole), or there is no space for its copy.
    """
    place = _place(given)
    async with AsyncExitStack() as stack:
        opening = _Opening(str(place), echo, stack)
        if isinstance(place, Path):
            yield await _file_store(opening, place)
        elif place.path is not None:
            yield await _sqlite(opening, place.path, patience_s)
        else:
            yield await _server(opening, place)


def _place(given: str | StoreUrl) -> StoreUrl | Path:
    """A database, or a file store's folder."""
    if isinstance(given, StoreUrl):
        return given
    text = from_environment("source", given)
    if text.startswith("file:"):
        return Path(unquote(urlsplit(text).path))
    return parse(text) if "://" in text else Path(text).expanduser()


async def _file_store(opening: _Opening, given: Path) -> Source:
    folder = await asyncio.to_thread(filestore.find, given)
    url = opening.scratch()
    opening.echo(f"{given}: taking the file store in through MLflow's migrate-filestore")
    began = time.monotonic()
    await filestore.take_in(folder, url)
    opening.seconds["import"] = time.monotonic() - began
    return await opening.source(url)


async def _sqlite(opening: _Opening, path: Path, patience_s: float) -> Source:
    url = opening.scratch()
    assert url.path is not None
    began = time.monotonic()
    taken = await take_snapshot(path, url.path, patience_s)
    opening.seconds["snapshot"] = time.monotonic() - began
    opening.held_s = taken.held_s
    opening.echo(
        f"{opening.given}: snapshot of {taken.bytes / 1e6:.1f} MB taken; writers waited at most {taken.held_s:.3f} s"
    )
    if taken.undone:
        opening.notes.append(
            f"{opening.given}: a writer had died in the middle of a transaction; it was undone in the snapshot, as it "
            "will be in the file when it is next opened"
        )
    opening.refuse_unfinished(await asyncio.to_thread(_tables, url.path))
    catalog = await opening.reflected(url)
    if _older(opening, catalog):
        await _upgrade(opening, url, catalog)
    return await opening.source(url)


async def _server(opening: _Opening, url: StoreUrl) -> Source:
    """A server's store in place; an older one in a scratch copy, since nothing is written to the server."""
    store, session = await opening.open(url)
    opening.refuse_unfinished(await store.tables(session))
    if url.store in POSTGRESQL:
        await _all_is_shown(opening.given, session)
    catalog = await opening.reflected(url)
    if not _older(opening, catalog):
        return opening.opened(url, store, session, catalog)
    scratch = opening.scratch()
    assert scratch.path is not None
    scratch.path.touch()
    opening.echo(f"{opening.given}: copying it at its schema revision {catalog.revision} into a scratch SQLite file")
    began = time.monotonic()
    await schema.create_at(scratch, catalog.family, catalog.revision)
    try:
        await copy_into_scratch(opening.given, session, catalog, scratch)
    except Exception as error:
        if not drivers(error):
            raise
        raise BadInput(f"{opening.given}: can't be copied: {first_line(error)}; the store is as it was") from error
    await session.close()
    opening.seconds["copy"] = time.monotonic() - began
    await _upgrade(opening, scratch, catalog)
    return replace(await opening.source(scratch), server=url)


async def _all_is_shown(given: str, session: Session) -> None:
    """Refuse a PostgreSQL database that would not show us every row, or whose texts nobody knows how to read.

    Raises:
        BadInput: row-level security holds for this user, or the encoding can't be converted to UTF-8.
    """
    encoding = (await session.fetch("SHOW server_encoding"))[0][0]
    if encoding in _NO_UTF8:
        raise BadInput(
            f"{given}: its encoding is {encoding}, which PostgreSQL can't convert to UTF-8; dump it, and restore it "
            "into a database with ENCODING 'UTF8' (pg_restore names texts that are none), and move that one"
        )
    hidden = await session.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') "
        "AND row_security_active(oid) ORDER BY relname"
    )
    if hidden:
        raise BadInput(
            f"{given}: row-level security may hide rows of table {hidden[0][0]} from this user; log in as one with "
            "BYPASSRLS, or as the tables' owner"
        )


async def copy_into_scratch(given: str, source: Session, catalog: Catalog, scratch: StoreUrl) -> None:
    """Every row that a frozen session sees, into the SQLite file ``scratch`` with the schema of the same revision.

    Raises:
        BadInput: the source has a table that MLflow does not know at this revision.
    """
    store = store_for(scratch)
    session = await store.connect({"foreign_keys": "OFF", "synchronous": "OFF"})
    try:
        there = set(await store.tables(session))
        if strange := sorted(set(catalog.tables) - there):
            raise BadInput(
                f"{given}: table {strange[0]} is not MLflow's at revision {catalog.revision}; move it elsewhere first"
            )
        measured = await sizes(_Lies(given, source, catalog))
        for name, table in catalog.tables.items():
            await session.execute_alone(f"DELETE FROM {sql.quoted('sqlite', name)}")  # what the migrations put in
            columns = table.stored
            names = sql.listed("sqlite", [column.name for column in columns])
            values = session.dialect.values(len(columns), 1)
            insert = f"INSERT INTO {sql.quoted('sqlite', name)} ({names}) VALUES {values}"
            convert = conversion(columns, "sqlite")
            batch = batch_rows(measured[name].longest, _BATCH)
            async for rows in source.stream(sql.select(catalog.store, name, columns), size=batch):
                await session.execute_many(insert, convert(rows))
                await session.commit()
    finally:
        await session.close()


def _older(opening: _Opening, catalog: Catalog) -> bool:
    """Whether our MLflow's migrations have to bring the store to its schema.

    Raises:
        BadInput: its revision is not among those that our MLflow knows.
    """
    ours, found = schema.lineage(catalog.family), catalog.revision
    if found == ours.head:
        return False
    if found in ours.known or (found is None and catalog.family is AUTH):
        return True
    said = f"schema revision {found} is newer or unknown" if found else f"{catalog.family.version_table} is empty"
    raise BadInput(
        f"{opening.given}: {said}, MLflow {schema.mlflow_version()} wants {ours.head}; use a Trackbench for that MLflow"
    )


async def _upgrade(opening: _Opening, url: StoreUrl, old: Catalog) -> None:
    """Bring the store at ``url``, which is a copy, to our MLflow's schema."""
    assert url.path is not None
    size, free = url.path.stat().st_size, shutil.disk_usage(url.path.parent).free
    if free < size * _UPGRADE_ROOM:
        raise BadInput(
            f"{opening.given}: no space to upgrade its copy: {size * _UPGRADE_ROOM / 1e6:.0f} MB wanted, "
            f"{free / 1e6:.0f} MB free in {url.path.parent.parent}; set TMPDIR to a folder with more"
        )
    found, head = old.revision or "none", schema.lineage(old.family).head
    opening.echo(f"{opening.given}: upgrading a copy from schema revision {found} to {head}")
    before = await asyncio.to_thread(_counted, url.path, tuple(old.tables))
    denials = await asyncio.to_thread(_denials, url.path, old)
    began = time.monotonic()
    try:
        await schema.upgrade(url, old.family)
    except BadInput as error:
        raise BadInput(
            f"{opening.given}: {error} (from revision {found}, in a copy); the store is as it was"
        ) from error
    opening.seconds["upgrade"] = time.monotonic() - began
    opening.upgraded_from, opening.older = found, old
    after = await asyncio.to_thread(_counted, url.path, tuple(old.tables))
    opening.notes += [
        f"{opening.given}: MLflow's upgrade left {after[name]} of {rows} rows in table {name}"
        for name, rows in before.items()
        if after[name] < rows
    ]
    if denials:
        opening.notes.append(
            f"{opening.given}: MLflow's upgrade drops {len(denials)} NO_PERMISSIONS ({', '.join(denials[:_NAMED])}): "
            "these users get default_permission there; deny it again after the move"
        )


def _tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _counted(path: Path, tables: Sequence[str]) -> dict[str, int]:
    """Rows of each of these tables, 0 where there is no such table any more."""
    there = _tables(path)
    with closing(sqlite3.connect(path)) as connection:
        counts = {}
        for name in tables:
            count = f"SELECT COUNT(*) FROM {sql.quoted('sqlite', name)} NOT INDEXED"
            counts[name] = connection.execute(count).fetchone()[0] if name in there else 0
        return counts


def _denials(path: Path, old: Catalog) -> list[str]:
    """Whom an authentication database of before roles forbids what: later ones can't say it, and MLflow drops it."""
    if old.family is not AUTH or "role_permissions" in old.tables:
        return []
    found = []
    with closing(sqlite3.connect(path)) as connection:
        for name, table in old.tables.items():
            columns = [column.name for column in table.columns]
            if {"permission", "user_id"} <= set(columns):
                which = next(column for column in columns if column not in ("id", "user_id", "permission"))
                rows = connection.execute(
                    f"SELECT username, {sql.quoted('sqlite', which)} FROM {sql.quoted('sqlite', name)} "
                    "JOIN users ON users.id = user_id WHERE permission = 'NO_PERMISSIONS' ORDER BY 1, 2"
                )
                found += [f"{user} on {name.removesuffix('_permissions')} {what}" for user, what in rows]
    return found
