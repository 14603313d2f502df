"""Whether two stores are built alike: revision, tables, columns, keys, indexes, constraints, and the next numbers.

Databases say the same thing in different words, so what is compared is what a schema promises, not its text:

- A unique constraint and a unique index promise the same. Names are not compared, nor the order of a table's columns.
- MySQL makes an index for a foreign key that has none, TimescaleDB one on the hypertable's time: no difference.
- Lengths and sizes are compared where both databases keep one; SQLite keeps none of integers. MySQL has four sizes of
  TEXT, the others one, and a FLOAT of single precision where the others have the double alone: what that costs, a
  proof of the rows sees.
- Of a CHECK the columns, texts and numbers are compared, not the expression around them. CHECKs on booleans alone are
  left out where one side is a PostgreSQL: it has a type for them and needs no CHECK.

Not compared at all, because `bench.migrate.catalog` does not hold it: defaults, ON UPDATE, collations, triggers
and comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

from bench.errors import BadInput
from bench.migrate.catalog import Catalog, Column, ForeignKey, Index, Kind, Table
from bench.migrate.proof import StructureDifference
from bench.migrate.sql import quoted
from bench.stores.base import Session

_MYSQL: Final = ("mysql", "mariadb")
_POSTGRESQL: Final = ("postgresql", "timescaledb")
_NONE: Final = "none"
_HYPERTABLE_INDEX: Final = "metrics_timestamp_idx"  # made by create_hypertable, and by the name it gives
_NAMED_BY_MLFLOW: Final = ("index", "idx", "ix_")  # so its indexes begin; MySQL calls its own after key or column
_NULLABLE_ON_MYSQL: Final = {
    ("jobs", "job_name")
}  # renamed by MLflow without repeating NOT NULL, which MySQL then drops

_LITERAL: Final = re.compile(r"'((?:[^']|'')*)'")
_WORD: Final = re.compile(r"[A-Za-z_]\w*")
_NUMBER: Final = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")

Check = tuple[frozenset[str], frozenset[str], frozenset[str]]  # columns, texts and numbers in it


def compare_structure(source: Catalog, target: Catalog) -> list[StructureDifference]:
    """Every difference of structure, named with what each side has; empty if they are built alike.

    Another revision is named first, and what follows from it as well. The next numbers are not in a catalog: see
    `compare_sequences`.
    """
    if source.family != target.family:
        return [StructureDifference(what="family", table="", source=source.family.name, target=target.family.name)]
    return list(_differences(source, target))


def _differences(source: Catalog, target: Catalog) -> Iterator[StructureDifference]:
    if source.revision != target.revision:
        yield StructureDifference(
            what="revision",
            table=source.family.version_table,
            source=source.revision or _NONE,
            target=target.revision or _NONE,
        )
    for name in [*source.tables, *(name for name in target.tables if name not in source.tables)]:
        ours, theirs = source.tables.get(name), target.tables.get(name)
        if ours is None or theirs is None:
            yield StructureDifference(what="table", table=name, source=_presence(ours), target=_presence(theirs))
        else:
            yield from _of_table(_Side(source.store, ours), _Side(target.store, theirs))


def _presence(table: Table | None) -> str:
    return _NONE if table is None else f"{len(table.columns)} columns"


class _Side:
    """One side's table, and what it promises in words that are the same for every database."""

    def __init__(self, store: str, table: Table) -> None:
        self.store = store
        self.table = table

    @property
    def columns(self) -> dict[str, Column]:
        return {column.name: column for column in self.table.columns}

    @property
    def uniques(self) -> set[tuple[str, ...]]:
        """What is unique beside the primary key, each in alphabetical order."""
        indexes = (index.columns for index in self.table.indexes if index.unique)
        found = {tuple(sorted(columns)) for columns in (*self.table.uniques, *indexes)}
        return found - {tuple(sorted(self.table.key))}

    @property
    def indexes(self) -> dict[tuple[str, ...], list[Index]]:
        """The indexes that serve searches alone, by their columns."""
        found: dict[tuple[str, ...], list[Index]] = {}
        for index in self.table.indexes:
            if not index.unique:
                found.setdefault(index.columns, []).append(index)
        return found

    def automatic(self, index: Index) -> bool:
        """Whether the database made it by itself."""
        if self.store in _POSTGRESQL:
            return index.name == _HYPERTABLE_INDEX and self.table.name == "metrics"
        if self.store not in _MYSQL or index.name.startswith(_NAMED_BY_MLFLOW):
            return False
        if re.fullmatch(
            rf"{re.escape(index.columns[0])}(_\d+)?", index.name
        ):  # it stays when the foreign key is dropped
            return True
        return any(key.columns[: len(index.columns)] == index.columns for key in self.table.foreign_keys)

    @property
    def foreign_keys(self) -> dict[tuple[Any, ...], ForeignKey]:
        return {(key.columns, key.table): key for key in self.table.foreign_keys}

    def checks(self, booleans: set[str] | None) -> set[Check]:
        """Its CHECKs, without those on ``booleans`` alone and MariaDB's way to have JSON."""
        names = set(self.columns)
        found = {_check(text, names) for text in self.table.checks if "json_valid" not in text.lower()}
        return {one for one in found if booleans is None or not one[0] or not one[0] <= booleans}


