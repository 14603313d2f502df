"""What a store holds, table by table: reflected from the database, so that MLflow's next tables move too.

SQLAlchemy reflects; its types are reduced to the few `Kind`s that decide how a value is read, written and compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import TypeEngine

from bench.errors import BadInput
from bench.stores.url import StoreUrl

OURS: Final = "trackbench_migration"  # our own table in a target, as long as a migration into it is under way


class Kind(StrEnum):
    """How the values of a column are read, written and compared."""

    INTEGER = "integer"
    FLOAT = "double"
    SINGLE = "single-precision float"
    TEXT = "text"
    BOOLEAN = "boolean"
    BYTES = "bytes"
    JSON = "JSON"
    DATE = "date"


@dataclass(frozen=True)
class Family:
    """One kind of MLflow database: its own tables, and the table that holds its schema's revision."""

    name: str
    version_table: str
    marks: frozenset[str]  # tables that every revision of it has


TRACKING: Final = Family(
    "tracking store", "alembic_version", frozenset({"experiments", "runs", "metrics", "params", "tags"})
)
AUTH: Final = Family("authentication database", "alembic_version_auth", frozenset({"users"}))
_MYSQL: Final = ("mysql", "mariadb")
FAMILIES: Final = (TRACKING, AUTH)  # in this order: a tracking store may have a table of users one day


@dataclass(frozen=True)
class Column:
    """A column. Limits are None where the database sets none: SQLite enforces neither lengths nor sizes."""

    name: str
    kind: Kind
    type: str  # the database's own words
    nullable: bool
    bits: int | None = None  # of integers
    characters: int | None = None  # of text
    octets: int | None = None  # of text and bytes
    generated: bool = False  # computed by the database: never inserted
    numbered: bool = False  # the database gives the next number: a sequence, an identity, auto_increment


@dataclass(frozen=True)
class ForeignKey:
    """Rows of ``columns`` here have a row in ``table`` with these values in ``referred``."""

    columns: tuple[str, ...]
    table: str
    referred: tuple[str, ...]
    on_delete: str = ""  # CASCADE, SET NULL, …; empty: refuse


@dataclass(frozen=True)
class Index:
    """A secondary index; the primary key's and unique constraints' are not among them. Names differ by database."""

    name: str
    columns: tuple[str, ...]
    unique: bool = False


@dataclass(frozen=True)
class Table:
    """A table; ``key`` is its primary key, or all of its columns where it has none."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    uniques: tuple[tuple[str, ...], ...] = ()
    indexes: tuple[Index, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    keyed: bool = True  # whether the key is the primary key
    checks: tuple[str, ...] = ()

    @property
    def stored(self) -> tuple[Column, ...]:
        """The columns that a copy writes: all that the database does not compute itself."""
        return tuple(column for column in self.columns if not column.generated)

    def column(self, name: str) -> Column:
        """The column of this name; KeyError if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True)
class Catalog:
    """A store's tables by name, each after those that its foreign keys refer to, without the revision's own table.

    ``revision`` is None for an authentication database of before MLflow 3.6, which has none.
    """

    store: str
    family: Family
    revision: str | None
    tables: Mapping[str, Table]


