"""Copies a store, as it stands and at its own revision, into an empty database of the same kind on a server of ours.

On MySQL from the tables' own definitions: what a migration does there may depend on names of constraints and on
collations. On PostgreSQL MLflow's migrations make the schema, up to the store's revision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.errors import BadInput
from bench.identity import DAY_MS
from bench.migrate.catalog import Catalog, Kind, Table
from bench.migrate.sql import listed, quoted, select
from bench.stores import schema, store_for
from bench.stores.base import Row, Session
from bench.stores.url import StoreUrl

MYSQL = ("mysql", "mariadb")
_ROWS_AT_ONCE = 5_000
_PLACEHOLDERS = 20_000  # in one statement, at most
_AS_THEY_ARE = {
    "foreign_key_checks": "0",
    "unique_checks": "0",
    "sql_mode": "'NO_AUTO_VALUE_ON_ZERO'",
    "max_error_count": "0",  # that a definition uses what will go one day is nothing to be told here
}


async def copy_as_it_stands(source: Session, catalog: Catalog, target: StoreUrl) -> int:
    """Fill the empty database ``target`` with what a frozen session sees of the store of this catalog; its rows.

    Raises:
        BadInput: the target's server can't hold such tables, with its reason.
    """
    store = store_for(target)
    if target.store in MYSQL:
        session = await store.connect(_AS_THEY_ARE)
    else:
        await schema.create_at(target, catalog.family, catalog.revision)
        session = await store.connect({"session_replication_role": "replica"})  # no foreign keys are looked at
    try:
        if target.store in MYSQL:
            await _define(source, catalog, session)
        else:
            await _empty(catalog, target, source, session)
        tables = [table for name, table in catalog.tables.items() if name in await store.tables(session)]
        await session.rollback()
        rows = 0
        for table in tables:
            rows += await _fill(source, table, target.store, session)
        if target.store not in MYSQL:
            await _number(tables, target.store, session)
        await session.commit()
        return rows
    finally:
        await session.close()


async def _define(source: Session, catalog: Catalog, target: Session) -> None:
    """Make the tables as they are defined, in a database with the same defaults; and say which revision they have."""
    words = await source.fetch("SELECT @@character_set_database, @@collation_database")
    try:
        await target.execute(f"ALTER DATABASE CHARACTER SET {words[0][0]} COLLATE {words[0][1]}")
        version = [catalog.family.version_table] if catalog.revision is not None else []
        for name in [*catalog.tables, *version]:
            rows = await source.fetch(f"SHOW CREATE TABLE {quoted(catalog.store, name)}")
            await target.execute(rows[0][1])
    except Exception as error:
        raise BadInput(f"the server for the rehearsal can't make the store's tables: {error}") from error
    if catalog.revision is not None:
        await target.execute(f"INSERT INTO {catalog.family.version_table} VALUES (%s)", catalog.revision)
    await target.commit()


async def _empty(catalog: Catalog, url: StoreUrl, source: Session, target: Session) -> None:
    """Take out what MLflow's migrations put in; make the hypertable, with the store's chunks."""
    present = await store_for(url).tables(target)
    names = [name for name in catalog.tables if name in present]
    await target.execute(f"TRUNCATE {listed(url.store, names)}")
    if url.store != "timescaledb":
        return
    rows = await source.fetch(
        "SELECT integer_interval FROM timescaledb_information.dimensions "
        "WHERE hypertable_schema = current_schema() AND hypertable_name = 'metrics' AND dimension_number = 1"
    )
    interval = int(rows[0][0]) if rows and rows[0][0] else DAY_MS
    await target.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    await target.fetch(f"SELECT create_hypertable('metrics', by_range('timestamp', {interval}))")


async def _fill(source: Session, table: Table, store: str, target: Session) -> int:
    names = [column.name for column in table.stored]
    rows = 0
    async for batch in source.stream(select(store, table.name, table.stored), size=_ROWS_AT_ONCE):
        rows += len(batch)
        if store not in MYSQL:
            await target.bulk(table.name, names, batch)
            continue
        for part in _parts(batch, len(names)):
            values = target.dialect.render(target.dialect.values(len(names), len(part)))
            statement = f"INSERT INTO {quoted(store, table.name)} ({listed(store, names)}) VALUES {values}"
            await target.execute(statement, *(value for row in part for value in row))
        await target.commit()
    return rows


def _parts(rows: Sequence[Row], columns: int) -> Iterator[Sequence[Row]]:
    size = max(1, _PLACEHOLDERS // columns)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


async def _number(tables: Sequence[Table], store: str, session: Session) -> None:
    """Have PostgreSQL's sequences go on after the highest number."""
    for table in tables:
        for column in table.columns:
            if column.numbered and column.kind is Kind.INTEGER:
                name = quoted(store, column.name)
                await session.fetch(
                    f"SELECT setval(pg_get_serial_sequence('{quoted(store, table.name)}', '{column.name}'), "
                    f"greatest(max({name}), 1), max({name}) > 0) FROM {quoted(store, table.name)}"
                )