def _of_table(ours: _Side, theirs: _Side) -> Iterator[StructureDifference]:
    table = ours.table.name
    yield from _columns(ours, theirs)
    if (ours.table.key, ours.table.keyed) != (theirs.table.key, theirs.table.keyed):
        yield StructureDifference(
            what="primary key", table=table, source=_key_of(ours.table), target=_key_of(theirs.table)
        )
    yield from _either("unique", table, map(_list, ours.uniques), map(_list, theirs.uniques))
    yield from _indexes(ours, theirs)
    yield from _foreign_keys(ours, theirs)
    booleans = None
    if ours.store in _POSTGRESQL or theirs.store in _POSTGRESQL:
        booleans = {one.name for side in (ours, theirs) for one in side.table.columns if one.kind is Kind.BOOLEAN}
    here, there = (map(_check_in_words, side.checks(booleans)) for side in (ours, theirs))
    yield from _either("check", table, here, there)


def _key_of(table: Table) -> str:
    return _list(table.key) if table.keyed else _NONE


def _either(
    what: Literal["unique", "index", "check"], table: str, ours: Iterable[str], theirs: Iterable[str]
) -> Iterator[StructureDifference]:
    """What only one side has, in words."""
    here, there = set(ours), set(theirs)
    yield from (StructureDifference(what=what, table=table, source=one, target=_NONE) for one in sorted(here - there))
    yield from (StructureDifference(what=what, table=table, source=_NONE, target=one) for one in sorted(there - here))


def _list(columns: Iterable[str]) -> str:
    return f"({', '.join(columns)})"


# Columns


def _columns(ours: _Side, theirs: _Side) -> Iterator[StructureDifference]:
    table = ours.table.name
    here, there = ours.columns, theirs.columns
    for name in [*here, *(name for name in there if name not in here)]:
        one, other = here.get(name), there.get(name)
        if one is None or other is None or not _alike(table, ours.store, one, theirs.store, other):
            yield StructureDifference(what="column", table=table, source=_words(one, name), target=_words(other, name))
        elif one.numbered != other.numbered:
            yield StructureDifference(what="sequence", table=table, source=_numbering(one), target=_numbering(other))


def _alike(table: str, store: str, one: Column, other_store: str, other: Column) -> bool:
    """Whether two columns of the same name take the same values."""
    loose = (table, one.name) in _NULLABLE_ON_MYSQL and (store in _MYSQL) != (other_store in _MYSQL)
    return (
        _kind(one, store, other_store) is _kind(other, other_store, store)
        and (one.nullable == other.nullable or loose)
        and one.generated == other.generated
        and _same_limit(one.bits, other.bits)
        and one.characters == other.characters
        and (store not in _MYSQL or other_store not in _MYSQL or _same_limit(one.octets, other.octets))
    )


def _kind(column: Column, store: str, other_store: str) -> Kind:
    """What a column holds, as far as the other side's database can tell it apart."""
    if column.kind is Kind.SINGLE and store in _MYSQL and other_store not in _MYSQL:
        return Kind.FLOAT
    if column.kind is Kind.JSON and "mariadb" in (store, other_store):
        return Kind.TEXT
    return column.kind


def _same_limit(one: int | None, other: int | None) -> bool:
    """Whether two limits are the same, or one of them can't be known."""
    return one is None or other is None or one == other


def _words(column: Column | None, name: str) -> str:
    """A column as its database declares it."""
    if column is None:
        return f"{name}: {_NONE}"
    return f"{name}: {column.type}{'' if column.nullable else ' NOT NULL'}{' GENERATED' if column.generated else ''}"


def _numbering(column: Column) -> str:
    return f"{column.name}: {'numbered by the database' if column.numbered else 'not numbered'}"


# Indexes and constraints


def _indexes(ours: _Side, theirs: _Side) -> Iterator[StructureDifference]:
    table, here, there = ours.table.name, ours.indexes, theirs.indexes
    lost = {of for of, found in here.items() if of not in there and not all(map(ours.automatic, found))}
    added = {of for of, found in there.items() if of not in here and not all(map(theirs.automatic, found))}
    yield from _either("index", table, map(_list, lost), map(_list, added))


