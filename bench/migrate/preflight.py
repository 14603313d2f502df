"""Looks for rows that could not be moved exactly, before anything of the target is touched.

One scan of each table by the source's own SQL counts what breaks a rule; only where something does, a second statement
names the first such row. What SQL can't decide (UTF-8, JSON, single precision) it narrows down, and the values that are
left are looked at here. Memory is bounded by one batch of rows.

What the target allows is `bench.migrate.limits.expected`'s catalog as long as the target is empty; once MLflow's
schema is there, the same look with its reflected catalog is the certain one, still before the first row is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.errors import BadInput
from bench.migrate import rules
from bench.migrate.canonical import shown
from bench.migrate.catalog import AUTH, Catalog, Column, ForeignKey, Kind, Table
from bench.migrate.copying import batch_rows
from bench.migrate.limits import MYSQL, POSTGRESQL, expected
from bench.migrate.record import Problem
from bench.migrate.rules import Rule
from bench.migrate.sql import listed, quoted, read
from bench.stores.base import Session
from bench.stores.url import StoreUrl

_SHOWN: Final = 200  # characters of a value in a key
_BTREE_BYTES: Final = 2704  # of an entry of an index of PostgreSQL's, with its header
_ENTRY_BYTES: Final = 64  # of it, for the header, lengths, and numbers
_BATCH: Final = 1000


@dataclass(frozen=True)
class Look:
    """What is looked at: a session of the source, what it has, and what the target has or is going to have.

    ``packet`` is MySQL's ``max_allowed_packet`` on the target, in bytes, if it could be asked.
    """

    session: Session
    source: Catalog
    target: Catalog
    packet: int | None = None


def refuse_unmakable(source: Catalog, url: StoreUrl) -> None:
    """Refuse what MLflow can't make.

    Raises:
        BadInput: an authentication database on MySQL; its first migration gives two constraints one name there.
    """
    if source.family == AUTH and url.store in MYSQL:
        raise BadInput(
            f"{url}: MLflow can't make an {AUTH.name} on {url.store}, where two of its constraints have one name; "
            "move it to PostgreSQL, or leave it on SQLite"
        )


async def preflight(session: Session, source: Catalog, store: str, packet: int | None = None) -> list[Problem]:
    """What keeps rows of ``source`` from being moved into an empty target of the kind ``store``, table by table."""
    return await check(Look(session, source, expected(source, store), packet))


async def check(look: Look) -> list[Problem]:
    """`preflight` against the target's catalog, such as it is reflected from MLflow's schema in the target."""
    found: list[Problem] = []
    for name, table in look.source.tables.items():
        if name in look.target.tables:
            found += await _of_table(look, table, look.target.tables[name])
    return found


async def largest_packet(target: Session, store: str) -> int | None:
    """What MySQL takes in one statement, in bytes; None for other targets."""
    if store not in MYSQL:
        return None
    rows = await target.fetch("SELECT @@max_allowed_packet")
    return int(rows[0][0])


async def _of_table(look: Look, table: Table, into: Table) -> list[Problem]:
    found = []
    broken = _rules(look, table, into)
    counts = await _counts(look, table, broken)
    for rule, rows in zip(broken, counts, strict=True):
        if not rows:
            continue
        if rule.bad is None:
            found.append(await _named(look, table, rule.column, rule.condition, rows, rule.reason, rule.remedy))
        elif problem := await _examined(look, table, rule):
            found.append(problem)
    if look.source.store not in POSTGRESQL:  # which never lets them in
        for key in dict.fromkeys((*table.foreign_keys, *into.foreign_keys)):
            found += await _orphans(look, table, key)
    for columns in _unique(into) - _unique(table):
        found += await _twice(look, table, columns)
    return found


def _unique(table: Table) -> set[tuple[str, ...]]:
    indexes = {index.columns for index in table.indexes if index.unique}
    return {tuple(sorted(columns)) for columns in {table.key, *table.uniques, *indexes}}


def _rules(look: Look, table: Table, into: Table) -> list[Rule]:
    store, target = look.source.store, look.target.store
    names = {column.name for column in into.columns}
    refer = {key.columns[0] for key in table.foreign_keys if len(key.columns) == 1}
    found: list[Rule] = []
    for column in table.columns:
        if column.name in names:
            goes_into = into.column(column.name)
            found += rules.of_column(column, goes_into, store, target, column.name in refer)
            if look.packet and column.kind in (Kind.TEXT, Kind.BYTES, Kind.JSON) and not column.characters:
                found.append(_of_packet(store, column, look.packet))
    if target in POSTGRESQL and store not in POSTGRESQL:
        found += _of_indexes(store, table)
    return found


def _of_packet(store: str, column: Column, packet: int) -> Rule:
    """Every byte may be escaped, and the statement has other words."""
    most = (packet - 2**16) // 2
    condition = f"{rules.octets(store, quoted(store, column.name), column.kind)} > {most}"
    remedy = f"set max_allowed_packet of the target to more than {packet}"
    return Rule(
        column.name, condition, f"longer than {most} bytes, too long for the target's max_allowed_packet", remedy
    )


def _of_indexes(store: str, table: Table) -> list[Rule]:
    """Texts that together are too long for an entry of PostgreSQL's indexes: MySQL and SQLite have room for them."""
    found = []
    keys = (table.key, *table.uniques, *(index.columns for index in table.indexes))
    for key in sorted(set(keys)):
        texts = [column for column in table.columns if column.name in key and column.kind is Kind.TEXT]
        if sum(4 * (column.characters or _BTREE_BYTES) for column in texts) > _BTREE_BYTES - _ENTRY_BYTES:
            sizes = (f"COALESCE({rules.octets(store, quoted(store, column.name))}, 0)" for column in texts)
            condition = f"{' + '.join(sizes)} > {_BTREE_BYTES - _ENTRY_BYTES}"
            reason = f"too long for the index of ({', '.join(key)}): PostgreSQL takes {_BTREE_BYTES} bytes in an entry"
            found.append(Rule(texts[0].name, condition, reason, "shorten it in the source, or delete its row"))
    return found