def reflect(url: StoreUrl) -> Catalog:
    """What the store at ``url`` has; blocks, and holds no connection afterwards.

    Raises:
        BadInput: it can't be reached, is empty or not MLflow's, or has a column whose type we can't prove equal.
    """
    engine = sa.create_engine(url.mlflow, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            return catalog_of(connection, url)
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines() or ["no message"]
        raise BadInput(f"{url}: can't be read: {cause[0]}; is it reachable, and the login right?") from error
    finally:
        engine.dispose()


def catalog_of(connection: sa.Connection, url: StoreUrl) -> Catalog:
    """`reflect` over a connection that is open."""
    inspector = sa.inspect(connection)
    names = set(inspector.get_table_names()) - {OURS}
    family = family_of(names)
    if family is None:
        held = "is empty" if not names else f"holds {len(names)} tables that are not MLflow's"
        raise BadInput(f"{url}: {held}; give the URL of an MLflow store")
    revision = None
    if family.version_table in names:
        rows = connection.execute(sa.text(f"SELECT version_num FROM {family.version_table}")).all()
        revision = rows[0][0] if rows else None
    wanted = sorted(names - {one.version_table for one in FAMILIES})
    reflected = _Reflected.of(inspector, wanted)
    tables = {name: _table(reflected, name, url) for name in wanted}
    return Catalog(url.store, family, revision, {name: tables[name] for name in in_order(tables.values(), str(url))})


def family_of(tables: Iterable[str]) -> Family | None:
    """Which of MLflow's databases has these tables."""
    present = set(tables)
    return next((family for family in FAMILIES if family.marks <= present), None)


def in_order(tables: Iterable[Table], where: str) -> list[str]:
    """Names of ``tables``, each after those that it refers to; a table may refer to itself.

    Raises:
        BadInput: they refer to each other in a circle.
    """
    graph = {table.name: {key.table for key in table.foreign_keys} - {table.name} for table in tables}
    try:
        return list(TopologicalSorter({name: sorted(graph[name]) for name in sorted(graph)}).static_order())
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise BadInput(f"{where}: foreign keys in a circle ({circle}); no order of copying fits them") from error


@dataclass(frozen=True)
class _Reflected:
    """What SQLAlchemy finds, of all tables at once: one by one they cost hundreds of round trips."""

    columns: Mapping[str, Any]
    keys: Mapping[str, Any]
    uniques: Mapping[str, Any]
    indexes: Mapping[str, Any]
    foreign_keys: Mapping[str, Any]
    checks: Mapping[str, Any]

    @classmethod
    def of(cls, inspector: sa.Inspector, names: list[str]) -> _Reflected:
        """That of the tables of these names."""
        found: tuple[Mapping[Any, Any], ...] = (
            inspector.get_multi_columns(filter_names=names),
            inspector.get_multi_pk_constraint(filter_names=names),
            inspector.get_multi_unique_constraints(filter_names=names),
            inspector.get_multi_indexes(filter_names=names),
            inspector.get_multi_foreign_keys(filter_names=names),
            inspector.get_multi_check_constraints(filter_names=names),
        )
        return cls(*({place[1]: what for place, what in one.items()} for one in found))


def _table(reflected: _Reflected, name: str, url: StoreUrl) -> Table:
    columns = tuple(_column(found, name, url) for found in reflected.columns[name])
    key = tuple(reflected.keys[name]["constrained_columns"])
    uniques = {tuple(found["column_names"]) for found in reflected.uniques[name]}
    indexes = []
    for found in reflected.indexes[name]:
        if not found.get("duplicates_constraint"):
            of = tuple(column or "(expression)" for column in found["column_names"])
            indexes.append(Index(found["name"] or "", of, bool(found["unique"])))
    if len(key) == 1:  # which numbers an identity gives shows only together with the key
        columns = tuple(_numbered(column, key[0], url) for column in columns)
    return Table(
        name,
        columns,
        key or tuple(column.name for column in columns),
        tuple(sorted(uniques)),
        tuple(sorted(indexes, key=lambda index: (index.columns, index.name))),
        tuple(sorted((_foreign_key(found) for found in reflected.foreign_keys[name]), key=lambda one: one.columns)),
        bool(key),
        tuple(sorted(found["sqltext"] for found in reflected.checks[name])),
    )


def _foreign_key(found: Any) -> ForeignKey:
    action = str(found.get("options", {}).get("ondelete") or "").upper()
    return ForeignKey(
        tuple(found["constrained_columns"]),
        found["referred_table"],
        tuple(found["referred_columns"]),
        "" if action in ("NO ACTION", "RESTRICT") else action,
    )


def _column(found: Any, table: str, url: StoreUrl) -> Column:
    type_: TypeEngine[Any] = found["type"]
    kind = _kind(type_)
    if kind is None:
        where = f"{url}: {table}.{found['name']}"
        raise BadInput(f"{where}: type {type_} is not known to Trackbench, so that equality could not be proved")
    numbered = bool(found.get("autoincrement") is True or found.get("identity"))
    default = str(found.get("default") or "")
    bits = {sa.BigInteger: 64, sa.SmallInteger: 16}.get(_base(type_), 32) if kind is Kind.INTEGER else None
    text = kind is Kind.TEXT
    return Column(
        found["name"],
        kind,
        str(type_),
        bool(found["nullable"]),
        bits=bits,
        characters=getattr(type_, "length", None) if text and not isinstance(type_, sa.Text) else None,
        octets=_octets(type_, url.store),
        generated=bool(found.get("computed")),
        numbered=numbered or default.startswith("nextval("),
    )


def _base(type_: TypeEngine[Any]) -> type[Any]:
    for base in (sa.BigInteger, sa.SmallInteger):
        if isinstance(type_, base):
            return base
    return sa.Integer


def _numbered(column: Column, key: str, url: StoreUrl) -> Column:
    """SQLite numbers an INTEGER PRIMARY KEY, and declares integers of any size."""
    if url.path is None or column.kind is not Kind.INTEGER:
        return column
    numbered = column.numbered or (column.name == key and column.type == "INTEGER")
    return Column(column.name, column.kind, column.type, column.nullable, None, None, None, column.generated, numbered)


def _kind(type_: TypeEngine[Any]) -> Kind | None:
    if isinstance(type_, mysql.TINYINT):
        return Kind.BOOLEAN if type_.display_width == 1 else Kind.INTEGER
    single = isinstance(type_, sa.REAL | mysql.FLOAT)
    kinds: tuple[tuple[type[Any], Kind], ...] = (
        (sa.Boolean, Kind.BOOLEAN),
        (sa.Integer, Kind.INTEGER),
        (sa.Float, Kind.SINGLE if single else Kind.FLOAT),
        (sa.JSON, Kind.JSON),
        (sa.String, Kind.TEXT),
        (sa.types._Binary, Kind.BYTES),
        (sa.Date, Kind.DATE),
    )
    return next((kind for base, kind in kinds if isinstance(type_, base)), None)


_OCTETS: tuple[tuple[type[Any], int], ...] = (
    (mysql.TINYTEXT, 2**8 - 1),
    (mysql.MEDIUMTEXT, 2**24 - 1),
    (mysql.LONGTEXT, 2**32 - 1),
    (mysql.TEXT, 2**16 - 1),
    (mysql.TINYBLOB, 2**8 - 1),
    (mysql.MEDIUMBLOB, 2**24 - 1),
    (mysql.LONGBLOB, 2**32 - 1),
)


def _octets(type_: TypeEngine[Any], store: str) -> int | None:
    """The most bytes that MySQL keeps in such a column; others have no such limit below a gigabyte."""
    for base, most in _OCTETS:
        if isinstance(type_, base):
            return most
    return 2**16 - 1 if store in _MYSQL and isinstance(type_, sa.LargeBinary) else None