def _foreign_keys(ours: _Side, theirs: _Side) -> Iterator[StructureDifference]:
    here, there = ours.foreign_keys, theirs.foreign_keys
    for of in sorted({*here, *there}):
        one, other = here.get(of), there.get(of)
        if one is None or other is None or (one.referred, one.on_delete) != (other.referred, other.on_delete):
            yield StructureDifference(
                what="foreign key", table=ours.table.name, source=_reference(one), target=_reference(other)
            )


def _reference(key: ForeignKey | None) -> str:
    if key is None:
        return _NONE
    action = f" ON DELETE {key.on_delete}" if key.on_delete else ""
    return f"{_list(key.columns)} to {key.table} {_list(key.referred)}{action}"


def _check(text: str, columns: set[str]) -> Check:
    """What of a CHECK does not depend on whose words it is in."""
    literals = frozenset(found.replace("''", "'") for found in _LITERAL.findall(text))
    rest = _LITERAL.sub(" ", text)
    return frozenset(_WORD.findall(rest)) & columns, literals, frozenset(_NUMBER.findall(rest))


def _check_in_words(check: Check) -> str:
    columns, texts, numbers = check
    return f"on {_list(sorted(columns))} with {_list([*map(repr, sorted(texts)), *sorted(numbers)])}"


# Sequences


async def compare_sequences(target: Catalog, session: Session) -> list[StructureDifference]:
    """The numbered columns of ``target`` whose next number is already in use, or can't be known.

    Then MLflow's next experiment fails, or takes the number of another. ``session`` is one of the target, in a frozen
    transaction or in none. A column that is no longer numbered at all is found by `compare_structure`.
    """
    found = []
    for table in target.tables.values():
        for column in table.columns:
            if column.numbered:
                highest = await _highest(target.store, session, table.name, column.name)
                following = await _following(target.store, session, table.name, column.name, highest)
                if isinstance(following, str) or following <= highest:
                    found.append(
                        StructureDifference(
                            what="sequence",
                            table=table.name,
                            source=f"{column.name}: next number above {highest}",
                            target=f"{column.name}: next number {following}",
                        )
                    )
    return found


async def _highest(store: str, session: Session, table: str, column: str) -> int:
    """The highest number in use, 0 where there is none."""
    rows = await session.fetch(f"SELECT MAX({quoted(store, column)}) FROM {quoted(store, table)}")
    return int(rows[0][0] or 0)


async def _following(store: str, session: Session, table: str, column: str, highest: int) -> int | str:
    """The number that the next row gets, or why it can't be known."""
    if store == "sqlite":
        return highest + 1  # that is how SQLite numbers, with AUTOINCREMENT or without
    if store in _MYSQL:
        return await _auto_increment(session, table, fresh=store == "mysql")
    if store in _POSTGRESQL:
        return await _sequence(session, table, column)
    raise BadInput(f"{store}: how this database numbers rows is not known to Trackbench")


async def _auto_increment(session: Session, table: str, fresh: bool) -> int | str:
    if fresh:  # else MySQL answers what it knew a day ago; MariaDB always looks
        await session.execute("SET SESSION information_schema_stats_expiry = 0")
    rows = await session.fetch(
        "SELECT AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %s",
        table,
    )
    return int(rows[0][0]) if rows and rows[0][0] is not None else "unknown: the table has no AUTO_INCREMENT"


async def _sequence(session: Session, table: str, column: str) -> int | str:
    """PostgreSQL's sequence is the one that the column owns, or the one that its default asks."""
    name = quoted("postgresql", table)
    rows = await session.fetch(
        "SELECT pg_get_serial_sequence($1, $2), (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d "
        "JOIN pg_attribute a ON (a.attrelid, a.attnum) = (d.adrelid, d.adnum) "
        "WHERE d.adrelid = $1::text::regclass AND a.attname = $2)",
        name,
        column,
    )
    owned, default = rows[0]
    asked = re.match(r"nextval\('((?:[^']|'')+)'", default or "")
    sequence = asked.group(1).replace("''", "'") if asked else owned
    if sequence is None:
        return "unknown: the column has no sequence"
    allowed = await session.fetch("SELECT has_sequence_privilege($1::text, 'SELECT')", sequence)
    if not allowed[0][0]:  # asking anyway would end the transaction
        return f"unknown: this login may not read sequence {sequence}"
    rows = await session.fetch(
        f"SELECT s.last_value + CASE WHEN s.is_called THEN q.seqincrement ELSE 0 END FROM {sequence} s, pg_sequence q "
        "WHERE q.seqrelid = $1::text::regclass",
        sequence,
    )
    return int(rows[0][0])