async def _counts(look: Look, table: Table, broken: Sequence[Rule]) -> list[int]:
    """How many rows each rule's condition is true of. Mostly none is: one scan tells that, and counts nothing."""
    of = f"FROM {quoted(look.source.store, table.name)}"
    leading = table.key[0] if look.source.store == "sqlite" and len(table.key) > 1 else None
    keys = dict.fromkeys(rule.condition for rule in broken if rule.column == leading)
    others = dict.fromkeys(rule.condition for rule in broken if rule.condition not in keys)
    suspect: list[str] = []
    if keys and await look.session.fetch(f"{_distinct(table.name, table.key[0])} WHERE {' OR '.join(keys)} LIMIT 1"):
        suspect += keys
    if others and await look.session.fetch(f"SELECT 1 {of} WHERE {' OR '.join(others)} LIMIT 1"):
        suspect += others
    found: dict[str, int] = {}
    if suspect:
        sums = ", ".join(f"SUM(CASE WHEN {condition} THEN 1 ELSE 0 END)" for condition in suspect)
        row = (await look.session.fetch(f"SELECT {sums} {of}"))[0]
        found = dict(zip(suspect, (int(count or 0) for count in row), strict=True))
    return [found.get(rule.condition, 0) for rule in broken]


def _distinct(table: str, column: str) -> str:
    """Different values of a key's first column, a step in the index for each: millions of metrics have few names."""
    of, name = quoted("sqlite", table), quoted("sqlite", column)
    following = f"SELECT (SELECT min({name}) FROM {of} WHERE {name} > found.{name}) FROM found WHERE {name} IS NOT NULL"
    return f"WITH RECURSIVE found({name}) AS (SELECT min({name}) FROM {of} UNION ALL {following}) SELECT 1 FROM found"


async def _named(
    look: Look, table: Table, column: str | None, condition: str, rows: int, reason: str, remedy: str
) -> Problem:
    """The problem, with the first row by its key."""
    statement = f"SELECT {_key(look, table)} FROM {quoted(look.source.store, table.name)} WHERE {condition}"
    order = listed(look.source.store, table.key)
    first = await look.session.fetch(f"{statement} ORDER BY {order} LIMIT 1")
    return _problem(table, column, first[0] if first else (), rows, reason, remedy)


def _problem(table: Table, column: str | None, key: Any, rows: int, reason: str, remedy: str) -> Problem:
    words = {name: _shown(value, table.column(name).kind) for name, value in zip(table.key, key, strict=False)}
    return Problem(table=table.name, column=column, key=words, rows=rows, reason=reason, remedy=remedy)


