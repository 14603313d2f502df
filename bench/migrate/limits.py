"""What a target's schema is going to allow, known before the target has a schema.

A preflight must leave the target as it was, so that it can't look: MLflow's migrations have not run there yet. But they
declare nearly the same columns everywhere, and the source has them already, at the same revision. So the target's
catalog is the source's, with each database's own rules for the declared types, and with the few columns that MLflow's
migrations declare otherwise for one database, listed here. A test compares the outcome with the schemas that MLflow
makes. Where the revision is another than that of the list, what only the list could tell is left to the second look,
at the schema itself, before anything is loaded (`bench.migrate.preflight` takes any catalog).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bench.migrate.catalog import Catalog, Column, Kind, Table

MYSQL: Final = ("mysql", "mariadb")
POSTGRESQL: Final = ("postgresql", "timescaledb")

_LISTED: Final = "dc11669786a5"  # the revision that the lists below were compared with
_TEXT, _MEDIUM, _LONG = 2**16 - 1, 2**24 - 1, 2**32 - 1  # bytes that MySQL's texts and blobs hold
_MYSQL_OCTETS: Final = {
    ("datasets", "dataset_schema"): _MEDIUM,
    ("datasets", "dataset_profile"): _MEDIUM,
    ("experiment_tags", "value"): _MEDIUM,
    ("spans", "content"): _LONG,
}
_MYSQL_SINGLE: Final = frozenset({("budget_policies", "budget_amount"), ("endpoint_model_mappings", "weight")})
_MYSQL_NULLABLE: Final = frozenset({("jobs", "job_name")})
_WIDE_ON_SERVERS: Final = frozenset(
    (f"sql_{what}_daily_rollups", "id") for what in ("assessment", "span_cost", "trace_metric")
)


def expected(source: Catalog, store: str) -> Catalog:
    """The catalog that a target of this kind is going to have, as far as the limits of values go.

    Types are not given in the target's words, and indexes are the source's.
    """
    tables = {name: _table(table, source, store) for name, table in source.tables.items()}
    return Catalog(store, source.family, source.revision, tables)


def listed(catalog: Catalog) -> bool:
    """Whether what differs from database to database is known for this revision."""
    return catalog.revision == _LISTED or catalog.family.name != "tracking store"


def _table(table: Table, source: Catalog, store: str) -> Table:
    return replace(table, columns=tuple(_column(table.name, column, source, store) for column in table.columns))


def _column(table: str, column: Column, source: Catalog, store: str) -> Column:
    place = (table, column.name)
    kind: Kind = Kind.FLOAT if column.kind is Kind.SINGLE else column.kind
    nullable = column.nullable and not (source.store in MYSQL and place in _MYSQL_NULLABLE)
    bits = column.bits
    if kind is Kind.INTEGER and bits is None:  # SQLite declares, and enforces nothing
        bits = {"BIGINT": 64, "SMALLINT": 16}.get(column.type.upper(), 32)
    if place in _WIDE_ON_SERVERS:
        bits = 64
    octets = None
    if store in MYSQL:
        if place in _MYSQL_SINGLE:
            kind = Kind.SINGLE
        nullable = nullable or place in _MYSQL_NULLABLE
        octets = octets_on_mysql(column, _MYSQL_OCTETS.get(place, _TEXT if listed(source) else None))
    return replace(column, kind=kind, nullable=nullable, bits=None if store == "sqlite" else bits, octets=octets)


def octets_on_mysql(column: Column, otherwise: int | None = _TEXT) -> int | None:
    """The most bytes of a text without a declared length, or of a blob."""
    if column.kind is Kind.BYTES or (column.kind is Kind.TEXT and column.characters is None):
        return otherwise
    return None