async def _examined(look: Look, table: Table, rule: Rule) -> Problem | None:
    """Of the candidates, those that are bad, and the first of them by its key."""
    store = look.source.store
    assert rule.bad is not None
    value = _readable(store, table.column(rule.column))
    candidates = f"FROM {quoted(store, table.name)} WHERE {rule.condition}"
    longest, kind = 0, table.column(rule.column).kind
    if kind in (Kind.TEXT, Kind.BYTES, Kind.JSON) or store == "sqlite":  # SQLite holds long texts in any column
        octets = rules.octets(store, quoted(store, rule.column), kind)
        longest = int((await look.session.fetch(f"SELECT COALESCE(MAX({octets}), 0) {candidates}"))[0][0])
    statement = f"SELECT {value}, {_key(look, table)} {candidates} ORDER BY {listed(store, table.key)}"
    rows, first = 0, None
    async for batch in look.session.stream(statement, size=batch_rows(longest, _BATCH)):
        for row in batch:
            if rule.bad(_text(row[0], table.column(rule.column))):
                rows += 1
                first = first or tuple(row)[1:]
    return _problem(table, rule.column, first, rows, rule.reason, rule.remedy) if rows else None


async def _orphans(look: Look, table: Table, key: ForeignKey) -> list[Problem]:
    """Rows whose parents are missing; by the distinct values first, which an index often has."""
    store = look.source.store
    listed_here, parent = listed(store, key.columns), quoted(store, key.table)
    pairs = " AND ".join(
        f"parent.{quoted(store, other)} = child.{quoted(store, own)}"
        for own, other in zip(key.columns, key.referred, strict=True)
    )
    present = " AND ".join(f"child.{quoted(store, name)} IS NOT NULL" for name in key.columns)
    lost = f"{present} AND NOT EXISTS (SELECT 1 FROM {parent} AS parent WHERE {pairs})"
    distinct = f"(SELECT DISTINCT {listed_here} FROM {quoted(store, table.name)})"
    if not (await look.session.fetch(f"SELECT COUNT(*) FROM {distinct} AS child WHERE {lost}"))[0][0]:
        return []
    of_table = f"FROM {quoted(store, table.name)} AS child WHERE {lost}"
    rows = (await look.session.fetch(f"SELECT COUNT(*) {of_table}"))[0][0]
    order = listed(store, table.key)
    first = await look.session.fetch(f"SELECT {_key(look, table)} {of_table} ORDER BY {order} LIMIT 1")
    column = key.columns[0] if len(key.columns) == 1 else None
    reason = f"no row in {key.table} has this {', '.join(key.columns)}, which the target's foreign key demands"
    remedy = f"delete such rows, or put the missing row into {key.table}"
    return [_problem(table, column, first[0], int(rows), reason, remedy)]


async def _twice(look: Look, table: Table, columns: tuple[str, ...]) -> list[Problem]:
    """Rows that a unique constraint of the target's, which the source does not have, would take for one."""
    store = look.source.store
    names = listed(store, columns)
    present = " AND ".join(f"{quoted(store, name)} IS NOT NULL" for name in columns)
    groups = f"SELECT {names}, COUNT(*) AS n FROM {quoted(store, table.name)} WHERE {present} GROUP BY {names}"
    rows = await look.session.fetch(f"{groups} HAVING COUNT(*) > 1 ORDER BY {names}")
    if not rows:
        return []
    words = {name: _shown(value, table.column(name).kind) for name, value in zip(columns, rows[0], strict=False)}
    reason = f"more than one row with the same ({', '.join(columns)}), which is unique in the target"
    many = sum(int(row[len(columns)]) for row in rows)
    return [
        Problem(
            table=table.name, column=None, key=words, rows=many, reason=reason, remedy="delete or rename all but one"
        )
    ]


def _key(look: Look, table: Table) -> str:
    return ", ".join(_readable(look.source.store, table.column(name)) for name in table.key)


def _readable(store: str, column: Column) -> str:
    """The column's value, whatever it is: Python's driver fails on text that is no UTF-8, so it gets the bytes."""
    name = quoted(store, column.name)
    if store == "sqlite":
        return f"CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END"
    return read(store, column)


def _text(value: Any, column: Column) -> Any:
    """The text that the bytes are, where the column is of text; bytes where they are none."""
    if isinstance(value, bytes) and column.kind is not Kind.BYTES:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value


def _shown(value: Any, kind: Kind) -> str:
    """As a proof writes values."""
    if isinstance(value, bytes) and kind is not Kind.BYTES:
        value = value.decode("utf-8", "surrogateescape")
    return shown(value, kind, _SHOWN)
